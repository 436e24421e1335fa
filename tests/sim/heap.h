/* heap.h - packets on their way, the earliest first; ties in order of sending.  Test code. */
#ifndef TESTS_SIM_HEAP_H
#define TESTS_SIM_HEAP_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct packet {
	uint64_t when_us, serial;
	unsigned bytes;
	int to;           /* host, -1: nobody has the address */
	uint32_t too_big; /* 0; or ip is what a router could not pass on, and this the MTU */
	uint8_t ip[];
};

struct heap {
	struct packet **packet;
	size_t n, room;
};

static inline int heap_before(const struct packet *a, const struct packet *b)
{
	return a->when_us != b->when_us ? a->when_us < b->when_us : a->serial < b->serial;
}

static inline void heap_swap(struct heap *h, size_t i, size_t j)
{
	struct packet *p = h->packet[i];

	h->packet[i] = h->packet[j];
	h->packet[j] = p;
}

static inline void heap_push(struct heap *h, struct packet *p)
{
	if (h->n == h->room) {
		h->room = h->room == 0 ? 64 : h->room * 2;
		h->packet = realloc(h->packet, h->room * sizeof(struct packet *));
	}
	size_t i = h->n++;
	h->packet[i] = p;
	for (; i > 0 && heap_before(h->packet[i], h->packet[(i - 1) / 2]); i = (i - 1) / 2)
		heap_swap(h, i, (i - 1) / 2);
}

static inline struct packet *heap_pop(struct heap *h)
{
	if (h->n == 0)
		return NULL;
	struct packet *first = h->packet[0];
	h->packet[0] = h->packet[--h->n];
	for (size_t i = 0;;) {
		size_t least = i, l = 2 * i + 1;
		if (l < h->n && heap_before(h->packet[l], h->packet[least]))
			least = l;
		if (l + 1 < h->n && heap_before(h->packet[l + 1], h->packet[least]))
			least = l + 1;
		if (least == i)
			return first;
		heap_swap(h, i, least);
		i = least;
	}
}

static inline void heap_free(struct heap *h)
{
	free(h->packet);
	*h = (struct heap){0};
}

#endif
