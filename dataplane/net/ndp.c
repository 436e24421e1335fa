/*
 * ndp.c - neighbour discovery and duplicate address detection for IPv6, on worker 0.
 *
 * Source: RFC 4861 (sections 4.3, 4.4, 7), RFC 4862 section 5.4.  Routers are configured, so
 * router advertisements and redirects are not taken.
 */
#include "base/log.h"
#include "dataplane/net/internal.h"

enum {
	MLD_QUERY = 130, /* mld.c */
	ND_SOLICIT = 135,
	ND_ADVERTISE = 136,
	ND_BYTES = 24,       /* type to target address */
	ND_OPTION_BYTES = 8, /* a link-layer address of Ethernet */
	OPTION_SOURCE = 1,
	OPTION_TARGET = 2,
	FLAG_SOLICITED = 0x40,
	FLAG_OVERRIDE = 0x20,
	HOP_LIMIT = 255, /* proof that no router has passed it on */
};

static const uint8_t unspecified[16];
static const uint8_t all_nodes[16] = {0xff, 0x02, [15] = 1};

void ndp_solicited_node(const uint8_t address[16], uint8_t group[16])
{
	static const uint8_t prefix[13] = {0xff, 0x02, [11] = 1, [12] = 0xff};

	memcpy(group, prefix, 13);
	memcpy(group + 13, address + 13, 3);
}

/* RFC 2464 section 7 */
void ndp_group_mac(const uint8_t group[16], uint8_t mac[MAC_BYTES])
{
	mac[0] = mac[1] = 0x33;
	memcpy(mac + 2, group + 12, 4);
}

bool ndp_our_group(const struct net_port *p, const uint8_t destination[16])
{
	uint8_t group[16];

	if (memcmp(destination, all_nodes, 16) == 0)
		return true;
	for (unsigned k = 0; k < p->n_addresses; k++) {
		if (p->addresses[k].addr.family != 6)
			continue;
		ndp_solicited_node(p->addresses[k].addr.byte, group);
		if (memcmp(destination, group, 16) == 0)
			return true;
	}
	return false;
}

bool ndp_is_message(const struct ip_view *ip)
{
	return ip->addr_bytes == 16 && ip->protocol == PROTOCOL_ICMP6 && ip->payload_bytes > 0 &&
	       (ip->payload[0] == ND_SOLICIT || ip->payload[0] == ND_ADVERTISE ||
		ip->payload[0] == MLD_QUERY);
}

struct message {
	uint8_t type, flags;
	const uint8_t *source, *destination, *target;
	uint8_t option; /* 0: no link-layer address goes along */
	const uint8_t *to_mac;
};

static void nd_send(struct net_worker *w, struct net_port *p, const struct message *g)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->net->control);
	uint16_t n = ND_BYTES + (g->option != 0 ? ND_OPTION_BYTES : 0);

	if (m == NULL) {
		net_count(w, net_no_buffer);
		return;
	}
	uint8_t *ip = (uint8_t *)rte_pktmbuf_append(m, IP6_BYTES + ND_BYTES + ND_OPTION_BYTES);
	uint8_t *nd = ip + IP6_BYTES;
	rte_pktmbuf_trim(m, (uint16_t)(ND_BYTES + ND_OPTION_BYTES - n));
	ip6_build(ip, n, PROTOCOL_ICMP6, HOP_LIMIT, g->source, g->destination);
	memset(nd, 0, n);
	nd[0] = g->type;
	nd[4] = g->flags;
	memcpy(nd + 8, g->target, 16);
	if (g->option != 0) {
		nd[ND_BYTES] = g->option;
		nd[ND_BYTES + 1] = 1;
		memcpy(nd + ND_BYTES + 2, p->mac, MAC_BYTES);
	}
	write_be16(nd + 2, wire_checksum6(g->source, g->destination, PROTOCOL_ICMP6, nd, n));
	frame_output(w, p, m, g->to_mac, ETHERTYPE_IP6);
}

static void solicit(struct net_worker *w, struct net_port *p, const uint8_t *source,
		    const uint8_t target[16])
{
	uint8_t group[16], mac[MAC_BYTES];
	struct message g = {
		.type = ND_SOLICIT,
		.source = source,
		.destination = group,
		.target = target,
		.option = source == unspecified ? 0 : OPTION_SOURCE,
		.to_mac = mac,
	};

	ndp_solicited_node(target, group);
	ndp_group_mac(group, mac);
	nd_send(w, p, &g);
	net_count(w, net_nd_solicitations_out);
}

void ndp_ask(struct net_worker *w, struct net_port *p, const struct ip_addr *ip)
{
	const uint8_t *source = port_source(p, ip);

	if (source != NULL)
		solicit(w, p, source, ip->byte);
}

void ndp_detect_duplicates(struct net_worker *w, struct net_port *p, unsigned second)
{
	for (unsigned k = 0; k < p->n_addresses; k++) {
		const uint8_t *a = p->addresses[k].addr.byte;
		if (p->addresses[k].addr.family != 6 ||
		    atomic_load(&p->address_state[k]) != ADDRESS_TENTATIVE)
			continue;
		if (second == 0) {
			solicit(w, p, unspecified, a);
			continue;
		}
		uint8_t mac[MAC_BYTES];
		struct message g = {
			.type = ND_ADVERTISE,
			.flags = FLAG_OVERRIDE,
			.source = a,
			.destination = all_nodes,
			.target = a,
			.option = OPTION_TARGET,
			.to_mac = mac,
		};
		atomic_store(&p->address_state[k], ADDRESS_READY);
		ndp_group_mac(all_nodes, mac);
		nd_send(w, p, &g);
	}
}

/* The link-layer address option of the kind, or NULL; *good is false for malformed options. */
static const uint8_t *find_option(const struct ip_view *ip, uint8_t kind, bool *good)
{
	const uint8_t *found = NULL;
	uint32_t at = ND_BYTES;

	*good = true;
	while (at + 2 <= ip->payload_bytes) {
		uint32_t n = (uint32_t)ip->payload[at + 1] * 8;
		if (n == 0 || at + n > ip->payload_bytes) {
			*good = false;
			return NULL;
		}
		if (ip->payload[at] == kind && n == ND_OPTION_BYTES &&
		    (ip->payload[at + 2] & 1) == 0)
			found = ip->payload + at + 2;
		at += n;
	}
	return found;
}

static void duplicate(struct net_worker *w, struct net_port *p, int k)
{
	char text[ADDR_TEXT_BYTES];

	net_count(w, net_address_conflicts);
	if (atomic_exchange(&p->address_state[k], ADDRESS_DUPLICATE) != ADDRESS_DUPLICATE)
		log_error("net", "port %s: another host has our address %s: it is not used",
			  p->config.device, addr_text(&p->addresses[k].addr, text));
}

static void solicitation(struct net_worker *w, struct net_port *p, const struct ip_view *ip,
			 const uint8_t *mac)
{
	const uint8_t *target = ip->payload + 8;
	bool anonymous = memcmp(ip->source, unspecified, 16) == 0;
	int k = port_address(p, target, 16);
	uint8_t group[MAC_BYTES];

	if (k < 0) {
		net_count(w, net_nd_unsolicited);
		return;
	}
	net_count(w, net_nd_solicitations_in);
	if (atomic_load(&p->address_state[k]) == ADDRESS_TENTATIVE) {
		/* another host tries the same address at the same time */
		if (anonymous)
			duplicate(w, p, k);
		return;
	}
	if (atomic_load(&p->address_state[k]) == ADDRESS_DUPLICATE)
		return;
	if (!anonymous && mac != NULL) {
		struct ip_addr from = addr_of(ip->source, 16);
		resolve_learn(w, neighbor_entry(p->neighbors, &from, true), mac);
	}
	ndp_group_mac(all_nodes, group);
	struct message g = {
		.type = ND_ADVERTISE,
		.flags = anonymous ? FLAG_OVERRIDE : FLAG_OVERRIDE | FLAG_SOLICITED,
		.source = target,
		.destination = anonymous ? all_nodes : ip->source,
		.target = target,
		.option = OPTION_TARGET,
		.to_mac = anonymous || mac == NULL ? group : mac,
	};
	nd_send(w, p, &g);
}

static void advertisement(struct net_worker *w, struct net_port *p, const struct ip_view *ip,
			  const uint8_t *mac)
{
	struct ip_addr target = addr_of(ip->payload + 8, 16);
	int k = port_address(p, target.byte, 16);
	struct neighbor *n = neighbor_entry(p->neighbors, &target, false);
	uint8_t have[MAC_BYTES];

	if (k >= 0) {
		duplicate(w, p, k);
		return;
	}
	if (n == NULL || mac == NULL || neighbor_state(n) == NEIGHBOR_NONE) {
		net_count(w, net_nd_unsolicited);
		return;
	}
	/* without the override flag a known address is confirmed, not changed (section 7.2.5) */
	if (neighbor_state(n) == NEIGHBOR_REACHABLE && (ip->payload[4] & FLAG_OVERRIDE) == 0 &&
	    neighbor_get(p->neighbors, &target, have) == NEIGHBOR_REACHABLE &&
	    memcmp(have, mac, MAC_BYTES) != 0)
		return;
	net_count(w, net_nd_advertisements_in);
	resolve_learn(w, n, mac);
}

void ndp_input(struct net_worker *w, struct net_port *p, const struct ip_view *ip)
{
	bool good = ip->ttl == HOP_LIMIT && ip->payload_bytes >= ND_BYTES && ip->payload[1] == 0 &&
		    ip->payload[8] != 0xff &&
		    wire_checksum6(ip->source, ip->destination, PROTOCOL_ICMP6, ip->payload,
				   ip->payload_bytes) == 0;
	bool is_solicitation = ip->payload[0] == ND_SOLICIT, options_good = false;
	const uint8_t *mac = NULL;

	if (ip->payload[0] == MLD_QUERY) {
		mld_query(w, p, ip);
		return;
	}
	if (good)
		mac = find_option(ip, is_solicitation ? OPTION_SOURCE : OPTION_TARGET,
				  &options_good);
	if (!good || !options_good)
		net_count(w, net_nd_bad);
	else if (is_solicitation)
		solicitation(w, p, ip, mac);
	else
		advertisement(w, p, ip, mac);
}
