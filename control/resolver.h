/*
 * resolver.h - addresses of next hops that are configured by host name.
 *
 * Flows in: names.  Flows out: their addresses, the last good ones while a name server fails; asked
 * for again when their time to live is over.
 *
 * Owner: the control thread; queries run on a thread of the resolver's own.
 * Runs on: the control thread, but for resolver_addresses(), which any thread may call.
 * Errors: a name that cannot be resolved keeps what it has, is logged once, and tried again after
 *         RESOLVER_RETRY_S.
 * Source: RFC 1035 section 3.2.1 (time to live), RFC 8767 (stale answers are better than none).
 */
#ifndef CONTROL_RESOLVER_H
#define CONTROL_RESOLVER_H

#include "base/addr.h"

#include <stdbool.h>
#include <stddef.h>

enum {
	RESOLVER_NAMES = 256,
	RESOLVER_NAME = 256,
	RESOLVER_ADDRESSES = 16, /* of a name that are kept */
	RESOLVER_RETRY_S = 10,
	RESOLVER_LEAST_S = 5, /* bounds of a time to live */
	RESOLVER_MOST_S = 3600,
};

struct resolver;

/* servers: ADDRESS[:PORT],... or "": those of the machine.  0, or -errno with the reason. */
int resolver_open(struct resolver **r, const char *servers, char *error, size_t error_bytes);
void resolver_close(struct resolver *r);
/* The names that matter from now on; what is known of those that stay is kept. */
void resolver_names(struct resolver *r, const char (*names)[RESOLVER_NAME], unsigned n);
/* How many are known; the same order while nothing changes. */
unsigned resolver_addresses(struct resolver *r, const char *name, struct ip_addr *out,
			    unsigned most);
/* Whether an address has come or gone since the last call. */
bool resolver_changed(struct resolver *r);

#endif
