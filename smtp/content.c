/* content.c - the DATA state machine and the header scan that rides on it */
#include "smtp/content.h"

#include <string.h>

void content_begin(struct content *c)
{
	*c = (struct content){.state = CONTENT_LINE_START, .in_header = true};
}

static void field_named(struct content *c)
{
	static const struct {
		const char *name;
		size_t offset;
	} flags[] = {
		{"date", offsetof(struct content, has_date)},
		{"message-id", offsetof(struct content, has_message_id)},
		{"from", offsetof(struct content, has_from)},
	};

	c->line_is_field = c->name_bytes > 0;
	c->name_done = true;
	if (c->name_bytes >= sizeof(c->name))
		return;
	c->name[c->name_bytes] = '\0';
	if (strcmp(c->name, "received") == 0)
		c->received++;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if (strcmp(c->name, flags[i].name) == 0)
			*((bool *)((char *)c + flags[i].offset)) = true;
	}
}

/* One octet of a header line that is neither CR nor LF. */
static void header_octet(struct content *c, uint8_t o, bool first)
{
	if (first) {
		c->name_bytes = 0;
		c->line_is_field = c->name_spaced = false;
		/* a folded line continues the field above it; as the very first line it would
		 * continue a field of ours, so there it is no field */
		c->name_done = o == ' ' || o == '\t';
		if (c->name_done) {
			c->line_is_field = c->header_lines > 0;
			return;
		}
	}
	if (c->name_done)
		return;
	if (o == ':') {
		field_named(c);
	} else if (o <= ' ' || o >= 0x7f) {
		/* white space before the colon is obsolete syntax (RFC 5322 section 4.5); anything
		 * else is no field */
		c->name_spaced = true;
		if (o != ' ' && o != '\t')
			c->name_done = true;
	} else if (c->name_spaced) {
		/* words of text, a colon somewhere behind them or not */
		c->name_done = true;
	} else {
		if (c->name_bytes < sizeof(c->name))
			c->name[c->name_bytes] = (char)(o >= 'A' && o <= 'Z' ? o | 0x20 : o);
		if (c->name_bytes < UINT8_MAX)
			c->name_bytes++;
	}
}

/* CR LF has come; empty: nothing stood before it on the line. */
static void line_end(struct content *c, bool empty)
{
	if (!c->in_header)
		return;
	if (empty) {
		c->in_header = false;
	} else if (!c->line_is_field) {
		c->in_header = false;
		c->no_header = c->header_lines == 0;
	}
	c->header_lines++;
}

static void text_octet(struct content *c, uint8_t o, bool first)
{
	if (o == '\n' || o == '\0')
		c->bad_line_end = true;
	if (c->in_header)
		header_octet(c, o, first);
}

/* One handler a state: takes an octet, returns how many octets of out it made (0, 1 or 2). */
typedef size_t octet_handler(struct content *c, uint8_t o, uint8_t *out);

static size_t at_line_start(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '.') {
		c->state = CONTENT_DOT;
		return 0;
	}
	out[0] = o;
	if (o == '\r') {
		/* an empty line ends the header at its LF */
		c->line_is_field = false;
		c->name_bytes = 0;
		c->name_done = false;
		c->state = CONTENT_CR;
		return 1;
	}
	text_octet(c, o, true);
	c->state = CONTENT_TEXT;
	return 1;
}

static size_t in_text(struct content *c, uint8_t o, uint8_t *out)
{
	out[0] = o;
	if (o == '\r')
		c->state = CONTENT_CR;
	else
		text_octet(c, o, false);
	return 1;
}

static size_t after_cr(struct content *c, uint8_t o, uint8_t *out)
{
	out[0] = o;
	if (o == '\n') {
		line_end(c, !c->line_is_field && c->name_bytes == 0 && !c->name_done);
		c->state = CONTENT_LINE_START;
		return 1;
	}
	c->bad_line_end = true;
	if (o != '\r')
		c->state = CONTENT_TEXT;
	return 1;
}

static size_t after_dot(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '\r') {
		c->state = CONTENT_DOT_CR;
		return 0;
	}
	/* the dot was transparency; what follows begins the line */
	text_octet(c, o, true);
	c->state = CONTENT_TEXT;
	out[0] = o;
	return 1;
}

static size_t after_dot_cr(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '\n') {
		c->state = CONTENT_END;
		return 0;
	}
	/* ". CR x": the CR is alone, the dot was transparency */
	c->bad_line_end = true;
	out[0] = '\r';
	out[1] = o;
	c->state = o == '\r' ? CONTENT_CR : CONTENT_TEXT;
	return 2;
}

static octet_handler *const handlers[] = {
	[CONTENT_LINE_START] = at_line_start,
	[CONTENT_TEXT] = in_text,
	[CONTENT_CR] = after_cr,
	[CONTENT_DOT] = after_dot,
	[CONTENT_DOT_CR] = after_dot_cr,
};

size_t content_feed(struct content *c, const uint8_t *in, size_t n, uint8_t *out, size_t *used)
{
	size_t made = 0, i = 0;

	while (i < n && c->state != CONTENT_END) {
		/* body text up to the next CR needs no look at each octet but for LF and NUL */
		if (c->state == CONTENT_TEXT && !c->in_header) {
			const uint8_t *cr = memchr(in + i, '\r', n - i);
			size_t run = cr != NULL ? (size_t)(cr - in) - i : n - i;
			if (memchr(in + i, '\n', run) != NULL || memchr(in + i, '\0', run) != NULL)
				c->bad_line_end = true;
			memcpy(out + made, in + i, run);
			made += run;
			i += run;
			if (i == n)
				break;
		}
		made += handlers[c->state](c, in[i++], out + made);
	}
	*used = i;
	return made;
}
