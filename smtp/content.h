/*
 * content.h - the DATA octet stream: end of data, dot transparency, strict line ends, and what
 * the header section holds.
 *
 * A state machine fed any number of octets at a time; the same input cut at any place gives
 * the same result.  Only CR LF . CR LF ends the data.  A lone CR, lone LF or NUL is noted and
 * the scan goes on, because the reply may only come after the true end.
 *
 * Owner: embedded in the session's transaction.  Runs on: any thread; pure.
 * Source: RFC 5321 sections 2.3.8, 4.1.1.4, 4.5.2; RFC 5322 section 2.2.
 */
#ifndef SMTP_CONTENT_H
#define SMTP_CONTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum content_state {
	CONTENT_LINE_START, /* after CR LF */
	CONTENT_TEXT,
	CONTENT_CR,  /* CR inside a line */
	CONTENT_DOT, /* "." at the start of a line */
	CONTENT_DOT_CR,
	CONTENT_END,
};

struct content {
	enum content_state state;
	bool bad_line_end; /* lone CR, lone LF or NUL seen */
	bool in_header;    /* until the empty line, or a line that is no field */
	bool no_header;    /* the first line is no field: the message is all body */
	bool has_date, has_message_id, has_from;
	bool line_is_field; /* a colon has been seen in this header line */
	unsigned received;  /* Received fields */
	uint64_t header_lines;
	char name[12];      /* lower-case start of the current field name */
	uint8_t name_bytes; /* octets before the colon, capped */
	bool name_done;     /* the colon has come, or this line has no name */
	bool name_spaced;   /* white space has followed the name */
};

void content_begin(struct content *c);
/* Decodes up to n octets into out (room for n + 1); *used of them were taken.  Returns how many
 * were written.  c->state == CONTENT_END: the data has ended and nothing more is taken. */
size_t content_feed(struct content *c, const uint8_t *in, size_t n, uint8_t *out, size_t *used);

#endif
