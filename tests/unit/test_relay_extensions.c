/* test_relay_extensions.c - what a hop is told of a message's parameters, and what becomes of a
 * message that it cannot take */
#include "tests/unit/relay_kit.h"

#define ALL_OFFERED                                                          \
	"250-BINARYMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-DELIVERBY 240\r\n" \
	"250-MT-PRIORITY MIXER\r\n"

static void a_hop_hears_every_parameter_that_it_offers(void **state)
{
	struct bench b = bench();

	b.h->chunking = true;
	b.h->offers = ALL_OFFERED;
	submit(&b,
	       "<\xc3\xa4@x.y> BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1 MT-PRIORITY=-3 "
	       "BY=600;RT AUTH=<>",
	       "<b@x.y> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Not+20an+40address\n<c@x.y> "
	       "NOTIFY=NEVER",
	       TEXT);
	assert_true(drained(&b, MINUTE));
	expect_logged(&b,
		      " BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B1 MT-PRIORITY=-3 BY=600;RT\n");
	expect_logged(&b, "MAIL FROM:<\xc3\xa4@x.y> SIZE=");
	expect_logged(&b,
		      "RCPT TO:<b@x.y> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Not+20an+40address\n");
	expect_logged(&b, "RCPT TO:<c@x.y> NOTIFY=NEVER\n");
	/* by-trace asks for a report of the relaying only where the hop tells nothing */
	assert_int_equal(count(&b, relay_reports), 0);
	bench_end(&b);
}

static void a_hop_hears_of_nothing_that_it_does_not_offer(void **state)
{
	static const char *const unsaid[] = {"RET=", "ENVID=", "MT-PRIORITY=", "BY="};
	struct bench b = bench();

	submit(&b, "<a@x.y> RET=FULL ENVID=x MT-PRIORITY=-1 BY=600;N", "<b@x.y> NOTIFY=FAILURE",
	       TEXT);
	assert_true(drained(&b, MINUTE));
	expect_logged(&b, "RCPT TO:<b@x.y>\n");
	for (size_t i = 0; i < sizeof(unsaid) / sizeof(unsaid[0]); i++)
		assert_false(logged(&b, unsaid[i]));
	bench_end(&b);
}

static void content_goes_by_bdat_as_it_is_where_the_hop_takes_it(void **state)
{
	for (unsigned chunking = 0; chunking < 2; chunking++) {
		struct bench b = bench();
		b.h->chunking = chunking;
		submit(&b, "<a@x.y>", "<b@x.y>", TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(b.h->mails[0].chunked, chunking);
		assert_int_equal(logged(&b, "DATA\n"), !chunking);
		expect_arrived(&b, TEXT);
		bench_end(&b);
	}
}

static void a_large_binary_message_arrives_octet_by_octet(void **state)
{
	enum { ALL = 1 << 20 };
	struct bench b = bench();
	uint8_t *sent = malloc(ALL);
	size_t n = (size_t)sprintf((char *)sent, "Subject: x\r\n\r\n");

	b.h->chunking = true;
	b.h->offers = "250-BINARYMIME\r\n";
	while (n < ALL) {
		sent[n] = (uint8_t)(n * 2654435761u >> 7);
		n++;
	}
	struct peer *p = peer_login(b.m);
	envelope_with(p, "BODY=BINARYMIME");
	bdat(p, sent, n, true, "250 2.0.0 queued");
	assert_true(drained(&b, 10ull * MINUTE));
	const struct bytes *got = &b.h->mails[0].content;
	assert_true(got->n > n);
	assert_memory_equal(got->at + got->n - n, sent, n);
	expect_logged(&b, " BODY=BINARYMIME");
	free(sent);
	bench_end(&b);
}

/* Delivered once, whenever it is that the hop breaks off within its MAIL, RCPT and BDAT. */
static void a_chunk_cut_at_any_octet_loses_nothing(void **state)
{
	size_t length = 100;

	for (size_t at = 1; at < length; at += 7) {
		struct bench b = bench();
		b.h->chunking = true;
		b.h->cut_after = at;
		b.h->cut_how = at % 2 == 0 ? HOP_RESET : HOP_FIN;
		submit(&b, "<a@x.y>", "<b@x.y>", TEXT);
		assert_true(drained(&b, 30ull * MINUTE));
		const struct bytes *content = &b.h->mails[0].content;
		length = content->n + 120;
		/* cut behind the last octet: its reply was lost, and nobody can know */
		unsigned most = 1 + (unsigned)count(&b, relay_ambiguous);
		unsigned got = hop_count(b.h, TEXT);
		if (got < 1 || got > most || count(&b, relay_reports) != 0)
			fail_msg("cut at %zu: %u", at, got);
		bench_end(&b);
	}
}

static void the_reply_to_a_chunk_is_its_outcome(void **state)
{
	static const struct {
		const char *reply;
		bool deferred;
	} rows[] = {{"451 4.3.0 later\r\n", true},
		    {"552 5.3.4 too much\r\n", false},
		    {"354 go\r\n", true},
		    {"250-a\r\n251 b\r\n", true}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench b = bench();
		b.h->chunking = true;
		hop_rule(b.h,
			 (struct hop_rule){.stage = HOP_FINAL, .reply = rows[i].reply, .times = 1});
		submit(&b, "<a@x.y>", "<b@x.y>", TEXT);
		assert_true(drained(&b, 30ull * MINUTE));
		assert_int_equal(hop_recipient(b.h, "b@x.y"), rows[i].deferred);
		assert_int_equal(count(&b, relay_reports), !rows[i].deferred);
		bench_end(&b);
	}
}

/* A 2xx before the chunk has been acknowledged says nothing about it; a refusal is one. */
static void a_reply_before_the_chunk_was_read_delivers_nothing(void **state)
{
	char *large = malloc(600000);
	size_t n = (size_t)sprintf(large, "Subject: x\r\n\r\n");

	while (n < 500000)
		n += (size_t)sprintf(large + n, "line %zu\r\n", n);
	for (unsigned refused = 0; refused < 2; refused++) {
		struct bench b = bench();
		b.h->chunking = true;
		hop_rule(b.h, (struct hop_rule){.stage = HOP_DATA,
						.match = "BDAT 5",
						.reply = refused ? "552 5.3.4 too much\r\n"
								 : "250 2.0.0 taken\r\n",
						.times = 1});
		submit(&b, "<a@x.y>", "<b@x.y>", large);
		mail_run(b.m, MINUTE / 2);
		assert_int_equal(count(&b, relay_bad_replies), !refused);
		assert_int_equal(count(&b, relay_reports), refused);
		hop_rules_clear(b.h);
		assert_true(drained(&b, 30ull * MINUTE));
		assert_int_equal(hop_recipient(b.h, "b@x.y"), !refused);
		bench_end(&b);
	}
	free(large);
}

/* What the hop lacks, and the report that tells of it. */
static void a_message_that_the_hop_cannot_take_is_returned_and_never_changed(void **state)
{
	static const struct {
		const char *mail, *offers;
		bool chunking, eightbit;
		const char *status;
	} rows[] = {
		{"<a@x.y> BODY=8BITMIME", NULL, true, false, "Status: 5.6.3"},
		{"<a@x.y> BODY=BINARYMIME", NULL, true, true, "Status: 5.6.3"},
		{"<a@x.y> BODY=BINARYMIME", "250-BINARYMIME\r\n", false, true, "Status: 5.6.3"},
		{"<a@x.y> SMTPUTF8", NULL, true, true, "Status: 5.6.7"},
		{"<a@x.y> BY=600;R", NULL, true, true, "Status: 5.3.3"},
		{"<a@x.y> REQUIRETLS", "250-REQUIRETLS\r\n", true, true, "Status: 5.7.30"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench b = bench();
		b.h->offers = rows[i].offers;
		b.h->chunking = rows[i].chunking;
		b.h->eightbit = rows[i].eightbit;
		submit(&b, rows[i].mail, "<b@x.y>", TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(b.h->n_mails, 1);
		assert_int_equal(hop_recipient(b.h, "a@x.y"), 1);
		expect_arrived(&b, rows[i].status);
		assert_int_equal(count(&b, relay_hop_lacks), 1);
		bench_end(&b);
	}
}

static void requiretls_goes_only_over_verified_tls_to_a_hop_that_promises_it(void **state)
{
	static const struct {
		enum relay_tls tls;
		bool offered, delivered;
	} rows[] = {{RELAY_TLS_REQUIRED, true, true},
		    {RELAY_TLS_REQUIRED, false, false},
		    {RELAY_TLS_OPPORTUNISTIC, true, false},
		    {RELAY_TLS_NONE, true, false}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct mail_options o;
		mail_options_default(&o);
		o.relay.pools[0].hops[0].tls = rows[i].tls;
		struct bench b = bench_with(&o);
		b.h->starttls = true;
		b.h->offers_tls = rows[i].offered ? "250-REQUIRETLS\r\n" : NULL;
		submit(&b, "<a@x.y> REQUIRETLS RET=FULL", "<b@x.y>", TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(hop_recipient(b.h, "b@x.y"), rows[i].delivered);
		assert_int_equal(logged(&b, " REQUIRETLS"), rows[i].delivered);
		if (!rows[i].delivered) {
			expect_arrived(&b, "Status: 5.7.30");
			/* RFC 8689: as if RET=HDRS had been asked for */
			expect_arrived(&b, "Subject: x\r\n");
			expect_not_arrived(&b, "hello");
		}
		bench_end(&b);
	}
}

static void a_report_of_a_message_under_requiretls_asks_for_it_where_it_can(void **state)
{
	for (int offered = 0; offered <= 1; offered++) {
		struct mail_options o;
		mail_options_default(&o);
		o.relay.pools[0].hops[0].tls = RELAY_TLS_REQUIRED;
		struct bench b = bench_with(&o);
		b.h->starttls = true;
		b.h->offers_tls = offered ? "250-REQUIRETLS\r\n" : NULL;
		hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT,
						.match = "b@x.y",
						.reply = "550 5.1.1 no\r\n"});
		submit(&b, "<a@x.y> REQUIRETLS", "<b@x.y>", TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(hop_recipient(b.h, "a@x.y"), 1);
		expect_arrived(&b, offered ? "Status: 5.1.1" : "Status: 5.7.30");
		expect_logged(&b, "MAIL FROM:<>");
		const char *said = strstr((const char *)b.h->log.at, "MAIL FROM:<>");
		const char *asks = strstr(said, " REQUIRETLS");
		assert_int_equal(asks != NULL && asks < strchr(said, '\n'), offered);
		bench_end(&b);
	}
}

static void a_return_deadline_ends_the_message_when_it_passes(void **state)
{
	struct bench b = bench();
	uint64_t begin = b.m->shard->now_us;

	b.h->offers = "250-DELIVERBY\r\n";
	hop_rule(b.h, (struct hop_rule){
			      .stage = HOP_RCPT, .match = "b@x.y", .reply = "450 4.2.1 full\r\n"});
	submit(&b, "<a@x.y> BY=600;R", "<b@x.y>", TEXT);
	assert_true(drained(&b, hour_us));
	assert_in_range(b.m->shard->now_us - begin, 600ull * MAIL_SECOND, 605ull * MAIL_SECOND);
	expect_arrived(&b, "Action: failed\r\nStatus: 5.4.7\r\n");
	expect_arrived(&b, "Deliver-By-Date: ");
	assert_int_equal(count(&b, relay_deadline_passed), 1);
	bench_end(&b);
}

static void a_notify_deadline_tells_of_the_delay_and_goes_on(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){
			      .stage = HOP_RCPT, .match = "b@x.y", .reply = "450 4.2.1 full\r\n"});
	submit(&b, "<a@x.y> BY=600;N", "<b@x.y>\n<c@x.y> NOTIFY=NEVER", TEXT);
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 590ull * MAIL_SECOND);
	assert_int_equal(hop_recipient(b.h, "a@x.y"), 0);
	mail_run(b.m, 20ull * MAIL_SECOND);
	assert_int_equal(hop_recipient(b.h, "a@x.y"), 1);
	expect_arrived(&b, "Final-Recipient: rfc822; b@x.y\r\nAction: delayed\r\n");
	expect_not_arrived(&b, "c@x.y");
	assert_int_equal(relay_queued(b.m->relay), 1);
	hop_rules_clear(b.h);
	assert_true(drained(&b, 2 * hour_us));
	assert_int_equal(hop_recipient(b.h, "b@x.y"), 1);
	bench_end(&b);
}

static void a_deadline_survives_a_restart(void **state)
{
	struct bench b = bench();
	uint64_t begin = b.m->shard->now_us;

	b.h->offers = "250-DELIVERBY\r\n";
	hop_rule(b.h, (struct hop_rule){.stage = HOP_GREETING, .after = HOP_RESET, .times = 300});
	submit(&b, "<a@x.y> BY=600;R", "<b@x.y>", TEXT);
	mail_run(b.m, MINUTE);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	mail_run(b.m, 580ull * MAIL_SECOND);
	assert_int_equal(mail_relay_count(b.m, relay_deadline_passed), 1);
	assert_true(b.m->shard->now_us - begin < 700ull * MAIL_SECOND);
	hop_rules_clear(b.h);
	assert_true(drained(&b, hour_us));
	expect_arrived(&b, "Status: 5.4.7\r\n");
	bench_end(&b);
}

static void a_held_message_waits_for_its_time_through_a_restart(void **state)
{
	for (unsigned restart = 0; restart < 2; restart++) {
		struct bench b = bench();
		submit(&b, "<a@x.y> HOLDFOR=86400", "<b@x.y>", TEXT);
		b.m->tick_us = MAIL_SECOND;
		mail_run(b.m, hour_us);
		if (restart)
			mail_restart_relay(b.m, DISK_DROP_ALL);
		mail_run(b.m, day_us - 2 * hour_us);
		assert_int_equal(b.h->n_mails, 0);
		assert_int_equal(relay_queued(b.m->relay), 1);
		mail_run(b.m, hour_us + MINUTE);
		assert_int_equal(hop_recipient(b.h, "b@x.y"), 1);
		bench_end(&b);
	}
}

/* RFC 4865: neither the expiry nor the notice counts from the submission. */
static void the_age_of_a_held_message_counts_from_its_release(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].give_up_us = day_us;
	struct bench b = bench_with(&o);
	hop_rule(b.h, (struct hop_rule){
			      .stage = HOP_RCPT, .match = "b@x.y", .reply = "450 4.2.1 full\r\n"});
	submit(&b, "<a@x.y> HOLDFOR=172800", "<b@x.y> NOTIFY=DELAY,FAILURE", TEXT);
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 2 * day_us + 3 * hour_us);
	assert_int_equal(count(&b, relay_reports), 0);
	mail_run(b.m, 2 * hour_us);
	assert_int_equal(count(&b, relay_reports), 1);
	mail_run(b.m, day_us - 6 * hour_us);
	assert_int_equal(count(&b, relay_expired), 0);
	mail_run(b.m, 2 * hour_us);
	assert_int_equal(count(&b, relay_expired), 1);
	bench_end(&b);
}

static void a_date_in_the_future_holds_nothing(void **state)
{
	struct bench b = bench();

	submit(&b, "<a@x.y>", "<b@x.y>", "Date: Fri, 1 Jan 2100 00:00:00 +0000\r\n\r\nx\r\n");
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_recipient(b.h, "b@x.y"), 1);
	bench_end(&b);
}

static void urgent_messages_leave_before_others_that_waited_longer(void **state)
{
	struct mail_options o;
	static const char *const mails[] = {"<a@x.y> MT-PRIORITY=-9", "<a@x.y>",
					    "<a@x.y> MT-PRIORITY=-1", "<a@x.y> MT-PRIORITY=4",
					    "<a@x.y> MT-PRIORITY=9"};
	static const char *const order[] = {"<4@x.y>\n", "<3@x.y>\n", "<1@x.y>\n", "<2@x.y>\n",
					    "<0@x.y>\n"};

	mail_options_default(&o);
	o.smtp.max_priority = 9;
	o.relay.pools[0].connections = 1;
	struct bench b = bench_with(&o);
	/* until all have come */
	hop_rule(b.h, (struct hop_rule){.stage = HOP_GREETING, .after = HOP_RESET, .times = 6});
	for (unsigned i = 0; i < 5; i++) {
		char to[20];
		snprintf(to, sizeof(to), "<%u@x.y>", i);
		submit(&b, mails[i], to, TEXT);
	}
	hop_rules_clear(b.h);
	assert_true(drained(&b, 10ull * MINUTE));
	for (unsigned i = 0; i < 5; i++)
		assert_string_equal((char *)b.h->mails[i].to.at, order[i]);
	bench_end(&b);
}

static void a_utf8_message_goes_unchanged_to_a_hop_that_takes_it(void **state)
{
	static const char text[] = "Subject: \xc3\xa4\r\nFrom: <\xc3\xa4@x.y>\r\n\r\nx\r\n";
	struct bench b = bench();

	b.h->offers = "250-SMTPUTF8\r\n";
	submit(&b, "<\xc3\xa4@x.y> SMTPUTF8", "<b\xc3\xa4@x.y>", text);
	assert_true(drained(&b, MINUTE));
	expect_arrived(&b, text);
	expect_arrived(&b, " with UTF8SMTPSA id ");
	expect_arrived(&b, "for <b\xc3\xa4@x.y>");
	assert_int_equal(hop_recipient(b.h, "b\xc3\xa4@x.y"), 1);
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_hop_hears_every_parameter_that_it_offers),
		cmocka_unit_test(a_hop_hears_of_nothing_that_it_does_not_offer),
		cmocka_unit_test(content_goes_by_bdat_as_it_is_where_the_hop_takes_it),
		cmocka_unit_test(a_large_binary_message_arrives_octet_by_octet),
		cmocka_unit_test(a_chunk_cut_at_any_octet_loses_nothing),
		cmocka_unit_test(the_reply_to_a_chunk_is_its_outcome),
		cmocka_unit_test(a_reply_before_the_chunk_was_read_delivers_nothing),
		cmocka_unit_test(a_message_that_the_hop_cannot_take_is_returned_and_never_changed),
		cmocka_unit_test(requiretls_goes_only_over_verified_tls_to_a_hop_that_promises_it),
		cmocka_unit_test(a_report_of_a_message_under_requiretls_asks_for_it_where_it_can),
		cmocka_unit_test(a_return_deadline_ends_the_message_when_it_passes),
		cmocka_unit_test(a_notify_deadline_tells_of_the_delay_and_goes_on),
		cmocka_unit_test(a_deadline_survives_a_restart),
		cmocka_unit_test(a_held_message_waits_for_its_time_through_a_restart),
		cmocka_unit_test(the_age_of_a_held_message_counts_from_its_release),
		cmocka_unit_test(a_date_in_the_future_holds_nothing),
		cmocka_unit_test(urgent_messages_leave_before_others_that_waited_longer),
		cmocka_unit_test(a_utf8_message_goes_unchanged_to_a_hop_that_takes_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
