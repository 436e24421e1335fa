/* stream.c - the calls of the upper layer: they change state and leave the work to tcp_flush() */
#include "dataplane/tcp/stream.h"

#include "dataplane/tcp/output.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/send.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"
#include "dataplane/tcp/timers.h"

void stream_set_user(struct stream *s, void *user)
{
	s->user = user;
}

void *stream_user(const struct stream *s)
{
	return s->user;
}

size_t stream_peek(struct stream *s, const uint8_t **p)
{
	return receive_peek(s, p);
}

size_t stream_unread(struct stream *s, size_t at, uint8_t **p)
{
	return receive_at(s, at, p);
}

size_t stream_promised(const struct stream *s)
{
	return receive_promised(s);
}

void stream_consume(struct stream *s, size_t n)
{
	receive_consume(s, n);
	stream_touch(s);
}

size_t stream_readable(const struct stream *s)
{
	return receive_unread(s);
}

bool stream_eof(const struct stream *s)
{
	return (s->flags & F_FIN_RECEIVED) != 0 && receive_unread(s) == 0;
}

size_t stream_read(struct stream *s, void *buf, size_t cap)
{
	const uint8_t *p;
	size_t done = 0, n;

	while (done < cap && (n = receive_peek(s, &p)) > 0) {
		if (n > cap - done)
			n = cap - done;
		memcpy((uint8_t *)buf + done, p, n);
		receive_consume(s, n);
		done += n;
	}
	stream_touch(s);
	return done;
}

static bool can_write(const struct stream *s)
{
	return (s->flags & (F_FIN_QUEUED | F_RELEASED)) == 0 && s->state != TCP_CLOSED;
}

size_t stream_write(struct stream *s, const void *data, size_t n, unsigned flags)
{
	/* Everything leaves at the flush, which is the end of the burst: STREAM_MORE asks for
	 * nothing beyond that. */
	(void)flags;
	if (!can_write(s))
		return 0;
	size_t done = send_append(s, data, n);
	if (done < n) {
		s->flags |= F_WANT_WRITE;
		if (send_queued(s) < s->snd_limit)
			s->flags |= F_NO_MEMORY;
	}
	stream_touch(s);
	return done;
}

void stream_want_room(struct stream *s)
{
	if (!can_write(s))
		return;
	s->flags |= F_WANT_WRITE;
	stream_touch(s);
}

size_t stream_room(const struct stream *s)
{
	uint32_t queued = send_queued(s);

	return can_write(s) && queued < s->snd_limit ? s->snd_limit - queued : 0;
}

uint32_t stream_retransmitted(const struct stream *s)
{
	return s->stack->sent_again[(uint32_t)s->handle];
}

size_t stream_unacked(const struct stream *s)
{
	return send_queued(s);
}

void stream_set_receive_limit(struct stream *s, uint32_t bytes)
{
	s->rcv_limit = u32_min(bytes, s->stack->config.receive_limit_max);
	stream_touch(s);
}

void stream_set_send_limit(struct stream *s, uint32_t bytes)
{
	s->snd_limit = bytes;
	if ((s->flags & F_WANT_WRITE) != 0 && stream_room(s) > 0)
		stream_raise(s, F_EVENT_WRITABLE);
}

void stream_shutdown(struct stream *s)
{
	if (!can_write(s) || s->state == TCP_SYN_SENT)
		return;
	s->flags &= ~(uint32_t)(F_WANT_WRITE | F_NO_MEMORY);
	state_closing(s);
	stream_touch(s);
}

static void release(struct stream *s)
{
	s->flags = (s->flags | F_RELEASED) & ~(uint32_t)(F_EVENTS | F_WANT_WRITE | F_NO_MEMORY);
	receive_clear(s);
	stream_touch(s);
}

void stream_close(struct stream *s)
{
	release(s);
	if (s->state == TCP_SYN_SENT) {
		state_die(s, STREAM_END_RESET);
	} else if (s->state != TCP_CLOSED) {
		if ((s->flags & F_FIN_QUEUED) == 0)
			state_closing(s);
		else
			timers_start_idle(s);
	}
}

/* States in which the peer may think the connection is alive (RFC 9293 section 3.10.5). */
static const bool reset_on_abort[TCP_STATES] = {
	[TCP_SYN_RCVD] = true,   [TCP_ESTABLISHED] = true, [TCP_FIN_WAIT_1] = true,
	[TCP_FIN_WAIT_2] = true, [TCP_CLOSE_WAIT] = true,
};

/* A FIN that never went out ends nothing: the peer must hear of the end all the same. */
static bool fin_unsent(const struct stream *s)
{
	return (s->state == TCP_CLOSING || s->state == TCP_LAST_ACK) &&
	       seq_le(s->snd_max, s->snd_end);
}

void stream_abort(struct stream *s)
{
	release(s);
	if (reset_on_abort[s->state] || fin_unsent(s))
		output_reset(s);
	state_die(s, STREAM_END_RESET);
}

void stream_peer(const struct stream *s, struct ip_addr *addr, uint16_t *port)
{
	*addr = flow_ip(s->key.peer);
	*port = s->key.peer_port;
}

void stream_local(const struct stream *s, struct ip_addr *addr, uint16_t *port)
{
	*addr = flow_ip(s->key.local);
	*port = s->key.local_port;
}

handle_t stream_handle(const struct stream *s)
{
	return s->handle;
}

struct stream *stream_by_handle(struct tcp_stack *t, handle_t h)
{
	struct stream *s = slab_get(t->streams, h);

	return s != NULL && stream_is_held(s) ? s : NULL;
}
