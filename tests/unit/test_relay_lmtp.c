/* test_relay_lmtp.c - LMTP (RFC 2033): each recipient has a reply of his own after the content */
#include "smtp/relay/internal.h"
#include "tests/unit/relay_bench.h"

#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEXT "Subject: x\r\n\r\nhello\r\n"
static struct bench lmtp_bench(void)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].hops[0].lmtp = true;
	return bench_with(&o);
}

static void submit(struct bench *b, unsigned recipients)
{
	struct peer *p = peer_login(b->m);
	char line[60];

	peer_say(p, "MAIL FROM:<alice@x.y>\r\n");
	peer_expect(p, "250");
	for (unsigned i = 0; i < recipients; i++) {
		snprintf(line, sizeof(line), "RCPT TO:<%c@x.y>\r\n", 'b' + i);
		peer_say(p, line);
		peer_expect(p, "250");
	}
	peer_say(p, "DATA\r\n");
	peer_expect(p, "354");
	peer_say(p, TEXT ".\r\n");
	peer_expect(p, "250");
	peer_free(p);
}

static void final(struct bench *b, const char *reply, unsigned times)
{
	hop_rule(b->h, (struct hop_rule){.stage = HOP_FINAL, .reply = reply, .times = times});
}

static void it_says_lhlo_and_waits_for_a_reply_a_recipient(void **state)
{
	struct bench b = lmtp_bench();

	b.h->pipelining = true;
	final(&b, "250 2.1.5 b\r\n250 2.1.5 c\r\n250 2.1.5 d\r\n", 0);
	submit(&b, 3);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(strncmp((char *)b.h->log.at, "LHLO mx.test\n", 13), 0);
	assert_null(strstr((char *)b.h->log.at, "EHLO"));
	assert_int_equal(count(&b, relay_delivered), 3);
	/* and the connection is good for another message */
	submit(&b, 3);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(count(&b, relay_delivered), 6);
	assert_int_equal(b.h->connections, 1);
	bench_end(&b);
}

static void recipients_go_their_own_ways(void **state)
{
	struct bench b = lmtp_bench();

	/* one delivered, one for good refused, one put off: only he is tried again */
	final(&b, "250 2.1.5 b\r\n550 5.2.2 full\r\n450 4.2.1 busy\r\n", 1);
	final(&b, "250 2.1.5 d\r\n", 0);
	submit(&b, 3);
	assert_true(drained(&b, 10 * MINUTE));
	/* the third delivery is the report's */
	assert_int_equal(count(&b, relay_delivered), 3);
	assert_int_equal(count(&b, relay_bounced), 1);
	assert_int_equal(count(&b, relay_deferred), 1);
	assert_int_equal(hop_recipient(b.h, "b@x.y"), 1);
	assert_int_equal(hop_recipient(b.h, "alice@x.y"), 1);
	bench_end(&b);
}

static void a_recipient_refused_at_rcpt_has_no_reply_afterwards(void **state)
{
	struct bench b = lmtp_bench();

	hop_rule(b.h, (struct hop_rule){
			      .stage = HOP_RCPT, .match = "c@x.y", .reply = "550 5.1.1 no c\r\n"});
	final(&b, "250 2.1.5 b\r\n250 2.1.5 d\r\n", 1);
	submit(&b, 3);
	/* the report about c comes as a message of its own */
	final(&b, "250 2.1.5 alice\r\n", 0);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(count(&b, relay_bounced), 1);
	assert_int_equal(count(&b, relay_delivered), 3);
	bench_end(&b);
}

static void replies_that_stop_short_leave_the_rest_to_be_tried_again(void **state)
{
	struct bench b = lmtp_bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_FINAL,
					.reply = "250 2.1.5 b\r\n",
					.times = 1,
					.after = HOP_FIN});
	final(&b, "250 2.1.5 c\r\n250 2.1.5 d\r\n", 0);
	submit(&b, 3);
	assert_true(drained(&b, 10 * MINUTE));
	assert_int_equal(count(&b, relay_delivered), 3);
	assert_int_equal(count(&b, relay_deferred), 2);
	bench_end(&b);
}

static void one_reply_too_many_ends_the_connection_and_nothing_else(void **state)
{
	struct bench b = lmtp_bench();

	final(&b, "250 2.1.5 b\r\n250 2.1.5 c\r\n250 2.1.5 who?\r\n", 0);
	submit(&b, 2);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(count(&b, relay_delivered), 2);
	bench_end(&b);
}

static void a_server_that_only_speaks_smtp_is_not_spoken_to_otherwise(void **state)
{
	struct bench b = lmtp_bench();

	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_EHLO, .reply = "500 5.5.1 what?\r\n", .times = 1});
	final(&b, "250 2.1.5 b\r\n", 0);
	submit(&b, 1);
	assert_true(drained(&b, 10 * MINUTE));
	assert_null(strstr((char *)b.h->log.at, "HELO mx"));
	assert_int_equal(count(&b, relay_delivered), 1);
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_says_lhlo_and_waits_for_a_reply_a_recipient),
		cmocka_unit_test(recipients_go_their_own_ways),
		cmocka_unit_test(a_recipient_refused_at_rcpt_has_no_reply_afterwards),
		cmocka_unit_test(replies_that_stop_short_leave_the_rest_to_be_tried_again),
		cmocka_unit_test(one_reply_too_many_ends_the_connection_and_nothing_else),
		cmocka_unit_test(a_server_that_only_speaks_smtp_is_not_spoken_to_otherwise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
