/* values.c - numbers, times and sizes as the command line writes them */
#include "perf/bench/values.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool value_count(const char *text, uint64_t most, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (end == text || errno != 0 || text[0] == '-')
		return false;
	static const struct {
		char suffix;
		uint64_t times;
	} suffixes[] = {{'k', 1000}, {'K', 1024}, {'M', 1 << 20}, {'G', 1 << 30}};
	for (unsigned i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		if (*end == suffixes[i].suffix && end[1] == '\0') {
			*out *= suffixes[i].times;
			end++;
			break;
		}
	}
	return *end == '\0' && *out <= most;
}

bool value_number(const char *text, double *out)
{
	char *end;

	*out = strtod(text, &end);
	if (end != text && *end == 'k') {
		*out *= 1000;
		end++;
	}
	return end != text && *end == '\0' && isfinite(*out) && *out >= 0;
}

bool value_time(const char *text, uint64_t *us)
{
	static const struct {
		const char *unit;
		double us;
	} units[] = {{"", 1e6}, {"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}};
	char *end;
	double v = strtod(text, &end);

	if (end == text || !isfinite(v) || v < 0 || v > 1e6)
		return false;
	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (strcmp(end, units[i].unit) == 0) {
			*us = (uint64_t)(v * units[i].us);
			return true;
		}
	}
	return false;
}

bool value_size(char *text, struct bench_size *s)
{
	char *percent = strchr(text, '%'), *at = percent != NULL ? percent + 1 : text;
	const uint64_t most = 1ull << 32;

	*s = (struct bench_size){.weight = 1};
	if (percent != NULL) {
		*percent = '\0';
		if (!value_number(text, &s->weight))
			return false;
	}
	if (*at == '~') {
		char *colon = strchr(at, ':');
		if (colon == NULL)
			return false;
		*colon = '\0';
		return value_count(at + 1, most, &s->from) && s->from > 0 &&
		       value_number(colon + 1, &s->sigma) && s->sigma > 0 && s->sigma <= 4;
	}
	char *dash = strchr(at, '-');
	if (dash != NULL)
		*dash = '\0';
	if (!value_count(at, most, &s->from))
		return false;
	s->to = s->from;
	return dash == NULL || (value_count(dash + 1, most, &s->to) && s->to >= s->from);
}
