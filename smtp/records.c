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
	}
	if (!conn_tls_facts(&s->conn, &t))
		return;
	record_string(r, "tls_version", t.protocol);
	record_string(r, "tls_cipher", t.cipher);
	record_string(r, "tls_group", t.group);
	record_string(r, "tls_name", t.server_name);
	record_bool(r, "tls_resumed", t.resumed);
}

static void extensions(struct record *r, const struct transaction *tx)
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
	struct envelope e;
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
	extensions(r, tx);
	record_number(r, "commit_us", w->shard->now_us - tx->submitted_us);
	record_number(r, "data_us", tx->submitted_us - tx->data_us);
	record_bool(r, "answered", tx->session != NULL);
	if (tx->session != NULL)
		session_facts(r, tx->session);
	record_end(r);
}

void records_rejection(const struct smtp_session *s, int code, const char *enhanced,
		       const char *line, size_t n)
{
	struct record *r = record_begin(s->worker->env.records, "rejection", wall_us(s->worker));

	if (r == NULL)
		return;
	record_number(r, "code", (uint64_t)code);
	record_string(r, "enhanced", enhanced);
	while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r'))
		n--;
	record_text(r, "reply", line, n);
	session_facts(r, s);
	record_end(r);
}
