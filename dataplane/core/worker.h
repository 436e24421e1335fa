/*
 * worker.h - the run-to-completion loop of one core.
 *
 * Each turn: read the clock once, fire timers, then every stage in order of registration.
 * A stage is one layer's entry point (receive a burst, poll a ring, flush); the upper layers
 * are registered by whoever wires the daemon, so this folder knows none of them.
 *
 * Owner: worker_create() / worker_destroy() on the main thread; in between the worker's own.
 * Runs on: worker_run() on its lcore; worker_call() on any other thread.
 * Errors: -errno.
 */
#ifndef DATAPLANE_CORE_WORKER_H
#define DATAPLANE_CORE_WORKER_H

#include "base/ring.h"
#include "base/shard.h"
#include "base/siphash.h"
#include "dataplane/core/counters.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { WORKER_MAX_STAGES = 16 };

/* Returns how much work was found; 0 lets the worker rest. */
typedef unsigned (*worker_stage_fn)(void *arg);

struct worker_stage {
	const char *name;
	worker_stage_fn run;
	void *arg;
};

struct worker {
	struct shard shard;
	unsigned core; /* CPU number */
	bool adaptive; /* idle: adaptive */
	struct worker_stage stages[WORKER_MAX_STAGES];
	unsigned n_stages;
	_Atomic bool stop;
	_Atomic unsigned stage; /* index being run: what a watchdog names */
	struct ring *calls;
	void *chunk_memory;
	struct siphash_key random_key;
	uint64_t random_counter;
	uint64_t counters[worker_counter_count];
};

struct worker_config {
	unsigned index, core;
	bool adaptive;
	uint64_t chunk_bytes;
};

/* NULL when memory is short.  After eal_start(). */
struct worker *worker_create(const struct worker_config *c);
void worker_destroy(struct worker *w);
void worker_add_stage(struct worker *w, const char *name, worker_stage_fn run, void *arg);

/* Starts the loop on the worker's lcore; returns at once. */
int worker_launch(struct worker *w);
/* Asks the loop to end after this turn, and waits for it. */
void worker_join(struct worker *w);

/* Runs fn(arg) on the worker between two turns and waits for it, at most timeout_ms.
 * 0, -EOVERFLOW (ring full) or -ETIMEDOUT.  After a timeout fn may still run later: then
 * release(arg) is called on the worker instead of here.  release may be NULL for static arg. */
int worker_call(struct worker *w, void (*fn)(void *arg), void *arg, void (*release)(void *arg),
		unsigned timeout_ms);

#endif
