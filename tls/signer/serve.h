/*
 * serve.h - the connections of postern-signer: a thread each.
 *
 * Owner: main() owns struct service.  Runs on: serve_accept() and serve_keys() on the main thread.
 * Errors: a peer of another user, one too many, and one that says what is no request are closed,
 * with a line on stderr.
 */
#ifndef TLS_SIGNER_SERVE_H
#define TLS_SIGNER_SERVE_H

#include "tls/signer/keys.h"

#include <pthread.h>
#include <sys/types.h>

enum { SERVE_CONNECTIONS = 256, SERVE_PEERS = 8 };

struct service {
	pthread_mutex_t lock; /* of keys: held to take a reference, no longer */
	struct keys *keys;
	uid_t peer[SERVE_PEERS]; /* who may ask */
	unsigned n_peers;
	_Atomic unsigned connections;
};

/* A listening socket at the path, which only `owner` may open; a stale one is replaced.  -errno. */
int serve_listen(const char *path, uid_t owner);
/* Takes the next connection and starts its thread. */
void serve_accept(struct service *s, int listener);
/* Puts other keys in place; takes them over. */
void serve_keys(struct service *s, struct keys *k);

#endif
