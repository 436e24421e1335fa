/*
 * report.c - delivery status notifications: multipart/report of RFC 6522 with
 * message/delivery-status of RFC 3464, from the null reverse-path; which recipients they tell of
 * is NOTIFY's to say (RFC 3461 section 4.1).
 *
 * The reply texts of a next hop go in as printable ASCII only.  A sender whose own address is not
 * ASCII gets the global types of RFC 6533 by SMTPUTF8; to any other non-ASCII addresses are
 * written in ASCII, because a report that no hop takes tells nobody.
 */
#include "base/date.h"
#include "base/utf8.h"
#include "base/xtext.h"
#include "smtp/relay/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ADDRESS_TEXT = 8 * 256, XTEXT_TEXT = 512 };

/* As many chunks as the recipients need: one that is left out would never be told about. */
struct writer {
	struct delivery *d;
	struct chunk_pool *pool;
	struct chunk *last;
	uint64_t bytes;
	unsigned boundary;
	bool full;   /* no chunk was to be had */
	bool global; /* UTF-8 as it is */
	spool_id_t id;
};

static bool more_room(struct writer *w)
{
	struct chunk *c = chunk_alloc(w->pool, CHUNK_16K, true);

	w->full = c == NULL;
	if (c != NULL)
		w->last = w->last->next = c;
	return c != NULL;
}

__attribute__((format(printf, 2, 3))) static void put(struct writer *w, const char *fmt, ...)
{
	for (unsigned attempt = 0; attempt < 2 && !w->full; attempt++) {
		size_t room = w->last->size - w->last->end;
		va_list ap;

		va_start(ap, fmt);
		int n = vsnprintf((char *)w->last->data + w->last->end, room, fmt, ap);
		va_end(ap);
		if (n >= 0 && (size_t)n < room) {
			w->last->end += (uint32_t)n;
			w->bytes += (uint64_t)n;
			return;
		}
		if (!more_room(w))
			return;
	}
	w->full = true;
}

/* Octets of the message; what is not ASCII is replaced where the report must be. */
static void put_octets(struct writer *w, const uint8_t *p, size_t n)
{
	while (n > 0 && !w->full) {
		size_t room = w->last->size - w->last->end;
		size_t piece = n < room ? n : room;
		uint8_t *out = w->last->data + w->last->end;

		memcpy(out, p, piece);
		for (size_t i = 0; i < piece; i++) {
			if (out[i] >= 0x80 && !w->global)
				out[i] = '?';
		}
		w->last->end += (uint32_t)piece;
		w->bytes += piece;
		p += piece;
		n -= piece;
		if (n > 0)
			more_room(w);
	}
}

static const char *printable(const char *text, size_t n, char *out, size_t room)
{
	size_t i = 0;

	for (; i < n && i < room - 1; i++)
		out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
	out[i] = '\0';
	return out;
}

static bool is_ascii(const struct envelope_text *t)
{
	for (uint32_t i = 0; i < t->bytes; i++) {
		if ((unsigned char)t->at[i] >= 0x80)
			return false;
	}
	return true;
}

/* utf-8-addr-xtext (RFC 6533 section 3): a character beyond ASCII is \x{HEX}. */
static const char *address_text(const struct writer *w, const struct envelope_text *t, char *out)
{
	const uint8_t *p = (const uint8_t *)t->at;
	size_t n = 0;

	for (size_t i = 0; i < t->bytes && n + 12 < ADDRESS_TEXT;) {
		size_t c = utf8_sequence(p + i, t->bytes - i);
		uint32_t point = p[i] & (c == 2 ? 0x1fu : c == 3 ? 0x0fu : 0x07u);
		if (c < 2 || w->global) {
			out[n++] = c == 0 ? '?' : (char)p[i];
			for (size_t k = 1; k < c; k++)
				out[n++] = (char)p[i + k];
			i += c > 0 ? c : 1;
			continue;
		}
		for (size_t k = 1; k < c; k++)
			point = point << 6 | (p[i + k] & 0x3fu);
		n += (size_t)snprintf(out + n, 12, "\\x{%X}", point);
		i += c;
	}
	out[n] = '\0';
	return out;
}

static void put_date(struct writer *w, int64_t unix_s)
{
	char text[DATE_TEXT_BYTES];

	put(w, "%s\r\n", date_text(unix_s, text));
}

enum report_action report_action(const struct delivery *d, const struct recipient *r,
				 const struct envelope_recipient *to)
{
	bool asked = to->notify != 0,
	     late = d->e.by == ENVELOPE_BY_NOTIFY && shard_wall_s(d->worker->shard) >= d->e.by_at_s;

	if ((to->notify & ENVELOPE_NEVER) != 0)
		return REPORT_NONE;
	if (d->notice)
		return r->state == RECIPIENT_DEFERRED &&
				       ((to->notify & ENVELOPE_DELAY) != 0 || late)
			       ? REPORT_DELAYED
			       : REPORT_NONE;
	if (r->state == RECIPIENT_FAILED && (!asked || (to->notify & ENVELOPE_FAILURE) != 0))
		return REPORT_FAILED;
	/* behind a hop without DSN nobody else would tell (RFC 3461 section 5.2.2); by-trace asks
	 * for the same (RFC 2852) */
	if (r->state == RECIPIENT_DELIVERED && !d->hop_dsn &&
	    ((to->notify & ENVELOPE_SUCCESS) != 0 || d->e.by_trace))
		return REPORT_RELAYED;
	return REPORT_NONE;
}

typedef void row_writer(struct writer *w, const struct envelope_recipient *to,
			const struct recipient *r, enum report_action a);

/* Calls fn for each recipient with the action; REPORT_NONE: with any. */
static void each_told(struct writer *w, enum report_action only, row_writer *fn)
{
	const struct delivery *d = w->d;
	struct envelope_recipient to;
	size_t cursor = 0;

	for (uint32_t i = 0;
	     envelope_next_recipient(d->envelope->data, d->envelope->end, &cursor, &to); i++) {
		enum report_action a = report_action(d, &d->recipients[i], &to);
		if (a != REPORT_NONE && (only == REPORT_NONE || a == only) && !w->full)
			fn(w, &to, &d->recipients[i], a);
	}
}

static void human(struct writer *w, const struct envelope_recipient *to, const struct recipient *r,
		  enum report_action a)
{
	char text[ERROR_TEXT], address[ADDRESS_TEXT];

	put(w, "  <%s>\r\n", address_text(w, &to->path, address));
	if (r->text[0] != '\0')
		put(w, "      %s\r\n", printable(r->text, strlen(r->text), text, sizeof(text)));
}

/* type;xtext, decoded (RFC 3464 section 2.3.1); what was not asked for is not there. */
static void original_recipient(struct writer *w, const struct envelope_text *orcpt)
{
	char decoded[XTEXT_TEXT], text[XTEXT_TEXT];
	const char *semicolon = orcpt->bytes > 0 ? memchr(orcpt->at, ';', orcpt->bytes) : NULL;

	if (semicolon == NULL || orcpt->bytes >= XTEXT_TEXT)
		return;
	size_t type = (size_t)(semicolon - orcpt->at);
	struct envelope_text address = {semicolon + 1, orcpt->bytes - (uint32_t)type - 1};
	ptrdiff_t n = xtext_decode(address.at, address.bytes, decoded);
	char raw[ADDRESS_TEXT];
	put(w, "Original-Recipient: %.*s; %s\r\n", (int)type, orcpt->at,
	    n >= 0 ? printable(decoded, (size_t)n, text, sizeof(text))
		   : address_text(w, &address, raw));
}

static void remote_mta(struct writer *w)
{
	const struct hop *h = w->d->hop;
	char addr[ADDR_TEXT_BYTES];

	if (h == NULL)
		return;
	if (h->config.name[0] != '\0')
		put(w, "Remote-MTA: dns; %s\r\n", h->config.name);
	else
		put(w, "Remote-MTA: x-address; [%s]\r\n", addr_text(&h->config.address, addr));
}

static void machine(struct writer *w, const struct envelope_recipient *to,
		    const struct recipient *r, enum report_action a)
{
	static const char *const actions[] = {[REPORT_FAILED] = "failed",
					      [REPORT_DELAYED] = "delayed",
					      [REPORT_RELAYED] = "relayed"};
	char text[ERROR_TEXT], address[ADDRESS_TEXT];

	put(w, "\r\n");
	original_recipient(w, &to->orcpt);
	put(w, "Final-Recipient: %s; %s\r\nAction: %s\r\nStatus: %s\r\n",
	    is_ascii(&to->path) ? "rfc822" : "utf-8", address_text(w, &to->path, address),
	    actions[a], r->status);
	if (r->text[0] != '\0')
		put(w, "Diagnostic-Code: smtp; %s\r\n",
		    printable(r->text, strlen(r->text), text, sizeof(text)));
	remote_mta(w);
	if (a == REPORT_DELAYED) {
		put(w, "Will-Retry-Until: ");
		put_date(w, w->d->message->released_at_s +
				    (int64_t)(message_give_up_us(w->d->message) / 1000000));
	}
}

static void part(struct writer *w, const char *type)
{
	char id[SPOOL_ID_TEXT];

	put(w, "\r\n--%s-%08x\r\nContent-Type: %s\r\n", spool_id_text(w->id, id), w->boundary,
	    type);
	if (w->global)
		put(w, "Content-Transfer-Encoding: 8bit\r\n");
	put(w, "\r\n");
}

static unsigned counted(struct writer *w, enum report_action a)
{
	const struct delivery *d = w->d;
	struct envelope_recipient to;
	size_t cursor = 0;
	unsigned n = 0;

	for (uint32_t i = 0;
	     envelope_next_recipient(d->envelope->data, d->envelope->end, &cursor, &to); i++)
		n += report_action(d, &d->recipients[i], &to) == a;
	return n;
}

static const struct {
	const char *subject, *text;
} actions[] = {
	[REPORT_FAILED] =
		{"Undelivered mail",
		 "could not be delivered to these recipients, and no further attempt will "
		 "be made:"},
	[REPORT_DELAYED] = {"Delayed mail",
			    "could not yet be delivered to these recipients; it will be tried "
			    "again:"},
	[REPORT_RELAYED] = {"Relayed mail",
			    "has been passed on for these recipients to a system that may not tell "
			    "of its delivery:"},
};

static void put_head(struct writer *w)
{
	struct delivery *d = w->d;
	const char *host = d->worker->hostname, *subject = "";
	char text[SPOOL_ID_TEXT];

	for (unsigned a = REPORT_RELAYED; a >= REPORT_FAILED; a--) {
		if (counted(w, (enum report_action)a) > 0)
			subject = actions[a].subject;
	}
	spool_id_text(w->id, text);
	put(w, "From: Mail Delivery System <postmaster@%s>\r\nTo: <%.*s>\r\nDate: ", host,
	    (int)d->e.reverse_path.bytes, d->e.reverse_path.at);
	put_date(w, shard_wall_s(d->worker->shard));
	put(w,
	    "Message-ID: <%s.dsn@%s>\r\nSubject: %s\r\nAuto-Submitted: auto-replied\r\n"
	    "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n"
	    "\tboundary=\"%s-%08x\"\r\n",
	    text, host, subject, text, w->boundary);
	if (w->global)
		put(w, "Content-Transfer-Encoding: 8bit\r\n");
}

static void put_explanation(struct writer *w)
{
	char original[SPOOL_ID_TEXT];

	part(w, w->global ? "text/plain; charset=utf-8" : "text/plain; charset=us-ascii");
	for (unsigned a = REPORT_FAILED; a <= REPORT_RELAYED; a++) {
		if (counted(w, (enum report_action)a) == 0)
			continue;
		put(w, "Your message %s %s\r\n\r\n", spool_id_text(w->d->message->id, original),
		    actions[a].text);
		each_told(w, (enum report_action)a, human);
		put(w, "\r\n");
	}
}

static void put_status(struct writer *w)
{
	const struct envelope *e = &w->d->e;
	char original[SPOOL_ID_TEXT], decoded[XTEXT_TEXT], text[XTEXT_TEXT];

	part(w, w->global ? "message/global-delivery-status" : "message/delivery-status");
	put(w, "Reporting-MTA: dns; %s\r\nX-Spool-Id: %s\r\n", w->d->worker->hostname,
	    spool_id_text(w->d->message->id, original));
	ptrdiff_t n = e->envid.bytes < XTEXT_TEXT
			      ? xtext_decode(e->envid.at, e->envid.bytes, decoded)
			      : -1;
	if (n > 0)
		put(w, "Original-Envelope-Id: %s\r\n",
		    printable(decoded, (size_t)n, text, sizeof(text)));
	put(w, "Arrival-Date: ");
	put_date(w, e->accepted_at_s);
	if (e->by != ENVELOPE_BY_NONE) {
		put(w, "Deliver-By-Date: ");
		put_date(w, e->by_at_s);
	}
	each_told(w, REPORT_NONE, machine);
}

/* Octets of the header section with its last line end; whole lines only. */
static size_t header_bytes(const struct chunk *c)
{
	const uint8_t *empty = memmem(c->data, c->end, "\r\n\r\n", 4);

	if (empty != NULL)
		return (size_t)(empty - c->data) + 2;
	const uint8_t *lf = memrchr(c->data, '\n', c->end);
	return lf != NULL ? (size_t)(lf - c->data) + 1 : 0;
}

/* All of it only when that can be passed on by any hop as it is (RFC 3461 section 6.2). */
static bool whole_fits(const struct delivery *d)
{
	const struct chunk *c = d->head;

	if (d->e.ret != ENVELOPE_RET_FULL || d->e.require_tls || d->e.body == ENVELOPE_BINARY ||
	    c->end != d->message->content_bytes)
		return false;
	for (uint32_t i = 0; i < c->end; i++) {
		if (c->data[i] >= 0x80)
			return false;
	}
	return true;
}

static void put_original(struct writer *w)
{
	const struct chunk *c = w->d->head;
	size_t n = header_bytes(c);

	if (w->full || n == 0)
		return;
	if (whole_fits(w->d)) {
		part(w, w->global ? "message/global" : "message/rfc822");
		put_octets(w, c->data, c->end);
	} else {
		part(w, w->global ? "message/global-headers" : "text/rfc822-headers");
		put_octets(w, c->data, n);
	}
}

static void put_report(struct writer *w)
{
	char text[SPOOL_ID_TEXT];

	put_head(w);
	put_explanation(w);
	put_status(w);
	put_original(w);
	put(w, "\r\n--%s-%08x--\r\n", spool_id_text(w->id, text), w->boundary);
}

bool report_build(struct delivery *d, struct spool_request *commit)
{
	struct relay_worker *w = d->worker;

	chunk_free_list(w->shard->chunks, d->report);
	chunk_free_list(w->shard->chunks, d->report_envelope);
	d->report = chunk_alloc(w->shard->chunks, CHUNK_16K, true);
	d->report_envelope = chunk_alloc(w->shard->chunks, CHUNK_4K, true);
	if (d->report == NULL || d->report_envelope == NULL)
		return false;
	struct writer writer = {
		.d = d,
		.pool = w->shard->chunks,
		.last = d->report,
		.boundary = (unsigned)shard_random(w->shard),
		.global = !is_ascii(&d->e.reverse_path),
		.id = spool_new_id(w->env.spool),
	};
	put_report(&writer);
	if (writer.full)
		return false;
	struct envelope e = {
		.client = d->e.client,
		.accepted_at_s = shard_wall_s(w->shard),
		.smtputf8 = writer.global,
		.body = writer.global ? ENVELOPE_8BIT : ENVELOPE_7BIT,
		.require_tls = d->e.require_tls,
	};
	struct envelope_recipient to = {.path = d->e.reverse_path};
	ptrdiff_t n = envelope_begin(d->report_envelope->data, d->report_envelope->size, &e);
	size_t bytes = n > 0 ? (size_t)n : 0;
	if (n < 0 || envelope_add_recipient(d->report_envelope->data, d->report_envelope->size,
					    &bytes, &to) < 0)
		return false;
	*commit = (struct spool_request){
		.op = SPOOL_COMMIT,
		.id = writer.id,
		.chunks = d->report,
		.envelope = d->report_envelope->data,
		.envelope_bytes = (uint32_t)bytes,
		.prefix = (const uint8_t *)"",
		.prefix_bytes = 0,
		.body_bytes = writer.bytes,
	};
	return true;
}
