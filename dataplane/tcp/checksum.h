/* checksum.h - the Internet checksum (RFC 1071).  Pure functions; sums are kept in memory order,
 * so that the result is stored as it is. */
#ifndef DATAPLANE_TCP_CHECKSUM_H
#define DATAPLANE_TCP_CHECKSUM_H

#include "base/addr.h"

#include <stddef.h>
#include <stdint.h>

/* Adds n bytes, which start at an even offset of the whole, to the running sum. */
uint64_t checksum_add(uint64_t sum, const void *data, size_t n);
/* The pseudo header of RFC 9293 section 3.1 (IPv4) or RFC 8200 section 8.1 (IPv6). */
uint64_t checksum_pseudo(const struct ip_addr *source, const struct ip_addr *destination,
			 uint32_t tcp_bytes);
/* Folds and complements; 0 over data that holds its own correct checksum. */
uint16_t checksum_finish(uint64_t sum);

#endif
