/* record.c - encoding and checking of segment headers and records */
#include "smtp/spool/record.h"

#include "base/crc32c.h"
#include "smtp/spool/bytes.h"

#include <errno.h>

static const uint8_t segment_magic[8] = {'P', 'S', 'T', 'N', 'S', 'E', 'G', '\n'};

enum {
	SEGMENT_AT_VERSION = 8,
	SEGMENT_AT_HEADER_BYTES = 12,
	SEGMENT_AT_NUMBER = 16,
	SEGMENT_AT_SALT = 24,
	SEGMENT_AT_ID_FLOOR = 32,
	SEGMENT_AT_SEQUENCE = 40,
	SEGMENT_AT_CRC = 60,

	RECORD_AT_MAGIC = 0,
	RECORD_AT_CRC = 4, /* over everything behind it in the head */
	RECORD_AT_TYPE = 8,
	RECORD_AT_PAYLOAD_BYTES = 12,
	RECORD_AT_ID = 16,
	RECORD_AT_SEQUENCE = 24,
	RECORD_AT_PAYLOAD_CRC = 32,
	RECORD_AT_RESERVED = 36,

	MESSAGE_AT_ENVELOPE_BYTES = 0,
	MESSAGE_AT_PREFIX_BYTES = 4,
	MESSAGE_AT_BODY_BYTES = 8,
	MESSAGE_AT_FLAGS = 16,
	MESSAGE_AT_RESERVED = 20,
	MESSAGE_LARGE = 1,

	DISPOSITION_AT_SEGMENT = 0,
	DISPOSITION_AT_RETRY = 8,
	DISPOSITION_AT_ATTEMPTS = 16,
	DISPOSITION_AT_FLAGS = 20,
	DISPOSITION_AT_RECIPIENTS = 24,
	DISPOSITION_AT_RESERVED = 28,
	DISPOSITION_LAST = 1,
	DISPOSITION_HELD = 2,
	DISPOSITION_MARKED = 4,
	DISPOSITION_FLAGS = 7,

	MARK_AT_RELEASED = 0,
	MARK_AT_ROUTE = 8,
	MARK_AT_RESERVED = 12,
};

void segment_header_encode(uint8_t out[SEGMENT_HEADER_BYTES], const struct segment_header *h)
{
	memset(out, 0, SEGMENT_HEADER_BYTES);
	memcpy(out, segment_magic, sizeof(segment_magic));
	put_u32(out + SEGMENT_AT_VERSION, SEGMENT_VERSION);
	put_u32(out + SEGMENT_AT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
	put_u64(out + SEGMENT_AT_NUMBER, h->number);
	put_u64(out + SEGMENT_AT_SALT, h->salt);
	put_u64(out + SEGMENT_AT_ID_FLOOR, h->id_floor);
	put_u64(out + SEGMENT_AT_SEQUENCE, h->first_sequence);
	put_u32(out + SEGMENT_AT_CRC, crc32c(0, out, SEGMENT_AT_CRC));
}

int segment_header_decode(const uint8_t in[SEGMENT_HEADER_BYTES], uint64_t number,
			  struct segment_header *h)
{
	if (memcmp(in, segment_magic, sizeof(segment_magic)) != 0 ||
	    get_u32(in + SEGMENT_AT_CRC) != crc32c(0, in, SEGMENT_AT_CRC))
		return -EBADMSG;
	if (get_u32(in + SEGMENT_AT_VERSION) != SEGMENT_VERSION)
		return -ENOTSUP;
	h->number = get_u64(in + SEGMENT_AT_NUMBER);
	h->salt = get_u64(in + SEGMENT_AT_SALT);
	h->id_floor = get_u64(in + SEGMENT_AT_ID_FLOOR);
	h->first_sequence = get_u64(in + SEGMENT_AT_SEQUENCE);
	return h->number == number ? 0 : -EBADMSG;
}

uint32_t record_magic(uint64_t salt)
{
	uint8_t bytes[8];

	put_u64(bytes, salt);
	return crc32c(0, bytes, sizeof(bytes)) | 1;
}

uint32_t record_crc_begin(uint64_t salt)
{
	uint8_t bytes[8];

	put_u64(bytes, salt ^ 0x5a5a5a5a5a5a5a5aull);
	return crc32c(0, bytes, sizeof(bytes));
}

static uint32_t head_crc(const uint8_t *in, uint64_t salt)
{
	return crc32c(record_crc_begin(salt), in + RECORD_AT_TYPE,
		      RECORD_HEAD_BYTES - RECORD_AT_TYPE);
}

void record_head_encode(uint8_t out[RECORD_HEAD_BYTES], uint64_t salt, const struct record_head *h)
{
	put_u32(out + RECORD_AT_MAGIC, record_magic(salt));
	put_u32(out + RECORD_AT_TYPE, h->type);
	put_u32(out + RECORD_AT_PAYLOAD_BYTES, h->payload_bytes);
	put_u64(out + RECORD_AT_ID, h->id);
	put_u64(out + RECORD_AT_SEQUENCE, h->sequence);
	put_u32(out + RECORD_AT_PAYLOAD_CRC, h->payload_crc);
	put_u32(out + RECORD_AT_RESERVED, 0);
	put_u32(out + RECORD_AT_CRC, head_crc(out, salt));
}

bool record_head_decode(const uint8_t in[RECORD_HEAD_BYTES], uint64_t salt, struct record_head *h)
{
	if (get_u32(in + RECORD_AT_MAGIC) != record_magic(salt) ||
	    get_u32(in + RECORD_AT_CRC) != head_crc(in, salt))
		return false;
	h->type = get_u32(in + RECORD_AT_TYPE);
	h->payload_bytes = get_u32(in + RECORD_AT_PAYLOAD_BYTES);
	h->id = get_u64(in + RECORD_AT_ID);
	h->sequence = get_u64(in + RECORD_AT_SEQUENCE);
	h->payload_crc = get_u32(in + RECORD_AT_PAYLOAD_CRC);
	return h->payload_bytes <= RECORD_PAYLOAD_MAX;
}

void message_head_encode(uint8_t out[MESSAGE_HEAD_BYTES], const struct message_head *m)
{
	put_u32(out + MESSAGE_AT_ENVELOPE_BYTES, m->envelope_bytes);
	put_u32(out + MESSAGE_AT_PREFIX_BYTES, m->prefix_bytes);
	put_u64(out + MESSAGE_AT_BODY_BYTES, m->body_bytes);
	put_u32(out + MESSAGE_AT_FLAGS, m->large ? MESSAGE_LARGE : 0);
	put_u32(out + MESSAGE_AT_RESERVED, 0);
}

bool message_head_decode(const uint8_t *payload, uint32_t payload_bytes, struct message_head *m)
{
	if (payload_bytes < MESSAGE_HEAD_BYTES)
		return false;
	uint32_t flags = get_u32(payload + MESSAGE_AT_FLAGS);
	m->envelope_bytes = get_u32(payload + MESSAGE_AT_ENVELOPE_BYTES);
	m->prefix_bytes = get_u32(payload + MESSAGE_AT_PREFIX_BYTES);
	m->body_bytes = get_u64(payload + MESSAGE_AT_BODY_BYTES);
	m->large = (flags & MESSAGE_LARGE) != 0;
	uint64_t parts = (uint64_t)MESSAGE_HEAD_BYTES + m->envelope_bytes + m->prefix_bytes;
	if ((flags & ~(uint32_t)MESSAGE_LARGE) != 0 || parts > payload_bytes ||
	    m->body_bytes > INT64_MAX)
		return false;
	return m->large ? parts == payload_bytes : m->body_bytes == payload_bytes - parts;
}

void disposition_head_encode(uint8_t *out, const struct disposition_head *d)
{
	put_u64(out + DISPOSITION_AT_SEGMENT, d->message_segment);
	put_u64(out + DISPOSITION_AT_RETRY, (uint64_t)d->retry_at_s);
	put_u32(out + DISPOSITION_AT_ATTEMPTS, d->attempts);
	bool marked = mark_bytes(d->route, d->released_at_s) > 0;
	put_u32(out + DISPOSITION_AT_FLAGS, (d->last ? DISPOSITION_LAST : 0) |
						    (d->held ? DISPOSITION_HELD : 0) |
						    (marked ? DISPOSITION_MARKED : 0));
	put_u32(out + DISPOSITION_AT_RECIPIENTS, d->recipients);
	put_u32(out + DISPOSITION_AT_RESERVED, 0);
	if (!marked)
		return;
	uint8_t *mark = out + DISPOSITION_HEAD_BYTES + bitmap_bytes(d->recipients);
	put_u64(mark + MARK_AT_RELEASED, (uint64_t)d->released_at_s);
	put_u32(mark + MARK_AT_ROUTE, d->route);
	put_u32(mark + MARK_AT_RESERVED, 0);
}

bool disposition_head_decode(const uint8_t *payload, uint32_t payload_bytes,
			     struct disposition_head *d)
{
	if (payload_bytes < DISPOSITION_HEAD_BYTES)
		return false;
	uint32_t flags = get_u32(payload + DISPOSITION_AT_FLAGS);
	d->message_segment = get_u64(payload + DISPOSITION_AT_SEGMENT);
	d->retry_at_s = (int64_t)get_u64(payload + DISPOSITION_AT_RETRY);
	d->attempts = get_u32(payload + DISPOSITION_AT_ATTEMPTS);
	d->last = (flags & DISPOSITION_LAST) != 0;
	d->recipients = get_u32(payload + DISPOSITION_AT_RECIPIENTS);
	d->held = (flags & DISPOSITION_HELD) != 0;
	d->route = 0;
	d->released_at_s = 0;
	uint32_t mark = (flags & DISPOSITION_MARKED) != 0 ? DISPOSITION_MARK_BYTES : 0;
	if ((flags & ~(uint32_t)DISPOSITION_FLAGS) != 0 ||
	    payload_bytes - DISPOSITION_HEAD_BYTES != bitmap_bytes(d->recipients) + mark)
		return false;
	if (mark > 0) {
		const uint8_t *at = payload + payload_bytes - mark;
		d->released_at_s = (int64_t)get_u64(at + MARK_AT_RELEASED);
		d->route = get_u32(at + MARK_AT_ROUTE);
	}
	return true;
}
