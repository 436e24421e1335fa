/* fuzz_frames.c - frames of anybody's making into the real receive path of two workers: Ethernet,
 * VLAN, ARP, neighbour discovery, listener queries, ICMP of both families, fragments, and TCP
 * up to a listening stack.  Every frame that leaves is well formed, and no packet buffer is
 * lost. */
#include "dataplane/net/wire.h"
#include "tests/fuzz/fuzz.h"
#include "tests/wire/bench.h"

enum { FRAMES = 64, FRAME_BYTES = 1600, PORT = 25 };

/* How a frame of the input is completed, so that the fuzzer need not guess sums. */
enum form { FORM_RAW, FORM_ARP, FORM_IP4, FORM_IP6, FORM_ICMP4, FORM_ICMP6, FORM_ND, FORMS };

static void sink_opened(struct stream *s, void *user)
{
}

static void sink_readable(struct stream *s, void *user)
{
	uint8_t data[256];

	while (stream_read(s, data, sizeof(data)) > 0)
		continue;
	if (stream_eof(s))
		stream_close(s);
}

static void sink_closed(struct stream *s, void *user, enum stream_end why)
{
}

static const struct stream_events sink = {sink_opened, sink_readable, sink_opened, sink_closed};

static void check_frame(void *arg, const uint8_t *e, size_t n)
{
	struct eth_view v;
	struct arp_view arp;
	struct ip_view ip;

	CLAIM(eth_parse(e, n, &v) && v.vlan == 0);
	e += v.header_bytes;
	n -= v.header_bytes;
	if (v.type == ETHERTYPE_ARP) {
		CLAIM(arp_parse(e, n, &arp));
	} else if (v.type == ETHERTYPE_IP4) {
		CLAIM(ip4_parse(e, n, false, &ip) == IP4_GOOD && n <= 1500);
		if (ip.protocol == PROTOCOL_ICMP)
			CLAIM(wire_checksum(ip.payload, ip.payload_bytes) == 0);
	} else {
		CLAIM(v.type == ETHERTYPE_IP6 && ip6_parse(e, n, &ip) == IP6_GOOD && n <= 1500);
		if (ip.protocol == PROTOCOL_ICMP6)
			CLAIM(wire_checksum6(ip.source, ip.destination, PROTOCOL_ICMP6, ip.payload,
					     ip.payload_bytes) == 0);
	}
}

static void link_header(uint8_t *f, uint16_t type, bool group)
{
	static const uint8_t from[MAC_BYTES] = {2, 0, 0, 0, 0, 1};

	memset(f, 0, MAC_BYTES); /* a ring port's address */
	if (group)
		f[0] = f[1] = type == ETHERTYPE_IP6 ? 0x33 : 0xff;
	memcpy(f + MAC_BYTES, from, MAC_BYTES);
	write_be16(f + 12, type);
}

/* A header in front of the n octets at f + ETH_BYTES + header; the whole length. */
static size_t wrap4(uint8_t *f, size_t n, uint8_t protocol)
{
	uint8_t *h = f + ETH_BYTES;
	struct ip_addr from = bench_address(true, false), to = bench_address(false, false);

	link_header(f, ETHERTYPE_IP4, false);
	memset(h, 0, IP4_BYTES);
	h[0] = 0x45;
	write_be16(h + 2, (uint16_t)(IP4_BYTES + n));
	h[8] = 64;
	h[9] = protocol;
	memcpy(h + 12, from.byte, 4);
	memcpy(h + 16, to.byte, 4);
	write_be16(h + 10, wire_checksum(h, IP4_BYTES));
	return ETH_BYTES + IP4_BYTES + n;
}

static size_t wrap6(uint8_t *f, size_t n, uint8_t hop_limit, bool group)
{
	uint8_t *h = f + ETH_BYTES, *icmp = h + IP6_BYTES;
	struct ip_addr from = bench_address(true, true), to = bench_address(false, true);
	static const uint8_t all[16] = {0xff, 2, [15] = 1};
	const uint8_t *destination = group ? all : to.byte;

	if (hop_limit == 1)
		addr_parse("fe80::99", &from);
	link_header(f, ETHERTYPE_IP6, group);
	ip6_build(h, (uint16_t)n, PROTOCOL_ICMP6, hop_limit, from.byte, destination);
	if (n >= 4) {
		write_be16(icmp + 2, 0);
		write_be16(icmp + 2,
			   wire_checksum6(from.byte, destination, PROTOCOL_ICMP6, icmp, n));
	}
	return ETH_BYTES + IP6_BYTES + n;
}

static size_t build(struct input *in, uint8_t *f, enum form form, uint8_t how)
{
	size_t n = form == FORM_RAW ? FRAME_BYTES : 1400, room = take16(in) % 1400u + 1;
	size_t header = form == FORM_ICMP6 || form == FORM_ND ? IP6_BYTES
			: form == FORM_ICMP4                  ? IP4_BYTES
							      : 0;

	n = n < room ? n : room;
	const uint8_t *data = take(in, &n);
	memcpy(f + (form == FORM_RAW ? 0 : ETH_BYTES + header), data, n);
	switch (form) {
	case FORM_ARP:
		link_header(f, ETHERTYPE_ARP, (how & 1) != 0);
		return ETH_BYTES + n;
	case FORM_IP4:
		link_header(f, ETHERTYPE_IP4, false);
		if (n >= IP4_BYTES && (how & 1) != 0) {
			uint8_t *h = f + ETH_BYTES;
			size_t bytes = (size_t)(h[0] & 15) * 4;
			write_be16(h + 10, 0);
			if (bytes <= n)
				write_be16(h + 10, wire_checksum(h, bytes));
		}
		return ETH_BYTES + n;
	case FORM_IP6:
		link_header(f, ETHERTYPE_IP6, (how & 1) != 0);
		return ETH_BYTES + n;
	case FORM_ICMP4: {
		uint8_t *icmp = f + ETH_BYTES + IP4_BYTES;
		if (n >= 4) {
			write_be16(icmp + 2, 0);
			write_be16(icmp + 2, wire_checksum(icmp, n));
		}
		return wrap4(f, n, PROTOCOL_ICMP);
	}
	case FORM_ICMP6:
		return wrap6(f, n, 64, false);
	case FORM_ND:
		return wrap6(f, n, (how & 2) != 0 ? 1 : 255, (how & 1) != 0);
	default:
		return n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = {data, n};
	struct bench *b = bench_get();
	struct tcp_listen l = {.port = PORT, .events = &sink};
	uint8_t frame[FRAME_BYTES + ETH_BYTES + IP6_BYTES];

	bench_reset(b, 1);
	bench_on_frame(b, check_frame, NULL);
	for (unsigned i = 0; i < BENCH_WORKERS; i++)
		CLAIM(tcp_listen(bench_worker(b, i)->tcp, &l) == 0);
	for (unsigned i = 0; i < FRAMES && in.left > 0; i++) {
		uint8_t how = take8(&in);
		size_t bytes = build(&in, frame, how % FORMS, how >> 4);
		bench_inject(b, how >> 3 & 1, frame, bytes);
		bench_run(b, (how & 0x80) != 0 ? 20000 : 100);
	}
	bench_run(b, 10000);
	CLAIM(bench_end(b) == 0);
	return 0;
}
