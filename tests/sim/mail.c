/* mail.c - wiring as control/unit.c does it, and a step that runs every stage until none has work
 */
#include "tests/sim/mail.h"

#include "base/log.h"
#include "base/nap.h"
#include "base/record.h"
#include "smtp/auth/users.h"
#include "smtp/internal.h"
#include "smtp/relay/internal.h"
#include "smtp/spool/internal.h"
#include "tests/sim/cert.h"
#include "tests/sim/peer.h"
#include "tls/internal.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { TICK_US = 5000, AUTH_WAIT_S = 60, END_S = 1000 };

void mail_options_default(struct mail_options *o)
{
	*o = (struct mail_options){.tls_threads = 2, .tls_sessions = 128, .spool_ring = 512};
	net_options_default(&o->net);
	o->net.chunk_bytes = 8 << 20;
	o->smtp = (struct smtp_config){
		.hostname = "mx.test",
		.max_message_size = 8 << 20,
		.max_recipients = 100,
		.max_header_size = 64 << 10,
		.extensions = SMTP_EXT_ALL,
		.max_hold_us = 7 * 86400ull * MAIL_SECOND,
		.require_tls_onward = true,
		.command_us = 300ull * MAIL_SECOND,
		.data_us = 600ull * MAIL_SECOND,
		.unauthenticated_us = 60ull * MAIL_SECOND,
		.auth_failure_delay_us = MAIL_SECOND,
		.mechanisms = 1u << SMTP_MECHANISM_PLAIN | 1u << SMTP_MECHANISM_LOGIN,
		.sessions = 64,
	};
	o->relay = (struct relay_config){
		.hostname = "mx.test",
		.n_pools = 1,
		.max_messages = 1024,
		.memory = getenv("RELAY_MEMORY") != NULL ? (size_t)1 << 20 : 0,
	};
	o->relay.pools[0] = (struct relay_pool){
		.name = "default",
		.hops = {{.port = MAIL_HOP, .name = "mx.test"}},
		.n_hops = 1,
		.connections = 2,
		.retry_first_us = 60ull * MAIL_SECOND,
		.retry_max_us = 3600ull * MAIL_SECOND,
		.give_up_us = 5 * 86400ull * MAIL_SECOND,
		.notice_us = 4 * 3600ull * MAIL_SECOND,
		.retry_factor = 2,
	};
}

static void must(int rc, const char *error)
{
	if (rc < 0)
		fail_msg("%s", error);
}

static bool source_for(void *arg, const struct ip_addr *to, struct ip_addr *source)
{
	struct mail *m = arg;

	*source = net_addr(pair_net(m->pair), 1);
	return true;
}

static void accepted(void *arg, const struct spool_found *f, const struct spool_request *commit)
{
	struct mail *m = arg;

	m->last = m->kept[m->accepted++ % 16] = *f;
	if (!m->hold_relay)
		assert_int_equal(relay_accept(m->relay, f, commit), 0);
}

/* The auth threads run in real time; nothing else happens meanwhile. */
static unsigned auth_step(struct mail *m)
{
	struct timespec begin, now;
	struct nap nap = {.max_us = 200};
	unsigned n = auth_poll(m->auth_client);

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (m->auth_runs && auth_waiting(m->auth) > 0) {
		n += auth_poll(m->auth_client);
		nap_idle(&nap);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - begin.tv_sec > AUTH_WAIT_S)
			fail_msg("password checks hang");
	}
	return n;
}

static unsigned spool_step(struct mail *m)
{
	unsigned n = 0;

	if (m->hold_spool)
		return 0;
	for (unsigned i = 0; i < SPOOL_WRITERS; i++)
		n += spool_body_step(&m->spool->writer[i]);
	n += spool_commit_step(m->spool, m->shard->now_us);
	return n + spool_read_step(&m->spool->reader[0]);
}

static void step(void *arg)
{
	struct mail *m = arg;
	unsigned work;

	/* bounded: a stage that always finds work is a test's failure, not its hang */
	for (unsigned round = 0; round < 1000; round++) {
		work = m->hold_tls ? 0 : tls_run_queued(m->tls) + tls_poll(m->tls_worker);
		work += auth_step(m);
		work += spool_step(m);
		work += spool_poll(m->smtp_spool);
		if (m->relay != NULL)
			work += relay_poll(m->relay);
		list_each_safe (it, &m->peers)
			peer_pump(container_of(it, struct peer, link));
		if (work == 0)
			return;
	}
	fail_msg("a stage finds work for ever");
}

static void tick(struct timer *t)
{
	struct mail *m = container_of(t, struct mail, tick);

	timer_arm(m->shard->timers, t, m->shard->now_us + m->tick_us);
}

static void create_files(struct mail *m)
{
	char error[512] = "";

	snprintf(m->directory, sizeof(m->directory), "/tmp/test_mail.XXXXXX");
	assert_non_null(mkdtemp(m->directory));
	snprintf(m->chain, sizeof(m->chain), "%s/chain.pem", m->directory);
	snprintf(m->key, sizeof(m->key), "%s/key.pem", m->directory);
	snprintf(m->users, sizeof(m->users), "%s/users", m->directory);
	cert_write(m->chain, m->key);
	struct users_edit e = {
		.file = m->users,
		.change = USERS_ADD,
		.name = "alice",
		.tenant = m->o.tenant,
		.addresses = m->o.addresses,
		.password = "secret",
		.cost = {.memory_kib = 8, .passes = 1, .lanes = 1, .scram_iterations = 4096},
		.scram = true};
	must(users_edit(&e, error, sizeof(error)), error);
	char names[256], *rest = names, *name;
	snprintf(names, sizeof(names), "%s", m->o.more_users != NULL ? m->o.more_users : "");
	while ((name = strsep(&rest, " ")) != NULL && name[0] != '\0') {
		/* "bob:acme" is of the tenant acme */
		e.name = strsep(&name, ":");
		e.tenant = name;
		e.addresses = NULL;
		must(users_edit(&e, error, sizeof(error)), error);
	}
}

static void create_contexts(struct mail *m)
{
	m->client_context = SSL_CTX_new(TLS_client_method());
	m->server_context = SSL_CTX_new(TLS_server_method());
	assert_int_equal(SSL_CTX_use_certificate_chain_file(m->server_context, m->chain), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey_file(m->server_context, m->key, SSL_FILETYPE_PEM),
			 1);
}

static void open_spool(struct mail *m)
{
	char error[512] = "";
	struct spool_config c = {.directory = "simulated",
				 .segment_size = 512 << 10,
				 .readers = 1,
				 .io = disk_io(m->disk)};

	if (m->o.spool_io != NULL)
		c.io = m->o.spool_io(c.io);

	must(spool_open(&m->spool, &c, error, sizeof(error)), error);
	m->smtp_spool = spool_client_create(m->spool, m->o.spool_ring);
	m->relay_spool = spool_client_create(m->spool, m->o.spool_ring);
}

static void open_services(struct mail *m)
{
	char error[512] = "";
	struct tls_config tc = m->o.tls;
	struct tls_certificate own = {.chain = m->chain, .key = m->key};

	if (tc.n_certificates == 0) {
		tc.certificates = &own;
		tc.n_certificates = 1;
	}
	tc.threads = m->o.tls_threads;
	tc.channel_bindings = true;
	/* the same tests run once more in a build that asks for it */
	tc.native_records |= getenv("TLS_RECORDS") != NULL;
	tc.ca_file = m->chain;
	tc.max_sessions = m->o.tls_sessions;

	m->o.auth.users_file = m->users;
	m->disk = disk_create(m->o.net.seed);
	disk_faults(m->disk)->error = -EIO;
	open_spool(m);
	must(tls_open(&m->tls, &tc, error, sizeof(error)), error);
	must(auth_open(&m->auth, &m->o.auth, error, sizeof(error)), error);
	m->tls_worker = tls_worker_create(m->tls, m->shard);
	m->auth_client = auth_client_create(m->auth, m->shard);
	m->o.smtp.duplicates = m->o.duplicates_us > 0;
	m->shared = smtp_shared_create(&m->o.smtp);
}

static void create_relay(struct mail *m)
{
	struct relay_env e = {
		.shard = m->shard,
		.tcp = pair_tcp(m->pair, 1),
		.tls = m->tls_worker,
		.spool = m->spool,
		.spool_client = m->relay_spool,
		.records = m->records,
		.source_for = source_for,
		.source_arg = m,
	};

	for (unsigned p = 0; p < m->o.relay.n_pools; p++) {
		for (unsigned i = 0; i < m->o.relay.pools[p].n_hops; i++)
			m->o.relay.pools[p].hops[i].address = net_addr(pair_net(m->pair), 0);
	}
	m->relay = relay_worker_create(&e, &m->o.relay);
	assert_non_null(m->relay);
}

static void create_smtp(struct mail *m)
{
	static const uint16_t ports[2] = {MAIL_SUBMISSION, MAIL_SUBMISSIONS};
	struct smtp_env e = {
		.shared = m->shared,
		.shard = m->shard,
		.tls = m->tls_worker,
		.spool = m->spool,
		.spool_client = m->smtp_spool,
		.auth = m->auth_client,
		.records = m->records,
		.accepted = accepted,
		.accepted_arg = m,
	};

	m->smtp = smtp_worker_create(&e);
	assert_non_null(m->smtp);
	for (unsigned i = 0; i < 2; i++) {
		m->listeners[i] =
			(struct smtp_listener){.worker = m->smtp,
					       .name = i == 1 ? "submissions" : "submission",
					       .implicit_tls = i == 1,
					       .policy = m->o.policy,
					       .duplicates_us = m->o.duplicates_us};
		struct tcp_listen l = {.port = ports[i],
				       .events = &smtp_stream_events,
				       .user = &m->listeners[i],
				       .admit = smtp_admit};
		assert_int_equal(tcp_listen(pair_tcp(m->pair, 1), &l), 0);
	}
}

struct mail *mail_create(const struct mail_options *o)
{
	struct mail *m = calloc(1, sizeof(*m));

	log_set_level(LOG_ERROR);
	if (o != NULL)
		m->o = *o;
	else
		mail_options_default(&m->o);
	list_init(&m->peers);
	m->pair = pair_create(&m->o.net);
	m->shard = pair_shard(m->pair, 1);
	create_files(m);
	create_contexts(m);
	open_services(m);
	m->records = m->o.records ? records_create(1 << 20) : NULL;
	create_relay(m);
	create_smtp(m);
	if (!m->o.auth_waits)
		mail_auth_start(m);
	m->tick_us = TICK_US;
	m->server_name = "mx.test";
	timer_init(&m->tick, tick);
	tick(&m->tick);
	pair_on_step(m->pair, step, m);
	return m;
}

void mail_auth_start(struct mail *m)
{
	assert_int_equal(auth_start(m->auth), 0);
	m->auth_runs = true;
}

static void add_found(void *arg, const struct spool_found *f)
{
	struct mail *m = arg;

	assert_int_equal(relay_add(m->relay, f), 0);
}

/* The SMTP side must have no session; its client of the spool is a new one. */
void mail_restart_relay(struct mail *m, enum disk_loss loss)
{
	assert_int_equal(smtp_sessions_open(m->smtp), 0);
	relay_worker_destroy(m->relay);
	m->relay = NULL;
	spool_abandon(m->spool);
	disk_restart(m->disk, loss);
	disk_faults(m->disk)->error = -EIO;
	open_spool(m);
	create_relay(m);
	m->smtp->env.spool = m->spool;
	m->smtp->env.spool_client = m->smtp_spool;
	spool_each_found(m->spool, add_found, m);
}

void mail_run(struct mail *m, uint64_t us)
{
	pair_run(m->pair, us);
}

bool mail_run_until(struct mail *m, bool (*done)(void *arg), void *arg, uint64_t us)
{
	return pair_run_until(m->pair, done, arg, us);
}

static bool at_rest(void *arg)
{
	const struct mail *m = arg;

	return smtp_sessions_open(m->smtp) == 0 && smtp_spool_pending(m->smtp) == 0 &&
	       slab_used(m->smtp->transactions) == 0 && slab_used(m->smtp->logins) == 0 &&
	       relay_settled(m->relay);
}

static void check_rest(struct mail *m)
{
	if (!m->auth_runs)
		mail_auth_start(m);
	m->hold_spool = m->hold_tls = false;
	memset(disk_faults(m->disk), 0, sizeof(struct disk_faults));
	disk_faults(m->disk)->error = -EIO;
	relay_drain(m->relay);
	mail_run_until(m, at_rest, m, (uint64_t)END_S * MAIL_SECOND);
	assert_int_equal(smtp_sessions_open(m->smtp), 0);
	assert_int_equal(smtp_spool_pending(m->smtp), 0);
	assert_int_equal(slab_used(m->smtp->transactions), 0);
	assert_int_equal(slab_used(m->smtp->appends), 0);
	assert_int_equal(slab_used(m->smtp->logins), 0);
	assert_true(relay_settled(m->relay));
	assert_int_equal(atomic_load(&m->shared->sessions), 0);
}

static void remove_files(struct mail *m)
{
	char lock[128];

	snprintf(lock, sizeof(lock), "%s.lock", m->users);
	unlink(lock);
	unlink(m->users);
	unlink(m->chain);
	unlink(m->key);
	rmdir(m->directory);
}

void mail_destroy(struct mail *m)
{
	list_each_safe (it, &m->peers)
		peer_free(container_of(it, struct peer, link));
	check_rest(m);
	relay_worker_destroy(m->relay);
	m->relay = NULL;
	mail_run(m, 100 * MAIL_SECOND);
	assert_int_equal(slab_used(m->tls_worker->sessions), 0);
	assert_int_equal(tcp_stream_count(pair_tcp(m->pair, 1)), 0);
	auth_client_destroy(m->auth_client);
	smtp_worker_destroy(m->smtp);
	assert_int_equal(chunk_pool_used(m->shard->chunks), 0);
	smtp_shared_destroy(m->shared);
	tls_worker_destroy(m->tls_worker);
	tls_close(m->tls);
	auth_close(m->auth);
	spool_client_destroy(m->smtp_spool);
	spool_client_destroy(m->relay_spool);
	spool_close(m->spool);
	disk_destroy(m->disk);
	timer_cancel(m->shard->timers, &m->tick);
	pair_destroy(m->pair);
	SSL_CTX_free(m->client_context);
	SSL_CTX_free(m->server_context);
	remove_files(m);
	records_destroy(m->records);
	free(m);
}

static void read_done(struct spool_request *r)
{
	*(bool *)r->user = true;
}

static bool is_true(void *arg)
{
	return *(bool *)arg;
}

static size_t read_back(struct mail *m, bool envelope, uint8_t *out, size_t all)
{
	struct chunk *c = chunk_alloc(m->shard->chunks, CHUNK_64K, true);
	size_t at = 0;

	while (at < all) {
		bool done = false;
		struct spool_request r = {
			.op = SPOOL_READ,
			.id = m->last.id,
			.place = m->last.place,
			.chunks = c,
			.read_envelope = envelope,
			.read_offset = at,
			.read_bytes = all - at < c->size ? all - at : c->size,
			.user = &done,
			.done = read_done,
		};
		assert_int_equal(spool_submit(m->relay_spool, &r), 0);
		assert_true(mail_run_until(m, is_true, &done, MAIL_SECOND));
		assert_int_equal(r.verdict, 0);
		assert_true(r.read_bytes > 0);
		memcpy(out + at, c->data, r.read_bytes);
		at += r.read_bytes;
	}
	chunk_free(m->shard->chunks, c);
	return at;
}

size_t mail_content(struct mail *m, uint8_t *out, size_t most)
{
	return read_back(m, false, out,
			 m->last.content_bytes < most ? m->last.content_bytes : most);
}

size_t mail_envelope(struct mail *m, uint8_t *out, size_t most)
{
	assert_true(m->last.place.envelope_bytes <= most);
	return read_back(m, true, out, m->last.place.envelope_bytes);
}

uint64_t mail_smtp_count(const struct mail *m, enum smtp_counter c)
{
	return counter_read(&smtp_counters(m->smtp)[c]);
}

uint64_t mail_relay_count(const struct mail *m, enum relay_counter c)
{
	return counter_read(&relay_counters(m->relay)[c]);
}

uint64_t mail_tls_count(const struct mail *m, enum tls_counter c)
{
	return counter_read(&tls_counters(m->tls_worker)[c]);
}
