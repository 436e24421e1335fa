/* segments_packet.c - building the peer's segments, taking the stack's apart */
#include "tests/sim/segments.h"

#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/wire.h"

#include <errno.h>
#include <stdlib.h>

enum { OPTION_ROOM = 40, IP_TCP = 6, LAYOUT_BYTES = 80 };

static const char flag_letters[] = "FSRPAUEC";

/* A segment of the stack's, numbers relative. */
struct got {
	uint8_t flags, tos;
	uint32_t seq, ack, len, ts_value, ts_echo;
	uint16_t window, mss, urgent;
	int scale; /* -1: none */
	bool has_mss, has_ts, sack_ok;
	unsigned sacks;
	uint32_t sack[8];
	char layout[LAYOUT_BYTES];
	uint64_t when_us;
	const uint8_t *data;
};

uint8_t seg_pattern(uint32_t k)
{
	return (uint8_t)(k * 7 + k / 251);
}

static unsigned parse_flags(struct run *r, const char *text)
{
	unsigned flags = 0;

	for (; text != NULL && *text != '\0'; text++) {
		const char *at = strchr(flag_letters, *text);
		if (at == NULL) {
			seg_fail(r, "no such flag: %c", *text);
			return 0;
		}
		flags |= 1u << (at - flag_letters);
	}
	return flags;
}

static uint8_t *put_option(uint8_t *p, uint8_t kind, unsigned bytes, uint64_t value)
{
	*p++ = kind;
	*p++ = (uint8_t)bytes;
	for (unsigned i = bytes - 2; i-- > 0;)
		*p++ = (uint8_t)(value >> (8 * i));
	return p;
}

/* a-b,c-d: up to four blocks of what the stack has sent */
static uint8_t *put_sacks(struct run *r, uint8_t *p, const char *text)
{
	uint8_t *begin = p;
	unsigned long from, to;
	int n;

	*p++ = 1;
	*p++ = 1;
	*p++ = 5;
	p++;
	while (sscanf(text, "%lu-%lu%n", &from, &to, &n) == 2) {
		wire_put32(p, r->now->theirs + (uint32_t)from);
		wire_put32(p + 4, r->now->theirs + (uint32_t)to);
		p += 8;
		text += n + (text[n] == ',');
	}
	begin[3] = (uint8_t)(p - begin - 2);
	return p;
}

static uint8_t *put_timestamp(struct run *r, uint8_t *p)
{
	const char *text = seg_option(r, "ts");
	uint32_t value = r->ts_value, echo = r->now->ts_seen;

	if (text == NULL ? !r->stamped : strcmp(text, "none") == 0)
		return p;
	if (text != NULL) {
		char *end;
		value = (uint32_t)strtoul(text, &end, 0);
		if (*end == ',')
			echo = (uint32_t)strtoul(end + 1, NULL, 0);
	}
	*p++ = 1;
	*p++ = 1;
	return put_option(p, 8, 10, (uint64_t)value << 32 | echo);
}

static uint8_t *put_hex(struct run *r, uint8_t *p, const char *text)
{
	unsigned byte;

	for (; sscanf(text, "%2x", &byte) == 1; text += 2)
		*p++ = (uint8_t)byte;
	if (*text != '\0')
		seg_fail(r, "odd bytes: %s", text);
	return p;
}

static unsigned put_options(struct run *r, uint8_t *begin)
{
	uint8_t *p = begin;

	if (seg_option(r, "mss") != NULL)
		p = put_option(p, 2, 4, (uint64_t)seg_option_value(r, "mss", 0));
	if (seg_option(r, "ws") != NULL) {
		*p++ = 1;
		p = put_option(p, 3, 3, (uint64_t)seg_option_value(r, "ws", 0));
	}
	if (seg_has(r, "sackok")) {
		*p++ = 1;
		*p++ = 1;
		p = put_option(p, 4, 2, 0);
	}
	p = put_timestamp(r, p);
	if (seg_option(r, "sack") != NULL)
		p = put_sacks(r, p, seg_option(r, "sack"));
	if (seg_option(r, "hex") != NULL)
		p = put_hex(r, p, seg_option(r, "hex"));
	while ((p - begin) % 4 != 0)
		*p++ = 0;
	return (unsigned)(p - begin);
}

static unsigned put_ip(struct run *r, uint8_t *p, unsigned protocol, unsigned bytes)
{
	struct tcpe_addr from = seg_address(r, true), to = seg_address(r, false);
	uint8_t tos = (uint8_t)seg_option_value(r, "tos", 0);

	if (r->family == 6) {
		wire_put32(p, 6u << 28 | (uint32_t)tos << 20);
		wire_put16(p + 4, (uint16_t)bytes);
		p[6] = (uint8_t)protocol;
		p[7] = WIRE_TTL;
		memcpy(p + 8, from.ip, 16);
		memcpy(p + 24, to.ip, 16);
		return WIRE_IP6_BYTES;
	}
	memset(p, 0, WIRE_IP4_BYTES);
	p[0] = 0x45;
	p[1] = tos;
	wire_put16(p + 2, (uint16_t)(WIRE_IP4_BYTES + bytes));
	p[8] = WIRE_TTL;
	p[9] = (uint8_t)protocol;
	memcpy(p + 12, from.ip, 4);
	memcpy(p + 16, to.ip, 4);
	uint16_t sum = checksum_finish(checksum_add(0, p, WIRE_IP4_BYTES));
	memcpy(p + 10, &sum, 2);
	return WIRE_IP4_BYTES;
}

static void put_checksum(struct run *r, uint8_t *h, unsigned bytes)
{
	struct tcpe_addr from = seg_address(r, true), to = seg_address(r, false);
	struct ip_addr a = {.family = (uint8_t)r->family}, b = a;

	memcpy(a.byte, from.ip, 16);
	memcpy(b.byte, to.ip, 16);
	uint64_t sum = checksum_add(checksum_pseudo(&a, &b, bytes), h, bytes);
	uint16_t folded = checksum_finish(sum);
	memcpy(h + 16, &folded, 2);
}

/* bad=checksum, offset, long (the IP header promises more), ip (its own checksum) */
static void spoil(struct run *r, uint8_t *packet, unsigned ip, unsigned *bytes)
{
	const char *how = seg_option(r, "bad");

	if (how == NULL)
		return;
	if (strcmp(how, "checksum") == 0)
		packet[ip + 16] ^= 1;
	else if (strcmp(how, "ip") == 0)
		packet[10] ^= 1;
	else if (strcmp(how, "long") == 0)
		*bytes -= 1;
	else if (strcmp(how, "offset") == 0)
		packet[ip + 12] = 0xf0;
	else
		seg_fail(r, "no such fault: %s", how);
}

/* in FLAGS SEQ [ack=N] [len=N] [win=N] [options] */
void seg_in(struct run *r)
{
	struct tcpe_stack *st = seg_stack(r);
	unsigned ip = r->family == 4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	uint8_t *h = r->packet + ip;
	unsigned flags = parse_flags(r, r->words > 1 ? r->word[1] : NULL);
	uint32_t seq = (uint32_t)seg_value(r, r->words > 2 ? r->word[2] : NULL);
	uint32_t len = (uint32_t)seg_option_value(r, "len", 0);

	if (r->failed)
		return;
	if (len > SEG_PACKET - 200) {
		seg_fail(r, "too long");
		return;
	}
	memset(h, 0, WIRE_TCP_BYTES + OPTION_ROOM);
	unsigned header = WIRE_TCP_BYTES + put_options(r, h + WIRE_TCP_BYTES);
	if (header > WIRE_TCP_BYTES + OPTION_ROOM) {
		seg_fail(r, "too many options");
		return;
	}
	wire_put16(h, r->now->port);
	wire_put16(h + 2, r->now->stack_port);
	wire_put32(h + 4, r->now->iss + seq);
	if ((flags & WIRE_ACK) != 0)
		wire_put32(h + 8, r->now->theirs + (uint32_t)seg_option_value(r, "ack", 0));
	h[12] = (uint8_t)(header / 4 << 4);
	h[13] = (uint8_t)flags;
	wire_put16(h + 14, (uint16_t)seg_option_value(r, "win", r->window));
	wire_put16(h + 18, (uint16_t)seg_option_value(r, "urg", 0));
	for (uint32_t i = 0; i < len; i++)
		h[header + i] = seg_pattern(seq + i + ((flags & WIRE_SYN) != 0));
	put_ip(r, r->packet, IP_TCP, header + len);
	put_checksum(r, h, header + len);
	unsigned bytes = ip + header + len;
	spoil(r, r->packet, ip, &bytes);
	tcpe_packet_in(st, r->packet, bytes);
}

/* icmp TYPE CODE seq=N [mtu=N] [port=N]: about the stack's segment with that number */
void seg_icmp(struct run *r)
{
	struct tcpe_addr from = seg_address(r, false), to = seg_address(r, true);
	uint8_t *p = r->packet + WIRE_IP4_BYTES, *q = p + 8;

	if (r->family != 4 || r->words < 3) {
		seg_fail(r, "icmp TYPE CODE seq=N, over IPv4");
		return;
	}
	memset(p, 0, 8 + WIRE_IP4_BYTES + 8);
	p[0] = (uint8_t)seg_value(r, r->word[1]);
	p[1] = (uint8_t)seg_value(r, r->word[2]);
	wire_put16(p + 6, (uint16_t)seg_option_value(r, "mtu", 0));
	q[0] = 0x45;
	q[9] = IP_TCP;
	memcpy(q + 12, from.ip, 4);
	memcpy(q + 16, to.ip, 4);
	wire_put16(q + WIRE_IP4_BYTES, r->now->stack_port);
	wire_put16(q + WIRE_IP4_BYTES + 2, (uint16_t)seg_option_value(r, "port", r->now->port));
	wire_put32(q + WIRE_IP4_BYTES + 4,
		   r->now->theirs + (uint32_t)seg_option_value(r, "seq", 0));
	unsigned bytes = 8 + WIRE_IP4_BYTES + 8;
	uint16_t sum = checksum_finish(checksum_add(0, p, bytes));
	memcpy(p + 2, &sum, 2);
	put_ip(r, r->packet, 1, bytes);
	tcpe_packet_in(seg_stack(r), r->packet, WIRE_IP4_BYTES + bytes);
}

static void layout_add(struct got *g, const char *name)
{
	size_t n = strlen(g->layout);

	snprintf(g->layout + n, sizeof(g->layout) - n, n > 0 ? ",%s" : "%s", name);
}

static void take_sacks(const struct run *r, struct got *g, const uint8_t *p)
{
	for (unsigned i = 2; i + 8 <= p[1] && g->sacks < 4; i += 8, g->sacks++) {
		g->sack[2 * g->sacks] = wire_get32(p + i) - r->now->iss;
		g->sack[2 * g->sacks + 1] = wire_get32(p + i + 4) - r->now->iss;
	}
}

static void take_option(const struct run *r, struct got *g, const uint8_t *p)
{
	static const char *const names[] = {
		[2] = "mss", [3] = "ws", [4] = "sackok", [5] = "sack", [8] = "ts"};

	layout_add(g, p[0] < 9 && names[p[0]] != NULL ? names[p[0]] : "?");
	g->sack_ok |= p[0] == 4;
	if (p[0] == 2) {
		g->has_mss = true;
		g->mss = wire_get16(p + 2);
	} else if (p[0] == 3) {
		g->scale = p[2];
	} else if (p[0] == 5) {
		take_sacks(r, g, p);
	} else if (p[0] == 8) {
		g->has_ts = true;
		g->ts_value = wire_get32(p + 2);
		g->ts_echo = wire_get32(p + 6);
	}
}

static void take_options(const struct run *r, struct got *g, const uint8_t *p, const uint8_t *end)
{
	while (p < end) {
		if (p[0] < 2) {
			layout_add(g, p[0] == 0 ? "eol" : "nop");
			p++;
			continue;
		}
		if (end - p < 2 || p[1] < 2 || p[1] > end - p) {
			layout_add(g, "broken");
			return;
		}
		take_option(r, g, p);
		p += p[1];
	}
}

/* The connection of a segment: its peer's port tells. */
static void select_peer(struct run *r, uint16_t port)
{
	for (unsigned i = 0; i < r->peers; i++) {
		if (r->peer[i].port == port)
			r->now = &r->peer[i];
	}
}

static bool checksums_good(const struct run *r, const uint8_t *p, unsigned ip, unsigned bytes)
{
	struct ip_addr a = {.family = (uint8_t)r->family}, b = a;
	unsigned n = r->family == 4 ? 4 : 16, at = r->family == 4 ? 12 : 8;

	memcpy(a.byte, p + at, n);
	memcpy(b.byte, p + at + n, n);
	if (r->family == 4 && checksum_finish(checksum_add(0, p, ip)) != 0)
		return false;
	return checksum_finish(
		       checksum_add(checksum_pseudo(&a, &b, bytes - ip), p + ip, bytes - ip)) == 0;
}

/* Takes the next packet; false: there is none. */
static bool take(struct run *r, struct got *g)
{
	ssize_t n = tcpe_packet_out(seg_stack(r), r->packet, sizeof(r->packet), &g->when_us);
	unsigned ip = r->family == 4 ? WIRE_IP4_BYTES : WIRE_IP6_BYTES;
	const uint8_t *h = r->packet + ip;

	if (n <= 0)
		return false;
	*g = (struct got){.scale = -1, .when_us = g->when_us - r->config.now_us};
	if (!checksums_good(r, r->packet, ip, (unsigned)n))
		seg_fail(r, "a packet with a wrong checksum");
	select_peer(r, wire_get16(h + 2));
	r->now->stack_port = wire_get16(h);
	g->flags = h[13];
	if ((g->flags & WIRE_SYN) != 0 && !r->now->theirs_known) {
		r->now->theirs = wire_get32(h + 4);
		r->now->theirs_known = true;
	}
	unsigned header = (unsigned)(h[12] >> 4) * 4;
	g->tos = r->family == 4 ? r->packet[1] : (uint8_t)(r->packet[0] << 4 | r->packet[1] >> 4);
	g->seq = wire_get32(h + 4) - r->now->theirs;
	g->ack = (g->flags & WIRE_ACK) != 0 ? wire_get32(h + 8) - r->now->iss : 0;
	g->window = wire_get16(h + 14);
	g->urgent = wire_get16(h + 18);
	g->len = (uint32_t)n - ip - header;
	g->data = h + header;
	take_options(r, g, h + WIRE_TCP_BYTES, h + header);
	if (g->has_ts)
		r->now->ts_seen = g->ts_value;
	return true;
}

static void describe(const struct got *g, char *to, size_t size)
{
	char flags[9] = "";
	size_t n = 0;

	for (unsigned i = 0; i < 8; i++) {
		if ((g->flags & 1u << i) != 0)
			flags[n++] = flag_letters[i];
	}
	n = (size_t)snprintf(to, size, "%s %u ack=%u len=%u win=%u at=%llu layout=%s", flags,
			     g->seq, g->ack, g->len, g->window, (unsigned long long)g->when_us,
			     g->layout);
	if (g->has_ts && n < size)
		n += (size_t)snprintf(to + n, size - n, " ts=%u,%u", g->ts_value, g->ts_echo);
	for (unsigned i = 0; i < g->sacks && n < size; i++)
		n += (size_t)snprintf(to + n, size - n, " sack %u-%u", g->sack[2 * i],
				      g->sack[2 * i + 1]);
}

static void wrong(struct run *r, const struct got *g, const char *what)
{
	char line[256], expected[256] = "";

	for (unsigned i = 0; i < r->words; i++) {
		size_t n = strlen(expected);
		snprintf(expected + n, sizeof(expected) - n, "%s ", r->word[i]);
	}
	describe(g, line, sizeof(line));
	seg_fail(r, "%s: expected %s\n#\tgot out %s", what, expected, line);
}

static void check_number(struct run *r, const struct got *g, const char *name, int64_t value)
{
	const char *text = seg_option(r, name);

	if (text == NULL)
		return;
	if (strcmp(text, "none") == 0 ? value != -1 : seg_value(r, text) != value)
		wrong(r, g, name);
}

static void check_ts(struct run *r, const struct got *g)
{
	const char *text = seg_option(r, "ts");
	char *end;

	if (text == NULL)
		return;
	if (strcmp(text, "none") == 0 ? g->has_ts : !g->has_ts) {
		wrong(r, g, "ts");
		return;
	}
	if (text[0] != '*' && text[0] != 'n' && strtoul(text, &end, 0) != g->ts_value)
		wrong(r, g, "ts value");
	text = strchr(text, ',');
	if (text != NULL && text[1] != '*' && strtoul(text + 1, NULL, 0) != g->ts_echo)
		wrong(r, g, "ts echo");
}

static void check_sacks(struct run *r, const struct got *g)
{
	const char *text = seg_option(r, "sack");
	char have[100] = "none";
	size_t n = 0;

	if (text == NULL)
		return;
	for (unsigned i = 0; i < g->sacks && n < sizeof(have); i++)
		n += (size_t)snprintf(have + n, sizeof(have) - n, "%s%u-%u", i > 0 ? "," : "",
				      g->sack[2 * i], g->sack[2 * i + 1]);
	if (strcmp(text, have) != 0)
		wrong(r, g, "sack");
}

static void check_options(struct run *r, const struct got *g)
{
	check_number(r, g, "mss", g->has_mss ? g->mss : -1);
	check_number(r, g, "ws", g->scale);
	check_ts(r, g);
	check_sacks(r, g);
	if (seg_has(r, "sackok") && !g->sack_ok)
		wrong(r, g, "sackok");
	if (seg_option(r, "layout") != NULL && strcmp(seg_option(r, "layout"), g->layout) != 0)
		wrong(r, g, "layout");
}

static void check_payload(struct run *r, const struct got *g)
{
	uint32_t first = g->seq + ((g->flags & WIRE_SYN) != 0);

	for (uint32_t i = 0; i < g->len; i++) {
		if (g->data[i] != seg_pattern(first + i)) {
			wrong(r, g, "payload");
			return;
		}
	}
}

/* The flags of the line are compared but for PSH: `push` and `nopush` ask for that. */
static void check(struct run *r, const struct got *g, uint32_t seq)
{
	unsigned flags = parse_flags(r, r->word[1]);
	bool push = (g->flags & WIRE_PSH) != 0;

	if ((g->flags & ~(unsigned)WIRE_PSH) != flags)
		wrong(r, g, "flags");
	if (g->seq != seq)
		wrong(r, g, "seq");
	if ((flags & WIRE_ACK) != 0 && (flags & WIRE_RST) == 0 && seg_option(r, "ack") == NULL)
		seg_fail(r, "an ACK needs ack=");
	if (g->len != (uint32_t)seg_option_value(r, "len", 0))
		wrong(r, g, "len");
	check_number(r, g, "ack", (g->flags & WIRE_ACK) != 0 ? (int64_t)g->ack : -1);
	check_number(r, g, "win", g->window);
	check_number(r, g, "at", (int64_t)g->when_us);
	check_number(r, g, "tos", g->tos);
	check_number(r, g, "urg", g->urgent);
	if ((seg_has(r, "push") && !push) || (seg_has(r, "nopush") && push))
		wrong(r, g, "push");
	check_options(r, g);
	check_payload(r, g);
}

/* out FLAGS SEQ [ack=N] [len=N] ... */
void seg_out(struct run *r)
{
	struct got g = {0};
	uint32_t seq = (uint32_t)seg_value(r, r->words > 2 ? r->word[2] : NULL);

	if (r->failed)
		return;
	if (!take(r, &g))
		seg_fail(r, "expected a segment, there is none");
	else
		check(r, &g, seq);
}

/* burst N FLAGS SEQ ...: N segments, each beginning where the last ended */
void seg_burst(struct run *r)
{
	int64_t n = seg_value(r, r->words > 1 ? r->word[1] : NULL);
	struct got g = {0};

	if (r->words < 4) {
		seg_fail(r, "burst N FLAGS SEQ");
		return;
	}
	uint32_t seq = (uint32_t)seg_value(r, r->word[3]);
	r->word[1] = r->word[2];
	for (int64_t i = 0; i < n && !r->failed; i++, seq += g.len) {
		if (!take(r, &g))
			seg_fail(r, "expected %lld segments, there are %lld", (long long)n,
				 (long long)i);
		else
			check(r, &g, seq);
	}
}

void seg_none(struct run *r)
{
	struct got g = {0};
	char line[256];

	if (!take(r, &g))
		return;
	describe(&g, line, sizeof(line));
	seg_fail(r, "expected no segment\n#\tgot out %s", line);
}

void seg_drain(struct run *r)
{
	struct got g = {0};

	while (take(r, &g))
		continue;
}
