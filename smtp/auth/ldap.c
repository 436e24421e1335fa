/*
 * ldap.c - passwords judged by an LDAP server: search and bind, or bind by a template of the name.
 *
 * A thread keeps two connections: one bound as the service that searches, one that binds as
 * users.  Every wait is in slices with the deadline in view; nothing is read from ldap.conf.
 *
 * Source: RFC 4511, RFC 4513 section 5.1.2 (an empty password binds as nobody: never sent).
 */
#include "smtp/auth/backend.h"
#include "smtp/auth/identity.h"
#include "smtp/auth/template.h"

#include <ldap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

enum { DN_BYTES = 2048, FILTER_BYTES = 4096, MATCHES = 2, ATTRIBUTES = 4 };

struct link {
	const struct auth_backend *b;
	LDAP *service, *users; /* NULL: not connected */
};

/* Neither the machine's ldap.conf nor anybody's .ldaprc shall change what the configuration says.
 */
static void setup(void)
{
	setenv("LDAPNOINIT", "1", 1);
}

static void *open_link(const struct auth_backend *b)
{
	struct link *l = calloc(1, sizeof(*l));

	if (l != NULL)
		l->b = b;
	return l;
}

static void disconnect(LDAP **ld)
{
	if (*ld != NULL)
		ldap_unbind_ext(*ld, NULL, NULL);
	*ld = NULL;
}

static void close_link(void *link)
{
	struct link *l = link;

	disconnect(&l->service);
	disconnect(&l->users);
	free(l);
}

static struct timeval span(uint32_t ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

/* An LDAP result code. */
static int connect_to(const struct auth_backend *b, const struct backend_question *q, LDAP **ld)
{
	int version = LDAP_VERSION3, demand = LDAP_OPT_X_TLS_DEMAND, client = 0;
	struct timeval left = span(backend_left_ms(q) + 1);
	int code = ldap_initialize(ld, b->url);

	if (code != LDAP_SUCCESS)
		return code;
	ldap_set_option(*ld, LDAP_OPT_PROTOCOL_VERSION, &version);
	ldap_set_option(*ld, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
	ldap_set_option(*ld, LDAP_OPT_NETWORK_TIMEOUT, &left);
	ldap_set_option(*ld, LDAP_OPT_TIMEOUT, &left);
	if (b->ca[0] != '\0')
		ldap_set_option(*ld, LDAP_OPT_X_TLS_CACERTFILE, b->ca);
	ldap_set_option(*ld, LDAP_OPT_X_TLS_REQUIRE_CERT, &demand);
	code = ldap_set_option(*ld, LDAP_OPT_X_TLS_NEWCTX, &client) == LDAP_OPT_SUCCESS
		       ? LDAP_SUCCESS
		       : LDAP_CONNECT_ERROR;
	if (code == LDAP_SUCCESS && b->tls)
		code = ldap_start_tls_s(*ld, NULL, NULL);
	return code;
}

/* The whole result of a request, or an LDAP code. */
static int await(LDAP *ld, int id, const struct backend_question *q, LDAPMessage **result)
{
	uint32_t left;

	*result = NULL;
	while ((left = backend_left_ms(q)) > 0) {
		struct timeval slice = span(left < BACKEND_SLICE_MS ? left : BACKEND_SLICE_MS);
		int got = ldap_result(ld, id, LDAP_MSG_ALL, &slice, result);
		if (got < 0)
			return LDAP_SERVER_DOWN;
		if (got > 0)
			return LDAP_SUCCESS;
	}
	ldap_abandon_ext(ld, id, NULL, NULL);
	return LDAP_TIMEOUT;
}

static int bind_as(LDAP *ld, const struct backend_question *q, const char *dn, const char *password)
{
	struct berval cred = {.bv_val = (char *)(uintptr_t)password, .bv_len = strlen(password)};
	LDAPMessage *result;
	int id, answer = LDAP_OTHER;
	int code = ldap_sasl_bind(ld, dn, LDAP_SASL_SIMPLE, &cred, NULL, NULL, &id);

	if (code == LDAP_SUCCESS)
		code = await(ld, id, q, &result);
	if (code == LDAP_SUCCESS)
		code = ldap_parse_result(ld, result, &answer, NULL, NULL, NULL, NULL, 1);
	return code == LDAP_SUCCESS ? answer : code;
}

static void add_attribute(char **list, unsigned *n, const char *name)
{
	if (name[0] != '\0')
		list[(*n)++] = (char *)(uintptr_t)name;
}

/* The entries with the attributes that are wanted; free *found with ldap_msgfree(). */
static int search(LDAP *ld, const struct auth_backend *b, const struct backend_question *q,
		  const char *base, int scope, const char *filter, LDAPMessage **found)
{
	char *attributes[ATTRIBUTES] = {0};
	unsigned n = 0;
	int id, answer = LDAP_OTHER;

	add_attribute(attributes, &n, b->user_field);
	add_attribute(attributes, &n, b->tenant_field);
	add_attribute(attributes, &n, b->addresses_field);
	if (n == 0)
		attributes[0] = (char *)(uintptr_t)LDAP_NO_ATTRS;
	*found = NULL;
	int code = ldap_search_ext(ld, base, scope, filter, attributes, 0, NULL, NULL, NULL,
				   MATCHES, &id);
	if (code == LDAP_SUCCESS)
		code = await(ld, id, q, found);
	if (code == LDAP_SUCCESS)
		code = ldap_parse_result(ld, *found, &answer, NULL, NULL, NULL, NULL, 0);
	return code == LDAP_SUCCESS ? answer : code;
}

/* The first value; all of them.  What is no address is left out: directories hold such. */
static bool read_entry(LDAP *ld, LDAPMessage *entry, const struct auth_backend *b,
		       struct identity_draft *d)
{
	const struct {
		const char *name;
		bool (*set)(struct identity_draft *d, const char *text, size_t n);
		bool all;
	} field[] = {
		{b->user_field, identity_set_user, false},
		{b->tenant_field, identity_set_tenant, false},
		{b->addresses_field, identity_add_addresses, true},
	};
	bool good = true;

	for (unsigned i = 0; i < sizeof(field) / sizeof(field[0]); i++) {
		struct berval **v = field[i].name[0] != '\0'
					    ? ldap_get_values_len(ld, entry, field[i].name)
					    : NULL;
		for (unsigned k = 0; v != NULL && v[k] != NULL && (k == 0 || field[i].all); k++)
			good &= field[i].set(d, v[k]->bv_val, v[k]->bv_len) || field[i].all;
		if (v != NULL)
			ldap_value_free_len(v);
	}
	return good;
}

/* What a bind's answer says; known: there is such a user. */
static enum backend_answer of_bind(int code, bool known)
{
	switch (code) {
	case LDAP_SUCCESS:
		return BACKEND_RIGHT;
	case LDAP_INVALID_CREDENTIALS:
	case LDAP_NO_SUCH_OBJECT:
	case LDAP_INVALID_DN_SYNTAX:
		return known ? BACKEND_WRONG : BACKEND_UNKNOWN;
	case LDAP_CONSTRAINT_VIOLATION: /* locked, expired, without a password */
	case LDAP_INAPPROPRIATE_AUTH:
	case LDAP_INSUFFICIENT_ACCESS:
	case LDAP_UNWILLING_TO_PERFORM:
		return BACKEND_WRONG;
	default:
		return BACKEND_OUTAGE;
	}
}

static enum backend_answer outage(const struct link *l, struct backend_question *q,
				  const char *what, int code)
{
	snprintf(q->why, sizeof(q->why), "%.70s: %s: %.60s", l->b->url, what,
		 ldap_err2string(code));
	return BACKEND_OUTAGE;
}

/* The connection that binds as users; a kept one may have been closed meanwhile. */
static int bind_user(struct link *l, const struct backend_question *q, const char *dn)
{
	bool kept = l->users != NULL;
	int code = kept ? bind_as(l->users, q, dn, q->password) : LDAP_SERVER_DOWN;

	if (code != LDAP_SERVER_DOWN && code != LDAP_UNAVAILABLE)
		return code;
	disconnect(&l->users);
	code = connect_to(l->b, q, &l->users);
	if (code == LDAP_SUCCESS)
		code = bind_as(l->users, q, dn, q->password);
	return code;
}

static int connect_service(struct link *l, const struct backend_question *q)
{
	int code = connect_to(l->b, q, &l->service);

	if (code == LDAP_SUCCESS && l->b->bind_dn[0] != '\0')
		code = bind_as(l->service, q, l->b->bind_dn, l->b->secret);
	if (code != LDAP_SUCCESS)
		disconnect(&l->service);
	return code;
}

static int find(struct link *l, struct backend_question *q, const char *filter, LDAPMessage **found)
{
	const struct auth_backend *b = l->b;
	bool kept = l->service != NULL;
	int code = kept ? search(l->service, b, q, b->base, LDAP_SCOPE_SUBTREE, filter, found)
			: LDAP_SERVER_DOWN;

	if (code == LDAP_SERVER_DOWN || code == LDAP_UNAVAILABLE) {
		ldap_msgfree(*found);
		*found = NULL;
		disconnect(&l->service);
		code = connect_service(l, q);
		if (code == LDAP_SUCCESS)
			code = search(l->service, b, q, b->base, LDAP_SCOPE_SUBTREE, filter, found);
	}
	return code;
}

/* An unknown user costs a bind as a known one does. */
static enum backend_answer unknown(struct link *l, struct backend_question *q)
{
	char dn[DN_BYTES];

	snprintf(dn, sizeof(dn), "cn=postern-nobody,%s", l->b->base);
	int code = bind_user(l, q, dn);
	if (of_bind(code, false) == BACKEND_OUTAGE) {
		disconnect(&l->users);
		return outage(l, q, "bind", code);
	}
	return BACKEND_UNKNOWN;
}

static enum backend_answer bind_entry(struct link *l, struct backend_question *q,
				      LDAPMessage *entry, struct identity_draft *d)
{
	if (!read_entry(l->service, entry, l->b, d)) {
		snprintf(q->why, sizeof(q->why), "%.60s: %.30s or %.20s holds what cannot be one",
			 l->b->url, l->b->user_field, l->b->tenant_field);
		return BACKEND_MALFORMED;
	}
	char *dn = ldap_get_dn(l->service, entry);
	int code = dn != NULL ? bind_user(l, q, dn) : LDAP_NO_MEMORY;
	ldap_memfree(dn);
	enum backend_answer a = of_bind(code, true);
	if (a != BACKEND_OUTAGE)
		return a;
	disconnect(&l->users);
	return outage(l, q, "bind", code);
}

static enum backend_answer by_search(struct link *l, struct backend_question *q,
				     struct identity_draft *d)
{
	char filter[FILTER_BYTES];
	LDAPMessage *found = NULL;
	enum backend_answer a;

	if (!template_filter(l->b->filter, q->user, filter, sizeof(filter)))
		return unknown(l, q);
	int code = find(l, q, filter, &found);
	int entries = found != NULL ? ldap_count_entries(l->service, found) : 0;
	if (code == LDAP_SIZELIMIT_EXCEEDED || (code == LDAP_SUCCESS && entries > 1)) {
		snprintf(q->why, sizeof(q->why), "%.90s: the filter finds several entries",
			 l->b->url);
		a = BACKEND_MALFORMED;
	} else if (code == LDAP_SUCCESS && entries == 1) {
		a = bind_entry(l, q, ldap_first_entry(l->service, found), d);
	} else if (code == LDAP_SUCCESS) {
		a = unknown(l, q);
	} else {
		disconnect(&l->service);
		a = outage(l, q, "search", code);
	}
	ldap_msgfree(found);
	return a;
}

/* His own entry, read with his own rights. */
static enum backend_answer read_own(struct link *l, struct backend_question *q, const char *dn,
				    struct identity_draft *d)
{
	LDAPMessage *found;
	int code = search(l->users, l->b, q, dn, LDAP_SCOPE_BASE, "(objectClass=*)", &found);
	LDAPMessage *entry = code == LDAP_SUCCESS ? ldap_first_entry(l->users, found) : NULL;
	enum backend_answer a = BACKEND_RIGHT;

	if (entry == NULL)
		a = outage(l, q, "the user's own entry", code);
	else if (!read_entry(l->users, entry, l->b, d))
		a = BACKEND_MALFORMED;
	ldap_msgfree(found);
	return a;
}

static enum backend_answer by_template(struct link *l, struct backend_question *q,
				       struct identity_draft *d)
{
	const struct auth_backend *b = l->b;
	char dn[DN_BYTES];

	if (!template_dn(b->dn, q->user, dn, sizeof(dn)))
		return BACKEND_UNKNOWN;
	int code = bind_user(l, q, dn);
	enum backend_answer a = of_bind(code, false);
	if (a == BACKEND_OUTAGE)
		a = outage(l, q, "bind", code);
	else if (a == BACKEND_RIGHT && (b->user_field[0] != '\0' || b->tenant_field[0] != '\0' ||
					b->addresses_field[0] != '\0'))
		a = read_own(l, q, dn, d);
	if (a == BACKEND_OUTAGE)
		disconnect(&l->users);
	return a;
}

static enum backend_answer ask(void *link, struct backend_question *q, struct identity_draft *d)
{
	struct link *l = link;

	if (q->password[0] == '\0')
		return BACKEND_WRONG;
	enum backend_answer a = l->b->filter[0] != '\0' ? by_search(l, q, d) : by_template(l, q, d);
	/* neither connection came up */
	if (a == BACKEND_OUTAGE && l->service == NULL && l->users == NULL && backend_left_ms(q) > 0)
		return BACKEND_UNREACHABLE;
	return a;
}

const struct auth_ops ldap_ops = {
	.setup = setup,
	.open = open_link,
	.ask = ask,
	.close = close_link,
};
