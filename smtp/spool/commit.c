/* commit.c - the committer's round: gather, find room, write, one sync, verdicts */
#include "smtp/spool/internal.h"

#include "base/log.h"

#include <errno.h>
#include <stdlib.h>

enum {
	SWEEP_EVERY_US = 1000000,
	SWEEP_PRESSED_US = 100000,
	BACK_OFF_FIRST_US = 50000,
	BACK_OFF_MOST_US = 2000000,
};

void spool_finish(struct spool_request *r, int verdict)
{
	r->verdict = verdict;
	bool pushed = ring_push(r->client->verdicts, r);
	assert(pushed);
	(void)pushed;
}

static void count_failure(struct spool *sp, const struct spool_request *r, int verdict)
{
	spool_count(sp, r->op == SPOOL_COMMIT ? spool_commits_failed : spool_dispositions_failed,
		    1);
	if (verdict == -ENOSPC)
		spool_count(sp, spool_no_space, 1);
	else if (verdict == -ENOENT)
		spool_count(sp, spool_unknown_id, 1);
	else if (verdict == -EINVAL || verdict == -EEXIST || verdict == -EMSGSIZE)
		spool_count(sp, spool_bad_requests, 1);
}

/* A commit that fails takes its large body with it: the worker has nothing left to abort. */
static void refuse(struct spool *sp, struct spool_request *r, int verdict)
{
	count_failure(sp, r, verdict);
	if (r->op == SPOOL_COMMIT && r->large) {
		struct spool_entry *e = calloc(1, sizeof(*e));

		if (e != NULL) {
			e->id = r->id;
			e->body_bytes = r->body_bytes;
			body_discard(sp, e);
		}
	}
	spool_finish(r, verdict);
}

/* false: the batch is full and the request waits for the next one. */
static bool take(struct spool *sp, struct spool_request *r)
{
	int rc = batch_add(sp, r);

	if (rc == -EAGAIN) {
		sp->batch->held = r;
		return false;
	}
	if (rc < 0)
		refuse(sp, r, rc);
	return true;
}

/* One of each client in turn, so that nobody's queue waits for another's to empty. */
static unsigned gather(struct spool *sp)
{
	struct spool_batch *b = sp->batch;
	struct spool_request *r = b->held;
	unsigned taken = 0, before;

	b->held = NULL;
	if (r != NULL) {
		take(sp, r);
		taken++;
	}
	do {
		before = taken;
		for (struct spool_client *c = atomic_load(&sp->clients); c != NULL; c = c->next) {
			r = ring_pop(c->synced);
			if (r == NULL)
				r = ring_pop(c->log);
			if (r == NULL)
				continue;
			taken++;
			if (!take(sp, r))
				return taken;
		}
	} while (taken > before);
	return taken;
}

static uint64_t remaining_bytes(const struct spool_batch *b)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < b->items; i++) {
		if (b->item[i].error == 0)
			bytes += b->item[i].bytes;
	}
	return bytes;
}

/* What compaction carries stays together, or a message could move without its state. */
static void drop_carried(struct spool_batch *b, uint64_t room, int error)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < b->items; i++)
		bytes += b->item[i].request == NULL ? b->item[i].bytes : 0;
	for (unsigned i = 0; bytes > room && i < b->items; i++) {
		if (b->item[i].request == NULL)
			b->item[i].error = error;
	}
}

/* Marks what does not fit into the active segment; commits leave its reserve alone. */
static void keep_what_fits(struct spool *sp, bool commits_only, int error)
{
	struct spool_batch *b = sp->batch;
	const struct spool_segment *seg = sp->active;
	uint64_t at = seg != NULL ? seg->end : 0, whole = seg != NULL ? seg->bytes : 0;
	uint64_t reserve = seg != NULL ? segment_reserve(seg) : 0;

	for (unsigned i = 0; i < b->items; i++) {
		struct batch_item *it = &b->item[i];
		bool commit = it->kind == ITEM_COMMIT;

		if (it->error != 0 || it->request == NULL)
			continue;
		if (at + it->bytes <= whole - (commit ? reserve : 0))
			at += it->bytes;
		else if (commit || !commits_only)
			it->error = error;
	}
	if (!commits_only)
		drop_carried(b, whole - at, error);
}

static void refuse_commits(struct spool *sp, int error)
{
	for (unsigned i = 0; i < sp->batch->items; i++) {
		if (sp->batch->item[i].kind == ITEM_COMMIT)
			sp->batch->item[i].error = error;
	}
}

static bool over_limit(const struct spool *sp, uint64_t more)
{
	return sp->config.max_size > 0 && atomic_load(&sp->bytes_used) + more > sp->config.max_size;
}

/* Room in the active segment, or a new one.  Beyond max_size a new one is made only for what
 * frees space: dispositions, and what compaction carries out of a segment about to go. */
static void find_room(struct spool *sp, uint64_t now_us)
{
	struct spool_batch *b = sp->batch;

	if (over_limit(sp, 0)) {
		sp->pressed = true;
		refuse_commits(sp, -ENOSPC);
	}
	/* ids may have come too far for its header */
	if (sp->active != NULL && atomic_load(&sp->next_id) - sp->active->id_floor >= SEGMENT_IDS)
		segment_seal(sp, now_us);
	uint64_t bytes = remaining_bytes(b);
	if (sp->active != NULL &&
	    sp->active->end + bytes <= sp->active->bytes - segment_reserve(sp->active))
		return;
	if (over_limit(sp, sp->config.segment_size)) {
		sp->pressed = true;
		keep_what_fits(sp, true, -ENOSPC);
		bytes = remaining_bytes(b);
		if (bytes == 0 ||
		    (sp->active != NULL && sp->active->end + bytes <= sp->active->bytes))
			return;
	}
	/* a disk that keeps failing is not given a fresh segment for every batch */
	if (now_us < sp->try_at_us) {
		keep_what_fits(sp, false, -EIO);
		return;
	}
	struct spool_segment *full = sp->active;
	int rc = segment_create(sp, (SEGMENT_DATA_AT + bytes) * 32 / 31 + 64);
	if (rc < 0) {
		sp->pressed = sp->pressed || rc == -ENOSPC;
		keep_what_fits(sp, false, rc);
		return;
	}
	if (full != NULL) {
		full->sealed_us = now_us;
		sp->sweep_wanted = sp->sweep_wanted || (full->live == 0 && full->states == 0);
	}
}

/* One failure is tried again at once; more of them at growing intervals. */
static void back_off(struct spool *sp, uint64_t now_us)
{
	uint64_t us = BACK_OFF_FIRST_US;

	for (unsigned i = 1; i < sp->failures && us < BACK_OFF_MOST_US; i++)
		us *= 2;
	sp->try_at_us = sp->failures == 0 ? 0 : now_us + us;
	sp->failures++;
}

static int write_and_sync(struct spool *sp, uint64_t now_us)
{
	struct spool_segment *seg = sp->active;
	uint64_t bytes = remaining_bytes(sp->batch);

	if (bytes == 0)
		return 0;
	int rc = batch_write(sp, seg);
	enum spool_counter failure = spool_write_errors;
	if (rc == 0) {
		rc = sp->io->fdatasync(sp->io->arg, seg->fd);
		spool_count(sp, spool_syncs, 1);
		failure = spool_sync_errors;
	}
	if (rc == 0) {
		seg->end += bytes;
		sp->failures = 0;
		spool_count(sp, spool_log_bytes, bytes);
		return 0;
	}
	back_off(sp, now_us);
	spool_count(sp, failure, 1);
	log_error("spool", "segment %016llx abandoned after a failed %s: %s",
		  (unsigned long long)seg->number, failure == spool_write_errors ? "write" : "sync",
		  strerror(-rc));
	segment_abandon(sp, now_us);
	return rc == -ENOSPC ? rc : -EIO;
}

static void release(struct spool *sp, struct spool_entry *e)
{
	struct spool_segment *seg = e->segment;

	pthread_mutex_lock(&sp->index.lock);
	index_remove(&sp->index, e);
	pthread_mutex_unlock(&sp->index.lock);
	seg->live--;
	seg->live_bytes -= entry_record_bytes(e);
	segment_take_state(NULL, e);
	sp->sweep_wanted = sp->sweep_wanted || (seg->live == 0 && seg != sp->active);
	atomic_fetch_sub(&sp->messages, 1);
	if (e->large)
		body_discard(sp, e);
	else
		entry_free(e);
}

static void place(struct spool *sp, struct batch_item *it)
{
	struct spool_segment *seg = sp->active;
	struct spool_entry *e = it->entry;

	pthread_mutex_lock(&sp->index.lock);
	if (it->kind == ITEM_COMMIT) {
		index_insert(&sp->index, e);
	} else {
		e->segment->live--;
		e->segment->live_bytes -= entry_record_bytes(e);
		e->segment->doomed = true; /* what it says of this message is outdated */
	}
	e->segment = seg;
	entry_move(e, it->offset);
	pthread_mutex_unlock(&sp->index.lock);
	seg->live++;
	seg->live_bytes += it->bytes;
}

static void item_done(struct spool *sp, struct batch_item *it)
{
	struct spool_request *r = it->request;
	struct spool_entry *e = it->entry;

	if (it->refers_to < sp->active->oldest_ref)
		sp->active->oldest_ref = it->refers_to;
	switch (it->kind) {
	case ITEM_COMMIT:
		place(sp, it);
		r->place = (struct spool_place){sp->active->number, it->offset, e->envelope_bytes,
						e->prefix_bytes};
		atomic_fetch_add(&sp->messages, 1);
		spool_count(sp, spool_commits, 1);
		break;
	case ITEM_DISPOSE:
		if (it->last)
			release(sp, e);
		else
			segment_take_state(sp->active, e);
		spool_count(sp, spool_dispositions, 1);
		break;
	case ITEM_MOVE:
		place(sp, it);
		spool_count(sp, spool_moved, 1);
		spool_count(sp, spool_moved_bytes, it->bytes);
		break;
	case ITEM_STATE:
		segment_take_state(sp->active, e);
		break;
	case ITEM_TOMBSTONE:
		break;
	}
}

static void item_failed(struct spool *sp, struct batch_item *it)
{
	if (it->kind == ITEM_COMMIT && it->entry->large)
		body_discard(sp, it->entry);
	else if (it->kind == ITEM_COMMIT)
		entry_free(it->entry);
	else if (it->last)
		index_mark_dying(&sp->index, it->entry, false);
	if (it->request != NULL)
		count_failure(sp, it->request, it->error);
}

/* All is applied before the first verdict leaves: a worker may act on it at once. */
static bool settle(struct spool *sp, int rc)
{
	struct spool_batch *b = sp->batch;
	bool carried = true;

	for (unsigned i = 0; i < b->items; i++) {
		struct batch_item *it = &b->item[i];

		if (it->error == 0)
			it->error = rc;
		if (it->error == 0)
			item_done(sp, it);
		free(it->copy);
	}
	for (unsigned i = 0; i < b->items; i++) {
		struct batch_item *it = &b->item[i];

		if (it->error != 0) {
			item_failed(sp, it);
			carried = carried && it->request != NULL;
		}
		if (it->request != NULL)
			spool_finish(it->request, it->error);
	}
	b->items = b->iovs = 0;
	b->arena_used = 0;
	b->bytes = 0;
	return carried;
}

static bool may_go(const struct spool *sp, const struct spool_segment *seg)
{
	if (seg == sp->active || seg == sp->compaction.segment || seg->unreadable ||
	    seg->live > 0 || seg->states > 0)
		return false;
	return seg->drained || (!seg->doomed && !segment_is_pinned(sp, seg));
}

/* Deletes what is finished, from the oldest, up to a doomed segment that must stay for now: a
 * younger one may hold the only proof that a message copied out of it is done. */
static void sweep(struct spool *sp)
{
	sp->sweep_wanted = false;
	list_each_safe (it, &sp->segments) {
		struct spool_segment *seg = container_of(it, struct spool_segment, link);

		if (may_go(sp, seg)) {
			if (segment_remove(sp, seg) < 0)
				return;
		} else if (seg->doomed) {
			return;
		}
	}
}

unsigned spool_commit_step(struct spool *sp, uint64_t now_us)
{
	struct spool_batch *b = sp->batch;
	unsigned taken = gather(sp), work = taken;

	work += recovery_take(sp);
	if (atomic_load(&sp->stop_committer))
		compaction_stop(sp);
	work += compaction_fill(sp);
	if (b->items > 0) {
		find_room(sp, now_us);
		int rc = write_and_sync(sp, now_us);

		compaction_settle(sp, settle(sp, rc));
	} else {
		compaction_settle(sp, true);
	}
	if (taken > 0) {
		sp->last_batch = taken;
		spool_count(sp, spool_batches, 1);
		spool_count(sp, spool_batch_requests, taken);
	}
	bool due = now_us - sp->swept_us >= (sp->pressed ? SWEEP_PRESSED_US : SWEEP_EVERY_US);
	if (!recovery_is_taken(sp))
		return work;
	if (sp->sweep_wanted || due)
		sweep(sp);
	if (due && !atomic_load(&sp->stop_committer)) {
		sp->swept_us = now_us;
		compaction_choose(sp, now_us);
	}
	return work;
}
