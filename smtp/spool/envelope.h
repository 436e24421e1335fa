/*
 * envelope.h - the envelope as it is stored: reverse-path, recipients and the parameters that
 * must survive a restart.  A versioned byte encoding; pure functions, no allocation.
 *
 * Encoding is incremental, because recipients arrive one by one: envelope_begin(), then
 * envelope_add_recipient() for each.  All strings are raw octets without NUL, CR or LF
 * (refused: -EINVAL), so nothing a client sends can forge a field.
 */
#ifndef SMTP_SPOOL_ENVELOPE_H
#define SMTP_SPOOL_ENVELOPE_H

#include "base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct envelope_text {
	const char *at; /* not terminated */
	uint32_t bytes;
};

struct envelope {
	struct envelope_text reverse_path; /* without <>; empty: null reverse-path */
	struct envelope_text user;         /* authenticated as */
	struct ip_addr client;
	int64_t accepted_at_s; /* UNIX time */
	bool body_8bit;        /* BODY=8BITMIME (RFC 6152) */
	uint32_t recipients;
};

/* Bytes written at out, or -ENOSPC / -EINVAL. */
ptrdiff_t envelope_begin(uint8_t *out, size_t room, const struct envelope *e);
/* Appends one recipient to the encoding of *bytes bytes; updates count and *bytes. */
int envelope_add_recipient(uint8_t *out, size_t room, size_t *bytes, const char *path,
			   uint32_t path_bytes);
/* Checks the whole encoding (hostile or damaged bytes are an error, never a crash): 0 or -EINVAL.
 * Texts point into data. */
int envelope_decode(const uint8_t *data, size_t bytes, struct envelope *e);
/* Walks recipients: *cursor starts at 0; false at the end. */
bool envelope_next_recipient(const uint8_t *data, size_t bytes, size_t *cursor,
			     struct envelope_text *path);

#endif
