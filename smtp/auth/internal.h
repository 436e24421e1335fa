/* internal.h - what the two sides of the password checks share: workers (client.c) and auth
 * threads (auth.c).  Locks are taken on auth threads and the control thread only. */
#ifndef SMTP_AUTH_INTERNAL_H
#define SMTP_AUTH_INTERNAL_H

#include "base/list.h"
#include "base/ring.h"
#include "base/siphash.h"
#include "smtp/auth/auth.h"
#include "smtp/auth/cache.h"
#include "smtp/auth/fairq.h"
#include "smtp/auth/guesses.h"
#include "smtp/auth/users.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { AUTH_LOADS = 4096, AUTH_SECRET_BYTES = 32 };

/* Which content of the users file has been read. */
struct file_identity {
	struct timespec modified;
	uint64_t inode, bytes;
};

struct auth {
	struct auth_config c;
	char *users_file, *jwks_file;
	uint8_t secret[AUTH_SECRET_BYTES]; /* of this boot; keys the caches */
	struct siphash_key tag_key;

	/* workers and auth threads */
	struct ring *requests;
	atomic_uint waiting; /* asked, answer not yet fetched by its worker: bounds all rings */
	atomic_ushort source_load[AUTH_LOADS], user_load[AUTH_LOADS]; /* by tag */

	/* auth threads */
	pthread_mutex_t lock;
	struct fairq *queue, *cheap; /* hashes; what takes microseconds */
	struct jwks *keys;           /* NULL: no tokens */
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
	struct users_graveyard graveyard;
};

struct auth_client {
	struct list link;
	struct auth *auth;
	struct shard *shard;
	struct users *users;           /* this worker's snapshot, a reference */
	_Atomic(struct users *) inbox; /* the next one, handed over with its reference */
	struct ring *results;
	struct cache *cache;
	EVP_MAC_CTX *mac;
	struct list leaders; /* checks that the auth threads have, bounded by `queue` */
	unsigned pending, followers;
	uint64_t counters[auth_counter_count];
};

/* What still waits goes back as AUTH_OVERLOADED; no thread may be running. */
void auth_return_waiting(struct auth *a);

#endif
