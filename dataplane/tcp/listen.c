/* listen.c - half-open connections up to the backlog, cookies beyond it; nothing is allocated
 * before every check has passed */
#include "dataplane/tcp/listen.h"

#include "dataplane/tcp/ecn.h"
#include "dataplane/tcp/input.h"
#include "dataplane/tcp/isn.h"
#include "dataplane/tcp/output.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"
#include "dataplane/tcp/syn_cookie.h"

#include <errno.h>
#include <stdlib.h>

/* Of the chunk pool: from here on no half-open connection is kept; none is begun */
enum { COOKIE_PERCENT = 90, REFUSE_PERCENT = 95 };
/* An ACK is taken for the answer to a cookie so long after the last one went */
enum { COOKIE_LIFE_US = 128000000 };

struct listener {
	struct list link;
	struct tcp_stack *stack;
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
	fresh->stack = t;
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

static struct stream *birth(struct listener *l, struct tcp_stack *t, const struct segment *g,
			    uint32_t hash, uint32_t iss)
{
	struct stream *s = state_birth(t, &g->key, hash);

	if (s == NULL) {
		count(t, tcp_streams_full);
		return NULL;
	}
	tuning_birth(s, listen_tuning(l));
	s->state = TCP_SYN_RCVD;
	s->flags = F_PASSIVE | F_HALF_OPEN;
	s->listener = l;
	l->half_open++;
	s->snd_una = s->snd_nxt = s->snd_max = iss;
	s->snd_end = iss + 1;
	return s;
}

static enum tcp_verdict keep_syn(struct listener *l, struct tcp_stack *t, const struct segment *g,
				 uint32_t hash, const uint32_t *isn_above)
{
	struct ip_addr peer = flow_ip(g->key.peer);

	if (l->l.admit != NULL && !l->l.admit(l->l.user, &peer))
		return refuse(t, tcp_syn_refused);
	uint32_t iss = isn_choose(t, &g->key);
	if (isn_above != NULL && seq_le(iss, *isn_above))
		iss = *isn_above + 1 + (uint32_t)(shard_random(t->shard) & 0xffff);
	struct stream *s = birth(l, t, g, hash, iss);
	if (s == NULL)
		return TCP_REFUSED;
	state_learn_syn(s, &g->options, g->seq, g->window);
	ecn_learn_syn(s, g->flags);
	output_syn(s);
	syn_cache_keep(s);
	return TCP_ACCEPTED;
}

/* The SYN-ACK as output_syn() would send it, from the SYN alone. */
static void answer_by_cookie(const struct listener *l, struct tcp_stack *t, const struct segment *g,
			     uint32_t hash)
{
	const struct stream_tuning *tuning = listen_tuning(l);
	struct syn_cookie c;

	syn_cookie_make(t, g, hash, &c);
	struct tcp_options o = c.options;
	o.mss = output_mss_to(t, &g->key, tuning->mss);
	o.scale = t->config.receive_scale;
	o.ts_echo = c.options.ts_value;
	o.ts_value = syn_cookie_timestamp(&c, stack_ticks(t) + isn_timestamp_offset(t, hash));
	struct bare_segment b = {
		.key = &g->key,
		.seq = c.iss,
		.ack = g->seq + 1,
		.flags = (uint8_t)(WIRE_SYN | WIRE_ACK | (c.ecn ? WIRE_ECE : 0)),
		.window = (uint16_t)u32_min(tuning->init_window, 65535),
		.syn = &o,
	};
	output_bare(t, &b);
	t->cookies_until_us = stack_now(t) + COOKIE_LIFE_US;
	count(t, tcp_cookies_sent);
}

static bool under_pressure(const struct tcp_stack *t, const struct listener *l)
{
	return l->half_open >= t->config.syn_backlog || syn_cache_full(&t->syn_cache) ||
	       chunk_pool_percent(t->shard->chunks) >= COOKIE_PERCENT;
}

static bool wants_cookie(const struct tcp_stack *t, const struct listener *l)
{
	return t->config.syn_cookies == TCP_COOKIES_ALWAYS ||
	       (t->config.syn_cookies == TCP_COOKIES_UNDER_PRESSURE && under_pressure(t, l));
}

static bool within_budget(struct tcp_stack *t)
{
	uint64_t limit = t->config.synacks_per_s, now = stack_now(t);
	struct budget *b = &t->synacks;

	if (limit == 0)
		return true;
	uint64_t most = limit / 10 + 1, earned = (now - b->at_us) * limit / 1000000;
	if (b->at_us == 0 || earned >= most)
		*b = (struct budget){now, (uint32_t)most};
	else if (earned > 0)
		*b = (struct budget){b->at_us + earned * 1000000 / limit,
				     u32_min(b->left + (uint32_t)earned, (uint32_t)most)};
	if (b->left == 0)
		return false;
	b->left--;
	return true;
}

static enum tcp_verdict syn_input(struct tcp_stack *t, const struct segment *g, uint32_t hash,
				  const uint32_t *isn_above)
{
	struct ip_addr local = flow_ip(g->key.local);
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
	if (!within_budget(t))
		return refuse(t, tcp_syn_limited);
	if (wants_cookie(t, l)) {
		answer_by_cookie(l, t, g, hash);
		return TCP_ACCEPTED;
	}
	if (l->half_open >= t->config.syn_backlog || syn_cache_full(&t->syn_cache))
		return refuse(t, tcp_syn_backlog_full);
	return keep_syn(l, t, g, hash, isn_above);
}

/* The peer believes that it is connected: silence would make it wait for our greeting. */
static enum tcp_verdict refuse_established(struct tcp_stack *t, const struct segment *g,
					   enum tcp_counter why)
{
	output_reset_reply(t, g);
	return refuse(t, why);
}

/* The connection of a cookie begins where the handshake of any other ends. */
static enum tcp_verdict cookie_input(struct listener *l, struct tcp_stack *t, struct segment *g,
				     uint32_t hash)
{
	struct ip_addr peer = flow_ip(g->key.peer);
	struct syn_cookie c;

	if (!syn_cookie_check(t, g, hash, &c))
		return refuse_established(t, g, tcp_cookies_bad);
	if (chunk_pool_percent(t->shard->chunks) >= REFUSE_PERCENT || t->stopped)
		return refuse_established(t, g, tcp_syn_refused);
	if (l->l.full != NULL && l->l.full(l->l.user))
		return refuse(t, tcp_syn_backlog_full);
	if (l->l.admit != NULL && !l->l.admit(l->l.user, &peer))
		return refuse_established(t, g, tcp_syn_refused);
	struct stream *s = birth(l, t, g, hash, c.iss);
	if (s == NULL) {
		output_reset_reply(t, g);
		return TCP_REFUSED;
	}
	state_learn_syn(s, &c.options, g->seq - 1, 0);
	s->snd_nxt = s->snd_max = c.iss + 1;
	if (c.ecn)
		s->flags |= F_ECN;
	count(t, tcp_cookies_accepted);
	enum tcp_verdict v = input_synchronized(s, g);
	assert(s->state != TCP_SYN_RCVD);
	return v;
}

static struct listener *awaits_cookies(struct tcp_stack *t, const struct segment *g)
{
	struct ip_addr local = flow_ip(g->key.local);

	if ((g->flags & (WIRE_ACK | WIRE_SYN)) != WIRE_ACK || stack_now(t) > t->cookies_until_us ||
	    t->cookies_until_us == 0)
		return NULL;
	return find(t, &local, g->key.local_port);
}

enum tcp_verdict listen_input(struct tcp_stack *t, struct segment *g, uint32_t hash,
			      const uint32_t *isn_above)
{
	struct listener *l;

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
	if ((l = awaits_cookies(t, g)) != NULL)
		return cookie_input(l, t, g, hash);
	count(t, tcp_no_flow);
	output_reset_reply(t, g);
	return TCP_NO_LISTENER;
}

bool listen_is_full(const struct stream *s)
{
	const struct tcp_listen *l = &s->listener->l;

	return l->full != NULL && l->full(l->user);
}

int tcp_unlisten(struct tcp_stack *t, const struct ip_addr *local, uint16_t port)
{
	list_each_safe (it, &t->listeners) {
		struct listener *l = listener_of(it);
		if (l->l.port != port || !addr_equal(&l->l.local, local))
			continue;
		syn_cache_end(t, l);
		list_del(&l->link);
		free(l);
		return 0;
	}
	return -ENOENT;
}

void listen_forget(struct listener *l)
{
	l->half_open--;
}

const struct stream_tuning *listen_tuning(const struct listener *l)
{
	return l->l.tuning != NULL ? l->l.tuning : &l->stack->tuning;
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
