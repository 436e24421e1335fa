/* test_relay_faults.c - broken connections, broken TLS, a broken spool: nothing is ever lost */
#include "tests/sim/random.h"
#include "tests/unit/relay_bench.h"

#include <errno.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define TEXT "Subject: x\r\n\r\nhello\r\n"
static struct bench bench_tls(enum relay_tls tls, const char *name)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].hops[0].tls = tls;
	snprintf(o.relay.pools[0].hops[0].name, sizeof(o.relay.pools[0].hops[0].name), "%s", name);
	struct bench b = bench_with(&o);
	b.h->starttls = tls != RELAY_TLS_NONE;
	return b;
}

static void submit(struct mail *m, const char *content)
{
	struct peer *p = peer_login(m);

	if (strncmp(peer_message(p, content), "250", 3) != 0)
		fail_msg("not taken: %s", p->reply);
	peer_free(p);
}

static void check_cut(size_t at, enum hop_after how, enum relay_tls tls, size_t *length)
{
	struct bench b = bench_tls(tls, "mx.test");

	b.h->cut_after = at;
	b.h->cut_how = how;
	submit(b.m, TEXT);
	if (!drained(&b, 10ull * MINUTE))
		fail_msg("cut at %zu: not delivered", at);
	unsigned copies = hop_count(b.h, TEXT);
	if (copies < 1 || copies > 2)
		fail_msg("cut at %zu: %u copies", at, copies);
	/* a copy too many only where the hop had the message and its reply was lost */
	assert_true(copies == 1 || count(&b, relay_ambiguous) == 1);
	assert_int_equal(count(&b, relay_reports), 0);
	if (length != NULL)
		*length = b.h->log.n + b.h->mails[0].content.n + 40;
	bench_end(&b);
}

static void a_connection_cut_at_any_octet_loses_nothing(void **state)
{
	size_t length = 100;

	for (size_t at = 1; at < length; at += 5) {
		check_cut(at, HOP_RESET, RELAY_TLS_NONE, &length);
		check_cut(at, HOP_FIN, RELAY_TLS_NONE, NULL);
	}
	assert_true(length > 300);
	for (size_t at = 1; at < length; at += 29)
		check_cut(at, HOP_RESET, RELAY_TLS_REQUIRED, NULL);
}

static void a_hop_that_ends_the_connection_after_any_reply_loses_nothing(void **state)
{
	for (enum hop_stage s = HOP_GREETING; s <= HOP_FINAL; s++) {
		for (enum hop_after how = HOP_FIN; how <= HOP_RESET; how++) {
			struct bench b = bench();
			hop_rule(b.h, (struct hop_rule){.stage = s, .times = 1, .after = how});
			submit(b.m, TEXT);
			assert_true(drained(&b, 10ull * MINUTE));
			assert_in_range(hop_count(b.h, TEXT), 1, 1 + (s == HOP_FINAL));
			bench_end(&b);
		}
	}
}

static void silence_at_any_stage_ends_by_time_and_the_message_stays(void **state)
{
	for (enum hop_stage s = HOP_GREETING; s <= HOP_FINAL; s++) {
		struct bench b = bench();
		if (s == HOP_HELO || s == HOP_STARTTLS) {
			bench_end(&b);
			continue;
		}
		hop_rule(b.h, (struct hop_rule){.stage = s, .reply = "", .times = 1});
		submit(b.m, TEXT);
		b.m->tick_us = MAIL_SECOND;
		assert_true(drained(&b, 40ull * MINUTE));
		assert_int_equal(count(&b, relay_timeouts), 1);
		assert_int_equal(count(&b, relay_ambiguous), s == HOP_FINAL);
		assert_int_equal(hop_count(b.h, TEXT), 1);
		bench_end(&b);
	}
}

/* Octets of a reply that never becomes one. */
static void check_bad_reply(const char *head, const char *more, unsigned times)
{
	struct bench b = bench();
	struct bytes reply = {0};

	bytes_add(&reply, head, strlen(head));
	for (unsigned i = 0; i < times; i++)
		bytes_add(&reply, more, strlen(more));
	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_MAIL, .reply = (const char *)reply.at, .times = 1});
	submit(b.m, TEXT);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(count(&b, relay_bad_replies), 1);
	assert_int_equal(hop_count(b.h, TEXT), 1);
	free(reply.at);
	bench_end(&b);
}

static void over_long_and_endless_replies_end_the_connection(void **state)
{
	check_bad_reply("250 ", "x", 1100);
	check_bad_reply("250-", "x", 65536);
	check_bad_reply("", "250-more\r\n", 200);
	check_bad_reply("", "\r\n", 1);
	check_bad_reply("250-a\r\n", "550 b\r\n", 1);
}

static void garbage_of_any_kind_never_delivers_or_bounces(void **state)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct bench b = bench();
		uint64_t r = seed;
		char junk[200];
		size_t n = 1 + random_below(&r, sizeof(junk) - 4);
		for (size_t i = 0; i < n; i++)
			junk[i] = (char)(1 + random_below(&r, 255));
		/* not by chance a code */
		junk[0] = 'x';
		memcpy(junk + n, "\r\n", 3);
		hop_rule(b.h, (struct hop_rule){.stage = HOP_MAIL + (int)random_below(&r, 4),
						.reply = junk,
						.times = 1});
		submit(b.m, TEXT);
		if (!drained(&b, 20ull * MINUTE) || hop_count(b.h, TEXT) != 1 ||
		    count(&b, relay_reports) != 0)
			fail_msg("seed %llu", (unsigned long long)seed);
		bench_end(&b);
	}
}

static void tls_is_used_when_offered_and_ehlo_is_said_again(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct bench b =
			bench_tls(i ? RELAY_TLS_REQUIRED : RELAY_TLS_OPPORTUNISTIC, "mx.test");
		submit(b.m, TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(b.h->secured, 1);
		assert_int_equal(mail_tls_count(b.m, tls_client_handshakes), 1);
		assert_int_equal(strncmp((char *)b.h->log.at,
					 "EHLO mx.test\nSTARTTLS\nEHLO mx.test\nMAIL", 39),
				 0);
		bench_end(&b);
	}
}

static void a_certificate_for_another_name_is_refused_only_where_tls_is_required(void **state)
{
	struct bench b = bench_tls(RELAY_TLS_REQUIRED, "other.test");

	submit(b.m, TEXT);
	mail_run(b.m, 5ull * MINUTE);
	assert_int_equal(b.h->n_mails, 0);
	assert_null(strstr((char *)b.h->log.at, "MAIL"));
	assert_true(mail_tls_count(b.m, tls_client_failed) > 1);
	assert_int_equal(relay_queued(b.m->relay), 1);
	bench_end(&b);
	b = bench_tls(RELAY_TLS_OPPORTUNISTIC, "other.test");
	submit(b.m, TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->secured, 1);
	bench_end(&b);
}

static void required_tls_that_is_missing_or_refused_keeps_the_message(void **state)
{
	for (unsigned i = 0; i < 2; i++) {
		struct bench b = bench_tls(RELAY_TLS_REQUIRED, "mx.test");
		b.h->starttls = i == 1;
		hop_rule(b.h, (struct hop_rule){.stage = HOP_STARTTLS, .reply = "454 later\r\n"});
		submit(b.m, TEXT);
		mail_run(b.m, 5ull * MINUTE);
		assert_null(strstr((char *)b.h->log.at, "MAIL"));
		assert_int_equal(relay_queued(b.m->relay), 1);
		assert_true(i == 1 || count(&b, relay_tls_missing) > 0);
		b.h->starttls = true;
		hop_rules_clear(b.h);
		assert_true(drained(&b, 5ull * MINUTE));
		bench_end(&b);
	}
}

static void opportunistic_tls_that_is_broken_falls_back_to_clear(void **state)
{
	static const struct hop_rule broken[] = {
		{.stage = HOP_STARTTLS, .reply = "454 4.7.0 not now\r\n"},
		{.stage = HOP_STARTTLS, .reply = "220 go ahead\r\n", .after = HOP_FIN},
		{.stage = HOP_STARTTLS, .reply = "220 go ahead\r\n", .after = HOP_RESET},
		/* says yes and then nothing: no octet of a handshake comes */
		{.stage = HOP_STARTTLS, .reply = "220 go ahead\r\n"},
	};

	for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		struct bench b = bench_tls(RELAY_TLS_OPPORTUNISTIC, "mx.test");
		hop_rule(b.h, broken[i]);
		submit(b.m, TEXT);
		if (!drained(&b, 4ull * MINUTE))
			fail_msg("case %zu", i);
		assert_int_equal(b.h->secured, 0);
		assert_int_equal(hop_count(b.h, TEXT), 1);
		bench_end(&b);
	}
}

static void octets_behind_the_starttls_reply_end_the_connection(void **state)
{
	static const char *const replies[] = {"220 go ahead\r\n250 injected\r\n",
					      "220 go ahead\r\n2", "220 go ahead\r\n\x16\x03\x01"};

	for (size_t i = 0; i < 3; i++) {
		struct bench b = bench_tls(RELAY_TLS_OPPORTUNISTIC, "mx.test");
		hop_rule(b.h,
			 (struct hop_rule){.stage = HOP_STARTTLS, .reply = replies[i], .times = 1});
		submit(b.m, TEXT);
		assert_true(drained(&b, 2ull * MINUTE));
		assert_int_equal(count(&b, relay_injected), 1);
		assert_int_equal(b.h->secured, 1);
		bench_end(&b);
	}
}

static void the_second_hop_takes_over_when_the_first_is_down(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].n_hops = 2;
	o.relay.pools[0].hops[1] = o.relay.pools[0].hops[0];
	o.relay.pools[0].hops[1].port = MAIL_HOP + 1;
	struct mail *m = mail_create(&o);
	struct bench b = {.m = m, .h = hop_create(m, MAIL_HOP + 1)};
	for (unsigned i = 0; i < 6; i++) {
		submit(m, TEXT);
		assert_true(drained(&b, 10 * MAIL_SECOND));
	}
	assert_int_equal(b.h->n_mails, 6);
	assert_true(count(&b, relay_connect_failed) > 0);
	/* the first one comes back and gets its share */
	struct next_hop *first = hop_create(m, MAIL_HOP);
	for (unsigned i = 0; i < 8; i++) {
		submit(m, TEXT);
		mail_run(m, 40 * MAIL_SECOND); /* the idle connection has ended */
	}
	assert_true(first->n_mails > 0);
	assert_int_equal(first->n_mails + b.h->n_mails, 14);
	hop_free(first);
	bench_end(&b);
}

static void
an_outcome_that_cannot_be_recorded_is_offered_again_and_not_delivered_again(void **state)
{
	struct bench b = bench();

	submit(b.m, TEXT);
	/* every write fails from here, the hop takes the message meanwhile */
	disk_faults(b.m->disk)->per_million[DISK_WRITE] = 1000000;
	mail_run(b.m, 2ull * MINUTE);
	assert_int_equal(hop_count(b.h, TEXT), 1);
	assert_int_equal(relay_queued(b.m->relay), 1);
	assert_in_range(count(&b, relay_spool_errors), 10, 20);
	disk_faults(b.m->disk)->per_million[DISK_WRITE] = 0;
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_count(b.h, TEXT), 1);
	bench_end(&b);
}

static void a_report_that_cannot_be_stored_delivers_to_nobody_twice(void **state)
{
	struct bench b = bench();
	struct peer *p = peer_login(b.m);

	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_RCPT, .match = "never", .reply = "550 no\r\n"});
	peer_envelope(p, "alice@x.y", "one@x.y");
	assert_int_equal(strncmp(peer_cmd(p, "RCPT TO:<never@x.y>"), "250", 3), 0);
	peer_cmd(p, "DATA");
	assert_int_equal(strncmp(peer_cmd(p, TEXT "."), "250", 3), 0);
	disk_faults(b.m->disk)->per_million[DISK_WRITE] = 1000000;
	b.m->tick_us = 100000;
	mail_run(b.m, 10ull * MINUTE);
	assert_int_equal(hop_recipient(b.h, "one@x.y"), 1);
	assert_int_equal(count(&b, relay_reports), 0);
	disk_faults(b.m->disk)->per_million[DISK_WRITE] = 0;
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_recipient(b.h, "one@x.y"), 1);
	assert_int_equal(hop_recipient(b.h, "alice@x.y"), 1);
	bench_end(&b);
}

static void content_that_cannot_be_read_is_tried_later(void **state)
{
	struct bench b = bench();

	for (int64_t nth = 1; nth <= 4; nth++) {
		disk_faults(b.m->disk)->nth[DISK_READ] = nth;
		submit(b.m, TEXT);
		assert_true(drained(&b, 10ull * MINUTE));
		assert_int_equal(hop_count(b.h, TEXT), nth);
	}
	bench_end(&b);
}

static void a_message_that_cannot_be_read_for_ever_costs_little_and_stays(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].give_up_us = 10ull * MINUTE;
	o.relay.memory = 0;
	struct mail *m = mail_create(&o);
	struct bench b = {.m = m, .h = hop_create(m, MAIL_HOP)};
	disk_faults(m->disk)->per_million[DISK_READ] = 1000000;
	submit(m, TEXT);
	m->tick_us = 100000;
	mail_run(m, 20ull * MINUTE);
	assert_int_equal(relay_queued(m->relay), 1);
	/* once a second at most, after it has expired */
	assert_in_range(count(&b, relay_spool_errors), 100, 700);
	disk_faults(m->disk)->per_million[DISK_READ] = 0;
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_recipient(b.h, "alice@example.net"), 1);
	bench_end(&b);
}

static void with_few_chunks_all_messages_still_get_through(void **state)
{
	struct mail_options o;
	char *text = malloc(200100);
	size_t n = (size_t)sprintf(text, TEXT);

	while (n < 200000)
		n += (size_t)sprintf(text + n, "%070u\r\n", (unsigned)n);
	mail_options_default(&o);
	o.net.chunk_bytes = 1 << 20;
	o.relay.pools[0].connections = 8;
	struct mail *m = mail_create(&o);
	struct bench b = {.m = m, .h = hop_create(m, MAIL_HOP)};
	relay_drain(m->relay);
	m->hold_relay = true;
	for (unsigned i = 0; i < 12; i++)
		submit(m, text);
	m->hold_relay = false;
	mail_run(m, MAIL_SECOND);
	mail_restart_relay(m, DISK_DROP_ALL);
	assert_true(drained(&b, 60ull * MINUTE));
	assert_int_equal(hop_count(b.h, TEXT), 12);
	free(text);
	bench_end(&b);
}

static void random_trouble_loses_nothing(void **state)
{
	static const char *const replies[] = {NULL, "421 x\r\n", "450 x\r\n", "", "junk\r\n"};

	for (uint64_t seed = 1; seed <= 25; seed++) {
		struct bench b = bench_tls(seed % 3 == 0 ? RELAY_TLS_OPPORTUNISTIC : RELAY_TLS_NONE,
					   "mx.test");
		uint64_t r = seed;
		b.h->pipelining = seed % 2;
		for (unsigned i = 0; i < 12; i++)
			hop_rule(b.h, (struct hop_rule){
					      .stage = (enum hop_stage)random_below(&r, HOP_OTHER),
					      .reply = replies[random_below(&r, 5)],
					      .times = 1 + random_below(&r, 3),
					      .after = (enum hop_after)random_below(&r, 3)});
		disk_faults(b.m->disk)->per_million[DISK_READ] = 50000;
		for (unsigned i = 0; i < 5; i++)
			submit(b.m, TEXT);
		b.m->tick_us = 200000;
		mail_run(b.m, 10ull * MINUTE);
		disk_faults(b.m->disk)->per_million[DISK_READ] = 0;
		hop_rules_clear(b.h);
		if (!drained(&b, 300ull * MINUTE) || hop_count(b.h, TEXT) < 5 ||
		    hop_count(b.h, TEXT) > 5 + count(&b, relay_ambiguous))
			fail_msg("seed %llu: %u of 5 delivered", (unsigned long long)seed,
				 hop_count(b.h, TEXT));
		bench_end(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connection_cut_at_any_octet_loses_nothing),
		cmocka_unit_test(a_hop_that_ends_the_connection_after_any_reply_loses_nothing),
		cmocka_unit_test(silence_at_any_stage_ends_by_time_and_the_message_stays),
		cmocka_unit_test(over_long_and_endless_replies_end_the_connection),
		cmocka_unit_test(garbage_of_any_kind_never_delivers_or_bounces),
		cmocka_unit_test(tls_is_used_when_offered_and_ehlo_is_said_again),
		cmocka_unit_test(
			a_certificate_for_another_name_is_refused_only_where_tls_is_required),
		cmocka_unit_test(required_tls_that_is_missing_or_refused_keeps_the_message),
		cmocka_unit_test(opportunistic_tls_that_is_broken_falls_back_to_clear),
		cmocka_unit_test(octets_behind_the_starttls_reply_end_the_connection),
		cmocka_unit_test(the_second_hop_takes_over_when_the_first_is_down),
		cmocka_unit_test(
			an_outcome_that_cannot_be_recorded_is_offered_again_and_not_delivered_again),
		cmocka_unit_test(a_report_that_cannot_be_stored_delivers_to_nobody_twice),
		cmocka_unit_test(content_that_cannot_be_read_is_tried_later),
		cmocka_unit_test(a_message_that_cannot_be_read_for_ever_costs_little_and_stays),
		cmocka_unit_test(with_few_chunks_all_messages_still_get_through),
		cmocka_unit_test(random_trouble_loses_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
