/*
 * index.h - which messages are alive and where: 48 bytes a message, nothing else is kept in memory.
 *
 * Owner: the spool; entries are malloc'd, 48 bytes each, and belong to the index while inside.
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
	uint32_t retry_at_s;           /* these four as in struct disposition_head */
	uint32_t released_at_s;
	uint32_t route;
	uint32_t attempts;
	bool held;
	uint8_t done[]; /* bit i: recipient i delivered or bounced */
};

struct spool_entry {
	uint64_t id;
	struct spool_entry *next;
	struct spool_segment *segment;
	struct spool_state *state;
	uint64_t body_bytes : 38, recipients : 20;
	uint64_t large : 1;
	uint64_t dying : 1;      /* its last disposition is in the batch being written */
	uint64_t found : 1;      /* by recovery; false: committed since the start */
	uint64_t body_found : 1; /* recovery: the large body's file is there, whole */
	uint64_t units : 27;     /* offset of the record in the segment, in RECORD_ALIGN */
	uint64_t envelope_bytes : 21, prefix_bytes : 16;
};
static_assert(sizeof(struct spool_entry) <= 48, "a size of the allocator's");

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

/* Under the lock: readers look at the same word. */
void index_mark_dying(struct spool_index *x, struct spool_entry *e, bool dying);
/* Whether a message of these sizes can be an entry. */
bool entry_holds(uint64_t body_bytes, uint32_t recipients, uint32_t envelope_bytes,
		 uint32_t prefix_bytes);
/* Of its record in the segment: head, payload and alignment. */
uint32_t entry_record_bytes(const struct spool_entry *e);
uint64_t entry_offset(const struct spool_entry *e);
void entry_move(struct spool_entry *e, uint64_t offset);
void entry_free(struct spool_entry *e);
/* The state of e, made when absent; NULL when memory is short. */
struct spool_state *entry_state(struct spool_entry *e);

#endif
