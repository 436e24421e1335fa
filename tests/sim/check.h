/* check.h - what must hold in every stack after every event; a breach prints the seed and
 * aborts.  Test code. */
#ifndef TESTS_SIM_CHECK_H
#define TESTS_SIM_CHECK_H

#include "dataplane/tcp/tcp.h"

#include <stddef.h>
#include <stdint.h>

struct check {
	struct tcp_stack *tcp;
	uint64_t seed;
	struct check_edge *edges; /* by stream index: the right edge seen last */
	uint32_t room;
};

void check_init(struct check *c, struct tcp_stack *t, uint64_t seed);
void check_free(struct check *c);
void check_stack(struct check *c);
/* An outgoing packet: IP header, lengths, checksums. */
void check_headers(const uint8_t *ip, size_t bytes, const struct ip_addr *to);

#endif
