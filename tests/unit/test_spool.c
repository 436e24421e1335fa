/* test_spool.c - the spool on real files with its threads: what a worker sees */
#include "tests/unit/spool_fixture.h"

static void committed_message_reads_back(void **state)
{
	struct fixture *f = *state;
	spool_id_t id;

	assert_int_equal(commit(f, 7, 10000, &id), 0);
	assert_body(f, id, 7, 19, 10000);
	struct spool_request r = {.op = SPOOL_READ, .id = id, .read_envelope = true};
	r.chunks = kit_chunk(CHUNK_BYTES);
	r.read_bytes = CHUNK_BYTES;
	assert_int_equal(kit_run(f->client, &r), 0);
	struct envelope e;
	assert_int_equal(envelope_decode(r.chunks->data, r.read_bytes, &e), 0);
	assert_int_equal(e.recipients, 3);
	kit_free_chunks(r.chunks);
}

static void large_body_reads_back_from_its_own_file(void **state)
{
	struct fixture *f = *state;
	spool_id_t id;

	assert_int_equal(commit_large(f, 8, 1000000, &id), 0);
	assert_int_equal(kit_count_files(f->directory, ".body"), 1);
	assert_body(f, id, 8, 0, 1000000);
}

static void disposed_message_is_gone_and_its_file_too(void **state)
{
	struct fixture *f = *state;
	spool_id_t id;
	struct spool_status st;

	assert_int_equal(commit_large(f, 9, 200000, &id), 0);
	assert_int_equal(dispose_last(f, id), 0);
	struct spool_request r = {.op = SPOOL_READ, .id = id, .read_bytes = 1};
	assert_int_equal(kit_run(f->client, &r), -ENOENT);
	assert_int_equal(dispose_last(f, id), -ENOENT);
	stop(f);
	assert_int_equal(kit_count_files(f->directory, ".body"), 0);
	start(f);
	recovered(f->sp, ignore_found, NULL);
	spool_status(f->sp, &st);
	assert_int_equal(st.recovered, 0);
	assert_int_equal(st.messages, 0);
}

static void restart(struct fixture *f, struct found_list *found)
{
	char error[256];

	stop(f);
	assert_int_equal(spool_open(&f->sp, &f->config, error, sizeof(error)), 0);
	assert_int_equal(spool_start(f->sp), 0);
	recovered(f->sp, note_found, found);
	f->client = spool_client_create(f->sp, 256);
}

static void restart_finds_what_is_left_with_its_state(void **state)
{
	struct fixture *f = *state;
	struct found_list found = {0};
	spool_id_t first, second, large;

	assert_int_equal(commit(f, 1, 3000, &first), 0);
	assert_int_equal(commit(f, 2, 3000, &second), 0);
	assert_int_equal(commit_large(f, 3, 90000, &large), 0);
	assert_int_equal(dispose_last(f, first), 0);
	struct spool_disposition d[] = {{0, SPOOL_DELIVERED, 0}, {2, SPOOL_DEFERRED, 12345}};
	struct spool_request r = {.op = SPOOL_DISPOSE,
				  .id = second,
				  .dispositions = d,
				  .n_dispositions = 2,
				  .attempts = 4};
	assert_int_equal(kit_run(f->client, &r), 0);
	restart(f, &found);
	assert_int_equal(found.n, 2);
	assert_int_equal(found.at[0].id, second);
	assert_int_equal(found.at[0].attempts, 4);
	assert_int_equal(found.at[0].retry_at_s, 12345);
	assert_int_equal(found.at[0].recipients, 3);
	assert_int_equal(found.done[0], 1);
	assert_int_equal(found.at[0].content_bytes, 3019);
	assert_int_equal(found.at[0].accepted_at_s, 2);
	assert_int_equal(found.at[1].id, large);
	assert_int_equal(found.at[1].content_bytes, 90000);
	assert_body(f, second, 2, 19, 3000);
	assert_body(f, large, 3, 0, 90000);
	assert_true(spool_new_id(f->sp) > large);
}

static struct spool_found found_again(struct fixture *f)
{
	struct found_list found = {0};

	restart(f, &found);
	assert_int_equal(found.n, 1);
	return found.at[0];
}

static void what_an_operator_decided_outlives_restarts_and_later_outcomes(void **state)
{
	struct fixture *f = *state;
	struct spool_disposition d = {0, SPOOL_DEFERRED, 500};
	spool_id_t id;

	assert_int_equal(commit(f, 1, 3000, &id), 0);
	struct spool_request r = {.op = SPOOL_DISPOSE,
				  .id = id,
				  .dispositions = &d,
				  .n_dispositions = 1,
				  .attempts = 4};
	assert_int_equal(kit_run(f->client, &r), 0);
	r = (struct spool_request){.op = SPOOL_DISPOSE,
				   .id = id,
				   .marked = true,
				   .mark = {.held = true, .route = 0xfeedbeef},
				   .retry_at_s = 700};
	assert_int_equal(kit_run(f->client, &r), 0);
	struct spool_found held = found_again(f);
	assert_true(held.mark.held);
	assert_int_equal(held.mark.route, 0xfeedbeef);
	assert_int_equal(held.mark.released_at_s, 0);
	assert_int_equal(held.attempts, 4);
	assert_int_equal(held.retry_at_s, 700);
	/* an attempt that was under way ends: it knows nothing of the mark */
	r = (struct spool_request){.op = SPOOL_DISPOSE,
				   .id = id,
				   .dispositions = &d,
				   .n_dispositions = 1,
				   .attempts = 5};
	assert_int_equal(kit_run(f->client, &r), 0);
	held = found_again(f);
	assert_true(held.mark.held);
	assert_int_equal(held.attempts, 5);
	assert_int_equal(held.retry_at_s, 500);
	r = (struct spool_request){.op = SPOOL_DISPOSE,
				   .id = id,
				   .marked = true,
				   .mark = {.released_at_s = 800},
				   .retry_at_s = 800};
	assert_int_equal(kit_run(f->client, &r), 0);
	struct spool_found released = found_again(f);
	assert_false(released.mark.held);
	assert_int_equal(released.mark.route, 0);
	assert_int_equal(released.mark.released_at_s, 800);
	assert_int_equal(dispose_last(f, id), 0);
}

static void second_instance_is_refused_with_the_pid(void **state)
{
	struct fixture *f = *state;
	char error[256], pid[32];
	struct spool *other;

	assert_int_equal(spool_open(&other, &f->config, error, sizeof(error)), -EWOULDBLOCK);
	snprintf(pid, sizeof(pid), "process %ld", (long)getpid());
	assert_non_null(strstr(error, pid));
}

static void finished_segments_are_deleted(void **state)
{
	struct fixture *f = *state;
	struct spool_status st;
	spool_id_t id;

	for (uint64_t n = 0; n < 120; n++) {
		assert_int_equal(commit(f, n, 40000, &id), 0);
		assert_int_equal(dispose_last(f, id), 0);
	}
	spool_status(f->sp, &st);
	assert_true(counter_read(&spool_counters(f->sp)[spool_segments_created]) >= 5);
	assert_true(st.segments <= 2);
}

static void aborted_body_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct spool_request a = {.op = SPOOL_BODY_APPEND, .id = spool_new_id(f->sp)};

	a.chunks = kit_body(1, 0, 70000, CHUNK_BYTES);
	assert_int_equal(kit_run(f->client, &a), 0);
	kit_free_chunks(a.chunks);
	a.op = SPOOL_BODY_ABORT;
	a.chunks = NULL;
	assert_int_equal(kit_run(f->client, &a), 0);
	assert_int_equal(kit_count_files(f->directory, ".body"), 0);
}

static void commit_with_other_length_than_its_body_is_refused(void **state)
{
	struct fixture *f = *state;
	struct spool_request a = {.op = SPOOL_BODY_APPEND, .id = spool_new_id(f->sp)};
	uint8_t envelope[512];
	struct spool_request r = {.op = SPOOL_COMMIT, .id = a.id, .large = true};

	a.chunks = kit_body(1, 0, 70000, CHUNK_BYTES);
	assert_int_equal(kit_run(f->client, &a), 0);
	kit_free_chunks(a.chunks);
	r.envelope = envelope;
	r.envelope_bytes = kit_envelope(envelope, sizeof(envelope), 1, 1);
	r.body_bytes = 70001;
	assert_int_equal(kit_run(f->client, &r), -EINVAL);
	assert_int_equal(kit_count_files(f->directory, ".body"), 0);
}

/* Many workers at once, each checking its own messages. */
struct worker {
	struct fixture f;
	pthread_t thread;
	unsigned index;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	spool_id_t id;

	for (uint64_t i = 0; i < 60; i++) {
		uint64_t n = w->index * 1000 + i, bytes = 100 + kit_mix(n) % 9000;

		assert_int_equal(commit(&w->f, n, bytes, &id), 0);
		assert_body(&w->f, id, n, 19, bytes);
		if (i % 3 != 0)
			assert_int_equal(dispose_last(&w->f, id), 0);
		if (i % 20 == 0) {
			assert_int_equal(commit_large(&w->f, n, 150000, &id), 0);
			assert_body(&w->f, id, n, 0, 150000);
			assert_int_equal(dispose_last(&w->f, id), 0);
		}
	}
	return NULL;
}

static void workers_in_parallel_keep_their_own_messages(void **state)
{
	struct fixture *f = *state;
	struct worker w[4];
	struct spool_status st;

	for (unsigned i = 0; i < 4; i++) {
		w[i] = (struct worker){.f = *f, .index = i};
		w[i].f.client = spool_client_create(f->sp, 16);
		assert_int_equal(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(w[i].thread, NULL);
		spool_client_destroy(w[i].f.client);
	}
	spool_status(f->sp, &st);
	assert_int_equal(st.messages, 80);
	stop(f);
	start(f);
	recovered(f->sp, ignore_found, NULL);
	spool_status(f->sp, &st);
	assert_int_equal(st.recovered, 80);
	assert_int_equal(st.torn_bytes, 0);
	assert_int_equal(st.quarantined, 0);
}

static void full_client_ring_gives_the_request_back(void **state)
{
	struct fixture *f = *state;
	struct spool_client *c = spool_client_create(f->sp, 1);
	bool done = false;
	struct spool_request a = {.op = SPOOL_READ, .id = 1, .user = &done, .done = kit_done};
	struct spool_request b = a;

	assert_int_equal(spool_submit(c, &a), 0);
	assert_int_equal(spool_submit(c, &b), -EOVERFLOW);
	for (int i = 0; i < 100000 && !done; i++) {
		spool_poll(c);
		usleep(20);
	}
	assert_true(done);
	assert_int_equal(kit_run(c, &b), -ENOENT);
	spool_client_destroy(c);
}

static void lone_client_never_waits_for_company(void **state)
{
	struct fixture *f = *state;
	spool_id_t id;

	for (uint64_t n = 0; n < 40; n++)
		assert_int_equal(commit(f, n, 500, &id), 0);
	assert_int_equal(counter_read(&spool_counters(f->sp)[spool_batch_waits]), 0);
	assert_int_equal(counter_read(&spool_counters(f->sp)[spool_syncs]), 40);
}

static void missing_directory_is_refused_with_the_remedy(void **state)
{
	struct spool_config config = {.directory = "/nonexistent/spool", .io = &spool_io_linux};
	char error[256];
	struct spool *sp;

	assert_int_equal(spool_open(&sp, &config, error, sizeof(error)), -ENOENT);
	assert_non_null(strstr(error, "/nonexistent/spool"));
	assert_non_null(strstr(error, "create it"));
}

/* Requests still under way when the spool closes are finished, not forgotten. */
static void close_finishes_what_was_submitted(void **state)
{
	struct fixture *f = *state;
	struct spool_request r[8];
	uint8_t envelope[512];
	bool done[8] = {false};
	struct spool_status st;
	uint32_t envelope_bytes = kit_envelope(envelope, sizeof(envelope), 1, 1);

	for (unsigned i = 0; i < 8; i++) {
		r[i] = (struct spool_request){.op = SPOOL_COMMIT, .id = spool_new_id(f->sp)};
		r[i].envelope = envelope;
		r[i].envelope_bytes = envelope_bytes;
		r[i].user = &done[i];
		r[i].done = kit_done;
		assert_int_equal(spool_submit(f->client, &r[i]), 0);
	}
	spool_close(f->sp);
	start(f);
	recovered(f->sp, ignore_found, NULL);
	spool_status(f->sp, &st);
	assert_int_equal(st.recovered, 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		T(committed_message_reads_back),
		T(large_body_reads_back_from_its_own_file),
		T(disposed_message_is_gone_and_its_file_too),
		T(restart_finds_what_is_left_with_its_state),
		T(what_an_operator_decided_outlives_restarts_and_later_outcomes),
		T(second_instance_is_refused_with_the_pid),
		T(finished_segments_are_deleted),
		T(aborted_body_leaves_nothing),
		T(commit_with_other_length_than_its_body_is_refused),
		T(workers_in_parallel_keep_their_own_messages),
		T(full_client_ring_gives_the_request_back),
		T(lone_client_never_waits_for_company),
		T(missing_directory_is_refused_with_the_remedy),
		T(close_finishes_what_was_submitted),
	};

	return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
