/* listing.c - the names in the directory at the start: whose they are, and what they take up */
#include "smtp/spool/restart.h"

#include <errno.h>
#include <stdlib.h>

static int files_add(struct spool_files *f, uint64_t number, uint64_t bytes)
{
	if (f->n == f->room) {
		size_t room = f->room > 0 ? f->room * 2 : 64;
		struct spool_file *wider = realloc(f->at, room * sizeof(*wider));

		if (wider == NULL)
			return -ENOMEM;
		f->at = wider;
		f->room = room;
	}
	f->at[f->n++] = (struct spool_file){number, bytes};
	return 0;
}

/* 16 hexadecimal digits, then the suffix exactly.  Numbers in the upper half are nobody's. */
static bool name_matches(const char *name, const char *suffix, uint64_t *number)
{
	uint64_t n = 0;

	for (int i = 0; i < 16; i++) {
		char c = name[i];

		if (c >= '0' && c <= '9')
			n = n << 4 | (uint64_t)(c - '0');
		else if (c >= 'a' && c <= 'f')
			n = n << 4 | (uint64_t)(c - 'a' + 10);
		else
			return false;
	}
	*number = n;
	return n <= INT64_MAX && strcmp(name + 16, suffix) == 0;
}

static void number_seen(struct spool *sp, uint64_t number)
{
	if (number >= sp->next_segment)
		sp->next_segment = number + 1;
}

static int each_file(void *arg, const char *name, uint64_t bytes)
{
	struct spool_recovery *rv = arg;
	struct spool *sp = rv->sp;
	size_t n = strlen(name);
	uint64_t number;

	if (name_matches(name, ".log", &number)) {
		number_seen(sp, number);
		atomic_fetch_add(&sp->bytes_used, bytes);
		atomic_fetch_add(&sp->segment_count, 1);
		rv->bytes += bytes;
		return files_add(&rv->logs, number, bytes);
	}
	if (name_matches(name, ".body", &number)) {
		recovery_raise(&sp->next_id, number + 1);
		atomic_fetch_add(&sp->bytes_used, bytes);
		atomic_fetch_add(&sp->large_files, 1);
		return files_add(&rv->bodies, number, bytes);
	}
	if (name_matches(name, ".log.bad", &number)) {
		rv->unread = true;
		number_seen(sp, number);
	}
	if (n > 4 && strcmp(name + n - 4, ".bad") == 0)
		atomic_fetch_add(&sp->bytes_used, bytes);
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = ((const struct spool_file *)a)->number,
		 y = ((const struct spool_file *)b)->number;

	return (x > y) - (x < y);
}

int recover_list(struct spool_recovery *rv)
{
	const struct spool_io *io = rv->sp->io;
	int rc = io->list(io->arg, rv->sp->dir, each_file, rv);

	if (rv->logs.n > 0)
		qsort(rv->logs.at, rv->logs.n, sizeof(*rv->logs.at), by_number);
	return rc;
}
