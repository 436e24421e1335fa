/*
 * tickets.h - the keys of session tickets, one an epoch, for as long as a ticket lives.
 *
 * Owner: the control thread makes and frees them; threads and workers only read.
 * Source: RFC 5077 section 4 (the format, encrypt then MAC), RFC 8446 section 4.6.1.
 */
#ifndef TLS_TICKETS_H
#define TLS_TICKETS_H

#include "tls/ticket_file.h"

#include <stdbool.h>

enum { TICKET_NAME_BYTES = 16 };

struct ticket_key {
	uint8_t name[TICKET_NAME_BYTES];
	uint8_t cipher[32], mac[32]; /* AES-256-CBC, HMAC-SHA-256 */
};

struct tickets {
	unsigned references; /* control thread only */
	uint64_t first;      /* epoch of key[0] */
	unsigned n, current; /* key[current] seals; those behind it are for clocks that run ahead */
	struct ticket_key key[];
};

/* Advances *s to the oldest epoch that lives at now_s; NULL when memory is short or there are
 * more than TICKET_EPOCHS. */
struct tickets *tickets_create(struct ticket_secret *s, uint64_t lifetime_s, int64_t now_s);
void tickets_free(struct tickets *t);
/* NULL: not ours, or too old. */
const struct ticket_key *tickets_find(const struct tickets *t, const uint8_t *name);

#endif
