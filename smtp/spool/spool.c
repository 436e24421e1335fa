/* spool.c - opening, threads, clients: the parts behind spool.h that tie the others together */
#include "smtp/spool/internal.h"

#include "base/log.h"
#include "base/nap.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

enum {
	TRASH_RING = 1024,
	COMPANY_FROM = 4, /* a last batch smaller than this is no sign of company */
	COMPANY_STEP_US = 20,
	NAP_US = 250, /* longest rest of a thread while there was work lately */
	QUIET_ROUNDS = 1000,
	QUIET_COMMITTER_US = 1000, /* after a quarter of a second without any */
	QUIET_HELPER_US = 4000,
};

#define MIB ((uint64_t)1 << 20)

static uint64_t read_clock(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t spool_clock_us(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

const char *spool_id_text(spool_id_t id, char *text)
{
	snprintf(text, SPOOL_ID_TEXT, "%016" PRIx64, id);
	return text;
}

static void apply_config(struct spool *sp, const struct spool_config *c)
{
	sp->config = *c;
	sp->io = c->io != NULL ? c->io : &spool_io_linux;
	uint64_t size = c->segment_size > 0 ? c->segment_size : 64 * MIB;
	if (c->max_size > 0 && size > c->max_size / 4)
		size = c->max_size / 4;
	/* Record offsets are 32 bits wide in the index. */
	size = size > 1024 * MIB ? 1024 * MIB : size;
	sp->config.segment_size = size < 65536 ? 65536 : size & ~(uint64_t)4095;
	sp->batch_limit = c->max_bytes > 0 ? c->max_bytes : 4 * MIB;
	if (sp->batch_limit > sp->config.segment_size / 8)
		sp->batch_limit = sp->config.segment_size / 8;
	sp->readers = c->readers < 1 ? 1 : c->readers;
	if (sp->readers > SPOOL_READERS_MAX)
		sp->readers = SPOOL_READERS_MAX;
}

static int open_directory(struct spool *sp, char *error, size_t error_bytes)
{
	const char *path = sp->config.directory;
	pid_t holder = 0;

	sp->dir = sp->io->open_dir(sp->io->arg, path);
	if (sp->dir < 0) {
		snprintf(error, error_bytes,
			 "spool directory %s: %s; create it and give it to the daemon's user", path,
			 strerror(-sp->dir));
		return sp->dir;
	}
	sp->lock_fd = sp->io->lock(sp->io->arg, sp->dir, &holder);
	if (sp->lock_fd == -EWOULDBLOCK && holder > 0)
		snprintf(error, error_bytes,
			 "spool directory %s is in use by process %ld; one instance a directory",
			 path, (long)holder);
	else if (sp->lock_fd == -EWOULDBLOCK)
		snprintf(
			error, error_bytes,
			"spool directory %s is in use by another process; one instance a directory",
			path);
	else if (sp->lock_fd < 0)
		snprintf(error, error_bytes, "%s/lock: %s; check owner and permissions", path,
			 strerror(-sp->lock_fd));
	return sp->lock_fd < 0 ? sp->lock_fd : 0;
}

static struct spool *spool_alloc(const struct spool_config *c)
{
	struct spool *sp = calloc(1, sizeof(*sp));

	if (sp == NULL)
		return NULL;
	apply_config(sp, c);
	sp->dir = sp->lock_fd = -1;
	list_init(&sp->segments);
	sp->next_segment = sp->next_sequence = 1;
	/* Room for 4096 ids a microsecond until the clock of the next start hands out the same. */
	atomic_store(&sp->next_id, read_clock(CLOCK_REALTIME) << 12);
	sp->batch = calloc(1, sizeof(*sp->batch));
	bool ok = sp->batch != NULL && index_init(&sp->index) == 0;
	for (unsigned i = 0; i < SPOOL_WRITERS; i++) {
		sp->writer[i] = (struct spool_writer){.sp = sp, .index = i};
		sp->writer[i].trash = ring_create(TRASH_RING);
		ok = ok && sp->writer[i].trash != NULL;
	}
	for (unsigned i = 0; i < sp->readers; i++)
		sp->reader[i].sp = sp;
	ok = ok && getrandom(&sp->salts, sizeof(sp->salts), 0) == (ssize_t)sizeof(sp->salts);
	if (ok)
		return sp;
	spool_abandon(sp);
	return NULL;
}

int spool_open(struct spool **out, const struct spool_config *c, char *error, size_t error_bytes)
{
	struct spool *sp = spool_alloc(c);

	if (sp == NULL) {
		snprintf(error, error_bytes, "spool: no memory");
		return -ENOMEM;
	}
	int rc = open_directory(sp, error, error_bytes);
	if (rc == 0)
		rc = recovery_open(sp, error, error_bytes);
	if (rc == 0) {
		rc = segment_create(sp, 0);
		/* A full disk is no reason to stay down: what is queued can still leave. */
		if (rc == -ENOSPC) {
			log_warning("spool", "no room for a new segment: messages are refused");
			rc = 0;
		}
		if (rc < 0)
			snprintf(error, error_bytes,
				 "spool directory %s: cannot begin a segment: %s; check "
				 "permissions and the disk",
				 c->directory, strerror(-rc));
	}
	if (rc < 0) {
		spool_abandon(sp);
		return rc;
	}
	*out = sp;
	return 0;
}

static unsigned waiting(const struct spool *sp)
{
	size_t n = 0;

	for (struct spool_client *c = atomic_load(&sp->clients); c != NULL; c = c->next)
		n += ring_count(c->log) + ring_count(c->synced);
	return (unsigned)n;
}

/* Requests gather by themselves while a sync runs.  Beyond that, waiting only pays when the last
 * batch was large and this one has just begun to form; a lone client never waits. */
static void wait_for_company(struct spool *sp)
{
	unsigned enough = sp->last_batch / 2, n = waiting(sp);
	struct timespec step = {.tv_nsec = COMPANY_STEP_US * 1000};

	if (sp->last_batch < COMPANY_FROM || n == 0 || n >= enough)
		return;
	spool_count(sp, spool_batch_waits, 1);
	uint64_t until = spool_clock_us() + sp->config.max_delay_us;
	while (waiting(sp) < enough && spool_clock_us() < until)
		nanosleep(&step, NULL);
}

/* A spool without work costs two per cent of a core instead of ten. */
static void rest(struct nap *nap, uint32_t quiet_us)
{
	nap->max_us = nap->idle_rounds < QUIET_ROUNDS ? NAP_US : quiet_us;
	nap_idle(nap);
}

static void *committer_main(void *arg)
{
	struct spool *sp = arg;
	struct nap nap = {0};

	for (;;) {
		bool stop = atomic_load(&sp->stop_committer);

		if (!stop)
			wait_for_company(sp);
		if (spool_commit_step(sp, spool_clock_us()) > 0)
			nap_worked(&nap);
		else if (stop)
			return NULL;
		else
			rest(&nap, QUIET_COMMITTER_US);
	}
}

static void *writer_main(void *arg)
{
	struct spool_writer *w = arg;
	struct nap nap = {0};

	for (;;) {
		bool stop = atomic_load(&w->sp->stop_helpers);

		if (spool_body_step(w) > 0)
			nap_worked(&nap);
		else if (stop)
			return NULL;
		else
			rest(&nap, QUIET_HELPER_US);
	}
}

static void *reader_main(void *arg)
{
	struct spool_reader *r = arg;
	struct nap nap = {0};

	for (;;) {
		bool stop = atomic_load(&r->sp->stop_helpers);

		if (spool_read_step(r) > 0)
			nap_worked(&nap);
		else if (stop)
			return NULL;
		else
			rest(&nap, QUIET_HELPER_US);
	}
}

static void stop_threads(struct spool *sp, bool committer, unsigned writers, unsigned readers)
{
	atomic_store(&sp->stop_helpers, true);
	for (unsigned i = 0; i < writers; i++)
		pthread_join(sp->writer[i].thread, NULL);
	for (unsigned i = 0; i < readers; i++)
		pthread_join(sp->reader[i].thread, NULL);
	/* Last: the writers hand it what they have synced. */
	atomic_store(&sp->stop_committer, true);
	if (committer)
		pthread_join(sp->committer, NULL);
}

int spool_start(struct spool *sp)
{
	unsigned writers = 0, readers = 0;
	sigset_t all, before;

	/* Signals are for the main thread. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int rc = pthread_create(&sp->committer, NULL, committer_main, sp);
	bool committer = rc == 0;
	while (rc == 0 && writers < SPOOL_WRITERS) {
		rc = pthread_create(&sp->writer[writers].thread, NULL, writer_main,
				    &sp->writer[writers]);
		writers += rc == 0;
	}
	while (rc == 0 && readers < sp->readers) {
		rc = pthread_create(&sp->reader[readers].thread, NULL, reader_main,
				    &sp->reader[readers]);
		readers += rc == 0;
	}
	if (rc == 0)
		rc = recovery_start(sp);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	sp->started = rc == 0;
	if (rc != 0)
		stop_threads(sp, committer, writers, readers);
	return -rc;
}

/* What the threads would do before they end, when there are none. */
static void run_to_the_end(struct spool *sp)
{
	unsigned work;

	do {
		work = spool_commit_step(sp, spool_clock_us());
		for (unsigned i = 0; i < SPOOL_WRITERS; i++)
			work += spool_body_step(&sp->writer[i]);
		work += spool_read_step(&sp->reader[0]);
	} while (work > 0);
}

void spool_close(struct spool *sp)
{
	recovery_stop(sp);
	if (sp->started)
		stop_threads(sp, true, SPOOL_WRITERS, sp->readers);
	atomic_store(&sp->stop_committer, true);
	run_to_the_end(sp); /* the committer's last round may have left large files to delete */
	compaction_stop(sp);
	if (sp->active != NULL)
		sp->io->truncate(sp->io->arg, sp->active->fd, (off_t)sp->active->end);
	spool_abandon(sp);
}

static void free_bodies(struct spool_writer *w)
{
	for (unsigned i = 0; i < BODY_BUCKETS; i++) {
		for (struct spool_body *b = w->bucket[i], *next; b != NULL; b = next) {
			next = b->next;
			w->sp->io->close(w->sp->io->arg, b->fd);
			free(b);
		}
	}
	for (struct spool_entry *e; w->trash != NULL && (e = ring_pop(w->trash)) != NULL;)
		entry_free(e);
	ring_destroy(w->trash);
}

static void free_client(struct spool_client *c)
{
	ring_destroy(c->log);
	ring_destroy(c->synced);
	ring_destroy(c->read);
	ring_destroy(c->verdicts);
	for (unsigned i = 0; i < SPOOL_WRITERS; i++)
		ring_destroy(c->body[i]);
	free(c);
}

void spool_abandon(struct spool *sp)
{
	compaction_stop(sp);
	recovery_free(sp);
	list_each_safe (it, &sp->segments) {
		list_del(it);
		segment_free(sp, container_of(it, struct spool_segment, link));
	}
	for (unsigned i = 0; i < SPOOL_WRITERS; i++)
		free_bodies(&sp->writer[i]);
	for (unsigned i = 0; i < sp->readers; i++)
		free(sp->reader[i].buffer);
	for (struct spool_client *c = atomic_load(&sp->clients), *next; c != NULL; c = next) {
		next = c->next;
		free_client(c);
	}
	if (sp->index.bucket != NULL)
		index_free(&sp->index);
	if (sp->lock_fd >= 0)
		sp->io->close(sp->io->arg, sp->lock_fd);
	if (sp->dir >= 0)
		sp->io->close(sp->io->arg, sp->dir);
	free(sp->batch);
	free(sp);
}

struct spool_client *spool_client_create(struct spool *sp, unsigned ring_size)
{
	struct spool_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->sp = sp;
	c->limit = ring_size;
	c->log = ring_create(ring_size);
	c->synced = ring_create(ring_size);
	c->read = ring_create(ring_size);
	c->verdicts = ring_create(ring_size);
	bool ok = c->log != NULL && c->synced != NULL && c->read != NULL && c->verdicts != NULL;
	for (unsigned i = 0; i < SPOOL_WRITERS; i++) {
		c->body[i] = ring_create(ring_size);
		ok = ok && c->body[i] != NULL;
	}
	if (!ok) {
		free_client(c);
		return NULL;
	}
	c->next = atomic_load(&sp->clients);
	while (!atomic_compare_exchange_weak(&sp->clients, &c->next, c))
		;
	return c;
}

/* The threads may be looking at its rings at this moment: the memory goes with the spool. */
void spool_client_destroy(struct spool_client *c)
{
	assert(c->outstanding == 0 && !c->retired);
	c->retired = true;
}

spool_id_t spool_new_id(struct spool *sp)
{
	return atomic_fetch_add(&sp->next_id, 1);
}

int spool_submit(struct spool_client *c, struct spool_request *r)
{
	struct ring *writer = c->body[r->id % SPOOL_WRITERS];
	struct ring *const to[] = {
		[SPOOL_BODY_APPEND] = writer,
		[SPOOL_BODY_ABORT] = writer,
		[SPOOL_COMMIT] = r->large ? writer : c->log, /* behind its own appends */
		[SPOOL_DISPOSE] = c->log,
		[SPOOL_READ] = c->read,
	};

	assert(!c->retired);
	if (c->outstanding >= c->limit) {
		spool_count(c->sp, spool_ring_full, 1);
		return -EOVERFLOW;
	}
	r->client = c;
	c->outstanding++;
	bool pushed = ring_push(to[r->op], r);
	assert(pushed);
	(void)pushed;
	return 0;
}

unsigned spool_poll(struct spool_client *c)
{
	struct spool_request *r;
	unsigned n = 0;

	while (n < c->limit && (r = ring_pop(c->verdicts)) != NULL) {
		c->outstanding--;
		n++;
		r->done(r);
	}
	return n;
}

void spool_status(struct spool *sp, struct spool_status *st)
{
	*st = (struct spool_status){
		.bytes_used = atomic_load(&sp->bytes_used),
		.bytes_max = sp->config.max_size,
		.messages = atomic_load(&sp->messages),
		.segments = atomic_load(&sp->segment_count),
		.large_files = atomic_load(&sp->large_files),
		.recovered = atomic_load(&sp->recovered),
		.torn_bytes = atomic_load(&sp->torn_bytes),
		.quarantined = atomic_load(&sp->quarantined),
	};
}

const uint64_t *spool_counters(const struct spool *sp)
{
	return sp->counters;
}
