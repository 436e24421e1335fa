/* test_wire.c - link and network headers: what is taken, what is refused, who owns a flow */
#include "dataplane/net/neighbor.h"
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
	struct ip4_view v;

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
	struct ip4_view v;

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
	struct ip4_view v;

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
	struct ip4_view v;

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
		assert_int_equal(steer_hash(&s, vectors[i].source, vectors[i].destination, ports),
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
		count[steer_owner(&s, peer, ours, ports)]++;
	}
	for (unsigned i = 0; i < 3; i++)
		assert_in_range(count[i], 700, 1300);
}

static void neighbors_are_found_until_a_flood_replaces_the_stalest(void **state)
{
	struct neighbor_table *t = calloc(1, sizeof(*t));
	const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
	uint8_t got[6];

	t->hash_key = 12345;
	assert_int_equal(neighbor_get(t, 1, got), NEIGHBOR_NONE);
	struct neighbor *n = neighbor_entry(t, 0x0a000001, true);
	neighbor_set(n, NEIGHBOR_REACHABLE, mac);
	n->changed_us = 1000000000;
	assert_int_equal(neighbor_get(t, 0x0a000001, got), NEIGHBOR_REACHABLE);
	assert_memory_equal(got, mac, 6);
	/* older entries give way, this one is the freshest of its neighbourhood */
	for (uint32_t i = 0; i < 20000; i++) {
		struct neighbor *m = neighbor_entry(t, 0x0b000000 + i, true);
		neighbor_set(m, NEIGHBOR_WANTED, NULL);
		m->changed_us = i + 1;
	}
	assert_int_equal(neighbor_get(t, 0x0a000001, got), NEIGHBOR_REACHABLE);
	free(t);
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
		cmocka_unit_test(flows_spread_over_the_workers),
		cmocka_unit_test(neighbors_are_found_until_a_flood_replaces_the_stalest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
