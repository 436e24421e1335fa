/*
 * body.c - large bodies: a file a message, appended to and synced by the writer threads, so that
 * a slow one never delays a group commit.  A message always goes to the same writer, so its
 * appends keep their order.
 */
#include "smtp/spool/internal.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

enum { ROUND_REQUESTS = 64 };

static struct spool_body **body_slot(struct spool_writer *w, uint64_t id)
{
	struct spool_body **at = &w->bucket[(id / SPOOL_WRITERS) % BODY_BUCKETS];

	while (*at != NULL && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static struct spool_body *body_begin(struct spool_writer *w, uint64_t id, int *error)
{
	struct spool *sp = w->sp;
	struct spool_body *body = calloc(1, sizeof(*body));
	char name[FILE_NAME_BYTES];

	*error = -ENOMEM;
	if (body == NULL)
		return NULL;
	body->id = id;
	body->fd = sp->io->open(sp->io->arg, sp->dir, file_name(name, id, ".body"),
				O_RDWR | O_CREAT | O_EXCL, 0600);
	if (body->fd < 0) {
		*error = body->fd;
		free(body);
		return NULL;
	}
	*body_slot(w, id) = body;
	atomic_fetch_add(&sp->large_files, 1);
	return body;
}

static void unlink_body(struct spool *sp, uint64_t id, uint64_t bytes)
{
	char name[FILE_NAME_BYTES];
	int rc = sp->io->unlink(sp->io->arg, sp->dir, file_name(name, id, ".body"));

	if (rc < 0 && rc != -ENOENT) {
		/* Nothing refers to it: the next start removes it. */
		log_warning("spool", "cannot delete finished %s: %s", name, strerror(-rc));
		spool_count(sp, spool_delete_errors, 1);
		return;
	}
	atomic_fetch_sub(&sp->bytes_used, bytes);
	atomic_fetch_sub(&sp->large_files, 1);
}

/* Closes and forgets; the file stays. */
static void body_forget(struct spool_writer *w, struct spool_body *body)
{
	struct spool_body **at = body_slot(w, body->id);

	*at = body->next;
	w->sp->io->close(w->sp->io->arg, body->fd);
	free(body);
}

static void body_drop(struct spool_writer *w, struct spool_body *body)
{
	uint64_t id = body->id, bytes = body->bytes;

	body_forget(w, body);
	unlink_body(w->sp, id, bytes);
}

static int write_iov(struct spool *sp, struct spool_body *body, struct iovec *iov, unsigned n)
{
	unsigned first = 0;

	while (first < n) {
		ssize_t put = sp->io->pwritev(sp->io->arg, body->fd, iov + first, (int)(n - first),
					      (off_t)body->bytes);
		if (put <= 0)
			return put < 0 ? (int)put : -EIO;
		body->bytes += (uint64_t)put;
		atomic_fetch_add(&sp->bytes_used, (uint64_t)put);
		spool_count(sp, spool_body_bytes, (uint64_t)put);
		for (size_t left = (size_t)put; left > 0;) {
			size_t here = left < iov[first].iov_len ? left : iov[first].iov_len;

			iov[first].iov_base = (uint8_t *)iov[first].iov_base + here;
			iov[first].iov_len -= here;
			left -= here;
			if (iov[first].iov_len == 0)
				first++;
		}
	}
	return 0;
}

static int write_chunks(struct spool *sp, struct spool_body *body, const struct chunk *c)
{
	struct iovec iov[IOV_A_CALL];
	int rc = 0;

	while (rc == 0 && c != NULL) {
		unsigned n = 0;

		for (; c != NULL && n < IOV_A_CALL; c = c->next) {
			if (c->end > c->start)
				iov[n++] = (struct iovec){(void *)(uintptr_t)(c->data + c->start),
							  c->end - c->start};
		}
		rc = write_iov(sp, body, iov, n);
	}
	return rc;
}

static bool over_limit(const struct spool *sp, const struct chunk *c)
{
	uint64_t bytes = atomic_load(&sp->bytes_used);

	for (; c != NULL; c = c->next)
		bytes += c->end - c->start;
	return sp->config.max_size > 0 && bytes > sp->config.max_size;
}

static int body_append(struct spool_writer *w, struct spool_request *r)
{
	struct spool *sp = w->sp;
	struct spool_body *body = *body_slot(w, r->id);
	int rc = 0;

	if (body == NULL)
		body = body_begin(w, r->id, &rc);
	if (body == NULL)
		return rc;
	if (body->error != 0)
		return body->error;
	rc = over_limit(sp, r->chunks) ? -ENOSPC : write_chunks(sp, body, r->chunks);
	body->error = rc;
	spool_count(sp, rc < 0 ? spool_body_errors : spool_body_appends, 1);
	if (rc == -ENOSPC)
		spool_count(sp, spool_no_space, 1);
	return rc;
}

static int body_abort(struct spool_writer *w, struct spool_request *r)
{
	struct spool_body *body = *body_slot(w, r->id);

	if (body != NULL) {
		body_drop(w, body);
		spool_count(w->sp, spool_body_aborts, 1);
	}
	return 0;
}

/* 0: the file's bytes are on the disk (its name follows with the round's directory sync). */
static int body_sync(struct spool_writer *w, struct spool_request *r)
{
	struct spool *sp = w->sp;
	struct spool_body *body = *body_slot(w, r->id);

	if (body == NULL)
		return -ENOENT;
	int rc = body->error;
	if (rc == 0 && body->bytes != r->body_bytes)
		rc = -EINVAL;
	if (rc == 0)
		rc = sp->io->fdatasync(sp->io->arg, body->fd);
	if (rc < 0) {
		body_drop(w, body);
		spool_count(sp, spool_body_errors, 1);
		return rc;
	}
	body_forget(w, body);
	return 0;
}

static void fail_commit(struct spool *sp, struct spool_request *r, int verdict)
{
	spool_count(sp, spool_commits_failed, 1);
	spool_finish(r, verdict);
}

/* One request; a commit whose file is synced goes to the end of *synced instead. */
static void serve(struct spool_writer *w, struct spool_request *r, struct spool_request **synced,
		  unsigned *n)
{
	int rc = 0;

	switch (r->op) {
	case SPOOL_BODY_APPEND:
		spool_finish(r, body_append(w, r));
		break;
	case SPOOL_BODY_ABORT:
		spool_finish(r, body_abort(w, r));
		break;
	case SPOOL_COMMIT:
		rc = body_sync(w, r);
		if (rc < 0)
			fail_commit(w->sp, r, rc);
		else
			synced[(*n)++] = r;
		break;
	case SPOOL_DISPOSE:
	case SPOOL_READ:
		assert(!"not a writer's request");
	}
}

/* One sync of the directory for all files of the round, then the committer may log them. */
static void pass_on(struct spool_writer *w, struct spool_request **synced, unsigned n)
{
	struct spool *sp = w->sp;
	int rc = n > 0 ? sp->io->fsync_dir(sp->io->arg, sp->dir) : 0;

	for (unsigned i = 0; i < n; i++) {
		struct spool_request *r = synced[i];

		if (rc < 0) {
			unlink_body(sp, r->id, r->body_bytes);
			spool_count(sp, spool_body_errors, 1);
			fail_commit(sp, r, rc);
			continue;
		}
		bool pushed = ring_push(r->client->synced, r);
		assert(pushed);
		(void)pushed;
	}
}

static void unlink_entry(struct spool *sp, struct spool_entry *e)
{
	unlink_body(sp, e->id, e->body_bytes);
	entry_free(e);
}

void body_discard(struct spool *sp, struct spool_entry *e)
{
	/* Deleting a large file takes milliseconds: the writer's time, not the committer's. */
	if (!ring_push(sp->writer[e->id % SPOOL_WRITERS].trash, e))
		unlink_entry(sp, e);
}

unsigned spool_body_step(struct spool_writer *w)
{
	struct spool_request *synced[ROUND_REQUESTS], *r;
	struct spool_entry *e;
	unsigned n = 0, work = 0, before;

	do {
		before = work;
		for (struct spool_client *c = atomic_load(&w->sp->clients);
		     c != NULL && work < ROUND_REQUESTS; c = c->next) {
			r = ring_pop(c->body[w->index]);
			if (r == NULL)
				continue;
			serve(w, r, synced, &n);
			work++;
		}
	} while (work > before && work < ROUND_REQUESTS);
	pass_on(w, synced, n);
	for (unsigned i = 0; i < ROUND_REQUESTS && (e = ring_pop(w->trash)) != NULL; i++) {
		unlink_entry(w->sp, e);
		work++;
	}
	return work;
}
