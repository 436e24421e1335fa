/* syn_cookie.c - packing and unpacking; a cookie is good for 96 to 128 seconds */
#include "dataplane/tcp/syn_cookie.h"

#include "dataplane/tcp/ecn.h"
#include "dataplane/tcp/segment.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/stack.h"

enum {
	AGE_BITS = 2,
	MSS_BITS = 3,
	HASH_BITS = 32 - AGE_BITS - MSS_BITS,
	AGE_UNIT_US = 32000000,
	AGES = 1 << AGE_BITS,
	/* in the timestamp */
	CARRY_SCALE = 15, /* this value: no scaling */
	CARRY_SACK = 1 << 4,
	CARRY_ECN = 1 << 5,
	CARRY_MASK = 63,
};

/* What is common, each cut to the next lower: dial-up and IPv4's default, IPv6's, tunnels,
 * Ethernet with and without timestamps or IPv6, jumbo frames. */
static const uint16_t sizes[1 << MSS_BITS] = {64, 536, 1024, 1220, 1360, 1440, 1460, 8940};

static unsigned size_index(uint16_t mss)
{
	unsigned i = (1 << MSS_BITS) - 1;

	while (i > 0 && sizes[i] > mss)
		i--;
	return i;
}

static uint32_t age_clock(const struct tcp_stack *t)
{
	return (uint32_t)(stack_now(t) / AGE_UNIT_US);
}

static uint32_t pack(const struct tcp_stack *t, uint32_t flow, uint32_t peer_seq, uint32_t age,
		     unsigned size)
{
	uint32_t in[4] = {flow, peer_seq, age, size};
	uint32_t hash = (uint32_t)(siphash(&t->cookie_key, in, sizeof(in)) >> (64 - HASH_BITS));

	return (age % AGES) << (32 - AGE_BITS) | (uint32_t)size << HASH_BITS | hash;
}

void syn_cookie_make(const struct tcp_stack *t, const struct segment *g, uint32_t hash,
		     struct syn_cookie *c)
{
	const struct tcp_options *o = &g->options;
	uint16_t mss = flow_is_ip4(g->key.peer) ? OPTION_MSS_DEFAULT_IP4 : OPTION_MSS_DEFAULT_IP6;
	bool carried = o->has_timestamp && t->config.timestamps;

	if (o->has_mss)
		mss = o->mss;
	*c = (struct syn_cookie){
		.iss = pack(t, hash, g->seq, age_clock(t), size_index(mss)),
		.options = {.has_timestamp = carried,
			    .ts_value = o->ts_value,
			    .has_scale = carried && o->has_scale && t->config.window_scaling,
			    .scale = o->scale,
			    .sack_permitted = carried && o->sack_permitted && t->config.sack},
		.ecn = carried && ecn_asked_for(t, g->flags),
	};
}

uint32_t syn_cookie_timestamp(const struct syn_cookie *c, uint32_t value)
{
	uint32_t carry = c->options.has_scale ? c->options.scale : CARRY_SCALE;

	if (c->options.sack_permitted)
		carry |= CARRY_SACK;
	if (c->ecn)
		carry |= CARRY_ECN;
	uint32_t carrying = (value & ~(uint32_t)CARRY_MASK) | carry;
	return seq_gt(carrying, value) ? carrying - (CARRY_MASK + 1) : carrying;
}

static void unpack_timestamp(struct syn_cookie *c, const struct tcp_options *o)
{
	uint32_t carry = o->ts_echo & CARRY_MASK;

	c->options.has_timestamp = true;
	c->options.ts_value = o->ts_value;
	c->options.scale = carry & CARRY_SCALE;
	c->options.has_scale = c->options.scale != CARRY_SCALE;
	c->options.sack_permitted = (carry & CARRY_SACK) != 0;
	c->ecn = (carry & CARRY_ECN) != 0;
}

bool syn_cookie_check(const struct tcp_stack *t, const struct segment *g, uint32_t hash,
		      struct syn_cookie *c)
{
	uint32_t iss = g->ack - 1, now = age_clock(t);
	uint32_t age = now - ((now - (iss >> (32 - AGE_BITS))) % AGES);
	unsigned size = iss >> HASH_BITS & ((1 << MSS_BITS) - 1);

	if (iss != pack(t, hash, g->seq - 1, age, size))
		return false;
	*c = (struct syn_cookie){.iss = iss, .options = {.has_mss = true, .mss = sizes[size]}};
	if (g->options.has_timestamp && t->config.timestamps)
		unpack_timestamp(c, &g->options);
	return true;
}
