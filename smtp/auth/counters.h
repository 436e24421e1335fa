/* counters.h - everything the password checks count; one row a counter */
#ifndef SMTP_AUTH_COUNTERS_H
#define SMTP_AUTH_COUNTERS_H

#include "base/counter.h"

#define AUTH_COUNTERS(X)                                                                        \
	X(auth, cache_hits, "checks", "answered from the cache of verified credentials")        \
	X(auth, cache_misses, "checks", "not answered from the cache")                          \
	X(auth, shared, "checks", "waited for an equal check under way and got its verdict")    \
	X(auth, followers_full, "checks", "turned away because too many waited for equal ones") \
	X(auth, cache_evictions, "entries", "valid entries that made room for newer ones")      \
	X(auth, queue_full, "checks", "turned away because too many waited in all")             \
	X(auth, source_full, "checks", "turned away because too many of one address waited")    \
	X(auth, user_full, "checks", "turned away because too many of one user waited")         \
	X(auth, accepted, "checks", "judged right by the auth threads")                         \
	X(auth, rejected, "checks", "judged wrong by the auth threads, unknown users included") \
	X(auth, unknown_users, "checks", "of users that the file does not name")                \
	X(auth, limited_address, "checks", "not judged: too many failures of the address")      \
	X(auth, limited_user, "checks", "not judged: too many failures of the user")            \
	X(auth, no_memory, "checks", "not judged: no memory for the hash")                      \
	X(auth, backend_outages, "checks", "answered 454: a back end gave no answer in time")   \
	X(auth, backend_malformed, "checks", "answered 454: a back end's answer was unusable")  \
	X(auth, backend_late, "checks", "answered 454: waited too long for a back end's turn")  \
	X(auth, backends_changed, "checks", "void because the back ends changed meanwhile")     \
	X(auth, shadowed, "checks", "refused: the name found is another's in the users file")   \
	X(auth, token_malformed, "tokens", "refused: not a signed JSON Web Token")              \
	X(auth, token_key, "tokens", "refused: no key of that id and algorithm")                \
	X(auth, token_signature, "tokens", "refused: wrong signature")                          \
	X(auth, token_time, "tokens", "refused: expired, not yet valid, or without expiry")     \
	X(auth, token_claims, "tokens", "refused: issuer, audience or user is another")         \
	X(auth, record_changed, "checks", "void because the user's record changed meanwhile")   \
	X(auth, stopped, "checks", "not judged because the gateway was stopping")               \
	X(auth, reloads, "readings", "users files taken over")                                  \
	X(auth, reload_errors, "readings", "changed users files refused")

COUNTER_ENUM(auth, AUTH_COUNTERS)

#endif
