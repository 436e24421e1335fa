/*
 * relay.c - what it costs to relay a message of 10 KB that has just been committed: read back from
 * the spool, and from memory (relay.memory).  A real spool with its threads, hops that answer from
 * buffers, no network, no TLS.  Of many rounds, the ways in turn, the best of each counts.
 *
 * usage: perf-relay DIRECTORY [rounds]     DIRECTORY: a spool of its own, on tmpfs best
 */
#include "smtp/relay/relay.h"
#include "base/log.h"
#include "perf/tls_pipe.h"
#include "smtp/spool/envelope.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BODY = 10 << 10, MESSAGES = 64, CONNECTIONS = 16, CHUNKS = 64 << 20, WAYS = 2 };

/* A connection to a hop, from its side. */
struct hop {
	struct stream stream;
	const struct stream_events *events;
	bool opened, content;
};

struct way {
	const char *name;
	size_t memory;
	struct relay_worker *relay;
	struct spool_client *client;
	struct hop hops[CONNECTIONS * 2];
	unsigned n_hops;
	uint64_t worker_ns, others_ns; /* the best round, all messages */
};

struct bench {
	struct shard shard;
	struct spool *spool;
	struct spool_client *commits;
	struct way way[WAYS], *now;
	struct spool_request request[MESSAGES];
	struct chunk *body;
	uint8_t envelope[512], prefix[400];
	uint32_t envelope_bytes;
	unsigned committed;
	uint64_t spent_ns; /* by the relay, this round */
};

static struct bench bench;

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t draw(void *arg)
{
	return 88172645463325252ull + (*(uint64_t *)arg)++;
}

static bool source_for(void *arg, const struct ip_addr *to, struct ip_addr *source)
{
	*source = *to;
	return true;
}

/* Takes the place of the TCP stack's; the rest is in tls_pipe.c. */
struct stream *stream_connect(struct tcp_stack *t, const struct ip_addr *local,
			      const struct ip_addr *peer, uint16_t peer_port,
			      const struct stream_events *ev, void *user, int *err)
{
	struct way *w = bench.now;

	struct hop *h = w->hops;

	while (h < w->hops + w->n_hops && !h->stream.over)
		h++;
	if (h == w->hops + CONNECTIONS * 2)
		abort();
	if (h == w->hops + w->n_hops)
		w->n_hops++;
	pipe_free(&h->stream);
	*h = (struct hop){.events = ev, .stream.user = user};
	return &h->stream;
}

/* What the hop says to the octets it has got, and takes them; 0: it waits for more. */
static size_t answer(struct hop *h, char *out)
{
	struct pipe_buffer *b = &h->stream.out;
	char *line = (char *)b->data + b->start, *end;
	size_t n = b->end - b->start, said = 0;

	while (n > 0) {
		end = memmem(line, n, h->content ? "\r\n.\r\n" : "\r\n", h->content ? 5 : 2);
		if (end == NULL)
			break;
		const char *reply = "250 fine\r\n";
		if (h->content)
			h->content = false;
		else if (strncmp(line, "EHLO", 4) == 0)
			reply = "250-mx.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n";
		else if (strncmp(line, "DATA", 4) == 0) {
			h->content = true;
			reply = "354 go on\r\n";
		}
		end += reply[0] == '2' && end[2] == '.' ? 5 : 2;
		said += (size_t)sprintf(out + said, "%s", reply);
		n -= (size_t)(end - line);
		line = end;
	}
	/* of content nothing is kept but what may be the beginning of its end */
	size_t keep = h->content && n > 4 ? 4 : n;
	memmove(b->data, line + n - keep, keep);
	b->start = 0;
	b->end = keep;
	return said;
}

static bool serve(struct hop *h)
{
	char replies[4096];
	size_t n;

	if (h->stream.over)
		return false;
	if (!h->opened) {
		h->opened = true;
		uint64_t from = clock_ns(CLOCK_MONOTONIC);
		h->events->opened(&h->stream, h->stream.user);
		bench.spent_ns += clock_ns(CLOCK_MONOTONIC) - from;
		n = (size_t)sprintf(replies, "220 mx.test\r\n");
	} else if (h->stream.out.end == h->stream.out.start || (n = answer(h, replies)) == 0) {
		return false;
	}
	pipe_put(&h->stream.in, replies, n);
	uint64_t from = clock_ns(CLOCK_MONOTONIC);
	h->events->readable(&h->stream, h->stream.user);
	bench.spent_ns += clock_ns(CLOCK_MONOTONIC) - from;
	return true;
}

static void committed(struct spool_request *r)
{
	struct spool_found f = {
		.id = r->id,
		.place = r->place,
		.content_bytes = r->prefix_bytes + r->body_bytes,
		.recipients = 1,
	};

	if (r->verdict != 0)
		abort();
	bench.committed++;
	uint64_t from = clock_ns(CLOCK_MONOTONIC);
	if (relay_accept(bench.now->relay, &f, r) != 0)
		abort();
	bench.spent_ns += clock_ns(CLOCK_MONOTONIC) - from;
}

static void commit_all(void)
{
	bench.committed = 0;
	for (unsigned i = 0; i < MESSAGES; i++) {
		bench.request[i] = (struct spool_request){
			.op = SPOOL_COMMIT,
			.id = spool_new_id(bench.spool),
			.done = committed,
			.chunks = bench.body,
			.envelope = bench.envelope,
			.envelope_bytes = bench.envelope_bytes,
			.prefix = bench.prefix,
			.prefix_bytes = sizeof(bench.prefix),
			.body_bytes = BODY,
		};
		if (spool_submit(bench.commits, &bench.request[i]) != 0)
			abort();
	}
	while (bench.committed < MESSAGES) {
		if (spool_poll(bench.commits) == 0)
			sched_yield();
	}
}

/* Polls that find nothing to do are not the relay's cost. */
static bool turn(struct way *w)
{
	const uint64_t *counters = relay_counters(w->relay);
	uint64_t begun = counters[relay_memory_hits] + counters[relay_memory_misses];
	uint64_t from = clock_ns(CLOCK_MONOTONIC);
	bool worked = relay_poll(w->relay) > 0 ||
		      counters[relay_memory_hits] + counters[relay_memory_misses] != begun;

	if (worked)
		bench.spent_ns += clock_ns(CLOCK_MONOTONIC) - from;
	for (unsigned i = 0; i < w->n_hops; i++)
		worked |= serve(&w->hops[i]);
	return worked;
}

static void measure(struct way *w)
{
	bench.now = w;
	bench.spent_ns = 0;
	uint64_t others = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - clock_ns(CLOCK_THREAD_CPUTIME_ID);
	bench.shard.now_us += 1000;
	commit_all();
	while (relay_queued(w->relay) > 0) {
		if (!turn(w))
			sched_yield();
	}
	others = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - clock_ns(CLOCK_THREAD_CPUTIME_ID) - others;
	if (bench.spent_ns < w->worker_ns)
		w->worker_ns = bench.spent_ns;
	if (others < w->others_ns)
		w->others_ns = others;
}

static void open_way(struct way *w)
{
	struct relay_config *c = calloc(1, sizeof(*c));

	w->client = spool_client_create(bench.spool, 4096);
	struct relay_env e = {
		.shard = &bench.shard,
		.spool = bench.spool,
		.spool_client = w->client,
		.source_for = source_for,
	};
	*c = (struct relay_config){
		.hostname = "mx.test", .n_pools = 1, .max_messages = 1024, .memory = w->memory};
	c->pools[0] = (struct relay_pool){
		.name = "default",
		.hops = {{.port = 25, .name = "hop.test"}},
		.n_hops = 1,
		.connections = CONNECTIONS,
		.retry_first_us = 60000000,
		.retry_max_us = 60000000,
		.give_up_us = 1ull << 40,
		.notice_us = 1ull << 40,
		.retry_factor = 1,
	};
	addr_parse("192.0.2.1", &c->pools[0].hops[0].address);
	w->relay = relay_worker_create(&e, c);
	w->worker_ns = w->others_ns = UINT64_MAX;
	free(c);
}

static void open_spool(const char *directory)
{
	struct spool_config config = {
		.directory = directory, .max_delay_us = 0, .readers = 1, .io = &spool_io_linux};
	struct envelope e = {.reverse_path = {"a@example.net", 13}, .user = {"alice", 5}};
	size_t bytes = (size_t)envelope_begin(bench.envelope, sizeof(bench.envelope), &e);
	char error[256];

	envelope_add_recipient(bench.envelope, sizeof(bench.envelope), &bytes,
			       &(struct envelope_recipient){.path = {"b@example.net", 13}});
	bench.envelope_bytes = (uint32_t)bytes;
	memset(bench.prefix, 'p', sizeof(bench.prefix));
	memcpy(bench.prefix + sizeof(bench.prefix) - 2, "\r\n", 2);
	if (spool_open(&bench.spool, &config, error, sizeof(error)) != 0 ||
	    spool_start(bench.spool) != 0) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
	bench.commits = spool_client_create(bench.spool, MESSAGES);
}

/* Lines of 76 octets. */
static void make_body(void)
{
	struct chunk *c = chunk_alloc(bench.shard.chunks, CHUNK_16K, true);

	c->next = NULL;
	c->start = 0;
	c->end = BODY;
	memset(c->data, 'x', BODY);
	for (size_t at = 76; at + 2 <= BODY; at += 78)
		memcpy(c->data + at, "\r\n", 2);
	memcpy(c->data + BODY - 2, "\r\n", 2);
	bench.body = c;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 2 ? (unsigned)atoi(argv[2]) : 200;
	uint64_t random = 0;

	if (argc < 2) {
		fprintf(stderr, "usage: perf-relay DIRECTORY [rounds]\n");
		return 2;
	}
	log_set_level(LOG_ERROR);
	bench.shard = (struct shard){
		.now_us = 1000000,
		.chunks = chunk_pool_create(aligned_alloc(65536, CHUNKS), CHUNKS),
		.timers = timer_wheel_create(1000000),
		.random64 = draw,
		.random_arg = &random,
	};
	make_body();
	open_spool(argv[1]);
	bench.way[0] = (struct way){.name = "read back from the spool"};
	bench.way[1] = (struct way){.name = "from memory", .memory = CHUNKS / 4};
	for (unsigned i = 0; i < WAYS; i++)
		open_way(&bench.way[i]);
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < WAYS; i++)
			measure(&bench.way[i]);
	}
	printf("%-28s %12s %14s %8s %8s\n", "us a message of 10 KB", "worker", "other threads",
	       "ratio", "hits");
	double floor = (double)(bench.way[0].worker_ns + bench.way[0].others_ns);
	for (unsigned i = 0; i < WAYS; i++) {
		const struct way *w = &bench.way[i];
		printf("%-28s %12.2f %14.2f %8.2f %8llu\n", w->name,
		       (double)w->worker_ns / MESSAGES / 1000,
		       (double)w->others_ns / MESSAGES / 1000,
		       (double)(w->worker_ns + w->others_ns) / floor,
		       (unsigned long long)relay_counters(w->relay)[relay_memory_hits]);
	}
	return 0;
}
