/* segment.c - the files of the log: begun, written, sealed, abandoned, removed */
#include "smtp/spool/internal.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

static const uint8_t zeros[64 << 10];

const char *file_name(char *name, uint64_t number, const char *suffix)
{
	snprintf(name, FILE_NAME_BYTES, "%016" PRIx64 "%s", number, suffix);
	return name;
}

uint64_t segment_reserve(const struct spool_segment *seg)
{
	return seg->bytes / 32;
}

void segment_attach(struct spool *sp, struct spool_segment *seg)
{
	struct list *at = &sp->segments;

	while (at->prev != &sp->segments &&
	       container_of(at->prev, struct spool_segment, link)->number > seg->number)
		at = at->prev;
	list_insert_before(at, &seg->link);
	atomic_fetch_add(&sp->bytes_used, seg->bytes);
	atomic_fetch_add(&sp->segment_count, 1);
}

/* Moves iov past n written bytes; the iovs used up. */
static unsigned consume(struct iovec *iov, unsigned n_iov, size_t n)
{
	unsigned i = 0;

	while (i < n_iov && n >= iov[i].iov_len)
		n -= iov[i++].iov_len;
	if (i < n_iov) {
		iov[i].iov_base = (uint8_t *)iov[i].iov_base + n;
		iov[i].iov_len -= n;
	}
	return i;
}

int segment_write(struct spool *sp, struct spool_segment *seg, uint64_t at, struct iovec *iov,
		  unsigned n)
{
	while (n > 0) {
		ssize_t put = sp->io->pwritev(sp->io->arg, seg->fd, iov,
					      n < IOV_A_CALL ? (int)n : IOV_A_CALL, (off_t)at);
		if (put <= 0)
			return put < 0 ? (int)put : -EIO;
		unsigned used = consume(iov, n, (size_t)put);
		at += (uint64_t)put;
		iov += used;
		n -= used;
	}
	return 0;
}

static int write_zeros(struct spool *sp, struct spool_segment *seg, uint64_t from, uint64_t to)
{
	while (from < to) {
		struct iovec iov[16];
		unsigned n = 0;
		uint64_t at = from;

		for (; n < 16 && from < to; n++) {
			uint64_t bytes = to - from < sizeof(zeros) ? to - from : sizeof(zeros);

			iov[n] = (struct iovec){(void *)(uintptr_t)zeros, bytes};
			from += bytes;
		}
		int rc = segment_write(sp, seg, at, iov, n);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Overwriting blocks that were written before needs no metadata in the sync; blocks that are
 * only allocated do.  So the metadata is paid once a step instead of at every sync. */
int segment_zero_ahead(struct spool *sp, struct spool_segment *seg, uint64_t upto)
{
	if (upto <= seg->zeroed)
		return 0;
	uint64_t to = upto + ZERO_STEP_BYTES < seg->bytes ? upto + ZERO_STEP_BYTES : seg->bytes;
	int rc = write_zeros(sp, seg, upto, to);
	if (rc == 0)
		seg->zeroed = to;
	return rc;
}

static int write_header(struct spool *sp, struct spool_segment *seg)
{
	uint8_t block[SEGMENT_DATA_AT] = {0};
	struct segment_header h = {
		.number = seg->number,
		.salt = seg->salt,
		.id_floor = seg->id_floor,
		.first_sequence = sp->next_sequence,
	};
	struct iovec iov = {block, sizeof(block)};

	segment_header_encode(block, &h);
	segment_header_encode(block + SEGMENT_COPY_AT, &h);
	return segment_write(sp, seg, 0, &iov, 1);
}

/* Allocation, header, zeros, and everything of it on the disk, the name included. */
static int prepare(struct spool *sp, struct spool_segment *seg)
{
	const struct spool_io *io = sp->io;
	int rc = io->fallocate(io->arg, seg->fd, 0, (off_t)seg->bytes);

	if (rc < 0 && rc != -EOPNOTSUPP)
		return rc;
	rc = write_header(sp, seg);
	if (rc == 0)
		rc = segment_zero_ahead(sp, seg, SEGMENT_DATA_AT);
	if (rc == 0)
		rc = io->fdatasync(io->arg, seg->fd);
	if (rc == 0)
		rc = io->fsync_dir(io->arg, sp->dir);
	return rc;
}

int segment_create(struct spool *sp, uint64_t min_bytes)
{
	struct spool_segment *seg = calloc(1, sizeof(*seg));
	char name[FILE_NAME_BYTES];

	if (seg == NULL)
		return -ENOMEM;
	seg->number = sp->next_segment++;
	seg->salt = siphash(&sp->salts, &seg->number, sizeof(seg->number));
	seg->bytes = sp->config.segment_size > min_bytes ? sp->config.segment_size : min_bytes;
	seg->end = SEGMENT_DATA_AT;
	seg->id_floor = atomic_load(&sp->next_id);
	seg->oldest_ref = UINT64_MAX;
	file_name(name, seg->number, ".log");
	int rc = seg->fd =
		sp->io->open(sp->io->arg, sp->dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (rc >= 0) {
		rc = prepare(sp, seg);
		if (rc < 0) {
			sp->io->close(sp->io->arg, seg->fd);
			sp->io->unlink(sp->io->arg, sp->dir, name);
		}
	}
	if (rc < 0) {
		free(seg);
		spool_count(sp, spool_write_errors, 1);
		return rc;
	}
	segment_attach(sp, seg);
	sp->active = seg;
	spool_count(sp, spool_segments_created, 1);
	return 0;
}

void segment_seal(struct spool *sp, uint64_t now_us)
{
	if (sp->active == NULL)
		return;
	sp->active->sealed_us = now_us;
	if (sp->active->live == 0 && sp->active->states == 0)
		sp->sweep_wanted = true;
	sp->active = NULL;
}

/* The kernel reports a failed write-back once and then calls the pages clean, so nothing written
 * from now on through this descriptor could be trusted: it is never synced again.  What earlier
 * syncs made durable stays.  Cutting the file keeps records that were answered with an error from
 * coming back; but the cut is not durable, so what compaction had copied in here could still
 * return after a power cut: the segment must be gone before any younger one that knows better. */
void segment_abandon(struct spool *sp, uint64_t now_us)
{
	struct spool_segment *seg = sp->active;

	if (seg == NULL)
		return;
	if (sp->io->truncate(sp->io->arg, seg->fd, (off_t)seg->end) == 0) {
		atomic_fetch_sub(&sp->bytes_used, seg->bytes - seg->end);
		seg->bytes = seg->end;
	}
	seg->doomed = true;
	spool_count(sp, spool_segments_abandoned, 1);
	segment_seal(sp, now_us);
}

bool segment_is_pinned(const struct spool *sp, const struct spool_segment *seg)
{
	return seg->link.prev != &sp->segments &&
	       container_of(seg->link.prev, struct spool_segment, link)->number >= seg->oldest_ref;
}

void segment_take_state(struct spool_segment *seg, struct spool_entry *e)
{
	if (e->state == NULL)
		return;
	if (e->state->segment != NULL)
		e->state->segment->states--;
	if (seg != NULL)
		seg->states++;
	e->state->segment = seg;
}

/* The name must be off the disk before anything that proves its messages done may go. */
int segment_remove(struct spool *sp, struct spool_segment *seg)
{
	char name[FILE_NAME_BYTES];
	int rc = sp->io->unlink(sp->io->arg, sp->dir, file_name(name, seg->number, ".log"));

	if (rc == 0 || rc == -ENOENT)
		rc = sp->io->fsync_dir(sp->io->arg, sp->dir);
	if (rc < 0) {
		if (!seg->doomed)
			log_warning("spool", "cannot delete finished segment %s: %s; trying again",
				    name, strerror(-rc));
		seg->doomed = seg->drained = true;
		spool_count(sp, spool_delete_errors, 1);
		return rc;
	}
	atomic_fetch_sub(&sp->bytes_used, seg->bytes);
	atomic_fetch_sub(&sp->segment_count, 1);
	spool_count(sp, spool_segments_deleted, 1);
	sp->pressed = false;
	pthread_mutex_lock(&sp->index.lock);
	list_del(&seg->link);
	seg->removed = true;
	seg->pins++;
	segment_unpin(sp, seg);
	pthread_mutex_unlock(&sp->index.lock);
	return 0;
}

void segment_pin(struct spool_segment *seg)
{
	seg->pins++;
}

void segment_unpin(struct spool *sp, struct spool_segment *seg)
{
	if (--seg->pins == 0 && seg->removed)
		segment_free(sp, seg);
}

void segment_free(struct spool *sp, struct spool_segment *seg)
{
	sp->io->close(sp->io->arg, seg->fd);
	free(seg);
}
