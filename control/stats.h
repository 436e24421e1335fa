/*
 * stats.h - the one place where everything that can be asked of the daemon is registered.
 *
 * Layers' counter arrays and gauges are registered once with their tables; commands such as
 * status, sessions or queue are functions that make JSON.  The control socket, /metrics and the
 * status page all read from here.
 *
 * Owner: the control thread; what is registered must live as long as the registry.
 * Runs on: registration before the server and HTTP start; reading on any thread.  Commands run
 *          one at a time, on the thread of whoever asks; they ask workers by rings, bounded in
 *          time, and return an owned json_t or NULL with the reason in error.
 * Errors: 0 or -ENOMEM.
 */
#ifndef CONTROL_STATS_H
#define CONTROL_STATS_H

#include "base/counter.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

struct stats;

enum { STATS_NO_WORKER = -1, STATS_ERROR_BYTES = 256 };

struct stats *stats_create(void);
void stats_destroy(struct stats *s);

/* values[count], written by their owner with counter_*(); shown as postern_NAME_total with the
 * label worker="N", or without for STATS_NO_WORKER.  Arrays with the same desc are one metric. */
int stats_add(struct stats *s, const struct counter_desc *desc, unsigned count,
	      const uint64_t *values, int worker);
/* A value that goes up and down: postern_NAME.  read() runs on any thread and does not block. */
int stats_gauge(struct stats *s, const struct counter_desc *desc, uint64_t (*read)(void *arg),
		void *arg, int worker);

/* Observations by size: bounds[n] in ascending order, bucket[n + 1] and sum written by their owner.
 * Shown as postern_NAME with label="value"; histograms with the same desc are one metric.
 * All that is passed is borrowed. */
struct stats_histogram {
	const struct counter_desc *desc;
	const char *label, *value;
	const uint64_t *bounds;
	unsigned n;
	const uint64_t *bucket, *sum;
	int worker;
};
int stats_add_histogram(struct stats *s, const struct stats_histogram *h);

typedef json_t *stats_command(void *arg, const json_t *request, char *error, size_t error_bytes);
int stats_provide(struct stats *s, const char *name, const char *help, stats_command *make,
		  void *arg);

/* The same for a command that changes something: only the control thread runs it. */
int stats_provide_action(struct stats *s, const char *name, const char *help, stats_command *make,
			 void *arg);

/* The same as stats_run() without the actions. */
json_t *stats_view(struct stats *s, const char *name, const json_t *request, char *error,
		   size_t error_bytes);
/* Runs a registered command, "stats" (all counters and gauges) or "help" (the commands). */
json_t *stats_run(struct stats *s, const char *name, const json_t *request, char *error,
		  size_t error_bytes);
/* The Prometheus text exposition format 0.0.4; malloc'd, NULL when memory is short. */
char *stats_prometheus(struct stats *s, size_t *bytes);

#endif
