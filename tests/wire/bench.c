/* bench.c - two workers, one ring port with two queues, one peer, one clock */
#include "tests/wire/bench.h"

#include "dataplane/net/internal.h"
#include "tests/sim/random.h"

#include <assert.h>
#include <rte_eth_ring.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	RING = 1024,
	PACKETS = 4096,
	CHUNK_BYTES = 4 << 20,
	STEP_US = 100,
	START_US = 1000000,
	SETTLE_STEPS = 30, /* duplicate address detection takes two seconds */
	SETTLE_STEP_US = 100000,
	ND_SOLICIT = 135,
	ND_BYTES = 32,
};

static const uint8_t peer_mac[MAC_BYTES] = {2, 0, 0, 0, 0, 1};

struct side {
	struct shard shard;
	void *memory;
	struct transport transport; /* of a worker */
};

struct bench {
	struct net *net;
	struct rte_ring *in[BENCH_WORKERS], *out[BENCH_WORKERS];
	struct side worker[BENCH_WORKERS], peer;
	struct tcp_stack *tcp; /* the peer's */
	uint64_t now_us, random;
	void (*frame)(void *arg, const uint8_t *data, size_t n);
	void *frame_arg;
	bench_nic *nic;
	void *nic_arg;
	uint16_t port;
};

struct ip_addr bench_address(bool peer, bool six)
{
	struct ip_addr a;

	addr_parse(six ? (peer ? "2001:db8::2" : "2001:db8::1")
		       : (peer ? "192.0.2.2" : "192.0.2.1"),
		   &a);
	return a;
}

static uint64_t draw(void *arg)
{
	return random_next(&((struct bench *)arg)->random);
}

static void start(struct bench *b)
{
	static const unsigned core[] = {0};
	struct eal_config ec = {
		.cores = core, .n_workers = 1, .bytes = 24 << 20, .hugepages = EAL_HUGE_OFF};
	struct net_config nc = {.n_ports = 1, .n_workers = BENCH_WORKERS, .packets = PACKETS};
	char error[256] = "", name[16];

	if (eal_start(&ec, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		snprintf(name, sizeof(name), "in%u", i);
		b->in[i] = rte_ring_create(name, RING, SOCKET_ID_ANY, 0);
		snprintf(name, sizeof(name), "out%u", i);
		b->out[i] = rte_ring_create(name, RING, SOCKET_ID_ANY, 0);
	}
	int port = rte_eth_from_rings("bench", b->in, BENCH_WORKERS, b->out, BENCH_WORKERS, 0);
	assert(port >= 0);
	b->port = (uint16_t)port;
	struct net_port_config *p = &nc.ports[0];
	p->device = "net_ring_bench";
	p->mtu = 1500;
	p->n_addresses = 2;
	p->addresses[0] = (struct net_address){bench_address(false, false), 24};
	p->addresses[1] = (struct net_address){bench_address(false, true), 64};
	if (net_create(&b->net, &nc, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		abort();
	}
	/* a seed replays exactly: the per-boot keys are always the same here */
	uint8_t key[STEER_KEY_BYTES];
	uint64_t random = 1;
	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)random_next(&random);
	steer_init(&b->net->steer, key, BENCH_WORKERS);
	b->net->ports[0].neighbors->hash_key = random_next(&random);
}

struct bench *bench_get(void)
{
	static struct bench *b;

	if (b == NULL) {
		b = calloc(1, sizeof(*b));
		start(b);
	}
	return b;
}

static void side_begin(struct bench *b, struct side *s, unsigned index)
{
	if (s->memory == NULL)
		s->memory = aligned_alloc(65536, CHUNK_BYTES);
	s->shard = (struct shard){
		.now_us = START_US,
		.index = index,
		.chunks = chunk_pool_create(s->memory, CHUNK_BYTES),
		.timers = timer_wheel_create(START_US),
		.random64 = draw,
		.random_arg = b,
	};
}

static void side_end(struct side *s)
{
	chunk_pool_destroy(s->shard.chunks);
	timer_wheel_destroy(s->shard.timers);
}

/* A frame of the peer: dst is our port's MAC. */
static struct rte_mbuf *frame_of(struct bench *b, const uint8_t *ip, size_t n)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(b->net->packets);
	uint8_t *e = m == NULL ? NULL : (uint8_t *)rte_pktmbuf_append(m, (uint16_t)(ETH_BYTES + n));

	if (e == NULL)
		return NULL;
	memcpy(e, b->net->ports[0].mac, MAC_BYTES);
	memcpy(e + MAC_BYTES, peer_mac, MAC_BYTES);
	write_be16(e + 12, ip[0] >> 4 == 6 ? ETHERTYPE_IP6 : ETHERTYPE_IP4);
	memcpy(e + ETH_BYTES, ip, n);
	m->port = b->port;
	return m;
}

static void put(struct bench *b, unsigned queue, struct rte_mbuf *m)
{
	if (m != NULL && rte_ring_enqueue(b->in[queue], m) != 0)
		rte_pktmbuf_free(m);
}

void bench_inject(struct bench *b, unsigned queue, const uint8_t *frame, size_t n)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(b->net->packets);
	uint8_t *e = m == NULL ? NULL : (uint8_t *)rte_pktmbuf_append(m, (uint16_t)n);

	if (e == NULL) {
		rte_pktmbuf_free(m);
		return;
	}
	memcpy(e, frame, n);
	m->port = b->port;
	put(b, queue, m);
}

static bool peer_buffer(void *arg, struct tcp_buffer *t, unsigned bytes, bool control)
{
	t->data = malloc(bytes);
	t->handle = t->data;
	return true;
}

static void peer_drop(void *arg, struct tcp_buffer *t)
{
	free(t->handle);
}

static void peer_send(void *arg, struct tcp_buffer *t, unsigned bytes, const struct ip_addr *to)
{
	struct bench *b = arg;
	struct rte_mbuf *m = frame_of(b, t->data, bytes);
	bool six = t->data[0] >> 4 == 6;
	unsigned n = six ? 16 : 4, queue = 0;
	const uint8_t *source = t->data + (six ? 8 : 12);

	if (m != NULL && b->nic != NULL)
		queue = b->nic(b->nic_arg, m, source, source + n, n,
			       t->data + (six ? IP6_BYTES : IP4_BYTES));
	put(b, queue, m);
	free(t->handle);
}

static bool peer_owns(void *arg, const struct ip_addr *local, uint16_t local_port,
		      const struct ip_addr *peer, uint16_t peer_port)
{
	return true;
}

static void arp_answer(struct bench *b, const uint8_t *frame, size_t n)
{
	struct arp_view v;
	uint8_t reply[ETH_BYTES + ARP_BYTES];
	struct ip_addr own = bench_address(true, false);

	if (!arp_parse(frame + ETH_BYTES, n - ETH_BYTES, &v) || v.operation != 1 ||
	    memcmp(v.target_ip, own.byte, 4) != 0)
		return;
	memcpy(reply, frame + MAC_BYTES, MAC_BYTES);
	memcpy(reply + MAC_BYTES, peer_mac, MAC_BYTES);
	write_be16(reply + 12, ETHERTYPE_ARP);
	arp_build(reply + ETH_BYTES, 2, peer_mac, own.byte, v.sender_mac, v.sender_ip);
	/* any queue: the answer belongs to worker 0 */
	bench_inject(b, BENCH_WORKERS - 1, reply, sizeof(reply));
}

static void nd_answer(struct bench *b, const struct ip_view *ip)
{
	uint8_t p[IP6_BYTES + ND_BYTES] = {0}, *nd = p + IP6_BYTES;
	struct ip_addr own = bench_address(true, true);

	if (memcmp(ip->payload + 8, own.byte, 16) != 0)
		return;
	ip6_build(p, ND_BYTES, PROTOCOL_ICMP6, 255, own.byte, ip->source);
	nd[0] = ND_SOLICIT + 1;
	nd[4] = 0x60;
	memcpy(nd + 8, own.byte, 16);
	nd[24] = 2;
	nd[25] = 1;
	memcpy(nd + 26, peer_mac, MAC_BYTES);
	write_be16(nd + 2, wire_checksum6(own.byte, ip->source, PROTOCOL_ICMP6, nd, ND_BYTES));
	put(b, BENCH_WORKERS - 1, frame_of(b, p, sizeof(p)));
}

static void peer_packet(struct bench *b, const struct ip_view *ip)
{
	if (ip->protocol == PROTOCOL_ICMP6 && ip->payload[0] == ND_SOLICIT)
		nd_answer(b, ip);
	if (ip->protocol != PROTOCOL_TCP)
		return;
	struct tcp_packet p = {
		.source = addr_of(ip->source, ip->addr_bytes),
		.destination = addr_of(ip->destination, ip->addr_bytes),
		.segment = ip->payload,
		.bytes = ip->payload_bytes,
		.tos = ip->tos,
	};
	tcp_input(b->tcp, &p);
}

/* What a port that sums does with a segment it is asked to. */
static void complete_sum(struct rte_mbuf *m)
{
	uint8_t *tcp = rte_pktmbuf_mtod_offset(m, uint8_t *, m->l2_len + m->l3_len);
	uint16_t n = (uint16_t)(rte_pktmbuf_data_len(m) - m->l2_len - m->l3_len);

	if ((m->ol_flags & RTE_MBUF_F_TX_TCP_CKSUM) != 0)
		write_be16(tcp + 16, wire_checksum(tcp, n));
}

/* What our port has sent. */
static void collect(struct bench *b)
{
	struct rte_mbuf *m;

	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		while (rte_ring_dequeue(b->out[i], (void **)&m) == 0) {
			const uint8_t *e = rte_pktmbuf_mtod(m, const uint8_t *);
			size_t n = rte_pktmbuf_data_len(m);
			struct eth_view v;
			struct ip_view ip;
			complete_sum(m);
			assert(eth_parse(e, n, &v));
			if (b->frame != NULL)
				b->frame(b->frame_arg, e, n);
			if (v.type == ETHERTYPE_ARP)
				arp_answer(b, e, n);
			else if (v.type == ETHERTYPE_IP4 &&
				 ip4_parse(e + ETH_BYTES, n - ETH_BYTES, false, &ip) == IP4_GOOD)
				peer_packet(b, &ip);
			else if (v.type == ETHERTYPE_IP6 &&
				 ip6_parse(e + ETH_BYTES, n - ETH_BYTES, &ip) == IP6_GOOD)
				peer_packet(b, &ip);
			rte_pktmbuf_free(m);
		}
	}
	tcp_flush(b->tcp);
}

static void drain(struct bench *b)
{
	struct rte_mbuf *m;

	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		while (rte_ring_dequeue(b->in[i], (void **)&m) == 0 ||
		       rte_ring_dequeue(b->out[i], (void **)&m) == 0 ||
		       rte_ring_dequeue(b->net->handover[i], (void **)&m) == 0)
			rte_pktmbuf_free(m);
	}
	while (ring_pop(b->net->wants) != NULL)
		continue;
}

static void port_forget(struct net_port *p)
{
	memset(p->neighbors->slots, 0, sizeof(p->neighbors->slots));
	for (unsigned i = 0; i < p->n_addresses; i++)
		atomic_store(&p->address_state[i],
			     p->addresses[i].addr.family == 6 ? ADDRESS_TENTATIVE : ADDRESS_READY);
	atomic_store(&p->first_segments, 0);
	atomic_store(&p->first_bad, 0);
	atomic_store(&p->checksum_settled, false);
	p->mld1_until_us = 0;
	p->rss = false;
}

static void step(struct bench *b, uint64_t us)
{
	b->now_us += us;
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		struct side *s = &b->worker[i];
		timer_advance(&s->shard, b->now_us);
		net_receive(s->transport.net_worker);
		tcp_flush(s->transport.tcp);
		net_transmit(s->transport.net_worker);
	}
	timer_advance(&b->peer.shard, b->now_us);
	collect(b);
}

void bench_reset(struct bench *b, uint64_t seed)
{
	struct tcp_env env = {b, peer_buffer, peer_send, peer_drop, peer_owns};
	struct tcp_config config;

	tcp_config_default(&config);
	b->random = seed;
	b->now_us = START_US;
	b->frame = NULL;
	b->nic = NULL;
	port_forget(&b->net->ports[0]);
	side_begin(b, &b->peer, 0);
	b->tcp = tcp_create(&b->peer.shard, &env, &config);
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		side_begin(b, &b->worker[i], i);
		int rc = transport_create(&b->worker[i].transport, b->net, &b->worker[i].shard,
					  &config);
		assert(rc == 0);
	}
	assert(b->tcp != NULL);
	for (unsigned i = 0; i < SETTLE_STEPS; i++)
		step(b, SETTLE_STEP_US);
}

unsigned bench_end(struct bench *b)
{
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		transport_destroy(&b->worker[i].transport);
		side_end(&b->worker[i]);
	}
	tcp_destroy(b->tcp);
	side_end(&b->peer);
	drain(b);
	return rte_mempool_in_use_count(b->net->packets) +
	       rte_mempool_in_use_count(b->net->control);
}

struct net *bench_net(struct bench *b)
{
	return b->net;
}

struct transport *bench_worker(struct bench *b, unsigned i)
{
	return &b->worker[i].transport;
}

const uint64_t *bench_net_counters(struct bench *b, unsigned i)
{
	return net_counters(b->worker[i].transport.net_worker);
}

struct tcp_stack *bench_peer(struct bench *b)
{
	return b->tcp;
}

void bench_on_frame(struct bench *b, void (*frame)(void *arg, const uint8_t *data, size_t n),
		    void *arg)
{
	b->frame = frame;
	b->frame_arg = arg;
}

void bench_set_nic(struct bench *b, bench_nic *nic, void *arg)
{
	b->nic = nic;
	b->nic_arg = arg;
}

uint64_t bench_random(struct bench *b)
{
	return random_next(&b->random);
}

void bench_run(struct bench *b, uint64_t us)
{
	for (uint64_t until = b->now_us + us; b->now_us < until;)
		step(b, STEP_US);
}

bool bench_run_until(struct bench *b, bool (*done)(void *arg), void *arg, uint64_t us)
{
	for (uint64_t until = b->now_us + us; b->now_us < until && !done(arg);)
		step(b, STEP_US);
	return done(arg);
}
