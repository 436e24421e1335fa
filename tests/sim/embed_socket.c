/* embed_socket.c - sockets over streams: bind to close */
#include "tests/sim/embed.h"

#include "dataplane/tcp/seq.h"

#include <errno.h>
#include <stdlib.h>

enum { PORT_FIRST = 32768, PORTS = 28232 };

struct tcpe_sock *embed_sock_new(struct tcpe_stack *st, uint8_t family)
{
	if (st->n_socks >= st->config.max_socks)
		return NULL;
	struct tcpe_sock *s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	st->n_socks++;
	s->st = st;
	s->family = family;
	s->linger_s = -1;
	s->autotune = st->config.rcvbuf_autotune;
	s->receive_limit = st->config.rcvbuf;
	tcp_tuning(st->tcp, &s->tuning);
	s->tuning.keepalive = false;
	list_init(&s->queue_link);
	list_init(&s->queue);
	list_push_back(&st->socks, &s->link);
	return s;
}

void embed_sock_free(struct tcpe_sock *s)
{
	s->st->n_socks--;
	list_del(&s->link);
	list_del(&s->queue_link);
	list_del(&s->queue);
	free(s->rest);
	free(s);
}

struct tcpe_sock *tcpe_socket(struct tcpe_stack *st, int family)
{
	return family == 4 || family == 6 ? embed_sock_new(st, (uint8_t)family) : NULL;
}

static bool is_any(const struct tcpe_addr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->ip, zero, a->family == 4 ? 4 : 16) == 0;
}

static bool same_ip(const struct tcpe_addr *a, const struct tcpe_addr *b)
{
	return a->family == b->family && memcmp(a->ip, b->ip, a->family == 4 ? 4 : 16) == 0;
}

bool embed_port_taken(const struct tcpe_stack *st, uint16_t port)
{
	list_each (it, &st->socks) {
		const struct tcpe_sock *s = container_of(it, struct tcpe_sock, link);
		if (s->bound && s->local.port == port)
			return true;
	}
	return false;
}

static bool bind_conflict(const struct tcpe_stack *st, const struct tcpe_addr *a)
{
	list_each (it, &st->socks) {
		const struct tcpe_sock *s = container_of(it, struct tcpe_sock, link);
		if (s->bound && s->local.port == a->port && s->local.family == a->family &&
		    (is_any(a) || is_any(&s->local) || same_ip(a, &s->local)))
			return true;
	}
	return false;
}

static bool choose_port(struct tcpe_stack *st, struct tcpe_addr *a)
{
	uint32_t start = (uint32_t)(shard_random(&st->shard) % PORTS);

	for (uint32_t i = 0; i < PORTS; i++) {
		a->port = (uint16_t)(PORT_FIRST + (start + i) % PORTS);
		if (!bind_conflict(st, a))
			return true;
	}
	return false;
}

int tcpe_bind(struct tcpe_sock *s, const struct tcpe_addr *a)
{
	struct tcpe_addr want = *a;
	struct ip_addr ip = embed_ip(a);

	if (s->bound || s->kind != SOCK_FRESH)
		return -EINVAL;
	if (a->family != s->family)
		return -EAFNOSUPPORT;
	if (!is_any(a) && !embed_is_local(s->st, &ip))
		return -EADDRNOTAVAIL;
	if (want.port == 0 ? !choose_port(s->st, &want) : bind_conflict(s->st, &want))
		return -EADDRINUSE;
	s->local = want;
	s->bound = true;
	return 0;
}

static bool listener_full(void *user)
{
	const struct tcpe_sock *l = user;

	return l->queued >= l->backlog || l->st->n_socks >= l->st->config.max_socks;
}

/* The core knows one address a listener; a socket bound to any has several. */
static void unlisten(const struct tcpe_sock *s)
{
	const struct tcpe_config *c = &s->st->config;

	for (unsigned i = 0; i < c->n_local; i++) {
		struct ip_addr ip = embed_ip(&c->local[i]);
		if (ip.family == s->family &&
		    (is_any(&s->local) || same_ip(&c->local[i], &s->local)))
			tcp_unlisten(s->st->tcp, &ip, s->local.port);
	}
}

static int listen_all(struct tcpe_sock *s)
{
	const struct tcpe_config *c = &s->st->config;
	struct tcp_listen l = {.port = s->local.port,
			       .events = &embed_events,
			       .user = s,
			       .full = listener_full,
			       .tuning = &s->tuning};

	for (unsigned i = 0; i < c->n_local; i++) {
		l.local = embed_ip(&c->local[i]);
		if (l.local.family != s->family ||
		    !(is_any(&s->local) || same_ip(&c->local[i], &s->local)))
			continue;
		int r = tcp_listen(s->st->tcp, &l);
		if (r < 0) {
			unlisten(s);
			return r;
		}
	}
	return 0;
}

int tcpe_listen(struct tcpe_sock *s, int backlog)
{
	struct tcpe_addr any = {.family = s->family};

	if (s->kind == SOCK_CONNECTION)
		return -EINVAL;
	s->backlog = backlog > 0 ? (unsigned)backlog : 1;
	if (s->kind == SOCK_LISTENER)
		return 0;
	int r = s->bound ? 0 : tcpe_bind(s, &any);
	if (r == 0)
		r = listen_all(s);
	if (r == 0)
		s->kind = SOCK_LISTENER;
	return r;
}

struct tcpe_sock *tcpe_accept(struct tcpe_sock *l, int *err)
{
	struct list *first = l->kind == SOCK_LISTENER ? list_pop_front(&l->queue) : NULL;

	*err = first != NULL ? 0 : l->kind == SOCK_LISTENER ? -EAGAIN : -EINVAL;
	if (first == NULL)
		return NULL;
	l->queued--;
	return container_of(first, struct tcpe_sock, queue_link);
}

static void adopt(struct tcpe_sock *s, struct stream *x)
{
	struct ip_addr ip;
	uint16_t port;

	s->kind = SOCK_CONNECTION;
	s->stream = x;
	s->handle = stream_handle(x);
	stream_local(x, &ip, &port);
	s->local = embed_addr(&ip, port);
	stream_peer(x, &ip, &port);
	s->peer = embed_addr(&ip, port);
	s->round_us = s->st->shard.now_us;
}

static void opened(struct stream *x, void *user)
{
	struct tcpe_sock *s = user;

	if (s->kind != SOCK_LISTENER) {
		s->connected = true;
		return;
	}
	struct tcpe_sock *fresh = embed_sock_new(s->st, s->family);
	if (fresh == NULL) {
		stream_abort(x);
		return;
	}
	fresh->tuning = s->tuning;
	fresh->tuning.more = false;
	fresh->linger_s = s->linger_s;
	fresh->autotune = s->autotune;
	fresh->receive_limit = s->receive_limit;
	fresh->connected = fresh->reported = true;
	adopt(fresh, x);
	stream_set_user(x, fresh);
	list_push_back(&s->queue, &fresh->queue_link);
	s->queued++;
}

static void readable(struct stream *x, void *user)
{
	struct tcpe_sock *s = user;

	if ((x->flags & F_FIN_RECEIVED) != 0)
		s->fin_seen = true;
}

static void writable(struct stream *x, void *user)
{
}

/* What was received stays readable. */
static void keep_rest(struct tcpe_sock *s, struct stream *x)
{
	size_t n = stream_readable(x);

	if (n == 0)
		return;
	s->rest = malloc(n);
	if (s->rest == NULL)
		abort();
	s->rest_end = stream_read(x, s->rest, n);
}

static void closed(struct stream *x, void *user, enum stream_end why)
{
	static const int codes[] = {
		[STREAM_END_RESET] = ECONNRESET,     [STREAM_END_TIMEOUT] = ETIMEDOUT,
		[STREAM_END_REFUSED] = ECONNREFUSED, [STREAM_END_UNREACHABLE] = EHOSTUNREACH,
		[STREAM_END_MEMORY] = ENOBUFS,
	};
	struct tcpe_sock *s = user;

	keep_rest(s, x);
	s->error = why == STREAM_END_UNREACHABLE ? s->st->unreachable : codes[why];
	s->fin_seen |= (x->flags & F_FIN_RECEIVED) != 0;
	s->stream = NULL;
}

const struct stream_events embed_events = {opened, readable, writable, closed};

/* The stack may end a stream without a word once both FINs are acknowledged. */
static bool has_ended(const struct tcpe_sock *s)
{
	return s->kind == SOCK_CONNECTION && (s->stream == NULL || s->stream->state == TCP_CLOSED);
}

static int take_pending(struct tcpe_sock *s)
{
	int e = s->error;

	s->error = 0;
	return e;
}

static const struct tcpe_addr *source_address(const struct tcpe_sock *s)
{
	const struct tcpe_config *c = &s->st->config;

	if (s->bound && !is_any(&s->local))
		return &s->local;
	for (unsigned i = 0; i < c->n_local; i++) {
		if (c->local[i].family == s->family)
			return &c->local[i];
	}
	return NULL;
}

static int begin_connect(struct tcpe_sock *s, const struct tcpe_addr *peer)
{
	const struct tcpe_addr *from = source_address(s);
	struct ip_addr local, to = embed_ip(peer);
	int err = 0;

	if (peer->family != s->family)
		return -EAFNOSUPPORT;
	if (from == NULL || peer->port == 0)
		return -EADDRNOTAVAIL;
	local = embed_ip(from);
	struct stream *x = stream_connect_from(s->st->tcp, &local, s->bound ? s->local.port : 0,
					       &to, peer->port, &embed_events, s, &err);
	if (x == NULL)
		return err;
	stream_tune(x, &s->tuning);
	adopt(s, x);
	s->connected = s->reported = false;
	embed_flush(s->st);
	return -EINPROGRESS;
}

int tcpe_connect(struct tcpe_sock *s, const struct tcpe_addr *peer)
{
	if (s->kind == SOCK_LISTENER)
		return -EINVAL;
	if (s->error != 0)
		return -take_pending(s);
	if (s->kind == SOCK_FRESH || (s->stream == NULL && !s->connected))
		return begin_connect(s, peer);
	if (!s->connected)
		return -EALREADY;
	if (s->reported)
		return -EISCONN;
	s->reported = true;
	return 0;
}

int tcpe_local_addr(const struct tcpe_sock *s, struct tcpe_addr *a)
{
	*a = s->local;
	if (a->family == 0)
		a->family = s->family;
	return 0;
}

int tcpe_peer_addr(const struct tcpe_sock *s, struct tcpe_addr *a)
{
	if (s->kind != SOCK_CONNECTION || !s->connected)
		return -ENOTCONN;
	*a = s->peer;
	return 0;
}

size_t embed_unread(const struct tcpe_sock *s)
{
	return s->stream != NULL ? stream_readable(s->stream) : s->rest_end - s->rest_at;
}

int tcpe_shutdown(struct tcpe_sock *s, int how)
{
	if (how < TCPE_SHUT_RD || how > TCPE_SHUT_RDWR)
		return -EINVAL;
	if (s->kind != SOCK_CONNECTION || !s->connected || has_ended(s))
		return -ENOTCONN;
	s->shut_read |= how != TCPE_SHUT_WR;
	if (how != TCPE_SHUT_RD && !s->shut_write) {
		s->shut_write = true;
		stream_shutdown(s->stream);
		embed_flush(s->st);
	}
	return 0;
}

static void close_listener(struct tcpe_sock *s)
{
	struct list *it;

	unlisten(s);
	while ((it = list_pop_front(&s->queue)) != NULL)
		tcpe_abort(container_of(it, struct tcpe_sock, queue_link));
}

static int finish(struct tcpe_sock *s, bool reset)
{
	struct tcpe_stack *st = s->st;

	if (s->kind == SOCK_LISTENER)
		close_listener(s);
	else if (s->stream != NULL && reset)
		stream_abort(s->stream);
	else if (s->stream != NULL)
		stream_close(s->stream);
	embed_sock_free(s);
	embed_flush(st);
	return 0;
}

int tcpe_close(struct tcpe_sock *s)
{
	return finish(s, embed_unread(s) > 0 || s->linger_s == 0);
}

int tcpe_abort(struct tcpe_sock *s)
{
	return finish(s, true);
}

int tcpe_take_error(struct tcpe_sock *s)
{
	return take_pending(s);
}

static unsigned ready_to_send(const struct tcpe_sock *s)
{
	const struct stream *x = s->stream;

	if (has_ended(s) || !s->connected || s->shut_write)
		return 0;
	size_t room = stream_room(x);
	/* The stack says `writable` only with a third of the buffer free. */
	size_t least = (x->flags & F_WANT_WRITE) != 0 ? x->snd_limit / 3 : 1;
	return room > 0 && room >= least ? TCPE_OUT : 0;
}

unsigned tcpe_ready(const struct tcpe_sock *s)
{
	unsigned bits = s->error != 0 ? TCPE_ERR | TCPE_IN : 0;

	if (s->kind == SOCK_LISTENER)
		return s->queued > 0 ? TCPE_IN : 0;
	if (s->kind == SOCK_FRESH)
		return 0;
	bool over = has_ended(s);
	if (embed_unread(s) > 0 || s->fin_seen || s->shut_read || over)
		bits |= TCPE_IN;
	if (s->fin_seen)
		bits |= TCPE_RDHUP;
	if (over || (s->fin_seen && s->shut_write))
		bits |= TCPE_HUP;
	if (s->connected)
		bits |= TCPE_CONNECTED;
	return bits | ready_to_send(s);
}
