/*
 * index.h - which messages are alive and where: 64 bytes a message, nothing else is kept in memory.
 *
 * Owner: the spool; entries are malloc'd, 64 bytes each, and belong to the index while inside.
 * Runs on: the committer changes it under the lock; readers look up under the lock; the committer
 *          itself looks up without, being the only one who changes anything.
 * Errors: index_init() -ENOMEM; later growth that fails leaves longer chains, never an error.
 */
#ifndef SMTP_SPOOL_INDEX_H
#define SMTP_SPOOL_INDEX_H

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spool_segment;

/* What became of a message's recipients so far; absent until the first attempt. */
struct spool_state {
	struct spool_segment *segment; /* holds the newest disposition record; NULL: none yet */
	int64_t retry_at_s;
	int64_t released_at_s; /* these three as in struct disposition_head */
	uint32_t route;
	bool held;
	uint32_t attempts;
	uint32_t recipients;
	uint8_t done[]; /* bit i: recipient i delivered or bounced */
};

struct spool_entry {
	uint64_t id;
	struct spool_entry *next;
	struct spool_segment *segment;
	struct spool_state *state;
	uint64_t body_bytes;
	uint32_t offset;       /* of the record in the segment */
	uint32_t record_bytes; /* head, payload and alignment */
	uint32_t envelope_bytes, prefix_bytes;
	uint32_t recipients;
	bool large;
	bool dying;      /* its last disposition is in the batch being written */
	bool found;      /* by recovery; false: committed since the start */
	bool body_found; /* recovery: the large body's file is there, whole */
};
static_assert(sizeof(struct spool_entry) <= 64, "one cache line a message");

struct spool_index {
	pthread_mutex_t lock;
	struct spool_entry **bucket;
	size_t buckets; /* a power of two */
	size_t used;
	size_t popped; /* buckets that index_pop() found empty */
};

int index_init(struct spool_index *x);
/* Frees every entry as well. */
void index_free(struct spool_index *x);
struct spool_entry *index_find(const struct spool_index *x, uint64_t id);
void index_insert(struct spool_index *x, struct spool_entry *e);
void index_remove(struct spool_index *x, struct spool_entry *e);
/* Takes some entry out; NULL: there is none.  Cheap as long as none is inserted meanwhile. */
struct spool_entry *index_pop(struct spool_index *x);
/* Moves all entries into the buckets of wider (zeroed, a power of two) and takes those for its
 * own, if they are more than it has; wider holds no buckets afterwards. */
void index_widen(struct spool_index *x, struct spool_index *wider);
/* Walk: the entry after e (NULL: the first); only while nobody changes the index. */
struct spool_entry *index_next(const struct spool_index *x, const struct spool_entry *e);

void entry_free(struct spool_entry *e);
/* The state of e, made when absent; NULL when memory is short. */
struct spool_state *entry_state(struct spool_entry *e);

#endif
