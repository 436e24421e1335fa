/*
 * password.h - what is stored in place of a password: argon2id hash, SCRAM-SHA-256 verifier.
 *
 * Owner: the caller; all results are plain structs and texts.
 * Runs on: auth threads (verify: tens of milliseconds, `memory_kib` of memory) and posternctl.
 * Units: memory in KiB.
 * Errors: 0 or -errno; -ENOMEM when the hash's memory is not to be had.
 * Source: RFC 9106 (argon2), RFC 5802, RFC 7677 and RFC 5803 (SCRAM).
 */
#ifndef SMTP_AUTH_PASSWORD_H
#define SMTP_AUTH_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PASSWORD_ENCODED_BYTES = 256,
	PASSWORD_SALT_BYTES = 64,
	PASSWORD_HASH_BYTES = 64,
	SCRAM_TEXT_BYTES = 256,
	SCRAM_KEY_BYTES = 32,
	SCRAM_ITERATIONS_MIN = 4096, /* RFC 7677 section 4 */
	SCRAM_ITERATIONS_MAX = 10000000,
	PASSWORD_MEMORY_MAX_KIB = 1 << 20,
	PASSWORD_PASSES_MAX = 64,
	PASSWORD_LANES_MAX = 16,
};

struct password_cost {
	uint32_t memory_kib, passes, lanes;
	uint32_t scram_iterations;
};

/* 19 MiB, 2 passes, 1 lane; 10000 SCRAM iterations. */
struct password_cost password_cost_default(void);

struct password_hash {
	uint32_t memory_kib, passes, lanes;
	uint8_t salt[PASSWORD_SALT_BYTES], hash[PASSWORD_HASH_BYTES];
	uint8_t salt_bytes, hash_bytes;
};

struct scram_verifier {
	uint32_t iterations;
	uint8_t salt[PASSWORD_SALT_BYTES];
	uint8_t salt_bytes;
	uint8_t stored_key[SCRAM_KEY_BYTES], server_key[SCRAM_KEY_BYTES];
};

/* NULL, or why the text cannot be a password: UTF-8 of 1 to 511 octets without controls. */
const char *password_fault(const char *password);

/* A fresh salt each time.  encoded: PASSWORD_ENCODED_BYTES */
int password_make(const char *password, const struct password_cost *cost, char *encoded);
bool password_parse(const char *encoded, struct password_hash *h);
/* 1: the same password, 0: another one, or -errno.  The time depends on the cost alone. */
int password_verify(const struct password_hash *h, const char *password);

/* SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey.  text: SCRAM_TEXT_BYTES */
int scram_make(const char *password, uint32_t iterations, char *text);
/* The same with a given salt. */
int scram_derive(const char *password, struct scram_verifier *v);
bool scram_parse(const char *text, struct scram_verifier *v);

#endif
