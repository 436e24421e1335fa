/* inspect.c - what a spool directory holds, read as recovery reads it, changed in nothing */
#include "smtp/spool/inspect.h"

#include "smtp/spool/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES = 48, DIGITS = 16, FIRST_SLOTS = 1024 };

struct file {
	uint64_t number, bytes;
	bool body;
};

/* A live message; id 0: a free slot, UINT64_MAX: one that was left. */
struct live {
	uint64_t id, body_bytes;
	uint64_t record_bytes;
	uint32_t recipients;
	bool large, body_found;
};

struct inspection {
	const struct spool_io *io;
	const struct inspect_view *view;
	struct inspect_sums *sums;
	int dir;
	struct file *file;
	size_t files, room;
	struct live *live;
	size_t slots, used; /* used: with those that were left */
	bool no_memory;
};

static void fault(struct inspection *x, const char *file, uint64_t at, uint64_t n, const char *what)
{
	if (x->view->fault != NULL)
		x->view->fault(x->view->arg, file, at, n, what);
}

static struct live *slot_of(struct live *slots, size_t n, uint64_t id)
{
	size_t i = (size_t)(id * 0x9e3779b97f4a7c15 >> 20) & (n - 1);
	struct live *left = NULL;

	for (; slots[i].id != 0 && slots[i].id != id; i = (i + 1) & (n - 1))
		if (slots[i].id == UINT64_MAX && left == NULL)
			left = &slots[i];
	return slots[i].id == id || left == NULL ? &slots[i] : left;
}

static struct live *find(struct inspection *x, uint64_t id)
{
	/* what no message can have are marks of the table */
	bool lawful = id != 0 && id <= INT64_MAX;
	struct live *l = lawful && x->slots > 0 ? slot_of(x->live, x->slots, id) : NULL;

	return l != NULL && l->id == id ? l : NULL;
}

static struct live *insert(struct inspection *x, uint64_t id)
{
	if ((x->used + 1) * 4 > x->slots * 3) {
		size_t n = x->slots > 0 ? x->slots : FIRST_SLOTS;
		if (x->sums->live * 2 > n)
			n *= 2;
		struct live *wider = calloc(n, sizeof(*wider));
		if (wider == NULL)
			return NULL;
		x->used = 0;
		for (size_t i = 0; i < x->slots; i++) {
			if (x->live[i].id == 0 || x->live[i].id == UINT64_MAX)
				continue;
			*slot_of(wider, n, x->live[i].id) = x->live[i];
			x->used++;
		}
		free(x->live);
		x->live = wider;
		x->slots = n;
	}
	struct live *l = slot_of(x->live, x->slots, id);
	x->used += l->id == 0;
	l->id = id;
	x->sums->live++;
	return l;
}

static void leave(struct inspection *x, struct live *l)
{
	x->sums->live--;
	x->sums->live_bytes -= l->record_bytes + (l->large ? l->body_bytes : 0);
	*l = (struct live){.id = UINT64_MAX};
}

static bool message_in(struct inspection *x, struct inspect_record *r)
{
	if (r->head.id == 0 || r->head.id > INT64_MAX ||
	    !message_head_decode(r->payload, r->head.payload_bytes, &r->message) ||
	    envelope_decode(r->payload + MESSAGE_HEAD_BYTES, r->message.envelope_bytes,
			    &r->envelope) < 0)
		return false;
	struct live *l = find(x, r->head.id);
	if (l != NULL && l->recipients != r->envelope.recipients)
		return false;
	if (l != NULL) /* compaction's copy takes its place */
		leave(x, l);
	l = insert(x, r->head.id);
	if (l == NULL) {
		x->no_memory = true;
		return true;
	}
	l->record_bytes = record_bytes(r->head.payload_bytes);
	l->body_bytes = r->message.body_bytes;
	l->large = r->message.large;
	l->recipients = r->envelope.recipients;
	l->body_found = false;
	x->sums->live_bytes += l->record_bytes + (l->large ? l->body_bytes : 0);
	x->sums->messages++;
	return true;
}

static bool disposition_in(struct inspection *x, struct inspect_record *r)
{
	struct disposition_head *d = &r->disposition;

	if (!disposition_head_decode(r->payload, r->head.payload_bytes, d))
		return false;
	r->done = d->last ? NULL : r->payload + DISPOSITION_HEAD_BYTES;
	struct live *l = find(x, r->head.id);
	if (l != NULL && !d->last && d->recipients != l->recipients)
		return false;
	if (l != NULL && d->last)
		leave(x, l);
	x->sums->dispositions++;
	return true;
}

/* Recovery has a copy of it, and compaction will come to the segment. */
static bool is_known(struct inspection *x, uint64_t segment, uint64_t from)
{
	char name[NAME_BYTES];

	snprintf(name, sizeof(name), "%016" PRIx64 "-%010" PRIx64 ".bad", segment, from);
	int fd = x->io->open(x->io->arg, x->dir, name, O_RDONLY, 0);
	if (fd >= 0)
		x->io->close(x->io->arg, fd);
	return fd >= 0;
}

static void damage(struct inspection *x, const char *name, uint64_t segment, uint64_t from,
		   uint64_t to, const char *what)
{
	if (is_known(x, segment, from))
		return;
	x->sums->damaged++;
	x->sums->damaged_bytes += to - from;
	fault(x, name, from, to - from, what);
}

static void record_in(struct inspection *x, const char *name, struct inspect_record *r)
{
	bool good = r->head.type == RECORD_MESSAGE       ? message_in(x, r)
		    : r->head.type == RECORD_DISPOSITION ? disposition_in(x, r)
							 : false;

	if (!good) {
		damage(x, name, r->segment, r->offset,
		       r->offset + record_bytes(r->head.payload_bytes),
		       "a record whose checksum is right and whose content is not");
		return;
	}
	x->sums->records++;
	if (x->view->record != NULL)
		x->view->record(x->view->arg, r);
}

static void scan_all(struct inspection *x, struct scan *s, const char *name, uint64_t number,
		     bool being_written)
{
	while (!x->no_memory) {
		struct inspect_record r = {.segment = number};
		const uint8_t *payload;

		switch (scan_next(s, &r.head, &payload, &r.offset)) {
		case SCAN_RECORD:
			r.payload = payload;
			record_in(x, name, &r);
			break;
		case SCAN_DAMAGE:
			damage(x, name, number, s->damage_from, s->at,
			       "no valid record, but one follows");
			break;
		case SCAN_END:
			if (s->tail_bytes == 0 || being_written)
				return;
			x->sums->torn_bytes += s->tail_bytes;
			fault(x, name, s->at, s->tail_bytes, "a torn tail");
			return;
		case SCAN_ERROR:
			x->sums->unreadable++;
			fault(x, name, s->at, 0, strerror(-s->error));
			return;
		}
	}
}

/* Either of the two copies of the header. */
static bool header_of(struct scan *s, const struct file *f, struct segment_header *h)
{
	static const uint64_t places[] = {0, SEGMENT_COPY_AT};

	for (unsigned i = 0; i < 2 && f->bytes >= places[i] + SEGMENT_HEADER_BYTES; i++) {
		const uint8_t *p = scan_bytes(s, places[i], SEGMENT_HEADER_BYTES);
		if (p != NULL && segment_header_decode(p, f->number, h) == 0)
			return true;
	}
	return false;
}

static void segment_in(struct inspection *x, const struct file *f, bool newest)
{
	char name[NAME_BYTES];
	struct segment_header h;
	struct scan s;

	snprintf(name, sizeof(name), "%016" PRIx64 ".log", f->number);
	int fd = x->io->open(x->io->arg, x->dir, name, O_RDONLY, 0);
	if (fd == -ENOENT && x->sums->in_use)
		return; /* finished since the directory was listed */
	x->sums->segments++;
	x->sums->bytes += f->bytes;
	if (fd < 0) {
		x->sums->unreadable++;
		fault(x, name, 0, 0, strerror(-fd));
		return;
	}
	scan_begin(&s, x->io, fd, 0, f->bytes);
	bool begun = header_of(&s, f, &h);
	scan_end(&s);
	if (begun) {
		scan_begin(&s, x->io, fd, h.salt, f->bytes);
		scan_all(x, &s, name, f->number, newest && x->sums->in_use);
		scan_end(&s);
	} else if (!newest) {
		x->sums->unreadable++;
		fault(x, name, 0, 0, "no valid header");
	}
	x->io->close(x->io->arg, fd);
}

static bool named(const char *name, const char *suffix, uint64_t *number)
{
	char *end;

	if (strspn(name, "0123456789abcdef") != DIGITS || strcmp(name + DIGITS, suffix) != 0)
		return false;
	*number = strtoull(name, &end, 16);
	return *number <= INT64_MAX;
}

static int each_file(void *arg, const char *name, uint64_t bytes)
{
	struct inspection *x = arg;
	uint64_t number;
	bool body = named(name, ".body", &number);
	size_t n = strlen(name);

	if (n > 4 && strcmp(name + n - 4, ".bad") == 0) {
		x->sums->set_aside++;
		fault(x, name, 0, 0, "set aside by an earlier recovery");
	}
	if (!body && !named(name, ".log", &number))
		return 0;
	if (x->files == x->room) {
		size_t room = x->room > 0 ? x->room * 2 : 64;
		struct file *wider = reallocarray(x->file, room, sizeof(*wider));
		if (wider == NULL)
			return -ENOMEM;
		x->file = wider;
		x->room = room;
	}
	x->file[x->files++] = (struct file){number, bytes, body};
	return 0;
}

static int by_number(const void *a, const void *b)
{
	const struct file *x = a, *y = b;

	return (x->number > y->number) - (x->number < y->number);
}

static void bodies_in(struct inspection *x)
{
	char name[NAME_BYTES];

	for (size_t i = 0; i < x->files; i++) {
		const struct file *f = &x->file[i];
		struct live *l = f->body ? find(x, f->number) : NULL;
		x->sums->bodies += f->body;
		if (l != NULL && l->large)
			l->body_found = f->bytes >= l->body_bytes;
		else
			x->sums->bodies_orphaned += f->body;
	}
	for (size_t i = 0; i < x->slots; i++) {
		const struct live *l = &x->live[i];
		if (l->id == 0 || l->id == UINT64_MAX || !l->large || l->body_found)
			continue;
		x->sums->bodies_missing++;
		snprintf(name, sizeof(name), "%016" PRIx64 ".body", l->id);
		fault(x, name, 0, 0, "the body of a live message is missing or short");
	}
}

static int refuse(const char *directory, int rc, const char *what, char *error, size_t error_bytes)
{
	snprintf(error, error_bytes, "%s: %s: %s; check path, owner and permissions", directory,
		 what, strerror(-rc));
	return rc;
}

int inspect_spool(const char *directory, const struct spool_io *io, const struct inspect_view *v,
		  struct inspect_sums *sums, char *error, size_t error_bytes)
{
	struct inspection x = {.io = io, .view = v, .sums = sums};
	uint64_t newest = 0;

	*sums = (struct inspect_sums){0};
	x.dir = io->open_dir(io->arg, directory);
	if (x.dir < 0)
		return refuse(directory, x.dir, "cannot be opened", error, error_bytes);
	/* held while we read, so that no gateway begins on it meanwhile */
	int lock = io->lock(io->arg, x.dir, &sums->holder);
	sums->in_use = lock == -EWOULDBLOCK;
	/* a copy or a snapshot may be readable only */
	bool readable = lock >= 0 || sums->in_use || lock == -EROFS || lock == -EACCES;
	int rc = !readable ? lock : io->list(io->arg, x.dir, each_file, &x);
	if (rc < 0)
		refuse(directory, rc, "cannot be read", error, error_bytes);
	if (rc == 0 && x.files > 0)
		qsort(x.file, x.files, sizeof(*x.file), by_number);
	for (size_t i = 0; i < x.files; i++)
		newest = !x.file[i].body ? x.file[i].number : newest;
	for (size_t i = 0; rc == 0 && i < x.files; i++)
		if (!x.file[i].body)
			segment_in(&x, &x.file[i], x.file[i].number == newest);
	if (rc == 0)
		bodies_in(&x);
	if (rc == 0 && x.no_memory)
		rc = refuse(directory, -ENOMEM, "too many messages", error, error_bytes);
	free(x.file);
	free(x.live);
	if (lock >= 0)
		io->close(io->arg, lock);
	io->close(io->arg, x.dir);
	return rc;
}

bool inspect_bad(const struct inspect_sums *s)
{
	return s->damaged > 0 || s->unreadable > 0 || s->bodies_missing > 0 || s->set_aside > 0;
}
