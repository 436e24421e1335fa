/* gateway.c - start, turn and stop of the daemon */
#include "control/gateway.h"
#include "control/queue.h"
#include "control/reload.h"
#include "control/settings.h"

#include "base/log.h"
#include "dataplane/core/eal.h"
#include "smtp/auth/jwt.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum {
	PACKET_GROSS = 2560, /* an mbuf with its headroom and header */
	PACKETS_LEAST = 4096,
	PACKETS_MOST = 262144,
	MEMORY_A_PACKET = 16384, /* one packet buffer for each of these bytes of `memory` */
	EAL_SLACK = 12 << 20,
	NICE = 10,
	STALL_S = 2,
	READERS = 2,
	SEGMENT_SHARE = 8, /* a segment is at most an eighth of the spool */
	SEGMENT_MOST = 64 << 20,
	SEGMENT_LEAST = 4 << 20,
};

static uint32_t packet_count(const struct config *c)
{
	uint64_t n = c->dataplane.memory / MEMORY_A_PACKET;

	return (uint32_t)(n < PACKETS_LEAST ? PACKETS_LEAST : n > PACKETS_MOST ? PACKETS_MOST : n);
}

/* Three eighths of `memory` are chunks, three eighths OpenSSL's, the rest packets and tables. */
static uint64_t chunk_bytes(const struct config *c)
{
	uint64_t each = c->dataplane.memory * 3 / 8 / c->dataplane.worker_count;

	return each / 65536 * 65536;
}

static const enum net_steering steering[] = {
	[CONFIG_STEERING_AUTO] = NET_STEERING_AUTO,
	[CONFIG_STEERING_RSS] = NET_STEERING_RSS,
	[CONFIG_STEERING_SOFTWARE] = NET_STEERING_SOFTWARE,
};

static int open_dataplane(struct gateway *g, char *error, size_t error_bytes)
{
	const struct config_dataplane *d = &g->config.dataplane;
	static const enum eal_hugepages huge[] = {
		[CONFIG_HUGEPAGES_AUTO] = EAL_HUGE_AUTO,
		[CONFIG_HUGEPAGES_REQUIRED] = EAL_HUGE_REQUIRED,
		[CONFIG_HUGEPAGES_OFF] = EAL_HUGE_OFF,
	};
	unsigned cores[CONFIG_WORKERS];
	const char *devices[CONFIG_PORTS];

	for (unsigned i = 0; i < d->worker_count; i++)
		cores[i] = (unsigned)d->worker[i];
	for (unsigned i = 0; i < d->port_count; i++)
		devices[i] = d->port[i].device;
	struct eal_config ec = {
		.cores = cores,
		.n_workers = d->worker_count,
		.devices = devices,
		.n_devices = d->port_count,
		.bytes = (uint64_t)packet_count(&g->config) * PACKET_GROSS +
			 d->worker_count * (chunk_bytes(&g->config) + (1 << 20)) + EAL_SLACK,
		.hugepages = huge[d->hugepages],
	};
	int rc = eal_start(&ec, error, error_bytes);
	if (rc < 0)
		return rc;
	g->eal = true;
	struct net_config nc = {
		.n_ports = d->port_count,
		.n_workers = d->worker_count,
		.packets = packet_count(&g->config),
	};
	for (unsigned i = 0; i < d->port_count; i++) {
		struct net_port_config *p = &nc.ports[i];
		p->steering = steering[d->port[i].steering];
		p->device = d->port[i].device;
		p->mtu = (uint16_t)d->port[i].mtu;
		p->vlan = (uint16_t)d->port[i].vlan;
		p->n_addresses = d->port[i].address_count;
		for (unsigned k = 0; k < p->n_addresses; k++) {
			p->addresses[k].addr = d->port[i].address[k].addr;
			p->addresses[k].prefix = d->port[i].address[k].bits;
		}
		p->n_routes = d->port[i].static_route_count;
		for (unsigned k = 0; k < p->n_routes; k++) {
			p->routes[k].to.addr = d->port[i].static_route[k].to.addr;
			p->routes[k].to.prefix = d->port[i].static_route[k].to.bits;
			p->routes[k].via = d->port[i].static_route[k].via;
		}
		for (unsigned k = 0; k < d->port[i].gateway_count; k++) {
			const struct ip_addr *gateway = &d->port[i].gateway[k];
			struct ip_addr *of = gateway->family == 6 ? &p->gateway6 : &p->gateway4;
			if (of->family == 0)
				*of = *gateway;
		}
	}
	return net_create(&g->env.net, &nc, error, error_bytes);
}

static int open_spool(struct gateway *g, char *error, size_t error_bytes)
{
	const struct config_spool *s = &g->config.spool;
	uint64_t segment = s->max_size / SEGMENT_SHARE;
	struct spool_config sc = {
		.directory = s->directory,
		.max_size = s->max_size,
		.max_delay_us = (uint32_t)s->commit.max_delay_us,
		.max_bytes = s->commit.max_bytes,
		.readers = READERS,
		.io = &spool_io_linux,
	};

	segment = segment > SEGMENT_MOST ? SEGMENT_MOST : segment;
	sc.segment_size = segment < SEGMENT_LEAST ? SEGMENT_LEAST : segment;
	return spool_open(&g->env.spool, &sc, error, error_bytes);
}

static int open_credentials(struct gateway *g, char *error, size_t error_bytes)
{
	struct tls_settings *ts = malloc(sizeof(*ts));
	struct auth_config ac;

	if (ts == NULL)
		return -ENOMEM;
	settings_tls(&g->config, ts);
	int rc = tls_open(&g->env.tls, &ts->c, error, error_bytes);
	free(ts);
	settings_auth(&g->config, &ac);
	return rc < 0 ? rc : auth_open(&g->env.auth, &ac, error, error_bytes);
}

static int open_limits(struct gateway *g)
{
	struct smtp_config sc;

	settings_smtp(&g->config, &sc);
	g->env.smtp = smtp_shared_create(&sc);
	return g->env.smtp != NULL ? 0 : -ENOMEM;
}

static int open_resolver(struct gateway *g, char *error, size_t error_bytes)
{
	const struct config_relay *r = &g->config.relay;
	char servers[CONFIG_RESOLVERS * (ADDR_TEXT_BYTES + 1)] = "", text[ADDR_TEXT_BYTES];

	for (unsigned i = 0; i < r->resolver_count; i++) {
		strcat(servers, i > 0 ? "," : "");
		strcat(servers, addr_text(&r->resolver[i], text));
	}
	int rc = resolver_open(&g->env.resolver, servers, error, error_bytes);
	if (rc == 0)
		gateway_resolve(g);
	return rc;
}

void gateway_resolve(struct gateway *g)
{
	static char names[RESOLVER_NAMES][RESOLVER_NAME];

	resolver_names(g->env.resolver, names, settings_hop_names(&g->config, names));
}

static int open_units(struct gateway *g, char *error, size_t error_bytes)
{
	int rc = 0;

	g->env.config = &g->config;
	g->hop_room = settings_hop_room(&g->config);
	g->env.chunk_bytes = chunk_bytes(&g->config);
	for (unsigned i = 0; rc == 0 && i < g->config.dataplane.worker_count; i++) {
		g->n_units = i + 1;
		rc = unit_create(&g->units[i], &g->env, i, error, error_bytes);
		if (rc == 0)
			rc = unit_register(&g->units[i], g->stats);
	}
	return rc;
}

static uint64_t tls_bytes(void *arg)
{
	return tls_memory_used();
}

static int gauges_register(struct gateway *g)
{
	static const struct {
		struct counter_desc desc;
		uint64_t (*read)(void *arg);
	} gauges[] = {
		{{"tls_bytes", "bytes", "memory that OpenSSL holds"}, tls_bytes},
		{{"tls_certificate_days_left", "days",
		  "until the first of the configured certificates expires"},
		 tls_days_left},
		{{"tls_retired_contexts", "sets",
		  "certificates and contexts of former configurations that sessions still use"},
		 tls_retired},
	};
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < sizeof(gauges) / sizeof(gauges[0]); i++)
		rc = stats_gauge(g->stats, &gauges[i].desc, gauges[i].read, g->env.tls,
				 STATS_NO_WORKER);
	return rc;
}

static const struct counter_desc lost_desc = {"records_lost", "records",
					      "records that came too fast for their file"};

static uint64_t read_lost(void *records)
{
	return records_lost(records);
}

static const struct counter_desc unwritten_desc = {"records_unwritten", "records",
						   "records that their file did not take"};

static uint64_t read_unwritten(void *file)
{
	return record_file_lost(file);
}

static int open_records(struct gateway *g, char *error, size_t error_bytes)
{
	const struct config_control *c = &g->config.control;
	const struct record_file_config rc = {.file = c->records,
					      .most_bytes = c->records_size,
					      .keep = (unsigned)c->records_keep};
	int code = c->records[0] != '\0'
			   ? record_file_open(&g->record_file, &rc, error, error_bytes)
			   : 0;

	for (unsigned i = 0; code == 0 && g->record_file != NULL && i < g->n_units; i++)
		code = stats_gauge(g->stats, &lost_desc, read_lost, g->units[i].records, (int)i);
	if (code == 0 && g->record_file != NULL)
		code = stats_gauge(g->stats, &unwritten_desc, read_unwritten, g->record_file,
				   STATS_NO_WORKER);
	return code;
}

void gateway_drain_records(struct gateway *g)
{
	for (unsigned i = 0; g->record_file != NULL && i < g->n_units; i++)
		record_file_drain(g->record_file, g->units[i].records);
}

static int open_control(struct gateway *g, char *error, size_t error_bytes)
{
	const struct config_control *c = &g->config.control;
	int rc = stats_add(g->stats, spool_counter_desc, spool_counter_count,
			   spool_counters(g->env.spool), STATS_NO_WORKER);
	if (rc == 0) /* the auth threads' share */
		rc = stats_add(g->stats, auth_counter_desc, auth_counter_count,
			       auth_counters(g->env.auth), STATS_NO_WORKER);

	if (rc == 0)
		rc = reports_register(g);
	if (rc == 0)
		rc = queue_register(g);
	if (rc == 0)
		rc = limits_register(g);
	if (rc == 0)
		rc = follow_register(g);
	if (rc == 0)
		rc = reload_register(g);
	if (rc == 0)
		rc = gauges_register(g);
	if (rc == 0)
		rc = server_open(&g->server, c->socket, g->stats, error, error_bytes);
	if (rc == 0 && c->http_address.family != 0)
		rc = http_open(&g->http, &c->http_address, c->http_port, g->stats, error,
			       error_bytes);
	return rc;
}

/* The spool keeps a descriptor a segment and one a large body under way. */
static void raise_descriptor_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

int gateway_open(struct gateway *g, char *error, size_t error_bytes)
{
	int rc;

	snprintf(error, error_bytes, "out of memory");
	raise_descriptor_limit();
	g->stats = stats_create();
	if (g->stats == NULL)
		return -ENOMEM;
	rc = open_spool(g, error, error_bytes);
	if (rc == 0)
		rc = open_credentials(g, error, error_bytes);
	if (rc == 0)
		rc = open_limits(g);
	if (rc == 0)
		rc = open_dataplane(g, error, error_bytes);
	if (rc == 0)
		rc = open_resolver(g, error, error_bytes);
	if (rc == 0)
		rc = open_units(g, error, error_bytes);
	if (rc == 0)
		rc = open_records(g, error, error_bytes);
	if (rc == 0)
		rc = open_control(g, error, error_bytes);
	return rc;
}

/* Where every core has a worker, the other threads give way to them. */
static void yield_to_workers(const struct gateway *g)
{
	cpu_set_t cpus;

	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return;
	for (unsigned i = 0; i < g->config.dataplane.worker_count; i++)
		CPU_CLR((size_t)g->config.dataplane.worker[i], &cpus);
	if (CPU_COUNT(&cpus) == 0)
		setpriority(PRIO_PROCESS, 0, NICE);
}

int gateway_start(struct gateway *g, char *error, size_t error_bytes)
{
	yield_to_workers(g);
	g->started_s = time(NULL);
	int rc = spool_start(g->env.spool);
	if (rc == 0)
		rc = tls_start(g->env.tls);
	if (rc == 0)
		rc = auth_start(g->env.auth);
	for (unsigned i = 0; rc == 0 && i < g->n_units; i++)
		rc = worker_launch(g->units[i].worker);
	if (rc < 0)
		snprintf(error, error_bytes, "cannot start threads: %s", strerror(-rc));
	g->running = true;
	return rc;
}

/* A worker that makes no turn names itself: core and stage. */
static void watch(struct gateway *g)
{
	for (unsigned i = 0; i < g->n_units; i++) {
		const struct worker *w = g->units[i].worker;
		uint64_t loops = counter_read(&w->counters[worker_loops]);

		if (loops != g->watched_loops[i]) {
			g->watched_loops[i] = loops;
			g->stalled_s[i] = 0;
		} else if (++g->stalled_s[i] == STALL_S) {
			log_error("worker",
				  "worker %u on core %u has stood still for %u s in stage %s", i,
				  w->core, STALL_S, w->stages[atomic_load(&w->stage)].name);
		}
	}
}

void gateway_turn(struct gateway *g)
{
	static _Thread_local time_t last;
	time_t now = time(NULL);

	server_poll(g->server, 100);
	log_drain();
	gateway_drain_records(g);
	if (now == last)
		return;
	last = now;
	follow_tick(g);
	queue_tick(g);
	auth_refresh(g->env.auth);
	tls_refresh(g->env.tls, now);
	if (resolver_changed(g->env.resolver) && !g->draining)
		reload_resolved(g);
	reload_collect(g);
	watch(g);
}

static void drain_unit(void *arg)
{
	unit_drain(arg);
}

struct idle_question {
	struct unit *unit;
	bool idle;
};

static void ask_idle(void *arg)
{
	struct idle_question *q = arg;

	q->idle = unit_idle(q->unit);
}

static bool all_idle(struct gateway *g)
{
	/* answers of a worker that came too late must still find their place */
	static struct idle_question q[CONFIG_WORKERS];

	for (unsigned i = 0; i < g->n_units; i++) {
		q[i] = (struct idle_question){.unit = &g->units[i]};
		if (worker_call(g->units[i].worker, ask_idle, &q[i], NULL, 1000) < 0 || !q[i].idle)
			return false;
	}
	return true;
}

void gateway_drain(struct gateway *g)
{
	struct timespec tick = {.tv_nsec = 50000000};

	g->draining = true;
	log_info("control", "draining: no new sessions, transactions end");
	for (unsigned i = 0; i < g->n_units; i++)
		worker_call(g->units[i].worker, drain_unit, &g->units[i], NULL, 1000);
	for (unsigned ms = 0; ms < GATEWAY_DRAIN_MS && !all_idle(g); ms += 50) {
		log_drain();
		gateway_drain_records(g);
		nanosleep(&tick, NULL);
	}
}

void gateway_close(struct gateway *g)
{
	if (g->http != NULL)
		http_close(g->http);
	if (g->server != NULL)
		server_close(g->server);
	for (unsigned i = 0; g->running && i < g->n_units; i++)
		worker_join(g->units[i].worker);
	if (g->env.auth != NULL)
		auth_stop(g->env.auth);
	if (g->env.tls != NULL)
		tls_stop(g->env.tls);
	for (unsigned i = 0; g->running && i < g->n_units; i++)
		unit_settle(&g->units[i], 30000);
	queue_close(g);
	gateway_drain_records(g);
	record_file_close(g->record_file);
	for (unsigned i = 0; i < g->n_units; i++)
		unit_destroy(&g->units[i]);
	if (g->env.spool != NULL)
		spool_close(g->env.spool);
	if (g->env.auth != NULL)
		auth_close(g->env.auth);
	if (g->env.tls != NULL)
		tls_close(g->env.tls);
	smtp_shared_destroy(g->env.smtp);
	resolver_close(g->env.resolver);
	reload_close(g);
	follow_close(g);
	if (g->env.net != NULL)
		net_destroy(g->env.net);
	stats_destroy(g->stats);
	if (g->eal)
		eal_stop();
}
