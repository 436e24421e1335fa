/* test_spool_behind.c - recovery in its own thread, behind the start */
#include "tests/unit/spool_fixture.h"

#include <stdatomic.h>

/* A disk whose logs cannot be read for a while, and slowly later. */
static _Atomic bool gate_shut;
static _Atomic unsigned gated_reads;

static ssize_t gated_pread(void *arg, int fd, void *buf, size_t n, off_t at)
{
	atomic_fetch_add(&gated_reads, 1);
	while (atomic_load(&gate_shut))
		usleep(100);
	return spool_io_linux.pread(arg, fd, buf, n, at);
}

static void messages_are_accepted_while_the_disk_still_reads(void **state)
{
	enum { OLD = 300, NEW = 20 };
	struct fixture *f = *state;
	struct spool_io gated = spool_io_linux;
	struct found_list found = {0};
	struct spool_progress p;
	spool_id_t ids[OLD], id;
	char error[256];

	for (uint64_t n = 0; n < OLD; n++) {
		assert_int_equal(commit(f, n, 10000, &ids[n]), 0);
		if (n < OLD - 5)
			assert_int_equal(dispose_last(f, ids[n]), 0);
	}
	stop(f);
	gated.pread = gated_pread;
	f->config.io = &gated;
	assert_int_equal(spool_open(&f->sp, &f->config, error, sizeof(error)), 0);
	atomic_store(&gate_shut, true);
	unsigned before = atomic_load(&gated_reads);
	assert_int_equal(spool_start(f->sp), 0);
	f->client = spool_client_create(f->sp, 256);
	while (atomic_load(&gated_reads) == before)
		usleep(100); /* recovery stands at the gate */
	for (uint64_t n = 0; n < NEW; n++) {
		assert_int_equal(commit(f, OLD + n, 3000, &id), 0);
		assert_int_equal(spool_poll_found(f->sp, note_found, &found), 0);
	}
	spool_recovery_progress(f->sp, &p);
	assert_int_equal(p.stage, SPOOL_RECOVERY_SCAN);
	assert_int_equal(p.segments_done, 0);
	atomic_store(&gate_shut, false);
	recovered(f->sp, note_found, &found);
	assert_int_equal(found.n, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(found.at[i].id, ids[OLD - 5 + i]);
		assert_body(f, found.at[i].id, OLD - 5 + i, 19, 10000);
		assert_int_equal(dispose_last(f, found.at[i].id), 0);
	}
	spool_recovery_progress(f->sp, &p);
	assert_int_equal(p.segments_done, p.segments);
	assert_int_equal(p.bytes_done, p.bytes);
	assert_int_equal(p.found, 5);
	stop(f);
	f->config.io = &spool_io_linux;
	start(f);
	struct spool_status st;
	recovered(f->sp, ignore_found, NULL);
	spool_status(f->sp, &st);
	assert_int_equal(st.recovered, NEW);
}

/* The messages go to whichever worker comes, each to one. */
struct comer {
	pthread_t thread;
	struct spool *sp;
	unsigned n;
	uint64_t sum;
};

static void add_up(void *arg, const struct spool_found *f)
{
	struct comer *c = arg;

	c->n++;
	c->sum += f->id;
}

static void *come(void *arg)
{
	struct comer *c = arg;

	recovered(c->sp, add_up, c);
	return NULL;
}

static void each_message_goes_to_one_of_the_workers(void **state)
{
	struct fixture *f = *state;
	struct comer c[3];
	uint64_t sum = 0;
	unsigned n = 0;
	char error[256];
	spool_id_t id;

	for (uint64_t i = 0; i < 500; i++) {
		assert_int_equal(commit(f, i, 300, &id), 0);
		sum += id;
	}
	stop(f);
	assert_int_equal(spool_open(&f->sp, &f->config, error, sizeof(error)), 0);
	assert_int_equal(spool_start(f->sp), 0);
	f->client = spool_client_create(f->sp, 256);
	for (unsigned i = 0; i < 3; i++) {
		c[i] = (struct comer){.sp = f->sp};
		assert_int_equal(pthread_create(&c[i].thread, NULL, come, &c[i]), 0);
	}
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(c[i].thread, NULL);
		n += c[i].n;
		sum -= c[i].sum;
	}
	assert_int_equal(n, 500);
	assert_int_equal(sum, 0);
}

/* With its thread in the middle of the log. */
static void close_in_the_middle_of_recovery_loses_nothing(void **state)
{
	struct fixture *f = *state;
	struct spool_status st;
	spool_id_t id;

	for (uint64_t n = 0; n < 200; n++)
		assert_int_equal(commit(f, n, 40000, &id), 0);
	for (unsigned us = 0; us < 4000; us += 250) {
		stop(f);
		start(f);
		usleep(us);
	}
	recovered(f->sp, ignore_found, NULL);
	spool_status(f->sp, &st);
	assert_int_equal(st.recovered, 200);
	assert_int_equal(st.quarantined, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		T(messages_are_accepted_while_the_disk_still_reads),
		T(each_message_goes_to_one_of_the_workers),
		T(close_in_the_middle_of_recovery_loses_nothing),
	};

	return cmocka_run_group_tests_name("spool behind the start", tests, NULL, NULL);
}
