/* envelope.c - the stored form of an envelope; its layout is the enums below and the README */
#include "smtp/spool/envelope.h"

#include "smtp/spool/bytes.h"

#include <errno.h>

enum {
	VERSION_1 = 1,
	VERSION_2 = 2,
	AT_VERSION = 0,
	AT_FLAGS = 1,
	AT_FAMILY = 2,
	AT_BODY = 3, /* version 1: 0 */
	AT_ADDRESS = 4,
	AT_ACCEPTED = 20,
	AT_RECIPIENTS = 28,
	AT_REVERSE_BYTES = 32,
	AT_USER_BYTES = 34,
	HEAD_1_BYTES = 36,
	AT_ENVID_BYTES = 36,
	AT_MECHANISM_BYTES = 38,
	AT_TLS_BYTES = 40,
	AT_RET = 42,
	AT_BY = 43,
	AT_PRIORITY = 44,
	AT_RESERVED = 45, /* 3 bytes of 0 */
	AT_HOLD_UNTIL = 48,
	AT_BY_AT = 56,
	AT_DECLARED = 64,
	HEAD_2_BYTES = 72,
	RECIPIENT_1_BYTES = 2, /* length of the path */
	RECIPIENT_2_BYTES = 5, /* of path and ORCPT, and NOTIFY */
	PRIORITY_MAX = 9,
	TEXTS = 5,
};

enum {
	FLAG_1_8BIT = 1,
	FLAG_SMTPUTF8 = 1,
	FLAG_REQUIRE_TLS = 2,
	FLAG_TLS_OPTIONAL = 4,
	FLAG_BY_TRACE = 8,
	FLAGS_2 = 15,
};

/* The texts behind the head, in this order; version 1 has the first two. */
static const struct {
	size_t offset; /* in struct envelope */
	unsigned at;   /* of the length, in the head */
} texts[TEXTS] = {
	{offsetof(struct envelope, reverse_path), AT_REVERSE_BYTES},
	{offsetof(struct envelope, user), AT_USER_BYTES},
	{offsetof(struct envelope, envid), AT_ENVID_BYTES},
	{offsetof(struct envelope, mechanism), AT_MECHANISM_BYTES},
	{offsetof(struct envelope, tls), AT_TLS_BYTES},
};

static const struct envelope_text *text_of(const struct envelope *e, unsigned i)
{
	return (const struct envelope_text *)((const char *)e + texts[i].offset);
}

/* RFC 5321 section 4.1.2: no command argument holds these; whatever let them in would let a
 * client write lines of its own into a header or the next hop's dialogue. */
static bool text_is_clean(const char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++) {
		if (at[i] == '\0' || at[i] == '\r' || at[i] == '\n')
			return false;
	}
	return true;
}

static bool address_is_canonical(const struct ip_addr *a)
{
	static const uint8_t zero[16];

	if (a->family == 6)
		return true;
	if (a->family == 4)
		return memcmp(a->byte + 4, zero, 12) == 0;
	return a->family == 0 && memcmp(a->byte, zero, 16) == 0;
}

/* One meaning, one form: a field that says nothing is 0. */
static bool values_are_canonical(const struct envelope *e)
{
	return e->body <= ENVELOPE_BINARY && e->ret <= ENVELOPE_RET_FULL &&
	       e->by <= ENVELOPE_BY_NOTIFY && e->priority >= -PRIORITY_MAX &&
	       e->priority <= PRIORITY_MAX && e->hold_until_s >= 0 &&
	       (e->by != ENVELOPE_BY_NONE || (e->by_at_s == 0 && !e->by_trace)) &&
	       address_is_canonical(&e->client);
}

ptrdiff_t envelope_begin(uint8_t *out, size_t room, const struct envelope *e)
{
	size_t bytes = HEAD_2_BYTES;

	for (unsigned i = 0; i < TEXTS; i++) {
		const struct envelope_text *t = text_of(e, i);
		if (t->bytes > UINT16_MAX || !text_is_clean(t->at, t->bytes))
			return -EINVAL;
		bytes += t->bytes;
	}
	if (!values_are_canonical(e))
		return -EINVAL;
	if (room < bytes)
		return -ENOSPC;
	memset(out, 0, HEAD_2_BYTES);
	out[AT_VERSION] = VERSION_2;
	out[AT_FLAGS] = (uint8_t)((e->smtputf8 ? FLAG_SMTPUTF8 : 0) |
				  (e->require_tls ? FLAG_REQUIRE_TLS : 0) |
				  (e->tls_optional ? FLAG_TLS_OPTIONAL : 0) |
				  (e->by_trace ? FLAG_BY_TRACE : 0));
	out[AT_FAMILY] = e->client.family;
	out[AT_BODY] = (uint8_t)e->body;
	memcpy(out + AT_ADDRESS, e->client.byte, 16);
	put_u64(out + AT_ACCEPTED, (uint64_t)e->accepted_at_s);
	out[AT_RET] = (uint8_t)e->ret;
	out[AT_BY] = (uint8_t)e->by;
	out[AT_PRIORITY] = (uint8_t)e->priority;
	put_u64(out + AT_HOLD_UNTIL, (uint64_t)e->hold_until_s);
	put_u64(out + AT_BY_AT, (uint64_t)e->by_at_s);
	put_u64(out + AT_DECLARED, e->declared_bytes);
	bytes = HEAD_2_BYTES;
	for (unsigned i = 0; i < TEXTS; i++) {
		const struct envelope_text *t = text_of(e, i);
		put_u16(out + texts[i].at, (uint16_t)t->bytes);
		if (t->bytes > 0)
			memcpy(out + bytes, t->at, t->bytes);
		bytes += t->bytes;
	}
	return (ptrdiff_t)bytes;
}

static bool recipient_is_valid(const struct envelope_recipient *r)
{
	return r->path.bytes > 0 && r->path.bytes <= UINT16_MAX && r->orcpt.bytes <= UINT16_MAX &&
	       (r->notify & ~ENVELOPE_NOTIFY_ALL) == 0 &&
	       text_is_clean(r->path.at, r->path.bytes) &&
	       text_is_clean(r->orcpt.at, r->orcpt.bytes);
}

int envelope_add_recipient(uint8_t *out, size_t room, size_t *bytes,
			   const struct envelope_recipient *r)
{
	if (!recipient_is_valid(r))
		return -EINVAL;
	if (*bytes < HEAD_2_BYTES || *bytes > room ||
	    room - *bytes < RECIPIENT_2_BYTES + (size_t)r->path.bytes + r->orcpt.bytes)
		return -ENOSPC;
	uint8_t *at = out + *bytes;
	put_u16(at, (uint16_t)r->path.bytes);
	put_u16(at + 2, (uint16_t)r->orcpt.bytes);
	at[4] = r->notify;
	memcpy(at + RECIPIENT_2_BYTES, r->path.at, r->path.bytes);
	if (r->orcpt.bytes > 0)
		memcpy(at + RECIPIENT_2_BYTES + r->path.bytes, r->orcpt.at, r->orcpt.bytes);
	*bytes += RECIPIENT_2_BYTES + r->path.bytes + r->orcpt.bytes;
	put_u32(out + AT_RECIPIENTS, get_u32(out + AT_RECIPIENTS) + 1);
	return 0;
}

void envelope_set_tls_optional(uint8_t *out)
{
	out[AT_FLAGS] |= FLAG_TLS_OPTIONAL;
}

/* Where the recipients begin, or 0 when the head does not fit in the bytes. */
static size_t recipients_at(const uint8_t *data, size_t bytes)
{
	if (bytes < HEAD_1_BYTES)
		return 0;
	bool old = data[AT_VERSION] == VERSION_1;
	size_t at = old ? HEAD_1_BYTES : HEAD_2_BYTES;
	if (bytes < at)
		return 0;
	for (unsigned i = 0; i < (old ? 2 : TEXTS); i++)
		at += get_u16(data + texts[i].at);
	return at <= bytes ? at : 0;
}

bool envelope_next_recipient(const uint8_t *data, size_t bytes, size_t *cursor,
			     struct envelope_recipient *r)
{
	size_t at = *cursor > 0 ? *cursor : recipients_at(data, bytes);
	bool old = bytes > 0 && data[AT_VERSION] == VERSION_1;
	size_t head = old ? RECIPIENT_1_BYTES : RECIPIENT_2_BYTES;

	if (at == 0 || at >= bytes || bytes - at < head)
		return false;
	size_t path = get_u16(data + at), orcpt = old ? 0 : get_u16(data + at + 2);
	if (path + orcpt > bytes - at - head)
		return false;
	const char *text = (const char *)data + at + head;
	*r = (struct envelope_recipient){
		.path = {text, (uint32_t)path},
		.orcpt = {text + path, (uint32_t)orcpt},
		.notify = old ? 0 : data[at + 4],
	};
	*cursor = at + head + path + orcpt;
	return true;
}

static bool recipients_are_whole(const uint8_t *data, size_t bytes, uint32_t expected)
{
	struct envelope_recipient r;
	size_t cursor = 0;
	uint32_t n = 0;

	while (envelope_next_recipient(data, bytes, &cursor, &r)) {
		if (!recipient_is_valid(&r))
			return false;
		n++;
	}
	return n == expected && (n > 0 ? cursor : recipients_at(data, bytes)) == bytes;
}

static bool decode_1(const uint8_t *data, struct envelope *e)
{
	e->body = (data[AT_FLAGS] & FLAG_1_8BIT) != 0 ? ENVELOPE_8BIT : ENVELOPE_7BIT;
	return (data[AT_FLAGS] & ~FLAG_1_8BIT) == 0 && data[AT_BODY] == 0;
}

static bool decode_2(const uint8_t *data, struct envelope *e)
{
	static const uint8_t zero[AT_HOLD_UNTIL - AT_RESERVED];
	unsigned flags = data[AT_FLAGS];

	e->smtputf8 = (flags & FLAG_SMTPUTF8) != 0;
	e->require_tls = (flags & FLAG_REQUIRE_TLS) != 0;
	e->tls_optional = (flags & FLAG_TLS_OPTIONAL) != 0;
	e->by_trace = (flags & FLAG_BY_TRACE) != 0;
	e->body = (enum envelope_body)data[AT_BODY];
	e->ret = (enum envelope_ret)data[AT_RET];
	e->by = (enum envelope_by)data[AT_BY];
	e->priority = (int8_t)data[AT_PRIORITY];
	e->hold_until_s = (int64_t)get_u64(data + AT_HOLD_UNTIL);
	e->by_at_s = (int64_t)get_u64(data + AT_BY_AT);
	e->declared_bytes = get_u64(data + AT_DECLARED);
	return (flags & ~FLAGS_2) == 0 && memcmp(data + AT_RESERVED, zero, sizeof(zero)) == 0;
}

int envelope_decode(const uint8_t *data, size_t bytes, struct envelope *e)
{
	if (recipients_at(data, bytes) == 0 ||
	    (data[AT_VERSION] != VERSION_1 && data[AT_VERSION] != VERSION_2))
		return -EINVAL;
	bool old = data[AT_VERSION] == VERSION_1;
	memset(e, 0, sizeof(*e));
	e->client.family = data[AT_FAMILY];
	memcpy(e->client.byte, data + AT_ADDRESS, 16);
	e->accepted_at_s = (int64_t)get_u64(data + AT_ACCEPTED);
	e->recipients = get_u32(data + AT_RECIPIENTS);
	if (!(old ? decode_1(data, e) : decode_2(data, e)) || !values_are_canonical(e))
		return -EINVAL;
	const char *text = (const char *)data + (old ? HEAD_1_BYTES : HEAD_2_BYTES);
	for (unsigned i = 0; i < (old ? 2 : TEXTS); i++) {
		struct envelope_text *t = (struct envelope_text *)((char *)e + texts[i].offset);
		*t = (struct envelope_text){text, get_u16(data + texts[i].at)};
		if (!text_is_clean(t->at, t->bytes))
			return -EINVAL;
		text += t->bytes;
	}
	return recipients_are_whole(data, bytes, e->recipients) ? 0 : -EINVAL;
}
