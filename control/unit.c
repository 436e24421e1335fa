/* unit.c - joins the layers of one worker */
#include "control/unit.h"

#include "base/log.h"
#include "base/record.h"
#include "control/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RECORD_BYTES = 1 << 20, SPOOL_RING = 4096, TIME_WAIT_ENTRIES = 65536, MORE_STREAMS = 256 };

static void note_full(int rc)
{
	if (rc < 0)
		log_error("relay",
			  "no queue entry left: a message waits in the spool until the next "
			  "start");
}

static void accepted(void *arg, const struct spool_found *f, const struct spool_request *commit)
{
	struct unit *u = arg;

	note_full(relay_accept(u->relay, f, commit));
}

static void found(void *arg, const struct spool_found *f)
{
	struct unit *u = arg;

	note_full(relay_add(u->relay, f));
}

static unsigned stage_tls(void *arg)
{
	return tls_poll(((struct unit *)arg)->tls);
}

static unsigned stage_auth(void *arg)
{
	return auth_poll(((struct unit *)arg)->auth);
}

/* What the start found goes to whichever worker comes for it and has room; some stays free for
 * what is new. */
static unsigned stage_spool(void *arg)
{
	struct unit *u = arg;
	unsigned n = spool_poll(u->smtp_spool);

	if (relay_queued(u->relay) < u->most_queued)
		n += spool_poll_found(u->env->spool, found, u);
	return n;
}

static void tcp_choices(const struct config_tcp *from, struct tcp_config *to)
{
	static const enum tcp_cookies cookies[] = {
		[CONFIG_COOKIES_NEVER] = TCP_COOKIES_NEVER,
		[CONFIG_COOKIES_PRESSURE] = TCP_COOKIES_UNDER_PRESSURE,
		[CONFIG_COOKIES_ALWAYS] = TCP_COOKIES_ALWAYS,
	};
	static const enum tcp_ecn ecn[] = {
		[CONFIG_ECN_OFF] = TCP_ECN_OFF,
		[CONFIG_ECN_ACCEPT] = TCP_ECN_ACCEPT,
		[CONFIG_ECN_ON] = TCP_ECN_ON,
	};
	static const enum tcp_congestion congestion[] = {
		[CONFIG_CONGESTION_NEWRENO] = TCP_CONGESTION_NEWRENO,
		[CONFIG_CONGESTION_CUBIC] = TCP_CONGESTION_CUBIC,
	};

	to->syn_cookies = cookies[from->syn_cookies];
	to->synacks_per_s = (uint32_t)from->synacks_per_s;
	to->ecn = ecn[from->ecn];
	to->congestion = congestion[from->congestion];
	to->hystart = from->hystart == CONFIG_ON;
	to->blackhole_detection = from->blackhole_detection == CONFIG_ON;
	to->keep_idle_s = (uint32_t)(from->keepalive_us / 1000000);
	to->trace_events = (uint32_t)from->trace_events;
}

static int create_transport(struct unit *u)
{
	const struct config_dataplane *d = &u->env->config->dataplane;
	struct tcp_config c;

	tcp_config_default(&c);
	c.mtu = (uint16_t)d->port[0].mtu;
	for (unsigned i = 1; i < d->port_count; i++) {
		if (d->port[i].mtu < c.mtu)
			c.mtu = (uint16_t)d->port[i].mtu;
	}
	c.max_streams =
		(uint32_t)(d->limits.sessions + settings_hop_room(u->env->config) + MORE_STREAMS);
	c.max_time_wait = TIME_WAIT_ENTRIES;
	c.syn_backlog = (uint32_t)d->limits.syn_backlog;
	tcp_choices(&d->tcp, &c);
	return transport_create(&u->transport, u->env->net, &u->worker->shard, &c);
}

static int create_mail(struct unit *u)
{
	struct shard *shard = &u->worker->shard;
	struct relay_config *rc = malloc(sizeof(*rc));

	u->tls = tls_worker_create(u->env->tls, shard);
	u->auth = auth_client_create(u->env->auth, shard);
	u->smtp_spool = spool_client_create(u->env->spool, SPOOL_RING);
	u->relay_spool = spool_client_create(u->env->spool, SPOOL_RING);
	bool recorded = u->env->config->control.records[0] != '\0';
	if (recorded)
		u->records = records_create(RECORD_BYTES);
	if (u->tls == NULL || u->auth == NULL || u->smtp_spool == NULL || u->relay_spool == NULL ||
	    rc == NULL || (recorded && u->records == NULL)) {
		free(rc);
		return -ENOMEM;
	}
	settings_relay(u->env->config, u->env->resolver, rc);
	u->most_queued = rc->max_messages / 8 * 7;
	struct relay_env re = {
		.shard = shard,
		.tcp = u->transport.tcp,
		.tls = u->tls,
		.spool = u->env->spool,
		.spool_client = u->relay_spool,
		.records = u->records,
		.source_for = transport_source_for,
		.source_arg = &u->transport,
	};
	u->relay = relay_worker_create(&re, rc);
	free(rc);
	struct smtp_env se = {
		.shared = u->env->smtp,
		.shard = shard,
		.tls = u->tls,
		.spool = u->env->spool,
		.spool_client = u->smtp_spool,
		.auth = u->auth,
		.records = u->records,
		.accepted = accepted,
		.accepted_arg = u,
	};
	u->smtp = smtp_worker_create(&se);
	return u->relay != NULL && u->smtp != NULL ? 0 : -ENOMEM;
}

static int listen_all(struct unit *u)
{
	const struct config *c = u->env->config;

	for (unsigned i = 0; i < c->listener_count; i++) {
		u->listeners[i] = (struct smtp_listener){
			.worker = u->smtp,
			.implicit_tls = c->listener[i].tls == CONFIG_TLS_IMPLICIT,
			.name = c->listener[i].name,
			.duplicates_us = c->listener[i].duplicates_us,
		};
		settings_policy(c, i, &u->listeners[i].policy);
		struct tcp_listen l = {
			.port = (uint16_t)c->listener[i].port,
			.events = &smtp_stream_events,
			.user = &u->listeners[i],
			.admit = smtp_admit,
		};
		int rc = tcp_listen(u->transport.tcp, &l);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int unit_create(struct unit *u, const struct unit_env *env, unsigned index, char *error,
		size_t error_bytes)
{
	const struct config_dataplane *d = &env->config->dataplane;
	struct worker_config wc = {
		.index = index,
		.core = (unsigned)d->worker[index],
		.adaptive = d->idle == CONFIG_IDLE_ADAPTIVE,
		.chunk_bytes = env->chunk_bytes,
	};
	int rc = -ENOMEM;

	u->env = env;
	u->worker = worker_create(&wc);
	if (u->worker != NULL)
		rc = create_transport(u);
	if (rc == 0)
		rc = create_mail(u);
	if (rc == 0)
		rc = listen_all(u);
	if (rc < 0) {
		snprintf(error, error_bytes, "worker %u: %s; dataplane.memory may be too small",
			 index, strerror(-rc));
		return rc;
	}
	worker_add_stage(u->worker, "receive", net_receive, u->transport.net_worker);
	worker_add_stage(u->worker, "tls", stage_tls, u);
	worker_add_stage(u->worker, "auth", stage_auth, u);
	worker_add_stage(u->worker, "spool", stage_spool, u);
	worker_add_stage(u->worker, "relay", relay_poll, u->relay);
	worker_add_stage(u->worker, "tcp", transport_flush, &u->transport);
	worker_add_stage(u->worker, "transmit", net_transmit, u->transport.net_worker);
	return 0;
}

void unit_destroy(struct unit *u)
{
	/* takes back the checks that still lie in the SMTP worker's memory */
	if (u->auth != NULL)
		auth_client_destroy(u->auth);
	smtp_worker_destroy(u->smtp);
	relay_worker_destroy(u->relay);
	/* the resets of what was aborted still leave */
	if (u->transport.tcp != NULL && u->transport.net_worker != NULL) {
		tcp_flush(u->transport.tcp);
		net_transmit(u->transport.net_worker);
	}
	tls_worker_destroy(u->tls);
	if (u->smtp_spool != NULL)
		spool_client_destroy(u->smtp_spool);
	if (u->relay_spool != NULL)
		spool_client_destroy(u->relay_spool);
	transport_destroy(&u->transport);
	records_destroy(u->records);
	worker_destroy(u->worker);
	*u = (struct unit){0};
}

static int register_costs(struct unit *u, struct stats *stats)
{
	static const struct counter_desc desc = {"tls_handshake_cpu_us", "microseconds",
						 "CPU time of a server handshake on its thread"};
	static const char *const kinds[TLS_KINDS] = {
		[TLS_FULL_ECDSA] = "full_ecdsa",
		[TLS_FULL_RSA] = "full_rsa",
		[TLS_RESUMED_1_3] = "resumed_1_3",
		[TLS_RESUMED_1_2] = "resumed_1_2",
	};
	const struct tls_cost *costs = tls_costs(u->tls);
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < TLS_KINDS; i++) {
		struct stats_histogram h = {
			.desc = &desc,
			.label = "kind",
			.value = kinds[i],
			.bounds = tls_cost_bounds_us,
			.n = TLS_COST_BUCKETS - 1,
			.bucket = costs[i].bucket,
			.sum = &costs[i].sum_us,
			.worker = (int)u->worker->shard.index,
		};
		rc = stats_add_histogram(stats, &h);
	}
	return rc;
}

int unit_register(struct unit *u, struct stats *stats)
{
	const struct {
		const struct counter_desc *desc;
		unsigned count;
		const uint64_t *values;
	} sets[] = {
		{worker_counter_desc, worker_counter_count, u->worker->counters},
		{net_counter_desc, net_counter_count, net_counters(u->transport.net_worker)},
		{tcp_counter_desc, tcp_counter_count, tcp_counters(u->transport.tcp)},
		{tls_counter_desc, tls_counter_count, tls_counters(u->tls)},
		{auth_counter_desc, auth_counter_count, auth_client_counters(u->auth)},
		{smtp_counter_desc, smtp_counter_count, smtp_counters(u->smtp)},
		{relay_counter_desc, relay_counter_count, relay_counters(u->relay)},
	};

	for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++) {
		int rc = stats_add(stats, sets[i].desc, sets[i].count, sets[i].values,
				   (int)u->worker->shard.index);
		if (rc < 0)
			return rc;
	}
	return register_costs(u, stats);
}

void unit_drain(struct unit *u)
{
	tcp_stop_listening(u->transport.tcp);
	smtp_drain(u->smtp);
	relay_drain(u->relay);
}

bool unit_idle(const struct unit *u)
{
	return smtp_sessions_open(u->smtp) == 0 && smtp_spool_pending(u->smtp) == 0 &&
	       relay_idle(u->relay);
}

void unit_settle(struct unit *u, unsigned timeout_ms)
{
	for (unsigned ms = 0; ms < timeout_ms; ms++) {
		struct timespec ts = {.tv_nsec = 1000000};
		unsigned work = spool_poll(u->smtp_spool) + spool_poll(u->relay_spool);
		if (work == 0 && smtp_spool_pending(u->smtp) == 0 && relay_settled(u->relay))
			return;
		nanosleep(&ts, NULL);
	}
}
