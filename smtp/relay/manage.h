/*
 * manage.h - the queue of one worker, looked through and changed by an operator while it works.
 *
 *	relay_page(w, &page);        // again until page.end
 *	relay_order(w, order);       // then until atomic_load(&order->pending) is 0
 *
 * A page looks at a bounded number of entries; its cursor is a place in the slab, so it stays good
 * whatever the queue does meanwhile: an entry that stays is met once, one that comes or goes may be
 * missed.  What only the envelope knows is not looked at here.
 *
 * A message whose recipients go to several pools is several entries: each is a row of its own.
 * Hold, release and route are about the message, all its entries; retry, bounce and delete about
 * the entry.
 *
 * Owner: the caller; an order belongs to the worker from relay_order() on until pending is 0.
 * Runs on: the worker (worker_call()); pending is read on any thread.
 * Errors: a result a target.  Done means durable: its disposition has been synced.
 */
#ifndef SMTP_RELAY_MANAGE_H
#define SMTP_RELAY_MANAGE_H

#include "smtp/relay/relay.h"

#include <stdatomic.h>

enum {
	RELAY_LOOK = 1024, /* entries looked at for a page */
	RELAY_ROWS = 128,
	RELAY_REASON = 200,
	RELAY_ERROR = 160,
};

enum relay_status {
	RELAY_READY,
	RELAY_DEFERRED,
	RELAY_HELD, /* by an operator, or until its release (RFC 4865) */
	RELAY_DELIVERING,
	RELAY_STATUSES,
};
extern const char *const relay_status_names[RELAY_STATUSES];

/* What an entry must be; zeros: anything. */
struct relay_filter {
	spool_id_t id;
	spool_id_t below; /* ids rise: what came, or was made, after a walk began is not in it */
	int64_t after_s, before_s; /* accepted then or later; then or earlier */
	unsigned statuses;         /* 1 << enum relay_status */
	char pool[RELAY_NAME];
	char hop[RELAY_NAME]; /* name or address of the next hop tried last */
};

struct relay_row {
	handle_t message;
	spool_id_t id;
	uint32_t envelope_bytes; /* at least as many as it has */
	uint64_t content_bytes;
	int64_t accepted_at_s;
	int64_t next_at_s; /* next attempt; 0: under way, or held by an operator */
	uint32_t recipients, attempts;
	enum relay_status status;
	int8_t priority;
	bool held, routed;  /* by an operator */
	bool split;         /* not all of its recipients are this entry's */
	struct ip_addr hop; /* tried last; family 0: none since the start */
	uint16_t hop_port;
	char hop_name[RELAY_NAME];
	char pool[RELAY_NAME]; /* "": nobody has looked yet */
	char last_error[RELAY_ERROR];
	uint8_t *done; /* a bit a recipient, malloc'd for the caller; NULL: all are to be served */
};

struct relay_page {
	struct relay_filter filter;
	uint32_t cursor; /* in: 0, or where the last page ended; out */
	unsigned most;   /* rows at most, up to RELAY_ROWS */
	bool end;        /* nothing is behind the cursor */
	unsigned looked, n;
	int64_t now_s; /* the worker's clock */
	struct relay_row rows[RELAY_ROWS];
};
void relay_page(struct relay_worker *w, struct relay_page *p);

enum relay_verb {
	RELAY_HOLD,    /* no attempt, no expiry */
	RELAY_RELEASE, /* of a hold or of RFC 4865; its age counts from now on */
	RELAY_RETRY,   /* an attempt now */
	RELAY_ROUTE,   /* to this pool from now on, whatever the routes say; an attempt now */
	RELAY_BOUNCE,  /* ends with a report of failure */
	RELAY_DELETE,  /* ends without a word */
	RELAY_VERBS,
};
extern const char *const relay_verb_names[RELAY_VERBS];

enum relay_result {
	RELAY_DONE,
	RELAY_SAME,    /* nothing to do: held, ready or of that pool already */
	RELAY_GONE,    /* ended meanwhile */
	RELAY_BUSY,    /* under way: its attempt ends first */
	RELAY_IS_HELD, /* retry: release it first */
	RELAY_NO_POOL,
	RELAY_FAILED, /* for want of memory, or the envelope cannot be read */
	RELAY_RESULTS,
};

struct relay_order {
	enum relay_verb verb;
	uint32_t uid; /* who gave it */
	char reason[RELAY_REASON];
	char pool[RELAY_NAME]; /* RELAY_ROUTE */
	unsigned n;
	struct {
		handle_t message;
		spool_id_t id;
		enum relay_result result;
	} targets[RELAY_ROWS];
	_Atomic unsigned pending; /* targets without a result; the caller sets it to n */
};
void relay_order(struct relay_worker *w, struct relay_order *o);

#endif
