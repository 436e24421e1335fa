/* internal.h - what the two sides of the password checks share: workers (client.c) and auth
 * threads (auth.c).  Locks are taken on auth threads and the control thread only. */
#ifndef SMTP_AUTH_INTERNAL_H
#define SMTP_AUTH_INTERNAL_H

#include "base/list.h"
#include "base/ring.h"
#include "base/siphash.h"
#include "smtp/auth/auth.h"
#include "smtp/auth/cache.h"
#include "smtp/auth/chain.h"
#include "smtp/auth/fairq.h"
#include "smtp/auth/guesses.h"
#include "smtp/auth/identity.h"
#include "smtp/auth/users.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { AUTH_LOADS = 4096, AUTH_SECRET_BYTES = 32, AUTH_SEEN = 4096, AUTH_RETIRED = 8 };

/* Which content of the users file has been read. */
struct file_identity {
	struct timespec modified;
	uint64_t inode, bytes;
};

/* Who waits, so that back ends and the users file do not take each other's places.  Counts of
 * checks whose answer their worker has not yet fetched, by tag. */
struct lane {
	atomic_uint waiting; /* bounds all rings */
	atomic_ushort source_load[AUTH_LOADS], user_load[AUTH_LOADS];
};
enum { LANE_HERE, LANE_REMOTE, LANES };

struct auth {
	struct auth_config c;
	char *users_file, *jwks_file;
	uint8_t secret[AUTH_SECRET_BYTES]; /* of this boot; keys the caches */
	struct siphash_key tag_key;

	/* workers and auth threads */
	struct ring *requests;
	struct lane lane[LANES];
	_Atomic uint64_t route; /* ROUTE_* and the generation of chain */

	/* auth threads */
	pthread_mutex_t lock;
	struct fairq *queue, *cheap; /* hashes; what takes microseconds */
	struct jwks *keys;           /* NULL: no tokens */
	struct chain *chain;
	struct auth_identity *seen[AUTH_SEEN]; /* by tag of the name: for auth_tenant() */
	struct guesses *guesses;
	uint64_t counters[auth_counter_count];
	pthread_t *thread;
	unsigned threads_running;
	atomic_bool stopping;

	/* control thread */
	pthread_mutex_t clients_lock;
	struct list clients;
	struct users *users;
	atomic_uint user_count;
	struct file_identity read, refused, keys_seen;
	struct graveyard graveyard;
	struct graveyard identities;
	struct chain *retired[AUTH_RETIRED]; /* their threads are ending */
	uint32_t generations;
	bool users_listed; /* else the file is not read */
	bool started;
};

struct auth_client {
	struct list link;
	struct auth *auth;
	struct shard *shard;
	struct users *users;           /* this worker's snapshot, a reference */
	uint32_t users_taken;          /* how often it has been another */
	_Atomic(struct users *) inbox; /* the next one, handed over with its reference */
	struct ring *results;
	struct cache *cache;
	EVP_MAC_CTX *mac;
	struct list leaders; /* checks that the auth threads have, bounded by `queue` */
	unsigned pending, followers;
	uint64_t counters[auth_counter_count];
};

enum auth_outcome {
	OUTCOME_WRONG,
	OUTCOME_RIGHT,
	OUTCOME_NO_MEMORY,
	OUTCOME_OUTAGE,
	OUTCOME_MALFORMED
};

/* Under the lock, all of these: after give_back, turn_away and conclude the request is its
 * worker's again. */
bool auth_charge(struct auth *a, struct auth_request *r);
void auth_give_back(struct auth_request *r, enum auth_verdict v);
void auth_turn_away(struct auth *a, struct auth_request *r, enum auth_counter why);
void auth_conclude(struct auth *a, struct auth_request *r, enum auth_outcome o);
/* To the back end, or the hashes, whose turn it is. */
void auth_pass_on(struct auth *a, struct auth_request *r);
/* Keyed, without regard to case. */
uint64_t auth_user_tag(const struct auth *a, const char *name);

/* backends.c, control thread */
int auth_load_users(struct auth *a, bool listed, struct users **u, char *error, size_t error_bytes);
void auth_publish_users(struct auth *a, struct users *u);
/* Frees the chains whose threads have ended, or waits for them. */
void auth_collect_backends(struct auth *a, bool wait);

/* What still waits goes back as AUTH_OVERLOADED; no thread may be running. */
void auth_return_waiting(struct auth *a);

#endif
