/* mailbox.c - a scanner of address lists that never guesses */
#include "smtp/mailbox.h"

#include <string.h>
#include <strings.h>

static void advance(struct text *t, size_t n)
{
	t->at += n;
	t->n -= n;
}

/* Octets of the quoted string or comment that begins at t; 0: it does not close. */
static size_t enclosed(struct text t)
{
	char close = t.at[0] == '"' ? '"' : ')';
	unsigned depth = 1;

	for (size_t i = 1; i < t.n; i++) {
		if (t.at[i] == '\\')
			i++;
		else if (t.at[i] == close && --depth == 0)
			return i + 1;
		else if (t.at[i] == '(' && close == ')')
			depth++;
	}
	return 0;
}

/* White space and comments; false: a comment does not close. */
static bool skip_space(struct text *t)
{
	while (t->n > 0 && (*t->at == ' ' || *t->at == '\t' || *t->at == '(')) {
		size_t n = *t->at == '(' ? enclosed(*t) : 1;
		if (n == 0)
			return false;
		advance(t, n);
	}
	return true;
}

/* A run of atoms, dots and quoted strings up to a special; 0: malformed. */
static size_t word(struct text t)
{
	size_t n = 0;

	while (n < t.n && strchr(" \t(),:;<>\\[]", t.at[n]) == NULL) {
		size_t quoted = t.at[n] == '"' ? enclosed((struct text){t.at + n, t.n - n}) : 1;
		if (quoted == 0)
			return 0;
		n += quoted;
	}
	/* a literal may end an address: a@[192.0.2.1] */
	if (n > 0 && n < t.n && t.at[n] == '[' && t.at[n - 1] == '@') {
		const char *end = memchr(t.at + n, ']', t.n - n);
		return end != NULL ? (size_t)(end - t.at) + 1 : 0;
	}
	return n;
}

/* <address>, nothing but white space and comments around it. */
static bool angled(struct text *t, struct text *address)
{
	advance(t, 1);
	if (!skip_space(t))
		return false;
	address->at = t->at;
	address->n = word(*t);
	advance(t, address->n);
	if (address->n == 0 || !skip_space(t) || t->n == 0 || *t->at != '>')
		return false;
	advance(t, 1);
	return skip_space(t);
}

/* Behind an address: the end, or what separates it from the next. */
static bool separated(struct text *t)
{
	if (t->n == 0)
		return true;
	if (*t->at != ',' && *t->at != ';')
		return false;
	advance(t, 1);
	return true;
}

enum mailbox mailbox_next(struct text *rest, struct text *address)
{
	struct text last = {NULL, 0};
	unsigned words = 0;

	for (;;) {
		if (!skip_space(rest))
			return MAILBOX_BAD;
		if (rest->n == 0 && words == 0)
			return MAILBOX_END;
		char c = rest->n > 0 ? *rest->at : ',';
		if (c == '<') {
			if (!angled(rest, address) || !separated(rest))
				return MAILBOX_BAD;
			break;
		}
		if (c == ':' && words > 0) { /* what came before names a group */
			advance(rest, 1);
			words = 0;
		} else if ((c == ',' || c == ';') && words == 0) {
			advance(rest, 1); /* an empty member (RFC 5322 section 4.4) */
		} else if (c == ',' || c == ';') {
			*address = last;
			if (words != 1 || !separated(rest))
				return MAILBOX_BAD;
			break;
		} else {
			last.at = rest->at;
			last.n = word(*rest);
			words++;
			if (last.n == 0)
				return MAILBOX_BAD;
			advance(rest, last.n);
		}
	}
	return memchr(address->at, '@', address->n) != NULL ? MAILBOX_FOUND : MAILBOX_BAD;
}

static bool same_address(struct text a, struct text b)
{
	const char *at = memrchr(a.at, '@', a.n);
	size_t local = at != NULL ? (size_t)(at - a.at) : a.n;

	return a.n == b.n && memcmp(a.at, b.at, local) == 0 &&
	       strncasecmp(a.at + local, b.at + local, a.n - local) == 0;
}

bool mailbox_in_list(struct text address, struct text list)
{
	const char *at = address.n > 0 ? memrchr(address.at, '@', address.n) : NULL;

	if (at == NULL)
		return false;
	struct text domain = {at, (size_t)(address.at + address.n - at)};
	while (list.n > 0) {
		const char *comma = memchr(list.at, ',', list.n);
		struct text one = {list.at, comma != NULL ? (size_t)(comma - list.at) : list.n};
		advance(&list, one.n + (comma != NULL));
		if (one.n > 0 && same_address(one.at[0] == '@' ? domain : address, one))
			return true;
	}
	return false;
}
