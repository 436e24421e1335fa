/*
 * recover.c - what the directory holds after whatever happened: every segment is scanned, torn
 * tails are cut, damage is set aside, orphans are removed.
 */
#include "smtp/spool/internal.h"

#include "base/log.h"
#include "smtp/spool/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

struct file {
	uint64_t number, bytes;
};

struct files {
	struct file *at;
	size_t n, room;
};

struct recovery {
	struct spool *sp;
	struct files logs, bodies;
	bool unread; /* a segment, or the rest of one: it may hold messages nobody knows of */
	char *error;
	size_t error_bytes;
};

static int refuse(struct recovery *rv, int rc, const char *what, const char *name,
		  const char *remedy)
{
	snprintf(rv->error, rv->error_bytes, "%s/%s: %s: %s; %s", rv->sp->config.directory, name,
		 what, strerror(-rc), remedy);
	return rc;
}

static int files_add(struct files *f, uint64_t number, uint64_t bytes)
{
	if (f->n == f->room) {
		size_t room = f->room > 0 ? f->room * 2 : 64;
		struct file *wider = realloc(f->at, room * sizeof(*wider));

		if (wider == NULL)
			return -ENOMEM;
		f->at = wider;
		f->room = room;
	}
	f->at[f->n++] = (struct file){number, bytes};
	return 0;
}

/* 16 hexadecimal digits, then the suffix exactly.  Numbers in the upper half are nobody's. */
static bool name_matches(const char *name, const char *suffix, uint64_t *number)
{
	uint64_t n = 0;

	for (int i = 0; i < 16; i++) {
		char c = name[i];

		if (c >= '0' && c <= '9')
			n = n << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*number = n;
	return n <= INT64_MAX && strcmp(name + 16, suffix) == 0;
}

static int each_file(void *arg, const char *name, uint64_t bytes)
{
	struct recovery *rv = arg;
	struct spool *sp = rv->sp;
	uint64_t number;

	if (name_matches(name, ".log", &number)) {
		if (number >= sp->next_segment)
			sp->next_segment = number + 1;
		return files_add(&rv->logs, number, bytes);
	}
	if (name_matches(name, ".body", &number))
		return files_add(&rv->bodies, number, bytes);
	if (name_matches(name, ".log.bad", &number)) {
		rv->unread = true;
		if (number >= sp->next_segment)
			sp->next_segment = number + 1;
	}
	size_t n = strlen(name);
	if (n > 4 && strcmp(name + n - 4, ".bad") == 0)
		atomic_fetch_add(&sp->bytes_used, bytes);
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = ((const struct file *)a)->number, y = ((const struct file *)b)->number;

	return (x > y) - (x < y);
}

/* Keeps damaged bytes for the operator in a file of their own; a second start finds it there. */
static void set_aside(struct spool *sp, const struct spool_segment *seg, uint64_t from, uint64_t to)
{
	char suffix[24], name[FILE_NAME_BYTES];
	struct scan s;

	sp->quarantined++;
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

static int note_found(struct spool *sp, uint64_t id, const struct envelope *e)
{
	if (sp->n_found == sp->found_room) {
		size_t room = sp->found_room > 0 ? sp->found_room * 2 : 256;
		struct recovered *wider = realloc(sp->found, room * sizeof(*wider));

		if (wider == NULL)
			return -ENOMEM;
		sp->found = wider;
		sp->found_room = room;
	}
	sp->found[sp->n_found++] = (struct recovered){
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
	e->segment->live_bytes -= e->record_bytes;
}

/* 0, -EBADMSG: not a message although the checksum is right, -ENOMEM */
static int found_message(struct spool *sp, struct spool_segment *seg, const struct record_head *h,
			 const uint8_t *payload, uint64_t offset)
{
	struct spool_entry *e = index_find(&sp->index, h->id);
	struct envelope envelope;
	struct message_head m;
	int rc = 0;

	if (h->id == 0 || h->id > INT64_MAX ||
	    !message_head_decode(payload, h->payload_bytes, &m) ||
	    envelope_decode(payload + MESSAGE_HEAD_BYTES, m.envelope_bytes, &envelope) < 0)
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
		rc = e == NULL ? -ENOMEM : note_found(sp, h->id, &envelope);
		if (rc < 0) {
			free(e);
			return rc;
		}
		e->id = h->id;
		e->recipients = envelope.recipients;
		index_insert(&sp->index, e);
	}
	e->segment = seg;
	e->offset = (uint32_t)offset;
	e->record_bytes = (uint32_t)record_bytes(h->payload_bytes);
	e->envelope_bytes = m.envelope_bytes;
	e->prefix_bytes = m.prefix_bytes;
	e->body_bytes = m.body_bytes;
	e->large = m.large;
	seg->live++;
	seg->live_bytes += e->record_bytes;
	if (h->id >= atomic_load(&sp->next_id))
		atomic_store(&sp->next_id, h->id + 1);
	return 0;
}

static void forget_message(struct spool *sp, struct spool_entry *e)
{
	leave_segment(e);
	segment_take_state(NULL, e);
	index_remove(&sp->index, e);
	entry_free(e);
}

static int found_disposition(struct spool *sp, struct spool_segment *seg,
			     const struct record_head *h, const uint8_t *payload)
{
	struct spool_entry *e = index_find(&sp->index, h->id);
	struct disposition_head d;

	if (!disposition_head_decode(payload, h->payload_bytes, &d))
		return -EBADMSG;
	if (d.last && d.message_segment < seg->oldest_ref)
		seg->oldest_ref = d.message_segment;
	if (e == NULL)
		return 0;
	if (d.last) {
		forget_message(sp, e);
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

static int found_record(struct spool *sp, struct spool_segment *seg, const struct record_head *h,
			const uint8_t *payload, uint64_t offset)
{
	int rc = -EBADMSG;

	if (h->type == RECORD_MESSAGE)
		rc = found_message(sp, seg, h, payload, offset);
	else if (h->type == RECORD_DISPOSITION)
		rc = found_disposition(sp, seg, h, payload);
	if (h->sequence >= sp->next_sequence)
		sp->next_sequence = h->sequence + 1;
	if (rc != -EBADMSG)
		return rc;
	set_aside(sp, seg, offset, offset + record_bytes(h->payload_bytes));
	return 0;
}

/* Cuts what is behind the last good record and makes sure that what was read is on the disk:
 * after a kill it may only have been in the page cache. */
static void finish_segment(struct spool *sp, struct spool_segment *seg, uint64_t torn)
{
	int rc;

	sp->torn_bytes += torn;
	if (torn > 0)
		log_warning("spool",
			    "segment %016" PRIx64 ": torn tail of %" PRIu64 " bytes cut off",
			    seg->number, torn);
	if (seg->bytes > seg->end) {
		rc = sp->io->truncate(sp->io->arg, seg->fd, (off_t)seg->end);
		if (rc == 0)
			seg->bytes = seg->end;
	}
	rc = sp->io->fdatasync(sp->io->arg, seg->fd);
	if (rc < 0) {
		spool_count(sp, spool_sync_errors, 1);
		log_warning("spool", "segment %016" PRIx64 ": sync failed: %s", seg->number,
			    strerror(-rc));
	}
}

static int scan_segment(struct spool *sp, struct spool_segment *seg)
{
	struct scan s;
	int rc = 0;
	bool more = true;

	scan_begin(&s, sp->io, seg->fd, seg->salt, seg->bytes);
	seg->end = SEGMENT_DATA_AT < seg->bytes ? SEGMENT_DATA_AT : seg->bytes;
	while (rc == 0 && more) {
		struct record_head h;
		const uint8_t *payload;
		uint64_t offset;

		switch (scan_next(&s, &h, &payload, &offset)) {
		case SCAN_RECORD:
			rc = found_record(sp, seg, &h, payload, offset);
			seg->end = s.at;
			break;
		case SCAN_DAMAGE:
			set_aside(sp, seg, s.damage_from, s.at);
			break;
		case SCAN_END:
			finish_segment(sp, seg, s.tail_bytes);
			more = false;
			break;
		case SCAN_ERROR:
			log_error("spool",
				  "segment %016" PRIx64 " cannot be read from byte %" PRIu64
				  ": %s; the rest of it is left as it is",
				  seg->number, s.at, strerror(-s.error));
			rc = s.error == -ENOMEM ? -ENOMEM : 0;
			sp->quarantined++;
			seg->unreadable = true;
			more = false;
			break;
		}
	}
	scan_end(&s);
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
static int without_header(struct recovery *rv, int fd, const struct file *f)
{
	struct spool *sp = rv->sp;
	char name[FILE_NAME_BYTES], aside[FILE_NAME_BYTES];
	int rc;

	file_name(name, f->number, ".log");
	if (all_zero(sp, fd, f->bytes)) {
		rc = sp->io->unlink(sp->io->arg, sp->dir, name);
	} else {
		log_error("spool", "%s has no valid header: set aside as %s", name,
			  file_name(aside, f->number, ".log.bad"));
		sp->quarantined++;
		rv->unread = true;
		atomic_fetch_add(&sp->bytes_used, f->bytes);
		rc = sp->io->rename(sp->io->arg, sp->dir, name, aside);
	}
	sp->io->close(sp->io->arg, fd);
	if (rc < 0)
		return refuse(rv, rc, "cannot be set aside", name, "move it away by hand");
	return 0;
}

static int read_header(struct spool *sp, int fd, const struct file *f, struct segment_header *h)
{
	static const uint64_t places[] = {0, SEGMENT_COPY_AT};
	struct scan s;
	int rc = -EBADMSG;

	scan_begin(&s, sp->io, fd, 0, f->bytes);
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

static int recover_segment(struct recovery *rv, const struct file *f)
{
	struct spool *sp = rv->sp;
	struct segment_header h;
	char name[FILE_NAME_BYTES];
	int fd = sp->io->open(sp->io->arg, sp->dir, file_name(name, f->number, ".log"), O_RDWR, 0);

	if (fd < 0)
		return refuse(rv, fd, "cannot be opened", name,
			      "check owner, permissions and limits");
	int rc = read_header(sp, fd, f, &h);
	if (rc == -EBADMSG)
		return without_header(rv, fd, f);
	struct spool_segment *seg = rc == 0 ? calloc(1, sizeof(*seg)) : NULL;
	if (seg == NULL) {
		sp->io->close(sp->io->arg, fd);
		return refuse(rv, rc < 0 ? rc : -ENOMEM, "cannot be used", name,
			      "it was written by a newer version, or memory is short");
	}
	seg->number = f->number;
	seg->salt = h.salt;
	seg->fd = fd;
	seg->bytes = f->bytes;
	seg->oldest_ref = UINT64_MAX;
	if (h.id_floor <= INT64_MAX && h.id_floor > atomic_load(&sp->next_id))
		atomic_store(&sp->next_id, h.id_floor);
	if (h.first_sequence > sp->next_sequence)
		sp->next_sequence = h.first_sequence;
	rc = scan_segment(sp, seg);
	rv->unread = rv->unread || seg->unreadable;
	segment_attach(sp, seg);
	return rc < 0 ? refuse(rv, rc, "cannot be recovered", name, "free some memory") : 0;
}

/* Bodies without a live message were never committed, or are done; but while a segment could not
 * be read, their message may be in there: they stay. */
static void match_bodies(struct recovery *rv)
{
	struct spool *sp = rv->sp;
	char name[FILE_NAME_BYTES];

	for (size_t i = 0; i < rv->bodies.n; i++) {
		const struct file *f = &rv->bodies.at[i];
		struct spool_entry *e = index_find(&sp->index, f->number);

		bool known = e != NULL && e->large;

		if (known)
			e->body_found = f->bytes >= e->body_bytes;
		if (known || rv->unread) {
			atomic_fetch_add(&sp->bytes_used, f->bytes);
			atomic_fetch_add(&sp->large_files, 1);
		} else {
			sp->io->unlink(sp->io->arg, sp->dir, file_name(name, f->number, ".body"));
		}
		if (f->number >= atomic_load(&sp->next_id))
			atomic_store(&sp->next_id, f->number + 1);
	}
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = ((const struct recovered *)a)->id, y = ((const struct recovered *)b)->id;

	return (x > y) - (x < y);
}

/* Keeps in the list what is alive and whole, oldest first, once each. */
static void list_found(struct spool *sp)
{
	size_t kept = 0;

	if (sp->n_found > 0)
		qsort(sp->found, sp->n_found, sizeof(*sp->found), by_id);
	for (size_t i = 0; i < sp->n_found; i++) {
		struct recovered r = sp->found[i];
		struct spool_entry *e = index_find(&sp->index, r.id);

		if (e == NULL || (kept > 0 && sp->found[kept - 1].id == r.id))
			continue;
		if (e->large && !e->body_found) {
			log_error("spool",
				  "message %016" PRIx64 ": its body file is missing or short",
				  r.id);
			sp->quarantined++;
			forget_message(sp, e);
			continue;
		}
		sp->found[kept++] = r;
	}
	sp->n_found = kept;
	sp->recovered = kept;
	atomic_store(&sp->messages, kept);
}

int spool_recover(struct spool *sp, char *error, size_t error_bytes)
{
	struct recovery rv = {.sp = sp, .error = error, .error_bytes = error_bytes};
	int rc = sp->io->list(sp->io->arg, sp->dir, each_file, &rv);

	if (rc < 0)
		refuse(&rv, rc, "cannot be listed", ".", "check owner and permissions");
	if (rc == 0 && rv.logs.n > 0)
		qsort(rv.logs.at, rv.logs.n, sizeof(*rv.logs.at), by_number);
	for (size_t i = 0; rc == 0 && i < rv.logs.n; i++)
		rc = recover_segment(&rv, &rv.logs.at[i]);
	if (rc == 0) {
		match_bodies(&rv);
		list_found(sp);
		rc = sp->io->fsync_dir(sp->io->arg, sp->dir);
		if (rc < 0)
			refuse(&rv, rc, "cannot be synced", ".", "check the disk");
	}
	free(rv.logs.at);
	free(rv.bodies.at);
	sp->sweep_wanted = true;
	return rc;
}
