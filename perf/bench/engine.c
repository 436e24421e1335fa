/* engine.c - when sessions begin and what they work on: closed loop, open loop, ramp */
#include "perf/bench/engine.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

COUNTER_TABLE(bench, BENCH_COUNTERS)

enum { BEGIN_A_TURN = 64, LATE_US = 3000, WAITING_MOST = 16 << 20 };

const char *const bench_time_names[TIMES] = {
	[TIME_CONNECT] = "connect",   [TIME_TLS] = "handshake",   [TIME_LOGIN] = "login",
	[TIME_ENVELOPE] = "envelope", [TIME_CONTENT] = "content", [TIME_SERVICE] = "service",
	[TIME_LATENCY] = "latency",   [TIME_NOOP] = "noop",
};

static bool work_is_a_session(const struct engine *e)
{
	return e->options->mode != BENCH_MAIL && e->options->mode != BENCH_NOOP;
}

/* This worker's share of n. */
static uint64_t share(uint64_t n, unsigned index, unsigned workers)
{
	return n / workers + (index < n % workers);
}

struct engine *engine_create(struct shard *shard, const struct bench_options *o, unsigned index,
			     const struct link_ops *link, void *link_arg)
{
	struct engine *e = calloc(1, sizeof(*e));

	if (e == NULL)
		return NULL;
	e->shard = shard;
	e->options = o;
	e->index = index;
	e->link = link;
	e->link_arg = link_arg;
	e->most = (unsigned)share(o->sessions, index, o->n_workers);
	e->left = o->total > 0 ? share(o->total, index, o->n_workers) : UINT64_MAX;
	e->rate = o->rate / o->n_workers;
	list_init(&e->ready);
	e->sessions = slab_create(sizeof(struct session), e->most + 16);
	e->content = content_create(o, index);
	e->ids = id_set_create();
	e->buffer = malloc(ENGINE_BUFFER);
	if (e->sessions != NULL && e->content != NULL && e->ids != NULL && e->buffer != NULL)
		return e;
	engine_destroy(e);
	return NULL;
}

void engine_destroy(struct engine *e)
{
	if (e == NULL)
		return;
	for (uint32_t i = 0; e->sessions != NULL && i < slab_extent(e->sessions); i++) {
		struct session *s = slab_at(e->sessions, i, NULL);
		if (s == NULL)
			continue;
		timer_cancel(e->shard->timers, &s->timer);
		e->link->close(s, false);
		free(s->line);
		free(s->unsent);
		scram_client_destroy(s->scram);
	}
	slab_destroy(e->sessions);
	content_destroy(e->content);
	id_set_destroy(e->ids);
	free(e->buffer);
	free(e->waiting);
	free(e->accepted);
	free(e);
}

void engine_time(struct engine *e, enum bench_time t, uint64_t since_us)
{
	uint64_t now = e->shard->now_us;

	histogram_record(&e->times[t], now > since_us ? now - since_us : 0);
}

void engine_error(struct engine *e, const char *text)
{
	for (unsigned i = 0; i < ERROR_KINDS; i++) {
		struct bench_error *x = &e->errors[i];
		if (x->n == 0)
			snprintf(x->text, sizeof(x->text), "%s", text);
		/* replies that differ in a number or name only are one kind */
		if (x->n == 0 || strncmp(x->text, text, 24) == 0 || i == ERROR_KINDS - 1) {
			counter_inc(&x->n);
			return;
		}
	}
}

static void note_number(struct engine *e, uint64_t number)
{
	if (e->options->ids == NULL)
		return;
	if (e->accepted_n == e->accepted_room) {
		size_t room = e->accepted_room > 0 ? e->accepted_room * 2 : 4096;
		uint64_t *wider = reallocarray(e->accepted, room, sizeof(*wider));
		if (wider == NULL) {
			engine_error(e, "no memory for the list of ids");
			return;
		}
		e->accepted = wider;
		e->accepted_room = room;
	}
	e->accepted[e->accepted_n++] = number;
}

void engine_accepted(struct session *s, const char *text, size_t n)
{
	struct engine *e = s->engine;

	bench_count(e, bench_accepted);
	counter_add(&e->counters[bench_accepted_bytes], s->size);
	if (!id_set_add(e->ids, text, n))
		bench_count(e, bench_ids_repeated);
	note_number(e, s->number);
}

void engine_unit_over(struct session *s, bool good)
{
	struct engine *e = s->engine;

	s->working = false;
	bench_count(e, good ? bench_done : bench_failed);
	if (!good)
		return;
	engine_time(e, TIME_SERVICE, s->begun_us);
	engine_time(e, TIME_LATENCY, s->arrival_us);
}

void engine_session_over(struct session *s)
{
	struct engine *e = s->engine;

	timer_cancel(e->shard->timers, &s->timer);
	list_del(&s->ready);
	if (s->opening)
		e->opening--;
	slab_free(e->sessions, s->handle);
}

/* Open loop: the moment of the next arrival. */
static double gap_us(struct engine *e)
{
	double mean = 1e6 / e->rate;

	if (!e->options->poisson)
		return mean;
	double u = bench_draw(e->shard);
	return -log(u) * mean;
}

static bool wait_in_line(struct engine *e, uint64_t arrival_us)
{
	if (e->waiting_n == e->waiting_room) {
		size_t room = e->waiting_room > 0 ? e->waiting_room * 2 : 1024;
		uint64_t *wider = room <= WAITING_MOST ? calloc(room, sizeof(*wider)) : NULL;
		if (wider == NULL)
			return false;
		for (size_t i = 0; i < e->waiting_n; i++)
			wider[i] = e->waiting[(e->waiting_first + i) % e->waiting_room];
		free(e->waiting);
		e->waiting = wider;
		e->waiting_room = room;
		e->waiting_first = 0;
	}
	e->waiting[(e->waiting_first + e->waiting_n++) % e->waiting_room] = arrival_us;
	return true;
}

static uint64_t first_in_line(struct engine *e)
{
	uint64_t us = e->waiting[e->waiting_first];

	e->waiting_first = (e->waiting_first + 1) % e->waiting_room;
	e->waiting_n--;
	return us;
}

/* Whatever has become due arrives now, with the time at which it was due. */
static void arrivals(struct engine *e)
{
	uint64_t now = e->shard->now_us;

	if (e->rate <= 0) {
		e->next_arrival_us = 0;
		return;
	}
	if (e->next_arrival_us == 0)
		e->next_arrival_us = (double)now + gap_us(e);
	while (e->next_arrival_us <= (double)now && e->left > 0) {
		bench_count(e, bench_arrived);
		if (e->left != UINT64_MAX)
			e->left--;
		/* what does not even find a place in the line has failed */
		if (!wait_in_line(e, (uint64_t)e->next_arrival_us))
			bench_count(e, bench_failed);
		e->next_arrival_us += gap_us(e);
	}
}

/* Closed loop: whether a unit may begin. */
static bool take_unit(struct engine *e)
{
	if (e->stopping || e->left == 0)
		return false;
	if (e->left != UINT64_MAX)
		e->left--;
	return true;
}

void engine_ready(struct session *s)
{
	struct engine *e = s->engine;
	bool open_loop = e->options->rate > 0;

	if (open_loop && e->waiting_n > 0)
		session_work(s, first_in_line(e));
	else if (open_loop && !e->stopping)
		list_push_back(&e->ready, &s->ready);
	else if (!open_loop && take_unit(e))
		session_work(s, e->shard->now_us);
	else
		session_quit(s);
}

static bool begin_session(struct engine *e, bool working, uint64_t arrival_us)
{
	handle_t h;
	struct session *s = slab_alloc(e->sessions, &h);

	if (s == NULL)
		return false;
	s->engine = e;
	s->handle = h;
	s->working = working;
	s->arrival_us = arrival_us;
	session_begin(s);
	return true;
}

static bool may_open(struct engine *e)
{
	double now = (double)e->shard->now_us;

	if (slab_used(e->sessions) >= e->most || e->opening >= e->options->opening)
		return false;
	if (e->options->ramp <= 0)
		return true;
	double gap = 1e6 * e->options->n_workers / e->options->ramp;
	if (e->next_open_us > now)
		return false;
	/* what was missed is not made up for in a burst */
	e->next_open_us = e->next_open_us < now - 100000 ? now + gap : e->next_open_us + gap;
	return true;
}

/* Whether another connection has anything to do. */
static bool wants_session(const struct engine *e)
{
	bool open_loop = e->options->rate > 0;

	if (open_loop && work_is_a_session(e))
		return e->waiting_n > 0;
	/* one message a session: it comes and goes with its message */
	if (open_loop && e->options->messages == 1)
		return e->waiting_n > e->opening;
	return !e->stopping && e->left > 0;
}

static unsigned sessions_turn(struct engine *e)
{
	unsigned n = 0;

	for (; n < BEGIN_A_TURN && wants_session(e) && may_open(e); n++) {
		uint64_t arrival = e->shard->now_us;
		bool unit = work_is_a_session(e);
		if (unit && e->options->rate > 0)
			arrival = first_in_line(e);
		else if (unit && e->options->mode != BENCH_HOLD && !take_unit(e))
			break;
		if (!begin_session(e, unit, arrival))
			break;
	}
	return n;
}

unsigned engine_turn(void *engine)
{
	struct engine *e = engine;
	uint64_t now = e->shard->now_us;
	unsigned n = 0;

	if (e->last_turn_us != 0 && now > e->last_turn_us + LATE_US)
		bench_count(e, bench_turns_late);
	e->last_turn_us = now;
	if (!e->stopping)
		arrivals(e);
	while (e->options->mode != BENCH_HOLD && e->waiting_n > 0 && !list_empty(&e->ready)) {
		struct session *s = container_of(list_pop_front(&e->ready), struct session, ready);
		session_work(s, first_in_line(e));
		n++;
	}
	if (e->stopping && !list_empty(&e->ready)) {
		for (unsigned i = 0; i < BEGIN_A_TURN && !list_empty(&e->ready); i++, n++)
			session_quit(
				container_of(list_pop_front(&e->ready), struct session, ready));
	}
	return n + sessions_turn(e);
}

void engine_stop(void *engine)
{
	struct engine *e = engine;

	e->stopping = true;
	e->waiting_n = 0;
}

bool engine_idle(const struct engine *e)
{
	return slab_used(e->sessions) == 0;
}

unsigned engine_sessions(const struct engine *e)
{
	return slab_used(e->sessions);
}
