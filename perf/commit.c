/*
 * commit.c - committed messages a second by size and by how many wait, beside three others of the
 * same run: a bare loop of write and fdatasync of batches as large as the spool's were, into a file
 * written ahead; one write and fsync a message; and, for large messages, the disk's plain rate.
 *
 *	build/perf/perf-commit [directory [seconds]]
 *
 * Messages of 1 MB go the way of the gateway: pieces of 64 KiB into a file of their own, then the
 * commit.  Nothing is disposed of while a cell is measured; between cells everything is removed.
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

enum {
	PIECE = 65536,
	LARGE = 65536, /* above: a file of its own */
	ZEROED = 256 << 20,
	MOST_BYTES = 1 << 30, /* of a cell */
};

struct cell {
	struct spool *sp;
	struct spool_client *client;
	uint8_t envelope[128];
	uint32_t envelope_bytes, bytes;
	struct chunk *piece;
	uint64_t committed, failed;
	unsigned waiting, outstanding;
	bool stop;
};

struct slot {
	struct spool_request r;
	struct cell *cell;
	spool_id_t id;
	uint32_t appended;
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void step(struct slot *s);

static void done(struct spool_request *r)
{
	struct slot *s = r->user;

	s->cell->outstanding--;
	if (r->verdict != 0) {
		s->cell->failed++;
		return;
	}
	if (r->op == SPOOL_COMMIT) {
		s->cell->committed++;
		s->id = 0;
	}
	step(s);
}

/* The next request of a message, or the first of the next message. */
static void step(struct slot *s)
{
	struct cell *c = s->cell;
	bool large = c->bytes > LARGE;

	if (s->id == 0) {
		if (c->stop)
			return;
		s->id = spool_new_id(c->sp);
		s->appended = 0;
	}
	s->r = (struct spool_request){.id = s->id, .user = s, .done = done, .chunks = c->piece};
	if (large && s->appended < c->bytes) {
		s->r.op = SPOOL_BODY_APPEND;
		s->appended += PIECE;
	} else {
		s->r.op = SPOOL_COMMIT;
		s->r.envelope = c->envelope;
		s->r.envelope_bytes = c->envelope_bytes;
		s->r.large = large;
		s->r.body_bytes = c->bytes;
		if (large)
			s->r.chunks = NULL;
	}
	if (spool_submit(c->client, &s->r) != 0)
		c->failed++;
	else
		c->outstanding++;
}

static void fail(const char *what)
{
	fprintf(stderr, "perf-commit: %s\n", what);
	exit(1);
}

/* Messages a second; *batch: messages a sync. */
static double spool_rate(const char *directory, struct cell *c, double seconds, double *batch)
{
	struct spool_config config = {
		.directory = directory, .max_delay_us = 2000, .readers = 1, .io = &spool_io_linux};
	struct slot *s = calloc(c->waiting, sizeof(*s));
	char error[256];

	if (s == NULL || spool_open(&c->sp, &config, error, sizeof(error)) != 0 ||
	    spool_start(c->sp) != 0)
		fail("the spool cannot be opened");
	c->client = spool_client_create(c->sp, c->waiting);
	c->committed = 0;
	c->stop = false;
	const uint64_t *counters = spool_counters(c->sp);
	uint64_t syncs = counter_read(&counters[spool_syncs]), from = now_us();
	for (unsigned i = 0; i < c->waiting; i++) {
		s[i].cell = c;
		step(&s[i]);
	}
	/* large ones take turns: before the first is whole, all are nearly so */
	uint64_t least = c->bytes > LARGE ? c->waiting : 0;
	while (c->failed == 0 &&
	       ((double)(now_us() - from) < seconds * 1e6 || c->committed < least) &&
	       (c->committed * c->bytes <= MOST_BYTES || c->committed < least))
		if (spool_poll(c->client) == 0)
			usleep(20);
	double rate = (double)c->committed * 1e6 / (double)(now_us() - from);
	syncs = counter_read(&counters[spool_syncs]) - syncs;
	*batch = syncs > 0 ? (double)c->committed / (double)syncs : 1;
	c->stop = true;
	while (c->outstanding > 0)
		if (spool_poll(c->client) == 0)
			usleep(20);
	spool_client_destroy(c->client);
	spool_close(c->sp);
	free(s);
	scratch_empty(directory);
	return rate;
}

static int open_zeroed(const char *directory, char *name, size_t bytes)
{
	static char zeros[1 << 20];

	snprintf(name, bytes, "%s/bare", directory);
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	for (off_t at = 0; fd >= 0 && at < ZEROED; at += (off_t)sizeof(zeros))
		if (pwrite(fd, zeros, sizeof(zeros), at) != (ssize_t)sizeof(zeros))
			fail("the disk is full");
	if (fd < 0 || fsync(fd) < 0)
		fail("the bare file cannot be written");
	return fd;
}

/* Messages a second of write and fdatasync of batches of so many. */
static double bare_rate(const char *directory, uint32_t bytes, double batch, double seconds)
{
	char name[512];
	size_t n = (size_t)(batch * bytes);
	int fd = open_zeroed(directory, name, sizeof(name));

	if (n < bytes)
		n = bytes;
	if (n > ZEROED / 2)
		n = ZEROED / 2;
	char *data = malloc(n);
	if (data == NULL)
		fail("out of memory");
	memset(data, 'x', n);
	uint64_t from = now_us(), all = 0;
	for (off_t at = 0; (double)(now_us() - from) < seconds * 1e6; at += (off_t)n) {
		if (at + (off_t)n > ZEROED)
			at = 0;
		if (pwrite(fd, data, n, at) != (ssize_t)n || fdatasync(fd) < 0)
			fail("the bare file cannot be written");
		all += n;
	}
	double rate = (double)all / bytes * 1e6 / (double)(now_us() - from);
	close(fd);
	unlink(name);
	free(data);
	return rate;
}

/* Messages a second of a growing file, synced after each (every = 1) or at the end only. */
static double growing_rate(const char *directory, uint32_t bytes, bool every, double seconds)
{
	char name[512];
	uint64_t n = 0;

	snprintf(name, sizeof(name), "%s/growing", directory);
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char *data = malloc(bytes);
	if (fd < 0 || data == NULL)
		fail("the growing file cannot be written");
	memset(data, 'x', bytes);
	uint64_t from = now_us();
	for (; (double)(now_us() - from) < seconds * 1e6 && n * bytes < MOST_BYTES; n++)
		if (pwrite(fd, data, bytes, (off_t)(n * bytes)) != (ssize_t)bytes ||
		    (every && fsync(fd) < 0))
			fail("the growing file cannot be written");
	if (fdatasync(fd) < 0)
		fail("the growing file cannot be synced");
	double rate = (double)n * 1e6 / (double)(now_us() - from);
	close(fd);
	unlink(name);
	free(data);
	return rate;
}

static void row(const char *directory, struct cell *c, double seconds)
{
	double batch, rate = spool_rate(directory, c, seconds, &batch);
	double bare = bare_rate(directory, c->bytes, batch, seconds);
	double each = growing_rate(directory, c->bytes, true, seconds);

	printf("| %7u | %6u | %8.0f | %7.1f | %8.0f | %5.2f | %6.1f |", c->bytes, c->waiting, rate,
	       batch, bare, rate / bare, rate / each);
	if (c->bytes > LARGE)
		printf(" %5.2f |", rate / growing_rate(directory, c->bytes, false, seconds));
	else
		printf("       |");
	printf("\n");
	fflush(stdout);
	if (c->failed > 0)
		printf("%llu requests failed\n", (unsigned long long)c->failed);
}

int main(int argc, char **argv)
{
	static const uint32_t sizes[] = {4096, 10240, 1 << 20};
	static const unsigned waiting[] = {1, 100, 1000, 10000};
	char own[64] = "/var/tmp/perf-commit-XXXXXX";
	const char *directory = argc > 1 ? argv[1] : mkdtemp(own);
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 1;
	struct envelope e = {.reverse_path = {"a@example.org", 13}, .accepted_at_s = 1};

	if (directory == NULL)
		fail("no directory");
	/* a descriptor a large message under way */
	struct rlimit files;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	log_set_level(LOG_WARNING);
	printf("|  bytes  | waiting |   spool/s | a batch |   bare/s | ratio | to one fsync each | "
	       "to "
	       "the disk's rate |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
	for (unsigned i = 0; i < 3; i++) {
		uint32_t piece = sizes[i] > LARGE ? PIECE : sizes[i];
		struct chunk *body = calloc(1, sizeof(*body) + piece);
		if (body == NULL)
			fail("out of memory");
		body->size = body->end = piece;
		memset(body->data, 'x', piece);
		for (unsigned k = 0; k < 4; k++) {
			struct cell c = {.bytes = sizes[i], .waiting = waiting[k], .piece = body};
			size_t n = (size_t)envelope_begin(c.envelope, sizeof(c.envelope), &e);
			envelope_add_recipient(
				c.envelope, sizeof(c.envelope), &n,
				&(struct envelope_recipient){.path = {"b@example.net", 13}});
			c.envelope_bytes = (uint32_t)n;
			row(directory, &c, seconds);
		}
		free(body);
	}
	if (directory == own)
		rmdir(own);
	return 0;
}
