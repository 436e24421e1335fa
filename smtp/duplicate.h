/*
 * duplicate.h - messages accepted lately, so that a client whose 250 got lost and who submits again
 * gets the first one's answer in place of a second delivery.
 *
 * The same message is: the same user, reverse-path, recipients in the same order, and the same
 * content to the last octet, with a Message-ID of the client's own (a machine that sends the same
 * words twice on purpose gives each its id, or none).  The name is a SHA-256: no two different
 * messages are ever taken for one.
 *
 * The table is bounded and shared by all workers.  A place that another worker is at this moment
 * reading or writing is passed over: a duplicate may get through, nobody waits.
 *
 * Owner: one table a process.  Runs on: any worker.  Units: microseconds of one clock for all.
 * Source: RFC 1047 (the window in which a 250 gets lost).
 */
#ifndef SMTP_DUPLICATE_H
#define SMTP_DUPLICATE_H

#include "smtp/auth/digest.h"
#include "smtp/spool/spool.h"

struct duplicates;

/* places: a power of two; NULL when memory is short. */
struct duplicates *duplicates_create(unsigned places);
void duplicates_destroy(struct duplicates *d);
/* Whether the message has been accepted and not forgotten; *id is what it was queued as. */
bool duplicates_find(struct duplicates *d, const uint8_t name[DIGEST_BYTES], uint64_t now_us,
		     spool_id_t *id);
/* The oldest of the places in question gives way. */
void duplicates_note(struct duplicates *d, const uint8_t name[DIGEST_BYTES], spool_id_t id,
		     uint64_t now_us, uint64_t until_us);

#endif
