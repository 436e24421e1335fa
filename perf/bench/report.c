/* report.c - progress, table, JSON */
#include "perf/bench/report.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { PLOT_FRACTIONS = 60 };

static double per_second(uint64_t n, uint64_t us)
{
	return us > 0 ? (double)n * 1e6 / (double)us : 0;
}

static enum bench_time main_time(const struct bench_options *o)
{
	return o->mode == BENCH_HOLD ? TIME_NOOP : TIME_LATENCY;
}

void report_second(struct results *r, const struct sample *before, const struct sample *now,
		   bool measured)
{
	static struct histogram h;
	enum bench_time t = main_time(r->options);
	uint64_t us = now->at_us - before->at_us;
	uint64_t done = now->counters[bench_done] - before->counters[bench_done];
	uint64_t failed = now->counters[bench_failed] - before->counters[bench_failed];
	uint64_t noops = now->counters[bench_noops] - before->counters[bench_noops];

	h = now->times[t];
	histogram_since(&h, &before->times[t]);
	if (r->seconds == NULL) {
		r->seconds = json_array();
		r->began_us = before->at_us;
	}
	json_array_append_new(r->seconds,
			      json_pack("{s:f, s:b, s:f, s:f, s:i, s:I, s:I, s:I}", "at",
					(double)(now->at_us - r->began_us) / 1e6, "measured",
					(int)measured, "rate", per_second(done, us), "failed",
					per_second(failed, us), "sessions", (int)now->sessions,
					"p50_us", (json_int_t)histogram_at(&h, 0.5), "p99_us",
					(json_int_t)histogram_at(&h, 0.99), "max_us",
					(json_int_t)histogram_at(&h, 1)));
	if (r->options->quiet)
		return;
	fprintf(stderr,
		"%6.1f s  %7u sessions  %9.0f done/s  %6.0f failed/s  %8.0f noop/s  p50 %8.2f ms  "
		"p99 %8.2f ms%s\n",
		(double)(now->at_us - r->began_us) / 1e6, now->sessions, per_second(done, us),
		per_second(failed, us), per_second(noops, us), (double)histogram_at(&h, 0.5) / 1e3,
		(double)histogram_at(&h, 0.99) / 1e3, measured ? "" : "  (not measured)");
}

void report_step(struct results *r, double rate, double got, uint64_t at_us, bool good)
{
	if (r->steps == NULL)
		r->steps = json_array();
	json_array_append_new(r->steps, json_pack("{s:f, s:f, s:I, s:b}", "rate", rate, "got", got,
						  "at_us", (json_int_t)at_us, "good", (int)good));
	fprintf(stderr, "search: %.0f/s offered, %.0f/s done, p%g %.2f ms: %s\n", rate, got,
		r->options->slo.fraction * 100, (double)at_us / 1e3, good ? "holds" : "does not");
}

static json_t *time_json(const struct histogram *h)
{
	json_t *curve = json_array();

	/* towards 1 ever finer: the plot's axis is the number of nines */
	for (unsigned i = 0; i <= PLOT_FRACTIONS && h->n > 0; i++) {
		double fraction = 1 - pow(10, -(double)i / 10);
		json_array_append_new(curve, json_pack("[f, I]", fraction,
						       (json_int_t)histogram_at(h, fraction)));
		if ((double)h->n * (1 - fraction) < 1)
			break;
	}
	return json_pack("{s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:o}", "n", (json_int_t)h->n,
			 "mean_us", h->n > 0 ? (double)h->sum / (double)h->n : 0.0, "p50_us",
			 (json_int_t)histogram_at(h, 0.5), "p90_us",
			 (json_int_t)histogram_at(h, 0.9), "p99_us",
			 (json_int_t)histogram_at(h, 0.99), "p999_us",
			 (json_int_t)histogram_at(h, 0.999), "max_us",
			 (json_int_t)histogram_at(h, 1), "curve", curve);
}

static json_t *counters_json(const struct sample *from, const struct sample *to)
{
	json_t *all = json_object();

	for (unsigned i = 0; i < bench_counter_count; i++)
		json_object_set_new(
			all, bench_counter_desc[i].name,
			json_integer((json_int_t)(to->counters[i] -
						  (from != NULL ? from->counters[i] : 0))));
	return all;
}

static json_t *errors_json(const struct bench_options *o, struct engine *const *engines)
{
	json_t *errors = json_object();

	for (unsigned i = 0; i < o->n_workers; i++) {
		for (unsigned k = 0; k < ERROR_KINDS; k++) {
			const struct bench_error *x = &engines[i]->errors[k];
			if (x->n == 0)
				continue;
			json_int_t n = json_integer_value(json_object_get(errors, x->text));
			json_t *text = json_string(x->text);
			/* a reply may hold anything */
			json_object_set_new(errors, text != NULL ? x->text : "(not UTF-8)",
					    json_integer(n + (json_int_t)x->n));
			json_decref(text);
		}
	}
	return errors;
}

static json_t *options_json(const struct bench_options *o)
{
	char target[ADDR_TEXT_BYTES];

	return json_pack("{s:s, s:s, s:i, s:s, s:s, s:i, s:I, s:f, s:s, s:b, s:b, s:i, s:f, s:s}",
			 "mode", options_mode_name(o->mode), "target",
			 addr_text(&o->target, target), "port", (int)o->port, "tls",
			 o->implicit   ? "implicit"
			 : o->starttls ? "starttls"
				       : "none",
			 "via", o->kernel ? "kernel" : o->device, "sessions", (int)o->sessions,
			 "messages", (json_int_t)o->messages, "rate", o->rate, "arrivals",
			 o->poisson ? "poisson" : "even", "pipelining", (int)o->pipelining, "bdat",
			 (int)o->bdat, "recipients", (int)o->recipients, "resume", o->resume,
			 "records", o->native_records ? "native" : "openssl");
}

static void print_times(const struct sample *to)
{
	printf("%-10s %10s %10s %10s %10s %10s %10s\n", "ms", "count", "p50", "p90", "p99", "p99.9",
	       "max");
	for (unsigned i = 0; i < TIMES; i++) {
		const struct histogram *h = &to->times[i];
		if (h->n == 0)
			continue;
		printf("%-10s %10" PRIu64 " %10.3f %10.3f %10.3f %10.3f %10.3f\n",
		       bench_time_names[i], h->n, (double)histogram_at(h, 0.5) / 1e3,
		       (double)histogram_at(h, 0.9) / 1e3, (double)histogram_at(h, 0.99) / 1e3,
		       (double)histogram_at(h, 0.999) / 1e3, (double)histogram_at(h, 1) / 1e3);
	}
}

static void print_table(const struct results *r, const struct sample *from, const struct sample *to,
			const struct sample *end)
{
	const struct bench_options *o = r->options;
	uint64_t us = to->at_us - from->at_us;
	uint64_t bytes = to->counters[bench_accepted_bytes] - from->counters[bench_accepted_bytes];

	printf("%s, %s loop", options_mode_name(o->mode), o->rate > 0 ? "open" : "closed");
	if (o->slo.wanted)
		printf(", %.0f/s is the highest rate with p%g of %s below %.3f ms", r->slo_rate,
		       o->slo.fraction * 100, options_metric_name(o->slo.metric),
		       (double)o->slo.below_us / 1e3);
	printf("\n%.2f s measured: %.1f done/s, %.1f failed/s, %.3f MB/s of messages, %u sessions "
	       "at the end\n",
	       (double)us / 1e6, per_second(r->work, us), per_second(r->lost, us),
	       per_second(bytes, us) / 1e6, to->sessions);
	printf("this program: %.2f CPU seconds a second\n\n",
	       (double)(to->cpu_us - from->cpu_us) / (double)us);
	print_times(to);
	printf("\nin all:\n");
	for (unsigned i = 0; i < bench_counter_count; i++)
		if (end->counters[i] != 0)
			printf("%12" PRIu64 " %s\n", end->counters[i], bench_counter_desc[i].help);
}

static bool write_ids(const struct bench_options *o, struct engine *const *engines)
{
	FILE *f = fopen(o->ids, "we");

	for (unsigned i = 0; f != NULL && i < o->n_workers; i++)
		for (size_t k = 0; k < engines[i]->accepted_n; k++)
			fprintf(f, "%u-%" PRIu64 "\n", i, engines[i]->accepted[k]);
	bool bad = f == NULL || ferror(f);
	if (f != NULL && fclose(f) != 0)
		bad = true;
	if (bad)
		fprintf(stderr, "postern-bench: %s: %s\n", o->ids, strerror(errno));
	return !bad;
}

static void print_errors(const json_t *errors)
{
	const char *text;
	json_t *n;

	if (json_object_size(errors) > 0)
		printf("\nerrors:\n");
	json_object_foreach((json_t *)errors, text, n)
		printf("%12" JSON_INTEGER_FORMAT " %s\n", json_integer_value(n), text);
}

void report_end(struct results *r, const struct sample *from, const struct sample *to,
		const struct sample *end, struct engine *const *engines)
{
	const struct bench_options *o = r->options;
	uint64_t us = to->at_us - from->at_us;
	json_t *times = json_object(), *errors = errors_json(o, engines);

	r->accepted = end->counters[bench_accepted];
	r->work = to->counters[bench_done] - from->counters[bench_done];
	r->lost = to->counters[bench_failed] - from->counters[bench_failed];
	for (unsigned i = 0; i < TIMES; i++)
		json_object_set_new(times, bench_time_names[i], time_json(&to->times[i]));
	json_t *all = json_pack(
		"{s:s, s:o, s:f, s:f, s:f, s:i, s:f, s:f, s:I, s:I, s:o, s:o, s:o, s:o, s:O, s:O}",
		"label", o->label, "options", options_json(o), "seconds", (double)us / 1e6, "rate",
		per_second(r->work, us), "failed_rate", per_second(r->lost, us), "sessions",
		(int)r->peak_sessions, "slo_rate", r->slo_rate, "cpu_share",
		(double)(to->cpu_us - from->cpu_us) / (double)us, "productive_cycles",
		(json_int_t)(to->productive_cycles - from->productive_cycles), "idle_cycles",
		(json_int_t)(to->idle_cycles - from->idle_cycles), "times", times, "measured",
		counters_json(from, to), "counters", counters_json(NULL, end), "errors", errors,
		"timeline", r->seconds != NULL ? r->seconds : json_null(), "search",
		r->steps != NULL ? r->steps : json_null());
	print_table(r, from, to, end);
	print_errors(errors);
	if (o->json != NULL && json_dump_file(all, o->json, JSON_INDENT(1)) != 0) {
		fprintf(stderr, "postern-bench: %s: cannot be written\n", o->json);
		r->failed = true;
	}
	if (o->html != NULL && !html_write(o->html, all, o->compare, o->n_compared))
		r->failed = true;
	if (o->ids != NULL && !write_ids(o, engines))
		r->failed = true;
	json_decref(all);
	json_decref(r->seconds);
	json_decref(r->steps);
}

bool report_well(const struct results *r)
{
	bool held = r->options->mode == BENCH_HOLD;

	return !r->failed && r->lost == 0 && (r->work > 0 || held);
}

struct id_line {
	char text[40];
	unsigned accepted, arrived;
};

static int by_text(const void *a, const void *b)
{
	return strcmp(((const struct id_line *)a)->text, ((const struct id_line *)b)->text);
}

/* The lines of a file, sorted, each once with its count in `arrived`; NULL: said why. */
static struct id_line *read_ids(const char *file, size_t *n)
{
	struct id_line *all = NULL;
	size_t room = 0, kept = 0;
	char line[256];
	FILE *f = fopen(file, "re");

	*n = 0;
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] == '\0')
			continue;
		if (*n == room) {
			room = room > 0 ? room * 2 : 4096;
			struct id_line *wider = reallocarray(all, room, sizeof(*wider));
			if (wider == NULL)
				break;
			all = wider;
		}
		all[*n] = (struct id_line){.arrived = 1};
		snprintf(all[(*n)++].text, sizeof(all->text), "%.39s", line);
	}
	if (f == NULL || ferror(f) || !feof(f)) {
		fprintf(stderr, "postern-bench: %s: %s\n", file, strerror(errno));
		free(all);
		all = NULL;
	} else if (all == NULL) {
		all = calloc(1, sizeof(*all));
	}
	if (f != NULL)
		fclose(f);
	if (all == NULL)
		return NULL;
	qsort(all, *n, sizeof(*all), by_text);
	for (size_t i = 0; i < *n; i++) {
		if (kept > 0 && strcmp(all[kept - 1].text, all[i].text) == 0)
			all[kept - 1].arrived++;
		else
			all[kept++] = all[i];
	}
	*n = kept;
	return all;
}

int report_compare_ids(const char *accepted, const char *arrived)
{
	size_t n, m, i = 0, k = 0, lost = 0, twice = 0, strange = 0;
	struct id_line *a = read_ids(accepted, &n);
	struct id_line *b = a != NULL ? read_ids(arrived, &m) : NULL;

	if (b == NULL) {
		free(a);
		return 64;
	}
	while (i < n || k < m) {
		int order = i == n ? 1 : k == m ? -1 : strcmp(a[i].text, b[k].text);
		if (order < 0) {
			if (lost++ < 10)
				printf("lost: %s\n", a[i].text);
			i++;
			continue;
		}
		twice += b[k].arrived - 1;
		strange += order > 0;
		i += order == 0;
		k++;
	}
	printf("%zu accepted, %zu arrived: %zu lost, %zu extra copies, %zu arrived without a 250 "
	       "seen\n",
	       n, m, lost, twice, strange);
	free(a);
	free(b);
	return lost > 0 ? 1 : 0;
}
