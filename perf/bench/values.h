/*
 * values.h - numbers, times and sizes as the command line writes them.
 *
 * Pure functions; false: the text is none, and what *out holds then means nothing.
 */
#ifndef PERF_BENCH_VALUES_H
#define PERF_BENCH_VALUES_H

#include "perf/bench/options.h"

/* 30, 4k (1000), 4K (1024), M, G */
bool value_count(const char *text, uint64_t most, uint64_t *out);
/* 0.5, 12k */
bool value_number(const char *text, double *out);
/* 30s, 500ms, 10m, 1h; a bare number is seconds */
bool value_time(const char *text, uint64_t *us);
/* [WEIGHT%]SIZE, [WEIGHT%]SIZE-SIZE or [WEIGHT%]~MEDIAN:SIGMA; text is changed */
bool value_size(char *text, struct bench_size *s);

#endif
