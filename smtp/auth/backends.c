/* backends.c - other back ends take the place of those in use (control thread) */
#include "smtp/auth/internal.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The snapshot that goes with a chain: the file where it is listed, else nobody. */
int auth_load_users(struct auth *a, bool listed, struct users **u, char *error, size_t error_bytes)
{
	if (listed)
		return users_load(u, a->users_file, &a->graveyard, error, error_bytes);
	*u = users_none(&a->graveyard);
	return *u != NULL ? 0 : -ENOMEM;
}

static bool room_to_retire(const struct auth *a)
{
	for (unsigned i = 0; i < AUTH_RETIRED; i++) {
		if (a->retired[i] == NULL)
			return true;
	}
	return false;
}

int auth_prepare_backends(struct auth *a, const struct auth_config *c, struct chain **next,
			  char *error, size_t error_bytes)
{
	*next = NULL;
	int code = chain_create(next, a, c->backends, c->n_backends, error, error_bytes);
	if (code != 0)
		return code;
	if (chain_equal(a->chain, *next)) {
		chain_destroy(*next);
		*next = NULL;
		return 0;
	}
	snprintf(error, error_bytes, "auth.backends: earlier ones are still ending; try again");
	code = room_to_retire(a) ? 0 : -EAGAIN;
	if (code == 0 && chain_lists_users(*next) && !a->users_listed) {
		struct users *u;
		code = auth_load_users(a, true, &u, error, error_bytes);
		if (code == 0)
			users_unref(u); /* it can be read; auth_take_backends() does */
	}
	if (code == 0 && a->started) {
		snprintf(error, error_bytes, "auth.backends: cannot start threads");
		code = chain_start(*next);
	}
	if (code != 0) {
		chain_destroy(*next);
		*next = NULL;
	}
	return code;
}

/* The users of another list of back ends, where the file comes or goes. */
static void take_users(struct auth *a, bool listed)
{
	char error[512];
	struct users *u;

	if (listed == a->users_listed)
		return;
	if (auth_load_users(a, listed, &u, error, sizeof(error)) != 0) {
		log_error("auth", "%s; its users are unknown until it can be read", error);
		return;
	}
	a->users_listed = listed;
	auth_publish_users(a, u);
}

void auth_take_backends(struct auth *a, struct chain *next)
{
	struct chain *old = a->chain;
	struct auth_request *r;
	unsigned i = 0;

	if (next == NULL)
		return;
	take_users(a, chain_lists_users(next));
	pthread_mutex_lock(&a->lock);
	a->chain = next;
	atomic_store(&a->route, chain_route(next));
	while ((r = chain_pop_waiting(old)) != NULL)
		auth_turn_away(a, r, auth_backends_changed);
	chain_retire(old);
	pthread_mutex_unlock(&a->lock);
	while (a->retired[i] != NULL)
		i++;
	a->retired[i] = old;
}

void auth_drop_backends(struct auth *a, struct chain *next)
{
	chain_destroy(next);
}

void auth_collect_backends(struct auth *a, bool wait)
{
	for (unsigned i = 0; i < AUTH_RETIRED; i++) {
		if (a->retired[i] == NULL || (!wait && !chain_ended(a->retired[i])))
			continue;
		chain_destroy(a->retired[i]);
		a->retired[i] = NULL;
	}
}
