/* browse.c - a page of the queue for an operator: bounded work, whatever the queue's length */
#include "smtp/relay/manage.h"

#include "smtp/relay/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HOPS_MOST = RELAY_POOLS * RELAY_HOPS };

const char *const relay_status_names[RELAY_STATUSES] = {
	[RELAY_READY] = "ready",
	[RELAY_DEFERRED] = "deferred",
	[RELAY_HELD] = "held",
	[RELAY_DELIVERING] = "delivering",
};

/* What the texts of a filter mean on this worker at this moment. */
struct sieve {
	const struct relay_filter *filter;
	int pool; /* -1: any, or none has that name */
	uint16_t hops[HOPS_MOST];
	unsigned n_hops;
	bool nothing; /* can match */
	int64_t now_s;
};

static const struct hop *hop_numbered(const struct relay_worker *w, uint16_t number)
{
	for (unsigned i = 0; number != 0 && i < w->n_pools; i++) {
		for (unsigned k = 0; k < w->pools[i]->n_hops; k++) {
			if (w->pools[i]->hops[k]->number == number)
				return w->pools[i]->hops[k];
		}
	}
	return NULL;
}

static void find_hops(const struct relay_worker *w, struct sieve *s)
{
	struct ip_addr addr;
	bool by_address = addr_parse(s->filter->hop, &addr);

	for (unsigned i = 0; i < w->n_pools; i++) {
		for (unsigned k = 0; k < w->pools[i]->n_hops; k++) {
			const struct hop *h = w->pools[i]->hops[k];
			if (by_address ? addr_equal(&addr, &h->config.address)
				       : strcasecmp(h->config.name, s->filter->hop) == 0)
				s->hops[s->n_hops++] = h->number;
		}
	}
	s->nothing |= s->n_hops == 0;
}

static struct sieve sieve_of(const struct relay_worker *w, const struct relay_filter *f)
{
	struct sieve s = {.filter = f, .pool = -1, .now_s = shard_wall_s(w->shard)};

	if (f->pool[0] != '\0') {
		s.pool = pool_index(w, f->pool);
		s.nothing |= s.pool < 0;
	}
	if (f->hop[0] != '\0')
		find_hops(w, &s);
	return s;
}

enum relay_status message_status(const struct message *m)
{
	switch (m->state) {
	case MESSAGE_READY:
	case MESSAGE_DUE:
		return RELAY_READY;
	case MESSAGE_HELD:
		return RELAY_HELD;
	case MESSAGE_ACTIVE:
		return RELAY_DELIVERING;
	case MESSAGE_DEFERRED:
		break;
	}
	return m->attempts == 0 && m->released_at_s > shard_wall_s(worker_of(m)->shard)
		       ? RELAY_HELD
		       : RELAY_DEFERRED;
}

static bool of_hops(const struct sieve *s, uint16_t number)
{
	for (unsigned i = 0; i < s->n_hops; i++) {
		if (s->hops[i] == number)
			return true;
	}
	return false;
}

static bool passes(const struct sieve *s, const struct message *m)
{
	const struct relay_filter *f = s->filter;

	return (f->id == 0 || m->id == f->id) && (f->below == 0 || m->id < f->below) &&
	       (f->after_s == 0 || m->accepted_at_s >= f->after_s) &&
	       (f->before_s == 0 || m->accepted_at_s <= f->before_s) &&
	       (f->statuses == 0 || (f->statuses & 1u << message_status(m)) != 0) &&
	       (s->pool < 0 || m->pool == s->pool) && (f->hop[0] == '\0' || of_hops(s, m->hop));
}

/* false: no memory for its bits. */
static bool fill(struct relay_row *r, const struct message *m, handle_t h)
{
	const struct relay_worker *w = worker_of(m);
	const struct hop *hop = hop_numbered(w, m->hop);
	size_t bytes = (m->recipients + 7) / 8;

	r->message = h;
	r->id = m->id;
	r->envelope_bytes = m->envelope_units * ENVELOPE_UNIT;
	r->content_bytes = m->content_bytes;
	r->accepted_at_s = m->accepted_at_s;
	r->next_at_s =
		m->state == MESSAGE_ACTIVE || m->state == MESSAGE_HELD ? 0 : message_next_at_s(m);
	r->recipients = m->recipients;
	r->attempts = m->attempts;
	r->status = message_status(m);
	r->priority = m->priority;
	r->held = m->held;
	r->routed = m->routed;
	r->split = split_of(m) != NULL;
	r->hop = hop != NULL ? hop->config.address : (struct ip_addr){0};
	r->hop_port = hop != NULL ? hop->config.port : 0;
	snprintf(r->hop_name, sizeof(r->hop_name), "%s", hop != NULL ? hop->config.name : "");
	snprintf(r->pool, sizeof(r->pool), "%s",
		 m->pool < w->n_pools ? w->pools[m->pool]->config.name : "");
	snprintf(r->last_error, sizeof(r->last_error), "%s",
		 message_error(m) != NULL ? message_error(m) : "");
	r->done = NULL;
	if (m->more == NULL)
		return true;
	r->done = malloc(bytes + 1);
	if (r->done == NULL)
		return false;
	memcpy(r->done, m->more->done, bytes);
	return true;
}

void relay_page(struct relay_worker *w, struct relay_page *p)
{
	struct sieve s = sieve_of(w, &p->filter);
	uint32_t extent = slab_extent(w->messages);
	unsigned most = p->most < RELAY_ROWS ? p->most : RELAY_ROWS;

	p->looked = p->n = 0;
	p->now_s = s.now_s;
	if (s.nothing)
		p->cursor = extent;
	for (; p->cursor < extent && p->looked < RELAY_LOOK && p->n < most; p->cursor++) {
		handle_t h;
		const struct message *m = slab_at(w->messages, p->cursor, &h);

		p->looked++;
		if (m == NULL || !passes(&s, m))
			continue;
		/* without its bits somebody would be shown as waiting who is not */
		if (!fill(&p->rows[p->n], m, h))
			break;
		p->n++;
	}
	p->end = p->cursor >= extent;
}
