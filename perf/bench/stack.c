/* stack.c - sessions over our own TCP stack on a DPDK device */
#include "perf/bench/link.h"

#include "control/transport.h"
#include "dataplane/core/eal.h"
#include "dataplane/core/worker.h"
#include "tls/tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	PACKET_GROSS = 2560,
	PACKETS = 32768,
	EAL_SLACK = 24 << 20,
	PORT_FIRST = 1024,
	PORT_LAST = 65535,
	MORE_STREAMS = 4096, /* that still say goodbye */
	TIME_WAIT_US = 1000000,
};

struct stack_worker {
	struct worker *worker;
	struct transport transport;
	struct tls_worker *tls;
	struct engine *engine;
	const struct bench_options *options;
	unsigned next_address;
	uint16_t next_port[BENCH_ADDRESSES];
};

struct stack {
	const struct bench_options *options;
	struct net *net;
	struct tls *tls;
	struct stack_worker workers[BENCH_WORKERS];
	unsigned n_workers;
	bool eal, running;
};

static void on_opened(struct stream *stream, void *user)
{
	session_opened(container_of(user, struct session, link.conn));
}

static const struct stream_events stream_events = {on_opened, conn_stream_readable,
						   conn_stream_writable, conn_stream_closed};

static void on_secured(struct conn *c)
{
	session_secured(container_of(c, struct session, link.conn));
}

static void on_readable(struct conn *c)
{
	session_readable(container_of(c, struct session, link.conn));
}

static void on_writable(struct conn *c)
{
	session_writable(container_of(c, struct session, link.conn));
}

static void on_ended(struct conn *c, enum conn_end why)
{
	struct session *s = container_of(c, struct session, link.conn);
	bool refused = s->state == SESSION_OPENING;

	session_ended(s, why == CONN_END_TLS ? SESSION_END_TLS
			 : refused           ? SESSION_END_REFUSED
					     : SESSION_END_BROKEN);
}

static const struct conn_events conn_events = {on_secured, on_readable, on_writable, on_ended};

/* Ports in turn from every address: a million sessions need more than the ephemeral range. */
static int stack_open(struct session *s)
{
	struct stack_worker *w = s->engine->link_arg;
	const struct bench_options *o = w->options;
	int err = -EADDRNOTAVAIL;

	for (unsigned tries = 0; tries < 64; tries++) {
		unsigned a = w->next_address++ % o->n_addresses;
		uint16_t port = w->next_port[a];
		w->next_port[a] = port == PORT_LAST ? PORT_FIRST : (uint16_t)(port + 1);
		/* segments of the connection must come back to this worker */
		if (!net_owns_flow(w->transport.net_worker, &o->address[a].addr, port, &o->target,
				   o->port))
			continue;
		struct stream *stream =
			stream_connect_from(w->transport.tcp, &o->address[a].addr, port, &o->target,
					    o->port, &stream_events, NULL, &err);
		if (stream != NULL) {
			conn_init(&s->link.conn, w->tls, stream, &conn_events);
			return 0;
		}
		if (err != -EADDRNOTAVAIL)
			return err;
	}
	return err;
}

static bool stack_secure(struct session *s, const struct tls_ticket *ticket)
{
	const struct bench_options *o = s->engine->options;
	struct conn_tls how = {.client = true,
			       .name = o->name[0] != '\0' ? o->name : NULL,
			       .verify = o->ca_file != NULL,
			       .ticket = ticket};

	return conn_secure(&s->link.conn, &how);
}

static size_t stack_read(struct session *s, void *buf, size_t cap)
{
	return conn_read(&s->link.conn, buf, cap);
}

static bool stack_eof(const struct session *s)
{
	return conn_eof(&s->link.conn);
}

static size_t stack_write(struct session *s, const void *data, size_t n)
{
	return conn_write(&s->link.conn, data, n, false);
}

static void stack_close(struct session *s, bool polite)
{
	if (polite)
		conn_close(&s->link.conn);
	else
		conn_abort(&s->link.conn);
}

static bool stack_ticket(const struct session *s, struct tls_ticket *t)
{
	return conn_ticket(&s->link.conn, t);
}

static const struct link_ops stack_ops = {
	.open = stack_open,
	.secure = stack_secure,
	.read = stack_read,
	.eof = stack_eof,
	.write = stack_write,
	.close = stack_close,
	.ticket = stack_ticket,
};

static unsigned stage_tls(void *arg)
{
	return tls_poll(((struct stack_worker *)arg)->tls);
}

static int open_net(struct stack *k, char *error, size_t error_bytes)
{
	const struct bench_options *o = k->options;
	const char *devices[1] = {o->device};
	struct eal_config ec = {
		.cores = o->core,
		.n_workers = o->n_workers,
		.devices = devices,
		.n_devices = 1,
		.bytes = (uint64_t)PACKETS * PACKET_GROSS + o->memory +
			 o->n_workers * (1ull << 20) + EAL_SLACK,
		.hugepages = EAL_HUGE_AUTO,
	};
	struct net_config nc = {.n_ports = 1, .n_workers = o->n_workers, .packets = PACKETS};
	struct net_port_config *p = &nc.ports[0];
	int rc = eal_start(&ec, error, error_bytes);

	if (rc < 0)
		return rc;
	k->eal = true;
	p->device = o->device;
	p->mtu = o->mtu;
	p->n_addresses = o->n_addresses;
	for (unsigned i = 0; i < o->n_addresses; i++)
		p->addresses[i] = (struct net_address){o->address[i].addr, o->address[i].prefix};
	if (o->gateway.family == 4)
		p->gateway4 = o->gateway;
	else if (o->gateway.family == 6)
		p->gateway6 = o->gateway;
	return net_create(&k->net, &nc, error, error_bytes);
}

static int open_worker(struct stack *k, unsigned index)
{
	const struct bench_options *o = k->options;
	struct stack_worker *w = &k->workers[index];
	struct worker_config wc = {
		.index = index,
		.core = o->core[index],
		.adaptive = !o->poll,
		.chunk_bytes = o->memory / o->n_workers / 65536 * 65536,
	};
	struct tcp_config tc;

	w->options = o;
	w->worker = worker_create(&wc);
	if (w->worker == NULL)
		return -ENOMEM;
	k->n_workers = index + 1;
	/* the ports of the run before may still be waiting at the server */
	for (unsigned i = 0; i < BENCH_ADDRESSES; i++)
		w->next_port[i] = (uint16_t)(PORT_FIRST + shard_random(&w->worker->shard) %
								  (PORT_LAST - PORT_FIRST + 1));
	tcp_config_default(&tc);
	tc.mtu = o->mtu;
	tc.max_streams = o->sessions / o->n_workers + MORE_STREAMS;
	tc.time_wait_us = TIME_WAIT_US;
	tc.trace_events = 0;
	int rc = transport_create(&w->transport, k->net, &w->worker->shard, &tc);
	w->tls = rc == 0 ? tls_worker_create(k->tls, &w->worker->shard) : NULL;
	w->engine =
		w->tls != NULL ? engine_create(&w->worker->shard, o, index, &stack_ops, w) : NULL;
	if (w->engine == NULL)
		return -ENOMEM;
	worker_add_stage(w->worker, "receive", net_receive, w->transport.net_worker);
	worker_add_stage(w->worker, "tls", stage_tls, w);
	worker_add_stage(w->worker, "engine", engine_turn, w->engine);
	worker_add_stage(w->worker, "tcp", transport_flush, &w->transport);
	worker_add_stage(w->worker, "transmit", net_transmit, w->transport.net_worker);
	return 0;
}

static int open_tls(struct stack *k, char *error, size_t error_bytes)
{
	const struct bench_options *o = k->options;
	struct tls_config tc = {
		.threads = o->threads,
		.ca_file = o->ca_file,
		.max_sessions = o->sessions + MORE_STREAMS,
		.native_records = o->native_records,
		.client_only = true,
		.client_1_2 = o->tls_1_2,
	};
	int rc = tls_open(&k->tls, &tc, error, error_bytes);

	return rc == 0 ? tls_start(k->tls) : rc;
}

struct stack *stack_start(const struct bench_options *o, struct engine **engines, char *error,
			  size_t error_bytes)
{
	struct stack *k = calloc(1, sizeof(*k));
	int rc = k != NULL ? 0 : -ENOMEM;

	snprintf(error, error_bytes, "out of memory: --memory or --sessions is too large");
	if (rc < 0)
		return NULL;
	k->options = o;
	rc = open_net(k, error, error_bytes);
	if (rc == 0)
		rc = open_tls(k, error, error_bytes);
	for (unsigned i = 0; rc == 0 && i < o->n_workers; i++) {
		rc = open_worker(k, i);
		engines[i] = k->workers[i].engine;
	}
	for (unsigned i = 0; rc == 0 && i < k->n_workers; i++)
		rc = worker_launch(k->workers[i].worker);
	k->running = rc == 0;
	if (rc == 0)
		return k;
	stack_end(k);
	return NULL;
}

int stack_call(struct stack *k, unsigned worker, void (*fn)(void *arg), void *arg)
{
	return worker_call(k->workers[worker].worker, fn, arg, NULL, 5000);
}

uint64_t stack_cycles(const struct stack *k, bool productive)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < k->n_workers; i++)
		n += counter_read(
			&k->workers[i].worker->counters[productive ? worker_productive_cycles
								   : worker_idle_cycles]);
	return n;
}

void stack_end(struct stack *k)
{
	for (unsigned i = 0; k->running && i < k->n_workers; i++)
		worker_join(k->workers[i].worker);
	if (k->tls != NULL)
		tls_stop(k->tls);
	for (unsigned i = 0; i < k->n_workers; i++) {
		struct stack_worker *w = &k->workers[i];
		engine_destroy(w->engine);
		if (w->transport.tcp != NULL && w->transport.net_worker != NULL) {
			tcp_flush(w->transport.tcp);
			net_transmit(w->transport.net_worker);
		}
		tls_worker_destroy(w->tls);
		transport_destroy(&w->transport);
		worker_destroy(w->worker);
	}
	if (k->tls != NULL)
		tls_close(k->tls);
	if (k->net != NULL)
		net_destroy(k->net);
	if (k->eal)
		eal_stop();
	free(k);
}
