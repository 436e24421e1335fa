/* test_envelope.c - the stored envelope: what goes in comes out, and nothing else is accepted */
#include "tests/unit/spool_kit.h"

#include <errno.h>

static size_t sample(uint8_t *out, size_t room)
{
	struct envelope e = {
		.reverse_path = {"a@example.org", 13},
		.user = {"alice", 5},
		.accepted_at_s = 1700000000,
		.body_8bit = true,
	};
	size_t bytes;

	assert_true(addr_parse("2001:db8::17", &e.client));
	bytes = (size_t)envelope_begin(out, room, &e);
	assert_int_equal(envelope_add_recipient(out, room, &bytes, "x@example.net", 13), 0);
	assert_int_equal(envelope_add_recipient(out, room, &bytes, "\xc3\xa4@example.net", 14), 0);
	return bytes;
}

static void all_fields_survive(void **state)
{
	uint8_t data[256];
	size_t bytes = sample(data, sizeof(data)), cursor = 0;
	struct envelope_text path;
	struct envelope e;
	char text[ADDR_TEXT_BYTES];

	assert_int_equal(envelope_decode(data, bytes, &e), 0);
	assert_int_equal(e.reverse_path.bytes, 13);
	assert_memory_equal(e.reverse_path.at, "a@example.org", 13);
	assert_memory_equal(e.user.at, "alice", 5);
	assert_string_equal(addr_text(&e.client, text), "2001:db8::17");
	assert_int_equal(e.accepted_at_s, 1700000000);
	assert_true(e.body_8bit);
	assert_int_equal(e.recipients, 2);
	assert_true(envelope_next_recipient(data, bytes, &cursor, &path));
	assert_memory_equal(path.at, "x@example.net", 13);
	assert_true(envelope_next_recipient(data, bytes, &cursor, &path));
	assert_int_equal(path.bytes, 14);
	assert_false(envelope_next_recipient(data, bytes, &cursor, &path));
}

static void null_reverse_path_is_kept(void **state)
{
	uint8_t data[64];
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
	uint8_t data[256];
	size_t bytes = sample(data, sizeof(data)), before = bytes;

	for (unsigned i = 0; i < 3; i++) {
		struct envelope e = {.reverse_path = {bad[i], 4}};
		struct envelope u = {.user = {bad[i], 4}};
		uint8_t other[256];

		assert_int_equal(envelope_begin(other, sizeof(other), &e), -EINVAL);
		assert_int_equal(envelope_begin(other, sizeof(other), &u), -EINVAL);
		assert_int_equal(envelope_add_recipient(data, sizeof(data), &bytes, bad[i], 4),
				 -EINVAL);
	}
	assert_int_equal(envelope_add_recipient(data, sizeof(data), &bytes, "", 0), -EINVAL);
	assert_int_equal(bytes, before);
}

static void no_room_is_enospc_and_changes_nothing(void **state)
{
	uint8_t data[256], guard[256];
	struct envelope e = {.reverse_path = {"a@example.org", 13}};
	size_t bytes = sample(data, sizeof(data)), before = bytes;

	memset(guard, 0xee, sizeof(guard));
	for (size_t room = 0; room < 36 + 13; room++)
		assert_int_equal(envelope_begin(guard, room, &e), -ENOSPC);
	assert_int_equal(guard[0], 0xee);
	for (size_t room = 0; room < before + 5; room++)
		assert_int_equal(envelope_add_recipient(data, room, &bytes, "abcd", 4), -ENOSPC);
	assert_int_equal(bytes, before);
}

/* Exact allocations, so that the sanitizer sees one byte too far. */
static void every_truncation_is_refused(void **state)
{
	uint8_t data[256];
	size_t bytes = sample(data, sizeof(data));
	struct envelope e;

	for (size_t n = 0; n < bytes; n++) {
		uint8_t *cut = malloc(n > 0 ? n : 1);
		struct envelope_text path;
		size_t cursor = 0;

		memcpy(cut, data, n);
		assert_int_equal(envelope_decode(cut, n, &e), -EINVAL);
		while (envelope_next_recipient(cut, n, &cursor, &path))
			assert_true((const uint8_t *)path.at + path.bytes <= cut + n);
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
		uint8_t base[256], again[256];
		size_t bytes = sample(base, sizeof(base)), out, cursor = 0;
		struct envelope e;
		struct envelope_text path;

		for (uint64_t i = kit_draw(&rnd, 4); i > 0; i--)
			base[kit_draw(&rnd, bytes)] = (uint8_t)kit_draw(&rnd, 256);
		uint8_t *data = malloc(bytes);
		memcpy(data, base, bytes);
		if (envelope_decode(data, bytes, &e) == 0) {
			accepted++;
			out = (size_t)envelope_begin(again, sizeof(again), &e);
			while (envelope_next_recipient(data, bytes, &cursor, &path))
				assert_int_equal(envelope_add_recipient(again, sizeof(again), &out,
									path.at, path.bytes),
						 0);
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
		cmocka_unit_test(null_reverse_path_is_kept),
		cmocka_unit_test(control_characters_are_refused),
		cmocka_unit_test(no_room_is_enospc_and_changes_nothing),
		cmocka_unit_test(every_truncation_is_refused),
		cmocka_unit_test(hostile_bytes_never_crash_and_accepted_ones_are_canonical),
	};

	return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
