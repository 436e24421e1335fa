/*
 * ticket_file.h - the fleet's ticket secret on disk: a key that ratchets one way.
 *
 *	version 1
 *	epoch_seconds 3600
 *	epoch 492817
 *	key 64 hexadecimal digits
 *
 * Epoch n is the time from n * epoch_seconds after 1970 on.  `key` is K[epoch], the oldest epoch
 * whose tickets can still be read; K[n+1] = HKDF-SHA-256(K[n]), so that every machine with the
 * file has every later key and nobody gets back to an earlier one.  Advancing the file cuts off
 * what no ticket needs any more.
 *
 * Owner: the caller; the key is wiped by ticket_secret_wipe().
 * Runs on: the control thread; posternctl.
 * Errors: 0 or -errno with a text that names file and remedy.
 * Source: RFC 5869 (HKDF), RFC 8446 section 8.1 and appendix F.1 (why keys must go).
 */
#ifndef TLS_TICKET_FILE_H
#define TLS_TICKET_FILE_H

#include <stddef.h>
#include <stdint.h>

enum { TICKET_SECRET_BYTES = 32, TICKET_EPOCHS = 256 };

struct ticket_secret {
	uint64_t epoch, epoch_s;
	uint8_t key[TICKET_SECRET_BYTES]; /* of this epoch */
};

/* Refused: a file that others may read or anyone else may write, one cut short or damaged, a key
 * of zeros (what a failed read leaves), an epoch of the future. */
int ticket_secret_read(struct ticket_secret *s, const char *file, int64_t now_s, char *error,
		       size_t error_bytes);
/* A new random secret for epochs from now on; never replaces a file. */
int ticket_secret_create(const char *file, uint64_t epoch_s, int64_t now_s, char *error,
			 size_t error_bytes);
/* Moves the file's epoch up to the oldest whose tickets live, atomically. */
int ticket_secret_advance(const char *file, uint64_t lifetime_s, int64_t now_s, char *error,
			  size_t error_bytes);

int ticket_secret_random(struct ticket_secret *s, uint64_t epoch_s, int64_t now_s);
/* To a later epoch; -EINVAL for an earlier one. */
int ticket_secret_ratchet(struct ticket_secret *s, uint64_t epoch);
uint64_t ticket_secret_oldest(const struct ticket_secret *s, uint64_t lifetime_s, int64_t now_s);
void ticket_secret_wipe(struct ticket_secret *s);

/* HKDF-SHA-256 of 32 octets of key with info; 0 or -ENOMEM. */
int ticket_derive(const uint8_t *key, const char *info, uint8_t *out, size_t bytes);

#endif
