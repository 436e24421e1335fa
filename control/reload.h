/*
 * reload.h - the configuration read again while everything runs.
 *
 * The file is read and checked whole; one fault, and nothing changes.  What may change at run
 * time (schema.c: reloadable) is handed to its layers: certificates, tickets and client CAs as
 * one state of the TLS layer, limits and times as an immutable copy that each worker takes
 * between two turns; the copy before is freed when no worker has it any more.
 *
 * Owner: struct gateway has one struct reload.
 * Runs on: the control thread.
 */
#ifndef CONTROL_RELOAD_H
#define CONTROL_RELOAD_H

#include "control/gateway.h"

/* A "reload" request and SIGHUP.  {"reloaded": true, "certificates_read": n, "applied": [keys],
 * "needs_restart": [keys]} or {"reloaded": false, "faults": [lines]}; also logged. */
json_t *reload_run(struct gateway *g);
int reload_register(struct gateway *g);
/* Once a second: frees what all workers have let go. */
void reload_collect(struct gateway *g);
/* The workers have stopped. */
void reload_close(struct gateway *g);

/* Addresses of next hops have changed. */
void reload_resolved(struct gateway *g);

#endif
