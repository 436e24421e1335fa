/* batch.c - turns requests into the records of one batch, without copying what they point to */
#include "smtp/spool/internal.h"

#include "base/crc32c.h"
#include "smtp/spool/envelope.h"

#include <errno.h>
#include <stdlib.h>

static const uint8_t padding[RECORD_ALIGN];

/* What a record needs from the batch. */
struct need {
	uint32_t head_bytes; /* of the payload, in the arena behind the record head */
	uint32_t payload_bytes;
	unsigned iovs; /* of the payload, the head not counted */
};

static bool fits(const struct spool *sp, const struct need *n)
{
	const struct spool_batch *b = sp->batch;

	return b->items < BATCH_ITEMS && b->iovs + n->iovs + 2 <= BATCH_IOVS &&
	       b->arena_used + RECORD_HEAD_BYTES + n->head_bytes + RECORD_ALIGN <=
		       BATCH_ARENA_BYTES &&
	       (b->items == 0 || b->bytes + record_bytes(n->payload_bytes) <= sp->batch_limit);
}

static bool can_ever_fit(const struct need *n)
{
	return n->iovs + 2 <= BATCH_IOVS &&
	       RECORD_HEAD_BYTES + n->head_bytes + RECORD_ALIGN <= BATCH_ARENA_BYTES &&
	       n->payload_bytes <= RECORD_PAYLOAD_MAX;
}

static void add_part(struct spool_batch *b, struct batch_item *it, const void *at, size_t bytes)
{
	if (bytes == 0)
		return;
	b->iov[b->iovs++] = (struct iovec){(void *)(uintptr_t)at, bytes};
	it->iovs++;
}

/* A new item with its head; the caller adds the other parts of the payload, then ends it. */
static struct batch_item *item_begin(struct spool_batch *b, enum item_kind kind, uint64_t id,
				     const struct need *n)
{
	struct batch_item *it = &b->item[b->items++];

	*it = (struct batch_item){.kind = kind, .id = id, .first_iov = b->iovs};
	it->type = kind == ITEM_COMMIT || kind == ITEM_MOVE ? RECORD_MESSAGE : RECORD_DISPOSITION;
	it->head = b->arena + b->arena_used;
	it->payload_bytes = n->payload_bytes;
	it->bytes = record_bytes(n->payload_bytes);
	it->refers_to = UINT64_MAX;
	b->arena_used += (RECORD_HEAD_BYTES + n->head_bytes + RECORD_ALIGN - 1) &
			 ~(size_t)(RECORD_ALIGN - 1);
	add_part(b, it, it->head, RECORD_HEAD_BYTES + n->head_bytes);
	return it;
}

static void item_end(struct spool_batch *b, struct batch_item *it)
{
	add_part(b, it, padding, it->bytes - RECORD_HEAD_BYTES - it->payload_bytes);
	b->bytes += it->bytes;
}

static int check_commit(struct spool *sp, const struct spool_request *r, struct need *n,
			struct envelope *e)
{
	uint64_t in_chunks = 0;

	n->head_bytes = MESSAGE_HEAD_BYTES;
	n->iovs = 2;
	for (const struct chunk *c = r->chunks; c != NULL; c = c->next) {
		in_chunks += c->end - c->start;
		n->iovs++;
	}
	if (in_chunks != (r->large ? 0 : r->body_bytes))
		return -EINVAL;
	uint64_t payload =
		(uint64_t)MESSAGE_HEAD_BYTES + r->envelope_bytes + r->prefix_bytes + in_chunks;
	n->payload_bytes = payload <= RECORD_PAYLOAD_MAX ? (uint32_t)payload : UINT32_MAX;
	if (!can_ever_fit(n))
		return -EMSGSIZE;
	if (envelope_decode(r->envelope, r->envelope_bytes, e) < 0)
		return -EINVAL;
	if (!entry_holds(r->body_bytes, e->recipients, r->envelope_bytes, r->prefix_bytes))
		return -EMSGSIZE;
	return index_find(&sp->index, r->id) != NULL ? -EEXIST : 0;
}

static int add_commit(struct spool *sp, struct spool_request *r)
{
	struct spool_batch *b = sp->batch;
	struct envelope envelope;
	struct need n = {0};
	int rc = check_commit(sp, r, &n, &envelope);

	if (rc < 0)
		return rc;
	if (!fits(sp, &n))
		return -EAGAIN;
	struct spool_entry *e = calloc(1, sizeof(*e));
	if (e == NULL)
		return -ENOMEM;
	e->id = r->id;
	e->body_bytes = r->body_bytes;
	e->envelope_bytes = r->envelope_bytes;
	e->prefix_bytes = r->prefix_bytes;
	e->recipients = envelope.recipients;
	e->large = r->large;
	struct batch_item *it = item_begin(b, ITEM_COMMIT, r->id, &n);
	message_head_encode(it->head + RECORD_HEAD_BYTES,
			    &(struct message_head){
				    .envelope_bytes = r->envelope_bytes,
				    .prefix_bytes = r->prefix_bytes,
				    .body_bytes = r->body_bytes,
				    .large = r->large,
			    });
	it->request = r;
	it->entry = e;
	add_part(b, it, r->envelope, r->envelope_bytes);
	add_part(b, it, r->prefix, r->prefix_bytes);
	for (const struct chunk *c = r->chunks; c != NULL; c = c->next)
		add_part(b, it, c->data + c->start, c->end - c->start);
	item_end(b, it);
	return 0;
}

/* The state is true whatever becomes of the batch (the next hop has answered), so it is merged
 * at once: the next record of the message will carry it even when this one is lost. */
static int merge_state(struct spool_entry *e, const struct spool_request *r)
{
	struct spool_state *s = entry_state(e);
	int64_t retry_at_s = INT64_MAX;

	if (s == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < r->n_dispositions; i++) {
		const struct spool_disposition *d = &r->dispositions[i];

		if (d->outcome != SPOOL_DEFERRED)
			s->done[d->recipient / 8] |= (uint8_t)(1u << d->recipient % 8);
		else if (d->retry_at_s < retry_at_s)
			retry_at_s = d->retry_at_s;
	}
	if (retry_at_s != INT64_MAX)
		s->retry_at_s = retry_at_s;
	if (!r->marked) {
		s->attempts = r->attempts;
		return 0;
	}
	s->retry_at_s = r->retry_at_s;
	s->held = r->mark.held;
	s->route = r->mark.route;
	s->released_at_s = r->mark.released_at_s;
	return 0;
}

static struct need state_need(const struct spool_entry *e)
{
	const struct spool_state *s = e->state;
	uint32_t bytes = DISPOSITION_HEAD_BYTES + bitmap_bytes(e->recipients) +
			 (s != NULL ? mark_bytes(s->route, s->released_at_s) : 0);

	return (struct need){.head_bytes = bytes, .payload_bytes = bytes};
}

static struct batch_item *begin_state(struct spool_batch *b, enum item_kind kind,
				      struct spool_entry *e)
{
	const struct spool_state *s = e->state;
	struct need n = state_need(e);
	struct batch_item *it = item_begin(b, kind, e->id, &n);

	it->entry = e;
	disposition_head_encode(it->head + RECORD_HEAD_BYTES,
				&(struct disposition_head){
					.message_segment = e->segment->number,
					.retry_at_s = s->retry_at_s,
					.attempts = s->attempts,
					.recipients = e->recipients,
					.held = s->held,
					.route = s->route,
					.released_at_s = s->released_at_s,
				});
	memcpy(it->head + RECORD_HEAD_BYTES + DISPOSITION_HEAD_BYTES, s->done,
	       bitmap_bytes(e->recipients));
	item_end(b, it);
	return it;
}

static void begin_last(struct spool_batch *b, struct spool_entry *e, struct spool_request *r,
		       const struct need *n)
{
	struct batch_item *it = item_begin(b, ITEM_DISPOSE, e->id, n);

	it->request = r;
	it->entry = e;
	it->refers_to = e->segment->number;
	disposition_head_encode(it->head + RECORD_HEAD_BYTES,
				&(struct disposition_head){
					.message_segment = it->refers_to,
					.attempts = r->attempts,
					.last = true,
				});
	it->last = true;
	item_end(b, it);
}

static int add_dispose(struct spool *sp, struct spool_request *r)
{
	struct spool_entry *e = index_find(&sp->index, r->id);

	if (e == NULL || e->dying)
		return -ENOENT;
	for (uint32_t i = 0; i < r->n_dispositions; i++) {
		if (r->dispositions[i].recipient >= e->recipients)
			return -EINVAL;
	}
	struct need n = {.head_bytes = DISPOSITION_HEAD_BYTES,
			 .payload_bytes = DISPOSITION_HEAD_BYTES};
	if (!r->last) {
		int rc = merge_state(e, r);
		if (rc < 0)
			return rc;
		n = state_need(e);
	}
	if (!can_ever_fit(&n))
		return -EMSGSIZE;
	if (!fits(sp, &n))
		return -EAGAIN;
	if (r->last) {
		begin_last(sp->batch, e, r, &n);
		index_mark_dying(&sp->index, e, true);
		return 0;
	}
	begin_state(sp->batch, ITEM_DISPOSE, e)->request = r;
	return 0;
}

int batch_add(struct spool *sp, struct spool_request *r)
{
	assert(r->op == SPOOL_COMMIT || r->op == SPOOL_DISPOSE);
	return r->op == SPOOL_COMMIT ? add_commit(sp, r) : add_dispose(sp, r);
}

/* A record whose payload is copied as it is: the buffer of the scan moves on. */
static int add_copy(struct spool *sp, enum item_kind kind, uint64_t id, const uint8_t *payload,
		    uint32_t payload_bytes)
{
	struct need n = {.payload_bytes = payload_bytes, .iovs = 1};

	if (!fits(sp, &n))
		return -EAGAIN;
	uint8_t *copy = malloc(payload_bytes);
	if (copy == NULL)
		return -ENOMEM;
	struct batch_item *it = item_begin(sp->batch, kind, id, &n);
	memcpy(copy, payload, payload_bytes);
	it->copy = copy;
	add_part(sp->batch, it, copy, payload_bytes);
	item_end(sp->batch, it);
	return 0;
}

int batch_add_move(struct spool *sp, struct spool_entry *e, const uint8_t *payload,
		   uint32_t payload_bytes)
{
	struct spool_batch *b = sp->batch;

	/* Room for both, so that a message never moves without its state. */
	if (e->state != NULL && b->arena_used + record_bytes(state_need(e).payload_bytes) +
						record_bytes(0) + RECORD_ALIGN >
					BATCH_ARENA_BYTES)
		return -EAGAIN;
	if (b->items + 2 > BATCH_ITEMS || b->iovs + 8 > BATCH_IOVS)
		return -EAGAIN;
	int rc = add_copy(sp, ITEM_MOVE, e->id, payload, payload_bytes);
	if (rc < 0)
		return rc;
	b->item[b->items - 1].entry = e;
	if (e->state != NULL)
		begin_state(b, ITEM_STATE, e);
	return 0;
}

int batch_add_state(struct spool *sp, struct spool_entry *e)
{
	struct need n = state_need(e);

	if (!fits(sp, &n))
		return -EAGAIN;
	begin_state(sp->batch, ITEM_STATE, e);
	return 0;
}

int batch_add_tombstone(struct spool *sp, uint64_t id, uint64_t refers_to, const uint8_t *payload,
			uint32_t payload_bytes)
{
	int rc = add_copy(sp, ITEM_TOMBSTONE, id, payload, payload_bytes);

	if (rc == 0)
		sp->batch->item[sp->batch->items - 1].refers_to = refers_to;
	return rc;
}

static void fill_head(struct spool *sp, const struct spool_segment *seg, struct batch_item *it)
{
	const struct iovec *iov = &sp->batch->iov[it->first_iov];
	uint32_t crc = record_crc_begin(seg->salt);
	size_t left = it->payload_bytes;

	crc = crc32c(crc, it->head + RECORD_HEAD_BYTES, iov[0].iov_len - RECORD_HEAD_BYTES);
	left -= iov[0].iov_len - RECORD_HEAD_BYTES;
	for (unsigned i = 1; left > 0; i++) {
		crc = crc32c(crc, iov[i].iov_base, iov[i].iov_len);
		left -= iov[i].iov_len;
	}
	record_head_encode(it->head, seg->salt,
			   &(struct record_head){
				   .type = it->type,
				   .payload_bytes = it->payload_bytes,
				   .id = it->id,
				   .sequence = sp->next_sequence++,
				   .payload_crc = crc,
			   });
}

int batch_write(struct spool *sp, struct spool_segment *seg)
{
	struct spool_batch *b = sp->batch;
	uint64_t at = seg->end;
	unsigned kept = 0;

	for (unsigned i = 0; i < b->items; i++) {
		struct batch_item *it = &b->item[i];

		if (it->error != 0)
			continue;
		fill_head(sp, seg, it);
		it->offset = at;
		at += it->bytes;
		memmove(&b->iov[kept], &b->iov[it->first_iov], it->iovs * sizeof(*b->iov));
		kept += it->iovs;
	}
	int rc = segment_zero_ahead(sp, seg, at);
	if (rc == 0)
		rc = segment_write(sp, seg, seg->end, b->iov, kept);
	return rc;
}
