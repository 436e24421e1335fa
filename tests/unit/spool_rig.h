/* spool_rig.h - a spool on a simulated disk, run step by step, with one worker's requests. */
#ifndef TESTS_UNIT_SPOOL_RIG_H
#define TESTS_UNIT_SPOOL_RIG_H

#include "base/log.h"
#include "smtp/spool/internal.h"
#include "tests/sim/disk.h"
#include "tests/unit/spool_kit.h"

#include <errno.h>

enum { CHUNK_BYTES = 1024, PENDING = -1000, JOBS = 128, FOUND_MAX = 256 };

struct rig {
	struct disk *disk;
	struct spool_config config;
	struct spool *sp;
	struct spool_client *client;
	uint64_t now_us;
	struct job {
		struct spool_request r;
		uint8_t envelope[256];
		int verdict;
	} job[JOBS];
	unsigned jobs;
	struct spool_found found[FOUND_MAX];
	uint8_t found_done[FOUND_MAX];
	unsigned n_found;
};

static inline void note_found(void *arg, const struct spool_found *f)
{
	struct rig *g = arg;

	assert_true(g->n_found < FOUND_MAX);
	g->found_done[g->n_found] = f->done[0];
	g->found[g->n_found++] = *f;
}

/* Open, and nothing recovered yet. */
static inline int try_open_behind(struct rig *g, char *error, size_t error_bytes)
{
	g->n_found = g->jobs = 0;
	int rc = spool_open(&g->sp, &g->config, error, error_bytes);
	if (rc == 0)
		g->client = spool_client_create(g->sp, JOBS);
	return rc;
}

static inline int try_open(struct rig *g, char *error, size_t error_bytes)
{
	int rc = try_open_behind(g, error, error_bytes);

	if (rc == 0)
		spool_each_found(g->sp, note_found, g);
	return rc;
}

static inline void rig_open(struct rig *g)
{
	char error[256];

	if (try_open(g, error, sizeof(error)) != 0)
		fail_msg("%s", error);
}

static inline void forget_jobs(struct rig *g)
{
	for (unsigned i = 0; i < g->jobs; i++)
		kit_free_chunks(g->job[i].r.chunks);
	g->jobs = 0;
}

static inline void rig_restart(struct rig *g, enum disk_loss loss)
{
	spool_abandon(g->sp);
	forget_jobs(g);
	disk_restart(g->disk, loss);
	rig_open(g);
}

static inline int set_up(void **state)
{
	struct rig *g = calloc(1, sizeof(*g));

	g->disk = disk_create(1);
	g->now_us = 1000000000;
	g->config = (struct spool_config){.directory = "simulated",
					  .segment_size = 65536,
					  .readers = 1,
					  .io = disk_io(g->disk)};
	disk_faults(g->disk)->error = -EIO;
	rig_open(g);
	*state = g;
	return 0;
}

static inline int tear_down(void **state)
{
	struct rig *g = *state;

	spool_abandon(g->sp);
	forget_jobs(g);
	disk_destroy(g->disk);
	free(g);
	return 0;
}

static inline void job_done(struct spool_request *r)
{
	((struct job *)r->user)->verdict = r->verdict;
}

static inline struct job *job(struct rig *g, enum spool_op op, spool_id_t id)
{
	if (g->jobs == JOBS)
		forget_jobs(g);
	struct job *j = &g->job[g->jobs++];

	*j = (struct job){.r = {.op = op, .id = id, .done = job_done, .user = j}};
	j->verdict = PENDING;
	return j;
}

static inline void submit(struct rig *g, struct job *j)
{
	assert_int_equal(spool_submit(g->client, &j->r), 0);
}

static inline void step(struct rig *g)
{
	g->now_us += 1000;
	for (unsigned i = 0; i < SPOOL_WRITERS; i++)
		spool_body_step(&g->sp->writer[i]);
	spool_commit_step(g->sp, g->now_us);
	spool_read_step(&g->sp->reader[0]);
	spool_poll(g->client);
}

static inline int run(struct rig *g, struct job *j)
{
	submit(g, j);
	for (int i = 0; i < 10 && j->verdict == PENDING; i++)
		step(g);
	return j->verdict;
}

static inline struct job *commit_job(struct rig *g, uint64_t n, uint64_t body_bytes)
{
	struct job *j = job(g, SPOOL_COMMIT, spool_new_id(g->sp));

	j->r.envelope = j->envelope;
	j->r.envelope_bytes = kit_envelope(j->envelope, sizeof(j->envelope), n, 3);
	j->r.body_bytes = body_bytes;
	j->r.chunks = kit_body(n, 0, body_bytes, CHUNK_BYTES);
	return j;
}

static inline int commit(struct rig *g, uint64_t n, uint64_t body_bytes, spool_id_t *id)
{
	struct job *j = commit_job(g, n, body_bytes);

	if (id != NULL)
		*id = j->r.id;
	return run(g, j);
}

static inline int append(struct rig *g, spool_id_t id, uint64_t n, uint64_t from, uint64_t bytes)
{
	struct job *j = job(g, SPOOL_BODY_APPEND, id);

	j->r.chunks = kit_body(n, from, bytes, CHUNK_BYTES);
	return run(g, j);
}

static inline int commit_large(struct rig *g, spool_id_t id, uint64_t n, uint64_t body_bytes)
{
	struct job *j = commit_job(g, n, 0);

	j->r.id = id;
	j->r.body_bytes = body_bytes;
	j->r.large = true;
	return run(g, j);
}

static inline int dispose_last(struct rig *g, spool_id_t id)
{
	struct job *j = job(g, SPOOL_DISPOSE, id);

	j->r.last = true;
	return run(g, j);
}

static inline int read_body(struct rig *g, spool_id_t id, uint64_t n, uint64_t bytes)
{
	struct job *j = job(g, SPOOL_READ, id);

	j->r.chunks = kit_chunk((uint32_t)bytes);
	j->r.read_bytes = bytes;
	if (run(g, j) != 0)
		return j->verdict;
	assert_int_equal(j->r.read_bytes, bytes);
	for (uint64_t i = 0; i < bytes; i++)
		assert_int_equal(j->r.chunks->data[i], kit_byte(n, i));
	return 0;
}

static inline bool was_found(const struct rig *g, spool_id_t id)
{
	for (unsigned i = 0; i < g->n_found; i++) {
		if (g->found[i].id == id)
			return true;
	}
	return false;
}

static inline uint64_t counter(const struct rig *g, enum spool_counter c)
{
	return counter_read(&spool_counters(g->sp)[c]);
}

#endif
