/* test_smtp_faults.c - short memory, a failing spool, sessions that die: all ends, nothing leaks */
#include "smtp/internal.h"
#include "tests/sim/peer.h"
#include "tests/sim/random.h"

#include <errno.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A header and lines of text that tell their place. */
static char *long_text(size_t bytes)
{
	char *text = malloc(bytes + 100);
	size_t n = (size_t)sprintf(text, "Subject: long\r\n\r\n");

	while (n < bytes)
		n += (size_t)sprintf(text + n, "%070zu\r\n", n);
	return text;
}

static struct mail *without_relay(const struct mail_options *o)
{
	struct mail *m = mail_create(o);

	m->hold_relay = true;
	return m;
}

static void expect_stored(struct mail *m, const char *text)
{
	size_t n = strlen(text), most = n + 4096;
	uint8_t *got = malloc(most);
	size_t have = mail_content(m, got, most);

	assert_true(have > n);
	assert_memory_equal(got + have - n, text, n);
	free(got);
}

static void bodies_around_every_buffer_limit_are_stored_as_they_came(void **state)
{
	static const size_t sizes[] = {4000,  4070,  4071,  4072,  4073,   4100,   65500,
				       69500, 69580, 69582, 69590, 131000, 200000, 1000000};
	struct mail *m = without_relay(NULL);
	struct peer *p = peer_login(m);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char *text = long_text(sizes[i]);
		assert_int_equal(strncmp(peer_message(p, text), "250", 3), 0);
		expect_stored(m, text);
		free(text);
	}
	mail_destroy(m);
}

static void a_failed_append_is_answered_451_after_the_end_of_data(void **state)
{
	char *text = long_text(600000);

	for (int64_t nth = 1; nth <= 12; nth++) {
		struct mail *m = without_relay(NULL);
		struct peer *p = peer_login(m);
		disk_faults(m->disk)->nth[DISK_WRITE] = nth;
		uint64_t before = disk_calls(m->disk, DISK_WRITE);
		const char *reply = peer_message(p, text);
		bool failed = disk_calls(m->disk, DISK_WRITE) - before >= (uint64_t)nth;
		if (strncmp(reply, failed ? "451 4.3.0" : "250", 3) != 0)
			fail_msg("write %lld: %s", (long long)nth, reply);
		assert_int_equal(m->accepted, strncmp(reply, "250", 3) == 0);
		disk_faults(m->disk)->nth[DISK_WRITE] = 0;
		/* the next message is another matter */
		assert_int_equal(strncmp(peer_message(p, text), "250", 3), 0);
		expect_stored(m, text);
		assert_int_equal(disk_count(m->disk, ".body"), m->accepted);
		mail_destroy(m);
	}
	free(text);
}

static void a_disk_without_room_is_answered_452(void **state)
{
	char *text = long_text(300000);

	for (unsigned op = DISK_OPEN; op <= DISK_SYNC_DIR; op++) {
		if (op == DISK_READ || op == DISK_TRUNCATE)
			continue;
		struct mail *m = without_relay(NULL);
		struct peer *p = peer_login(m);
		disk_faults(m->disk)->error = -ENOSPC;
		disk_faults(m->disk)->nth[op] = 1;
		const char *reply = peer_message(p, text);
		/* room may be asked for ahead of need: then nothing is amiss yet */
		if (strncmp(reply, "452 4.3.1", 9) != 0 && op != DISK_FALLOCATE)
			fail_msg("operation %u: %s", op, reply);
		assert_int_equal(strncmp(peer_message(p, text), "250", 3), 0);
		mail_destroy(m);
	}
	free(text);
}

static void a_message_over_the_limit_is_read_to_its_end_and_refused(void **state)
{
	struct mail_options o;
	char *text = long_text(400000);

	mail_options_default(&o);
	o.smtp.max_message_size = 100000;
	struct mail *m = without_relay(&o);
	struct peer *p = peer_login(m);
	assert_int_equal(strncmp(peer_message(p, text), "552 5.3.4", 9), 0);
	assert_int_equal(mail_smtp_count(m, smtp_message_too_big), 1);
	mail_run(m, MAIL_SECOND);
	assert_int_equal(disk_count(m->disk, ".body"), 0);
	assert_int_equal(strncmp(peer_message(p, "a: b\r\n"), "250", 3), 0);
	free(text);
	mail_destroy(m);
}

static void a_recipient_list_that_outgrows_its_chunk_is_kept_whole(void **state)
{
	struct mail_options o;
	char line[300];

	mail_options_default(&o);
	o.smtp.max_recipients = 1000;
	struct mail *m = without_relay(&o);
	struct peer *p = peer_login(m);
	peer_cmd(p, "MAIL FROM:<a@x.y>");
	for (unsigned i = 0; i < 400; i++) {
		snprintf(line, sizeof(line), "RCPT TO:<r%u@%060u.example.net>", i, i);
		assert_int_equal(strncmp(peer_cmd(p, line), "250", 3), 0);
	}
	peer_cmd(p, "DATA");
	assert_int_equal(strncmp(peer_cmd(p, "a: b\r\n."), "250", 3), 0);
	assert_int_equal(m->last.recipients, 400);
	mail_destroy(m);
}

/* Points of a session's life at which it dies; the spool holds what it was given or not. */
static const char *const lives[] = {
	"",
	"MAIL FROM:<a@x.y>\r\n",
	"MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\n",
	"MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nDATA\r\n",
	"MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nDATA\r\nSubject: x\r\n\r\ntext",
	"MAIL FROM:<a@x.y>\r\nRCPT TO:<b@x.y>\r\nDATA\r\nSubject: x\r\n\r\ntext\r\n.\r\n",
};

static void check_death(const char *said, const char *large, bool held, unsigned how)
{
	struct mail *m = without_relay(NULL);
	struct peer *p = peer_login(m);
	bool complete = said == lives[5];

	m->hold_spool = held;
	if (large != NULL)
		peer_say(p, lives[3]);
	peer_say(p, large != NULL ? large : said);
	mail_run(m, MAIL_SECOND);
	if (how == 0)
		peer_reset(p);
	else if (how == 1)
		peer_close_notify(p);
	else
		peer_fin(p);
	mail_run(m, MAIL_SECOND);
	m->hold_spool = false;
	mail_run(m, MAIL_SECOND);
	assert_int_equal(smtp_sessions_open(m->smtp), 0);
	assert_int_equal(m->accepted, complete);
	assert_int_equal(spool_counters(m->spool)[spool_commits], complete);
	assert_int_equal(disk_count(m->disk, ".body"), 0);
	mail_destroy(m); /* sees to leaks */
}

static void a_session_may_die_in_each_phase(void **state)
{
	char *large = long_text(300000);

	for (unsigned held = 0; held < 2; held++) {
		for (unsigned how = 0; how < 3; how++) {
			for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++)
				check_death(lives[i], NULL, held, how);
			check_death(lives[3], large, held, how);
		}
	}
	free(large);
}

static void a_spool_that_takes_no_more_requests_holds_up_but_loses_nothing(void **state)
{
	struct mail_options o;
	char *text = long_text(400000);

	mail_options_default(&o);
	o.spool_ring = 2;
	struct mail *m = without_relay(&o);
	struct peer *p[4];
	for (unsigned i = 0; i < 4; i++) {
		p[i] = peer_login(m);
		peer_envelope(p[i], "a@x.y", "b@x.y");
		peer_cmd(p[i], "DATA");
	}
	m->hold_spool = true;
	for (unsigned i = 0; i < 4; i++) {
		peer_say(p[i], text);
		peer_say(p[i], ".\r\n");
	}
	mail_run(m, 10 * MAIL_SECOND);
	m->hold_spool = false;
	unsigned taken = 0;
	for (unsigned i = 0; i < 4; i++) {
		const char *reply = peer_reply(p[i]);
		taken += strncmp(reply, "250", 3) == 0;
		assert_true(strncmp(reply, "250", 3) == 0 || strncmp(reply, "451", 3) == 0);
	}
	assert_int_equal(m->accepted, taken);
	assert_true(taken >= 1);
	free(text);
	mail_destroy(m);
}

/* Many large bodies through a pool that cannot hold them: windows close, all get their reply. */
static void few_chunks_mean_back_pressure_and_no_deadlock(void **state)
{
	enum { SESSIONS = 12 };
	static const size_t pools[] = {1 << 20, 1536 << 10, 2 << 20, 3 << 20};
	char *text = long_text(300000);

	for (size_t k = 0; k < sizeof(pools) / sizeof(pools[0]); k++) {
		struct mail_options o;
		struct peer *p[SESSIONS];
		unsigned n = 0, answered = 0;
		mail_options_default(&o);
		o.net.chunk_bytes = pools[k];
		o.net.chunk_bytes_of_0 = 16 << 20;
		struct mail *m = without_relay(&o);
		for (unsigned i = 0; i < SESSIONS; i++) {
			struct peer *q = peer_connect(m, MAIL_SUBMISSIONS);
			if (!peer_tls(q, 0) || peer_reply(q)[0] != '2' ||
			    peer_cmd(q, "EHLO x")[0] != '2' ||
			    peer_cmd(q, "AUTH PLAIN " PEER_PLAIN)[0] != '2') {
				peer_free(q);
				continue;
			}
			p[n++] = q;
		}
		assert_true(n >= 2);
		for (unsigned i = 0; i < n; i++) {
			peer_say(p[i], lives[3]);
			peer_say(p[i], text);
			peer_say(p[i], ".\r\nQUIT\r\n");
		}
		for (unsigned i = 0; i < n; i++) {
			const char *reply = "";
			while (peer_reply(p[i])[0] != '\0')
				reply = p[i]->reply;
			answered += strncmp(reply, "221", 3) == 0;
		}
		assert_int_equal(smtp_sessions_open(m->smtp), 0);
		if (answered < n)
			fail_msg("%u of %u sessions in %zu bytes, %u stored", answered, n, pools[k],
				 m->accepted);
		assert_true(m->accepted > 0);
		mail_destroy(m);
	}
	free(text);
}

static void over_the_memory_watermark_sessions_are_refused_and_later_taken(void **state)
{
	struct mail *m = without_relay(NULL);
	struct chunk *held = NULL, *c;

	while (chunk_pool_percent(m->shard->chunks) < 91 &&
	       (c = chunk_alloc(m->shard->chunks, CHUNK_64K, true)) != NULL) {
		c->next = held;
		held = c;
	}
	struct peer *p = peer_connect(m, MAIL_SUBMISSION);
	peer_expect(p, "421 4.3.2");
	assert_int_equal(mail_smtp_count(m, smtp_sessions_refused_memory), 1);
	while (chunk_pool_percent(m->shard->chunks) < 96) {
		c = chunk_alloc(m->shard->chunks, CHUNK_64K, true);
		c->next = held;
		held = c;
	}
	assert_false(smtp_admit(&m->listeners[0], &p->m->o.relay.pools[0].hops[0].address));
	chunk_free_list(m->shard->chunks, held);
	peer_free(peer_login(m));
	mail_destroy(m);
}

static void no_chunk_at_all_for_a_while_only_delays(void **state)
{
	struct mail *m = without_relay(NULL);
	struct peer *p = peer_login(m);
	struct chunk *held = NULL, *c;

	peer_cmd(p, "NOOP");
	for (enum chunk_size s = CHUNK_64K + 1; s-- > CHUNK_4K;) {
		while ((c = chunk_alloc(m->shard->chunks, s, true)) != NULL) {
			c->next = held;
			held = c;
		}
	}
	peer_say(p, "NOOP\r\n");
	mail_run(m, 5 * MAIL_SECOND);
	chunk_free_list(m->shard->chunks, held);
	uint64_t before = m->shard->now_us;
	peer_expect(p, "250 2.0.0 ok");
	assert_true(m->shard->now_us - before < 3 * MAIL_SECOND);
	mail_destroy(m);
}

static void random_sessions_on_a_bad_day_leave_nothing_behind(void **state)
{
	char *large = long_text(150000);

	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct mail_options o;
		uint64_t r = seed;
		unsigned told = 0;
		mail_options_default(&o);
		o.net.seed = seed;
		o.net.chunk_bytes = 2 << 20;
		o.net.conditions.loss = o.net.conditions.reorder = 100;
		o.net.conditions.reorder_us = 3000;
		struct mail *m = without_relay(&o);
		disk_faults(m->disk)->per_million[DISK_WRITE] = 100000;
		disk_faults(m->disk)->per_million[DISK_SYNC] = 100000;
		disk_faults(m->disk)->short_write_percent = 20;
		for (unsigned i = 0; i < 12; i++) {
			struct peer *p = peer_login(m);
			p->split = random_below(&r, 3) == 0 ? 100 : 0;
			peer_say(p, lives[random_below(&r, 2) ? 3 : 5]);
			if (random_below(&r, 2))
				peer_say(p, large);
			if (random_below(&r, 2))
				peer_say(p, "x\r\n.\r\n");
			mail_run(m, random_below(&r, 200000));
			if (random_below(&r, 3) == 0)
				peer_reset(p);
			mail_run(m, random_below(&r, 3) * MAIL_SECOND);
			told += peer_acknowledged(p);
			peer_free(p);
		}
		if (told > m->accepted)
			fail_msg("seed %llu: %u acknowledged, %u stored", (unsigned long long)seed,
				 told, m->accepted);
		mail_destroy(m);
	}
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bodies_around_every_buffer_limit_are_stored_as_they_came),
		cmocka_unit_test(a_failed_append_is_answered_451_after_the_end_of_data),
		cmocka_unit_test(a_disk_without_room_is_answered_452),
		cmocka_unit_test(a_message_over_the_limit_is_read_to_its_end_and_refused),
		cmocka_unit_test(a_recipient_list_that_outgrows_its_chunk_is_kept_whole),
		cmocka_unit_test(a_session_may_die_in_each_phase),
		cmocka_unit_test(a_spool_that_takes_no_more_requests_holds_up_but_loses_nothing),
		cmocka_unit_test(few_chunks_mean_back_pressure_and_no_deadlock),
		cmocka_unit_test(over_the_memory_watermark_sessions_are_refused_and_later_taken),
		cmocka_unit_test(no_chunk_at_all_for_a_while_only_delays),
		cmocka_unit_test(random_sessions_on_a_bad_day_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
