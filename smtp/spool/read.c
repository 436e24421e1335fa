/*
 * read.c - the reader threads: envelope, or prefix and body as one sequence of bytes, into the
 * worker's chunks.
 *
 * A record of up to READ_VERIFY_BYTES is read whole and its checksum compared before a byte of
 * it leaves.  Longer ones and large bodies are read piece by piece, unverified.
 */
#include "smtp/spool/internal.h"

#include "base/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { READ_VERIFY_BYTES = 256 << 10 };

/* Where the bytes go. */
struct sink {
	struct chunk *c;
	uint64_t left; /* bytes still wanted */
	uint64_t got;
};

/* Where some of them come from. */
struct source {
	const uint8_t *memory; /* NULL: the file */
	int fd;
	uint64_t at;
	uint64_t bytes;
};

static int fetch(const struct spool *sp, int fd, uint8_t *to, uint64_t bytes, uint64_t at)
{
	while (bytes > 0) {
		ssize_t got = sp->io->pread(sp->io->arg, fd, to, bytes, (off_t)at);

		if (got <= 0)
			return got < 0 ? (int)got : -EIO;
		to += got;
		at += (uint64_t)got;
		bytes -= (uint64_t)got;
	}
	return 0;
}

/* Copies from the source, *skip bytes into it, to the sink. */
static int pour(const struct spool *sp, struct sink *to, const struct source *from, uint64_t *skip)
{
	uint64_t at = *skip < from->bytes ? *skip : from->bytes;

	*skip -= at;
	while (to->left > 0 && to->c != NULL && at < from->bytes) {
		struct chunk *c = to->c;
		uint64_t n = c->size - c->end;

		n = n < to->left ? n : to->left;
		n = n < from->bytes - at ? n : from->bytes - at;
		if (from->memory != NULL) {
			memcpy(c->data + c->end, from->memory + at, n);
		} else {
			int rc = fetch(sp, from->fd, c->data + c->end, n, from->at + at);

			if (rc < 0)
				return rc;
		}
		c->end += (uint32_t)n;
		at += n;
		to->left -= n;
		to->got += n;
		if (c->end == c->size)
			to->c = c->next;
	}
	return 0;
}

/* The whole record in the reader's buffer, its checksum verified. */
static int load_verified(struct spool_reader *rd, const struct spool_entry *e)
{
	struct spool *sp = rd->sp;
	struct record_head h;
	int rc = fetch(sp, e->segment->fd, rd->buffer, entry_record_bytes(e), entry_offset(e));

	if (rc < 0)
		return rc;
	if (!record_head_decode(rd->buffer, e->segment->salt, &h) || h.id != e->id ||
	    record_bytes(h.payload_bytes) != entry_record_bytes(e) ||
	    crc32c(record_crc_begin(e->segment->salt), rd->buffer + RECORD_HEAD_BYTES,
		   h.payload_bytes) != h.payload_crc) {
		spool_count(sp, spool_read_damaged, 1);
		return -EIO;
	}
	return 0;
}

static int read_content(struct spool_reader *rd, const struct spool_entry *e, struct sink *to,
			uint64_t skip, struct source part)
{
	struct spool *sp = rd->sp;
	char name[FILE_NAME_BYTES];

	part.bytes = (uint64_t)e->prefix_bytes + (e->large ? 0 : e->body_bytes);
	int rc = pour(sp, to, &part, &skip);
	if (rc < 0 || !e->large || to->left == 0)
		return rc;
	int fd = sp->io->open(sp->io->arg, sp->dir, file_name(name, e->id, ".body"), O_RDONLY, 0);
	if (fd < 0)
		return fd;
	struct source body = {.fd = fd, .bytes = e->body_bytes};
	rc = pour(sp, to, &body, &skip);
	sp->io->close(sp->io->arg, fd);
	return rc;
}

static int read_entry(struct spool_reader *rd, const struct spool_entry *e,
		      const struct spool_request *r, struct sink *to)
{
	struct source part = {.fd = e->segment->fd};
	uint64_t skip = r->read_offset, before = RECORD_HEAD_BYTES + MESSAGE_HEAD_BYTES;
	int rc = 0;

	if (!r->read_envelope)
		before += e->envelope_bytes;
	if (entry_record_bytes(e) <= READ_VERIFY_BYTES) {
		rc = load_verified(rd, e);
		part.memory = rd->buffer + before;
	}
	part.at = entry_offset(e) + before;
	part.bytes = e->envelope_bytes;
	if (rc < 0)
		return rc;
	if (r->read_envelope)
		return pour(rd->sp, to, &part, &skip);
	return read_content(rd, e, to, skip, part);
}

/* Copies what the committer only changes under the lock, and pins the segment. */
static bool look_up(struct spool *sp, uint64_t id, struct spool_entry *e)
{
	pthread_mutex_lock(&sp->index.lock);
	const struct spool_entry *found = index_find(&sp->index, id);
	if (found != NULL) {
		*e = (struct spool_entry){
			.id = id,
			.segment = found->segment,
			.body_bytes = found->body_bytes,
			.units = found->units,
			.envelope_bytes = found->envelope_bytes,
			.prefix_bytes = found->prefix_bytes,
			.large = found->large,
		};
		segment_pin(e->segment);
	}
	pthread_mutex_unlock(&sp->index.lock);
	return found != NULL;
}

static int serve(struct spool_reader *rd, struct spool_request *r)
{
	struct spool *sp = rd->sp;
	struct spool_entry e;
	struct sink to = {.c = r->chunks, .left = r->read_bytes};

	for (struct chunk *c = r->chunks; c != NULL; c = c->next)
		c->start = c->end = 0;
	r->read_bytes = 0;
	if (!look_up(sp, r->id, &e)) {
		spool_count(sp, spool_unknown_id, 1);
		return -ENOENT;
	}
	int rc = read_entry(rd, &e, r, &to);
	pthread_mutex_lock(&sp->index.lock);
	segment_unpin(sp, e.segment);
	pthread_mutex_unlock(&sp->index.lock);
	r->read_bytes = to.got;
	spool_count(sp, rc < 0 ? spool_read_errors : spool_reads, 1);
	spool_count(sp, spool_read_bytes, to.got);
	return rc;
}

unsigned spool_read_step(struct spool_reader *rd)
{
	unsigned work = 0;

	if (rd->buffer == NULL)
		rd->buffer = malloc(READ_VERIFY_BYTES);
	for (struct spool_client *c = atomic_load(&rd->sp->clients); c != NULL; c = c->next) {
		struct spool_request *r = ring_pop(c->read);

		if (r == NULL)
			continue;
		spool_finish(r, rd->buffer != NULL ? serve(rd, r) : -ENOMEM);
		work++;
	}
	return work;
}
