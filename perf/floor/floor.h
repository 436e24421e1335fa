/*
 * floor.h - the least that a mail server on kernel sockets can do: what ours is measured against.
 *
 * One thread with epoll and OpenSSL, no queue, no policy, any password is right; with --commit a
 * second thread that group-commits contents to a file written ahead, one fdatasync a batch.  As a
 * next hop (without --tls) it notes the numbers of what postern-bench has sent.
 *
 * Runs on: floor.c the main thread, commit.c its own; finished items come back by a list and an
 * eventfd.
 */
#ifndef PERF_FLOOR_FLOOR_H
#define PERF_FLOOR_FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A content on its way to the disk; the committer's from commit_push() to commit_pop(). */
struct commit_item {
	struct commit_item *next;
	uint64_t session; /* who waits */
	char *bytes;
	size_t n;
};

struct commit;

/* The file is made and filled with zeros.  NULL: said on standard error. */
struct commit *commit_open(const char *file, int event_fd);
void commit_push(struct commit *c, struct commit_item *i);
/* What is durable now, as a list. */
struct commit_item *commit_pop(struct commit *c);

#endif
