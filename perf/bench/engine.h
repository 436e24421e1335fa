/*
 * engine.h - the sessions of one worker of the generator, and what they have measured.
 *
 * A session is one connection from its SYN to its end; link.h carries its octets over our own
 * stack or the kernel's.  In the closed loop every session goes on as soon as it may.  In the open
 * loop units of work (messages, or sessions where that is the mode) arrive by the clock, whether
 * the server keeps up or not, and their latency counts from that moment: a server that stalls is
 * charged for all that should have been sent meanwhile.
 *
 * Owner: the worker.  The counters and histograms may be read by any thread.
 * Runs on: the worker, engine_create() and engine_destroy() while it does not run.
 * Units: microseconds.
 */
#ifndef PERF_BENCH_ENGINE_H
#define PERF_BENCH_ENGINE_H

#include "base/counter.h"
#include "base/histogram.h"
#include "base/shard.h"
#include "base/slab.h"
#include "perf/bench/options.h"
#include "tls/conn.h"

#include <openssl/types.h>

#define BENCH_COUNTERS(X)                                                                     \
	X(bench, opened, "sessions", "connections begun")                                     \
	X(bench, connected, "sessions", "TCP handshakes complete")                            \
	X(bench, secured, "sessions", "TLS handshakes complete")                              \
	X(bench, offered_ticket, "sessions", "TLS handshakes that offered a session")         \
	X(bench, logged_in, "sessions", "sessions ready for work")                            \
	X(bench, ended, "sessions", "sessions that ended as they should")                     \
	X(bench, refused, "sessions", "connections refused or unreachable")                   \
	X(bench, broken, "sessions", "connections that the server broke off")                 \
	X(bench, tls_failed, "sessions", "TLS handshakes that failed")                        \
	X(bench, login_failed, "sessions", "greetings, EHLOs or logins refused")              \
	X(bench, timeouts, "sessions", "sessions without a reply in time")                    \
	X(bench, no_resources, "sessions", "connections that we had no port or memory for")   \
	X(bench, replies, "replies", "replies received")                                      \
	X(bench, bad_replies, "replies", "octets that are no reply, or one nobody asked for") \
	X(bench, accepted, "messages", "messages acknowledged by 250")                        \
	X(bench, deferred, "messages", "messages refused by 4yz")                             \
	X(bench, rejected, "messages", "messages refused by 5yz")                             \
	X(bench, unknown, "messages", "messages whose connection broke before the verdict")   \
	X(bench, accepted_bytes, "bytes", "octets of acknowledged messages")                  \
	X(bench, noops, "commands", "NOOPs answered")                                         \
	X(bench, arrived, "units", "units of work that arrived (open loop)")                  \
	X(bench, done, "units", "units of work that succeeded")                               \
	X(bench, failed, "units", "units of work that did not")                               \
	X(bench, ids_repeated, "messages", "250s whose text was seen before")                 \
	X(bench, turns_late, "turns", "turns of the loop that came over 3 ms late")

COUNTER_ENUM(bench, BENCH_COUNTERS)

enum bench_time {
	TIME_CONNECT,  /* SYN to established */
	TIME_TLS,      /* first octet of the handshake to its end */
	TIME_LOGIN,    /* SYN to ready for work */
	TIME_ENVELOPE, /* MAIL to 354 */
	TIME_CONTENT,  /* first octet of the content to the verdict */
	TIME_SERVICE,  /* first octet of a unit of work to its end */
	TIME_LATENCY,  /* arrival of a unit of work to its end */
	TIME_NOOP,
	TIMES,
};
extern const char *const bench_time_names[TIMES];

enum { ERROR_KINDS = 8, ERROR_BYTES = 120 };

struct bench_error {
	char text[ERROR_BYTES];
	uint64_t n;
};

struct engine;
struct session;

/* How octets travel.  secure(), read() and write() as those of a conn. */
struct link_ops {
	/* 0: session_opened() or session_ended() follows; else -errno */
	int (*open)(struct session *s);
	bool (*secure)(struct session *s, const struct tls_ticket *ticket);
	size_t (*read)(struct session *s, void *buf, size_t cap);
	bool (*eof)(const struct session *s);
	size_t (*write)(struct session *s, const void *data, size_t n);
	/* Nothing is called for the session afterwards. */
	void (*close)(struct session *s, bool polite);
	bool (*ticket)(const struct session *s, struct tls_ticket *t);
};

enum session_state {
	SESSION_OPENING,
	SESSION_SECURING,
	SESSION_GREETING,
	SESSION_EHLO,
	SESSION_STARTTLS,
	SESSION_LOGIN,
	SESSION_READY,
	SESSION_ENVELOPE,
	SESSION_CONTENT, /* being written, or waiting for the verdict */
	SESSION_RSET,
	SESSION_NOOP,
	SESSION_QUIT,
};

/* A socket of the kernel (kernel.c). */
struct socket {
	int fd;
	bool opened, securing, want_room, eof, ended;
	SSL *ssl; /* NULL: in clear */
};

/* An idle one is this and what its link needs. */
struct session {
	union {
		struct conn conn;
		struct socket socket;
	} link;
	struct engine *engine;
	struct list ready; /* in engine->ready, or nowhere */
	struct timer timer;
	handle_t handle;
	uint64_t step_us;           /* the present step began */
	uint64_t arrival_us;        /* of its unit of work */
	uint64_t begun_us;          /* work on it */
	uint64_t number;            /* of the message */
	uint64_t messages;          /* left; UINT64_MAX: no end */
	char *line;                 /* a part of a reply's line; NULL: none */
	char *unsent;               /* commands that did not fit; NULL: none */
	struct scram_client *scram; /* during the login */
	uint32_t line_bytes, unsent_bytes;
	uint32_t size, written; /* of the content */
	uint16_t replies;       /* of the envelope, so far */
	uint16_t failure;       /* first bad reply to it; 0: none */
	uint8_t state;          /* enum session_state */
	bool working;           /* a unit of work is charged to it */
	bool greeted, secured, opening, content_due;
};

struct engine {
	struct shard *shard;
	const struct bench_options *options;
	const struct link_ops *link;
	void *link_arg;
	unsigned index;
	struct slab *sessions;
	struct list ready; /* sessions that wait for work */
	unsigned most, opening;
	bool stopping, measuring;
	uint64_t left; /* units that may still begin; UINT64_MAX: no end */
	/* open loop: moments at which work arrived that nobody has begun yet */
	uint64_t *waiting;
	size_t waiting_room, waiting_first, waiting_n;
	uint64_t numbers; /* of messages, the last given */
	double rate, next_arrival_us, next_open_us;
	uint64_t last_turn_us;
	struct tls_ticket ticket; /* bytes 0: none yet */
	struct content *content;
	struct id_set *ids;
	uint64_t *accepted; /* numbers, for --ids */
	size_t accepted_n, accepted_room;
	uint8_t *buffer; /* ENGINE_BUFFER */
	struct bench_error errors[ERROR_KINDS];
	uint64_t counters[bench_counter_count];
	struct histogram times[TIMES];
};

enum { ENGINE_BUFFER = 16384 };

/* NULL when memory is short. */
struct engine *engine_create(struct shard *shard, const struct bench_options *o, unsigned index,
			     const struct link_ops *link, void *link_arg);
void engine_destroy(struct engine *e);
/* A stage of the worker: begins what is due; how much. */
unsigned engine_turn(void *engine);
/* Nothing new begins; engine_idle(): all has ended. */
void engine_stop(void *engine);
bool engine_idle(const struct engine *e);
unsigned engine_sessions(const struct engine *e);

static inline void bench_count(struct engine *e, enum bench_counter c)
{
	counter_inc(&e->counters[c]);
}

/* Evenly between 0 and 1, neither of them. */
static inline double bench_draw(struct shard *shard)
{
	return ((double)(shard_random(shard) >> 11) + 0.5) / 9007199254740992.0;
}

/* engine.c for session.c */
/* The session may take work, or has ended. */
void engine_ready(struct session *s);
void engine_session_over(struct session *s);
/* A unit of work of the session has come to its end. */
void engine_unit_over(struct session *s, bool good);
void engine_time(struct engine *e, enum bench_time t, uint64_t since_us);
void engine_error(struct engine *e, const char *text);
/* A message of the session has its 250, whose text this is. */
void engine_accepted(struct session *s, const char *text, size_t n);

/* session.c for the links */
void session_opened(struct session *s);
void session_secured(struct session *s);
void session_readable(struct session *s);
void session_writable(struct session *s);
enum session_end { SESSION_END_REFUSED, SESSION_END_BROKEN, SESSION_END_TLS };
/* The link has gone; the session goes. */
void session_ended(struct session *s, enum session_end why);
/* session.c for engine.c */
void session_begin(struct session *s);
void session_work(struct session *s, uint64_t arrival_us);
void session_quit(struct session *s);

/* content.c: what a message consists of */
struct content *content_create(const struct bench_options *o, unsigned index);
void content_destroy(struct content *c);
uint32_t content_draw_size(const struct bench_options *o, struct shard *shard);
/* Octets [at, at + n) of the message with its end (".\r\n" unless BDAT) into out, at most room; how
 * many.  The same for the same arguments. */
size_t content_fill(const struct content *c, uint64_t number, uint32_t size, uint64_t at,
		    uint8_t *out, size_t room);
/* With the end. */
uint64_t content_bytes(const struct content *c, uint64_t number, uint32_t size);

/* ids.c: a set of hashes */
struct id_set *id_set_create(void);
void id_set_destroy(struct id_set *s);
/* false: it was there.  When memory is short it forgets. */
bool id_set_add(struct id_set *s, const void *data, size_t n);

/* scram.c: the client's side of SCRAM-SHA-256 (RFC 5802, 7677) */
struct scram_client *scram_client_create(const char *user, const char *password, uint64_t a,
					 uint64_t b);
void scram_client_destroy(struct scram_client *x);
/* Client-first, base64; out must hold SCRAM_TEXT. */
enum { SCRAM_TEXT = 2048 };
void scram_client_first(struct scram_client *x, char *out);
/* The server's challenge (base64) to our next message (base64); false: it is none, or a lie. */
bool scram_client_next(struct scram_client *x, const char *challenge, size_t n, char *out);

#endif
