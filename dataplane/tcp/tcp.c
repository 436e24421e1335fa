/* tcp.c - creation, configuration and the stack's common parts */
#include "dataplane/tcp/tcp.h"

#include "dataplane/tcp/congestion.h"
#include "dataplane/tcp/listen.h"
#include "dataplane/tcp/receive.h"
#include "dataplane/tcp/send.h"
#include "dataplane/tcp/stack.h"

#include <stdlib.h>

COUNTER_TABLE(tcp, TCP_COUNTERS)

enum { MTU_MIN = 576, SCALE_MAX = 14, SCALE_DERIVE = 255 };

void tcp_config_default(struct tcp_config *c)
{
	*c = (struct tcp_config){
		.mtu = 1500,
		.max_streams = 65536,
		.max_time_wait = 65536,
		.syn_backlog = 1024,
		.syn_cookies = TCP_COOKIES_UNDER_PRESSURE,
		.synacks_per_s = 1000000,
		.send_limit = 64 * 1024,
		.receive_limit = 16 * 1024,
		.receive_limit_max = 1000 * 1024,
		.receive_scale = SCALE_DERIVE,
		.option_layout = TCP_OPTIONS_LINUX,
		.congestion = TCP_CONGESTION_CUBIC,
		.ecn = TCP_ECN_ACCEPT,
		.init_cwnd = 10,
		.rto_min_us = 200000,
		.rto_init_us = 1000000,
		.rto_max_us = 120000000,
		.delack_us = 40000,
		.syn_retries = 6,
		.synack_retries = 5,
		.data_retries = 15,
		.time_wait_us = 60000000,
		.fin_wait2_us = 60000000,
		.keep_idle_s = 7200,
		.keep_interval_s = 75,
		.keep_count = 9,
		.challenge_acks_per_s = 1000,
		.timestamps = true,
		.sack = true,
		.window_scaling = true,
		.rack = true,
		.tlp = true,
		.frto = true,
		.prr = true,
		.limited_transmit = true,
		.duplicate_threshold = 3,
		.dsack = true,
		.trace_events = 4096,
		.hystart = true,
		.blackhole_detection = true,
		.ts_tick_us = 1000,
		.random_isn = true,
		.random_timestamps = true,
		.restart_after_idle = true,
		.drop_syn_fin = true,
	};
}

/* Fills in what is derived; false: out of range. */
static bool settle_config(struct tcp_config *c)
{
	if (c->receive_scale == SCALE_DERIVE) {
		c->receive_scale = 0;
		while (c->receive_scale < SCALE_MAX &&
		       65535u << c->receive_scale < c->receive_limit_max)
			c->receive_scale++;
	}
	if (c->init_window == 0)
		c->init_window = c->receive_limit < 65535 ? c->receive_limit : 65535;
	return c->ts_tick_us > 0 && c->duplicate_threshold > 0 && c->mtu >= MTU_MIN &&
	       c->receive_scale <= SCALE_MAX && c->init_window <= 65535 && c->max_streams > 0 &&
	       c->max_streams < FLOW_SYN && c->max_time_wait < FLOW_SYN &&
	       c->syn_backlog < FLOW_SYN / SYN_CACHE_BACKLOGS && c->init_cwnd > 0 &&
	       c->congestion <= TCP_CONGESTION_CUBIC && c->syn_cookies <= TCP_COOKIES_ALWAYS &&
	       c->ecn <= TCP_ECN_ON && (c->trace_events & (c->trace_events - 1)) == 0 &&
	       (c->mss == 0 || c->mss >= 64) && c->rto_min_us > 0 &&
	       c->rto_min_us <= c->rto_max_us && c->receive_limit <= c->receive_limit_max &&
	       c->receive_limit_max <= 1u << 30 && c->send_limit <= 1u << 30;
}

static const struct congestion_ops *const algorithms[] = {
	[TCP_CONGESTION_NEWRENO] = &congestion_newreno,
	[TCP_CONGESTION_CUBIC] = &congestion_cubic,
};

const struct congestion_ops *stream_congestion(const struct stream *s)
{
	const struct tcp_stack *t = s->stack;

	return t->tuned != NULL ? algorithms[stream_tuning(s)->congestion] : t->congestion;
}

static bool allocate(struct tcp_stack *t)
{
	struct siphash_key flow_secret;
	uint32_t half_open = t->config.syn_backlog * SYN_CACHE_BACKLOGS;

	for (unsigned i = 0; i < 2; i++) {
		flow_secret.k[i] = shard_random(t->shard);
		t->isn_key.k[i] = shard_random(t->shard);
		t->cookie_key.k[i] = shard_random(t->shard);
	}
	t->ip_id = shard_random(t->shard) | 1;
	t->streams = slab_create(sizeof(struct stream), t->config.max_streams);
	t->actives = slab_create(sizeof(struct active), t->config.max_streams);
	t->reorders = slab_create(sizeof(struct reorder), t->config.max_streams);
	t->flights = slab_create(sizeof(struct flight), t->config.max_streams);
	t->boards = slab_create(sizeof(struct scoreboard), t->config.max_streams);
	t->sent_again = calloc(t->config.max_streams, sizeof(*t->sent_again));
	return tuning_init(t) == 0 && trace_init(&t->trace, t->config.trace_events) == 0 &&
	       flow_table_init(&t->flows,
			       t->config.max_streams + t->config.max_time_wait + half_open,
			       &flow_secret) == 0 &&
	       syn_cache_init(&t->syn_cache, t, half_open) == 0 &&
	       time_wait_init(&t->time_wait, t, t->config.max_time_wait) == 0 &&
	       t->streams != NULL && t->actives != NULL && t->reorders != NULL &&
	       t->boards != NULL && t->flights != NULL && t->sent_again != NULL;
}

struct tcp_stack *tcp_create(struct shard *shard, const struct tcp_env *env,
			     const struct tcp_config *config)
{
	struct tcp_config c = *config;

	if (!settle_config(&c))
		return NULL;
	struct tcp_stack *t = calloc(1, sizeof(*t));
	if (t == NULL)
		return NULL;
	t->shard = shard;
	t->env = *env;
	t->config = c;
	t->congestion = algorithms[c.congestion];
	list_init(&t->listeners);
	list_init(&t->dirty);
	list_init(&t->out);
	list_init(&t->starved);
	timer_init(&t->retry, flush_retry);
	mtu_probe_init(t);
	t->time_wait.stack = t;
	if (!allocate(t)) {
		tcp_destroy(t);
		return NULL;
	}
	return t;
}

static void drop_stream(struct tcp_stack *t, struct stream *s)
{
	timer_cancel(t->shard->timers, &s->timer);
	send_clear(s);
	receive_clear(s);
}

void tcp_destroy(struct tcp_stack *t)
{
	if (t == NULL)
		return;
	for (uint32_t i = 0; t->streams != NULL && i < slab_extent(t->streams); i++) {
		struct stream *s = slab_at(t->streams, i, NULL);
		if (s != NULL)
			drop_stream(t, s);
	}
	timer_cancel(t->shard->timers, &t->retry);
	mtu_probe_free(t);
	time_wait_free(&t->time_wait);
	syn_cache_free(&t->syn_cache);
	listen_free_all(t);
	flow_table_free(&t->flows);
	slab_destroy(t->streams);
	slab_destroy(t->actives);
	slab_destroy(t->reorders);
	slab_destroy(t->boards);
	slab_destroy(t->flights);
	free(t->sent_again);
	tuning_free(t);
	trace_free(&t->trace);
	free(t);
}

static const struct flow_key *key_of(const void *arg, uint32_t reference)
{
	const struct tcp_stack *t = arg;

	if ((reference & FLOW_TIME_WAIT) != 0)
		return &t->time_wait.entries[reference & ~FLOW_TIME_WAIT].key;
	if ((reference & FLOW_SYN) != 0)
		return &t->syn_cache.entries[reference & ~FLOW_SYN].key;
	return &((const struct stream *)slab_object(t->streams, reference))->key;
}

uint32_t stack_find(const struct tcp_stack *t, const struct flow_key *key, uint32_t hash)
{
	return flow_find(&t->flows, key, hash, key_of, t);
}

struct active *stream_active(struct stream *s)
{
	handle_t h;

	if (s->active == NULL) {
		s->active = slab_alloc(s->stack->actives, &h);
		if (s->active != NULL)
			s->active->handle = h;
	}
	return s->active;
}

void stream_rest(struct stream *s)
{
	struct active *a = s->active;

	if (a == NULL || a->board != NULL || a->flight != NULL || a->snd_head != NULL ||
	    a->rcv_head != NULL || a->reorder != NULL)
		return;
	s->flags &= ~(uint32_t)(F_TIMING | F_RECOVERY | F_LOSS);
	slab_free(s->stack->actives, a->handle);
	s->active = NULL;
}

const uint64_t *tcp_counters(const struct tcp_stack *t)
{
	return t->counters;
}

unsigned tcp_stream_count(const struct tcp_stack *t)
{
	return slab_used(t->streams);
}
