/*
 * dovecot.h - lines of Dovecot's authentication protocol, version 1; for dovecot.c and tests.
 *
 * A line is fields with tabs between; \001 escapes a tab, a line end, NUL and itself.
 *
 * Runs on: any thread; pure functions over the caller's buffer.
 * Source: Dovecot's "Authentication Protocol v1" (AUTH, OK, FAIL) and its tab escapes.
 */
#ifndef SMTP_AUTH_DOVECOT_H
#define SMTP_AUTH_DOVECOT_H

#include "smtp/auth/backend.h"

enum { DOVECOT_LINE = 8192, DOVECOT_FIELDS = 64 };

struct dovecot_line {
	unsigned n;
	struct {
		char *text; /* unescaped in the line itself, NUL-terminated */
		size_t bytes;
	} field[DOVECOT_FIELDS];
};

/* line[n] is writable and becomes NUL.  false: too many fields, or an escape that is none. */
bool dovecot_split(char *line, size_t n, struct dovecot_line *out);

enum dovecot_greeting { DOVECOT_MORE, DOVECOT_READY, DOVECOT_BAD };
struct dovecot_hello {
	bool version, plain;
};
/* A line of the server's greeting; DOVECOT_READY at its last one. */
enum dovecot_greeting dovecot_greet(struct dovecot_hello *h, const struct dovecot_line *l);

/* The answer to request id; false: the line is of something else. */
bool dovecot_answer(const struct dovecot_line *l, const char *id, const struct auth_backend *b,
		    struct identity_draft *d, enum backend_answer *answer);

#endif
