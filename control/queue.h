/*
 * queue.h - what posternctl queue asks for: pages of the queues of all workers, and orders.
 *
 * A request is a page: so many entries are looked at as a tenth of a second allows, and the answer
 * says where to go on, so that a walk through a million messages holds up neither a worker nor
 * other requests.  What only the envelope knows is read from the spool, for those entries only that
 * everything else has left over.
 *
 * queue (request, all but command optional):
 *	id, sender ("a@b.example", "@b.example", "<>"), user, domain, older_s, younger_s, hop, pool,
 *	status ("held,deferred"); most: rows wanted; cursor: of the last answer;
 *	detail: with the envelope; header: with the message's header
 * queue-change: the same without detail and header; verb, reason, to_pool; all: true where nothing
 *	else says which; dry_run: only counts
 * queue-wait: order: of an answer whose "pending" was not 0
 *
 * Owner: struct gateway.  Runs on: whoever runs commands; queue_tick() on the control thread.
 */
#ifndef CONTROL_QUEUE_H
#define CONTROL_QUEUE_H

#include "control/peek.h"
#include "smtp/relay/manage.h"

#include <jansson.h>

struct gateway;

/* What only the envelope knows; "": any. */
struct envelope_filter {
	char sender[RELAY_NAME + 64];
	char user[RELAY_NAME];
	char domain[RELAY_NAME];
};

struct queue_filter {
	struct relay_filter relay;
	struct envelope_filter envelope;
	bool any; /* nothing was given */
};

/* queue_filter.c */
/* false with the reason in error. */
bool queue_filter_parse(const json_t *request, int64_t now_s, struct queue_filter *f, char *error,
			size_t error_bytes);
bool queue_filter_reads(const struct envelope_filter *f);
/* bytes of an envelope; done: a bit a recipient that needs no service any more, or NULL */
bool queue_filter_passes(const struct envelope_filter *f, const uint8_t *envelope, size_t bytes,
			 const uint8_t *done);

/* queue_json.c: NULL when memory is short */
json_t *queue_row_json(const struct relay_row *r, unsigned worker, int64_t now_s);
/* Adds what the envelope says; detail: all of it. */
void queue_envelope_json(json_t *row, const struct relay_row *r, const uint8_t *envelope,
			 size_t bytes, bool detail);
void queue_header_json(json_t *row, const uint8_t *content, size_t bytes);

int queue_register(struct gateway *g);
void queue_tick(struct gateway *g);
/* When no worker runs. */
void queue_close(struct gateway *g);

#endif
