/* identity.c - what a back end says of a user */
#include "smtp/auth/identity.h"

#include "base/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text as a string in out; false: too long, or a NUL is inside. */
static bool take_text(const char *text, size_t n, char *out, size_t room)
{
	if (n >= room || memchr(text, '\0', n) != NULL)
		return false;
	memcpy(out, text, n);
	out[n] = '\0';
	return true;
}

bool identity_set_user(struct identity_draft *d, const char *text, size_t n)
{
	char user[USER_NAME_MAX + 1];

	if (!take_text(text, n, user, sizeof(user)) || user_name_fault(user) != NULL)
		return false;
	memcpy(d->user, user, n + 1);
	return true;
}

bool identity_set_tenant(struct identity_draft *d, const char *text, size_t n)
{
	char tenant[USER_TENANT_MAX + 1];

	if (!take_text(text, n, tenant, sizeof(tenant)) || user_tenant_fault(tenant) != NULL)
		return false;
	memcpy(d->tenant, tenant, n + 1);
	return true;
}

bool identity_add_addresses(struct identity_draft *d, const char *text, size_t n)
{
	char one[USER_ADDRESSES_MAX + 1];
	size_t have = strlen(d->addresses);

	if (!take_text(text, n, one, sizeof(one)) || user_addresses_fault(one) != NULL ||
	    have + 1 + n > USER_ADDRESSES_MAX)
		return false;
	if (have > 0)
		d->addresses[have++] = ',';
	memcpy(d->addresses + have, one, n + 1);
	return true;
}

struct auth_identity *identity_create(const struct identity_draft *d, uint32_t cache_s,
				      struct graveyard *g)
{
	size_t n = strlen(d->addresses);
	struct auth_identity *i = malloc(sizeof(*i) + n + 1);

	if (i == NULL)
		return NULL;
	atomic_init(&i->references, 1);
	i->graveyard = g;
	i->cache_s = cache_s;
	memcpy(i->user, d->user, sizeof(i->user));
	memcpy(i->tenant, d->tenant, sizeof(i->tenant));
	memcpy(i->addresses, d->addresses, n + 1);
	return i;
}

struct auth_identity *identity_ref(struct auth_identity *i)
{
	if (i != NULL)
		atomic_fetch_add_explicit(&i->references, 1, memory_order_relaxed);
	return i;
}

void identity_unref(struct auth_identity *i)
{
	if (i == NULL || atomic_fetch_sub_explicit(&i->references, 1, memory_order_acq_rel) != 1)
		return;
	graveyard_add(i->graveyard, &i->tomb);
}

unsigned identity_bury(struct graveyard *g)
{
	struct tomb *t = graveyard_take(g);
	unsigned n = 0;

	for (; t != NULL; n++) {
		struct tomb *next = t->next;
		free(container_of(t, struct auth_identity, tomb));
		t = next;
	}
	return n;
}
