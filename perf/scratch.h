/*
 * scratch.h - directories that a measurement makes for itself.
 *
 * Owner: the caller.
 * Runs on: the main thread.
 * Errors: none; what cannot be removed stays.
 */
#ifndef PERF_SCRATCH_H
#define PERF_SCRATCH_H

/* The files in it. */
void scratch_empty(const char *directory);
/* The directory with the files in it. */
void scratch_remove(const char *directory);

#endif
