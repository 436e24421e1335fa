/* listen.c - backlog bounded by listener; nothing is allocated before every check has passed */
#include "dataplane/tcp/listen.h"

#include "dataplane/tcp/isn.h"
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"

#include <errno.h>
#include <stdlib.h>

enum { REFUSE_PERCENT = 95 }; /* of the chunk pool */

struct listener {
	struct list link;
	struct tcp_listen l;
	uint32_t half_open;
};

static struct listener *listener_of(struct list *l)
{
	return container_of(l, struct listener, link);
}

/* An exact address beats any address. */
static struct listener *find(struct tcp_stack *t, const struct ip_addr *local, uint16_t port)
{
	struct listener *any = NULL;

	list_each (it, &t->listeners) {
		struct listener *l = listener_of(it);
		if (l->l.port != port)
			continue;
		if (addr_equal(&l->l.local, local))
			return l;
		if (l->l.local.family == 0)
			any = l;
	}
	return any;
}

int tcp_listen(struct tcp_stack *t, const struct tcp_listen *l)
{
	list_each (it, &t->listeners) {
		struct listener *other = listener_of(it);
		if (other->l.port == l->port && addr_equal(&other->l.local, &l->local))
			return -EADDRINUSE;
	}
	struct listener *fresh = calloc(1, sizeof(*fresh));
	if (fresh == NULL)
		return -ENOMEM;
	fresh->l = *l;
	list_push_back(&t->listeners, &fresh->link);
	return 0;
}

void tcp_stop_listening(struct tcp_stack *t)
{
	t->stopped = true;
}

void listen_free_all(struct tcp_stack *t)
{
	list_each_safe (it, &t->listeners)
		free(listener_of(it));
	list_init(&t->listeners);
}

static enum tcp_verdict refuse(struct tcp_stack *t, enum tcp_counter why)
{
	count(t, why);
	return TCP_REFUSED;
}

static enum tcp_verdict birth(struct listener *l, struct tcp_stack *t, const struct segment *g,
			      uint32_t hash, const uint32_t *isn_above)
{
	struct stream *s = state_birth(t, &g->key, hash);

	if (s == NULL)
		return refuse(t, tcp_streams_full);
	uint32_t iss = isn_choose(t, &g->key);
	if (isn_above != NULL && seq_le(iss, *isn_above))
		iss = *isn_above + 1 + (uint32_t)(shard_random(t->shard) & 0xffff);
	if (l->l.tuning != NULL)
		tuning_birth(s, l->l.tuning);
	s->state = TCP_SYN_RCVD;
	s->flags = F_PASSIVE | F_HALF_OPEN | F_RETRANSMIT;
	s->listener = l;
	l->half_open++;
	s->snd_una = s->snd_nxt = s->snd_max = iss;
	s->snd_end = iss + 1;
	state_learn_syn(s, &g->options, g->seq, g->window);
	stream_touch(s);
	return TCP_ACCEPTED;
}

static enum tcp_verdict syn_input(struct tcp_stack *t, const struct segment *g, uint32_t hash,
				  const uint32_t *isn_above)
{
	struct ip_addr local = flow_ip(g->key.local), peer = flow_ip(g->key.peer);
	struct listener *l = find(t, &local, g->key.local_port);

	if (l == NULL || t->stopped) {
		output_reset_reply(t, g);
		if (l != NULL)
			return refuse(t, tcp_syn_refused);
		count(t, tcp_no_flow);
		return TCP_NO_LISTENER;
	}
	if (chunk_pool_percent(t->shard->chunks) >= REFUSE_PERCENT)
		return refuse(t, tcp_syn_refused);
	if (l->l.full != NULL && l->l.full(l->l.user))
		return refuse(t, tcp_syn_backlog_full);
	if (l->half_open >= t->config.syn_backlog)
		return refuse(t, tcp_syn_backlog_full);
	if (l->l.admit != NULL && !l->l.admit(l->l.user, &peer))
		return refuse(t, tcp_syn_refused);
	return birth(l, t, g, hash, isn_above);
}

enum tcp_verdict listen_input(struct tcp_stack *t, const struct segment *g, uint32_t hash,
			      const uint32_t *isn_above)
{
	if ((g->flags & WIRE_RST) != 0) {
		count(t, tcp_rst_ignored);
		return TCP_NO_LISTENER;
	}
	if ((g->flags & (WIRE_SYN | WIRE_FIN)) == (WIRE_SYN | WIRE_FIN) && t->config.drop_syn_fin) {
		count(t, tcp_bad_flags);
		return TCP_MALFORMED;
	}
	if ((g->flags & (WIRE_SYN | WIRE_ACK)) == WIRE_SYN)
		return syn_input(t, g, hash, isn_above);
	count(t, tcp_no_flow);
	output_reset_reply(t, g);
	return TCP_NO_LISTENER;
}

bool listen_is_full(const struct stream *s)
{
	const struct tcp_listen *l = &s->listener->l;

	return l->full != NULL && l->full(l->user);
}

static void end_half_open(struct tcp_stack *t, const struct listener *l)
{
	for (uint32_t i = 0; i < slab_extent(t->streams); i++) {
		struct stream *s = slab_at(t->streams, i, NULL);
		if (s != NULL && (s->flags & F_HALF_OPEN) != 0 && s->listener == l)
			state_die(s, STREAM_END_RESET);
	}
}

int tcp_unlisten(struct tcp_stack *t, const struct ip_addr *local, uint16_t port)
{
	list_each_safe (it, &t->listeners) {
		struct listener *l = listener_of(it);
		if (l->l.port != port || !addr_equal(&l->l.local, local))
			continue;
		end_half_open(t, l);
		list_del(&l->link);
		free(l);
		return 0;
	}
	return -ENOENT;
}

void listen_promote(struct stream *s)
{
	struct listener *l = s->listener;

	s->flags &= ~(uint32_t)F_HALF_OPEN;
	l->half_open--;
	s->events = l->l.events;
	s->user = l->l.user;
}

void listen_demote(struct stream *s)
{
	s->flags &= ~(uint32_t)F_HALF_OPEN;
	s->listener->half_open--;
}
