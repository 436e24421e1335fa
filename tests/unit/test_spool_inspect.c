/* test_spool_inspect.c - a spool directory looked at from outside: sums, faults, in use or not */
#include "smtp/spool/inspect.h"
#include "tests/unit/spool_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

enum { MESSAGES = 20, DONE = 7, BODY_BYTES = 3000, LARGE_BYTES = 200000 };

struct seen {
	unsigned faults, records, messages;
	char file[64], what[128];
	uint64_t bytes;
};

static void on_fault(void *arg, const char *file, uint64_t at, uint64_t n, const char *what)
{
	struct seen *s = arg;

	s->faults++;
	s->bytes = n;
	snprintf(s->file, sizeof(s->file), "%s", file);
	snprintf(s->what, sizeof(s->what), "%s", what);
}

static void on_record(void *arg, const struct inspect_record *r)
{
	struct seen *s = arg;

	s->records++;
	if (r->head.type != RECORD_MESSAGE)
		return;
	s->messages++;
	assert_int_equal(r->envelope.recipients, 3);
}

static struct inspect_sums inspect(const struct fixture *f, struct seen *seen)
{
	struct inspect_view v = {.arg = seen, .fault = on_fault, .record = on_record};
	struct inspect_sums s;
	char error[256] = "";

	*seen = (struct seen){0};
	if (inspect_spool(f->directory, &spool_io_linux, &v, &s, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	return s;
}

static void fill(struct fixture *f, spool_id_t *large)
{
	spool_id_t id[MESSAGES];

	for (unsigned i = 0; i < MESSAGES; i++)
		assert_int_equal(commit(f, i + 1, BODY_BYTES, &id[i]), 0);
	for (unsigned i = 0; i < DONE; i++)
		assert_int_equal(dispose_last(f, id[i * 2]), 0);
	assert_int_equal(commit_large(f, 99, LARGE_BYTES, large), 0);
}

/* The directory while nobody has it; start() again by the caller. */
static void stopped(struct fixture *f)
{
	stop(f);
}

static void file_named(const struct fixture *f, const char *suffix, char *path, size_t bytes)
{
	DIR *d = opendir(f->directory);
	struct dirent *e;

	assert_non_null(d);
	path[0] = '\0';
	/* the lowest number */
	while ((e = readdir(d)) != NULL) {
		char one[512];
		size_t n = strlen(e->d_name);
		if (n < strlen(suffix) || strcmp(e->d_name + n - strlen(suffix), suffix) != 0)
			continue;
		snprintf(one, sizeof(one), "%s/%s", f->directory, e->d_name);
		if (path[0] == '\0' || strcmp(one, path) < 0)
			snprintf(path, bytes, "%s", one);
	}
	closedir(d);
	assert_true(path[0] != '\0');
}

static void assert_whole(const struct inspect_sums *s, const struct seen *seen)
{
	assert_int_equal(s->messages, MESSAGES + 1);
	assert_int_equal(s->dispositions, DONE);
	assert_int_equal(s->records, MESSAGES + 1 + DONE);
	assert_int_equal(seen->records, s->records);
	assert_int_equal(seen->messages, s->messages);
	assert_int_equal(s->live, MESSAGES + 1 - DONE);
	assert_in_range(s->live_bytes, (MESSAGES - DONE) * BODY_BYTES + LARGE_BYTES,
			(MESSAGES - DONE) * (BODY_BYTES + 400) + LARGE_BYTES + 400);
	assert_int_equal(s->bodies, 1);
	assert_int_equal(s->bodies_missing + s->bodies_orphaned, 0);
	assert_int_equal(s->damaged + s->torn_bytes + s->unreadable + s->set_aside, 0);
	assert_int_equal(seen->faults, 0);
	assert_false(inspect_bad(s));
}

static void what_is_there_is_counted_in_use_or_not(void **state)
{
	struct fixture *f = *state;
	spool_id_t large;
	struct seen seen;

	fill(f, &large);
	struct inspect_sums s = inspect(f, &seen);
	assert_whole(&s, &seen);
	assert_true(s.in_use);
	assert_int_equal(s.holder, getpid());
	stopped(f);
	s = inspect(f, &seen);
	assert_whole(&s, &seen);
	assert_false(s.in_use);
	start(f);
}

static void looking_changes_nothing(void **state)
{
	struct fixture *f = *state;
	spool_id_t large;
	struct seen seen;
	char path[512];
	struct stat before, after;

	fill(f, &large);
	stopped(f);
	file_named(f, ".log", path, sizeof(path));
	/* a torn end that recovery would cut */
	int fd = open(path, O_RDWR | O_APPEND);
	assert_int_equal(write(fd, "torn", 4), 4);
	close(fd);
	assert_int_equal(stat(path, &before), 0);
	struct inspect_sums s = inspect(f, &seen);
	assert_int_equal(s.torn_bytes > 0, 1);
	assert_false(inspect_bad(&s));
	assert_int_equal(stat(path, &after), 0);
	assert_int_equal(before.st_size, after.st_size);
	assert_int_equal(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	start(f);
	/* the start has cut it */
	recovered(f->sp, ignore_found, NULL);
	s = inspect(f, &seen);
	assert_int_equal(s.torn_bytes, 0);
	assert_int_equal(s.live, MESSAGES + 1 - DONE);
}

static void a_flipped_bit_is_found_and_named(void **state)
{
	struct fixture *f = *state;
	spool_id_t large;
	struct seen seen;
	char path[512], octet;

	fill(f, &large);
	stopped(f);
	file_named(f, ".log", path, sizeof(path));
	int fd = open(path, O_RDWR);
	off_t at = SEGMENT_DATA_AT + 2 * (BODY_BYTES + 200);
	assert_int_equal(pread(fd, &octet, 1, at), 1);
	octet ^= 4;
	assert_int_equal(pwrite(fd, &octet, 1, at), 1);
	close(fd);
	struct inspect_sums s = inspect(f, &seen);
	assert_int_equal(s.damaged, 1);
	assert_int_equal(seen.faults, 1);
	assert_string_equal(seen.file, strrchr(path, '/') + 1);
	assert_int_equal(s.damaged_bytes, seen.bytes);
	assert_in_range(s.damaged_bytes, BODY_BYTES, BODY_BYTES + 400);
	assert_true(inspect_bad(&s));
	start(f);
	recovered(f->sp, ignore_found, NULL);
	s = inspect(f, &seen);
	assert_int_equal(s.set_aside, 1);
}

static void a_body_that_is_missing_or_nobodys_is_found(void **state)
{
	struct fixture *f = *state;
	spool_id_t large;
	struct seen seen;
	char path[512], other[512];

	fill(f, &large);
	stopped(f);
	file_named(f, ".body", path, sizeof(path));
	snprintf(other, sizeof(other), "%s/%016" PRIx64 ".body", f->directory, large + 1);
	assert_int_equal(rename(path, other), 0);
	struct inspect_sums s = inspect(f, &seen);
	assert_int_equal(s.bodies_missing, 1);
	assert_int_equal(s.bodies_orphaned, 1);
	assert_string_equal(seen.file, strrchr(path, '/') + 1);
	assert_true(inspect_bad(&s));
	assert_int_equal(rename(other, path), 0);
	assert_int_equal(truncate(path, LARGE_BYTES - 1), 0);
	s = inspect(f, &seen);
	assert_int_equal(s.bodies_missing, 1);
	start(f);
	recovered(f->sp, ignore_found, NULL);
}

static void a_segment_without_header_is_unreadable(void **state)
{
	struct fixture *f = *state;
	spool_id_t large;
	struct seen seen;
	char path[512];
	static const char zeros[1024];

	fill(f, &large);
	stopped(f);
	/* a second segment, so that this one is not the newest */
	start(f);
	stopped(f);
	file_named(f, ".log", path, sizeof(path));
	int fd = open(path, O_RDWR);
	assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 0), sizeof(zeros));
	close(fd);
	struct inspect_sums s = inspect(f, &seen);
	assert_int_equal(s.unreadable, 1);
	assert_true(inspect_bad(&s));
	start(f);
	recovered(f->sp, ignore_found, NULL);
}

static void what_is_no_directory_is_refused(void **state)
{
	struct inspect_view v = {0};
	struct inspect_sums s;
	char error[256] = "";

	assert_int_equal(inspect_spool("/nowhere", &spool_io_linux, &v, &s, error, sizeof(error)),
			 -ENOENT);
	assert_non_null(strstr(error, "/nowhere"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_is_there_is_counted_in_use_or_not, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(looking_changes_nothing, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_flipped_bit_is_found_and_named, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_body_that_is_missing_or_nobodys_is_found, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_segment_without_header_is_unreadable, set_up,
						tear_down),
		cmocka_unit_test(what_is_no_directory_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
