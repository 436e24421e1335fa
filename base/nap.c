/* nap.c - adaptive rest of a polling thread */
#include "base/nap.h"

#include <time.h>

enum {
	SPIN_ROUNDS = 64,
	FIRST_NAP_US = 20,
	ROUNDS_A_STEP = 16,
	DEEP_ROUNDS = 4096, /* nothing for seconds: a laptop's fan counts more than a millisecond */
	DEEP_FACTOR = 4,
};

void nap_idle(struct nap *n)
{
	if (n->idle_rounds < UINT32_MAX)
		n->idle_rounds++;
	if (n->idle_rounds <= SPIN_ROUNDS) {
		__builtin_ia32_pause();
		return;
	}
	uint32_t steps = (n->idle_rounds - SPIN_ROUNDS) / ROUNDS_A_STEP;
	uint32_t us = steps < 6 ? (uint32_t)FIRST_NAP_US << steps : n->max_us;
	if (us > n->max_us)
		us = n->max_us;
	if (n->idle_rounds > DEEP_ROUNDS)
		us = n->deep_us > 0 ? n->deep_us : n->max_us * DEEP_FACTOR;
	struct timespec ts = {.tv_nsec = (long)us * 1000};
	nanosleep(&ts, NULL);
}
