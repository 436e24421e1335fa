/* port.c - brings DPDK ports up, and knows their addresses and routes */
#include "base/log.h"
#include "dataplane/net/internal.h"

#include <errno.h>
#include <rte_mbuf_pool_ops.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

enum { RX_DESCRIPTORS = 512, TX_DESCRIPTORS = 512, CONTROL_PACKETS = 512, SETTLED_AFTER = 32 };

COUNTER_TABLE(net, NET_COUNTERS)

static void device_name(const char *device, char *name, size_t n)
{
	unsigned a, b, c, d;
	char end;

	if (sscanf(device, "%x:%x.%x%c", &a, &b, &c, &end) == 3 &&
	    sscanf(device, "%x:%x:%x.%x", &a, &b, &c, &d) != 4)
		snprintf(name, n, "0000:%s", device);
	else
		snprintf(name, n, "%.*s", (int)strcspn(device, ","), device);
}

static int port_queues(struct net *n, struct net_port *p)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf conf = {0};
	int rc = rte_eth_dev_info_get(p->id, &info);

	if (rc < 0)
		return rc;
	conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_CHECKSUM;
	conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
	n->sums_tcp = n->sums_tcp && conf.txmode.offloads != 0;
	rc = rss_configure(n, p, &info, &conf);
	if (rc < 0)
		return rc;
	rc = rte_eth_dev_configure(p->id, (uint16_t)n->n_workers, (uint16_t)n->n_workers, &conf);
	for (uint16_t q = 0; rc >= 0 && q < n->n_workers; q++) {
		rc = rte_eth_rx_queue_setup(p->id, q, RX_DESCRIPTORS, SOCKET_ID_ANY, NULL,
					    n->packets);
		if (rc >= 0)
			rc = rte_eth_tx_queue_setup(p->id, q, TX_DESCRIPTORS, SOCKET_ID_ANY, NULL);
	}
	return rc < 0 ? rc : rss_fill_table(n, p);
}

/* Our addresses, and for IPv6 the link-local one made of the MAC (RFC 4291 appendix A). */
static void port_addresses(struct net_port *p)
{
	const struct net_port_config *c = &p->config;

	for (unsigned i = 0; i < c->n_addresses; i++) {
		p->addresses[i] = c->addresses[i];
		if (c->addresses[i].addr.family == 6) {
			p->ip6 = true;
			atomic_store(&p->address_state[i], ADDRESS_TENTATIVE);
		}
	}
	p->n_addresses = c->n_addresses;
	if (!p->ip6)
		return;
	const uint8_t *m = p->mac;
	struct net_address *a = &p->addresses[p->n_addresses];
	*a = (struct net_address){
		.addr = {.family = 6,
			 .byte = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, m[0] ^ 2, m[1], m[2], 0xff, 0xfe,
				  m[3], m[4], m[5]}},
		.prefix = 64,
	};
	atomic_store(&p->address_state[p->n_addresses++], ADDRESS_TENTATIVE);
}

static int port_start(struct net *n, struct net_port *p, char *error, size_t error_bytes)
{
	char name[64];
	uint16_t mtu = 0;
	struct rte_ether_addr mac;

	device_name(p->config.device, name, sizeof(name));
	int rc = rte_eth_dev_get_port_by_name(name, &p->id);
	if (rc < 0) {
		snprintf(error, error_bytes,
			 "dataplane.ports: %s: no such device, or no right to open it (root or "
			 "CAP_NET_RAW)",
			 p->config.device);
		return rc;
	}
	rc = port_queues(n, p);
	if (rc >= 0 && rte_eth_dev_get_mtu(p->id, &mtu) == 0 && mtu != p->config.mtu)
		rc = rte_eth_dev_set_mtu(p->id, p->config.mtu);
	if (rc >= 0)
		rc = rte_eth_dev_start(p->id);
	if (rc >= 0)
		rc = rte_eth_macaddr_get(p->id, &mac);
	if (rc == -ENOTSUP && p->config.steering == NET_STEERING_RSS) {
		snprintf(error, error_bytes,
			 "dataplane.ports: %s: steering: rss, but this port does not take our hash "
			 "key and table; use auto",
			 p->config.device);
		return rc;
	}
	if (rc < 0) {
		snprintf(error, error_bytes,
			 "dataplane.ports: %s: cannot be started with %u queues and mtu %u: %s",
			 p->config.device, n->n_workers, p->config.mtu, strerror(-rc));
		return rc;
	}
	p->started = true;
	memcpy(p->mac, mac.addr_bytes, MAC_BYTES);
	port_addresses(p);
	if (p->ip6)
		rte_eth_allmulticast_enable(p->id);
	log_info("net", "port %s: mac %02x:%02x:%02x:%02x:%02x:%02x, mtu %u, %u queues", name,
		 p->mac[0], p->mac[1], p->mac[2], p->mac[3], p->mac[4], p->mac[5], p->config.mtu,
		 n->n_workers);
	return 0;
}

/* Without hugepages a mempool keeps each object within one 4 KiB page, which would waste half of
 * it; no port of ours there does DMA, so objects may cross. */
static struct rte_mempool *pool_create(const char *name, uint32_t packets, unsigned cache)
{
	struct rte_pktmbuf_pool_private priv = {.mbuf_data_room_size = RTE_MBUF_DEFAULT_BUF_SIZE};
	unsigned flags = rte_eal_has_hugepages() ? 0 : RTE_MEMPOOL_F_NO_IOVA_CONTIG;
	struct rte_mempool *p = rte_mempool_create_empty(
		name, packets, sizeof(struct rte_mbuf) + RTE_MBUF_DEFAULT_BUF_SIZE, cache,
		sizeof(priv), SOCKET_ID_ANY, flags);

	if (p == NULL)
		return NULL;
	rte_mempool_set_ops_byname(p, rte_mbuf_best_mempool_ops(), NULL);
	rte_pktmbuf_pool_init(p, &priv);
	if (rte_mempool_populate_default(p) < 0) {
		rte_mempool_free(p);
		return NULL;
	}
	rte_mempool_obj_iter(p, rte_pktmbuf_init, NULL);
	return p;
}

static int pools_create(struct net *n, uint32_t packets)
{
	char name[32];
	uint8_t key[STEER_KEY_BYTES];

	n->packets = pool_create("packets", packets, 128);
	n->control = pool_create("control", CONTROL_PACKETS, 32);
	n->wants = ring_create(WANT_SLOTS * n->n_workers);
	if (n->packets == NULL || n->control == NULL || n->wants == NULL)
		return -ENOMEM;
	for (unsigned i = 0; i < n->n_workers; i++) {
		snprintf(name, sizeof(name), "handover%u", i);
		n->handover[i] =
			rte_ring_create(name, HANDOVER_SLOTS, SOCKET_ID_ANY, RING_F_SC_DEQ);
		if (n->handover[i] == NULL)
			return -ENOMEM;
	}
	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return -EIO;
	steer_init(&n->steer, key, n->n_workers);
	return 0;
}

int net_create(struct net **out, const struct net_config *c, char *error, size_t error_bytes)
{
	struct net *n = calloc(1, sizeof(*n));

	if (n == NULL)
		return -ENOMEM;
	n->n_ports = c->n_ports;
	n->n_workers = c->n_workers;
	n->sums_tcp = true;
	int rc = pools_create(n, c->packets);
	if (rc < 0)
		snprintf(error, error_bytes,
			 "dataplane.memory: %u packet buffers do not fit; give more memory",
			 c->packets);
	for (unsigned i = 0; rc >= 0 && i < c->n_ports; i++) {
		struct net_port *p = &n->ports[i];
		p->config = c->ports[i];
		p->neighbors = calloc(1, sizeof(*p->neighbors));
		rc = p->neighbors == NULL ? -ENOMEM : port_start(n, p, error, error_bytes);
		if (rc >= 0 && getrandom(&p->neighbors->hash_key, sizeof(p->neighbors->hash_key),
					 0) != sizeof(p->neighbors->hash_key))
			rc = -EIO;
	}
	if (rc < 0) {
		net_destroy(n);
		return rc;
	}
	*out = n;
	return 0;
}

void net_destroy(struct net *n)
{
	for (unsigned i = 0; i < n->n_ports; i++) {
		if (n->ports[i].started) {
			rte_eth_dev_stop(n->ports[i].id);
			rte_eth_dev_close(n->ports[i].id);
		}
		free(n->ports[i].neighbors);
	}
	for (unsigned i = 0; i < n->n_workers; i++)
		rte_ring_free(n->handover[i]);
	ring_destroy(n->wants);
	rte_mempool_free(n->packets);
	rte_mempool_free(n->control);
	free(n);
}

int port_address(const struct net_port *p, const uint8_t *addr, unsigned n)
{
	for (unsigned i = 0; i < p->n_addresses; i++) {
		const struct ip_addr *a = &p->addresses[i].addr;
		if (addr_bytes(a) == n && memcmp(a->byte, addr, n) == 0)
			return (int)i;
	}
	return -1;
}

bool port_answers_for(const struct net_port *p, const uint8_t *addr, unsigned n)
{
	int i = port_address(p, addr, n);

	return i >= 0 &&
	       atomic_load_explicit(&p->address_state[i], memory_order_relaxed) == ADDRESS_READY;
}

static bool on_link(const struct net_address *a, const struct ip_addr *ip)
{
	return addr_same_network(&a->addr, ip, a->prefix);
}

/* The port's address on the link of ip, or -1. */
static int address_on_link(const struct net_port *p, const struct ip_addr *ip)
{
	for (unsigned k = 0; k < p->n_addresses; k++) {
		if (on_link(&p->addresses[k], ip) &&
		    atomic_load_explicit(&p->address_state[k], memory_order_relaxed) ==
			    ADDRESS_READY)
			return (int)k;
	}
	return -1;
}

const uint8_t *port_source(const struct net_port *p, const struct ip_addr *ip)
{
	int k = address_on_link(p, ip);

	for (unsigned i = 0; k < 0 && i < p->n_addresses; i++) {
		if (p->addresses[i].addr.family == ip->family)
			k = (int)i;
	}
	return k >= 0 ? p->addresses[k].addr.byte : NULL;
}

/* The static route with the longest prefix, or NULL. */
static const struct net_route *static_route(const struct net *n, const struct ip_addr *to,
					    struct net_port **port)
{
	const struct net_route *best = NULL;

	for (unsigned i = 0; i < n->n_ports; i++) {
		const struct net_port_config *c = &n->ports[i].config;
		for (unsigned k = 0; k < c->n_routes; k++) {
			const struct net_route *r = &c->routes[k];
			if (!on_link(&r->to, to) ||
			    (best != NULL && r->to.prefix <= best->to.prefix))
				continue;
			best = r;
			*port = (struct net_port *)&n->ports[i];
		}
	}
	return best;
}

/* Directly connected first, then static routes, then the first gateway. */
struct net_port *route(const struct net *n, const struct ip_addr *to, struct ip_addr *next_hop)
{
	for (unsigned i = 0; i < n->n_ports; i++) {
		if (address_on_link(&n->ports[i], to) >= 0) {
			*next_hop = *to;
			return (struct net_port *)&n->ports[i];
		}
	}
	struct net_port *port = NULL;
	const struct net_route *r = static_route(n, to, &port);
	if (r != NULL) {
		*next_hop = r->via;
		return port;
	}
	for (unsigned i = 0; i < n->n_ports; i++) {
		const struct net_port_config *c = &n->ports[i].config;
		const struct ip_addr *gateway = to->family == 6 ? &c->gateway6 : &c->gateway4;
		if (gateway->family != 0) {
			*next_hop = *gateway;
			return (struct net_port *)&n->ports[i];
		}
	}
	return NULL;
}

bool net_sums_tcp(const struct net *n)
{
	return n->sums_tcp;
}

bool net_source_for(const struct net *n, const struct ip_addr *to, struct ip_addr *source)
{
	struct ip_addr next_hop;
	const struct net_port *p = route(n, to, &next_hop);
	const uint8_t *a = NULL;

	/* a link-local source does not reach beyond its link */
	if (p != NULL && (next_hop.family == 4 || addr_equal(to, &next_hop)))
		a = port_source(p, &next_hop);
	for (unsigned k = 0; p != NULL && a == NULL && k < p->config.n_addresses; k++) {
		if (p->config.addresses[k].addr.family == to->family)
			a = p->config.addresses[k].addr.byte;
	}
	if (a == NULL)
		return false;
	*source = addr_of(a, to->family == 6 ? 16 : 4);
	return true;
}

/* A veth peer that leaves checksums to hardware makes every segment wrong: the operator sees
 * connections that time out, so the cause and the remedy are named once. */
void port_note_checksum(struct net_port *p, bool good)
{
	if (atomic_load_explicit(&p->checksum_settled, memory_order_relaxed))
		return;
	unsigned seen = atomic_fetch_add(&p->first_segments, 1) + 1;
	unsigned bad = good ? atomic_load(&p->first_bad) : atomic_fetch_add(&p->first_bad, 1) + 1;
	const char *iface = strstr(p->config.device, "iface=");

	if (seen >= SETTLED_AFTER)
		atomic_store(&p->checksum_settled, true);
	if (bad < 3 || bad * 2 <= seen || atomic_exchange(&p->checksum_settled, true))
		return;
	iface = iface != NULL ? iface + 6 : "IFACE";
	log_error("net",
		  "port %s: %u of the first %u TCP segments have a wrong checksum: the sender "
		  "leaves checksums to hardware that this link does not have (usual on veth); run "
		  "on both ends: ethtool -K %.*s rx off tx off sg off tso off gso off gro off",
		  p->config.device, bad, seen, (int)strcspn(iface, ","), iface);
}
