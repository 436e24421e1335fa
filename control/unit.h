/*
 * unit.h - one worker with all its layers, wired to each other.
 *
 * The only place that knows every layer: packets go from net to tcp, streams from tcp to the
 * listeners of smtp, messages from smtp to relay.
 *
 * Owner: the gateway; created and destroyed on the main thread while the worker does not run.
 * Runs on: after worker_launch(), everything inside belongs to the worker; the control thread
 *          looks in by worker_call() only.
 */
#ifndef CONTROL_UNIT_H
#define CONTROL_UNIT_H

#include "control/config.h"
#include "control/stats.h"
#include "control/transport.h"
#include "dataplane/core/worker.h"
#include "smtp/auth/auth.h"
#include "smtp/relay/relay.h"
#include "smtp/smtp.h"
#include "smtp/spool/spool.h"
#include "tls/tls.h"

/* What all units share. */
struct unit_env {
	const struct config *config;
	struct net *net;
	struct tls *tls;
	struct auth *auth;
	struct spool *spool;
	struct smtp_shared *smtp;
	uint64_t chunk_bytes; /* a worker's */
	struct resolver *resolver;
};

struct unit {
	struct worker *worker;
	struct transport transport;
	struct tls_worker *tls;
	struct auth_client *auth;
	struct spool_client *smtp_spool, *relay_spool;
	struct records *records; /* NULL: not wanted */
	struct smtp_worker *smtp;
	struct relay_worker *relay;
	unsigned most_queued; /* with more in the relay, nothing that the start found is taken */
	struct smtp_listener listeners[CONFIG_LISTENERS];
	const struct unit_env *env;
	struct limits *limits; /* reload.c: those taken last; NULL: those of the start */
};

/* 0, or -errno with a text; what was created is left for unit_destroy(). */
int unit_create(struct unit *u, const struct unit_env *env, unsigned index, char *error,
		size_t error_bytes);
void unit_destroy(struct unit *u);
/* 0 or -ENOMEM */
int unit_register(struct unit *u, struct stats *stats);
/* On the worker (or when it does not run): no new work. */
void unit_drain(struct unit *u);
/* On the worker (or when it does not run): nothing is under way. */
bool unit_idle(const struct unit *u);
/* The worker has stopped: waits for the spool to give back what it has, at most so long. */
void unit_settle(struct unit *u, unsigned timeout_ms);

#endif
