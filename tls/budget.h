/*
 * budget.h - token buckets in a table of fixed size, one for each network or name that spends.
 *
 * A bucket that is full again is as good as none, so the table forgets those first; a stranger
 * among more than the table holds gets a full bucket.
 *
 * A rate allows count at once, and count in any per_us from then on.
 *
 * Owner: one worker.  Units: microseconds.
 */
#ifndef TLS_BUDGET_H
#define TLS_BUDGET_H

#include "tls/tls.h"

#include <stdbool.h>
#include <stdint.h>

struct budget;

struct budget *budget_create(void);
void budget_destroy(struct budget *b);
/* Half a token is the unit: a resumption costs one, a full handshake two. */
bool budget_charge(struct budget *b, uint64_t tag, const struct tls_rate *rate, unsigned halves,
		   uint64_t now_us);
/* Whether that charge would be taken now. */
bool budget_allows(const struct budget *b, uint64_t tag, const struct tls_rate *rate,
		   unsigned halves, uint64_t now_us);

#endif
