/*
 * envelope.h - the envelope as it is stored: reverse-path, recipients and the parameters that
 * must survive a restart.  A versioned byte encoding; pure functions, no allocation.
 *
 * Encoding is incremental, because recipients arrive one by one: envelope_begin(), then
 * envelope_add_recipient() for each.  All strings are raw octets without NUL, CR or LF
 * (refused: -EINVAL), so nothing a client sends can forge a field.  What is written is version
 * 2; version 1 is still read.
 *
 * Source: RFC 5321, 6152, 3030 (body), 6531 (SMTPUTF8), 3461 (ret, envid, notify, orcpt), 8689
 * (REQUIRETLS), 6710 (priority), 4865 (hold), 2852 (by).
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

enum envelope_body { ENVELOPE_7BIT, ENVELOPE_8BIT, ENVELOPE_BINARY };
enum envelope_ret { ENVELOPE_RET_NONE, ENVELOPE_RET_HDRS, ENVELOPE_RET_FULL };
enum envelope_by { ENVELOPE_BY_NONE, ENVELOPE_BY_RETURN, ENVELOPE_BY_NOTIFY };
/* Bits; none: the parameter was not given. */
enum envelope_notify {
	ENVELOPE_NEVER = 1,
	ENVELOPE_SUCCESS = 2,
	ENVELOPE_FAILURE = 4,
	ENVELOPE_DELAY = 8,
	ENVELOPE_NOTIFY_ALL = 15,
};

struct envelope {
	struct envelope_text reverse_path; /* without <>; empty: null reverse-path */
	struct envelope_text user;         /* authenticated as */
	struct envelope_text mechanism;    /* by this SASL mechanism */
	struct envelope_text tls;          /* suite and version of the client's TLS */
	struct envelope_text envid;        /* as given: xtext; empty: none */
	struct ip_addr client;
	int64_t accepted_at_s;   /* UNIX time */
	int64_t hold_until_s;    /* UNIX time; 0: not held */
	int64_t by_at_s;         /* UNIX time, when by is not ENVELOPE_BY_NONE */
	uint64_t declared_bytes; /* SIZE; 0: not given */
	enum envelope_body body;
	enum envelope_ret ret;
	enum envelope_by by;
	bool by_trace;
	bool smtputf8, require_tls;
	bool tls_optional; /* "TLS-Required: No" in the header */
	int8_t priority;   /* -9 to 9 */
	uint32_t recipients;
};

struct envelope_recipient {
	struct envelope_text path;  /* without <> */
	struct envelope_text orcpt; /* as given: type;xtext; empty: none */
	uint8_t notify;             /* enum envelope_notify */
};

/* Bytes written at out, or -ENOSPC / -EINVAL. */
ptrdiff_t envelope_begin(uint8_t *out, size_t room, const struct envelope *e);
/* Appends one recipient to the encoding of *bytes bytes; updates count and *bytes. */
int envelope_add_recipient(uint8_t *out, size_t room, size_t *bytes,
			   const struct envelope_recipient *r);
/* Known only when the header has been read. */
void envelope_set_tls_optional(uint8_t *out);
/* Checks the whole encoding (hostile or damaged bytes are an error, never a crash): 0 or -EINVAL.
 * Texts point into data. */
int envelope_decode(const uint8_t *data, size_t bytes, struct envelope *e);
/* Walks recipients: *cursor starts at 0; false at the end. */
bool envelope_next_recipient(const uint8_t *data, size_t bytes, size_t *cursor,
			     struct envelope_recipient *r);

#endif
