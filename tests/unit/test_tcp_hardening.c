/* test_tcp_hardening.c - what a hostile or broken peer sends (RFC 5961, RFC 7323 section 5, known
 * CVE classes) */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void with_timestamps(struct tcp_config *c)
{
	c->timestamps = true;
}

static void with_few_challenges(struct tcp_config *c)
{
	c->challenge_acks_per_s = 4;
}

/* Timestamps negotiated; the peer's value is 700. */
static struct script *established_with_timestamps(void)
{
	struct script *x = script_create(with_timestamps);

	x->timestamps = true;
	script_establish(x);
	return x;
}

static void rst_is_obeyed_only_at_exactly_the_next_number(void **state)
{
	static const struct {
		uint32_t seq;
		bool dies, answered;
	} cases[] = {
		{1, true, false},     {0, false, false},     {2, false, true},
		{16384, false, true}, {16385, false, false}, {0x80000001, false, false},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script *x = script_create(NULL);

		script_establish(x);
		script_in(x, S_RST, cases[i].seq, 0, 0);
		assert_int_equal(script_state(x) == TCP_CLOSED, cases[i].dies);
		assert_int_equal(script_pending(x), cases[i].answered);
		script_destroy(x);
	}
}

static void rst_challenge_of_a_rebooted_peer_leads_to_the_exact_rst(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_in(x, S_SYN, 77777, 0, 0); /* the peer has forgotten us */
	script_expect(x, S_ACK, 1, 1, 0);
	script_in(x, S_RST, 1, 0, 0);
	assert_string_equal(x->log, "closed:reset");
	script_destroy(x);
}

static void challenge_acks_are_limited_a_second_over_all_streams(void **state)
{
	struct script *x = script_create(with_few_challenges);
	unsigned sent = 0;

	script_listen(x);
	for (unsigned i = 0; i < 20; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_take(x);
		script_in(x, S_ACK, 1, 1, 0);
		script_in(x, S_RST, 100, 0, 0);
		while (script_take(x) != NULL)
			sent++;
	}
	assert_in_range(sent, 1, 4);
	assert_int_equal(script_count(x, tcp_challenge_limited), 20 - sent);
	script_destroy(x);
}

static void two_ends_that_reject_each_other_fall_silent(void **state)
{
	struct script *x = script_create(NULL);
	unsigned sent = 0;

	script_establish(x);
	for (unsigned i = 0; i < 100; i++) {
		script_in(x, S_ACK, 70000, 1, 0);
		while (script_take(x) != NULL)
			sent++;
	}
	assert_int_equal(sent, 1);
	script_advance(x, 600000);
	script_in(x, S_ACK, 70000, 1, 0);
	script_expect(x, S_ACK, 1, 1, 0);
	script_destroy(x);
}

static void ack_of_data_never_sent_changes_nothing(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_write(x, 100);
	script_expect(x, S_ACK, 1, 1, 100);
	script_in(x, S_ACK, 1, 102, 50);
	script_expect(x, S_ACK, 101, 1, 0);
	assert_int_equal(stream_unacked(x->stream), 100);
	assert_int_equal(x->received, 0);
	assert_int_equal(script_count(x, tcp_bad_ack), 1);
	script_destroy(x);
}

static void ack_older_than_the_largest_window_is_rejected_with_its_data(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_in(x, S_ACK, 1, 1 - 65536, 10);
	script_expect(x, S_ACK, 1, 1, 0);
	assert_int_equal(x->received, 0);
	script_in(x, S_ACK, 1, 0, 10); /* old, but within a window */
	assert_int_equal(x->received, 10);
	script_destroy(x);
}

static void old_timestamp_is_answered_and_dropped(void **state)
{
	struct script *x = established_with_timestamps();

	script_advance(x, 3600ull * 1000000); /* an hour later it is as old */
	x->ts_value = 699;
	script_in(x, S_ACK, 1, 1, 10);
	script_expect(x, S_ACK, 1, 1, 0);
	assert_int_equal(x->received, 0);
	assert_int_equal(script_count(x, tcp_paws_dropped), 1);
	x->ts_value = 700;
	script_in(x, S_ACK, 1, 1, 10);
	assert_int_equal(x->received, 10);
	script_destroy(x);
}

static void pure_ack_that_newer_ones_overtook_is_passed_over_in_silence(void **state)
{
	struct script *x = established_with_timestamps();

	script_write(x, 100);
	x->ts_value = 750;
	script_in(x, S_ACK, 1, 101, 0);
	x->taken = x->n_out;
	for (unsigned i = 0; i < 20; i++) {
		x->ts_value = 749 - i;
		script_in(x, S_ACK, 1, 101 - 5 * i, 0);
		script_expect_nothing(x);
	}
	assert_int_equal(script_count(x, tcp_late_acks), 20);
	assert_int_equal(script_count(x, tcp_paws_dropped), 0);
	assert_int_equal(script_count(x, tcp_challenge_acks), 0);
	assert_int_equal(script_tcb(x)->ts_recent, 750);
	script_destroy(x);
}

static void old_timestamp_is_answered_where_it_may_be_more_than_a_late_ack(void **state)
{
	static const struct {
		unsigned flags;
		uint32_t seq, ack, bytes;
	} cases[] = {
		{S_ACK, 1, 101, 1},      /* data */
		{S_ACK | S_FIN, 1, 101}, /* a FIN */
		{S_ACK, 1, 102},         /* an ACK of what was never sent */
		{S_ACK, 0, 101},         /* left of the window: a keepalive probe */
		{S_ACK, 70000, 101},     /* beyond it */
		{S_ACK, 1, 100 - 70000}, /* older than any window */
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script *x = established_with_timestamps();

		script_write(x, 100);
		x->ts_value = 750;
		script_in(x, S_ACK, 1, 101, 0);
		x->taken = x->n_out;
		x->ts_value = 749;
		script_in(x, cases[i].flags, cases[i].seq, cases[i].ack, cases[i].bytes);
		script_expect(x, S_ACK, 101, 1, 0);
		assert_int_equal(script_count(x, tcp_paws_dropped), 1);
		assert_int_equal(script_count(x, tcp_late_acks), 0);
		script_destroy(x);
	}
}

static void timestamps_compare_across_their_wrap(void **state)
{
	struct script *x = script_create(with_timestamps);

	x->timestamps = true;
	x->ts_value = 0xfffffffe;
	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	script_in(x, S_ACK, 1, 1, 0);
	x->ts_value = 3;
	script_in(x, S_ACK, 1, 1, 10);
	assert_int_equal(x->received, 10);
	x->ts_value = 0xffffffff;
	script_in(x, S_ACK, 11, 1, 10);
	assert_int_equal(x->received, 10);
	script_destroy(x);
}

static void timestamp_outdated_by_24_idle_days_is_not_held_against_the_peer(void **state)
{
	struct script *x = established_with_timestamps();

	x->tcp->config.keep_idle_s = 0;
	script_tcb(x)->due_us[DUE_IDLE] = 0;
	script_advance(x, 25ull * 24 * 3600 * 1000000);
	x->ts_value = 700 - 1000;
	script_in(x, S_ACK, 1, 1, 10);
	assert_int_equal(x->received, 10);
	script_destroy(x);
}

static void peer_that_stops_sending_timestamps_is_still_heard(void **state)
{
	struct script *x = established_with_timestamps();

	x->timestamps = false;
	script_in(x, S_ACK, 1, 1, 10);
	assert_int_equal(x->received, 10);
	script_in(x, S_FIN | S_ACK, 11, 1, 0);
	assert_string_equal(x->log, "readable eof");
	script_destroy(x);
}

static void rst_needs_no_timestamp(void **state)
{
	struct script *x = established_with_timestamps();

	x->ts_value = 1;
	script_in(x, S_RST, 1, 0, 0);
	assert_string_equal(x->log, "closed:reset");
	script_destroy(x);
}

static void echo_is_of_the_segment_that_advanced_the_ack(void **state)
{
	struct script *x = established_with_timestamps();

	x->ts_value = 800;
	script_in(x, S_ACK, 11, 1, 10); /* ahead of a hole: must not be echoed (RFC 7323 4.3) */
	assert_int_equal(script_take(x)->ts_echo, 700);
	x->ts_value = 790;
	script_in(x, S_ACK, 1, 1, 10);
	assert_int_equal(script_take(x)->ts_echo, 790);
	script_destroy(x);
}

static void bad_checksum_is_dropped_and_counted(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	x->spoil_checksum = true;
	script_in(x, S_ACK, 1, 1, 10);
	script_expect_nothing(x);
	assert_int_equal(x->verdict, TCP_BAD_CHECKSUM);
	assert_int_equal(x->received, 0);
	assert_int_equal(script_count(x, tcp_bad_checksum), 1);
	script_destroy(x);
}

static void header_length_outside_the_segment_is_malformed(void **state)
{
	struct script *x = script_create(NULL);
	uint8_t h[60] = {0, 1, 0, 25};
	struct tcp_packet p = {.source = {4, {192, 0, 2, 2}},
			       .destination = {4, {192, 0, 2, 1}},
			       .segment = h,
			       .checksum_good = true};

	for (unsigned bytes = 0; bytes <= sizeof(h); bytes++) {
		for (unsigned words = 0; words < 16; words++) {
			bool good = bytes >= 20 && words >= 5 && words * 4 <= bytes;
			h[12] = (uint8_t)(words << 4);
			h[13] = S_RST;
			p.bytes = bytes;
			enum tcp_verdict v = tcp_input(x->tcp, &p);
			assert_int_equal(v, good ? TCP_NO_LISTENER : TCP_MALFORMED);
		}
	}
	script_destroy(x);
}

static void addresses_that_cannot_be_a_host_are_malformed(void **state)
{
	static const char *const bad[] = {"224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1",
					  "::ffff:192.0.2.9"};
	struct script *x = script_create(NULL);
	uint8_t h[20] = {0, 1, 0, 25, [12] = 0x50, [13] = S_SYN};

	script_listen(x);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct tcp_packet p = {.segment = h, .bytes = 20, .checksum_good = true};
		addr_parse(bad[i], &p.source);
		addr_parse(p.source.family == 4 ? "192.0.2.1" : "2001:db8::1", &p.destination);
		assert_int_equal(tcp_input(x->tcp, &p), TCP_MALFORMED);
	}
	script_flush(x);
	script_expect_nothing(x);
	script_destroy(x);
}

static void random_segments_into_an_established_stream_never_break_it(void **state)
{
	uint64_t seed = 99;

	for (unsigned round = 0; round < 200; round++) {
		struct script *x = script_create(with_timestamps);
		uint8_t options[40];

		script_establish(x);
		for (unsigned i = 0; i < 50; i++) {
			uint64_t r =
				(seed = seed * 6364136223846793005ULL + 1442695040888963407ULL);
			unsigned n = (unsigned)(r >> 10) % 11 * 4;
			for (unsigned k = 0; k < n; k++)
				options[k] = (uint8_t)(r >> (k % 57));
			script_raw(x, (unsigned)(r >> 20) & 63, (uint32_t)(r >> 32) % 20000 - 2000,
				   (uint32_t)(r >> 40) % 4 - 1, options, n,
				   (uint32_t)(r >> 50) % 600);
			script_flush(x);
			script_advance(x, r >> 44);
		}
		script_destroy(x);
	}
}

static void syn_with_fin_opens_nothing(void **state)
{
	struct script *x = script_create(NULL);

	script_listen(x);
	script_in(x, S_SYN | S_FIN, 0, 0, 0);
	script_expect_nothing(x);
	assert_int_equal(x->verdict, TCP_MALFORMED);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_destroy(x);
}

static void data_of_a_syn_is_left_for_the_peer_to_send_again(void **state)
{
	struct script *x = script_create(NULL);

	script_listen(x);
	script_in(x, S_SYN, 0, 0, 50);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	script_in(x, S_ACK, 1, 1, 50);
	assert_int_equal(x->received, 50);
	script_destroy(x);
}

static void tiny_mss_is_raised_to_the_floor(void **state)
{
	static const uint16_t tiny[] = {0, 1, 8, 63};

	for (unsigned i = 0; i < 4; i++) {
		struct script *x = script_create(NULL);
		uint8_t mss[4] = {2, 4, 0, (uint8_t)tiny[i]};

		script_listen(x);
		script_raw(x, S_SYN, 0, 0, mss, 4, 0);
		script_flush(x);
		script_take(x);
		script_in(x, S_ACK, 1, 1, 0);
		script_write(x, 200);
		script_expect(x, S_ACK, 1, 1, 64);
		script_destroy(x);
	}
}

static void one_octet_segments_ahead_of_a_hole_cost_bounded_memory(void **state)
{
	struct script *x = script_create(NULL);
	uint32_t window = x->config.receive_limit;

	script_establish(x);
	for (uint32_t seq = 3; seq < window; seq += 2)
		script_in(x, S_ACK, seq, 1, 1);
	assert_true(chunk_pool_used(x->shard.chunks) <= 65536);
	assert_int_equal(script_count(x, tcp_out_of_order), RANGES_MOST);
	assert_int_equal(script_count(x, tcp_reorder_full), window / 2 - 1 - RANGES_MOST);
	/* What was refused can still come, and octet 1001 was kept. */
	script_in(x, S_ACK, 1, 1, 1000);
	assert_int_equal(x->received, 1001);
	script_destroy(x);
}

static void far_out_of_order_data_is_stored_sparsely(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_in(x, S_ACK, 16300, 1, 50);
	script_expect(x, S_ACK, 1, 1, 0);
	for (uint32_t seq = 1; seq < 16300; seq += 1400)
		script_in(x, S_ACK, seq, 1, seq + 1400 > 16300 ? 16300 - seq : 1400);
	assert_int_equal(x->received, 16349);
	assert_int_equal(chunk_pool_used(x->shard.chunks), 0);
	script_destroy(x);
}

static void nothing_beyond_the_window_is_taken(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	x->keep_unread = true;
	for (uint32_t seq = 1; seq < 30000; seq += 1400)
		script_in(x, S_ACK, seq, 1, 1400);
	assert_int_equal(stream_readable(x->stream), 16384);
	script_destroy(x);
}

static void urgent_data_is_ordinary_data(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_in(x, S_ACK | WIRE_URG, 1, 1, 10);
	assert_int_equal(x->received, 10);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rst_is_obeyed_only_at_exactly_the_next_number),
		cmocka_unit_test(rst_challenge_of_a_rebooted_peer_leads_to_the_exact_rst),
		cmocka_unit_test(challenge_acks_are_limited_a_second_over_all_streams),
		cmocka_unit_test(two_ends_that_reject_each_other_fall_silent),
		cmocka_unit_test(ack_of_data_never_sent_changes_nothing),
		cmocka_unit_test(ack_older_than_the_largest_window_is_rejected_with_its_data),
		cmocka_unit_test(old_timestamp_is_answered_and_dropped),
		cmocka_unit_test(pure_ack_that_newer_ones_overtook_is_passed_over_in_silence),
		cmocka_unit_test(old_timestamp_is_answered_where_it_may_be_more_than_a_late_ack),
		cmocka_unit_test(timestamps_compare_across_their_wrap),
		cmocka_unit_test(timestamp_outdated_by_24_idle_days_is_not_held_against_the_peer),
		cmocka_unit_test(peer_that_stops_sending_timestamps_is_still_heard),
		cmocka_unit_test(rst_needs_no_timestamp),
		cmocka_unit_test(echo_is_of_the_segment_that_advanced_the_ack),
		cmocka_unit_test(bad_checksum_is_dropped_and_counted),
		cmocka_unit_test(header_length_outside_the_segment_is_malformed),
		cmocka_unit_test(addresses_that_cannot_be_a_host_are_malformed),
		cmocka_unit_test(random_segments_into_an_established_stream_never_break_it),
		cmocka_unit_test(syn_with_fin_opens_nothing),
		cmocka_unit_test(data_of_a_syn_is_left_for_the_peer_to_send_again),
		cmocka_unit_test(tiny_mss_is_raised_to_the_floor),
		cmocka_unit_test(one_octet_segments_ahead_of_a_hole_cost_bounded_memory),
		cmocka_unit_test(far_out_of_order_data_is_stored_sparsely),
		cmocka_unit_test(nothing_beyond_the_window_is_taken),
		cmocka_unit_test(urgent_data_is_ordinary_data),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
