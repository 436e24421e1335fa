/* records.c - what became of each recipient, one line an attempt */
#include "base/record.h"
#include "smtp/relay/internal.h"

static void add(const struct delivery *d, const struct envelope_recipient *to,
		const struct recipient *x, const char *type)
{
	struct relay_worker *w = d->worker;
	const struct message *m = d->message;
	int64_t wall_us = (int64_t)w->shard->now_us + w->shard->wall_offset_us;
	struct record *r = record_begin(w->env.records, type, wall_us);
	char id[SPOOL_ID_TEXT], addr[ADDR_TEXT_BYTES];

	spool_id_text(m->id, id);
	record_string(r, "id", id);
	record_text(r, "sender", d->e.reverse_path.at, d->e.reverse_path.bytes);
	record_text(r, "recipient", to->path.at, to->path.bytes);
	record_text(r, "user", d->e.user.at, d->e.user.bytes);
	record_number(r, "size", m->content_bytes);
	record_number(r, "attempts", m->attempts);
	record_number(r, "queued_s", (uint64_t)(wall_us / 1000000 - m->accepted_at_s));
	record_number(r, "worker", w->shard->index);
	if (d->hop != NULL) {
		record_string(r, "hop", addr_text(&d->hop->config.address, addr));
		record_number(r, "hop_port", d->hop->config.port);
		record_string(r, "hop_name", d->hop->config.name);
	}
	record_string(r, "status", x->status);
	record_string(r, "response", x->text);
	record_end(r);
}

void records_outcomes(const struct delivery *d)
{
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
			add(d, &to, x, d->expired ? "expiration" : "bounce");
	}
}
