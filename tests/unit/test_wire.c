/* test_wire.c - link and network headers: what is taken, what is refused, who owns a flow */
#include "dataplane/net/neighbor.h"
#include "dataplane/net/reassembly.h"
#include "dataplane/net/steer.h"
#include "dataplane/net/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint8_t good_ip4[28] = {
	0x45, 0x00, 0x00, 0x1c, 0x12, 0x34, 0x40, 0x00, 0x40, 0x06, 0x00, 0x00, 192, 0,
	2,    1,    192,  0,    2,    10,   1,    2,    3,    4,    5,    6,    7,   8,
};

static void seal(uint8_t *p)
{
	write_be16(p + 10, 0);
	write_be16(p + 10, wire_checksum(p, (size_t)(p[0] & 15) * 4));
}

static void checksum_gives_the_example_of_rfc_1071(void **state)
{
	const uint8_t data[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};

	assert_int_equal(wire_checksum(data, sizeof(data)), (uint16_t)~0xddf2);
	assert_int_equal(wire_checksum(data, 1), 0xffff);
}

static void good_datagram_is_taken_and_padding_is_not_data(void **state)
{
	uint8_t p[60] = {0};
	struct ip_view v;

	memcpy(p, good_ip4, sizeof(good_ip4));
	seal(p);
	assert_int_equal(ip4_parse(p, sizeof(p), false, &v), IP4_GOOD);
	assert_int_equal(v.payload_bytes, 8);
	assert_int_equal(v.protocol, PROTOCOL_TCP);
	assert_memory_equal(v.source, good_ip4 + 12, 4);
}

static void impossible_datagrams_are_refused(void **state)
{
	static const struct {
		size_t at;
		uint8_t value;
		enum ip4_verdict verdict;
	} cases[] = {
		{0, 0x55, IP4_BAD_HEADER}, /* version 5 */
		{0, 0x44, IP4_BAD_HEADER}, /* header of 16 bytes */
		{3, 0x13, IP4_BAD_HEADER}, /* total length 19 */
		{3, 0x1d, IP4_TRUNCATED},  /* one byte more than there is */
		{6, 0x20, IP4_FRAGMENT},   /* more fragments */
		{7, 0x01, IP4_FRAGMENT},   /* an offset */
		{12, 0, IP4_BAD_SOURCE},   {12, 127, IP4_BAD_SOURCE},
		{12, 224, IP4_BAD_SOURCE}, {12, 255, IP4_BAD_SOURCE},
	};
	struct ip_view v;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t p[28];
		memcpy(p, good_ip4, sizeof(p));
		p[cases[i].at] = cases[i].value;
		seal(p);
		assert_int_equal(ip4_parse(p, sizeof(p), false, &v), cases[i].verdict);
	}
}

static void every_wrong_bit_of_a_header_is_noticed(void **state)
{
	struct ip_view v;

	for (unsigned bit = 0; bit < 160; bit++) {
		uint8_t p[28];
		memcpy(p, good_ip4, sizeof(p));
		seal(p);
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_not_equal(ip4_parse(p, sizeof(p), false, &v), IP4_GOOD);
	}
}

static void datagram_cut_at_any_length_is_truncated(void **state)
{
	uint8_t p[28];
	struct ip_view v;

	memcpy(p, good_ip4, sizeof(p));
	seal(p);
	for (size_t n = 0; n < sizeof(p); n++) {
		uint8_t *exact = malloc(n + 1);
		memcpy(exact, p, n);
		assert_int_equal(ip4_parse(exact, n, false, &v), IP4_TRUNCATED);
		free(exact);
	}
}

static void one_vlan_tag_is_read_and_two_are_refused(void **state)
{
	uint8_t f[60] = {0};
	struct eth_view v;

	write_be16(f + 12, ETHERTYPE_IP4);
	assert_true(eth_parse(f, sizeof(f), &v));
	assert_int_equal(v.vlan, 0);
	assert_int_equal(v.header_bytes, 14);
	write_be16(f + 12, ETHERTYPE_VLAN);
	write_be16(f + 14, 0xe064);
	write_be16(f + 16, ETHERTYPE_ARP);
	assert_true(eth_parse(f, sizeof(f), &v));
	assert_int_equal(v.vlan, 100);
	assert_int_equal(v.type, ETHERTYPE_ARP);
	assert_false(eth_parse(f, 17, &v));
	write_be16(f + 16, ETHERTYPE_VLAN);
	assert_false(eth_parse(f, sizeof(f), &v));
}

static void arp_is_built_as_it_is_parsed(void **state)
{
	const uint8_t mac[6] = {2, 1, 2, 3, 4, 5}, other[6] = {2, 9, 9, 9, 9, 9};
	const uint8_t ip[4] = {192, 0, 2, 10}, peer[4] = {192, 0, 2, 1};
	uint8_t p[ARP_BYTES];
	struct arp_view v;

	arp_build(p, 2, mac, ip, other, peer);
	assert_true(arp_parse(p, sizeof(p), &v));
	assert_int_equal(v.operation, 2);
	assert_memory_equal(v.sender_mac, mac, 6);
	assert_memory_equal(v.target_ip, peer, 4);
	assert_false(arp_parse(p, sizeof(p) - 1, &v));
	p[8] |= 1; /* a group address as sender */
	assert_false(arp_parse(p, sizeof(p), &v));
}

static void steering_gives_the_published_toeplitz_vectors(void **state)
{
	static const uint8_t key[STEER_KEY_BYTES] = {
		0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
		0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
		0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
	static const struct {
		uint8_t source[4], destination[4];
		uint16_t ports[2];
		uint32_t hash;
	} vectors[] = {
		{{66, 9, 149, 187}, {161, 142, 100, 80}, {2794, 1766}, 0x51ccc178},
		{{199, 92, 111, 2}, {65, 69, 140, 83}, {14230, 4739}, 0xc626b0ea},
		{{24, 19, 198, 95}, {12, 22, 207, 184}, {12898, 38024}, 0x5c2b394a},
	};
	static struct steer s;

	steer_init(&s, key, 2);
	for (unsigned i = 0; i < 3; i++) {
		uint8_t ports[4];
		write_be16(ports, vectors[i].ports[0]);
		write_be16(ports + 2, vectors[i].ports[1]);
		assert_int_equal(
			steer_hash(&s, vectors[i].source, vectors[i].destination, 4, ports),
			vectors[i].hash);
	}
}

static void flows_spread_over_the_workers(void **state)
{
	static struct steer s;
	uint8_t key[STEER_KEY_BYTES], ours[4] = {192, 0, 2, 10}, peer[4] = {192, 0, 2, 1};
	unsigned count[3] = {0};

	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 73 + 11);
	steer_init(&s, key, 3);
	for (unsigned port = 1024; port < 4024; port++) {
		uint8_t ports[4] = {(uint8_t)(port >> 8), (uint8_t)port, 465 >> 8, 465 & 255};
		count[steer_owner(&s, peer, ours, 4, ports)]++;
	}
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(count[i], 700, 1300);
}

/* The published verification suite for IPv6 as well. */
static void steering_gives_the_published_vector_for_ip6(void **state)
{
	static const uint8_t key[STEER_KEY_BYTES] = {
		0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
		0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
		0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
	static struct steer s;
	struct ip_addr source, destination;
	uint8_t ports[4];

	assert_true(addr_parse("3ffe:2501:200:1fff::7", &source));
	assert_true(addr_parse("3ffe:2501:200:3::1", &destination));
	write_be16(ports, 2794);
	write_be16(ports + 2, 1766);
	steer_init(&s, key, 2);
	assert_int_equal(steer_hash(&s, source.byte, destination.byte, 16, ports), 0x40207d3d);
}

static struct ip_addr address(const char *text)
{
	struct ip_addr a;

	assert_true(addr_parse(text, &a));
	return a;
}

static void neighbors_are_found_until_a_flood_replaces_the_stalest(void **state)
{
	struct neighbor_table *t = calloc(1, sizeof(*t));
	const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	struct ip_addr four = address("10.0.0.1"), six = address("2001:db8::1"), back;
	uint8_t got[6];

	t->hash_key = 12345;
	assert_int_equal(neighbor_get(t, &four, got), NEIGHBOR_NONE);
	const struct ip_addr *both[] = {&four, &six};
	for (unsigned i = 0; i < 2; i++) {
		struct neighbor *n = neighbor_entry(t, both[i], true);
		neighbor_set(n, NEIGHBOR_REACHABLE, mac);
		n->changed_us = 1000000000;
		assert_true(neighbor_address(n, &back));
		assert_true(addr_equal(&back, both[i]));
	}
	/* older entries give way, these two are the freshest of their neighbourhood */
	for (uint32_t i = 0; i < 20000; i++) {
		struct ip_addr flood = six;
		memcpy(flood.byte + 8, &i, 4);
		flood.byte[15] = 99;
		struct neighbor *m = neighbor_entry(t, &flood, true);
		neighbor_set(m, NEIGHBOR_WANTED, NULL);
		m->changed_us = i + 1;
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(neighbor_get(t, both[i], got), NEIGHBOR_REACHABLE);
		assert_memory_equal(got, mac, 6);
	}
	free(t);
}

/* An IPv6 datagram with the given bytes behind its base header. */
static size_t ip6_with(uint8_t *p, uint8_t next, const uint8_t *rest, size_t n)
{
	struct ip_addr source = address("2001:db8::1"), destination = address("2001:db8::10");

	ip6_build(p, (uint16_t)n, next, 64, source.byte, destination.byte);
	memcpy(p + IP6_BYTES, rest, n);
	return IP6_BYTES + n;
}

static void extension_headers_are_walked_to_the_payload(void **state)
{
	static const uint8_t rest[] = {
		60, 0, 1,  4, 0, 0, 0, 0, /* hop-by-hop: PadN */
		43, 0, 5,  2, 0, 0, 0, 0, /* destination: a router alert's bytes, option 5 */
		6,  0, 99, 0, 0, 0, 0, 0, /* routing, no segment left */
		1,  2, 3,  4, 5, 6, 7, 8, /* payload */
	};
	uint8_t p[128];
	struct ip_view v;
	size_t n = ip6_with(p, 0, rest, sizeof(rest));

	assert_int_equal(ip6_parse(p, sizeof(p), &v), IP6_GOOD);
	assert_int_equal(v.protocol, PROTOCOL_TCP);
	assert_int_equal(v.payload_bytes, 8);
	assert_int_equal(v.payload[0], 1);
	for (size_t cut = 0; cut < n; cut++) {
		uint8_t *exact = malloc(cut + 1);
		memcpy(exact, p, cut);
		assert_int_equal(ip6_parse(exact, cut, &v), IP6_TRUNCATED);
		free(exact);
	}
}

static void hostile_extension_headers_are_refused(void **state)
{
	static const struct {
		uint8_t next, rest[16];
		enum ip6_verdict verdict;
	} cases[] = {
		{60, {6, 0, 0x40, 4}, IP6_BAD_OPTION}, /* unknown: discard */
		{60, {6, 0, 0x80, 4}, IP6_BAD_OPTION}, /* unknown: discard and tell */
		{60, {6, 0, 1, 9}, IP6_BAD_OPTION},    /* an option beyond its header */
		{60, {6, 9}, IP6_TRUNCATED},           /* a header beyond the packet */
		{60, {0, 0, 1, 4}, IP6_BAD_HEADER},    /* hop-by-hop is not first */
		{43, {6, 0, 0, 1}, IP6_ROUTED},        /* a segment is left */
		{44, {6, 0, 0, 1, 0, 0, 0, 7}, IP6_FRAGMENT},
		{44, {6, 0, 0, 0, 0, 0, 0, 7}, IP6_GOOD}, /* atomic (RFC 6946) */
		{60, {44, 0, 1, 4, 0, 0, 0, 0, 6, 0, 0, 1, 0, 0, 0, 7}, IP6_FRAGMENT_BEHIND},
	};
	uint8_t p[128];
	struct ip_view v;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ip6_with(p, cases[i].next, cases[i].rest, 16);
		assert_int_equal(ip6_parse(p, sizeof(p), &v), cases[i].verdict);
	}
	/* a chain without end */
	uint8_t chain[200];
	for (unsigned k = 0; k < sizeof(chain); k += 8)
		memcpy(chain + k, (const uint8_t[]){60, 0, 1, 4, 0, 0, 0, 0}, 8);
	uint8_t q[256];
	ip6_with(q, 60, chain, sizeof(chain));
	assert_int_equal(ip6_parse(q, sizeof(q), &v), IP6_BAD_HEADER);
}

static void checksum6_covers_the_pseudo_header(void **state)
{
	struct ip_addr a = address("2001:db8::1"), b = address("2001:db8::2");
	uint8_t data[9] = {128, 0, 0, 0, 1, 2, 3, 4, 5};

	write_be16(data + 2, wire_checksum6(a.byte, b.byte, PROTOCOL_ICMP6, data, sizeof(data)));
	assert_int_equal(wire_checksum6(a.byte, b.byte, PROTOCOL_ICMP6, data, sizeof(data)), 0);
	assert_int_not_equal(wire_checksum6(a.byte, b.byte, PROTOCOL_TCP, data, sizeof(data)), 0);
	b.byte[15]++;
	assert_int_not_equal(wire_checksum6(a.byte, b.byte, PROTOCOL_ICMP6, data, sizeof(data)), 0);
}

static uint8_t datagram[REASSEMBLY_BYTES];

static enum reassembly_verdict part(struct reassembly *r, struct ip_view *v, uint32_t id,
				    uint32_t from, uint32_t n, bool more, uint64_t now_us)
{
	static const uint8_t source[4] = {192, 0, 2, 1}, destination[4] = {192, 0, 2, 10};

	*v = (struct ip_view){
		.source = source,
		.destination = destination,
		.addr_bytes = 4,
		.payload = datagram + from % REASSEMBLY_BYTES,
		.payload_bytes = n,
		.protocol = PROTOCOL_TCP,
		.fragment_id = id,
		.fragment_offset = from,
		.fragment_more = more,
	};
	return reassembly_add(r, v, now_us);
}

static void fragments_in_any_order_make_the_datagram(void **state)
{
	static const unsigned orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
					      {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
	static const uint32_t from[3] = {0, 800, 1600}, bytes[3] = {800, 800, 77};
	struct reassembly *r = calloc(1, sizeof(*r));
	struct ip_view v;

	for (unsigned i = 0; i < sizeof(datagram); i++)
		datagram[i] = (uint8_t)(i * 31 + i / 256);
	for (unsigned o = 0; o < 6; o++) {
		for (unsigned k = 0; k < 3; k++) {
			unsigned f = orders[o][k];
			enum reassembly_verdict want = k == 2 ? REASSEMBLY_WHOLE : REASSEMBLY_WAITS;
			assert_int_equal(part(r, &v, o, from[f], bytes[f], f < 2, 1000), want);
		}
		assert_int_equal(v.payload_bytes, 1677);
		assert_memory_equal(v.payload, datagram, 1677);
	}
	free(r);
}

static void any_overlap_drops_the_datagram_and_what_follows(void **state)
{
	struct reassembly *r = calloc(1, sizeof(*r));
	struct ip_view v;

	assert_int_equal(part(r, &v, 1, 0, 800, true, 1), REASSEMBLY_WAITS);
	assert_int_equal(part(r, &v, 1, 792, 800, true, 1), REASSEMBLY_OVERLAP);
	assert_int_equal(part(r, &v, 1, 800, 8, false, 1), REASSEMBLY_OVERLAP);
	/* two ends that differ, data behind the end */
	assert_int_equal(part(r, &v, 2, 80, 8, false, 1), REASSEMBLY_WAITS);
	assert_int_equal(part(r, &v, 2, 88, 8, true, 1), REASSEMBLY_OVERLAP);
	assert_int_equal(part(r, &v, 3, 160, 8, true, 1), REASSEMBLY_WAITS);
	assert_int_equal(part(r, &v, 3, 80, 8, false, 1), REASSEMBLY_OVERLAP);
	free(r);
}

static void reassembly_costs_fixed_memory_whatever_comes(void **state)
{
	struct reassembly *r = calloc(1, sizeof(*r));
	struct ip_view v;

	assert_int_equal(part(r, &v, 1, 0, 0, true, 1), REASSEMBLY_BAD);
	assert_int_equal(part(r, &v, 1, 0, 9, true, 1), REASSEMBLY_BAD);
	v.payload = datagram;
	assert_int_equal(part(r, &v, 1, REASSEMBLY_BYTES - 8, 16, true, 1), REASSEMBLY_BAD);
	assert_int_equal(part(r, &v, 1, 65528, 8, false, 1), REASSEMBLY_BAD);
	/* a bomb: first fragments only; the oldest give way and a good datagram still passes */
	for (uint32_t id = 10; id < 10000; id++)
		assert_int_equal(part(r, &v, id, 0, 8, true, id), REASSEMBLY_WAITS);
	assert_true(r->evicted >= 9990 - REASSEMBLY_ENTRIES);
	assert_int_equal(part(r, &v, 5, 0, 8, true, 10000), REASSEMBLY_WAITS);
	assert_int_equal(part(r, &v, 5, 8, 8, false, 10000), REASSEMBLY_WHOLE);
	/* time passes: what waited is forgotten */
	assert_int_equal(part(r, &v, 6, 0, 8, true, 10000), REASSEMBLY_WAITS);
	assert_int_equal(part(r, &v, 6, 8, 8, false, 10000 + REASSEMBLY_US + 1), REASSEMBLY_WAITS);
	free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checksum_gives_the_example_of_rfc_1071),
		cmocka_unit_test(good_datagram_is_taken_and_padding_is_not_data),
		cmocka_unit_test(impossible_datagrams_are_refused),
		cmocka_unit_test(every_wrong_bit_of_a_header_is_noticed),
		cmocka_unit_test(datagram_cut_at_any_length_is_truncated),
		cmocka_unit_test(one_vlan_tag_is_read_and_two_are_refused),
		cmocka_unit_test(arp_is_built_as_it_is_parsed),
		cmocka_unit_test(steering_gives_the_published_toeplitz_vectors),
		cmocka_unit_test(steering_gives_the_published_vector_for_ip6),
		cmocka_unit_test(flows_spread_over_the_workers),
		cmocka_unit_test(neighbors_are_found_until_a_flood_replaces_the_stalest),
		cmocka_unit_test(extension_headers_are_walked_to_the_payload),
		cmocka_unit_test(hostile_extension_headers_are_refused),
		cmocka_unit_test(checksum6_covers_the_pseudo_header),
		cmocka_unit_test(fragments_in_any_order_make_the_datagram),
		cmocka_unit_test(any_overlap_drops_the_datagram_and_what_follows),
		cmocka_unit_test(reassembly_costs_fixed_memory_whatever_comes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
