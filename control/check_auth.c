/* check_auth.c - back ends and mechanisms: values against each other and against the machine */
#include "control/check.h"

#include "smtp/auth/template.h"

#include <string.h>

enum { OF_USERS = 1, OF_DOVECOT = 2, OF_LDAP = 4, OF_HTTP = 8, OF_REMOTE = 14 };

/* Which types a key is for; those that are not here are of LDAP alone. */
static const struct {
	const char *key;
	unsigned types;
} backend_keys[] = {
	{"type", OF_USERS | OF_REMOTE},
	{"name", OF_USERS | OF_REMOTE},
	{"timeout", OF_REMOTE},
	{"connections", OF_REMOTE},
	{"cache", OF_REMOTE},
	{"url", OF_LDAP | OF_HTTP},
	{"tls", OF_LDAP | OF_HTTP},
	{"ca", OF_LDAP | OF_HTTP},
	{"password_file", OF_LDAP | OF_HTTP},
	{"socket", OF_DOVECOT},
	{"service", OF_DOVECOT},
	{"tenant_field", OF_DOVECOT | OF_LDAP},
	{"addresses_field", OF_DOVECOT | OF_LDAP},
	{"format", OF_HTTP},
};

static unsigned types_of_key(const char *key)
{
	for (unsigned i = 0; i < sizeof(backend_keys) / sizeof(backend_keys[0]); i++) {
		if (strcmp(backend_keys[i].key, key) == 0)
			return backend_keys[i].types;
	}
	return OF_LDAP;
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static void check_backend_keys(const struct check *k, unsigned i)
{
	char path[CHECK_PATH_BYTES];

	snprintf(path, sizeof(path), "auth.backends.%u", i);
	const struct yaml_node *map = yaml_deepest(k->root, path);
	for (const struct yaml_node *n = map->first; n != NULL; n = n->next) {
		if ((types_of_key(n->key) & 1u << k->c->auth.backend[i].type) != 0)
			continue;
		snprintf(path, sizeof(path), "auth.backends.%u.%.60s", i, n->key);
		check_fault(k, path, "is not for back ends of this type");
	}
}

/* Passwords go in the clear only where the file says so. */
static void check_url(const struct check *k, unsigned i, const char *secure, const char *plain)
{
	const struct config_backend *b = &k->c->auth.backend[i];
	bool ldap = b->type == CONFIG_BACKEND_LDAP;

	if (begins(b->url, secure) || (ldap && begins(b->url, "ldapi://")))
		return;
	if (!begins(b->url, plain))
		check_fault_at(k, "auth.backends.%u.url", i, "must begin with %s or %s", secure,
			       plain);
	else if (!ldap && b->tls == CONFIG_BACKEND_TLS_REQUIRED)
		check_fault_at(k, "auth.backends.%u.url", i,
			       "sends passwords in the clear; write %s, or on a trusted network "
			       "tls: none",
			       secure);
}

static void check_ldap(const struct check *k, unsigned i)
{
	const struct config_backend *b = &k->c->auth.backend[i];
	const char *template = b->filter[0] != '\0' ? b->filter : b->dn;

	check_url(k, i, "ldaps://", "ldap://");
	if ((b->filter[0] != '\0') == (b->dn[0] != '\0'))
		check_fault_at(k, "auth.backends.%u", i, "needs one of filter (with base) and dn");
	else if (!template_names_user(template))
		check_fault_at(k, "auth.backends.%u", i,
			       "%.100s must hold %%u or %%n; besides these only %%d and %%%% mean "
			       "something",
			       template);
	if (b->filter[0] != '\0' && b->base[0] == '\0')
		check_fault_at(k, "auth.backends.%u", i, "filter needs base");
	if ((b->bind_dn[0] != '\0') != (b->password_file[0] != '\0'))
		check_fault_at(k, "auth.backends.%u", i, "bind_dn and password_file go together");
}

/* SCRAM is chosen by clients before PLAIN, and only the users file can judge it: whoever has users
 * elsewhere shall have thought of that. */
static void check_scram_beside(const struct check *k)
{
	const struct config_auth *a = &k->c->auth;
	const struct yaml_node *n = yaml_deepest(k->root, "auth.mechanisms");
	bool written = n->key != NULL && strcmp(n->key, "mechanisms") == 0;

	if (!written && (a->mechanisms & 1u << CONFIG_AUTH_SCRAM) != 0)
		check_fault(k, "auth.backends",
			    "auth.mechanisms must be written out: only users of the users file can "
			    "log in by SCRAM-SHA-256, and many clients try nothing else where it "
			    "is offered");
}

static void check_backends(const struct check *k)
{
	const struct config_auth *a = &k->c->auth;
	const uint32_t of_file =
		1u << CONFIG_AUTH_SCRAM | 1u << CONFIG_AUTH_SCRAM_PLUS | 1u << CONFIG_AUTH_EXTERNAL;
	unsigned users = 0;

	for (unsigned i = 0; i < a->backend_count; i++) {
		const struct config_backend *b = &a->backend[i];
		check_backend_keys(k, i);
		users += b->type == CONFIG_BACKEND_USERS;
		if (b->type == CONFIG_BACKEND_LDAP)
			check_ldap(k, i);
		else if (b->type == CONFIG_BACKEND_HTTP)
			check_url(k, i, "https://", "http://");
		else if (b->type == CONFIG_BACKEND_DOVECOT && b->socket[0] == '\0')
			check_fault_at(k, "auth.backends.%u", i, "needs socket");
	}
	if (users > 1)
		check_fault(k, "auth.backends", "the users file is listed twice");
	if (a->backend_count > users)
		check_scram_beside(k);
	if (users == 0 && a->backend_count > 0 && (a->mechanisms & of_file) != 0)
		check_fault(k, "auth.backends",
			    "SCRAM-SHA-256 and EXTERNAL in auth.mechanisms need the users file "
			    "listed");
}

void check_auth(const struct check *k)
{
	const struct config_auth *a = &k->c->auth;
	const uint32_t tokens = 1u << CONFIG_AUTH_OAUTHBEARER | 1u << CONFIG_AUTH_XOAUTH2;

	check_backends(k);
	if ((a->mechanisms & tokens) == 0)
		return;
	if (a->oauth.jwks[0] == '\0')
		check_fault(k, "auth.mechanisms", "OAUTHBEARER and XOAUTH2 need auth.oauth.jwks");
	if (a->oauth.issuer[0] == '\0')
		check_fault(k, "auth.mechanisms", "OAUTHBEARER and XOAUTH2 need auth.oauth.issuer");
	if (a->oauth.audience[0] == '\0')
		check_fault(k, "auth.mechanisms",
			    "OAUTHBEARER and XOAUTH2 need auth.oauth.audience: tokens for other "
			    "services "
			    "must not open this one");
}

void check_auth_files(const struct check *k)
{
	const struct config_auth *a = &k->c->auth;
	bool users = a->backend_count == 0;
	char path[CHECK_PATH_BYTES];

	for (unsigned i = 0; i < a->backend_count; i++) {
		const struct config_backend *b = &a->backend[i];
		users |= b->type == CONFIG_BACKEND_USERS;
		snprintf(path, sizeof(path), "auth.backends.%u.password_file", i);
		if (b->password_file[0] != '\0')
			check_readable(k, path, b->password_file, "");
		snprintf(path, sizeof(path), "auth.backends.%u.ca", i);
		if (begins(b->url, "https://") || begins(b->url, "ldaps://") ||
		    (begins(b->url, "ldap://") && b->tls == CONFIG_BACKEND_TLS_REQUIRED))
			check_readable(k, path, b->ca, "");
	}
	if (users)
		check_readable(k, "auth.users", a->users, "; posternctl user add NAME creates it");
	if (a->oauth.jwks[0] != '\0')
		check_readable(k, "auth.oauth.jwks", a->oauth.jwks, "");
}
