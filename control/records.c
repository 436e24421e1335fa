/* records.c - appends, rotates, and goes on when the disk does not */
#include "control/records.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 16, NAME = 4200 };

struct record_file {
	char *file;
	uint64_t most_bytes, bytes;
	unsigned keep;
	int fd; /* -1: it could not be opened; tried again with the next lines */
	bool failing;
	bool torn; /* the file ends within a line */
	_Atomic uint64_t lost;
	char block[BLOCK];
};

static int open_again(struct record_file *f)
{
	struct stat st;

	if (f->fd >= 0)
		close(f->fd);
	f->fd = open(f->file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (f->fd < 0)
		return -errno;
	f->bytes = fstat(f->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	f->torn = f->torn && f->bytes > 0;
	return 0;
}

int record_file_open(struct record_file **out, const struct record_file_config *c, char *error,
		     size_t error_bytes)
{
	struct record_file *f = calloc(1, sizeof(*f));
	int rc = -ENOMEM;

	if (f != NULL) {
		f->fd = -1;
		f->most_bytes = c->most_bytes;
		f->keep = c->keep;
		f->file = strdup(c->file);
		rc = f->file != NULL ? open_again(f) : -ENOMEM;
	}
	if (rc == 0) {
		*out = f;
		return 0;
	}
	snprintf(error, error_bytes, "control.log.records: %s: %s", c->file, strerror(-rc));
	record_file_close(f);
	return rc;
}

/* FILE.2 becomes FILE.3, FILE.1 FILE.2, FILE FILE.1; the last one goes. */
static void rotate(struct record_file *f)
{
	char from[NAME], to[NAME];

	for (unsigned i = f->keep; i > 0; i--) {
		snprintf(to, sizeof(to), "%s.%u", f->file, i);
		snprintf(from, sizeof(from), i > 1 ? "%s.%u" : "%s", f->file, i - 1);
		if (rename(from, to) != 0 && errno != ENOENT)
			log_warning("control", "records: %s: %s", from, strerror(errno));
	}
	if (f->keep == 0)
		unlink(f->file);
	open_again(f);
}

/* Told once, not with every line; done: the octets of the block that are in the file. */
static void failed(struct record_file *f, int error, size_t done, size_t n)
{
	uint64_t lines = 0;

	for (size_t i = done; i < n; i++)
		lines += f->block[i] == '\n';
	atomic_fetch_add_explicit(&f->lost, lines, memory_order_relaxed);
	if (!f->failing)
		log_error("control", "records: %s: %s; records are lost", f->file, strerror(error));
	f->failing = true;
}

static void append(struct record_file *f, size_t n)
{
	size_t done = 0;

	if (f->fd < 0 && open_again(f) < 0) {
		failed(f, errno, 0, n);
		return;
	}
	if (f->torn && write(f->fd, "\n", 1) == 1)
		f->torn = false;
	while (done < n) {
		ssize_t k = f->torn ? -1 : write(f->fd, f->block + done, n - done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0) {
			f->torn = f->torn || (done > 0 && f->block[done - 1] != '\n');
			failed(f, errno, done, n);
			return;
		}
		done += (size_t)k;
	}
	f->failing = false;
	f->bytes += n;
	if (f->most_bytes > 0 && f->bytes >= f->most_bytes)
		rotate(f);
}

size_t record_file_drain(struct record_file *f, struct records *from)
{
	size_t all = 0, n;

	while ((n = records_take(from, f->block, sizeof(f->block))) > 0) {
		append(f, n);
		all += n;
	}
	return all;
}

void record_file_reopen(struct record_file *f)
{
	int rc = open_again(f);

	if (rc < 0)
		failed(f, -rc, 0, 0);
}

uint64_t record_file_lost(const struct record_file *f)
{
	return atomic_load_explicit(&f->lost, memory_order_relaxed);
}

void record_file_close(struct record_file *f)
{
	if (f == NULL)
		return;
	if (f->fd >= 0)
		close(f->fd);
	free(f->file);
	free(f);
}
