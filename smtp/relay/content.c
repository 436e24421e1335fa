/*
 * content.c - a message's content to the wire, from memory (memory.h) or from the spool, read ahead
 * in bounded pieces: dots doubled anew (RFC 5321 section 4.5.2), exactly one CR LF . CR LF at the
 * end.
 */
#include "smtp/relay/internal.h"

#include <stdlib.h>
#include <string.h>

static void piece_done(struct spool_request *r)
{
	struct piece *p = r->user;
	struct relay_worker *w = p->worker;
	struct client *c = p->client;

	w->spool_pending--;
	p->reading = false;
	if (c == NULL) {
		chunk_free(w->shard->chunks, p->chunk);
		free(p);
		return;
	}
	p->full = true;
	if (r->verdict < 0 || r->read_bytes != p->wanted) {
		relay_count(w, relay_spool_errors);
		client_failed(c, "the spool cannot read the message");
		return;
	}
	p->chunk->start = 0;
	p->chunk->end = (uint32_t)r->read_bytes;
	content_pump(c);
}

static void piece_free(struct piece *p)
{
	chunk_free(p->worker->shard->chunks, p->chunk);
	free(p);
}

/* Asks the spool for the next piece of content into a free place. */
static bool read_next(struct client *c, struct piece **at)
{
	struct relay_worker *w = c->worker;
	struct message *m = c->delivery->message;
	uint64_t left = m->content_bytes - c->read_offset;
	struct piece *p = calloc(1, sizeof(*p));
	enum chunk_size size = left > chunk_capacity(CHUNK_4K) ? CHUNK_64K : CHUNK_4K;

	if (p == NULL)
		return false;
	p->chunk = chunk_alloc(w->shard->chunks, size, false);
	if (p->chunk == NULL)
		p->chunk = chunk_alloc(w->shard->chunks, CHUNK_4K, true);
	if (p->chunk == NULL) {
		free(p);
		return false;
	}
	p->client = c;
	p->worker = w;
	p->reading = true;
	uint64_t want = left < p->chunk->size ? left : p->chunk->size;
	p->wanted = want;
	p->request = (struct spool_request){
		.op = SPOOL_READ,
		.id = m->id,
		.user = p,
		.done = piece_done,
		.chunks = p->chunk,
		.read_offset = c->read_offset,
		.read_bytes = want,
	};
	if (relay_submit(w, &p->request) < 0) {
		piece_free(p);
		return false;
	}
	c->read_offset += want;
	*at = p;
	return true;
}

/* Keeps the read-ahead full; false: nothing is being read and nothing can be. */
static bool read_ahead(struct client *c)
{
	uint64_t all = c->delivery->message->content_bytes;

	if (c->delivery->copy != NULL)
		return true;
	for (unsigned i = 0; i < PIECES && c->read_offset < all; i++) {
		if (c->pieces[i] == NULL && !read_next(c, &c->pieces[i]))
			return i > 0;
	}
	return true;
}

/* Octets into the output, dots doubled but for BDAT, until either is used up; those taken. */
static size_t stuff(struct client *c, const uint8_t *from, size_t bytes, struct chunk *to)
{
	size_t taken = 0;

	if (c->chunked) {
		size_t room = to->size - to->end;
		taken = bytes < room ? bytes : room;
		memcpy(to->data + to->end, from, taken);
		to->end += (uint32_t)taken;
	}
	while (!c->chunked && taken < bytes && to->size - to->end >= 2) {
		const uint8_t *p = from + taken;
		size_t n = bytes - taken, room = to->size - to->end - 1;

		if (c->line_start && *p == '.')
			to->data[to->end++] = '.';
		if (n > room)
			n = room;
		const uint8_t *lf = memchr(p, '\n', n);
		if (lf != NULL)
			n = (size_t)(lf - p) + 1;
		memcpy(to->data + to->end, p, n);
		to->end += (uint32_t)n;
		taken += n;
		c->line_start = lf != NULL;
	}
	c->written_offset += taken;
	return taken;
}

/* What comes next of the content, in memory or read by the spool; 0: nothing now. */
static size_t front(const struct client *c, const uint8_t **p)
{
	const struct piece *piece = c->pieces[0];

	if (c->delivery->copy != NULL)
		return memory_content(c->delivery->copy, c->written_offset, p);
	if (piece == NULL || !piece->full)
		return 0;
	*p = piece->chunk->data + piece->chunk->start;
	return piece->chunk->end - piece->chunk->start;
}

/* Some of the front has gone out. */
static void advance(struct client *c, size_t n)
{
	struct piece *piece = c->pieces[0];

	if (piece == NULL)
		return;
	piece->chunk->start += (uint32_t)n;
	if (piece->chunk->start < piece->chunk->end)
		return;
	piece_free(piece);
	memmove(&c->pieces[0], &c->pieces[1], (PIECES - 1) * sizeof(c->pieces[0]));
	c->pieces[PIECES - 1] = NULL;
	client_arm(c, BLOCK_US);
}

static void end_of_data(struct client *c)
{
	/* content without a last line end gets one: the terminator must stand on its own line */
	if (!c->chunked && !c->line_start)
		client_command(c, "\r\n", 2);
	if (!c->chunked)
		client_command(c, ".\r\n", 3);
	c->state = CLIENT_FINAL;
	client_arm(c, FINAL_US);
	client_flush(c);
}

void content_pump(struct client *c)
{
	const uint8_t *p = NULL;
	size_t n;

	/* without its command the content would be taken for commands */
	if (c->mute)
		return;
	for (;;) {
		if (c->out != NULL && c->out->size - c->out->end < 16 && !client_flush(c))
			return;
		if ((n = front(c, &p)) == 0)
			break;
		if (c->out == NULL)
			c->out = chunk_alloc(c->worker->shard->chunks, CHUNK_16K, true);
		if (c->out == NULL) {
			client_failed(c, "out of memory");
			return;
		}
		advance(c, stuff(c, p, n, c->out));
		if (!read_ahead(c)) {
			client_failed(c, "out of memory");
			return;
		}
	}
	if (c->written_offset == c->delivery->message->content_bytes) {
		if (c->out == NULL || c->out->size - c->out->end >= 16)
			end_of_data(c);
		return;
	}
	client_flush(c);
}

void content_begin_transfer(struct client *c)
{
	c->state = CLIENT_CONTENT;
	c->delivery->attempt.content_us = c->worker->shard->now_us;
	c->read_offset = c->written_offset = 0;
	c->line_start = true;
	client_arm(c, BLOCK_US);
	if (!read_ahead(c))
		client_failed(c, "out of memory");
	else if (c->delivery->copy != NULL)
		content_pump(c);
}

void content_forget(struct client *c)
{
	for (unsigned i = 0; i < PIECES; i++) {
		struct piece *p = c->pieces[i];
		c->pieces[i] = NULL;
		if (p == NULL)
			continue;
		p->client = NULL;
		if (!p->reading)
			piece_free(p);
	}
}
