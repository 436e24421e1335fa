/*
 * disk.h - a disk in memory that knows what is durable, behind the spool's table of file
 * operations.  It loses what was not synced, tears writes at sectors of 512 bytes, forgets
 * directory entries, and fails where it is told to.
 *
 * A failed sync behaves as on Linux: the data is never written and the pages count as clean, so
 * a second sync of the same descriptor succeeds and proves nothing; it is counted as a violation.
 *
 * Owner: the test.
 * Runs on: one thread.
 */
#ifndef TESTS_SIM_DISK_H
#define TESTS_SIM_DISK_H

#include "smtp/spool/spool.h"

struct disk;

enum disk_op {
	DISK_OPEN,
	DISK_WRITE,
	DISK_READ,
	DISK_FALLOCATE,
	DISK_TRUNCATE,
	DISK_SYNC,
	DISK_SYNC_DIR,
	DISK_UNLINK,
	DISK_RENAME,
	DISK_OPS
};

enum disk_loss {
	DISK_KEEP_ALL,    /* the process was killed: the page cache stays */
	DISK_DROP_ALL,    /* everything that was not synced is lost */
	DISK_DROP_RANDOM, /* any subset of sectors, sizes and directory operations is lost */
};

struct disk_faults {
	uint32_t per_million[DISK_OPS]; /* chance of a failure of a call */
	int error;                      /* of those: -EIO, -ENOSPC */
	uint32_t short_write_percent;
	uint64_t capacity;     /* bytes; 0: endless */
	uint64_t power_cut;    /* this many calls from now on (writes are torn); 0: never */
	int64_t nth[DISK_OPS]; /* the n-th call from now on fails, 1 being the next; 0: none */
};

struct disk *disk_create(uint64_t seed);
void disk_destroy(struct disk *d);
const struct spool_io *disk_io(struct disk *d);
struct disk_faults *disk_faults(struct disk *d);
/* After a power cut every call fails until disk_restart(). */
bool disk_is_off(const struct disk *d);
/* Applies the loss, closes all descriptors, clears the faults. */
void disk_restart(struct disk *d, enum disk_loss loss);

uint64_t disk_calls(const struct disk *d, enum disk_op op);
/* Syncs of a descriptor whose sync had failed before. */
unsigned disk_violations(const struct disk *d);
/* Called in the middle of every fdatasync. */
void disk_on_sync(struct disk *d, void (*fn)(void *arg), void *arg);
/* Files whose name ends so. */
unsigned disk_count(const struct disk *d, const char *suffix);
/* The first file whose name ends so: its bytes, to be damaged in place (durable ones too). */
struct disk_bytes {
	uint8_t *now, *safe;
	size_t bytes;
};
bool disk_bytes(struct disk *d, const char *suffix, unsigned skip, struct disk_bytes *b);
/* Makes a durable file with these bytes. */
void disk_plant(struct disk *d, const char *name, const void *data, size_t bytes);

#endif
