/*
 * nap.h - how a polling thread rests when its rings are empty.
 *
 * Waking a sleeper would cost the worker a system call on the packet path, so helpers poll
 * and nap instead: at once again while work keeps coming, then ever longer up to a ceiling.
 *
 * Owner: the polling thread keeps one struct nap on its stack.
 */
#ifndef BASE_NAP_H
#define BASE_NAP_H

#include <stdint.h>

struct nap {
	uint32_t idle_rounds; /* since the last work */
	uint32_t max_us;      /* longest nap while there was work not long ago */
	uint32_t deep_us;     /* longest nap after seconds without any; 0: four times max_us */
};

static inline void nap_worked(struct nap *n)
{
	n->idle_rounds = 0;
}

/* Called after a round without work: spins at first, then sleeps up to max_us, later deep_us. */
void nap_idle(struct nap *n);

#endif
