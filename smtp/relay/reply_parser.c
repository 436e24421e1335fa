/* reply_parser.c - one line at a time, one code a reply */
#include "smtp/relay/reply_parser.h"

#include <string.h>

void reply_begin(struct reply_parser *p)
{
	p->n = p->lines = 0;
	p->code = 0;
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The line is complete and terminated. */
static enum reply_progress line_done(struct reply_parser *p)
{
	const char *l = p->line;

	if (p->n < 3 || l[0] < '2' || l[0] > '5' || !digit(l[1]) || !digit(l[2]) ||
	    (p->n > 3 && l[3] != ' ' && l[3] != '-'))
		return REPLY_BAD;
	unsigned code = (unsigned)((l[0] - '0') * 100 + (l[1] - '0') * 10 + (l[2] - '0'));
	if (p->lines > 0 && code != p->code)
		return REPLY_BAD;
	p->code = code;
	if (++p->lines > REPLY_LINES)
		return REPLY_BAD;
	return p->n > 3 && l[3] == '-' ? REPLY_LINE : REPLY_WHOLE;
}

enum reply_progress reply_feed(struct reply_parser *p, const uint8_t *in, size_t n, size_t *used)
{
	for (size_t i = 0; i < n; i++) {
		if (in[i] == '\n') {
			/* servers exist that send a lone LF; here it cannot hurt */
			if (p->n > 0 && p->line[p->n - 1] == '\r')
				p->n--;
			p->line[p->n] = '\0';
			*used = i + 1;
			enum reply_progress r = line_done(p);
			p->n = 0;
			return r;
		}
		if (p->n == REPLY_LINE_BYTES - 1 || in[i] == '\0') {
			*used = i;
			return REPLY_BAD;
		}
		p->line[p->n++] = (char)in[i];
	}
	*used = n;
	return REPLY_MORE;
}

const char *reply_text(const struct reply_parser *p)
{
	return strlen(p->line) > 4 ? p->line + 4 : "";
}

const char *reply_status(const struct reply_parser *p, char *status)
{
	const char *t = reply_text(p);
	size_t n = 2;

	unsigned class = p->code / 100 == 3 ? 4 : p->code / 100;

	/* class "." 1*3digit "." 1*3digit, the class being the code's (RFC 3463 section 2) */
	if (t[0] == (char)('0' + class) && t[1] == '.') {
		n += strspn(t + n, "0123456789");
		if (n > 2 && n <= 5 && t[n] == '.') {
			size_t detail = strspn(t + n + 1, "0123456789");
			n += 1 + detail;
			if (detail > 0 && detail <= 3) {
				memcpy(status, t, n);
				status[n] = '\0';
				return status;
			}
		}
	}
	memcpy(status, "0.0.0", 6);
	status[0] = (char)('0' + class);
	return status;
}
