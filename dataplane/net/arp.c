/* arp.c - ARP for IPv4 (RFC 826, RFC 1122 section 2.3.2), on worker 0 */
#include "base/log.h"
#include "dataplane/net/internal.h"

static const uint8_t broadcast[MAC_BYTES] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
static const uint8_t nobody[MAC_BYTES];

static void arp_send(struct net_worker *w, struct net_port *p, uint16_t operation,
		     const uint8_t *sender_ip, const uint8_t target_mac[MAC_BYTES],
		     const uint8_t *target_ip)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(w->net->control);

	if (m == NULL) {
		net_count(w, net_no_buffer);
		return;
	}
	arp_build((uint8_t *)rte_pktmbuf_append(m, ARP_BYTES), operation, p->mac, sender_ip,
		  operation == 1 ? nobody : target_mac, target_ip);
	frame_output(w, p, m, target_mac, ETHERTYPE_ARP);
	if (operation == 1)
		net_count(w, net_arp_requests_out);
}

void arp_ask(struct net_worker *w, struct net_port *p, const struct ip_addr *ip)
{
	const uint8_t *source = port_source(p, ip);

	if (source != NULL)
		arp_send(w, p, 1, source, broadcast, ip->byte);
}

/* Gratuitous ARP: switches and hosts learn at once where our addresses are now. */
void arp_announce(struct net_worker *w, struct net_port *p)
{
	for (unsigned k = 0; k < p->n_addresses; k++) {
		const struct ip_addr *a = &p->addresses[k].addr;
		if (a->family == 4)
			arp_send(w, p, 1, a->byte, broadcast, a->byte);
	}
}

void arp_input(struct net_worker *w, struct net_port *p, const uint8_t *packet, size_t bytes)
{
	struct arp_view v;

	if (!arp_parse(packet, bytes, &v)) {
		net_count(w, net_arp_bad);
		return;
	}
	struct ip_addr sender = addr_ip4(v.sender_ip);
	bool anonymous = read_ip4(v.sender_ip) == 0;
	bool for_us = port_address(p, v.target_ip, 4) >= 0;
	if (port_address(p, v.sender_ip, 4) >= 0) {
		net_count(w, net_address_conflicts);
		if (counter_read(&w->counters[net_address_conflicts]) == 1)
			log_warning("net", "port %s: another host claims one of our addresses",
				    p->config.device);
		return;
	}
	/* RFC 826: refresh what is known; learn anew only from whoever asks for us */
	struct neighbor *n =
		anonymous ? NULL
			  : neighbor_entry(p->neighbors, &sender, for_us && v.operation == 1);
	bool known = n != NULL && (v.operation == 1 || neighbor_state(n) != NEIGHBOR_NONE);
	if (known)
		resolve_learn(w, n, v.sender_mac);
	if (v.operation == 1 && for_us) {
		net_count(w, net_arp_requests_in);
		arp_send(w, p, 2, v.target_ip, v.sender_mac, v.sender_ip);
	} else {
		net_count(w, known && v.operation == 2 ? net_arp_replies_in : net_arp_unsolicited);
	}
}
