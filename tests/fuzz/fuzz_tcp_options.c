/* fuzz_tcp_options.c - hostile options never lead outside, and ours are read as they were written
 */
#include "dataplane/tcp/options.h"
#include "tests/fuzz/fuzz.h"

static void check_bounds(const struct tcp_options *o)
{
	CLAIM(o->sacks <= OPTION_SACK_BLOCKS);
	CLAIM(!o->has_scale || o->scale <= 14);
}

static void check_round_trip(const struct tcp_options *o, enum tcp_option_layout layout)
{
	uint8_t bytes[OPTIONS_MAX_BYTES];
	struct tcp_options back, syn = *o;

	syn.has_mss = true; /* a SYN of ours always tells it */
	size_t n = options_write_syn(bytes, &syn, layout);
	CLAIM(n <= sizeof(bytes) && n % 4 == 0);
	CLAIM(options_parse(&back, bytes, n));
	CLAIM(back.has_mss && back.mss == syn.mss);
	CLAIM(back.has_scale == syn.has_scale && (!syn.has_scale || back.scale == syn.scale));
	CLAIM(back.sack_permitted == syn.sack_permitted);
	CLAIM(back.has_timestamp == syn.has_timestamp);
	CLAIM(!syn.has_timestamp || (back.ts_value == syn.ts_value && back.ts_echo == syn.ts_echo));
}

static void check_blocks(const struct tcp_options *o)
{
	uint8_t bytes[OPTIONS_MAX_BYTES];
	struct tcp_options back;
	size_t n = options_write_sack(bytes, o->sack, o->sacks);

	CLAIM(n <= sizeof(bytes) && n % 4 == 0);
	CLAIM(options_parse(&back, bytes, n) && back.sacks == o->sacks);
	CLAIM(o->sacks == 0 || memcmp(back.sack, o->sack, o->sacks * sizeof(o->sack[0])) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct tcp_options o;

	options_parse(&o, data, n > OPTIONS_MAX_BYTES ? OPTIONS_MAX_BYTES : n);
	check_bounds(&o);
	check_round_trip(&o, TCP_OPTIONS_LINUX);
	check_round_trip(&o, TCP_OPTIONS_FREEBSD);
	check_blocks(&o);
	return 0;
}
