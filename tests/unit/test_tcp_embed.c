/* test_tcp_embed.c - the stack as a stranger meets it: loaded at run time, nothing but
 * tcp_embed.h known */
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

enum { CALLS = sizeof(names) / sizeof(names[0]), DELAY_US = 5000, TRACE_BYTES = 1 << 20 };

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
	struct flying queue[256];
	unsigned queued;
};

static uint64_t draw(void *arg)
{
	uint64_t *x = arg;

	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* The build puts it into the folder sim beside this program. */
static void *open_library(void)
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

static void load(struct world *w)
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

static struct world *begin(int family, void (*configure)(struct tcpe_config *c))
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

static void end(struct world *w)
{
	w->c.destroy(w->st[0]);
	w->c.destroy(w->st[1]);
	dlclose(w->library);
	free(w->trace);
	free(w);
}

static void collect(struct world *w, unsigned from)
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
		assert_true(w->queued < 256);
		w->queue[w->queued++] = f;
	}
	assert_int_equal(n, 0);
}

static void run(struct world *w, uint64_t until)
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

static void pass(struct world *w, uint64_t us)
{
	run(w, w->c.now(w->st[0]) + us);
}

struct ends {
	struct tcpe_sock *listener, *client, *server;
};

static struct ends meet(struct world *w)
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

static void every_call_of_the_interface_is_exported(void **state)
{
	struct world w = {0};

	load(&w);
	dlclose(w.library);
}

static void transfer(int family, uint64_t drop_every)
{
	enum { TOTAL = 60000 };
	struct world *w = begin(family, NULL);
	struct ends e = meet(w);
	uint8_t *data = malloc(TOTAL), *back = malloc(TOTAL);
	size_t got = 0, sent = 0;

	w->drop_every = drop_every;
	for (unsigned i = 0; i < TOTAL; i++)
		data[i] = (uint8_t)(i * 31 + i / 256);
	for (unsigned round = 0; round < 3000 && got < TOTAL; round++) {
		if (sent < TOTAL) {
			ssize_t n = w->c.send(e.client, data + sent, TOTAL - sent, 0);
			assert_true(n > 0 || n == -EAGAIN);
			sent += n > 0 ? (size_t)n : 0;
		}
		pass(w, 10000);
		ssize_t n = w->c.recv(e.server, back + got, TOTAL - got, 0);
		assert_true(n > 0 || n == -EAGAIN);
		got += n > 0 ? (size_t)n : 0;
	}
	assert_int_equal(got, TOTAL);
	assert_memory_equal(data, back, TOTAL);
	w->drop_every = 0;
	assert_int_equal(w->c.shutdown(e.client, TCPE_SHUT_WR), 0);
	pass(w, 1000000);
	assert_int_equal(w->c.recv(e.server, back, TOTAL, 0), 0);
	assert_int_equal(w->c.send(e.client, data, 1, 0), -EPIPE);
	assert_int_equal(w->c.send(e.server, data, 100, 0), 100);
	pass(w, 1000000);
	assert_int_equal(w->c.recv(e.client, back, TOTAL, TCPE_RECV_PEEK), 100);
	assert_int_equal(w->c.recv(e.client, back, TOTAL, 0), 100);
	w->c.close(e.server);
	w->c.close(e.client);
	w->c.close(e.listener);
	pass(w, 1000000);
	assert_int_equal(w->c.count_state(w->st[0], TCPE_TIME_WAIT), 1);
	pass(w, 70000000);
	assert_int_equal(w->c.count_state(w->st[0], TCPE_TIME_WAIT), 0);
	assert_true(w->c.next_timer(w->st[0]) == UINT64_MAX);
	assert_true(w->c.next_timer(w->st[1]) == UINT64_MAX);
	free(data);
	free(back);
	end(w);
}

static void bytes_arrive_over_ip4(void **state)
{
	transfer(4, 0);
}

static void bytes_arrive_over_ip6(void **state)
{
	transfer(6, 0);
}

static void bytes_arrive_although_every_ninth_packet_is_lost(void **state)
{
	transfer(4, 9);
	transfer(6, 9);
}

static void play(struct world *w)
{
	struct ends e = meet(w);
	uint8_t data[8000] = {1, 2, 3};

	w->drop_every = 7;
	for (unsigned i = 0; i < 20; i++) {
		w->c.send(e.client, data, sizeof(data), 0);
		pass(w, 100000);
		w->c.recv(e.server, data, sizeof(data), 0);
	}
	w->c.close(e.client);
	w->c.abort(e.server);
	pass(w, 1000000);
}

static void same_calls_give_the_same_bytes(void **state)
{
	struct world *a = begin(4, NULL), *b;

	play(a);
	b = begin(4, NULL);
	play(b);
	assert_true(a->traced > 10000);
	assert_int_equal(a->traced, b->traced);
	assert_memory_equal(a->trace, b->trace, a->traced);
	end(a);
	end(b);
}

static uint64_t fixed(void *arg)
{
	return 0x1111222233334444;
}

static void fixed_numbers(struct tcpe_config *c)
{
	c->random_iss = c->random_ts_offset = false;
	c->rng = fixed;
}

static void initial_number_and_timestamp_come_straight_from_generator_and_clock(void **state)
{
	struct world *w = begin(4, fixed_numbers);
	struct tcpe_sock *s = w->c.socket(w->st[0], 4);
	uint8_t p[100];
	uint64_t when;

	assert_int_equal(w->c.connect(s, &w->addr[1]), -EINPROGRESS);
	assert_int_equal(w->c.packet_out(w->st[0], p, 10, NULL), -EMSGSIZE);
	assert_int_equal(w->c.packet_out(w->st[0], p, sizeof(p), &when), 60);
	assert_true(when == 1000000);
	assert_memory_equal(p + 24, "\x33\x33\x44\x44", 4);
	/* mss, sackOK, timestamp of 1,000 ticks */
	assert_memory_equal(p + 40, "\x02\x04\x05\xb4\x04\x02\x08\x0a\x00\x00\x03\xe8", 12);
	assert_true(w->c.next_timer(w->st[0]) == 2000000);
	end(w);
}

static void timers_fire_at_their_own_time(void **state)
{
	struct world *w = begin(4, NULL);
	struct tcpe_sock *s = w->c.socket(w->st[0], 4);
	uint64_t when, expected[] = {1000000, 2000000, 4000000, 8000000, 16000000};
	uint8_t p[100];

	w->c.connect(s, &w->addr[1]);
	w->c.advance(w->st[0], 20000000); /* over several at once */
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(w->c.packet_out(w->st[0], p, sizeof(p), &when), 60);
		assert_true(when == expected[i]);
	}
	assert_int_equal(w->c.packet_out(w->st[0], p, sizeof(p), &when), 0);
	assert_true(w->c.now(w->st[0]) == 20000000);
	assert_true(w->c.next_timer(w->st[0]) == 32000000);
	w->c.advance(w->st[0], 127999999);
	assert_int_equal(w->c.take_error(s), 0);
	w->c.advance(w->st[0], 128000000);
	assert_true((w->c.ready(s) & TCPE_ERR) != 0);
	assert_int_equal(w->c.take_error(s), ETIMEDOUT);
	assert_int_equal(w->c.take_error(s), 0);
	end(w);
}

static void close_with_unread_data_resets(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);

	w->c.send(e.client, "hello", 5, 0);
	pass(w, 20000);
	w->c.close(e.server);
	pass(w, 20000);
	char c;
	assert_int_equal(w->c.send(e.client, "x", 1, 0), -ECONNRESET);
	assert_int_equal(w->c.send(e.client, "x", 1, 0), -EPIPE);
	assert_int_equal(w->c.recv(e.client, &c, 1, 0), 0);
	end(w);
}

static void close_without_linger_resets(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);

	assert_int_equal(w->c.setopt(e.server, TCPE_LINGER, 0), 0);
	w->c.close(e.server);
	pass(w, 20000);
	assert_int_equal(w->c.take_error(e.client), ECONNRESET);
	assert_int_equal(w->c.count_state(w->st[1], TCPE_ESTABLISHED), 0);
	end(w);
}

static void what_was_received_is_readable_after_a_reset(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);
	char text[8] = "";

	w->c.send(e.client, "hello", 5, 0);
	pass(w, 20000);
	w->c.abort(e.client);
	pass(w, 20000);
	assert_int_equal(w->c.recv(e.server, text, 8, 0), 5);
	assert_memory_equal(text, "hello", 5);
	assert_int_equal(w->c.recv(e.server, text, 8, 0), -ECONNRESET);
	assert_int_equal(w->c.recv(e.server, text, 8, 0), 0);
	end(w);
}

static void backlog_bounds_what_waits_for_accept(void **state)
{
	struct world *w = begin(4, NULL);
	struct tcpe_sock *l = w->c.socket(w->st[1], 4), *c[4];
	int err;

	w->queued = 0;
	w->c.bind(l, &w->addr[1]);
	w->c.listen(l, 2);
	for (unsigned i = 0; i < 4; i++) {
		c[i] = w->c.socket(w->st[0], 4);
		w->c.connect(c[i], &w->addr[1]);
		pass(w, 20000);
	}
	assert_int_equal(w->c.count_state(w->st[1], TCPE_ESTABLISHED), 2);
	assert_non_null(w->c.accept(l, &err));
	pass(w, 4000000); /* a SYN comes again */
	assert_int_equal(w->c.count_state(w->st[1], TCPE_ESTABLISHED), 3);
	end(w);
}

static void refused_connection_says_so(void **state)
{
	struct world *w = begin(4, NULL);
	struct tcpe_sock *s = w->c.socket(w->st[0], 4);

	w->queued = 0;
	w->c.connect(s, &w->addr[1]);
	pass(w, 20000);
	assert_int_equal(w->c.connect(s, &w->addr[1]), -ECONNREFUSED);
	assert_int_equal(w->c.connect(s, &w->addr[1]), -EINPROGRESS);
	end(w);
}

static void corked_bytes_wait(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);
	int64_t v = 0;

	w->c.setopt(e.client, TCPE_CORK, 1);
	w->c.send(e.client, "abc", 3, 0);
	pass(w, 20000);
	assert_int_equal(w->c.getopt(e.server, TCPE_INQ, &v), 0);
	assert_int_equal(v, 0);
	w->c.getopt(e.client, TCPE_OUTQ_NSD, &v);
	assert_int_equal(v, 3);
	w->c.setopt(e.client, TCPE_CORK, 0);
	pass(w, 20000);
	w->c.getopt(e.server, TCPE_INQ, &v);
	assert_int_equal(v, 3);
	w->c.send(e.client, "def", 3, TCPE_SEND_MORE);
	pass(w, 20000);
	w->c.getopt(e.server, TCPE_INQ, &v);
	assert_int_equal(v, 3);
	w->c.send(e.client, "g", 1, 0);
	pass(w, 20000);
	w->c.getopt(e.server, TCPE_INQ, &v);
	assert_int_equal(v, 7);
	end(w);
}

static void nagle_holds_the_second_small_piece(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);
	struct tcpe_info i;
	int64_t v = 0;

	w->c.getopt(e.client, TCPE_NODELAY, &v);
	assert_int_equal(v, 1);
	w->c.setopt(e.client, TCPE_NODELAY, 0);
	w->c.send(e.client, "a", 1, 0);
	w->c.send(e.client, "b", 1, 0);
	w->c.info(e.client, &i);
	assert_int_equal(i.unacked, 1);
	assert_int_equal(i.notsent_bytes, 1);
	pass(w, 200000);
	w->c.getopt(e.server, TCPE_INQ, &v);
	assert_int_equal(v, 2);
	end(w);
}

static void silence_beyond_the_user_timeout_ends_a_connection(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);

	w->c.setopt(e.client, TCPE_USER_TIMEOUT_MS, 1500);
	w->drop_every = 1;
	w->c.send(e.client, "a", 1, 0);
	pass(w, 1499999);
	assert_int_equal(w->c.take_error(e.client), 0);
	pass(w, 1);
	assert_int_equal(w->c.take_error(e.client), ETIMEDOUT);
	end(w);
}

static void keepalive_finds_a_dead_peer(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);

	w->c.setopt(e.client, TCPE_KEEPIDLE_S, 10);
	w->c.setopt(e.client, TCPE_KEEPINTVL_S, 2);
	w->c.setopt(e.client, TCPE_KEEPCNT, 3);
	w->c.setopt(e.client, TCPE_KEEPALIVE, 1);
	pass(w, 100000000); /* the peer answers */
	assert_int_equal(w->c.take_error(e.client), 0);
	w->drop_every = 1;
	pass(w, 30000000);
	assert_int_equal(w->c.take_error(e.client), ETIMEDOUT);
	end(w);
}

static void figures_of_a_connection_add_up(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);
	struct tcpe_info c, s;
	uint8_t data[10000] = {0};

	w->c.send(e.client, data, sizeof(data), 0);
	pass(w, 100000);
	w->c.info(e.client, &c);
	w->c.info(e.server, &s);
	assert_int_equal(c.state, TCPE_ESTABLISHED);
	assert_true(c.opt_ts && c.opt_sack && c.opt_wscale);
	assert_int_equal(c.snd_mss, 1448);
	assert_true(c.bytes_sent == 10000 && c.bytes_acked == 10000 && c.bytes_retrans == 0);
	assert_true(s.bytes_received == 10000);
	assert_int_equal(c.data_segs_out, 7);
	assert_int_equal(s.data_segs_in, 7);
	assert_int_equal(c.segs_out, s.segs_in);
	assert_int_equal(c.min_rtt_us, 2 * DELAY_US);
	assert_int_equal(c.snd_una, c.iss + 1 + 10000);
	assert_int_equal(s.rcv_nxt, s.irs + 1 + 10000);
	assert_int_equal(c.iss, s.irs);
	assert_true(c.busy_us >= 2 * DELAY_US && c.busy_us < 100000);
	assert_int_equal(c.unacked, 0);
	end(w);
}

static void impossible_configurations_are_refused(void **state)
{
	struct world w = {0};
	struct tcpe_config c;
	int err = 0;

	load(&w);
	w.c.config_default(&c);
	assert_null(w.c.create(&c, &err)); /* no address */
	assert_int_equal(err, -EINVAL);
	c.n_local = 1;
	c.local[0].family = 5;
	assert_null(w.c.create(&c, &err));
	c.local[0].family = 4;
	c.mtu = 100;
	assert_null(w.c.create(&c, &err));
	assert_int_equal(err, -EINVAL);
	dlclose(w.library);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_call_of_the_interface_is_exported),
		cmocka_unit_test(bytes_arrive_over_ip4),
		cmocka_unit_test(bytes_arrive_over_ip6),
		cmocka_unit_test(bytes_arrive_although_every_ninth_packet_is_lost),
		cmocka_unit_test(same_calls_give_the_same_bytes),
		cmocka_unit_test(
			initial_number_and_timestamp_come_straight_from_generator_and_clock),
		cmocka_unit_test(timers_fire_at_their_own_time),
		cmocka_unit_test(close_with_unread_data_resets),
		cmocka_unit_test(close_without_linger_resets),
		cmocka_unit_test(what_was_received_is_readable_after_a_reset),
		cmocka_unit_test(backlog_bounds_what_waits_for_accept),
		cmocka_unit_test(refused_connection_says_so),
		cmocka_unit_test(corked_bytes_wait),
		cmocka_unit_test(nagle_holds_the_second_small_piece),
		cmocka_unit_test(silence_beyond_the_user_timeout_ends_a_connection),
		cmocka_unit_test(keepalive_finds_a_dead_peer),
		cmocka_unit_test(figures_of_a_connection_add_up),
		cmocka_unit_test(impossible_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
