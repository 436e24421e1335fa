/* test_tcp_handshake.c - how connections begin: options, bounds, numbers, refusals */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/net.h"
#include "tests/sim/script.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void with_everything(struct tcp_config *c)
{
	c->timestamps = c->window_scaling = true;
}

static void with_backlog_of_3(struct tcp_config *c)
{
	c->syn_backlog = 3;
	c->syn_cookies = TCP_COOKIES_NEVER;
}

static void with_two_streams(struct tcp_config *c)
{
	c->max_streams = 2;
}

static struct tcp_options options_of(const struct script_segment *o)
{
	struct tcp_options options;

	assert_true(options_parse(&options, o->options, o->option_bytes));
	return options;
}

static void syn_offers_mss_scale_and_timestamps(void **state)
{
	struct script *x = script_create(with_everything);

	script_connect(x);
	struct tcp_options o = options_of(script_take(x));
	assert_int_equal(o.mss, 1460);
	assert_true(o.has_scale && o.has_timestamp);
	assert_int_equal(o.ts_echo, 0);
	assert_int_equal(o.scale, 4); /* 1,000 KiB / 65,535 */
	script_destroy(x);
}

static void syn_ack_answers_only_what_was_offered(void **state)
{
	static const uint8_t mss[4] = {2, 4, 5, 0xb4};
	static const uint8_t scale[8] = {2, 4, 5, 0xb4, 1, 3, 3, 2};
	static const uint8_t stamps[16] = {2, 4, 5, 0xb4, 1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0};
	static const struct {
		const uint8_t *bytes;
		unsigned n;
		bool scale, stamps;
	} cases[] = {{mss, 4, false, false}, {scale, 8, true, false}, {stamps, 16, false, true}};

	for (unsigned i = 0; i < 3; i++) {
		struct script *x = script_create(with_everything);

		script_listen(x);
		script_raw(x, S_SYN, 0, 0, cases[i].bytes, cases[i].n, 0);
		script_flush(x);
		struct tcp_options o = options_of(script_take(x));
		assert_int_equal(o.has_scale, cases[i].scale);
		assert_int_equal(o.has_timestamp, cases[i].stamps);
		assert_int_equal(o.ts_echo, cases[i].stamps ? 9 : 0);
		script_destroy(x);
	}
}

static void window_of_a_syn_is_never_scaled(void **state)
{
	static const uint8_t scale[8] = {2, 4, 5, 0xb4, 1, 3, 3, 7};
	struct script *x = script_create(with_everything);

	x->window = 1000;
	script_listen(x);
	script_raw(x, S_SYN, 0, 0, scale, 8, 0);
	script_flush(x);
	assert_int_equal(script_take(x)->window, 16384);
	assert_int_equal(x->tcp->syn_cache.entries[0].window, 1000);
	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_tcb(x)->snd_wnd, 1000 << 7);
	script_destroy(x);
}

static void syn_ack_of_a_simultaneous_open_is_not_scaled_either(void **state)
{
	static const uint8_t scale[8] = {2, 4, 5, 0xb4, 1, 3, 3, 7};
	struct script *x = script_create(with_everything);

	script_connect(x);
	script_raw(x, S_SYN, 0, 0, scale, 8, 0);
	script_flush(x);
	x->window = 1000;
	script_raw(x, S_SYN | S_ACK, 0, 1, scale, 8, 0);
	assert_int_equal(script_tcb(x)->snd_wnd, 1000);
	script_flush(x);
	script_destroy(x);
}

static void without_an_mss_option_536_is_assumed(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_write(x, 1000);
	script_expect(x, S_ACK, 1, 1, 536);
	script_expect(x, S_ACK, 537, 1, 464);
	script_destroy(x);
}

static void large_mss_of_the_peer_is_cut_to_our_mtu(void **state)
{
	static const uint8_t mss[4] = {2, 4, 0xff, 0xff};
	struct script *x = script_create(NULL);

	script_listen(x);
	script_raw(x, S_SYN, 0, 0, mss, 4, 0);
	script_flush(x);
	script_take(x);
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 3000);
	script_expect(x, S_ACK, 1, 1, 1460);
	script_destroy(x);
}

static void backlog_bounds_half_open_connections_and_frees_with_them(void **state)
{
	struct script *x = script_create(with_backlog_of_3);

	script_listen(x);
	for (unsigned i = 0; i < 5; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		script_in(x, S_SYN, 0, 0, 0);
	}
	assert_int_equal(x->tcp->syn_cache.used, 3);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	assert_int_equal(script_count(x, tcp_syn_backlog_full), 2);
	x->peer_port = SCRIPT_PEER_PORT;
	script_in(x, S_RST, 1, 0, 0); /* one leaves */
	x->peer_port = SCRIPT_PEER_PORT + 4;
	script_in(x, S_SYN, 0, 0, 0);
	assert_int_equal(script_state(x), TCP_SYN_RCVD);
	script_destroy(x);
}

static void established_connections_do_not_count_against_the_backlog(void **state)
{
	struct script *x = script_create(with_backlog_of_3);

	script_listen(x);
	for (unsigned i = 0; i < 10; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_take(x);
		script_in(x, S_ACK, 1, 1, 0);
		assert_int_equal(script_state(x), TCP_ESTABLISHED);
	}
	script_destroy(x);
}

static void syn_beyond_all_streams_is_dropped_and_counted(void **state)
{
	struct script *x = script_create(with_two_streams);

	script_listen(x);
	for (unsigned i = 0; i < 3; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_in(x, S_ACK, 1, 1, 0);
	}
	assert_int_equal(script_count(x, tcp_streams_full), 1);
	assert_int_equal(script_count(x, tcp_accepted), 2);
	script_destroy(x);
}

static void handshake_that_ends_when_all_streams_are_in_use_is_reset(void **state)
{
	struct script *x = script_create(with_two_streams);
	uint32_t iss[3];

	script_listen(x);
	for (unsigned i = 0; i < 3; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		iss[i] = x->iss;
	}
	script_take_all(x);
	for (unsigned i = 0; i < 3; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss = iss[i];
		script_in(x, S_ACK, 1, 1, 0);
	}
	assert_int_equal(x->verdict, TCP_REFUSED);
	script_expect(x, S_RST, 1, 0, 0);
	assert_int_equal(script_state(x), TCP_CLOSED);
	assert_int_equal(script_count(x, tcp_accepted), 2);
	assert_int_equal(x->tcp->syn_cache.used, 0);
	script_destroy(x);
}

static void half_open_connections_wait_for_their_own_retransmissions(void **state)
{
	struct script *x = script_create(NULL);

	script_listen(x);
	for (unsigned i = 0; i < 3; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_advance(x, 100000);
	}
	assert_int_equal(script_take_all(x), 3);
	x->peer_port = SCRIPT_PEER_PORT + 1;
	script_in(x, S_RST, 1, 0, 0);
	script_advance(x, 700000); /* the first is a second old */
	assert_int_equal(script_take_all(x), 1);
	script_advance(x, 200000); /* the third */
	assert_int_equal(script_take_all(x), 1);
	script_advance(x, 1800000); /* two seconds after its second: the first */
	assert_int_equal(script_take_all(x), 1);
	script_advance(x, 61000000);
	assert_int_equal(x->tcp->syn_cache.used, 0);
	assert_int_equal(script_count(x, tcp_gave_up), 2);
	assert_int_equal(script_take_all(x), 2 * 5 - 3);
	script_destroy(x);
}

static void syn_ack_without_a_packet_buffer_goes_soon(void **state)
{
	struct script *x = script_create(NULL);

	script_listen(x);
	x->no_buffers = true;
	script_in(x, S_SYN, 0, 0, 0);
	script_expect_nothing(x);
	x->no_buffers = false;
	script_advance(x, 10000);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_state(x), TCP_ESTABLISHED);
	script_destroy(x);
}

static bool admit_nobody(void *user, const struct ip_addr *peer)
{
	return false;
}

static void syn_that_is_not_admitted_is_dropped_without_a_word(void **state)
{
	struct script *x = script_create(NULL);

	x->admit = admit_nobody;
	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_syn_refused), 1);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_destroy(x);
}

static void drain_refuses_new_connections_and_keeps_the_old(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	tcp_stop_listening(x->tcp);
	script_in(x, S_ACK, 1, 1, 10);
	assert_int_equal(x->received, 10);
	x->peer_port++;
	script_in(x, S_SYN, 0, 0, 0);
	assert_int_equal(script_take(x)->flags, S_RST | S_ACK);
	assert_int_equal(script_state(x), TCP_CLOSED);
	script_destroy(x);
}

static void two_listeners_on_one_address_and_port_are_refused(void **state)
{
	struct script *x = script_create(NULL);
	struct tcp_listen l = {.port = SCRIPT_PORT};

	script_listen(x);
	assert_int_equal(tcp_listen(x->tcp, &l), -EADDRINUSE);
	l.local = (struct ip_addr){4, {192, 0, 2, 1}};
	assert_int_equal(tcp_listen(x->tcp, &l), 0);
	script_destroy(x);
}

static void initial_numbers_grow_with_time_and_differ_by_peer(void **state)
{
	struct script *x = script_create(NULL);
	uint32_t first, later, other;

	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	first = x->iss;
	script_in(x, S_RST, 1, 0, 0);
	script_advance(x, 4000);
	x->iss_known = false;
	script_in(x, S_SYN, 0, 0, 0);
	later = x->iss;
	assert_int_equal(later - first, 1000); /* 4 us a step, RFC 6528 */
	x->peer_port++;
	x->iss_known = false;
	script_in(x, S_SYN, 0, 0, 0);
	other = x->iss;
	assert_true(other - later > 1000000 && later - other > 1000000);
	script_destroy(x);
}

static void unreachable_ends_a_connect_and_no_established_stream(void **state)
{
	const struct ip_addr us = {4, {192, 0, 2, 1}}, them = {4, {192, 0, 2, 2}};
	struct script *x = script_create(NULL);

	script_connect(x);
	tcp_unreachable(x->tcp, &us, SCRIPT_PORT, &them, SCRIPT_PEER_PORT);
	script_flush(x);
	assert_string_equal(x->log, "closed:unreachable");
	x->log[0] = '\0';
	x->taken = x->n_out;
	x->iss_known = false;
	script_establish_active(x);
	tcp_unreachable(x->tcp, &us, SCRIPT_PORT, &them, SCRIPT_PEER_PORT);
	script_flush(x);
	assert_int_equal(script_state(x), TCP_ESTABLISHED);
	script_destroy(x);
}

static const struct stream_events no_events;

static bool owns_one_port(void *arg, const struct ip_addr *local, uint16_t local_port,
			  const struct ip_addr *peer, uint16_t peer_port)
{
	return local_port == 50001;
}

static void connect_takes_only_ports_that_steer_back_to_this_worker(void **state)
{
	const struct ip_addr us = {4, {192, 0, 2, 1}}, them = {4, {192, 0, 2, 2}};
	struct script *x = script_create(NULL);
	struct ip_addr a;
	uint16_t port;
	int err = 0;

	x->tcp->env.owns_flow = owns_one_port;
	struct stream *s = stream_connect(x->tcp, &us, &them, 25, &no_events, NULL, &err);
	assert_non_null(s);
	stream_local(s, &a, &port);
	assert_int_equal(port, 50001);
	assert_null(stream_connect(x->tcp, &us, &them, 25, &no_events, NULL, &err));
	assert_int_equal(err, -EADDRNOTAVAIL);
	/* Another next hop has its own ports. */
	assert_non_null(stream_connect(x->tcp, &us, &them, 26, &no_events, NULL, &err));
	script_destroy(x);
}

static void configuration_out_of_range_is_refused(void **state)
{
	struct script *x = script_create(NULL);
	struct tcp_config good, bad;

	tcp_config_default(&good);
	bad = good;
	bad.mtu = 100;
	assert_null(tcp_create(&x->shard, &x->tcp->env, &bad));
	bad = good;
	bad.receive_scale = 15;
	assert_null(tcp_create(&x->shard, &x->tcp->env, &bad));
	bad = good;
	bad.max_streams = 0;
	assert_null(tcp_create(&x->shard, &x->tcp->env, &bad));
	script_destroy(x);
}

/* The flow labels of host 0's packets, by source port. */
struct labels {
	struct net *net;
	uint32_t label[65536]; /* + 1; 0: none seen */
	unsigned flows, changes, secrets;
};

static bool note_label(void *arg, unsigned from, uint8_t *ip, size_t bytes)
{
	struct labels *l = arg;
	uint32_t label = wire_get32(ip) & 0xfffff;
	uint16_t port = wire_get16(ip + WIRE_IP6_BYTES);
	struct flow_key key = {.peer_port = 25, .local_port = port};

	if (from != 0)
		return true;
	memcpy(key.local, ip + 8, 16);
	memcpy(key.peer, ip + 24, 16);
	l->secrets += (flow_hash(&net_tcp(l->net, 0)->flows, &key) & 0xfffff) == label;
	l->flows += l->label[port] == 0;
	l->changes += l->label[port] != 0 && l->label[port] != label + 1;
	l->label[port] = label + 1;
	return true;
}

static void ignore(struct stream *s, void *user)
{
}

static void ignore_end(struct stream *s, void *user, enum stream_end why)
{
}

static const struct stream_events quiet = {ignore, ignore, ignore, ignore_end};

static void flow_label_is_stable_and_gives_the_hash_of_the_table_not_away(void **state)
{
	struct labels *l = calloc(1, sizeof(*l));
	struct net_options o;
	int err;

	net_options_default(&o);
	o.ip6 = true;
	l->net = net_create(&o);
	net_set_filter(l->net, note_label, l);
	struct ip_addr from = net_addr(l->net, 0), to = net_addr(l->net, 1);
	tcp_listen(net_tcp(l->net, 1), &(struct tcp_listen){.port = 25, .events = &quiet});
	for (unsigned i = 0; i < 20; i++) {
		struct stream *s =
			stream_connect(net_tcp(l->net, 0), &from, &to, 25, &quiet, NULL, &err);
		net_run(l->net, 10000);
		stream_write(s, "x", 1, 0);
		net_run(l->net, 10000);
		stream_abort(s); /* by RST, no stream any more on the other side */
		net_run(l->net, 10000);
	}
	assert_int_equal(l->flows, 20);
	assert_int_equal(l->changes, 0);
	assert_in_range(l->secrets, 0, 1); /* by chance, one in a million */
	net_destroy(l->net);
	free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(syn_offers_mss_scale_and_timestamps),
		cmocka_unit_test(syn_ack_answers_only_what_was_offered),
		cmocka_unit_test(window_of_a_syn_is_never_scaled),
		cmocka_unit_test(syn_ack_of_a_simultaneous_open_is_not_scaled_either),
		cmocka_unit_test(without_an_mss_option_536_is_assumed),
		cmocka_unit_test(large_mss_of_the_peer_is_cut_to_our_mtu),
		cmocka_unit_test(backlog_bounds_half_open_connections_and_frees_with_them),
		cmocka_unit_test(established_connections_do_not_count_against_the_backlog),
		cmocka_unit_test(syn_beyond_all_streams_is_dropped_and_counted),
		cmocka_unit_test(handshake_that_ends_when_all_streams_are_in_use_is_reset),
		cmocka_unit_test(half_open_connections_wait_for_their_own_retransmissions),
		cmocka_unit_test(syn_ack_without_a_packet_buffer_goes_soon),
		cmocka_unit_test(syn_that_is_not_admitted_is_dropped_without_a_word),
		cmocka_unit_test(drain_refuses_new_connections_and_keeps_the_old),
		cmocka_unit_test(two_listeners_on_one_address_and_port_are_refused),
		cmocka_unit_test(initial_numbers_grow_with_time_and_differ_by_peer),
		cmocka_unit_test(unreachable_ends_a_connect_and_no_established_stream),
		cmocka_unit_test(connect_takes_only_ports_that_steer_back_to_this_worker),
		cmocka_unit_test(configuration_out_of_range_is_refused),
		cmocka_unit_test(flow_label_is_stable_and_gives_the_hash_of_the_table_not_away),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
