/* test_tcp_trace.c - what the trace holds of a connection's life */
#include "dataplane/tcp/stack.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { LATEST = 64 };

static void without(struct tcp_config *c)
{
	c->trace_events = 0;
}

static void of_four(struct tcp_config *c)
{
	c->trace_events = 4;
}

static void of_five(struct tcp_config *c)
{
	c->trace_events = 5;
}

static uint32_t change(enum tcp_state from, enum tcp_state to)
{
	return (uint32_t)from << 8 | to;
}

static void expect(const struct tcp_traced *e, enum tcp_event event, uint32_t value)
{
	assert_string_equal(tcp_event_name(e->event), tcp_event_name(event));
	assert_int_equal(e->value, value);
}

static void life_of_a_connection_is_its_changes_of_state(void **state)
{
	static const uint8_t path[] = {TCP_CLOSED,     TCP_SYN_RCVD,   TCP_ESTABLISHED,
				       TCP_FIN_WAIT_1, TCP_FIN_WAIT_2, TCP_TIME_WAIT,
				       TCP_CLOSED};
	struct script *x = script_create(NULL);
	struct tcp_traced e[LATEST];

	script_reach(x, TCP_TIME_WAIT);
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 6);
	for (unsigned i = 0; i < 6; i++)
		expect(&e[i], TCP_EVENT_STATE, change(path[i], path[i + 1]));
	script_destroy(x);
}

static void events_carry_their_time_and_stream(void **state)
{
	struct script *x = script_create(NULL);
	struct tcp_traced e[LATEST];
	uint64_t begin = x->shard.now_us;

	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	script_advance(x, 7000);
	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 2);
	assert_int_equal(e[0].at_us, begin + 7000); /* before that there was no stream */
	assert_int_equal(e[1].at_us, begin + 7000);
	assert_int_equal(e[0].handle, stream_handle(x->stream));
	assert_int_equal(e[1].handle, stream_handle(x->stream));
	script_destroy(x);
}

static void retransmissions_windows_and_drops_are_noted(void **state)
{
	struct script *x = script_create(NULL);
	struct tcp_traced e[LATEST];

	script_establish(x);
	uint32_t rto_us = script_tcb(x)->rto_us;
	script_write(x, 100);
	script_advance(x, rto_us);
	x->window = 0;
	script_in(x, S_ACK, 1, 101, 0);
	script_in(x, S_ACK, 1, 200, 0);
	script_in(x, S_RST, 1, 0, 0);
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 8);
	expect(&e[2], TCP_EVENT_TIMEOUT, rto_us);
	expect(&e[3], TCP_EVENT_RETRANSMIT, 100);
	expect(&e[4], TCP_EVENT_PEER_WINDOW, 0);
	expect(&e[5], TCP_EVENT_DROP, tcp_bad_ack);
	expect(&e[6], TCP_EVENT_RST_IN, change(TCP_ESTABLISHED, TCP_CLOSED));
	expect(&e[7], TCP_EVENT_STATE, change(TCP_ESTABLISHED, TCP_CLOSED));
	script_destroy(x);
}

static void our_own_closed_window_is_noted(void **state)
{
	struct script *x = script_create(NULL);
	struct tcp_traced e[LATEST];

	script_establish(x);
	x->keep_unread = true;
	for (uint32_t seq = 1; seq < 16384; seq += 1024)
		script_in(x, S_ACK, seq, 1, 1024);
	unsigned n = tcp_trace_read(x->tcp, 0, e, LATEST);
	assert_int_equal(n, 3);
	expect(&e[2], TCP_EVENT_OUR_WINDOW, 16384);
	stream_abort(x->stream);
	n = tcp_trace_read(x->tcp, 0, e, LATEST);
	expect(&e[3], TCP_EVENT_RST_OUT, change(TCP_ESTABLISHED, TCP_CLOSED));
	assert_int_equal(n, 5);
	script_flush(x);
	script_destroy(x);
}

static void segments_that_go_well_leave_no_trace(void **state)
{
	struct script *x = script_create(NULL);
	struct tcp_traced e[LATEST];

	script_establish(x);
	for (uint32_t i = 0; i < 50; i++) {
		script_in(x, S_ACK, 1 + 100 * i, 1 + 10 * i, 100);
		script_write(x, 10);
	}
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 2);
	script_destroy(x);
}

static void one_stream_is_picked_out_by_its_handle(void **state)
{
	struct script *x = script_create(NULL);
	struct tcp_traced e[LATEST];

	script_listen(x);
	for (unsigned i = 0; i < 5; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_in(x, S_ACK, 1, 1, 0);
	}
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 10);
	handle_t last = stream_handle(x->stream);
	assert_int_equal(tcp_trace_read(x->tcp, last, e, LATEST), 2);
	assert_int_equal(e[0].handle, last);
	assert_int_equal(e[1].value, change(TCP_SYN_RCVD, TCP_ESTABLISHED));
	assert_int_equal(tcp_trace_read(x->tcp, last, e, 1), 1); /* the latest */
	assert_int_equal(e[0].value, change(TCP_SYN_RCVD, TCP_ESTABLISHED));
	script_destroy(x);
}

static void oldest_events_give_way(void **state)
{
	struct script *x = script_create(of_four);
	struct tcp_traced e[LATEST];

	script_reach(x, TCP_TIME_WAIT);
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 4);
	expect(&e[0], TCP_EVENT_STATE, change(TCP_ESTABLISHED, TCP_FIN_WAIT_1));
	expect(&e[3], TCP_EVENT_STATE, change(TCP_TIME_WAIT, TCP_CLOSED));
	script_destroy(x);
}

static void ring_that_is_not_full_holds_what_was_written_and_no_more(void **state)
{
	struct script *x = script_create(of_four);
	struct tcp_traced e[LATEST];

	script_listen(x);
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 0);
	for (unsigned i = 1; i <= 6; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_in(x, S_ACK, 1, 1, 0);
		assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), i < 2 ? 2 * i : 4);
		assert_true(e[0].handle != 0);
	}
	assert_string_equal(tcp_event_name(TCP_EVENT_KINDS), "?");
	script_destroy(x);
}

static void trace_can_be_switched_off(void **state)
{
	struct script *x = script_create(without);
	struct tcp_traced e[LATEST];

	script_reach(x, TCP_CLOSE_WAIT);
	assert_int_equal(tcp_trace_read(x->tcp, 0, e, LATEST), 0);
	struct tcp_config c = x->config;
	of_five(&c); /* not a power of two */
	assert_null(tcp_create(&x->shard, &x->tcp->env, &c));
	script_destroy(x);
}

static void every_event_is_one_line_for_eyes(void **state)
{
	static const struct {
		struct tcp_traced e;
		const char *text;
	} rows[] = {
		{{.event = TCP_EVENT_STATE, .value = TCP_SYN_RCVD << 8 | TCP_ESTABLISHED},
		 "SYN_RCVD -> ESTABLISHED"},
		{{.event = TCP_EVENT_TIMEOUT, .value = 200000}, "200 ms"},
		{{.event = TCP_EVENT_DROP, .value = tcp_bad_ack}, "tcp_bad_ack"},
		{{.event = TCP_EVENT_DROP, .value = 9999}, "?"},
		{{.event = TCP_EVENT_RST_IN, .value = TCP_LAST_ACK << 8}, "in LAST_ACK"},
		{{.event = TCP_EVENT_RETRANSMIT, .value = 1448}, "1448 bytes"},
		{{.event = TCP_EVENT_STARVED, .value = 1}, "of chunks"},
		{{.event = TCP_EVENT_STATE, .value = 99 << 8 | 99}, "? -> ?"},
	};
	char text[80];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(tcp_event_text(&rows[i].e, text, sizeof(text)), rows[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_event_is_one_line_for_eyes),
		cmocka_unit_test(life_of_a_connection_is_its_changes_of_state),
		cmocka_unit_test(events_carry_their_time_and_stream),
		cmocka_unit_test(retransmissions_windows_and_drops_are_noted),
		cmocka_unit_test(our_own_closed_window_is_noted),
		cmocka_unit_test(segments_that_go_well_leave_no_trace),
		cmocka_unit_test(one_stream_is_picked_out_by_its_handle),
		cmocka_unit_test(oldest_events_give_way),
		cmocka_unit_test(ring_that_is_not_full_holds_what_was_written_and_no_more),
		cmocka_unit_test(trace_can_be_switched_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
