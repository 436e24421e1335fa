/*
 * records.h - the file of records: one JSON line an event, rotated by size and reopened on demand.
 *
 * Owner: struct gateway.  Runs on: the control thread.
 * Errors: record_file_open() is 0 or -errno with a text; later ones are logged and counted as lost.
 */
#ifndef CONTROL_RECORDS_H
#define CONTROL_RECORDS_H

#include "base/record.h"

struct record_file;

struct record_file_config {
	const char *file;
	uint64_t most_bytes; /* then FILE becomes FILE.1, and so on; 0: never */
	unsigned keep;       /* of the old ones */
};

int record_file_open(struct record_file **f, const struct record_file_config *c, char *error,
		     size_t error_bytes);
/* Writes what has come; the octets. */
size_t record_file_drain(struct record_file *f, struct records *from);
/* Records that the disk did not take; on any thread. */
uint64_t record_file_lost(const struct record_file *f);
/* The file has been moved away by somebody: begins it anew. */
void record_file_reopen(struct record_file *f);
void record_file_close(struct record_file *f);

#endif
