/* net.c - hosts, a heap of packets on their way, one clock */
#include "tests/sim/net.h"

#include "base/siphash.h"
#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/wire.h"
#include "tests/sim/check.h"
#include "tests/sim/heap.h"
#include "tests/sim/random.h"
#include "tests/sim/trace.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum { BURST_US = 300000 /* the longest */, FULL_PACKET = 1500 };

struct host {
	struct net *net;
	unsigned index;
	struct shard shard;
	struct tcp_stack *tcp;
	void *memory;
	uint64_t random;
	struct ip_addr addr;
	struct check check;
	uint64_t link_free_us, last_arrival_us;
	uint32_t burst_left;
	uint64_t burst_until_us;
	struct packet *arrived[TCP_BURST]; /* not yet given to tcp */
	unsigned n_arrived;
};

struct net {
	struct net_options o;
	uint64_t now_us, random, serial, packets, digest;
	struct host host[NET_HOSTS];
	struct heap heap;
	void (*step)(void *arg);
	void *step_arg;
	net_filter *filter;
	void *filter_arg;
};

static bool always(void *arg, const struct ip_addr *local, uint16_t local_port,
		   const struct ip_addr *peer, uint16_t peer_port)
{
	return true;
}

static uint64_t host_random(void *arg)
{
	return random_next(&((struct host *)arg)->random);
}

static bool get_buffer(void *arg, struct tcp_buffer *b, unsigned bytes, bool control)
{
	struct host *h = arg;

	assert(bytes <= h->net->o.config[h->index].mtu);
	if (random_hits(&h->net->random, h->net->o.conditions.no_buffer))
		return false;
	struct packet *p = malloc(sizeof(*p) + bytes);
	p->bytes = bytes;
	p->too_big = 0;
	b->handle = p;
	b->data = p->ip;
	return true;
}

static void drop_buffer(void *arg, struct tcp_buffer *b)
{
	free(b->handle);
}

static void put(struct net *n, struct packet *p, uint64_t when_us)
{
	p->when_us = when_us;
	p->serial = n->serial++;
	heap_push(&n->heap, p);
}

static struct packet *copy_of(const struct packet *p)
{
	struct packet *c = malloc(sizeof(*c) + p->bytes);

	memcpy(c, p, sizeof(*p) + p->bytes);
	return c;
}

static int host_of(const struct net *n, const struct ip_addr *a)
{
	for (unsigned i = 0; i < n->o.hosts; i++) {
		if (addr_equal(&n->host[i].addr, a))
			return (int)i;
	}
	return n->o.host_0_is_many ? 0 : -1;
}

/* Time on the link, or false: the queue is full. */
static bool transmit(struct host *h, const struct packet *p, uint64_t *arrival_us)
{
	const struct net_conditions *c = &h->net->o.conditions;
	uint64_t start = h->net->now_us > h->link_free_us ? h->net->now_us : h->link_free_us;

	if (c->bits_per_s != 0) {
		uint64_t us = (uint64_t)p->bytes * 8 * 1000000 / c->bits_per_s + 1;
		uint64_t full_us = FULL_PACKET * 8ull * 1000000 / c->bits_per_s + 1;
		if (start - h->net->now_us > full_us * c->queue_packets)
			return false;
		h->link_free_us = start + us;
		start += us;
	}
	*arrival_us = start + c->delay_us;
	return true;
}

static bool lost(struct host *h)
{
	const struct net_conditions *c = &h->net->o.conditions;
	uint64_t *r = &h->net->random;

	/* A bad moment of the link, not a grudge against a quiet connection. */
	if (h->burst_left > 0 && h->net->now_us < h->burst_until_us) {
		h->burst_left--;
		return true;
	}
	if (random_hits(r, c->burst_start)) {
		h->burst_left = random_below(r, c->burst_packets + 1);
		h->burst_until_us = h->net->now_us + BURST_US;
		return true;
	}
	return random_hits(r, c->loss);
}

/* Behind the MTU change: the router drops it, and perhaps says so. */
static bool too_big(struct host *h, const struct packet *p)
{
	struct net *n = h->net;
	const struct net_conditions *c = &n->o.conditions;

	if (c->path_mtu == 0 || p->bytes <= c->path_mtu ||
	    n->now_us < n->o.start_us + c->path_mtu_from_us)
		return false;
	if (!c->path_mtu_silent) {
		struct packet *report = copy_of(p);
		report->to = (int)h->index;
		report->too_big = c->path_mtu;
		put(n, report, n->now_us + c->delay_us);
	}
	return true;
}

/* As a router whose queue grows does (RFC 3168 section 5) */
static void mark(struct net *n, uint8_t *ip)
{
	bool ip4 = ip[0] >> 4 == 4;
	unsigned ecn = ip4 ? ip[1] & WIRE_ECN_MASK : ip[1] >> 4 & WIRE_ECN_MASK;

	if (ecn != 0 && random_hits(&n->random, n->o.conditions.mark))
		ip[1] |= (uint8_t)(ip4 ? WIRE_CE : WIRE_CE << 4);
}

/* Decides a packet's fate; the caller's copy is consumed. */
static void travel(struct host *h, struct packet *p)
{
	struct net *n = h->net;
	const struct net_conditions *c = &n->o.conditions;
	uint64_t arrival = n->now_us, *r = &n->random;
	const char *fate = "";

	if (n->filter != NULL && !n->filter(n->filter_arg, h->index, p->ip, p->bytes))
		fate = "filtered";
	else if (lost(h))
		fate = "lost";
	else if (too_big(h, p))
		fate = "too big";
	else if (!transmit(h, p, &arrival))
		fate = "queue full";
	if (n->o.trace)
		trace_packet(n->now_us, h->index, p->ip, p->bytes, fate);
	if (fate[0] != '\0') {
		free(p);
		return;
	}
	mark(n, p->ip);
	if (random_hits(r, c->corrupt)) {
		unsigned header = p->ip[0] >> 4 == 4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
		p->ip[header + random_below(r, p->bytes - header)] ^=
			(uint8_t)(1u << random_below(r, 8));
	}
	if (random_hits(r, c->duplicate))
		put(n, copy_of(p), arrival + random_below(r, c->delay_us + 1));
	if (random_hits(r, c->reorder)) {
		put(n, p, arrival + 1 + random_below(r, c->reorder_us + 1));
		return;
	}
	arrival += random_below(r, c->jitter_us + 1);
	if (arrival < h->last_arrival_us)
		arrival = h->last_arrival_us;
	h->last_arrival_us = arrival;
	put(n, p, arrival);
}

static void send_packet(void *arg, struct tcp_buffer *b, unsigned bytes, const struct ip_addr *to)
{
	struct host *h = arg;
	struct packet *p = b->handle;

	assert(bytes == p->bytes && p->ip == b->data);
	p->to = host_of(h->net, to);
	check_headers(p->ip, p->bytes, to);
	h->net->packets++;
	struct siphash_key key = {{h->net->digest, h->net->now_us}};
	h->net->digest = siphash(&key, p->ip, p->bytes);
	travel(h, p);
}

static void set_address(struct host *h, bool ip6)
{
	char text[32];

	snprintf(text, sizeof(text), ip6 ? "2001:db8::%u" : "10.0.0.%u", h->index + 1);
	addr_parse(text, &h->addr);
}

static void host_init(struct net *n, unsigned i)
{
	struct host *h = &n->host[i];
	struct tcp_env env = {h, get_buffer, send_packet, drop_buffer, always};

	*h = (struct host){.net = n, .index = i, .random = n->o.seed * 977 + i + 1};
	size_t bytes =
		i == 0 && n->o.chunk_bytes_of_0 > 0 ? n->o.chunk_bytes_of_0 : n->o.chunk_bytes;
	h->memory = aligned_alloc(65536, bytes);
	h->shard = (struct shard){
		.now_us = n->now_us,
		.wall_offset_us = 1700000000000000LL - (int64_t)n->now_us,
		.index = i,
		.chunks = chunk_pool_create(h->memory, bytes),
		.timers = timer_wheel_create(n->now_us),
		.random64 = host_random,
		.random_arg = h,
	};
	set_address(h, n->o.ip6);
	h->tcp = tcp_create(&h->shard, &env, &n->o.config[i]);
	assert(h->tcp != NULL);
	check_init(&h->check, h->tcp, n->o.seed);
}

void net_options_default(struct net_options *o)
{
	*o = (struct net_options){
		.seed = 1,
		.start_us = 1000000,
		.conditions = {.delay_us = 100},
		.hosts = 2,
		.chunk_bytes = 4 << 20,
	};
	for (unsigned i = 0; i < NET_HOSTS; i++)
		tcp_config_default(&o->config[i]);
}

struct net *net_create(const struct net_options *o)
{
	struct net *n = calloc(1, sizeof(*n));

	n->o = *o;
	n->o.trace = o->trace || getenv("NET_TRACE") != NULL;
	n->now_us = o->start_us;
	n->random = o->seed ^ 0x6e65740000000000; /* another sequence than the test draws from */
	for (unsigned i = 0; i < o->hosts; i++)
		host_init(n, i);
	return n;
}

void net_destroy(struct net *n)
{
	for (struct packet *p; (p = heap_pop(&n->heap)) != NULL;)
		free(p);
	heap_free(&n->heap);
	for (unsigned i = 0; i < n->o.hosts; i++) {
		struct host *h = &n->host[i];
		tcp_destroy(h->tcp);
		assert(chunk_pool_used(h->shard.chunks) == 0);
		timer_wheel_destroy(h->shard.timers);
		chunk_pool_destroy(h->shard.chunks);
		free(h->memory);
		check_free(&h->check);
	}
	free(n);
}

struct tcp_stack *net_tcp(struct net *n, unsigned host)
{
	return n->host[host].tcp;
}

struct shard *net_shard(struct net *n, unsigned host)
{
	return &n->host[host].shard;
}

struct ip_addr net_addr(const struct net *n, unsigned host)
{
	return n->host[host].addr;
}

uint64_t net_now(const struct net *n)
{
	return n->now_us;
}

uint64_t *net_random(struct net *n)
{
	return &n->random;
}

struct net_conditions *net_conditions(struct net *n)
{
	return &n->o.conditions;
}

uint64_t net_packets(const struct net *n)
{
	return n->packets;
}

uint64_t net_digest(const struct net *n)
{
	return n->digest;
}

void net_on_step(struct net *n, void (*step)(void *arg), void *arg)
{
	n->step = step;
	n->step_arg = arg;
}

void net_set_filter(struct net *n, net_filter *filter, void *arg)
{
	n->filter = filter;
	n->filter_arg = arg;
}

static void report_too_big(struct host *h, const struct packet *p, const struct tcp_packet *in)
{
	tcp_packet_too_big(h->tcp, &in->source, wire_get16(in->segment), &in->destination,
			   wire_get16(in->segment + 2), wire_get32(in->segment + 4), p->too_big);
}

static struct tcp_packet packet_of(const struct packet *p)
{
	bool ip4 = p->ip[0] >> 4 == 4;
	unsigned header = ip4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	struct tcp_packet in = {.segment = p->ip + header, .bytes = p->bytes - header};

	if (ip4) {
		in.source = addr_ip4(p->ip + 12);
		in.destination = addr_ip4(p->ip + 16);
		in.tos = p->ip[1];
	} else {
		in.source.family = in.destination.family = 6;
		in.tos = (uint8_t)(p->ip[0] << 4 | p->ip[1] >> 4);
		memcpy(in.source.byte, p->ip + 8, 16);
		memcpy(in.destination.byte, p->ip + 24, 16);
	}
	return in;
}

/* What has arrived since the last burst, in one. */
static void burst_input(struct host *h)
{
	struct tcp_packet in[TCP_BURST];
	enum tcp_verdict verdict[TCP_BURST];

	for (unsigned i = 0; i < h->n_arrived; i++)
		in[i] = packet_of(h->arrived[i]);
	if (h->n_arrived > 0)
		tcp_input_burst(h->tcp, in, h->n_arrived, verdict);
	for (unsigned i = 0; i < h->n_arrived; i++)
		free(h->arrived[i]);
	h->n_arrived = 0;
}

/* Takes p. */
static void input(struct host *h, struct packet *p)
{
	if (p->too_big != 0 || h->n_arrived == TCP_BURST)
		burst_input(h);
	if (p->too_big == 0) {
		h->arrived[h->n_arrived++] = p;
		return;
	}
	struct tcp_packet in = packet_of(p);
	report_too_big(h, p, &in);
	free(p);
}

void net_inject(struct net *n, unsigned host, const uint8_t *ip, size_t bytes)
{
	struct packet *p = malloc(sizeof(*p) + bytes);

	memcpy(p->ip, ip, bytes);
	p->bytes = (unsigned)bytes;
	p->to = (int)host;
	p->too_big = 0;
	if (n->o.trace)
		trace_packet(n->now_us, 9, p->ip, p->bytes, "injected");
	put(n, p, n->now_us);
}

static void deliver_due(struct net *n)
{
	while (n->heap.n > 0 && n->heap.packet[0]->when_us <= n->now_us) {
		struct packet *p = heap_pop(&n->heap);
		struct host *h = p->to >= 0 ? &n->host[p->to] : NULL;

		if (h == NULL) {
			free(p);
			continue;
		}
		input(h, p);
		if (!random_hits(&n->random, n->o.conditions.hold_burst)) {
			burst_input(h);
			tcp_flush(h->tcp);
		}
	}
	for (unsigned i = 0; i < NET_HOSTS; i++)
		burst_input(&n->host[i]);
}

/* What the test called since the last step becomes packets. */
static void flush_all(struct net *n)
{
	for (unsigned i = 0; i < n->o.hosts; i++)
		tcp_flush(n->host[i].tcp);
}

bool net_step(struct net *n, uint64_t until_us)
{
	uint64_t next = n->heap.n > 0 ? n->heap.packet[0]->when_us : UINT64_MAX;

	for (unsigned i = 0; i < n->o.hosts; i++) {
		uint64_t due = timer_next(n->host[i].shard.timers);
		if (due < next)
			next = due;
	}
	bool any = next <= until_us;
	if (!any)
		next = until_us;
	if (next > n->now_us)
		n->now_us = next;
	for (unsigned i = 0; i < n->o.hosts; i++) {
		timer_advance(&n->host[i].shard, n->now_us);
		tcp_flush(n->host[i].tcp);
	}
	deliver_due(n);
	flush_all(n);
	if (n->step != NULL) {
		n->step(n->step_arg);
		flush_all(n);
	}
	for (unsigned i = 0; i < n->o.hosts; i++)
		check_stack(&n->host[i].check);
	return any;
}

static bool never(void *arg)
{
	return false;
}

void net_run(struct net *n, uint64_t us)
{
	net_run_until(n, never, NULL, us);
}

bool net_run_until(struct net *n, bool (*done)(void *arg), void *arg, uint64_t us)
{
	uint64_t until = n->now_us + us;

	flush_all(n);
	while (!done(arg)) {
		if (!net_step(n, until))
			return done(arg);
	}
	return true;
}

bool net_is_quiet(struct net *n)
{
	for (unsigned i = 0; i < n->o.hosts; i++) {
		if (tcp_stream_count(n->host[i].tcp) != 0 ||
		    chunk_pool_used(n->host[i].shard.chunks) != 0)
			return false;
	}
	return true;
}
