/*
 * test_relay_slow.c - large messages through a link of 1 Mb/s to their hop: memory stays that of
 * the connections, and no time limit ends what moves.
 *
 * Bodies are made up when they are read.  RELAY_SLOW_MESSAGES: how many, 20 without it; 200 of
 * them are 22 hours of virtual time.
 */
#include "smtp/spool/internal.h"
#include "tests/unit/relay_kit.h"
#include "tests/unit/spool_kit.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { BODY_FD = 1 << 20, LINE = 64 };
static const uint64_t body_bytes = 50000000;

/* ---- a disk whose large bodies are nowhere ---- */

static struct spool_io disk, bodies;

static bool is_body(const char *name)
{
	return strstr(name, ".body") != NULL;
}

static int open_file(void *arg, int dir, const char *name, int flags, mode_t mode)
{
	return is_body(name) ? BODY_FD : disk.open(arg, dir, name, flags, mode);
}

static int close_file(void *arg, int fd)
{
	return fd == BODY_FD ? 0 : disk.close(arg, fd);
}

static ssize_t write_file(void *arg, int fd, const struct iovec *iov, int n, off_t at)
{
	ssize_t all = 0;

	if (fd != BODY_FD)
		return disk.pwritev(arg, fd, iov, n, at);
	for (int i = 0; i < n; i++)
		all += (ssize_t)iov[i].iov_len;
	return all;
}

static ssize_t read_file(void *arg, int fd, void *buf, size_t n, off_t at)
{
	if (fd != BODY_FD)
		return disk.pread(arg, fd, buf, n, at);
	for (size_t i = 0; i < n; i++) {
		size_t in_line = (size_t)(at + (off_t)i) % LINE;
		((char *)buf)[i] = "x\r\n"[in_line < LINE - 2 ? 0 : in_line - (LINE - 3)];
	}
	return (ssize_t)n;
}

static int sync_file(void *arg, int fd)
{
	return fd == BODY_FD ? 0 : disk.fdatasync(arg, fd);
}

static int unlink_file(void *arg, int dir, const char *name)
{
	return is_body(name) ? 0 : disk.unlink(arg, dir, name);
}

static const struct spool_io *with_bodies(const struct spool_io *below)
{
	disk = bodies = *below;
	bodies.open = open_file;
	bodies.close = close_file;
	bodies.pwritev = write_file;
	bodies.pread = read_file;
	bodies.fdatasync = sync_file;
	bodies.unlink = unlink_file;
	return &bodies;
}

/* ---- messages ---- */

static void finished(struct spool_request *r)
{
	*(bool *)r->user = true;
}

static bool is_true(void *arg)
{
	return *(bool *)arg;
}

static void ask(struct mail *m, struct spool_request *r)
{
	bool done = false;

	r->user = &done;
	r->done = finished;
	assert_int_equal(spool_submit(m->smtp_spool, r), 0);
	assert_true(mail_run_until(m, is_true, &done, MINUTE));
	assert_int_equal(r->verdict, 0);
}

static void append(struct mail *m, spool_id_t id)
{
	const uint32_t most = 1 << 20;
	struct chunk *c = calloc(1, sizeof(*c) + most);

	assert_non_null(c);
	for (uint64_t at = 0; at < body_bytes; at += c->end) {
		c->end = body_bytes - at < most ? (uint32_t)(body_bytes - at) : most;
		ask(m, &(struct spool_request){.op = SPOOL_BODY_APPEND, .id = id, .chunks = c});
	}
	free(c);
}

static void queue(struct mail *m)
{
	spool_id_t id = spool_new_id(m->spool);
	uint8_t envelope[512];
	struct spool_request r = {
		.op = SPOOL_COMMIT,
		.id = id,
		.envelope = envelope,
		.envelope_bytes = kit_envelope(envelope, sizeof(envelope), 1, 1),
		.body_bytes = body_bytes,
		.large = true,
	};
	append(m, id);
	ask(m, &r);
	struct spool_found f = {
		.id = id,
		.place = r.place,
		.content_bytes = body_bytes,
		.accepted_at_s = shard_wall_s(m->shard),
		.retry_at_s = shard_wall_s(m->shard),
		.recipients = 1,
	};
	assert_int_equal(relay_add(m->relay, &f), 0);
}

struct watch {
	struct bench b;
	size_t most;
};

static bool all_gone(void *arg)
{
	struct watch *w = arg;
	size_t used = chunk_pool_used(w->b.m->shard->chunks);

	w->most = used > w->most ? used : w->most;
	return relay_queued(w->b.m->relay) == 0;
}

static void large_messages_through_a_slow_link_arrive_within_their_memory(void **state)
{
	const char *text = getenv("RELAY_SLOW_MESSAGES");
	unsigned n = text != NULL ? (unsigned)atoi(text) : 20;
	/* of one: the pieces, the output, and what TCP has taken */
	size_t a_connection = PIECES * 65536 + 16384 + (256 << 10);
	struct mail_options o;

	mail_options_default(&o);
	o.spool_io = with_bodies;
	o.net.conditions.delay_us = 20000;
	o.net.conditions.bits_per_s = 1000000;
	o.net.conditions.queue_packets = 1024;
	o.net.chunk_bytes = 128 << 20;
	o.relay.pools[0].connections = 20;
	struct watch w = {.b = {.m = mail_create(&o)}};
	for (unsigned i = 0; i < n; i++)
		queue(w.b.m);
	w.b.h = hop_create(w.b.m, MAIL_HOP);
	w.b.h->chunking = w.b.h->forgetful = true;
	w.b.h->size = NULL;
	w.b.m->tick_us = MAIL_SECOND;
	uint64_t begun = w.b.m->shard->now_us;
	if (!mail_run_until(w.b.m, all_gone, &w, n * (uint64_t)(10 * MINUTE)))
		fail_msg("%u of %u left", relay_queued(w.b.m->relay), n);
	print_message("# %u messages, %llu s, at most %zu KiB of chunks\n", n,
		      (unsigned long long)(w.b.m->shard->now_us - begun) / MAIL_SECOND,
		      w.most / 1024);
	assert_int_equal(count(&w.b, relay_delivered), n);
	assert_int_equal(w.b.h->taken, n * body_bytes);
	assert_int_equal(count(&w.b, relay_timeouts), 0);
	assert_int_equal(count(&w.b, relay_interrupted), 0);
	assert_int_equal(count(&w.b, relay_stuck), 0);
	assert_in_range(w.most, 1, a_connection * (n < 20 ? n : 20));
	bench_end(&w.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(large_messages_through_a_slow_link_arrive_within_their_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
