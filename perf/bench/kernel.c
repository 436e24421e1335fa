/* kernel.c - sessions over the kernel's sockets: epoll, and OpenSSL on the worker itself */
#include "perf/bench/link.h"

#include "base/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, REST_MS = 1, CALLS = 16 };

struct call {
	void (*fn)(void *arg);
	void *arg;
	_Atomic bool done;
};

struct kernel_worker {
	pthread_t thread;
	bool running;
	unsigned core;
	int epoll;
	struct shard shard;
	uint64_t random;
	SSL_CTX *context;
	struct engine *engine;
	struct ring *calls;
	unsigned next_address;
	_Atomic bool stop;
};

struct kernel {
	const struct bench_options *options;
	struct kernel_worker workers[BENCH_WORKERS];
	unsigned n_workers;
};

static uint64_t clock_us(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Sizes and arrivals need no better randomness. */
static uint64_t draw(void *arg)
{
	uint64_t *x = arg;

	*x += 0x9e3779b97f4a7c15;
	uint64_t z = *x;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static socklen_t to_sockaddr(const struct ip_addr *a, uint16_t port, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (a->family == 6) {
		struct sockaddr_in6 *s = (struct sockaddr_in6 *)out;
		s->sin6_family = AF_INET6;
		s->sin6_port = htons(port);
		memcpy(&s->sin6_addr, a->byte, 16);
		return sizeof(*s);
	}
	struct sockaddr_in *s = (struct sockaddr_in *)out;
	s->sin_family = AF_INET;
	s->sin_port = htons(port);
	memcpy(&s->sin_addr, a->byte, 4);
	return sizeof(*s);
}

static int bind_source(struct kernel_worker *w, const struct bench_options *o, int fd)
{
	struct sockaddr_storage from;
	int on = 1;

	if (o->n_addresses == 0)
		return 0;
	socklen_t n = to_sockaddr(&o->address[w->next_address++ % o->n_addresses].addr, 0, &from);
	/* or a source address would have one ephemeral range for all targets */
	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	return bind(fd, (struct sockaddr *)&from, n);
}

static int kernel_open(struct session *s)
{
	struct kernel_worker *w = s->engine->link_arg;
	const struct bench_options *o = s->engine->options;
	struct sockaddr_storage to;
	socklen_t n = to_sockaddr(&o->target, o->port, &to);
	int on = 1;
	int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				 .data.u64 = s->handle};
	if (bind_source(w, o, fd) < 0 ||
	    (connect(fd, (struct sockaddr *)&to, n) < 0 && errno != EINPROGRESS) ||
	    epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) < 0) {
		int rc = -errno;
		close(fd);
		return rc;
	}
	s->link.socket = (struct socket){.fd = fd};
	return 0;
}

static void kernel_close(struct session *s, bool polite)
{
	struct socket *k = &s->link.socket;
	struct linger reset = {.l_onoff = 1};

	if (k->ended || k->fd < 0)
		return;
	k->ended = true;
	ERR_clear_error();
	if (k->ssl != NULL && polite && !k->securing)
		SSL_shutdown(k->ssl);
	SSL_free(k->ssl);
	if (!polite)
		setsockopt(k->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(k->fd);
	k->ssl = NULL;
	k->fd = -1;
}

static void over(struct session *s, enum session_end why)
{
	kernel_close(s, false);
	session_ended(s, why);
}

static void handshake(struct session *s)
{
	struct socket *k = &s->link.socket;

	ERR_clear_error();
	int rc = SSL_do_handshake(k->ssl);
	if (rc == 1) {
		k->securing = false;
		session_secured(s);
		return;
	}
	int why = SSL_get_error(k->ssl, rc);
	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		over(s, SESSION_END_TLS);
}

static bool kernel_secure(struct session *s, const struct tls_ticket *ticket)
{
	struct kernel_worker *w = s->engine->link_arg;
	const struct bench_options *o = s->engine->options;
	struct socket *k = &s->link.socket;

	k->ssl = SSL_new(w->context);
	if (k->ssl == NULL || SSL_set_fd(k->ssl, k->fd) != 1)
		return false;
	SSL_set_connect_state(k->ssl);
	if (o->name[0] != '\0')
		SSL_set_tlsext_host_name(k->ssl, o->name);
	if (o->ca_file != NULL)
		SSL_set1_host(k->ssl, o->name);
	if (ticket != NULL) {
		const uint8_t *p = ticket->session;
		SSL_SESSION *x = d2i_SSL_SESSION(NULL, &p, (long)ticket->bytes);
		SSL_set_session(k->ssl, x);
		SSL_SESSION_free(x);
	}
	k->securing = true;
	/* the hello leaves now; what comes of it is an event */
	ERR_clear_error();
	SSL_do_handshake(k->ssl);
	return true;
}

static size_t kernel_read(struct session *s, void *buf, size_t cap)
{
	struct socket *k = &s->link.socket;

	if (k->ended || k->eof)
		return 0;
	if (k->ssl != NULL) {
		size_t got = 0;
		ERR_clear_error();
		int rc = SSL_read_ex(k->ssl, buf, cap, &got);
		if (rc == 1)
			return got;
		int why = SSL_get_error(k->ssl, rc);
		k->eof = why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE;
		return 0;
	}
	ssize_t n = recv(k->fd, buf, cap, 0);
	if (n > 0)
		return (size_t)n;
	k->eof = n == 0 || (errno != EAGAIN && errno != EINTR);
	return 0;
}

static bool kernel_eof(const struct session *s)
{
	return s->link.socket.eof;
}

static size_t kernel_write(struct session *s, const void *data, size_t n)
{
	struct socket *k = &s->link.socket;

	if (k->ended)
		return 0;
	if (k->ssl != NULL) {
		size_t took = 0;
		ERR_clear_error();
		SSL_write_ex(k->ssl, data, n, &took);
		return took;
	}
	ssize_t rc = send(k->fd, data, n, MSG_NOSIGNAL);
	return rc > 0 ? (size_t)rc : 0;
}

static bool kernel_ticket(const struct session *s, struct tls_ticket *t)
{
	SSL_SESSION *x = s->link.socket.ssl != NULL ? SSL_get0_session(s->link.socket.ssl) : NULL;
	uint8_t *p = t->session;
	int n = x != NULL && SSL_SESSION_is_resumable(x) ? i2d_SSL_SESSION(x, NULL) : 0;

	if (n <= 0 || n > TLS_TICKET_BYTES)
		return false;
	t->bytes = (size_t)i2d_SSL_SESSION(x, &p);
	return true;
}

static const struct link_ops kernel_ops = {
	.open = kernel_open,
	.secure = kernel_secure,
	.read = kernel_read,
	.eof = kernel_eof,
	.write = kernel_write,
	.close = kernel_close,
	.ticket = kernel_ticket,
};

static void opened(struct session *s)
{
	struct socket *k = &s->link.socket;
	int fault = 0;
	socklen_t n = sizeof(fault);

	if (getsockopt(k->fd, SOL_SOCKET, SO_ERROR, &fault, &n) < 0 || fault != 0) {
		over(s, SESSION_END_REFUSED);
		return;
	}
	k->opened = true;
	session_opened(s);
}

static void event(struct kernel_worker *w, const struct epoll_event *ev)
{
	struct slab *sessions = w->engine->sessions;
	struct session *s = slab_get(sessions, ev->data.u64);

	if (s == NULL || s->link.socket.ended)
		return;
	if (!s->link.socket.opened) {
		if ((ev->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0)
			opened(s);
		s = slab_get(sessions, ev->data.u64);
		if (s == NULL || !s->link.socket.opened)
			return;
	}
	if (s->link.socket.securing) {
		handshake(s);
		return;
	}
	if ((ev->events & EPOLLOUT) != 0)
		session_writable(s);
	if (slab_get(sessions, ev->data.u64) != NULL)
		session_readable(s);
}

static void serve_calls(struct kernel_worker *w)
{
	struct call *c;

	while ((c = ring_pop(w->calls)) != NULL) {
		c->fn(c->arg);
		atomic_store(&c->done, true);
	}
}

static void *loop(void *arg)
{
	struct kernel_worker *w = arg;
	struct epoll_event events[EVENTS];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(w->core, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		timer_advance(&w->shard, clock_us(CLOCK_MONOTONIC));
		serve_calls(w);
		unsigned work = engine_turn(w->engine);
		int n = epoll_wait(w->epoll, events, EVENTS, work > 0 ? 0 : REST_MS);
		/* so that what the events measure does not count from the turn's begin */
		timer_advance(&w->shard, clock_us(CLOCK_MONOTONIC));
		for (int i = 0; i < n; i++)
			event(w, &events[i]);
	}
	OPENSSL_thread_stop();
	return NULL;
}

static SSL_CTX *make_context(const struct bench_options *o)
{
	SSL_CTX *x = SSL_CTX_new(TLS_client_method());

	if (x == NULL)
		return NULL;
	SSL_CTX_set_mode(x, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				    SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_min_proto_version(x, TLS1_2_VERSION);
	if (o->tls_1_2)
		SSL_CTX_set_max_proto_version(x, TLS1_2_VERSION);
	SSL_CTX_set1_groups_list(x, "X25519:P-256");
	if (o->ca_file != NULL) {
		SSL_CTX_set_verify(x, SSL_VERIFY_PEER, NULL);
		if (SSL_CTX_load_verify_file(x, o->ca_file) != 1) {
			SSL_CTX_free(x);
			return NULL;
		}
	}
	return x;
}

static int open_worker(struct kernel *k, unsigned index)
{
	struct kernel_worker *w = &k->workers[index];
	uint64_t now = clock_us(CLOCK_MONOTONIC);

	k->n_workers = index + 1;
	w->core = k->options->core[index];
	w->shard.index = index;
	w->shard.now_us = now;
	w->shard.wall_offset_us = (int64_t)(clock_us(CLOCK_REALTIME) - now);
	w->shard.timers = timer_wheel_create(now);
	w->shard.random64 = draw;
	w->shard.random_arg = &w->random;
	w->calls = ring_create(CALLS);
	w->context = make_context(k->options);
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->shard.timers == NULL || w->calls == NULL || w->context == NULL || w->epoll < 0 ||
	    getrandom(&w->random, sizeof(w->random), 0) != sizeof(w->random))
		return -ENOMEM;
	w->engine = engine_create(&w->shard, k->options, index, &kernel_ops, w);
	return w->engine != NULL ? 0 : -ENOMEM;
}

struct kernel *kernel_start(const struct bench_options *o, struct engine **engines, char *error,
			    size_t error_bytes)
{
	struct kernel *k = calloc(1, sizeof(*k));
	int rc = k != NULL ? 0 : -ENOMEM;

	snprintf(error, error_bytes, "out of memory, or --ca cannot be read");
	if (rc < 0)
		return NULL;
	k->options = o;
	for (unsigned i = 0; rc == 0 && i < o->n_workers; i++) {
		rc = open_worker(k, i);
		engines[i] = k->workers[i].engine;
	}
	for (unsigned i = 0; rc == 0 && i < k->n_workers; i++) {
		rc = -pthread_create(&k->workers[i].thread, NULL, loop, &k->workers[i]);
		k->workers[i].running = rc == 0;
	}
	if (rc == 0)
		return k;
	kernel_end(k);
	return NULL;
}

int kernel_call(struct kernel *k, unsigned worker, void (*fn)(void *arg), void *arg)
{
	struct call *c = calloc(1, sizeof(*c));
	struct timespec tick = {.tv_nsec = 1000000};

	if (c == NULL)
		return -ENOMEM;
	c->fn = fn;
	c->arg = arg;
	if (!ring_push(k->workers[worker].calls, c)) {
		free(c);
		return -EOVERFLOW;
	}
	for (unsigned ms = 0; !atomic_load(&c->done); ms++) {
		/* the worker may still run it: it is never freed then */
		if (ms >= 5000)
			return -ETIMEDOUT;
		nanosleep(&tick, NULL);
	}
	free(c);
	return 0;
}

void kernel_end(struct kernel *k)
{
	for (unsigned i = 0; i < k->n_workers; i++) {
		struct kernel_worker *w = &k->workers[i];
		atomic_store(&w->stop, true);
		if (w->running)
			pthread_join(w->thread, NULL);
		engine_destroy(w->engine);
		SSL_CTX_free(w->context);
		if (w->epoll >= 0)
			close(w->epoll);
		if (w->shard.timers != NULL)
			timer_wheel_destroy(w->shard.timers);
		ring_destroy(w->calls);
	}
	free(k);
}
