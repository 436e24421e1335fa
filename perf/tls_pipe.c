/* tls_pipe.c - the functions of stream.h that the TLS layer and sessions call */
#include "perf/tls_pipe.h"

#include <stdlib.h>
#include <string.h>

void pipe_put(struct pipe_buffer *b, const void *data, size_t n)
{
	if (b->data == NULL)
		b->data = malloc(PIPE_BYTES);
	if (b->start == b->end)
		b->start = b->end = 0;
	if (n > PIPE_BYTES - b->end)
		abort();
	memcpy(b->data + b->end, data, n);
	b->end += n;
}

void pipe_free(struct stream *s)
{
	free(s->in.data);
	free(s->out.data);
	memset(&s->in, 0, sizeof(s->in));
	memset(&s->out, 0, sizeof(s->out));
}

void stream_set_user(struct stream *s, void *user)
{
	s->user = user;
}

size_t stream_peek(struct stream *s, const uint8_t **p)
{
	*p = s->in.data + s->in.start;
	return s->in.end - s->in.start;
}

size_t stream_unread(struct stream *s, size_t at, uint8_t **p)
{
	size_t n = s->in.end - s->in.start;

	*p = s->in.data + s->in.start + at;
	return at < n ? n - at : 0;
}

size_t stream_promised(const struct stream *s)
{
	return PIPE_BYTES - s->in.start;
}

void stream_consume(struct stream *s, size_t n)
{
	s->in.start += n;
}

size_t stream_readable(const struct stream *s)
{
	return s->in.end - s->in.start;
}

bool stream_eof(const struct stream *s)
{
	return false;
}

size_t stream_read(struct stream *s, void *buf, size_t cap)
{
	size_t n = stream_readable(s);

	if (n > cap)
		n = cap;
	if (n > 0)
		memcpy(buf, s->in.data + s->in.start, n);
	s->in.start += n;
	return n;
}

size_t stream_room(const struct stream *s)
{
	return PIPE_BYTES - s->out.end;
}

size_t stream_write(struct stream *s, const void *data, size_t n, unsigned flags)
{
	if (n > stream_room(s))
		n = stream_room(s);
	pipe_put(&s->out, data, n);
	return n;
}

void stream_want_room(struct stream *s)
{
}

size_t stream_unacked(const struct stream *s)
{
	return 0;
}

/* A buffer loses nothing. */
uint32_t stream_retransmitted(const struct stream *s)
{
	return 0;
}

void stream_peer(const struct stream *s, struct ip_addr *addr, uint16_t *port)
{
	addr_parse("192.0.2.1", addr);
	*port = 1;
}

void stream_close(struct stream *s)
{
	s->over = true;
}

void stream_abort(struct stream *s)
{
	s->over = true;
}

void stream_set_receive_limit(struct stream *s, uint32_t bytes)
{
}

handle_t stream_handle(const struct stream *s)
{
	return 1;
}
