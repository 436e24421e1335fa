/*
 * peer.h - the other end of a connection to the gateway: octets and replies, in clear or under an
 * OpenSSL of its own over memory BIOs, in either role.
 *
 * Owner: peer_connect() and peer_accept() make one, peer_free() or mail_destroy() ends it.
 * Runs on: the test, inside mail_run().
 */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H

#include "tests/sim/mail.h"

struct bytes {
	uint8_t *at;
	size_t n, room;
};
void bytes_add(struct bytes *b, const void *data, size_t n);

struct peer {
	struct list link; /* in mail->peers */
	struct mail *m;
	struct stream *stream; /* NULL: not yet, or over */
	SSL *ssl;              /* NULL: in clear */
	struct bytes got;      /* plaintext received so far, NUL behind it */
	struct bytes raw;      /* octets that wait for the stream */
	size_t got_read;       /* up to here consumed by peer_reply() */
	size_t split;          /* send raw in pieces of so many octets; 0: all at once */
	bool opened, secured, tls_failed;
	bool notified; /* close_notify has come */
	bool eof;      /* FIN */
	bool over;     /* RST or another end by the gateway's side */
	bool deaf;     /* received octets are left in the stream */
	bool held;     /* raw octets are kept */
	enum stream_end why;
	void (*received)(struct peer *p); /* server role: something new in got, or eof */
	void *user;
	char reply[4096];
};

extern const struct stream_events peer_events;

struct peer *peer_new(struct mail *m);
/* Connects and waits until it is open (or refused). */
struct peer *peer_connect(struct mail *m, uint16_t port);
/* The same from another address than host 0 has. */
struct peer *peer_connect_from(struct mail *m, uint16_t port, const struct ip_addr *from);
/* Server role: takes the stream over, from `opened`. */
struct peer *peer_accept(struct mail *m, struct stream *s);
void peer_free(struct peer *p); /* aborts what is open */
void peer_pump(struct peer *p);

/* Plaintext: under TLS it is sealed at once. */
void peer_send(struct peer *p, const void *data, size_t n);
void peer_say(struct peer *p, const char *text);
/* Octets past TLS. */
void peer_raw(struct peer *p, const void *data, size_t n);
void peer_fin(struct peer *p);
void peer_reset(struct peer *p);
void peer_close_notify(struct peer *p);

/* Begins TLS.  version: TLS1_2_VERSION, TLS1_3_VERSION, 0 any; session: to resume, or NULL. */
void peer_begin_tls(struct peer *p, int version, SSL_SESSION *session);
void peer_begin_tls_server(struct peer *p);
/* The same as a client, and waits; false: it failed. */
bool peer_tls(struct peer *p, int version);

/* The next whole reply, all its lines; "" when the connection is over or nothing comes. */
const char *peer_reply(struct peer *p);
const char *peer_cmd(struct peer *p, const char *line); /* with CR LF added */
unsigned peer_acknowledged(const struct peer *p);       /* messages, so far */
bool peer_ended(struct peer *p);                        /* waits for the gateway's end */
void peer_expect(struct peer *p, const char *prefix);
/* EHLO, and under TLS AUTH PLAIN as alice. */
struct peer *peer_login(struct mail *m); /* port 465, greeted, authenticated */
void peer_envelope(struct peer *p, const char *from, const char *to);
/* A whole message over a session in which MAIL may come; the reply to its end. */
const char *peer_message(struct peer *p, const char *content);

/* "AGFsaWNlAHNlY3JldA==": NUL alice NUL secret */
#define PEER_PLAIN "AGFsaWNlAHNlY3JldA=="

#endif
