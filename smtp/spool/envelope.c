/* envelope.c - the stored form of an envelope; its layout is the enum below and the README */
#include "smtp/spool/envelope.h"

#include "smtp/spool/bytes.h"

#include <errno.h>

enum {
	ENVELOPE_VERSION = 1,
	AT_VERSION = 0,
	AT_FLAGS = 1,
	AT_FAMILY = 2,
	AT_RESERVED = 3,
	AT_ADDRESS = 4,
	AT_ACCEPTED = 20,
	AT_RECIPIENTS = 28,
	AT_REVERSE_BYTES = 32,
	AT_USER_BYTES = 34,
	HEAD_BYTES = 36,
	FLAG_8BIT = 1,
	LENGTH_BYTES = 2,
};

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

ptrdiff_t envelope_begin(uint8_t *out, size_t room, const struct envelope *e)
{
	size_t reverse = e->reverse_path.bytes, user = e->user.bytes;

	if (reverse > UINT16_MAX || user > UINT16_MAX ||
	    !text_is_clean(e->reverse_path.at, reverse) || !text_is_clean(e->user.at, user) ||
	    !address_is_canonical(&e->client))
		return -EINVAL;
	if (room < HEAD_BYTES + reverse + user)
		return -ENOSPC;
	out[AT_VERSION] = ENVELOPE_VERSION;
	out[AT_FLAGS] = e->body_8bit ? FLAG_8BIT : 0;
	out[AT_FAMILY] = e->client.family;
	out[AT_RESERVED] = 0;
	memcpy(out + AT_ADDRESS, e->client.byte, 16);
	put_u64(out + AT_ACCEPTED, (uint64_t)e->accepted_at_s);
	put_u32(out + AT_RECIPIENTS, 0);
	put_u16(out + AT_REVERSE_BYTES, (uint16_t)reverse);
	put_u16(out + AT_USER_BYTES, (uint16_t)user);
	if (reverse > 0)
		memcpy(out + HEAD_BYTES, e->reverse_path.at, reverse);
	if (user > 0)
		memcpy(out + HEAD_BYTES + reverse, e->user.at, user);
	return (ptrdiff_t)(HEAD_BYTES + reverse + user);
}

int envelope_add_recipient(uint8_t *out, size_t room, size_t *bytes, const char *path,
			   uint32_t path_bytes)
{
	if (path_bytes == 0 || path_bytes > UINT16_MAX || !text_is_clean(path, path_bytes))
		return -EINVAL;
	if (*bytes < HEAD_BYTES || *bytes > room ||
	    room - *bytes < LENGTH_BYTES + (size_t)path_bytes)
		return -ENOSPC;
	put_u16(out + *bytes, (uint16_t)path_bytes);
	memcpy(out + *bytes + LENGTH_BYTES, path, path_bytes);
	*bytes += LENGTH_BYTES + path_bytes;
	put_u32(out + AT_RECIPIENTS, get_u32(out + AT_RECIPIENTS) + 1);
	return 0;
}

/* Where the recipients begin, or 0 when the head does not fit in the bytes. */
static size_t recipients_at(const uint8_t *data, size_t bytes)
{
	if (bytes < HEAD_BYTES)
		return 0;
	size_t at = (size_t)HEAD_BYTES + get_u16(data + AT_REVERSE_BYTES) +
		    get_u16(data + AT_USER_BYTES);
	return at <= bytes ? at : 0;
}

bool envelope_next_recipient(const uint8_t *data, size_t bytes, size_t *cursor,
			     struct envelope_text *path)
{
	size_t at = *cursor > 0 ? *cursor : recipients_at(data, bytes);

	if (at == 0 || at >= bytes || bytes - at < LENGTH_BYTES)
		return false;
	uint32_t n = get_u16(data + at);
	if (n > bytes - at - LENGTH_BYTES)
		return false;
	*path = (struct envelope_text){(const char *)data + at + LENGTH_BYTES, n};
	*cursor = at + LENGTH_BYTES + n;
	return true;
}

static bool recipients_are_whole(const uint8_t *data, size_t bytes, uint32_t expected)
{
	struct envelope_text path;
	size_t cursor = 0;
	uint32_t n = 0;

	while (envelope_next_recipient(data, bytes, &cursor, &path)) {
		if (path.bytes == 0 || !text_is_clean(path.at, path.bytes))
			return false;
		n++;
	}
	return n == expected && (n > 0 ? cursor : recipients_at(data, bytes)) == bytes;
}

int envelope_decode(const uint8_t *data, size_t bytes, struct envelope *e)
{
	if (recipients_at(data, bytes) == 0 || data[AT_VERSION] != ENVELOPE_VERSION ||
	    (data[AT_FLAGS] & ~FLAG_8BIT) != 0 || data[AT_RESERVED] != 0)
		return -EINVAL;
	memset(e, 0, sizeof(*e));
	e->client.family = data[AT_FAMILY];
	memcpy(e->client.byte, data + AT_ADDRESS, 16);
	e->accepted_at_s = (int64_t)get_u64(data + AT_ACCEPTED);
	e->body_8bit = (data[AT_FLAGS] & FLAG_8BIT) != 0;
	e->recipients = get_u32(data + AT_RECIPIENTS);
	e->reverse_path.at = (const char *)data + HEAD_BYTES;
	e->reverse_path.bytes = get_u16(data + AT_REVERSE_BYTES);
	e->user.at = e->reverse_path.at + e->reverse_path.bytes;
	e->user.bytes = get_u16(data + AT_USER_BYTES);
	if (!address_is_canonical(&e->client) ||
	    !text_is_clean(e->reverse_path.at, e->reverse_path.bytes) ||
	    !text_is_clean(e->user.at, e->user.bytes) ||
	    !recipients_are_whole(data, bytes, e->recipients))
		return -EINVAL;
	return 0;
}
