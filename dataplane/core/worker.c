/* worker.c - the loop, its clock, its rest and its calls */
#include "dataplane/core/worker.h"

#include "base/nap.h"

#include <assert.h>
#include <errno.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <rte_malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>

enum { CHUNK_BLOCK = 65536, CALL_RING = 64, LONGEST_NAP_US = 500, DEEP_NAP_US = 2000 };

COUNTER_TABLE(worker, WORKER_COUNTERS)

/* One call in flight; whoever comes second frees it. */
struct call {
	void (*fn)(void *arg);
	void (*release)(void *arg);
	void *arg;
	_Atomic int state; /* CALL_WAITING, then CALL_DONE or CALL_ABANDONED */
};

enum { CALL_WAITING, CALL_DONE, CALL_ABANDONED };

static uint64_t tsc_us(uint64_t tsc, uint64_t hz)
{
	return (uint64_t)((unsigned __int128)tsc * 1000000 / hz);
}

/* Unpredictable, and free of system calls: SipHash of a counter under a per-boot key. */
static uint64_t worker_random(void *arg)
{
	struct worker *w = arg;

	w->random_counter++;
	return siphash(&w->random_key, &w->random_counter, sizeof(w->random_counter));
}

struct worker *worker_create(const struct worker_config *c)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->core = c->core;
	w->adaptive = c->adaptive;
	w->calls = ring_create(CALL_RING);
	w->chunk_memory = rte_malloc("chunks", c->chunk_bytes, CHUNK_BLOCK);
	w->shard.index = c->index;
	w->shard.now_us = tsc_us(rte_rdtsc(), rte_get_tsc_hz());
	if (w->chunk_memory != NULL)
		w->shard.chunks = chunk_pool_create(w->chunk_memory, c->chunk_bytes);
	w->shard.timers = timer_wheel_create(w->shard.now_us);
	w->shard.random64 = worker_random;
	w->shard.random_arg = w;
	if (w->calls == NULL || w->shard.chunks == NULL || w->shard.timers == NULL ||
	    getrandom(&w->random_key, sizeof(w->random_key), 0) != sizeof(w->random_key)) {
		worker_destroy(w);
		return NULL;
	}
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	w->shard.wall_offset_us =
		ts.tv_sec * 1000000 + ts.tv_nsec / 1000 - (int64_t)w->shard.now_us;
	counter_set(&w->counters[worker_chunk_bytes], chunk_pool_bytes(w->shard.chunks));
	return w;
}

void worker_destroy(struct worker *w)
{
	if (w == NULL)
		return;
	if (w->shard.timers != NULL)
		timer_wheel_destroy(w->shard.timers);
	if (w->shard.chunks != NULL)
		chunk_pool_destroy(w->shard.chunks);
	rte_free(w->chunk_memory);
	ring_destroy(w->calls);
	free(w);
}

void worker_add_stage(struct worker *w, const char *name, worker_stage_fn run, void *arg)
{
	assert(w->n_stages < WORKER_MAX_STAGES);
	w->stages[w->n_stages++] = (struct worker_stage){name, run, arg};
}

static unsigned run_calls(struct worker *w)
{
	struct call *c;
	unsigned n = 0;

	while ((c = ring_pop(w->calls)) != NULL) {
		c->fn(c->arg);
		counter_inc(&w->counters[worker_calls]);
		n++;
		if (atomic_exchange(&c->state, CALL_DONE) == CALL_ABANDONED) {
			if (c->release != NULL)
				c->release(c->arg);
			free(c);
		}
	}
	return n;
}

/* The wall clock steps and slews (NTP); once a second is often enough for Date and Received. */
static void refresh_wall_clock(struct worker *w, uint64_t now_us, uint64_t *next_us)
{
	struct timespec ts;

	if (now_us < *next_us)
		return;
	*next_us = now_us + 1000000;
	clock_gettime(CLOCK_REALTIME, &ts);
	w->shard.wall_offset_us = ts.tv_sec * 1000000 + ts.tv_nsec / 1000 - (int64_t)now_us;
	counter_set(&w->counters[worker_chunk_bytes_used], chunk_pool_used(w->shard.chunks));
}

static void rest(struct worker *w, struct nap *nap, uint64_t now_us)
{
	uint64_t next = timer_not_before(w->shard.timers);

	nap->max_us = LONGEST_NAP_US;
	nap->deep_us = DEEP_NAP_US;
	if (next <= now_us)
		return;
	if (next - now_us < nap->max_us)
		nap->max_us = (uint32_t)(next - now_us);
	if (next - now_us < nap->deep_us)
		nap->deep_us = (uint32_t)(next - now_us);
	counter_inc(&w->counters[worker_naps]);
	nap_idle(nap);
}

static int worker_loop(void *arg)
{
	struct worker *w = arg;
	struct nap nap = {.max_us = LONGEST_NAP_US};
	uint64_t hz = rte_get_tsc_hz(), before = rte_rdtsc(), next_wall_us = 0;

	prctl(PR_SET_TIMERSLACK, 1000UL);
	while (!atomic_load_explicit(&w->stop, memory_order_relaxed)) {
		uint64_t now_us = tsc_us(before, hz);
		unsigned work = timer_advance(&w->shard, now_us);

		refresh_wall_clock(w, now_us, &next_wall_us);
		work += run_calls(w);
		for (unsigned i = 0; i < w->n_stages; i++) {
			atomic_store_explicit(&w->stage, i, memory_order_relaxed);
			work += w->stages[i].run(w->stages[i].arg);
		}
		if (work > 0)
			nap_worked(&nap);
		else if (w->adaptive)
			rest(w, &nap, now_us);
		uint64_t after = rte_rdtsc();
		counter_inc(&w->counters[worker_loops]);
		counter_add(&w->counters[work > 0 ? worker_productive_cycles : worker_idle_cycles],
			    after - before);
		before = after;
	}
	return 0;
}

int worker_launch(struct worker *w)
{
	return rte_eal_remote_launch(worker_loop, w, w->shard.index + 1);
}

void worker_join(struct worker *w)
{
	atomic_store(&w->stop, true);
	rte_eal_wait_lcore(w->shard.index + 1);
}

int worker_call(struct worker *w, void (*fn)(void *arg), void *arg, void (*release)(void *arg),
		unsigned timeout_ms)
{
	struct call *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return -ENOMEM;
	c->fn = fn;
	c->arg = arg;
	c->release = release;
	if (!ring_push(w->calls, c)) {
		free(c);
		return -EOVERFLOW;
	}
	for (unsigned ms = 0; atomic_load(&c->state) == CALL_WAITING; ms++) {
		struct timespec ts = {.tv_nsec = 1000000};
		if (ms >= timeout_ms && atomic_exchange(&c->state, CALL_ABANDONED) == CALL_WAITING)
			return -ETIMEDOUT;
		nanosleep(&ts, NULL);
	}
	free(c);
	return 0;
}
