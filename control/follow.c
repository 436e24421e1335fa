/*
 * follow.c - posternctl trace session|user|address: one follower at a time, who asks for more.
 *
 * follow begins, follow-more takes the lines that have come, follow-end ends.  A follower who does
 * not ask for a while has gone and is forgotten.
 */
#include "control/gateway.h"

#include "control/stats.h"
#include "smtp/follow.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { CALL_MS = 2000, PATIENCE_S = 10, LINES_MOST = 2000, STREAMS = 32 };

/* A connection whose TCP events are told, and how far. */
struct stream_seen {
	unsigned unit;
	handle_t handle;
	char tag[12];
	struct tcp_traced last;
	bool told; /* last holds something */
};

struct follower {
	char id[20], what[300];
	time_t asked_s;
	struct smtp_follow *unit[EAL_MAX_WORKERS];
	struct stream_seen stream[STREAMS];
	unsigned n_streams;
};

struct attach {
	struct unit *unit;
	struct smtp_follow *follow; /* NULL: detach */
};

static void on_worker(void *arg)
{
	const struct attach *a = arg;

	smtp_follow_attach(a->unit->smtp, a->follow);
}

/* A late worker does it when it comes to it; then the ring must stay. */
static int attach(struct gateway *g, unsigned i, struct smtp_follow *f)
{
	struct attach *a = malloc(sizeof(*a));

	if (a == NULL)
		return -ENOMEM;
	*a = (struct attach){&g->units[i], f};
	int rc = worker_call(g->units[i].worker, on_worker, a, free, CALL_MS);
	if (rc != -ETIMEDOUT)
		free(a);
	return rc;
}

static void end(struct gateway *g)
{
	struct follower *x = g->follower;
	bool all = true;

	for (unsigned i = 0; i < g->n_units; i++) {
		if (x->unit[i] == NULL)
			continue;
		if (attach(g, i, NULL) == 0) {
			smtp_follow_destroy(x->unit[i]);
			x->unit[i] = NULL;
		} else {
			all = false; /* tried again at the next tick */
		}
	}
	x->id[0] = '\0';
	if (!all)
		return;
	free(x);
	g->follower = NULL;
}

void follow_tick(struct gateway *g)
{
	if (g->follower != NULL &&
	    (g->follower->id[0] == '\0' || time(NULL) - g->follower->asked_s > PATIENCE_S))
		end(g);
}

/* Workers are gone. */
void follow_close(struct gateway *g)
{
	for (unsigned i = 0; g->follower != NULL && i < EAL_MAX_WORKERS; i++)
		smtp_follow_destroy(g->follower->unit[i]);
	free(g->follower);
	g->follower = NULL;
}

/* "192.0.2.0/24" or a single address */
static bool parse_network(const char *text, struct smtp_follow_filter *f)
{
	char addr[64];
	const char *slash = strchr(text, '/');
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
	char *stop = NULL;

	if (n >= sizeof(addr))
		return false;
	memcpy(addr, text, n);
	addr[n] = '\0';
	if (!addr_parse(addr, &f->addr))
		return false;
	unsigned most = f->addr.family == 6 ? 128 : 32;
	f->bits = most;
	if (slash != NULL)
		f->bits = (unsigned)strtoul(slash + 1, &stop, 10);
	return f->bits <= most && (slash == NULL || (stop != slash + 1 && *stop == '\0'));
}

static bool parse_filter(const json_t *request, struct smtp_follow_filter *f, char *error,
			 size_t error_bytes)
{
	static const char *const keys[] = {
		[SMTP_FOLLOW_SESSION] = "session",
		[SMTP_FOLLOW_USER] = "user",
		[SMTP_FOLLOW_ADDRESS] = "address",
	};

	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const char *v = json_string_value(json_object_get(request, keys[i]));
		if (v == NULL || strlen(v) >= sizeof(f->name))
			continue;
		f->by = (enum smtp_follow_by)i;
		snprintf(f->name, sizeof(f->name), "%s", v);
		if (i != SMTP_FOLLOW_ADDRESS || parse_network(v, f))
			return true;
		snprintf(error, error_bytes, "\"%.100s\" is no address and no network", v);
		return false;
	}
	snprintf(error, error_bytes, "one of session, user and address is wanted");
	return false;
}

static json_t *begin(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;
	struct smtp_follow_filter f = {0};

	if (!parse_filter(request, &f, error, error_bytes))
		return NULL;
	if (g->follower != NULL) {
		snprintf(error, error_bytes, "somebody follows %s already; one at a time",
			 g->follower->what);
		return NULL;
	}
	struct follower *x = g->follower = calloc(1, sizeof(*x));
	if (x == NULL) {
		snprintf(error, error_bytes, "out of memory");
		return NULL;
	}
	snprintf(x->what, sizeof(x->what), "%s", f.name);
	snprintf(x->id, sizeof(x->id), "%lx",
		 (unsigned long)time(NULL) ^ (unsigned long)(uintptr_t)x);
	x->asked_s = time(NULL);
	for (unsigned i = 0; i < g->n_units; i++) {
		x->unit[i] = smtp_follow_create(&f);
		if (x->unit[i] != NULL && attach(g, i, x->unit[i]) == 0)
			continue;
		snprintf(error, error_bytes, "worker %u does not answer", i);
		end(g);
		return NULL;
	}
	return json_pack("{s:s}", "id", x->id);
}

static struct follower *asked(struct gateway *g, const json_t *request, char *error,
			      size_t error_bytes)
{
	const char *id = json_string_value(json_object_get(request, "id"));

	if (id != NULL && g->follower != NULL && id[0] != '\0' && strcmp(id, g->follower->id) == 0)
		return g->follower;
	snprintf(error, error_bytes, "nobody follows by that id");
	return NULL;
}

static void add_line(json_t *lines, const struct unit *u, uint64_t at_us, const char *tag,
		     const char *who, const char *text)
{
	char at[40];

	reports_time((int64_t)at_us + u->worker->shard.wall_offset_us, at);
	json_array_append_new(lines, json_pack("{s:s, s:s, s:s, s:s}", "time", at, "session", tag,
					       "who", who, "text", text));
}

static void note_stream(struct follower *x, unsigned unit, const struct smtp_follow_line *l)
{
	if (l->stream == 0)
		return;
	for (unsigned i = 0; i < x->n_streams; i++) {
		if (x->stream[i].handle == l->stream && x->stream[i].unit == unit)
			return;
	}
	/* the oldest connection's events are told no more */
	if (x->n_streams == STREAMS)
		memmove(x->stream, x->stream + 1, --x->n_streams * sizeof(x->stream[0]));
	struct stream_seen *s = &x->stream[x->n_streams++];
	*s = (struct stream_seen){.unit = unit, .handle = l->stream};
	memcpy(s->tag, l->tag, sizeof(s->tag));
}

struct events {
	json_t *lines;
	const struct unit *unit;
	struct stream_seen *seen;
	bool fresh;
};

static bool same_event(const struct tcp_traced *a, const struct tcp_traced *b)
{
	return a->at_us == b->at_us && a->event == b->event && a->value == b->value;
}

static void add_event(void *arg, const struct tcp_traced *e)
{
	struct events *v = arg;
	char text[120], meaning[80];

	if (v->fresh) {
		snprintf(text, sizeof(text), "%s: %s", tcp_event_name(e->event),
			 tcp_event_text(e, meaning, sizeof(meaning)));
		add_line(v->lines, v->unit, e->at_us, v->seen->tag, "tcp", text);
		v->seen->last = *e;
		v->seen->told = true;
	} else if (same_event(e, &v->seen->last)) {
		v->fresh = true;
	}
}

static json_t *more(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	static const char *const who[] = {
		[SMTP_FOLLOW_CLIENT] = "client",
		[SMTP_FOLLOW_SERVER] = "server",
		[SMTP_FOLLOW_EVENT] = "event",
	};
	struct gateway *g = arg;
	struct follower *x = asked(g, request, error, error_bytes);
	json_t *lines = json_array();
	struct smtp_follow_line l;
	uint64_t lost = 0;

	if (x == NULL) {
		json_decref(lines);
		return NULL;
	}
	x->asked_s = time(NULL);
	for (unsigned i = 0; i < g->n_units; i++) {
		for (unsigned n = 0; n < LINES_MOST && smtp_follow_take(x->unit[i], &l); n++) {
			note_stream(x, i, &l);
			add_line(lines, &g->units[i], l.at_us, l.tag, who[l.kind], l.text);
		}
		lost += smtp_follow_lost(x->unit[i]);
	}
	for (unsigned i = 0; i < x->n_streams; i++) {
		struct stream_seen *s = &x->stream[i];
		struct events v = {lines, &g->units[s->unit], s, !s->told};
		reports_tcp_events(g, s->unit, s->handle, add_event, &v);
	}
	return json_pack("{s:o, s:I}", "lines", lines, "lost", (json_int_t)lost);
}

static json_t *finish(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;

	if (asked(g, request, error, error_bytes) == NULL)
		return NULL;
	end(g);
	return json_pack("{s:b}", "ended", 1);
}

int follow_register(struct gateway *g)
{
	int rc = stats_provide_action(g->stats, "follow",
				      "begin to trace a session, user or address", begin, g);

	if (rc == 0)
		rc = stats_provide_action(g->stats, "follow-more", "what has come since", more, g);
	if (rc == 0)
		rc = stats_provide_action(g->stats, "follow-end", "trace no more", finish, g);
	return rc;
}
