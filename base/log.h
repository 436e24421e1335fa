/*
 * log.h - one logger for all layers.
 *
 * A call formats into a slot of a preallocated ring and returns; the control thread writes
 * the lines to stderr with log_drain().  So a worker logs without a system call.  Until
 * log_start() and after log_stop() a line is written at once.  A full ring drops the line and
 * counts it; the next drain reports the number.  Peer-supplied bytes that are not printable
 * ASCII are escaped.  Secrets are never passed in.
 *
 * Runs on: any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
/* false for a name that is not error, warning, info or debug */
bool log_level_parse(const char *name, enum log_level *level);

__attribute__((format(printf, 3, 4))) void log_write(enum log_level level, const char *layer,
						     const char *fmt, ...);

#define log_error(layer, ...)   log_write(LOG_ERROR, layer, __VA_ARGS__)
#define log_warning(layer, ...) log_write(LOG_WARNING, layer, __VA_ARGS__)
#define log_info(layer, ...)    log_write(LOG_INFO, layer, __VA_ARGS__)
#define log_debug(layer, ...)   log_write(LOG_DEBUG, layer, __VA_ARGS__)

/* 0 or -ENOMEM.  From now on lines wait for log_drain(). */
int log_start(void);
/* Writes what waits; the number of lines. */
unsigned log_drain(void);
/* Drains and goes back to writing at once. */
void log_stop(void);

#endif
