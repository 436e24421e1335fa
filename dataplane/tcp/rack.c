/* rack.c - runs of equal sending time, and which of them are overdue */
#include "dataplane/tcp/rack.h"

#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

enum { MAX_ACK_DELAY_US = 200000, PATIENT_RECOVERIES = 16 };

static struct flight *flight_of(const struct stream *s)
{
	return s->active != NULL ? s->active->flight : NULL;
}

static uint32_t now32(const struct stream *s)
{
	return (uint32_t)stack_now(s->stack);
}

static struct flight *flight_taken(struct stream *s)
{
	struct active *a = s->active;

	if (a->flight == NULL) {
		a->flight = slab_alloc(s->stack->flights, &a->flight_handle);
		if (a->flight != NULL) {
			a->flight->min_rtt_us = s->srtt_us != 0 ? s->srtt_us : UINT32_MAX;
			a->flight->run = a->flight->few;
		}
	}
	return a->flight;
}

static unsigned room(const struct flight *f)
{
	return f->more != NULL ? FLIGHT_MOST : FLIGHT_FEW;
}

static bool grow(struct stream *s, struct flight *f)
{
	static_assert(FLIGHT_MOST * sizeof(struct flight_run) <= 3072, "they fit a chunk");
	struct chunk *c =
		f->more == NULL ? chunk_alloc(s->stack->shard->chunks, CHUNK_4K, false) : NULL;

	if (c == NULL)
		return false;
	memcpy(c->data, f->few, f->n * sizeof(f->run[0]));
	f->more = c;
	f->run = (struct flight_run *)c->data;
	return true;
}

/* Two neighbours become one, as if both were sent when the later was. */
static void merge(struct flight *f)
{
	uint32_t least = UINT32_MAX;
	unsigned at = 0;

	for (unsigned i = 0; i + 1 < f->n; i++) {
		uint32_t a = f->run[i].at_us, b = f->run[i + 1].at_us;
		uint32_t apart = seq_lt(a, b) ? b - a : a - b;
		if (apart < least) {
			least = apart;
			at = i;
		}
	}
	struct flight_run *r = &f->run[at];
	r[1].at_us = seq_max(r[0].at_us, r[1].at_us);
	r[1].again |= r[0].again;
	r[1].merged = true;
	memmove(&r[0], &r[1], (f->n - at - 1) * sizeof(r[0]));
	f->n--;
}

/* An insertion takes two places at most. */
static void make_room(struct stream *s, struct flight *f)
{
	if (f->n + 2u <= room(f) || grow(s, f))
		return;
	while (f->n + 2u > room(f))
		merge(f);
}

static void insert(struct flight *f, unsigned i, struct flight_run r)
{
	assert(f->n < room(f));
	memmove(&f->run[i + 1], &f->run[i], (f->n - i) * sizeof(f->run[0]));
	f->run[i] = r;
	f->n++;
}

static void append(struct stream *s, struct flight *f, uint32_t to)
{
	struct flight_run *last = f->n > 0 ? &f->run[f->n - 1] : NULL;

	if (last != NULL && last->at_us == now32(s) && !last->again) {
		last->to = to;
		return;
	}
	make_room(s, f);
	insert(f, f->n, (struct flight_run){to, now32(s), false, false});
}

/* from..to, inside what was sent before, gets a new time: runs before, of and behind it. */
static void overwrite(struct stream *s, struct flight *f, uint32_t from, uint32_t to)
{
	uint32_t begin = s->snd_una;
	unsigned i = 0, j;

	make_room(s, f);
	while (i < f->n && seq_le(f->run[i].to, from))
		begin = f->run[i++].to;
	if (i < f->n && seq_lt(begin, from)) {
		struct flight_run head = f->run[i];
		head.to = from;
		insert(f, i++, head);
	}
	for (j = i; j < f->n && seq_le(f->run[j].to, to); j++)
		continue;
	memmove(&f->run[i], &f->run[j], (f->n - j) * sizeof(f->run[0]));
	f->n = (uint16_t)(f->n - (j - i));
	insert(f, i, (struct flight_run){to, now32(s), true, false});
}

void rack_sent(struct stream *s, uint32_t from, uint32_t to)
{
	if ((s->flags & F_SACK) == 0 || s->active == NULL || flight_taken(s) == NULL)
		return;
	struct flight *f = flight_of(s);
	uint32_t end = f->n > 0 ? f->run[f->n - 1].to : s->snd_una;
	if (seq_lt(from, end))
		overwrite(s, f, from, seq_min(to, end));
	if (seq_gt(to, end))
		append(s, f, to);
}

/* RFC 8985 section 6.2, step 2, for one run's part that ends at `end`. */
static void learn_delivery(struct stream *s, struct flight *f, const struct flight_run *r,
			   uint32_t end)
{
	uint32_t rtt = now32(s) - r->at_us;

	/* Too soon for the retransmission: the answer is to the original. */
	if (r->again && rtt < f->min_rtt_us)
		return;
	if (!r->again && !r->merged)
		f->min_rtt_us = u32_min(f->min_rtt_us, rtt);
	if (f->known &&
	    (seq_lt(r->at_us, f->at_us) || (r->at_us == f->at_us && seq_le(end, f->end))))
		return;
	f->known = true;
	f->at_us = r->at_us;
	f->end = end;
	f->rtt_us = rtt;
}

uint32_t rack_delivered(struct stream *s, uint32_t from, uint32_t to)
{
	struct flight *f = flight_of(s);
	const struct scoreboard *k = s->active != NULL ? s->active->board : NULL;
	uint32_t begin = s->snd_una, latest = 0;

	if (f == NULL)
		return 0;
	uint32_t highest = k != NULL && k->n > 0 ? k->sacked[k->n - 1].to : s->snd_una;
	for (unsigned i = 0; i < f->n; begin = f->run[i++].to) {
		uint32_t a = seq_max(begin, from), b = seq_min(f->run[i].to, to);
		if (seq_ge(a, b))
			continue;
		if (k != NULL && ranges_covered(k->sacked, k->n, a, b) == b - a)
			continue; /* nothing new */
		learn_delivery(s, f, &f->run[i], b);
		if (!f->run[i].again)
			undo_original_told(s, b);
		if (!f->run[i].again && !f->run[i].merged)
			latest = now32(s) - f->run[i].at_us;
		/* Step 3: an original that arrives behind a later one was only late. */
		if (!f->run[i].again && seq_lt(sack_skip(s, a), seq_min(b, highest)))
			s->flags |= F_REORDERED;
	}
	return latest;
}

void rack_cut(struct stream *s)
{
	struct flight *f = flight_of(s);
	unsigned i = 0;

	if (f == NULL)
		return;
	while (i < f->n && seq_le(f->run[i].to, s->snd_una))
		i++;
	memmove(&f->run[0], &f->run[i], (f->n - i) * sizeof(f->run[0]));
	f->n = (uint16_t)(f->n - i);
	/* A probe whose last word is still out is forgotten with the rest: an idle stream holds
	 * nothing. */
	if (f->n == 0)
		rack_forget(s);
}

void rack_forget(struct stream *s)
{
	if (flight_of(s) == NULL)
		return;
	if (flight_of(s)->more != NULL)
		chunk_free(s->stack->shard->chunks, flight_of(s)->more);
	slab_free(s->stack->flights, s->active->flight_handle);
	s->active->flight = NULL;
}

/* Three segments SACKed, as far as ranges tell. */
static bool threshold_reached(const struct stream *s)
{
	const struct scoreboard *k = s->active->board;
	unsigned threshold = s->stack->config.duplicate_threshold;

	return s->dupacks >= threshold ||
	       (k != NULL &&
		(k->n >= threshold || sack_covered(s, s->snd_max) > (threshold - 1) * s->mss));
}

void rack_duplicate_told(struct stream *s)
{
	struct flight *f = flight_of(s);

	if (f == NULL || (f->patience > 0 && seq_lt(s->snd_una, f->patience_until)))
		return; /* once a round trip */
	f->patience_until = s->snd_max;
	f->patience_left = PATIENT_RECOVERIES;
	if (f->patience < UINT8_MAX)
		f->patience++;
}

void rack_recovered(struct stream *s)
{
	struct flight *f = flight_of(s);

	if (f != NULL && f->patience_left > 0 && --f->patience_left == 0)
		f->patience = 0;
}

/* Section 6.2, step 4 */
static uint32_t reordering_window(const struct stream *s, const struct flight *f)
{
	if ((s->flags & F_REORDERED) == 0 && ((s->flags & F_RECOVERY) != 0 || threshold_reached(s)))
		return 0;
	uint64_t window = (uint64_t)(f->min_rtt_us / 4) * (1u + f->patience);
	return window < s->srtt_us ? (uint32_t)window : s->srtt_us;
}

/* How far, from begin on, run r was sent before the latest delivered; begin: not at all. */
static uint32_t outrun_end(const struct flight *f, const struct flight_run *r, uint32_t begin)
{
	if (!f->known || seq_gt(r->at_us, f->at_us))
		return begin;
	return r->at_us == f->at_us ? seq_max(begin, seq_min(r->to, f->end)) : r->to;
}

static bool overdue(const struct stream *s, const struct flight *f, const struct flight_run *r)
{
	uint32_t age = now32(s) - r->at_us;

	/* What goes out now is never lost now: sending again must come to an end. */
	return age > 0 && age >= f->rtt_us + reordering_window(s, f);
}

/* The part of run i that is lost, SACKed or not: begin..its return value. */
static uint32_t lost_end(const struct stream *s, const struct flight *f, unsigned i, uint32_t begin)
{
	const struct flight_run *r = &f->run[i];

	if (!s->stack->config.rack)
		return r->again ? begin : seq_max(begin, seq_min(r->to, sack_lost_edge(s)));
	return overdue(s, f, r) ? outrun_end(f, r, begin) : begin;
}

uint32_t rack_lost(const struct stream *s, uint32_t to)
{
	const struct flight *f = flight_of(s);
	uint32_t begin = s->snd_una, sum = 0;

	/* Without a block told, all that was delivered lies before snd_una: nothing was outrun. */
	if (f == NULL || s->active->board == NULL || (s->flags & F_LOSS) != 0)
		return 0;
	for (unsigned i = 0; i < f->n && seq_lt(begin, to); begin = f->run[i++].to) {
		uint32_t end = seq_min(lost_end(s, f, i, begin), to);
		if (seq_gt(end, begin))
			sum += end - begin - sack_between(s, begin, end);
	}
	return sum;
}

bool rack_next_lost(const struct stream *s, uint32_t *seq, uint32_t *n)
{
	const struct flight *f = flight_of(s);
	uint32_t begin = s->snd_una;

	if (f == NULL)
		return false;
	for (unsigned i = 0; i < f->n; begin = f->run[i++].to) {
		uint32_t end = lost_end(s, f, i, begin), at = sack_skip(s, begin);
		if (seq_lt(at, end)) {
			/* n is 0 for a lost FIN */
			end = seq_min(end, s->snd_end);
			*seq = at;
			*n = seq_lt(at, end) ? u32_min(sack_hole_end(s, at, end) - at, s->mss) : 0;
			return true;
		}
	}
	return false;
}

/* Until a run that is not overdue will be */
static uint32_t time_left(const struct stream *s, const struct flight *f,
			  const struct flight_run *r)
{
	uint32_t age = now32(s) - r->at_us, limit = f->rtt_us + reordering_window(s, f);

	return limit > age ? limit - age : 1;
}

/* When the next run becomes overdue; 0: none will. */
static uint64_t reorder_deadline(const struct stream *s, const struct flight *f)
{
	uint32_t begin = s->snd_una, least = UINT32_MAX;

	if (s->active->board == NULL || !s->stack->config.rack)
		return 0;
	for (unsigned i = 0; i < f->n; begin = f->run[i++].to) {
		uint32_t end = outrun_end(f, &f->run[i], begin);
		if (end == begin || sack_between(s, begin, end) == end - begin ||
		    overdue(s, f, &f->run[i]))
			continue;
		least = u32_min(least, time_left(s, f, &f->run[i]));
	}
	return least == UINT32_MAX ? 0 : stack_now(s->stack) + least;
}

/* A FIN is acknowledged at once, everything else perhaps later. */
static bool ack_may_be_delayed(const struct stream *s)
{
	bool fin_sent = (s->flags & F_FIN_QUEUED) != 0 && seq_gt(s->snd_max, s->snd_end);

	return s->snd_max - s->snd_una <= s->mss && !fin_sent;
}

/* Section 7.2; never later than the retransmission timer. */
static uint64_t probe_deadline(const struct stream *s, const struct flight *f)
{
	uint64_t pto = 2ull * s->srtt_us, rto = s->due_us[DUE_RETRANSMIT];

	if (!s->stack->config.tlp || f->probing || s->srtt_us == 0 || s->snd_una == s->snd_max ||
	    s->snd_wnd == 0)
		return 0;
	if (ack_may_be_delayed(s))
		pto += MAX_ACK_DELAY_US;
	if (pto < 1000)
		pto = 1000;
	return stack_now(s->stack) + pto < rto ? stack_now(s->stack) + pto : 0;
}

void rack_schedule(struct stream *s)
{
	struct flight *f = flight_of(s);

	if (f == NULL)
		return;
	f->due_us = 0;
	f->due_is_probe = false;
	if ((s->flags & (F_LOSS | F_PERSIST)) != 0)
		return;
	f->due_us = reorder_deadline(s, f);
	if (f->due_us == 0 && (s->flags & F_RECOVERY) == 0 && s->active->board == NULL) {
		f->due_us = probe_deadline(s, f);
		f->due_is_probe = f->due_us != 0;
	}
}

uint64_t rack_due(const struct stream *s)
{
	const struct flight *f = flight_of(s);

	return f != NULL ? f->due_us : 0;
}

void rack_expired(struct stream *s)
{
	struct flight *f = flight_of(s);
	bool probe = f->due_is_probe;

	f->due_us = 0;
	f->due_is_probe = false;
	if (probe) {
		count(s->stack, tcp_tail_probes);
		trace(s, TCP_EVENT_TAIL_PROBE, s->snd_max - s->snd_una);
		s->flags |= F_TAIL_PROBE;
		return;
	}
	congestion_delivered(s, 0);
	rack_schedule(s);
}

void rack_timeout(struct stream *s)
{
	struct flight *f = flight_of(s);

	s->flags &= ~(uint32_t)F_TAIL_PROBE;
	if (f == NULL)
		return;
	f->due_us = 0;
	f->due_is_probe = f->probing = false;
}

void rack_probe_sent(struct stream *s, bool again)
{
	struct flight *f = flight_of(s);

	s->flags &= ~(uint32_t)F_TAIL_PROBE;
	if (f == NULL)
		return;
	f->probing = true;
	f->probe_again = again;
	f->probe_end = s->snd_max;
	f->due_us = 0;
}

void rack_probe_acked(struct stream *s, uint32_t ack, bool duplicate)
{
	struct flight *f = flight_of(s);

	if (f == NULL || !f->probing || seq_lt(ack, f->probe_end))
		return;
	/* Beyond the probe, and no sign that it came twice: it has repaired a loss. */
	if (f->probe_again && !duplicate && seq_gt(ack, f->probe_end))
		congestion_probe_repaired(s);
	if (!f->probe_again || duplicate || seq_gt(ack, f->probe_end))
		f->probing = false;
}
