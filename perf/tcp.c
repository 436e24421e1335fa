/* tcp.c - what the TCP stack costs, in one process without a kernel: both ends are ours, time is
 * virtual, packets are memory.  Each figure stands beside a floor of the same run.
 *
 * usage: perf-tcp [idle connections, default 1000000] */
#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "dataplane/tcp/wire.h"
#include "perf/tcp_peer.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	SMALL = 64, /* bytes of a request and of its reply */
	CONNECTIONS = 1024,
	ROUNDS = 48,
	BULK_BYTES = 200 << 20,
	SYNS = 100000,
};

static void nothing(struct stream *s, void *user)
{
}

static void ended(struct stream *s, void *user, enum stream_end why)
{
	fprintf(stderr, "a connection was lost (%d)\n", why);
	exit(1);
}

/* Reads a request, answers in kind; closes when the peer does. */
static void answer(struct stream *s, void *user)
{
	uint8_t data[SMALL];
	size_t n = stream_read(s, data, sizeof(data));

	if (n > 0)
		stream_write(s, data, n, 0);
	if (stream_eof(s))
		stream_close(s);
}

static void pump(struct stream *s, void *user)
{
	static const uint8_t data[16384];
	struct side *side = user;
	size_t n;

	do {
		n = side->to_write < sizeof(data) ? (size_t)side->to_write : sizeof(data);
		n = stream_write(s, data, n, 0);
		side->to_write -= n;
	} while (n > 0);
}

static void swallow(struct stream *s, void *user)
{
	size_t n = stream_readable(s);

	((struct side *)user)->received += n;
	stream_consume(s, n);
}

static const struct stream_events server = {nothing, answer, nothing, ended};
static const struct stream_events sender = {pump, swallow, pump, ended};
static const struct stream_events receiver = {nothing, swallow, nothing, ended};

static struct side *serving(const char *address, struct tcp_config *c,
			    const struct stream_events *events)
{
	c->synacks_per_s = 0;
	struct side *s = side_create(address, c);

	s->isn = calloc(65536, sizeof(*s->isn));
	tcp_listen(s->tcp, &(struct tcp_listen){.port = PORT, .events = events, .user = s});
	return s;
}

static void put(struct side *s, const struct input *in)
{
	uint8_t h[SEGMENT_BYTES];
	struct tcp_packet p;

	build(s, h, in, &p);
	if (tcp_input(s->tcp, &p) != TCP_ACCEPTED) {
		fprintf(stderr, "a segment was refused\n");
		exit(1);
	}
}

static void open_one(struct side *s, const struct ip_addr *peer, uint16_t port)
{
	put(s, &(struct input){.peer = *peer, .port = port, .flags = WIRE_SYN});
	tcp_flush(s->tcp);
	put(s, &(struct input){.peer = *peer,
			       .port = port,
			       .flags = WIRE_ACK,
			       .seq = 1,
			       .ack = s->isn[port] + 1});
	tcp_flush(s->tcp);
}

static struct ip_addr peer_of(uint32_t i)
{
	struct ip_addr a = {4, {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};

	return a;
}

/* port_sums: neither end looks at checksums. */
static void small_segments(const char *what, bool port_sums)
{
	struct tcp_config c;
	double best = 1e9;

	tcp_config_default(&c);
	for (unsigned r = 0; r < REPEATS; r++) {
		struct side *s = serving("192.0.2.1", &c, &server);
		struct prepared p = prepare(CONNECTIONS * ROUNDS);
		struct input in = {.flags = WIRE_ACK | WIRE_PSH, .bytes = SMALL};

		in.peer = peer_of(1);
		for (uint32_t i = 0; i < CONNECTIONS; i++)
			open_one(s, &in.peer, (uint16_t)(1024 + i));
		for (uint32_t k = 0; k < ROUNDS; k++) {
			for (uint32_t i = 0; i < CONNECTIONS; i++) {
				in.port = (uint16_t)(1024 + i);
				in.seq = 1 + k * SMALL;
				in.ack = s->isn[in.port] + 1 + k * SMALL;
				add(&p, s, &in);
				p.packet[p.n - 1].checksum_good = port_sums;
			}
		}
		s->tcp->env.tx_checksum_offload = port_sums;
		uint64_t before = s->sent;
		double ns = feed(s, &p);
		if (s->sent - before != p.n) {
			fprintf(stderr, "%lu answers to %u requests\n",
				(unsigned long)(s->sent - before), p.n);
			exit(1);
		}
		best = ns < best ? ns : best;
		release(&p);
		side_destroy(s);
	}
	uint64_t ns = now_ns(), tsc = __builtin_ia32_rdtsc();
	while (now_ns() - ns < 10000000)
		continue;
	double ghz = (double)(__builtin_ia32_rdtsc() - tsc) / (double)(now_ns() - ns);
	row(what, best, "copy and sum both",
	    2 * floor_ns(CONNECTIONS * ROUNDS, SMALL + 32, SEGMENT_BYTES));
	printf("%-52s %9.0f cycles of a clock of %.2f GHz\n", "", best * ghz, ghz);
}

/* Connections in lockstep, a burst of them at a time: SYN; ACK with the request; FIN; last ACK.
 * The peer's segments are made inside the measurement. */
static void connection_burst(struct side *s, uint32_t first)
{
	static const struct {
		uint8_t flags;
		uint32_t seq, acked, bytes;
	} steps[] = {{WIRE_SYN, 0, 0, 0},
		     {WIRE_ACK, 1, 1, SMALL},
		     {WIRE_ACK | WIRE_FIN, 1 + SMALL, 1 + SMALL, 0},
		     {WIRE_ACK, 2 + SMALL, 2 + SMALL, 0}};
	struct input in = {.peer = peer_of(first >> 12)};

	for (unsigned step = 0; step < 4; step++) {
		for (uint32_t i = 0; i < BURST; i++) {
			in.port = (uint16_t)(1024 + ((first + i) & 0x7fff));
			in.flags = steps[step].flags;
			in.seq = steps[step].seq;
			in.ack = step > 0 ? s->isn[in.port] + steps[step].acked : 0;
			in.bytes = steps[step].bytes;
			put(s, &in);
		}
		tcp_flush(s->tcp);
	}
}

static void whole_connections(void)
{
	enum { TOTAL = 200000 };
	struct tcp_config c;

	tcp_config_default(&c);
	struct side *s = serving("192.0.2.1", &c, &server);
	double best = 1e9;
	for (unsigned r = 0; r < REPEATS; r++) {
		uint64_t begin = now_ns();
		for (uint32_t i = 0; i < TOTAL / REPEATS; i += BURST)
			connection_burst(s, r * TOTAL + i);
		double ns = (double)(now_ns() - begin) / (TOTAL / REPEATS);
		best = ns < best ? ns : best;
	}
	if (tcp_stream_count(s->tcp) != 0) {
		fprintf(stderr, "%u connections did not end\n", tcp_stream_count(s->tcp));
		exit(1);
	}
	side_destroy(s);
	row("accept, request, reply, close (4 in, 3 out, peer too)", best, "copy and sum all 7",
	    7 * floor_ns(4096, 60, SEGMENT_BYTES));
}

static void prepare_syns(struct prepared *p, const struct side *s)
{
	p->n = 0;
	for (uint32_t i = 0; i < SYNS; i++)
		add(p, s,
		    &(struct input){.peer = peer_of(i),
				    .port = (uint16_t)(1024 + i % 50000),
				    .flags = WIRE_SYN,
				    .seq = i * 77});
}

static void cookies(void)
{
	struct tcp_config c;

	tcp_config_default(&c);
	c.syn_cookies = TCP_COOKIES_ALWAYS;
	struct side *s = serving("192.0.2.1", &c, &server);
	struct prepared p = prepare(SYNS);
	prepare_syns(&p, s);
	double best = 1e9;
	for (unsigned r = 0; r < REPEATS; r++) {
		double ns = feed(s, &p);
		best = ns < best ? ns : best;
	}
	if (tcp_counters(s->tcp)[tcp_cookies_sent] != (uint64_t)SYNS * REPEATS)
		exit(1);
	row("SYN in, cookie SYN-ACK out", best, "copy and sum both",
	    2 * floor_ns(SYNS, 40, SEGMENT_BYTES));
	printf("%-52s %9.2f M/s\n", "", 1000 / best);
	release(&p);
	side_destroy(s);
}

static void fire(struct timer *t)
{
}

static void timers(void)
{
	enum { TIMERS = 1000000, SPREAD_MS = 60000 };
	struct timer *t = calloc(TIMERS, sizeof(*t));
	struct shard shard = {.now_us = 1000000, .timers = timer_wheel_create(1000000)};

	for (uint32_t i = 0; i < TIMERS; i++)
		timer_init(&t[i], fire);
	uint64_t begin = now_ns();
	for (uint64_t i = 0; i < TIMERS; i++)
		timer_arm(shard.timers, &t[i], 1000000 + i * 2654435761u % (SPREAD_MS * 1000ull));
	uint64_t armed = now_ns();
	unsigned fired = 0;
	for (uint64_t ms = 1; ms <= SPREAD_MS; ms++)
		fired += timer_advance(&shard, 1000000 + ms * 1000);
	uint64_t done = now_ns();
	for (uint32_t i = 0; i < TIMERS; i++)
		__asm__ volatile("" : : "r"(i));
	double loop = (double)(now_ns() - done) / TIMERS;
	if (fired != TIMERS)
		exit(1);
	row("timer armed (of a million, within a minute)", (double)(armed - begin) / TIMERS,
	    "empty loop", loop);
	row("timer fired", (double)(done - armed) / TIMERS, "empty loop", loop);
	timer_wheel_destroy(shard.timers);
	free(t);
}

static size_t resident_bytes(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f == NULL || fscanf(f, "%*u %lu", &pages) != 1)
		exit(1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static struct ip_addr idle_peer(uint32_t i)
{
	struct ip_addr a = {6, {0x20, 0x01, 0x0d, 0xb8, 1}};

	a.byte[14] = (uint8_t)(i / 50000 >> 8);
	a.byte[15] = (uint8_t)(i / 50000);
	return a;
}

static uint16_t idle_port(uint32_t i)
{
	return (uint16_t)(1024 + i % 50000);
}

/* Look-ups as tcp_input_burst() does them, n a multiple of BURST. */
static double look_up_ahead(const struct side *s, const struct flow_key *keys, uint32_t n)
{
	const struct flow_table *f = &s->tcp->flows;
	uint32_t hash[BURST], missing = 0;
	uint64_t begin = now_ns();

	for (uint32_t i = 0; i < n; i += BURST) {
		for (uint32_t k = 0; k < BURST; k++) {
			hash[k] = flow_hash(f, &keys[i + k]);
			flow_prefetch(f, hash[k]);
		}
		for (uint32_t k = 0; k < BURST; k++) {
			uint32_t ref = flow_guess(f, hash[k]);
			__builtin_prefetch(slab_object(s->tcp->streams, ref));
		}
		for (uint32_t k = 0; k < BURST; k++)
			missing += stack_find(s->tcp, &keys[i + k], hash[k]) == FLOW_NONE;
	}
	if (missing != 0)
		exit(1);
	return (double)(now_ns() - begin) / n;
}

/* Random look-ups; and the floor: one read of the tcb that is looked for. */
static void look_up(const struct side *s, uint32_t n)
{
	enum { LOOKUPS = 1000000 };
	struct flow_key *keys = calloc(LOOKUPS, sizeof(*keys));
	uint64_t random = 5, sum = 0;

	flow_address(keys[0].local, &s->addr);
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		uint32_t which = (uint32_t)((random >> 32) % n);
		struct ip_addr a = idle_peer(which);
		memcpy(keys[i].local, keys[0].local, 16);
		flow_address(keys[i].peer, &a);
		keys[i].peer_port = idle_port(which);
		keys[i].local_port = PORT;
	}
	uint64_t begin = now_ns();
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		uint32_t ref = stack_find(s->tcp, &keys[i], flow_hash(&s->tcp->flows, &keys[i]));
		sum += ref == FLOW_NONE;
	}
	uint64_t found = now_ns();
	if (sum != 0)
		exit(1);
	for (uint32_t i = 0; i < LOOKUPS; i++) {
		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		const struct stream *t =
			slab_at(s->tcp->streams, (uint32_t)((random >> 32) % n), NULL);
		sum += t->hash;
	}
	uint64_t done = now_ns();
	__asm__ volatile("" : : "r"(sum));
	double floor = (double)(done - found) / LOOKUPS;
	row("hash and look-up among all of them", (double)(found - begin) / LOOKUPS,
	    "one random tcb read", floor);
	row("the same in bursts of 32, fetched ahead", look_up_ahead(s, keys, LOOKUPS),
	    "one random tcb read", floor);
	free(keys);
}

/* Small requests of connections drawn from all of them; none has been heard of for long. */
static double cold(struct side *s, uint32_t n, uint32_t first, bool one_by_one)
{
	enum { REQUESTS = 8000, STEP = 7919 };
	struct prepared p = prepare(REQUESTS);
	struct input in = {.flags = WIRE_ACK | WIRE_PSH, .seq = 1, .bytes = SMALL};
	struct flow_key key = {.local_port = PORT};

	flow_address(key.local, &s->addr);
	for (uint32_t i = 0; i < REQUESTS && i < n / 2; i++) {
		uint32_t which = (uint32_t)((first + 2ull * i * STEP) % n);
		in.peer = idle_peer(which);
		in.port = key.peer_port = idle_port(which);
		flow_address(key.peer, &in.peer);
		uint32_t ref = stack_find(s->tcp, &key, flow_hash(&s->tcp->flows, &key));
		in.ack = ((struct stream *)slab_object(s->tcp->streams, ref))->snd_nxt;
		add(&p, s, &in);
	}
	/* what was read to make them is thrown out of the cache again */
	volatile uint8_t *sweep = calloc(1, 64 << 20);
	for (size_t at = 0; at < 64 << 20; at += 64)
		sweep[at]++;
	free((void *)sweep);
	uint64_t before = s->sent;
	double ns = feed_by(s, &p, one_by_one);
	if (s->sent - before != p.n) {
		fprintf(stderr, "%lu answers to %u requests\n", (unsigned long)(s->sent - before),
			p.n);
		exit(1);
	}
	release(&p);
	return ns;
}

static void idle_connections(uint32_t n)
{
	struct tcp_config c;

	tcp_config_default(&c);
	c.max_streams = n;
	c.max_time_wait = 16;
	struct side *s = serving("2001:db8::1", &c, &server);
	malloc_trim(0); /* or what the measurements before have freed would be taken again */
	size_t before = resident_bytes();
	uint64_t begin = now_ns();
	for (uint32_t i = 0; i < n; i++) {
		struct ip_addr a = idle_peer(i);
		open_one(s, &a, idle_port(i));
	}
	double ns = (double)(now_ns() - begin) / n;
	size_t held = resident_bytes() - before;
	if (tcp_stream_count(s->tcp) != n)
		exit(1);
	printf("%u idle connections (IPv6, timestamps, SACK, scaling): %.1f bytes each resident, "
	       "%.0f MiB; accepted in %.0f ns each\n",
	       n, (double)held / n, (double)held / (1 << 20), ns);
	look_up(s, n);
	double one = cold(s, n, 0, true), burst = cold(s, n, 1, false);
	row("small segment as above, each of another of them", burst, "one by one", one);
	side_destroy(s);
}

/* SYNs that come between the segments of a transfer. */
struct flood {
	struct prepared syns;
	double each, owed; /* for one segment; by now */
	uint32_t next;
	uint64_t sent;
};

static void rain(struct flood *f, struct side *on)
{
	for (f->owed += f->each; f->owed >= 1; f->owed--, f->sent++) {
		tcp_input(on->tcp, &f->syns.packet[f->next]);
		f->next = (f->next + 1) % f->syns.n;
	}
}

/* Moves a burst from one side's queue into the other. */
static bool deliver(struct side *from, struct side *to, struct flood *f)
{
	unsigned n = 0;

	for (; n < BURST && from->head != from->tail; n++) {
		const struct slot *q = &from->queue[from->head % QUEUE];
		struct tcp_packet p = {.source = from->addr,
				       .destination = to->addr,
				       .segment = q->ip + WIRE_IP4_BYTES,
				       .bytes = q->bytes - WIRE_IP4_BYTES};
		tcp_input(to->tcp, &p);
		from->head++;
		if (f != NULL)
			rain(f, to);
	}
	tcp_flush(to->tcp);
	return n > 0;
}

/* ns of one segment from write to read, both ends; f: NULL, or what falls on the receiver. */
static double transfer(struct flood *f, double *gbit)
{
	struct tcp_config c;
	int err;

	tcp_config_default(&c);
	c.send_limit = c.receive_limit = 1000 * 1024;
	struct side *a = side_create("192.0.2.2", &c);
	struct side *b = serving("192.0.2.1", &c, &receiver);
	a->queue = calloc(QUEUE, sizeof(*a->queue));
	b->queue = calloc(QUEUE, sizeof(*b->queue));
	a->to_write = BULK_BYTES;
	if (f != NULL)
		prepare_syns(&f->syns, b);
	stream_connect(a->tcp, &a->addr, &b->addr, PORT, &sender, a, &err);
	tcp_flush(a->tcp);
	uint64_t begin = now_ns(), now_us = a->shard.now_us;
	while (b->received < BULK_BYTES) {
		now_us += 20;
		timer_advance(&a->shard, now_us);
		timer_advance(&b->shard, now_us);
		bool any = deliver(a, b, f);
		if (!deliver(b, a, NULL) && !any)
			now_us += 1000;
	}
	double ns = (double)(now_ns() - begin) / (double)a->sent;
	*gbit = BULK_BYTES * 8.0 / ns / (double)a->sent;
	if (tcp_counters(a->tcp)[tcp_retransmits] != 0)
		exit(1);
	side_destroy(a);
	side_destroy(b);
	return ns;
}

/* The share of a core that 40 % of what it can do takes, with 1.5 million SYNs a second on top. */
static void bulk(void)
{
	struct flood f = {.syns = prepare(SYNS)};
	double best = 1e9, flooded = 1e9, gbit = 0, unused;

	for (unsigned r = 0; r < REPEATS; r++) {
		double ns = transfer(NULL, &unused);
		gbit = ns < best ? unused : gbit;
		best = ns < best ? ns : best;
	}
	row("bulk, a full segment from write to read, both ends", best, "copy and sum at both ends",
	    2 * floor_ns(QUEUE, 1500, PACKET_BYTES));
	printf("%-52s %9.1f Gbit/s of payload, both ends on one core\n", "", gbit);
	f.each = 1.5e6 / (0.4 * 1e9 / best);
	for (unsigned r = 0; r < REPEATS; r++) {
		double ns = transfer(&f, &unused);
		flooded = ns < flooded ? ns : flooded;
	}
	row("the same with its share of 1.5 M SYN/s at 40 % load", flooded, "without", best);
	printf("%-52s %9.1f %% of the core for both\n", "", 40 * flooded / best);
	release(&f.syns);
}

int main(int argc, char **argv)
{
	uint32_t idle = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;

	small_segments("small segment in, read, answered, small segment out", false);
	small_segments("the same where the port sums", true);
	whole_connections();
	cookies();
	timers();
	bulk();
	if (idle > 0)
		idle_connections(idle);
	return 0;
}
