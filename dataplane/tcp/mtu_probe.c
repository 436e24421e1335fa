/* mtu_probe.c - who waits, whose turn it is, what became of it */
#include "dataplane/tcp/mtu_probe.h"

#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

#define AGAIN_US (600ull * 1000000)

static void set_state(struct tcp_stack *t, struct mtu_probe *p, bool ready, bool out)
{
	struct mtu_probes *m = &t->mtu_probes;

	m->active -= p->ready || p->out;
	m->active += ready || out;
	p->ready = ready;
	p->out = out;
}

static void settle(struct tcp_stack *t)
{
	struct mtu_probes *m = &t->mtu_probes;
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < MTU_PROBES; i++) {
		const struct mtu_probe *p = &m->probe[i];
		if (p->stream != 0 && p->due_us < due)
			due = p->due_us;
	}
	if (due == UINT64_MAX)
		timer_cancel(t->shard->timers, &m->timer);
	else
		timer_arm(t->shard->timers, &m->timer, due);
}

static void forget(struct tcp_stack *t, struct mtu_probe *p)
{
	set_state(t, p, false, false);
	p->stream = 0;
}

static void wait_again(struct tcp_stack *t, struct mtu_probe *p)
{
	set_state(t, p, false, false);
	p->due_us = stack_now(t) + AGAIN_US;
	settle(t);
}

static bool lives(const struct tcp_stack *t, const struct mtu_probe *p)
{
	const struct stream *s = slab_get(t->streams, p->stream);

	return s != NULL && s->state >= TCP_ESTABLISHED;
}

/* What had its turn and found no full segment to send has missed it; another one comes. */
static void expire(struct timer *timer)
{
	struct tcp_stack *t = container_of(timer, struct tcp_stack, mtu_probes.timer);

	for (unsigned i = 0; i < MTU_PROBES; i++) {
		struct mtu_probe *p = &t->mtu_probes.probe[i];
		if (p->stream == 0 || p->due_us > stack_now(t))
			continue;
		if (!lives(t, p)) {
			forget(t, p);
			continue;
		}
		set_state(t, p, true, false);
		p->due_us = stack_now(t) + AGAIN_US;
	}
	settle(t);
}

void mtu_probe_init(struct tcp_stack *t)
{
	timer_init(&t->mtu_probes.timer, expire);
}

void mtu_probe_free(struct tcp_stack *t)
{
	timer_cancel(t->shard->timers, &t->mtu_probes.timer);
}

static struct mtu_probe *find(struct stream *s)
{
	struct mtu_probes *m = &s->stack->mtu_probes;

	for (unsigned i = 0; i < MTU_PROBES; i++) {
		if (m->probe[i].stream == s->handle)
			return &m->probe[i];
	}
	return NULL;
}

/* A free place, or one whose stream has gone. */
static struct mtu_probe *vacant(struct tcp_stack *t)
{
	for (unsigned i = 0; i < MTU_PROBES; i++) {
		struct mtu_probe *p = &t->mtu_probes.probe[i];
		if (p->stream != 0 && !lives(t, p))
			forget(t, p);
		if (p->stream == 0)
			return p;
	}
	return NULL;
}

void mtu_probe_lowered(struct stream *s, uint16_t before)
{
	struct mtu_probe *p = find(s);

	if (p == NULL) {
		p = vacant(s->stack);
		if (p == NULL)
			return;
		*p = (struct mtu_probe){.stream = s->handle, .size = before};
	}
	wait_again(s->stack, p);
}

uint32_t mtu_probe_size(struct stream *s, uint32_t queued, uint32_t window)
{
	const struct mtu_probe *p = find(s);

	if (p == NULL || !p->ready || s->snd_nxt != s->snd_max || queued < p->size ||
	    window < p->size || (s->flags & (F_RECOVERY | F_LOSS)) != 0)
		return s->mss;
	return p->size;
}

void mtu_probe_sent(struct stream *s, uint32_t from, uint32_t to, bool again)
{
	struct mtu_probe *p = find(s);

	if (p == NULL)
		return;
	if (p->ready && to - from > s->mss) {
		set_state(s->stack, p, false, true);
		p->from = from;
		p->end = to;
	} else if (again && p->out && seq_lt(from, p->end) && seq_gt(to, p->from)) {
		wait_again(s->stack, p);
	}
}

void mtu_probe_acked(struct stream *s)
{
	struct mtu_probe *p = find(s);

	if (p == NULL || !p->out || seq_lt(s->snd_una, p->end))
		return;
	s->mss = p->size;
	trace(s, TCP_EVENT_MSS, s->mss);
	count(s->stack, tcp_mss_raised);
	forget(s->stack, p);
	settle(s->stack);
}

bool mtu_probe_refused(struct stream *s)
{
	struct mtu_probe *p = find(s);

	if (p == NULL || !p->out)
		return false;
	wait_again(s->stack, p);
	return true;
}
