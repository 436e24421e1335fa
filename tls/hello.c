/* hello.c - walks over a ClientHello; every length is checked against what holds it */
#include "tls/hello.h"

#include <string.h>

enum {
	RECORD_HEADER = 5,
	MESSAGE_HEADER = 4,
	TYPE_HANDSHAKE = 22,
	CLIENT_HELLO = 1,
	RANDOM_BYTES = 32,
	SESSION_ID_MOST = 32,
	EXT_SERVER_NAME = 0,
	EXT_SESSION_TICKET = 35,
	EXT_PRE_SHARED_KEY = 41,
	EXT_SUPPORTED_VERSIONS = 43,
};

/* What is left of a piece of the message; bad once something did not fit. */
struct reader {
	const uint8_t *at, *end;
	bool bad;
};

static size_t left(const struct reader *r)
{
	return (size_t)(r->end - r->at);
}

static const uint8_t *take(struct reader *r, size_t n)
{
	const uint8_t *p = r->at;

	if (left(r) < n) {
		r->bad = true;
		r->at = r->end;
		return NULL;
	}
	r->at += n;
	return p;
}

static uint32_t number(struct reader *r, unsigned octets)
{
	const uint8_t *p = take(r, octets);
	uint32_t v = 0;

	for (unsigned i = 0; p != NULL && i < octets; i++)
		v = v << 8 | p[i];
	return v;
}

/* A piece that its length, of so many octets, goes before. */
static struct reader piece(struct reader *r, unsigned octets)
{
	uint32_t n = number(r, octets);
	const uint8_t *p = take(r, n);

	if (p == NULL)
		return (struct reader){.at = r->end, .end = r->end, .bad = true};
	return (struct reader){.at = p, .end = p + n};
}

static bool read_name(struct reader *r, struct hello *h)
{
	struct reader list = piece(r, 2);

	/* one host name; a list of several was never used by anybody (RFC 6066 section 3) */
	uint32_t type = number(&list, 1);
	struct reader name = piece(&list, 2);
	if (list.bad || left(&list) > 0 || type != 0 || left(&name) == 0 || left(&name) > 255)
		return false;
	h->name = name.at;
	h->name_bytes = left(&name);
	return true;
}

static void keep_ticket(struct hello *h, const struct reader *ticket)
{
	if (left(ticket) >= HELLO_KEY_NAME && h->n_tickets < HELLO_TICKETS)
		h->ticket[h->n_tickets++] = ticket->at;
}

static bool read_ticket(struct reader *r, struct hello *h)
{
	keep_ticket(h, r);
	r->at = r->end;
	return true;
}

static bool read_identities(struct reader *r, struct hello *h)
{
	struct reader list = piece(r, 2);

	while (!list.bad && left(&list) > 0) {
		struct reader identity = piece(&list, 2);
		number(&list, 4); /* obfuscated age */
		if (!list.bad)
			keep_ticket(h, &identity);
	}
	piece(r, 2); /* binders */
	return !list.bad;
}

static bool read_versions(struct reader *r, struct hello *h)
{
	struct reader list = piece(r, 1);

	if (left(&list) % 2 != 0)
		return false;
	while (left(&list) > 0)
		h->tls_1_3 |= number(&list, 2) == 0x0304;
	return !list.bad;
}

static bool read_extension(uint32_t type, struct reader *body, struct hello *h)
{
	static const struct {
		uint32_t type;
		bool (*read)(struct reader *r, struct hello *h);
	} known[] = {
		{EXT_SERVER_NAME, read_name},
		{EXT_SESSION_TICKET, read_ticket},
		{EXT_PRE_SHARED_KEY, read_identities},
		{EXT_SUPPORTED_VERSIONS, read_versions},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].type == type)
			return known[i].read(body, h) && !body->bad && left(body) == 0;
	return true;
}

static bool read_extensions(struct reader *r, struct hello *h)
{
	struct reader all = piece(r, 2);
	uint64_t seen = 0; /* of those we read, all below 64 */
	bool last = false;

	while (!all.bad && left(&all) > 0) {
		uint32_t type = number(&all, 2);
		struct reader body = piece(&all, 2);
		/* twice the same, or something behind the PSKs (RFC 8446 section 4.2) */
		if (all.bad || last || (type < 64 && (seen & 1ull << type) != 0) ||
		    !read_extension(type, &body, h))
			return false;
		seen |= type < 64 ? 1ull << type : 0;
		last = type == EXT_PRE_SHARED_KEY;
	}
	return !all.bad;
}

static enum hello_verdict read_message(const uint8_t *body, size_t n, struct hello *h)
{
	struct reader r = {.at = body, .end = body + n};

	number(&r, 2); /* legacy_version */
	take(&r, RANDOM_BYTES);
	struct reader session = piece(&r, 1), suites = piece(&r, 2), compression = piece(&r, 1);
	if (r.bad || left(&session) > SESSION_ID_MOST || left(&suites) < 2 ||
	    left(&suites) % 2 != 0 || left(&compression) < 1)
		return HELLO_MALFORMED;
	if (left(&r) > 0 && (!read_extensions(&r, h) || r.bad || left(&r) > 0))
		return HELLO_MALFORMED;
	return HELLO_WHOLE;
}

/* Joins what the records hold; the octets in out.  SIZE_MAX: an empty record is among them, which
 * must not be (RFC 8446 section 5.1). */
static size_t join(const uint8_t *records, size_t n, uint8_t *out, size_t room)
{
	size_t at = 0, used = 0;

	while (at + RECORD_HEADER <= n && records[at] == TYPE_HANDSHAKE) {
		size_t body = (size_t)records[at + 3] << 8 | records[at + 4];
		if (body == 0)
			return SIZE_MAX;
		at += RECORD_HEADER;
		if (at + body > n)
			body = n - at;
		size_t some = body < room - used ? body : room - used;
		memcpy(out + used, records + at, some);
		used += some;
		at += body;
	}
	return used;
}

enum hello_verdict hello_read(const uint8_t *records, size_t n, uint8_t *scratch, struct hello *h)
{
	memset(h, 0, sizeof(*h));
	if (n < RECORD_HEADER || records[0] != TYPE_HANDSHAKE)
		return HELLO_OTHER;
	size_t first = (size_t)records[3] << 8 | records[4];
	const uint8_t *message = records + RECORD_HEADER;
	size_t have = first < n - RECORD_HEADER ? first : n - RECORD_HEADER;
	if (have > 0 && message[0] != CLIENT_HELLO)
		return HELLO_OTHER;
	size_t body = have >= MESSAGE_HEADER
			      ? (size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3]
			      : SIZE_MAX;
	if (have < MESSAGE_HEADER || have - MESSAGE_HEADER < body) {
		have = join(records, n, scratch, HELLO_BYTES + MESSAGE_HEADER);
		message = scratch;
		if (have == SIZE_MAX)
			return HELLO_MALFORMED;
		if (have < MESSAGE_HEADER)
			return HELLO_PART;
		body = (size_t)message[1] << 16 | (size_t)message[2] << 8 | message[3];
	}
	if (body > HELLO_BYTES)
		return HELLO_TOO_LARGE;
	if (have - MESSAGE_HEADER < body)
		return HELLO_PART;
	enum hello_verdict v = read_message(message + MESSAGE_HEADER, body, h);
	if (v == HELLO_MALFORMED)
		memset(h, 0, sizeof(*h));
	return v;
}
