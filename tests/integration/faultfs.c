/*
 * faultfs.c - a preloaded shim between the daemon and the file system of its spool.
 *
 *	FAULTFS_DIR       the directory it works on; everything else passes through
 *	FAULTFS_LOG       a line for every sync: "sync NAME ok|failed" in order
 *	FAULTFS_DELAY_MS  every fdatasync takes so long
 *	FAULTFS_EIO       while this file exists, the next fdatasync fails with EIO and removes it
 *	FAULTFS_GATE      while this file exists, reads of more than 4 KiB wait
 *	FAULTFS_SHADOW    a directory that holds what a power cut now would leave: for each file its
 *	                  bytes as of its last good sync, and in `entries` the names (NAME ID a
 *line) as of the last sync of the directory
 *
 * Files are made, renamed and removed through directory descriptors only, as the spool does.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 4096, FDS = 4096, RANGES = 256, NAME_BYTES = 64, COPY_BYTES = 1 << 20 };

struct range {
	off_t from, to;
};

/* A file from its creation on, whatever its name is meanwhile. */
struct file {
	char name[NAME_BYTES]; /* empty: removed */
	struct range dirty[RANGES];
	unsigned n_dirty;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES];
static int n_files;
static int file_of_fd[FDS]; /* index + 1; 0: not ours */

static bool in_our_directory(int dir)
{
	const char *ours = getenv("FAULTFS_DIR");
	char link[64], path[PATH_MAX];

	if (ours == NULL)
		return false;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	if (n < 0)
		return false;
	path[n] = '\0';
	return strcmp(path, ours) == 0;
}

static struct file *file_named(const char *name)
{
	for (int i = 0; i < n_files; i++) {
		if (strcmp(files[i].name, name) == 0)
			return &files[i];
	}
	return NULL;
}

static struct file *file_by_fd(int fd)
{
	return fd >= 0 && fd < FDS && file_of_fd[fd] > 0 ? &files[file_of_fd[fd] - 1] : NULL;
}

static void dirty(int fd, off_t from, off_t to)
{
	pthread_mutex_lock(&lock);
	struct file *f = file_by_fd(fd);
	if (f != NULL && f->n_dirty > 0 && f->dirty[f->n_dirty - 1].to == from) {
		f->dirty[f->n_dirty - 1].to = to;
	} else if (f != NULL) {
		/* too many pieces: one that covers them all */
		for (; f->n_dirty == RANGES; f->n_dirty = 1) {
			for (unsigned i = 1; i < RANGES; i++) {
				if (f->dirty[i].from < f->dirty[0].from)
					f->dirty[0].from = f->dirty[i].from;
				if (f->dirty[i].to > f->dirty[0].to)
					f->dirty[0].to = f->dirty[i].to;
			}
		}
		f->dirty[f->n_dirty++] = (struct range){from, to};
	}
	pthread_mutex_unlock(&lock);
}

int openat(int dir, const char *name, int flags, ...)
{
	mode_t mode = 0;
	va_list ap;

	if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	int fd = (int)syscall(SYS_openat, dir, name, flags, mode);
	if (fd < 0 || fd >= FDS || dir == AT_FDCWD || (flags & O_DIRECTORY) != 0 ||
	    !in_our_directory(dir))
		return fd;
	pthread_mutex_lock(&lock);
	struct file *f = file_named(name);
	if (f == NULL && n_files < FILES) {
		f = &files[n_files++];
		snprintf(f->name, sizeof(f->name), "%s", name);
	}
	file_of_fd[fd] = f != NULL ? (int)(f - files) + 1 : 0;
	pthread_mutex_unlock(&lock);
	return fd;
}

int close(int fd)
{
	if (fd >= 0 && fd < FDS)
		file_of_fd[fd] = 0;
	return (int)syscall(SYS_close, fd);
}

ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
	const char *gate = getenv("FAULTFS_GATE");
	struct timespec tick = {.tv_nsec = 1000000};

	while (n > 4096 && gate != NULL && file_by_fd(fd) != NULL &&
	       syscall(SYS_faccessat, AT_FDCWD, gate, F_OK) == 0)
		nanosleep(&tick, NULL);
	return syscall(SYS_pread64, fd, buf, n, at);
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t at)
{
	ssize_t done = syscall(SYS_pwritev, fd, iov, n, at, 0);

	if (done > 0)
		dirty(fd, at, at + done);
	return done;
}

int fallocate(int fd, int mode, off_t at, off_t bytes)
{
	int rc = (int)syscall(SYS_fallocate, fd, mode, at, bytes);

	if (rc == 0)
		dirty(fd, at, at + bytes);
	return rc;
}

int ftruncate(int fd, off_t bytes)
{
	int rc = (int)syscall(SYS_ftruncate, fd, bytes);

	if (rc == 0)
		dirty(fd, bytes, bytes);
	return rc;
}

int unlinkat(int dir, const char *name, int flags)
{
	int rc = (int)syscall(SYS_unlinkat, dir, name, flags);

	if (rc == 0 && in_our_directory(dir)) {
		pthread_mutex_lock(&lock);
		struct file *f = file_named(name);
		if (f != NULL)
			f->name[0] = '\0';
		pthread_mutex_unlock(&lock);
	}
	return rc;
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	int rc = (int)syscall(SYS_renameat, from_dir, from, to_dir, to);

	if (rc == 0 && in_our_directory(to_dir)) {
		pthread_mutex_lock(&lock);
		struct file *f = file_named(from), *over = file_named(to);
		if (over != NULL)
			over->name[0] = '\0';
		if (f != NULL)
			snprintf(f->name, sizeof(f->name), "%s", to);
		pthread_mutex_unlock(&lock);
	}
	return rc;
}

static void note(const char *name, const char *result)
{
	const char *path = getenv("FAULTFS_LOG");
	char line[128];

	if (path == NULL)
		return;
	int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int n = snprintf(line, sizeof(line), "sync %s %s\n", name, result);
	if (fd >= 0 && write(fd, line, (size_t)n) != n)
		abort();
	syscall(SYS_close, fd);
}

/* Copies what was dirty when the sync began; a log never writes the same place twice. */
static void keep_synced(int fd, int id, const struct range *r, unsigned n)
{
	const char *shadow = getenv("FAULTFS_SHADOW");
	char path[PATH_MAX];
	struct stat st;
	static __thread char buf[COPY_BYTES];

	if (shadow == NULL || fstat(fd, &st) < 0)
		return;
	snprintf(path, sizeof(path), "%s/%d", shadow, id);
	int to = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
	if (to < 0 || syscall(SYS_ftruncate, to, st.st_size) < 0)
		abort();
	for (unsigned i = 0; i < n; i++) {
		for (off_t at = r[i].from; at < r[i].to;) {
			size_t want = (size_t)(r[i].to - at) < COPY_BYTES ? (size_t)(r[i].to - at)
									  : COPY_BYTES;
			ssize_t got = pread(fd, buf, want, at);
			if (got <= 0)
				break;
			if (pwrite(to, buf, (size_t)got, at) != got)
				abort();
			at += got;
		}
	}
	syscall(SYS_close, to);
}

static bool must_fail(void)
{
	const char *path = getenv("FAULTFS_EIO");

	return path != NULL && syscall(SYS_unlinkat, AT_FDCWD, path, 0) == 0;
}

int fdatasync(int fd)
{
	const char *delay = getenv("FAULTFS_DELAY_MS");
	struct range taken[RANGES];
	char name[NAME_BYTES] = "";
	unsigned n = 0;
	int id = 0;

	pthread_mutex_lock(&lock);
	struct file *f = file_by_fd(fd);
	if (f != NULL) {
		id = (int)(f - files);
		n = f->n_dirty;
		memcpy(taken, f->dirty, sizeof(taken));
		memcpy(name, f->name, sizeof(name));
		f->n_dirty = 0;
	}
	pthread_mutex_unlock(&lock);
	if (f == NULL)
		return (int)syscall(SYS_fdatasync, fd);
	if (delay != NULL) {
		struct timespec ts = {.tv_sec = atoi(delay) / 1000,
				      .tv_nsec = (long)(atoi(delay) % 1000) * 1000000};
		nanosleep(&ts, NULL);
	}
	if (must_fail()) {
		note(name, "failed");
		errno = EIO;
		return -1;
	}
	int rc = (int)syscall(SYS_fdatasync, fd);
	if (rc == 0) {
		pthread_mutex_lock(&lock);
		keep_synced(fd, id, taken, n);
		pthread_mutex_unlock(&lock);
	}
	note(name, rc == 0 ? "ok" : "failed");
	return rc;
}

static void keep_entries(void)
{
	const char *shadow = getenv("FAULTFS_SHADOW");
	char path[PATH_MAX], part[PATH_MAX + 8];

	if (shadow == NULL)
		return;
	snprintf(path, sizeof(path), "%s/entries", shadow);
	snprintf(part, sizeof(part), "%s.part", path);
	FILE *out = fopen(part, "w");
	if (out == NULL)
		abort();
	for (int i = 0; i < n_files; i++) {
		if (files[i].name[0] != '\0')
			fprintf(out, "%s %d\n", files[i].name, i);
	}
	fclose(out);
	if (rename(part, path) < 0)
		abort();
}

int fsync(int fd)
{
	bool ours = in_our_directory(fd);
	int rc;

	/* the names as they are when the sync begins */
	pthread_mutex_lock(&lock);
	rc = (int)syscall(SYS_fsync, fd);
	if (rc == 0 && ours)
		keep_entries();
	pthread_mutex_unlock(&lock);
	return rc;
}

int openat64(int dir, const char *name, int flags, ...) __attribute__((alias("openat")));
ssize_t pread64(int fd, void *buf, size_t n, off_t at) __attribute__((alias("pread")));
ssize_t pwritev64(int fd, const struct iovec *iov, int n, off_t at)
	__attribute__((alias("pwritev")));
int fallocate64(int fd, int mode, off_t at, off_t bytes) __attribute__((alias("fallocate")));
int ftruncate64(int fd, off_t bytes) __attribute__((alias("ftruncate")));
