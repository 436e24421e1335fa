/* queue.c - posternctl queue: pages of all workers' queues, and what an operator orders */
#include "control/queue.h"

#include "control/gateway.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	CALL_MS = 2000,
	BUDGET_US = 100000, /* that a request may take before it answers with what it has */
	WAIT_US = 300000,   /* for an order to be carried out */
	ORDERS = 16,        /* under way at a time */
	FORGET_S = 60,
	HEADER_BYTES = 16384,
};

/* An order and who may still ask about it. */
struct placed {
	struct placed *next;
	unsigned number;
	time_t asked_s;
	struct relay_order order;
};

struct queue {
	struct peeker *peeker;
	struct placed *placed;
	unsigned last_number;
};

/* A page of one worker that answers this request, or NULL; where the next one begins. */
struct walk {
	struct gateway *g;
	struct queue_filter filter;
	unsigned most;
	unsigned worker;
	uint32_t entry;
	uint64_t looked;
	bool end;
	struct relay_page *page; /* of the worker `of` */
	unsigned of;
	struct peek reads[RELAY_ROWS]; /* envelope of each row, where somebody wanted it */
	bool peeked;
};

struct call {
	struct relay_page page;
	struct relay_worker *worker;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void page_free(void *call)
{
	struct call *c = call;

	for (unsigned i = 0; c != NULL && i < c->page.n; i++)
		free(c->page.rows[i].done);
	free(c);
}

static void on_worker_page(void *arg)
{
	struct call *c = arg;

	relay_page(c->worker, &c->page);
}

static void walk_free(struct walk *k)
{
	if (k->peeked)
		peek_free(k->reads, k->page->n);
	k->peeked = false;
	if (k->page != NULL)
		page_free(container_of(k->page, struct call, page));
	k->page = NULL;
}

static bool ask_worker(struct walk *k, char *error, size_t error_bytes)
{
	struct unit *u = &k->g->units[k->worker];
	struct call *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		snprintf(error, error_bytes, "out of memory");
		return false;
	}
	c->worker = u->relay;
	c->page.filter = k->filter.relay;
	c->page.cursor = k->entry;
	/* the envelopes decide how many of them count */
	c->page.most = queue_filter_reads(&k->filter.envelope) ? RELAY_ROWS : k->most;
	int rc = worker_call(u->worker, on_worker_page, c, page_free, CALL_MS);
	if (rc == 0) {
		k->page = &c->page;
		k->of = k->worker;
		k->looked += c->page.looked;
		return true;
	}
	if (rc != -ETIMEDOUT)
		free(c);
	snprintf(error, error_bytes, "worker %u does not answer: %s", k->worker, strerror(-rc));
	return false;
}

static bool read_envelopes(struct walk *k, char *error, size_t error_bytes)
{
	struct relay_page *p = k->page;

	for (unsigned i = 0; i < p->n; i++) {
		const struct relay_row *r = &p->rows[i];
		k->reads[i] = (struct peek){
			.id = r->id,
			.bytes = r->envelope_bytes < PEEK_BYTES ? r->envelope_bytes : PEEK_BYTES};
	}
	int rc = peek(k->g->queue->peeker, k->reads, p->n);
	k->peeked = rc == 0;
	if (rc < 0)
		snprintf(error, error_bytes, "the spool's readers are late: %s", strerror(-rc));
	return rc == 0;
}

/* Keeps the rows whose envelopes pass; a message that has ended meanwhile is none. */
static void sift(struct walk *k)
{
	struct relay_page *p = k->page;
	unsigned kept = 0;

	for (unsigned i = 0; i < p->n; i++) {
		struct peek *r = &k->reads[i];
		if (kept < k->most && r->verdict == 0 &&
		    queue_filter_passes(&k->filter.envelope, r->chunk->data, r->chunk->end,
					p->rows[i].done)) {
			if (kept != i) {
				p->rows[kept] = p->rows[i];
				k->reads[kept] = *r;
			}
			kept++;
		} else {
			free(p->rows[i].done);
			free(r->chunk);
		}
	}
	p->n = kept;
}

static void step_on(struct walk *k)
{
	k->entry = k->page->cursor;
	if (!k->page->end)
		return;
	k->worker++;
	k->entry = 0;
	k->end = k->worker >= k->g->n_units;
}

/* Until something is found, everything has been looked at, or the time is up. */
static bool walk_on(struct walk *k, bool want_envelopes, char *error, size_t error_bytes)
{
	uint64_t until = now_us() + BUDGET_US;

	while (!k->end && (k->page == NULL || k->page->n == 0) && now_us() < until) {
		bool reads = queue_filter_reads(&k->filter.envelope);
		walk_free(k);
		if (!ask_worker(k, error, error_bytes))
			return false;
		step_on(k);
		if (k->page->n == 0 || !(reads || want_envelopes))
			continue;
		if (!read_envelopes(k, error, error_bytes))
			return false;
		if (reads)
			sift(k);
	}
	return true;
}

static bool walk_begin(struct walk *k, struct gateway *g, const json_t *request, char *error,
		       size_t error_bytes)
{
	const json_t *cursor = json_object_get(request, "cursor");
	json_int_t most = json_integer_value(json_object_get(request, "most"));

	*k = (struct walk){.g = g};
	k->most = most > 0 && most < RELAY_ROWS ? (unsigned)most : RELAY_ROWS;
	k->worker = (unsigned)json_integer_value(json_object_get(cursor, "worker"));
	k->entry = (uint32_t)json_integer_value(json_object_get(cursor, "entry"));
	k->end = k->worker >= g->n_units;
	if (!queue_filter_parse(request, time(NULL), &k->filter, error, error_bytes))
		return false;
	/* a report of what is bounced is no part of the walk that bounces */
	json_int_t below = json_integer_value(json_object_get(cursor, "below"));
	k->filter.relay.below = below > 0 ? (spool_id_t)below : spool_new_id(g->env.spool);
	return true;
}

static void set_cursor(const struct walk *k, json_t *answer)
{
	json_object_set_new(answer, "looked", json_integer((json_int_t)k->looked));
	if (!k->end)
		json_object_set_new(answer, "cursor",
				    json_pack("{s:i, s:I, s:I}", "worker", (int)k->worker, "entry",
					      (json_int_t)k->entry, "below",
					      (json_int_t)k->filter.relay.below));
}

static void add_header(struct walk *k, const struct relay_row *r, json_t *row)
{
	struct peek p = {.id = r->id,
			 .content = true,
			 .bytes = r->content_bytes < HEADER_BYTES ? (uint32_t)r->content_bytes
								  : HEADER_BYTES};

	if (peek(k->g->queue->peeker, &p, 1) == 0 && p.verdict == 0)
		queue_header_json(row, p.chunk->data, p.chunk->end);
	peek_free(&p, 1);
}

static json_t *rows_json(struct walk *k, bool detail, bool header)
{
	json_t *rows = json_array();

	for (unsigned i = 0; k->page != NULL && i < k->page->n; i++) {
		const struct relay_row *r = &k->page->rows[i];
		json_t *row = queue_row_json(r, k->of, k->page->now_s);
		if (k->peeked && k->reads[i].verdict == 0)
			queue_envelope_json(row, r, k->reads[i].chunk->data, k->reads[i].chunk->end,
					    detail);
		if (header)
			add_header(k, r, row);
		json_array_append_new(rows, row);
	}
	return rows;
}

static json_t *list(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	bool detail = json_is_true(json_object_get(request, "detail"));
	bool header = json_is_true(json_object_get(request, "header"));
	struct walk k;
	json_t *answer = NULL;

	if (walk_begin(&k, arg, request, error, error_bytes) &&
	    walk_on(&k, detail || header, error, error_bytes)) {
		answer = json_pack("{s:o}", "messages", rows_json(&k, detail, header));
		set_cursor(&k, answer);
	}
	walk_free(&k);
	return answer;
}

static const char *const result_names[RELAY_RESULTS] = {
	[RELAY_DONE] = "done",       [RELAY_SAME] = "unchanged", [RELAY_GONE] = "gone",
	[RELAY_BUSY] = "delivering", [RELAY_IS_HELD] = "held",   [RELAY_NO_POOL] = "no_pool",
	[RELAY_FAILED] = "failed",
};

static unsigned pending(const struct placed *p)
{
	return atomic_load_explicit(&p->order.pending, memory_order_acquire);
}

static void wait_for(const struct placed *p)
{
	uint64_t until = now_us() + WAIT_US;
	struct timespec ts = {.tv_nsec = 200000};

	while (pending(p) > 0 && now_us() < until)
		nanosleep(&ts, NULL);
}

static void drop(struct queue *q, struct placed *p)
{
	struct placed **at = &q->placed;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	free(p);
}

/* The counts when all is done, and then the order is forgotten; else its number. */
static json_t *report(struct queue *q, struct placed *p)
{
	unsigned count[RELAY_RESULTS] = {0}, left = pending(p);
	json_t *results = json_object();
	json_t *answer = json_pack("{s:i, s:o}", "pending", (int)left, "results", results);

	p->asked_s = time(NULL);
	if (left > 0) {
		json_object_set_new(answer, "order", json_integer(p->number));
		return answer;
	}
	for (unsigned i = 0; i < p->order.n; i++)
		count[p->order.targets[i].result]++;
	for (unsigned i = 0; i < RELAY_RESULTS; i++) {
		if (count[i] > 0)
			json_object_set_new(results, result_names[i], json_integer(count[i]));
	}
	drop(q, p);
	return answer;
}

struct order_call {
	struct relay_worker *worker;
	struct relay_order *order;
};

static void on_worker_order(void *arg)
{
	struct order_call *c = arg;

	relay_order(c->worker, c->order);
}

static bool has_pool(const struct gateway *g, const char *name)
{
	for (unsigned i = 0; i < g->config.relay.pool_count; i++) {
		if (strcmp(g->config.relay.pool[i].name, name) == 0)
			return true;
	}
	return false;
}

static bool parse_order(const struct gateway *g, const json_t *request, struct relay_order *o,
			char *error, size_t error_bytes)
{
	const char *verb = json_string_value(json_object_get(request, "verb"));
	const char *reason = json_string_value(json_object_get(request, "reason"));
	const char *pool = json_string_value(json_object_get(request, "to_pool"));
	unsigned i = 0;

	while (i < RELAY_VERBS && (verb == NULL || strcmp(relay_verb_names[i], verb) != 0))
		i++;
	if (i == RELAY_VERBS) {
		snprintf(error, error_bytes,
			 "verb: one of hold, release, retry, route, bounce, delete is wanted");
		return false;
	}
	o->verb = (enum relay_verb)i;
	o->uid = (uint32_t)json_integer_value(json_object_get(request, "uid"));
	for (const char *c = reason; c != NULL && *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f) {
			snprintf(error, error_bytes, "reason: no control characters");
			return false;
		}
	}
	if (reason != NULL && strlen(reason) >= sizeof(o->reason)) {
		snprintf(error, error_bytes, "reason: at most %zu octets", sizeof(o->reason) - 1);
		return false;
	}
	snprintf(o->reason, sizeof(o->reason), "%s", reason != NULL ? reason : "");
	if (o->verb == RELAY_ROUTE && (pool == NULL || !has_pool(g, pool))) {
		snprintf(error, error_bytes, "no pool is named \"%.100s\"",
			 pool != NULL ? pool : "");
		return false;
	}
	if (o->verb == RELAY_ROUTE)
		snprintf(o->pool, sizeof(o->pool), "%s", pool);
	return true;
}

/* All rows of the page; NULL with the reason. */
static struct placed *place(struct walk *k, const struct relay_order *o, char *error,
			    size_t error_bytes)
{
	struct queue *q = k->g->queue;
	struct placed *p = calloc(1, sizeof(*p));
	struct order_call *c = calloc(1, sizeof(*c));
	struct unit *u = &k->g->units[k->of];

	snprintf(error, error_bytes, "out of memory");
	if (p == NULL || c == NULL) {
		free(p);
		free(c);
		return NULL;
	}
	memcpy(&p->order, o, sizeof(*o));
	p->order.n = k->page->n;
	for (unsigned i = 0; i < k->page->n; i++) {
		p->order.targets[i].message = k->page->rows[i].message;
		p->order.targets[i].id = k->page->rows[i].id;
	}
	atomic_store(&p->order.pending, p->order.n);
	p->number = ++q->last_number;
	p->asked_s = time(NULL);
	*c = (struct order_call){u->relay, &p->order};
	int rc = worker_call(u->worker, on_worker_order, c, free, CALL_MS);
	if (rc != -ETIMEDOUT)
		free(c);
	/* a late worker carries it out when it comes to it */
	if (rc == 0 || rc == -ETIMEDOUT) {
		p->next = q->placed;
		q->placed = p;
		return p;
	}
	free(p);
	snprintf(error, error_bytes, "worker %u does not answer: %s", k->of, strerror(-rc));
	return NULL;
}

static unsigned orders_under_way(const struct queue *q)
{
	unsigned n = 0;

	for (const struct placed *p = q->placed; p != NULL; p = p->next)
		n++;
	return n;
}

static json_t *change_page(struct walk *k, const struct relay_order *o, bool dry, char *error,
			   size_t error_bytes)
{
	unsigned n = k->page != NULL ? k->page->n : 0;
	json_t *answer;

	if (n == 0 || dry) {
		answer = json_pack("{s:i, s:{}}", "pending", 0, "results");
	} else {
		struct placed *p = place(k, o, error, error_bytes);
		if (p == NULL)
			return NULL;
		wait_for(p);
		gateway_drain_records(k->g);
		answer = report(k->g->queue, p);
	}
	json_object_set_new(answer, "matched", json_integer(n));
	set_cursor(k, answer);
	return answer;
}

static json_t *change(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;
	bool dry = json_is_true(json_object_get(request, "dry_run"));
	struct relay_order o = {0};
	struct walk k;
	json_t *answer = NULL;

	if (!walk_begin(&k, g, request, error, error_bytes) ||
	    !parse_order(g, request, &o, error, error_bytes))
		return NULL;
	if (k.filter.any && !json_is_true(json_object_get(request, "all"))) {
		snprintf(error, error_bytes, "which messages? all of them: --all");
		return NULL;
	}
	if (orders_under_way(g->queue) >= ORDERS) {
		snprintf(error, error_bytes,
			 "%u orders are still being carried out; is the spool's disk well?",
			 ORDERS);
		return NULL;
	}
	if (walk_on(&k, false, error, error_bytes))
		answer = change_page(&k, &o, dry, error, error_bytes);
	walk_free(&k);
	return answer;
}

static json_t *wait(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct queue *q = ((struct gateway *)arg)->queue;
	json_int_t number = json_integer_value(json_object_get(request, "order"));
	struct placed *p = q->placed;

	while (p != NULL && p->number != number)
		p = p->next;
	if (p == NULL) {
		snprintf(error, error_bytes, "there is no such order");
		return NULL;
	}
	wait_for(p);
	return report(q, p);
}

void queue_tick(struct gateway *g)
{
	time_t now = time(NULL);

	for (struct placed *p = g->queue->placed, *next; p != NULL; p = next) {
		next = p->next;
		if (pending(p) == 0 && now - p->asked_s > FORGET_S)
			drop(g->queue, p);
	}
}

void queue_close(struct gateway *g)
{
	struct queue *q = g->queue;

	if (q == NULL)
		return;
	while (q->placed != NULL)
		drop(q, q->placed);
	peeker_destroy(q->peeker);
	free(q);
	g->queue = NULL;
}

int queue_register(struct gateway *g)
{
	struct queue *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return -ENOMEM;
	g->queue = q;
	q->peeker = peeker_create(g->env.spool);
	if (q->peeker == NULL)
		return -ENOMEM;
	int rc = stats_provide(g->stats, "queue", "messages waiting for delivery, page by page",
			       list, g);
	if (rc == 0)
		rc = stats_provide_action(g->stats, "queue-change",
					  "hold, release, retry, route, bounce or delete a page",
					  change, g);
	if (rc == 0)
		rc = stats_provide_action(g->stats, "queue-wait", "whether an order is carried out",
					  wait, g);
	return rc;
}
