/* test_queue_filter.c - which messages a request of posternctl queue is about, and envelopes out of
 * a spool whose readers work, or do not */
#include "control/peek.h"
#include "control/queue.h"
#include "smtp/spool/envelope.h"
#include "smtp/spool/internal.h"
#include "tests/sim/disk.h"
#include "tests/unit/spool_kit.h"

#include <errno.h>
#include <stdio.h>

enum { NOW = 1000000 };

static size_t envelope(uint8_t *out, const char *sender, const char *user, const char *const *to)
{
	struct envelope e = {.reverse_path = {sender, (uint32_t)strlen(sender)},
			     .user = {user, (uint32_t)strlen(user)},
			     .accepted_at_s = NOW};
	size_t bytes = (size_t)envelope_begin(out, 1000, &e);

	for (; *to != NULL; to++) {
		struct envelope_recipient r = {.path = {*to, (uint32_t)strlen(*to)}};
		assert_int_equal(envelope_add_recipient(out, 1000, &bytes, &r), 0);
	}
	return bytes;
}

static bool passes(const char *sender, const char *user, const char *domain, uint8_t done)
{
	static const char *const to[] = {"a@one.example", "b@two.example", NULL};
	struct envelope_filter f = {0};
	uint8_t out[1000];
	size_t bytes = envelope(out, "News@List.example", "alice", to);

	snprintf(f.sender, sizeof(f.sender), "%s", sender);
	snprintf(f.user, sizeof(f.user), "%s", user);
	snprintf(f.domain, sizeof(f.domain), "%s", domain);
	return queue_filter_passes(&f, out, bytes, &done);
}

static void senders_users_and_domains_are_told_apart(void **state)
{
	static const struct {
		const char *sender, *user, *domain;
		uint8_t done;
		bool passes;
	} rows[] = {
		{"", "", "", 0, true},
		{"news@list.example", "", "", 0, true},
		{"news@list.exampl", "", "", 0, false},
		{"@LIST.example", "", "", 0, true},
		{"@ist.example", "", "", 0, false},
		{"@example", "", "", 0, false},
		{"<>", "", "", 0, false},
		{"", "alice", "", 0, true},
		{"", "Alice", "", 0, false},
		{"", "alic", "", 0, false},
		{"", "", "two.EXAMPLE", 0, true},
		{"", "", "wo.example", 0, false},
		/* who has been served is no reason any more */
		{"", "", "two.example", 2, false},
		{"", "", "one.example", 2, true},
		{"@list.example", "alice", "one.example", 0, true},
		{"@list.example", "bob", "one.example", 0, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (passes(rows[i].sender, rows[i].user, rows[i].domain, rows[i].done) !=
		    rows[i].passes)
			fail_msg("row %zu", i);
	}
}

static void what_is_no_envelope_passes_nothing(void **state)
{
	static const uint8_t nonsense[64] = {9, 9, 9};
	const struct envelope_filter any = {0};

	assert_false(queue_filter_passes(&any, nonsense, sizeof(nonsense), NULL));
	assert_false(queue_filter_passes(&any, nonsense, 0, NULL));
}

static bool parsed(const char *text, struct queue_filter *f, char *error)
{
	json_t *request = json_loads(text, 0, NULL);
	bool good = queue_filter_parse(request, NOW, f, error, 200);

	json_decref(request);
	return good;
}

static void a_request_becomes_a_filter(void **state)
{
	struct queue_filter f;
	char error[200];

	assert_true(parsed("{}", &f, error));
	assert_true(f.any);
	assert_false(queue_filter_reads(&f.envelope));
	assert_true(parsed("{\"id\": \"00ff\", \"older_s\": 10, \"younger_s\": 2000000,"
			   " \"status\": \"held,ready\", \"pool\": \"p\"}",
			   &f, error));
	assert_false(f.any || queue_filter_reads(&f.envelope));
	assert_int_equal(f.relay.id, 255);
	assert_int_equal(f.relay.before_s, NOW - 10);
	assert_int_equal(f.relay.after_s, 1);
	assert_int_equal(f.relay.statuses, 1u << RELAY_HELD | 1u << RELAY_READY);
	assert_true(parsed("{\"user\": \"alice\"}", &f, error));
	assert_true(queue_filter_reads(&f.envelope));
}

static void what_is_no_filter_is_refused_with_the_reason(void **state)
{
	static const char *const rows[][2] = {
		{"{\"id\": \"xyz\"}", "id"},
		{"{\"id\": \"\"}", "id"},
		{"{\"id\": \"0\"}", "id"},
		{"{\"id\": 7}", "id"},
		{"{\"status\": \"held,odd\"}", "\"odd\" is none of"},
		{"{\"status\": \"hel\"}", "\"hel\" is none of"},
		{"{\"older_s\": -1}", "older_s"},
		{"{\"older_s\": \"1h\"}", "older_s"},
		{"{\"sender\": \"\"}", "sender"},
		{"{\"pool\": []}", "pool"},
	};
	struct queue_filter f;
	char error[200];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		error[0] = '\0';
		if (parsed(rows[i][0], &f, error) || strstr(error, rows[i][1]) == NULL)
			fail_msg("%s: %s", rows[i][0], error);
	}
}

/* Nobody reads: the threads of the spool are not started. */
static void late_readers_are_not_waited_for_and_nothing_of_theirs_is_lost(void **state)
{
	char error[256] = "";
	struct disk *disk = disk_create(1);
	struct spool *sp;
	struct spool_config c = {
		.directory = "simulated", .segment_size = 65536, .readers = 1, .io = disk_io(disk)};
	struct peek reads[2] = {{.id = 1, .bytes = 100}, {.id = 2, .bytes = 100, .content = true}};

	assert_int_equal(spool_open(&sp, &c, error, sizeof(error)), 0);
	struct peeker *p = peeker_create(sp);
	assert_int_equal(peek(p, reads, 2), -ETIMEDOUT);
	/* nor does another one wait behind them */
	assert_int_equal(peek(p, reads, 1), -ETIMEDOUT);
	assert_null(reads[0].chunk);
	while (spool_read_step(&sp->reader[0]) > 0)
		;
	assert_int_equal(spool_start(sp), 0);
	assert_int_equal(peek(p, reads, 2), 0);
	assert_int_equal(reads[0].verdict, -ENOENT);
	assert_int_equal(reads[1].verdict, -ENOENT);
	assert_int_equal(reads[1].chunk->end, 0);
	peek_free(reads, 2);
	peeker_destroy(p);
	spool_close(sp);
	disk_destroy(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(senders_users_and_domains_are_told_apart),
		cmocka_unit_test(what_is_no_envelope_passes_nothing),
		cmocka_unit_test(a_request_becomes_a_filter),
		cmocka_unit_test(what_is_no_filter_is_refused_with_the_reason),
		cmocka_unit_test(late_readers_are_not_waited_for_and_nothing_of_theirs_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
