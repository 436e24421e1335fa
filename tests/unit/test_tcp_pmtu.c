/* test_tcp_pmtu.c - path MTU discovery: RFC 1191, 8201, 4821, 5927 */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/net.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MSS = 1460, OVERHEAD = 40, SECOND = 1000000 };

static const struct ip_addr local = {4, {192, 0, 2, 1}}, peer = {4, {192, 0, 2, 2}};

static void with_sack(struct tcp_config *c)
{
	c->sack = true;
	c->send_limit = 200000;
}

static void without_detection(struct tcp_config *c)
{
	with_sack(c);
	c->blackhole_detection = false;
}

/* With n segments of 1,460 bytes in flight. */
static struct script *in_flight(void (*configure)(struct tcp_config *c), uint32_t n)
{
	static const uint8_t syn_options[8] = {2, 4, MSS >> 8, MSS & 255, 1, 1, 4, 2};
	struct script *x = script_create(configure);

	script_listen(x);
	script_raw(x, S_SYN, 0, 0, syn_options, 8, 0);
	script_flush(x);
	script_take(x);
	script_advance(x, 10000);
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, n * MSS);
	for (uint32_t i = 0; i < n; i++)
		script_expect(x, S_ACK, 1 + i * MSS, 1, MSS);
	script_advance(x, 5000);
	return x;
}

static void too_big(struct script *x, uint32_t seq, uint32_t mtu)
{
	tcp_packet_too_big(x->tcp, &local, SCRIPT_PORT, &peer, x->peer_port, x->iss + seq, mtu);
	script_flush(x);
}

static void expect_pieces(struct script *x, uint32_t from, uint32_t to, uint32_t size)
{
	for (uint32_t seq = from; seq < to; seq += size)
		script_expect(x, S_ACK, seq, 1, to - seq < size ? to - seq : size);
}

static void all_in_flight_goes_out_again_at_once_in_smaller_segments(void **state)
{
	struct script *x = in_flight(with_sack, 5);
	uint32_t cwnd = script_tcb(x)->cwnd, rto = script_tcb(x)->rto_us;

	too_big(x, 1, 1000);
	expect_pieces(x, 1, 1 + 5 * MSS, 1000 - OVERHEAD);
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_too_big_taken), 1);
	/* no congestion reaction */
	assert_int_equal(script_tcb(x)->cwnd, cwnd);
	assert_int_equal(script_tcb(x)->ssthresh, UINT32_MAX);
	assert_int_equal(script_tcb(x)->rto_us, rto);
	assert_int_equal(script_tcb(x)->flags & (F_RECOVERY | F_LOSS), 0);
	script_advance(x, 10000);
	script_in(x, S_ACK, 1, 1 + 5 * MSS, 0);
	assert_int_equal(stream_unacked(x->stream), 0);
	script_destroy(x);
}

static void what_was_sacked_does_not_go_out_again(void **state)
{
	struct script *x = in_flight(with_sack, 3);
	uint8_t options[OPTIONS_MAX_BYTES];
	struct range last = {x->iss + 1 + 2 * MSS, x->iss + 1 + 3 * MSS};
	size_t n = options_write_sack(options, &last, 1);

	script_raw(x, S_ACK, 1, 1, options, (unsigned)n, 0);
	too_big(x, 1, 1000);
	expect_pieces(x, 1, 1 + 2 * MSS, 1000 - OVERHEAD);
	script_expect_nothing(x);
	script_destroy(x);
}

static void pieces_that_arrive_out_of_order_afterwards_are_no_loss(void **state)
{
	struct script *x = in_flight(with_sack, 5);
	uint8_t options[OPTIONS_MAX_BYTES];
	struct range some = {x->iss + 1 + 960, x->iss + 1 + 2 * 960};
	size_t n = options_write_sack(options, &some, 1);
	uint32_t cwnd = script_tcb(x)->cwnd;

	too_big(x, 1, 1000);
	x->taken = x->n_out;
	script_advance(x, 10000);
	script_raw(x, S_ACK, 1, 1, options, (unsigned)n, 0);
	script_flush(x);
	script_in(x, S_ACK, 1, 1 + 5 * MSS, 0);
	assert_int_equal(script_count(x, tcp_fast_retransmits), 0);
	assert_true(script_tcb(x)->cwnd >= cwnd);
	script_destroy(x);
}

static void one_burst_of_messages_counts_once(void **state)
{
	struct script *x = in_flight(with_sack, 5);

	for (uint32_t i = 0; i < 5; i++)
		too_big(x, 1 + i * MSS, 1000);
	assert_int_equal(script_count(x, tcp_too_big_taken), 1);
	assert_int_equal(script_count(x, tcp_too_big_ignored), 4);
	expect_pieces(x, 1, 1 + 5 * MSS, 1000 - OVERHEAD);
	script_expect_nothing(x);
	/* A narrower link further on */
	too_big(x, 1, 600);
	expect_pieces(x, 1, 1 + 5 * MSS, 600 - OVERHEAD);
	script_destroy(x);
}

static void message_about_nothing_in_flight_is_ignored(void **state)
{
	struct script *x = in_flight(with_sack, 2);

	script_in(x, S_ACK, 1, 1 + MSS, 0);
	too_big(x, 1, 1000);           /* acknowledged */
	too_big(x, 1 + 2 * MSS, 1000); /* never sent */
	too_big(x, 1u << 31, 1000);
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_too_big_ignored), 3);
	assert_int_equal(script_tcb(x)->mss, MSS);
	x->peer_port++; /* of no flow at all */
	too_big(x, 1 + MSS, 1000);
	assert_int_equal(script_count(x, tcp_too_big_ignored), 4);
	x->peer_port--;
	script_destroy(x);
}

static void message_cannot_raise_the_size_nor_sink_it_below_the_floor(void **state)
{
	struct script *x = in_flight(with_sack, 1);

	too_big(x, 1, 1500);
	too_big(x, 1, 9000);
	assert_int_equal(script_tcb(x)->mss, MSS);
	too_big(x, 1, 1);
	assert_int_equal(script_tcb(x)->mss, 308 - OVERHEAD);
	too_big(x, 1, 68);
	assert_int_equal(script_count(x, tcp_too_big_taken), 1);
	script_destroy(x);
}

static void router_that_names_no_mtu_leads_down_the_plateaus(void **state)
{
	static const uint16_t steps[] = {1492, 1006, 576, 308};
	struct script *x = in_flight(with_sack, 1);

	for (unsigned i = 0; i < 4; i++) {
		too_big(x, 1, 0);
		assert_int_equal(script_tcb(x)->mss, steps[i] - OVERHEAD);
	}
	too_big(x, 1, 0);
	assert_int_equal(script_count(x, tcp_too_big_ignored), 1);
	script_destroy(x);
}

static void message_about_a_connection_that_is_over_is_ignored(void **state)
{
	struct script *x = script_create(NULL);

	script_reach(x, TCP_TIME_WAIT);
	too_big(x, 1, 1000);
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_too_big_ignored), 1);
	assert_int_equal(script_state(x), TCP_TIME_WAIT);
	script_destroy(x);
}

static void handshake_is_not_disturbed(void **state)
{
	struct script *x = script_create(with_sack);

	script_connect(x);
	script_expect(x, S_SYN, 0, 0, 0);
	too_big(x, 0, 1000);
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_too_big_ignored), 1);
	script_destroy(x);
}

static uint32_t size_after_timeouts(struct script *x, unsigned n)
{
	while (script_count(x, tcp_timeouts) < n)
		script_advance(x, 100000);
	return script_tcb(x)->mss;
}

static void timeouts_in_a_row_lower_the_size_step_by_step(void **state)
{
	struct script *x = in_flight(with_sack, 2);

	assert_int_equal(size_after_timeouts(x, 2), MSS);
	assert_int_equal(size_after_timeouts(x, 3), 1280 - OVERHEAD);
	const struct script_segment *o = NULL;
	for (const struct script_segment *next; (next = script_take(x)) != NULL;)
		o = next;
	assert_int_equal(o->bytes, 1280 - OVERHEAD);
	assert_int_equal(size_after_timeouts(x, 4), 1280 - OVERHEAD);
	assert_int_equal(size_after_timeouts(x, 5), 576 - OVERHEAD);
	assert_int_equal(size_after_timeouts(x, 9), 576 - OVERHEAD);
	assert_int_equal(script_count(x, tcp_blackholes), 2);
	script_destroy(x);
}

static void timeouts_of_small_segments_say_nothing_about_the_size(void **state)
{
	struct script *x = script_create(with_sack);

	script_establish(x);
	script_write(x, 100);
	uint16_t mss = script_tcb(x)->mss;
	assert_int_equal(size_after_timeouts(x, 6), mss);
	assert_int_equal(script_count(x, tcp_blackholes), 0);
	script_destroy(x);
}

static void detection_can_be_switched_off(void **state)
{
	struct script *x = in_flight(without_detection, 2);

	assert_int_equal(size_after_timeouts(x, 6), MSS);
	script_destroy(x);
}

/* A transfer over IPv6. */
struct transfer {
	size_t largest, sent, received;
	uint32_t to_write;
};

static bool note_size(void *arg, unsigned from, uint8_t *ip, size_t bytes)
{
	struct transfer *f = arg;

	if (bytes > f->largest)
		f->largest = bytes;
	return true;
}

static void pump(struct stream *s, void *user)
{
	static const uint8_t data[4096];
	struct transfer *f = user;
	size_t n;

	do {
		n = f->to_write < sizeof(data) ? f->to_write : sizeof(data);
		n = stream_write(s, data, n, 0);
		f->to_write -= (uint32_t)n;
	} while (n > 0);
}

static void ignore(struct stream *s, void *user)
{
}

static void take(struct stream *s, void *user)
{
	((struct transfer *)user)->received += stream_readable(s);
	stream_consume(s, stream_readable(s));
}

static void ended(struct stream *s, void *user, enum stream_end why)
{
	fail_msg("connection lost");
}

static const struct stream_events client = {pump, take, pump, ended};
static const struct stream_events server = {ignore, take, ignore, ended};

static void ipv6_packets_never_shrink_below_1280(void **state)
{
	struct transfer f = {.to_write = 100000};
	struct net_options o;
	int err;

	net_options_default(&o);
	o.ip6 = true;
	o.conditions.path_mtu = 1400;
	struct net *n = net_create(&o);
	struct ip_addr from = net_addr(n, 0), to = net_addr(n, 1);
	tcp_listen(net_tcp(n, 1), &(struct tcp_listen){.port = 25, .events = &server, .user = &f});
	struct stream *s = stream_connect(net_tcp(n, 0), &from, &to, 25, &client, &f, &err);
	net_run(n, SECOND / 1000);
	assert_true(stream_unacked(s) > 0);
	tcp_packet_too_big(net_tcp(n, 0), &from, s->key.local_port, &to, 25, s->snd_una, 600);
	net_set_filter(n, note_size, &f);
	net_run(n, 10 * SECOND);
	assert_int_equal(f.received, 100000);
	assert_int_equal(f.largest, 1280);
	net_destroy(n);
}

/* Lowered to 960 bytes, all acknowledged, nothing to send; snd_una is at `una`. */
static struct script *lowered(uint32_t *una)
{
	struct script *x = in_flight(with_sack, 5);

	too_big(x, 1, 1000);
	*una = 1 + 5 * MSS;
	script_advance(x, 10000);
	script_in(x, S_ACK, 1, *una, 0);
	script_take_all(x);
	return x;
}

static void after_ten_minutes_one_segment_tries_the_former_size(void **state)
{
	uint32_t una;
	struct script *x = lowered(&una);

	script_advance(x, 590ull * SECOND);
	script_write(x, 5 * 960);
	expect_pieces(x, una, una + 5 * 960, 960);
	una += 5 * 960;
	script_advance(x, 10000);
	script_in(x, S_ACK, 1, una, 0);
	script_advance(x, 15ull * SECOND);
	script_write(x, MSS + 2 * 960);
	script_expect(x, S_ACK, una, 1, MSS);
	expect_pieces(x, una + MSS, una + MSS + 2 * 960, 960);
	una += MSS + 2 * 960;
	script_advance(x, 10000);
	script_in(x, S_ACK, 1, una, 0);
	assert_int_equal(script_count(x, tcp_mss_raised), 1);
	script_write(x, 3 * MSS);
	expect_pieces(x, una, una + 3 * MSS, MSS);
	script_destroy(x);
}

static void the_try_leaves_no_room_for_blocks(void **state)
{
	uint32_t una;
	struct script *x = lowered(&una);

	script_advance(x, 601ull * SECOND);
	script_in(x, S_ACK, 101, una, 100); /* beyond a hole: there is something to report */
	script_take_all(x);
	script_write(x, MSS);
	script_expect(x, S_ACK, una, 1, MSS);
	assert_int_equal(x->out[x->n_out - 1].option_bytes, 0);
	script_destroy(x);
}

static void try_that_is_lost_goes_again_in_pieces_and_waits_as_long(void **state)
{
	uint32_t una;
	struct script *x = lowered(&una);

	script_advance(x, 601ull * SECOND);
	script_write(x, MSS);
	script_expect(x, S_ACK, una, 1, MSS);
	script_advance(x, 250000); /* the tail probe */
	script_expect(x, S_ACK, una + MSS - 960, 1, 960);
	script_advance(x, 250000); /* and the timer */
	script_expect(x, S_ACK, una, 1, 960);
	una += MSS;
	script_in(x, S_ACK, 1, una, 0);
	script_take_all(x);
	assert_int_equal(script_tcb(x)->mss, 960);
	assert_int_equal(script_count(x, tcp_mss_raised), 0);
	script_advance(x, 500ull * SECOND);
	script_write(x, 2 * 960);
	expect_pieces(x, una, una + 2 * 960, 960);
	una += 2 * 960;
	script_in(x, S_ACK, 1, una, 0);
	script_advance(x, 110ull * SECOND);
	script_write(x, MSS);
	script_expect(x, S_ACK, una, 1, MSS);
	script_destroy(x);
}

static void try_that_a_router_refuses_goes_again_at_once(void **state)
{
	uint32_t una;
	struct script *x = lowered(&una);

	script_advance(x, 601ull * SECOND);
	script_write(x, MSS);
	script_expect(x, S_ACK, una, 1, MSS);
	too_big(x, una, 1000);
	expect_pieces(x, una, una + MSS, 960);
	assert_int_equal(script_count(x, tcp_too_big_taken), 2);
	assert_int_equal(script_tcb(x)->mss, 960);
	script_destroy(x);
}

static void tries_of_streams_that_have_gone_are_forgotten(void **state)
{
	uint32_t una;
	struct script *x = lowered(&una);

	stream_abort(x->stream);
	script_flush(x);
	script_advance(x, 601ull * SECOND);
	assert_true(timer_next(x->shard.timers) == UINT64_MAX);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_ten_minutes_one_segment_tries_the_former_size),
		cmocka_unit_test(the_try_leaves_no_room_for_blocks),
		cmocka_unit_test(try_that_is_lost_goes_again_in_pieces_and_waits_as_long),
		cmocka_unit_test(try_that_a_router_refuses_goes_again_at_once),
		cmocka_unit_test(tries_of_streams_that_have_gone_are_forgotten),
		cmocka_unit_test(all_in_flight_goes_out_again_at_once_in_smaller_segments),
		cmocka_unit_test(what_was_sacked_does_not_go_out_again),
		cmocka_unit_test(pieces_that_arrive_out_of_order_afterwards_are_no_loss),
		cmocka_unit_test(one_burst_of_messages_counts_once),
		cmocka_unit_test(message_about_nothing_in_flight_is_ignored),
		cmocka_unit_test(message_cannot_raise_the_size_nor_sink_it_below_the_floor),
		cmocka_unit_test(router_that_names_no_mtu_leads_down_the_plateaus),
		cmocka_unit_test(message_about_a_connection_that_is_over_is_ignored),
		cmocka_unit_test(handshake_is_not_disturbed),
		cmocka_unit_test(timeouts_in_a_row_lower_the_size_step_by_step),
		cmocka_unit_test(timeouts_of_small_segments_say_nothing_about_the_size),
		cmocka_unit_test(detection_can_be_switched_off),
		cmocka_unit_test(ipv6_packets_never_shrink_below_1280),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
