/*
 * test_spool_crash.c - random work, a power cut at a random call, recovery; many times over.
 * Recovery goes on behind new work, and is cut short as well.
 *
 * The model below knows what was answered.  After every restart: an acknowledged message is found
 * exactly once with its bytes; one whose last disposition was acknowledged is not found; nothing
 * is found that was never submitted; what a worker was told about recipients is still known.
 */
#include "tests/unit/spool_kit.h"

#include "base/log.h"
#include "smtp/spool/internal.h"
#include "tests/sim/disk.h"

#include <errno.h>

enum { MESSAGES = 1024, RECIPIENTS = 11, CHUNK_BYTES = 512, JOBS = 64, LIVES = 6 };

enum knowledge { UNKNOWN, SUBMITTED, ACKED, ABORTED, LAST_SUBMITTED, LAST_ACKED, LOST };

struct message {
	spool_id_t id;
	uint64_t body_bytes;
	bool large, busy;
	bool here; /* the worker has it: committed in this life, or handed over by recovery */
	enum knowledge known;
	uint16_t done_told, done_acked; /* bit a recipient */
	uint32_t attempts_told, attempts_acked;
	uint32_t marks_told, marks_acked; /* the n-th mark's route is n */
};

struct job {
	struct spool_request r;
	struct world *w;
	struct message *m;
	struct spool_disposition d[RECIPIENTS];
	uint8_t envelope[1024];
	uint16_t done;
	bool in_use;
};

struct world {
	uint64_t seed;
	struct kit_random rnd;
	struct disk *disk;
	struct spool *sp;
	struct spool_client *client;
	uint64_t now_us;
	uint64_t max_size;
	struct message m[MESSAGES];
	unsigned n, first_of_life;
	struct job job[JOBS];
	unsigned outstanding;
	unsigned read_back, found_again, moved, marked;
	bool recovering;
	unsigned cut_short, beside; /* recoveries; commits while one was under way */
};

#define world_assert(w, condition)                                                            \
	do {                                                                                  \
		if (!(condition))                                                             \
			fail_msg("seed %llu: %s", (unsigned long long)(w)->seed, #condition); \
	} while (0)

static struct job *job_begin(struct world *w, enum spool_op op, struct message *m)
{
	for (unsigned i = 0; i < JOBS; i++) {
		struct job *j = &w->job[i];

		if (j->in_use)
			continue;
		memset(&j->r, 0, sizeof(j->r));
		j->r.op = op;
		j->r.id = m->id;
		j->r.user = j;
		j->w = w;
		j->m = m;
		j->done = 0;
		return j;
	}
	return NULL;
}

static uint64_t number_of(const struct world *w, const struct message *m)
{
	return (uint64_t)(m - w->m) + 1;
}

static void check_content(struct world *w, const struct job *j)
{
	uint64_t at = j->r.read_offset;

	world_assert(w, j->r.read_bytes > 0);
	for (const struct chunk *c = j->r.chunks; c != NULL; c = c->next) {
		for (uint32_t i = 0; i < c->end; i++)
			world_assert(w, c->data[i] == kit_byte(number_of(w, j->m), at++));
	}
	w->read_back++;
}

static void job_done(struct spool_request *r)
{
	struct job *j = r->user;
	struct world *w = j->w;
	struct message *m = j->m;
	bool ok = r->verdict == 0;

	w->outstanding--;
	switch (r->op) {
	case SPOOL_COMMIT:
		m->busy = false;
		if (ok) {
			m->known = ACKED;
			m->here = true;
			w->beside += w->recovering;
		}
		break;
	case SPOOL_DISPOSE:
		m->busy = false;
		if (ok && r->last) {
			m->known = LAST_ACKED;
			m->here = false;
		}
		if (ok && !r->last) {
			m->done_acked |= j->done;
			if (r->marked)
				m->marks_acked = r->mark.route;
			else
				m->attempts_acked = r->attempts;
		}
		break;
	case SPOOL_READ:
		m->busy = false;
		if (ok)
			check_content(w, j);
		break;
	case SPOOL_BODY_APPEND:
		break;
	case SPOOL_BODY_ABORT:
		m->busy = false;
		break;
	}
	kit_free_chunks(r->chunks);
	r->chunks = NULL;
	j->in_use = false;
}

static void job_submit(struct job *j)
{
	j->in_use = true;
	j->r.done = job_done;
	j->w->outstanding++;
	j->m->busy = true;
	world_assert(j->w, spool_submit(j->w->client, &j->r) == 0);
}

static struct message *new_message(struct world *w, uint64_t body_bytes, bool large)
{
	if (w->n == MESSAGES)
		return NULL;
	struct message *m = &w->m[w->n++];
	*m = (struct message){.id = spool_new_id(w->sp), .body_bytes = body_bytes, .large = large};
	m->known = SUBMITTED;
	return m;
}

static void submit_commit(struct world *w, struct message *m)
{
	struct job *j = job_begin(w, SPOOL_COMMIT, m);

	j->r.envelope = j->envelope;
	j->r.envelope_bytes =
		kit_envelope(j->envelope, sizeof(j->envelope), number_of(w, m), RECIPIENTS);
	j->r.body_bytes = m->body_bytes;
	j->r.large = m->large;
	if (!m->large)
		j->r.chunks = kit_body(number_of(w, m), 0, m->body_bytes, CHUNK_BYTES);
	job_submit(j);
}

static void act_commit(struct world *w)
{
	struct message *m = new_message(w, 1 + kit_draw(&w->rnd, 5000), false);

	if (m != NULL)
		submit_commit(w, m);
}

static void act_large(struct world *w)
{
	struct message *m = new_message(w, 1 + kit_draw(&w->rnd, 20000), true);

	for (uint64_t at = 0; m != NULL && at < m->body_bytes;) {
		uint64_t piece = 1 + kit_draw(&w->rnd, m->body_bytes - at);
		struct job *j = job_begin(w, SPOOL_BODY_APPEND, m);

		if (at > m->body_bytes / 4)
			piece = m->body_bytes - at;
		j->r.chunks = kit_body(number_of(w, m), at, piece, CHUNK_BYTES);
		job_submit(j);
		at += piece;
	}
	if (m == NULL)
		return;
	if (kit_draw(&w->rnd, 4) == 0) {
		m->known = ABORTED;
		job_submit(job_begin(w, SPOOL_BODY_ABORT, m));
	} else {
		submit_commit(w, m);
	}
}

/* A message the worker knows to be in the spool and has nothing under way for. */
static struct message *pick(struct world *w)
{
	for (unsigned tries = 0; tries < 8 && w->n > 0; tries++) {
		struct message *m = &w->m[kit_draw(&w->rnd, w->n)];

		if (m->known == ACKED && m->here && !m->busy)
			return m;
	}
	return NULL;
}

static void act_dispose(struct world *w)
{
	struct message *m = pick(w);

	if (m == NULL)
		return;
	struct job *j = job_begin(w, SPOOL_DISPOSE, m);
	j->r.dispositions = j->d;
	j->r.attempts = ++m->attempts_told;
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t recipient = (uint32_t)kit_draw(&w->rnd, RECIPIENTS);
		enum spool_outcome outcome = (enum spool_outcome)kit_draw(&w->rnd, 3);

		j->d[i] = (struct spool_disposition){recipient, outcome, 1000};
		if (outcome != SPOOL_DEFERRED)
			j->done |= (uint16_t)(1u << recipient);
	}
	j->r.n_dispositions = 3;
	j->r.last = kit_draw(&w->rnd, 2) == 0;
	if (j->r.last)
		m->known = LAST_SUBMITTED;
	else
		m->done_told |= j->done;
	job_submit(j);
}

static void act_mark(struct world *w)
{
	struct message *m = pick(w);

	if (m == NULL)
		return;
	struct job *j = job_begin(w, SPOOL_DISPOSE, m);
	uint32_t n = ++m->marks_told;
	j->r.marked = true;
	j->r.mark = (struct spool_mark){.held = n % 2 == 1, .route = n, .released_at_s = n};
	job_submit(j);
}

static void act_read(struct world *w)
{
	struct message *m = pick(w);

	if (m == NULL)
		return;
	struct job *j = job_begin(w, SPOOL_READ, m);
	j->r.read_offset = kit_draw(&w->rnd, m->body_bytes);
	j->r.read_bytes = 1 + kit_draw(&w->rnd, 2 * CHUNK_BYTES);
	j->r.chunks = kit_chunk(CHUNK_BYTES);
	j->r.chunks->next = kit_chunk(CHUNK_BYTES);
	job_submit(j);
}

static void step(struct world *w)
{
	w->now_us += 1 + kit_draw(&w->rnd, 3000000);
	for (unsigned i = 0; i < SPOOL_WRITERS; i++)
		spool_body_step(&w->sp->writer[i]);
	spool_commit_step(w->sp, w->now_us);
	spool_read_step(&w->sp->reader[0]);
	spool_poll(w->client);
}

static void act_steps(struct world *w)
{
	for (uint64_t i = kit_draw(&w->rnd, 4); i > 0; i--)
		step(w);
}

static void act(struct world *w)
{
	static void (*const acts[])(struct world *) = {
		act_commit,  act_commit, act_commit, act_large, act_dispose, act_dispose,
		act_dispose, act_read,   act_mark,   act_steps, act_steps,
	};

	acts[kit_draw(&w->rnd, sizeof(acts) / sizeof(acts[0]))](w);
	while (w->outstanding > JOBS / 2 && !disk_is_off(w->disk))
		step(w);
}

static void world_open(struct world *w)
{
	char error[256];
	struct spool_config config = {.directory = "simulated",
				      .segment_size = 65536,
				      .max_size = w->max_size,
				      .readers = 1,
				      .io = disk_io(w->disk)};

	if (spool_open(&w->sp, &config, error, sizeof(error)) != 0)
		fail_msg("seed %llu: %s", (unsigned long long)w->seed, error);
	w->recovering = true;
	w->client = spool_client_create(w->sp, 2 * JOBS);
}

/* The process ends: requests under way are forgotten with their memory. */
static void world_abandon(struct world *w)
{
	w->moved += (unsigned)counter_read(&spool_counters(w->sp)[spool_moved]);
	spool_abandon(w->sp);
	for (unsigned i = 0; i < JOBS; i++) {
		if (w->job[i].in_use)
			kit_free_chunks(w->job[i].r.chunks);
		w->job[i].in_use = false;
	}
	for (unsigned i = 0; i < w->n; i++)
		w->m[i].busy = w->m[i].here = false;
	w->outstanding = 0;
}

static void check_found(void *arg, const struct spool_found *f)
{
	struct world *w = arg;
	struct message *m = NULL;

	for (unsigned i = 0; i < w->n && m == NULL; i++)
		m = w->m[i].id == f->id ? &w->m[i] : NULL;
	world_assert(w, m != NULL);
	world_assert(w, !m->here);
	m->here = true;
	world_assert(w, m->known == SUBMITTED || m->known == ACKED || m->known == LAST_SUBMITTED);
	world_assert(w, f->content_bytes == m->body_bytes);
	world_assert(w, f->recipients == RECIPIENTS);
	world_assert(w, f->accepted_at_s == (int64_t)number_of(w, m));
	uint16_t done = (uint16_t)(f->done[0] | f->done[1] << 8);
	world_assert(w, (m->done_acked & ~done) == 0);
	world_assert(w, (done & ~m->done_told) == 0);
	world_assert(w, f->attempts >= m->attempts_acked && f->attempts <= m->attempts_told);
	world_assert(w, f->mark.route >= m->marks_acked && f->mark.route <= m->marks_told);
	world_assert(w, f->mark.held == (f->mark.route % 2 == 1));
	world_assert(w, f->mark.released_at_s == f->mark.route);
	w->marked += f->mark.route > 0;
	w->found_again++;
}

/* What was answered decides what must be there; what was not answered is settled from now on. */
static void check_missing(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct message *m = &w->m[i];

		world_assert(w, m->here || m->known != ACKED);
		if (m->here)
			m->known = ACKED;
		else if (m->known == SUBMITTED || m->known == LAST_SUBMITTED)
			m->known = LOST;
	}
}

static void read_all_back(struct world *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		struct message *m = &w->m[i];

		for (uint64_t at = 0; m->here && at < m->body_bytes; at += 4 * CHUNK_BYTES) {
			struct job *j = job_begin(w, SPOOL_READ, m);
			unsigned before = w->read_back;

			j->r.read_offset = at;
			j->r.read_bytes = 4 * CHUNK_BYTES;
			for (int k = 0; k < 4; k++) {
				struct chunk *c = kit_chunk(CHUNK_BYTES);

				c->next = j->r.chunks;
				j->r.chunks = c;
			}
			job_submit(j);
			while (w->outstanding > 0)
				step(w);
			world_assert(w, w->read_back == before + 1);
		}
	}
}

static struct world *world_create(uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));

	w->seed = seed;
	w->rnd.state = seed << 32;
	w->disk = disk_create(seed + 1);
	w->now_us = 1000000;
	return w;
}

static void world_destroy(struct world *w)
{
	disk_destroy(w->disk);
	free(w);
}

static void recover_on(struct world *w)
{
	struct spool_progress p;

	spool_recovery_step(w->sp);
	spool_poll_found(w->sp, check_found, w);
	spool_recovery_progress(w->sp, &p);
	w->recovering = p.stage != SPOOL_RECOVERY_DONE;
	world_assert(w, p.stage != SPOOL_RECOVERY_FAILED || disk_is_off(w->disk));
}

/* New work while the old is looked for; to its end, or so many rounds. */
static void recover_beside_work(struct world *w, unsigned rounds)
{
	for (unsigned i = 0; w->recovering && i < rounds && !disk_is_off(w->disk); i++) {
		if (kit_draw(&w->rnd, 3) > 0)
			act(w);
		else
			step(w);
		recover_on(w);
	}
}

static void end_life(struct world *w, enum disk_loss loss)
{
	world_abandon(w);
	disk_restart(w->disk, loss);
	world_open(w);
}

/* As after any start: all that was answered is there, and is what it was. */
static void check_all(struct world *w)
{
	recover_beside_work(w, UINT32_MAX);
	for (unsigned i = 0; i < 300 && w->outstanding > 0; i++)
		step(w);
	world_assert(w, w->outstanding == 0);
	check_missing(w);
	read_all_back(w);
}

/* Six lives of one directory, each ended by a power cut (or kill) at a random call; every other
 * one is followed by some that end while its recovery is under way. */
static void live(struct world *w, enum disk_loss loss)
{
	w->max_size = w->seed % 3 == 0 ? 450000 : 0;
	world_open(w);
	check_all(w);
	for (unsigned life = 0; life < LIVES; life++) {
		disk_faults(w->disk)->power_cut = 1 + kit_draw(&w->rnd, 400);
		disk_faults(w->disk)->short_write_percent = (uint32_t)kit_draw(&w->rnd, 30);
		for (unsigned i = 0; i < 120 && !disk_is_off(w->disk); i++)
			act(w);
		end_life(w, loss);
		for (uint64_t cuts = kit_draw(&w->rnd, 3); cuts > 0; cuts--) {
			disk_faults(w->disk)->power_cut = 1 + kit_draw(&w->rnd, 60);
			recover_beside_work(w, 1 + (unsigned)kit_draw(&w->rnd, 20));
			w->cut_short += w->recovering;
			end_life(w, loss);
		}
		check_all(w);
	}
	world_assert(w, disk_violations(w->disk) == 0);
	world_abandon(w);
}

/* SPOOL_SOAK=n in the environment runs n times as many seeds. */
static uint64_t soak(uint64_t seeds)
{
	const char *times = getenv("SPOOL_SOAK");

	return times != NULL ? seeds * strtoull(times, NULL, 10) : seeds;
}

static void run_seeds(enum disk_loss loss, uint64_t first, uint64_t seeds)
{
	unsigned found = 0, read_back = 0, moved = 0, marked = 0, cut_short = 0, beside = 0;

	seeds = soak(seeds);
	for (uint64_t seed = first; seed < first + seeds; seed++) {
		struct world *w = world_create(seed);

		live(w, loss);
		found += w->found_again;
		read_back += w->read_back;
		moved += w->moved;
		marked += w->marked;
		cut_short += w->cut_short;
		beside += w->beside;
		world_destroy(w);
	}
	/* The runs must have reached what they are about. */
	assert_true(found > seeds * 50 && read_back > found && moved > seeds);
	assert_true(marked > seeds * 5);
	assert_true(cut_short > seeds && beside > seeds);
}

static void power_cut_that_loses_everything_unsynced_keeps_every_promise(void **state)
{
	run_seeds(DISK_DROP_ALL, 1, 150);
}

static void power_cut_with_torn_and_reordered_writes_keeps_every_promise(void **state)
{
	run_seeds(DISK_DROP_RANDOM, 1000000, 300);
}

static void kill_keeps_every_promise(void **state)
{
	run_seeds(DISK_KEEP_ALL, 2000000, 100);
}

/* Every call may fail; what was answered with success still counts, and when the faults end
 * the spool works again by itself. */
static void failing_calls_never_break_a_promise(void **state)
{
	static const int errors[] = {-EIO, -ENOSPC};

	for (uint64_t seed = 1; seed <= soak(200); seed++) {
		struct world *w = world_create(seed + 5000000);

		world_open(w);
		check_all(w);
		for (unsigned life = 0; life < 3; life++) {
			struct disk_faults *f = disk_faults(w->disk);

			for (unsigned op = 0; op < DISK_OPS; op++)
				f->per_million[op] = (uint32_t)kit_draw(&w->rnd, 40000);
			f->per_million[DISK_READ] = 0;
			f->error = errors[kit_draw(&w->rnd, 2)];
			f->short_write_percent = 20;
			for (unsigned i = 0; i < 100; i++)
				act(w);
			*f = (struct disk_faults){.error = -EIO};
			for (unsigned i = 0; i < 300 && w->outstanding > 0; i++)
				step(w);
			world_assert(w, w->outstanding == 0);
			struct message *m = new_message(w, 1000, false);
			submit_commit(w, m);
			for (unsigned i = 0; i < 10; i++)
				step(w);
			world_assert(w, m->known == ACKED);
			end_life(w, DISK_DROP_RANDOM);
			check_all(w);
		}
		world_assert(w, disk_violations(w->disk) == 0);
		world_abandon(w);
		world_destroy(w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_cut_that_loses_everything_unsynced_keeps_every_promise),
		cmocka_unit_test(power_cut_with_torn_and_reordered_writes_keeps_every_promise),
		cmocka_unit_test(kill_keeps_every_promise),
		cmocka_unit_test(failing_calls_never_break_a_promise),
	};

	log_set_level(LOG_ERROR);
	return cmocka_run_group_tests_name("spool crash", tests, NULL, NULL);
}
