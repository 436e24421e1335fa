/*
 * report.h - what a run has shown: a line a second, a table, JSON, one HTML file.
 *
 * Owner: main().  Runs on: the main thread.
 * Errors: files that cannot be written are said on standard error and make the run fail.
 */
#ifndef PERF_BENCH_REPORT_H
#define PERF_BENCH_REPORT_H

#include "perf/bench/engine.h"

#include <jansson.h>

/* All workers' figures at one moment. */
struct sample {
	uint64_t at_us;
	uint64_t counters[bench_counter_count];
	struct histogram times[TIMES];
	unsigned sessions;
	uint64_t productive_cycles, idle_cycles;
	uint64_t cpu_us; /* of this process */
};

struct results {
	const struct bench_options *options;
	json_t *seconds; /* points of the plots */
	json_t *steps;   /* of the search */
	double slo_rate;
	unsigned peak_sessions;
	uint64_t began_us;
	bool failed;         /* a file could not be written */
	uint64_t accepted;   /* in the whole run */
	uint64_t work, lost; /* units that succeeded and that failed while it was measured */
};

void report_second(struct results *r, const struct sample *before, const struct sample *now,
		   bool measured);
void report_step(struct results *r, double rate, double got, uint64_t at_us, bool good);
/* from, to: the measured part, histograms of `to` hold it alone; end: after the drain. */
void report_end(struct results *r, const struct sample *from, const struct sample *to,
		const struct sample *end, struct engine *const *engines);
/* Something was done and nothing failed. */
bool report_well(const struct results *r);
/* Which numbers of the first file the second lacks or holds more than once: the exit status. */
int report_compare_ids(const char *accepted, const char *arrived);

/* html.c: the results and those of earlier runs in one self-contained file; false: not written */
bool html_write(const char *file, json_t *run, const char *const *compared, unsigned n);

#endif
