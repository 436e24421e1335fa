/* pair.c - net.h with two hosts */
#include "tests/sim/pair.h"

#include <assert.h>
#include <stdlib.h>

struct pair {
	struct net *net;
};

struct pair *pair_create(const struct net_options *options)
{
	struct net_options o;
	struct pair *p = calloc(1, sizeof(*p));

	if (options != NULL)
		o = *options;
	else
		net_options_default(&o);
	assert(o.hosts == 2);
	p->net = net_create(&o);
	return p;
}

void pair_destroy(struct pair *p)
{
	net_destroy(p->net);
	free(p);
}

struct tcp_stack *pair_tcp(struct pair *p, unsigned side)
{
	return net_tcp(p->net, side);
}

struct shard *pair_shard(struct pair *p, unsigned side)
{
	return net_shard(p->net, side);
}

struct net *pair_net(struct pair *p)
{
	return p->net;
}

void pair_run(struct pair *p, uint64_t us)
{
	net_run(p->net, us);
}

bool pair_run_until(struct pair *p, bool (*done)(void *arg), void *arg, uint64_t us)
{
	return net_run_until(p->net, done, arg, us);
}

void pair_on_step(struct pair *p, void (*step)(void *arg), void *arg)
{
	net_on_step(p->net, step, arg);
}

struct stream *pair_connect(struct pair *p, unsigned side, uint16_t port,
			    const struct stream_events *events, void *user)
{
	struct ip_addr from = net_addr(p->net, side), to = net_addr(p->net, 1 - side);
	int err;

	return stream_connect(pair_tcp(p, side), &from, &to, port, events, user, &err);
}
