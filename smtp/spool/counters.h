/* counters.h - everything the spool counts; one row a counter */
#ifndef SMTP_SPOOL_COUNTERS_H
#define SMTP_SPOOL_COUNTERS_H

#include "base/counter.h"

#define SPOOL_COUNTERS(X)                                                                       \
	X(spool, commits, "messages", "messages made durable")                                  \
	X(spool, commits_failed, "messages", "commits answered with an error")                  \
	X(spool, dispositions, "records", "dispositions made durable")                          \
	X(spool, dispositions_failed, "records", "dispositions answered with an error")         \
	X(spool, syncs, "calls", "fdatasync calls on the log")                                  \
	X(spool, batches, "batches", "group commits")                                           \
	X(spool, batch_requests, "requests", "requests in all group commits")                   \
	X(spool, batch_waits, "batches", "group commits that waited for company")               \
	X(spool, log_bytes, "bytes", "bytes of records written to the log")                     \
	X(spool, write_errors, "calls", "failed writes or preparations of a log segment")       \
	X(spool, sync_errors, "calls", "failed syncs of a log segment")                         \
	X(spool, no_space, "requests", "requests refused because the disk or max_size is full") \
	X(spool, segments_created, "segments", "log segments begun")                            \
	X(spool, segments_deleted, "segments", "log segments deleted, all their messages done") \
	X(spool, segments_abandoned, "segments", "log segments abandoned after a failed write") \
	X(spool, delete_errors, "calls", "failed deletions of a finished file, tried again")    \
	X(spool, moved, "messages", "live messages moved forward by compaction")                \
	X(spool, moved_bytes, "bytes", "bytes of records moved forward by compaction")          \
	X(spool, body_appends, "requests", "pieces of large bodies written")                    \
	X(spool, body_bytes, "bytes", "bytes of large bodies written")                          \
	X(spool, body_errors, "requests", "failed operations on large bodies")                  \
	X(spool, body_aborts, "bodies", "large bodies forgotten before their commit")           \
	X(spool, reads, "requests", "pieces read back")                                         \
	X(spool, read_bytes, "bytes", "bytes read back")                                        \
	X(spool, read_errors, "requests", "failed reads")                                       \
	X(spool, read_damaged, "requests", "reads refused because the checksum did not match")  \
	X(spool, unknown_id, "requests", "requests for a message that is not in the spool")     \
	X(spool, bad_requests, "requests", "requests whose parts contradict each other")        \
	X(spool, ring_full, "requests", "requests not taken because the client's ring was full")

COUNTER_ENUM(spool, SPOOL_COUNTERS)

#endif
