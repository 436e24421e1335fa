/* ehlo.c - HELO and EHLO: what the session offers at this moment */
#include "base/date.h"
#include "smtp/internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { EHLO_ROOM = 1000 };

uint32_t session_offers(const struct smtp_session *s)
{
	const struct smtp_config *c = s->worker->config;
	uint32_t offers = c->extensions;

	if (!s->extended)
		return 0;
	/* RFC 3030 section 3: only together */
	if ((offers & SMTP_EXT_BIT(CHUNKING)) == 0)
		offers &= ~SMTP_EXT_BIT(BINARYMIME);
	/* RFC 8689: only under TLS, and only where the promise can be kept */
	if (!conn_is_secure(&s->conn) || !c->require_tls_onward)
		offers &= ~SMTP_EXT_BIT(REQUIRETLS);
	if (c->max_hold_us == 0)
		offers &= ~SMTP_EXT_BIT(FUTURERELEASE);
	return offers;
}

static bool take_name(struct smtp_session *s, struct text arguments)
{
	struct text name = text_word(&arguments);

	if (!parse_ehlo_name(name) || arguments.n > 0) {
		session_error(s, REPLY_BAD_ARGUMENTS, "a domain or address literal is expected");
		return false;
	}
	memcpy(s->helo, name.at, name.n);
	s->helo[name.n] = '\0';
	s->greeted = true;
	session_reset_mail(s);
	return true;
}

void run_helo(struct smtp_session *s, struct text arguments)
{
	if (!take_name(s, arguments))
		return;
	s->extended = false;
	session_reply(s, REPLY_HELO, s->worker->config->hostname);
}

struct lines {
	char text[EHLO_ROOM];
	size_t n;
};

__attribute__((format(printf, 2, 3))) static void line(struct lines *l, const char *fmt, ...)
{
	va_list ap;

	l->n += (size_t)snprintf(l->text + l->n, sizeof(l->text) - l->n, "250-");
	va_start(ap, fmt);
	l->n += (size_t)vsnprintf(l->text + l->n, sizeof(l->text) - l->n, fmt, ap);
	va_end(ap);
	l->n += (size_t)snprintf(l->text + l->n, sizeof(l->text) - l->n, "\r\n");
	assert(l->n < sizeof(l->text)); /* every text in it has its bound */
}

/* RFC 4865: the longest hold, in seconds and as a time. */
static void future_release(struct lines *l, const struct smtp_worker *w)
{
	uint64_t most_s = w->config->max_hold_us / 1000000;
	time_t until = shard_wall_s(w->shard) + (int64_t)most_s;
	struct tm tm;

	gmtime_r(&until, &tm);
	line(l, "FUTURERELEASE %llu %04d-%02d-%02dT%02d:%02d:%02dZ", (unsigned long long)most_s,
	     (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
	     tm.tm_sec);
}

/* RFC 9422: never less than what is enforced. */
static void limits(struct lines *l, struct smtp_session *s)
{
	uint32_t most = session_max_messages(s);
	char mails[32] = "";

	if (most > 0)
		snprintf(mails, sizeof(mails), " MAILMAX=%u", most);
	line(l, "LIMITS RCPTMAX=%u%s", session_max_recipients(s), mails);
}

void run_ehlo(struct smtp_session *s, struct text arguments)
{
	static const char *const keywords[SMTP_EXT_COUNT] = {
#define KEYWORD(id, keyword) [SMTP_EXT_##id] = keyword,
		SMTP_EXTENSIONS(KEYWORD)};
	const struct smtp_config *c = s->worker->config;
	bool secure = conn_is_secure(&s->conn);
	struct lines l = {.n = 0};
	char mechanisms[128];

	if (!take_name(s, arguments))
		return;
	s->extended = true;
	uint32_t offers = session_offers(s);
	line(&l, "%s", c->hostname);
	line(&l, "PIPELINING");
	line(&l, "SIZE %llu", (unsigned long long)session_max_size(s));
	line(&l, "8BITMIME");
	if (!secure)
		line(&l, "STARTTLS");
	else if (!s->authenticated && sasl_list(s, mechanisms, sizeof(mechanisms)) > 0)
		line(&l, "AUTH%s", mechanisms);
	for (unsigned i = 0; i < SMTP_EXT_COUNT; i++) {
		if ((offers & 1u << i) == 0)
			continue;
		if (i == SMTP_EXT_FUTURERELEASE)
			future_release(&l, s->worker);
		else if (i == SMTP_EXT_LIMITS)
			limits(&l, s);
		else
			line(&l, "%s", keywords[i]);
	}
	l.n += (size_t)snprintf(l.text + l.n, sizeof(l.text) - l.n, "250 ENHANCEDSTATUSCODES\r\n");
	session_reply_raw(s, l.text, l.n);
}
