/* internal.h - what the files of this folder share; not for other layers */
#ifndef SMTP_RELAY_INTERNAL_H
#define SMTP_RELAY_INTERNAL_H

#include "base/list.h"
#include "base/timer.h"
#include "smtp/relay/manage.h"
#include "smtp/relay/memory.h"
#include "smtp/relay/relay.h"
#include "smtp/relay/reply_parser.h"
#include "smtp/spool/envelope.h"
#include "tls/conn.h"

#include <assert.h>

enum {
	ERROR_TEXT = 160,
	STATUS_TEXT = 12,
	PIECES = 2, /* body pieces read ahead */
	PIECE_BYTES = 61440,
	COMMAND_ROOM = 1200, /* free output before a command is made */
	PRIORITIES = 19,     /* -9 to 9 (RFC 6710) */
	MESSAGES_A_CONNECTION = 100,
	CONNECT_US = 30 * 1000000,
	GREETING_US = 60 * 1000000,
	COMMAND_US = 300 * 1000000, /* RFC 5321 section 4.5.3.2 */
	BLOCK_US = 180 * 1000000,
	FINAL_US = 600 * 1000000,
	IDLE_US = 30 * 1000000,
	HOP_FIRST_US = 1000000, /* back-off of a hop that cannot be reached */
	HOP_MAX_US = 60 * 1000000,
	TLS_BROKEN_US = 300 * 1000000,
	RETRY_SPOOL_US = 1000000, /* then 2, 4, 8 s */
	RETRY_PROBE_US = 5000000,
};

enum { ENVELOPE_UNIT = 256, ATTEMPTS_MOST = UINT16_MAX };
enum { POOL_UNROUTED = UINT8_MAX };

enum message_state {
	MESSAGE_READY,
	MESSAGE_DEFERRED,
	MESSAGE_DUE, /* its end or a notice is: its turn comes */
	MESSAGE_HELD,
	MESSAGE_ACTIVE,
};

/* Entries of one message in several pools; the last to end ends the message in the spool. */
struct split {
	struct message **entry;
	unsigned entries; /* that point here */
	unsigned open;    /* whose end has not been handed to the spool */
};

/* What few messages have. */
struct message_more {
	struct split *split; /* NULL: the only entry of its message */
	int64_t by_at_s;     /* its deadline, when by is not 0 */
	uint8_t done[];      /* a bit a recipient, also of another entry's */
};

/* A queue entry, in a dense slab of the worker's: a backlog is many of them. */
struct message {
	union {
		struct list link;          /* READY, DUE: in the list of those */
		struct delivery *delivery; /* ACTIVE */
	};
	struct timer timer; /* DEFERRED: next attempt; READY: expiry */
	spool_id_t id;
	struct message_more *more; /* NULL: no bits, no split, no deadline */
	uint64_t content_bytes : 40, attempts : 16, envelope_units : 8;
	uint64_t due_ms : 40, recipients : 24; /* DEFERRED: next attempt, monotone */
	uint32_t accepted_at_s;
	uint32_t released_at_s; /* from here on its age counts */
	uint16_t error;         /* the last, in worker->errors; 0: none */
	uint16_t hop;           /* number of the one tried last; 0: none yet */
	uint8_t pool;           /* index in pools, or POOL_UNROUTED */
	int8_t priority;
	uint16_t state : 3;   /* enum message_state */
	uint16_t by : 2;      /* enum envelope_by */
	uint16_t noticed : 1; /* whoever wanted to hear of the delay has */
	/* by an operator; all entries of a message alike */
	uint16_t held : 1;     /* no attempt, no expiry */
	uint16_t routed : 1;   /* its pool is his choice */
	uint16_t released : 1; /* released_at_s is not what the envelope says */
};
static_assert(sizeof(struct message) <= 96, "a backlog is many of them");

enum recipient_state {
	RECIPIENT_DONE, /* by an earlier attempt, or not of this entry */
	RECIPIENT_TODO,
	RECIPIENT_ACCEPTED, /* by RCPT; waits for the end of data */
	RECIPIENT_DELIVERED,
	RECIPIENT_DEFERRED,
	RECIPIENT_FAILED,
};

/* What a recipient's outcome answers. */
enum stage { STAGE_NONE, STAGE_CONNECTION, STAGE_MAIL, STAGE_RCPT, STAGE_DATA, STAGE_CONTENT };

struct recipient {
	uint8_t state;
	uint8_t stage;            /* enum stage */
	char status[STATUS_TEXT]; /* RFC 3463 */
	char text[ERROR_TEXT];    /* the hop's reply */
};

/* One attempt at one message: from its envelope to its dispositions. */
struct delivery {
	struct relay_worker *worker;
	struct message *message;
	struct client *client; /* NULL: none, or gone */
	handle_t handle;
	struct list loaded; /* in worker->loaded, or nowhere */
	struct copy *copy;  /* NULL: the content comes from the spool */
	struct chunk *envelope;
	struct envelope e;
	struct recipient *recipients;
	struct spool_request request; /* one at a time */
	uint64_t asked_us;            /* the spool has it since */
	struct spool_disposition *dispositions;
	struct hop *hop; /* that was tried; NULL: none */
	struct chunk *report, *report_envelope;
	struct chunk *head; /* start of the content, for a report */
	struct timer timer; /* a spool request is tried again */
	uint64_t retry_us;
	unsigned spool_failures; /* in a row */
	bool last;               /* the entry ends */
	bool expired, reported;
	bool probe;   /* of a hop that breaks off messages: the fault is hardly the message's */
	bool route;   /* no attempt: only where its recipients go is looked up */
	bool due;     /* was MESSAGE_DUE */
	bool notice;  /* no attempt: only those who want to hear of the delay are told */
	bool hop_dsn; /* the hop tells of success itself */

	enum stage stage;                                /* whose reply comes next */
	struct attempt {                                 /* for the records */
		uint64_t begun_us, content_us, ended_us; /* 0: not reached */
		uint64_t connect_us;                     /* that the connection took, once */
		uint32_t nth;                            /* message of the connection, from 1 */
		uint32_t sent_before, sent_again;        /* octets, of the connection */
		char tls_version[16], tls_cipher[48];    /* "": in clear */
	} attempt;
	struct relay_order *order; /* no attempt: an operator ends it; NULL: nobody does */
	unsigned target;           /* of the order */
	bool head_read;
	bool asked; /* the spool has the request */
	bool stuck; /* for too long; said once */
};

/* Bytes of the content on their way from the spool to the wire. */
struct piece {
	struct spool_request request;
	struct client *client; /* NULL: gone; freed when the read returns */
	struct relay_worker *worker;
	struct chunk *chunk;
	uint64_t wanted;
	bool reading, full;
};

enum client_state {
	CLIENT_CONNECTING,
	CLIENT_GREETING,
	CLIENT_EHLO,
	CLIENT_STARTTLS,
	CLIENT_SECURING,
	CLIENT_AUTH,
	CLIENT_IDLE,
	CLIENT_LOADING,  /* the envelope is being read */
	CLIENT_ENVELOPE, /* MAIL, RCPT, DATA */
	CLIENT_CONTENT,
	CLIENT_FINAL, /* the reply to the end of data */
	CLIENT_RESET, /* the reply to RSET */
	CLIENT_QUIT,
};

struct hop {
	struct list link; /* in worker->retired, or nowhere */
	struct relay_hop config;
	struct list clients; /* the idle ones in front */
	unsigned n_clients, n_connecting;
	unsigned uses;            /* deliveries and others that look at it */
	bool retired;             /* no longer configured: freed when nobody uses it */
	uint16_t number;          /* in messages; never 0 */
	int share;                /* smooth weighted round robin */
	unsigned failures;        /* connections in a row */
	uint64_t interrupted_us;  /* when the last of them was counted */
	unsigned interrupted;     /* attempts in a row that its connection did not survive */
	uint64_t next_us;         /* when the rate lets the next message go */
	uint64_t closed_until_us; /* circuit open: no connection before */
	uint64_t tls_broken_until_us;
	char last_error[ERROR_TEXT];
};

/* What a hop may offer in EHLO. */
enum hop_offer {
	OFFER_PIPELINING,
	OFFER_8BITMIME,
	OFFER_SIZE,
	OFFER_STARTTLS,
	OFFER_CHUNKING,
	OFFER_BINARYMIME,
	OFFER_SMTPUTF8,
	OFFER_DSN,
	OFFER_DELIVERBY,
	OFFER_MT_PRIORITY,
	OFFER_REQUIRETLS,
	OFFER_AUTH, /* with PLAIN */
	OFFERS,
};

struct client {
	struct conn conn;
	struct list link; /* in hop->clients */
	struct relay_worker *worker;
	struct hop *hop;
	enum client_state state;
	struct timer timer;
	struct reply_parser reply;
	struct chunk *in, *out;
	uint32_t offers; /* 1 << enum hop_offer */
	bool greeted;
	bool data_sent, mail_refused, helo_tried;
	bool mute; /* a command could not be made: the connection ends at once */
	uint64_t size_limit;
	unsigned messages;
	uint64_t opened_us, connect_us; /* SYN; from there until it could take a message */
	struct delivery *delivery;
	/* CLIENT_ENVELOPE: what has been sent and what has been answered */
	size_t send_cursor;
	uint32_t send_index, reply_index, accepted;
	unsigned sent, answered; /* commands: MAIL, RCPT..., DATA */
	/* CLIENT_CONTENT */
	struct piece *pieces[PIECES];
	uint64_t read_offset, written_offset;
	bool line_start;
	bool chunked; /* BDAT: octets as they are */
};

/* Messages that wait, the most urgent first. */
struct ready {
	struct list list[PRIORITIES];
	unsigned n;
};

struct pool {
	struct relay_pool config;
	struct hop *hops[RELAY_HOPS];
	unsigned n_hops;
	struct ready ready;
};

struct relay_worker {
	struct relay_env env;
	struct shard *shard;
	char hostname[RELAY_NAME];
	struct pool *pools[RELAY_POOLS];
	unsigned n_pools;
	struct relay_route routes[RELAY_ROUTES];
	unsigned n_routes;
	struct ready unrouted; /* somebody must look where their recipients go */
	unsigned routing;      /* whose envelope is being read for that */
	struct list due;       /* messages */
	unsigned ending;       /* deliveries of those */
	struct list retired;   /* hops that are still in use */
	struct memory *memory; /* messages before their first attempt */
	struct list loaded;    /* deliveries whose envelope came from there */
	struct list changes;   /* an operator's, on their way into the spool */
	uint16_t hop_numbers;  /* the last one given out */
	struct slab *messages, *deliveries;
	struct errors *errors;
	unsigned n_clients, spool_pending;
	uint64_t watch_us; /* the next look at the queue (watch.c) */
	uint32_t watched;  /* entries of this round */
	bool draining;
	uint64_t counters[relay_counter_count];
};

static inline struct relay_worker *worker_of(const struct message *m)
{
	return slab_dense_owner(m);
}

static inline bool message_done(const struct message *m, uint32_t i)
{
	return m->more != NULL && (m->more->done[i / 8] & 1u << i % 8) != 0;
}

static inline struct split *split_of(const struct message *m)
{
	return m->more != NULL ? m->more->split : NULL;
}

static inline void relay_count(struct relay_worker *w, enum relay_counter c)
{
	counter_inc(&w->counters[c]);
}

/* Whose reply this is, or who is gone. */
static inline void client_stage(const struct client *c, struct delivery *d, enum stage e)
{
	d->stage = e;
	if (c->conn.stream != NULL)
		d->attempt.sent_again = stream_retransmitted(c->conn.stream);
}

static inline bool hop_offers(const struct client *c, enum hop_offer e)
{
	return (c->offers & 1u << e) != 0;
}

/* Its certificate proves its name, or has a key that is pinned. */
static inline bool hop_verified(const struct hop *h)
{
	return h->config.tls == RELAY_TLS_REQUIRED || h->config.tls == RELAY_TLS_IMPLICIT;
}

static inline void hop_use(struct hop *h)
{
	h->uses++;
}

/* pool.c */
int pools_update(struct relay_worker *w, const struct relay_config *c);
void pools_free(struct relay_worker *w);
/* The pool of the message; the first while nobody has looked. */
const struct pool *pool_of(const struct message *m);
/* -1: none has that name. */
int pool_index(const struct relay_worker *w, const char *name);
void hop_unuse(struct relay_worker *w, struct hop *h);
/* Frees it when it is retired and nobody uses it. */
void hop_settle(struct relay_worker *w, struct hop *h);

/* route.c */
/* Everything goes to pool 0. */
bool routes_trivial(const struct relay_worker *w);
unsigned route_pool(const struct relay_worker *w, const char *path, size_t bytes);
/* Begins to look where waiting messages go. */
void routes_dispatch(struct relay_worker *w);
/* The entry ends. */
void split_leave(struct message *m);
/* The envelope is there: the delivery ends, and an entry a pool waits in its place. */
void route_message(struct delivery *d);

/* queue.c */
struct message *message_pop(struct relay_worker *w, struct ready *r);
struct message *message_alloc(struct relay_worker *w);
/* Its rare part, made when absent; NULL: no memory. */
struct message_more *message_more(struct message *m);
/* UNIX time of the next attempt. */
int64_t message_next_at_s(const struct message *m);
const char *message_error(const struct message *m);
/* Out of the list that it waits in, if any. */
void message_leave(struct message *m);
/* Back to what it waited for. */
void message_resume(struct message *m);
void message_ready(struct message *m);
/* Back to the queue for a later attempt, in us; why may be NULL. */
void message_defer(struct message *m, const char *why, uint64_t us);
/* Age at which it ends; while nobody has looked where it goes, the longest of all pools. */
uint64_t message_give_up_us(const struct message *m);
/* first * factor^(attempts - 1), at most max and at most what is left until expiry. */
uint64_t message_retry_us(const struct message *m);
void message_free(struct message *m);
int relay_submit(struct relay_worker *w, struct spool_request *r);

/* errors.c */
struct errors *errors_create(void);
void errors_destroy(struct errors *e);
/* Its number, to be given back; 0: no text or no memory for it. */
uint16_t error_take(struct errors *e, const char *text);
/* A second owner. */
uint16_t error_share(struct errors *e, uint16_t number);
void error_drop(struct errors *e, uint16_t number);
/* NULL: none */
const char *error_text(const struct errors *e, uint16_t number);

/* watch.c */
/* Looks at the next few entries when it is time. */
void queue_watch(struct relay_worker *w);

/* browse.c */
enum relay_status message_status(const struct message *m);

/* manage.c */
/* How the spool remembers a pool; never 0. */
uint32_t pool_mark(const char *name);
void order_end(struct relay_order *o, unsigned target, enum relay_result result);
/* The worker ends: forgets what waits for the spool. */
void changes_free(struct relay_worker *w);

/* hop.c */
void pool_dispatch(struct relay_worker *w, struct pool *p);
void hop_failed(struct hop *h, struct relay_worker *w, const char *why);
/* An attempt ended with its connection; too many in a row open the circuit as well: true. */
bool hop_interrupted(struct hop *h, struct relay_worker *w, const char *why);
/* An attempt ended and its connection lives: that ends the row, and closes the circuit. */
void hop_answered(struct hop *h);

/* delivery.c */
void delivery_begin(struct message *m, struct client *c);
/* Only looks who wants to hear that it is not delivered yet. */
void delivery_notice(struct message *m);
/* Only looks where the recipients go. */
void delivery_route(struct message *m);
/* An operator ends the message: bounce or delete. */
void delivery_ordered(struct message *m, struct relay_order *o, unsigned target);
void delivery_free(struct delivery *d);
/* Nothing would ever end it: no request, no timer, no connection. */
void delivery_adrift(struct delivery *d);
/* Goes on with those whose envelope came from memory; the number. */
unsigned deliveries_loaded(struct relay_worker *w);
/* The connection has gone, or the attempt is over: dispositions follow from the recipients. */
void delivery_end(struct delivery *d);
/* Sets every recipient in state from to the outcome that the reply code means. */
void delivery_outcome(struct delivery *d, enum recipient_state from, unsigned code,
		      const char *status, const char *text);

/* records.c */
void records_outcomes(const struct delivery *d);
/* An order has been carried out; m: NULL: it has ended since. */
void records_order(const struct relay_worker *w, const struct message *m,
		   const struct relay_order *o, spool_id_t id);

/* The reply is about this recipient alone. */
void recipient_answered(struct delivery *d, uint32_t i, const struct reply_parser *reply);

/* report.c */
enum report_action { REPORT_NONE, REPORT_FAILED, REPORT_DELAYED, REPORT_RELAYED };
/* What is to be told about the recipient. */
enum report_action report_action(const struct delivery *d, const struct recipient *r,
				 const struct envelope_recipient *to);
/* The report in d->report, its envelope in d->report_envelope; false: no room */
bool report_build(struct delivery *d, struct spool_request *commit);

/* client.c */
bool client_open(struct relay_worker *w, struct hop *h);
void client_transact(struct client *c); /* the envelope is there */
void client_close(struct client *c, bool polite);
void client_failed(struct client *c, const char *why);
void client_quit(struct client *c);

/* login.c */
bool login_offered(const char *mechanisms);
void login_send(struct client *c);

/* transact.c */
void transact_pump(struct client *c);
void transact_reply(struct client *c, bool more);
/* content.c */
void content_pump(struct client *c);
void content_begin_transfer(struct client *c);
void content_forget(struct client *c);

/* client.c, for transact.c and content.c */
bool client_flush(struct client *c);
void client_arm(struct client *c, uint64_t us);
void client_command(struct client *c, const char *text, size_t n);
void client_idle(struct client *c, bool reset);

#endif
