/*
 * memory.h - messages up to 64 KiB kept in memory from their commit to their first attempt, so
 * that it needs no read of the spool.  Never the only place of a message: what is not kept, or was
 * given up, is read back.
 *
 * Owner: struct memory the relay's, one a worker; its chunks are the worker's pool's.  A copy stays
 *        as it is while anybody holds it (memory_take()).
 * Runs on: the worker.
 * Units: the budget counts octets of chunks, a header of 24 each included.
 * Errors: none; a message that finds no room is not kept.
 */
#ifndef SMTP_RELAY_MEMORY_H
#define SMTP_RELAY_MEMORY_H

#include "base/chunk.h"
#include "smtp/relay/counters.h"
#include "smtp/spool/spool.h"

struct memory;
struct copy;

/* counters: the relay's, borrowed.  NULL: no memory. */
struct memory *memory_create(struct chunk_pool *chunks, size_t budget, uint64_t *counters);
void memory_destroy(struct memory *m);
/* Gives up what is over it now. */
void memory_limit(struct memory *m, size_t budget);
/* Gives up the oldest while chunks run short, some at a time; the number. */
unsigned memory_relieve(struct memory *m);

/* Copies what has been committed, if there is room for it; the oldest may go for it. */
void memory_keep(struct memory *m, const struct spool_request *commit);
/* NULL: not there.  Ends with memory_give_back(). */
struct copy *memory_take(struct memory *m, spool_id_t id);
void memory_give_back(struct memory *m, struct copy *c);
/* Nobody finds it any more; freed when nobody holds it. */
void memory_forget(struct memory *m, spool_id_t id);

/* The envelope into an empty chunk; false: it does not fit. */
bool memory_envelope(const struct copy *c, struct chunk *to);
/* Octets of prefix and body from offset on that lie together at *p; 0: the end. */
size_t memory_content(const struct copy *c, uint64_t offset, const uint8_t **p);

#endif
