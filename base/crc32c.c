/* crc32c.c - the processor's own instruction where it has one, a table elsewhere */
#include "base/crc32c.h"

#include <string.h>

static uint32_t crc32c_portable(uint32_t crc, const unsigned char *p, size_t n)
{
	while (n-- > 0) {
		crc ^= *p++;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
	}
	return crc;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const unsigned char *p,
							       size_t n)
{
	uint64_t c = crc;

	for (; n >= 8; n -= 8, p += 8) {
		uint64_t m;
		memcpy(&m, p, 8);
		c = __builtin_ia32_crc32di(c, m);
	}
	crc = (uint32_t)c;
	while (n-- > 0)
		crc = __builtin_ia32_crc32qi(crc, *p++);
	return crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t n)
{
	crc = ~crc;
	if (__builtin_cpu_supports("sse4.2"))
		crc = crc32c_sse42(crc, data, n);
	else
		crc = crc32c_portable(crc, data, n);
	return ~crc;
}
