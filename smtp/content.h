/*
 * content.h - the octets of a message on their way in, by DATA or BDAT: end of data, dot
 * transparency, strict line ends, and the header scan.
 *
 * A state machine fed any number of octets at a time; the same input cut at any place gives
 * the same result.  Only CR LF . CR LF ends DATA; BDAT has no end and no dots.  A lone CR, lone LF
 * or NUL is noted and the scan goes on, because the reply may only come after the true end.  With
 * `normalize` a lone LF becomes CR LF on the way, but what follows it is never an end of data.
 *
 * Owner: embedded in the session's transaction.  Runs on: any thread; pure.
 * Source: RFC 5321 sections 2.3.8, 4.1.1.4, 4.5.2, 4.5.3.1.6; RFC 3030 sections 2 and 3.
 */
#ifndef SMTP_CONTENT_H
#define SMTP_CONTENT_H

#include "smtp/header.h"

enum content_state {
	CONTENT_LINE_START, /* after CR LF */
	CONTENT_LF_START,   /* after a lone LF that was taken for a line end */
	CONTENT_TEXT,
	CONTENT_CR,  /* CR inside a line */
	CONTENT_DOT, /* "." at the start of a line */
	CONTENT_DOT_CR,
	CONTENT_END,
};

enum {
	/* more than the input may make: a name held back, and what a dot kept waiting */
	CONTENT_SLACK = HEADER_HELD + 4,
	CONTENT_LINE_MAX = 998, /* RFC 5321 section 4.5.3.1.6, without CR LF */
};

struct content_rules {
	bool dots;      /* DATA: dots are transparency, CR LF . CR LF ends */
	bool binary;    /* BODY=BINARYMIME: the body is octets, whatever they are */
	bool normalize; /* a lone LF becomes CR LF */
	bool remove_bcc;
};

struct content {
	struct content_rules rules;
	enum content_state state;
	bool lone_cr, lone_lf, nul, long_line;
	/* CR CR LF ended the line before: whoever sees no line end there sees no end of data behind
	 */
	bool cr_twice, line_doubtful;
	uint64_t line_bytes; /* of the line under way */
	struct header header;
};

void content_begin(struct content *c, const struct content_rules *rules);
/* Octets that n octets of input may make at most. */
static inline size_t content_bound(const struct content_rules *rules, size_t n)
{
	return (rules->normalize ? 2 * n : n) + CONTENT_SLACK;
}
/* Octets of input whose output surely fits into room. */
static inline size_t content_fits(const struct content_rules *rules, size_t room)
{
	if (room <= CONTENT_SLACK)
		return 0;
	return (room - CONTENT_SLACK) / (rules->normalize ? 2 : 1);
}
/* Decodes up to n octets into out (room for content_bound()); *used of them were taken.  Returns
 * how many were written.  c->state == CONTENT_END: DATA has ended, nothing more is taken. */
size_t content_feed(struct content *c, const uint8_t *in, size_t n, uint8_t *out, size_t *used);
/* No more octets will come; writes up to CONTENT_SLACK, returns how many. */
size_t content_finish(struct content *c, uint8_t *out);

#endif
