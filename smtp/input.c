/*
 * input.c - lines, DATA and the chunks of BDAT out of a session's input.
 *
 * Nothing is read before it can be used; what has been read and not used waits in s->in.
 */
#include "smtp/internal.h"

#include <string.h>

/* The input buffer with free room behind what it holds; NULL: no chunk, or full. */
static struct chunk *input_room(struct smtp_session *s, enum chunk_size size)
{
	struct chunk_pool *p = s->worker->shard->chunks;
	struct chunk *c = s->in;

	if (c != NULL && c->size < chunk_capacity(size)) {
		struct chunk *larger = chunk_alloc(p, size, false);
		if (larger == NULL)
			return NULL;
		larger->end = c->end - c->start;
		memcpy(larger->data, c->data + c->start, larger->end);
		explicit_bzero(c->data, c->end);
		chunk_free(p, c);
		s->in = larger;
		return larger;
	}
	if (c == NULL) {
		s->in = chunk_alloc(p, size, false);
		return s->in;
	}
	if (c->start > 0) {
		memmove(c->data, c->data + c->start, c->end - c->start);
		c->end -= c->start;
		c->start = 0;
	}
	return c;
}

static void line_ready(struct smtp_session *s, char *line, size_t n)
{
	struct smtp_worker *w = s->worker;
	bool too_long = s->discarding_line || n > AUTH_LINE;

	smtp_count(w, smtp_commands);
	if (w->follow != NULL)
		follow_command_note(s, line, n);
	s->discarding_line = false;
	if (too_long) {
		smtp_count(w, smtp_line_too_long);
		session_error(s, s->phase == PHASE_AUTH ? REPLY_AUTH_TOO_LONG : REPLY_LINE_TOO_LONG,
			      NULL);
		sasl_end(s);
		if (s->phase == PHASE_AUTH)
			s->phase = PHASE_COMMAND;
	} else if (memchr(line, '\r', n) != NULL || memchr(line, '\n', n) != NULL ||
		   memchr(line, '\0', n) != NULL) {
		smtp_count(w, smtp_line_bare_newline);
		session_error(s, REPLY_LINE_ENDS, NULL);
	} else if (s->phase == PHASE_AUTH) {
		sasl_line(s, (struct text){line, n});
	} else {
		command_line(s, line, n);
	}
	if (s->phase == PHASE_COMMAND || s->phase == PHASE_AUTH || s->phase == PHASE_DATA ||
	    s->phase == PHASE_CHUNK)
		session_arm_deadline(s);
	/* an AUTH line holds a password */
	explicit_bzero(line, n);
}

/* Offset of the first CR LF at or after from, or SIZE_MAX. */
static size_t find_crlf(const struct chunk *c, size_t from)
{
	for (size_t i = from; i + 1 < c->end; i++) {
		const uint8_t *cr = memchr(c->data + i, '\r', c->end - i - 1);
		if (cr == NULL)
			return SIZE_MAX;
		if (cr[1] == '\n')
			return (size_t)(cr - c->data);
		i = (size_t)(cr - c->data);
	}
	return SIZE_MAX;
}

/* The longest line seen so far without an end: keeps its last octet (it may be a CR). */
static void discard_long_line(struct smtp_session *s)
{
	struct chunk *c = s->in;

	s->discarding_line = true;
	c->data[0] = c->data[c->end - 1];
	c->start = 0;
	c->end = 1;
}

/* Takes up one line if there is one; false: nothing more to do now. */
static bool line_step(struct smtp_session *s)
{
	struct chunk *c = s->in;
	size_t at = c != NULL && c->end > c->start ? find_crlf(c, c->start) : SIZE_MAX;

	if (at != SIZE_MAX) {
		char *line = (char *)c->data + c->start;
		size_t n = at - c->start;
		c->start = (uint32_t)at + 2;
		line_ready(s, line, n);
		return true;
	}
	/* AUTH carries its initial response on the command line itself */
	bool large = c != NULL && c->end - c->start > COMMAND_LINE;
	c = input_room(s, large ? CHUNK_16K : CHUNK_4K);
	if (c == NULL) {
		session_pause(s, RETRY_US);
		return false;
	}
	if (c->end > AUTH_LINE)
		discard_long_line(s);
	size_t got = conn_read(&s->conn, c->data + c->end, c->size - c->end);
	c->end += (uint32_t)got;
	return got > 0;
}

/* Octets that came behind the end of data belong to the next command. */
static bool keep_pipelined(struct smtp_session *s, const uint8_t *p, size_t n)
{
	if (n == 0)
		return true;
	struct chunk *c = input_room(s, n > chunk_capacity(CHUNK_4K) - 1 ? CHUNK_16K : CHUNK_4K);
	if (c == NULL || c->size - c->end < n)
		return false;
	memcpy(c->data + c->end, p, n);
	c->end += (uint32_t)n;
	return true;
}

static bool data_step(struct smtp_session *s)
{
	struct transaction *tx = s->tx;
	size_t room = transaction_room(tx), n, used;
	const uint8_t *in = s->worker->scratch;
	struct chunk *c = s->in;

	if (room == 0) {
		/* an append's verdict wakes us too; the timer is for chunks that others free */
		session_pause(s, RETRY_US);
		return false;
	}
	if (c != NULL && c->start < c->end) {
		in = c->data + c->start;
		n = c->end - c->start < room ? c->end - c->start : room;
	} else {
		c = NULL;
		/* no more than a chunk can keep of what turns out to lie behind the end */
		size_t most = chunk_capacity(CHUNK_16K);
		n = conn_read(&s->conn, s->worker->scratch, room < most ? room : most);
	}
	if (n == 0)
		return false;
	size_t made = content_feed(&tx->content, in, n, transaction_tail(tx), &used);
	transaction_added(tx, made);
	s->data_bytes += used;
	if (c != NULL)
		c->start += (uint32_t)used;
	else if (!keep_pipelined(s, in + used, n - used)) {
		s->phase = PHASE_CLOSING;
		return false;
	}
	if (tx->content.state == CONTENT_END)
		transaction_end_of_data(tx);
	return true;
}

/* Up to most octets of input, from the buffer or the connection; they are taken. */
static const uint8_t *take_input(struct smtp_session *s, size_t most, size_t *n)
{
	struct chunk *c = s->in;

	if (c != NULL && c->start < c->end) {
		const uint8_t *at = c->data + c->start;
		*n = c->end - c->start < most ? c->end - c->start : most;
		c->start += (uint32_t)*n;
		return at;
	}
	*n = conn_read(&s->conn, s->worker->scratch, most < SCRATCH ? most : SCRATCH);
	return s->worker->scratch;
}

/* BDAT: exactly so many octets, taken or thrown away. */
static bool chunk_step(struct smtp_session *s)
{
	size_t room = s->chunk.discard ? SCRATCH : transaction_room(s->tx), n, used;

	if (room == 0) {
		session_pause(s, RETRY_US);
		return false;
	}
	const uint8_t *in = take_input(s, s->chunk.left < room ? s->chunk.left : room, &n);
	if (n == 0)
		return false;
	if (!s->chunk.discard)
		transaction_added(s->tx, content_feed(&s->tx->content, in, n,
						      transaction_tail(s->tx), &used));
	s->data_bytes += n;
	s->chunk.left -= n;
	if (s->chunk.left == 0) {
		chunk_over(s);
		if (s->phase == PHASE_COMMAND)
			session_arm_deadline(s);
	}
	return true;
}

bool input_step(struct smtp_session *s)
{
	if (timer_armed(&s->resume) && s->auth_refused)
		return false;
	switch (s->phase) {
	case PHASE_COMMAND:
	case PHASE_AUTH:
		return line_step(s);
	case PHASE_DATA:
		return data_step(s);
	case PHASE_CHUNK:
		return chunk_step(s);
	case PHASE_SECURING:
	case PHASE_CHECKING:
	case PHASE_COMMIT:
	case PHASE_CLOSING:
		break;
	}
	return false;
}
