/* fuzz_wire.c - frames: whatever a parser shows lies inside the frame; fragments of them come
 * together within the table's memory */
#include "dataplane/net/reassembly.h"
#include "dataplane/net/wire.h"
#include "tests/fuzz/fuzz.h"

static void check_ip(const struct ip_view *v, const uint8_t *p, size_t n)
{
	CLAIM(v->addr_bytes == 4 || v->addr_bytes == 16);
	CLAIM(within(v->source, v->addr_bytes, p, n));
	CLAIM(within(v->destination, v->addr_bytes, p, n));
	CLAIM(within(v->payload, v->payload_bytes, p, n));
}

static void reassemble(struct reassembly *r, struct ip_view *v, uint64_t now_us)
{
	if (reassembly_add(r, v, now_us) == REASSEMBLY_WHOLE)
		CLAIM(v->payload_bytes <= REASSEMBLY_BYTES &&
		      within(v->payload, v->payload_bytes, r, sizeof(*r)));
}

static void take_ip4(struct reassembly *r, const uint8_t *p, size_t n, bool trust, uint64_t now_us)
{
	struct ip_view v;
	enum ip4_verdict verdict = ip4_parse(p, n, trust, &v);

	if (verdict != IP4_GOOD && verdict != IP4_FRAGMENT)
		return;
	check_ip(&v, p, n);
	if (verdict == IP4_FRAGMENT)
		reassemble(r, &v, now_us);
}

static void take_ip6(struct reassembly *r, const uint8_t *p, size_t n, uint64_t now_us)
{
	struct ip_view v;
	enum ip6_verdict verdict = ip6_parse(p, n, &v);

	if (verdict != IP6_GOOD && verdict != IP6_FRAGMENT)
		return;
	check_ip(&v, p, n);
	if (verdict == IP6_FRAGMENT)
		reassemble(r, &v, now_us);
	else
		wire_checksum6(v.source, v.destination, v.protocol, v.payload, v.payload_bytes);
}

static void take_arp(const uint8_t *p, size_t n)
{
	struct arp_view v;

	if (!arp_parse(p, n, &v))
		return;
	CLAIM(within(v.sender_mac, 6, p, n) && within(v.sender_ip, 4, p, n) &&
	      within(v.target_ip, 4, p, n));
}

static void take_frame(struct reassembly *r, const uint8_t *frame, size_t n, uint8_t how,
		       uint64_t now_us)
{
	struct eth_view v;

	/* Most of the time the link layer is not what is of interest. */
	if ((how & 3) == 0 && eth_parse(frame, n, &v)) {
		CLAIM(v.header_bytes <= n && within(v.source, 6, frame, n));
		frame += v.header_bytes;
		n -= v.header_bytes;
	}
	take_ip4(r, frame, n, (how & 4) != 0, now_us);
	take_ip6(r, frame, n, now_us);
	take_arp(frame, n);
}

/* A sequence of frames: how it is read, its length, its bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = {data, n};
	struct reassembly *r = calloc(1, sizeof(*r));
	uint64_t now_us = 1;

	CLAIM(r != NULL);
	while (in.left > 0) {
		uint8_t how = take8(&in);
		size_t bytes = take16(&in) & 0x7ff;
		const uint8_t *p = take(&in, &bytes);
		uint8_t *exact = malloc(bytes + (bytes == 0));
		CLAIM(exact != NULL);
		memcpy(exact, p, bytes);
		now_us += (how >> 4) * 1000000ull;
		take_frame(r, exact, bytes, how, now_us);
		free(exact);
	}
	free(r);
	return 0;
}
