/*
 * spool.c - what group commit is worth on this machine: the same messages with one fsync each,
 * on a growing file, against the spool with that many clients' messages waiting.
 *
 * usage: spool [directory [waiting [bytes [seconds]]]]
 */
#include "smtp/spool/spool.h"
#include "base/log.h"
#include "perf/scratch.h"
#include "smtp/spool/envelope.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

struct load {
	struct spool *sp;
	struct spool_client *client;
	uint8_t envelope[128];
	uint32_t envelope_bytes;
	struct chunk *body;
	uint64_t committed, failed;
	uint64_t latency_us;
	bool stop;
};

struct slot {
	struct spool_request r;
	struct load *load;
	uint64_t since_us;
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
	       (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static double fsync_each(const char *directory, const struct chunk *body, double seconds)
{
	char name[512];
	uint64_t n = 0, from = now_us();

	snprintf(name, sizeof(name), "%s/baseline", directory);
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return 0;
	while ((double)(now_us() - from) < seconds * 1e6) {
		if (pwrite(fd, body->data, body->end, (off_t)(n * body->end)) < 0 || fsync(fd) < 0)
			break;
		n++;
	}
	double rate = (double)n * 1e6 / (double)(now_us() - from);
	close(fd);
	unlink(name);
	return rate;
}

static void next(struct slot *s);

static void done(struct spool_request *r)
{
	struct slot *s = r->user;
	struct load *l = s->load;

	if (r->verdict != 0) {
		l->failed++;
	} else if (r->op == SPOOL_COMMIT) {
		l->committed++;
		l->latency_us += now_us() - s->since_us;
		/* The next hop has taken it: so that the directory does not grow. */
		s->r = (struct spool_request){.op = SPOOL_DISPOSE, .id = r->id, .last = true};
		s->r.user = s;
		s->r.done = done;
		if (spool_submit(l->client, &s->r) == 0)
			return;
	}
	next(s);
}

static void next(struct slot *s)
{
	struct load *l = s->load;

	if (l->stop)
		return;
	s->since_us = now_us();
	s->r = (struct spool_request){
		.op = SPOOL_COMMIT,
		.id = spool_new_id(l->sp),
		.user = s,
		.done = done,
		.envelope = l->envelope,
		.envelope_bytes = l->envelope_bytes,
		.chunks = l->body,
		.body_bytes = l->body->end,
	};
	if (spool_submit(l->client, &s->r) != 0)
		l->failed++;
}

static double group_commit(struct load *l, unsigned slots, double seconds)
{
	struct slot *s = calloc(slots, sizeof(*s));
	uint64_t from = now_us(), cpu = cpu_us(), left = 0;

	if (s == NULL)
		return 0;
	for (unsigned i = 0; i < slots; i++) {
		s[i].load = l;
		next(&s[i]);
	}
	while ((double)(now_us() - from) < seconds * 1e6) {
		if (spool_poll(l->client) == 0)
			usleep(20);
	}
	double took = (double)(now_us() - from), rate = (double)l->committed * 1e6 / took;
	const uint64_t *c = spool_counters(l->sp);
	uint64_t syncs = counter_read(&c[spool_syncs]);
	printf("%5u waiting: %8.0f messages/s, %6.0f us mean latency, %.1f us CPU and %.3f syncs a "
	       "message\n",
	       slots, rate, (double)l->latency_us / (double)l->committed,
	       (double)(cpu_us() - cpu) / (double)l->committed,
	       (double)syncs / (double)l->committed);
	l->stop = true;
	while (left < 200) { /* until nothing has come back for a while */
		left = spool_poll(l->client) > 0 ? 0 : left + 1;
		usleep(500);
	}
	free(s);
	return rate;
}

static double measure(const char *directory, unsigned slots, struct chunk *body, double seconds)
{
	struct load l = {.body = body};
	struct envelope e = {.reverse_path = {"a@example.org", 13}, .accepted_at_s = 1};
	struct spool_config config = {
		.directory = directory, .max_delay_us = 2000, .readers = 1, .io = &spool_io_linux};
	char error[256];
	size_t bytes = (size_t)envelope_begin(l.envelope, sizeof(l.envelope), &e);

	envelope_add_recipient(l.envelope, sizeof(l.envelope), &bytes,
			       &(struct envelope_recipient){.path = {"b@example.net", 13}});
	l.envelope_bytes = (uint32_t)bytes;
	if (spool_open(&l.sp, &config, error, sizeof(error)) != 0 || spool_start(l.sp) != 0) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
	l.client = spool_client_create(l.sp, slots);
	double rate = group_commit(&l, slots, seconds);
	if (l.failed > 0)
		fprintf(stderr, "%llu requests failed\n", (unsigned long long)l.failed);
	spool_client_destroy(l.client);
	spool_close(l.sp);
	return rate;
}

int main(int argc, char **argv)
{
	char own[64] = "/var/tmp/perf-spool-XXXXXX";
	const char *directory = argc > 1 ? argv[1] : mkdtemp(own);
	unsigned waiting = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 1000;
	uint32_t bytes = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 10240;
	double seconds = argc > 4 ? strtod(argv[4], NULL) : 3;
	struct chunk *body = calloc(1, sizeof(*body) + bytes);

	if (body == NULL || directory == NULL || waiting == 0)
		return 1;
	log_set_level(LOG_WARNING);
	body->size = body->end = bytes;
	memset(body->data, 'x', bytes);
	double each = fsync_each(directory, body, seconds);
	printf("one fsync each: %8.0f messages/s of %u bytes\n", each, bytes);
	double lone = measure(directory, 1, body, seconds);
	double group = measure(directory, waiting, body, seconds);
	printf("group commit: %.1f times one fsync each; a lone client, two syncs a message: "
	       "%.1f\n",
	       group / each, 2 * lone / each);
	if (directory == own)
		scratch_remove(own);
	free(body);
	return 0;
}
