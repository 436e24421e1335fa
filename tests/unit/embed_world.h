/* embed_world.h - two stacks of libtcp_embed.so, loaded at run time, and a link between them. */
#ifndef TESTS_UNIT_EMBED_WORLD_H
#define TESTS_UNIT_EMBED_WORLD_H

#include "tests/sim/tcp_embed.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* clang-format off */
#define EMBED_CALLS(X)                                                                           \
	X(config_default)                                                                        \
	X(create)                                                                                \
	X(destroy)                                                                               \
	X(packet_in)                                                                             \
	X(packet_out)                                                                            \
	X(now)                                                                                   \
	X(next_timer)                                                                            \
	X(advance)                                                                               \
	X(socket) X(bind) X(listen) X(accept) X(connect) X(local_addr) X(peer_addr) X(send)      \
		X(recv) X(shutdown) X(close) X(abort) X(take_error) X(ready) X(setopt) X(getopt) \
			X(info) X(lookup_state) X(count_state)
/* clang-format on */

struct calls {
#define MEMBER(n) __typeof__(tcpe_##n) *n;
	EMBED_CALLS(MEMBER)
};

static const char *const names[] = {
#define NAME(n) "tcpe_" #n,
	EMBED_CALLS(NAME)};

enum { CALLS = sizeof(names) / sizeof(names[0]), DELAY_US = 5000, TRACE_BYTES = 8 << 20 };

struct flying {
	uint64_t at_us;
	unsigned to;
	size_t bytes;
	uint8_t data[1600];
};

/* Two stacks and a link that delays by DELAY_US. */
struct world {
	struct calls c;
	void *library;
	struct tcpe_stack *st[2];
	struct tcpe_addr addr[2];
	uint64_t random;
	uint8_t *trace; /* everything that went over the link, with its time */
	size_t traced;
	uint64_t drop_every, packets;
	struct flying queue[1024];
	unsigned queued;
};

static inline uint64_t draw(void *arg)
{
	uint64_t *x = arg;

	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* The build puts it into the folder sim beside this program. */
static inline void *open_library(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	assert_true(n > 0);
	path[n] = '\0';
	char *name = strrchr(path, '/');
	assert_non_null(name);
	snprintf(name, sizeof(path) - (size_t)(name - path), "/sim/libtcp_embed.so");
	return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static inline void load(struct world *w)
{
	void **slot = (void **)&w->c;

	w->library = open_library();
	if (w->library == NULL)
		fail_msg("%s", dlerror());
	static_assert(sizeof(w->c) == CALLS * sizeof(void *), "one pointer a call");
	for (unsigned i = 0; i < CALLS; i++) {
		slot[i] = dlsym(w->library, names[i]);
		if (slot[i] == NULL)
			fail_msg("%s is missing", names[i]);
	}
}

static inline struct world *begin(int family, void (*configure)(struct tcpe_config *c))
{
	struct world *w = calloc(1, sizeof(*w));

	load(w);
	w->random = 7;
	w->trace = malloc(TRACE_BYTES);
	for (unsigned i = 0; i < 2; i++) {
		struct tcpe_config c;
		int err = 1;

		w->addr[i] =
			family == 4 ? (struct tcpe_addr){4, {192, 0, 2, (uint8_t)(i + 1)}, 25}
				    : (struct tcpe_addr){
					      6, {0x20, 1, 0xd, 0xb8, [15] = (uint8_t)(i + 1)}, 25};
		w->c.config_default(&c);
		c.local[0] = w->addr[i];
		c.n_local = 1;
		c.now_us = 1000000;
		c.rng = draw;
		c.rng_arg = &w->random;
		if (configure != NULL)
			configure(&c);
		w->st[i] = w->c.create(&c, &err);
		assert_non_null(w->st[i]);
		assert_int_equal(err, 0);
	}
	return w;
}

static inline void end(struct world *w)
{
	w->c.destroy(w->st[0]);
	w->c.destroy(w->st[1]);
	dlclose(w->library);
	free(w->trace);
	free(w);
}

static inline void collect(struct world *w, unsigned from)
{
	struct flying f = {.to = 1 - from};
	uint64_t when;
	ssize_t n;

	while ((n = w->c.packet_out(w->st[from], f.data, sizeof(f.data), &when)) > 0) {
		assert_true(when <= w->c.now(w->st[from]));
		f.bytes = (size_t)n;
		f.at_us = when + DELAY_US;
		assert_true(w->traced + f.bytes + 8 < TRACE_BYTES);
		memcpy(w->trace + w->traced, &when, 8);
		memcpy(w->trace + w->traced + 8, f.data, f.bytes);
		w->traced += f.bytes + 8;
		w->packets++;
		if (w->drop_every != 0 && w->packets % w->drop_every == 0)
			continue;
		assert_true(w->queued < 1024);
		w->queue[w->queued++] = f;
	}
	assert_int_equal(n, 0);
}

static inline void run(struct world *w, uint64_t until)
{
	for (;;) {
		unsigned first = 0;

		collect(w, 0);
		collect(w, 1);
		for (unsigned i = 1; i < w->queued; i++)
			first = w->queue[i].at_us < w->queue[first].at_us ? i : first;
		uint64_t next = w->queued > 0 ? w->queue[first].at_us : UINT64_MAX;
		for (unsigned i = 0; i < 2; i++)
			next = w->c.next_timer(w->st[i]) < next ? w->c.next_timer(w->st[i]) : next;
		if (next > until)
			break;
		w->c.advance(w->st[0], next);
		w->c.advance(w->st[1], next);
		if (w->queued > 0 && w->queue[first].at_us == next) {
			struct flying f = w->queue[first];
			memmove(&w->queue[first], &w->queue[first + 1],
				(w->queued - first - 1) * sizeof(w->queue[0]));
			w->queued--;
			w->c.packet_in(w->st[f.to], f.data, f.bytes);
		}
	}
	w->c.advance(w->st[0], until);
	w->c.advance(w->st[1], until);
}

static inline void pass(struct world *w, uint64_t us)
{
	run(w, w->c.now(w->st[0]) + us);
}

struct ends {
	struct tcpe_sock *listener, *client, *server;
};

static inline struct ends meet(struct world *w)
{
	struct ends e;
	int err;

	w->queued = 0;
	e.listener = w->c.socket(w->st[1], w->addr[1].family);
	assert_int_equal(w->c.bind(e.listener, &w->addr[1]), 0);
	assert_int_equal(w->c.listen(e.listener, 8), 0);
	assert_null(w->c.accept(e.listener, &err));
	assert_int_equal(err, -EAGAIN);
	e.client = w->c.socket(w->st[0], w->addr[0].family);
	assert_int_equal(w->c.connect(e.client, &w->addr[1]), -EINPROGRESS);
	assert_int_equal(w->c.connect(e.client, &w->addr[1]), -EALREADY);
	assert_int_equal(w->c.recv(e.client, &err, 4, 0), -EAGAIN);
	pass(w, 50000);
	assert_int_equal(w->c.connect(e.client, &w->addr[1]), 0);
	assert_int_equal(w->c.connect(e.client, &w->addr[1]), -EISCONN);
	assert_true((w->c.ready(e.listener) & TCPE_IN) != 0);
	e.server = w->c.accept(e.listener, &err);
	assert_non_null(e.server);
	return e;
}

#endif
