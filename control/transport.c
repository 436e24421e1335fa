/* transport.c - adapters: each side's structures into the other's */
#include "control/transport.h"

#include <assert.h>
#include <errno.h>

static uint32_t segments_in(void *arg, const struct net_segment *s, unsigned n)
{
	struct transport *t = arg;
	struct tcp_packet *p = t->burst;
	enum tcp_verdict verdict[TCP_BURST];
	uint32_t bad = 0;

	static_assert((int)NET_BURST <= (int)TCP_BURST, "a burst is one call");
	for (unsigned i = 0; i < n; i++)
		p[i] = (struct tcp_packet){
			.source = s[i].source,
			.destination = s[i].destination,
			.segment = s[i].bytes,
			.bytes = s[i].n,
			.tos = s[i].tos,
			.checksum_good = s[i].checksum_good,
		};
	tcp_input_burst(t->tcp, p, n, verdict);
	for (unsigned i = 0; i < n; i++)
		bad |= (uint32_t)(verdict[i] == TCP_BAD_CHECKSUM) << i;
	return bad;
}

static void unreachable_in(void *arg, const struct ip_addr *local, uint16_t local_port,
			   const struct ip_addr *peer, uint16_t peer_port)
{
	struct transport *t = arg;

	tcp_unreachable(t->tcp, local, local_port, peer, peer_port);
}

static void too_big_in(void *arg, const struct net_flow *f, uint32_t mtu)
{
	struct transport *t = arg;

	tcp_packet_too_big(t->tcp, &f->local, f->local_port, &f->peer, f->peer_port, f->sequence,
			   mtu);
}

static bool get_buffer(void *arg, struct tcp_buffer *b, unsigned bytes, bool control)
{
	struct transport *t = arg;
	struct net_buffer n;

	if (!net_buffer_get(t->net_worker, &n, bytes, control))
		return false;
	*b = (struct tcp_buffer){.handle = n.mbuf, .data = n.data};
	return true;
}

static void send_packet(void *arg, struct tcp_buffer *b, unsigned bytes, const struct ip_addr *to)
{
	struct transport *t = arg;
	struct net_buffer n = {.mbuf = b->handle, .data = b->data};

	net_send(t->net_worker, &n, bytes, to);
}

static void drop_buffer(void *arg, struct tcp_buffer *b)
{
	struct net_buffer n = {.mbuf = b->handle, .data = b->data};

	net_buffer_drop(&n);
}

static bool owns_flow(void *arg, const struct ip_addr *local, uint16_t local_port,
		      const struct ip_addr *peer, uint16_t peer_port)
{
	struct transport *t = arg;

	return net_owns_flow(t->net_worker, local, local_port, peer, peer_port);
}

bool transport_source_for(void *transport, const struct ip_addr *to, struct ip_addr *source)
{
	return net_source_for(((struct transport *)transport)->net, to, source);
}

unsigned transport_flush(void *transport)
{
	tcp_flush(((struct transport *)transport)->tcp);
	return 0;
}

int transport_create(struct transport *t, struct net *net, struct shard *shard,
		     const struct tcp_config *config)
{
	struct net_upper upper = {
		.arg = t,
		.segments = segments_in,
		.unreachable = unreachable_in,
		.too_big = too_big_in,
	};
	struct tcp_env env = {
		.arg = t,
		.get_buffer = get_buffer,
		.send = send_packet,
		.drop_buffer = drop_buffer,
		.owns_flow = owns_flow,
		.tx_checksum_offload = net_sums_tcp(net),
	};

	*t = (struct transport){.net = net};
	t->net_worker = net_worker_create(net, shard, &upper);
	t->tcp = tcp_create(shard, &env, config);
	return t->net_worker != NULL && t->tcp != NULL ? 0 : -ENOMEM;
}

void transport_destroy(struct transport *t)
{
	if (t->tcp != NULL)
		tcp_destroy(t->tcp);
	net_worker_destroy(t->net_worker);
}
