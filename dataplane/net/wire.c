/* wire.c - parsing that trusts no length field */
#include "dataplane/net/wire.h"

uint16_t wire_checksum(const uint8_t *p, size_t n)
{
	uint64_t sum = 0;

	for (; n >= 2; n -= 2, p += 2)
		sum += read_be16(p);
	if (n == 1)
		sum += (uint64_t)p[0] << 8;
	while (sum >> 16 != 0)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

bool eth_parse(const uint8_t *frame, size_t n, struct eth_view *v)
{
	if (n < ETH_BYTES)
		return false;
	v->destination = frame;
	v->source = frame + MAC_BYTES;
	v->type = read_be16(frame + 2 * MAC_BYTES);
	v->vlan = 0;
	v->header_bytes = ETH_BYTES;
	if (v->type != ETHERTYPE_VLAN)
		return true;
	if (n < ETH_BYTES + VLAN_BYTES)
		return false;
	v->vlan = read_be16(frame + ETH_BYTES) & 0x0fff;
	v->type = read_be16(frame + ETH_BYTES + 2);
	v->header_bytes = ETH_BYTES + VLAN_BYTES;
	return v->type != ETHERTYPE_VLAN;
}

/* RFC 1122 section 3.2.1.3: none of these can be the source of a datagram we answer. */
static bool source_possible(const uint8_t *ip)
{
	return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
}

enum ip4_verdict ip4_parse(const uint8_t *p, size_t n, bool checksum_good, struct ip_view *v)
{
	if (n < IP4_BYTES)
		return IP4_TRUNCATED;
	size_t header = (size_t)(p[0] & 15) * 4;
	size_t total = read_be16(p + 2);
	if (p[0] >> 4 != 4 || header < IP4_BYTES || total < header)
		return IP4_BAD_HEADER;
	if (total > n)
		return IP4_TRUNCATED;
	if (!checksum_good && wire_checksum(p, header) != 0)
		return IP4_BAD_CHECKSUM;
	if (!source_possible(p + 12))
		return IP4_BAD_SOURCE;
	*v = (struct ip_view){
		.source = p + 12,
		.destination = p + 16,
		.addr_bytes = 4,
		.payload = p + header,
		.payload_bytes = (uint32_t)(total - header),
		.protocol = p[9],
		.tos = p[1],
		.ttl = p[8],
	};
	uint16_t fragment = read_be16(p + 6);
	if ((fragment & 0x3fff) == 0)
		return IP4_GOOD;
	v->fragment_id = read_be16(p + 4);
	v->fragment_offset = (uint32_t)(fragment & 0x1fff) * 8;
	v->fragment_more = (fragment & 0x2000) != 0;
	return IP4_FRAGMENT;
}

bool arp_parse(const uint8_t *p, size_t n, struct arp_view *v)
{
	static const uint8_t ethernet_ip4[6] = {0, 1, 8, 0, MAC_BYTES, 4};

	if (n < ARP_BYTES || memcmp(p, ethernet_ip4, sizeof(ethernet_ip4)) != 0)
		return false;
	v->operation = read_be16(p + 6);
	v->sender_mac = p + 8;
	v->sender_ip = p + 14;
	v->target_ip = p + 24;
	/* a group address as sender would let one ARP redirect our packets to everybody */
	return (v->sender_mac[0] & 1) == 0;
}

void arp_build(uint8_t *p, uint16_t operation, const uint8_t sender_mac[6],
	       const uint8_t sender_ip[4], const uint8_t target_mac[6], const uint8_t target_ip[4])
{
	write_be16(p, 1);
	write_be16(p + 2, ETHERTYPE_IP4);
	p[4] = MAC_BYTES;
	p[5] = 4;
	write_be16(p + 6, operation);
	memcpy(p + 8, sender_mac, 6);
	memcpy(p + 14, sender_ip, 4);
	memcpy(p + 18, target_mac, 6);
	memcpy(p + 24, target_ip, 4);
}
