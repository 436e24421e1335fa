/* test_net_flows.c - two workers, one port: who gets a flow's packets, whatever queue they come
 * in by; and the groups that a switch must know of */
#include "dataplane/net/internal.h"
#include "tests/wire/bench.h"

#include <errno.h>
#include <rte_dev.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { PORT = 25, BYTES = 300000, SEEDS = 20, FLOWS = 8, SECOND = 1000000 };

/* One connection: what came at either end, and what is still to be sent. */
struct flow {
	struct stream *client;
	uint64_t sent, received_back;
	bool wrong;
};

struct scene {
	struct bench *b;
	struct flow flows[FLOWS];
	unsigned opened;
};

static uint8_t octet(uint64_t at)
{
	return (uint8_t)(at * 31 + (at >> 8));
}

static bool pump(struct stream *s, uint64_t *at, uint64_t end)
{
	uint8_t data[512];

	while (*at < end) {
		size_t n = end - *at < sizeof(data) ? (size_t)(end - *at) : sizeof(data);
		for (size_t i = 0; i < n; i++)
			data[i] = octet(*at + i);
		size_t took = stream_write(s, data, n, 0);
		*at += took;
		if (took < n)
			return false;
	}
	return true;
}

static void take_in(struct stream *s, uint64_t *at, bool *wrong)
{
	uint8_t data[512];
	size_t n;

	while ((n = stream_read(s, data, sizeof(data))) > 0) {
		for (size_t i = 0; i < n; i++)
			*wrong = *wrong || data[i] != octet(*at + i);
		*at += n;
	}
}

/* A server's connection, copied from that of its listener; it sends back what it gets. */
struct server {
	struct scene *scene;
	uint64_t received, sent;
	bool wrong;
};

static void server_opened(struct stream *s, void *user)
{
	struct server *l = user, *own = calloc(1, sizeof(*own));

	*own = *l;
	l->scene->opened++;
	stream_set_user(s, own);
}

static void server_work(struct stream *s, void *user)
{
	struct server *own = user;

	take_in(s, &own->received, &own->wrong);
	pump(s, &own->sent, own->wrong ? own->sent : own->received);
	if (stream_eof(s) && own->sent == own->received) {
		stream_close(s);
		free(own);
	}
}

static void server_closed(struct stream *s, void *user, enum stream_end why)
{
	free(user);
}

static void client_opened(struct stream *s, void *user)
{
	struct flow *f = user;

	pump(s, &f->sent, BYTES);
}

static void client_work(struct stream *s, void *user)
{
	struct flow *f = user;

	pump(s, &f->sent, BYTES);
	take_in(s, &f->received_back, &f->wrong);
	if (f->received_back == BYTES && f->client != NULL) {
		f->client = NULL;
		stream_close(s);
	}
}

static void client_closed(struct stream *s, void *user, enum stream_end why)
{
	struct flow *f = user;

	f->wrong = true;
	f->client = NULL;
}

static const struct stream_events server_events = {server_opened, server_work, server_work,
						   server_closed};
static const struct stream_events client_events = {client_opened, client_work, client_work,
						   client_closed};

static bool all_done(void *arg)
{
	struct scene *s = arg;

	for (unsigned i = 0; i < FLOWS; i++) {
		if (s->flows[i].received_back < BYTES && !s->flows[i].wrong)
			return false;
	}
	return true;
}

static void begin(struct scene *s, struct server servers[BENCH_WORKERS], uint64_t seed)
{
	*s = (struct scene){.b = bench_get()};
	bench_reset(s->b, seed);
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		servers[i] = (struct server){.scene = s};
		struct tcp_listen l = {.port = PORT, .events = &server_events, .user = &servers[i]};
		assert_int_equal(tcp_listen(bench_worker(s->b, i)->tcp, &l), 0);
	}
}

static void connect_all(struct scene *s, bool six)
{
	struct ip_addr from = bench_address(true, six), to = bench_address(false, six);

	for (unsigned i = 0; i < FLOWS; i++) {
		int err;
		s->flows[i].client = stream_connect(bench_peer(s->b), &from, &to, PORT,
						    &client_events, &s->flows[i], &err);
		assert_non_null(s->flows[i].client);
	}
}

static void expect_all_whole(struct scene *s, uint64_t seed)
{
	if (!bench_run_until(s->b, all_done, s, 60 * SECOND))
		fail_msg("seed %llu: not done", (unsigned long long)seed);
	for (unsigned i = 0; i < FLOWS; i++) {
		assert_false(s->flows[i].wrong);
		assert_int_equal(s->flows[i].received_back, BYTES);
	}
	assert_int_equal(s->opened, FLOWS);
}

static unsigned any_queue(void *arg, struct rte_mbuf *m, const uint8_t *source,
			  const uint8_t *destination, unsigned n, const uint8_t *ports)
{
	return (unsigned)(bench_random(arg) % BENCH_WORKERS);
}

static void flow_whose_packets_change_queue_at_every_packet_stays_whole(void **state)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct server servers[BENCH_WORKERS];
		struct scene s;
		begin(&s, servers, seed);
		bench_set_nic(s.b, any_queue, s.b);
		connect_all(&s, seed % 2 == 0);
		expect_all_whole(&s, seed);
		for (unsigned i = 0; i < BENCH_WORKERS; i++)
			assert_true(bench_net_counters(s.b, i)[net_handed_over] > 0);
		bench_run(s.b, 120 * SECOND);
		for (unsigned i = 0; i < BENCH_WORKERS; i++)
			assert_int_equal(tcp_stream_count(bench_worker(s.b, i)->tcp), 0);
		assert_int_equal(bench_end(s.b), 0);
	}
}

/* A NIC that moves every flow to another queue half-way, as a rebalanced table does. */
struct mover {
	struct bench *b;
	uint64_t packets;
};

static unsigned moved_queue(void *arg, struct rte_mbuf *m, const uint8_t *source,
			    const uint8_t *destination, unsigned n, const uint8_t *ports)
{
	struct mover *v = arg;

	v->packets++;
	return v->packets / 400 % BENCH_WORKERS;
}

static void flows_survive_a_port_that_moves_all_of_them(void **state)
{
	struct server servers[BENCH_WORKERS];
	struct scene s;

	begin(&s, servers, 7);
	struct mover v = {.b = s.b};
	bench_set_nic(s.b, moved_queue, &v);
	connect_all(&s, false);
	expect_all_whole(&s, 7);
	assert_true(v.packets > 1600);
	bench_run(s.b, 120 * SECOND);
	assert_int_equal(bench_end(s.b), 0);
}

/* A NIC with RSS: how it hashes and steers is the test's to say. */
struct nic {
	struct net *net;
	bool other_key, other_queue;
};

static unsigned rss_queue(void *arg, struct rte_mbuf *m, const uint8_t *source,
			  const uint8_t *destination, unsigned n, const uint8_t *ports)
{
	struct nic *c = arg;
	uint32_t hash = steer_hash(&c->net->steer, source, destination, n, ports);
	unsigned owner = steer_bucket_owner(&c->net->steer, hash);

	m->ol_flags |= RTE_MBUF_F_RX_RSS_HASH;
	m->hash.rss = c->other_key ? hash * 2654435761u + 1 : hash;
	return c->other_queue ? (owner + 1) % BENCH_WORKERS : owner;
}

static void run_with(struct nic *nic, uint64_t counts[BENCH_WORKERS][2],
		     enum rss_state states[BENCH_WORKERS])
{
	struct server servers[BENCH_WORKERS];
	struct scene s;

	begin(&s, servers, 11);
	nic->net = bench_net(s.b);
	nic->net->ports[0].rss = true;
	bench_set_nic(s.b, rss_queue, nic);
	connect_all(&s, false);
	expect_all_whole(&s, 11);
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		counts[i][0] = bench_net_counters(s.b, i)[net_handed_over];
		counts[i][1] = bench_net_counters(s.b, i)[net_rss_disagreed];
		states[i] = bench_worker(s.b, i)->net_worker->trust[0][0].state;
	}
	bench_run(s.b, 120 * SECOND);
	assert_int_equal(bench_end(s.b), 0);
}

static void port_whose_hash_is_ours_is_believed_and_delivers_straight(void **state)
{
	struct nic nic = {0};
	uint64_t counts[BENCH_WORKERS][2];
	enum rss_state states[BENCH_WORKERS];

	run_with(&nic, counts, states);
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		assert_int_equal(states[i], RSS_BELIEVED);
		assert_int_equal(counts[i][1], 0);
	}
	/* the peer's ARP answer is the only packet that changes hands */
	assert_true(counts[0][0] + counts[1][0] <= 2);
}

static void port_with_another_key_is_not_believed(void **state)
{
	struct nic nic = {.other_key = true};
	uint64_t counts[BENCH_WORKERS][2];
	enum rss_state states[BENCH_WORKERS];

	run_with(&nic, counts, states);
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		assert_int_equal(states[i], RSS_WRONG);
		assert_int_equal(counts[i][1], 1);
	}
}

static void port_with_another_table_hands_over_by_its_hash_and_loses_nothing(void **state)
{
	struct nic nic = {.other_queue = true};
	uint64_t counts[BENCH_WORKERS][2];
	enum rss_state states[BENCH_WORKERS];

	run_with(&nic, counts, states);
	for (unsigned i = 0; i < BENCH_WORKERS; i++) {
		assert_int_equal(states[i], RSS_BELIEVED);
		assert_true(counts[i][0] > 100);
	}
}

static void believed_port_is_looked_at_again_and_found_out(void **state)
{
	struct rss_trust t = {0};
	unsigned skipped = 0;

	for (unsigned i = 0; i < RSS_PROOFS; i++)
		assert_true(!rss_skip(&t) && rss_judge(&t, true) == (i == RSS_PROOFS - 1));
	assert_int_equal(t.state, RSS_BELIEVED);
	while (rss_skip(&t))
		skipped++;
	assert_true(skipped < RSS_CHECK_EVERY);
	assert_true(rss_judge(&t, false));
	assert_int_equal(t.state, RSS_WRONG);
	assert_false(rss_skip(&t));
}

static void port_that_can_is_given_our_key_and_our_buckets(void **state)
{
	struct net *n = bench_net(bench_get());
	struct net_port p = {.config = {.device = "net_null_rss"}};
	struct rte_eth_rss_reta_entry64 table[8] = {0};
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	uint8_t key[64];
	struct rte_eth_rss_conf got = {.rss_key = key, .rss_key_len = sizeof(key)};

	assert_int_equal(rte_eal_hotplug_add("vdev", "net_null_rss", ""), 0);
	assert_int_equal(rte_eth_dev_get_port_by_name("net_null_rss", &p.id), 0);
	rte_eth_dev_info_get(p.id, &info);
	assert_int_equal(rss_configure(n, &p, &info, &conf), 0);
	assert_true(p.rss);
	assert_int_equal(conf.rxmode.mq_mode, RTE_ETH_MQ_RX_RSS);
	assert_int_equal(rte_eth_dev_configure(p.id, BENCH_WORKERS, BENCH_WORKERS, &conf), 0);
	assert_int_equal(rss_fill_table(n, &p), 0);
	assert_true(p.rss);
	assert_int_equal(rte_eth_dev_rss_hash_conf_get(p.id, &got), 0);
	assert_memory_equal(key, n->steer.key, STEER_KEY_BYTES);
	for (unsigned i = 0; i < 8; i++)
		table[i].mask = UINT64_MAX;
	assert_int_equal(rte_eth_dev_rss_reta_query(p.id, table, info.reta_size), 0);
	for (unsigned i = 0; i < info.reta_size; i++)
		assert_int_equal(table[i / 64].reta[i % 64], steer_bucket_owner(&n->steer, i));
	rte_eth_dev_close(p.id);
}

static void port_that_cannot_is_refused_only_when_rss_is_demanded(void **state)
{
	struct net *n = bench_net(bench_get());
	struct net_port p = {.config = {.device = "test", .steering = NET_STEERING_AUTO}};
	struct rte_eth_dev_info info = {.reta_size = 64, .hash_key_size = 40};
	struct rte_eth_conf conf = {0};

	assert_int_equal(rss_configure(n, &p, &info, &conf), 0);
	assert_false(p.rss);
	p.config.steering = NET_STEERING_RSS;
	assert_int_equal(rss_configure(n, &p, &info, &conf), -ENOTSUP);
	p.config.steering = NET_STEERING_SOFTWARE;
	info = (struct rte_eth_dev_info){.reta_size = 128,
					 .hash_key_size = 40,
					 .flow_type_rss_offloads = RTE_ETH_RSS_NONFRAG_IPV4_TCP};
	assert_int_equal(rss_configure(n, &p, &info, &conf), 0);
	assert_false(p.rss);
}

static void port_that_sums_gets_segments_it_can_complete(void **state)
{
	for (unsigned six = 0; six < 2; six++) {
		struct server servers[BENCH_WORKERS];
		struct scene s;
		bench_net(bench_get())->sums_tcp = true;
		begin(&s, servers, 21);
		connect_all(&s, six == 1);
		expect_all_whole(&s, 21);
		bench_run(s.b, 120 * SECOND);
		assert_int_equal(bench_end(s.b), 0);
		bench_net(bench_get())->sums_tcp = false;
	}
}

/* What leaves about multicast groups. */
struct heard {
	unsigned reports, reports1, records;
	uint8_t source[16], kinds;
	bool good;
};

static void hear(void *arg, const uint8_t *e, size_t n)
{
	struct heard *h = arg;
	const uint8_t *ip = e + ETH_BYTES, *icmp = ip + IP6_BYTES + 8;

	if (e[12] != 0x86 || ip[6] != 0 || icmp[0] < 131)
		return;
	size_t bytes = n - ETH_BYTES - IP6_BYTES - 8;
	h->good = ip[7] == 1 && ip[IP6_BYTES] == PROTOCOL_ICMP6 && ip[IP6_BYTES + 2] == 5 &&
		  wire_checksum6(ip + 8, ip + 24, PROTOCOL_ICMP6, icmp, bytes) == 0 &&
		  e[0] == 0x33 && e[1] == 0x33 && memcmp(e + 2, ip + 36, 4) == 0;
	memcpy(h->source, ip + 8, 16);
	if (icmp[0] == 131) {
		h->reports1++;
		return;
	}
	h->reports++;
	h->records = read_be16(icmp + 6);
	h->kinds = icmp[8];
	h->good = h->good && bytes == 8 + h->records * 20u && icmp[8 + 4] == 0xff &&
		  icmp[8 + 4 + 1] == 2;
}

/* A query with n octets of ICMPv6 from fe80::99. */
static void query(struct bench *b, size_t n, uint8_t hop_limit, uint8_t first)
{
	uint8_t f[ETH_BYTES + IP6_BYTES + 28] = {0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9};
	uint8_t *ip = f + ETH_BYTES, *icmp = ip + IP6_BYTES;
	uint8_t from[16] = {first, 0x80, [15] = 0x99}, all[16] = {0xff, 2, [15] = 1};

	write_be16(f + 12, ETHERTYPE_IP6);
	ip6_build(ip, (uint16_t)n, PROTOCOL_ICMP6, hop_limit, from, all);
	icmp[0] = 130;
	write_be16(icmp + 4, 1000);
	write_be16(icmp + 2, wire_checksum6(from, all, PROTOCOL_ICMP6, icmp, n));
	bench_inject(b, 1, f, ETH_BYTES + IP6_BYTES + n);
}

static void groups_are_reported_when_asked_within_the_delay(void **state)
{
	struct bench *b = bench_get();
	struct heard h = {0};

	bench_reset(b, 3);
	bench_on_frame(b, hear, &h);
	query(b, 28, 1, 0xfe);
	bench_run(b, 1100000);
	assert_int_equal(h.reports, 1);
	assert_true(h.good);
	assert_int_equal(h.kinds, 2);
	/* two addresses, two groups: ::1 and the link-local one */
	assert_int_equal(h.records, 2);
	assert_int_equal(h.source[0], 0xfe);
	assert_int_equal(bench_end(b), 0);
}

static void old_queriers_get_old_reports(void **state)
{
	struct bench *b = bench_get();
	struct heard h = {0};

	bench_reset(b, 4);
	bench_on_frame(b, hear, &h);
	query(b, 24, 1, 0xfe);
	bench_run(b, 1100000);
	assert_int_equal(h.reports, 0);
	assert_int_equal(h.reports1, 2);
	assert_true(h.good);
	assert_int_equal(bench_end(b), 0);
}

static void queries_that_crossed_a_router_are_refused(void **state)
{
	struct bench *b = bench_get();
	struct heard h = {0};

	bench_reset(b, 5);
	bench_on_frame(b, hear, &h);
	query(b, 28, 64, 0xfe);
	query(b, 28, 1, 0x20);
	query(b, 26, 1, 0xfe);
	bench_run(b, 1100000);
	assert_int_equal(h.reports + h.reports1, 0);
	assert_int_equal(bench_net_counters(b, 0)[net_nd_bad], 3);
	assert_int_equal(bench_end(b), 0);
}

static void report_before_the_address_is_ours_has_no_source(void **state)
{
	struct bench *b = bench_get();
	struct heard h = {0};
	static const uint8_t none[16];

	bench_reset(b, 6);
	struct net_worker *w = bench_worker(b, 0)->net_worker;
	bench_on_frame(b, hear, &h);
	for (unsigned i = 0; i < w->net->ports[0].n_addresses; i++)
		atomic_store(&w->net->ports[0].address_state[i], ADDRESS_TENTATIVE);
	mld_report(w, &w->net->ports[0], true);
	bench_run(b, 1000);
	assert_int_equal(h.reports, 1);
	assert_int_equal(h.kinds, 4);
	assert_true(h.good);
	assert_memory_equal(h.source, none, 16);
	assert_int_equal(bench_end(b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flow_whose_packets_change_queue_at_every_packet_stays_whole),
		cmocka_unit_test(flows_survive_a_port_that_moves_all_of_them),
		cmocka_unit_test(port_whose_hash_is_ours_is_believed_and_delivers_straight),
		cmocka_unit_test(port_with_another_key_is_not_believed),
		cmocka_unit_test(port_with_another_table_hands_over_by_its_hash_and_loses_nothing),
		cmocka_unit_test(believed_port_is_looked_at_again_and_found_out),
		cmocka_unit_test(port_that_can_is_given_our_key_and_our_buckets),
		cmocka_unit_test(port_that_cannot_is_refused_only_when_rss_is_demanded),
		cmocka_unit_test(port_that_sums_gets_segments_it_can_complete),
		cmocka_unit_test(groups_are_reported_when_asked_within_the_delay),
		cmocka_unit_test(old_queriers_get_old_reports),
		cmocka_unit_test(queries_that_crossed_a_router_are_refused),
		cmocka_unit_test(report_before_the_address_is_ours_has_no_source),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
