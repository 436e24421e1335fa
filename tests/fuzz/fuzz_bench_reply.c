/* fuzz_bench_reply.c - what a server says to postern-bench: bounded, counted, and every session
 * ends */
#include "tests/fuzz/fuzz.h"
#include "tests/unit/bench_kit.h"

/* First octet: how the session speaks; second: the pieces in which the rest comes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const
		pipelined[] = {"--total", "4",   "--messages",       "2", "--sessions", "1",
			       "--size",  "600", "smtp://192.0.2.1", NULL},
		*const bdat[] = {"--total", "4", "--bdat", "on",   "--sessions",        "1",
				 "--user",  "a", "--auth", "none", "plain://192.0.2.1", NULL};

	if (n < 2 || n > 4096)
		return 0;
	struct kit *k = kit_new((data[0] & 1) != 0 ? pipelined : bdat);
	k->options.timeout_us = 100000;
	k->cut = data[1] % 64;
	kit_begin(k);
	engine_turn(k->engine);
	struct kit_peer *p = NULL;
	for (unsigned i = 0; i < KIT_SESSIONS && p == NULL; i++)
		if (k->peer[i].open)
			p = &k->peer[i];
	CLAIM(p != NULL);
	memcpy(p->out, data + 2, n - 2);
	p->out_n = n - 2;
	p->eof = (data[0] & 2) != 0;
	kit_run(k, 20000);
	engine_stop(k->engine);
	kit_run(k, 250000);
	CLAIM(engine_idle(k->engine));
	CLAIM(kit_count(k, bench_opened) >= kit_count(k, bench_connected));
	CLAIM(kit_count(k, bench_accepted) <= kit_count(k, bench_replies));
	kit_end(k);
	return 0;
}
