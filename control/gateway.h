/*
 * gateway.h - the whole daemon: what is started in which order, and stopped in which.
 *
 * Everything is opened before anything serves, so a fault leaves nothing half-started.
 *
 * Owner: main().  Runs on: the main thread, which is the control thread.
 * Errors: -errno with one line that names the place and the remedy.
 */
#ifndef CONTROL_GATEWAY_H
#define CONTROL_GATEWAY_H

#include "control/config.h"
#include "control/http.h"
#include "control/records.h"
#include "control/server.h"
#include "control/stats.h"
#include "control/unit.h"
#include "dataplane/tcp/trace.h"

enum { GATEWAY_DRAIN_MS = 15000 };

struct gateway {
	struct config config;
	struct unit_env env;
	struct unit units[CONFIG_WORKERS];
	unsigned n_units;
	uint64_t hop_room; /* connections to next hops that the tables were made for */
	const char *config_file;
	struct limits *limits;           /* reload.c */
	struct record_file *record_file; /* NULL: no records */
	struct queue *queue;             /* queue.c */
	struct follower *follower;       /* follow.c; NULL: nobody */
	struct stats *stats;
	struct server *server;
	struct http *http;
	bool eal, running, draining;
	int64_t started_s;
	uint64_t watched_loops[CONFIG_WORKERS];
	unsigned stalled_s[CONFIG_WORKERS];
};

int gateway_open(struct gateway *g, char *error, size_t error_bytes);
int gateway_start(struct gateway *g, char *error, size_t error_bytes);
/* One turn of the control thread: requests, logs, users file, watchdog.  Waits up to a tenth
 * of a second. */
void gateway_turn(struct gateway *g);
/* Writes the records that have come; a turn does, and whoever makes many at once. */
void gateway_drain_records(struct gateway *g);
/* Refuses new sessions, lets transactions end, stops the workers. */
void gateway_drain(struct gateway *g);
void gateway_close(struct gateway *g);
/* The resolver learns the host names of the configuration. */
void gateway_resolve(struct gateway *g);

/* reports.c: registers status, sessions and trace */
int reports_register(struct gateway *g);
/* limits.c: posternctl limits */
int limits_register(struct gateway *g);
/* follow.c: posternctl trace session|user|address */
int follow_register(struct gateway *g);
void follow_tick(struct gateway *g);  /* about once a second */
void follow_close(struct gateway *g); /* when no worker runs */
/* reports.c: the latest TCP events of a connection, the oldest first; "2026-11-25T04:24:39.050Z" */
void reports_tcp_events(struct gateway *g, unsigned unit, handle_t h,
			void (*event)(void *arg, const struct tcp_traced *e), void *arg);
const char *reports_time(int64_t wall_us, char text[40]);

#endif
