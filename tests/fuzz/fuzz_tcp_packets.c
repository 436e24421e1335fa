/* fuzz_tcp_packets.c - a peer that does what it likes, and an application that does what it may,
 * against one stack: no packet that leaves is malformed, and once everything is closed and time
 * has passed nothing is left */
#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/seq.h"
#include "dataplane/tcp/wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/embed.h"

enum { SOCKS = 4, PORT = 25, PEER_PORT = 40000, STEPS = 400, PACKET = 2000 };
enum { SEND_MOST = 40000, HOUR_US = 3600 };

struct world {
	struct tcpe_config config;
	struct tcpe_stack *st;
	struct tcpe_sock *listener, *sock[SOCKS];
	struct input in;
	int family;
	uint16_t port;                   /* of the peer's next segment */
	uint32_t seq[SOCKS], ack[SOCKS]; /* what the stack expects, and has sent, by port */
	uint32_t ts[SOCKS];              /* its latest timestamp */
	uint8_t packet[PACKET], out[PACKET];
};

static struct tcpe_addr address(const struct world *w, bool peer)
{
	struct tcpe_addr a = {.family = (uint8_t)w->family, .port = peer ? w->port : PORT};

	a.ip[0] = w->family == 4 ? 192 : 0x20;
	a.ip[1] = w->family == 4 ? 0 : 1;
	a.ip[2] = w->family == 4 ? 2 : 0xd;
	a.ip[w->family == 4 ? 3 : 15] = peer ? 2 : 1;
	return a;
}

static void begin(struct world *w)
{
	uint8_t a = take8(&w->in), b = take8(&w->in);
	int err;

	tcpe_config_default(&w->config);
	w->family = (a & 1) != 0 ? 6 : 4;
	w->config.sack = (a & 2) == 0;
	w->config.timestamps = (a & 4) == 0;
	w->config.window_scaling = (a & 8) == 0;
	w->config.ecn = a >> 4 & 1;
	w->config.cc = (a & 0x20) != 0 ? TCPE_CC_RENO : TCPE_CC_CUBIC;
	w->config.rack = (a & 0x40) == 0;
	w->config.prr = (a & 0x80) == 0;
	w->config.delack_us = (b & 1) != 0 ? 0 : 40000;
	w->config.drop_syn_fin = (b & 2) == 0;
	w->config.max_socks = (b & 4) != 0 ? 8 : 64;
	w->config.rcvbuf = (b & 8) != 0 ? 2000 : 65536;
	w->config.sndbuf = (b & 16) != 0 ? 3000 : 65536;
	w->config.mtu = (b & 32) != 0 ? 9000 % PACKET + 600 : 1500;
	w->config.now_us = (b & 64) != 0 ? 0xffffffffull * 1000 - 5000 : 1000000;
	w->port = PEER_PORT;
	w->config.local[0] = address(w, false);
	w->config.n_local = 1;
	w->st = tcpe_create(&w->config, &err);
	CLAIM(w->st != NULL);
	struct tcpe_addr local = address(w, false);
	w->listener = tcpe_socket(w->st, w->family);
	CLAIM(tcpe_bind(w->listener, &local) == 0 && tcpe_listen(w->listener, 4) == 0);
}

static void check_packet(struct world *w, size_t n)
{
	unsigned ip = w->family == 4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	const uint8_t *h = w->out + ip;
	struct tcpe_addr from = address(w, false), to = address(w, true);
	struct ip_addr a = embed_ip(&from), b = embed_ip(&to);

	CLAIM(n >= ip + WIRE_TCP_BYTES && n <= w->config.mtu);
	CLAIM(w->family == 6 || checksum_finish(checksum_add(0, w->out, ip)) == 0);
	uint64_t sum = checksum_pseudo(&a, &b, (uint32_t)(n - ip));
	CLAIM(checksum_finish(checksum_add(sum, h, n - ip)) == 0);
	unsigned header = (unsigned)(h[12] >> 4) * 4;
	CLAIM(header >= WIRE_TCP_BYTES && ip + header <= n);
	CLAIM((h[13] & (WIRE_SYN | WIRE_FIN)) != (WIRE_SYN | WIRE_FIN));
	unsigned i = wire_get16(h + 2) % SOCKS;
	uint32_t length =
		(uint32_t)(n - ip - header) + ((h[13] & WIRE_SYN) != 0) + ((h[13] & WIRE_FIN) != 0);
	w->ack[i] = wire_get32(h + 4) + length;
	if ((h[13] & WIRE_ACK) != 0)
		w->seq[i] = wire_get32(h + 8);
	if (header >= 32 && h[20] == 1 && h[21] == 1 && h[22] == 8)
		w->ts[i] = wire_get32(h + 24);
}

static void collect(struct world *w)
{
	ssize_t n;

	while ((n = tcpe_packet_out(w->st, w->out, sizeof(w->out), NULL)) > 0)
		check_packet(w, (size_t)n);
	CLAIM(n == 0);
}

static unsigned put_options(struct world *w, uint8_t *p, uint8_t how, unsigned i)
{
	uint8_t *begin_at = p;

	if ((how & 1) != 0) { /* a SYN's */
		uint8_t syn[] = {2, 4, 0, 0, 4, 2, 1, 3, 3, take8(&w->in), 1, 1};
		wire_put16(syn + 2, take16(&w->in));
		memcpy(p, syn, sizeof(syn));
		p += sizeof(syn);
	}
	if ((how & 2) != 0) {
		p[0] = p[1] = 1;
		p[2] = 8;
		p[3] = 10;
		wire_put32(p + 4, take16(&w->in));
		wire_put32(p + 8, w->ts[i] + (how & 4 ? take8(&w->in) : 0));
		p += 12;
	}
	if ((how & 8) != 0) {
		unsigned blocks = p - begin_at > 12 ? 1 : 2;
		p[0] = p[1] = 1;
		p[2] = 5;
		p[3] = (uint8_t)(2 + 8 * blocks);
		for (unsigned k = 0; k < blocks; k++) {
			uint32_t from = w->ack[i] - take16(&w->in);
			wire_put32(p + 4 + 8 * k, from);
			wire_put32(p + 8 + 8 * k, from + take16(&w->in));
		}
		p += 4 + 8 * blocks;
	}
	while ((how & 16) != 0 && p - begin_at < 36)
		*p++ = take8(&w->in);
	while ((p - begin_at) % 4 != 0)
		*p++ = 0;
	return (unsigned)(p - begin_at);
}

static unsigned put_ip(struct world *w, unsigned protocol, unsigned bytes, uint8_t tos)
{
	struct tcpe_addr from = address(w, true), to = address(w, false);
	uint8_t *p = w->packet;

	if (w->family == 6) {
		memset(p, 0, WIRE_IP6_BYTES);
		p[0] = (uint8_t)(0x60 | tos >> 4);
		p[1] = (uint8_t)(tos << 4);
		wire_put16(p + 4, (uint16_t)bytes);
		p[6] = (uint8_t)protocol;
		memcpy(p + 8, from.ip, 16);
		memcpy(p + 24, to.ip, 16);
		return WIRE_IP6_BYTES;
	}
	memset(p, 0, WIRE_IP4_BYTES);
	p[0] = 0x45;
	p[1] = tos;
	wire_put16(p + 2, (uint16_t)(WIRE_IP4_BYTES + bytes));
	p[9] = (uint8_t)protocol;
	memcpy(p + 12, from.ip, 4);
	memcpy(p + 16, to.ip, 4);
	uint16_t sum = checksum_finish(checksum_add(0, p, WIRE_IP4_BYTES));
	memcpy(p + 10, &sum, 2);
	return WIRE_IP4_BYTES;
}

static void put_checksum(struct world *w, uint8_t *h, unsigned bytes)
{
	struct tcpe_addr from = address(w, true), to = address(w, false);
	struct ip_addr a = embed_ip(&from), b = embed_ip(&to);
	uint16_t sum = checksum_finish(checksum_add(checksum_pseudo(&a, &b, bytes), h, bytes));

	memcpy(h + 16, &sum, 2);
}

/* Numbers near what the stack expects; how far away, the input says. */
static void step_segment(struct world *w)
{
	unsigned ip = w->family == 4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	uint8_t *h = w->packet + ip, how = take8(&w->in), flags = take8(&w->in);
	unsigned i = w->port % SOCKS;
	uint32_t seq = w->seq[i], ack = w->ack[i], len = (how & 1) != 0 ? take16(&w->in) % 1200 : 0;

	if ((how & 2) != 0)
		seq += (uint32_t)(int16_t)take16(&w->in);
	if ((how & 4) != 0)
		ack -= take16(&w->in);
	if ((how & 8) != 0)
		seq = take32(&w->in);
	if ((how & 16) != 0)
		ack = take32(&w->in);
	memset(h, 0, WIRE_TCP_BYTES + 40);
	unsigned header = WIRE_TCP_BYTES;
	if ((how & 32) != 0)
		header += put_options(w, h + WIRE_TCP_BYTES, take8(&w->in), i);
	wire_put16(h, w->port);
	wire_put16(h + 2, (how & 64) != 0 ? take16(&w->in) : PORT);
	wire_put32(h + 4, seq);
	wire_put32(h + 8, ack);
	h[12] = (uint8_t)(header / 4 << 4);
	h[13] = flags;
	wire_put16(h + 14, (how & 128) != 0 ? take16(&w->in) : 65535);
	for (uint32_t k = 0; k < len; k++)
		h[header + k] = (uint8_t)(seq + k);
	put_checksum(w, h, header + len);
	put_ip(w, 6, header + len, flags >> 6 & 3);
	tcpe_packet_in(w->st, w->packet, ip + header + len);
}

/* The input's own bytes, behind an honest IP header or not. */
static void step_raw(struct world *w)
{
	uint8_t how = take8(&w->in);
	size_t n = take8(&w->in);
	unsigned ip = w->family == 4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	const uint8_t *p = take(&w->in, &n);

	if ((how & 1) != 0) {
		tcpe_packet_in(w->st, p, n);
		return;
	}
	memcpy(w->packet + ip, p, n);
	if (n >= WIRE_TCP_BYTES && (how & 2) != 0) {
		memset(w->packet + ip + 16, 0, 2);
		put_checksum(w, w->packet + ip, (unsigned)n);
	}
	put_ip(w, how & 4 ? (w->family == 4 ? 1u : 58u) : 6u, (unsigned)n, 0);
	tcpe_packet_in(w->st, w->packet, ip + n);
}

static void step_time(struct world *w)
{
	static const uint64_t us[] = {1,         1000,        39999,        40000,
				      200000,    1000000,     5000000,      60000000,
				      600000000, 86400000000, 2160000000000};

	tcpe_advance(w->st, tcpe_now(w->st) + us[take8(&w->in) % 11]);
}

static void step_port(struct world *w)
{
	w->port = (uint16_t)(PEER_PORT + take8(&w->in) % SOCKS);
}

static struct tcpe_sock **slot(struct world *w)
{
	return &w->sock[w->port % SOCKS];
}

static void step_accept(struct world *w)
{
	int err;
	struct tcpe_sock *s = tcpe_accept(w->listener, &err);
	struct tcpe_addr peer;

	if (s == NULL)
		return;
	CLAIM(tcpe_peer_addr(s, &peer) == 0);
	struct tcpe_sock **at = &w->sock[peer.port % SOCKS];
	if (*at != NULL)
		tcpe_close(*at);
	*at = s;
}

static void step_connect(struct world *w)
{
	struct tcpe_addr local = address(w, false), peer = address(w, true);

	if (*slot(w) == NULL)
		*slot(w) = tcpe_socket(w->st, w->family);
	if (*slot(w) == NULL)
		return;
	local.port = 0;
	tcpe_bind(*slot(w), &local);
	tcpe_connect(*slot(w), &peer);
}

static void step_send(struct world *w)
{
	static const uint8_t zeros[SEND_MOST];
	size_t n = take16(&w->in) % SEND_MOST;

	if (*slot(w) != NULL)
		CLAIM(tcpe_send(*slot(w), zeros, n, n & 1) <= (ssize_t)n);
}

static void step_recv(struct world *w)
{
	uint8_t buffer[4096];
	size_t n = take16(&w->in) % sizeof(buffer);

	if (*slot(w) != NULL)
		CLAIM(tcpe_recv(*slot(w), buffer, n, n & 1) <= (ssize_t)n);
}

static void step_end(struct world *w)
{
	uint8_t how = take8(&w->in) % 5;

	if (*slot(w) == NULL)
		return;
	if (how < 3) {
		tcpe_shutdown(*slot(w), how);
		return;
	}
	if (how == 3)
		tcpe_close(*slot(w));
	else
		tcpe_abort(*slot(w));
	*slot(w) = NULL;
}

static void step_option(struct world *w)
{
	enum tcpe_opt o = take8(&w->in) % (TCPE_OUTQ_NSD + 2);
	int64_t v = take16(&w->in);

	if (*slot(w) != NULL) {
		tcpe_setopt(*slot(w), o, v);
		tcpe_getopt(*slot(w), o, &v);
	}
}

static void check_sock(struct tcpe_sock *s)
{
	struct tcpe_info i;

	if (s == NULL)
		return;
	CLAIM(tcpe_info(s, &i) == 0);
	CLAIM(i.state == TCPE_CLOSED || seq_le(i.snd_una, i.snd_nxt));
	CLAIM(i.sacked + i.lost <= i.unacked);
	CLAIM(i.bytes_acked <= i.bytes_sent);
	tcpe_ready(s);
}

static void (*const steps[])(struct world *w) = {
	step_segment, step_segment, step_segment, step_segment, step_raw, step_time,  step_port,
	step_accept,  step_connect, step_send,    step_recv,    step_end, step_option};

/* Everything is closed, the network has gone, and a day passes. */
static void end(struct world *w)
{
	for (unsigned i = 0; i < SOCKS; i++) {
		if (w->sock[i] != NULL)
			tcpe_close(w->sock[i]);
	}
	tcpe_close(w->listener);
	collect(w);
	for (unsigned i = 0; i < 24; i++) {
		tcpe_advance(w->st, tcpe_now(w->st) + HOUR_US * 1000000ull);
		collect(w);
	}
	CLAIM(tcpe_next_timer(w->st) == UINT64_MAX);
	CLAIM(tcp_stream_count(w->st->tcp) == 0);
	CLAIM(w->st->n_socks == 0);
	CLAIM(tcpe_count_state(w->st, TCPE_TIME_WAIT) == 0);
	CLAIM(chunk_pool_used(w->st->shard.chunks) == 0);
	tcpe_destroy(w->st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct world *w = calloc(1, sizeof(*w));

	CLAIM(w != NULL);
	w->in = (struct input){data, n};
	begin(w);
	for (unsigned i = 0; i < STEPS && w->in.left > 0; i++) {
		steps[take8(&w->in) % (sizeof(steps) / sizeof(steps[0]))](w);
		collect(w);
		for (unsigned k = 0; k < SOCKS; k++)
			check_sock(w->sock[k]);
	}
	end(w);
	free(w);
	return 0;
}
