/* restart.c - the stages of the recovery: scan, taking over, handing over */
#include "smtp/spool/restart.h"

#include "base/log.h"
#include "base/nap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

enum {
	SCAN_STEP_BYTES = 1 << 20,
	TAKE_ENTRIES = 2048, /* in one round of the committer, under the index's lock */
	BLOCK_MESSAGES = 32, /* that a worker takes in one turn */
	BLOCKS = 64,
	NAP_US = 1000,
};

struct found_block {
	unsigned n;
	struct spool_found found[BLOCK_MESSAGES];
};

static enum spool_recovery_stage stage_of(const struct spool_recovery *rv)
{
	return (enum spool_recovery_stage)atomic_load_explicit(&rv->stage, memory_order_acquire);
}

static void enter(struct spool_recovery *rv, enum spool_recovery_stage stage)
{
	atomic_store_explicit(&rv->stage, stage, memory_order_release);
}

static void forget_lists(struct spool_recovery *rv)
{
	free(rv->logs.at);
	free(rv->bodies.at);
	free(rv->found);
	rv->logs.at = rv->bodies.at = NULL;
	rv->found = NULL;
}

static double seconds(const struct spool_recovery *rv)
{
	uint64_t ended = atomic_load(&rv->ended_us);

	return (double)((ended > 0 ? ended : spool_clock_us()) - atomic_load(&rv->begun_us)) / 1e6;
}

static void fail(struct spool_recovery *rv)
{
	atomic_store(&rv->ended_us, spool_clock_us());
	log_error("spool",
		  "recovery failed: %s; new messages are accepted, the old ones stay as they are "
		  "until the next start",
		  rv->error);
	enter(rv, SPOOL_RECOVERY_FAILED);
}

/* Room for all in one table, so that the committer need not stop to widen its own. */
static void prepare_index(struct spool_recovery *rv)
{
	size_t buckets = rv->index.buckets;

	while (buckets < rv->index.used * 2)
		buckets *= 2;
	rv->wider.bucket = calloc(buckets, sizeof(*rv->wider.bucket));
	rv->wider.buckets = buckets;
}

static void end_scan(struct spool_recovery *rv)
{
	const struct spool *sp = rv->sp;

	if (recover_end(rv) < 0) {
		fail(rv);
		return;
	}
	prepare_index(rv);
	atomic_store(&rv->ended_us, spool_clock_us());
	double s = seconds(rv);
	log_info("spool",
		 "recovery ended: %zu messages in %zu segments, %.1f MB in %.3f s, %.0f MB/s; "
		 "%" PRIu64 " torn bytes cut, %" PRIu64 " damaged pieces set aside",
		 rv->n_found, rv->logs.n, (double)rv->bytes / 1e6, s,
		 s > 0 ? (double)rv->bytes / 1e6 / s : 0, atomic_load(&sp->torn_bytes),
		 atomic_load(&sp->quarantined));
	enter(rv, SPOOL_RECOVERY_TAKE);
}

static unsigned scan_step(struct spool_recovery *rv)
{
	if (rv->next_log == rv->logs.n) {
		end_scan(rv);
		return 1;
	}
	if (recover_some(rv, SCAN_STEP_BYTES) < 0)
		fail(rv);
	atomic_store_explicit(&rv->found_so_far, rv->index.used, memory_order_relaxed);
	return 1;
}

/* An id that was handed out twice, against all care: the new message is known by it, the old one
 * stays in its segment for the operator. */
static void keep_for_operator(struct spool *sp, struct spool_entry *e)
{
	log_error("spool",
		  "message %016" PRIx64 " is there twice: the old one is kept in segment "
		  "%016" PRIx64,
		  e->id, e->segment->number);
	atomic_fetch_add(&sp->quarantined, 1);
	e->segment->unreadable = true;
	e->segment->live--;
	e->segment->live_bytes -= entry_record_bytes(e);
	segment_take_state(NULL, e);
	entry_free(e);
}

static unsigned take_entries(struct spool *sp, struct spool_recovery *rv)
{
	struct spool_entry *e;
	unsigned n = 0;

	pthread_mutex_lock(&sp->index.lock);
	if (rv->wider.bucket != NULL)
		index_widen(&sp->index, &rv->wider);
	for (; n < TAKE_ENTRIES && (e = index_pop(&rv->index)) != NULL; n++) {
		if (index_find(&sp->index, e->id) != NULL) {
			keep_for_operator(sp, e);
			continue;
		}
		index_insert(&sp->index, e);
		atomic_fetch_add(&sp->messages, 1);
	}
	pthread_mutex_unlock(&sp->index.lock);
	return n;
}

bool recovery_is_taken(const struct spool *sp)
{
	return stage_of(sp->recovery) != SPOOL_RECOVERY_TAKE;
}

unsigned recovery_take(struct spool *sp)
{
	struct spool_recovery *rv = sp->recovery;

	if (stage_of(rv) != SPOOL_RECOVERY_TAKE)
		return 0;
	if (!list_empty(&rv->segments)) { /* in front: they are all older */
		list_splice_back(&rv->segments, &sp->segments);
		list_splice_back(&sp->segments, &rv->segments);
	}
	if (take_entries(sp, rv) == TAKE_ENTRIES)
		return 1;
	atomic_store(&sp->recovered, rv->n_found);
	sp->sweep_wanted = true;
	enter(rv, SPOOL_RECOVERY_HAND);
	return 1;
}

/* false: memory is short.  The bits are a copy: the message may go at any time. */
static bool describe(const struct spool_entry *e, const struct recovered *r, struct spool_found *f)
{
	size_t bytes = bitmap_bytes(e->recipients);
	uint8_t *done = calloc(1, bytes + 1);

	if (done == NULL)
		return false;
	*f = (struct spool_found){
		.id = r->id,
		.place = {e->segment->number, entry_offset(e), e->envelope_bytes, e->prefix_bytes},
		.content_bytes = e->prefix_bytes + e->body_bytes,
		.accepted_at_s = r->accepted_at_s,
		.retry_at_s = r->hold_until_s,
		.hold_until_s = r->hold_until_s,
		.by_at_s = r->by_at_s,
		.by = r->by,
		.priority = r->priority,
		.recipients = e->recipients,
		.done = done,
	};
	if (e->state == NULL)
		return true;
	memcpy(done, e->state->done, bytes);
	f->retry_at_s = e->state->retry_at_s;
	f->attempts = e->state->attempts;
	f->mark = (struct spool_mark){e->state->held, e->state->route, e->state->released_at_s};
	return true;
}

/* From the next message on; what does not fit into memory now is for the next block. */
static void fill(struct spool_recovery *rv, struct found_block *b)
{
	struct spool *sp = rv->sp;

	pthread_mutex_lock(&sp->index.lock);
	while (b->n < BLOCK_MESSAGES && rv->next_found < rv->n_found) {
		const struct recovered *r = &rv->found[rv->next_found];
		const struct spool_entry *e = index_find(&sp->index, r->id);

		bool offer = e != NULL && e->found;
		if (offer && !describe(e, r, &b->found[b->n]))
			break;
		b->n += offer;
		rv->next_found++;
	}
	pthread_mutex_unlock(&sp->index.lock);
}

static void block_free(struct found_block *b)
{
	for (unsigned i = 0; i < b->n; i++)
		free((void *)(uintptr_t)b->found[i].done);
	free(b);
}

static unsigned hand_step(struct spool_recovery *rv)
{
	if (rv->next_found == rv->n_found) {
		if (ring_count(rv->blocks) > 0)
			return 0;
		forget_lists(rv);
		index_free(&rv->index); /* empty: its table */
		rv->index.bucket = NULL;
		enter(rv, SPOOL_RECOVERY_DONE);
		return 1;
	}
	if (ring_count(rv->blocks) >= BLOCKS)
		return 0;
	struct found_block *b = calloc(1, sizeof(*b));
	if (b == NULL)
		return 0;
	fill(rv, b);
	unsigned n = b->n;
	if (n == 0 || !ring_push(rv->blocks, b))
		block_free(b);
	return n;
}

unsigned spool_recovery_step(struct spool *sp)
{
	struct spool_recovery *rv = sp->recovery;

	switch (stage_of(rv)) {
	case SPOOL_RECOVERY_SCAN:
		return scan_step(rv);
	case SPOOL_RECOVERY_HAND:
		return hand_step(rv);
	case SPOOL_RECOVERY_TAKE:
	case SPOOL_RECOVERY_DONE:
	case SPOOL_RECOVERY_FAILED:
		break;
	}
	return 0;
}

static bool is_over(const struct spool_recovery *rv)
{
	return stage_of(rv) == SPOOL_RECOVERY_DONE || stage_of(rv) == SPOOL_RECOVERY_FAILED;
}

static void *recovery_main(void *arg)
{
	struct spool_recovery *rv = arg;
	struct nap nap = {.max_us = NAP_US};

	while (!is_over(rv) && !atomic_load(&rv->stop)) {
		if (spool_recovery_step(rv->sp) > 0)
			nap_worked(&nap);
		else
			nap_idle(&nap);
	}
	return NULL;
}

int recovery_open(struct spool *sp, char *error, size_t error_bytes)
{
	struct spool_recovery *rv = calloc(1, sizeof(*rv));
	int rc = -ENOMEM;

	snprintf(error, error_bytes, "spool: no memory");
	if (rv == NULL)
		return -ENOMEM;
	sp->recovery = rv;
	rv->sp = sp;
	list_init(&rv->segments);
	atomic_store(&rv->begun_us, spool_clock_us());
	rv->blocks = ring_create(BLOCKS);
	if (index_init(&rv->index) == 0 && rv->blocks != NULL) {
		rc = recover_begin(rv);
		snprintf(error, error_bytes, "%s", rv->error);
	}
	if (rc == 0 && rv->logs.n == 0 && rv->bodies.n == 0) {
		atomic_store(&rv->ended_us, atomic_load(&rv->begun_us));
		enter(rv, SPOOL_RECOVERY_DONE);
	} else if (rc == 0) {
		log_info("spool", "recovery begun: %zu segments of %.1f MB, %zu large bodies",
			 rv->logs.n, (double)rv->bytes / 1e6, rv->bodies.n);
	}
	return rc;
}

int recovery_start(struct spool *sp)
{
	struct spool_recovery *rv = sp->recovery;

	if (is_over(rv))
		return 0;
	int rc = pthread_create(&rv->thread, NULL, recovery_main, rv);
	rv->runs = rc == 0;
	return rc;
}

void recovery_stop(struct spool *sp)
{
	struct spool_recovery *rv = sp->recovery;

	atomic_store(&rv->stop, true);
	if (rv->runs)
		pthread_join(rv->thread, NULL);
	rv->runs = false;
}

void recovery_free(struct spool *sp)
{
	struct spool_recovery *rv = sp->recovery;
	struct found_block *b;

	if (rv == NULL)
		return;
	scan_end(&rv->scan);
	list_each_safe (it, &rv->segments) {
		list_del(it);
		segment_free(sp, container_of(it, struct spool_segment, link));
	}
	if (rv->index.bucket != NULL)
		index_free(&rv->index);
	free(rv->wider.bucket);
	while (rv->blocks != NULL && (b = ring_pop(rv->blocks)) != NULL)
		block_free(b);
	ring_destroy(rv->blocks);
	forget_lists(rv);
	free(rv);
}

unsigned spool_poll_found(struct spool *sp, void (*fn)(void *arg, const struct spool_found *f),
			  void *arg)
{
	struct spool_recovery *rv = sp->recovery;
	struct found_block *b = NULL;

	if (stage_of(rv) == SPOOL_RECOVERY_HAND)
		b = ring_pop(rv->blocks);
	if (b == NULL)
		return 0;
	unsigned n = b->n;
	for (unsigned i = 0; i < n; i++)
		fn(arg, &b->found[i]);
	block_free(b);
	return n;
}

void spool_recover_all(struct spool *sp)
{
	struct spool_recovery *rv = sp->recovery;

	while (stage_of(rv) == SPOOL_RECOVERY_SCAN)
		spool_recovery_step(sp);
	while (recovery_take(sp) > 0)
		;
	spool_commit_step(sp, spool_clock_us()); /* removes what is finished */
}

void spool_each_found(struct spool *sp, void (*fn)(void *arg, const struct spool_found *f),
		      void *arg)
{
	spool_recover_all(sp);
	while (spool_recovery_step(sp) + spool_poll_found(sp, fn, arg) > 0)
		;
}

void spool_recovery_progress(struct spool *sp, struct spool_progress *p)
{
	const struct spool_recovery *rv = sp->recovery;

	*p = (struct spool_progress){
		.stage = stage_of(rv),
		.segments = rv->logs.n,
		.segments_done = atomic_load(&rv->segments_done),
		.bytes = rv->bytes,
		.bytes_done = atomic_load(&rv->bytes_done),
		.found = atomic_load(&rv->found_so_far),
		.seconds = seconds(rv),
	};
}
