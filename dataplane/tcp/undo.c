/* undo.c - what a needless reduction took is given back */
#include "dataplane/tcp/undo.h"

#include "dataplane/tcp/rack.h"
#include "dataplane/tcp/sack.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

enum { NEW_SEGMENTS = 2, CONVENTIONAL_SEGMENTS = 3 }; /* RFC 5682 section 3.1 */

static struct undo *undo_of(const struct stream *s)
{
	return s->active != NULL && s->active->flight != NULL ? &s->active->flight->undo : NULL;
}

void undo_remember(struct stream *s, bool timeout)
{
	struct undo *u = undo_of(s);

	if (u == NULL)
		return;
	*u = (struct undo){.cubic = s->active->cubic,
			   .cwnd = s->cwnd,
			   .ssthresh = s->ssthresh,
			   .from = s->snd_una,
			   .armed = true,
			   .timeout = timeout};
	/* Blocks told before are told again afterwards, and would pass for news. */
	if (timeout && s->stack->config.frto && s->active->board == NULL)
		u->frto = FRTO_STEP_2;
}

void undo_forget(struct stream *s)
{
	struct undo *u = undo_of(s);

	if (u != NULL)
		u->armed = false;
}

void undo_sent_again(struct stream *s, uint32_t n)
{
	struct undo *u = undo_of(s);

	if (u == NULL || !u->armed)
		return;
	if (!u->sent)
		u->stamp = stack_ticks(s->stack) + s->ts_offset;
	u->again += n;
	u->sent = true;
}

static void take_back(struct stream *s, struct undo *u)
{
	count(s->stack, tcp_undone);
	if ((s->flags & F_LOSS) != 0)
		s->snd_nxt = s->snd_max; /* what is in flight need not go again */
	if (!u->timeout)
		s->flags |= F_REORDERED;
	s->flags &= ~(uint32_t)(F_RECOVERY | F_LOSS | F_RETRANSMIT);
	s->cwnd = u32_max(s->cwnd, u->cwnd);
	s->ssthresh = u->ssthresh;
	s->active->cubic = u->cubic; /* RFC 9438 section 4.9.1 */
	s->active->hystart = (struct hystart){0};
	u->armed = false;
	trace(s, TCP_EVENT_UNDONE, s->cwnd);
}

void undo_duplicate_told(struct stream *s, uint32_t from, uint32_t to)
{
	struct undo *u = undo_of(s);

	if (u == NULL || !u->armed || !u->sent)
		return;
	if (seq_lt(from, u->from) || seq_gt(to, s->active->recover))
		return; /* the path's duplicate: nothing there was sent again */
	rack_duplicate_told(s);
	u->again -= u32_min(u->again, to - from);
	if (u->again == 0)
		take_back(s, u);
}

void undo_original_told(struct stream *s, uint32_t to)
{
	struct undo *u = undo_of(s);

	if (u != NULL && seq_le(to, s->active->recover))
		u->original = true;
}

/* Did the original fill the hole?  A timestamp equal to that of the retransmission says nothing. */
static bool original_filled(const struct stream *s, const struct undo *u, const struct segment *g)
{
	if (!u->sent)
		return true;
	return (s->flags & F_TIMESTAMPS) != 0 && g->options.has_timestamp &&
	       g->options.ts_echo != 0 && seq_lt(g->options.ts_echo, u->stamp);
}

void undo_advanced(struct stream *s, const struct segment *g)
{
	struct undo *u = undo_of(s);

	if (u != NULL && u->armed && (s->flags & (F_RECOVERY | F_LOSS)) != 0 &&
	    original_filled(s, u, g))
		take_back(s, u);
}

/* Goes back behind the timeout; what the peer has SACKed will be passed over. */
static void go_conventional(struct stream *s, struct undo *u)
{
	u->frto = FRTO_OFF;
	s->snd_nxt = s->snd_una;
	s->cwnd = u32_min(s->cwnd, CONVENTIONAL_SEGMENTS * s->mss);
}

/* Step 2b: new data instead of more of the old, if there is any. */
static void try_new_data(struct stream *s, struct undo *u)
{
	u->frto = FRTO_OFF;
	if (!seq_lt(s->snd_max, s->snd_end) || s->snd_max - s->snd_una >= s->snd_wnd)
		return;
	u->frto = FRTO_STEP_3;
	s->snd_nxt = s->snd_max;
	s->cwnd = sack_pipe(s) + NEW_SEGMENTS * s->mss;
}

static void frto_acked(struct stream *s, struct undo *u, bool advanced)
{
	if (u->frto == FRTO_STEP_2) {
		if (advanced)
			try_new_data(s, u);
		return;
	}
	/* More than was outstanding at the timeout: the hole before it is real. */
	bool beyond = sack_between(s, s->active->recover, s->snd_max) > 0;
	if (u->original && !beyond) {
		s->cwnd = u32_min(s->cwnd, u->cwnd); /* without what step 2b has lent */
		take_back(s, u);
	} else {
		go_conventional(s, u);
	}
}

void undo_acked(struct stream *s, bool advanced)
{
	struct undo *u = undo_of(s);

	if (u == NULL)
		return;
	if (u->armed && u->frto != FRTO_OFF && (s->flags & F_LOSS) != 0)
		frto_acked(s, u, advanced);
	u->original = false;
}
