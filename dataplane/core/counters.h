/* counters.h - what a worker counts about itself; one row a counter */
#ifndef DATAPLANE_CORE_COUNTERS_H
#define DATAPLANE_CORE_COUNTERS_H

#include "base/counter.h"

#define WORKER_COUNTERS(X)                                                                     \
	X(worker, loops, "loops", "turns of the run-to-completion loop")                       \
	X(worker, productive_cycles, "cycles", "TSC cycles of turns that found work")          \
	X(worker, idle_cycles, "cycles", "TSC cycles of turns that found none, naps included") \
	X(worker, naps, "naps", "times an adaptive worker slept")                              \
	X(worker, calls, "calls", "requests of the control thread run on the worker")          \
	X(worker, chunk_bytes_used, "bytes", "chunk memory in use")                            \
	X(worker, chunk_bytes, "bytes", "chunk memory in all")

COUNTER_ENUM(worker, WORKER_COUNTERS)

#endif
