/*
 * wire.h - link and network layer headers as they are on the wire, and checked parsing.
 *
 * Pure functions on bytes, no DPDK: the simulator and fuzzers call the same code.
 * Source: IEEE 802.3, 802.1Q; RFC 826 (ARP), 791 (IPv4), 792 (ICMP), 1071 (checksum), 8200
 * (IPv6).
 */
#ifndef DATAPLANE_NET_WIRE_H
#define DATAPLANE_NET_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
	ETH_BYTES = 14,
	VLAN_BYTES = 4,
	ARP_BYTES = 28,
	IP4_BYTES = 20,
	IP6_BYTES = 40,
	ICMP_BYTES = 8,
	MAC_BYTES = 6,
};
enum {
	ETHERTYPE_IP4 = 0x0800,
	ETHERTYPE_ARP = 0x0806,
	ETHERTYPE_VLAN = 0x8100,
	ETHERTYPE_IP6 = 0x86dd,
};
enum { PROTOCOL_ICMP = 1, PROTOCOL_TCP = 6, PROTOCOL_ICMP6 = 58 };

static inline uint16_t read_be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline void write_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* Network byte order kept: for comparing and hashing only. */
static inline uint32_t read_ip4(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}

/* RFC 1071 sum over the bytes, complemented; 0 over a header that carries a right checksum. */
uint16_t wire_checksum(const uint8_t *p, size_t n);

struct eth_view {
	const uint8_t *destination, *source;
	uint16_t type; /* after one VLAN tag */
	uint16_t vlan; /* 0: untagged or priority-tagged */
	uint16_t header_bytes;
};
/* false: too short, or more than one VLAN tag */
bool eth_parse(const uint8_t *frame, size_t n, struct eth_view *v);

enum ip4_verdict {
	IP4_GOOD,
	IP4_TRUNCATED,  /* frame shorter than the header or the total length says */
	IP4_BAD_HEADER, /* version, header length, total length < header */
	IP4_BAD_CHECKSUM,
	IP4_FRAGMENT,   /* of a larger datagram: the view says which part */
	IP4_BAD_SOURCE, /* multicast, broadcast, loopback or this-network source */
};

/* A datagram of either family. */
struct ip_view {
	const uint8_t *source, *destination; /* addr_bytes each */
	unsigned addr_bytes;                 /* 4 or 16 */
	const uint8_t *payload;
	uint32_t payload_bytes; /* by total length: Ethernet padding is not data */
	uint8_t protocol, tos, ttl;
	/* of a fragment only */
	uint32_t fragment_id, fragment_offset;
	bool fragment_more;
};
/* n may exceed the datagram (padding). */
enum ip4_verdict ip4_parse(const uint8_t *p, size_t n, bool checksum_good, struct ip_view *v);

enum ip6_verdict {
	IP6_GOOD,
	IP6_TRUNCATED,
	IP6_BAD_HEADER,      /* version, endless extension headers, hop-by-hop not first */
	IP6_BAD_OPTION,      /* an unknown option that asks for the packet to be dropped */
	IP6_ROUTED,          /* a routing header with segments left: we are no router */
	IP6_FRAGMENT,        /* the fragment header comes right behind the base header */
	IP6_FRAGMENT_BEHIND, /* behind other extension headers: not reassembled */
	IP6_BAD_SOURCE,
};
/* Walks the extension headers; n may exceed the datagram. */
enum ip6_verdict ip6_parse(const uint8_t *p, size_t n, struct ip_view *v);

/* Checksum of RFC 8200 section 8.1 over pseudo header and data; 0 when data carries a right one. */
uint16_t wire_checksum6(const uint8_t source[16], const uint8_t destination[16], uint8_t protocol,
			const uint8_t *data, size_t n);
/* Writes IP6_BYTES: no extension headers, traffic class and flow label 0. */
void ip6_build(uint8_t *p, uint16_t payload_bytes, uint8_t protocol, uint8_t hop_limit,
	       const uint8_t source[16], const uint8_t destination[16]);

struct arp_view {
	uint16_t operation; /* 1 request, 2 reply */
	const uint8_t *sender_mac, *sender_ip, *target_ip;
};
bool arp_parse(const uint8_t *p, size_t n, struct arp_view *v);
/* Writes ARP_BYTES. */
void arp_build(uint8_t *p, uint16_t operation, const uint8_t sender_mac[6],
	       const uint8_t sender_ip[4], const uint8_t target_mac[6], const uint8_t target_ip[4]);

#endif
