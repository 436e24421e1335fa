/* ecn.c - two header bits and when they are set */
#include "dataplane/tcp/ecn.h"

#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/header.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

enum { BOTH = WIRE_ECE | WIRE_CWR };

/* Section 6.1.1.1: a SYN that was lost may have been dropped for its flags; and who has sent one
 * SYN without them must not use ECN. */
static bool asks(const struct stream *s)
{
	return s->stack->config.ecn == TCP_ECN_ON && (s->flags & F_SYN_RESENT) == 0;
}

uint8_t ecn_syn_flags(const struct stream *s)
{
	if (s->state == TCP_SYN_SENT)
		return asks(s) ? BOTH : 0;
	return (s->flags & F_ECN) != 0 ? WIRE_ECE : 0;
}

bool ecn_asked_for(const struct tcp_stack *t, uint8_t syn_flags)
{
	return t->config.ecn != TCP_ECN_OFF && (syn_flags & BOTH) == BOTH;
}

void ecn_learn_syn(struct stream *s, uint8_t flags)
{
	bool asked = (s->flags & F_PASSIVE) != 0 || asks(s);
	bool agreed = (flags & WIRE_ACK) != 0 ? (flags & BOTH) == WIRE_ECE
					      : ecn_asked_for(s->stack, flags);

	if (asked && agreed)
		s->flags |= F_ECN;
	else
		s->flags &= ~(uint32_t)F_ECN;
}

void ecn_received(struct stream *s, const struct segment *g)
{
	if ((g->flags & WIRE_CWR) != 0)
		s->flags &= ~(uint32_t)F_ECN_ECHO;
	if (!g->ce || g->bytes == 0)
		return;
	count(s->stack, tcp_ecn_marked);
	if ((s->flags & F_ECN_ECHO) == 0)
		s->flags |= F_ECN_ECHO | F_ACK_NOW; /* the sooner the better */
}

void ecn_echoed(struct stream *s)
{
	const struct active *a = s->active;

	if (a == NULL || (a->marks_seen && seq_le(s->snd_una, a->marks_until)))
		return;
	if (congestion_marked(s)) {
		count(s->stack, tcp_ecn_reductions);
		trace(s, TCP_EVENT_MARKED, s->cwnd);
	}
	ecn_reduced(s);
}

void ecn_reduced(struct stream *s)
{
	if ((s->flags & F_ECN) == 0 || s->active == NULL)
		return;
	s->active->marks_until = s->snd_nxt;
	s->active->marks_seen = true;
	s->flags |= F_CWR;
}

void ecn_mark(const struct stream *s, const struct header_segment *h, uint8_t *flags, uint8_t *tos)
{
	if ((h->flags & (WIRE_SYN | WIRE_RST)) != 0)
		return;
	if ((s->flags & F_ECN_ECHO) != 0)
		*flags |= WIRE_ECE;
	/* Section 6.1.5: a retransmission could be an attacker's lever */
	if (h->bytes == 0 || seq_lt(h->seq, s->snd_max))
		return;
	*tos |= WIRE_ECT_0;
	if ((s->flags & F_CWR) != 0)
		*flags |= WIRE_CWR;
}
