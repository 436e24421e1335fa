/*
 * spool.h - the durable queue on disk: append-only segment log, group commit, read-back.
 *
 * A worker never blocks on it: it pushes a request, polls for verdicts, and gets its own
 * request object back.  A COMMIT verdict of 0 means: fdatasync of everything that the message
 * needs (large body, segment, directories) has succeeded.  Only then may a 250 leave.
 *
 * Threads: one committer (the log's only writer), a few readers, a large-body writer pool as
 *          the implementation sees fit; they poll rings (base/nap.h).
 * Owner: a request and its chunks belong to the spool from submit to verdict, then to the
 *        worker again.
 * Errors: verdict 0 or -errno (-ENOSPC: no room; -EIO: failed write or sync, the segment is
 *         abandoned and never synced again, or damaged bytes on read; -ENOENT: no such message;
 *         -EINVAL, -EMSGSIZE: parts that contradict each other, a record of over 16 MiB, or more
 *         than an index entry holds;
 *         -EOVERFLOW: too many outstanding, from submit itself).
 */
#ifndef SMTP_SPOOL_SPOOL_H
#define SMTP_SPOOL_SPOOL_H

#include "base/chunk.h"
#include "base/slab.h"
#include "smtp/spool/counters.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

struct spool;        /* the directory, its threads and its index: one a process */
struct spool_client; /* one worker's end: its verdict ring */

/* Called for each regular file of a directory; anything but 0 stops the walk. */
typedef int (*spool_list_fn)(void *arg, const char *name, uint64_t bytes);

/* Every file operation of the spool goes through this table, so that tests inject faults
 * and delays.  Results follow the system calls: >= 0 or -errno. */
struct spool_io {
	void *arg;
	int (*open)(void *arg, int dir, const char *name, int flags, mode_t mode);
	int (*close)(void *arg, int fd);
	ssize_t (*pwritev)(void *arg, int fd, const struct iovec *iov, int n, off_t at);
	ssize_t (*pread)(void *arg, int fd, void *buf, size_t n, off_t at);
	int (*fallocate)(void *arg, int fd, off_t at, off_t bytes);
	int (*truncate)(void *arg, int fd, off_t bytes);
	int (*fdatasync)(void *arg, int fd);
	int (*fsync_dir)(void *arg, int dir);
	int (*unlink)(void *arg, int dir, const char *name);
	int (*rename)(void *arg, int dir, const char *from, const char *to);
	int (*open_dir)(void *arg, const char *path);
	/* A descriptor that holds the directory until it is closed, or -EWOULDBLOCK with the
	 * holder's pid (0: unknown). */
	int (*lock)(void *arg, int dir, pid_t *holder);
	int (*list)(void *arg, int dir, spool_list_fn each, void *each_arg);
};
extern const struct spool_io spool_io_linux;

struct spool_config {
	const char *directory;
	uint64_t max_size;     /* bytes of all files together; beyond: -ENOSPC */
	uint64_t segment_size; /* bytes, pre-allocated; default 64 MiB */
	uint32_t max_delay_us; /* commit.max_delay: longest wait for company */
	uint64_t max_bytes;    /* commit.max_bytes: a batch is not made larger */
	unsigned readers;      /* reader threads */
	const struct spool_io *io;
};

/* Identity of a message: unique in this spool for ever, and in Received, log and 250. */
typedef uint64_t spool_id_t;
enum { SPOOL_ID_TEXT = 20 };
const char *spool_id_text(spool_id_t id, char *text /* SPOOL_ID_TEXT */);

/* Where a message's bytes are; opaque to the worker.  Only a hint: compaction
 * may move the message, so a READ goes by the id. */
struct spool_place {
	uint64_t segment; /* log segment, or large-body file when large */
	uint64_t offset;
	uint32_t envelope_bytes, prefix_bytes;
};

enum spool_op {
	SPOOL_BODY_APPEND, /* chunks -> large-body file of id (created by the first append); those
			    * in flight keep their order; when one fails the commit fails */
	SPOOL_BODY_ABORT,  /* forget the large body of id; 0 when there is none */
	SPOOL_COMMIT,      /* envelope + prefix + body (chunks, or the large body when large); one
			    * that fails forgets the large body as well */
	SPOOL_DISPOSE,     /* disposition record(s) of a message; may remove it */
	SPOOL_READ,        /* bytes of envelope, or of prefix + body, into the given chunks */
};

enum spool_outcome { SPOOL_DELIVERED, SPOOL_DEFERRED, SPOOL_BOUNCED };

/* What an operator decided about a message; it outlives a restart. */
struct spool_mark {
	bool held;             /* not to be tried until released */
	uint32_t route;        /* CRC-32C of a pool's name; 0: by the routes */
	int64_t released_at_s; /* UNIX time from which its age counts; 0: not released */
};

struct spool_request {
	enum spool_op op;
	spool_id_t id;
	int verdict; /* set by the spool */
	struct spool_client *client;
	void *user;                            /* the worker's */
	handle_t handle;                       /* the worker's: who waits */
	void (*done)(struct spool_request *r); /* called by spool_poll() on the worker */

	struct chunk *chunks; /* APPEND, COMMIT: data [start, end) of each; READ: room */
	/* COMMIT */
	const uint8_t *envelope; /* encoded envelope (envelope.h), caller's until the verdict */
	uint32_t envelope_bytes;
	const uint8_t *prefix; /* header fields put in front of the body */
	uint32_t prefix_bytes;
	uint64_t body_bytes;      /* of the body, prefix not counted */
	bool large;               /* the body was appended before */
	struct spool_place place; /* COMMIT: out */
	/* DISPOSE: outcome of recipient i of the envelope; last: nothing of the message is
	 * left to do, its bytes may be reclaimed */
	const struct spool_disposition {
		uint32_t recipient;
		enum spool_outcome outcome;
		int64_t retry_at_s; /* DEFERRED: UNIX time */
	} * dispositions;
	uint32_t n_dispositions;
	uint32_t attempts; /* DISPOSE: delivery attempts so far, kept across restarts */
	bool last;
	/* DISPOSE with marked: the mark and the time of the next attempt are these from now on;
	 * outcomes may be missing, and attempts are left alone. */
	bool marked;
	struct spool_mark mark;
	int64_t retry_at_s;
	/* READ of id: envelope or content (prefix then body, one sequence of bytes).  Each chunk
	 * is filled from data[0] up to its end; start is 0. */
	bool read_envelope;
	uint64_t read_offset;
	uint64_t read_bytes; /* in: wanted; out: got, less at the end or when room is short */
};

/* A message found at start that still has work to do. */
struct spool_found {
	spool_id_t id;
	struct spool_place place;
	uint64_t content_bytes; /* prefix + body */
	int64_t accepted_at_s, retry_at_s;
	int64_t hold_until_s; /* of the envelope; 0: not held */
	int64_t by_at_s;      /* of the envelope, when by is not 0 */
	uint8_t by;           /* enum envelope_by */
	int8_t priority;
	uint32_t attempts;
	uint32_t recipients; /* in the envelope */
	struct spool_mark mark;
	const uint8_t *done; /* bit i set: recipient i delivered or bounced */
};

/* Locks the directory, lists it, opens a new segment; starts no thread.  0, or -errno with a text
 * that names the place and the remedy. */
int spool_open(struct spool **sp, const struct spool_config *c, char *error, size_t error_bytes);
/* Starts the threads, the recovery's too: what the directory held is found meanwhile. */
int spool_start(struct spool *sp);
/* Once recovery has ended: hands some of the messages that it found to fn, each of them to one
 * caller; the number.  Runs on any worker, every turn; no system call. */
unsigned spool_poll_found(struct spool *sp, void (*fn)(void *arg, const struct spool_found *f),
			  void *arg);
/* Finishes what was submitted, stops the threads, closes.  Clients must be gone. */
void spool_close(struct spool *sp);

/* ring_size: requests that may be outstanding. */
struct spool_client *spool_client_create(struct spool *sp, unsigned ring_size);
/* Every request must have come back. */
void spool_client_destroy(struct spool_client *c);
/* Any thread may call; no system call. */
spool_id_t spool_new_id(struct spool *sp);
/* 0, or -EOVERFLOW: not taken, the request still belongs to the caller. */
int spool_submit(struct spool_client *c, struct spool_request *r);
/* Calls done() of every finished request; the number.  Runs on the worker. */
unsigned spool_poll(struct spool_client *c);

/* What an operator sees; any thread. */
struct spool_status {
	uint64_t bytes_used, bytes_max, messages, segments, large_files;
	uint64_t recovered, torn_bytes, quarantined; /* of the last start */
};
void spool_status(struct spool *sp, struct spool_status *st);

enum spool_recovery_stage {
	SPOOL_RECOVERY_SCAN,   /* its thread reads the segments */
	SPOOL_RECOVERY_TAKE,   /* the committer takes over what was found */
	SPOOL_RECOVERY_HAND,   /* the workers are given the messages */
	SPOOL_RECOVERY_DONE,   /* they have them */
	SPOOL_RECOVERY_FAILED, /* the log says why; what is old waits for the next start */
};

struct spool_progress {
	enum spool_recovery_stage stage;
	uint64_t segments, segments_done, bytes, bytes_done;
	uint64_t found; /* messages, so far */
	double seconds; /* since spool_open(), to the end of the scan */
};
void spool_recovery_progress(struct spool *sp, struct spool_progress *p);
const uint64_t *spool_counters(const struct spool *sp);

#endif
