/* trace.c - prints to stderr */
#include "tests/sim/trace.h"

#include "dataplane/tcp/wire.h"

#include <stdio.h>

void trace_packet(uint64_t now_us, unsigned host, const uint8_t *ip, size_t bytes, const char *fate)
{
	const uint8_t *h = ip + (ip[0] >> 4 == 4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES);
	static const char letters[] = "FSRPAUEC";
	char flags[9], *f = flags;
	size_t header = (size_t)(h[12] >> 4) * 4, left = bytes - (size_t)(h - ip);

	for (unsigned i = 0; i < 8; i++) {
		if ((h[13] & 1 << i) != 0)
			*f++ = letters[i];
	}
	*f = '\0';
	fprintf(stderr, "%12.6f host %u  %5u > %5u %-4s seq %u ack %u win %u len %zu %s\n",
		(double)now_us / 1e6, host, wire_get16(h), wire_get16(h + 2), flags,
		wire_get32(h + 4), wire_get32(h + 8), wire_get16(h + 14),
		left > header ? left - header : 0, fate);
}
