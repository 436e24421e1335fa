/* content.c - the state machine of a message's octets; the header scan rides on it */
#include "smtp/content.h"

#include <string.h>

void content_begin(struct content *c, const struct content_rules *rules)
{
	*c = (struct content){.rules = *rules, .state = CONTENT_LINE_START};
	header_begin(&c->header, rules->remove_bcc);
}

/* An octet that neither is CR nor ends a line. */
static size_t text_octet(struct content *c, uint8_t o, bool first, uint8_t *out)
{
	c->lone_lf |= o == '\n';
	c->nul |= o == '\0';
	if (++c->line_bytes > CONTENT_LINE_MAX)
		c->long_line = true;
	c->state = CONTENT_TEXT;
	if (c->header.open)
		return header_octet(&c->header, o, first, out);
	out[0] = o;
	return 1;
}

/* CR LF, or what is taken for it. */
static void line_end(struct content *c)
{
	c->line_bytes = 0;
	if (c->header.open)
		header_line_end(&c->header);
}

/* A CR, whether its LF follows or not. */
static size_t carriage_return(struct content *c, uint8_t *out)
{
	size_t n = c->header.open ? header_before_end(&c->header, out) : 0;

	c->state = CONTENT_CR;
	if (c->header.open && c->header.dropping)
		return n;
	out[n] = '\r';
	return n + 1;
}

static size_t lone_lf(struct content *c, bool first, uint8_t *out)
{
	if (!c->rules.normalize)
		return text_octet(c, '\n', first, out);
	size_t n = carriage_return(c, out);
	if (!c->header.open || !c->header.dropping)
		out[n++] = '\n';
	c->lone_lf = true;
	line_end(c);
	c->state = CONTENT_LF_START;
	return n;
}

/* One handler a state: takes an octet, returns how many octets of out it made. */
typedef size_t octet_handler(struct content *c, uint8_t o, uint8_t *out);

static size_t at_lf_start(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '\r')
		return carriage_return(c, out);
	if (o == '\n')
		return lone_lf(c, true, out);
	return text_octet(c, o, true, out);
}

static size_t at_line_start(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '.' && c->rules.dots) {
		c->state = CONTENT_DOT;
		return 0;
	}
	return at_lf_start(c, o, out);
}

static size_t in_text(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '\r')
		return carriage_return(c, out);
	if (o == '\n')
		return lone_lf(c, false, out);
	return text_octet(c, o, false, out);
}

static size_t after_cr(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '\n') {
		bool dropped = c->header.open && c->header.dropping;
		c->line_doubtful = c->cr_twice;
		c->cr_twice = false;
		line_end(c);
		c->state = CONTENT_LINE_START;
		out[0] = '\n';
		return !dropped;
	}
	c->lone_cr = true;
	c->cr_twice = o == '\r';
	c->line_bytes++;
	return in_text(c, o, out);
}

/* The dot was transparency; what follows begins the line. */
static size_t after_dot(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '\r') {
		c->state = CONTENT_DOT_CR;
		return 0;
	}
	return at_lf_start(c, o, out);
}

static size_t after_dot_cr(struct content *c, uint8_t o, uint8_t *out)
{
	if (o == '\n') {
		c->state = CONTENT_END;
		return 0;
	}
	/* ". CR x": the CR is alone, the dot was transparency */
	size_t n = carriage_return(c, out);
	return n + after_cr(c, o, out + n);
}

static octet_handler *const handlers[] = {
	[CONTENT_LINE_START] = at_line_start,
	[CONTENT_LF_START] = at_lf_start,
	[CONTENT_TEXT] = in_text,
	[CONTENT_CR] = after_cr,
	[CONTENT_DOT] = after_dot,
	[CONTENT_DOT_CR] = after_dot_cr,
};

/* Body text up to the next octet that could end a line needs no look at each octet. */
static size_t run_of_text(struct content *c, const uint8_t *in, size_t n, uint8_t *out)
{
	const uint8_t *cr = memchr(in, '\r', n);
	size_t run = cr != NULL ? (size_t)(cr - in) : n;
	const uint8_t *lf = memchr(in, '\n', run);

	if (lf != NULL && c->rules.normalize)
		run = (size_t)(lf - in);
	else
		c->lone_lf |= lf != NULL;
	c->nul |= memchr(in, '\0', run) != NULL;
	c->line_bytes += run;
	c->long_line |= c->line_bytes > CONTENT_LINE_MAX;
	memcpy(out, in, run);
	return run;
}

size_t content_feed(struct content *c, const uint8_t *in, size_t n, uint8_t *out, size_t *used)
{
	size_t made = 0, i = 0;

	while (i < n && c->state != CONTENT_END) {
		if (!c->header.open && c->rules.binary) {
			memcpy(out + made, in + i, n - i);
			made += n - i;
			c->state = CONTENT_LINE_START;
			i = n;
			break;
		}
		if (c->state == CONTENT_TEXT && !c->header.open) {
			size_t run = run_of_text(c, in + i, n - i, out + made);
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

size_t content_finish(struct content *c, uint8_t *out)
{
	size_t n = c->header.open ? header_before_end(&c->header, out) : 0;

	c->lone_cr |= c->state == CONTENT_CR;
	header_finish(&c->header);
	return n;
}
