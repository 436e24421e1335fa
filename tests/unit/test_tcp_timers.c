/* test_tcp_timers.c - deadlines to the microsecond: RFC 6298, RFC 9293 sections 3.8.3 to 3.8.6,
 * RFC 6191 */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MS = 1000, SECOND = 1000000 };

static void quick(struct tcp_config *c)
{
	c->data_retries = 4;
	c->syn_retries = 3;
	c->synack_retries = 2;
	c->rto_max_us = 3 * SECOND;
}

static void with_timestamps(struct tcp_config *c)
{
	c->timestamps = true;
}

static void with_keepalive(struct tcp_config *c)
{
	c->keep_idle_s = 10;
	c->keep_interval_s = 2;
	c->keep_count = 3;
}

static void with_two_time_waits(struct tcp_config *c)
{
	c->max_time_wait = 2;
}

/* Nothing comes until just before us, then one segment as given. */
#define EXPECT_AFTER(x, us, flags, seq, ack, n)       \
	do {                                          \
		script_advance(x, (us)-1);            \
		script_expect_nothing(x);             \
		script_advance(x, 1);                 \
		script_expect(x, flags, seq, ack, n); \
		script_expect_nothing(x);             \
	} while (0)

static void data_is_sent_again_with_doubling_timeouts_until_given_up(void **state)
{
	struct script *x = script_create(quick);

	script_establish(x); /* round trip 0: RTO is the minimum */
	script_write(x, 100);
	script_expect(x, S_ACK, 1, 1, 100);
	assert_int_equal(stream_retransmitted(x->stream), 0);
	EXPECT_AFTER(x, 200 * MS, S_ACK, 1, 1, 100);
	EXPECT_AFTER(x, 400 * MS, S_ACK, 1, 1, 100);
	EXPECT_AFTER(x, 800 * MS, S_ACK, 1, 1, 100);
	assert_int_equal(stream_retransmitted(x->stream), 300);
	EXPECT_AFTER(x, 1600 * MS, S_ACK, 1, 1, 100);
	EXPECT_AFTER(x, 3000 * MS, S_RST | S_ACK, 101, 1, 0);
	assert_string_equal(x->log, "closed:timeout");
	assert_int_equal(script_count(x, tcp_gave_up), 1);
	script_destroy(x);
}

static void timeout_follows_the_measured_round_trip(void **state)
{
	struct script *x = script_create(NULL);

	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	script_take(x);
	script_advance(x, 100 * MS);
	script_in(x, S_ACK, 1, 1, 0);
	/* first sample: SRTT 100, RTTVAR 50 -> 300 ms */
	assert_int_equal(script_tcb(x)->srtt_us, 100 * MS);
	assert_int_equal(script_tcb(x)->rttvar_us, 50 * MS);
	assert_int_equal(script_tcb(x)->rto_us, 300 * MS);
	script_write(x, 10);
	script_advance(x, 180 * MS);
	script_in(x, S_ACK, 1, 11, 0);
	/* RTTVAR 3/4 * 50 + 1/4 * 80 = 57.5; SRTT 7/8 * 100 + 1/8 * 180 = 110 */
	assert_int_equal(script_tcb(x)->srtt_us, 110 * MS);
	assert_int_equal(script_tcb(x)->rttvar_us, 57500);
	assert_int_equal(script_tcb(x)->rto_us, 340 * MS);
	script_destroy(x);
}

static void ack_of_a_retransmission_is_no_sample(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	uint32_t srtt = script_tcb(x)->srtt_us;
	script_write(x, 10);
	script_advance(x, 200 * MS);
	script_advance(x, 150 * MS);
	script_in(x, S_ACK, 1, 11, 0);
	assert_int_equal(script_tcb(x)->srtt_us, srtt);
	assert_int_equal(script_tcb(x)->rto_us, 400 * MS); /* backed off until a fresh sample */
	script_destroy(x);
}

static void ack_of_a_retransmission_is_a_sample_by_its_timestamp(void **state)
{
	struct script *x = script_create(with_timestamps);

	x->timestamps = true;
	script_establish(x);
	script_write(x, 10);
	script_advance(x, 200 * MS);
	script_advance(x, 150 * MS);
	script_in(x, S_ACK, 1, 11, 0); /* echoes the retransmission */
	assert_true(script_tcb(x)->rto_us < 400 * MS);
	assert_true(script_tcb(x)->srtt_us > 15 * MS);
	script_destroy(x);
}

static void syn_is_sent_again_and_given_up(void **state)
{
	struct script *x = script_create(quick);

	script_connect(x);
	script_expect(x, S_SYN, 0, 0, 0);
	EXPECT_AFTER(x, 1 * SECOND, S_SYN, 0, 0, 0);
	EXPECT_AFTER(x, 2 * SECOND, S_SYN, 0, 0, 0);
	EXPECT_AFTER(x, 3 * SECOND, S_SYN, 0, 0, 0);
	script_advance(x, 3 * SECOND);
	assert_string_equal(x->log, "closed:timeout");
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	x->taken = x->n_out;
	script_destroy(x);
}

static void syn_ack_is_sent_again_and_forgotten_in_silence(void **state)
{
	struct script *x = script_create(quick);

	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 1 * SECOND, S_SYN | S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 2 * SECOND, S_SYN | S_ACK, 0, 1, 0);
	script_advance(x, 3 * SECOND);
	script_expect_nothing(x);
	assert_string_equal(x->log, "");
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_destroy(x);
}

static void lost_syn_leaves_a_cautious_timeout(void **state)
{
	struct script *x = script_create(NULL);

	script_connect(x);
	script_advance(x, 1 * SECOND);
	script_in(x, S_SYN | S_ACK, 0, 1, 0);
	assert_int_equal(script_tcb(x)->rto_us, 3 * SECOND); /* RFC 6298 section 5.7 */
	script_destroy(x);
}

static void single_segment_is_acknowledged_after_40_ms(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_in(x, S_ACK, 1, 1, 100);
	EXPECT_AFTER(x, 40 * MS, S_ACK, 1, 101, 0);
	assert_int_equal(script_count(x, tcp_delayed_acks), 1);
	script_destroy(x);
}

static void every_second_segment_is_acknowledged_at_once(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	for (uint32_t i = 0; i < 4; i++) {
		script_in(x, S_ACK, 1 + 200 * i, 1, 100);
		script_expect_nothing(x);
		script_in(x, S_ACK, 101 + 200 * i, 1, 100);
		script_expect(x, S_ACK, 1, 201 + 200 * i, 0);
	}
	script_advance(x, SECOND);
	script_expect_nothing(x);
	script_destroy(x);
}

static void reply_carries_the_acknowledgment(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	script_in(x, S_ACK, 1, 1, 100);
	script_write(x, 20);
	script_expect(x, S_ACK, 1, 101, 20);
	script_in(x, S_ACK, 101, 21, 0);
	script_advance(x, SECOND);
	script_expect_nothing(x);
	script_destroy(x);
}

static void closed_window_is_probed_with_doubling_intervals_for_ever(void **state)
{
	struct script *x = script_create(quick);
	uint64_t interval = 200 * MS;

	script_establish(x);
	x->window = 0;
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 100);
	script_expect_nothing(x);
	for (unsigned i = 0; i < 50; i++) {
		EXPECT_AFTER(x, interval, S_ACK, 0, 1, 0);
		script_in(x, S_ACK, 1, 1, 0); /* alive, still closed */
		interval = script_tcb(x)->due_us[DUE_RETRANSMIT] - x->shard.now_us;
		assert_true(interval <= 3 * SECOND);
	}
	x->window = 1000;
	script_in(x, S_ACK, 1, 1, 0);
	script_expect(x, S_ACK, 1, 1, 100);
	script_destroy(x);
}

static void unanswered_window_probes_end_the_connection(void **state)
{
	struct script *x = script_create(quick);

	script_establish(x);
	x->window = 0;
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 100);
	EXPECT_AFTER(x, 200 * MS, S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 400 * MS, S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 800 * MS, S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 1600 * MS, S_ACK, 0, 1, 0);
	script_advance(x, 3 * SECOND);
	assert_string_equal(x->log, "closed:timeout");
	script_destroy(x);
}

static void closed_window_cannot_hold_a_closed_stream_for_ever(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	x->window = 0;
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 100);
	stream_close(x->stream);
	for (unsigned i = 0; i < 1000 && tcp_stream_count(x->tcp) > 0; i++) {
		script_advance(x, SECOND);
		script_in(x, S_ACK, 1, 1, 0);
	}
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	assert_int_equal(script_count(x, tcp_zero_window_probes), 8);
	script_destroy(x);
}

static void piece_held_back_by_a_small_window_goes_when_the_persist_timer_passes(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	x->window = 100;
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 3000);
	script_expect_nothing(x); /* 100 is far below half of the largest window */
	EXPECT_AFTER(x, 200 * MS, S_ACK, 1, 1, 100);
	script_destroy(x);
}

static void silent_idle_peer_is_probed_and_given_up(void **state)
{
	struct script *x = script_create(with_keepalive);

	script_establish(x);
	EXPECT_AFTER(x, 10 * SECOND, S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 2 * SECOND, S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 2 * SECOND, S_ACK, 0, 1, 0);
	EXPECT_AFTER(x, 2 * SECOND, S_RST | S_ACK, 1, 1, 0);
	assert_string_equal(x->log, "closed:timeout");
	script_destroy(x);
}

static void answered_keepalive_starts_the_idle_time_anew(void **state)
{
	struct script *x = script_create(with_keepalive);

	script_establish(x);
	for (unsigned i = 0; i < 5; i++) {
		EXPECT_AFTER(x, i == 0 ? 10 * SECOND : 8 * SECOND, S_ACK, 0, 1, 0);
		script_in(x, S_ACK, 1, 1, 0);
		script_advance(x, 2 * SECOND); /* the interval passes, all is well */
		script_expect_nothing(x);
	}
	script_destroy(x);
}

static void keepalive_waits_from_the_last_segment_heard(void **state)
{
	struct script *x = script_create(with_keepalive);

	script_establish(x);
	script_advance(x, 7 * SECOND);
	script_in(x, S_ACK, 1, 1, 10);
	script_advance(x, 40 * MS);
	script_take(x);
	EXPECT_AFTER(x, 10 * SECOND - 40 * MS, S_ACK, 0, 11, 0);
	script_destroy(x);
}

static void fin_wait_2_of_a_closed_stream_ends_by_itself(void **state)
{
	struct script *x = script_create(NULL);

	script_reach(x, TCP_FIN_WAIT_2);
	script_advance(x, 60 * SECOND - 1);
	assert_int_equal(script_state(x), TCP_FIN_WAIT_2);
	script_advance(x, 1);
	assert_int_equal(script_state(x), TCP_CLOSED);
	assert_int_equal(script_count(x, tcp_fin_wait2_timeouts), 1);
	script_destroy(x);
}

static void fin_wait_2_of_a_half_closed_stream_stays(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	stream_shutdown(x->stream);
	script_flush(x);
	script_expect(x, S_FIN | S_ACK, 1, 1, 0);
	script_in(x, S_ACK, 1, 2, 0);
	script_advance(x, 600 * (uint64_t)SECOND);
	assert_int_equal(script_state(x), TCP_FIN_WAIT_2);
	script_in(x, S_ACK, 1, 2, 10);
	assert_string_equal(x->log, "readable");
	stream_close(x->stream);
	script_advance(x, 60 * SECOND);
	assert_int_equal(script_state(x), TCP_CLOSED);
	script_destroy(x);
}

static void time_wait_lasts_its_time_and_no_longer(void **state)
{
	struct script *x = script_create(NULL);

	script_reach(x, TCP_TIME_WAIT);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_advance(x, 60 * SECOND - 1);
	assert_int_equal(script_state(x), TCP_TIME_WAIT);
	script_advance(x, 1);
	assert_int_equal(script_state(x), TCP_CLOSED);
	script_destroy(x);
}

static void repeated_fin_starts_time_wait_anew(void **state)
{
	struct script *x = script_create(NULL);

	script_reach(x, TCP_TIME_WAIT);
	script_advance(x, 50 * SECOND);
	script_in(x, S_FIN | S_ACK, 1, 2, 0);
	script_expect(x, S_ACK, 2, 2, 0);
	script_advance(x, 50 * SECOND);
	assert_int_equal(script_state(x), TCP_TIME_WAIT);
	script_advance(x, 10 * SECOND);
	assert_int_equal(script_state(x), TCP_CLOSED);
	script_destroy(x);
}

static void syn_with_a_higher_number_replaces_time_wait(void **state)
{
	struct script *x = script_create(NULL);

	script_reach(x, TCP_TIME_WAIT);
	uint32_t old_iss = x->iss;
	x->iss_known = false;
	script_in(x, S_SYN, 3, 0, 0);
	script_expect(x, S_SYN | S_ACK, 0, 4, 0);
	assert_true((int32_t)(x->iss - old_iss) > 2); /* above all the old numbers */
	script_in(x, S_ACK, 4, 1, 0);
	assert_int_equal(script_state(x), TCP_ESTABLISHED);
	assert_int_equal(script_count(x, tcp_time_wait_reused), 1);
	script_destroy(x);
}

static void syn_with_a_newer_timestamp_replaces_time_wait_at_any_number(void **state)
{
	struct script *x = script_create(with_timestamps);

	x->timestamps = true;
	script_reach(x, TCP_TIME_WAIT);
	x->ts_value = 699;
	script_in(x, S_SYN, 3, 0, 0);
	script_expect(x, S_ACK, 2, 2, 0); /* an old duplicate */
	x->ts_value = 701;
	x->iss_known = false;
	script_in(x, S_SYN, (uint32_t)-5000, 0, 0);
	script_expect(x, S_SYN | S_ACK, 0, (uint32_t)-4999, 0);
	script_destroy(x);
}

static void oldest_time_wait_goes_when_there_are_too_many(void **state)
{
	struct script *x = script_create(with_two_time_waits);

	script_listen(x);
	for (unsigned i = 0; i < 3; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_take(x);
		script_in(x, S_ACK, 1, 1, 0);
		stream_close(x->stream);
		script_flush(x);
		script_in(x, S_FIN | S_ACK, 1, 2, 0);
		assert_int_equal(script_state(x), TCP_TIME_WAIT);
	}
	assert_int_equal(script_count(x, tcp_time_wait_evicted), 1);
	x->peer_port = SCRIPT_PEER_PORT;
	assert_int_equal(script_state(x), TCP_CLOSED);
	x->peer_port = SCRIPT_PEER_PORT + 1;
	assert_int_equal(script_state(x), TCP_TIME_WAIT);
	script_destroy(x);
}

static void fin_is_sent_again_until_acknowledged(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	stream_close(x->stream);
	script_flush(x);
	script_expect(x, S_FIN | S_ACK, 1, 1, 0);
	EXPECT_AFTER(x, 200 * MS, S_FIN | S_ACK, 1, 1, 0);
	EXPECT_AFTER(x, 400 * MS, S_FIN | S_ACK, 1, 1, 0);
	script_in(x, S_ACK, 1, 2, 0);
	assert_int_equal(script_state(x), TCP_FIN_WAIT_2);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(data_is_sent_again_with_doubling_timeouts_until_given_up),
		cmocka_unit_test(timeout_follows_the_measured_round_trip),
		cmocka_unit_test(ack_of_a_retransmission_is_no_sample),
		cmocka_unit_test(ack_of_a_retransmission_is_a_sample_by_its_timestamp),
		cmocka_unit_test(syn_is_sent_again_and_given_up),
		cmocka_unit_test(syn_ack_is_sent_again_and_forgotten_in_silence),
		cmocka_unit_test(lost_syn_leaves_a_cautious_timeout),
		cmocka_unit_test(single_segment_is_acknowledged_after_40_ms),
		cmocka_unit_test(every_second_segment_is_acknowledged_at_once),
		cmocka_unit_test(reply_carries_the_acknowledgment),
		cmocka_unit_test(closed_window_is_probed_with_doubling_intervals_for_ever),
		cmocka_unit_test(unanswered_window_probes_end_the_connection),
		cmocka_unit_test(closed_window_cannot_hold_a_closed_stream_for_ever),
		cmocka_unit_test(
			piece_held_back_by_a_small_window_goes_when_the_persist_timer_passes),
		cmocka_unit_test(silent_idle_peer_is_probed_and_given_up),
		cmocka_unit_test(answered_keepalive_starts_the_idle_time_anew),
		cmocka_unit_test(keepalive_waits_from_the_last_segment_heard),
		cmocka_unit_test(fin_wait_2_of_a_closed_stream_ends_by_itself),
		cmocka_unit_test(fin_wait_2_of_a_half_closed_stream_stays),
		cmocka_unit_test(time_wait_lasts_its_time_and_no_longer),
		cmocka_unit_test(repeated_fin_starts_time_wait_anew),
		cmocka_unit_test(syn_with_a_higher_number_replaces_time_wait),
		cmocka_unit_test(syn_with_a_newer_timestamp_replaces_time_wait_at_any_number),
		cmocka_unit_test(oldest_time_wait_goes_when_there_are_too_many),
		cmocka_unit_test(fin_is_sent_again_until_acknowledged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
