/*
 * backlog.c - what a queued message costs: memory of the relay's entry and of the spool's index
 * entry, and the time of one message more and of a round without work, with a million deferred
 * messages and with none.
 *
 *	perf-backlog [MESSAGES]
 *
 * Memory is the allocator's figure (bytes in live allocations) and the process's resident set;
 * the spool's files are no part of it: the entries are made as recovery makes them.
 */
#include "smtp/relay/internal.h"
#include "smtp/spool/index.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 10000 };

/* jemalloc's, where the program is linked with it */
extern int mallctl(const char *name, void *old, size_t *old_bytes, void *fresh, size_t fresh_bytes)
	__attribute__((weak));

static uint64_t random_state = 1;

static uint64_t draw(void *arg)
{
	uint64_t z = random_state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	return z ^ z >> 31;
}

static uint64_t resident(void)
{
	unsigned long all = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f == NULL || fscanf(f, "%lu %lu", &all, &pages) != 2)
		pages = 0;
	if (f != NULL)
		fclose(f);
	return (uint64_t)pages * 4096;
}

static uint64_t allocated(void)
{
	size_t n = 0, bytes = sizeof(n);
	uint64_t epoch = 1;
	size_t epoch_bytes = sizeof(epoch);

	if (mallctl == NULL)
		return 0;
	mallctl("epoch", &epoch, &epoch_bytes, &epoch, sizeof(epoch));
	return mallctl("stats.allocated", &n, &bytes, NULL, 0) == 0 ? n : 0;
}

static double clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "perf-backlog: %s\n", what);
		exit(1);
	}
}

struct bench {
	struct shard shard;
	struct spool *spool;
	struct spool_client *client;
	struct relay_worker *relay;
	struct spool_index index;
	struct spool_segment *segment; /* only pointed at */
};

static void add(struct bench *b, uint64_t i, bool deferred)
{
	int64_t now = shard_wall_s(&b->shard);
	struct spool_found f = {
		.id = i,
		.place = {.envelope_bytes = 200},
		.content_bytes = 20000,
		.accepted_at_s = now,
		.retry_at_s = deferred ? now + 60 + (int64_t)(i * 7919 % 3540) : 0,
		.attempts = deferred ? 3 : 0,
		.recipients = 1,
	};
	struct spool_entry *e = calloc(1, sizeof(*e));

	must(e != NULL && relay_add(b->relay, &f) == 0, "no memory");
	*e = (struct spool_entry){.id = i,
				  .body_bytes = 20000,
				  .recipients = 1,
				  .envelope_bytes = 200,
				  .segment = b->segment};
	index_insert(&b->index, e);
	must(!deferred || entry_state(e) != NULL, "no memory");
}

/* As a hop does it: the same words to each. */
static void say_why(struct bench *b)
{
	for (uint32_t i = 0; i < slab_extent(b->relay->messages); i++) {
		struct message *m = slab_at(b->relay->messages, i, NULL);
		char why[ERROR_TEXT];

		snprintf(why, sizeof(why), "450 4.2.%u the mailbox is busy, try again later",
			 i % 40);
		timer_cancel(b->shard.timers, &m->timer);
		message_defer(m, why, (60 + i * 7919ull % 3540) * 1000000);
	}
}

/* Mean of one message more, from relay_add to the round after it, and of a round without work. */
static void measure(struct bench *b, uint64_t first, double *accept_ns, double *idle_ns)
{
	double begun = clock_ns();

	for (unsigned i = 0; i < ROUNDS; i++) {
		add(b, first + i, true);
		timer_advance(&b->shard, b->shard.now_us + 10);
		relay_poll(b->relay);
	}
	*accept_ns = (clock_ns() - begun) / ROUNDS;
	begun = clock_ns();
	for (unsigned i = 0; i < ROUNDS * 10; i++) {
		timer_advance(&b->shard, b->shard.now_us + 10);
		relay_poll(b->relay);
		if (timer_not_before(b->shard.timers) < b->shard.now_us)
			b->segment = NULL;
	}
	*idle_ns = (clock_ns() - begun) / (ROUNDS * 10);
}

static void open_bench(struct bench *b, uint32_t messages)
{
	char directory[] = "/tmp/perf_backlog.XXXXXX", error[512] = "";
	static struct relay_config c;
	struct spool_config sc = {.directory = directory, .segment_size = 65536, .readers = 1};

	b->shard = (struct shard){
		.now_us = 1000000000, .wall_offset_us = 1700000000000000, .random64 = draw};
	b->shard.timers = timer_wheel_create(b->shard.now_us);
	must(mkdtemp(directory) != NULL && spool_open(&b->spool, &sc, error, sizeof(error)) == 0,
	     error);
	b->client = spool_client_create(b->spool, 512);
	c = (struct relay_config){.hostname = "mx.test", .n_pools = 1, .max_messages = messages};
	c.pools[0] = (struct relay_pool){.name = "default",
					 .connections = 4,
					 .retry_first_us = 60000000,
					 .retry_max_us = 3600000000,
					 .give_up_us = 5 * 86400000000ull,
					 .notice_us = 4 * 86400000000ull,
					 .retry_factor = 2};
	struct relay_env e = {.shard = &b->shard, .spool = b->spool, .spool_client = b->client};
	b->relay = relay_worker_create(&e, &c);
	must(b->relay != NULL && index_init(&b->index) == 0, "no memory");
}

int main(int argc, char **argv)
{
	uint32_t n = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1000000;
	static struct bench b;
	double empty_accept, empty_idle, full_accept, full_idle, longest = 0;

	open_bench(&b, n + 3 * ROUNDS);
	measure(&b, 1, &empty_accept, &empty_idle); /* warms up */
	measure(&b, 1 + ROUNDS, &empty_accept, &empty_idle);
	uint64_t before_rss = resident();
	uint64_t before = allocated();
	for (uint64_t i = 0; i < n; i++)
		add(&b, 1000000 + i, true);
	say_why(&b);
	/* the tags of the slab's table are there from the start */
	uint64_t bytes = allocated() - before + n * 8ull, rss = resident() - before_rss;
	measure(&b, 1 + 2 * ROUNDS, &full_accept, &full_idle);
	uint64_t until = b.shard.now_us + 200ull * 1000000;
	while (b.shard.now_us < until) {
		double begun = clock_ns();
		timer_advance(&b.shard, b.shard.now_us + 1000);
		relay_poll(b.relay);
		double took = clock_ns() - begun;
		longest = took > longest ? took : longest;
	}
	printf("%u deferred messages: %.1f bytes a message allocated, %.1f resident\n", n,
	       (double)bytes / n, (double)rss / n);
	printf("  (relay entry %zu, index entry %zu, state %zu and a byte)\n",
	       sizeof(struct message), sizeof(struct spool_entry),
	       offsetof(struct spool_state, done));
	printf("one message more: %.0f ns, empty queue %.0f ns: ratio %.2f\n", full_accept,
	       empty_accept, full_accept / empty_accept);
	printf("a round without work: %.0f ns, empty queue %.0f ns: ratio %.2f\n", full_idle,
	       empty_idle, full_idle / empty_idle);
	printf("longest turn over 200 s: %.0f us\n", longest / 1000);
	return 0;
}
