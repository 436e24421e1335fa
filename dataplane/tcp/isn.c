/* isn.c - one SipHash key a stack, drawn at its creation */
#include "dataplane/tcp/isn.h"

#include "dataplane/tcp/stack.h"

uint32_t isn_choose(const struct tcp_stack *t, const struct flow_key *key)
{
	if (!t->config.random_isn)
		return (uint32_t)shard_random(t->shard);
	return (uint32_t)(stack_now(t) / 4) + (uint32_t)siphash(&t->isn_key, key, sizeof(*key));
}

uint32_t isn_timestamp_offset(const struct tcp_stack *t, uint32_t hash)
{
	if (!t->config.random_timestamps)
		return 0;
	uint32_t offset = (uint32_t)(siphash(&t->isn_key, &hash, sizeof(hash)) >> 32);

	return offset != 0 ? offset : 1;
}

uint32_t isn_flow_label(const struct tcp_stack *t, uint32_t hash)
{
	return (uint32_t)siphash(&t->isn_key, &hash, sizeof(hash)) & 0xfffff;
}
