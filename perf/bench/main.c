/*
 * main.c - postern-bench: load for any server of mail submission.
 *
 * The workers run by themselves; this thread looks at their counters once a second, searches a rate
 * where that is asked for, and reports at the end.
 */
#include "perf/bench/link.h"
#include "perf/bench/report.h"

#include "base/log.h"
#include "tls/tls.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { TICK_MS = 100, DRAIN_MS = 5000, SEARCH_STEPS = 24, SEARCH_UNDER_WAY = 4 };

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

struct run {
	const struct bench_options *options;
	struct engine *engines[BENCH_WORKERS];
	struct stack *stack; /* one of the two */
	struct kernel *kernel;
	struct sample *before; /* the second before */
	struct results *results;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void rest(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

static int call(struct run *r, unsigned worker, void (*fn)(void *arg), void *arg)
{
	return r->stack != NULL ? stack_call(r->stack, worker, fn, arg)
				: kernel_call(r->kernel, worker, fn, arg);
}

static void sample_take(struct run *r, struct sample *s)
{
	memset(s, 0, sizeof(*s));
	s->at_us = now_us();
	for (unsigned i = 0; i < r->options->n_workers; i++) {
		const struct engine *e = r->engines[i];
		for (unsigned k = 0; k < bench_counter_count; k++)
			s->counters[k] += counter_read(&e->counters[k]);
		for (unsigned k = 0; k < TIMES; k++)
			histogram_add(&s->times[k], &e->times[k]);
		s->sessions += engine_sessions(e);
	}
	if (r->stack != NULL) {
		s->productive_cycles = stack_cycles(r->stack, true);
		s->idle_cycles = stack_cycles(r->stack, false);
	}
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	s->cpu_us = (uint64_t)u.ru_utime.tv_sec * 1000000 + (uint64_t)u.ru_utime.tv_usec +
		    (uint64_t)u.ru_stime.tv_sec * 1000000 + (uint64_t)u.ru_stime.tv_usec;
}

static struct sample *sample_new(struct run *r)
{
	struct sample *s = malloc(sizeof(*s));

	if (s == NULL) {
		fprintf(stderr, "postern-bench: out of memory\n");
		exit(1);
	}
	sample_take(r, s);
	return s;
}

/* Lives until us have passed, a line and a point a second.  false: the work is over before. */
static bool watch(struct run *r, uint64_t us, bool measured)
{
	uint64_t end = now_us() + us, next = now_us() + 1000000;

	while (!interrupted && now_us() < end) {
		uint64_t left = (end - now_us()) / 1000;
		bool idle = true;

		rest(left < TICK_MS ? (unsigned)left + 1 : TICK_MS);
		for (unsigned i = 0; i < r->options->n_workers; i++)
			idle &= r->engines[i]->left == 0 && engine_idle(r->engines[i]);
		if (now_us() >= next || idle) {
			struct sample *s = sample_new(r);
			report_second(r->results, r->before, s, measured);
			free(r->before);
			r->before = s;
			next += 1000000;
		}
		if (idle)
			return false;
	}
	return !interrupted;
}

struct rate_order {
	struct engine *engine;
	double rate;
};

static void set_rate(void *arg)
{
	struct rate_order *o = arg;

	o->engine->rate = o->rate;
	o->engine->next_arrival_us = 0;
	o->engine->waiting_n = 0;
}

static void stop_engine(void *arg)
{
	engine_stop(arg);
}

static void order_rate(struct run *r, double rate)
{
	for (unsigned i = 0; i < r->options->n_workers; i++) {
		struct rate_order o = {r->engines[i], rate / r->options->n_workers};
		call(r, i, set_rate, &o);
	}
}

static enum bench_time slo_time(enum bench_metric m)
{
	static const enum bench_time times[] = {
		[BENCH_LATENCY] = TIME_LATENCY,
		[BENCH_SERVICE] = TIME_SERVICE,
		[BENCH_HANDSHAKE_TIME] = TIME_TLS,
		[BENCH_NOOP_TIME] = TIME_NOOP,
	};
	return times[m];
}

/* Whether the rate holds the bound: what arrived is done, nothing failed, the percentile is low. */
static bool holds(struct run *r, double rate)
{
	const struct bench_slo *slo = &r->options->slo;

	order_rate(r, rate);
	watch(r, r->options->warmup_us, false);
	struct sample *from = sample_new(r);
	bool alive = watch(r, r->options->duration_us, false);
	struct sample *to = sample_new(r);
	struct histogram *h = &to->times[slo_time(slo->metric)];
	uint64_t done = to->counters[bench_done] - from->counters[bench_done];
	uint64_t arrived = to->counters[bench_arrived] - from->counters[bench_arrived];
	uint64_t failed = to->counters[bench_failed] - from->counters[bench_failed];

	histogram_since(h, &from->times[slo_time(slo->metric)]);
	uint64_t at = histogram_at(h, slo->fraction);
	double got = (double)done * 1e6 / (double)(to->at_us - from->at_us);
	bool good = alive && failed == 0 &&
		    (double)(done + SEARCH_UNDER_WAY) >= (double)arrived * 0.97 && at > 0 &&
		    at < slo->below_us;
	report_step(r->results, rate, got, at, good);
	free(from);
	free(to);
	return good;
}

/* Doubles until it breaks, then halves the distance. */
static void search(struct run *r)
{
	double rate = r->options->rate > 0 ? r->options->rate : 100, good = 0, bad = 0;

	for (unsigned i = 0; !interrupted && i < SEARCH_STEPS; i++) {
		if (holds(r, rate))
			good = rate;
		else
			bad = rate;
		if (good == 0 && rate < 1)
			break;
		rate = bad == 0 ? good * 2 : (good + bad) / 2;
		if (bad > 0 && good > 0 && bad - good < good * 0.05)
			break;
	}
	r->results->slo_rate = good;
	/* the run that is reported is at that rate */
	order_rate(r, good > 0 ? good : 1);
}

static void drain(struct run *r)
{
	for (unsigned i = 0; i < r->options->n_workers; i++)
		call(r, i, stop_engine, r->engines[i]);
	for (unsigned ms = 0; ms < DRAIN_MS; ms += TICK_MS) {
		bool idle = true;
		for (unsigned i = 0; i < r->options->n_workers; i++)
			idle &= engine_idle(r->engines[i]);
		if (idle)
			return;
		rest(TICK_MS);
	}
}

static int run(struct bench_options *o, struct run *r)
{
	char error[512] = "";

	r->options = o;
	if (o->kernel)
		r->kernel = kernel_start(o, r->engines, error, sizeof(error));
	else
		r->stack = stack_start(o, r->engines, error, sizeof(error));
	if (r->stack == NULL && r->kernel == NULL) {
		fprintf(stderr, "postern-bench: %s\n", error);
		return 1;
	}
	r->before = sample_new(r);
	if (o->slo.wanted)
		search(r);
	bool more = o->total > 0 || watch(r, o->warmup_us, false);
	struct sample *from = sample_new(r);
	if (more)
		watch(r, o->duration_us, true);
	struct sample *to = sample_new(r);
	r->results->peak_sessions = to->sessions;
	drain(r);
	struct sample *end = sample_new(r);
	for (unsigned i = 0; i < TIMES; i++)
		histogram_since(&to->times[i], &from->times[i]);
	report_end(r->results, from, to, end, r->engines);
	bool well = report_well(r->results);
	free(from);
	free(to);
	free(end);
	free(r->before);
	if (r->stack != NULL)
		stack_end(r->stack);
	else
		kernel_end(r->kernel);
	return interrupted ? 130 : well ? 0 : 2;
}

int main(int argc, char **argv)
{
	static struct bench_options o;
	static struct run r;
	static struct results results;
	struct rlimit files;
	int rc;

	log_set_level(LOG_WARNING);
	if (!tls_memory_init())
		fprintf(stderr, "postern-bench: OpenSSL was used before its memory was counted\n");
	rc = options_read(&o, argc, argv);
	if (rc != 0)
		return rc < 0 ? 64 : 0;
	if (o.accepted != NULL)
		return report_compare_ids(o.accepted, o.arrived);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGPIPE, SIG_IGN);
	/* a rate is needed for the search to change */
	if (o.slo.wanted && o.rate <= 0)
		o.rate = 100;
	results.options = &o;
	r.results = &results;
	return run(&o, &r);
}
