/*
 * aead.h - records sealed and opened by keys of our own: AES-128-GCM, AES-256-GCM and
 * ChaCha20-Poly1305 under TLS 1.2 and 1.3, and the schedule that makes such keys.
 *
 * A keyed context of OpenSSL has more than 1,000 octets: it belongs to the engine, never to a
 * session.  The engine keeps some for each cipher and direction and remembers whose key each holds,
 * so that a row of records of one session makes no key anew.
 *
 * Owner: one engine a thread (a worker's, or a handshake thread's); keys lie in their session.
 *        Nothing is allocated after aead_engine_create().
 * Runs on: the engine's thread.
 * Errors: false or 0: the record is not the peer's, or OpenSSL failed; the session is over.
 * Source: RFC 8446 sections 5.2, 5.3 and 7; RFC 5246 sections 5, 6.2.3.3 and 6.3; RFC 5288, 7905.
 */
#ifndef TLS_AEAD_H
#define TLS_AEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	AEAD_HEADER = 5,
	AEAD_PLAIN = 16384, /* of one record */
	AEAD_TAG = 16,
	AEAD_EXPLICIT = 8,     /* nonce in a record of TLS 1.2 with GCM */
	AEAD_OVERHEAD = 32,    /* more than a record adds to its content */
	AEAD_SECRET_MOST = 48, /* octets of a traffic secret or master secret */
	AEAD_KEY_MOST = 32,
	AEAD_IV = 12,
	/* RFC 8446 section 5.5: records of full size under one key, AES-GCM */
	AEAD_GCM_RECORDS = 23726566,
};

enum aead_cipher { AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305, AEAD_CIPHERS };
enum aead_hash { AEAD_SHA256, AEAD_SHA384, AEAD_HASHES };
enum aead_direction { AEAD_IN, AEAD_OUT };

/* What a cipher suite says of records. */
struct aead_suite {
	uint8_t cipher; /* enum aead_cipher */
	uint8_t hash;   /* enum aead_hash, of the schedule */
	bool tls_1_3;
};
/* By the number on the wire; false: another suite. */
bool aead_suite(uint16_t id, bool tls_1_3, struct aead_suite *out);
size_t aead_hash_bytes(const struct aead_suite *a);
/* Octets between header and ciphertext. */
size_t aead_explicit(const struct aead_suite *a);

/* One direction of a session. */
struct aead_key {
	uint64_t id;         /* names this key among all of its worker's; 0: held by none yet */
	uint64_t sequence;   /* of the next record */
	uint8_t iv[AEAD_IV]; /* TLS 1.2 with GCM: salt, then the next explicit nonce */
	uint8_t key[AEAD_KEY_MOST];
	uint8_t secret[AEAD_SECRET_MOST]; /* TLS 1.3: what the next key comes from */
};

struct aead_engine;
/* records: it seals and opens; otherwise it only makes keys.  NULL: no memory, or no such
 * algorithms. */
struct aead_engine *aead_engine_create(bool records);
void aead_engine_destroy(struct aead_engine *e);

/* Key and IV from k->secret; sequence numbers begin at 0 (RFC 8446 section 7.3). */
bool aead_derive(struct aead_engine *e, const struct aead_suite *a, struct aead_key *k);
/* The next generation of the secret, then the same (section 7.2). */
bool aead_update(struct aead_engine *e, const struct aead_suite *a, enum aead_direction d,
		 struct aead_key *k);
/* Keys and salts of both directions from the master secret (RFC 5246 section 6.3). */
bool aead_derive_1_2(struct aead_engine *e, const struct aead_suite *a, const uint8_t master[48],
		     const uint8_t client_random[32], const uint8_t server_random[32],
		     struct aead_key *client, struct aead_key *server);
/* TLS 1.2 with GCM: the explicit nonce that was used last. */
void aead_set_explicit(struct aead_key *k, const uint8_t last[AEAD_EXPLICIT]);
/* Forgets the key, in a context that holds it too. */
void aead_forget(struct aead_engine *e, const struct aead_suite *a, enum aead_direction d,
		 struct aead_key *k);

/* A whole record with n octets of content at out, which has room for n + AEAD_OVERHEAD octets and
 * does not overlap data.  Its size; 0: failed. */
size_t aead_seal(struct aead_engine *e, const struct aead_suite *a, struct aead_key *k,
		 uint8_t type, const uint8_t *data, size_t n, uint8_t *out);

/* A record is opened in pieces: begin with its header (and explicit nonce), then its ciphertext in
 * order (out may be in), then its tag.  What the parts gave is nothing before the end is true. */
bool aead_open_begin(struct aead_engine *e, const struct aead_suite *a, struct aead_key *k,
		     const uint8_t header[AEAD_HEADER], const uint8_t *explicit_nonce);
bool aead_open_part(struct aead_engine *e, const uint8_t *in, uint8_t *out, size_t n);
bool aead_open_end(struct aead_engine *e, struct aead_key *k, const uint8_t tag[AEAD_TAG]);

#endif
