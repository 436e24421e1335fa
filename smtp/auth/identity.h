/*
 * identity.h - what a back end says of a user: immutable, counted.
 *
 * Owner: identity_create() gives one reference.  The last identity_unref() frees nothing: the
 *        identity waits in its graveyard, so that no worker frees.
 * Runs on: ref and unref on any thread, identity_bury() on the control thread.
 */
#ifndef SMTP_AUTH_IDENTITY_H
#define SMTP_AUTH_IDENTITY_H

#include "smtp/auth/users.h"

struct auth_identity {
	atomic_uint references;
	struct graveyard *graveyard;
	struct tomb tomb;
	uint32_t cache_s; /* how long the verdict may be remembered; 0: not */
	char user[USER_NAME_MAX + 1];
	char tenant[USER_TENANT_MAX + 1]; /* "": none */
	char addresses[];                 /* with commas between; "": none */
};

/* What is gathered from an answer. */
struct identity_draft {
	char user[USER_NAME_MAX + 1]; /* "": as the client wrote it */
	char tenant[USER_TENANT_MAX + 1];
	char addresses[USER_ADDRESSES_MAX + 1];
};

/* n octets each; false: they cannot be one, nothing is changed. */
bool identity_set_user(struct identity_draft *d, const char *text, size_t n);
bool identity_set_tenant(struct identity_draft *d, const char *text, size_t n);
/* One address or @domain; or a list of them with commas between. */
bool identity_add_addresses(struct identity_draft *d, const char *text, size_t n);

/* NULL when memory is short. */
struct auth_identity *identity_create(const struct identity_draft *d, uint32_t cache_s,
				      struct graveyard *g);
struct auth_identity *identity_ref(struct auth_identity *i); /* NULL stays NULL */
void identity_unref(struct auth_identity *i);                /* NULL: nothing */
unsigned identity_bury(struct graveyard *g);

#endif
