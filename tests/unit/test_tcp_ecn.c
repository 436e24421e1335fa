/* test_tcp_ecn.c - explicit congestion notification: RFC 3168 */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { S_ECE = WIRE_ECE, S_CWR = WIRE_CWR, MSS = 536 };

static void off(struct tcp_config *c)
{
	c->ecn = TCP_ECN_OFF;
}

static void on(struct tcp_config *c)
{
	c->ecn = TCP_ECN_ON;
}

static void with_sack(struct tcp_config *c)
{
	c->sack = true;
}

static void tunable(struct tcp_config *c)
{
	c->tunable = true;
}

static void by_cookie(struct tcp_config *c)
{
	c->syn_cookies = TCP_COOKIES_ALWAYS;
	c->timestamps = c->sack = c->window_scaling = true;
}

/* Accepted from a peer that asked for ECN. */
static struct script *established(void (*configure)(struct tcp_config *c))
{
	struct script *x = script_create(configure);

	script_listen(x);
	script_in(x, S_SYN | S_ECE | S_CWR, 0, 0, 0);
	script_expect(x, S_SYN | S_ACK | S_ECE, 0, 1, 0);
	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_count(x, tcp_ecn_agreed), 1);
	return x;
}

static void syn_asks_only_where_configured(void **state)
{
	static const struct {
		void (*configure)(struct tcp_config *c);
		unsigned flags;
	} cases[] = {{off, S_SYN}, {NULL, S_SYN}, {on, S_SYN | S_ECE | S_CWR}};

	for (unsigned i = 0; i < 3; i++) {
		struct script *x = script_create(cases[i].configure);

		script_connect(x);
		script_expect(x, cases[i].flags, 0, 0, 0);
		assert_int_equal(x->out[0].tos, 0);
		script_destroy(x);
	}
}

static void syn_ack_grants_what_was_asked_for_and_configured(void **state)
{
	static const struct {
		void (*configure)(struct tcp_config *c);
		unsigned syn, answer;
	} cases[] = {
		{NULL, S_SYN | S_ECE | S_CWR, S_SYN | S_ACK | S_ECE},
		{on, S_SYN | S_ECE | S_CWR, S_SYN | S_ACK | S_ECE},
		{off, S_SYN | S_ECE | S_CWR, S_SYN | S_ACK},
		{NULL, S_SYN, S_SYN | S_ACK},
		{NULL, S_SYN | S_ECE, S_SYN | S_ACK},
		{NULL, S_SYN | S_CWR, S_SYN | S_ACK},
	};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script *x = script_create(cases[i].configure);

		script_listen(x);
		script_in(x, cases[i].syn, 0, 0, 0);
		script_expect(x, cases[i].answer, 0, 1, 0);
		script_destroy(x);
	}
}

static void connect_uses_it_only_if_the_syn_ack_says_ece_alone(void **state)
{
	static const struct {
		unsigned flags;
		uint8_t tos;
	} cases[] = {{S_ECE, WIRE_ECT_0}, {0, 0}, {S_ECE | S_CWR, 0}, {S_CWR, 0}};

	for (unsigned i = 0; i < 4; i++) {
		struct script *x = script_create(on);

		script_connect(x);
		script_in(x, S_SYN | S_ACK | cases[i].flags, 0, 1, 0);
		script_write(x, 10);
		assert_int_equal(x->out[x->n_out - 1].bytes, 10);
		assert_int_equal(x->out[x->n_out - 1].tos, cases[i].tos);
		script_destroy(x);
	}
}

static void syn_sent_again_does_not_ask_and_the_connection_goes_without(void **state)
{
	struct script *x = script_create(on);

	script_connect(x);
	script_expect(x, S_SYN | S_ECE | S_CWR, 0, 0, 0);
	script_advance(x, 1000000);
	script_expect(x, S_SYN, 0, 0, 0);
	script_in(x, S_SYN | S_ACK | S_ECE, 0, 1, 0); /* the answer to the first after all */
	script_write(x, 10);
	assert_int_equal(x->out[x->n_out - 1].tos, 0);
	script_destroy(x);
}

static void peer_that_asks_no_more_in_its_second_syn_goes_without(void **state)
{
	struct script *x = script_create(NULL);

	script_listen(x);
	script_in(x, S_SYN | S_ECE | S_CWR, 0, 0, 0);
	script_expect(x, S_SYN | S_ACK | S_ECE, 0, 1, 0);
	script_in(x, S_SYN, 0, 0, 0);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 10);
	assert_int_equal(x->out[x->n_out - 1].tos, 0);
	script_destroy(x);
}

static void only_new_data_is_ecn_capable(void **state)
{
	struct script *x = established(NULL);

	script_write(x, 100);
	assert_int_equal(script_take(x)->tos, WIRE_ECT_0);
	script_advance(x, 1000000); /* the timer sends it again */
	const struct script_segment *again = script_take(x);
	assert_int_equal(again->bytes, 100);
	assert_int_equal(again->tos, 0);
	script_in(x, S_ACK, 1, 101, 600);
	script_in(x, S_ACK, 601, 101, 600);
	const struct script_segment *ack = script_take(x);
	while (ack->bytes > 0)
		ack = script_take(x);
	assert_int_equal(ack->tos, 0);
	script_destroy(x);
}

static void codepoint_leaves_the_rest_of_the_octet_alone(void **state)
{
	struct script *x = established(tunable);
	struct stream_tuning tuning;

	tcp_tuning(x->tcp, &tuning);
	tuning.tos = 0x20;
	assert_int_equal(stream_tune(x->stream, &tuning), 0);
	script_write(x, 10);
	assert_int_equal(script_take(x)->tos, 0x20 | WIRE_ECT_0);
	script_destroy(x);
}

static void mark_is_echoed_in_every_ack_until_the_peer_says_cwr(void **state)
{
	struct script *x = established(NULL);

	x->tos = WIRE_CE;
	script_in(x, S_ACK, 1, 1, 100);
	script_expect(x, S_ACK | S_ECE, 1, 101, 0); /* at once */
	x->tos = WIRE_ECT_0;
	script_in(x, S_ACK, 101, 1, 100);
	script_in(x, S_ACK, 201, 1, 100);
	script_expect(x, S_ACK | S_ECE, 1, 301, 0);
	script_write(x, 10); /* data echo it as well */
	script_expect(x, S_ACK | S_ECE, 1, 301, 10);
	script_in(x, S_ACK | S_CWR, 301, 11, 100);
	script_in(x, S_ACK, 401, 11, 100);
	script_expect(x, S_ACK, 11, 501, 0);
	assert_int_equal(script_count(x, tcp_ecn_marked), 1);
	script_destroy(x);
}

static void cwr_in_a_marked_segment_begins_the_echo_anew(void **state)
{
	struct script *x = established(NULL);

	x->tos = WIRE_CE;
	script_in(x, S_ACK, 1, 1, 100);
	script_expect(x, S_ACK | S_ECE, 1, 101, 0);
	script_in(x, S_ACK | S_CWR, 101, 1, 100);
	script_expect(x, S_ACK | S_ECE, 1, 201, 0);
	script_destroy(x);
}

static void echo_reduces_the_window_once_a_round_trip(void **state)
{
	struct script *x = established(NULL);
	struct stream *s = script_tcb(x);

	script_write(x, 10 * MSS);
	x->taken = x->n_out;
	script_in(x, S_ACK | S_ECE, 1, 1 + MSS, 0);
	assert_int_equal(s->ssthresh, 9 * MSS / 2);
	assert_int_equal(s->cwnd, 9 * MSS / 2);
	script_write(x, 20 * MSS);
	for (uint32_t i = 2; i <= 10; i++) /* the last acknowledges what was out just then */
		script_in(x, S_ACK | S_ECE, 1, 1 + i * MSS, 0);
	assert_int_equal(script_count(x, tcp_ecn_reductions), 1);
	script_in(x, S_ACK | S_ECE, 1, 1 + 11 * MSS, 0); /* sent after the reduction */
	assert_int_equal(script_count(x, tcp_ecn_reductions), 2);
	assert_int_equal(script_count(x, tcp_retransmits), 0);
	script_destroy(x);
}

static void reduction_is_told_in_the_next_new_segment_and_only_there(void **state)
{
	struct script *x = established(NULL);

	script_write(x, 10 * MSS);
	x->taken = x->n_out;
	script_in(x, S_ACK | S_ECE, 1, 1 + 10 * MSS, 100);
	script_in(x, S_ACK | S_ECE, 101, 1 + 10 * MSS, 100);
	script_expect(x, S_ACK, 1 + 10 * MSS, 201, 0); /* not in an ACK */
	script_write(x, 2 * MSS);
	script_expect(x, S_ACK | S_CWR, 1 + 10 * MSS, 201, MSS);
	script_expect(x, S_ACK, 1 + 11 * MSS, 201, MSS);
	script_destroy(x);
}

static void loss_found_otherwise_is_told_as_well(void **state)
{
	struct script *x = established(NULL);

	script_write(x, 2 * MSS);
	x->taken = x->n_out;
	script_advance(x, 300000);
	script_expect(x, S_ACK, 1, 1, MSS); /* a retransmission does not say it */
	script_in(x, S_ACK, 1, 1 + 2 * MSS, 0);
	script_write(x, 10);
	script_expect(x, S_ACK | S_CWR, 1 + 2 * MSS, 1, 10);
	script_destroy(x);
}

static void marks_and_echoes_mean_nothing_where_it_was_not_agreed(void **state)
{
	struct script *x = script_create(with_sack);

	script_establish(x);
	uint32_t cwnd = script_tcb(x)->cwnd;
	script_write(x, 3 * MSS);
	assert_int_equal(script_take(x)->tos, 0);
	x->taken = x->n_out;
	x->tos = WIRE_CE;
	script_in(x, S_ACK | S_ECE, 1, 1 + 3 * MSS, 600);
	script_in(x, S_ACK | S_ECE, 601, 1 + 3 * MSS, 600);
	script_expect(x, S_ACK, 1 + 3 * MSS, 1201, 0);
	assert_true(script_tcb(x)->cwnd >= cwnd);
	assert_int_equal(script_count(x, tcp_ecn_marked) + script_count(x, tcp_ecn_reductions), 0);
	script_destroy(x);
}

static void cookie_remembers_it_beside_timestamps(void **state)
{
	struct script *x = script_create(by_cookie);
	struct tcp_options o = {.has_timestamp = true,
				.ts_value = 700,
				.sack_permitted = true,
				.has_scale = true,
				.scale = 5};
	uint8_t options[OPTIONS_MAX_BYTES];
	size_t n = options_write_syn(options, &o, TCP_OPTIONS_LINUX);

	script_listen(x);
	script_raw(x, S_SYN | S_ECE | S_CWR, 0, 0, options, (unsigned)n, 0);
	script_expect(x, S_SYN | S_ACK | S_ECE, 0, 1, 0);
	x->timestamps = true;
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 10);
	assert_int_equal(script_take(x)->tos, WIRE_ECT_0);
	assert_true((script_tcb(x)->flags & F_SACK) != 0);
	assert_int_equal(snd_scale(script_tcb(x)), 5);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(syn_asks_only_where_configured),
		cmocka_unit_test(syn_ack_grants_what_was_asked_for_and_configured),
		cmocka_unit_test(connect_uses_it_only_if_the_syn_ack_says_ece_alone),
		cmocka_unit_test(syn_sent_again_does_not_ask_and_the_connection_goes_without),
		cmocka_unit_test(peer_that_asks_no_more_in_its_second_syn_goes_without),
		cmocka_unit_test(only_new_data_is_ecn_capable),
		cmocka_unit_test(codepoint_leaves_the_rest_of_the_octet_alone),
		cmocka_unit_test(mark_is_echoed_in_every_ack_until_the_peer_says_cwr),
		cmocka_unit_test(cwr_in_a_marked_segment_begins_the_echo_anew),
		cmocka_unit_test(echo_reduces_the_window_once_a_round_trip),
		cmocka_unit_test(reduction_is_told_in_the_next_new_segment_and_only_there),
		cmocka_unit_test(loss_found_otherwise_is_told_as_well),
		cmocka_unit_test(marks_and_echoes_mean_nothing_where_it_was_not_agreed),
		cmocka_unit_test(cookie_remembers_it_beside_timestamps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
