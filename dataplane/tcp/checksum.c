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

/* Short pieces, headers most of all: four sums side by side, so that no carry waits for another. */
static inline uint64_t sum_words(const uint8_t *p, size_t words)
{
	uint64_t low[2] = {0, 0}, high[2] = {0, 0}, v[2];

	for (; words >= 2; words -= 2, p += 16) {
		memcpy(v, p, 16);
		low[0] += (uint32_t)v[0];
		high[0] += v[0] >> 32;
		low[1] += (uint32_t)v[1];
		high[1] += v[1] >> 32;
	}
	if (words > 0) {
		memcpy(v, p, 8);
		low[0] += (uint32_t)v[0];
		high[0] += v[0] >> 32;
	}
	return low[0] + low[1] + high[0] + high[1];
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t n)
{
	const uint8_t *p = data;
	uint32_t four;
	uint16_t two;

	if (n >= 128) {
		sum = add_carry(sum, sum_blocks(p, n / 64));
		p += n & ~(size_t)63;
		n &= 63;
	}
	sum = add_carry(sum, sum_words(p, n / 8));
	p += n & ~(size_t)7;
	if ((n & 4) != 0) {
		memcpy(&four, p, 4);
		sum = add_carry(sum, four);
		p += 4;
	}
	if ((n & 2) != 0) {
		memcpy(&two, p, 2);
		sum = add_carry(sum, two);
		p += 2;
	}
	return (n & 1) != 0 ? add_carry(sum, *p) : sum;
}

uint64_t checksum_pseudo(const struct ip_addr *source, const struct ip_addr *destination,
			 uint32_t tcp_bytes)
{
	uint64_t sum = (uint64_t)htonl(tcp_bytes) + htons(6);

	if (source->family == 6) {
		sum = add_carry(sum, sum_words(source->byte, 2));
		return add_carry(sum, sum_words(destination->byte, 2));
	}
	uint32_t from, to;
	memcpy(&from, source->byte, 4);
	memcpy(&to, destination->byte, 4);
	return sum + from + to;
}

uint16_t checksum_finish(uint64_t sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}
