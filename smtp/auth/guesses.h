/*
 * guesses.h - how often wrong guesses are judged for an address or a user.
 *
 * A guess is charged before it is judged and refunded when it was right, so that guesses judged
 * side by side count too.  Never more than `count` charges in any `per_us`: half of them may
 * come at once, the rest is spread evenly (the generic cell rate algorithm, ITU-T I.371, with a
 * burst of half the count).  The table is bounded; the least charged of eight makes room.
 *
 * Owner: struct auth.
 * Runs on: auth threads, under their lock.
 * Units: microseconds.
 */
#ifndef SMTP_AUTH_GUESSES_H
#define SMTP_AUTH_GUESSES_H

#include "smtp/auth/auth.h"

struct guesses;

/* NULL when memory is short. */
struct guesses *guesses_create(uint32_t entries);
void guesses_destroy(struct guesses *l);
/* tag: a keyed hash of what is limited.  false: over the limit, nothing charged. */
bool guesses_charge(struct guesses *l, uint64_t tag, const struct auth_rate *rate, uint64_t now_us);
void guesses_refund(struct guesses *l, uint64_t tag, const struct auth_rate *rate);

#endif
