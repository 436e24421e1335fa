/*
 * report.c - the delivery status notification about failed recipients: multipart/report of
 * RFC 6522 with message/delivery-status of RFC 3464, from the null reverse-path.
 *
 * The reply texts of a next hop go in as printable ASCII only.
 */
#include "base/date.h"
#include "smtp/relay/internal.h"

#include <stdarg.h>
#include <stdio.h>

/* As many chunks as the recipients need: one that is left out would never be told about. */
struct writer {
	struct chunk_pool *pool;
	struct chunk *last;
	uint64_t bytes;
	bool full; /* no chunk was to be had */
};

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
		struct chunk *c = chunk_alloc(w->pool, CHUNK_16K, true);
		w->full = c == NULL;
		if (c != NULL)
			w->last = w->last->next = c;
	}
	w->full = true;
}

static const char *printable(const char *text, char *out, size_t n)
{
	size_t i = 0;

	for (; text[i] != '\0' && i < n - 1; i++)
		out[i] = text[i] >= 0x20 && text[i] < 0x7f ? text[i] : '?';
	out[i] = '\0';
	return out;
}

static void put_date(struct writer *w, int64_t unix_s)
{
	char text[DATE_TEXT_BYTES];

	put(w, "%s", date_text(unix_s, text));
}

/* Calls fn for each failed recipient. */
static void each_failed(struct delivery *d, struct writer *w,
			void (*fn)(struct writer *w, const struct envelope_text *path,
				   const struct recipient *r))
{
	struct envelope_recipient to;
	size_t cursor = 0;

	for (uint32_t i = 0;
	     envelope_next_recipient(d->envelope->data, d->envelope->end, &cursor, &to); i++) {
		if (d->recipients[i].state == RECIPIENT_FAILED && !w->full)
			fn(w, &to.path, &d->recipients[i]);
	}
}

static void human(struct writer *w, const struct envelope_text *path, const struct recipient *r)
{
	char text[ERROR_TEXT];

	put(w, "  <%.*s>\r\n      %s\r\n", (int)path->bytes, path->at,
	    printable(r->text, text, sizeof(text)));
}

static void machine(struct writer *w, const struct envelope_text *path, const struct recipient *r)
{
	char text[ERROR_TEXT];

	put(w,
	    "\r\nFinal-Recipient: rfc822; %.*s\r\nAction: failed\r\nStatus: %s\r\n"
	    "Diagnostic-Code: smtp; %s\r\n",
	    (int)path->bytes, path->at, r->status, printable(r->text, text, sizeof(text)));
}

static void put_report(struct writer *w, struct delivery *d, spool_id_t id)
{
	const char *host = d->worker->config.hostname;
	char text[SPOOL_ID_TEXT], original[SPOOL_ID_TEXT];
	unsigned boundary = (unsigned)shard_random(d->worker->shard);

	spool_id_text(id, text);
	put(w, "From: Mail Delivery System <postmaster@%s>\r\nTo: <%.*s>\r\nDate: ", host,
	    (int)d->e.reverse_path.bytes, d->e.reverse_path.at);
	put_date(w, shard_wall_s(d->worker->shard));
	put(w,
	    "\r\nMessage-ID: <%s.dsn@%s>\r\nSubject: Undelivered mail\r\nAuto-Submitted: "
	    "auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; "
	    "report-type=delivery-status;\r\n\tboundary=\"%s-%08x\"\r\n\r\n",
	    text, host, text, boundary);
	put(w,
	    "--%s-%08x\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\nYour message %s could "
	    "not "
	    "be delivered to:\r\n\r\n",
	    text, boundary, spool_id_text(d->message->id, original));
	each_failed(d, w, human);
	put(w,
	    "\r\nNo further attempt will be made.\r\n\r\n--%s-%08x\r\nContent-Type: "
	    "message/delivery-status\r\n\r\nReporting-MTA: dns; %s\r\nX-Spool-Id: %s\r\n"
	    "Arrival-Date: ",
	    text, boundary, host, original);
	put_date(w, d->e.accepted_at_s);
	put(w, "\r\n");
	each_failed(d, w, machine);
	put(w, "\r\n--%s-%08x--\r\n", text, boundary);
}

bool report_build(struct delivery *d, struct spool_request *commit)
{
	struct relay_worker *w = d->worker;
	size_t bytes;

	chunk_free_list(w->shard->chunks, d->report);
	chunk_free_list(w->shard->chunks, d->report_envelope);
	d->report = chunk_alloc(w->shard->chunks, CHUNK_16K, true);
	d->report_envelope = chunk_alloc(w->shard->chunks, CHUNK_4K, true);
	if (d->report == NULL || d->report_envelope == NULL)
		return false;
	spool_id_t id = spool_new_id(w->env.spool);
	struct writer writer = {.pool = w->shard->chunks, .last = d->report};
	put_report(&writer, d, id);
	if (writer.full)
		return false;
	struct envelope e = {.client = d->e.client, .accepted_at_s = shard_wall_s(w->shard)};
	ptrdiff_t n = envelope_begin(d->report_envelope->data, d->report_envelope->size, &e);
	if (n < 0)
		return false;
	bytes = (size_t)n;
	struct envelope_recipient to = {.path = d->e.reverse_path};
	if (envelope_add_recipient(d->report_envelope->data, d->report_envelope->size, &bytes,
				   &to) < 0)
		return false;
	*commit = (struct spool_request){
		.op = SPOOL_COMMIT,
		.id = id,
		.chunks = d->report,
		.envelope = d->report_envelope->data,
		.envelope_bytes = (uint32_t)bytes,
		.prefix = (const uint8_t *)"",
		.prefix_bytes = 0,
		.body_bytes = writer.bytes,
	};
	return true;
}
