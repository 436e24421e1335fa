/*
 * peek.h - envelopes and headers out of the spool for whoever answers an operator: many at once,
 * by the spool's reader threads, for at most so long.
 *
 * Owner: struct gateway; what is read belongs to the caller until peek_free().
 * Runs on: one thread at a time (the registry's commands run one by one).
 * Errors: 0, -ENOMEM, or -ETIMEDOUT: the readers are late; what they still hold is freed when it
 *         comes back, and until then every further call is -ETIMEDOUT.
 */
#ifndef CONTROL_PEEK_H
#define CONTROL_PEEK_H

#include "smtp/spool/spool.h"

enum { PEEK_MOST = 128, PEEK_BYTES = 65536 };

struct peeker;

struct peek {
	/* in */
	spool_id_t id;
	bool content;   /* prefix and body instead of the envelope */
	uint32_t bytes; /* at most PEEK_BYTES */
	/* out */
	int verdict;         /* of the spool */
	struct chunk *chunk; /* data[0] to end */
};

struct peeker *peeker_create(struct spool *sp);
/* Waits for what the readers hold.  Before the spool closes. */
void peeker_destroy(struct peeker *p);
int peek(struct peeker *p, struct peek *reads, unsigned n);
void peek_free(struct peek *reads, unsigned n);

#endif
