/*
 * isolation.c - what a storm of handshakes does to those who have logged in: the time from MAIL's
 * arrival at the worker to its 250, for 1,000 sessions under TLS 1.3, calm and in storms.
 *
 *	build/perf/perf-isolation [SECONDS [MAILS A SECOND [wall]]]
 *
 * The layers are the gateway's own, from stream to reply; only the TCP stack is replaced by
 *buffers. The worker runs on the first core and the handshake thread on the second.  Windows of
 *calm, of a storm that a thread can bear and of one that it cannot take turns, so that other work
 *on the machine falls on all alike.  A client of the storm sends a hello, waits for the answer, and
 *sends a Finished that is none: the gateway does all its work of a handshake, the client nearly
 *none.
 */
#include "base/log.h"
#include "perf/alice.h"
#include "perf/tls_bench.h"
#include "smtp/internal.h"
#include "tests/sim/cert.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	SESSIONS = 1000,
	STORM = 512, /* connections of the storm at a time */
	BURST = 32,  /* segments of a turn */
	WINDOW_US = 150000,
	SETTLE_US = 150000, /* until the queue of the storm before is empty */
	SAMPLES = 1 << 21,
};

enum weather { CALM, BEARABLE, SATURATING, WEATHERS };
static const struct {
	const char *name;
	double a_second;
} weathers[WEATHERS] = {
	[CALM] = {"calm", 0},
	[BEARABLE] = {"1,000 handshakes a second", 1000},
	[SATURATING] = {"10,000 a second offered", 10000},
};

struct session {
	struct stream stream;
	SSL *client;
	uint8_t *sealed; /* MAIL and RSET in turns, each a record */
	size_t at, end;
};

struct attacker {
	struct stream stream;
	bool active, answered;
};

struct samples {
	double *us;
	unsigned n;
	uint64_t handshakes;
};

struct world {
	struct bench bench;
	struct smtp_worker *smtp;
	struct smtp_listener listener;
	struct session session[SESSIONS];
	struct attacker attacker[STORM];
	uint8_t hello[2048];
	size_t hello_bytes;
	uint64_t random;
	uint64_t mail_due_ns, storm_due_ns;
	double mails_a_second;
	struct samples samples[WEATHERS];
};

/* The worker's own time: what other programs take of its core is not the gateway's doing. */
static clockid_t clock_id = CLOCK_THREAD_CPUTIME_ID;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(clock_id, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t draw(struct world *w)
{
	w->random = w->random * 6364136223846793005 + 1442695040888963407;
	return w->random >> 33;
}

static void on_core(unsigned core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* What the gateway has said, to the client or away. */
static void hear(struct session *s)
{
	struct pipe_buffer *out = &s->stream.out;
	uint8_t plain[4096];

	if (out->end > out->start)
		BIO_write(SSL_get_rbio(s->client), out->data + out->start,
			  (int)(out->end - out->start));
	out->start = out->end = 0;
	while (SSL_is_init_finished(s->client) && SSL_read(s->client, plain, sizeof(plain)) > 0)
		;
}

static void say(struct world *w, struct session *s)
{
	uint8_t buf[PIPE_BYTES];
	int n = BIO_read(SSL_get_wbio(s->client), buf, sizeof(buf));

	if (n > 0) {
		pipe_put(&s->stream.in, buf, (size_t)n);
		smtp_stream_events.readable(&s->stream, s->stream.user);
	}
}

static void log_in(struct world *w, unsigned i)
{
	struct session *s = &w->session[i];

	s->client = bench_client(&w->bench, TLS1_3_VERSION, "mx.test", NULL);
	smtp_stream_events.opened(&s->stream, &w->listener);
	for (uint64_t until = now_ns() + 5000000000; now_ns() < until;) {
		hear(s);
		SSL_do_handshake(s->client);
		say(w, s);
		tls_poll(w->bench.worker);
		if (tls_counters(w->bench.worker)[tls_handshakes] == i + 1)
			break;
	}
	hear(s); /* the tickets and the greeting */
	bench_must(!s->stream.over && SSL_is_init_finished(s->client), "a handshake failed");
	SSL_write(s->client, "EHLO x\r\n", 8);
	say(w, s);
	hear(s);
	struct smtp_session *own = slab_at(w->smtp->sessions, i, NULL);
	own->authenticated = true;
	strcpy(own->user, "alice");
}

/* All that it will say, sealed beforehand: the measured loop is the worker's alone. */
static void prepare(struct world *w, struct session *s, unsigned mails)
{
	static const char *const words[2] = {"MAIL FROM:<alice@example.net>\r\n", "RSET\r\n"};
	size_t room = (size_t)mails * 2 * 64;

	s->sealed = malloc(room);
	for (unsigned i = 0; i < 2 * mails; i++) {
		SSL_write(s->client, words[i % 2], (int)strlen(words[i % 2]));
		s->end += (size_t)BIO_read(SSL_get_wbio(s->client), s->sealed + s->end,
					   (int)(room - s->end));
	}
}

/* The next record; false: none is left, or it was not answered. */
static bool command(struct session *s)
{
	const uint8_t *p = s->sealed + s->at;

	if (s->at == s->end)
		return false;
	size_t n = 5 + (size_t)(p[3] << 8 | p[4]);
	pipe_put(&s->stream.in, p, n);
	s->at += n;
	smtp_stream_events.readable(&s->stream, s->stream.user);
	bool answered = s->stream.out.end > 0 && !s->stream.over;
	s->stream.out.start = s->stream.out.end = 0;
	return answered;
}

static void mails(struct world *w, struct samples *to, uint64_t now)
{
	for (unsigned i = 0; i < BURST && w->mail_due_ns <= now; i++) {
		struct session *s = &w->session[draw(w) % SESSIONS];
		uint64_t due = w->mail_due_ns;
		/* 0 to twice the mean: what comes together varies */
		w->mail_due_ns +=
			(uint64_t)(2e9 / w->mails_a_second * (double)(draw(w) % 1000) / 1000);
		if (s->at == s->end)
			continue;
		bench_must(command(s), "MAIL got no answer");
		if (to != NULL && to->n < SAMPLES)
			to->us[to->n++] = (double)(now_ns() - due) / 1000;
		bench_must(command(s), "RSET got no answer");
	}
}

static void strike(struct world *w, double a_second, uint64_t now)
{
	static unsigned next;

	if (a_second == 0)
		w->storm_due_ns = now;
	for (unsigned i = 0; i < BURST && a_second > 0 && w->storm_due_ns <= now; i++) {
		w->storm_due_ns += (uint64_t)(1e9 / a_second);
		struct attacker *a = &w->attacker[next++ % STORM];
		if (a->active)
			continue;
		*a = (struct attacker){.stream = {.in = a->stream.in, .out = a->stream.out},
				       .active = true};
		a->stream.in.start = a->stream.in.end = 0;
		a->stream.out.start = a->stream.out.end = 0;
		smtp_stream_events.opened(&a->stream, &w->listener);
		pipe_put(&a->stream.in, w->hello, w->hello_bytes);
		smtp_stream_events.readable(&a->stream, a->stream.user);
	}
	/* one that was never answered tries again by itself later */
	if (w->storm_due_ns + 1000000 < now)
		w->storm_due_ns = now;
}

/* An answer to the server's flight that no key opens. */
static void finish_badly(struct attacker *a)
{
	uint8_t record[5 + 53] = {23, 3, 3, 0, 53};

	a->answered = true;
	a->stream.out.start = a->stream.out.end = 0;
	pipe_put(&a->stream.in, record, sizeof(record));
	smtp_stream_events.readable(&a->stream, a->stream.user);
}

static void follow(struct world *w)
{
	for (unsigned i = 0; i < STORM; i++) {
		struct attacker *a = &w->attacker[i];
		if (a->active && !a->stream.over && !a->answered && a->stream.out.end > 0)
			finish_badly(a);
		if (a->stream.over)
			a->active = false;
	}
}

static void window(struct world *w, enum weather weather)
{
	struct samples *to = &w->samples[weather];
	uint64_t from = now_ns(), now;
	uint64_t failed = 0;
	bool measured = false;

	w->mail_due_ns = from;
	while ((now = now_ns()) < from + (uint64_t)(SETTLE_US + WINDOW_US) * 1000) {
		if (!measured && now > from + (uint64_t)SETTLE_US * 1000) {
			measured = true;
			failed = tls_counters(w->bench.worker)[tls_handshakes_failed];
		}
		timer_advance(&w->bench.shard, now / 1000);
		mails(w, measured ? to : NULL, now);
		strike(w, weathers[weather].a_second, now);
		follow(w);
		tls_poll(w->bench.worker);
	}
	to->handshakes += tls_counters(w->bench.worker)[tls_handshakes_failed] - failed;
}

static void open_world(struct world *w, const char *chain, const char *key)
{
	static struct smtp_config config = {.hostname = "mx.example.net",
					    .max_message_size = 50 << 20,
					    .max_recipients = 1000,
					    .command_us = 300000000,
					    .data_us = 600000000,
					    .unauthenticated_us = 300000000,
					    .sessions = SESSIONS + STORM + 8};
	struct tls_certificate own = {.chain = chain, .key = key};
	struct tls_config c = {.certificates = &own,
			       .n_certificates = 1,
			       .max_sessions = SESSIONS + 4 * STORM,
			       .budget = {.queue = STORM / 2},
			       .ca_file = chain};

	bench_open(&w->bench, &c);
	w->bench.shard.now_us = now_ns() / 1000;
	w->bench.shard.timers = timer_wheel_create(w->bench.shard.now_us);
	struct smtp_env env = {.shared = smtp_shared_create(&config),
			       .shard = &w->bench.shard,
			       .tls = w->bench.worker,
			       .auth = auth_client_create(alice_open(), &w->bench.shard)};
	w->smtp = smtp_worker_create(&env);
	w->listener = (struct smtp_listener){
		.worker = w->smtp, .name = "submissions", .implicit_tls = true};
	SSL *ssl = bench_client(&w->bench, TLS1_3_VERSION, "mx.test", NULL);
	uint8_t buf[PIPE_BYTES];
	w->hello_bytes = (size_t)bench_client_turn(ssl, buf);
	bench_must(w->hello_bytes <= sizeof(w->hello), "a large hello");
	memcpy(w->hello, buf, w->hello_bytes);
	SSL_free(ssl);
	on_core(1);
	bench_must(tls_start(w->bench.tls) == 0, "no thread");
	on_core(0);
}

static double at(const struct samples *s, double share)
{
	return s->us[(unsigned)((double)(s->n - 1) * share)];
}

static void show(struct world *w, unsigned windows)
{
	for (enum weather k = 0; k < WEATHERS; k++)
		qsort(w->samples[k].us, w->samples[k].n, sizeof(double), bench_by_size);
	printf("%-28s %10s %8s %8s %8s %8s %10s %7s %7s\n", "MAIL to 250, us", "samples", "p50",
	       "p99", "p99.9", "most", "failed/s", "p50 x", "p99 x");
	for (enum weather k = 0; k < WEATHERS; k++) {
		const struct samples *s = &w->samples[k], *calm = &w->samples[CALM];
		printf("%-28s %10u %8.1f %8.1f %8.1f %8.0f %10.0f %7.2f %7.2f\n", weathers[k].name,
		       s->n, at(s, 0.5), at(s, 0.99), at(s, 0.999), at(s, 1),
		       (double)s->handshakes / windows * 1e6 / WINDOW_US,
		       at(s, 0.5) / at(calm, 0.5), at(s, 0.99) / at(calm, 0.99));
	}
}

int main(int argc, char **argv)
{
	unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 20;
	static struct world w = {.random = 1};
	char folder[] = "/tmp/perf-isolation.XXXXXX", chain[96], key[96];

	w.mails_a_second = argc > 2 ? atof(argv[2]) : 20000;
	if (argc > 3 && strcmp(argv[3], "wall") == 0)
		clock_id = CLOCK_MONOTONIC;
	bench_must(tls_memory_init(), "OpenSSL was used before its allocator could be set");
	bench_must(seconds > 0 && seconds <= 600 && w.mails_a_second >= 100, "SECONDS 1..600");
	bench_must(sysconf(_SC_NPROCESSORS_ONLN) > 1, "two cores are needed");
	log_set_level(LOG_ERROR);
	bench_must(mkdtemp(folder) != NULL, "no temporary directory");
	snprintf(chain, sizeof(chain), "%s/chain.pem", folder);
	snprintf(key, sizeof(key), "%s/key.pem", folder);
	cert_write(chain, key);
	open_world(&w, chain, key);
	unlink(chain);
	unlink(key);
	rmdir(folder);
	unsigned windows = seconds * 1000000 / (WINDOW_US + SETTLE_US) / WEATHERS + 1;
	for (enum weather k = 0; k < WEATHERS; k++)
		w.samples[k].us = malloc(sizeof(double) * SAMPLES);
	for (unsigned i = 0; i < SESSIONS; i++) {
		log_in(&w, i);
		prepare(&w, &w.session[i],
			(unsigned)(w.mails_a_second * seconds * 1.5 / SESSIONS) + 50);
	}
	for (unsigned i = 0; i < windows; i++)
		for (enum weather k = 0; k < WEATHERS; k++)
			window(&w, (k + i) % WEATHERS);
	show(&w, windows);
	tls_stop(w.bench.tls);
	return 0;
}
