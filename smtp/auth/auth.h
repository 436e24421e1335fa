/*
 * auth.h - password checks for AUTH: users file, hashing threads, cache of verified credentials.
 *
 * A check costs about two hundred TLS handshakes, so only misses of the cache reach the auth
 * threads: bounded queue, fair by source address and by user; overflow is AUTH_OVERLOADED
 * (454 4.7.0).  Checks of one worker that ask the same (user, password and record) while the
 * first of them is under way share its one hash and its verdict: a site that opens hundreds of
 * connections with one login waits for one check.  Unknown users cost and answer the same as known
 * ones.
 *
 * Owner: struct auth one a process; struct auth_client one a worker.  A request belongs to the
 *        auth threads from auth_check() == AUTH_PENDING until its done() is called.
 * Runs on: auth_check() and auth_poll() on the worker; hashing on auth threads.
 * Secrets: password buffers are wiped by whoever holds them last; nothing is logged.
 */
#ifndef SMTP_AUTH_AUTH_H
#define SMTP_AUTH_AUTH_H

#include "base/addr.h"
#include "base/list.h"
#include "base/shard.h"
#include "base/slab.h"
#include "smtp/auth/backend.h"
#include "smtp/auth/counters.h"
#include "smtp/auth/jwt.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct auth;
struct auth_backend;
struct auth_client;
struct auth_identity;
struct chain;
struct scram;
struct scram_verifier;
struct user;
struct users;

struct auth_rate {
	uint64_t count, per_us; /* per_us 0: no limit */
};

/* Zero takes the default. */
struct auth_config {
	const char *users_file;
	const char *jwks_file; /* NULL: no tokens */
	struct jwt_policy tokens;
	/* In the order they are asked; none: the users file alone. */
	struct auth_backend backends[AUTH_BACKENDS];
	unsigned n_backends;
	unsigned threads; /* default 1 */
	unsigned queue;   /* checks waiting in all, and as many for back ends; default 256 */
	unsigned queue_per_source; /* default 8 */
	unsigned queue_per_user;   /* default 8 */
	unsigned followers;        /* checks of a worker that wait for an equal one; default 4096 */
	unsigned cache_entries;    /* a worker; default 65536 */
	uint32_t cache_ttl_s;      /* 600 */
	/* Failed checks judged in any `per_us`: half of count at once, the rest evenly spread.
	 * What comes beyond is not judged and answers AUTH_OVERLOADED (454 4.7.0), right
	 * password or not, known user or not.  The cache is asked first, so whoever has
	 * logged in before is not locked out by others' guesses. */
	struct auth_rate per_address; /* IPv6: per /64 */
	struct auth_rate per_user;
};

enum auth_verdict { AUTH_PENDING, AUTH_OK, AUTH_BAD, AUTH_OVERLOADED };

enum { AUTH_USER_BYTES = 256, AUTH_PASSWORD_BYTES = 512 };

/* What is to be judged.  All kinds pass the same queue limits and brakes on guessing; the cheap
 * ones, some microseconds, go before the hashes. */
enum auth_kind {
	AUTH_PASSWORD, /* user and password */
	AUTH_SCRAM,    /* user and scram: a proof; its signature is made */
	AUTH_TOKEN,    /* token; user as the client says it (or ""), as the token says it when OK */
};

struct auth_request {
	enum auth_kind kind;
	struct scram *scram; /* the auth threads' until done() */
	const char *token;   /* the same */
	size_t token_bytes;
	int64_t wall_s;                     /* AUTH_TOKEN: the time to judge by */
	char user[AUTH_USER_BYTES];         /* NUL-terminated */
	char password[AUTH_PASSWORD_BYTES]; /* wiped before done() */
	struct ip_addr source;
	const char *listener; /* its name, for back ends; NULL: none */
	/* What a back end says of the user: a reference, the caller's from AUTH_OK on.  NULL: what
	 * the users file says holds.  user is then as the back end writes it. */
	struct auth_identity *identity;
	handle_t handle; /* the worker's: which session waits */
	void *user_data;
	void (*done)(struct auth_request *r); /* called by auth_poll() on the worker */
	enum auth_verdict verdict;
	/* this layer's, from auth_check() on */
	struct auth_client *client;
	struct users *users;           /* a reference: the snapshot of the check */
	const struct user *record;     /* NULL: unknown user */
	uint64_t source_tag, user_tag; /* keyed hashes */
	uint64_t asked_us, queued_us;  /* the worker's clock; the threads' */
	uint64_t route;                /* of the chain that it goes through */
	uint8_t at;                    /* place in the chain */
	bool remote, charged;          /* it begins at a back end; a guess is charged for it */
	uint8_t cache_key[32];
	struct auth_request *next;
	struct list link;            /* worker: in auth_client.leaders */
	struct auth_request *follow; /* worker: equal checks that get the same verdict */
};

/* Reads the users file and the key set.  0, or -errno with a text naming file:line and the remedy.
 */
int auth_open(struct auth **a, const struct auth_config *c, char *error, size_t error_bytes);
/* 0 or -errno; the threads run at nice 10, on the cores of the caller. */
int auth_start(struct auth *a);
/* Re-reads the users file and the key set when they changed, frees what nobody uses any more
 * (control thread, about once a second).  A file that does not parse changes nothing but a counter
 * and the log. */
void auth_refresh(struct auth *a);
/* Any thread: other brakes for the guesses from now on. */
void auth_set_rates(struct auth *a, const struct auth_rate *per_address,
		    const struct auth_rate *per_user);
/* Back ends as they shall be from now on: reads what they need, changes nothing yet.  *next NULL
 * after 0: they are the same.  Control thread. */
int auth_prepare_backends(struct auth *a, const struct auth_config *c, struct chain **next,
			  char *error, size_t error_bytes);
/* Takes them into use, or throws them away (NULL: nothing). */
void auth_take_backends(struct auth *a, struct chain *next);
void auth_drop_backends(struct auth *a, struct chain *next);
/* Ends the threads; what waited comes back by auth_poll() as AUTH_OVERLOADED. */
void auth_stop(struct auth *a);
/* Stops if need be.  After the last auth_client_destroy(). */
void auth_close(struct auth *a);

/* Any thread, before the worker runs; NULL when memory is short. */
struct auth_client *auth_client_create(struct auth *a, struct shard *shard);
/* When the worker runs no more: waits for the checks under way and drops them without done(). */
void auth_client_destroy(struct auth_client *c);
/* AUTH_OK from the cache at once, AUTH_PENDING (done() comes later), or AUTH_OVERLOADED.  The
 * password is wiped when the answer is not AUTH_PENDING. */
enum auth_verdict auth_check(struct auth_client *c, struct auth_request *r);
/* The verifier that SCRAM's first answer tells of; for a user that is unknown or has none a made-up
 * one, always the same for a name, so that nothing is told. */
void auth_scram_verifier(struct auth_client *c, const char *user, struct scram_verifier *v);
/* What identity says of the user, or where it is NULL the users file; "" where nothing.  Borrowed
 * until the next call of this client.  false: neither names the user. */
bool auth_attributes(struct auth_client *c, const char *user, const struct auth_identity *identity,
		     const char **tenant, const char **addresses);
/* Any thread; NULL: nothing. */
void auth_identity_drop(struct auth_identity *identity);
/* The same from the control thread, of users of a back end what it said when they logged in lately;
 * tenant: USER_TENANT_MAX + 1. */
bool auth_tenant(struct auth *a, const char *user, char *tenant);
/* Whether the users file names the user: for identities that need no secret (AUTH EXTERNAL). */
bool auth_knows(struct auth_client *c, const char *user);
/* How often this client has taken another users file: what the file said of a user holds while it
 * is the same. */
uint32_t auth_users_taken(struct auth_client *c);
/* Calls done() of what has been judged; the number.  Every round of the worker's loop. */
unsigned auth_poll(struct auth_client *c);

const uint64_t *auth_counters(const struct auth *a);               /* threads' side */
const uint64_t *auth_client_counters(const struct auth_client *c); /* worker's side */
/* Checks that wait or are being judged, and users in the file: gauges, any thread. */
unsigned auth_waiting(const struct auth *a);
unsigned auth_users(const struct auth *a);

#endif
