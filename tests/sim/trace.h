/* trace.h - one line a packet, for people.  Test code. */
#ifndef TESTS_SIM_TRACE_H
#define TESTS_SIM_TRACE_H

#include <stddef.h>
#include <stdint.h>

void trace_packet(uint64_t now_us, unsigned host, const uint8_t *ip, size_t bytes,
		  const char *fate);

#endif
