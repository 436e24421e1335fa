/* schema_auth.c - the keys of who may submit */
#include "control/schema_rows.h"

static const struct schema_choice mechanism_choices[] = {
	{"PLAIN", CONFIG_AUTH_PLAIN},
	{"LOGIN", CONFIG_AUTH_LOGIN},
	{"SCRAM-SHA-256", CONFIG_AUTH_SCRAM},
	{"SCRAM-SHA-256-PLUS", CONFIG_AUTH_SCRAM_PLUS},
	{"OAUTHBEARER", CONFIG_AUTH_OAUTHBEARER},
	{"XOAUTH2", CONFIG_AUTH_XOAUTH2},
	{"EXTERNAL", CONFIG_AUTH_EXTERNAL},
	{},
};

static const struct schema_choice external_choices[] = {
	{"email", CONFIG_EXTERNAL_EMAIL},
	{"dns", CONFIG_EXTERNAL_DNS},
	{"common_name", CONFIG_EXTERNAL_COMMON_NAME},
	{},
};

static const struct schema_choice backend_choices[] = {
	{"users", CONFIG_BACKEND_USERS},
	{"dovecot", CONFIG_BACKEND_DOVECOT},
	{"ldap", CONFIG_BACKEND_LDAP},
	{"http", CONFIG_BACKEND_HTTP},
	{},
};

static const struct schema_choice backend_tls_choices[] = {
	{"required", CONFIG_BACKEND_TLS_REQUIRED},
	{"none", CONFIG_BACKEND_TLS_NONE},
	{},
};

static const struct schema_choice backend_format_choices[] = {
	{"json", CONFIG_BACKEND_JSON},
	{"form", CONFIG_BACKEND_FORM},
	{},
};

static const struct schema_row backend_rows[] = {
	{"type", SCHEMA_CHOICE, FIELD(config_backend, type), .choices = backend_choices,
	 .required = true, .help = "users is the place of the users file"},
	{"name", SCHEMA_TEXT, FIELD(config_backend, name), .help = "in the log; default: its type"},
	{"timeout", SCHEMA_TIME, FIELD(config_backend, timeout_us), RANGE(MS(100), SECONDS(10)),
	 .preset = "5s", .help = "of one login; then 454, and the client tries again"},
	{"connections", SCHEMA_NUMBER, FIELD(config_backend, connections), RANGE(1, 32),
	 .preset = "4", .help = "kept open, one login at a time on each"},
	{"cache", SCHEMA_TIME, FIELD(config_backend, cache_us), RANGE(0, SECONDS(86400)),
	 .preset = "60s",
	 .help = "how long a right password is known without asking again; 0s: always asked"},
	{"url", SCHEMA_TEXT, FIELD(config_backend, url),
	 .help = "ldap: ldaps://, ldap:// or ldapi://; http: https:// or http://"},
	{"tls", SCHEMA_CHOICE, FIELD(config_backend, tls), .preset = "required",
	 .choices = backend_tls_choices,
	 .help = "ldap:// uses StartTLS; none: passwords in the clear, on a trusted network"},
	{"ca", SCHEMA_PATH, FIELD(config_backend, ca),
	 .preset = "/etc/ssl/certs/ca-certificates.crt",
	 .help = "PEM; the server's certificate must be of these CAs and show its name"},
	{"password_file", SCHEMA_PATH, FIELD(config_backend, password_file),
	 .help = "ldap: of bind_dn; http: a bearer token; its first line, mode 0600"},
	{"socket", SCHEMA_PATH, FIELD(config_backend, socket),
	 .help = "dovecot: its auth client socket"},
	{"service", SCHEMA_TEXT, FIELD(config_backend, service), .preset = "smtp",
	 .help = "dovecot: told as service="},
	{"bind_dn", SCHEMA_TEXT, FIELD(config_backend, bind_dn),
	 .help = "ldap: who searches; default: anonymous"},
	{"base", SCHEMA_TEXT, FIELD(config_backend, base),
	 .help = "ldap: where filter searches, with all below"},
	{"filter", SCHEMA_TEXT, FIELD(config_backend, filter),
	 .help = "ldap: finds the one entry to bind as; %u name, %n before its @, %d behind it"},
	{"dn", SCHEMA_TEXT, FIELD(config_backend, dn),
	 .help = "ldap: in place of filter, the name to bind as, made of %u, %n and %d"},
	{"user_field", SCHEMA_TEXT, FIELD(config_backend, user_field), .preset = "uid",
	 .help = "ldap: attribute with the user's name as limits count it"},
	{"tenant_field", SCHEMA_TEXT, FIELD(config_backend, tenant_field),
	 .help = "ldap: attribute, dovecot: field with the user's tenant"},
	{"addresses_field", SCHEMA_TEXT, FIELD(config_backend, addresses_field),
	 .help = "ldap: attribute, dovecot: field with the addresses he may send as"},
	{"format", SCHEMA_CHOICE, FIELD(config_backend, format), .preset = "json",
	 .choices = backend_format_choices, .help = "http: how the question is posted"},
	{},
};

static const struct schema_row failures_rows[] = {
	{"delay", SCHEMA_TIME, FIELD(config_auth, failures.delay_us), RANGE(0, SECONDS(60)),
	 .preset = "1s", .reloadable = true, .help = "wait before a failed AUTH is answered"},
	{"per_address", SCHEMA_RATE, FIELD(config_auth, failures.per_address), RANGE(1, 1000000),
	 .preset = "10/m", .reloadable = true,
	 .help = "failed passwords judged for one address (IPv6: /64); off: no limit"},
	{"per_user", SCHEMA_RATE, FIELD(config_auth, failures.per_user), RANGE(1, 1000000),
	 .preset = "20/m", .reloadable = true,
	 .help = "failed passwords judged for one user; off: no limit"},
	{},
};

static const struct schema_row oauth_rows[] = {
	{"jwks", SCHEMA_PATH, FIELD(config_auth, oauth.jwks),
	 .help = "JSON Web Key Set with the issuer's public keys; read again when it changes"},
	{"issuer", SCHEMA_TEXT, FIELD(config_auth, oauth.issuer),
	 .help = "what the claim iss must say"},
	{"audience", SCHEMA_TEXT, FIELD(config_auth, oauth.audience),
	 .help = "what the claim aud must say or contain"},
	{"user_claim", SCHEMA_TEXT, FIELD(config_auth, oauth.user_claim), .preset = "email",
	 .help = "the claim that names the user"},
	{"clock_skew", SCHEMA_TIME, FIELD(config_auth, oauth.clock_skew_us), RANGE(0, SECONDS(600)),
	 .preset = "60s", .help = "how far the issuer's clock may be off"},
	{},
};

const struct schema_row schema_auth_rows[] = {
	{"mechanisms", SCHEMA_CHOICES, FIELD(config_auth, mechanisms), .max_items = 8,
	 .min_items = 1, .preset = "PLAIN, LOGIN, SCRAM-SHA-256", .choices = mechanism_choices,
	 .reloadable = true,
	 .help = "SASL mechanisms offered, under TLS only; SCRAM-SHA-256-PLUS by choice: clients "
		 "with Cyrus SASL (mutt) pick it and cannot do it"},
	{"oauth", SCHEMA_MAP, .rows = oauth_rows, .help = "bearer tokens: OAUTHBEARER and XOAUTH2"},
	{"external", SCHEMA_CHOICES, FIELD(config_auth, external), .max_items = 3, .min_items = 1,
	 .preset = "email", .choices = external_choices, .reloadable = true,
	 .help = "what of a verified client certificate names the user of AUTH EXTERNAL"},
	{"threads", SCHEMA_NUMBER, FIELD(config_auth, threads), RANGE(1, 64), .preset = "1",
	 .help = "password hashing threads"},
	{"users", SCHEMA_PATH, FIELD(config_auth, users), .preset = "/etc/postern/users",
	 .help = "the users file, managed with posternctl user"},
	{"backends", SCHEMA_MAP, LIST(config_auth, backend, backend_count), .rows = backend_rows,
	 .reloadable = true,
	 .help = "who judges passwords, in the order asked; default: the users file alone"},
	{"failures", SCHEMA_MAP, .rows = failures_rows, .help = "brakes on password guessing"},
	{},
};
