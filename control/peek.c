/* peek.c - reads of the spool that somebody waits for, but not for ever */
#include "control/peek.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATIENCE_US = 2000000, TICK_US = 100, CLOSE_TICKS = 300000 };

struct batch;

struct read {
	struct spool_request request;
	struct batch *batch;
};

/* Outlives its asker while the readers have something of it. */
struct batch {
	struct peeker *peeker;
	unsigned out;
	bool abandoned;
	struct read reads[PEEK_MOST];
};

struct peeker {
	struct spool_client *client;
	unsigned late; /* batches that came too late, and are not back */
};

struct peeker *peeker_create(struct spool *sp)
{
	struct peeker *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->client = spool_client_create(sp, PEEK_MOST);
	if (p->client != NULL)
		return p;
	free(p);
	return NULL;
}

static void tick(void)
{
	struct timespec ts = {.tv_nsec = TICK_US * 1000};

	nanosleep(&ts, NULL);
}

void peeker_destroy(struct peeker *p)
{
	if (p == NULL)
		return;
	for (unsigned i = 0; p->late > 0 && i < CLOSE_TICKS; i++) {
		spool_poll(p->client);
		tick();
	}
	if (p->late == 0)
		spool_client_destroy(p->client);
	free(p);
}

static void batch_free(struct batch *b)
{
	for (unsigned i = 0; i < PEEK_MOST; i++)
		free(b->reads[i].request.chunks);
	free(b);
}

static void done(struct spool_request *r)
{
	struct batch *b = ((struct read *)r->user)->batch;

	if (--b->out > 0 || !b->abandoned)
		return;
	b->peeker->late--;
	batch_free(b);
}

static int submit(struct peeker *p, struct batch *b, unsigned i, const struct peek *from)
{
	struct read *r = &b->reads[i];
	struct chunk *c = calloc(1, sizeof(*c) + from->bytes);

	if (c == NULL)
		return -ENOMEM;
	c->size = from->bytes;
	r->batch = b;
	r->request = (struct spool_request){
		.op = SPOOL_READ,
		.id = from->id,
		.user = r,
		.done = done,
		.chunks = c,
		.read_envelope = !from->content,
		.read_bytes = from->bytes,
	};
	int rc = spool_submit(p->client, &r->request);
	b->out += rc == 0;
	return rc;
}

static void wait_for(struct peeker *p, const struct batch *b)
{
	for (unsigned us = 0; b->out > 0 && us < PATIENCE_US; us += TICK_US) {
		if (spool_poll(p->client) == 0)
			tick();
	}
}

int peek(struct peeker *p, struct peek *reads, unsigned n)
{
	struct batch *b = NULL;
	int rc = 0;

	spool_poll(p->client);
	if (p->late > 0)
		return -ETIMEDOUT;
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return -ENOMEM;
	b->peeker = p;
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = submit(p, b, i, &reads[i]);
	wait_for(p, b);
	if (b->out > 0) {
		b->abandoned = true;
		p->late++;
		return -ETIMEDOUT;
	}
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		struct spool_request *r = &b->reads[i].request;
		reads[i].verdict = r->verdict;
		reads[i].chunk = r->chunks;
		reads[i].chunk->end = r->verdict == 0 ? (uint32_t)r->read_bytes : 0;
		r->chunks = NULL;
	}
	batch_free(b);
	return rc;
}

void peek_free(struct peek *reads, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		free(reads[i].chunk);
		reads[i].chunk = NULL;
	}
}
