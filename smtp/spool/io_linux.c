/* io_linux.c - the real file operations: each is its system call with the error as a value */
#include "smtp/spool/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_INTERRUPTED(result, call) \
	do {                            \
		result = (call);        \
	} while (result < 0 && errno == EINTR)

static int linux_open(void *arg, int dir, const char *name, int flags, mode_t mode)
{
	int fd;

	RETRY_INTERRUPTED(fd, openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, mode));
	return fd < 0 ? -errno : fd;
}

static int linux_close(void *arg, int fd)
{
	return close(fd) < 0 ? -errno : 0;
}

static ssize_t linux_pwritev(void *arg, int fd, const struct iovec *iov, int n, off_t at)
{
	ssize_t got;

	RETRY_INTERRUPTED(got, pwritev(fd, iov, n, at));
	return got < 0 ? -errno : got;
}

static ssize_t linux_pread(void *arg, int fd, void *buf, size_t n, off_t at)
{
	ssize_t got;

	RETRY_INTERRUPTED(got, pread(fd, buf, n, at));
	return got < 0 ? -errno : got;
}

static int linux_fallocate(void *arg, int fd, off_t at, off_t bytes)
{
	int rc;

	RETRY_INTERRUPTED(rc, fallocate(fd, 0, at, bytes));
	return rc < 0 ? -errno : 0;
}

static int linux_truncate(void *arg, int fd, off_t bytes)
{
	int rc;

	RETRY_INTERRUPTED(rc, ftruncate(fd, bytes));
	return rc < 0 ? -errno : 0;
}

static int linux_fdatasync(void *arg, int fd)
{
	return fdatasync(fd) < 0 ? -errno : 0;
}

static int linux_fsync_dir(void *arg, int dir)
{
	return fsync(dir) < 0 ? -errno : 0;
}

static int linux_unlink(void *arg, int dir, const char *name)
{
	return unlinkat(dir, name, 0) < 0 ? -errno : 0;
}

static int linux_rename(void *arg, int dir, const char *from, const char *to)
{
	return renameat(dir, from, dir, to) < 0 ? -errno : 0;
}

static int linux_open_dir(void *arg, const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int linux_lock(void *arg, int dir, pid_t *holder)
{
	char text[24] = "";
	int fd = openat(dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	*holder = 0;
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		int error = errno;

		if (pread(fd, text, sizeof(text) - 1, 0) > 0)
			*holder = (pid_t)strtol(text, NULL, 10);
		close(fd);
		return -error;
	}
	/* The number only serves the message of the next one who comes; the lock is the flock. */
	int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, (size_t)n, 0) != n) {
		int error = errno;

		close(fd);
		return -error;
	}
	return fd;
}

static int linux_list(void *arg, int dir, spool_list_fn each, void *each_arg)
{
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	struct dirent *entry;
	int rc = 0;

	if (d == NULL) {
		rc = -errno;
		if (again >= 0)
			close(again);
		return rc;
	}
	while (rc == 0 && (errno = 0, entry = readdir(d)) != NULL) {
		struct stat st;

		if (fstatat(dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			rc = errno == ENOENT ? 0 : -errno;
		else if (S_ISREG(st.st_mode))
			rc = each(each_arg, entry->d_name, (uint64_t)st.st_size);
	}
	if (rc == 0 && errno != 0)
		rc = -errno;
	closedir(d);
	return rc;
}

const struct spool_io spool_io_linux = {
	.open = linux_open,
	.close = linux_close,
	.pwritev = linux_pwritev,
	.pread = linux_pread,
	.fallocate = linux_fallocate,
	.truncate = linux_truncate,
	.fdatasync = linux_fdatasync,
	.fsync_dir = linux_fsync_dir,
	.unlink = linux_unlink,
	.rename = linux_rename,
	.open_dir = linux_open_dir,
	.lock = linux_lock,
	.list = linux_list,
};
