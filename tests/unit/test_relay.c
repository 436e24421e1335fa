/* test_relay.c - delivery to a next hop that behaves, refuses, lies, breaks off and comes back */
#include "smtp/relay/internal.h"
#include "tests/sim/random.h"
#include "tests/unit/relay_bench.h"

#include <errno.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEXT "Subject: x\r\n\r\nhello\r\n"
/* A message from the first, to the comma-separated others; it is durable on return. */
static void submit_as(struct bench *b, const char *mail, const char *to, const char *content)
{
	struct peer *p = peer_login(b->m);
	char line[300], list[300], *save = NULL;

	snprintf(line, sizeof(line), "MAIL FROM:%s\r\n", mail);
	peer_say(p, line);
	peer_expect(p, "250");
	snprintf(list, sizeof(list), "%s", to);
	for (char *t = strtok_r(list, ",", &save); t != NULL; t = strtok_r(NULL, ",", &save)) {
		snprintf(line, sizeof(line), "RCPT TO:<%s>\r\n", t);
		peer_say(p, line);
		peer_expect(p, "250");
	}
	peer_say(p, "DATA\r\n");
	peer_expect(p, "354");
	peer_say(p, content);
	peer_say(p, ".\r\n");
	peer_expect(p, "250");
	peer_free(p);
}

static void submit(struct bench *b, const char *to)
{
	submit_as(b, "<alice@x.y>", to, TEXT);
}

static void a_message_is_delivered_with_and_without_pipelining(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct bench b = bench();
		b.h->pipelining = i == 1;
		submit(&b, "b@x.y,c@x.y,d@x.y");
		assert_true(drained(&b, MINUTE));
		assert_int_equal(b.h->n_mails, 1);
		assert_int_equal(hop_count(b.h, TEXT), 1);
		assert_string_equal((char *)b.h->mails[0].to.at, "<b@x.y>\n<c@x.y>\n<d@x.y>\n");
		assert_non_null(strstr((char *)b.h->log.at, "MAIL FROM:<alice@x.y> SIZE="));
		assert_int_equal(count(&b, relay_delivered), 3);
		bench_end(&b);
	}
}

static void dots_and_any_content_arrive_octet_by_octet(void **state)
{
	static const char *const parts[] = {".", "..", "\r\n", "a", ".\r\n", "\r\n.", " "};

	for (uint64_t seed = 1; seed <= 40; seed++) {
		uint64_t r = seed;
		struct bench b = bench();
		char sent[3000] = "Subject: x\r\n\r\n", wire[6000];
		size_t n = 0;
		while (strlen(sent) < 200 + seed * 50)
			strcat(sent, parts[random_below(&r, 7)]);
		strcat(sent, "\r\n");
		for (size_t i = 0; sent[i] != '\0'; i++) {
			if (sent[i] == '.' && (i == 0 || sent[i - 1] == '\n'))
				wire[n++] = '.';
			wire[n++] = sent[i];
		}
		wire[n] = '\0';
		submit_as(&b, "<>", "b@x.y", wire);
		assert_true(drained(&b, MINUTE));
		const struct bytes *got = &b.h->mails[0].content;
		if (got->n < strlen(sent) ||
		    strcmp((char *)got->at + got->n - strlen(sent), sent) != 0)
			fail_msg("seed %llu", (unsigned long long)seed);
		bench_end(&b);
	}
}

static void a_large_message_arrives_octet_by_octet_in_clear_and_under_tls(void **state)
{
	enum { LINES = 70000, LINE = 75 };

	for (unsigned tls = 0; tls < 2; tls++) {
		struct mail_options o;
		mail_options_default(&o);
		o.relay.pools[0].hops[0].tls = tls ? RELAY_TLS_REQUIRED : RELAY_TLS_NONE;
		struct bench b = bench_with(&o);
		b.h->starttls = true;
		char *text = malloc((size_t)LINES * LINE + 100);
		size_t n = (size_t)sprintf(text, "Subject: large\r\n\r\n");
		for (unsigned i = 0; i < LINES; i++)
			n += (size_t)sprintf(text + n, "%0*u\r\n", LINE - 2, i * 2654435761u);
		submit_as(&b, "<>", "b@x.y", text);
		assert_true(drained(&b, 10ull * MINUTE));
		const struct bytes *got = &b.h->mails[0].content;
		assert_true(got->n > n);
		assert_memory_equal(got->at + got->n - n, text, n);
		assert_int_equal(b.h->secured, tls);
		free(text);
		bench_end(&b);
	}
}

/* The message stays for a later attempt, and that one delivers it. */
static void expect_deferred(struct hop_rule rule)
{
	struct bench b = bench();

	rule.times = 1;
	hop_rule(b.h, rule);
	submit(&b, "b@x.y");
	mail_run(b.m, 20 * MAIL_SECOND);
	/* a hop that cannot be used costs no attempt: another connection may have done it */
	if (rule.stage > HOP_STARTTLS)
		assert_int_equal(relay_queued(b.m->relay), 1);
	if (!drained(&b, 20ull * MINUTE))
		fail_msg("stage %d reply %s: not delivered", rule.stage, rule.reply);
	assert_int_equal(hop_count(b.h, TEXT), 1);
	assert_int_equal(count(&b, relay_reports), 0);
	bench_end(&b);
}

static void a_4xx_at_any_stage_defers(void **state)
{
	static const enum hop_stage stages[] = {HOP_GREETING, HOP_EHLO, HOP_MAIL,
						HOP_RCPT,     HOP_DATA, HOP_FINAL};
	static const char *const replies[] = {"421 4.3.2 later\r\n", "451 4.3.0 later\r\n",
					      "450-4.2.0 not\r\n450 4.2.0 now\r\n"};

	for (size_t s = 0; s < sizeof(stages) / sizeof(stages[0]); s++)
		for (size_t r = 0; r < 3; r++)
			expect_deferred((struct hop_rule){.stage = stages[s], .reply = replies[r]});
}

static void replies_that_make_no_sense_defer_and_never_deliver_or_bounce(void **state)
{
	static const enum hop_stage stages[] = {HOP_MAIL, HOP_RCPT, HOP_DATA, HOP_FINAL};
	static const char *const replies[] = {
		"354 go\r\n", "350 what\r\n", "9\r\n", "199 no\r\n",         "600 no\r\n",
		"2x0 no\r\n", "250x\r\n",     "\r\n",  "250-a\r\n251 b\r\n", "hello\r\n"};

	for (size_t s = 0; s < sizeof(stages) / sizeof(stages[0]); s++)
		for (size_t r = stages[s] == HOP_DATA; r < sizeof(replies) / sizeof(replies[0]);
		     r++)
			expect_deferred((struct hop_rule){.stage = stages[s], .reply = replies[r]});
	/* data is not what was agreed to */
	expect_deferred((struct hop_rule){.stage = HOP_DATA, .reply = "250 2.0.0 taken\r\n"});
}

static void a_reply_before_its_command_is_no_reply(void **state)
{
	/* the second line would stand for the end of data that the hop never saw */
	expect_deferred(
		(struct hop_rule){.stage = HOP_DATA, .reply = "354 go\r\n250 2.0.0 taken\r\n"});
	expect_deferred((struct hop_rule){.stage = HOP_DATA, .reply = "354 go\r\n354 go\r\n"});
	expect_deferred((struct hop_rule){.stage = HOP_RCPT, .reply = "250 a\r\n354 go\r\n"});
	expect_deferred((struct hop_rule){.stage = HOP_RCPT,
					  .reply = "250 a\r\n354 go\r\n250 2.0.0 taken\r\n"});
}

static void a_5xx_at_any_stage_bounces_with_a_report(void **state)
{
	static const enum hop_stage stages[] = {HOP_MAIL, HOP_RCPT, HOP_DATA, HOP_FINAL};

	for (size_t s = 0; s < sizeof(stages) / sizeof(stages[0]); s++) {
		struct bench b = bench();
		hop_rule(b.h, (struct hop_rule){.stage = stages[s],
						.reply = "550 5.1.1 no such user\r\n",
						.times = 1});
		submit(&b, "b@x.y");
		assert_true(drained(&b, MINUTE));
		assert_int_equal(b.h->n_mails, 1);
		assert_int_equal(hop_recipient(b.h, "alice@x.y"), 1);
		assert_int_equal(strncmp((char *)b.h->mails[0].from.at, "<>", 2), 0);
		assert_int_equal(hop_count(b.h,
					   "Final-Recipient: rfc822; b@x.y\r\nAction: failed\r\n"
					   "Status: 5.1.1\r\nDiagnostic-Code: smtp; 550 5.1.1 "
					   "no such user\r\n"),
				 1);
		assert_int_equal(hop_count(b.h, TEXT), 0);
		assert_int_equal(count(&b, relay_bounced), 1);
		bench_end(&b);
	}
}

static void a_message_without_reverse_path_gets_no_report(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT, .reply = "550 no\r\n"});
	submit_as(&b, "<>", "b@x.y", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 0);
	assert_int_equal(count(&b, relay_reports_suppressed), 1);
	bench_end(&b);
}

static void a_report_names_every_one_of_many_recipients(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.max_recipients = 500;
	struct bench b = bench_with(&o);
	struct peer *p = peer_login(b.m);
	char line[300];
	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT,
					.match = "many",
					.reply = "550 5.1.1 no such user, and a long text about "
						 "why that is so and whom to ask about it\r\n"});
	peer_cmd(p, "MAIL FROM:<alice@x.y>");
	for (unsigned i = 0; i < 500; i++) {
		snprintf(line, sizeof(line), "RCPT TO:<many%u@%060u.example.net>", i, i);
		assert_int_equal(strncmp(peer_cmd(p, line), "250", 3), 0);
	}
	peer_cmd(p, "DATA");
	assert_int_equal(strncmp(peer_cmd(p, TEXT "."), "250", 3), 0);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	for (unsigned i = 0; i < 500; i++) {
		snprintf(line, sizeof(line), "\r\nFinal-Recipient: rfc822; many%u@", i);
		assert_int_equal(hop_count(b.h, line), 1);
	}
	const struct bytes *content = &b.h->mails[0].content;
	assert_int_equal(memcmp(content->at + content->n - 4, "--\r\n", 4), 0);
	bench_end(&b);
}

static void a_hostile_reply_text_cannot_add_lines_to_a_report(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT,
					.reply = "550 5.1.1 a\rX-Evil: 1\x01\xff\n",
					.times = 1});
	submit(&b, "b@x.y");
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_count(b.h, "550 5.1.1 a?X-Evil: 1??\r\n"), 1);
	bench_end(&b);
}

static void only_deferred_recipients_are_tried_again(void **state)
{
	for (unsigned pipelining = 0; pipelining < 2; pipelining++) {
		struct bench b = bench();
		b.h->pipelining = pipelining;
		hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT,
						.match = "late",
						.reply = "450 4.2.1 later\r\n",
						.times = 2});
		hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT,
						.match = "never",
						.reply = "550 5.1.1 no\r\n"});
		submit(&b, "one@x.y,late@x.y,never@x.y,two@x.y");
		assert_true(drained(&b, 30ull * MINUTE));
		assert_int_equal(hop_recipient(b.h, "one@x.y"), 1);
		assert_int_equal(hop_recipient(b.h, "two@x.y"), 1);
		assert_int_equal(hop_recipient(b.h, "late@x.y"), 1);
		assert_int_equal(hop_recipient(b.h, "never@x.y"), 0);
		assert_int_equal(hop_recipient(b.h, "alice@x.y"), 1);
		assert_int_equal(count(&b, relay_delivered), 4);
		assert_int_equal(count(&b, relay_bounced), 1);
		bench_end(&b);
	}
}

static void a_restart_remembers_who_has_been_served(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT,
					.match = "late",
					.reply = "450 4.2.1 later\r\n",
					.times = 1});
	submit(&b, "one@x.y,late@x.y");
	mail_run(b.m, 10 * MAIL_SECOND);
	assert_int_equal(b.h->n_mails, 1);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(relay_queued(b.m->relay), 1);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(hop_recipient(b.h, "one@x.y"), 1);
	assert_int_equal(hop_recipient(b.h, "late@x.y"), 1);
	bench_end(&b);
}

/* Attempts grow apart by the factor, up to the maximum, and end with a report. */
static void a_message_is_retried_for_days_and_then_given_up_with_a_report(void **state)
{
	struct bench b = bench();
	uint64_t begin = b.m->shard->now_us, last = begin, before = 0;
	unsigned seen = 0;

	hop_rule(b.h, (struct hop_rule){
			      .stage = HOP_RCPT, .match = "b@", .reply = "450 4.2.1 full\r\n"});
	submit(&b, "b@x.y");
	b.m->tick_us = MAIL_SECOND;
	while (relay_queued(b.m->relay) > 0 && b.m->shard->now_us - begin < 6 * day_us) {
		mail_run(b.m, 5 * MAIL_SECOND);
		if (count(&b, relay_attempts) == seen || count(&b, relay_expired) > 0)
			continue;
		uint64_t gap = b.m->shard->now_us - last;
		if (seen > 1 && seen < 7) /* 60 s, 120 s, ..., each a fifth more or less */
			assert_in_range(gap * 100 / before, 120, 330);
		if (seen > 8)
			assert_in_range(gap, 2870ull * MAIL_SECOND, 4340ull * MAIL_SECOND);
		before = gap;
		last = b.m->shard->now_us;
		seen = (unsigned)count(&b, relay_attempts);
	}
	uint64_t took = b.m->shard->now_us - begin;
	assert_in_range(took, 5 * day_us, 5 * day_us + 10ull * MINUTE);
	assert_true(seen > 100 && seen < 180);
	assert_int_equal(hop_recipient(b.h, "alice@x.y"), 1);
	assert_int_equal(hop_count(b.h, "450 4.2.1 full"), 1);
	assert_int_equal(count(&b, relay_expired), 1);
	bench_end(&b);
}

static void a_hop_that_is_down_for_days_loses_nothing_and_expires_in_time(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].give_up_us = 2 * day_us;
	struct mail *m = mail_create(&o);
	struct bench b = {.m = m};
	submit(&b, "b@x.y");
	b.m->tick_us = 2 * MAIL_SECOND;
	mail_run(m, day_us);
	assert_int_equal(relay_queued(m->relay), 1);
	mail_run(m, day_us + 10ull * MINUTE);
	assert_int_equal(mail_relay_count(m, relay_expired), 1);
	/* the report itself waits for the hop now */
	assert_int_equal(relay_queued(m->relay), 1);
	b.h = hop_create(m, MAIL_HOP);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(hop_recipient(b.h, "alice@x.y"), 1);
	bench_end(&b);
}

static void a_size_limit_of_the_hop_bounces(void **state)
{
	struct bench b = bench();

	b.h->size = "SIZE 100";
	submit(&b, "b@x.y");
	mail_run(b.m, MINUTE);
	assert_int_equal(b.h->n_mails, 0);
	/* the message, and the report, which is larger still */
	assert_int_equal(count(&b, relay_bounced), 2);
	assert_int_equal(count(&b, relay_reports), 1);
	assert_int_equal(count(&b, relay_reports_suppressed), 1);
	assert_int_equal(relay_queued(b.m->relay), 0);
	bench_end(&b);
}

static void eight_bit_content_is_bounced_where_the_hop_lacks_8bitmime(void **state)
{
	struct bench b = bench();

	b.h->eightbit = false;
	submit_as(&b, "<alice@x.y> BODY=8BITMIME", "b@x.y", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_count(b.h, "Status: 5.6.3"), 1);
	assert_int_equal(hop_count(b.h, TEXT), 0);
	bench_end(&b);
}

static void a_server_without_ehlo_is_spoken_to_with_helo(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_EHLO, .reply = "500 what?\r\n"});
	submit(&b, "b@x.y,c@x.y");
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_count(b.h, TEXT), 1);
	assert_null(strstr((char *)b.h->log.at, "SIZE="));
	bench_end(&b);
}

static void a_connection_is_used_again_and_ends_with_quit_when_idle(void **state)
{
	struct bench b = bench();

	for (unsigned i = 0; i < 5; i++) {
		submit(&b, "b@x.y");
		assert_true(drained(&b, MINUTE));
	}
	assert_int_equal(b.h->n_mails, 5);
	assert_in_range(b.h->connections, 1, 2);
	assert_null(strstr((char *)b.h->log.at, "QUIT"));
	mail_run(b.m, MINUTE);
	assert_non_null(strstr((char *)b.h->log.at, "QUIT"));
	bench_end(&b);
}

static void drain_ends_what_is_under_way_and_begins_nothing(void **state)
{
	struct bench b = bench();

	submit(&b, "b@x.y");
	assert_true(drained(&b, MINUTE));
	relay_drain(b.m->relay);
	submit(&b, "c@x.y");
	mail_run(b.m, MINUTE);
	assert_true(relay_idle(b.m->relay));
	assert_int_equal(relay_queued(b.m->relay), 1);
	assert_int_equal(hop_recipient(b.h, "c@x.y"), 0);
	assert_non_null(strstr((char *)b.h->log.at, "QUIT"));
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_recipient(b.h, "c@x.y"), 1);
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_message_is_delivered_with_and_without_pipelining),
		cmocka_unit_test(dots_and_any_content_arrive_octet_by_octet),
		cmocka_unit_test(a_large_message_arrives_octet_by_octet_in_clear_and_under_tls),
		cmocka_unit_test(a_4xx_at_any_stage_defers),
		cmocka_unit_test(replies_that_make_no_sense_defer_and_never_deliver_or_bounce),
		cmocka_unit_test(a_reply_before_its_command_is_no_reply),
		cmocka_unit_test(a_5xx_at_any_stage_bounces_with_a_report),
		cmocka_unit_test(a_message_without_reverse_path_gets_no_report),
		cmocka_unit_test(a_report_names_every_one_of_many_recipients),
		cmocka_unit_test(a_hostile_reply_text_cannot_add_lines_to_a_report),
		cmocka_unit_test(only_deferred_recipients_are_tried_again),
		cmocka_unit_test(a_restart_remembers_who_has_been_served),
		cmocka_unit_test(a_message_is_retried_for_days_and_then_given_up_with_a_report),
		cmocka_unit_test(a_hop_that_is_down_for_days_loses_nothing_and_expires_in_time),
		cmocka_unit_test(a_size_limit_of_the_hop_bounces),
		cmocka_unit_test(eight_bit_content_is_bounced_where_the_hop_lacks_8bitmime),
		cmocka_unit_test(a_server_without_ehlo_is_spoken_to_with_helo),
		cmocka_unit_test(a_connection_is_used_again_and_ends_with_quit_when_idle),
		cmocka_unit_test(drain_ends_what_is_under_way_and_begins_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
