/*
 * smtp.h - the submission server: sessions of one worker, from `opened` to the spool's verdict.
 *
 * Flows in: streams of the listeners, verdicts of the spool and of the password checks.
 * Flows out: replies; committed messages, told to `accepted`.
 *
 * Owner: struct smtp_shared one a process (limits that all workers share), struct smtp_worker
 *        one a worker.
 * Runs on: everything with an smtp_worker on that worker.
 * Errors: the peer's are replies (reply.h) and counters (counters.h).
 * Source: RFC 6409, 5321, 4954, 3207, 2920, 1870, 6152, 2034, and those of extension.h.
 */
#ifndef SMTP_SMTP_H
#define SMTP_SMTP_H

#include "base/addr.h"
#include "base/shard.h"
#include "dataplane/tcp/stream.h"
#include "smtp/auth/auth.h"
#include "smtp/counters.h"
#include "smtp/extension.h"
#include "smtp/policy.h"
#include "smtp/spool/spool.h"
#include "tls/tls.h"

#include <stdbool.h>
#include <stdint.h>

struct records;
struct smtp_shared;
struct smtp_worker;

enum smtp_mechanism {
	SMTP_MECHANISM_PLAIN,
	SMTP_MECHANISM_LOGIN,
	SMTP_MECHANISM_SCRAM,
	SMTP_MECHANISM_SCRAM_PLUS,
	SMTP_MECHANISM_OAUTHBEARER,
	SMTP_MECHANISM_XOAUTH2,
	SMTP_MECHANISM_EXTERNAL,
};
/* What of a client's certificate names the user of AUTH EXTERNAL. */
enum { SMTP_EXTERNAL_EMAIL = 1, SMTP_EXTERNAL_DNS = 2, SMTP_EXTERNAL_COMMON_NAME = 4 };

enum { SMTP_EXEMPT = 64, SMTP_HOSTNAME = 256 };

struct smtp_config {
	char hostname[SMTP_HOSTNAME];
	uint64_t max_message_size; /* octets after dot removal, prefix not counted */
	uint32_t max_recipients;
	uint32_t max_messages;       /* transactions a session; 0: no limit */
	uint64_t max_header_size;    /* octets of the header section */
	uint32_t extensions;         /* SMTP_EXT_BIT()s that are offered where they make sense */
	bool require_tls_onward;     /* every next hop is reached by verified TLS only */
	uint64_t max_hold_us;        /* FUTURERELEASE; 0: not offered */
	int8_t max_priority;         /* MT-PRIORITY that a user may ask for */
	char qualify[SMTP_HOSTNAME]; /* domain for addresses without; empty: refused */
	bool long_lines_refused;
	uint64_t command_us, data_us, unauthenticated_us; /* deadlines */
	uint64_t auth_failure_delay_us;
	uint32_t mechanisms;           /* bits 1 << enum smtp_mechanism */
	uint32_t external;             /* SMTP_EXTERNAL_*, or'ed */
	uint32_t sessions;             /* all workers */
	uint32_t sessions_per_address; /* all workers; 0: no limit */
	struct {
		struct ip_addr addr;
		uint8_t bits;
	} exempt[SMTP_EXEMPT]; /* from sessions_per_address */
	unsigned n_exempt;
	struct smtp_class classes[SMTP_CLASSES]; /* the first that matches holds */
	unsigned n_classes;
	bool duplicates;     /* some listener looks for them */
	uint64_t tls_memory; /* bytes that OpenSSL may hold before sessions are refused */
};

struct smtp_shared *smtp_shared_create(const struct smtp_config *c);
void smtp_shared_destroy(struct smtp_shared *s);

struct smtp_env {
	struct smtp_shared *shared;
	struct shard *shard;
	struct tls_worker *tls;
	struct spool *spool;
	struct spool_client *spool_client;
	struct auth_client *auth;
	struct records *records; /* receptions and rejections; NULL: not wanted */
	/* A message is durable and has its 250 (or its client has gone): deliver it.  commit: what
	 * the spool was given; its parts may be read during the call. */
	void (*accepted)(void *arg, const struct spool_found *f,
			 const struct spool_request *commit);
	void *accepted_arg;
};
struct smtp_worker *smtp_worker_create(const struct smtp_env *env);
/* On the worker: limits, times and mechanisms of *c, which must live until the next call, hold from
 * now on.  The tables keep the size that `sessions` had at the start. */
void smtp_worker_configure(struct smtp_worker *w, const struct smtp_config *c);
/* Aborts what is left; the spool's requests must have come back (spool_poll). */
void smtp_worker_destroy(struct smtp_worker *w);

/* A listener's argument to the stream events. */
/* What is done to, and asked of, the messages of a listener. */
struct smtp_policy {
	bool normalize;     /* a lone LF in message data becomes CR LF */
	bool hide_client;   /* Received does not tell the client's name and address */
	bool from_required; /* RFC 5322 section 3.6.2 */
	bool remove_bcc, add_sender;
	bool own_senders; /* reverse-path and From are the user's */
};

/* policy: may change between two turns of the worker, and on it. */
struct smtp_listener {
	struct smtp_worker *worker;
	const char *name; /* lives as long as this */
	bool implicit_tls;
	struct smtp_policy policy;
	uint64_t duplicates_us; /* how long a message that comes again is known; 0: never */
};
extern const struct stream_events smtp_stream_events;
/* Before a SYN takes memory: false over the memory watermark. */
bool smtp_admit(void *listener, const struct ip_addr *peer);

/* No new session; idle ones get 421 now, the others when their transaction has ended. */
void smtp_drain(struct smtp_worker *w);
unsigned smtp_sessions_open(const struct smtp_worker *w);
/* Requests of ours that the spool still holds. */
unsigned smtp_spool_pending(const struct smtp_worker *w);

struct smtp_session_info {
	char tag[12];
	struct ip_addr peer;
	uint16_t peer_port;
	const char *state, *user; /* borrowed for the call */
	bool tls;
	unsigned messages;
	uint64_t age_us, body_bytes;
};
void smtp_each_session(struct smtp_worker *w,
		       void (*fn)(void *arg, const struct smtp_session_info *i), void *arg);

/* A limit of a user or his tenant, and what of it is used.  Texts are borrowed for the call. */
struct smtp_limit_row {
	const char *class_name, *subject, *name, *measure;
	uint64_t limit, used;
	uint64_t per_us; /* 0: at a time */
};
/* Control thread; c: the configuration in force, now_us: of the workers' clock. */
void smtp_limits_report(const struct smtp_shared *shared, const struct smtp_config *c,
			const char *user, const char *tenant, uint64_t now_us,
			void (*row)(void *arg, const struct smtp_limit_row *r), void *arg);

const uint64_t *smtp_counters(const struct smtp_worker *w);

#endif
