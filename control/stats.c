/* stats.c - registry of counters, gauges and commands */
#include "control/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct set {
	const struct counter_desc *desc;
	const uint64_t *values; /* NULL: a gauge */
	uint64_t (*read)(void *arg);
	void *arg;
	unsigned count;
	int worker;
};

struct histograms {
	struct stats_histogram *at;
	unsigned n;
};

struct command {
	const char *name, *help;
	stats_command *make;
	void *arg;
	bool action;
};

struct stats {
	struct set *set;
	unsigned sets;
	struct histograms histograms;
	struct command *command;
	unsigned commands;
	pthread_mutex_t running; /* one command at a time */
};

static json_t *make_stats(void *arg, const json_t *request, char *error, size_t error_bytes);
static json_t *make_help(void *arg, const json_t *request, char *error, size_t error_bytes);

struct stats *stats_create(void)
{
	struct stats *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	pthread_mutex_init(&s->running, NULL);
	if (stats_provide(s, "stats", "all counters and gauges", make_stats, s) != 0 ||
	    stats_provide(s, "help", "the commands of this socket", make_help, s) != 0) {
		stats_destroy(s);
		return NULL;
	}
	return s;
}

void stats_destroy(struct stats *s)
{
	pthread_mutex_destroy(&s->running);
	free(s->set);
	free(s->histograms.at);
	free(s->command);
	free(s);
}

static int add_set(struct stats *s, const struct set *set)
{
	struct set *grown = reallocarray(s->set, s->sets + 1, sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	s->set = grown;
	s->set[s->sets++] = *set;
	return 0;
}

int stats_add(struct stats *s, const struct counter_desc *desc, unsigned count,
	      const uint64_t *values, int worker)
{
	struct set set = {.desc = desc, .count = count, .values = values, .worker = worker};

	return add_set(s, &set);
}

int stats_gauge(struct stats *s, const struct counter_desc *desc, uint64_t (*read)(void *arg),
		void *arg, int worker)
{
	struct set set = {.desc = desc, .count = 1, .read = read, .arg = arg, .worker = worker};

	return add_set(s, &set);
}

int stats_add_histogram(struct stats *s, const struct stats_histogram *h)
{
	struct histograms *all = &s->histograms;
	struct stats_histogram *grown = reallocarray(all->at, all->n + 1, sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	all->at = grown;
	all->at[all->n++] = *h;
	return 0;
}

int stats_provide(struct stats *s, const char *name, const char *help, stats_command *make,
		  void *arg)
{
	struct command *grown = reallocarray(s->command, s->commands + 1, sizeof(*grown));

	if (grown == NULL)
		return -ENOMEM;
	s->command = grown;
	s->command[s->commands++] = (struct command){name, help, make, arg, false};
	return 0;
}

int stats_provide_action(struct stats *s, const char *name, const char *help, stats_command *make,
			 void *arg)
{
	int rc = stats_provide(s, name, help, make, arg);

	if (rc == 0)
		s->command[s->commands - 1].action = true;
	return rc;
}

static uint64_t value_of(const struct set *set, unsigned i)
{
	return set->values != NULL ? counter_read(&set->values[i]) : set->read(set->arg);
}

/* Sets of the same table belong together; the first one speaks for all. */
static bool first_of_its_table(const struct stats *s, unsigned i)
{
	for (unsigned j = 0; j < i; j++)
		if (s->set[j].desc == s->set[i].desc)
			return false;
	return true;
}

static json_t *metric_json(const struct stats *s, unsigned first, unsigned i)
{
	const struct counter_desc *d = &s->set[first].desc[i];
	json_t *workers = json_object();
	uint64_t total = 0;

	for (unsigned j = first; j < s->sets; j++) {
		const struct set *set = &s->set[j];
		if (set->desc != s->set[first].desc)
			continue;
		uint64_t v = value_of(set, i);
		total += v;
		if (set->worker == STATS_NO_WORKER)
			continue;
		char name[16];
		snprintf(name, sizeof(name), "%d", set->worker);
		json_object_set_new(workers, name, json_integer((json_int_t)v));
	}
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:o}", "name", d->name, "kind",
			 s->set[first].values != NULL ? "counter" : "gauge", "unit", d->unit,
			 "help", d->help, "total", (json_int_t)total, "workers", workers);
}

static json_t *make_stats(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	const struct stats *s = arg;
	json_t *list = json_array();

	for (unsigned i = 0; i < s->sets; i++)
		for (unsigned k = 0; first_of_its_table(s, i) && k < s->set[i].count; k++)
			json_array_append_new(list, metric_json(s, i, k));
	return list;
}

static json_t *make_help(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	const struct stats *s = arg;
	json_t *list = json_array();

	for (unsigned i = 0; i < s->commands; i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "command", s->command[i].name,
						      "help", s->command[i].help));
	return list;
}

static json_t *run(struct stats *s, const char *name, const json_t *request, bool actions,
		   char *error, size_t error_bytes)
{
	for (unsigned i = 0; i < s->commands; i++) {
		const struct command *c = &s->command[i];
		if (strcmp(c->name, name) != 0 || (c->action && !actions))
			continue;
		snprintf(error, error_bytes, "%s: no answer", name);
		pthread_mutex_lock(&s->running);
		json_t *j = c->make(c->arg, request, error, error_bytes);
		pthread_mutex_unlock(&s->running);
		return j;
	}
	snprintf(error, error_bytes, "unknown command; \"help\" lists them");
	return NULL;
}

json_t *stats_run(struct stats *s, const char *name, const json_t *request, char *error,
		  size_t error_bytes)
{
	return run(s, name, request, true, error, error_bytes);
}

json_t *stats_view(struct stats *s, const char *name, const json_t *request, char *error,
		   size_t error_bytes)
{
	return run(s, name, request, false, error, error_bytes);
}

static void print_samples(const struct stats *s, unsigned first, unsigned i, FILE *f)
{
	const struct counter_desc *d = &s->set[first].desc[i];
	bool counter = s->set[first].values != NULL;
	const char *suffix = counter ? "_total" : "";

	fprintf(f, "# HELP postern_%s%s %s (%s)\n# TYPE postern_%s%s %s\n", d->name, suffix,
		d->help, d->unit, d->name, suffix, counter ? "counter" : "gauge");
	for (unsigned j = first; j < s->sets; j++) {
		const struct set *set = &s->set[j];
		if (set->desc != s->set[first].desc)
			continue;
		fprintf(f, "postern_%s%s", d->name, suffix);
		if (set->worker != STATS_NO_WORKER)
			fprintf(f, "{worker=\"%d\"}", set->worker);
		fprintf(f, " %" PRIu64 "\n", value_of(set, i));
	}
}

static void print_histogram(const struct stats_histogram *h, FILE *f)
{
	uint64_t total = 0;

	for (unsigned i = 0; i <= h->n; i++) {
		total += counter_read(&h->bucket[i]);
		fprintf(f, "postern_%s_bucket{%s=\"%s\",worker=\"%d\",le=\"", h->desc->name,
			h->label, h->value, h->worker);
		if (i < h->n)
			fprintf(f, "%" PRIu64 "\"} %" PRIu64 "\n", h->bounds[i], total);
		else
			fprintf(f, "+Inf\"} %" PRIu64 "\n", total);
	}
	fprintf(f, "postern_%s_sum{%s=\"%s\",worker=\"%d\"} %" PRIu64 "\n", h->desc->name, h->label,
		h->value, h->worker, counter_read(h->sum));
	fprintf(f, "postern_%s_count{%s=\"%s\",worker=\"%d\"} %" PRIu64 "\n", h->desc->name,
		h->label, h->value, h->worker, total);
}

static void print_histograms(const struct stats *s, FILE *f)
{
	const struct histograms *all = &s->histograms;

	for (unsigned i = 0; i < all->n; i++) {
		const struct counter_desc *d = all->at[i].desc;
		bool first = true;
		for (unsigned k = 0; k < i; k++)
			first &= all->at[k].desc != d;
		if (!first)
			continue;
		fprintf(f, "# HELP postern_%s %s (%s)\n# TYPE postern_%s histogram\n", d->name,
			d->help, d->unit, d->name);
		for (unsigned k = i; k < all->n; k++)
			if (all->at[k].desc == d)
				print_histogram(&all->at[k], f);
	}
}

char *stats_prometheus(struct stats *s, size_t *bytes)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, bytes);

	if (f == NULL)
		return NULL;
	for (unsigned i = 0; i < s->sets; i++)
		for (unsigned k = 0; first_of_its_table(s, i) && k < s->set[i].count; k++)
			print_samples(s, i, k, f);
	print_histograms(s, f);
	if (fclose(f) != 0) {
		free(text);
		return NULL;
	}
	return text;
}
