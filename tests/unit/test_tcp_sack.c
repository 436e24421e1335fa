/* test_tcp_sack.c - selective acknowledgment and loss found by time: RFC 2018, 6937, 8985 */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { MS = 1000, MSS = 1460 };

static void with_sack(struct tcp_config *c)
{
	c->sack = true;
	c->send_limit = 200000;
}

static const uint8_t syn_options[8] = {2, 4, MSS >> 8, MSS & 255, 1, 1, 4, 2};

static struct script *established(void)
{
	struct script *x = script_create(with_sack);

	script_listen(x);
	script_raw(x, S_SYN, 0, 0, syn_options, 8, 0);
	script_flush(x);
	script_take(x);
	script_advance(x, 10 * MS); /* the round trip */
	script_in(x, S_ACK, 1, 1, 0);
	x->log[0] = '\0';
	return x;
}

/* n segments leave, and half a round trip passes: everything that follows answers them. */
static void write_segments(struct script *x, uint32_t n)
{
	script_write(x, n * MSS);
	x->taken = x->n_out;
	script_advance(x, 5 * MS);
}

/* In units of segments: block i covers segments from[i] to to[i] - 1; the first segment is 0. */
static void sack_in(struct script *x, uint32_t ack_segment, const struct range *blocks, unsigned n)
{
	uint8_t options[OPTIONS_MAX_BYTES];
	struct range b[OPTION_SACK_BLOCKS];

	for (unsigned i = 0; i < n; i++)
		b[i] = (struct range){x->iss + 1 + blocks[i].from * MSS,
				      x->iss + 1 + blocks[i].to * MSS};
	size_t bytes = options_write_sack(options, b, n);
	script_raw(x, S_ACK, 1, 1 + ack_segment * MSS, options, (unsigned)bytes, 0);
	script_flush(x);
}

#define SACK_IN(x, ack, ...)                                 \
	sack_in(x, ack, (const struct range[]){__VA_ARGS__}, \
		sizeof((const struct range[]){__VA_ARGS__}) / sizeof(struct range))

static void expect_segment(struct script *x, uint32_t segment)
{
	script_expect(x, S_ACK, 1 + segment * MSS, 1, MSS);
}

static void drain(struct script *x)
{
	x->taken = x->n_out;
}

static void sack_is_used_only_if_both_offer_it(void **state)
{
	struct script *x = script_create(with_sack);
	struct tcp_options o;

	script_listen(x);
	script_raw(x, S_SYN, 0, 0, syn_options, 4, 0);
	script_flush(x);
	const struct script_segment *syn_ack = script_take(x);
	options_parse(&o, syn_ack->options, syn_ack->option_bytes);
	assert_false(o.sack_permitted);
	script_in(x, S_ACK, 1, 1, 0);
	script_in(x, S_ACK, 101, 1, 10);
	assert_int_equal(script_take(x)->option_bytes, 0);
	script_destroy(x);

	x = script_create(with_sack);
	script_connect(x);
	options_parse(&o, x->out[0].options, x->out[0].option_bytes);
	assert_true(o.sack_permitted);
	script_destroy(x);
}

static void expect_blocks(struct script *x, const struct range *want, unsigned n)
{
	const struct script_segment *s = script_take(x);
	struct tcp_options o;

	assert_non_null(s);
	assert_true(options_parse(&o, s->options, s->option_bytes));
	assert_int_equal(o.sacks, n);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(o.sack[i].from - x->peer_iss, want[i].from);
		assert_int_equal(o.sack[i].to - x->peer_iss, want[i].to);
	}
}

#define EXPECT_BLOCKS(x, ...)                                 \
	expect_blocks(x, (const struct range[]){__VA_ARGS__}, \
		      sizeof((const struct range[]){__VA_ARGS__}) / sizeof(struct range))

static void first_block_holds_the_latest_segment_then_the_most_recent_others(void **state)
{
	struct script *x = established();

	script_in(x, S_ACK, 101, 1, 100);
	EXPECT_BLOCKS(x, {101, 201});
	script_in(x, S_ACK, 501, 1, 100);
	EXPECT_BLOCKS(x, {501, 601}, {101, 201});
	script_in(x, S_ACK, 301, 1, 100);
	EXPECT_BLOCKS(x, {301, 401}, {501, 601}, {101, 201});
	script_in(x, S_ACK, 201, 1, 100); /* joins two */
	EXPECT_BLOCKS(x, {101, 401}, {501, 601});
	script_in(x, S_ACK, 701, 1, 100);
	script_in(x, S_ACK, 901, 1, 100);
	drain(x);
	script_in(x, S_ACK, 1101, 1, 100);
	EXPECT_BLOCKS(x, {1101, 1201}, {901, 1001}, {701, 801}, {101, 401});
	script_in(x, S_ACK, 1, 1, 100);
	EXPECT_BLOCKS(x, {1101, 1201}, {901, 1001}, {701, 801}, {501, 601});
	script_destroy(x);
}

static void full_data_segment_is_not_cut_for_blocks(void **state)
{
	struct script *x = established();

	script_in(x, S_ACK, 101, 1, 100);
	drain(x);
	script_write(x, MSS + 100);
	assert_int_equal(script_take(x)->option_bytes, 0);
	assert_int_equal(script_take(x)->option_bytes, 12);
	script_destroy(x);
}

static void only_the_holes_are_sent_again(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	SACK_IN(x, 0, {1, 2});
	SACK_IN(x, 0, {1, 3});
	script_expect_nothing(x);
	SACK_IN(x, 0, {1, 4}); /* 0 is lost; 4 is too, but not known yet */
	expect_segment(x, 0);
	script_expect_nothing(x);
	SACK_IN(x, 0, {5, 6}, {1, 4});
	SACK_IN(x, 0, {5, 7}, {1, 4});
	SACK_IN(x, 0, {5, 8}, {1, 4});
	expect_segment(x, 4);
	script_expect_nothing(x);
	SACK_IN(x, 4, {5, 10});
	SACK_IN(x, 10, {10, 10});
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_retransmits), 2);
	assert_int_equal(script_count(x, tcp_timeouts), 0);
	script_destroy(x);
}

static void many_holes_of_one_flight_are_repaired_without_a_timeout(void **state)
{
	struct script *x = established();

	/* Of ten, 0, 2, 4 and 6 are lost. */
	write_segments(x, 10);
	SACK_IN(x, 0, {1, 2});
	SACK_IN(x, 0, {3, 4}, {1, 2});
	SACK_IN(x, 0, {5, 6}, {3, 4}, {1, 2});
	SACK_IN(x, 0, {7, 8}, {5, 6}, {3, 4}, {1, 2});
	SACK_IN(x, 0, {7, 9}, {5, 6}, {3, 4}, {1, 2});
	SACK_IN(x, 0, {7, 10}, {5, 6}, {3, 4}, {1, 2});
	SACK_IN(x, 2, {7, 10}, {5, 6}, {3, 4});
	SACK_IN(x, 4, {7, 10}, {5, 6});
	for (uint32_t hole = 0; hole <= 6; hole += 2)
		expect_segment(x, hole);
	SACK_IN(x, 10, {10, 10});
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_retransmits), 4);
	assert_int_equal(script_count(x, tcp_fast_retransmits), 1);
	script_destroy(x);
}

static void recovery_ends_at_half_of_the_flight(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	SACK_IN(x, 0, {1, 4});
	assert_true((script_tcb(x)->flags & F_RECOVERY) != 0);
	assert_int_equal(script_tcb(x)->ssthresh, 5 * MSS);
	SACK_IN(x, 10, {10, 10});
	assert_true((script_tcb(x)->flags & F_RECOVERY) == 0);
	assert_int_equal(script_tcb(x)->cwnd, 5 * MSS);
	script_destroy(x);
}

static void reduction_sends_one_new_segment_for_two_delivered(void **state)
{
	struct script *x = established();
	unsigned fresh = 0;

	write_segments(x, 60);
	for (uint32_t i = 2; i <= 10; i++) {
		SACK_IN(x, 0, {1, i});
		for (const struct script_segment *o; (o = script_take(x)) != NULL;)
			fresh += o->seq >= 1 + 10 * MSS;
	}
	/* Two by limited transmit; then 12 in flight, ssthresh 6: the 7 delivered let half as many
	 * out, one of them the retransmission. */
	assert_in_range(fresh, 4, 5);
	script_destroy(x);
}

static void blocks_of_what_was_never_sent_count_nothing(void **state)
{
	static const struct range bad[] = {{5, 20}, {10, 11}, {3, 3}, {4, 2}, {0, 2}};
	struct script *x = established();

	write_segments(x, 10);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (unsigned again = 0; again < 5; again++)
			sack_in(x, 0, &bad[i], 1);
	}
	script_expect_nothing(x);
	assert_null(script_tcb(x)->active->board);
	assert_int_equal(script_count(x, tcp_bad_sack), 25);
	script_destroy(x);
}

static void more_holes_than_fit_are_ignored_without_harm(void **state)
{
	struct script *x = established();
	uint8_t options[OPTIONS_MAX_BYTES];

	write_segments(x, 10);
	for (uint32_t i = 0; i < 600; i++) {
		struct range b = {x->iss + 3 + i * 10, x->iss + 8 + i * 10};
		size_t n = options_write_sack(options, &b, 1);
		script_raw(x, S_ACK, 1, 1, options, (unsigned)n, 0);
		script_flush(x);
	}
	assert_int_equal(script_tcb(x)->active->board->n, RANGES_MOST);
	assert_int_equal(script_count(x, tcp_sack_full), 600 - RANGES_MOST);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 0);
	assert_int_equal(stream_unacked(x->stream), 0);
	assert_null(script_tcb(x)->active);
	script_destroy(x);
}

static void timeout_forgets_what_was_sacked(void **state)
{
	struct script *x = established();

	write_segments(x, 5);
	SACK_IN(x, 0, {3, 4});
	script_advance(x, 2 * MS);
	drain(x);
	script_advance(x, 200 * MS);
	expect_segment(x, 0);
	assert_null(script_tcb(x)->active->board);
	SACK_IN(x, 1, {3, 4}); /* told again: passed over */
	expect_segment(x, 1);
	expect_segment(x, 2);
	script_expect_nothing(x);
	script_destroy(x);
}

static void peer_that_throws_sacked_data_away_gets_it_again(void **state)
{
	struct script *x = established();

	write_segments(x, 5);
	SACK_IN(x, 0, {2, 4});
	script_advance(x, 1250);
	drain(x);
	script_advance(x, 5 * MS);
	SACK_IN(x, 2, {4, 4}); /* up to the block, not over it */
	expect_segment(x, 2);
	script_in(x, S_ACK, 1, 1 + 3 * MSS, 0);
	expect_segment(x, 3);
	script_destroy(x);
}

static void lost_tail_of_the_flight_is_found_by_what_was_sent_later(void **state)
{
	struct script *x = established();

	/* 0 and the last, 9, are lost. */
	write_segments(x, 10);
	SACK_IN(x, 0, {1, 9});
	expect_segment(x, 0);
	script_expect_nothing(x);
	script_advance(x, 5 * MS);
	SACK_IN(x, 9, {10, 10});
	expect_segment(x, 9);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 0);
	assert_int_equal(script_count(x, tcp_timeouts), 0);
	script_destroy(x);
}

static void single_late_segment_is_waited_for_a_quarter_of_the_round_trip(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	SACK_IN(x, 0, {1, 2}); /* round trip 5 ms: 0 may come up to 1.25 ms later */
	script_advance(x, 1249);
	script_expect_nothing(x);
	script_advance(x, 1);
	expect_segment(x, 0);
	script_destroy(x);
}

static void path_that_reorders_is_waited_for_even_with_three_segments_told(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	SACK_IN(x, 0, {1, 2});
	SACK_IN(x, 2, {2, 2}); /* 0 was only late */
	assert_true((script_tcb(x)->flags & F_REORDERED) != 0);
	SACK_IN(x, 2, {3, 7});
	script_expect_nothing(x);
	script_advance(x, 1250);
	expect_segment(x, 2);
	script_destroy(x);
}

static void lost_retransmission_is_sent_again_without_the_timer(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	script_write(x, 30 * MSS);
	drain(x);
	SACK_IN(x, 0, {1, 10}); /* new data leaves behind the retransmission */
	expect_segment(x, 0);
	assert_true(script_pending(x) > 0);
	drain(x);
	script_advance(x, 5 * MS);
	SACK_IN(x, 0, {1, 11});
	SACK_IN(x, 0, {1, 12});
	script_advance(x, 5 * MS);
	expect_segment(x, 0);
	assert_int_equal(script_count(x, tcp_timeouts), 0);
	script_destroy(x);
}

static void silence_after_the_last_segment_is_probed_after_two_round_trips(void **state)
{
	struct script *x = established();

	script_write(x, 3 * MSS);
	drain(x);
	script_advance(x, 20 * MS - 1);
	script_expect_nothing(x);
	script_advance(x, 1);
	expect_segment(x, 2);
	script_expect_nothing(x);
	script_advance(x, 10 * MS);
	SACK_IN(x, 0, {2, 3}); /* only the probe has come: the others are lost */
	expect_segment(x, 0);
	expect_segment(x, 1);
	assert_int_equal(script_count(x, tcp_timeouts), 0);
	assert_int_equal(script_count(x, tcp_tail_probes), 1);
	script_destroy(x);
}

static void probe_carries_new_data_if_there_is_any(void **state)
{
	struct script *x = established();

	script_write(x, 12 * MSS); /* ten leave */
	drain(x);
	script_advance(x, 20 * MS);
	expect_segment(x, 10);
	script_expect_nothing(x);
	script_destroy(x);
}

static void lone_segment_is_left_to_the_retransmission_timer(void **state)
{
	struct script *x = established();

	script_write(x, 100);
	drain(x);
	script_advance(x, 199 * MS);
	script_expect_nothing(x); /* its ACK may be delayed */
	script_advance(x, 1 * MS);
	script_expect(x, S_ACK, 1, 1, 100);
	assert_int_equal(script_count(x, tcp_tail_probes), 0);
	script_destroy(x);
}

/* A probe for 2 of 3; new data follows it; then the ACK. */
static struct script *probed(void)
{
	struct script *x = established();

	script_write(x, 3 * MSS);
	script_advance(x, 20 * MS);
	script_write(x, 2 * MSS);
	drain(x);
	return x;
}

static void loss_repaired_by_a_probe_costs_its_share_of_the_window(void **state)
{
	struct script *x = probed();
	uint32_t before = script_tcb(x)->cwnd;

	script_in(x, S_ACK, 1, 1 + 3 * MSS, 0);
	assert_int_equal(script_tcb(x)->cwnd, before);
	script_in(x, S_ACK, 1, 1 + 5 * MSS, 0); /* and no duplicate was reported */
	assert_true(script_tcb(x)->cwnd < before);
	script_destroy(x);
}

static void probe_that_was_not_needed_costs_nothing(void **state)
{
	for (unsigned with_block = 0; with_block < 2; with_block++) {
		struct script *x = probed();
		uint32_t before = script_tcb(x)->cwnd;

		script_in(x, S_ACK, 1, 1 + 3 * MSS, 0);
		if (with_block != 0)
			SACK_IN(x, 3, {2, 3}); /* D-SACK */
		else
			script_in(x, S_ACK, 1, 1 + 3 * MSS, 0); /* a duplicate ACK */
		script_in(x, S_ACK, 1, 1 + 5 * MSS, 0);
		assert_int_equal(script_tcb(x)->cwnd, before);
		script_destroy(x);
	}
}

static void answer_within_the_same_microsecond_starts_no_endless_repair(void **state)
{
	struct script *x = established();

	script_write(x, 10 * MSS);
	drain(x);
	SACK_IN(x, 0, {1, 4});
	script_expect_nothing(x);
	script_advance(x, 1);
	expect_segment(x, 0);
	SACK_IN(x, 0, {1, 9});
	script_expect_nothing(x);
	script_destroy(x);
}

static void scattered_retransmissions_never_outgrow_the_log(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	script_write(x, 100 * MSS);
	for (uint32_t i = 0; i < 40; i++) {
		script_advance(x, 3 * MS);
		SACK_IN(x, i / 4, {i / 2 + 2, i / 2 + 3}, {i / 2 + 4, i / 2 + 5});
		const struct flight *f = script_tcb(x)->active->flight;
		assert_true(f == NULL || f->n <= FLIGHT_MOST);
	}
	drain(x);
	script_destroy(x);
}

static void fin_is_acknowledged_at_once_and_probed_for_early(void **state)
{
	struct script *x = established();

	script_write(x, 100);
	stream_shutdown(x->stream);
	script_flush(x);
	drain(x);
	script_advance(x, 20 * MS - 1);
	script_expect_nothing(x);
	script_advance(x, 1);
	script_expect(x, S_FIN | S_ACK, 1, 1, 100);
	assert_int_equal(script_count(x, tcp_timeouts), 0);
	script_destroy(x);
}

static void window_comes_back_when_all_retransmissions_were_needless(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	uint32_t before = script_tcb(x)->cwnd;
	SACK_IN(x, 0, {1, 5});
	expect_segment(x, 0);
	assert_true(script_tcb(x)->cwnd < before);
	script_advance(x, 5 * MS);
	SACK_IN(x, 5, {0, 1});
	assert_true(script_tcb(x)->cwnd >= before);
	assert_int_equal(script_tcb(x)->flags & F_RECOVERY, 0);
	assert_int_equal(script_count(x, tcp_undone), 1);
	script_destroy(x);
}

static void window_stays_reduced_when_one_retransmission_was_needed(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	uint32_t before = script_tcb(x)->cwnd;
	SACK_IN(x, 0, {1, 2}, {3, 8});
	expect_segment(x, 0);
	script_advance(x, 5 * MS);
	SACK_IN(x, 2, {3, 8});
	expect_segment(x, 2);
	drain(x);
	SACK_IN(x, 8, {0, 1});
	assert_true(script_tcb(x)->cwnd < before);
	assert_int_equal(script_count(x, tcp_undone), 0);
	script_destroy(x);
}

static void duplicate_of_what_was_sent_once_restores_no_window(void **state)
{
	struct script *x = established();

	write_segments(x, 10);
	uint32_t before = script_tcb(x)->cwnd;
	SACK_IN(x, 0, {1, 10});
	expect_segment(x, 0);
	script_write(x, 3 * MSS);
	script_advance(x, 5 * MS);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 0);
	drain(x);
	SACK_IN(x, 11, {10, 11}); /* the path has made two of it */
	assert_true(script_tcb(x)->cwnd < before);
	assert_int_equal(script_tcb(x)->snd_una - x->iss, 1 + 11 * MSS);
	assert_int_equal(script_count(x, tcp_undone), 0);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sack_is_used_only_if_both_offer_it),
		cmocka_unit_test(first_block_holds_the_latest_segment_then_the_most_recent_others),
		cmocka_unit_test(full_data_segment_is_not_cut_for_blocks),
		cmocka_unit_test(only_the_holes_are_sent_again),
		cmocka_unit_test(many_holes_of_one_flight_are_repaired_without_a_timeout),
		cmocka_unit_test(recovery_ends_at_half_of_the_flight),
		cmocka_unit_test(reduction_sends_one_new_segment_for_two_delivered),
		cmocka_unit_test(blocks_of_what_was_never_sent_count_nothing),
		cmocka_unit_test(more_holes_than_fit_are_ignored_without_harm),
		cmocka_unit_test(timeout_forgets_what_was_sacked),
		cmocka_unit_test(peer_that_throws_sacked_data_away_gets_it_again),
		cmocka_unit_test(lost_tail_of_the_flight_is_found_by_what_was_sent_later),
		cmocka_unit_test(single_late_segment_is_waited_for_a_quarter_of_the_round_trip),
		cmocka_unit_test(path_that_reorders_is_waited_for_even_with_three_segments_told),
		cmocka_unit_test(lost_retransmission_is_sent_again_without_the_timer),
		cmocka_unit_test(silence_after_the_last_segment_is_probed_after_two_round_trips),
		cmocka_unit_test(probe_carries_new_data_if_there_is_any),
		cmocka_unit_test(lone_segment_is_left_to_the_retransmission_timer),
		cmocka_unit_test(loss_repaired_by_a_probe_costs_its_share_of_the_window),
		cmocka_unit_test(probe_that_was_not_needed_costs_nothing),
		cmocka_unit_test(answer_within_the_same_microsecond_starts_no_endless_repair),
		cmocka_unit_test(scattered_retransmissions_never_outgrow_the_log),
		cmocka_unit_test(fin_is_acknowledged_at_once_and_probed_for_early),
		cmocka_unit_test(window_comes_back_when_all_retransmissions_were_needless),
		cmocka_unit_test(window_stays_reduced_when_one_retransmission_was_needed),
		cmocka_unit_test(duplicate_of_what_was_sent_once_restores_no_window),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
