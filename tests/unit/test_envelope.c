/* test_envelope.c - the stored envelope: what goes in comes out, and nothing else is accepted */
#include "tests/unit/spool_kit.h"

#include <errno.h>

static size_t sample(uint8_t *out, size_t room)
{
	struct envelope e = {
		.reverse_path = {"a@example.org", 13},
		.user = {"alice", 5},
		.mechanism = {"PLAIN", 5},
		.tls = {"TLS_AES_128_GCM_SHA256 (TLS1.3)", 31},
		.envid = {"QQ+2B", 5},
		.accepted_at_s = 1700000000,
		.hold_until_s = 1700000060,
		.by_at_s = 1700000120,
		.by = ENVELOPE_BY_NOTIFY,
		.by_trace = true,
		.declared_bytes = 1ull << 40,
		.body = ENVELOPE_BINARY,
		.ret = ENVELOPE_RET_FULL,
		.smtputf8 = true,
		.require_tls = true,
		.priority = -9,
	};
	struct envelope_recipient r[2] = {
		{{"x@example.net", 13}, {"rfc822;x", 8}, ENVELOPE_SUCCESS | ENVELOPE_DELAY},
		{.path = {"\xc3\xa4@example.net", 14}},
	};
	size_t bytes;

	assert_true(addr_parse("2001:db8::17", &e.client));
	bytes = (size_t)envelope_begin(out, room, &e);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(envelope_add_recipient(out, room, &bytes, &r[i]), 0);
	return bytes;
}

static void expect_text(const struct envelope_text *t, const char *expected)
{
	assert_int_equal(t->bytes, strlen(expected));
	assert_memory_equal(t->at, expected, t->bytes);
}

static void all_fields_survive(void **state)
{
	uint8_t data[300];
	size_t bytes = sample(data, sizeof(data)), cursor = 0;
	struct envelope_recipient r;
	struct envelope e;
	char text[ADDR_TEXT_BYTES];

	assert_int_equal(envelope_decode(data, bytes, &e), 0);
	expect_text(&e.reverse_path, "a@example.org");
	expect_text(&e.user, "alice");
	expect_text(&e.mechanism, "PLAIN");
	expect_text(&e.tls, "TLS_AES_128_GCM_SHA256 (TLS1.3)");
	expect_text(&e.envid, "QQ+2B");
	assert_string_equal(addr_text(&e.client, text), "2001:db8::17");
	assert_int_equal(e.accepted_at_s, 1700000000);
	assert_int_equal(e.hold_until_s, 1700000060);
	assert_int_equal(e.by_at_s, 1700000120);
	assert_int_equal(e.by, ENVELOPE_BY_NOTIFY);
	assert_true(e.by_trace);
	assert_true(e.declared_bytes == 1ull << 40);
	assert_int_equal(e.body, ENVELOPE_BINARY);
	assert_int_equal(e.ret, ENVELOPE_RET_FULL);
	assert_true(e.smtputf8);
	assert_true(e.require_tls);
	assert_false(e.tls_optional);
	assert_int_equal(e.priority, -9);
	assert_int_equal(e.recipients, 2);
	assert_true(envelope_next_recipient(data, bytes, &cursor, &r));
	expect_text(&r.path, "x@example.net");
	expect_text(&r.orcpt, "rfc822;x");
	assert_int_equal(r.notify, ENVELOPE_SUCCESS | ENVELOPE_DELAY);
	assert_true(envelope_next_recipient(data, bytes, &cursor, &r));
	assert_int_equal(r.path.bytes, 14);
	assert_int_equal(r.orcpt.bytes, 0);
	assert_int_equal(r.notify, 0);
	assert_false(envelope_next_recipient(data, bytes, &cursor, &r));
	envelope_set_tls_optional(data);
	assert_int_equal(envelope_decode(data, bytes, &e), 0);
	assert_true(e.tls_optional && e.require_tls && e.smtputf8 && e.by_trace);
}

/* As the version before wrote it: a spool from before an upgrade is still read. */
static void version_1_is_still_read(void **state)
{
	static const uint8_t old[] = {1,    1,    4,   0,   192, 0,   2,   1,   0,   0,   0,
				      0,    0,    0,   0,   0,   0,   0,   0,   0,   0,   0xf1,
				      0x53, 0x65, 0,   0,   0,   0,   2,   0,   0,   0,   3,
				      0,    5,    0,   'a', '@', 'b', 'a', 'l', 'i', 'c', 'e',
				      3,    0,    'c', '@', 'd', 4,   0,   'e', 'f', '@', 'g'};
	struct envelope_recipient r;
	struct envelope e;
	size_t cursor = 0;

	assert_int_equal(envelope_decode(old, sizeof(old), &e), 0);
	expect_text(&e.reverse_path, "a@b");
	expect_text(&e.user, "alice");
	expect_text(&e.envid, "");
	assert_int_equal(e.accepted_at_s, 1700000000);
	assert_int_equal(e.body, ENVELOPE_8BIT);
	assert_int_equal(e.client.family, 4);
	assert_int_equal(e.hold_until_s, 0);
	assert_int_equal(e.recipients, 2);
	assert_true(envelope_next_recipient(old, sizeof(old), &cursor, &r));
	expect_text(&r.path, "c@d");
	assert_true(envelope_next_recipient(old, sizeof(old), &cursor, &r));
	expect_text(&r.path, "ef@g");
	assert_int_equal(r.notify, 0);
	assert_false(envelope_next_recipient(old, sizeof(old), &cursor, &r));
	for (size_t n = 0; n < sizeof(old); n++)
		assert_int_equal(envelope_decode(old, n, &e), -EINVAL);
}

static void unknown_versions_and_values_without_meaning_are_refused(void **state)
{
	static const struct {
		unsigned at;
		uint8_t value;
	} wrong[] = {{0, 0},   {0, 3},     {1, 0x1f}, {3, 3},  {42, 3},   {43, 3},
		     {44, 10}, {44, 0x80}, {45, 1},   {47, 1}, {55, 0x80}};
	struct envelope e;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		uint8_t data[300];
		size_t bytes = sample(data, sizeof(data));
		data[wrong[i].at] = wrong[i].value;
		if (envelope_decode(data, bytes, &e) != -EINVAL)
			fail_msg("byte %u = %u", wrong[i].at, wrong[i].value);
	}
}

static void null_reverse_path_is_kept(void **state)
{
	uint8_t data[128];
	struct envelope e = {0}, back;
	ptrdiff_t bytes = envelope_begin(data, sizeof(data), &e);

	assert_true(bytes > 0);
	assert_int_equal(envelope_decode(data, (size_t)bytes, &back), 0);
	assert_int_equal(back.reverse_path.bytes, 0);
	assert_int_equal(back.recipients, 0);
}

static void control_characters_are_refused(void **state)
{
	static const char *const bad[] = {"a\r@b", "a\n@b", "a\0@b"};
	uint8_t data[300];
	size_t bytes = sample(data, sizeof(data)), before = bytes;

	for (unsigned i = 0; i < 3; i++) {
		struct envelope_text text = {bad[i], 4}, fine = {"a@b", 3};
		struct envelope e[] = {{.reverse_path = text},
				       {.user = text},
				       {.envid = text},
				       {.mechanism = text},
				       {.tls = text}};
		struct envelope_recipient r[] = {{.path = text}, {.path = fine, .orcpt = text}};
		uint8_t other[300];

		for (unsigned k = 0; k < 5; k++)
			assert_int_equal(envelope_begin(other, sizeof(other), &e[k]), -EINVAL);
		for (unsigned k = 0; k < 2; k++)
			assert_int_equal(envelope_add_recipient(data, sizeof(data), &bytes, &r[k]),
					 -EINVAL);
	}
	struct envelope_recipient none = {.path = {"", 0}};
	assert_int_equal(envelope_add_recipient(data, sizeof(data), &bytes, &none), -EINVAL);
	assert_int_equal(bytes, before);
}

static void no_room_is_enospc_and_changes_nothing(void **state)
{
	uint8_t data[300], guard[300];
	struct envelope e = {.reverse_path = {"a@example.org", 13}};
	size_t bytes = sample(data, sizeof(data)), before = bytes;

	memset(guard, 0xee, sizeof(guard));
	for (size_t room = 0; room < 72 + 13; room++)
		assert_int_equal(envelope_begin(guard, room, &e), -ENOSPC);
	assert_int_equal(guard[0], 0xee);
	for (size_t room = 0; room < before + 8; room++)
		assert_int_equal(
			envelope_add_recipient(data, room, &bytes,
					       &(struct envelope_recipient){.path = {"abcd", 4}}),
			-ENOSPC);
	assert_int_equal(bytes, before);
}

/* Exact allocations, so that the sanitizer sees one byte too far. */
static void every_truncation_is_refused(void **state)
{
	uint8_t data[300];
	size_t bytes = sample(data, sizeof(data));
	struct envelope e;

	for (size_t n = 0; n < bytes; n++) {
		uint8_t *cut = malloc(n > 0 ? n : 1);
		struct envelope_recipient r;
		size_t cursor = 0;

		memcpy(cut, data, n);
		assert_int_equal(envelope_decode(cut, n, &e), -EINVAL);
		while (envelope_next_recipient(cut, n, &cursor, &r))
			assert_true((const uint8_t *)r.orcpt.at + r.orcpt.bytes <= cut + n);
		free(cut);
	}
	data[bytes] = 0;
	assert_int_equal(envelope_decode(data, bytes + 1, &e), -EINVAL);
}

/* Whatever decodes must encode to the same bytes: there are no two forms of one envelope. */
static void hostile_bytes_never_crash_and_accepted_ones_are_canonical(void **state)
{
	struct kit_random rnd = {20};
	unsigned accepted = 0;

	for (unsigned round = 0; round < 200000; round++) {
		uint8_t base[300], again[300];
		size_t bytes = sample(base, sizeof(base)), out, cursor = 0;
		struct envelope e;
		struct envelope_recipient r;

		for (uint64_t i = kit_draw(&rnd, 4); i > 0; i--)
			base[kit_draw(&rnd, bytes)] = (uint8_t)kit_draw(&rnd, 256);
		uint8_t *data = malloc(bytes);
		memcpy(data, base, bytes);
		if (envelope_decode(data, bytes, &e) == 0) {
			accepted++;
			out = (size_t)envelope_begin(again, sizeof(again), &e);
			while (envelope_next_recipient(data, bytes, &cursor, &r))
				assert_int_equal(
					envelope_add_recipient(again, sizeof(again), &out, &r), 0);
			assert_int_equal(out, bytes);
			assert_memory_equal(again, data, bytes);
		}
		free(data);
	}
	assert_true(accepted > 10000 && accepted < 200000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_fields_survive),
		cmocka_unit_test(version_1_is_still_read),
		cmocka_unit_test(unknown_versions_and_values_without_meaning_are_refused),
		cmocka_unit_test(null_reverse_path_is_kept),
		cmocka_unit_test(control_characters_are_refused),
		cmocka_unit_test(no_room_is_enospc_and_changes_nothing),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(hostile_bytes_never_crash_and_accepted_ones_are_canonical),
	};

	return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
