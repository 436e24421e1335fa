/* embed_data.c - bytes in and out of sockets */
#include "tests/sim/embed.h"

#include <errno.h>

static ssize_t pending_error(struct tcpe_sock *s)
{
	return -tcpe_take_error(s);
}

static bool can_send(const struct tcpe_sock *s)
{
	return s->stream != NULL && s->stream->state != TCP_CLOSED && !s->shut_write;
}

ssize_t tcpe_send(struct tcpe_sock *s, const void *buf, size_t len, unsigned flags)
{
	bool more = (flags & TCPE_SEND_MORE) != 0;

	if (s->error != 0)
		return pending_error(s);
	if (s->kind != SOCK_CONNECTION)
		return -ENOTCONN;
	if (s->stream != NULL && !s->connected)
		return -EAGAIN;
	if (!can_send(s))
		return -EPIPE;
	if (len == 0)
		return 0;
	if (s->tuning.more != more) {
		s->tuning.more = more;
		stream_tune(s->stream, &s->tuning);
	}
	embed_flow_touch(s->st, s->stream);
	size_t n = stream_write(s->stream, buf, len, 0);
	embed_flush(s->st);
	if (s->stream != NULL)
		embed_flow_touch(s->st, s->stream);
	return n > 0 ? (ssize_t)n : -EAGAIN;
}

/* Unread bytes without consuming them; they may lie in several chunks. */
static size_t copy_unread(const struct stream *x, uint8_t *to, size_t cap)
{
	size_t done = 0, unread = stream_readable(x);
	uint32_t seq = x->rcv_read, span = chunk_capacity(CHUNK_4K);

	if (cap > unread)
		cap = unread;
	for (const struct chunk *c = cap > 0 ? x->active->rcv_head : NULL; done < cap;
	     c = c->next) {
		uint32_t at = seq - c->spare;
		size_t n = span - at < cap - done ? span - at : cap - done;
		memcpy(to + done, c->data + at, n);
		done += n;
		seq += (uint32_t)n;
	}
	return done;
}

static size_t take_rest(struct tcpe_sock *s, void *buf, size_t len, bool peek)
{
	size_t n = s->rest_end - s->rest_at;

	if (n > len)
		n = len;
	if (n > 0)
		memcpy(buf, s->rest + s->rest_at, n);
	if (!peek)
		s->rest_at += n;
	return n;
}

/* Dynamic right-sizing: an application that drains more than half of the buffer in a round trip
 * is given twice what it drained. */
static void autotune(struct tcpe_sock *s, size_t n)
{
	const struct tcpe_config *c = &s->st->config;
	const struct stream *x = s->stream;
	uint64_t now = s->st->shard.now_us;

	s->round_bytes += (uint32_t)n;
	if (!s->autotune || now - s->round_us < x->srtt_us)
		return;
	if (s->round_bytes > s->receive_limit / 2 && s->receive_limit < c->rcvbuf_max) {
		uint64_t want = 2ull * s->round_bytes;
		if (want < s->receive_limit)
			want = s->receive_limit;
		s->receive_limit = want < c->rcvbuf_max ? (uint32_t)want : c->rcvbuf_max;
		stream_set_receive_limit(s->stream, s->receive_limit);
	}
	s->round_us = now;
	s->round_bytes = 0;
}

static ssize_t nothing_to_read(struct tcpe_sock *s)
{
	if (s->error != 0)
		return pending_error(s);
	if (s->kind != SOCK_CONNECTION)
		return -ENOTCONN;
	if (s->fin_seen || s->shut_read || s->stream == NULL || s->stream->state == TCP_CLOSED)
		return 0;
	return -EAGAIN;
}

ssize_t tcpe_recv(struct tcpe_sock *s, void *buf, size_t len, unsigned flags)
{
	bool peek = (flags & TCPE_RECV_PEEK) != 0;
	size_t n;

	if (embed_unread(s) == 0)
		return nothing_to_read(s);
	if (s->stream == NULL)
		return (ssize_t)take_rest(s, buf, len, peek);
	if (peek)
		return (ssize_t)copy_unread(s->stream, buf, len);
	n = stream_read(s->stream, buf, len);
	autotune(s, n);
	embed_flush(s->st);
	return (ssize_t)n;
}
