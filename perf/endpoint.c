/*
 * endpoint.c - bulk transfers over our stack on a DPDK port, for comparison with Linux.
 *
 *	endpoint IFACE ADDRESS/PREFIX [CORE]
 *
 * Server: listens on port 7000; a connection begins with 16 octets: 'S' or 'R' and a decimal
 * size, or 'Q' and NUMBER,REQUEST,REPLY; 'S': sends that many octets and FIN; 'R': receives them
 * and answers one octet; 'Q': answers each request of so many octets by a reply of so many.
 * Client: a line "S|R|Q SIZE PEER PORT" on standard input does the same as a client ('S': asks the
 * peer to send) and prints the microseconds from the SYN to the last octet.
 */
#include "control/transport.h"
#include "dataplane/core/eal.h"
#include "dataplane/core/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PORT = 7000, HEAD = 16, PACKETS = 8192, CHUNK_BYTES = 64 << 20, WINDOW = 4 << 20 };

struct endpoint {
	struct worker *worker;
	struct net *net;
	struct transport transport;
	struct ip_addr local;
};

/* A transfer; head holds the request as it comes in or goes out. */
struct transfer {
	struct endpoint *e;
	struct stream *stream;
	bool client, we_send, request_done;
	char head[HEAD + 1];
	unsigned head_bytes;
	uint64_t left, began_us;
	unsigned long exchanges, request, reply; /* 'Q' */
	uint64_t owed;                           /* 'Q': octets of ours not yet written */
	struct ip_addr peer;
	uint16_t peer_port;
	_Atomic int64_t result; /* client: microseconds, -1: failed, 0: running */
};

static const uint8_t zeros[65536];

static void finish(struct transfer *t, int64_t result)
{
	if (t->client)
		atomic_store(&t->result, result);
	else
		free(t);
}

/* true: a server has sent everything, and its transfer is gone. */
static bool send_more(struct transfer *t)
{
	while (t->left > 0) {
		size_t n = t->left < sizeof(zeros) ? (size_t)t->left : sizeof(zeros);
		size_t took = stream_write(t->stream, zeros, n, 0);
		t->left -= took;
		if (took < n)
			return false;
	}
	if (t->client)
		return false;
	stream_close(t->stream);
	finish(t, 0);
	return true;
}

static bool asks(const struct transfer *t)
{
	return t->head[0] == 'Q';
}

static void pump(struct transfer *t)
{
	while (t->owed > 0) {
		size_t n = t->owed < sizeof(zeros) ? (size_t)t->owed : sizeof(zeros);
		size_t took = stream_write(t->stream, zeros, n, 0);
		t->owed -= took;
		if (took < n)
			return;
	}
}

/* Both ends: the request is written by the client, the reply by the server. */
static bool begin_exchanges(struct transfer *t)
{
	if (sscanf(t->head + 1, "%lu,%lu,%lu", &t->exchanges, &t->request, &t->reply) != 3)
		return false;
	t->left = t->client ? t->reply : t->request;
	t->owed = t->client ? t->request : 0;
	pump(t);
	return true;
}

/* A request or a reply is in; true: it was the last reply. */
static bool exchanged(struct transfer *t)
{
	if (t->exchanges == 0 || --t->exchanges == 0)
		t->left = UINT64_MAX; /* only the end is to come */
	else
		t->left = t->client ? t->reply : t->request;
	if (t->client && t->exchanges == 0)
		return true;
	t->owed += t->client ? t->request : t->reply;
	pump(t);
	return false;
}

/* true: the transfer is gone. */
static bool request_in(struct transfer *t)
{
	t->request_done = true;
	if (asks(t) && !begin_exchanges(t)) {
		stream_abort(t->stream);
		finish(t, -1);
		return true;
	}
	if (asks(t))
		return false;
	t->we_send = t->head[0] == 'S';
	t->left = strtoull(t->head + 1, NULL, 10);
	return t->we_send && send_more(t);
}

/* The last octet has come: ours to receive as a server, the answer or the data as a client. */
static void received_all(struct transfer *t)
{
	uint64_t us = t->e->worker->shard.now_us - t->began_us;
	struct stream *s = t->stream;

	if (!t->client && !asks(t))
		stream_write(s, "!", 1, 0);
	stream_close(s);
	finish(t, (int64_t)us);
}

static void on_readable(struct stream *s, void *user)
{
	struct transfer *t = user;
	const uint8_t *p;
	size_t n;

	while (!t->request_done &&
	       (n = stream_read(s, t->head + t->head_bytes, HEAD - t->head_bytes)) > 0) {
		t->head_bytes += (unsigned)n;
		if (t->head_bytes == HEAD && request_in(t))
			return;
	}
	if (!t->request_done && stream_eof(s)) {
		stream_close(s);
		finish(t, -1);
		return;
	}
	if (t->we_send)
		return;
	while ((n = stream_peek(s, &p)) > 0) {
		n = n < t->left ? n : (size_t)t->left;
		stream_consume(s, n);
		t->left -= n;
		if (t->left == 0 && (!asks(t) || exchanged(t))) {
			received_all(t);
			return;
		}
	}
	if (stream_eof(s)) {
		stream_close(s);
		finish(t, -1);
	}
}

static void on_writable(struct stream *s, void *user)
{
	struct transfer *t = user;

	pump(t);
	if (t->we_send && t->request_done && t->left > 0 && send_more(t))
		return;
	/* a client that has sent everything waits for one octet */
	if (t->client && t->we_send && t->left == 0) {
		t->we_send = false;
		t->left = 1;
	}
}

static void on_opened(struct stream *s, void *user)
{
	struct transfer *t = user;

	stream_set_receive_limit(s, WINDOW);
	stream_set_send_limit(s, WINDOW);
	t->request_done = true;
	stream_write(s, t->head, HEAD, 0);
	if (asks(t))
		begin_exchanges(t);
	else
		t->left = strtoull(t->head + 1, NULL, 10);
	on_writable(s, t);
}

static void on_closed(struct stream *s, void *user, enum stream_end why)
{
	struct transfer *t = user;

	finish(t, -1);
}

static const struct stream_events client_events = {on_opened, on_readable, on_writable, on_closed};

static void server_opened(struct stream *s, void *user)
{
	struct transfer *t = calloc(1, sizeof(*t));

	stream_set_receive_limit(s, WINDOW);
	stream_set_send_limit(s, WINDOW);
	t->e = user;
	t->stream = s;
	stream_set_user(s, t);
}

static const struct stream_events server_events = {server_opened, on_readable, on_writable,
						   on_closed};

static void fail(const char *what)
{
	fprintf(stderr, "endpoint: %s\n", what);
	exit(1);
}

static void bring_up(struct endpoint *e, const char *iface, const char *address, unsigned core)
{
	char device[64], text[64], error[512] = "";
	const char *devices[1] = {device};
	const char *slash = strchr(address, '/');
	struct net_config nc = {.n_ports = 1, .n_workers = 1, .packets = PACKETS};
	struct eal_config ec = {.cores = &core,
				.n_workers = 1,
				.devices = devices,
				.n_devices = 1,
				.bytes = 160 << 20,
				.hugepages = EAL_HUGE_OFF};

	snprintf(device, sizeof(device), "net_af_packet0,iface=%s", iface);
	snprintf(text, sizeof(text), "%.*s", slash != NULL ? (int)(slash - address) : 0, address);
	if (slash == NULL || !addr_parse(text, &e->local))
		fail("ADDRESS/PREFIX is expected");
	nc.ports[0].device = device;
	nc.ports[0].mtu = 1500;
	nc.ports[0].n_addresses = 1;
	nc.ports[0].addresses[0] = (struct net_address){e->local, (uint8_t)atoi(slash + 1)};
	if (eal_start(&ec, error, sizeof(error)) < 0 ||
	    net_create(&e->net, &nc, error, sizeof(error)) < 0)
		fail(error);
	struct worker_config wc = {.core = core, .adaptive = true, .chunk_bytes = CHUNK_BYTES};
	e->worker = worker_create(&wc);
	if (e->worker == NULL)
		fail("no memory");
	struct tcp_config tc;
	tcp_config_default(&tc);
	tc.receive_limit_max = WINDOW;
	tc.receive_limit = 1 << 20;
	tc.time_wait_us = 1000000;
	struct tcp_listen l = {.port = PORT, .events = &server_events, .user = e};
	if (transport_create(&e->transport, e->net, &e->worker->shard, &tc) < 0 ||
	    tcp_listen(e->transport.tcp, &l) < 0)
		fail("no memory");
	worker_add_stage(e->worker, "receive", net_receive, e->transport.net_worker);
	worker_add_stage(e->worker, "tcp", transport_flush, &e->transport);
	worker_add_stage(e->worker, "transmit", net_transmit, e->transport.net_worker);
}

static void start_transfer(void *arg)
{
	struct transfer *t = arg;
	int err;

	t->began_us = t->e->worker->shard.now_us;
	t->stream = stream_connect(t->e->transport.tcp, &t->e->local, &t->peer, t->peer_port,
				   &client_events, t, &err);
	if (t->stream == NULL)
		atomic_store(&t->result, -1);
}

/* One line of standard input; false: it has ended. */
static bool serve_line(struct endpoint *e)
{
	static struct transfer t;
	char line[200], peer[64], size[HEAD], kind;
	unsigned port;

	if (fgets(line, sizeof(line), stdin) == NULL)
		return false;
	if (sscanf(line, "%c %15s %63s %u", &kind, size, peer, &port) != 4)
		fail("S|R|Q SIZE PEER PORT is expected");
	t = (struct transfer){
		.e = e, .client = true, .we_send = kind == 'R', .peer_port = (uint16_t)port};
	snprintf(t.head, sizeof(t.head), "%c%-15s", kind, size);
	if (!addr_parse(peer, &t.peer) ||
	    worker_call(e->worker, start_transfer, &t, NULL, 5000) < 0)
		fail("cannot start");
	int64_t result;
	for (unsigned ms = 0; (result = atomic_load(&t.result)) == 0 && ms < 120000; ms++)
		usleep(1000);
	printf("%lld\n", (long long)result);
	fflush(stdout);
	return result != 0;
}

int main(int argc, char **argv)
{
	static struct endpoint e;

	if (argc < 3)
		fail("usage: endpoint IFACE ADDRESS/PREFIX [CORE]");
	bring_up(&e, argv[1], argv[2], argc > 3 ? (unsigned)atoi(argv[3]) : 1);
	if (worker_launch(e.worker) < 0)
		fail("cannot start the worker");
	printf("ready\n");
	fflush(stdout);
	while (serve_line(&e))
		;
	worker_join(e.worker);
	for (unsigned i = 0; getenv("ENDPOINT_COUNTERS") != NULL && i < tcp_counter_count; i++) {
		if (tcp_counters(e.transport.tcp)[i] != 0)
			fprintf(stderr, "%s %llu\n", tcp_counter_desc[i].name,
				(unsigned long long)tcp_counters(e.transport.tcp)[i]);
	}
	return 0;
}
