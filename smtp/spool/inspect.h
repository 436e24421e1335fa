/*
 * inspect.h - a spool directory looked at without being changed, in use or not.
 *
 * Segments are read in rising order, as recovery reads them, and every checksum is verified.  Of a
 * spool in use the newest segment is being written: its last bytes are no fault, and what moves
 * meanwhile may be counted twice or not at all.
 *
 * Owner: the caller.  Runs on: any thread of any process.
 * Memory: 64 to 128 octets a live message.
 * Errors: -errno with a text naming file and remedy; what is wrong inside is counted and told.
 */
#ifndef SMTP_SPOOL_INSPECT_H
#define SMTP_SPOOL_INSPECT_H

#include "smtp/spool/envelope.h"
#include "smtp/spool/record.h"
#include "smtp/spool/spool.h"

/* A record, good during the call. */
struct inspect_record {
	uint64_t segment, offset;
	struct record_head head;
	struct message_head message;         /* of a message */
	struct envelope envelope;            /* of a message */
	struct disposition_head disposition; /* of a disposition */
	const uint8_t *payload;
	const uint8_t *done; /* of a disposition that is not the last: bit i, recipient i is done */
};

struct inspect_view {
	void *arg;
	/* Each may be NULL.  Bytes [at, at + n) of a file of the directory; n 0: the file itself.
	 */
	void (*fault)(void *arg, const char *file, uint64_t at, uint64_t n, const char *what);
	void (*record)(void *arg, const struct inspect_record *r);
};

struct inspect_sums {
	bool in_use;  /* a process holds the directory */
	pid_t holder; /* 0: unknown */
	uint64_t segments, bytes, records, messages, dispositions;
	uint64_t live, live_bytes;       /* messages that are not done, with their bodies */
	uint64_t damaged, damaged_bytes; /* pieces between good records, not yet set aside */
	uint64_t torn_bytes;             /* behind the last good record */
	uint64_t unreadable;             /* segments that cannot be read to their end */
	uint64_t set_aside;              /* files of earlier recoveries */
	uint64_t bodies, bodies_missing, bodies_orphaned;
};

int inspect_spool(const char *directory, const struct spool_io *io, const struct inspect_view *v,
		  struct inspect_sums *sums, char *error, size_t error_bytes);
/* Whether anything acknowledged may be lost or wrong. */
bool inspect_bad(const struct inspect_sums *s);

#endif
