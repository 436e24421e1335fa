/* options.c - one row an option kind */
#include "dataplane/tcp/options.h"

#include "dataplane/tcp/wire.h"

enum {
	KIND_END,
	KIND_NOP,
	KIND_MSS,
	KIND_SCALE,
	KIND_SACK_PERMITTED,
	KIND_SACK,
	KIND_TIMESTAMP = 8,
	KINDS,
	MAX_SCALE = 14,
};

static void read_mss(struct tcp_options *o, const uint8_t *p)
{
	o->has_mss = true;
	o->mss = wire_get16(p + 2);
}

static void read_scale(struct tcp_options *o, const uint8_t *p)
{
	o->has_scale = true;
	o->scale = p[2] > MAX_SCALE ? MAX_SCALE : p[2];
}

static void read_sack_permitted(struct tcp_options *o, const uint8_t *p)
{
	o->sack_permitted = true;
}

static void read_timestamp(struct tcp_options *o, const uint8_t *p)
{
	o->has_timestamp = true;
	o->ts_value = wire_get32(p + 2);
	o->ts_echo = wire_get32(p + 6);
}

static void read_sack(struct tcp_options *o, const uint8_t *p)
{
	unsigned n = (p[1] - 2u) / 8;

	for (o->sacks = 0; o->sacks < n && o->sacks < OPTION_SACK_BLOCKS; o->sacks++) {
		const uint8_t *b = p + 2 + 8 * o->sacks;
		o->sack[o->sacks] = (struct range){wire_get32(b), wire_get32(b + 4)};
	}
}

/* bytes: of the option; more by multiples of step, if that is not 0 */
static const struct {
	uint8_t bytes, step;
	void (*read)(struct tcp_options *o, const uint8_t *p);
} kinds[KINDS] = {
	[KIND_MSS] = {4, 0, read_mss},
	[KIND_SCALE] = {3, 0, read_scale},
	[KIND_SACK_PERMITTED] = {2, 0, read_sack_permitted},
	[KIND_SACK] = {10, 8, read_sack},
	[KIND_TIMESTAMP] = {10, 0, read_timestamp},
};

static bool known_length(uint8_t kind, uint8_t bytes)
{
	if (kind >= KINDS || kinds[kind].bytes == 0 || bytes < kinds[kind].bytes)
		return false;
	unsigned more = bytes - kinds[kind].bytes;
	return kinds[kind].step == 0 ? more == 0 : more % kinds[kind].step == 0;
}

bool options_parse(struct tcp_options *o, const uint8_t *p, size_t n)
{
	*o = (struct tcp_options){0};
	while (n > 0 && p[0] != KIND_END) {
		if (p[0] == KIND_NOP) {
			p++;
			n--;
			continue;
		}
		if (n < 2 || p[1] < 2 || p[1] > n)
			return false;
		uint8_t kind = p[0], bytes = p[1];
		/* A known kind with another length is skipped like an unknown one. */
		if (known_length(kind, bytes))
			kinds[kind].read(o, p);
		p += bytes;
		n -= bytes;
	}
	return true;
}

static uint8_t *put_mss(uint8_t *p, const struct tcp_options *o)
{
	p[0] = KIND_MSS;
	p[1] = 4;
	wire_put16(p + 2, o->mss);
	return p + 4;
}

static uint8_t *put_nops(uint8_t *p, unsigned n)
{
	while (n-- > 0)
		*p++ = KIND_NOP;
	return p;
}

static uint8_t *put_scale(uint8_t *p, const struct tcp_options *o)
{
	*p++ = KIND_NOP;
	p[0] = KIND_SCALE;
	p[1] = 3;
	p[2] = o->scale;
	return p + 3;
}

static uint8_t *put_sack_permitted(uint8_t *p)
{
	p[0] = KIND_SACK_PERMITTED;
	p[1] = 2;
	return p + 2;
}

static uint8_t *put_timestamp(uint8_t *p, uint32_t value, uint32_t echo)
{
	p[0] = KIND_TIMESTAMP;
	p[1] = 10;
	wire_put32(p + 2, value);
	wire_put32(p + 6, echo);
	return p + 10;
}

/* mss, sackOK (or two nops), timestamp, nop, scale */
static uint8_t *write_linux(uint8_t *p, const struct tcp_options *o)
{
	p = put_mss(p, o);
	if (!o->sack_permitted || !o->has_timestamp)
		p = put_nops(p, o->has_timestamp || o->sack_permitted ? 2 : 0);
	if (o->sack_permitted)
		p = put_sack_permitted(p);
	if (o->has_timestamp)
		p = put_timestamp(p, o->ts_value, o->ts_echo);
	if (o->has_scale)
		p = put_scale(p, o);
	return p;
}

/* mss, nop, scale, sackOK, timestamp, padded with end-of-list */
static uint8_t *write_freebsd(uint8_t *p, const struct tcp_options *o)
{
	const uint8_t *from = p;

	p = put_mss(p, o);
	if (o->has_scale)
		p = put_scale(p, o);
	if (o->sack_permitted)
		p = put_sack_permitted(p);
	if (o->has_timestamp)
		p = put_timestamp(p, o->ts_value, o->ts_echo);
	while ((p - from) % 4 != 0)
		*p++ = KIND_END;
	return p;
}

size_t options_write_syn(uint8_t *to, const struct tcp_options *o, enum tcp_option_layout layout)
{
	static uint8_t *(*const write[])(uint8_t *, const struct tcp_options *) = {
		[TCP_OPTIONS_LINUX] = write_linux,
		[TCP_OPTIONS_FREEBSD] = write_freebsd,
	};

	return (size_t)(write[layout](to, o) - to);
}

size_t options_write_sack(uint8_t *to, const struct range *block, unsigned n)
{
	if (n == 0)
		return 0;
	uint8_t *p = put_nops(to, 2);
	*p++ = KIND_SACK;
	*p++ = (uint8_t)(2 + 8 * n);
	for (unsigned i = 0; i < n; i++, p += 8) {
		wire_put32(p, block[i].from);
		wire_put32(p + 4, block[i].to);
	}
	return (size_t)(p - to);
}

size_t options_write_timestamp(uint8_t *to, uint32_t value, uint32_t echo)
{
	return (size_t)(put_timestamp(put_nops(to, 2), value, echo) - to);
}
