/*
 * rss.h - whether a port's own hash (RSS) may be believed.
 *
 * A port that took our key should report our hash with every segment, and with our bucket table
 * deliver it to the queue of its owner.  The hash is believed only after it was right for a number
 * of segments, is looked at again now and then, and is never believed again once it was wrong:
 * then every hash is computed here.  The queue is never believed: a segment whose hash belongs
 * to another worker is handed over by ring, so a table that changes harms nobody.
 *
 * Owner: a worker; one for each port and family.  Runs on: that worker.
 */
#ifndef DATAPLANE_NET_RSS_H
#define DATAPLANE_NET_RSS_H

#include <stdbool.h>
#include <stdint.h>

enum {
	RSS_PROOFS = 64,       /* segments in a row that agree */
	RSS_CHECK_EVERY = 256, /* believed ones: one in so many is looked at */
};

enum rss_state { RSS_ON_TRIAL, RSS_BELIEVED, RSS_WRONG };

struct rss_trust {
	uint8_t state; /* enum rss_state */
	uint16_t seen;
};

/* Whether the reported hash is taken unseen. */
static inline bool rss_skip(struct rss_trust *t)
{
	return t->state == RSS_BELIEVED && ++t->seen % RSS_CHECK_EVERY != 0;
}

/* After a comparison; true: the state has changed. */
static inline bool rss_judge(struct rss_trust *t, bool agrees)
{
	if (!agrees) {
		t->state = RSS_WRONG;
		return true;
	}
	if (t->state != RSS_ON_TRIAL || ++t->seen < RSS_PROOFS)
		return false;
	t->state = RSS_BELIEVED;
	return true;
}

#endif
