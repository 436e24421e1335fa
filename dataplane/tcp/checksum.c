/* checksum.c - one's complement sums of eight bytes at a time */
#include "dataplane/tcp/checksum.h"

#include <string.h>

static inline uint64_t add_carry(uint64_t sum, uint64_t v)
{
	sum += v;
	return sum + (sum < v);
}

typedef uint64_t lanes __attribute__((vector_size(32)));
typedef uint64_t packet_lanes __attribute__((vector_size(32), aligned(1), may_alias));

/* 64 bytes at a time in 32-bit halves, whose sums have room for 2^32 of them: no carry to look
 * after; and all halves weigh the same, 2^16 being 1 here.  The core is asked at run time what it
 * has: DPDK has everything compiled for an old one. */
__attribute__((target_clones("avx2", "default"))) static uint64_t sum_blocks(const uint8_t *p,
									     size_t blocks)
{
	const packet_lanes *v = (const packet_lanes *)p;
	lanes even = {0}, odd = {0};
	uint64_t sum = 0;

	for (; blocks > 0; blocks--, v += 2) {
		even += (v[0] & 0xffffffff) + (v[1] & 0xffffffff);
		odd += (v[0] >> 32) + (v[1] >> 32);
	}
	for (unsigned i = 0; i < 4; i++)
		sum = add_carry(add_carry(sum, even[i]), odd[i]);
	return sum;
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t v;

	if (n >= 128) {
		sum = add_carry(sum, sum_blocks(p, n / 64));
		p += n & ~(size_t)63;
		n &= 63;
	}
	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&v, p, 8);
		sum = add_carry(sum, v);
	}
	if (n > 0) {
		v = 0;
		memcpy(&v, p, n);
		sum = add_carry(sum, v);
	}
	return sum;
}

uint64_t checksum_pseudo(const struct ip_addr *source, const struct ip_addr *destination,
			 uint32_t tcp_bytes)
{
	size_t n = source->family == 6 ? 16 : 4;
	uint64_t sum = checksum_add(0, source->byte, n);

	sum = checksum_add(sum, destination->byte, n);
	sum = add_carry(sum, htonl(tcp_bytes));
	return add_carry(sum, htons(6));
}

uint16_t checksum_finish(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}
