/* rss.c - gives a port our key and buckets, and finds out whether it steers as we do */
#include "dataplane/net/rss.h"

#include "base/log.h"
#include "dataplane/net/internal.h"

#include <errno.h>
#include <stdlib.h>

enum { TABLE_GROUPS = 64, RSS_KEY_BYTES = 64 };

static const uint64_t tcp_flows = RTE_ETH_RSS_NONFRAG_IPV4_TCP | RTE_ETH_RSS_NONFRAG_IPV6_TCP;

static bool takes_our_steering(const struct rte_eth_dev_info *info)
{
	return (info->flow_type_rss_offloads & tcp_flows) != 0 &&
	       (info->hash_key_size == 0 || info->hash_key_size >= STEER_KEY_BYTES) &&
	       info->hash_key_size <= RSS_KEY_BYTES && info->reta_size >= STEER_BUCKETS &&
	       info->reta_size % STEER_BUCKETS == 0 &&
	       info->reta_size <= TABLE_GROUPS * RTE_ETH_RETA_GROUP_SIZE;
}

int rss_configure(const struct net *n, struct net_port *p, const struct rte_eth_dev_info *info,
		  struct rte_eth_conf *conf)
{
	if (n->n_workers == 1 || p->config.steering == NET_STEERING_SOFTWARE)
		return 0;
	if (!takes_our_steering(info))
		return p->config.steering == NET_STEERING_RSS ? -ENOTSUP : 0;
	p->rss = true;
	conf->rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
	conf->rxmode.offloads |= info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_RSS_HASH;
	conf->rx_adv_conf.rss_conf.rss_hf = info->flow_type_rss_offloads & tcp_flows;
	return 0;
}

static int set_key(const struct net *n, struct net_port *p, const struct rte_eth_dev_info *info)
{
	/* longer keys hash more than a tuple has: the rest is not used */
	uint8_t key[RSS_KEY_BYTES] = {0};
	struct rte_eth_rss_conf conf = {
		.rss_key = key,
		.rss_key_len = info->hash_key_size != 0 ? info->hash_key_size : STEER_KEY_BYTES,
		.rss_hf = info->flow_type_rss_offloads & tcp_flows,
	};

	memcpy(key, n->steer.key, STEER_KEY_BYTES);
	return rte_eth_dev_rss_hash_update(p->id, &conf);
}

static int set_table(const struct net *n, struct net_port *p, uint16_t size)
{
	struct rte_eth_rss_reta_entry64 table[TABLE_GROUPS] = {0};

	for (unsigned i = 0; i < size; i++) {
		struct rte_eth_rss_reta_entry64 *e = &table[i / RTE_ETH_RETA_GROUP_SIZE];
		e->mask |= UINT64_C(1) << i % RTE_ETH_RETA_GROUP_SIZE;
		e->reta[i % RTE_ETH_RETA_GROUP_SIZE] = (uint16_t)steer_bucket_owner(&n->steer, i);
	}
	return rte_eth_dev_rss_reta_update(p->id, table, size);
}

/* Queues are set up.  A port that refuses is not an error unless it was asked for. */
int rss_fill_table(const struct net *n, struct net_port *p)
{
	struct rte_eth_dev_info info;

	if (!p->rss)
		return 0;
	int rc = rte_eth_dev_info_get(p->id, &info);
	if (rc >= 0)
		rc = set_key(n, p, &info);
	if (rc >= 0)
		rc = set_table(n, p, info.reta_size);
	if (rc >= 0)
		return 0;
	p->rss = false;
	log_warning("net",
		    "port %s: takes neither our hash key nor our table (%s): flows are steered "
		    "in software",
		    p->config.device, strerror(-rc));
	return p->config.steering == NET_STEERING_RSS ? rc : 0;
}

static void tell(const struct net_port *p, bool six, enum rss_state state)
{
	const char *family = six ? "IPv6" : "IPv4";

	if (state == RSS_BELIEVED)
		log_info("net", "port %s: its %s hash is ours: it finds the worker of a segment",
			 p->config.device, family);
	else
		log_warning("net",
			    "port %s: its %s hash is not ours: flows are steered in software",
			    p->config.device, family);
}

unsigned rss_owner(struct net_worker *w, struct net_port *p, const struct rte_mbuf *m,
		   const struct ip_view *ip)
{
	const struct steer *s = &w->net->steer;
	bool six = ip->addr_bytes == 16;
	struct rss_trust *t = &w->trust[p - w->net->ports][six];
	/* extension headers and fragments put together: who knows what was hashed */
	bool plain = p->rss && (m->ol_flags & RTE_MBUF_F_RX_RSS_HASH) != 0 &&
		     ip->payload == ip->source + (six ? 32 : 8);

	if (w->net->n_workers == 1)
		return w->shard->index;
	if (plain && rss_skip(t))
		return steer_bucket_owner(s, m->hash.rss);
	uint32_t hash = steer_hash(s, ip->source, ip->destination, ip->addr_bytes, ip->payload);
	if (plain && t->state != RSS_WRONG) {
		bool agrees = m->hash.rss == hash;
		if (!agrees)
			net_count(w, net_rss_disagreed);
		if (rss_judge(t, agrees))
			tell(p, six, t->state);
	}
	return steer_bucket_owner(s, hash);
}
