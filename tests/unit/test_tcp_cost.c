/* test_tcp_cost.c - what an idle connection costs, through the real accept path: IPv6, timestamps,
 * window scaling and SACK negotiated */
#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/wire.h"
#include "tests/sim/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { CONNECTIONS = 100000, PEERS = 4, BUDGET_BYTES = 300, POOL_BYTES = 1 << 20 };

struct world {
	struct shard shard;
	struct tcp_stack *tcp;
	uint64_t random;
	uint8_t packet[200];
	unsigned opened;
	uint32_t isn; /* of the last SYN-ACK */
};

static uint64_t draw(void *arg)
{
	return random_next(&((struct world *)arg)->random);
}

static bool get_buffer(void *arg, struct tcp_buffer *b, unsigned bytes, bool control)
{
	b->data = ((struct world *)arg)->packet;
	return bytes <= sizeof(((struct world *)arg)->packet);
}

static void send_packet(void *arg, struct tcp_buffer *b, unsigned bytes, const struct ip_addr *to)
{
	((struct world *)arg)->isn = wire_get32(b->data + WIRE_IP6_BYTES + 4);
}

static void drop_buffer(void *arg, struct tcp_buffer *b)
{
}

static bool owns(void *arg, const struct ip_addr *l, uint16_t lp, const struct ip_addr *p,
		 uint16_t pp)
{
	return true;
}

static void opened(struct stream *s, void *user)
{
	((struct world *)user)->opened++;
}

static void ignore(struct stream *s, void *user)
{
}

static void ignore_end(struct stream *s, void *user, enum stream_end why)
{
}

static const struct stream_events events = {opened, ignore, ignore, ignore_end};

static void segment_in(struct world *w, unsigned i, unsigned flags, uint32_t ack)
{
	uint8_t h[60] = {0};
	struct tcp_options o = {.has_mss = true,
				.mss = 1440,
				.has_scale = true,
				.sack_permitted = true,
				.has_timestamp = true,
				.ts_value = 5};
	struct tcp_packet p = {.segment = h, .checksum_good = true};
	size_t n = (flags & WIRE_SYN) != 0
			   ? options_write_syn(h + WIRE_TCP_BYTES, &o, TCP_OPTIONS_LINUX)
			   : options_write_timestamp(h + WIRE_TCP_BYTES, 5, 0);

	addr_parse("2001:db8::1", &p.destination);
	addr_parse("2001:db8:1::", &p.source);
	p.source.byte[15] = (uint8_t)(1 + i % PEERS);
	wire_put16(h, (uint16_t)(1024 + i / PEERS));
	wire_put16(h + 2, 25);
	wire_put32(h + 4, (flags & WIRE_SYN) != 0 ? 0 : 1);
	wire_put32(h + 8, ack);
	h[12] = (uint8_t)((WIRE_TCP_BYTES + n) / 4 << 4);
	h[13] = (uint8_t)flags;
	wire_put16(h + 14, 65535);
	p.bytes = (uint32_t)(WIRE_TCP_BYTES + n);
	assert_int_equal(tcp_input(w->tcp, &p), TCP_ACCEPTED);
	tcp_flush(w->tcp);
}

static size_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%*u %lu", &pages), 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void create(struct world *w, void *memory)
{
	struct tcp_env env = {w, get_buffer, send_packet, drop_buffer, owns};
	struct tcp_config c;

	w->shard = (struct shard){.now_us = 1000000,
				  .chunks = chunk_pool_create(memory, POOL_BYTES),
				  .timers = timer_wheel_create(1000000),
				  .random64 = draw,
				  .random_arg = w};
	tcp_config_default(&c);
	c.max_streams = CONNECTIONS;
	c.max_time_wait = 16;
	w->tcp = tcp_create(&w->shard, &env, &c);
	assert_non_null(w->tcp);
}

static void an_idle_connection_costs_at_most_300_bytes(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	void *memory = aligned_alloc(65536, POOL_BYTES);

	create(w, memory);
	tcp_listen(w->tcp, &(struct tcp_listen){.port = 25, .events = &events, .user = w});
	size_t before = resident_bytes();
	for (unsigned i = 0; i < CONNECTIONS; i++) {
		segment_in(w, i, WIRE_SYN, 0);
		segment_in(w, i, WIRE_ACK, w->isn + 1);
	}
	size_t each = (resident_bytes() - before) / CONNECTIONS;
	print_message("# %zu bytes resident a connection, %zu of them the tcb\n", each,
		      sizeof(struct stream));
	assert_int_equal(w->opened, CONNECTIONS);
	assert_int_equal(chunk_pool_used(w->shard.chunks), 0);
	assert_int_equal(slab_used(w->tcp->actives), 0);
#ifndef __SANITIZE_ADDRESS__
	assert_in_range(each, sizeof(struct stream), BUDGET_BYTES);
#endif
	tcp_destroy(w->tcp);
	timer_wheel_destroy(w->shard.timers);
	chunk_pool_destroy(w->shard.chunks);
	free(memory);
	free(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_idle_connection_costs_at_most_300_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
