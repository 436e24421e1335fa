/*
 * internal.h - what the files of the spool share.  Nothing outside this folder includes it but the
 * spool's own tests, which run the threads' work step by step.
 *
 * Owner: the spool.  Each group of fields below says which thread may touch it.
 * Runs on: as each function says; a step function is one round of its thread, without waiting.
 */
#ifndef SMTP_SPOOL_INTERNAL_H
#define SMTP_SPOOL_INTERNAL_H

#include "base/list.h"
#include "base/ring.h"
#include "base/siphash.h"
#include "smtp/spool/index.h"
#include "smtp/spool/scan.h"
#include "smtp/spool/spool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum {
	SPOOL_WRITERS = 2, /* large-body threads; a message always goes to the same one */
	SPOOL_READERS_MAX = 16,
	BODY_BUCKETS = 256,
	FILE_NAME_BYTES = 48,
	IOV_A_CALL = 512,          /* below IOV_MAX */
	ZERO_STEP_BYTES = 1 << 20, /* a segment is zero-written ahead in steps of this */
};

/* The ids of a segment's new messages are less than so far above its floor, so that a start need
 * not look for the highest one: a second's worth of the clock's (see spool_alloc()). */
#define SEGMENT_IDS ((uint64_t)1 << 32)

struct spool_segment {
	struct list link; /* spool.segments, by rising number */
	uint64_t number;
	uint64_t salt;
	uint64_t id_floor;   /* the active one: as its header says */
	uint64_t bytes;      /* of the file */
	uint64_t end;        /* the next record goes here */
	uint64_t zeroed;     /* written, with data or zeros, up to here */
	uint64_t oldest_ref; /* lowest segment whose messages last dispositions in here concern */
	uint64_t live_bytes; /* of records of live messages */
	uint64_t sealed_us;  /* when it stopped being the active one */
	uint32_t live;       /* messages */
	uint32_t states;     /* newest disposition records of live messages, wherever those are */
	uint32_t pins;       /* readers inside; under the index lock */
	int fd;
	bool drained;    /* compaction left nothing in it that matters */
	bool doomed;     /* holds outdated copies: must go before anything younger goes */
	bool unreadable; /* kept as it is, for the operator */
	bool removed;    /* the file is gone, a reader still holds the descriptor */
};

enum item_kind {
	ITEM_COMMIT,
	ITEM_DISPOSE,
	ITEM_MOVE,      /* compaction: a live message */
	ITEM_STATE,     /* compaction: the disposition record of a live message */
	ITEM_TOMBSTONE, /* compaction: the last disposition of a message whose record still exists
			 */
};

/* One record of a batch: parts in iov[first_iov ...], the head filled in when its place is known.
 */
struct batch_item {
	enum item_kind kind;
	int error;
	bool last;                     /* ITEM_DISPOSE: the message is done */
	struct spool_request *request; /* NULL: compaction's */
	struct spool_entry *entry;
	uint8_t *head;
	uint8_t *copy; /* ITEM_MOVE, ITEM_TOMBSTONE: the payload, freed after the batch */
	uint64_t id;
	uint64_t offset;
	uint64_t bytes;
	uint64_t refers_to; /* a last disposition: the segment of its message */
	uint32_t payload_bytes;
	uint32_t type;
	unsigned first_iov, iovs;
};

enum { BATCH_ITEMS = 2048, BATCH_IOVS = 8192, BATCH_ARENA_BYTES = 512 << 10 };

struct spool_batch {
	unsigned items, iovs;
	size_t arena_used;
	uint64_t bytes;
	struct spool_request *held; /* popped, but did not fit: first of the next batch */
	struct batch_item item[BATCH_ITEMS];
	struct iovec iov[BATCH_IOVS];
	uint8_t arena[BATCH_ARENA_BYTES];
};

struct spool_compaction {
	struct spool_segment *segment; /* NULL: none under way */
	struct scan scan;
	bool at_end;
	unsigned passes;
};

struct spool_body {
	struct spool_body *next;
	uint64_t id;
	uint64_t bytes;
	int fd;
	int error; /* of an append; the commit will carry it */
};

struct spool_writer {
	struct spool *sp;
	unsigned index;
	pthread_t thread;
	struct spool_body *bucket[BODY_BUCKETS];
	struct ring *trash; /* entries whose large body is to be unlinked, from the committer */
};

struct spool_reader {
	struct spool *sp;
	pthread_t thread;
	uint8_t *buffer; /* READ_VERIFY_BYTES */
};

struct spool_client {
	struct spool_client *next; /* written before it is published, then never */
	struct spool *sp;
	/* Every ring holds as many as may be outstanding, so no push fails. */
	struct ring *log;    /* to the committer, from the worker */
	struct ring *synced; /* to the committer, large bodies that are safe, from the writers */
	struct ring *body[SPOOL_WRITERS];
	struct ring *read;
	struct ring *verdicts;
	unsigned limit;
	unsigned outstanding; /* the worker's */
	bool retired;         /* the worker's */
};

struct spool {
	struct spool_config config;
	const struct spool_io *io;
	int dir, lock_fd;
	struct siphash_key salts;

	/* any thread */
	_Atomic uint64_t next_id;
	_Atomic uint64_t bytes_used;
	_Atomic uint64_t messages, segment_count, large_files;
	_Atomic(struct spool_client *) clients;
	_Atomic bool stop_helpers, stop_committer;
	uint64_t counters[spool_counter_count]; /* relaxed atomics */
	_Atomic uint64_t recovered, torn_bytes, quarantined;
	struct spool_recovery *recovery; /* restart.h */

	/* the committer; readers look up under index.lock */
	struct spool_index index;
	struct list segments;
	struct spool_segment *active; /* NULL: none could be made */
	struct spool_batch *batch;
	struct spool_compaction compaction;
	uint64_t next_segment, next_sequence;
	uint64_t batch_limit;
	uint64_t swept_us;
	unsigned last_batch; /* requests in the last one */
	bool sweep_wanted;
	unsigned failures;  /* batches in a row whose write or sync failed */
	uint64_t try_at_us; /* no new segment before */
	bool pressed;       /* room was refused: compact at once */

	bool started;
	pthread_t committer;
	unsigned readers;
	struct spool_writer writer[SPOOL_WRITERS];
	struct spool_reader reader[SPOOL_READERS_MAX];
};

static inline void spool_count(struct spool *sp, enum spool_counter c, uint64_t n)
{
	__atomic_fetch_add(&sp->counters[c], n, __ATOMIC_RELAXED);
}

/* names: NUMBER.log, ID.body, with 16 hexadecimal digits */
const char *file_name(char *name /* FILE_NAME_BYTES */, uint64_t number, const char *suffix);

/* The steps: one round of a thread's work; the amount of it, 0: nothing to do. */
unsigned spool_commit_step(struct spool *sp, uint64_t now_us);
unsigned spool_body_step(struct spool_writer *w);
unsigned spool_read_step(struct spool_reader *r);
unsigned spool_recovery_step(struct spool *sp);
/* The recovery to its end, before spool_start(): found, taken over, nothing handed over yet. */
void spool_recover_all(struct spool *sp);
/* That, and every message that was found, oldest first. */
void spool_each_found(struct spool *sp, void (*fn)(void *arg, const struct spool_found *f),
		      void *arg);
uint64_t spool_clock_us(void);
/* Frees all memory and touches no file: what a power cut leaves behind. */
void spool_abandon(struct spool *sp);

/* Hands a request back; it must not be touched afterwards. */
void spool_finish(struct spool_request *r, int verdict);

/* segment.c - committer */
int segment_create(struct spool *sp, uint64_t min_bytes);
void segment_attach(struct spool *sp, struct spool_segment *seg);
/* All of iov (changed on the way) at the offset. */
int segment_write(struct spool *sp, struct spool_segment *seg, uint64_t at, struct iovec *iov,
		  unsigned n);
/* Data is about to be written up to there: zeros behind it when the next step is due. */
int segment_zero_ahead(struct spool *sp, struct spool_segment *seg, uint64_t upto);
void segment_seal(struct spool *sp, uint64_t now_us);
void segment_abandon(struct spool *sp, uint64_t now_us);
int segment_remove(struct spool *sp, struct spool_segment *seg);
/* Some older segment still holds messages that last dispositions in this one are about. */
bool segment_is_pinned(const struct spool *sp, const struct spool_segment *seg);
void segment_pin(struct spool_segment *seg);
/* The newest disposition record of e is in seg from now on; NULL: e is about to go. */
void segment_take_state(struct spool_segment *seg, struct spool_entry *e);
/* index.lock is held by the caller */
void segment_unpin(struct spool *sp, struct spool_segment *seg);
void segment_free(struct spool *sp, struct spool_segment *seg);
/* Room that only dispositions may use, so that a full disk can be emptied. */
uint64_t segment_reserve(const struct spool_segment *seg);

/* batch.c - committer */
/* 0, -EAGAIN: does not fit any more; else the request's verdict */
int batch_add(struct spool *sp, struct spool_request *r);
int batch_add_move(struct spool *sp, struct spool_entry *e, const uint8_t *payload,
		   uint32_t payload_bytes);
int batch_add_state(struct spool *sp, struct spool_entry *e);
int batch_add_tombstone(struct spool *sp, uint64_t id, uint64_t refers_to, const uint8_t *payload,
			uint32_t payload_bytes);
/* Fills in the heads for their place in the segment and writes it all: 0 or -errno. */
int batch_write(struct spool *sp, struct spool_segment *seg);

/* compact.c - committer */
/* Adds what compaction carries to the batch; the bytes looked at. */
unsigned compaction_fill(struct spool *sp);
void compaction_settle(struct spool *sp, bool batch_ok);
void compaction_choose(struct spool *sp, uint64_t now_us);
void compaction_stop(struct spool *sp);

/* body.c */
void body_discard(struct spool *sp, struct spool_entry *e);

/* restart.c */
/* Lists the directory; 0, or -errno with a text. */
int recovery_open(struct spool *sp, char *error, size_t error_bytes);
/* 0, or an error of pthread_create() */
int recovery_start(struct spool *sp);
void recovery_stop(struct spool *sp);
void recovery_free(struct spool *sp);
/* The committer's: takes over what was found, so much a round; 0: nothing to take. */
unsigned recovery_take(struct spool *sp);
/* false: the index has not all of the segments' messages yet. */
bool recovery_is_taken(const struct spool *sp);

#endif
