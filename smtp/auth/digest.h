/* digest.h - SHA-256 of octets that come in pieces.  Runs on: any thread. */
#ifndef SMTP_AUTH_DIGEST_H
#define SMTP_AUTH_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DIGEST_BYTES = 32 };

struct digest;

struct digest *digest_begin(void); /* NULL when memory is short */
void digest_add(struct digest *d, const void *data, size_t n);
/* Ends and frees it; out may be NULL.  false: it could not be made. */
bool digest_end(struct digest *d, uint8_t *out);

#endif
