/* parse.c - grammar of RFC 5321 section 4.1.2, read octet by octet */
#include "smtp/parse.h"

#include <string.h>
#include <strings.h>

enum { LOCAL_MAX = 64, DOMAIN_MAX = 255, PATH_MAX_OCTETS = 254, SIZE_DIGITS = 20 };

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
		[PATH_NOT_ASCII] = "non-ASCII octets",
	};

	return texts[f];
}

static bool alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool atext(char c)
{
	return c != '\0' && (alnum(c) || strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
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
		if (n >= t.n || t.at[n] < 0x20 || t.at[n] > 0x7e)
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
		} else if (!alnum(t.at[n]) && t.at[n] != '_') {
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
	for (size_t i = 0; i < t.n; i++) {
		if ((unsigned char)t.at[i] >= 0x80)
			return PATH_NOT_ASCII;
	}
	t.at++;
	t.n--;
	if (!find_close(t, &close))
		return PATH_SYNTAX;
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

static enum parameter_fault parse_size(struct text v, struct mail_parameters *m)
{
	if (v.n == 0 || v.n > SIZE_DIGITS)
		return PARAMETER_SYNTAX;
	m->size = 0;
	for (size_t i = 0; i < v.n; i++) {
		if (v.at[i] < '0' || v.at[i] > '9')
			return PARAMETER_SYNTAX;
		/* saturates: 20 digits pass UINT64_MAX */
		if (__builtin_mul_overflow(m->size, 10u, &m->size) ||
		    __builtin_add_overflow(m->size, (unsigned)(v.at[i] - '0'), &m->size))
			m->size = UINT64_MAX / 16;
	}
	return PARAMETER_OK;
}

static enum parameter_fault parse_body(struct text v, struct mail_parameters *m)
{
	m->body_8bit = text_is(v, "8BITMIME");
	return m->body_8bit || text_is(v, "7BIT") ? PARAMETER_OK : PARAMETER_SYNTAX;
}

/* AUTH= (RFC 4954 section 5): checked as xtext, not trusted, not passed on. */
static enum parameter_fault parse_auth(struct text v, struct mail_parameters *m)
{
	for (size_t i = 0; i < v.n; i++) {
		if (v.at[i] < 0x21 || v.at[i] > 0x7e || v.at[i] == '=')
			return PARAMETER_SYNTAX;
	}
	return v.n > 0 ? PARAMETER_OK : PARAMETER_SYNTAX;
}

enum parameter_fault parse_mail_parameters(struct text rest, struct mail_parameters *m)
{
	static const struct {
		const char *keyword;
		enum parameter_fault (*parse)(struct text v, struct mail_parameters *m);
	} rows[] = {{"SIZE", parse_size}, {"BODY", parse_body}, {"AUTH", parse_auth}};
	unsigned seen = 0;

	*m = (struct mail_parameters){0};
	while (rest.n > 0) {
		struct text word = text_word(&rest), value = {word.at + word.n, 0};
		const char *equals = memchr(word.at, '=', word.n);
		size_t i = 0;

		if (equals != NULL) {
			value = (struct text){equals + 1, (size_t)(word.at + word.n - equals - 1)};
			word.n = (size_t)(equals - word.at);
		}
		while (i < 3 && !text_is(word, rows[i].keyword))
			i++;
		if (i == 3)
			return PARAMETER_UNKNOWN;
		if (seen & 1u << i || rows[i].parse(value, m) != PARAMETER_OK)
			return PARAMETER_SYNTAX;
		seen |= 1u << i;
	}
	return PARAMETER_OK;
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
