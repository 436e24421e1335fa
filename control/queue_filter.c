/* queue_filter.c - which messages a request is about */
#include "control/queue.h"

#include "smtp/spool/envelope.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool take_text(const json_t *request, const char *key, char *out, size_t room, bool *any,
		      char *error, size_t error_bytes)
{
	const json_t *v = json_object_get(request, key);
	const char *text = json_string_value(v);

	if (v == NULL)
		return true;
	if (text == NULL || text[0] == '\0' || strlen(text) >= room) {
		snprintf(error, error_bytes, "%s: a text of 1 to %zu octets is wanted", key,
			 room - 1);
		return false;
	}
	snprintf(out, room, "%s", text);
	*any = false;
	return true;
}

static bool take_age(const json_t *request, const char *key, int64_t now_s, int64_t *at_s,
		     bool *any, char *error, size_t error_bytes)
{
	const json_t *v = json_object_get(request, key);

	if (v == NULL)
		return true;
	if (!json_is_integer(v) || json_integer_value(v) < 0) {
		snprintf(error, error_bytes, "%s: a number of seconds is wanted", key);
		return false;
	}
	int64_t at = now_s - (int64_t)json_integer_value(v);
	*at_s = at > 0 ? at : 1;
	*any = false;
	return true;
}

static bool take_id(struct queue_filter *f, const char *text, char *error, size_t error_bytes)
{
	char *end = NULL;

	f->relay.id = text[0] != '\0' ? strtoull(text, &end, 16) : 0;
	if (text[0] == '\0' || (end != NULL && *end == '\0' && f->relay.id != 0))
		return true;
	snprintf(error, error_bytes, "id: \"%.40s\" is no message id", text);
	return false;
}

/* "held,deferred" */
static bool take_status(struct queue_filter *f, const char *text, char *error, size_t error_bytes)
{
	while (text[0] != '\0') {
		size_t n = strcspn(text, ",");
		unsigned i = 0;
		while (i < RELAY_STATUSES && (strlen(relay_status_names[i]) != n ||
					      strncmp(relay_status_names[i], text, n) != 0))
			i++;
		if (i == RELAY_STATUSES) {
			snprintf(error, error_bytes,
				 "status: \"%.*s\" is none of ready, deferred, held, delivering",
				 (int)n, text);
			return false;
		}
		f->relay.statuses |= 1u << i;
		text += n + (text[n] == ',');
	}
	return true;
}

bool queue_filter_parse(const json_t *request, int64_t now_s, struct queue_filter *f, char *error,
			size_t error_bytes)
{
	char id[32] = "", status[80] = "";
	const struct {
		const char *key;
		char *out;
		size_t room;
	} texts[] = {
		{"id", id, sizeof(id)},
		{"status", status, sizeof(status)},
		{"pool", f->relay.pool, sizeof(f->relay.pool)},
		{"hop", f->relay.hop, sizeof(f->relay.hop)},
		{"sender", f->envelope.sender, sizeof(f->envelope.sender)},
		{"user", f->envelope.user, sizeof(f->envelope.user)},
		{"domain", f->envelope.domain, sizeof(f->envelope.domain)},
	};

	*f = (struct queue_filter){.any = true};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (!take_text(request, texts[i].key, texts[i].out, texts[i].room, &f->any, error,
			       error_bytes))
			return false;
	}
	return take_id(f, id, error, error_bytes) && take_status(f, status, error, error_bytes) &&
	       take_age(request, "older_s", now_s, &f->relay.before_s, &f->any, error,
			error_bytes) &&
	       take_age(request, "younger_s", now_s, &f->relay.after_s, &f->any, error,
			error_bytes);
}

bool queue_filter_reads(const struct envelope_filter *f)
{
	return f->sender[0] != '\0' || f->user[0] != '\0' || f->domain[0] != '\0';
}

static bool same(const char *text, const struct envelope_text *t)
{
	return strlen(text) == t->bytes && strncasecmp(text, t->at, t->bytes) == 0;
}

static bool in_domain(const char *domain, const struct envelope_text *path)
{
	const char *at = path->bytes > 0 ? memrchr(path->at, '@', path->bytes) : NULL;

	if (at == NULL)
		return false;
	struct envelope_text own = {at + 1, path->bytes - (uint32_t)(at + 1 - path->at)};
	return same(domain, &own);
}

static bool sender_passes(const char *sender, const struct envelope_text *path)
{
	if (sender[0] == '@')
		return in_domain(sender + 1, path);
	return strcmp(sender, "<>") == 0 ? path->bytes == 0 : same(sender, path);
}

bool queue_filter_passes(const struct envelope_filter *f, const uint8_t *envelope, size_t bytes,
			 const uint8_t *done)
{
	struct envelope e;
	struct envelope_recipient to;
	size_t cursor = 0;

	if (envelope_decode(envelope, bytes, &e) < 0)
		return false;
	if (f->sender[0] != '\0' && !sender_passes(f->sender, &e.reverse_path))
		return false;
	if (f->user[0] != '\0' &&
	    (strlen(f->user) != e.user.bytes || memcmp(f->user, e.user.at, e.user.bytes) != 0))
		return false;
	if (f->domain[0] == '\0')
		return true;
	for (uint32_t i = 0; envelope_next_recipient(envelope, bytes, &cursor, &to); i++) {
		if ((done == NULL || (done[i / 8] & 1u << i % 8) == 0) &&
		    in_domain(f->domain, &to.path))
			return true;
	}
	return false;
}
