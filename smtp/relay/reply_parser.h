/*
 * reply_parser.h - replies of a next hop, read octet by octet within bounds.
 *
 * A next hop's octets are as hostile as a client's: over-long lines, endless continuations,
 * changing codes and garbage are faults, never growth.
 *
 * Owner: embedded in the connection.  Pure.  Source: RFC 5321 section 4.2, RFC 2034.
 */
#ifndef SMTP_RELAY_REPLY_PARSER_H
#define SMTP_RELAY_REPLY_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REPLY_LINE_BYTES = 1024, REPLY_LINES = 128 };

enum reply_progress { REPLY_MORE, REPLY_LINE, REPLY_WHOLE, REPLY_BAD };

struct reply_parser {
	char line[REPLY_LINE_BYTES]; /* the current line, terminated on REPLY_LINE/WHOLE */
	uint32_t n, lines;
	unsigned code; /* of the reply */
};

void reply_begin(struct reply_parser *p);
/* Takes octets up to the end of a line; *used of them.  REPLY_LINE: a continuation line is in
 * p->line; REPLY_WHOLE: the last line is. */
enum reply_progress reply_feed(struct reply_parser *p, const uint8_t *in, size_t n, size_t *used);
/* Text behind the code of the current line. */
const char *reply_text(const struct reply_parser *p);
/* The enhanced code at the front of the text into status (12 bytes), or the code's class with
 * ".0.0"; a 3xx where none belongs is a transient failure.  Returns status. */
const char *reply_status(const struct reply_parser *p, char *status);

#endif
