/* parse.c - grammar of RFC 5321 section 4.1.2, read octet by octet */
#include "smtp/parse.h"

#include "base/utf8.h"

#include <string.h>
#include <strings.h>

enum { LOCAL_MAX = 64, DOMAIN_MAX = 255, PATH_MAX_OCTETS = 254 };

bool text_is(struct text t, const char *literal)
{
	return t.n == strlen(literal) && strncasecmp(t.at, literal, t.n) == 0;
}

struct text text_word(struct text *rest)
{
	struct text word = {rest->at, 0};

	while (word.n < rest->n && rest->at[word.n] != ' ')
		word.n++;
	rest->at += word.n;
	rest->n -= word.n;
	while (rest->n > 0 && *rest->at == ' ') {
		rest->at++;
		rest->n--;
	}
	return word;
}

const char *path_fault_text(enum path_fault f)
{
	static const char *const texts[] = {
		[PATH_OK] = "ok",
		[PATH_SYNTAX] = "<local-part@domain> expected",
		[PATH_TOO_LONG] = "local part over 64, domain over 255 or path over 256 octets",
		[PATH_NO_DOMAIN] = "a fully qualified domain is needed",
		[PATH_NOT_UTF8] = "octets that are not UTF-8",
	};

	return texts[f];
}

static bool alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool atext(char c)
{
	return c != '\0' &&
	       ((unsigned char)c >= 0x80 || alnum(c) || strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* Length of a dot-string at the front, 0 if none. */
static size_t dot_string(struct text t)
{
	size_t n = 0;

	while (n < t.n && (atext(t.at[n]) || (t.at[n] == '.' && n > 0 && t.at[n - 1] != '.')))
		n++;
	return n > 0 && t.at[n - 1] == '.' ? 0 : n;
}

/* Length of a quoted-string at the front with its quotes, 0 if it does not close. */
static size_t quoted_string(struct text t)
{
	for (size_t n = 1; n < t.n; n++) {
		if (t.at[n] == '"')
			return n + 1;
		if (t.at[n] == '\\')
			n++;
		if (n >= t.n || (unsigned char)t.at[n] < 0x20 || t.at[n] == 0x7f)
			return 0;
	}
	return 0;
}

/* Length of an address literal at the front with its brackets; 0 if none. */
static size_t address_literal(struct text t)
{
	for (size_t n = 1; n < t.n; n++) {
		if (t.at[n] == ']')
			return n > 1 ? n + 1 : 0;
		if (!alnum(t.at[n]) && t.at[n] != '.' && t.at[n] != ':' && t.at[n] != '-')
			return 0;
	}
	return 0;
}

/* Length of a domain or address literal at the front, 0 if none. */
static size_t domain_length(struct text t)
{
	size_t n = 0;

	if (t.n > 0 && t.at[0] == '[')
		return address_literal(t);
	while (n < t.n) {
		char before = n > 0 ? t.at[n - 1] : '.';
		if (t.at[n] == '.' || t.at[n] == '-') {
			if (before == '.' || (t.at[n] == '.' && before == '-'))
				return 0;
		} else if (!alnum(t.at[n]) && t.at[n] != '_' && (unsigned char)t.at[n] < 0x80) {
			break;
		}
		n++;
	}
	return n > 0 && (t.at[n - 1] == '.' || t.at[n - 1] == '-') ? 0 : n;
}

/* "@a,@b:" in front of a mailbox is accepted and ignored (RFC 5321 appendix C). */
static bool skip_source_route(struct text *t)
{
	if (t->n == 0 || t->at[0] != '@')
		return true;
	const char *colon = memchr(t->at, ':', t->n);
	if (colon == NULL)
		return false;
	for (const char *c = t->at; c < colon; c++) {
		if (!alnum(*c) && *c != '@' && *c != ',' && *c != '.' && *c != '-')
			return false;
	}
	t->n -= (size_t)(colon + 1 - t->at);
	t->at = colon + 1;
	return true;
}

static enum path_fault parse_mailbox(struct text t, struct path *p)
{
	size_t local = t.n > 0 && t.at[0] == '"' ? quoted_string(t) : dot_string(t);

	p->mailbox = t;
	if (local == 0)
		return PATH_SYNTAX;
	if (local == t.n)
		return text_is(t, "postmaster") ? PATH_OK : PATH_NO_DOMAIN;
	if (t.at[local] != '@')
		return PATH_SYNTAX;
	p->domain = (struct text){t.at + local + 1, t.n - local - 1};
	if (domain_length(p->domain) != p->domain.n)
		return PATH_SYNTAX;
	if (local > LOCAL_MAX || p->domain.n > DOMAIN_MAX || t.n > PATH_MAX_OCTETS)
		return PATH_TOO_LONG;
	return p->domain.n == 0 ? PATH_SYNTAX : PATH_OK;
}

static bool utf8_valid(struct text t, bool *beyond_ascii)
{
	*beyond_ascii = false;
	for (size_t i = 0; i < t.n;) {
		size_t n = utf8_sequence((const uint8_t *)t.at + i, t.n - i);
		if (n == 0)
			return false;
		*beyond_ascii |= n > 1;
		i += n;
	}
	return true;
}

/* Offset of the '>' that closes the path: one inside a quoted string does not. */
static bool find_close(struct text t, size_t *close)
{
	bool quoted = false;

	for (size_t i = 0; i < t.n; i++) {
		if (quoted && t.at[i] == '\\')
			i++;
		else if (t.at[i] == '"')
			quoted = !quoted;
		else if (t.at[i] == '>' && !quoted) {
			*close = i;
			return true;
		}
	}
	return false;
}

enum path_fault parse_path(struct text *rest, const char *keyword, bool null_allowed,
			   struct path *p)
{
	size_t k = strlen(keyword), close;

	*p = (struct path){0};
	if (rest->n < k || strncasecmp(rest->at, keyword, k) != 0)
		return PATH_SYNTAX;
	struct text t = {rest->at + k, rest->n - k};
	while (t.n > 0 && *t.at == ' ') {
		t.at++;
		t.n--;
	}
	if (t.n == 0 || *t.at != '<')
		return PATH_SYNTAX;
	t.at++;
	t.n--;
	if (!find_close(t, &close))
		return PATH_SYNTAX;
	if (!utf8_valid((struct text){t.at, close}, &p->utf8))
		return PATH_NOT_UTF8;
	*rest = (struct text){t.at + close + 1, t.n - close - 1};
	if (rest->n > 0 && *rest->at != ' ')
		return PATH_SYNTAX;
	while (rest->n > 0 && *rest->at == ' ') {
		rest->at++;
		rest->n--;
	}
	struct text mailbox = {t.at, close};
	if (mailbox.n == 0) {
		p->mailbox = mailbox;
		return null_allowed ? PATH_OK : PATH_SYNTAX;
	}
	if (!skip_source_route(&mailbox))
		return PATH_SYNTAX;
	return parse_mailbox(mailbox, p);
}

bool parse_ehlo_name(struct text t)
{
	if (t.n == 0 || t.n > DOMAIN_MAX)
		return false;
	for (size_t i = 0; i < t.n; i++) {
		if (!alnum(t.at[i]) && (t.at[i] == '\0' || strchr(".-_:[]", t.at[i]) == NULL))
			return false;
	}
	return true;
}
