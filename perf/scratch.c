/* scratch.c - removes what a measurement left on the disk */
#include "perf/scratch.h"

#include <dirent.h>
#include <stddef.h>
#include <unistd.h>

void scratch_empty(const char *directory)
{
	DIR *d = opendir(directory);

	for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
}

void scratch_remove(const char *directory)
{
	scratch_empty(directory);
	rmdir(directory);
}
