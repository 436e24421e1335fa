/*
 * auth.h - password checks for AUTH: users file, hashing threads, cache of verified credentials.
 *
 * A check costs about two hundred TLS handshakes, so only misses of the cache reach the auth
 * threads: bounded queue, fair by source address and by user; overflow is AUTH_OVERLOADED
 * (454 4.7.0).  Unknown users cost and answer the same as known ones.
 *
 * Owner: struct auth one a process; struct auth_client one a worker.  A request belongs to the
 *        auth threads from auth_check() == AUTH_PENDING until its done() is called.
 * Runs on: auth_check() and auth_poll() on the worker; hashing on auth threads.
 * Secrets: password buffers are wiped by whoever holds them last; nothing is logged.
 */
#ifndef SMTP_AUTH_AUTH_H
#define SMTP_AUTH_AUTH_H

#include "base/addr.h"
#include "base/shard.h"
#include "base/slab.h"
#include "smtp/auth/counters.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct auth;
struct auth_client;

struct auth_config {
	const char *users_file;
	unsigned threads;
	unsigned queue;           /* checks waiting in all; default 256 */
	unsigned queue_per_source;/* default 8 */
	unsigned queue_per_user;  /* default 8 */
	unsigned cache_entries;   /* a worker; default 65536 */
	uint32_t cache_ttl_s;     /* 600 */
};

enum auth_verdict { AUTH_PENDING, AUTH_OK, AUTH_BAD, AUTH_OVERLOADED };

enum { AUTH_USER_BYTES = 256, AUTH_PASSWORD_BYTES = 512 };

struct auth_request {
	char user[AUTH_USER_BYTES];         /* NUL-terminated */
	char password[AUTH_PASSWORD_BYTES]; /* wiped before done() */
	struct ip_addr source;
	handle_t handle;                    /* the worker's: which session waits */
	void *user_data;
	void (*done)(struct auth_request *r); /* called by auth_poll() on the worker */
	enum auth_verdict verdict;
	/* the auth threads' */
	struct auth_client *client;
	uint8_t cache_key[32];
	uint64_t record_version;
	struct auth_request *next;
};

/* Reads the users file.  0, or -errno with a text naming file:line and the remedy. */
int auth_open(struct auth **a, const struct auth_config *c, char *error, size_t error_bytes);
int auth_start(struct auth *a);
/* Re-reads the file when it changed (control thread, about once a second). */
void auth_refresh(struct auth *a);
void auth_close(struct auth *a);

struct auth_client *auth_client_create(struct auth *a, struct shard *shard);
void auth_client_destroy(struct auth_client *c);
/* AUTH_OK from the cache at once, AUTH_PENDING (done() comes later), or AUTH_OVERLOADED. */
enum auth_verdict auth_check(struct auth_client *c, struct auth_request *r);
unsigned auth_poll(struct auth_client *c);

const uint64_t *auth_counters(const struct auth *a);          /* threads' side */
const uint64_t *auth_client_counters(const struct auth_client *c); /* worker's side */

#endif
