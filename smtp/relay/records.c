/* records.c - what became of each recipient, one line an attempt; what an operator ordered */
#include "base/record.h"
#include "smtp/relay/internal.h"

#include <stdlib.h>

static int64_t wall_us(const struct relay_worker *w)
{
	return (int64_t)w->shard->now_us + w->shard->wall_offset_us;
}

static void message_facts(struct record *r, const struct message *m)
{
	const struct relay_worker *w = worker_of(m);

	record_number(r, "size", m->content_bytes);
	record_number(r, "attempts", m->attempts);
	record_number(r, "queued_s", (uint64_t)(wall_us(w) / 1000000 - m->accepted_at_s));
	if (m->pool < w->n_pools)
		record_string(r, "pool", w->pools[m->pool]->config.name);
}

static void order_facts(struct record *r, const struct relay_order *o)
{
	record_string(r, "action", relay_verb_names[o->verb]);
	record_number(r, "uid", o->uid);
	record_string(r, "reason", o->reason);
	record_string(r, "to_pool", o->pool);
}

static void hop_facts(struct record *r, const struct delivery *d)
{
	const struct attempt *a = &d->attempt;
	const struct relay_hop *h = d->hop != NULL ? &d->hop->config : NULL;
	char addr[ADDR_TEXT_BYTES];

	if (h == NULL)
		return;
	record_string(r, "hop", addr_text(&h->address, addr));
	record_number(r, "hop_port", h->port);
	record_string(r, "hop_name", h->name);
	record_string(r, "protocol", h->lmtp ? "lmtp" : "smtp");
	record_string(r, "hop_tls_version", a->tls_version);
	record_string(r, "hop_tls_cipher", a->tls_cipher);
	record_number(r, "connect_us", a->connect_us);
	record_number(r, "nth", a->nth);
	record_number(r, "retransmitted", a->sent_again - a->sent_before);
	record_number(r, "envelope_us",
		      (a->content_us != 0 ? a->content_us : a->ended_us) - a->begun_us);
	if (a->content_us != 0)
		record_number(r, "content_us", a->ended_us - a->content_us);
}

static void reply_facts(struct record *r, const struct recipient *x)
{
	static const char *const stages[] = {
		[STAGE_NONE] = "",     [STAGE_CONNECTION] = "connection",
		[STAGE_MAIL] = "MAIL", [STAGE_RCPT] = "RCPT",
		[STAGE_DATA] = "DATA", [STAGE_CONTENT] = "content",
	};

	record_string(r, "command", stages[x->stage]);
	record_number(r, "response_code", strtoul(x->text, NULL, 10));
	record_string(r, "status", x->status);
	record_string(r, "response", x->text);
}

static void add(const struct delivery *d, const struct envelope_recipient *to,
		const struct recipient *x, const char *type)
{
	struct relay_worker *w = d->worker;
	struct record *r = record_begin(w->env.records, type, wall_us(w));
	char id[SPOOL_ID_TEXT];

	spool_id_text(d->message->id, id);
	record_string(r, "id", id);
	record_text(r, "sender", d->e.reverse_path.at, d->e.reverse_path.bytes);
	record_text(r, "recipient", to->path.at, to->path.bytes);
	record_text(r, "user", d->e.user.at, d->e.user.bytes);
	record_number(r, "worker", w->shard->index);
	message_facts(r, d->message);
	if (d->order != NULL)
		order_facts(r, d->order);
	hop_facts(r, d);
	reply_facts(r, x);
	if (d->attempt.ended_us != 0)
		record_number(r, "commit_us", w->shard->now_us - d->attempt.ended_us);
	record_end(r);
}

void records_outcomes(const struct delivery *d)
{
	const char *failed = d->order != NULL ? "admin" : d->expired ? "expiration" : "bounce";
	struct envelope_recipient to;
	size_t cursor = 0;

	if (d->worker->env.records == NULL)
		return;
	for (uint32_t i = 0;
	     envelope_next_recipient(d->envelope->data, d->envelope->end, &cursor, &to); i++) {
		const struct recipient *x = &d->recipients[i];
		if (d->notice && x->state == RECIPIENT_DEFERRED)
			add(d, &to, x, "delay");
		else if (x->state == RECIPIENT_DELIVERED)
			add(d, &to, x, "delivery");
		else if (x->state == RECIPIENT_DEFERRED)
			add(d, &to, x, "transient_failure");
		else if (x->state == RECIPIENT_FAILED)
			add(d, &to, x, failed);
	}
}

void records_order(const struct relay_worker *w, const struct message *m,
		   const struct relay_order *o, spool_id_t id)
{
	struct record *r = record_begin(w->env.records, "admin", wall_us(w));
	char text[SPOOL_ID_TEXT];

	record_string(r, "id", spool_id_text(id, text));
	record_number(r, "worker", w->shard->index);
	if (m != NULL)
		message_facts(r, m);
	order_facts(r, o);
	record_end(r);
}
