/* internal.h - what the files of this folder share; not for other layers */
#ifndef TLS_INTERNAL_H
#define TLS_INTERNAL_H

#include "base/ring.h"
#include "base/siphash.h"
#include "base/slab.h"
#include "tls/aead.h"
#include "tls/budget.h"
#include "tls/conn.h"
#include "tls/credential.h"
#include "tls/hello.h"
#include "tls/tickets.h"
#include "tls/tls.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
	MAX_THREADS = 32,
	MAX_WORKERS = 64,
	RETIRED_SETS = 64 * MAX_THREADS,
	QUEUE_SLOTS = 4096,              /* handshake steps waiting for one thread */
	HANDSHAKE_BYTES = 20000,         /* most that an unauthenticated peer may have us hold */
	SERVER_HANDSHAKE_BYTES = 131072, /* of a next hop: long certificate chains exist */
	RECORD_HEADER = 5,
	RECORD_OVERHEAD = 64, /* no record adds more to its content, OpenSSL's included */
};

/* What a step found; the worker counts it when the session comes back. */
enum note {
	NOTE_TICKET_FOREIGN = 1 << 0,
	NOTE_TICKET_OLD = 1 << 1,
	NOTE_TICKET_CERTIFICATE = 1 << 2,
	NOTE_NAME_UNKNOWN = 1 << 3,
	NOTE_NAME_MALFORMED = 1 << 4,
	NOTE_OCSP_EXPIRED = 1 << 5,
	NOTE_CERTIFICATE_BAD = 1 << 6,
	NOTE_NAME_READ = 1 << 11,
	NOTE_SIGNED = 1 << 12,
	NOTE_SIGNER_FAILED = 1 << 13,
	NOTE_UNPINNED = 1 << 14,
	/* these end the session */
	NOTE_KEY_UPDATES = 1 << 7,
	NOTE_RENEGOTIATION = 1 << 8,
	NOTE_ALERTS = 1 << 9,
	NOTE_EMPTY_RECORDS = 1 << 10,
};

enum job { JOB_ACCEPT, JOB_CONNECT, JOB_FREE };
enum step { STEP_MORE, STEP_DONE, STEP_FAILED, STEP_SIGNING };

/* One TLS object with the bytes that travel with it.  An idle session needs the first lines. */
struct tls_session {
	SSL *ssl;                /* NULL: not begun, or taken over */
	struct records *records; /* native.c; NULL: OpenSSL reads and writes */
	struct conn *conn;       /* worker only; NULL: its connection has gone */
	struct tls_worker *worker;
	handle_t handle;          /* in worker->sessions */
	struct chunk *in, *out;   /* handshake bytes; `in` also holds what follows Finished */
	struct tls_peer *peer;    /* facts.c; until the login */
	char *server_name;        /* SNI; NULL: none */
	uint64_t key_update_us;   /* when the last one came */
	uint32_t notes;           /* enum note, of this step */
	uint16_t version, cipher; /* as on the wire; 0 before the end of the handshake */
	int group;                /* NID */
	enum step step;
	uint8_t thread; /* whose contexts the SSL comes from */
	uint8_t job;    /* enum job */
	uint8_t key_updates, renegotiations;
	bool in_flight;  /* belongs to the handshake thread */
	bool blocked;    /* worker: SSL_write waits for room */
	bool detached;   /* BIO works on the chunks, not on the stream */
	bool hostile;    /* nothing more is read */
	bool in_private; /* `in` is OpenSSL's memory, not a chunk of the pool */
	bool resumed;
	bool kept;   /* was to be taken over, but OpenSSL has it */
	bool verify; /* client */

	/* of the handshake */
	struct takeover *takeover;    /* NULL: the records stay with OpenSSL */
	struct context_set *contexts; /* server: whose contexts ssl uses */
	const char *failure;          /* why, for the log */
	union {
		struct {
			struct list queued, aged; /* schedule.c, while waiting */
		};
		struct {                                 /* client */
			const struct tls_ticket *ticket; /* to be resumed */
			struct pins *pins;               /* until the SSL object has them */
		};
	};
	uint64_t since_us; /* waiting */
	uint64_t cpu_ns;   /* of its steps */
	uint32_t gathered; /* bytes received */
	uint32_t whole;    /* end of the last whole record in `in` */
	uint32_t tried;    /* up to there no whole ClientHello */
	uint16_t source;
	uint8_t line, kind; /* enum schedule_line, tls_kind */
	bool hello_seen;    /* server: the whole ClientHello has come */
	bool waiting;       /* in worker->schedule */
	bool first_step;    /* in flight with the first step */
	bool pinned;        /* client: pins count, not name and trust anchors */
	bool unpinned;      /* none of them is the certificate's */
};

/* The server contexts that one thread uses under one configuration; fixed once built. */
struct context_set {
	struct tls_thread *thread;
	uint64_t generation; /* of the configuration */
	unsigned references; /* control thread: states that have it */
	_Atomic uint64_t sessions;
	struct credential **credential; /* eagerly loaded */
	unsigned n_credentials;
	SSL_CTX **context; /* [0]: the default */
	unsigned n_contexts;
	struct context_name *name; /* sorted */
	unsigned n_names;
	int minimum;
	uint32_t suites, groups; /* bits of tls.h, never 0 */
	uint64_t lifetime_s;
	uint8_t session_context[32];
	X509_STORE *client_store; /* NULL: no client certificates */
	STACK_OF(X509_NAME) * client_names;
	char *directory; /* NULL: none */
};

/* What new sessions work with, published by the control thread; nobody changes it. */
struct tls_state {
	struct context_set *sets[MAX_THREADS];
	struct tickets *tickets;
	struct tls_budget budget;
	bool channel_bindings, native_records;
	struct tls_state *next; /* in tls->retired */
};

/* A thread with contexts of its own: nothing is shared between threads. */
struct tls_thread {
	struct tls *tls;
	unsigned index;
	pthread_t thread;
	bool running;
	struct ring *queue;
	OSSL_LIB_CTX *lib;
	SSL_CTX *client;
	EVP_CIPHER *ticket_cipher;
	struct aead_engine *engine;     /* makes keys */
	struct tls_state *_Atomic seen; /* state_adopt() */
	struct tls_state *state;        /* the same, for this thread */
	struct directory *directory;    /* certificates that it has loaded itself */
	struct signer *signer;          /* NULL: keys are loaded */
	OSSL_LIB_CTX *remote;           /* of the keys that the signer has */
	_Atomic unsigned signing;       /* sessions here that wait for a signature */
};

struct tls {
	struct tls_thread threads[MAX_THREADS];
	unsigned n_threads;
	uint32_t max_sessions;
	BIO_METHOD *bio;
	int context_index; /* of SSL_CTX ex_data: struct identity */
	struct tls_state *_Atomic current;
	struct tls_worker *workers[MAX_WORKERS];
	_Atomic int64_t wall_s;
	/* the rest is the control thread's */
	struct tls_state *retired;
	struct context_set *retired_sets[RETIRED_SETS];
	_Atomic unsigned n_retired_sets;
	uint64_t generation;
	struct ticket_secret secret;
	char *secret_file;
	uint64_t lifetime_s;
	int64_t warned_day;
	_Atomic int64_t first_expiry_s;
	_Atomic bool stop;
};

struct tls_worker {
	struct tls *tls;
	struct tls_worker **slot; /* in tls->workers */
	struct shard *shard;
	struct slab *sessions;
	struct ring *back; /* steps that came back */
	struct tls_state *_Atomic seen;
	struct tls_state *state;
	unsigned next_thread;
	/* of its sessions at a thread, those that wait for a signature */
	_Atomic unsigned signing[MAX_THREADS];
	struct schedule *schedule;
	struct budget *networks, *names;
	uint8_t *scratch; /* HELLO_BYTES + 4 */
	struct aead_engine *engine;
	uint8_t *sealed;       /* AEAD_PLAIN + AEAD_OVERHEAD: one record on its way to a stream */
	uint64_t record_limit; /* records under one AES-GCM key; less in tests */
	struct tls_cost costs[TLS_KINDS];
	uint64_t counters[tls_counter_count];
};

static inline void tls_count(struct tls_worker *w, enum tls_counter c)
{
	counter_inc(&w->counters[c]);
}

static inline struct tls_thread *session_thread(const struct tls_session *s)
{
	return &s->worker->tls->threads[s->thread];
}

/* context.c */
struct context_set *context_set_create(struct tls_thread *t, const struct tls_config *c,
				       const struct context_set *before, char *error,
				       size_t error_bytes);
void context_set_free(struct context_set *s);
/* A context with up to one certificate of each kind. */
SSL_CTX *context_create(const struct context_set *s, struct credential *const *credentials);
/* The server context for a normalised name; NULL: none of the eagerly loaded. */
SSL_CTX *context_find(const struct context_set *s, const char *name);
/* Whether a client's certificate is good now. */
bool context_verifies(const struct context_set *s, X509 *x);
int context_new_index(void); /* of the certificates in a context */
SSL_CTX *context_client(struct tls_thread *t, const char *ca_file, char *error, size_t error_bytes);
/* OpenSSL's oldest error in words, or what was there before; none is left behind. */
void context_reason(char *reason, size_t bytes);
int context_fail(char *error, size_t error_bytes, const char *what, const char *file,
		 const char *remedy);

/* directory.c: certificates found at the first session that asks for them */
enum { DIRECTORY_FOUND = 1024, DIRECTORY_IDLE_S = 30 };
/* At most so many certificates are kept (0: DIRECTORY_FOUND), none that was not asked for for
 * DIRECTORY_IDLE_S. */
struct directory *directory_create(const struct siphash_key *key, const struct tls_thread *t,
				   unsigned entries);
void directory_free(struct directory *d);
/* Good until the next call with d.  NULL: there is none.  Takes note in s. */
const struct credential *directory_find(struct directory *d, struct tls_session *s,
					const char *name);
/* Drops some of what nobody has asked for of late; the number. */
unsigned directory_sweep(struct directory *d, int64_t wall_s);
unsigned directory_count(const struct directory *d);
/* The names of the first so many entries, sorted; the caller frees the array and each. */
unsigned directory_list(const char *path, char **names, unsigned most);
/* Paths of an entry's files, CREDENTIAL_PATH octets each. */
enum { CREDENTIAL_PATH = 800, DIRECTORY_EAGER = 64 };
void directory_paths(const char *path, const char *name, char *chain, char *key);

/* tickets.c */
bool tickets_install(SSL_CTX *x);

/* state.c: publishing and retiring */
int state_build(struct tls *t, const struct tls_config *c, char *error, size_t error_bytes);
/* Reader: takes what was published last; never waits. */
struct tls_state *state_adopt(struct tls *t, struct tls_state *_Atomic *seen);
void state_close(struct tls *t);

/* bio.c */
BIO_METHOD *bio_method_create(void);

/* conn.c: the connection is over by our verdict; the protocol may free it */
void conn_over(struct conn *c, enum conn_end why);

/* schedule.c */
enum schedule_line { SCHEDULE_FULL, SCHEDULE_RESUMPTION, SCHEDULE_LINES };
struct schedule *schedule_create(struct shard *shard);
void schedule_destroy(struct schedule *q);
/* May end other connections, those that wait longest. */
void schedule_add(struct tls_session *s, enum schedule_line line);
void schedule_remove(struct tls_session *s);
/* Begins what may begin; may end any connection that waits. */
void schedule_run(struct tls_worker *w);
void schedule_returned(struct tls_session *s);
unsigned schedule_waiting(const struct schedule *q);
/* Keyed hashes: of the first octets of an IPv4 address or a /64, of a name. */
uint64_t schedule_network(const struct schedule *q, const struct ip_addr *peer, unsigned octets4);
uint64_t schedule_name(const struct schedule *q, const uint8_t *name, size_t n);

/* takeover.c: on the handshake thread.  begin() before the first step, if the state says so;
 * listen() at each step, and when a Finished goes by; sent() and header() follow what OpenSSL
 * writes and reads; finish() at the end: if s->records has the keys then, the SSL object is gone.
 * drop() at any end, on any thread. */
void takeover_begin(struct tls_session *s);
void takeover_listen(struct tls_session *s, bool finished);
void takeover_sent(struct tls_session *s, const uint8_t *data, size_t n);
void takeover_header(struct tls_session *s, bool sent, const uint8_t *header);
void takeover_finish(struct tls_thread *t, struct tls_session *s);
void takeover_drop(struct tls_session *s);

/* native.c: records of sessions that were taken over, on the worker; as conn.h says */
size_t native_read(struct conn *c, void *buf, size_t cap);
size_t native_write(struct conn *c, const uint8_t *data, size_t n);
/* Room again.  false: what waits still waits. */
bool native_flush(struct tls_session *s);
void native_close(struct conn *c);
void native_drop(struct tls_session *s);

/* pins.c: keeps a copy of the pins; false: no memory */
bool pins_keep(struct tls_session *s, const struct conn_tls *how);
/* Makes them what s->ssl verifies; on the handshake thread. */
bool pins_use(struct tls_session *s);
/* At any end, on any thread. */
void pins_drop(struct tls_session *s);

/* guard.c: watches what a peer makes OpenSSL do */
void guard_install(SSL *ssl, struct tls_session *s);
/* One more; at the limit the session becomes hostile and has a note. */
void guard_key_update(struct tls_session *s);
void guard_renegotiation(struct tls_session *s);
/* The note for OpenSSL's own limits; 0: another error. */
uint32_t session_flood_note(unsigned long error);

/* threads.c: runs one step on the calling thread */
void session_step(struct tls_thread *t, struct tls_session *s);
void session_free_ssl(struct tls_session *s);

/* facts.c: on the handshake thread, at the end; dropped on any thread */
void session_take_facts(struct tls_session *s, bool bindings);
void session_drop_peer(struct tls_session *s);
void session_drop_facts(struct tls_session *s);

/* handshake.c: a step has come back */
void session_returned(struct tls_session *s);
/* To its thread; false: no chunk or no room there (counted). */
bool session_submit(struct tls_session *s);
void session_count_notes(struct tls_session *s);
/* The stream has something new, or room again. */
void handshake_input(struct conn *c);
void handshake_output(struct tls_session *s);
/* Frees `in`, wherever it comes from. */
void session_free_in(struct tls_session *s);
/* What is left of the chunk, into the stream; false: some of it waits for room. */
bool session_send_chunk(struct tls_session *s, struct chunk *c);
/* Gives the object to its thread to be freed. */
void session_dispose(struct tls_session *s);

#endif
