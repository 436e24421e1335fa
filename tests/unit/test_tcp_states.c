/* test_tcp_states.c - every state against SYN, RST, ACK, FIN and data: RFC 9293 section 3.10.7 as a
 * table */
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* What the stack answers */
enum answer {
	NOTHING,
	AN_ACK,    /* of everything it has received */
	A_RST,     /* without ACK, at the number the segment acknowledged */
	A_RST_ACK, /* of a segment without ACK */
	A_SYN_ACK,
};

struct row {
	enum tcp_state state;
	const char *segment;
	unsigned flags;
	uint32_t seq, ack, bytes; /* relative; the peer's next number is 1 or, after its FIN, 2 */
	enum answer answer;
	enum tcp_state after;
	const char *log;
};

static const struct row rows[] = {
	/* CLOSED: nobody listens */
	{TCP_CLOSED, "SYN", S_SYN, 0, 0, 0, A_RST_ACK, TCP_CLOSED, ""},
	{TCP_CLOSED, "RST", S_RST, 0, 0, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_CLOSED, "RST ACK", S_RST | S_ACK, 0, 9, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_CLOSED, "ACK", S_ACK, 5, 9, 0, A_RST, TCP_CLOSED, ""},
	{TCP_CLOSED, "FIN ACK", S_FIN | S_ACK, 5, 9, 0, A_RST, TCP_CLOSED, ""},
	{TCP_CLOSED, "data", S_ACK, 5, 9, 10, A_RST, TCP_CLOSED, ""},
	{TCP_CLOSED, "nothing at all", 0, 5, 0, 10, A_RST_ACK, TCP_CLOSED, ""},

	/* SYN_SENT (3.10.7.3) */
	{TCP_SYN_SENT, "SYN", S_SYN, 0, 0, 0, A_SYN_ACK, TCP_SYN_RCVD, ""},
	{TCP_SYN_SENT, "SYN ACK", S_SYN | S_ACK, 0, 1, 0, AN_ACK, TCP_ESTABLISHED, "opened"},
	{TCP_SYN_SENT, "SYN ACK of the future", S_SYN | S_ACK, 0, 2, 0, A_RST, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "SYN ACK of the past", S_SYN | S_ACK, 0, 0, 0, A_RST, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "RST without ACK", S_RST, 0, 0, 0, NOTHING, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "RST ACK", S_RST | S_ACK, 0, 1, 0, NOTHING, TCP_CLOSED, "closed:refused"},
	{TCP_SYN_SENT, "RST with a wrong ACK", S_RST | S_ACK, 0, 9, 0, NOTHING, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "ACK", S_ACK, 0, 1, 0, NOTHING, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "wrong ACK", S_ACK, 0, 7, 0, A_RST, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "FIN ACK", S_FIN | S_ACK, 0, 1, 0, NOTHING, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "data", S_ACK, 0, 1, 10, NOTHING, TCP_SYN_SENT, ""},
	{TCP_SYN_SENT, "SYN FIN", S_SYN | S_FIN, 0, 0, 0, NOTHING, TCP_SYN_SENT, ""},

	/* SYN_RCVD, passive */
	{TCP_SYN_RCVD, "SYN again", S_SYN, 0, 0, 0, A_SYN_ACK, TCP_SYN_RCVD, ""},
	{TCP_SYN_RCVD, "SYN in the window", S_SYN, 5, 0, 0, AN_ACK, TCP_SYN_RCVD, ""},
	{TCP_SYN_RCVD, "RST", S_RST, 1, 0, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_SYN_RCVD, "RST in the window", S_RST, 9, 0, 0, AN_ACK, TCP_SYN_RCVD, ""},
	{TCP_SYN_RCVD, "RST outside", S_RST, 0, 0, 0, NOTHING, TCP_SYN_RCVD, ""},
	{TCP_SYN_RCVD, "ACK", S_ACK, 1, 1, 0, NOTHING, TCP_ESTABLISHED, "opened"},
	{TCP_SYN_RCVD, "ACK of nothing", S_ACK, 1, 0, 0, A_RST, TCP_SYN_RCVD, ""},
	{TCP_SYN_RCVD, "ACK of the future", S_ACK, 1, 2, 0, A_RST, TCP_SYN_RCVD, ""},
	{TCP_SYN_RCVD, "FIN ACK", S_FIN | S_ACK, 1, 1, 0, AN_ACK, TCP_CLOSE_WAIT, "opened eof"},
	{TCP_SYN_RCVD, "data", S_ACK, 1, 1, 10, NOTHING, TCP_ESTABLISHED, "opened readable"},
	{TCP_SYN_RCVD, "data without ACK", 0, 1, 0, 10, NOTHING, TCP_SYN_RCVD, ""},

	{TCP_ESTABLISHED, "SYN", S_SYN, 0, 0, 0, AN_ACK, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "SYN in the window", S_SYN, 5, 0, 0, AN_ACK, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "SYN ACK", S_SYN | S_ACK, 1, 1, 0, AN_ACK, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "RST", S_RST, 1, 0, 0, NOTHING, TCP_CLOSED, "closed:reset"},
	{TCP_ESTABLISHED, "RST in the window", S_RST, 2, 0, 0, AN_ACK, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "RST outside", S_RST, 70000, 0, 0, NOTHING, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "ACK", S_ACK, 1, 1, 0, NOTHING, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "ACK of the future", S_ACK, 1, 2, 0, AN_ACK, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "FIN", S_FIN | S_ACK, 1, 1, 0, AN_ACK, TCP_CLOSE_WAIT, "eof"},
	{TCP_ESTABLISHED, "data", S_ACK, 1, 1, 10, NOTHING, TCP_ESTABLISHED, "readable"},
	{TCP_ESTABLISHED, "data and FIN", S_FIN | S_ACK, 1, 1, 10, AN_ACK, TCP_CLOSE_WAIT, "eof"},
	{TCP_ESTABLISHED, "data outside", S_ACK, 70000, 1, 10, AN_ACK, TCP_ESTABLISHED, ""},
	{TCP_ESTABLISHED, "data without ACK", 0, 1, 0, 10, NOTHING, TCP_ESTABLISHED, ""},

	{TCP_FIN_WAIT_1, "SYN", S_SYN, 1, 0, 0, AN_ACK, TCP_FIN_WAIT_1, ""},
	{TCP_FIN_WAIT_1, "RST", S_RST, 1, 0, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_FIN_WAIT_1, "ACK of the FIN", S_ACK, 1, 2, 0, NOTHING, TCP_FIN_WAIT_2, ""},
	{TCP_FIN_WAIT_1, "ACK before the FIN", S_ACK, 1, 1, 0, NOTHING, TCP_FIN_WAIT_1, ""},
	{TCP_FIN_WAIT_1, "FIN", S_FIN | S_ACK, 1, 1, 0, AN_ACK, TCP_CLOSING, ""},
	{TCP_FIN_WAIT_1, "FIN with ACK", S_FIN | S_ACK, 1, 2, 0, AN_ACK, TCP_TIME_WAIT, ""},
	{TCP_FIN_WAIT_1, "data", S_ACK, 1, 1, 10, NOTHING, TCP_FIN_WAIT_1, ""},

	{TCP_FIN_WAIT_2, "SYN", S_SYN, 1, 0, 0, AN_ACK, TCP_FIN_WAIT_2, ""},
	{TCP_FIN_WAIT_2, "RST", S_RST, 1, 0, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_FIN_WAIT_2, "ACK", S_ACK, 1, 2, 0, NOTHING, TCP_FIN_WAIT_2, ""},
	{TCP_FIN_WAIT_2, "FIN", S_FIN | S_ACK, 1, 2, 0, AN_ACK, TCP_TIME_WAIT, ""},
	{TCP_FIN_WAIT_2, "data", S_ACK, 1, 2, 10, NOTHING, TCP_FIN_WAIT_2, ""},

	{TCP_CLOSE_WAIT, "SYN", S_SYN, 2, 0, 0, AN_ACK, TCP_CLOSE_WAIT, ""},
	{TCP_CLOSE_WAIT, "RST", S_RST, 2, 0, 0, NOTHING, TCP_CLOSED, "closed:reset"},
	{TCP_CLOSE_WAIT, "ACK", S_ACK, 2, 1, 0, NOTHING, TCP_CLOSE_WAIT, ""},
	{TCP_CLOSE_WAIT, "FIN again", S_FIN | S_ACK, 1, 1, 0, AN_ACK, TCP_CLOSE_WAIT, ""},
	{TCP_CLOSE_WAIT, "data after FIN", S_ACK, 2, 1, 10, NOTHING, TCP_CLOSE_WAIT, ""},

	{TCP_CLOSING, "SYN", S_SYN, 2, 0, 0, AN_ACK, TCP_CLOSING, ""},
	{TCP_CLOSING, "RST", S_RST, 2, 0, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_CLOSING, "ACK of the FIN", S_ACK, 2, 2, 0, NOTHING, TCP_TIME_WAIT, ""},
	{TCP_CLOSING, "FIN again", S_FIN | S_ACK, 1, 1, 0, AN_ACK, TCP_CLOSING, ""},
	{TCP_CLOSING, "data after FIN", S_ACK, 2, 1, 10, NOTHING, TCP_CLOSING, ""},

	{TCP_LAST_ACK, "SYN", S_SYN, 2, 0, 0, AN_ACK, TCP_LAST_ACK, ""},
	{TCP_LAST_ACK, "RST", S_RST, 2, 0, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_LAST_ACK, "ACK of the FIN", S_ACK, 2, 2, 0, NOTHING, TCP_CLOSED, ""},
	{TCP_LAST_ACK, "FIN again", S_FIN | S_ACK, 1, 1, 0, AN_ACK, TCP_LAST_ACK, ""},
	{TCP_LAST_ACK, "data after FIN", S_ACK, 2, 1, 10, NOTHING, TCP_LAST_ACK, ""},

	{TCP_TIME_WAIT, "old SYN", S_SYN, 1, 0, 0, AN_ACK, TCP_TIME_WAIT, ""},
	{TCP_TIME_WAIT, "RST", S_RST, 2, 0, 0, NOTHING, TCP_TIME_WAIT, ""},
	{TCP_TIME_WAIT, "ACK", S_ACK, 2, 2, 0, NOTHING, TCP_TIME_WAIT, ""},
	{TCP_TIME_WAIT, "FIN again", S_FIN | S_ACK, 1, 2, 0, AN_ACK, TCP_TIME_WAIT, ""},
	{TCP_TIME_WAIT, "data", S_ACK, 2, 2, 10, AN_ACK, TCP_TIME_WAIT, ""},
};

/* All numbers that the stack has sent so far, as it would acknowledge from */
static uint32_t sent(enum tcp_state state)
{
	static const uint8_t numbers[TCP_STATES] = {
		[TCP_FIN_WAIT_1] = 2, [TCP_FIN_WAIT_2] = 2, [TCP_CLOSING] = 2,
		[TCP_LAST_ACK] = 2,   [TCP_TIME_WAIT] = 2,
	};

	return numbers[state] != 0 ? numbers[state] : 1;
}

/* All numbers of the peer that the stack must acknowledge after the segment */
static uint32_t received(const struct row *r)
{
	bool fin_before = r->state == TCP_CLOSE_WAIT || r->state == TCP_CLOSING ||
			  r->state == TCP_LAST_ACK || r->state == TCP_TIME_WAIT;
	uint32_t next = fin_before ? 2 : 1;

	if (!fin_before && (r->flags & S_FIN) != 0)
		next += r->bytes + 1;
	return next;
}

static void check_answer(struct script *x, const struct row *r)
{
	switch (r->answer) {
	case NOTHING:
		break;
	case AN_ACK:
		script_expect(x, S_ACK, sent(r->state), received(r), 0);
		break;
	case A_RST:
		script_expect(x, S_RST, r->ack, 0, 0);
		break;
	case A_RST_ACK:
		script_expect(x, S_RST | S_ACK, -x->iss,
			      r->seq + r->bytes + ((r->flags & S_SYN) != 0), 0);
		break;
	case A_SYN_ACK:
		script_expect(x, S_SYN | S_ACK, 0, 1, 0);
		break;
	}
	script_expect_nothing(x);
}

static void each_state_treats_each_segment_as_rfc_9293_says(void **state)
{
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *r = &rows[i];
		struct script *x = script_create(NULL);

		print_message("# state %d: %s\n", r->state, r->segment);
		script_reach(x, r->state);
		script_in(x, r->flags, r->seq, r->ack, r->bytes);
		check_answer(x, r);
		assert_int_equal(script_state(x), r->after);
		assert_string_equal(x->log, r->log);
		script_destroy(x);
	}
}

static void a_listener_ignores_or_refuses_all_but_a_syn(void **state)
{
	static const struct {
		unsigned flags;
		enum answer answer;
	} others[] = {
		{S_RST, NOTHING},         {S_RST | S_ACK, NOTHING},         {S_ACK, A_RST},
		{S_SYN | S_ACK, A_RST},   {S_SYN | S_FIN, NOTHING},         {S_FIN | S_ACK, A_RST},
		{S_SYN | S_RST, NOTHING}, {S_SYN | S_FIN | S_ACK, NOTHING},
	};

	for (unsigned i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct script *x = script_create(NULL);
		struct row r = {.flags = others[i].flags, .ack = 9, .answer = others[i].answer};

		script_listen(x);
		script_in(x, r.flags, 0, 9, 0);
		check_answer(x, &r);
		assert_int_equal(script_state(x), TCP_CLOSED);
		assert_int_equal(tcp_stream_count(x->tcp), 0);
		script_destroy(x);
	}
}

static void simultaneous_open_ends_established_on_either_form(void **state)
{
	static const unsigned forms[] = {S_SYN | S_ACK, S_ACK};

	for (unsigned i = 0; i < 2; i++) {
		struct script *x = script_create(NULL);

		script_reach(x, TCP_SYN_SENT);
		script_in(x, S_SYN, 0, 0, 0);
		script_expect(x, S_SYN | S_ACK, 0, 1, 0);
		script_in(x, forms[i], forms[i] == S_ACK ? 1 : 0, 1, 0);
		assert_int_equal(script_state(x), TCP_ESTABLISHED);
		assert_string_equal(x->log, "opened");
		script_destroy(x);
	}
}

static void simultaneous_close_passes_closing_and_ends_in_time_wait(void **state)
{
	struct script *x = script_create(NULL);

	script_establish(x);
	stream_close(x->stream);
	script_flush(x);
	script_expect(x, S_FIN | S_ACK, 1, 1, 0);
	script_in(x, S_FIN | S_ACK, 1, 1, 0);
	script_expect(x, S_ACK, 2, 2, 0);
	assert_int_equal(script_state(x), TCP_CLOSING);
	script_in(x, S_ACK, 2, 2, 0);
	assert_int_equal(script_state(x), TCP_TIME_WAIT);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_state_treats_each_segment_as_rfc_9293_says),
		cmocka_unit_test(a_listener_ignores_or_refuses_all_but_a_syn),
		cmocka_unit_test(simultaneous_open_ends_established_on_either_form),
		cmocka_unit_test(simultaneous_close_passes_closing_and_ends_in_time_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
