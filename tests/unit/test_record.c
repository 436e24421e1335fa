/* test_record.c - JSON lines through a ring: escaped, whole, and never waited for */
#include "base/record.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { WALL = 1700000000 };

static void take_all(struct records *r, char *out, size_t room)
{
	size_t n = records_take(r, out, room - 1);

	out[n] = '\0';
}

static void a_record_is_one_line_of_json(void **state)
{
	struct records *r = records_create(4096);
	struct record *x = record_begin(r, "reception", WALL * 1000000LL + 42);
	char out[4096];

	record_string(x, "id", "0123");
	record_string(x, "left_out", "");
	record_number(x, "size", 18446744073709551615ull);
	record_bool(x, "answered", true);
	record_list(x, "recipients");
	record_item(x, "a@b", 3);
	record_item(x, "c@d", 3);
	record_list_end(x);
	record_list(x, "none");
	record_list_end(x);
	record_end(x);
	take_all(r, out, sizeof(out));
	assert_string_equal(out, "{\"type\":\"reception\",\"time\":\"2023-11-14T22:13:20.000042Z\","
				 "\"id\":\"0123\",\"size\":18446744073709551615,\"answered\":true,"
				 "\"recipients\":[\"a@b\",\"c@d\"],\"none\":[]}\n");
	records_destroy(r);
}

static void whatever_a_peer_sent_stays_inside_its_string(void **state)
{
	static const struct {
		const char *sent, *written;
	} cases[] = {
		{"\"},{\"type\":\"delivery", "\\\"},{\\\"type\\\":\\\"delivery"},
		{"back\\slash", "back\\\\slash"},
		{"a\r\nb\tc\x1b[31m", "a\\u000d\\u000ab\\u0009c\\u001b[31m"},
		{"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
		{"\xff\xc3", "\\ufffd\\ufffd"},
		{"\x7f", "\\u007f"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct records *r = records_create(4096);
		struct record *x = record_begin(r, "t", 0);
		char out[4096], wanted[400];
		record_string(x, "k", cases[i].sent);
		record_end(x);
		take_all(r, out, sizeof(out));
		snprintf(wanted, sizeof(wanted), ",\"k\":\"%s\"}\n", cases[i].written);
		assert_non_null(strstr(out, wanted));
		assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
		records_destroy(r);
	}
}

static void without_a_reader_lines_are_lost_whole_and_counted(void **state)
{
	struct records *r = records_create(1024);
	char out[2048];
	unsigned lines = 0;

	for (unsigned i = 0; i < 100; i++) {
		struct record *x = record_begin(r, "t", 0);
		record_number(x, "n", i);
		record_end(x);
	}
	take_all(r, out, sizeof(out));
	for (const char *s = out; (s = strchr(s, '\n')) != NULL; s++)
		lines++;
	assert_true(lines > 10 && lines < 100);
	assert_int_equal(records_lost(r), 100 - lines);
	/* there is room again */
	record_end(record_begin(r, "t", 0));
	take_all(r, out, sizeof(out));
	assert_non_null(strstr(out, "{\"type\":\"t\""));
	records_destroy(r);
}

static void a_record_larger_than_any_line_is_lost_and_the_next_one_is_not(void **state)
{
	struct records *r = records_create(1 << 20);
	char *long_text = malloc(100000), *out = malloc(1 << 20);

	memset(long_text, 'x', 100000);
	struct record *x = record_begin(r, "t", 0);
	record_text(x, "k", long_text, 100000);
	record_end(x);
	record_end(record_begin(r, "next", 0));
	take_all(r, out, 1 << 20);
	assert_non_null(strstr(out, "next"));
	assert_null(strstr(out, "xxx"));
	assert_int_equal(records_lost(r), 1);
	free(long_text);
	free(out);
	records_destroy(r);
}

static void nobody_wanting_records_costs_nothing_and_breaks_nothing(void **state)
{
	struct record *x = record_begin(NULL, "t", 0);

	assert_null(x);
	record_string(x, "a", "b");
	record_number(x, "a", 1);
	record_list(x, "a");
	record_item(x, "b", 1);
	record_list_end(x);
	record_end(x);
}

enum { LINES = 200000 };

static void *write_lines(void *arg)
{
	for (unsigned i = 0; i < LINES; i++) {
		struct record *x = record_begin(arg, "t", 0);
		record_number(x, "n", i);
		record_end(x);
	}
	return NULL;
}

static void reader_and_writer_at_once_tear_no_line(void **state)
{
	struct records *r = records_create(4096);
	pthread_t thread;
	char out[1000];
	unsigned got = 0, last = 0, idle = 0;

	assert_int_equal(pthread_create(&thread, NULL, write_lines, r), 0);
	while (got + records_lost(r) < LINES && idle < 100000000) {
		size_t n = records_take(r, out, sizeof(out) - 1);
		out[n] = '\0';
		idle = n == 0 ? idle + 1 : 0;
		for (char *line = out; *line != '\0'; got++) {
			unsigned number;
			char *end = strchr(line, '\n');
			assert_non_null(end);
			*end = '\0';
			assert_int_equal(sscanf(line,
						"{\"type\":\"t\",\"time\":\"1970-01-01T00:00:00."
						"000000Z\",\"n\":%u}",
						&number),
					 1);
			assert_true(got == 0 || number > last);
			last = number;
			line = end + 1;
		}
	}
	pthread_join(thread, NULL);
	assert_true(got > 0);
	records_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_record_is_one_line_of_json),
		cmocka_unit_test(whatever_a_peer_sent_stays_inside_its_string),
		cmocka_unit_test(without_a_reader_lines_are_lost_whole_and_counted),
		cmocka_unit_test(a_record_larger_than_any_line_is_lost_and_the_next_one_is_not),
		cmocka_unit_test(nobody_wanting_records_costs_nothing_and_breaks_nothing),
		cmocka_unit_test(reader_and_writer_at_once_tear_no_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
