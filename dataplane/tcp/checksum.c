/* checksum.c - one's complement sums of eight bytes at a time */
#include "dataplane/tcp/checksum.h"

#include <string.h>

static inline uint64_t add_carry(uint64_t sum, uint64_t v)
{
	sum += v;
	return sum + (sum < v);
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t n)
{
	const uint8_t *p = data;
	uint64_t v[4];

	for (; n >= 32; n -= 32, p += 32) {
		memcpy(v, p, 32);
		sum = add_carry(sum, v[0]);
		sum = add_carry(sum, v[1]);
		sum = add_carry(sum, v[2]);
		sum = add_carry(sum, v[3]);
	}
	for (; n >= 8; n -= 8, p += 8) {
		memcpy(v, p, 8);
		sum = add_carry(sum, v[0]);
	}
	if (n > 0) {
		v[0] = 0;
		memcpy(v, p, n);
		sum = add_carry(sum, v[0]);
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
