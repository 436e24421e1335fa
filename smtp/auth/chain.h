/*
 * chain.h - the back ends in their order, each with its threads and its queue.
 *
 * A chain is made, started, taken into use, and retired when another takes its place; what waits
 * in it then goes back as AUTH_OVERLOADED (454).  The threads of a retired chain end when their
 * last question does, and nobody waits for them.
 *
 * Owner: struct auth.
 * Runs on: the control thread; chain_push(), chain_pop_waiting() and chain_retire() under the auth
 *          threads' lock.
 * Errors: -errno with a text that names the back end and the file.
 */
#ifndef SMTP_AUTH_CHAIN_H
#define SMTP_AUTH_CHAIN_H

#include "smtp/auth/auth.h"
#include "smtp/auth/backend.h"

struct chain;
struct remote;

/* What a worker goes by. */
enum {
	ROUTE_REMOTE = 1,
	ROUTE_USERS = 2,
	ROUTE_USERS_FIRST = 4,
	ROUTE_BY_SOURCE = 8,
	ROUTE_BITS = 4 /* above them: the chain's generation */
};

/* Before any thread starts, once. */
void chain_setup(void);
/* Reads the password files and makes the chain; n 0: the users file alone. */
int chain_create(struct chain **c, struct auth *a, const struct auth_backend *list, unsigned n,
		 char *error, size_t error_bytes);
int chain_start(struct chain *c);
bool chain_equal(const struct chain *a, const struct chain *b);
uint64_t chain_route(const struct chain *c);
bool chain_lists_users(const struct chain *c);
/* Into the queue of the back end whose turn it is; false: it is the users file's turn. */
bool chain_push(struct chain *c, struct auth_request *r);
struct auth_request *chain_pop_waiting(struct chain *c);
/* Tells the threads to end; under the lock. */
void chain_retire(struct chain *c);
/* Tells the threads to end and waits for them; they may be started again. */
void chain_join(struct chain *c);
/* The same, and frees it; NULL: nothing. */
void chain_destroy(struct chain *c);
/* Whether chain_destroy() would not have to wait. */
bool chain_ended(const struct chain *c);

#endif
