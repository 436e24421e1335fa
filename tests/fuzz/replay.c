/* replay.c - runs a target over the files of its corpus: one TAP line a file */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>

enum { FILES = 4096 };

static bool replay(const char *path)
{
	FILE *f = fopen(path, "rb");
	long n = -1;

	if (f != NULL && fseek(f, 0, SEEK_END) == 0)
		n = ftell(f);
	if (n < 0) {
		if (f != NULL)
			fclose(f);
		return false;
	}
	rewind(f);
	uint8_t *data = malloc((size_t)n + (n == 0)); /* exact: a byte beyond is noticed */
	size_t got = fread(data, 1, (size_t)n, f);
	fclose(f);
	if (got == (size_t)n)
		LLVMFuzzerTestOneInput(data, (size_t)n);
	free(data);
	return got == (size_t)n;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_file(const struct dirent *e)
{
	return e->d_name[0] != '.';
}

int main(int argc, char **argv)
{
	struct dirent **files;
	int n = argc == 2 ? scandir(argv[1], &files, is_file, by_name) : -1, bad = 0;

	if (n <= 0) {
		printf("1..1\nnot ok 1 - there is no corpus\n");
		return 1;
	}
	printf("1..%d\n", n);
	for (int i = 0; i < n; i++) {
		char path[4096];
		snprintf(path, sizeof(path), "%s/%s", argv[1], files[i]->d_name);
		bool good = replay(path);
		bad += !good;
		printf("%s %d - %s\n", good ? "ok" : "not ok", i + 1, files[i]->d_name);
		fflush(stdout);
		free(files[i]);
	}
	free(files);
	return bad > 0;
}
