/*
 * conn.h - a connection as a protocol sees it: a stream, in clear or under TLS.
 *
 * Owner: struct conn is embedded in the protocol's session; the session lives until it has
 *        called conn_close()/conn_abort() or got `ended`.  Nothing is called afterwards, and a
 *        handshake step still in flight comes back to nobody and is freed there.
 * Runs on: the worker of the stream.
 * Units: bytes of plaintext.
 * Errors: verdicts with counters; ended() says why.
 */
#ifndef TLS_CONN_H
#define TLS_CONN_H

#include "dataplane/tcp/stream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_worker;
struct tls_session;
struct conn;

enum conn_end {
	CONN_END_STREAM, /* reset, time-out, unreachable: see conn->stream_end */
	CONN_END_TLS,    /* handshake or record failure */
	CONN_END_BUSY,   /* the handshake queue or memory is full */
};

struct conn_events {
	/* Under TLS: the handshake is complete; there may be bytes to read already, and no
	 * `readable` announces them.  In clear: never called. */
	void (*secured)(struct conn *c);
	/* Bytes to conn_read(), or conn_eof(). */
	void (*readable)(struct conn *c);
	/* conn_write() will take more. */
	void (*writable)(struct conn *c);
	/* The connection is over and gone; the session may be freed here. */
	void (*ended)(struct conn *c, enum conn_end why);
};

struct conn {
	struct stream *stream;   /* NULL once over */
	struct tls_session *tls; /* NULL: in clear */
	struct tls_worker *worker;
	const struct conn_events *events;
	enum stream_end stream_end;
	bool securing; /* handshake under way */
	bool tls_eof;  /* close_notify received */
	bool unpinned; /* client, CONN_END_TLS: none of the pins is the certificate's */
};

/* The stream events every listener and client of a protocol over conn uses; the stream's user
 * must be its struct conn by the time `readable` can come. */
void conn_stream_readable(struct stream *s, void *user);
void conn_stream_writable(struct stream *s, void *user);
void conn_stream_closed(struct stream *s, void *user, enum stream_end why);

void conn_init(struct conn *c, struct tls_worker *w, struct stream *s,
	       const struct conn_events *events);

enum { TLS_PIN_BYTES = 32 };

struct conn_tls {
	bool client;      /* role */
	const char *name; /* client: SNI, and what verification asks for */
	bool verify;      /* client: the certificate must verify */
	/* client, verify: SHA-256 of the SubjectPublicKeyInfo, copied.  The certificate must hold
	 * one of these keys, and nothing else is asked of it, as with DANE-EE (RFC 7671 section
	 * 5.1); NULL: name and trust anchors count. */
	const uint8_t (*pins)[TLS_PIN_BYTES];
	unsigned n_pins;
	/* client: a session to resume, as conn_ticket() gave it; NULL: none.  The caller's, until
	 * the handshake has ended. */
	const struct tls_ticket *ticket;
};
enum { TLS_TICKET_BYTES = 4096 };
struct tls_ticket {
	size_t bytes;
	uint8_t session[TLS_TICKET_BYTES]; /* DER form of OpenSSL's session: a secret */
};
/* Client role, after the handshake (TLS 1.3: after a first read): what the server gave for resuming
 * the session.  false: nothing, or the records are no longer OpenSSL's. */
bool conn_ticket(const struct conn *c, struct tls_ticket *t);
/* Whether there is memory for TLS now; false is counted. */
bool conn_may_secure(const struct conn *c);
/* Whether the client's network has spent its budget of handshakes; counted. */
bool conn_over_budget(const struct conn *c);
/* Begins TLS.  false: `ended` is NOT called, the caller aborts (memory, queue: counted). */
bool conn_secure(struct conn *c, const struct conn_tls *how);

/* 0: nothing now (or eof). */
size_t conn_read(struct conn *c, void *buf, size_t cap);
/* The peer has finished sending: FIN in clear, close_notify (or FIN) under TLS. */
bool conn_eof(const struct conn *c);
/* Bytes taken.  Under TLS the rest must be offered again unchanged. */
size_t conn_write(struct conn *c, const void *data, size_t n, bool more);
/* Everything written has been acknowledged by the peer. */
bool conn_drained(const struct conn *c);
/* close_notify, then FIN. */
void conn_close(struct conn *c);
void conn_abort(struct conn *c);

bool conn_is_secure(const struct conn *c);

/* What the end of a handshake showed.  It is taken on the handshake thread, once. */
enum tls_binding {
	TLS_BINDING_EXPORTER,         /* RFC 9266: 32 octets, TLS 1.3 only */
	TLS_BINDING_SERVER_END_POINT, /* RFC 5929 section 4: a hash of our certificate */
};
enum { TLS_BINDING_BYTES = 64 };
/* Server role, and tls_config.channel_bindings.  Octets put into out; 0: there is no such binding
 * (in clear, of another version, forgotten) or it does not fit. */
int conn_channel_binding(const struct conn *c, enum tls_binding kind, uint8_t *out, size_t room);

enum { TLS_PEER_NAMES = 8 };
/* A client's certificate.  Names with a NUL inside are left out; text is not normalised. */
struct tls_peer_certificate {
	bool verified;            /* by client_ca and the time, on a resumed session too */
	uint8_t fingerprint[32];  /* SHA-256 of the DER form */
	const char *common_name;  /* UTF-8; "": none, or more than one */
	unsigned n_emails, n_dns; /* subjectAltName */
	const char *emails[TLS_PEER_NAMES], *dns[TLS_PEER_NAMES];
};
/* NULL: none was shown, or forgotten.  Valid until conn_forget_peer() or the end. */
const struct tls_peer_certificate *conn_peer_certificate(const struct conn *c);
/* After the login: bindings and certificate are needed no more. */
void conn_forget_peer(struct conn *c);

/* For Received and records; empty strings where there is nothing to tell. */
struct conn_tls_facts {
	const char *protocol;    /* "TLS1.3" */
	const char *cipher;      /* IANA name */
	const char *group;       /* of the key exchange */
	const char *server_name; /* SNI as the client sent it: printable or not */
	bool resumed;
};
/* false: in clear */
bool conn_tls_facts(const struct conn *c, struct conn_tls_facts *out);
/* The tls clause of a Received field (RFC 8314 section 4.3) with the version as comment,
 * "tls TLS_AES_256_GCM_SHA384 (TLS1.3)"; empty in clear.  Returns out. */
const char *conn_tls_clause(const struct conn *c, char *out, size_t out_bytes);

#endif
