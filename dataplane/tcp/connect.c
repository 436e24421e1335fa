/* connect.c - the active side: a source port that steers back to this worker, and the SYN */
#include "dataplane/tcp/isn.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/state.h"

#include <errno.h>

enum { PORT_FIRST = 32768, PORT_LAST = 60999, PORTS = PORT_LAST - PORT_FIRST + 1 };

/* RFC 6056 section 3.3.1: from a random place on, the first free one that this worker owns. */
static bool choose_port(struct tcp_stack *t, const struct ip_addr *local,
			const struct ip_addr *peer, struct flow_key *key, uint32_t *hash)
{
	uint32_t start = (uint32_t)(shard_random(t->shard) % PORTS);

	for (uint32_t i = 0; i < PORTS; i++) {
		key->local_port = (uint16_t)(PORT_FIRST + (start + i) % PORTS);
		if (!t->env.owns_flow(t->env.arg, local, key->local_port, peer, key->peer_port))
			continue;
		*hash = flow_hash(&t->flows, key);
		if (stack_find(t, key, *hash) == FLOW_NONE)
			return true;
	}
	return false;
}

struct stream *stream_connect_from(struct tcp_stack *t, const struct ip_addr *local,
				   uint16_t local_port, const struct ip_addr *peer,
				   uint16_t peer_port, const struct stream_events *ev, void *user,
				   int *err)
{
	struct flow_key key = {.peer_port = peer_port, .local_port = local_port};
	uint32_t hash = 0;

	if (local->family != peer->family || peer_port == 0) {
		*err = -ENETUNREACH;
		return NULL;
	}
	flow_address(key.peer, peer);
	flow_address(key.local, local);
	if (local_port != 0)
		hash = flow_hash(&t->flows, &key);
	if (local_port != 0 ? stack_find(t, &key, hash) != FLOW_NONE
			    : !choose_port(t, local, peer, &key, &hash)) {
		*err = -EADDRNOTAVAIL;
		return NULL;
	}
	struct stream *s = state_birth(t, &key, hash);
	if (s == NULL) {
		*err = -ENOMEM;
		return NULL;
	}
	stream_enter(s, TCP_SYN_SENT);
	s->flags = F_OPENED | F_RETRANSMIT;
	s->events = ev;
	s->user = user;
	s->snd_una = s->snd_nxt = s->snd_max = isn_choose(t, &key);
	s->snd_end = s->snd_una + 1;
	stream_touch(s);
	return s;
}

struct stream *stream_connect(struct tcp_stack *t, const struct ip_addr *local,
			      const struct ip_addr *peer, uint16_t peer_port,
			      const struct stream_events *ev, void *user, int *err)
{
	return stream_connect_from(t, local, 0, peer, peer_port, ev, user, err);
}

void tcp_unreachable(struct tcp_stack *t, const struct ip_addr *local, uint16_t local_port,
		     const struct ip_addr *peer, uint16_t peer_port)
{
	struct flow_key key = {.peer_port = peer_port, .local_port = local_port};

	flow_address(key.peer, peer);
	flow_address(key.local, local);
	uint32_t ref = stack_find(t, &key, flow_hash(&t->flows, &key));
	if (ref == FLOW_NONE || (ref & FLOW_TAGS) != 0)
		return;
	/* Only a connect in progress may be ended by ICMP; for an established connection the error
	 * is soft (RFC 5927 section 5.2) and the retransmission timer decides. */
	struct stream *s = slab_at(t->streams, ref, NULL);
	if (s->state == TCP_SYN_SENT)
		state_die(s, STREAM_END_UNREACHABLE);
}
