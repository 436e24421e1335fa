/* tcp_peer.c - the other end, made of prepared segments; floors and rows */
#include "perf/tcp_peer.h"

#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void build(const struct side *s, uint8_t *h, const struct input *in, struct tcp_packet *p)
{
	static const struct tcp_options offer = {.has_mss = true,
						 .mss = 1440,
						 .has_scale = true,
						 .sack_permitted = true,
						 .has_timestamp = true,
						 .ts_value = 5};
	uint8_t *options = h + WIRE_TCP_BYTES;
	size_t n = (in->flags & WIRE_SYN) != 0
			   ? options_write_syn(options, &offer, TCP_OPTIONS_LINUX)
			   : options_write_timestamp(options, 5, 0);

	memset(h, 0, WIRE_TCP_BYTES);
	wire_put16(h, in->port);
	wire_put16(h + 2, PORT);
	wire_put32(h + 4, in->seq);
	wire_put32(h + 8, in->ack);
	h[12] = (uint8_t)((WIRE_TCP_BYTES + n) / 4 << 4);
	h[13] = in->flags;
	wire_put16(h + 14, 65535);
	memset(options + n, 'x', in->bytes);
	*p = (struct tcp_packet){.source = in->peer,
				 .destination = s->addr,
				 .segment = h,
				 .bytes = (uint32_t)(WIRE_TCP_BYTES + n + in->bytes)};
	uint64_t sum = checksum_pseudo(&p->source, &p->destination, p->bytes);
	uint16_t folded = checksum_finish(checksum_add(sum, h, p->bytes));
	memcpy(h + 16, &folded, 2);
}

double floor_ns(uint32_t n, uint32_t bytes, uint32_t stride)
{
	uint8_t *from = calloc(n, stride), *to = calloc(1, bytes + 1);
	uint64_t best = UINT64_MAX, sum = 0;

	for (unsigned r = 0; r < REPEATS; r++) {
		uint64_t begin = now_ns();
		for (uint32_t i = 0; i < n; i++) {
			memcpy(to, from + (size_t)i * stride, bytes);
			sum += checksum_add(0, to, bytes);
		}
		uint64_t ns = now_ns() - begin;
		best = ns < best ? ns : best;
	}
	__asm__ volatile("" : : "r"(sum));
	free(from);
	free(to);
	return (double)best / n;
}

void row(const char *what, double ns, const char *floor, double floor_of_it)
{
	printf("%-52s %9.1f ns   %-34s %8.1f ns   %6.1f x\n", what, ns, floor, floor_of_it,
	       ns / floor_of_it);
}

struct prepared prepare(uint32_t n)
{
	return (struct prepared){.bytes = calloc(n, SEGMENT_BYTES),
				 .packet = calloc(n, sizeof(struct tcp_packet))};
}

void add(struct prepared *p, const struct side *s, const struct input *in)
{
	build(s, p->bytes + (size_t)p->n * SEGMENT_BYTES, in, &p->packet[p->n]);
	p->n++;
}

void release(struct prepared *p)
{
	free(p->bytes);
	free(p->packet);
}

double feed_by(struct side *s, const struct prepared *p, bool one_by_one)
{
	enum tcp_verdict verdict[BURST];
	uint64_t begin = now_ns();

	for (uint32_t i = 0; i < p->n; i += BURST) {
		uint32_t n = p->n - i < BURST ? p->n - i : BURST;
		for (uint32_t k = i; one_by_one && k < i + n; k++)
			tcp_input(s->tcp, &p->packet[k]);
		if (!one_by_one)
			tcp_input_burst(s->tcp, &p->packet[i], n, verdict);
		tcp_flush(s->tcp);
	}
	return (double)(now_ns() - begin) / p->n;
}

double feed(struct side *s, const struct prepared *p)
{
	return feed_by(s, p, false);
}
