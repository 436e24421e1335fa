/* scan.c - finds the next valid record; damage is stepped over, a torn tail ends the walk */
#include "smtp/spool/scan.h"

#include "base/crc32c.h"
#include "smtp/spool/bytes.h"

#include <errno.h>
#include <stdlib.h>

enum { WINDOW_BYTES = 256 << 10 };

void scan_begin(struct scan *s, const struct spool_io *io, int fd, uint64_t salt, uint64_t limit)
{
	*s = (struct scan){.io = io, .fd = fd, .salt = salt, .at = SEGMENT_DATA_AT, .limit = limit};
}

void scan_end(struct scan *s)
{
	free(s->buffer);
	*s = (struct scan){0};
}

static int make_room(struct scan *s, size_t n)
{
	if (n <= s->capacity)
		return 0;
	uint8_t *wider = realloc(s->buffer, n);
	if (wider == NULL)
		return -ENOMEM;
	s->buffer = wider;
	s->capacity = n;
	return 0;
}

const uint8_t *scan_bytes(struct scan *s, uint64_t at, size_t n)
{
	if (at >= s->buffer_at && at + n <= s->buffer_at + s->buffered)
		return s->buffer + (at - s->buffer_at);
	uint64_t want = s->limit - at < WINDOW_BYTES ? s->limit - at : WINDOW_BYTES;
	if (want < n)
		want = n;
	s->buffered = 0;
	s->buffer_at = at;
	s->error = make_room(s, want);
	while (s->error == 0 && s->buffered < want) {
		ssize_t got = s->io->pread(s->io->arg, s->fd, s->buffer + s->buffered,
					   want - s->buffered, (off_t)(at + s->buffered));
		if (got < 0)
			s->error = (int)got;
		else if (got == 0 && s->buffered >= n)
			break;
		else if (got == 0)
			s->error = -EIO;
		else
			s->buffered += (size_t)got;
	}
	return s->error == 0 ? s->buffer : NULL;
}

/* Whether a whole valid record begins at the offset.  *end: where the next one would begin,
 * told by a good head even when the payload is damaged; 0 without one. */
static bool probe(struct scan *s, uint64_t at, struct record_head *h, uint64_t *end)
{
	*end = 0;
	if (s->limit - at < RECORD_HEAD_BYTES)
		return false;
	const uint8_t *p = scan_bytes(s, at, RECORD_HEAD_BYTES);
	if (p == NULL || !record_head_decode(p, s->salt, h) ||
	    h->payload_bytes > s->limit - at - RECORD_HEAD_BYTES)
		return false;
	*end = at + record_bytes(h->payload_bytes);
	p = scan_bytes(s, at, RECORD_HEAD_BYTES + h->payload_bytes);
	return p != NULL && h->sequence > s->last_sequence &&
	       crc32c(record_crc_begin(s->salt), p + RECORD_HEAD_BYTES, h->payload_bytes) ==
		       h->payload_crc;
}

/* Offset of the next aligned magic in [from, limit), or limit.  Notes bytes that are not zero. */
static uint64_t next_magic(struct scan *s, uint64_t from)
{
	uint32_t magic = record_magic(s->salt);

	while (s->limit - from >= RECORD_HEAD_BYTES) {
		uint64_t n =
			s->limit - from < WINDOW_BYTES / 2 ? s->limit - from : WINDOW_BYTES / 2;
		const uint8_t *p = scan_bytes(s, from, n);
		if (p == NULL)
			return s->limit;
		for (uint64_t i = 0; i + RECORD_HEAD_BYTES <= n; i += RECORD_ALIGN) {
			uint64_t word = get_u64(p + i);

			if ((uint32_t)word == magic)
				return from + i;
			if (word != 0)
				s->tail_bytes = from + i + RECORD_ALIGN;
		}
		uint64_t step = n - RECORD_HEAD_BYTES + RECORD_ALIGN;
		from += step & ~(uint64_t)(RECORD_ALIGN - 1);
	}
	for (const uint8_t *p; from < s->limit && (p = scan_bytes(s, from, 1)) != NULL; from++) {
		if (*p != 0)
			s->tail_bytes = from + 1;
	}
	return s->limit;
}

/* The offset behind the aligned word at the offset; notes whether it is not zero. */
static uint64_t step_over(struct scan *s, uint64_t at)
{
	uint8_t word[RECORD_ALIGN] = {0};
	uint64_t n = s->limit - at < RECORD_ALIGN ? s->limit - at : RECORD_ALIGN;
	const uint8_t *p = scan_bytes(s, at, n);

	if (p != NULL)
		memcpy(word, p, n);
	if (get_u64(word) != 0)
		s->tail_bytes = at + n;
	return at + n;
}

/* Looks for a valid record behind the bad place, first at `end` where a good head (if not 0)
 * says that the bad record stops.  s->at moves there; false: nothing valid up to the limit. */
static bool resync(struct scan *s, uint64_t bad, uint64_t end)
{
	struct record_head h;
	uint64_t at = end;

	s->tail_bytes = end;
	if (end == 0)
		at = step_over(s, bad);
	while (at < s->limit && s->error == 0) {
		if (probe(s, at, &h, &end)) {
			s->at = at;
			return true;
		}
		if (end != 0)
			s->tail_bytes = at = end;
		else if (s->error == 0)
			at = next_magic(s, step_over(s, at));
	}
	return false;
}

enum scan_verdict scan_next(struct scan *s, struct record_head *h, const uint8_t **payload,
			    uint64_t *offset)
{
	uint64_t bad = s->at, end;

	s->error = 0;
	if (s->at >= s->limit) {
		s->tail_bytes = 0;
		return SCAN_END;
	}
	if (probe(s, s->at, h, &end)) {
		*offset = s->at;
		*payload = scan_bytes(s, s->at, RECORD_HEAD_BYTES + h->payload_bytes);
		*payload += RECORD_HEAD_BYTES;
		s->at = end < s->limit ? end : s->limit;
		s->last_sequence = h->sequence;
		return SCAN_RECORD;
	}
	if (s->error == 0 && resync(s, bad, end)) {
		s->damage_from = bad;
		return SCAN_DAMAGE;
	}
	if (s->error != 0)
		return SCAN_ERROR;
	if (s->tail_bytes > s->limit)
		s->tail_bytes = s->limit;
	s->tail_bytes = s->tail_bytes > bad ? s->tail_bytes - bad : 0;
	s->at = s->limit;
	s->damage_from = bad;
	return SCAN_END;
}
