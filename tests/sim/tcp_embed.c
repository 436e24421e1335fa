/* tcp_embed.c - one stack without mbufs and cores: creation, packets and time */
#include "tests/sim/embed.h"

#include "dataplane/tcp/wire.h"
#include "tests/sim/random.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { POOL_ALIGN = 65536, POOL_LEAST = 64 << 20, POOL_MOST = 1 << 30, TIME_WAIT_SHARE = 4 };

void tcpe_config_default(struct tcpe_config *cfg)
{
	*cfg = (struct tcpe_config){
		.mtu = 1500,
		.sack = true,
		.dsack = true,
		.timestamps = true,
		.window_scaling = true,
		.rcv_wscale = 255,
		.cc = TCPE_CC_CUBIC,
		.hystart = true,
		.rack = true,
		.tlp = true,
		.prr = true,
		.frto = true,
		.limited_transmit = true,
		.dupthresh = 3,
		.slow_start_after_idle = true,
		.random_iss = true,
		.random_ts_offset = true,
		.ts_tick_us = 1000,
		.init_cwnd = 10,
		.sndbuf = 256 * 1024,
		.rcvbuf = 128 * 1024,
		.rcvbuf_max = 4 << 20,
		.rcvbuf_autotune = true,
		.rto_init_us = 1000000,
		.rto_min_us = 200000,
		.rto_max_us = 120000000,
		.delack_us = 40000,
		.syn_retries = 6,
		.synack_retries = 5,
		.data_retries = 15,
		.time_wait_us = 60000000,
		.fin_wait2_us = 60000000,
		.keep_idle_s = 7200,
		.keep_intvl_s = 75,
		.keep_cnt = 9,
		.syn_cookies = true,
		.drop_syn_fin = true,
		.challenge_ack_per_s = 1000,
		.opt_layout = TCPE_OPT_LINUX,
		.max_socks = 1024,
	};
}

static uint8_t scale_for(uint32_t bytes)
{
	uint8_t scale = 0;

	while (scale < 14 && 65535ull << scale < bytes)
		scale++;
	return scale;
}

static uint32_t first_window(const struct tcpe_config *c)
{
	uint32_t most = c->rcvbuf < 65535 ? c->rcvbuf : 65535;

	return c->init_rcv_wnd != 0 && c->init_rcv_wnd < most ? c->init_rcv_wnd : most;
}

static struct tcp_config core_config(const struct tcpe_config *c)
{
	static const enum tcp_ecn ecn[] = {TCP_ECN_OFF, TCP_ECN_ON, TCP_ECN_ACCEPT};
	struct tcp_config to;

	tcp_config_default(&to);
	to.mtu = c->mtu;
	to.mss = c->mss;
	to.max_streams = to.syn_backlog = c->max_socks;
	if (c->syn_cookies) /* a flood must leave room for those that come back */
		to.syn_backlog = (c->max_socks + 1) / 2;
	to.max_time_wait = c->max_socks * TIME_WAIT_SHARE;
	to.send_limit = c->sndbuf;
	to.receive_limit = c->rcvbuf;
	to.receive_limit_max = 1 << 30;
	to.init_window = first_window(c);
	to.receive_scale = c->rcv_wscale == 255 ? scale_for(c->rcvbuf_max) : c->rcv_wscale;
	to.option_layout = (enum tcp_option_layout)c->opt_layout;
	to.congestion = (enum tcp_congestion)c->cc;
	to.init_cwnd = c->init_cwnd;
	to.rto_min_us = c->rto_min_us;
	to.rto_init_us = c->rto_init_us;
	to.rto_max_us = c->rto_max_us;
	to.delack_us = c->delack_us;
	to.syn_retries = c->syn_retries;
	to.synack_retries = c->synack_retries;
	to.data_retries = c->data_retries;
	to.time_wait_us = c->time_wait_us;
	to.fin_wait2_us = c->fin_wait2_us;
	to.keep_idle_s = c->keep_idle_s;
	to.keep_interval_s = c->keep_intvl_s;
	to.keep_count = c->keep_cnt;
	to.challenge_acks_per_s = c->challenge_ack_per_s;
	to.timestamps = c->timestamps;
	to.window_scaling = c->window_scaling;
	to.sack = c->sack;
	to.dsack = c->dsack;
	to.ecn = ecn[c->ecn];
	to.syn_cookies = c->syn_cookies ? TCP_COOKIES_UNDER_PRESSURE : TCP_COOKIES_NEVER;
	to.synacks_per_s = 0;
	to.blackhole_detection = false; /* no setting of the interface asks for it */
	to.hystart = c->hystart;
	to.rack = c->rack;
	to.tlp = c->tlp;
	to.frto = c->frto;
	to.prr = c->prr;
	to.limited_transmit = c->limited_transmit;
	to.duplicate_threshold = c->dupthresh;
	to.ts_tick_us = c->ts_tick_us;
	to.quick_acks = c->quickack_segs;
	to.random_isn = c->random_iss;
	to.random_timestamps = c->random_ts_offset;
	to.restart_after_idle = c->slow_start_after_idle;
	to.drop_syn_fin = c->drop_syn_fin;
	to.reset_after_close = to.tunable = true;
	return to;
}

static bool config_good(const struct tcpe_config *c)
{
	if (c->n_local == 0 || c->n_local > 4 || c->max_socks == 0 || c->max_socks > 1 << 24 ||
	    c->sndbuf == 0 || c->rcvbuf == 0 || c->rcvbuf > c->rcvbuf_max || c->ecn > 2 ||
	    c->opt_layout > TCPE_OPT_FREEBSD || c->cc > TCPE_CC_CUBIC || c->dupthresh == 0)
		return false;
	for (unsigned i = 0; i < c->n_local; i++) {
		if (c->local[i].family != 4 && c->local[i].family != 6)
			return false;
	}
	return true;
}

static uint64_t draw(void *arg)
{
	struct tcpe_stack *st = arg;

	return st->config.rng != NULL ? st->config.rng(st->config.rng_arg)
				      : random_next(&st->random);
}

static bool get_buffer(void *arg, struct tcp_buffer *b, unsigned bytes, bool control)
{
	struct embed_packet *p = malloc(sizeof(*p) + bytes);

	if (p == NULL)
		return false;
	list_init(&p->link);
	b->handle = p;
	b->data = p->data;
	return true;
}

static void send_packet(void *arg, struct tcp_buffer *b, unsigned bytes, const struct ip_addr *to)
{
	struct tcpe_stack *st = arg;
	struct embed_packet *p = b->handle;
	bool ip4 = to->family == 4;
	struct ip_addr from = {.family = to->family};

	p->when_us = st->shard.now_us;
	p->bytes = bytes;
	list_push_back(&st->packets, &p->link);
	memcpy(from.byte, p->data + (ip4 ? 12 : 8), ip4 ? 4 : 16);
	unsigned header = ip4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	embed_flow_out(st, &from, to, p->data + header, bytes - header);
}

static void drop_buffer(void *arg, struct tcp_buffer *b)
{
	free(b->handle);
}

/* A port that a socket is bound to is not for anonymous connects. */
static bool owns_flow(void *arg, const struct ip_addr *local, uint16_t local_port,
		      const struct ip_addr *peer, uint16_t peer_port)
{
	return !embed_port_taken(arg, local_port);
}

static bool make_shard(struct tcpe_stack *st)
{
	const struct tcpe_config *c = &st->config;
	uint64_t want = (uint64_t)c->max_socks * ((uint64_t)c->sndbuf + c->rcvbuf);
	size_t bytes = want < POOL_LEAST ? POOL_LEAST : want > POOL_MOST ? POOL_MOST : (size_t)want;

	/* Pages that are never touched cost nothing. */
	st->memory_bytes = bytes + POOL_ALIGN;
	st->memory = mmap(NULL, st->memory_bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (st->memory == MAP_FAILED) {
		st->memory = NULL;
		return false;
	}
	uintptr_t at = ((uintptr_t)st->memory + POOL_ALIGN - 1) & ~(uintptr_t)(POOL_ALIGN - 1);
	st->shard = (struct shard){
		.now_us = c->now_us,
		.chunks = chunk_pool_create((void *)at, bytes),
		.timers = timer_wheel_create(c->now_us),
		.random64 = draw,
		.random_arg = st,
	};
	return st->shard.chunks != NULL && st->shard.timers != NULL;
}

struct tcpe_stack *tcpe_create(const struct tcpe_config *cfg, int *err)
{
	struct tcpe_stack *st = config_good(cfg) ? calloc(1, sizeof(*st)) : NULL;

	*err = -EINVAL;
	if (st == NULL)
		return NULL;
	struct tcp_env env = {st, get_buffer, send_packet, drop_buffer, owns_flow};
	st->config = *cfg;
	st->random = 1;
	list_init(&st->packets);
	list_init(&st->socks);
	for (unsigned i = 0; i < EMBED_BUCKETS; i++)
		list_init(&st->flows[i]);
	struct tcp_config core = core_config(cfg);
	if (make_shard(st))
		st->tcp = tcp_create(&st->shard, &env, &core);
	else
		*err = -ENOMEM;
	if (st->tcp == NULL) {
		tcpe_destroy(st);
		return NULL;
	}
	*err = 0;
	return st;
}

void tcpe_destroy(struct tcpe_stack *st)
{
	if (st == NULL)
		return;
	tcp_destroy(st->tcp);
	while (!list_empty(&st->socks))
		embed_sock_free(container_of(st->socks.next, struct tcpe_sock, link));
	embed_flows_free(st);
	list_each_safe (it, &st->packets)
		free(container_of(it, struct embed_packet, link));
	timer_wheel_destroy(st->shard.timers);
	chunk_pool_destroy(st->shard.chunks);
	if (st->memory != NULL)
		munmap(st->memory, st->memory_bytes);
	free(st);
}

void embed_flush(struct tcpe_stack *st)
{
	tcp_flush(st->tcp);
}

void tcpe_packet_in(struct tcpe_stack *st, const void *ip, size_t len)
{
	if (!embed_receive(st, ip, len))
		st->invalid++;
	embed_flush(st);
}

ssize_t tcpe_packet_out(struct tcpe_stack *st, void *buf, size_t size, uint64_t *when_us)
{
	if (list_empty(&st->packets))
		return 0;
	struct embed_packet *p = container_of(st->packets.next, struct embed_packet, link);
	size_t bytes = p->bytes;
	if (bytes > size)
		return -EMSGSIZE;
	memcpy(buf, p->data, bytes);
	if (when_us != NULL)
		*when_us = p->when_us;
	list_del(&p->link);
	free(p);
	return (ssize_t)bytes;
}

uint64_t tcpe_now(const struct tcpe_stack *st)
{
	return st->shard.now_us;
}

uint64_t tcpe_next_timer(const struct tcpe_stack *st)
{
	return timer_next(st->shard.timers);
}

void tcpe_advance(struct tcpe_stack *st, uint64_t now_us)
{
	timer_advance(&st->shard, now_us);
	embed_flush(st);
}

struct ip_addr embed_ip(const struct tcpe_addr *a)
{
	struct ip_addr ip = {.family = a->family};

	memcpy(ip.byte, a->ip, a->family == 4 ? 4 : 16);
	return ip;
}

struct tcpe_addr embed_addr(const struct ip_addr *ip, uint16_t port)
{
	struct tcpe_addr a = {.family = ip->family, .port = port};

	memcpy(a.ip, ip->byte, sizeof(a.ip));
	return a;
}

bool embed_is_local(const struct tcpe_stack *st, const struct ip_addr *a)
{
	for (unsigned i = 0; i < st->config.n_local; i++) {
		struct ip_addr mine = embed_ip(&st->config.local[i]);
		if (addr_equal(&mine, a))
			return true;
	}
	return false;
}

struct stream *embed_stream(const struct tcpe_stack *st, const struct flow_key *key,
			    uint32_t *reference)
{
	*reference = stack_find(st->tcp, key, flow_hash(&st->tcp->flows, key));
	if (*reference == FLOW_NONE || (*reference & FLOW_TAGS) != 0)
		return NULL;
	return slab_at(st->tcp->streams, *reference, NULL);
}

static const enum tcpe_state outside[TCP_STATES] = {
	[TCP_CLOSED] = TCPE_CLOSED,         [TCP_SYN_SENT] = TCPE_SYN_SENT,
	[TCP_SYN_RCVD] = TCPE_SYN_RCVD,     [TCP_ESTABLISHED] = TCPE_ESTABLISHED,
	[TCP_FIN_WAIT_1] = TCPE_FIN_WAIT_1, [TCP_FIN_WAIT_2] = TCPE_FIN_WAIT_2,
	[TCP_CLOSE_WAIT] = TCPE_CLOSE_WAIT, [TCP_CLOSING] = TCPE_CLOSING,
	[TCP_LAST_ACK] = TCPE_LAST_ACK,     [TCP_TIME_WAIT] = TCPE_TIME_WAIT,
};

enum tcpe_state embed_state(const struct stream *s)
{
	return outside[s->state];
}

enum tcpe_state tcpe_lookup_state(const struct tcpe_stack *st, const struct tcpe_addr *local,
				  const struct tcpe_addr *peer)
{
	struct flow_key key = {.peer_port = peer->port, .local_port = local->port};
	struct ip_addr l = embed_ip(local), p = embed_ip(peer);
	uint32_t reference;

	flow_address(key.local, &l);
	flow_address(key.peer, &p);
	const struct stream *s = embed_stream(st, &key, &reference);
	if (s != NULL)
		return embed_state(s);
	if (reference == FLOW_NONE)
		return TCPE_CLOSED;
	return (reference & FLOW_SYN) != 0 ? TCPE_SYN_RCVD : TCPE_TIME_WAIT;
}

static unsigned count_socks(const struct tcpe_stack *st, enum tcpe_state state)
{
	unsigned n = 0;

	list_each (it, &st->socks) {
		const struct tcpe_sock *s = container_of(it, struct tcpe_sock, link);
		if (state == TCPE_LISTEN ? s->kind == SOCK_LISTENER
					 : s->kind != SOCK_LISTENER && s->stream == NULL)
			n++;
	}
	return n;
}

unsigned tcpe_count_state(const struct tcpe_stack *st, enum tcpe_state state)
{
	unsigned n = state == TCPE_TIME_WAIT ? st->tcp->time_wait.used : 0;

	if (state == TCPE_SYN_RCVD)
		n = st->tcp->syn_cache.used;
	if (state == TCPE_LISTEN || state == TCPE_CLOSED)
		return count_socks(st, state);
	for (uint32_t i = 0; i < slab_extent(st->tcp->streams); i++) {
		const struct stream *s = slab_at(st->tcp->streams, i, NULL);
		if (s != NULL && embed_state(s) == state)
			n++;
	}
	return n;
}
