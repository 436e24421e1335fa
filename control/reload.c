/* reload.c - reads the file again, checks it whole, hands over what may change */
#include "control/reload.h"

#include "base/log.h"
#include "control/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAKE_MS = 2000 };

/* What the workers of this moment go by. */
struct limits {
	struct smtp_config smtp;
	struct relay_config relay;
	struct smtp_policy policy[CONFIG_LISTENERS];
	_Atomic unsigned units; /* that have it, or will take it */
	struct limits *next;    /* in gateway->limits */
};

struct handover {
	struct unit *unit;
	struct limits *limits;
};

static void take_limits(void *arg)
{
	const struct handover *h = arg;
	struct unit *u = h->unit;
	struct limits *before = u->limits;

	smtp_worker_configure(u->smtp, &h->limits->smtp);
	relay_worker_configure(u->relay, &h->limits->relay);
	for (unsigned i = 0; i < u->env->config->listener_count; i++)
		u->listeners[i].policy = h->limits->policy[i];
	u->limits = h->limits;
	if (before != NULL)
		atomic_fetch_sub(&before->units, 1);
}

/* A worker that is late takes it when it comes to it. */
static void hand_over(struct gateway *g, struct limits *l)
{
	for (unsigned i = 0; i < g->n_units; i++) {
		struct handover *h = malloc(sizeof(*h));
		int rc = -ENOMEM;
		if (h != NULL) {
			*h = (struct handover){.unit = &g->units[i], .limits = l};
			rc = worker_call(g->units[i].worker, take_limits, h, free, TAKE_MS);
		}
		if (rc == -ETIMEDOUT) {
			log_warning("control", "worker %u is late to take the new limits", i);
			continue;
		}
		free(h);
		if (rc < 0) {
			log_error("control", "worker %u keeps the old limits: %s", i,
				  strerror(-rc));
			atomic_fetch_sub(&l->units, 1);
		}
	}
}

void reload_collect(struct gateway *g)
{
	struct limits **at = &g->limits;

	while (*at != NULL) {
		struct limits *l = *at;
		if (atomic_load(&l->units) > 0) {
			at = &l->next;
			continue;
		}
		*at = l->next;
		free(l);
	}
}

void reload_close(struct gateway *g)
{
	while (g->limits != NULL) {
		struct limits *l = g->limits;
		g->limits = l->next;
		free(l);
	}
}

struct keys {
	json_t *applied, *needs_restart;
};

static void note_key(void *arg, const char *path, bool reloadable)
{
	struct keys *k = arg;

	json_array_append_new(reloadable ? k->applied : k->needs_restart, json_string(path));
}

static json_t *refused(json_t *faults)
{
	size_t i;
	json_t *line;

	json_array_foreach(faults, i, line)
		log_error("control", "reload refused: %s", json_string_value(line));
	return json_pack("{s:b, s:o}", "reloaded", 0, "faults", faults);
}

static json_t *file_faults(const struct config_errors *e)
{
	json_t *faults = json_array();

	for (unsigned i = 0; i < e->count; i++)
		json_array_append_new(faults, json_string(e->item[i].text));
	return faults;
}

/* Everything that can fail, before anything has changed.  Certificates read, or -errno. */
static int reload_tls(struct gateway *g, const struct config *c, char *error, size_t error_bytes)
{
	struct tls_settings *ts = malloc(sizeof(*ts));

	snprintf(error, error_bytes, "out of memory");
	if (ts == NULL)
		return -ENOMEM;
	settings_tls(c, ts);
	int rc = tls_reload(g->env.tls, &ts->c, error, error_bytes);
	free(ts);
	return rc;
}

static void publish(struct gateway *g, const struct config *c, struct limits *l)
{
	settings_smtp(c, &l->smtp);
	settings_relay(c, g->env.resolver, &l->relay);
	for (unsigned i = 0; i < c->listener_count; i++)
		settings_policy(c, i, &l->policy[i]);
	atomic_store(&l->units, g->n_units);
	l->next = g->limits;
	g->limits = l;
	hand_over(g, l);
	reload_collect(g);
}

static int reload_backends(struct gateway *g, const struct config *c, struct chain **next,
			   char *error, size_t error_bytes)
{
	struct auth_config ac;

	settings_auth(c, &ac);
	return auth_prepare_backends(g->env.auth, &ac, next, error, error_bytes);
}

static void apply(struct gateway *g, const struct config *c, struct limits *l, struct chain *next)
{
	struct auth_config ac;

	log_set_level(c->control.log_level);
	if (g->record_file != NULL)
		record_file_reopen(g->record_file);
	settings_auth(c, &ac);
	auth_set_rates(g->env.auth, &ac.per_address, &ac.per_user);
	auth_take_backends(g->env.auth, next);
	publish(g, c, l);
}

void reload_resolved(struct gateway *g)
{
	struct limits *l = calloc(1, sizeof(*l));

	if (l == NULL)
		log_error("control", "no memory for new addresses of next hops: the old ones stay");
	else
		publish(g, &g->config, l);
}

/* Streams and TLS sessions have their room since the start. */
static int reload_room(const struct gateway *g, const struct config *c, char *error,
		       size_t error_bytes)
{
	uint64_t n = settings_hop_connections(c);

	if (n <= g->hop_room)
		return 0;
	snprintf(
		error, error_bytes,
		"relay.pools: up to %llu connections of a worker to next hops, but since the start "
		"there is room for %llu; this needs a restart",
		(unsigned long long)n, (unsigned long long)g->hop_room);
	return -EINVAL;
}

/* merged: the running configuration with the new file's reloadable keys. */
static json_t *reload_checked(struct gateway *g, const struct config *fresh, struct config *merged)
{
	struct keys k = {json_array(), json_array()};
	char error[512];
	struct limits *l = calloc(1, sizeof(*l));

	*merged = g->config;
	config_compare(merged, fresh, note_key, &k);
	config_take(merged, fresh);
	struct chain *next = NULL;
	int rc = l != NULL ? reload_room(g, merged, error, sizeof(error)) : -ENOMEM;
	if (rc == 0)
		rc = reload_backends(g, merged, &next, error, sizeof(error));
	if (rc == 0)
		rc = reload_tls(g, merged, error, sizeof(error));
	if (rc < 0) {
		auth_drop_backends(g->env.auth, next);
		json_decref(k.applied);
		json_decref(k.needs_restart);
		if (l == NULL)
			snprintf(error, sizeof(error), "out of memory");
		free(l);
		return refused(json_pack("[s]", error));
	}
	apply(g, merged, l, next);
	config_take(&g->config, merged);
	gateway_resolve(g);
	log_info("control",
		 "configuration reloaded: %zu keys changed, %zu need a restart, %d certificates "
		 "read",
		 json_array_size(k.applied), json_array_size(k.needs_restart), rc);
	return json_pack("{s:b, s:i, s:o, s:o}", "reloaded", 1, "certificates_read", rc, "applied",
			 k.applied, "needs_restart", k.needs_restart);
}

json_t *reload_run(struct gateway *g)
{
	struct config *fresh = malloc(sizeof(*fresh)), *merged = malloc(sizeof(*merged));
	struct config_errors *errors = malloc(sizeof(*errors));
	json_t *answer;

	if (fresh == NULL || merged == NULL || errors == NULL)
		answer = refused(json_pack("[s]", "out of memory"));
	else if (config_read(fresh, g->config_file, CONFIG_RUNNING, errors) < 0)
		answer = refused(file_faults(errors));
	else
		answer = reload_checked(g, fresh, merged);
	free(fresh);
	free(merged);
	free(errors);
	return answer;
}

static json_t *command(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;

	if (!g->draining)
		return reload_run(g);
	snprintf(error, error_bytes, "reload: the gateway is shutting down");
	return NULL;
}

int reload_register(struct gateway *g)
{
	return stats_provide_action(g->stats, "reload", "read the configuration again", command, g);
}
