/* file.c - making a rename survive a power cut */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int file_sync_directory(const char *file)
{
	char directory[PATH_MAX];

	snprintf(directory, sizeof(directory), "%s", file);
	char *slash = strrchr(directory, '/');
	if (slash == NULL)
		snprintf(directory, sizeof(directory), ".");
	else
		slash[slash == directory] = '\0';
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int error = fsync(fd) != 0 ? -errno : 0;
	close(fd);
	return error;
}
