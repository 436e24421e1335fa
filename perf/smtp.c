/*
 * smtp.c - what the submission protocol costs by itself: bytes in, replies out, no network, no TLS,
 * no disk.  Rates of message data are given as a ratio to memchr for the line ends plus memcpy of
 * the same bytes, in the same run.
 *
 * usage: perf-smtp [rounds]
 */
#include "base/log.h"
#include "perf/alice.h"
#include "perf/tls_pipe.h"
#include "smtp/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BODY = 1 << 20, SESSION_BODY = 24 << 10, CHUNKS = 16 << 20, COMMANDS = 200000 };

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static uint64_t draw(void *arg)
{
	return 88172645463325252ull + (*(uint64_t *)arg)++;
}

/* A message of n octets with lines of the given length, dots at some line starts. */
static uint8_t *message(size_t n, unsigned line)
{
	static const char header[] =
		"From: Alice <alice@example.net>\r\nTo: bob@example.org\r\n"
		"Subject: measured\r\nDate: Wed, 25 Nov 2026 05:00:00 +0000\r\n"
		"Message-ID: <1@example.net>\r\nMIME-Version: 1.0\r\n"
		"Content-Type: text/plain\r\n\r\n";
	uint8_t *m = malloc(n);

	memset(m, 'x', n);
	memcpy(m, header, sizeof(header) - 1);
	for (size_t at = sizeof(header) - 1; at < n; at += line + 2) {
		if (at / (line + 2) % 64 == 0)
			m[at] = '.';
		if (at + line + 2 <= n)
			memcpy(m + at + line, "\r\n", 2);
	}
	memcpy(m + n - 2, "\r\n", 2);
	return m;
}

/* Nanoseconds for the whole: line ends found and everything copied. */
static uint64_t floor_ns(const uint8_t *m, size_t n, uint8_t *out, unsigned rounds)
{
	uint64_t best = UINT64_MAX;
	size_t lines = 0;

	for (unsigned r = 0; r < rounds; r++) {
		uint64_t from = now_ns();
		for (const uint8_t *at = m; at < m + n;) {
			const uint8_t *lf = memchr(at, '\n', (size_t)(m + n - at));
			size_t k = lf != NULL ? (size_t)(lf - at) + 1 : (size_t)(m + n - at);
			memcpy(out + (at - m), at, k);
			at += k;
			lines++;
		}
		uint64_t took = now_ns() - from;
		best = took < best ? took : best;
	}
	if (lines == 0)
		abort();
	return best;
}

static uint64_t feed_ns(const uint8_t *m, size_t n, uint8_t *out, bool dots, unsigned rounds)
{
	const struct content_rules rules = {.dots = dots};
	uint64_t best = UINT64_MAX;

	for (unsigned r = 0; r < rounds; r++) {
		struct content c;
		size_t used;
		uint64_t from = now_ns();
		content_begin(&c, &rules);
		/* in pieces as they come out of TLS records */
		for (size_t at = 0; at < n; at += used) {
			size_t k = n - at < 16384 ? n - at : 16384;
			content_feed(&c, m + at, k, out, &used);
		}
		uint64_t took = now_ns() - from;
		best = took < best ? took : best;
	}
	return best;
}

static void contents(unsigned rounds)
{
	static const unsigned lines[] = {20, 76, 998};
	uint8_t *out = malloc(BODY + 65536);

	printf("%-34s %8s %8s %7s\n", "message data", "GB/s", "floor", "ratio");
	for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		uint8_t *m = message(BODY, lines[i]);
		double f = BODY / (double)floor_ns(m, BODY, out, rounds);
		for (unsigned dots = 0; dots < 2; dots++) {
			double v = BODY / (double)feed_ns(m, BODY, out, dots == 1, rounds);
			printf("%s, lines of %-3u%*s %8.2f %8.2f %7.2f\n", dots ? "DATA" : "BDAT",
			       lines[i], 16, "", v, f, v / f);
		}
		free(m);
	}
	free(out);
}

struct bench {
	struct shard shard;
	uint64_t random;
	struct auth *auth;
	struct smtp_worker *worker;
	struct smtp_listener listener;
	struct stream stream;
	struct smtp_session *session;
};

static void bench_open(struct bench *b)
{
	struct smtp_config config = {.hostname = "mx.example.net",
				     .max_message_size = 50 << 20,
				     .max_recipients = 1000,
				     .command_us = 300000000,
				     .data_us = 600000000,
				     .unauthenticated_us = 300000000,
				     .sessions = 16};

	b->shard = (struct shard){
		.now_us = 1000000,
		.chunks = chunk_pool_create(aligned_alloc(65536, CHUNKS), CHUNKS),
		.timers = timer_wheel_create(1000000),
		.random64 = draw,
		.random_arg = &b->random,
	};
	b->auth = alice_open();
	struct smtp_env env = {
		.shared = smtp_shared_create(&config),
		.shard = &b->shard,
		.auth = auth_client_create(b->auth, &b->shard),
	};
	b->worker = smtp_worker_create(&env);
	b->listener.worker = b->worker;
	b->listener.name = "submission";
	smtp_stream_events.opened(&b->stream, &b->listener);
	b->session = slab_at(b->worker->sessions, 0, NULL);
	b->session->authenticated = true;
	strcpy(b->session->user, "alice");
}

/* Says it; how many octets of replies came. */
static size_t say(struct bench *b, const char *text, size_t n)
{
	pipe_put(&b->stream.in, text, n);
	smtp_stream_events.readable(&b->stream, b->stream.user);
	size_t said = b->stream.out.end - b->stream.out.start;
	b->stream.out.start = b->stream.out.end = 0;
	return said;
}

static void command(struct bench *b, const char *name, const char *text, unsigned commands,
		    unsigned rounds)
{
	uint64_t best = UINT64_MAX;
	size_t n = strlen(text);

	for (unsigned r = 0; r < rounds; r++) {
		uint64_t from = now_ns();
		for (unsigned i = 0; i < COMMANDS; i += commands) {
			if (say(b, text, n) == 0)
				abort();
		}
		uint64_t took = now_ns() - from;
		best = took < best ? took : best;
	}
	printf("%-34s %8.0f ns a command\n", name, (double)best / COMMANDS);
}

/* A message that is refused at its end, so that no spool is needed: all but the commit. */
static void whole_message(struct bench *b, unsigned rounds)
{
	uint8_t *m = message(SESSION_BODY, 76);
	uint64_t best = UINT64_MAX;

	m[SESSION_BODY - 10] = '\0';
	for (unsigned r = 0; r < rounds * 100; r++) {
		b->session->errors = 0;
		uint64_t from = now_ns();
		say(b, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n", 59);
		say(b, (const char *)m, SESSION_BODY);
		if (say(b, ".\r\n", 3) == 0)
			abort();
		uint64_t took = now_ns() - from;
		best = took < best ? took : best;
	}
	printf("%-34s %8.0f ns, %.2f GB/s\n", "message of 24 KiB, all but commit", (double)best,
	       SESSION_BODY / (double)best);
	free(m);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 5;
	static struct bench b;

	log_set_level(LOG_ERROR);
	contents(rounds * 20);
	bench_open(&b);
	say(&b, "EHLO client.example.net\r\n", 25);
	command(&b, "NOOP, one by one", "NOOP\r\n", 1, rounds);
	command(&b, "NOOP, ten in one segment",
		"NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n",
		10, rounds);
	command(&b, "MAIL RCPT RCPT RSET, pipelined",
		"MAIL FROM:<alice@example.net>\r\nRCPT TO:<bob@example.org>\r\n"
		"RCPT TO:<carol@example.org>\r\nRSET\r\n",
		4, rounds);
	whole_message(&b, rounds);
	return 0;
}
