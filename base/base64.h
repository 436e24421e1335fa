/* base64.h - base64, padded or not (RFC 4648 section 4).  Pure functions. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Octets decoded, or -1: malformed, non-canonical, or more than limit. */
int base64_decode(const char *text, size_t n, uint8_t *out, size_t limit);
/* Padded and NUL-terminated; out must hold (n + 2) / 3 * 4 + 1. */
void base64_encode(const uint8_t *in, size_t n, char *out);

#endif
