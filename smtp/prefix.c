/* prefix.c - header fields that go in front of what the client sent (RFC 6409 section 8,
 * RFC 5321 section 4.4, RFC 3848, RFC 8314 section 4.3) */
#include "base/date.h"
#include "smtp/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct writer {
	char *at;
	size_t room, n;
	bool full;
};

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(w->at + w->n, w->room - w->n, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= w->room - w->n)
		w->full = true;
	else
		w->n += (size_t)n;
}

static void put_date(struct writer *w, int64_t unix_s)
{
	char text[DATE_TEXT_BYTES];

	put(w, "%s", date_text(unix_s, text));
}

/* RFC 3848, RFC 6531 section 3.7.3 */
static const char *protocol(const struct transaction *tx)
{
	static const char *const names[2][2][2] = {
		{{"ESMTP", "ESMTPA"}, {"ESMTPS", "ESMTPSA"}},
		{{"UTF8SMTP", "UTF8SMTPA"}, {"UTF8SMTPS", "UTF8SMTPSA"}},
	};
	const struct smtp_session *s = tx->session;

	if (!s->extended)
		return "SMTP";
	return names[tx->parameters.smtputf8][conn_is_secure(&s->conn)][s->authenticated];
}

/* Hidden: the field stays, because its absence looks like spam software, but says nothing. */
static void put_client(struct writer *w, const struct smtp_session *s)
{
	char addr[ADDR_TEXT_BYTES];

	if (s->listener->hide_client)
		put(w, "Received: from hidden.invalid\r\n");
	else
		put(w, "Received: from %s ([%s%s])\r\n", s->helo,
		    s->peer.family == 6 ? "IPv6:" : "", addr_text(&s->peer, addr));
}

static void put_received(struct writer *w, const struct transaction *tx)
{
	const struct smtp_session *s = tx->session;
	char id[SPOOL_ID_TEXT], tls[128];
	size_t cursor = 0;
	struct envelope_recipient to;

	put_client(w, s);
	put(w, "\tby %s with %s id %s", s->worker->config->hostname, protocol(tx),
	    spool_id_text(tx->id, id));
	/* several recipients in a for clause would tell one about the other (RFC 5321 7.2) */
	if (tx->recipients == 1 &&
	    envelope_next_recipient(tx->envelope->data, tx->envelope_bytes, &cursor, &to))
		put(w, "\r\n\tfor <%.*s>", (int)to.path.bytes, to.path.at);
	conn_tls_clause(&s->conn, tls, sizeof(tls));
	if (tls[0] != '\0')
		put(w, "\r\n\t%s", tls);
	put(w, ";\r\n\t");
	put_date(w, tx->accepted_at_s);
	put(w, "\r\n");
}

/* The address that stands for the user; false: there is none that a header can hold. */
static bool user_address(const struct transaction *tx, char *out, size_t room)
{
	const struct smtp_session *s = tx->session;
	const struct smtp_config *c = s->worker->config;
	char path[SMTP_HOSTNAME + AUTH_USER_BYTES + 16];
	struct path p;

	if (strchr(s->user, '@') != NULL)
		snprintf(out, room, "%s", s->user);
	else
		snprintf(out, room, "%s@%s", s->user,
			 c->qualify[0] != '\0' ? c->qualify : c->hostname);
	int n = snprintf(path, sizeof(path), "FROM:<%s>", out);
	struct text t = {path, (size_t)n};
	return parse_path(&t, "FROM:", false, &p) == PATH_OK && t.n == 0 &&
	       (!p.utf8 || tx->parameters.smtputf8);
}

/* RFC 6409 section 8.1: who has sent it, when its author is somebody else. */
static bool sender_needed(const struct transaction *tx, char *address, size_t room)
{
	const struct header *h = &tx->content.header;
	struct text offender;

	return tx->worker->config->add_sender && h->count[HEADER_FROM] > 0 &&
	       h->count[HEADER_SENDER] == 0 && !authors_are_own(tx, &offender) &&
	       user_address(tx, address, room);
}

/* RFC 6758: a field carries the priority through hops that do not know the parameter. */
static bool priority_told(const struct transaction *tx)
{
	return tx->parameters.priority != 0 && tx->content.header.count[HEADER_MT_PRIORITY] == 0;
}

size_t prefix_build(const struct transaction *tx, char *out, size_t room)
{
	struct writer w = {.at = out, .room = room};
	struct smtp_worker *worker = tx->worker;
	char id[SPOOL_ID_TEXT], sender[SMTP_HOSTNAME + AUTH_USER_BYTES];

	put_received(&w, tx);
	if (tx->content.header.count[HEADER_DATE] == 0) {
		put(&w, "Date: ");
		put_date(&w, tx->accepted_at_s);
		put(&w, "\r\n");
	}
	if (tx->content.header.count[HEADER_MESSAGE_ID] == 0)
		put(&w, "Message-ID: <%s.%08x@%s>\r\n", spool_id_text(tx->id, id),
		    (unsigned)shard_random(worker->shard), worker->config->hostname);
	if (sender_needed(tx, sender, sizeof(sender)))
		put(&w, "Sender: <%s>\r\n", sender);
	if (priority_told(tx))
		put(&w, "MT-Priority: %d\r\n", tx->parameters.priority);
	/* text that begins without a header is all body */
	if (tx->content.header.absent)
		put(&w, "\r\n");
	return w.full ? 0 : w.n;
}

const char *prefix_changes(const struct transaction *tx, char *out, size_t room)
{
	const struct content *c = &tx->content;
	char sender[SMTP_HOSTNAME + AUTH_USER_BYTES];
	const struct {
		bool done;
		const char *what;
	} changes[] = {
		{c->header.count[HEADER_DATE] == 0, "Date added"},
		{c->header.count[HEADER_MESSAGE_ID] == 0, "Message-ID added"},
		{sender_needed(tx, sender, sizeof(sender)), "Sender added"},
		{priority_told(tx), "MT-Priority added"},
		{c->header.bcc_removed, "Bcc removed"},
		{c->lone_lf && c->rules.normalize, "lone LF repaired"},
	};
	struct writer w = {.at = out, .room = room};

	out[0] = '\0';
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		if (changes[i].done)
			put(&w, ", %s", changes[i].what);
	}
	return out;
}
