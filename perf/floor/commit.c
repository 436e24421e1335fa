/* commit.c - one write and one fdatasync for everything that waits, into a file that is reused */
#include "perf/floor/floor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILE_BYTES = 512 << 20, STEP = 1 << 20, VECTORS = 512 };

struct commit {
	int fd, event_fd;
	off_t at;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct commit_item *first, **last, *done;
	pthread_t thread;
};

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* Writes the items from i on; the first that was not. */
static struct commit_item *write_some(struct commit *c, struct commit_item *i)
{
	struct iovec v[VECTORS];
	size_t bytes = 0;
	int n = 0;

	for (; i != NULL && n < VECTORS && (n == 0 || c->at + (off_t)(bytes + i->n) < FILE_BYTES);
	     i = i->next) {
		v[n++] = (struct iovec){i->bytes, i->n};
		bytes += i->n;
	}
	if (c->at + (off_t)bytes >= FILE_BYTES)
		c->at = 0;
	/* a regular file takes all or has no room */
	if (pwritev(c->fd, v, n, c->at) != (ssize_t)bytes)
		fail("write");
	c->at += (off_t)bytes;
	return i;
}

static void *committer(void *arg)
{
	struct commit *c = arg;

	for (;;) {
		pthread_mutex_lock(&c->lock);
		while (c->first == NULL)
			pthread_cond_wait(&c->wanted, &c->lock);
		struct commit_item *batch = c->first, *end = batch;
		c->first = NULL;
		c->last = &c->first;
		pthread_mutex_unlock(&c->lock);
		for (struct commit_item *i = batch; i != NULL;)
			i = write_some(c, i);
		if (fdatasync(c->fd) < 0)
			fail("fdatasync");
		while (end->next != NULL)
			end = end->next;
		pthread_mutex_lock(&c->lock);
		end->next = c->done;
		c->done = batch;
		pthread_mutex_unlock(&c->lock);
		uint64_t one = 1;
		if (write(c->event_fd, &one, sizeof(one)) < 0)
			fail("eventfd");
	}
	return NULL;
}

struct commit *commit_open(const char *file, int event_fd)
{
	struct commit *c = calloc(1, sizeof(*c));
	char *zeros = calloc(1, STEP);

	if (c == NULL || zeros == NULL)
		fail("memory");
	c->event_fd = event_fd;
	c->last = &c->first;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wanted, NULL);
	c->fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (off_t at = 0; c->fd >= 0 && at < FILE_BYTES; at += STEP)
		if (pwrite(c->fd, zeros, STEP, at) != STEP)
			fail(file);
	free(zeros);
	if (c->fd < 0 || fsync(c->fd) < 0 || pthread_create(&c->thread, NULL, committer, c) != 0)
		fail(file);
	return c;
}

void commit_push(struct commit *c, struct commit_item *i)
{
	i->next = NULL;
	pthread_mutex_lock(&c->lock);
	*c->last = i;
	c->last = &i->next;
	pthread_cond_signal(&c->wanted);
	pthread_mutex_unlock(&c->lock);
}

struct commit_item *commit_pop(struct commit *c)
{
	pthread_mutex_lock(&c->lock);
	struct commit_item *done = c->done;
	c->done = NULL;
	pthread_mutex_unlock(&c->lock);
	return done;
}
