/*
 * compact.c - moves what still matters out of a segment that is mostly dead, so that it can go.
 *
 * What matters in a segment: messages that are alive; the newest disposition record of a live
 * message that lies elsewhere; the last disposition of a message whose own record is still in
 * another segment (without it the message would rise from the dead at the next start).
 */
#include "smtp/spool/internal.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>

enum {
	STEP_BYTES = 256 << 10, /* looked at in one round, so that no batch waits long */
	REST_US = 30000000,     /* most messages leave within seconds; do not move those */
	PASSES_MAX = 3,
};

static const struct spool_segment *segment_by_number(const struct spool *sp, uint64_t number)
{
	list_each (it, &sp->segments) {
		const struct spool_segment *seg = container_of(it, struct spool_segment, link);

		if (seg->number == number)
			return seg;
	}
	return NULL;
}

static int carry_message(struct spool *sp, const struct record_head *h, const uint8_t *payload,
			 uint64_t offset)
{
	struct spool_entry *e = index_find(&sp->index, h->id);

	if (e == NULL || e->dying)
		return 0;
	/* An earlier move, cut short, may have left the copy without its state behind it.  A start
	 * forgets what it reads about a message before the message itself. */
	if (e->segment != sp->compaction.segment && e->state != NULL && e->state->segment != NULL &&
	    e->state->segment->number <= e->segment->number)
		return batch_add_state(sp, e);
	if (e->segment != sp->compaction.segment || entry_offset(e) != offset)
		return 0;
	return batch_add_move(sp, e, payload, h->payload_bytes);
}

static int carry_disposition(struct spool *sp, const struct record_head *h, const uint8_t *payload)
{
	const struct spool_segment *from = sp->compaction.segment;
	struct spool_entry *e = index_find(&sp->index, h->id);
	struct disposition_head d;

	if (!disposition_head_decode(payload, h->payload_bytes, &d))
		return 0;
	if (!d.last) {
		if (e == NULL || e->dying || e->state == NULL || e->segment == from ||
		    e->state->segment != from)
			return 0;
		return batch_add_state(sp, e);
	}
	if (d.message_segment == from->number || segment_by_number(sp, d.message_segment) == NULL)
		return 0;
	return batch_add_tombstone(sp, h->id, d.message_segment, payload, h->payload_bytes);
}

static int carry(struct spool *sp, const struct record_head *h, const uint8_t *payload,
		 uint64_t offset)
{
	if (h->type == RECORD_MESSAGE)
		return carry_message(sp, h, payload, offset);
	if (h->type == RECORD_DISPOSITION)
		return carry_disposition(sp, h, payload);
	return 0;
}

static void give_up(struct spool *sp, int error)
{
	struct spool_segment *seg = sp->compaction.segment;

	log_error("spool", "segment %016" PRIx64 " cannot be read to move its messages: %s; kept",
		  seg->number, strerror(-error));
	spool_count(sp, spool_read_errors, 1);
	seg->unreadable = true;
	seg->doomed = false;
	compaction_stop(sp);
}

unsigned compaction_fill(struct spool *sp)
{
	struct spool_compaction *c = &sp->compaction;
	uint64_t from = c->scan.at;

	while (c->segment != NULL && !c->at_end && c->scan.at - from < STEP_BYTES) {
		uint64_t at = c->scan.at, sequence = c->scan.last_sequence, offset;
		const uint8_t *payload;
		struct record_head h;
		enum scan_verdict v = scan_next(&c->scan, &h, &payload, &offset);
		int rc = v == SCAN_RECORD ? carry(sp, &h, payload, offset) : 0;

		if (v == SCAN_ERROR) {
			give_up(sp, c->scan.error);
			return 1;
		}
		if (rc < 0) { /* the batch is full, or memory is short: again in the next round */
			c->scan.at = at;
			c->scan.last_sequence = sequence;
			break;
		}
		c->at_end = v == SCAN_END;
	}
	return c->segment != NULL ? 1 : 0;
}

static void compaction_begin(struct spool *sp, struct spool_segment *seg)
{
	struct spool_compaction *c = &sp->compaction;

	compaction_stop(sp);
	c->segment = seg;
	scan_begin(&c->scan, sp->io, seg->fd, seg->salt, seg->end);
}

void compaction_settle(struct spool *sp, bool batch_ok)
{
	struct spool_compaction *c = &sp->compaction;
	struct spool_segment *seg = c->segment;

	if (seg == NULL)
		return;
	if (!batch_ok) {
		compaction_stop(sp); /* a later choice begins anew */
		return;
	}
	if (!c->at_end)
		return;
	if (seg->live > 0 || seg->states > 0) {
		/* A last disposition failed behind the scan's back, or a record went bad. */
		unsigned passes = c->passes + 1;

		if (passes == PASSES_MAX) {
			give_up(sp, -EBADMSG);
			return;
		}
		compaction_begin(sp, seg);
		c->passes = passes;
		return;
	}
	seg->drained = true;
	sp->sweep_wanted = true;
	compaction_stop(sp);
}

void compaction_stop(struct spool *sp)
{
	scan_end(&sp->compaction.scan);
	sp->compaction = (struct spool_compaction){0};
}

static bool worth_it(const struct spool *sp, const struct spool_segment *seg, uint64_t now_us)
{
	if (seg == sp->active || seg->unreadable || seg->drained)
		return false;
	if (seg->doomed)
		return true;
	if (now_us - seg->sealed_us < REST_US && !sp->pressed)
		return false;
	return seg->live_bytes * 2 <= seg->end &&
	       (seg->live > 0 || seg->states > 0 || segment_is_pinned(sp, seg));
}

void compaction_choose(struct spool *sp, uint64_t now_us)
{
	struct spool_compaction *c = &sp->compaction;

	if (c->segment != NULL)
		return;
	list_each (it, &sp->segments) {
		struct spool_segment *seg = container_of(it, struct spool_segment, link);

		if (!worth_it(sp, seg, now_us))
			continue;
		compaction_begin(sp, seg);
		return;
	}
}
