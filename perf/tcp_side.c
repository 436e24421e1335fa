/* tcp_side.c - the environment of a stack that has no network */
#include "perf/tcp_side.h"

#include "dataplane/tcp/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_BYTES = 64 << 20 };

static uint64_t draw(void *arg)
{
	uint64_t *x = &((struct side *)arg)->random;

	*x = *x * 6364136223846793005ULL + 1442695040888963407ULL;
	return *x ^ *x >> 29;
}

static bool get_buffer(void *arg, struct tcp_buffer *b, unsigned bytes, bool control)
{
	struct side *s = arg;

	b->data = s->queue != NULL ? s->queue[s->tail % QUEUE].ip : s->packet;
	return s->queue == NULL || s->tail - s->head < QUEUE;
}

static void send_packet(void *arg, struct tcp_buffer *b, unsigned bytes, const struct ip_addr *to)
{
	struct side *s = arg;
	const uint8_t *h = b->data + (to->family == 6 ? WIRE_IP6_BYTES : WIRE_IP4_BYTES);

	s->sent++;
	s->sent_bytes += bytes;
	if (s->queue != NULL)
		s->queue[s->tail++ % QUEUE].bytes = bytes;
	if (s->isn != NULL && (h[13] & WIRE_SYN) != 0)
		s->isn[wire_get16(h + 2)] = wire_get32(h + 4);
}

static void drop_buffer(void *arg, struct tcp_buffer *b)
{
}

static bool owns(void *arg, const struct ip_addr *l, uint16_t lp, const struct ip_addr *p,
		 uint16_t pp)
{
	return true;
}

struct side *side_create(const char *address, const struct tcp_config *config)
{
	struct side *s = calloc(1, sizeof(*s));
	struct tcp_env env = {s, get_buffer, send_packet, drop_buffer, owns};

	s->memory = aligned_alloc(65536, POOL_BYTES);
	memset(s->memory, 1, POOL_BYTES); /* the kernel's pages are taken before the measurement */
	s->random = 1;
	s->shard = (struct shard){.now_us = 1000000,
				  .chunks = chunk_pool_create(s->memory, POOL_BYTES),
				  .timers = timer_wheel_create(1000000),
				  .random64 = draw,
				  .random_arg = s};
	addr_parse(address, &s->addr);
	s->tcp = tcp_create(&s->shard, &env, config);
	if (s->tcp == NULL) {
		fprintf(stderr, "no memory for a stack\n");
		exit(1);
	}
	return s;
}

void side_destroy(struct side *s)
{
	tcp_destroy(s->tcp);
	timer_wheel_destroy(s->shard.timers);
	chunk_pool_destroy(s->shard.chunks);
	free(s->memory);
	free(s->queue);
	free(s->isn);
	free(s);
}
