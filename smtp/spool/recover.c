/*
 * recover.c - what the directory holds after whatever happened: every segment is scanned, torn
 * tails are cut, damage is set aside, orphans are removed.
 *
 * Runs on: spool_open() lists the directory and reads one header; the rest is the recovery's
 * thread's, and works on an index and segments that nobody else sees yet.
 */
#include "smtp/spool/restart.h"

#include "base/log.h"
#include "smtp/spool/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

static int refuse(struct spool_recovery *rv, int rc, const char *what, const char *name,
		  const char *remedy)
{
	snprintf(rv->error, sizeof(rv->error), "%s/%s: %s: %s; %s", rv->sp->config.directory, name,
		 what, strerror(-rc), remedy);
	return rc;
}

/* Keeps damaged bytes for the operator in a file of their own; a second start finds it there. */
static void set_aside(struct spool *sp, const struct spool_segment *seg, uint64_t from, uint64_t to)
{
	char suffix[24], name[FILE_NAME_BYTES];
	struct scan s;

	atomic_fetch_add(&sp->quarantined, 1);
	snprintf(suffix, sizeof(suffix), "-%010" PRIx64 ".bad", from);
	file_name(name, seg->number, suffix);
	log_error("spool", "%" PRIu64 " damaged bytes of segment %016" PRIx64 " set aside in %s",
		  to - from, seg->number, name);
	int fd = sp->io->open(sp->io->arg, sp->dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return;
	scan_begin(&s, sp->io, seg->fd, seg->salt, to);
	for (uint64_t at = from; at < to;) {
		uint64_t n = to - at < 65536 ? to - at : 65536;
		const uint8_t *p = scan_bytes(&s, at, n);
		struct iovec iov = {(void *)(uintptr_t)p, n};

		if (p == NULL)
			break;
		ssize_t put = sp->io->pwritev(sp->io->arg, fd, &iov, 1, (off_t)(at - from));
		if (put <= 0)
			break;
		at += (uint64_t)put;
	}
	scan_end(&s);
	sp->io->fdatasync(sp->io->arg, fd);
	sp->io->close(sp->io->arg, fd);
	atomic_fetch_add(&sp->bytes_used, to - from);
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = ((const struct recovered *)a)->id, y = ((const struct recovered *)b)->id;

	return (x > y) - (x < y);
}

static void drop_dead(struct spool_recovery *rv)
{
	size_t kept = 0;

	for (size_t i = 0; i < rv->n_found; i++) {
		if (index_find(&rv->index, rv->found[i].id) != NULL)
			rv->found[kept++] = rv->found[i];
	}
	rv->n_found = kept;
}

/* Keeps in the list what is alive, oldest first, once each. */
static void order_found(struct spool_recovery *rv)
{
	size_t kept = 0;
	bool rising = true;

	drop_dead(rv);
	for (size_t i = 1; rising && i < rv->n_found; i++)
		rising = rv->found[i - 1].id < rv->found[i].id;
	if (rising)
		return;
	qsort(rv->found, rv->n_found, sizeof(*rv->found), by_id);
	for (size_t i = 0; i < rv->n_found; i++) {
		if (kept == 0 || rv->found[kept - 1].id != rv->found[i].id)
			rv->found[kept++] = rv->found[i];
	}
	rv->n_found = kept;
}

/* The list grows with what is alive, not with what was ever written. */
static int note_found(struct spool_recovery *rv, uint64_t id, const struct envelope *e)
{
	bool full = rv->n_found == rv->found_room;

	if (full)
		drop_dead(rv);
	if (full && rv->n_found >= rv->found_room / 2) {
		size_t room = rv->found_room > 0 ? rv->found_room * 2 : 256;
		struct recovered *wider = realloc(rv->found, room * sizeof(*wider));

		if (wider == NULL)
			return -ENOMEM;
		rv->found = wider;
		rv->found_room = room;
	}
	rv->found[rv->n_found++] = (struct recovered){
		.id = id,
		.accepted_at_s = e->accepted_at_s,
		.hold_until_s = e->hold_until_s,
		.by_at_s = e->by_at_s,
		.by = (uint8_t)e->by,
		.priority = e->priority,
	};
	return 0;
}

static void leave_segment(struct spool_entry *e)
{
	e->segment->live--;
	e->segment->live_bytes -= entry_record_bytes(e);
}

/* 0, -EBADMSG: not a message although the checksum is right, -ENOMEM */
static int found_message(struct spool_recovery *rv, const struct record_head *h,
			 const uint8_t *payload, uint64_t offset)
{
	struct spool_segment *seg = rv->segment;
	struct spool_entry *e = index_find(&rv->index, h->id);
	struct envelope envelope;
	struct message_head m;
	int rc = 0;

	if (h->id == 0 || h->id > INT64_MAX ||
	    !message_head_decode(payload, h->payload_bytes, &m) ||
	    envelope_decode(payload + MESSAGE_HEAD_BYTES, m.envelope_bytes, &envelope) < 0 ||
	    !entry_holds(m.body_bytes, envelope.recipients, m.envelope_bytes, m.prefix_bytes))
		return -EBADMSG;
	if (e != NULL && e->recipients != envelope.recipients)
		return -EBADMSG;
	if (e != NULL) {
		/* Compaction copied it and was cut short before the old segment was gone. */
		if (e->segment != seg)
			e->segment->doomed = true;
		leave_segment(e);
	} else {
		e = calloc(1, sizeof(*e));
		rc = e == NULL ? -ENOMEM : note_found(rv, h->id, &envelope);
		if (rc < 0) {
			free(e);
			return rc;
		}
		e->id = h->id;
		e->recipients = envelope.recipients;
		e->found = true;
		index_insert(&rv->index, e);
	}
	e->segment = seg;
	entry_move(e, offset);
	e->envelope_bytes = m.envelope_bytes;
	e->prefix_bytes = m.prefix_bytes;
	e->body_bytes = m.body_bytes;
	e->large = m.large;
	seg->live++;
	seg->live_bytes += entry_record_bytes(e);
	recovery_raise(&rv->sp->next_id, h->id + 1);
	return 0;
}

static void forget_message(struct spool_recovery *rv, struct spool_entry *e)
{
	leave_segment(e);
	segment_take_state(NULL, e);
	index_remove(&rv->index, e);
	entry_free(e);
}

static int found_disposition(struct spool_recovery *rv, const struct record_head *h,
			     const uint8_t *payload)
{
	struct spool_segment *seg = rv->segment;
	struct spool_entry *e = index_find(&rv->index, h->id);
	struct disposition_head d;

	if (!disposition_head_decode(payload, h->payload_bytes, &d))
		return -EBADMSG;
	if (d.last && d.message_segment < seg->oldest_ref)
		seg->oldest_ref = d.message_segment;
	if (e == NULL)
		return 0;
	if (d.last) {
		forget_message(rv, e);
		return 0;
	}
	if (d.recipients != e->recipients)
		return -EBADMSG;
	struct spool_state *s = entry_state(e);
	if (s == NULL)
		return -ENOMEM;
	segment_take_state(seg, e);
	s->retry_at_s = d.retry_at_s;
	s->attempts = d.attempts;
	s->held = d.held;
	s->route = d.route;
	s->released_at_s = d.released_at_s;
	memcpy(s->done, payload + DISPOSITION_HEAD_BYTES, bitmap_bytes(d.recipients));
	return 0;
}

static int found_record(struct spool_recovery *rv, const struct record_head *h,
			const uint8_t *payload, uint64_t offset)
{
	int rc = -EBADMSG;

	if (h->type == RECORD_MESSAGE)
		rc = found_message(rv, h, payload, offset);
	else if (h->type == RECORD_DISPOSITION)
		rc = found_disposition(rv, h, payload);
	if (rc != -EBADMSG)
		return rc;
	set_aside(rv->sp, rv->segment, offset, offset + record_bytes(h->payload_bytes));
	return 0;
}

/* Cuts what is behind the last good record and makes sure that what was read is on the disk:
 * after a kill it may only have been in the page cache. */
static void finish_segment(struct spool *sp, struct spool_segment *seg, uint64_t torn)
{
	int rc;

	atomic_fetch_add(&sp->torn_bytes, torn);
	if (torn > 0)
		log_warning("spool",
			    "segment %016" PRIx64 ": torn tail of %" PRIu64 " bytes cut off",
			    seg->number, torn);
	if (seg->bytes > seg->end) {
		rc = sp->io->truncate(sp->io->arg, seg->fd, (off_t)seg->end);
		if (rc == 0) {
			atomic_fetch_sub(&sp->bytes_used, seg->bytes - seg->end);
			seg->bytes = seg->end;
		}
	}
	rc = sp->io->fdatasync(sp->io->arg, seg->fd);
	if (rc < 0) {
		spool_count(sp, spool_sync_errors, 1);
		log_warning("spool", "segment %016" PRIx64 ": sync failed: %s", seg->number,
			    strerror(-rc));
	}
}

static void leave_unread(struct spool_recovery *rv)
{
	struct spool_segment *seg = rv->segment;

	log_error("spool",
		  "segment %016" PRIx64 " cannot be read from byte %" PRIu64
		  ": %s; the rest of it is left as it is",
		  seg->number, rv->scan.at, strerror(-rv->scan.error));
	atomic_fetch_add(&rv->sp->quarantined, 1);
	seg->unreadable = true;
	rv->unread = true;
}

/* One verdict of the scan.  0, 1: the segment is at its end; -ENOMEM */
static int scan_on(struct spool_recovery *rv)
{
	struct spool_segment *seg = rv->segment;
	struct record_head h;
	const uint8_t *payload;
	uint64_t offset;
	int rc = 1;

	switch (scan_next(&rv->scan, &h, &payload, &offset)) {
	case SCAN_RECORD:
		rc = found_record(rv, &h, payload, offset);
		seg->end = rv->scan.at;
		break;
	case SCAN_DAMAGE:
		set_aside(rv->sp, seg, rv->scan.damage_from, rv->scan.at);
		rc = 0;
		break;
	case SCAN_END:
		finish_segment(rv->sp, seg, rv->scan.tail_bytes);
		break;
	case SCAN_ERROR:
		leave_unread(rv);
		rc = rv->scan.error == -ENOMEM ? -ENOMEM : 1;
		break;
	}
	return rc;
}

static bool all_zero(struct spool *sp, int fd, uint64_t bytes)
{
	struct scan s;
	bool zero = true;

	scan_begin(&s, sp->io, fd, 0, bytes);
	for (uint64_t at = 0; zero && at < bytes;) {
		uint64_t n = bytes - at < 65536 ? bytes - at : 65536;
		const uint8_t *p = scan_bytes(&s, at, n);

		zero = p != NULL && p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
		at += n;
	}
	scan_end(&s);
	return zero;
}

/* Both copies of the header are bad.  A file that was never begun is removed; any other cannot
 * be understood without its salt and is set aside whole. */
static int without_header(struct spool_recovery *rv, int fd, const struct spool_file *f)
{
	struct spool *sp = rv->sp;
	char name[FILE_NAME_BYTES], aside[FILE_NAME_BYTES];
	int rc;

	file_name(name, f->number, ".log");
	if (all_zero(sp, fd, f->bytes)) {
		rc = sp->io->unlink(sp->io->arg, sp->dir, name);
		if (rc == 0)
			atomic_fetch_sub(&sp->bytes_used, f->bytes);
	} else {
		log_error("spool", "%s has no valid header: set aside as %s", name,
			  file_name(aside, f->number, ".log.bad"));
		atomic_fetch_add(&sp->quarantined, 1);
		rv->unread = true;
		rc = sp->io->rename(sp->io->arg, sp->dir, name, aside);
	}
	sp->io->close(sp->io->arg, fd);
	if (rc < 0)
		return refuse(rv, rc, "cannot be set aside", name, "move it away by hand");
	atomic_fetch_sub(&sp->segment_count, 1);
	return 0;
}

static int read_header(struct spool *sp, int fd, const struct spool_file *f,
		       struct segment_header *h)
{
	static const uint64_t places[] = {0, SEGMENT_COPY_AT};
	struct scan s;
	int rc = -EBADMSG;

	scan_begin(&s, sp->io, fd, 0, f->bytes < SEGMENT_DATA_AT ? f->bytes : SEGMENT_DATA_AT);
	for (unsigned i = 0; i < 2 && rc == -EBADMSG; i++) {
		if (f->bytes < places[i] + SEGMENT_HEADER_BYTES)
			break;
		const uint8_t *p = scan_bytes(&s, places[i], SEGMENT_HEADER_BYTES);
		if (p != NULL)
			rc = segment_header_decode(p, f->number, h);
	}
	scan_end(&s);
	return rc;
}

static int open_log(struct spool_recovery *rv, const struct spool_file *f)
{
	struct spool *sp = rv->sp;
	char name[FILE_NAME_BYTES];
	int fd = sp->io->open(sp->io->arg, sp->dir, file_name(name, f->number, ".log"), O_RDWR, 0);

	return fd < 0 ? refuse(rv, fd, "cannot be opened", name,
			       "check owner, permissions and limits")
		      : fd;
}

static int cannot_use(struct spool_recovery *rv, int fd, const struct spool_file *f, int rc)
{
	char name[FILE_NAME_BYTES];

	rv->sp->io->close(rv->sp->io->arg, fd);
	return refuse(rv, rc, "cannot be used", file_name(name, f->number, ".log"),
		      "it was written by a newer version, or memory is short");
}

/* rv->segment is the file from now on; NULL when there was nothing to understand. */
static int begin_segment(struct spool_recovery *rv, const struct spool_file *f)
{
	struct segment_header h;
	int fd = open_log(rv, f);

	if (fd < 0)
		return fd;
	int rc = read_header(rv->sp, fd, f, &h);
	if (rc == -EBADMSG)
		return without_header(rv, fd, f);
	struct spool_segment *seg = rc == 0 ? calloc(1, sizeof(*seg)) : NULL;
	if (seg == NULL)
		return cannot_use(rv, fd, f, rc < 0 ? rc : -ENOMEM);
	seg->number = f->number;
	seg->salt = h.salt;
	seg->fd = fd;
	seg->bytes = f->bytes;
	seg->end = SEGMENT_DATA_AT < seg->bytes ? SEGMENT_DATA_AT : seg->bytes;
	seg->oldest_ref = UINT64_MAX;
	scan_begin(&rv->scan, rv->sp->io, fd, h.salt, seg->bytes);
	list_push_back(&rv->segments, &seg->link);
	rv->segment = seg;
	return 0;
}

int recover_some(struct spool_recovery *rv, uint64_t bytes)
{
	char name[FILE_NAME_BYTES];

	if (rv->segment == NULL) {
		int rc = begin_segment(rv, &rv->logs.at[rv->next_log]);

		if (rc < 0)
			return rc;
	}
	uint64_t from = rv->segment != NULL ? rv->scan.at : 0;
	int rc = rv->segment != NULL ? 0 : 1;
	while (rc == 0 && rv->scan.at - from < bytes)
		rc = scan_on(rv);
	if (rc < 0)
		return refuse(rv, rc, "cannot be recovered",
			      file_name(name, rv->segment->number, ".log"), "free some memory");
	if (rc == 0) {
		atomic_store(&rv->bytes_done, rv->bytes_before + rv->scan.at);
		return 0;
	}
	scan_end(&rv->scan);
	rv->segment = NULL;
	rv->bytes_before += rv->logs.at[rv->next_log].bytes;
	atomic_store(&rv->bytes_done, rv->bytes_before);
	atomic_store(&rv->segments_done, ++rv->next_log);
	return 0;
}

/* Bodies without a live message were never committed, or are done; but while a segment could not
 * be read, their message may be in there: they stay. */
static void match_bodies(struct spool_recovery *rv)
{
	struct spool *sp = rv->sp;
	char name[FILE_NAME_BYTES];

	for (size_t i = 0; i < rv->bodies.n; i++) {
		const struct spool_file *f = &rv->bodies.at[i];
		struct spool_entry *e = index_find(&rv->index, f->number);

		if (e != NULL && e->large)
			e->body_found = f->bytes >= e->body_bytes;
		else if (!rv->unread && sp->io->unlink(sp->io->arg, sp->dir,
						       file_name(name, f->number, ".body")) == 0) {
			atomic_fetch_sub(&sp->bytes_used, f->bytes);
			atomic_fetch_sub(&sp->large_files, 1);
		}
	}
}

/* A message without its body is not offered. */
static void drop_bodiless(struct spool_recovery *rv)
{
	for (struct spool_entry *e = index_next(&rv->index, NULL), *next; e != NULL; e = next) {
		next = index_next(&rv->index, e);
		if (!e->large || e->body_found)
			continue;
		log_error("spool", "message %016" PRIx64 ": its body file is missing or short",
			  e->id);
		atomic_fetch_add(&rv->sp->quarantined, 1);
		forget_message(rv, e);
	}
}

int recover_end(struct spool_recovery *rv)
{
	struct spool *sp = rv->sp;

	match_bodies(rv);
	drop_bodiless(rv);
	order_found(rv);
	int rc = sp->io->fsync_dir(sp->io->arg, sp->dir);
	return rc < 0 ? refuse(rv, rc, "cannot be synced", ".", "check the disk") : 0;
}

/* What the newest header that can be read says; sequences and ids go on above whatever the
 * segments from there on may hold. */
static int go_on_above(struct spool_recovery *rv)
{
	struct spool *sp = rv->sp;
	uint64_t records = 0;

	for (size_t i = rv->logs.n; i-- > 0;) {
		const struct spool_file *f = &rv->logs.at[i];
		struct segment_header h;
		int fd = open_log(rv, f);

		if (fd < 0)
			return fd;
		records += f->bytes / RECORD_HEAD_BYTES + 1;
		int rc = read_header(sp, fd, f, &h);
		if (rc < 0 && rc != -EBADMSG)
			return cannot_use(rv, fd, f, rc);
		sp->io->close(sp->io->arg, fd);
		if (rc < 0)
			continue;
		if (h.id_floor <= INT64_MAX)
			recovery_raise(&sp->next_id, h.id_floor + SEGMENT_IDS);
		if (h.first_sequence <= INT64_MAX)
			sp->next_sequence = h.first_sequence + records;
		return 0;
	}
	return 0;
}

int recover_begin(struct spool_recovery *rv)
{
	int rc = recover_list(rv);

	if (rc < 0)
		return refuse(rv, rc, "cannot be listed", ".", "check owner and permissions");
	return go_on_above(rv);
}
