/* dovecot_line.c - what Dovecot's auth socket says, line by line */
#include "smtp/auth/dovecot.h"
#include "smtp/auth/identity.h"

#include <string.h>

/* \001 and the octet behind it, or -1. */
static int unescaped(char c)
{
	switch (c) {
	case '0':
		return '\0';
	case '1':
		return '\001';
	case 't':
		return '\t';
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	default:
		return -1;
	}
}

/* One field in its own place; false: an escape that is none. */
static bool unescape(char *text, size_t *bytes)
{
	size_t to = 0;

	for (size_t i = 0; i < *bytes; i++) {
		int c = (unsigned char)text[i];
		if (c == '\001')
			c = ++i < *bytes ? unescaped(text[i]) : -1;
		if (c < 0)
			return false;
		text[to++] = (char)c;
	}
	text[to] = '\0';
	*bytes = to;
	return true;
}

bool dovecot_split(char *line, size_t n, struct dovecot_line *out)
{
	char *at = line, *end = line + n;

	out->n = 0;
	for (;;) {
		char *tab = memchr(at, '\t', (size_t)(end - at));
		char *stop = tab != NULL ? tab : end;
		if (out->n == DOVECOT_FIELDS)
			return false;
		out->field[out->n].text = at;
		out->field[out->n].bytes = (size_t)(stop - at);
		if (!unescape(at, &out->field[out->n].bytes))
			return false;
		out->n++;
		if (tab == NULL)
			return true;
		at = tab + 1;
	}
}

static bool is(const struct dovecot_line *l, unsigned i, const char *text)
{
	return i < l->n && l->field[i].bytes == strlen(text) &&
	       memcmp(l->field[i].text, text, l->field[i].bytes) == 0;
}

enum dovecot_greeting dovecot_greet(struct dovecot_hello *h, const struct dovecot_line *l)
{
	if (is(l, 0, "VERSION")) {
		h->version = is(l, 1, "1");
		return h->version ? DOVECOT_MORE : DOVECOT_BAD;
	}
	if (is(l, 0, "MECH"))
		h->plain |= is(l, 1, "PLAIN");
	if (is(l, 0, "DONE"))
		return h->version && h->plain ? DOVECOT_READY : DOVECOT_BAD;
	return DOVECOT_MORE;
}

/* The value of NAME=VALUE; NULL: another field. */
static const char *value_of(const struct dovecot_line *l, unsigned i, const char *name,
			    size_t *bytes)
{
	size_t n = strlen(name);

	if (n == 0 || l->field[i].bytes <= n || memcmp(l->field[i].text, name, n) != 0 ||
	    l->field[i].text[n] != '=')
		return NULL;
	*bytes = l->field[i].bytes - n - 1;
	return l->field[i].text + n + 1;
}

/* A right password that opens nothing here; of one that a proxy passes on nobody has looked at the
 * password yet. */
static bool barred(const struct dovecot_line *l)
{
	static const char *const words[] = {"nologin", "proxy", "proxy_maybe", "nopassword"};

	for (unsigned i = 2; i < l->n; i++) {
		size_t n = strcspn(l->field[i].text, "=");
		for (unsigned k = 0; k < sizeof(words) / sizeof(words[0]); k++) {
			if (strlen(words[k]) == n && memcmp(l->field[i].text, words[k], n) == 0)
				return true;
		}
	}
	return false;
}

static enum backend_answer accepted(const struct dovecot_line *l, const struct auth_backend *b,
				    struct identity_draft *d)
{
	const char *v;
	size_t n;

	if (barred(l))
		return BACKEND_WRONG;
	for (unsigned i = 2; i < l->n; i++) {
		bool good = true;
		if ((v = value_of(l, i, "user", &n)) != NULL)
			good = identity_set_user(d, v, n);
		else if ((v = value_of(l, i, b->tenant_field, &n)) != NULL)
			good = n == 0 || identity_set_tenant(d, v, n);
		else if ((v = value_of(l, i, b->addresses_field, &n)) != NULL)
			good = n == 0 || identity_add_addresses(d, v, n);
		if (!good)
			return BACKEND_MALFORMED;
	}
	return BACKEND_RIGHT;
}

/* Without a word of why, the user may be unknown as well. */
static enum backend_answer refused(const struct dovecot_line *l)
{
	enum backend_answer a = BACKEND_UNKNOWN;

	for (unsigned i = 2; i < l->n; i++) {
		if (is(l, i, "temp") || is(l, i, "code=temp_fail"))
			return BACKEND_OUTAGE;
		if (is(l, i, "user_disabled") || is(l, i, "pass_expired") || is(l, i, "authz") ||
		    is(l, i, "code=user_disabled") || is(l, i, "code=pass_expired"))
			a = BACKEND_WRONG;
	}
	return a;
}

bool dovecot_answer(const struct dovecot_line *l, const char *id, const struct auth_backend *b,
		    struct identity_draft *d, enum backend_answer *answer)
{
	if (!is(l, 1, id))
		return false;
	if (is(l, 0, "OK"))
		*answer = accepted(l, b, d);
	else if (is(l, 0, "FAIL"))
		*answer = refused(l);
	else if (is(l, 0, "CONT"))
		*answer = BACKEND_MALFORMED; /* PLAIN has no second step */
	else
		return false;
	return true;
}
