/*
 * server.h - the control socket: one JSON request a line, one JSON reply a line.
 *
 * Request {"command": NAME, ...}; reply {"ok": true, "result": ...} or {"ok": false,
 * "error": TEXT}.  Commands find the asker's user id in the request, as "uid".  The commands are
 * those of stats.h.  Only the owner of the socket may connect (mode 0600).  Clients, their requests
 * and their silence are bounded.
 *
 * Owner: the control thread.
 * Runs on: the control thread, inside server_poll().
 * Errors: 0 or -errno with a text that names the remedy.
 */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

#include "control/stats.h"

enum {
	SERVER_CLIENTS = 16,
	SERVER_REQUEST_BYTES = 16 << 10,
	SERVER_SILENCE_MS = 30000, /* a client that says nothing is closed */
};

struct server;

/* A socket file nobody answers on is replaced; one that is answered is -EADDRINUSE. */
int server_open(struct server **s, const char *socket_path, struct stats *stats, char *error,
		size_t error_bytes);
/* Serves what there is, waiting for it up to timeout_ms: the control thread's pause. */
void server_poll(struct server *s, int timeout_ms);
void server_close(struct server *s);

#endif
