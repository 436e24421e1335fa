/*
 * record.h - the bytes of a log segment: its header and its records.  Pure functions.
 *
 * Every magic and checksum of a segment is seeded with that segment's secret salt, so bytes
 * inside a message that look like a record, or records of another segment, are never taken for
 * one.  The header is stored twice, in different sectors.
 *
 * Units: bytes.  Everything is little-endian; records start at multiples of RECORD_ALIGN.
 * Errors: -EBADMSG: not a header; -ENOTSUP: a version that this code does not know.
 * Source: README.md of this folder, which is the format's specification.
 */
#ifndef SMTP_SPOOL_RECORD_H
#define SMTP_SPOOL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	SEGMENT_VERSION = 1,
	SEGMENT_HEADER_BYTES = 64,
	SEGMENT_COPY_AT = 512,  /* the second header: never in the first one's sector */
	SEGMENT_DATA_AT = 1024, /* first record */
	RECORD_HEAD_BYTES = 40,
	RECORD_ALIGN = 8,
	RECORD_PAYLOAD_MAX = 16 << 20,
	MESSAGE_HEAD_BYTES = 24,     /* fixed part of a message's payload */
	DISPOSITION_HEAD_BYTES = 32, /* fixed part of a disposition's payload; the bitmap follows */
	DISPOSITION_MARK_BYTES = 16, /* behind the bitmap, where there is something to say */
};

enum record_type { RECORD_MESSAGE = 1, RECORD_DISPOSITION = 2 };

struct segment_header {
	uint64_t number;
	uint64_t salt;
	uint64_t id_floor;       /* every id handed out before this segment began is lower */
	uint64_t first_sequence; /* of the first record */
};

struct record_head {
	uint32_t type;
	uint32_t payload_bytes;
	uint64_t id;
	uint64_t sequence; /* rises through the whole log */
	uint32_t payload_crc;
};

struct message_head {
	uint32_t envelope_bytes, prefix_bytes;
	uint64_t body_bytes;
	bool large; /* the body is in its own file, not behind the prefix */
};

/* The whole state of a message's recipients: the newest record of a message says it all. */
struct disposition_head {
	uint64_t message_segment; /* where the message's record was when this one was written */
	int64_t retry_at_s;
	uint32_t attempts;
	bool last;
	uint32_t recipients; /* bits in the bitmap that follows; 0 when last */
	/* what an operator decided */
	bool held;             /* not to be tried until released */
	uint32_t route;        /* CRC-32C of a pool's name; 0: by the routes */
	int64_t released_at_s; /* UNIX time from which its age counts; 0: not released */
};

static inline uint64_t record_bytes(uint32_t payload_bytes)
{
	return ((uint64_t)RECORD_HEAD_BYTES + payload_bytes + RECORD_ALIGN - 1) &
	       ~(uint64_t)(RECORD_ALIGN - 1);
}

static inline uint32_t bitmap_bytes(uint32_t bits)
{
	return bits / 8 + (bits % 8 != 0);
}

void segment_header_encode(uint8_t out[SEGMENT_HEADER_BYTES], const struct segment_header *h);
int segment_header_decode(const uint8_t in[SEGMENT_HEADER_BYTES], uint64_t number,
			  struct segment_header *h);

/* First four bytes of every record of the segment; never zero. */
uint32_t record_magic(uint64_t salt);
/* Start of the payload's checksum; go on with crc32c(). */
uint32_t record_crc_begin(uint64_t salt);
void record_head_encode(uint8_t out[RECORD_HEAD_BYTES], uint64_t salt, const struct record_head *h);
/* false: no record begins here, or its head is damaged; a true one's length can be trusted. */
bool record_head_decode(const uint8_t in[RECORD_HEAD_BYTES], uint64_t salt, struct record_head *h);

void message_head_encode(uint8_t out[MESSAGE_HEAD_BYTES], const struct message_head *m);
/* false when the parts do not add up to the payload. */
bool message_head_decode(const uint8_t *payload, uint32_t payload_bytes, struct message_head *m);
/* Bytes of its mark; 0: it needs none. */
static inline uint32_t mark_bytes(uint32_t route, int64_t released_at_s)
{
	return route != 0 || released_at_s != 0 ? DISPOSITION_MARK_BYTES : 0;
}

/* Head, then the bitmap of recipients (not written here), then the mark, if there is one. */
void disposition_head_encode(uint8_t *out, const struct disposition_head *d);
bool disposition_head_decode(const uint8_t *payload, uint32_t payload_bytes,
			     struct disposition_head *d);

#endif
