/* test_record_file.c - records on a disk that has no room, and after it has some again */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/records.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { ROOM = 1 << 16 };

static void allow(rlim_t bytes)
{
	struct rlimit l;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &l), 0);
	l.rlim_cur = bytes;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &l), 0);
}

static void tell(struct records *r, uint64_t number)
{
	struct record *one = record_begin(r, "test", 0);

	record_number(one, "number", number);
	record_end(one);
}

static void a_full_disk_loses_counted_records_and_joins_no_lines(void **state)
{
	char dir[] = "/tmp/records.XXXXXX", file[64], line[256], error[256];
	struct record_file *f;
	struct records *r = records_create(ROOM);
	struct rlimit before;
	unsigned whole = 0, torn = 0, last = 0;

	assert_non_null(mkdtemp(dir));
	snprintf(file, sizeof(file), "%s/r", dir);
	const struct record_file_config c = {.file = file};
	assert_int_equal(record_file_open(&f, &c, error, sizeof(error)), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);

	tell(r, 1);
	size_t bytes = record_file_drain(f, r);
	signal(SIGXFSZ, SIG_IGN);
	allow(2 * bytes + bytes / 2);
	for (unsigned i = 2; i <= 4; i++)
		tell(r, i);
	record_file_drain(f, r);
	assert_int_equal(record_file_lost(f), 2);
	tell(r, 5);
	record_file_drain(f, r);
	assert_int_equal(record_file_lost(f), 3);
	allow(before.rlim_cur);
	tell(r, 6);
	record_file_drain(f, r);
	assert_int_equal(record_file_lost(f), 3);

	FILE *in = fopen(file, "r");
	assert_non_null(in);
	while (fgets(line, sizeof(line), in) != NULL) {
		const char *number = strstr(line, "\"number\":");
		if (line[0] == '{' && strcmp(line + strlen(line) - 2, "}\n") == 0 &&
		    strlen(line) == bytes && number != NULL) {
			whole++;
			last = (unsigned)atoi(number + strlen("\"number\":"));
		} else {
			torn++;
		}
	}
	fclose(in);
	assert_int_equal(whole, 3);
	assert_int_equal(torn, 1);
	assert_int_equal(last, 6);
	record_file_close(f);
	records_destroy(r);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_disk_loses_counted_records_and_joins_no_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
