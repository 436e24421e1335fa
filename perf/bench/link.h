/*
 * link.h - the two ways out: our own stack on a DPDK device, or the kernel's sockets.
 *
 * Each starts one thread (lcore) a worker with an engine of its own.
 *
 * Owner: main().  Runs on: the main thread; the functions given to *_call() on the worker.
 * Errors: NULL with a text; -ETIMEDOUT where a worker does not answer.
 */
#ifndef PERF_BENCH_LINK_H
#define PERF_BENCH_LINK_H

#include "perf/bench/engine.h"

struct stack;
struct kernel;

/* engines: room for one a worker. */
struct stack *stack_start(const struct bench_options *o, struct engine **engines, char *error,
			  size_t error_bytes);
int stack_call(struct stack *k, unsigned worker, void (*fn)(void *arg), void *arg);
/* Cycles of the workers' turns that found work, or that did not. */
uint64_t stack_cycles(const struct stack *k, bool productive);
/* The engines are gone afterwards. */
void stack_end(struct stack *k);

struct kernel *kernel_start(const struct bench_options *o, struct engine **engines, char *error,
			    size_t error_bytes);
int kernel_call(struct kernel *k, unsigned worker, void (*fn)(void *arg), void *arg);
void kernel_end(struct kernel *k);

#endif
