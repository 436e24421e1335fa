/*
 * scan.h - walks the records of a segment, however damaged, in bounded memory.
 *
 * Owner: the caller; the payload belongs to the scan and is good until the next call.
 * Runs on: the thread that opened the spool (recovery) and the committer (compaction).
 * Errors: a scan verdict; nothing in the file is trusted before its checksum.
 */
#ifndef SMTP_SPOOL_SCAN_H
#define SMTP_SPOOL_SCAN_H

#include "smtp/spool/record.h"
#include "smtp/spool/spool.h"

enum scan_verdict {
	SCAN_RECORD, /* head, payload and offset are set */
	SCAN_DAMAGE, /* [damage_from, at) holds no valid record, but one follows */
	SCAN_END,    /* no valid record follows; tail_bytes that are not zero were left over */
	SCAN_ERROR,  /* the file cannot be read: error */
};

struct scan {
	const struct spool_io *io;
	int fd;
	uint64_t salt;
	uint64_t at;            /* next byte to look at */
	uint64_t limit;         /* one past the last */
	uint64_t last_sequence; /* records only count with a higher one */
	uint64_t damage_from;
	uint64_t tail_bytes;
	int error;
	uint8_t *buffer;
	size_t capacity;
	uint64_t buffer_at; /* file offset of buffer[0] */
	size_t buffered;
};

void scan_begin(struct scan *s, const struct spool_io *io, int fd, uint64_t salt, uint64_t limit);
void scan_end(struct scan *s);
enum scan_verdict scan_next(struct scan *s, struct record_head *h, const uint8_t **payload,
			    uint64_t *offset);
/* n bytes at offset at of the file, or NULL with s->error. */
const uint8_t *scan_bytes(struct scan *s, uint64_t at, size_t n);

#endif
