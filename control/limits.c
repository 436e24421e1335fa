/* limits.c - a user's use of the limits, for posternctl limits */
#include "control/gateway.h"
#include "control/settings.h"
#include "smtp/auth/users.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

static void add_row(void *arg, const struct smtp_limit_row *r)
{
	json_t *rows = arg;
	double percent = (double)r->used * 100 / (double)r->limit;

	json_array_append_new(rows,
			      json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:s}", "of",
					r->subject, "name", r->name, "measure", r->measure, "used",
					(json_int_t)r->used, "limit", (json_int_t)r->limit, "per_s",
					(json_int_t)(r->per_us / 1000000), "percent", percent,
					"class", r->class_name));
}

static json_t *limits(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;
	const char *user = json_string_value(json_object_get(request, "user"));
	char tenant[USER_TENANT_MAX + 1];
	struct smtp_config *c = malloc(sizeof(*c));

	if (user == NULL || c == NULL) {
		snprintf(error, error_bytes, "%s",
			 user == NULL ? "user is the name of a user" : "out of memory");
		free(c);
		return NULL;
	}
	/* a user whom a token or certificate names need not be in the file */
	auth_tenant(g->env.auth, user, tenant);
	settings_smtp(&g->config, c);
	json_t *rows = json_array();
	smtp_limits_report(g->env.smtp, c, user, tenant,
			   __atomic_load_n(&g->units[0].worker->shard.now_us, __ATOMIC_RELAXED),
			   add_row, rows);
	free(c);
	return rows;
}

int limits_register(struct gateway *g)
{
	return stats_provide(g->stats, "limits", "a user's use of the limits", limits, g);
}
