/* records.c - what is told of a session and a message, one line an event */
#include "base/record.h"
#include "smtp/internal.h"

#include <string.h>

static int64_t wall_us(const struct smtp_worker *w)
{
	return (int64_t)w->shard->now_us + w->shard->wall_offset_us;
}

/* Who it was and how he came; the secrets of a session are not among it. */
static void session_facts(struct record *r, const struct smtp_session *s)
{
	char addr[ADDR_TEXT_BYTES];
	struct conn_tls_facts t;

	record_string(r, "session", s->tag);
	record_string(r, "listener", s->listener->name);
	record_string(r, "peer", addr_text(&s->peer, addr));
	record_number(r, "peer_port", s->peer_port);
	record_number(r, "worker", s->worker->shard->index);
	record_string(r, "helo", s->helo);
	if (s->authenticated) {
		record_string(r, "user", s->user);
		record_string(r, "tenant", session_tenant(s));
		record_string(r, "mechanism", s->mechanism);
		record_number(r, "auth_us", s->auth_us);
	}
	record_number(r, "session_us", s->worker->shard->now_us - s->opened_us);
	/* a connection that is over tells no more */
	if (s->conn.stream != NULL)
		record_number(r, "retransmitted", stream_retransmitted(s->conn.stream));
	if (!conn_tls_facts(&s->conn, &t))
		return;
	record_string(r, "tls_version", t.protocol);
	record_string(r, "tls_cipher", t.cipher);
	record_string(r, "tls_group", t.group);
	record_string(r, "tls_name", t.server_name);
	record_bool(r, "tls_resumed", t.resumed);
	record_number(r, "handshake_us", s->handshake_us);
}

/* RET, ENVID, NOTIFY or ORCPT (RFC 3461). */
static bool uses_dsn(const struct transaction *tx, const struct envelope *e)
{
	struct envelope_recipient to;
	size_t cursor = 0;
	bool used = e->ret != ENVELOPE_RET_NONE || e->envid.bytes > 0;

	while (!used &&
	       envelope_next_recipient(tx->envelope->data, tx->envelope_bytes, &cursor, &to))
		used = to.notify != 0 || to.orcpt.bytes > 0;
	return used;
}

static void extensions(struct record *r, const struct transaction *tx, const struct envelope *e)
{
	const struct mail_parameters *m = &tx->parameters;
	const struct {
		const char *name;
		bool used;
	} all[] = {
		{"8BITMIME", m->body == ENVELOPE_8BIT},
		{"BINARYMIME", m->body == ENVELOPE_BINARY},
		{"CHUNKING", tx->chunked},
		{"SMTPUTF8", m->smtputf8},
		{"REQUIRETLS", m->require_tls},
		{"FUTURERELEASE", m->hold_until_s != 0},
		{"DELIVERBY", m->by_at_s != 0},
		{"SIZE", m->size != 0},
		{"DSN", uses_dsn(tx, e)},
		{"MT-PRIORITY", m->priority != 0},
	};

	record_list(r, "extensions");
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (all[i].used)
			record_item(r, all[i].name, strlen(all[i].name));
	}
	record_list_end(r);
}

void records_reception(const struct transaction *tx)
{
	struct smtp_worker *w = tx->worker;
	struct record *r = record_begin(w->env.records, "reception", wall_us(w));
	char id[SPOOL_ID_TEXT];
	struct envelope e = {0};
	struct envelope_recipient to;
	size_t cursor = 0;

	if (r == NULL)
		return;
	spool_id_text(tx->id, id);
	record_string(r, "id", id);
	/* the session may have gone while the spool had the message: the envelope knows its user */
	if (envelope_decode(tx->envelope->data, tx->envelope_bytes, &e) == 0) {
		record_text(r, "sender", e.reverse_path.at, e.reverse_path.bytes);
		if (tx->session == NULL)
			record_text(r, "user", e.user.at, e.user.bytes);
	}
	record_list(r, "recipients");
	while (envelope_next_recipient(tx->envelope->data, tx->envelope_bytes, &cursor, &to))
		record_item(r, to.path.at, to.path.bytes);
	record_list_end(r);
	record_number(r, "size", tx->body_bytes);
	extensions(r, tx, &e);
	record_number(r, "envelope_us", tx->data_us - tx->began_us);
	record_number(r, "data_us", tx->submitted_us - tx->data_us);
	record_number(r, "commit_us", w->shard->now_us - tx->submitted_us);
	record_bool(r, "answered", tx->session != NULL);
	if (tx->session != NULL)
		session_facts(r, tx->session);
	record_end(r);
}

/* The key of the limit that a reply is about, where the reply alone says it. */
static const char *limit_of(enum smtp_reply r)
{
	static const struct {
		enum smtp_reply reply;
		const char *limit;
	} rows[] = {
		{REPLY_TOO_BIG, "max_message_size"},
		{REPLY_TOO_MANY_RECIPIENTS, "max_recipients"},
		{REPLY_TOO_MANY_MESSAGES, "max_messages"},
		{REPLY_TOO_MANY_ERRORS, "errors"},
		{REPLY_TOO_MANY_LOGINS, "logins"},
		{REPLY_TOO_MANY_HANDSHAKES, "handshakes"},
		{REPLY_TIMEOUT, "time"},
		{REPLY_NO_SPACE, "space"},
		{REPLY_HEADER_TOO_BIG, "header"},
		{REPLY_LOOP, "received_fields"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].reply == r)
			return rows[i].limit;
	}
	return "";
}

void records_rejection(const struct smtp_session *s, enum smtp_reply reply, const char *line,
		       size_t n)
{
	const struct smtp_worker *w = s->worker;
	const struct smtp_reply_row *row = &smtp_reply_table[reply];
	struct record *r = record_begin(w->env.records, "rejection", wall_us(w));

	if (r == NULL)
		return;
	record_number(r, "code", (uint64_t)row->code);
	record_string(r, "enhanced", row->enhanced);
	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		n--;
	record_text(r, "reply", line, n);
	record_string(r, "limit", w->limit != NULL ? w->limit : limit_of(reply));
	record_string(r, "limit_of", w->limit_of);
	session_facts(r, s);
	record_end(r);
}
