/* queue_json.c - a queue entry, its envelope and its header as JSON */
#include "base/utf8.h"
#include "control/queue.h"
#include "smtp/spool/envelope.h"

#include <string.h>

enum { TEXT = 1024 };

/* Octets of a peer; what is not UTF-8 becomes '?'. */
static json_t *text_json(const char *at, size_t bytes)
{
	char out[TEXT];
	size_t n = bytes < sizeof(out) ? bytes : sizeof(out) - 1;

	for (size_t i = 0; i < n;) {
		size_t k = utf8_sequence((const uint8_t *)at + i, n - i);
		if (k == 0)
			out[i++] = '?';
		else
			memcpy(out + i, at + i, k), i += k;
	}
	return json_stringn(out, n);
}

static void set_text(json_t *o, const char *key, const struct envelope_text *t)
{
	if (t->bytes > 0)
		json_object_set_new(o, key, text_json(t->at, t->bytes));
}

static void set_true(json_t *o, const char *key, bool value)
{
	if (value)
		json_object_set_new(o, key, json_true());
}

static void set_number(json_t *o, const char *key, int64_t value)
{
	if (value != 0)
		json_object_set_new(o, key, json_integer((json_int_t)value));
}

json_t *queue_row_json(const struct relay_row *r, unsigned worker, int64_t now_s)
{
	char id[SPOOL_ID_TEXT], addr[ADDR_TEXT_BYTES];
	int64_t wait = r->next_at_s > now_s ? r->next_at_s - now_s : 0;
	json_t *row = json_pack(
		"{s:s, s:i, s:s, s:s, s:I, s:i, s:i, s:I, s:I, s:o}", "id",
		spool_id_text(r->id, id), "worker", (int)worker, "status",
		relay_status_names[r->status], "pool", r->pool, "bytes",
		(json_int_t)r->content_bytes, "recipients", (int)r->recipients, "attempts",
		(int)r->attempts, "age_s", (json_int_t)(now_s - r->accepted_at_s), "next_in_s",
		(json_int_t)wait, "last_error", text_json(r->last_error, strlen(r->last_error)));

	set_number(row, "priority", r->priority);
	set_true(row, "held_by_operator", r->held);
	set_true(row, "routed_by_operator", r->routed);
	set_true(row, "split", r->split);
	if (r->hop.family == 0)
		return row;
	json_object_set_new(row, "hop", json_string(addr_text(&r->hop, addr)));
	set_number(row, "hop_port", r->hop_port);
	json_object_set_new(row, "hop_name", json_string(r->hop_name));
	return row;
}

static json_t *notify_json(uint8_t notify)
{
	static const char *const words[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
	json_t *list = json_array();

	for (unsigned i = 0; i < 4; i++) {
		if ((notify & 1u << i) != 0)
			json_array_append_new(list, json_string(words[i]));
	}
	return list;
}

static json_t *recipients_json(const struct relay_row *r, const uint8_t *envelope, size_t bytes)
{
	json_t *list = json_array();
	struct envelope_recipient to;
	size_t cursor = 0;

	for (uint32_t i = 0; envelope_next_recipient(envelope, bytes, &cursor, &to); i++) {
		bool done = r->done != NULL && (r->done[i / 8] & 1u << i % 8) != 0;
		json_t *o = json_pack("{s:o, s:s}", "address", text_json(to.path.at, to.path.bytes),
				      "state",
				      !done      ? "waiting"
				      : r->split ? "ended or of another pool"
						 : "ended");
		if (to.notify != 0)
			json_object_set_new(o, "notify", notify_json(to.notify));
		set_text(o, "orcpt", &to.orcpt);
		json_array_append_new(list, o);
	}
	return list;
}

void queue_envelope_json(json_t *row, const struct relay_row *r, const uint8_t *envelope,
			 size_t bytes, bool detail)
{
	static const char *const bodies[] = {[ENVELOPE_7BIT] = "7BIT",
					     [ENVELOPE_8BIT] = "8BITMIME",
					     [ENVELOPE_BINARY] = "BINARYMIME"};
	char addr[ADDR_TEXT_BYTES];
	struct envelope e;

	if (envelope_decode(envelope, bytes, &e) < 0)
		return;
	json_object_set_new(row, "sender", text_json(e.reverse_path.at, e.reverse_path.bytes));
	set_text(row, "user", &e.user);
	if (!detail)
		return;
	if (e.client.family != 0)
		json_object_set_new(row, "client", json_string(addr_text(&e.client, addr)));
	set_text(row, "mechanism", &e.mechanism);
	set_text(row, "tls", &e.tls);
	set_text(row, "envid", &e.envid);
	set_number(row, "accepted_at_s", e.accepted_at_s);
	set_number(row, "next_at_s", r->next_at_s);
	set_number(row, "hold_until_s", e.hold_until_s);
	if (e.by != ENVELOPE_BY_NONE) {
		json_object_set_new(row, "by", json_string(e.by == ENVELOPE_BY_RETURN ? "R" : "N"));
		set_number(row, "by_at_s", e.by_at_s);
	}
	json_object_set_new(row, "body", json_string(bodies[e.body]));
	if (e.ret != ENVELOPE_RET_NONE)
		json_object_set_new(row, "ret",
				    json_string(e.ret == ENVELOPE_RET_FULL ? "FULL" : "HDRS"));
	set_true(row, "smtputf8", e.smtputf8);
	set_true(row, "requiretls", e.require_tls);
	json_object_set_new(row, "to", recipients_json(r, envelope, bytes));
}

void queue_header_json(json_t *row, const uint8_t *content, size_t bytes)
{
	const uint8_t *end = bytes > 0 ? memmem(content, bytes, "\r\n\r\n", 4) : NULL;
	json_t *lines = json_array();

	json_object_set_new(row, "header_cut", json_boolean(end == NULL));
	bytes = end != NULL ? (size_t)(end - content) + 2 : bytes;
	while (bytes > 0) {
		const uint8_t *lf = memchr(content, '\n', bytes);
		size_t n = lf != NULL ? (size_t)(lf - content) + 1 : bytes, text = n;
		while (text > 0 && (content[text - 1] == '\n' || content[text - 1] == '\r'))
			text--;
		json_array_append_new(lines, text_json((const char *)content, text));
		content += n;
		bytes -= n;
	}
	json_object_set_new(row, "header", lines);
}
