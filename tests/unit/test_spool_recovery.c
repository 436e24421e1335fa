/* test_spool_recovery.c - what is old is found while new messages come, and neither harms the
 * other */
#include "smtp/spool/restart.h"
#include "tests/unit/spool_rig.h"

enum { OLD = 90, BODY_BYTES = 5000 };

static enum spool_recovery_stage stage(struct rig *g)
{
	struct spool_progress p;

	spool_recovery_progress(g->sp, &p);
	return p.stage;
}

/* Several segments of messages; ids[i] is message i + 1. */
static void fill(struct rig *g, spool_id_t *ids)
{
	for (unsigned i = 0; i < OLD; i++)
		assert_int_equal(commit(g, i + 1, BODY_BYTES, &ids[i]), 0);
	assert_true(disk_count(g->disk, ".log") > 5);
}

static void restart_behind(struct rig *g, enum disk_loss loss)
{
	char error[256];

	spool_abandon(g->sp);
	forget_jobs(g);
	disk_restart(g->disk, loss);
	if (try_open_behind(g, error, sizeof(error)) != 0)
		fail_msg("%s", error);
}

static void assert_found_once(struct rig *g, const spool_id_t *ids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned times = 0;

		for (unsigned k = 0; k < g->n_found; k++)
			times += g->found[k].id == ids[i];
		assert_int_equal(times, 1);
	}
}

static void new_messages_are_accepted_before_the_old_are_known(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[OLD + 40];

	fill(g, ids);
	restart_behind(g, DISK_DROP_ALL);
	assert_int_equal(stage(g), SPOOL_RECOVERY_SCAN);
	for (unsigned i = OLD; i < OLD + 40; i++) {
		assert_int_equal(commit(g, i + 1, BODY_BYTES, &ids[i]), 0);
		assert_true(ids[i] > ids[OLD - 1]);
		assert_int_equal(read_body(g, ids[i], i + 1, BODY_BYTES), 0);
		if (stage(g) == SPOOL_RECOVERY_SCAN && i % 8 == 0)
			spool_recovery_step(g->sp);
	}
	assert_int_equal(stage(g), SPOOL_RECOVERY_SCAN);
	/* nobody can touch what has not been handed over */
	assert_int_equal(dispose_last(g, ids[0]), -ENOENT);
	assert_int_equal(read_body(g, ids[0], 1, BODY_BYTES), -ENOENT);
	assert_int_equal(spool_poll_found(g->sp, note_found, g), 0);
	spool_each_found(g->sp, note_found, g);
	assert_int_equal(stage(g), SPOOL_RECOVERY_DONE);
	assert_int_equal(g->n_found, OLD);
	assert_found_once(g, ids, OLD);
	for (unsigned i = 0; i < OLD + 40; i++)
		assert_int_equal(read_body(g, ids[i], i + 1, BODY_BYTES), 0);
	rig_restart(g, DISK_DROP_ALL);
	assert_int_equal(g->n_found, OLD + 40);
	assert_found_once(g, ids, OLD + 40);
}

/* New messages that are done make their segments go, whatever recovery is at; old ones stay. */
static void sweeping_of_the_new_leaves_the_old_alone(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[OLD], id;

	fill(g, ids);
	unsigned logs = disk_count(g->disk, ".log");
	restart_behind(g, DISK_DROP_ALL);
	for (unsigned i = 0; i < 60; i++) {
		assert_int_equal(commit(g, 1000 + i, BODY_BYTES, &id), 0);
		assert_int_equal(dispose_last(g, id), 0);
		g->now_us += 5000000;
	}
	assert_true(counter(g, spool_segments_deleted) >= 4);
	assert_true(disk_count(g->disk, ".log") >= logs);
	spool_each_found(g->sp, note_found, g);
	assert_int_equal(g->n_found, OLD);
	for (unsigned i = 0; i < OLD; i++) {
		assert_int_equal(read_body(g, ids[i], i + 1, BODY_BYTES), 0);
		assert_int_equal(dispose_last(g, ids[i]), 0);
	}
	for (unsigned i = 0; i < 2000; i++)
		step(g);
	assert_in_range(disk_count(g->disk, ".log"), 1, 2);
}

static void bodies_of_the_old_and_of_the_new_are_told_apart(void **state)
{
	struct rig *g = *state;
	spool_id_t kept = spool_new_id(g->sp), orphan = spool_new_id(g->sp);

	assert_int_equal(append(g, kept, 1, 0, 3000), 0);
	assert_int_equal(commit_large(g, kept, 1, 3000), 0);
	assert_int_equal(append(g, orphan, 2, 0, 3000), 0);
	restart_behind(g, DISK_KEEP_ALL);
	spool_id_t fresh = spool_new_id(g->sp), open = spool_new_id(g->sp);
	assert_int_equal(append(g, fresh, 3, 0, 3000), 0);
	assert_int_equal(commit_large(g, fresh, 3, 3000), 0);
	assert_int_equal(append(g, open, 4, 0, 1000), 0);
	assert_int_equal(disk_count(g->disk, ".body"), 4);
	spool_each_found(g->sp, note_found, g);
	assert_int_equal(disk_count(g->disk, ".body"), 3);
	assert_int_equal(g->n_found, 1);
	assert_int_equal(read_body(g, kept, 1, 3000), 0);
	assert_int_equal(read_body(g, fresh, 3, 3000), 0);
	assert_int_equal(append(g, open, 4, 1000, 2000), 0);
	assert_int_equal(commit_large(g, open, 4, 3000), 0);
	assert_int_equal(read_body(g, open, 4, 3000), 0);
}

static uint64_t bytes_on_disk(struct rig *g)
{
	uint64_t bytes = 0;
	struct disk_bytes b;

	for (unsigned i = 0; disk_bytes(g->disk, ".log", i, &b); i++)
		bytes += b.bytes;
	for (unsigned i = 0; disk_bytes(g->disk, ".body", i, &b); i++)
		bytes += b.bytes;
	return bytes;
}

static void bytes_used_are_right_from_the_first_moment(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[OLD], large = spool_new_id(g->sp);
	struct spool_status st;

	fill(g, ids);
	assert_int_equal(append(g, large, 1, 0, 30000), 0);
	assert_int_equal(commit_large(g, large, 1, 30000), 0);
	assert_int_equal(append(g, spool_new_id(g->sp), 1, 0, 20000), 0); /* an orphan */
	restart_behind(g, DISK_KEEP_ALL);
	spool_status(g->sp, &st);
	assert_int_equal(st.bytes_used, bytes_on_disk(g));
	assert_int_equal(st.segments, disk_count(g->disk, ".log"));
	assert_int_equal(st.large_files, 2);
	spool_each_found(g->sp, note_found, g);
	spool_status(g->sp, &st);
	assert_int_equal(st.bytes_used, bytes_on_disk(g));
	assert_int_equal(st.segments, disk_count(g->disk, ".log"));
	assert_int_equal(st.large_files, 1);
	assert_int_equal(st.messages, OLD + 1);
}

/* However far it has come: closed, it has lost nothing and done nothing twice. */
static void closing_at_any_step_loses_nothing(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[OLD + 64];
	unsigned n = OLD;

	fill(g, ids);
	spool_abandon(g->sp);
	forget_jobs(g);
	for (unsigned steps = 0; steps < 40; steps++) {
		char error[256];

		disk_restart(g->disk, DISK_DROP_ALL);
		assert_int_equal(try_open_behind(g, error, sizeof(error)), 0);
		for (unsigned i = 0; i < steps; i++) {
			spool_recovery_step(g->sp);
			if (i % 2 == 1)
				step(g);
		}
		assert_int_equal(commit(g, n + 1, 200, &ids[n]), 0);
		n++;
		spool_client_destroy(g->client);
		spool_close(g->sp);
		forget_jobs(g);
	}
	disk_restart(g->disk, DISK_DROP_ALL);
	rig_open(g);
	assert_int_equal(g->n_found, n);
	assert_found_once(g, ids, n);
}

static void recovery_that_fails_leaves_the_old_for_the_next_start(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[OLD + 1];

	fill(g, ids);
	restart_behind(g, DISK_DROP_ALL);
	disk_faults(g->disk)->nth[DISK_OPEN] = 3;
	spool_each_found(g->sp, note_found, g);
	assert_int_equal(stage(g), SPOOL_RECOVERY_FAILED);
	assert_int_equal(g->n_found, 0);
	assert_int_equal(commit(g, OLD + 1, 200, &ids[OLD]), 0);
	rig_restart(g, DISK_DROP_ALL);
	assert_int_equal(g->n_found, OLD + 1);
	assert_found_once(g, ids, OLD + 1);
}

/* The clock is of no help here: the ids are far ahead of it. */
static void ids_rise_without_a_look_at_any_record(void **state)
{
	struct rig *g = *state;
	spool_id_t last;

	atomic_store(&g->sp->next_id, (uint64_t)1 << 62);
	assert_int_equal(commit(g, 1, 200, &last), 0);
	uint64_t created = counter(g, spool_segments_created);
	assert_true(last < g->sp->active->id_floor + SEGMENT_IDS);
	assert_int_equal(commit(g, 2, 200, &last), 0);
	assert_int_equal(counter(g, spool_segments_created), created);
	/* ids that nobody committed count as well */
	atomic_fetch_add(&g->sp->next_id, SEGMENT_IDS - 1);
	assert_int_equal(commit(g, 3, 200, &last), 0);
	assert_int_equal(counter(g, spool_segments_created), created + 1);
	assert_true(last < g->sp->active->id_floor + SEGMENT_IDS);
	uint64_t sequence = g->sp->next_sequence;
	restart_behind(g, DISK_DROP_ALL);
	assert_true(spool_new_id(g->sp) > last);
	assert_true(g->sp->next_sequence > sequence);
	spool_each_found(g->sp, note_found, g);
	assert_int_equal(g->n_found, 3);
}

/* Memory follows what is alive, not what was ever written. */
static void messages_that_are_done_take_no_memory(void **state)
{
	struct rig *g = *state;
	spool_id_t id;

	spool_abandon(g->sp);
	disk_restart(g->disk, DISK_DROP_ALL);
	g->config.segment_size = 4 << 20;
	rig_open(g);
	for (unsigned i = 0; i < 5000; i++) {
		assert_int_equal(commit(g, i, 100, &id), 0);
		assert_int_equal(dispose_last(g, id), 0);
	}
	assert_int_equal(commit(g, 5000, 100, &id), 0);
	restart_behind(g, DISK_DROP_ALL);
	spool_recover_all(g->sp);
	assert_true(g->sp->recovery->found_room <= 256);
	spool_each_found(g->sp, note_found, g);
	assert_int_equal(g->n_found, 1);
	assert_int_equal(g->found[0].id, id);
}

/* It cannot happen; but if it does, neither message takes the other's place. */
static void id_that_is_there_twice_is_kept_for_the_operator(void **state)
{
	struct rig *g = *state;
	struct spool_status st;
	spool_id_t old;

	assert_int_equal(commit(g, 1, 300, &old), 0);
	restart_behind(g, DISK_DROP_ALL);
	struct job *j = commit_job(g, 2, 400);
	j->r.id = old;
	assert_int_equal(run(g, j), 0);
	spool_each_found(g->sp, note_found, g);
	assert_int_equal(g->n_found, 0);
	spool_status(g->sp, &st);
	assert_int_equal(st.quarantined, 1);
	assert_int_equal(st.messages, 1);
	assert_int_equal(read_body(g, old, 2, 400), 0);
	for (unsigned i = 0; i < 2000; i++)
		step(g);
	assert_int_equal(disk_count(g->disk, ".log"), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		T(new_messages_are_accepted_before_the_old_are_known),
		T(sweeping_of_the_new_leaves_the_old_alone),
		T(bodies_of_the_old_and_of_the_new_are_told_apart),
		T(bytes_used_are_right_from_the_first_moment),
		T(closing_at_any_step_loses_nothing),
		T(recovery_that_fails_leaves_the_old_for_the_next_start),
		T(ids_rise_without_a_look_at_any_record),
		T(messages_that_are_done_take_no_memory),
		T(id_that_is_there_twice_is_kept_for_the_operator),
	};

	log_set_level((enum log_level) - 1); /* errors are what these are about */
	return cmocka_run_group_tests_name("spool recovery", tests, NULL, NULL);
}
