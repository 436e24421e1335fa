/* test_tcp_embed.c - the stack as a stranger meets it: loaded at run time, nothing but
 * tcp_embed.h known */
#include "tests/unit/embed_world.h"

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

static void addresses_are_bound_once_and_chosen_where_left_open(void **state)
{
	struct world *w = begin(4, NULL);
	struct tcpe_addr any = {.family = 4, .port = 25},
			 other = {.family = 4, .ip = {192, 0, 2, 9}};
	struct tcpe_addr six = {.family = 6}, a;
	struct tcpe_sock *first = w->c.socket(w->st[1], 4), *second = w->c.socket(w->st[1], 4);

	assert_null(w->c.socket(w->st[1], 5));
	assert_int_equal(w->c.bind(first, &six), -EAFNOSUPPORT);
	assert_int_equal(w->c.bind(first, &other), -EADDRNOTAVAIL);
	assert_int_equal(w->c.bind(first, &any), 0);
	assert_int_equal(w->c.bind(first, &any), -EINVAL);
	assert_int_equal(w->c.bind(second, &w->addr[1]), -EADDRINUSE);
	any.port = 0;
	assert_int_equal(w->c.bind(second, &any), 0);
	assert_int_equal(w->c.local_addr(second, &a), 0);
	assert_true(a.port >= 32768);
	assert_int_equal(w->c.peer_addr(second, &a), -ENOTCONN);
	assert_int_equal(w->c.send(second, "x", 1, 0), -ENOTCONN);
	assert_int_equal(w->c.recv(second, &a, 1, 0), -ENOTCONN);
	assert_int_equal(w->c.shutdown(second, TCPE_SHUT_WR), -ENOTCONN);
	assert_int_equal(w->c.ready(second), 0);
	assert_int_equal(w->c.close(first), 0);
	assert_int_equal(w->c.close(second), 0);
	end(w);
}

static void a_listener_on_any_address_answers_and_both_ends_know_their_names(void **state)
{
	struct world *w = begin(6, NULL);
	struct tcpe_addr any = {.family = 6, .port = 80}, a, b;
	struct tcpe_sock *l = w->c.socket(w->st[1], 6), *c = w->c.socket(w->st[0], 6);
	int err;

	w->c.bind(l, &any);
	assert_int_equal(w->c.listen(l, 1), 0);
	w->addr[1].port = 80;
	assert_int_equal(w->c.connect(c, &w->addr[1]), -EINPROGRESS);
	pass(w, 50000);
	struct tcpe_sock *s = w->c.accept(l, &err);
	assert_non_null(s);
	w->c.peer_addr(s, &a);
	w->c.local_addr(c, &b);
	assert_memory_equal(&a, &b, sizeof(a));
	w->c.local_addr(s, &a);
	w->c.peer_addr(c, &b);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(w->c.lookup_state(w->st[1], &a, &w->addr[0]), TCPE_CLOSED);
	w->c.local_addr(c, &b);
	assert_int_equal(w->c.lookup_state(w->st[1], &a, &b), TCPE_ESTABLISHED);
	w->c.close(c);
	pass(w, 50000);
	assert_int_equal(w->c.lookup_state(w->st[0], &b, &a), TCPE_FIN_WAIT_2);
	end(w);
}

static void options_out_of_range_are_refused(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);
	int64_t v;

	assert_int_equal(w->c.setopt(e.client, TCPE_CORK, 2), -EINVAL);
	assert_int_equal(w->c.setopt(e.client, TCPE_MAXSEG, 10), -EINVAL);
	assert_int_equal(w->c.setopt(e.client, TCPE_KEEPIDLE_S, 0), -EINVAL);
	assert_int_equal(w->c.setopt(e.client, TCPE_INQ, 1), -ENOPROTOOPT);
	assert_int_equal(w->c.setopt(e.client, (enum tcpe_opt)99, 1), -ENOPROTOOPT);
	assert_int_equal(w->c.getopt(e.client, (enum tcpe_opt)99, &v), -ENOPROTOOPT);
	w->c.getopt(e.client, TCPE_MAXSEG, &v);
	assert_int_equal(v, 1448);
	w->c.getopt(e.client, TCPE_LINGER, &v);
	assert_int_equal(v, -1);
	end(w);
}

static void a_reader_who_drains_fast_is_given_a_larger_window(void **state)
{
	struct world *w = begin(4, NULL);
	struct ends e = meet(w);
	uint8_t data[65536] = {0};
	int64_t before, after;

	w->c.getopt(e.server, TCPE_RCVBUF, &before);
	for (unsigned i = 0; i < 30; i++) {
		while (w->c.send(e.client, data, sizeof(data), 0) > 0)
			continue;
		pass(w, 10000);
		while (w->c.recv(e.server, data, sizeof(data), 0) > 0)
			continue;
	}
	w->c.getopt(e.server, TCPE_RCVBUF, &after);
	assert_true(after > before);
	w->c.setopt(e.server, TCPE_RCVBUF, 50000); /* by hand: no more tuning */
	w->c.getopt(e.server, TCPE_RCVBUF, &after);
	assert_int_equal(after, 50000);
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
		cmocka_unit_test(addresses_are_bound_once_and_chosen_where_left_open),
		cmocka_unit_test(a_listener_on_any_address_answers_and_both_ends_know_their_names),
		cmocka_unit_test(options_out_of_range_are_refused),
		cmocka_unit_test(a_reader_who_drains_fast_is_given_a_larger_window),
		cmocka_unit_test(impossible_configurations_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
