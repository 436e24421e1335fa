/*
 * users.h - the users file: who may submit, and what is stored in place of their passwords.
 *
 * Text, first line `postern-users 1`, then one user a line, fields separated by one space:
 * name, argon2id hash ($argon2id$...), and in any order, each optional: a SCRAM-SHA-256 verifier
 * (RFC 5803), tenant=NAME, addresses=LIST (addresses and @domains, separated by commas).
 * struct users is an immutable snapshot of one reading.
 *
 * Owner: users_load() makes a snapshot with one reference.  users_unref() by the last holder
 *        frees nothing on a worker: the snapshot waits on its graveyard for users_bury().
 * Runs on: users_find(), users_ref(), users_unref() on any thread; the rest on the control
 *          thread or in posternctl.
 * Errors: 0 or -errno with a text `file:line: what is wrong and the remedy`.
 */
#ifndef SMTP_AUTH_USERS_H
#define SMTP_AUTH_USERS_H

#include "base/graveyard.h"
#include "smtp/auth/password.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	USER_NAME_MAX = 255,
	USER_TENANT_MAX = 63,
	USER_ADDRESSES_MAX = 4000,
	USERS_RECORD_ID_BYTES = 32,
	USERS_MAX = 1000000
};

struct user {
	char *name; /* points into the file's text, as do the others */
	char *argon2id;
	char *scram;     /* NULL: none */
	char *tenant;    /* NULL: none */
	char *addresses; /* that the user may send as; NULL: none */
	struct password_hash hash;
	uint8_t record_id[USERS_RECORD_ID_BYTES]; /* SHA-256 of the record: another one, another id
						   */
};

struct users;

/* graveyard: may be NULL for a snapshot that stays on one thread. */
int users_load(struct users **u, const char *file, struct graveyard *graveyard, char *error,
	       size_t error_bytes);
/* A snapshot without users; NULL when memory is short. */
struct users *users_none(struct graveyard *graveyard);
struct users *users_ref(struct users *u);
void users_unref(struct users *u);
/* Frees the snapshots in the graveyard; the number. */
unsigned users_bury(struct graveyard *g);

const struct user *users_find(const struct users *u, const char *name);
unsigned users_count(const struct users *u);
const struct user *users_at(const struct users *u, unsigned i); /* in the order of the file */
/* The hash that unknown names are checked against: the parameters of most users here, a fixed
 * salt, no password that fits. */
const struct password_hash *users_dummy(const struct users *u);
/* What a made-up SCRAM verifier tells: as the first verifier of the file, or the default. */
uint32_t users_scram_iterations(const struct users *u);

/* NULL, or why the text cannot be a user's name, tenant, or list of addresses. */
const char *user_name_fault(const char *name);
const char *user_tenant_fault(const char *tenant);
const char *user_addresses_fault(const char *addresses);

enum users_change { USERS_ADD, USERS_PASSWORD, USERS_SET, USERS_REMOVE };

struct users_edit {
	const char *file;
	enum users_change change;
	const char *name;
	const char *password; /* USERS_ADD, USERS_PASSWORD */
	/* Not for USERS_REMOVE; NULL: as it was, "": none. */
	const char *tenant, *addresses;
	struct password_cost cost;
	bool scram;
};

/* Under a lock; written to a temporary file, synced, renamed over the old one (mode 0600).
 * USERS_ADD creates a missing file.  -EEXIST and -ENOENT speak of the user. */
int users_edit(const struct users_edit *e, char *error, size_t error_bytes);

#endif
