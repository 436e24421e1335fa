/* html.c - the report: report.html with the runs' JSON in its place */
#include "perf/bench/report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* report.html, as it is in the tree (meson.build) */
extern const char report_page[];

/* JSON inside a script element: "<" could end it. */
static void put(FILE *f, const char *json)
{
	for (; *json != '\0'; json++) {
		if (*json == '<')
			fputs("\\u003c", f);
		else
			fputc(*json, f);
	}
}

bool html_write(const char *file, json_t *run, const char *const *compared, unsigned n)
{
	static const char mark[] = "@DATA@";
	const char *at = strstr(report_page, mark);
	json_t *runs = json_array();
	json_error_t fault;

	json_array_append(runs, run);
	for (unsigned i = 0; i < n; i++) {
		json_t *other = json_load_file(compared[i], 0, &fault);
		if (json_object_get(json_object_get(other, "times"), "latency") == NULL ||
		    json_object_get(other, "options") == NULL) {
			fprintf(stderr, "postern-bench: %s: %s\n", compared[i],
				other == NULL ? fault.text : "these are no results of a run");
			json_decref(other);
			json_decref(runs);
			return false;
		}
		json_array_append_new(runs, other);
	}
	char *text = json_dumps(runs, JSON_COMPACT);
	FILE *f = text != NULL ? fopen(file, "we") : NULL;
	if (f != NULL) {
		fwrite(report_page, 1, (size_t)(at - report_page), f);
		put(f, text);
		fputs(at + sizeof(mark) - 1, f);
	}
	bool bad = f == NULL || ferror(f);
	if (f != NULL && fclose(f) != 0)
		bad = true;
	if (bad)
		fprintf(stderr, "postern-bench: %s: %s\n", file, strerror(errno));
	free(text);
	json_decref(runs);
	return !bad;
}
