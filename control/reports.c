/*
 * reports.c - status, sessions and traces: the worker copies rows into a bounded buffer between
 * two turns, the control thread makes JSON of them.
 */
#include "control/gateway.h"

#include "dataplane/tcp/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 512, CALL_MS = 2000, TEXT = 160 };

struct session_row {
	struct smtp_session_info info;
	char user[AUTH_USER_BYTES];
};

struct hop_row {
	struct relay_hop_info info;
	struct relay_hop hop;
	char pool[RELAY_NAME];
	char last_error[TEXT];
};

struct event_rows {
	struct tcp_traced event[ROWS];
	struct ip_addr peer[ROWS];
	uint16_t port[ROWS]; /* 0: the connection is gone */
};

/* One question to one worker; it may outlive the asker when the worker is late. */
struct question {
	struct unit *unit;
	uint64_t now_us;
	int64_t wall_s, wall_offset_us;
	handle_t connection; /* 0: all */
	unsigned total, n;   /* found, kept in rows */
	unsigned sessions, queued, streams, chunk_percent;
	union {
		struct session_row sessions[ROWS];
		struct hop_row hops[RELAY_POOLS * RELAY_HOPS];
		struct event_rows trace;
	} rows;
};

static void keep_session(void *arg, const struct smtp_session_info *i)
{
	struct question *q = arg;

	q->total++;
	if (q->n == ROWS)
		return;
	struct session_row *r = &q->rows.sessions[q->n++];
	r->info = *i;
	snprintf(r->user, sizeof(r->user), "%s", i->user);
}

static void keep_hop(void *arg, const struct relay_hop_info *i)
{
	struct question *q = arg;
	struct hop_row *r = &q->rows.hops[q->n++];

	r->info = *i;
	r->hop = *i->hop;
	snprintf(r->pool, sizeof(r->pool), "%s", i->pool);
	snprintf(r->last_error, sizeof(r->last_error), "%s", i->last_error);
}

static void note_time(struct question *q)
{
	q->now_us = q->unit->worker->shard.now_us;
	q->wall_s = shard_wall_s(&q->unit->worker->shard);
	q->wall_offset_us = q->unit->worker->shard.wall_offset_us;
}

static void on_worker_sessions(void *arg)
{
	struct question *q = arg;

	note_time(q);
	smtp_each_session(q->unit->smtp, keep_session, q);
}

static void on_worker_trace(void *arg)
{
	struct question *q = arg;
	struct tcp_stack *t = q->unit->transport.tcp;
	struct event_rows *r = &q->rows.trace;

	note_time(q);
	q->n = q->total = tcp_trace_read(t, q->connection, r->event, ROWS);
	for (unsigned i = 0; i < q->n; i++) {
		const struct stream *s = stream_by_handle(t, r->event[i].handle);
		if (s != NULL)
			stream_peer(s, &r->peer[i], &r->port[i]);
	}
}

static void on_worker_status(void *arg)
{
	struct question *q = arg;

	note_time(q);
	q->sessions = smtp_sessions_open(q->unit->smtp);
	q->queued = relay_queued(q->unit->relay);
	q->streams = tcp_stream_count(q->unit->transport.tcp);
	q->chunk_percent = chunk_pool_percent(q->unit->worker->shard.chunks);
	relay_each_hop(q->unit->relay, keep_hop, q);
}

/* Asks one worker; NULL with the reason in error.  connection: 0, or whose events are wanted. */
static struct question *ask_about(struct unit *u, void (*fn)(void *arg), handle_t connection,
				  char *error, size_t error_bytes)
{
	struct question *q = calloc(1, sizeof(*q));

	if (q == NULL) {
		snprintf(error, error_bytes, "out of memory");
		return NULL;
	}
	q->unit = u;
	q->connection = connection;
	int rc = worker_call(u->worker, fn, q, free, CALL_MS);
	if (rc == 0)
		return q;
	/* after a time-out the worker frees it */
	if (rc != -ETIMEDOUT)
		free(q);
	snprintf(error, error_bytes, "worker %u does not answer: %s", u->worker->shard.index,
		 strerror(-rc));
	return NULL;
}

static struct question *ask(struct unit *u, void (*fn)(void *arg), char *error, size_t error_bytes)
{
	return ask_about(u, fn, 0, error, error_bytes);
}

static json_t *session_json(const struct session_row *r, unsigned worker)
{
	char peer[ADDR_TEXT_BYTES];

	return json_pack("{s:s, s:i, s:s, s:i, s:s, s:s, s:b, s:i, s:I, s:I}", "id", r->info.tag,
			 "worker", (int)worker, "peer", addr_text(&r->info.peer, peer), "port",
			 (int)r->info.peer_port, "state", r->info.state, "user", r->user, "tls",
			 (int)r->info.tls, "messages", (int)r->info.messages, "age_s",
			 (json_int_t)(r->info.age_us / 1000000), "body_bytes",
			 (json_int_t)r->info.body_bytes);
}

static json_t *sessions(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;
	json_t *rows = json_array();
	json_int_t total = 0;

	for (unsigned i = 0; i < g->n_units; i++) {
		struct question *q = ask(&g->units[i], on_worker_sessions, error, error_bytes);
		if (q == NULL) {
			json_decref(rows);
			return NULL;
		}
		total += q->total;
		for (unsigned k = 0; k < q->n; k++)
			json_array_append_new(rows, session_json(&q->rows.sessions[k], i));
		free(q);
	}
	return json_pack("{s:I, s:I, s:o}", "total", total, "shown",
			 (json_int_t)json_array_size(rows), "sessions", rows);
}

const char *reports_time(int64_t wall_us, char text[40])
{
	time_t s = (time_t)(wall_us / 1000000);
	struct tm tm;

	gmtime_r(&s, &tm);
	size_t n = strftime(text, 40, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, 40 - n, ".%03dZ", (int)(wall_us / 1000 % 1000));
	return text;
}

/* One line: when, where, whose, what. */
static json_t *event_json(const struct question *q, unsigned i, unsigned worker)
{
	const struct tcp_traced *e = &q->rows.trace.event[i];
	char at[40], handle[24], peer[ADDR_TEXT_BYTES + 12] = "gone", addr[ADDR_TEXT_BYTES];
	char text[80];

	snprintf(handle, sizeof(handle), "%" PRIx64, e->handle);
	if (q->rows.trace.port[i] != 0)
		snprintf(peer, sizeof(peer), "%s port %u", addr_text(&q->rows.trace.peer[i], addr),
			 q->rows.trace.port[i]);
	return json_pack("{s:s, s:i, s:s, s:s, s:s, s:I, s:s}", "time",
			 reports_time((int64_t)e->at_us + q->wall_offset_us, at), "worker",
			 (int)worker, "connection", handle, "peer", peer, "event",
			 tcp_event_name(e->event), "value", (json_int_t)e->value, "meaning",
			 tcp_event_text(e, text, sizeof(text)));
}

/* 0 without "connection"; false: it is none. */
static bool connection_asked(const json_t *request, handle_t *h)
{
	const json_t *v = json_object_get(request, "connection");
	const char *text = json_string_value(v);
	char *end = NULL;

	*h = text != NULL ? strtoull(text, &end, 16) : 0;
	return v == NULL || (text != NULL && end != text && *end == '\0' && *h != 0);
}

static json_t *trace_report(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;
	json_t *rows = json_array();
	handle_t h;

	if (!connection_asked(request, &h)) {
		snprintf(error, error_bytes, "connection is the hexadecimal number of a trace");
		json_decref(rows);
		return NULL;
	}
	for (unsigned i = 0; i < g->n_units; i++) {
		struct question *q =
			ask_about(&g->units[i], on_worker_trace, h, error, error_bytes);
		if (q == NULL) {
			json_decref(rows);
			return NULL;
		}
		for (unsigned k = 0; k < q->n; k++)
			json_array_append_new(rows, event_json(q, k, i));
		free(q);
	}
	return rows;
}

void reports_tcp_events(struct gateway *g, unsigned unit, handle_t h,
			void (*event)(void *arg, const struct tcp_traced *e), void *arg)
{
	char error[STATS_ERROR_BYTES];
	struct question *q = ask_about(&g->units[unit], on_worker_trace, h, error, sizeof(error));

	for (unsigned k = 0; q != NULL && k < q->n; k++)
		event(arg, &q->rows.trace.event[k]);
	free(q);
}

static json_t *worker_json(const struct unit *u, const struct question *q)
{
	const uint64_t *c = u->worker->counters;
	double productive = (double)counter_read(&c[worker_productive_cycles]);
	double idle = (double)counter_read(&c[worker_idle_cycles]);

	return json_pack("{s:i, s:i, s:i, s:i, s:i, s:i, s:f}", "index",
			 (int)u->worker->shard.index, "core", (int)u->worker->core, "sessions",
			 (int)q->sessions, "queued", (int)q->queued, "streams", (int)q->streams,
			 "chunk_percent", (int)q->chunk_percent, "productive_percent",
			 productive + idle > 0 ? 100 * productive / (productive + idle) : 0.0);
}

static json_t *hop_json(const struct hop_row *r, unsigned worker)
{
	char addr[ADDR_TEXT_BYTES];

	return json_pack("{s:i, s:s, s:s, s:i, s:s, s:i, s:b, s:s}", "worker", (int)worker, "pool",
			 r->pool, "address", addr_text(&r->hop.address, addr), "port",
			 (int)r->hop.port, "name", r->hop.name, "connections",
			 (int)r->info.connections, "down", (int)r->info.down, "last_error",
			 r->last_error);
}

static json_t *recovery_json(struct gateway *g)
{
	static const char *const stages[] = {
		[SPOOL_RECOVERY_SCAN] = "scanning",     [SPOOL_RECOVERY_TAKE] = "taking over",
		[SPOOL_RECOVERY_HAND] = "handing over", [SPOOL_RECOVERY_DONE] = "done",
		[SPOOL_RECOVERY_FAILED] = "failed",
	};
	struct spool_progress p;

	spool_recovery_progress(g->env.spool, &p);
	return json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:f}", "done",
			 p.stage == SPOOL_RECOVERY_DONE, "stage", stages[p.stage], "segments",
			 (json_int_t)p.segments, "segments_done", (json_int_t)p.segments_done,
			 "bytes", (json_int_t)p.bytes, "bytes_done", (json_int_t)p.bytes_done,
			 "found", (json_int_t)p.found, "seconds", p.seconds);
}

static json_t *spool_json(struct gateway *g)
{
	struct spool_status s;

	spool_status(g->env.spool, &s);
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o}", "messages",
			 (json_int_t)s.messages, "bytes_used", (json_int_t)s.bytes_used,
			 "bytes_max", (json_int_t)s.bytes_max, "segments", (json_int_t)s.segments,
			 "large_files", (json_int_t)s.large_files, "recovered",
			 (json_int_t)s.recovered, "torn_bytes", (json_int_t)s.torn_bytes,
			 "quarantined", (json_int_t)s.quarantined, "recovery", recovery_json(g));
}

static json_t *status(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	struct gateway *g = arg;
	json_t *workers = json_array(), *hops = json_array();
	json_int_t total_sessions = 0, total_queued = 0;

	for (unsigned i = 0; i < g->n_units; i++) {
		struct question *q = ask(&g->units[i], on_worker_status, error, error_bytes);
		if (q == NULL) {
			json_decref(workers);
			json_decref(hops);
			return NULL;
		}
		total_sessions += q->sessions;
		total_queued += q->queued;
		json_array_append_new(workers, worker_json(&g->units[i], q));
		for (unsigned k = 0; k < q->n; k++)
			json_array_append_new(hops, hop_json(&q->rows.hops[k], i));
		free(q);
	}
	return json_pack("{s:s, s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o}", "version",
			 POSTERN_VERSION, "hostname", g->config.hostname, "pid", (int)getpid(),
			 "state", g->draining ? "draining" : "running", "uptime_s",
			 (json_int_t)(time(NULL) - g->started_s), "sessions", total_sessions,
			 "queued", total_queued, "tls_bytes", (json_int_t)tls_memory_used(),
			 "spool", spool_json(g), "workers", workers, "next_hops", hops);
}

int reports_register(struct gateway *g)
{
	static const struct {
		const char *name, *help;
		stats_command *make;
	} commands[] = {
		{"status", "the daemon at a glance", status},
		{"sessions", "open sessions", sessions},
		{"trace", "the latest events of TCP connections", trace_report},
	};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < sizeof(commands) / sizeof(commands[0]); i++)
		rc = stats_provide(g->stats, commands[i].name, commands[i].help, commands[i].make,
				   g);
	return rc;
}
