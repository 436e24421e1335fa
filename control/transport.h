/*
 * transport.h - a worker's network layer and TCP stack joined: packets up, packets down.
 *
 * Neither layer knows the other; this adapter is where they meet, for the daemon and for the
 * measuring programs.
 *
 * Owner: embedded in its user; between create and destroy it must not move.
 * Runs on: created and destroyed while the worker does not run, else on the worker.
 * Errors: transport_create() is 0 or -ENOMEM.
 */
#ifndef CONTROL_TRANSPORT_H
#define CONTROL_TRANSPORT_H

#include "dataplane/net/net.h"
#include "dataplane/tcp/tcp.h"

struct transport {
	struct net *net;
	struct net_worker *net_worker;
	struct tcp_stack *tcp;
	struct tcp_packet burst[TCP_BURST]; /* on their way up; only during the call */
};

int transport_create(struct transport *t, struct net *net, struct shard *shard,
		     const struct tcp_config *config);
void transport_destroy(struct transport *t);

/* A stage of the worker: tcp_flush(). */
unsigned transport_flush(void *transport);
/* Our address towards another; false: no route. */
bool transport_source_for(void *transport, const struct ip_addr *to, struct ip_addr *source);

#endif
