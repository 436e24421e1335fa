/* test_spool_faults.c - one fault at a time: what the worker is told, and what a restart finds */
#include "tests/unit/spool_rig.h"

struct early {
	struct rig *g;
	struct job *j[3];
	unsigned syncs;
};

static void assert_still_pending(void *arg)
{
	struct early *e = arg;

	spool_poll(e->g->client);
	for (int i = 0; i < 3; i++)
		assert_int_equal(e->j[i]->verdict, PENDING);
	e->syncs++;
}

static void no_verdict_leaves_before_the_sync_returns(void **state)
{
	struct rig *g = *state;
	struct early e = {.g = g};

	for (int i = 0; i < 3; i++)
		submit(g, e.j[i] = commit_job(g, (uint64_t)i, 500));
	disk_on_sync(g->disk, assert_still_pending, &e);
	step(g);
	disk_on_sync(g->disk, NULL, NULL);
	assert_int_equal(e.syncs, 1); /* and one sync served all three */
	for (int i = 0; i < 3; i++)
		assert_int_equal(e.j[i]->verdict, 0);
}

static void failed_sync_fails_its_whole_batch_and_nothing_before_or_after(void **state)
{
	struct rig *g = *state;
	spool_id_t before, after;
	struct job *a, *b;

	assert_int_equal(commit(g, 1, 600, &before), 0);
	submit(g, a = commit_job(g, 2, 600));
	submit(g, b = commit_job(g, 3, 600));
	disk_faults(g->disk)->nth[DISK_SYNC] = 1;
	step(g);
	assert_int_equal(a->verdict, -EIO);
	assert_int_equal(b->verdict, -EIO);
	assert_int_equal(commit(g, 4, 600, &after), 0);
	assert_int_equal(counter(g, spool_segments_abandoned), 1);
	assert_int_equal(disk_violations(g->disk), 0);
	rig_restart(g, DISK_DROP_ALL);
	assert_int_equal(g->n_found, 2);
	assert_true(was_found(g, before) && was_found(g, after));
	assert_int_equal(read_body(g, before, 1, 600), 0);
}

static void disk_that_keeps_failing_is_not_given_a_segment_a_batch(void **state)
{
	struct rig *g = *state;
	spool_id_t id;

	for (uint64_t i = 0; i < 40; i++) {
		disk_faults(g->disk)->nth[DISK_SYNC] = 1;
		assert_int_equal(commit(g, i, 600, &id), -EIO);
		disk_faults(g->disk)->nth[DISK_SYNC] = 0;
	}
	assert_true(counter(g, spool_segments_abandoned) < 8);
	/* and it is back by itself, within seconds */
	g->now_us += 3000000;
	assert_int_equal(commit(g, 41, 600, &id), 0);
}

static void failed_write_is_eio_and_the_next_commit_succeeds(void **state)
{
	struct rig *g = *state;

	disk_faults(g->disk)->nth[DISK_WRITE] = 1;
	assert_int_equal(commit(g, 1, 600, NULL), -EIO);
	assert_int_equal(commit(g, 2, 600, NULL), 0);
	assert_int_equal(counter(g, spool_write_errors), 1);
}

static void full_disk_is_enospc_until_space_returns(void **state)
{
	struct rig *g = *state;
	unsigned refused = 0;
	spool_id_t first;

	assert_int_equal(commit(g, 0, 5000, &first), 0);
	disk_faults(g->disk)->capacity = 200000;
	for (uint64_t n = 1; n < 60; n++) {
		int verdict = commit(g, n, 5000, NULL);

		assert_true(verdict == 0 || verdict == -ENOSPC);
		refused += verdict != 0;
	}
	assert_in_range(refused, 20, 45);
	/* What empties the queue still has room. */
	assert_int_equal(dispose_last(g, first), 0);
	disk_faults(g->disk)->capacity = 0;
	assert_int_equal(commit(g, 99, 5000, NULL), 0);
}

static void max_size_is_enospc_until_messages_are_done(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[200];
	unsigned n = 0;

	spool_abandon(g->sp);
	disk_restart(g->disk, DISK_DROP_ALL);
	g->config.max_size = 400000;
	rig_open(g);
	while (n < 200 && commit(g, n, 5000, &ids[n]) == 0)
		n++;
	assert_in_range(n, 40, 80);
	assert_int_equal(commit(g, 0, 5000, NULL), -ENOSPC);
	assert_true(counter(g, spool_no_space) >= 2);
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(dispose_last(g, ids[i]), 0);
	for (int i = 0; i < 400; i++)
		step(g);
	assert_int_equal(commit(g, 0, 5000, NULL), 0);
	struct spool_status st;
	spool_status(g->sp, &st);
	assert_true(st.bytes_used <= 400000);
}

static void large_body_counts_against_max_size(void **state)
{
	struct rig *g = *state;
	spool_id_t id;

	spool_abandon(g->sp);
	disk_restart(g->disk, DISK_DROP_ALL);
	g->config.max_size = 300000;
	rig_open(g);
	id = spool_new_id(g->sp);
	assert_int_equal(append(g, id, 1, 0, 100000), 0);
	assert_int_equal(append(g, id, 1, 100000, 200000), -ENOSPC);
	assert_int_equal(commit_large(g, id, 1, 300000), -ENOSPC);
	assert_int_equal(disk_count(g->disk, ".body"), 0);
	assert_int_equal(commit(g, 1, 500, NULL), 0);
}

static void failed_append_fails_the_commit(void **state)
{
	struct rig *g = *state;
	spool_id_t id = spool_new_id(g->sp);

	assert_int_equal(append(g, id, 1, 0, 3000), 0);
	disk_faults(g->disk)->nth[DISK_WRITE] = 1;
	assert_int_equal(append(g, id, 1, 3000, 3000), -EIO);
	assert_int_equal(append(g, id, 1, 3000, 3000), -EIO);
	assert_int_equal(commit_large(g, id, 1, 6000), -EIO);
	assert_int_equal(disk_count(g->disk, ".body"), 0);
	assert_int_equal(counter(g, spool_commits), 0);
}

static void failed_sync_of_a_body_never_reaches_the_log(void **state)
{
	static const enum disk_op calls[] = {DISK_SYNC, DISK_SYNC_DIR};
	struct rig *g = *state;

	for (unsigned i = 0; i < 2; i++) {
		spool_id_t id = spool_new_id(g->sp);
		uint64_t log_bytes = counter(g, spool_log_bytes);

		assert_int_equal(append(g, id, 1, 0, 3000), 0);
		disk_faults(g->disk)->nth[calls[i]] = 1;
		assert_int_equal(commit_large(g, id, 1, 3000), -EIO);
		assert_int_equal(counter(g, spool_log_bytes), log_bytes);
		assert_int_equal(disk_count(g->disk, ".body"), 0);
	}
}

static void body_whose_commit_fails_in_the_log_is_removed(void **state)
{
	struct rig *g = *state;
	spool_id_t id = spool_new_id(g->sp);

	assert_int_equal(append(g, id, 1, 0, 3000), 0);
	disk_faults(g->disk)->nth[DISK_SYNC] = 2; /* the body's succeeds, the log's fails */
	assert_int_equal(commit_large(g, id, 1, 3000), -EIO);
	step(g);
	assert_int_equal(disk_count(g->disk, ".body"), 0);
}

static void appends_in_flight_keep_their_order(void **state)
{
	struct rig *g = *state;
	spool_id_t id = spool_new_id(g->sp);

	for (uint64_t i = 0; i < 20; i++) {
		struct job *j = job(g, SPOOL_BODY_APPEND, id);

		j->r.chunks = kit_body(5, i * 700, 700, CHUNK_BYTES);
		submit(g, j);
	}
	assert_int_equal(commit_large(g, id, 5, 14000), 0);
	assert_int_equal(read_body(g, id, 5, 14000), 0);
}

static void body_without_a_commit_is_removed_at_the_next_start(void **state)
{
	struct rig *g = *state;

	assert_int_equal(append(g, spool_new_id(g->sp), 1, 0, 3000), 0);
	rig_restart(g, DISK_KEEP_ALL);
	assert_int_equal(disk_count(g->disk, ".body"), 0);
	assert_int_equal(g->n_found, 0);
}

/* Segments are removed one directory sync at a time; when that fails it is tried again. */
static void failed_removal_of_a_segment_is_tried_again(void **state)
{
	struct rig *g = *state;
	spool_id_t id;

	disk_faults(g->disk)->nth[DISK_UNLINK] = 1;
	for (uint64_t n = 0; n < 40; n++) {
		assert_int_equal(commit(g, n, 5000, &id), 0);
		assert_int_equal(dispose_last(g, id), 0);
	}
	assert_int_equal(counter(g, spool_delete_errors), 1);
	for (int i = 0; i < 2000; i++)
		step(g);
	assert_int_equal(disk_count(g->disk, ".log"), 1);
}

/* A message that stays makes room for all the others around it to go. */
static void long_lived_message_moves_forward_with_its_state(void **state)
{
	struct rig *g = *state;
	spool_id_t keep, id;

	assert_int_equal(commit(g, 1, 3000, &keep), 0);
	struct spool_disposition d = {1, SPOOL_DELIVERED, 0};
	struct job *j = job(g, SPOOL_DISPOSE, keep);
	j->r.dispositions = &d;
	j->r.n_dispositions = 1;
	j->r.attempts = 2;
	assert_int_equal(run(g, j), 0);
	j = job(g, SPOOL_DISPOSE, keep);
	j->r.marked = true;
	j->r.mark = (struct spool_mark){.held = true, .route = 77};
	assert_int_equal(run(g, j), 0);
	for (uint64_t n = 2; n < 100; n++) {
		assert_int_equal(commit(g, n, 5000, &id), 0);
		assert_int_equal(dispose_last(g, id), 0);
		g->now_us += 5000000;
	}
	assert_true(counter(g, spool_moved) >= 1);
	assert_in_range(disk_count(g->disk, ".log"), 1, 3);
	assert_int_equal(read_body(g, keep, 1, 3000), 0);
	rig_restart(g, DISK_DROP_ALL);
	assert_int_equal(g->n_found, 1);
	assert_int_equal(g->found[0].id, keep);
	assert_int_equal(g->found[0].attempts, 2);
	assert_int_equal(g->found_done[0], 2);
	assert_true(g->found[0].mark.held);
	assert_int_equal(g->found[0].mark.route, 77);
	assert_int_equal(read_body(g, keep, 1, 3000), 0);
}

static void contradictory_requests_are_refused_with_einval(void **state)
{
	struct rig *g = *state;
	struct job *j = commit_job(g, 1, 600);
	spool_id_t id;

	j->r.body_bytes = 601;
	assert_int_equal(run(g, j), -EINVAL);
	j = commit_job(g, 1, 600);
	j->envelope[0] ^= 1;
	assert_int_equal(run(g, j), -EINVAL);
	assert_int_equal(commit(g, 1, 600, &id), 0);
	struct spool_disposition d = {3, SPOOL_DELIVERED, 0};
	j = job(g, SPOOL_DISPOSE, id);
	j->r.dispositions = &d;
	j->r.n_dispositions = 1;
	assert_int_equal(run(g, j), -EINVAL);
	assert_int_equal(counter(g, spool_bad_requests), 3);
}

static void two_last_dispositions_in_one_batch_give_one_enoent(void **state)
{
	struct rig *g = *state;
	spool_id_t id;
	struct job *a, *b;

	assert_int_equal(commit(g, 1, 600, &id), 0);
	submit(g, a = job(g, SPOOL_DISPOSE, id));
	submit(g, b = job(g, SPOOL_DISPOSE, id));
	a->r.last = b->r.last = true;
	step(g);
	assert_int_equal(a->verdict, 0);
	assert_int_equal(b->verdict, -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		T(no_verdict_leaves_before_the_sync_returns),
		T(failed_sync_fails_its_whole_batch_and_nothing_before_or_after),
		T(failed_write_is_eio_and_the_next_commit_succeeds),
		T(disk_that_keeps_failing_is_not_given_a_segment_a_batch),
		T(full_disk_is_enospc_until_space_returns),
		T(max_size_is_enospc_until_messages_are_done),
		T(large_body_counts_against_max_size),
		T(failed_append_fails_the_commit),
		T(failed_sync_of_a_body_never_reaches_the_log),
		T(body_whose_commit_fails_in_the_log_is_removed),
		T(appends_in_flight_keep_their_order),
		T(body_without_a_commit_is_removed_at_the_next_start),
		T(failed_removal_of_a_segment_is_tried_again),
		T(long_lived_message_moves_forward_with_its_state),
		T(contradictory_requests_are_refused_with_einval),
		T(two_last_dispositions_in_one_batch_give_one_enoent),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests_name("spool faults", tests, NULL, NULL);
}
