/* disk.c - see disk.h: every file has two contents, what reads see and what would survive */
#include "tests/sim/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, FDS = 4096, DIR_FD = 5000, LOCK_FD = 5001, NAME_BYTES = 64 };

struct inode {
	struct inode *next;
	uint8_t *now, *safe, *dirty; /* dirty: one byte a sector */
	size_t size, safe_size, capacity;
	bool size_dirty;
};

struct name {
	char text[NAME_BYTES];
	struct inode *inode;
};

struct names {
	struct name *at;
	size_t n, room;
};

/* A directory operation that no directory sync has covered yet. */
struct pending {
	char from[NAME_BYTES], to[NAME_BYTES]; /* create: to; unlink: from; rename: both */
	struct inode *inode;
};

struct open_file {
	struct inode *inode;
	bool sync_failed;
};

struct disk {
	struct spool_io io;
	uint64_t random;
	struct disk_faults faults;
	bool off;
	struct inode *inodes;
	struct names now, safe;
	struct pending *pending;
	size_t n_pending, pending_room;
	struct open_file fd[FDS];
	uint64_t calls[DISK_OPS];
	unsigned violations;
	bool locked;
	void (*on_sync)(void *arg);
	void *on_sync_arg;
};

static uint64_t draw(struct disk *d, uint64_t below)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return d->random % below;
}

/* 0 or the error that the call is to return. */
static int fault(struct disk *d, enum disk_op op)
{
	d->calls[op]++;
	if (d->off)
		return -EIO;
	if (d->faults.power_cut > 0 && --d->faults.power_cut == 0) {
		d->off = true;
		return -EIO;
	}
	if (d->faults.nth[op] > 0 && --d->faults.nth[op] == 0)
		return d->faults.error;
	if (d->faults.per_million[op] > 0 && draw(d, 1000000) < d->faults.per_million[op])
		return d->faults.error;
	return 0;
}

static struct name *find(struct names *l, const char *text)
{
	for (size_t i = 0; i < l->n; i++) {
		if (strcmp(l->at[i].text, text) == 0)
			return &l->at[i];
	}
	return NULL;
}

static void name_put(struct names *l, const char *text, struct inode *inode)
{
	struct name *n = find(l, text);

	if (n == NULL) {
		if (l->n == l->room) {
			l->room = l->room * 2 + 16;
			l->at = realloc(l->at, l->room * sizeof(*l->at));
		}
		n = &l->at[l->n++];
		snprintf(n->text, sizeof(n->text), "%s", text);
	}
	n->inode = inode;
}

static void name_drop(struct names *l, const char *text)
{
	struct name *n = find(l, text);

	if (n != NULL)
		*n = l->at[--l->n];
}

static void apply(struct names *l, const struct pending *p)
{
	if (p->from[0] != '\0')
		name_drop(l, p->from);
	if (p->to[0] != '\0')
		name_put(l, p->to, p->inode);
}

static void dir_change(struct disk *d, const char *from, const char *to, struct inode *inode)
{
	if (d->n_pending == d->pending_room) {
		d->pending_room = d->pending_room * 2 + 16;
		d->pending = realloc(d->pending, d->pending_room * sizeof(*d->pending));
	}
	struct pending *p = &d->pending[d->n_pending++];
	*p = (struct pending){.inode = inode};
	snprintf(p->from, sizeof(p->from), "%s", from);
	snprintf(p->to, sizeof(p->to), "%s", to);
	apply(&d->now, p);
}

static uint64_t bytes_used(const struct disk *d)
{
	uint64_t used = 0;

	for (size_t i = 0; i < d->now.n; i++)
		used += d->now.at[i].inode->size;
	return used;
}

static int set_size(struct disk *d, struct inode *f, size_t size)
{
	if (size > f->size && d->faults.capacity > 0 &&
	    bytes_used(d) + (size - f->size) > d->faults.capacity)
		return -ENOSPC;
	if (size > f->capacity) {
		size_t capacity = (size * 2 + SECTOR - 1) / SECTOR * SECTOR;

		f->now = realloc(f->now, capacity);
		f->safe = realloc(f->safe, capacity);
		f->dirty = realloc(f->dirty, capacity / SECTOR);
		memset(f->now + f->capacity, 0, capacity - f->capacity);
		memset(f->safe + f->capacity, 0, capacity - f->capacity);
		memset(f->dirty + f->capacity / SECTOR, 0, (capacity - f->capacity) / SECTOR);
		f->capacity = capacity;
	}
	if (size < f->size) {
		memset(f->now + size, 0, f->size - size);
		memset(f->dirty + (size + SECTOR - 1) / SECTOR, 0, (f->capacity - size) / SECTOR);
	}
	f->size_dirty = f->size_dirty || size != f->size;
	f->size = size;
	return 0;
}

static void save_sector(struct inode *f, size_t i)
{
	memcpy(f->safe + i * SECTOR, f->now + i * SECTOR, SECTOR);
	f->dirty[i] = 0;
}

static void save_size(struct inode *f)
{
	if (f->size < f->safe_size)
		memset(f->safe + f->size, 0, f->capacity - f->size);
	f->safe_size = f->size;
	f->size_dirty = false;
}

static int disk_open(void *arg, int dir, const char *name, int flags, mode_t mode)
{
	struct disk *d = arg;
	struct name *n = find(&d->now, name);
	struct inode *f = n != NULL ? n->inode : NULL;
	int rc = fault(d, DISK_OPEN), fd = 0;

	if (rc < 0)
		return rc;
	if (f == NULL && !(flags & O_CREAT))
		return -ENOENT;
	if (f != NULL && (flags & O_EXCL))
		return -EEXIST;
	while (fd < FDS && d->fd[fd].inode != NULL)
		fd++;
	if (fd == FDS)
		return -EMFILE;
	if (f == NULL) {
		f = calloc(1, sizeof(*f));
		f->next = d->inodes;
		d->inodes = f;
		dir_change(d, "", name, f);
	}
	d->fd[fd] = (struct open_file){.inode = f};
	return fd;
}

static int disk_close(void *arg, int fd)
{
	struct disk *d = arg;

	if (fd == LOCK_FD)
		d->locked = false;
	else if (fd >= 0 && fd < FDS)
		d->fd[fd] = (struct open_file){0};
	return 0;
}

static void put(struct inode *f, const uint8_t *p, size_t n, size_t at)
{
	memcpy(f->now + at, p, n);
	for (size_t s = at / SECTOR; s <= (at + n - 1) / SECTOR; s++)
		f->dirty[s] = 1;
}

static ssize_t disk_pwritev(void *arg, int fd, const struct iovec *iov, int n, off_t at)
{
	struct disk *d = arg;
	struct inode *f = d->fd[fd].inode;
	bool was_on = !d->off;
	size_t total = 0, done = 0;
	int rc = fault(d, DISK_WRITE);

	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	/* Power fails in the middle: some of it may be under way. */
	bool torn = rc < 0 && was_on && d->off;
	if (rc < 0 && !torn)
		return rc;
	if (total > 1 && (torn || draw(d, 100) < d->faults.short_write_percent))
		total = 1 + draw(d, total - 1);
	if ((size_t)at + total > f->size && set_size(d, f, (size_t)at + total) < 0)
		return -ENOSPC;
	for (int i = 0; i < n && done < total; i++) {
		size_t here = iov[i].iov_len < total - done ? iov[i].iov_len : total - done;

		if (here > 0)
			put(f, iov[i].iov_base, here, (size_t)at + done);
		done += here;
	}
	return torn ? rc : (ssize_t)done;
}

static ssize_t disk_pread(void *arg, int fd, void *buf, size_t n, off_t at)
{
	struct disk *d = arg;
	const struct inode *f = d->fd[fd].inode;
	int rc = fault(d, DISK_READ);

	if (rc < 0)
		return rc;
	if ((size_t)at >= f->size)
		return 0;
	if (n > f->size - (size_t)at)
		n = f->size - (size_t)at;
	memcpy(buf, f->now + at, n);
	return (ssize_t)n;
}

static int disk_fallocate(void *arg, int fd, off_t at, off_t bytes)
{
	struct disk *d = arg;
	struct inode *f = d->fd[fd].inode;
	int rc = fault(d, DISK_FALLOCATE);

	if (rc < 0)
		return rc;
	return (size_t)(at + bytes) > f->size ? set_size(d, f, (size_t)(at + bytes)) : 0;
}

static int disk_truncate(void *arg, int fd, off_t bytes)
{
	struct disk *d = arg;
	int rc = fault(d, DISK_TRUNCATE);

	return rc < 0 ? rc : set_size(d, d->fd[fd].inode, (size_t)bytes);
}

static int disk_fdatasync(void *arg, int fd)
{
	struct disk *d = arg;
	struct inode *f = d->fd[fd].inode;

	d->violations += d->fd[fd].sync_failed;
	if (d->on_sync != NULL)
		d->on_sync(d->on_sync_arg);
	int rc = fault(d, DISK_SYNC);
	if (d->off)
		return rc;
	d->fd[fd].sync_failed = d->fd[fd].sync_failed || rc < 0;
	for (size_t i = 0; i < f->capacity / SECTOR; i++) {
		if (f->dirty[i] && (rc == 0 || draw(d, 2) == 0))
			save_sector(f, i);
		f->dirty[i] = 0;
	}
	if (rc == 0)
		save_size(f);
	return rc;
}

static int disk_fsync_dir(void *arg, int dir)
{
	struct disk *d = arg;
	int rc = fault(d, DISK_SYNC_DIR);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < d->n_pending; i++)
		apply(&d->safe, &d->pending[i]);
	d->n_pending = 0;
	return 0;
}

static int disk_unlink(void *arg, int dir, const char *name)
{
	struct disk *d = arg;
	int rc = fault(d, DISK_UNLINK);

	if (rc < 0)
		return rc;
	if (find(&d->now, name) == NULL)
		return -ENOENT;
	dir_change(d, name, "", NULL);
	return 0;
}

static int disk_rename(void *arg, int dir, const char *from, const char *to)
{
	struct disk *d = arg;
	int rc = fault(d, DISK_RENAME);

	if (rc < 0)
		return rc;
	struct name *n = find(&d->now, from);
	if (n == NULL)
		return -ENOENT;
	dir_change(d, from, to, n->inode);
	return 0;
}

static int disk_open_dir(void *arg, const char *path)
{
	return DIR_FD;
}

static int disk_lock(void *arg, int dir, pid_t *holder)
{
	struct disk *d = arg;

	*holder = 0;
	if (d->locked)
		return -EWOULDBLOCK;
	d->locked = true;
	return LOCK_FD;
}

static int disk_list(void *arg, int dir, spool_list_fn each, void *each_arg)
{
	struct disk *d = arg;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < d->now.n; i++)
		rc = each(each_arg, d->now.at[i].text, d->now.at[i].inode->size);
	return rc;
}

struct disk *disk_create(uint64_t seed)
{
	struct disk *d = calloc(1, sizeof(*d));

	d->random = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
	d->io = (struct spool_io){
		.arg = d,
		.open = disk_open,
		.close = disk_close,
		.pwritev = disk_pwritev,
		.pread = disk_pread,
		.fallocate = disk_fallocate,
		.truncate = disk_truncate,
		.fdatasync = disk_fdatasync,
		.fsync_dir = disk_fsync_dir,
		.unlink = disk_unlink,
		.rename = disk_rename,
		.open_dir = disk_open_dir,
		.lock = disk_lock,
		.list = disk_list,
	};
	return d;
}

void disk_destroy(struct disk *d)
{
	for (struct inode *f = d->inodes, *next; f != NULL; f = next) {
		next = f->next;
		free(f->now);
		free(f->safe);
		free(f->dirty);
		free(f);
	}
	free(d->now.at);
	free(d->safe.at);
	free(d->pending);
	free(d);
}

const struct spool_io *disk_io(struct disk *d)
{
	return &d->io;
}

struct disk_faults *disk_faults(struct disk *d)
{
	return &d->faults;
}

bool disk_is_off(const struct disk *d)
{
	return d->off;
}

static void lose(struct disk *d, struct inode *f, enum disk_loss loss)
{
	for (size_t i = 0; i < f->capacity / SECTOR; i++) {
		if (f->dirty[i] && loss == DISK_DROP_RANDOM && draw(d, 2) == 0)
			save_sector(f, i);
		f->dirty[i] = 0;
	}
	if (f->size_dirty && loss == DISK_DROP_RANDOM && draw(d, 2) == 0)
		save_size(f);
	/* Sectors that survived behind a size that did not are out of reach. */
	if (f->capacity > f->safe_size)
		memset(f->safe + f->safe_size, 0, f->capacity - f->safe_size);
	if (f->capacity > 0)
		memcpy(f->now, f->safe, f->capacity);
	f->size = f->safe_size;
	f->size_dirty = false;
}

void disk_restart(struct disk *d, enum disk_loss loss)
{
	memset(d->fd, 0, sizeof(d->fd));
	d->faults = (struct disk_faults){.error = -EIO};
	d->off = d->locked = false;
	if (loss == DISK_KEEP_ALL)
		return;
	for (struct inode *f = d->inodes; f != NULL; f = f->next)
		lose(d, f, loss);
	for (size_t i = 0; i < d->n_pending; i++) {
		if (loss == DISK_DROP_RANDOM && draw(d, 2) == 0)
			apply(&d->safe, &d->pending[i]);
	}
	d->n_pending = 0;
	d->now.n = 0;
	for (size_t i = 0; i < d->safe.n; i++)
		name_put(&d->now, d->safe.at[i].text, d->safe.at[i].inode);
}

uint64_t disk_calls(const struct disk *d, enum disk_op op)
{
	return d->calls[op];
}

unsigned disk_violations(const struct disk *d)
{
	return d->violations;
}

void disk_on_sync(struct disk *d, void (*fn)(void *arg), void *arg)
{
	d->on_sync = fn;
	d->on_sync_arg = arg;
}

static bool ends_with(const char *name, const char *suffix)
{
	size_t n = strlen(name), end = strlen(suffix);

	return n >= end && strcmp(name + n - end, suffix) == 0;
}

unsigned disk_count(const struct disk *d, const char *suffix)
{
	unsigned n = 0;

	for (size_t i = 0; i < d->now.n; i++)
		n += ends_with(d->now.at[i].text, suffix);
	return n;
}

bool disk_bytes(struct disk *d, const char *suffix, unsigned skip, struct disk_bytes *b)
{
	for (size_t i = 0; i < d->now.n; i++) {
		struct inode *f = d->now.at[i].inode;

		if (!ends_with(d->now.at[i].text, suffix) || skip-- > 0)
			continue;
		*b = (struct disk_bytes){f->now, f->safe, f->size};
		return true;
	}
	return false;
}

void disk_plant(struct disk *d, const char *name, const void *data, size_t bytes)
{
	int fd = disk_open(d, DIR_FD, name, O_CREAT, 0600);
	struct iovec iov = {(void *)(uintptr_t)data, bytes};

	if (bytes > 0)
		disk_pwritev(d, fd, &iov, 1, 0);
	disk_fdatasync(d, fd);
	disk_close(d, fd);
	disk_fsync_dir(d, DIR_FD);
}
