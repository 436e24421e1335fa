/* counters.h - everything the password checks count; one row a counter */
#ifndef SMTP_AUTH_COUNTERS_H
#define SMTP_AUTH_COUNTERS_H

#include "base/counter.h"

#define AUTH_COUNTERS(X)                                                                           \
	X(auth, cache_hits, "checks", "answered from the cache of verified credentials")           \
	X(auth, cache_misses, "checks", "sent to the auth threads")

COUNTER_ENUM(auth, AUTH_COUNTERS)

#endif
