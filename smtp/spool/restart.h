/*
 * restart.h - the recovery of a start: what an earlier process left is found behind the start,
 * while new messages are accepted into new segments.
 *
 * Nothing old and nothing new meet before the end: recovery has its own index and segments, and
 * ids, sequences and segment numbers of the new begin above whatever the old may hold.  Once all
 * is scanned, the committer takes the segments and entries over, and only then are the messages
 * handed to the workers, so that nobody can read or dispose of one before all that was ever said
 * about it is known.
 *
 * Owner: the spool, from spool_open() to the end.
 * Runs on: as each stage says; the stage is passed on by whoever ends it.
 * Errors: a recovery that fails leaves every old file as it is for the next start; the spool
 *         goes on with the new.
 */
#ifndef SMTP_SPOOL_RESTART_H
#define SMTP_SPOOL_RESTART_H

#include "smtp/spool/internal.h"

struct spool_file {
	uint64_t number, bytes;
};

struct spool_files {
	struct spool_file *at;
	size_t n, room;
};

/* A message record seen in a segment. */
struct recovered {
	uint64_t id;
	int64_t accepted_at_s, hold_until_s, by_at_s;
	uint8_t by;
	int8_t priority;
};

struct spool_recovery {
	struct spool *sp;
	pthread_t thread;
	bool runs; /* the thread is to be joined */
	_Atomic bool stop;
	_Atomic uint32_t stage; /* enum spool_recovery_stage */

	/* of the directory, before the first new file; bytes: of the logs */
	struct spool_files logs, bodies;
	uint64_t bytes;

	/* the thread's; while the stage is SPOOL_RECOVERY_TAKE the committer's */
	struct spool_index index;
	struct list segments;
	struct spool_index wider; /* buckets for the committer's index; NULL: it keeps its own */
	bool unread; /* a segment, or the rest of one: it may hold messages nobody knows of */

	/* the thread's */
	struct spool_segment *segment; /* under the scan; NULL: between two */
	struct scan scan;
	size_t next_log;
	uint64_t bytes_before; /* of the segments that are done */
	struct recovered *found;
	size_t n_found, found_room, next_found;
	char error[512];

	struct ring *blocks; /* struct found_block, to whichever worker comes */

	/* any thread */
	_Atomic uint64_t segments_done, bytes_done, found_so_far;
	_Atomic uint64_t begun_us, ended_us; /* ended: 0 until nothing is left to scan */
};

/* next_id is at least so high from now on. */
static inline void recovery_raise(_Atomic uint64_t *next_id, uint64_t least)
{
	uint64_t now = atomic_load(next_id);

	while (now < least && !atomic_compare_exchange_weak(next_id, &now, least))
		;
}

/* listing.c: 0 or -errno.  Fills logs, by rising number, and bodies; counts their bytes as used,
 * and raises the next id above the bodies' and the next segment above the logs'. */
int recover_list(struct spool_recovery *rv);

/* recover.c: 0, or -errno with rv->error */
/* Lists the directory and raises ids, sequence and segment number above all that is in it. */
int recover_begin(struct spool_recovery *rv);
/* The next bytes of the segments, while rv->next_log < rv->logs.n. */
int recover_some(struct spool_recovery *rv, uint64_t bytes);
/* Behind the last segment: bodies without a message go, messages without their body too. */
int recover_end(struct spool_recovery *rv);

#endif
