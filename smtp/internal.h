/* internal.h - what the files of this folder share; not for other layers */
#ifndef SMTP_INTERNAL_H
#define SMTP_INTERNAL_H

#include "base/siphash.h"
#include "base/timer.h"
#include "smtp/content.h"
#include "smtp/duplicate.h"
#include "smtp/follow.h"
#include "smtp/parameters.h"
#include "smtp/parse.h"
#include "smtp/reply.h"
#include "smtp/smtp.h"
#include "smtp/spool/envelope.h"
#include "tls/conn.h"

#include <stdatomic.h>

enum {
	COMMAND_LINE = 1400, /* 512 (RFC 5321) and what the extensions add */
	AUTH_LINE = 12290,   /* RFC 4954 section 4: 12288 and CR LF */
	REPLY_ROOM = 1024,   /* free output before a command is taken up */
	SCRATCH = 16384,
	SMALL_BODY = 65536, /* more goes to the large-message area */
	APPENDS_IN_FLIGHT = 2,
	ERROR_BUDGET = 20,
	AUTH_FAILURES = 3,
	RECEIVED_LIMIT = 100,
	RECEIVE_WINDOW = 20 << 10, /* before and between messages: a whole TLS record fits */
	DATA_WINDOW = 128 << 10,
	SENDER_PLACES = 64,  /* told apart when windows are shared out */
	RETRY_US = 10000,    /* look again for a chunk */
	RELIEF_PERCENT = 70, /* of the pool: bodies go to the spool before windows stop at 80 */
	CLOSE_GRACE_US = 5000000,
	TAG_BYTES = 12,
	UNAUTHENTICATED_ROUNDS = 10, /* deadlines in all before AUTH must have succeeded */
	DATA_US_PER_KIB = 62500,     /* 16 KiB/s: what a body may take on top of its deadline */
};

enum phase {
	PHASE_SECURING, /* TLS handshake */
	PHASE_COMMAND,
	PHASE_AUTH,     /* the next line belongs to an AUTH exchange */
	PHASE_CHECKING, /* a password is being checked, or a refusal is being held back */
	PHASE_DATA,
	PHASE_CHUNK,   /* of BDAT */
	PHASE_COMMIT,  /* the spool has the message */
	PHASE_CLOSING, /* the last reply is on its way */
};

struct sasl_mechanism; /* sasl.h */

/* A message on its way into the spool; outlives its session while the spool has it. */
struct transaction {
	struct smtp_session *session; /* NULL: gone */
	struct smtp_worker *worker;
	handle_t handle;
	spool_id_t id;
	struct mail_parameters parameters; /* its texts are in the envelope only */
	struct chunk *envelope;
	size_t envelope_bytes;
	uint32_t recipients;
	struct chunk *prefix;
	struct content content;
	struct chunk *first, *last;     /* decoded body not yet given to the spool */
	uint64_t held, body_bytes;      /* octets in these chunks; in all */
	uint64_t max_bytes;             /* that the user may send */
	uint64_t charged;               /* octets taken from the limits */
	uint64_t data_us, submitted_us; /* the content began; the spool got it */
	struct digest *digest;          /* of envelope and content; NULL: not wanted */
	uint8_t name[DIGEST_BYTES];     /* its end */
	uint64_t known_us;              /* how long the name is to be known; 0: not */
	unsigned appends;               /* in flight */
	int failure;                    /* first -errno of an append */
	bool large, too_big, started_data, committing;
	bool chunked;  /* BDAT has begun: neither RCPT nor DATA may follow */
	bool poisoned; /* a chunk was refused: the others are, too */
	int64_t accepted_at_s;
	uint64_t began_us;            /* MAIL */
	struct spool_request request; /* COMMIT or BODY_ABORT */
};

struct append {
	struct spool_request request;
	struct transaction *tx;
	handle_t handle;
};

/* Survives its session while an auth thread has it. */
struct login {
	struct auth_request request;
	struct smtp_worker *worker;
	handle_t handle;
	bool checking; /* the auth threads have it */
	const struct sasl_mechanism *mechanism;
	uint8_t step;          /* the mechanism's */
	struct chunk *scratch; /* the mechanism's; NULL: none */
};

struct smtp_session {
	struct conn conn;
	struct smtp_worker *worker;
	const struct smtp_listener *listener;
	handle_t handle;
	char tag[TAG_BYTES];
	enum phase phase;
	struct timer deadline; /* of the command, the handshake or the data */
	struct timer resume;   /* a pause ends: refusal held back, chunks short */
	uint64_t opened_us;
	uint64_t data_started_us;       /* or the handshake, or AUTH */
	uint32_t handshake_us, auth_us; /* that they took; 0: there was none */
	uint64_t data_bytes;            /* since then */
	struct {
		uint64_t left; /* octets of the BDAT under way */
		bool last, discard;
		enum smtp_reply reply; /* discard: the answer when it is over */
		const char *text;
	} chunk;
	struct chunk *in, *out;
	struct transaction *tx;
	struct login *login; /* from AUTH to its verdict */
	struct ip_addr peer;
	uint16_t peer_port;
	bool greeted, extended; /* HELO or EHLO; EHLO */
	bool authenticated, discarding_line, bad_line, counted, quitting, auth_refused;
	bool data_refused; /* the last command was a DATA that was refused */
	bool grace;        /* closing: the time for the last reply is running */
	uint8_t errors, auth_failures;
	uint32_t messages, mails; /* accepted; MAIL commands taken */
	char mechanism[24];       /* of the last AUTH */
	char helo[256];
	char user[AUTH_USER_BYTES];
	struct auth_identity *identity; /* what a back end says of him; NULL: the users file does */
	const struct smtp_class *class; /* of the session at that: see session_class() */
	uint32_t class_config, class_users;
	uint64_t inside[SMTP_SUBJECTS]; /* counts that hold this session; 0: none */
	struct list sending;            /* in worker->sending while data comes */
	uint8_t place;                  /* of its sender then */
};

/* Who sends message data on a worker now: a tenant, or a user without one. */
struct sender {
	uint64_t key;
	unsigned sessions;
	uint32_t weight;
	bool used; /* once: looking for a key goes on behind it */
};

struct smtp_shared {
	struct smtp_config config;
	struct quota_table *quotas;
	struct duplicates *duplicates; /* NULL: not wanted */
	struct siphash_key key;
	_Atomic uint32_t sessions;
	_Atomic uint32_t *by_address; /* two hashes a peer; the smaller count is believed */
};

struct smtp_worker {
	struct smtp_env env;
	struct smtp_shared *shared;
	const struct smtp_config *config;
	uint32_t configured; /* how often it has been another */
	struct shard *shard;
	struct slab *sessions, *transactions, *appends, *logins;
	struct list sending; /* sessions in a data phase */
	struct sender senders[SENDER_PLACES];
	uint64_t sending_weight;
	struct timer shares; /* armed while there are some */
	struct timer sweep;  /* worker 0: of the quotas */
	struct timer relief; /* armed while the pool is under pressure and bodies lie in it */
	struct smtp_follow *follow;   /* NULL: nobody looks on */
	const char *limit, *limit_of; /* that the reply being made is about; NULL: none */
	bool draining;
	unsigned spool_pending;
	uint8_t scratch[SCRATCH];
	uint64_t counters[smtp_counter_count];
};

static inline void smtp_count(struct smtp_worker *w, enum smtp_counter c)
{
	counter_inc(&w->counters[c]);
}

/* limits.c */
enum admission { ADMIT, ADMIT_TOO_MANY, ADMIT_ADDRESS, ADMIT_MEMORY };
enum admission limits_enter(struct smtp_worker *w, const struct ip_addr *peer);
void limits_leave(struct smtp_worker *w, const struct ip_addr *peer);

/* policy.c */
const char *
session_tenant(const struct smtp_session *s); /* "": none; until the next call of auth */
/* Looked for once a configuration and users file: kept in the session. */
const struct smtp_class *session_class(struct smtp_session *s);
uint64_t session_max_size(struct smtp_session *s);
uint32_t session_max_recipients(struct smtp_session *s);
uint32_t session_max_messages(struct smtp_session *s); /* 0: no limit */
/* After the login, and at the session's end.  false: too many, 421 is answered. */
bool policy_enter(struct smtp_session *s);
void policy_leave(struct smtp_session *s);
/* A message, a recipient; false: over a limit, answered. */
bool policy_mail(struct smtp_session *s);
bool policy_recipient(struct smtp_session *s);
void policy_content(struct smtp_session *s, uint64_t octets);
/* The message of the transaction does not count after all. */
void policy_forget(const struct transaction *tx);

/* fair.c: the receive window of message data, from its beginning to its end */
void fair_begin(struct smtp_session *s);
void fair_end(struct smtp_session *s);
void fair_again(struct timer *t);

/* session.c */
void session_reply(struct smtp_session *s, enum smtp_reply r, const char *arg);
void session_reply_raw(struct smtp_session *s, const char *text, size_t n);
/* Counts a refused command; true: the budget is spent and the session is closing. */
bool session_error(struct smtp_session *s, enum smtp_reply r, const char *arg);
/* Sends the last reply, then closes. */
void session_finish(struct smtp_session *s, enum smtp_reply r);
/* Works on what has arrived until something is missing. */
void session_run(struct smtp_session *s);
void session_arm_deadline(struct smtp_session *s);
void session_pause(struct smtp_session *s, uint64_t us);

/* input.c: takes up one line, or a piece of data; false: nothing more to do now */
bool input_step(struct smtp_session *s);

/* records.c */
void records_reception(const struct transaction *tx);
void records_rejection(const struct smtp_session *s, enum smtp_reply r, const char *line, size_t n);

/* follow.c, when somebody follows */
void follow_note(struct smtp_session *s, enum smtp_follow_kind kind, const char *text, size_t n);
void follow_command_note(struct smtp_session *s, const char *line, size_t n);
void follow_reply_note(struct smtp_session *s, const char *text, size_t n);
__attribute__((format(printf, 2, 3))) void follow_event_note(struct smtp_session *s,
							     const char *fmt, ...);
#define follow_event(s, ...)                                 \
	do {                                                 \
		if ((s)->worker->follow != NULL)             \
			follow_event_note((s), __VA_ARGS__); \
	} while (0)

/* commands.c */
bool command_is_known(struct text verb);
void command_line(struct smtp_session *s, const char *line, size_t n);
void session_reset_mail(struct smtp_session *s);

/* ehlo.c */
/* SMTP_EXT_BIT()s of what the session offers at this moment. */
uint32_t session_offers(const struct smtp_session *s);
void run_helo(struct smtp_session *s, struct text arguments);
void run_ehlo(struct smtp_session *s, struct text arguments);

/* mail.c */
void run_mail(struct smtp_session *s, struct text arguments);
void run_rcpt(struct smtp_session *s, struct text arguments);
void run_data(struct smtp_session *s, struct text arguments);
void run_bdat(struct smtp_session *s, struct text arguments);
/* The octets of a BDAT have all come: its one reply. */
void chunk_over(struct smtp_session *s);

/* verdict.c: a reply instead of a commit, counted; final: the message has ended */
bool verdict_refuses(struct transaction *tx, bool final);
/* The user may send as this address. */
bool sender_is_own(const struct smtp_session *s, struct text address);
/* Every author in the header is; what cannot be read is not.  offender: the first that is not,
 * empty when it is the field itself. */
bool authors_are_own(const struct transaction *tx, struct text *offender);

/* sasl.c */
bool sasl_offers(const struct smtp_session *s, enum smtp_mechanism id);
/* " PLAIN LOGIN": what can be used on this session now; the octets. */
size_t sasl_list(const struct smtp_session *s, char *out, size_t room);
void sasl_begin(struct smtp_session *s, struct text arguments);
void sasl_line(struct smtp_session *s, struct text line);
void sasl_refuse(struct smtp_session *s);
/* The exchange is over or given up: wipes and frees what is not with the auth threads. */
void sasl_end(struct smtp_session *s);

/* transaction.c */
struct transaction *transaction_begin(struct smtp_session *s, struct text reverse,
				      const struct mail_parameters *m);
/* 0, -ENOSPC: no more room for recipients, -EINVAL */
int transaction_recipient(struct transaction *tx, struct text path,
			  const struct rcpt_parameters *r);
/* Before the first octet of content. */
void transaction_begin_content(struct transaction *tx, bool dots);
/* The session lets go; the rest ends by itself. */
void transaction_abandon(struct transaction *tx);
/* Octets of input that the body can take now; 0: back-pressure. */
size_t transaction_room(struct transaction *tx);
/* Where the next octets are decoded to: what content_bound() says for that room. */
uint8_t *transaction_tail(struct transaction *tx);
void transaction_added(struct transaction *tx, size_t n);
/* Timer: gives every waiting body to the spool while the pool is under pressure. */
void transactions_relieve(struct timer *t);
/* The data has ended: replies or hands the message to the spool. */
void transaction_end_of_data(struct transaction *tx);
/* Nothing of the body is wanted any more, but the transaction stays. */
void transaction_poison(struct transaction *tx);
enum smtp_reply transaction_failure(struct smtp_worker *w, int failure);

/* prefix.c: Received, and Date, Message-ID and Sender where missing; octets, 0 when they do not
 * fit */
size_t prefix_build(const struct transaction *tx, char *out, size_t room);
/* For the log: what was added to the message or changed in it, "" if nothing was. */
const char *prefix_changes(const struct transaction *tx, char *out, size_t room);

#endif
