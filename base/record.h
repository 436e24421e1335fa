/*
 * record.h - one JSON line an event, from a worker to the thread that writes them to a file.
 *
 *	struct record *r = record_begin(records, "delivery", wall_us);   // NULL: nobody wants it
 *	record_text(r, "recipient", path, n);
 *	record_number(r, "attempts", 3);
 *	record_end(r);
 *
 * A ring of bytes with one writer and one reader: the worker never waits; a line that does not
 * fit is lost and counted.  Texts are escaped; what is not UTF-8 becomes U+FFFD.
 *
 * Owner: the control thread creates and destroys struct records; one a worker.
 * Runs on: records_take(), records_lost() on the control thread; the rest on the worker.
 * Units: microseconds since the UNIX epoch.
 */
#ifndef BASE_RECORD_H
#define BASE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct records;
struct record;

/* bytes: a power of two; NULL when memory is short. */
struct records *records_create(size_t bytes);
void records_destroy(struct records *r);

/* One record at a time.  All calls take NULL for "nobody wants it". */
struct record *record_begin(struct records *r, const char *type, int64_t wall_us);
void record_text(struct record *r, const char *key, const char *text, size_t n);
void record_string(struct record *r, const char *key, const char *text); /* "" is left out */
void record_number(struct record *r, const char *key, uint64_t value);
void record_bool(struct record *r, const char *key, bool value);
/* record_item()s between make an array of texts. */
void record_list(struct record *r, const char *key);
void record_item(struct record *r, const char *text, size_t n);
void record_list_end(struct record *r);
void record_end(struct record *r);

/* Whole lines, as many as fit into room; their octets. */
size_t records_take(struct records *r, char *out, size_t room);
uint64_t records_lost(const struct records *r);

#endif
