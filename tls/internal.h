/* internal.h - what the files of this folder share; not for other layers */
#ifndef TLS_INTERNAL_H
#define TLS_INTERNAL_H

#include "base/ring.h"
#include "base/slab.h"
#include "tls/conn.h"
#include "tls/tls.h"

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

enum {
	MAX_THREADS = 32,
	QUEUE_SLOTS = 4096,              /* handshake steps waiting for one thread */
	HANDSHAKE_BYTES = 20000,         /* most that an unauthenticated peer may have us hold */
	SERVER_HANDSHAKE_BYTES = 131072, /* of a next hop: long certificate chains exist */
	RECORD_HEADER = 5,
};

enum job { JOB_ACCEPT, JOB_CONNECT, JOB_FREE };
enum step { STEP_MORE, STEP_DONE, STEP_FAILED };

/* One TLS object with the bytes that travel with it. */
struct tls_session {
	SSL *ssl;
	struct conn *conn; /* worker only; NULL: its connection has gone */
	struct tls_worker *worker;
	handle_t handle; /* in worker->sessions */
	unsigned thread; /* whose contexts the SSL comes from */
	enum job job;
	bool in_flight; /* belongs to the handshake thread */
	bool blocked;   /* worker: SSL_write waits for room */
	enum step step;
	bool detached;          /* BIO works on the chunks, not on the stream */
	uint32_t gathered;      /* handshake bytes received */
	struct chunk *in, *out; /* handshake bytes; `in` also holds what follows Finished */
	char name[256];         /* client: SNI */
	bool verify;
	bool resumed;
	uint16_t version, cipher; /* as on the wire; 0 before the end of the handshake */
	int group;                /* NID */
	struct tls_peer *peer;    /* facts.c; until the login */
	char *server_name;        /* server: SNI; NULL: none */
	char failure[120];        /* why, for the log */
};

/* A thread with contexts of its own: nothing is shared between threads. */
struct tls_thread {
	struct tls *tls;
	pthread_t thread;
	bool running;
	struct ring *queue;
	OSSL_LIB_CTX *lib;
	SSL_CTX *server, *client;
};

struct tls {
	struct tls_thread threads[MAX_THREADS];
	unsigned n_threads;
	uint32_t max_sessions;
	BIO_METHOD *bio;
	bool channel_bindings;
	_Atomic bool stop;
};

struct tls_worker {
	struct tls *tls;
	struct shard *shard;
	struct slab *sessions;
	struct ring *back; /* steps that came back */
	unsigned next_thread;
	uint8_t *scratch;
	uint64_t counters[tls_counter_count];
};

static inline void tls_count(struct tls_worker *w, enum tls_counter c)
{
	counter_inc(&w->counters[c]);
}

/* context.c */
int context_load(struct tls_thread *t, const struct tls_config *c, const uint8_t *ticket_keys,
		 size_t ticket_key_bytes, char *error, size_t error_bytes);
void context_free(struct tls_thread *t);

/* bio.c */
BIO_METHOD *bio_method_create(void);

/* threads.c: runs one step on the calling thread */
void session_step(struct tls_thread *t, struct tls_session *s);

/* facts.c: on the handshake thread, at the end; dropped on any thread */
void session_take_facts(struct tls_session *s, bool bindings);
void session_drop_peer(struct tls_session *s);
void session_drop_facts(struct tls_session *s);

/* conn.c: a step has come back */
void session_returned(struct tls_session *s);
/* Gives the object to its thread to be freed. */
void session_dispose(struct tls_session *s);

#endif
