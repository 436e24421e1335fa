/* wire.h - big-endian fields and the layout of TCP and IP headers.  Pure functions. */
#ifndef DATAPLANE_TCP_WIRE_H
#define DATAPLANE_TCP_WIRE_H

#include <arpa/inet.h>
#include <stdint.h>
#include <string.h>

enum { WIRE_TCP_BYTES = 20, WIRE_IP4_BYTES = 20, WIRE_IP6_BYTES = 40, WIRE_TTL = 64 };
enum { WIRE_FIN = 1, WIRE_SYN = 2, WIRE_RST = 4, WIRE_PSH = 8, WIRE_ACK = 16, WIRE_URG = 32 };
enum { WIRE_ECE = 64, WIRE_CWR = 128 };
/* The two low bits of TOS and traffic class (RFC 3168 section 5) */
enum { WIRE_ECT_1 = 1, WIRE_ECT_0 = 2, WIRE_CE = 3, WIRE_ECN_MASK = 3 };

static inline uint16_t wire_get16(const void *p)
{
	uint16_t v;

	memcpy(&v, p, 2);
	return ntohs(v);
}

static inline uint32_t wire_get32(const void *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return ntohl(v);
}

static inline void wire_put16(void *p, uint16_t v)
{
	v = htons(v);
	memcpy(p, &v, 2);
}

static inline void wire_put32(void *p, uint32_t v)
{
	v = htonl(v);
	memcpy(p, &v, 4);
}

#endif
