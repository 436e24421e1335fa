/*
 * recovery.c - how fast a start finds what lies in the spool, against reading the same files and
 * computing their checksum; and how soon the spool accepts meanwhile.
 *
 * usage: perf-recovery [messages [bytes [directory]]]
 *        perf-recovery fill directory messages bytes
 * The second only fills the directory: each message waits an hour, but every 5000th none.
 */
#include "base/crc32c.h"
#include "base/log.h"
#include "perf/scratch.h"
#include "smtp/spool/envelope.h"
#include "smtp/spool/spool.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { WAITING = 1000, DUE_EVERY = 5000, HOLD_S = 3600, ROUNDS = 3, PIECE_BYTES = 256 << 10 };

struct filler {
	struct spool *sp;
	struct spool_client *client;
	struct chunk *body;
	uint8_t held[256], due[256];
	uint32_t held_bytes, due_bytes;
	unsigned done, failed;
};

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void fatal(const char *what)
{
	fprintf(stderr, "perf-recovery: %s\n", what);
	exit(1);
}

static uint32_t make_envelope(uint8_t *out, size_t room, int64_t hold_s)
{
	struct envelope e = {.reverse_path = {"a@example.org", 13},
			     .accepted_at_s = time(NULL),
			     .hold_until_s = hold_s > 0 ? time(NULL) + hold_s : 0};
	size_t bytes = (size_t)envelope_begin(out, room, &e);

	envelope_add_recipient(out, room, &bytes,
			       &(struct envelope_recipient){.path = {"b@example.net", 13}});
	return (uint32_t)bytes;
}

static double open_spool(struct filler *f, const char *directory)
{
	struct spool_config c = {
		.directory = directory, .max_delay_us = 2000, .readers = 1, .io = &spool_io_linux};
	char error[512] = "";
	double from = now();

	if (spool_open(&f->sp, &c, error, sizeof(error)) != 0 || spool_start(f->sp) != 0)
		fatal(error);
	f->client = spool_client_create(f->sp, WAITING);
	return from;
}

static void close_spool(struct filler *f)
{
	spool_client_destroy(f->client);
	spool_close(f->sp);
}

static void committed(struct spool_request *r)
{
	struct filler *f = r->user;

	f->done++;
	f->failed += r->verdict != 0;
	r->client = NULL;
}

static void submit(struct filler *f, struct spool_request *r, bool due)
{
	*r = (struct spool_request){
		.op = SPOOL_COMMIT,
		.id = spool_new_id(f->sp),
		.user = f,
		.done = committed,
		.envelope = due ? f->due : f->held,
		.envelope_bytes = due ? f->due_bytes : f->held_bytes,
		.chunks = f->body,
		.body_bytes = f->body->end,
	};
	if (spool_submit(f->client, r) != 0)
		fatal("a request was not taken");
}

static void prepare(struct filler *f, uint32_t bytes)
{
	f->body = calloc(1, sizeof(*f->body) + bytes + 32);
	if (f->body == NULL)
		fatal("no memory");
	memset(f->body->data, 'x', bytes);
	memcpy(f->body->data, "Subject: old\r\n\r\n", 16);
	memcpy(f->body->data + bytes, "\r\n", 2);
	f->body->size = f->body->end = bytes + 2;
	f->held_bytes = make_envelope(f->held, sizeof(f->held), HOLD_S);
	f->due_bytes = make_envelope(f->due, sizeof(f->due), 0);
}

static void fill(struct filler *f, const char *directory, unsigned messages)
{
	struct spool_request *r = calloc(WAITING, sizeof(*r));

	if (r == NULL)
		fatal("no memory");
	open_spool(f, directory);
	f->done = 0;
	for (unsigned sent = 0; f->done < messages;) {
		for (unsigned i = 0; i < WAITING && sent < messages; i++) {
			if (r[i].client != NULL)
				continue;
			submit(f, &r[i], sent % DUE_EVERY == 0);
			sent++;
		}
		if (spool_poll(f->client) == 0)
			usleep(50);
	}
	if (f->failed > 0)
		fatal("a commit failed");
	close_spool(f);
	free(r);
}

/* The logs' bytes, each read once and added to a checksum. */
static uint64_t read_plainly(const char *directory, uint32_t *crc)
{
	static uint8_t piece[PIECE_BYTES];
	DIR *d = opendir(directory);
	uint64_t bytes = 0;

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		if (strstr(e->d_name, ".log") == NULL)
			continue;
		int fd = openat(dirfd(d), e->d_name, O_RDONLY);
		for (ssize_t n; fd >= 0 && (n = read(fd, piece, sizeof(piece))) > 0;) {
			*crc = crc32c(*crc, piece, (size_t)n);
			bytes += (uint64_t)n;
		}
		close(fd);
	}
	if (d != NULL)
		closedir(d);
	return bytes;
}

static void count(void *arg, const struct spool_found *found)
{
	++*(unsigned *)arg;
}

static void measure(struct filler *f, const char *directory)
{
	struct spool_progress p, then;
	struct spool_request r;
	unsigned found = 0;
	uint32_t crc = 0;
	struct rusage u;

	read_plainly(directory, &crc);
	double from = now();
	uint64_t bytes = read_plainly(directory, &crc);
	double plain = (double)bytes / (now() - from);
	double begun = open_spool(f, directory), opened = now();
	f->done = 0;
	submit(f, &r, false);
	while (f->done == 0) {
		if (spool_poll(f->client) == 0)
			usleep(50);
	}
	double first = now() - begun;
	spool_recovery_progress(f->sp, &then);
	do {
		if (spool_poll_found(f->sp, count, &found) == 0)
			usleep(100);
		spool_recovery_progress(f->sp, &p);
	} while (p.stage < SPOOL_RECOVERY_DONE);
	double all = now() - begun;
	if (p.stage != SPOOL_RECOVERY_DONE || f->failed > 0)
		fatal("recovery failed");
	double rate = (double)p.bytes / p.seconds;
	getrusage(RUSAGE_SELF, &u);
	printf("%.0f MB, %u messages: %.2f GB/s, %.2f of %.2f GB/s read plainly with their "
	       "CRC-32C (%08x)\n"
	       "  open after %.1f ms, first durable commit after %.1f ms, %.0f %% scanned by then; "
	       "all handed over after %.0f ms; %.0f MB resident at most\n",
	       (double)p.bytes / 1e6, found, rate / 1e9, rate / plain, plain / 1e9, crc,
	       (opened - begun) * 1e3, first * 1e3,
	       100 * (double)then.bytes_done / (double)(p.bytes > 0 ? p.bytes : 1), all * 1e3,
	       (double)u.ru_maxrss / 1024);
	close_spool(f);
}

int main(int argc, char **argv)
{
	bool only = argc == 5 && strcmp(argv[1], "fill") == 0;
	char own[64] = "/var/tmp/perf-recovery-XXXXXX", **args = only ? argv + 2 : argv;
	unsigned messages = argc > 1 ? (unsigned)strtoul(args[1], NULL, 10) : 200000;
	uint32_t bytes = argc > 2 ? (uint32_t)strtoul(args[2], NULL, 10) : 4096;
	const char *directory = only ? argv[2] : argc > 3 ? argv[3] : mkdtemp(own);
	struct filler f = {0};

	if (directory == NULL || messages == 0 || bytes < 16)
		fatal("usage: [messages [bytes [directory]]], or: fill directory messages bytes");
	log_set_level(LOG_WARNING);
	prepare(&f, bytes);
	fill(&f, directory, messages);
	for (unsigned i = 0; !only && i < ROUNDS; i++)
		measure(&f, directory);
	if (directory == own)
		scratch_remove(own);
	free(f.body);
	return 0;
}
