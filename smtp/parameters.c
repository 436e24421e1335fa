/* parameters.c - the table of MAIL and RCPT parameters and their values */
#include "smtp/parameters.h"

#include "base/utf8.h"
#include "base/xtext.h"

#include <string.h>
#include <time.h>

enum {
	SIZE_DIGITS = 20,
	SECONDS_DIGITS = 9,
	ENVID_MAX = 100, /* RFC 3461 */
	ORCPT_MAX = 500, /* RFC 3461 */
	PRIORITY_MAX = 9,
};

/* Everything a handler may need or fill; one of mail and rcpt is NULL. */
struct reading {
	const struct parameter_rules *rules;
	struct mail_parameters *mail;
	struct rcpt_parameters *rcpt;
	bool utf8;
	int64_t by_in_s; /* BY's time, until the moment that it counts from is known */
};

const char *parameter_fault_text(enum parameter_fault f)
{
	static const char *const texts[] = {
		[PARAMETER_OK] = "ok",
		[PARAMETER_UNKNOWN] = "is not recognized or not offered",
		[PARAMETER_SYNTAX] = "is malformed",
		[PARAMETER_TWICE] = "is given twice",
		[PARAMETER_CONFLICT] = "contradicts another parameter",
		[PARAMETER_BEYOND] = "is beyond what EHLO offers",
		[PARAMETER_NOT_UTF8] = "is not UTF-8",
	};

	return texts[f];
}

/* 1 to most digits; a number beyond 64 bits is huge, not small. */
static bool read_number(struct text v, size_t most, uint64_t *out)
{
	uint64_t n = 0;

	if (v.n == 0 || v.n > most)
		return false;
	for (size_t i = 0; i < v.n; i++) {
		if (v.at[i] < '0' || v.at[i] > '9')
			return false;
		if (__builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (unsigned)(v.at[i] - '0'), &n))
			n = UINT64_MAX / 16;
	}
	*out = n;
	return true;
}

static enum parameter_fault read_size(struct text v, struct reading *r)
{
	return read_number(v, SIZE_DIGITS, &r->mail->size) ? PARAMETER_OK : PARAMETER_SYNTAX;
}

static enum parameter_fault read_body(struct text v, struct reading *r)
{
	static const struct {
		const char *value;
		uint32_t needs;
	} bodies[] = {
		[ENVELOPE_7BIT] = {"7BIT", 0},
		[ENVELOPE_8BIT] = {"8BITMIME", 0},
		[ENVELOPE_BINARY] = {"BINARYMIME", SMTP_EXT_BIT(BINARYMIME)},
	};

	for (unsigned i = 0; i <= ENVELOPE_BINARY; i++) {
		if (!text_is(v, bodies[i].value))
			continue;
		r->mail->body = (enum envelope_body)i;
		return (bodies[i].needs & ~r->rules->offered) == 0 ? PARAMETER_OK
								   : PARAMETER_UNKNOWN;
	}
	return PARAMETER_SYNTAX;
}

/* AUTH= (RFC 4954 section 5): checked as xtext, not trusted, not passed on. */
static enum parameter_fault read_auth(struct text v, struct reading *r)
{
	return xtext_is_printable(v.at, v.n) ? PARAMETER_OK : PARAMETER_SYNTAX;
}

static enum parameter_fault read_ret(struct text v, struct reading *r)
{
	bool full = text_is(v, "FULL");

	r->mail->ret = full ? ENVELOPE_RET_FULL : ENVELOPE_RET_HDRS;
	return full || text_is(v, "HDRS") ? PARAMETER_OK : PARAMETER_SYNTAX;
}

static enum parameter_fault read_envid(struct text v, struct reading *r)
{
	r->mail->envid = v;
	return v.n <= ENVID_MAX && xtext_is_printable(v.at, v.n) ? PARAMETER_OK : PARAMETER_SYNTAX;
}

static enum parameter_fault read_smtputf8(struct text v, struct reading *r)
{
	r->mail->smtputf8 = true;
	return PARAMETER_OK;
}

static enum parameter_fault read_requiretls(struct text v, struct reading *r)
{
	r->mail->require_tls = true;
	return PARAMETER_OK;
}

static enum parameter_fault read_priority(struct text v, struct reading *r)
{
	bool negative = v.at[0] == '-';
	uint64_t n;

	if (negative) {
		v.at++;
		v.n--;
	}
	if (!read_number(v, 1, &n) || n > PRIORITY_MAX || (negative && n == 0))
		return PARAMETER_SYNTAX;
	r->mail->priority = (int8_t)(negative ? -(int)n : (int)n);
	r->mail->has_priority = true;
	return PARAMETER_OK;
}

static enum parameter_fault hold_until(struct reading *r, int64_t until_s)
{
	if (r->mail->hold_until_s != 0)
		return PARAMETER_CONFLICT;
	if (until_s - r->rules->now_s > (int64_t)r->rules->max_hold_s)
		return PARAMETER_BEYOND;
	/* what is over already is no hold, but it was given */
	r->mail->hold_until_s = until_s > 0 ? until_s : 1;
	return PARAMETER_OK;
}

static enum parameter_fault read_holdfor(struct text v, struct reading *r)
{
	uint64_t seconds;

	if (!read_number(v, SECONDS_DIGITS, &seconds))
		return PARAMETER_SYNTAX;
	return hold_until(r, r->rules->now_s + (int64_t)seconds);
}

/* Exactly n digits off the front, then the octet behind (0: none). */
static bool take_digits(struct text *t, size_t n, char behind, int *out)
{
	uint64_t value;
	size_t all = n + (behind != '\0');

	if (t->n < all || !read_number((struct text){t->at, n}, n, &value) ||
	    (behind != '\0' && t->at[n] != behind))
		return false;
	*out = (int)value;
	t->at += all;
	t->n -= all;
	return true;
}

/* "Z", or +hh:mm, or -hh:mm */
static bool take_offset(struct text *t, int *seconds)
{
	int hours, minutes;

	*seconds = 0;
	if (t->n == 1 && (t->at[0] == 'Z' || t->at[0] == 'z'))
		return true;
	if (t->n != 6 || (t->at[0] != '+' && t->at[0] != '-'))
		return false;
	int sign = t->at[0] == '+' ? 1 : -1;
	t->at++;
	t->n--;
	if (!take_digits(t, 2, ':', &hours) || !take_digits(t, 2, '\0', &minutes) || hours > 23 ||
	    minutes > 59)
		return false;
	*seconds = sign * (hours * 3600 + minutes * 60);
	return true;
}

static int days_of_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

/* date-time of RFC 3339 section 5.6 */
static bool read_date_time(struct text t, int64_t *unix_s)
{
	int year, month, day, hour, minute, second, offset;
	char t_letter = t.n > 10 && t.at[10] == 't' ? 't' : 'T';

	if (!take_digits(&t, 4, '-', &year) || !take_digits(&t, 2, '-', &month) ||
	    !take_digits(&t, 2, t_letter, &day) || !take_digits(&t, 2, ':', &hour) ||
	    !take_digits(&t, 2, ':', &minute) || !take_digits(&t, 2, '\0', &second))
		return false;
	if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_of_month(year, month) ||
	    hour > 23 || minute > 59 || second > 60)
		return false;
	if (t.n > 1 && t.at[0] == '.') { /* a fraction is let pass */
		size_t n = 1;
		while (n < t.n && t.at[n] >= '0' && t.at[n] <= '9')
			n++;
		if (n == 1)
			return false;
		t.at += n;
		t.n -= n;
	}
	if (!take_offset(&t, &offset))
		return false;
	struct tm tm = {.tm_year = year - 1900,
			.tm_mon = month - 1,
			.tm_mday = day,
			.tm_hour = hour,
			.tm_min = minute,
			.tm_sec = second};
	*unix_s = timegm(&tm) - offset;
	return true;
}

static enum parameter_fault read_holduntil(struct text v, struct reading *r)
{
	int64_t until_s;

	return read_date_time(v, &until_s) ? hold_until(r, until_s) : PARAMETER_SYNTAX;
}

/* [+-] 1*9DIGIT ";" R or N, "T" or nothing (RFC 2852). */
static enum parameter_fault read_by(struct text v, struct reading *r)
{
	const char *semicolon = memchr(v.at, ';', v.n);
	bool negative = v.at[0] == '-';
	uint64_t seconds;

	if (semicolon == NULL)
		return PARAMETER_SYNTAX;
	struct text mode = {semicolon + 1, (size_t)(v.at + v.n - semicolon - 1)};
	struct text time = {v.at, (size_t)(semicolon - v.at)};
	if (negative || v.at[0] == '+') {
		time.at++;
		time.n--;
	}
	if (!read_number(time, SECONDS_DIGITS, &seconds) || mode.n < 1 || mode.n > 2)
		return PARAMETER_SYNTAX;
	r->mail->by_trace = mode.n == 2;
	if (mode.n == 2 && !text_is((struct text){mode.at + 1, 1}, "T"))
		return PARAMETER_SYNTAX;
	mode.n = 1;
	r->mail->by = text_is(mode, "R")   ? ENVELOPE_BY_RETURN
		      : text_is(mode, "N") ? ENVELOPE_BY_NOTIFY
					   : ENVELOPE_BY_NONE;
	r->by_in_s = negative ? -(int64_t)seconds : (int64_t)seconds;
	/* a deadline that is over cannot ask for a return */
	if (r->mail->by == ENVELOPE_BY_NONE ||
	    (r->mail->by == ENVELOPE_BY_RETURN && r->by_in_s <= 0))
		return PARAMETER_SYNTAX;
	return PARAMETER_OK;
}

/* NEVER alone, or a list of the others (RFC 3461 section 4.1). */
static enum parameter_fault read_notify(struct text v, struct reading *r)
{
	static const struct {
		const char *word;
		uint8_t bit;
	} words[] = {{"NEVER", ENVELOPE_NEVER},
		     {"SUCCESS", ENVELOPE_SUCCESS},
		     {"FAILURE", ENVELOPE_FAILURE},
		     {"DELAY", ENVELOPE_DELAY}};

	for (bool more = true; more;) {
		const char *comma = memchr(v.at, ',', v.n);
		struct text word = {v.at, comma != NULL ? (size_t)(comma - v.at) : v.n};
		size_t i = 0;
		while (i < 4 && !text_is(word, words[i].word))
			i++;
		if (i == 4 || (r->rcpt->notify & words[i].bit) != 0)
			return PARAMETER_SYNTAX;
		r->rcpt->notify |= words[i].bit;
		more = comma != NULL;
		if (more)
			v = (struct text){comma + 1, (size_t)(v.at + v.n - comma - 1)};
	}
	bool never = (r->rcpt->notify & ENVELOPE_NEVER) != 0;
	return never && r->rcpt->notify != ENVELOPE_NEVER ? PARAMETER_CONFLICT : PARAMETER_OK;
}

static bool utf8_valid(struct text t)
{
	for (size_t i = 0; i < t.n;) {
		size_t n = utf8_sequence((const uint8_t *)t.at + i, t.n - i);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

/* utf-8-addr-unitext (RFC 6533 section 3): UTF-8 as it is; in ASCII it is xtext. */
static bool orcpt_utf8(struct text t)
{
	for (size_t i = 0; i < t.n; i++) {
		unsigned char o = (unsigned char)t.at[i];
		if (o <= ' ' || o == 0x7f || o == '=')
			return false;
	}
	return utf8_valid(t);
}

/* The address is never looked into: whatever the sender's own system calls its recipient. */
static enum parameter_fault read_orcpt(struct text v, struct reading *r)
{
	const char *semicolon = memchr(v.at, ';', v.n);

	r->rcpt->orcpt = v;
	if (semicolon == NULL || semicolon == v.at || v.n > ORCPT_MAX)
		return PARAMETER_SYNTAX;
	struct text type = {v.at, (size_t)(semicolon - v.at)};
	struct text address = {semicolon + 1, v.n - type.n - 1};
	for (size_t i = 0; i < type.n; i++) {
		unsigned char o = (unsigned char)type.at[i];
		if (o <= ' ' || o >= 0x7f || strchr("()<>@,;:\\\".[]+=", o) != NULL)
			return PARAMETER_SYNTAX;
	}
	bool fine = xtext_is_printable(address.at, address.n) ||
		    (r->utf8 && text_is(type, "utf-8") && orcpt_utf8(address));
	return fine && address.n > 0 ? PARAMETER_OK : PARAMETER_SYNTAX;
}

enum { ON_MAIL = 1, ON_RCPT = 2, ALWAYS = 0 };

static const struct row {
	const char *keyword;
	uint8_t on;
	uint32_t offered_by; /* SMTP_EXT_BIT() or ALWAYS */
	bool has_value;
	enum parameter_fault (*read)(struct text v, struct reading *r);
} rows[] = {
	{"SIZE", ON_MAIL, ALWAYS, true, read_size},
	{"BODY", ON_MAIL, ALWAYS, true, read_body},
	{"AUTH", ON_MAIL, ALWAYS, true, read_auth},
	{"SMTPUTF8", ON_MAIL, SMTP_EXT_BIT(SMTPUTF8), false, read_smtputf8},
	{"RET", ON_MAIL, SMTP_EXT_BIT(DSN), true, read_ret},
	{"ENVID", ON_MAIL, SMTP_EXT_BIT(DSN), true, read_envid},
	{"REQUIRETLS", ON_MAIL, SMTP_EXT_BIT(REQUIRETLS), false, read_requiretls},
	{"MT-PRIORITY", ON_MAIL, SMTP_EXT_BIT(MT_PRIORITY), true, read_priority},
	{"HOLDFOR", ON_MAIL, SMTP_EXT_BIT(FUTURERELEASE), true, read_holdfor},
	{"HOLDUNTIL", ON_MAIL, SMTP_EXT_BIT(FUTURERELEASE), true, read_holduntil},
	{"BY", ON_MAIL, SMTP_EXT_BIT(DELIVERBY), true, read_by},
	{"NOTIFY", ON_RCPT, SMTP_EXT_BIT(DSN), true, read_notify},
	{"ORCPT", ON_RCPT, SMTP_EXT_BIT(DSN), true, read_orcpt},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static enum parameter_fault read_one(struct text word, struct text value, bool equals,
				     struct reading *r, uint32_t *seen, const char **keyword)
{
	for (unsigned i = 0; i < ROWS; i++) {
		const struct row *row = &rows[i];
		if (!text_is(word, row->keyword))
			continue;
		*keyword = row->keyword;
		if ((row->on & (r->mail != NULL ? ON_MAIL : ON_RCPT)) == 0 ||
		    (row->offered_by & ~r->rules->offered) != 0)
			return PARAMETER_UNKNOWN;
		if ((*seen & 1u << i) != 0)
			return PARAMETER_TWICE;
		*seen |= 1u << i;
		if (equals != row->has_value || (equals && value.n == 0))
			return PARAMETER_SYNTAX;
		return row->read(value, r);
	}
	return PARAMETER_UNKNOWN;
}

static enum parameter_fault read_all(struct text rest, struct reading *r, const char **keyword)
{
	uint32_t seen = 0;

	*keyword = "";
	for (size_t i = 0; i < rest.n; i++) {
		if ((unsigned char)rest.at[i] >= 0x80 && !utf8_valid(rest))
			return PARAMETER_NOT_UTF8;
	}
	while (rest.n > 0) {
		struct text word = text_word(&rest), value = {word.at + word.n, 0};
		const char *equals = memchr(word.at, '=', word.n);
		if (equals != NULL) {
			value = (struct text){equals + 1, (size_t)(word.at + word.n - equals - 1)};
			word.n = (size_t)(equals - word.at);
		}
		enum parameter_fault f = read_one(word, value, equals != NULL, r, &seen, keyword);
		if (f != PARAMETER_OK)
			return f;
	}
	return PARAMETER_OK;
}

enum parameter_fault parse_mail_parameters(struct text rest, const struct parameter_rules *rules,
					   struct mail_parameters *m, const char **keyword)
{
	struct reading r = {.rules = rules, .mail = m};

	*m = (struct mail_parameters){0};
	enum parameter_fault f = read_all(rest, &r, keyword);
	/* the deadline counts from the release (RFC 4865) */
	bool held = m->hold_until_s > rules->now_s;
	if (m->by != ENVELOPE_BY_NONE)
		m->by_at_s = (held ? m->hold_until_s : rules->now_s) + r.by_in_s;
	if (!held)
		m->hold_until_s = 0;
	return f;
}

enum parameter_fault parse_rcpt_parameters(struct text rest, const struct parameter_rules *rules,
					   bool utf8, struct rcpt_parameters *r,
					   const char **keyword)
{
	struct reading reading = {.rules = rules, .rcpt = r, .utf8 = utf8};

	*r = (struct rcpt_parameters){0};
	return read_all(rest, &reading, keyword);
}
