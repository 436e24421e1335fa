/* flows.c - plans and the two ends that carry them out */
#include "tests/sim/flows.h"

#include "base/list.h"
#include "tests/sim/random.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

enum plan { PLAIN, ABORT, CLOSE_EARLY, SIMULTANEOUS, PLANS };

enum {
	MAX_FLOWS = 6,
	PORT = 2500,
	LIMIT_US = 1800 * 1000000,
	SECOND = 1000000,
};

struct end {
	struct flow *flow;
	struct shard *shard;
	struct stream *s;
	struct timer reader, opener;
	uint32_t to_send, sent, received;
	uint32_t quit_at; /* ABORT, CLOSE_EARLY: after so many bytes received */
	unsigned side;
	bool slow, quits, opened, eof, over;
	enum stream_end why; /* with failed */
	bool failed;
};

struct flow {
	struct run *run;
	unsigned id;
	enum plan plan;
	struct end end[2];
};

struct run {
	uint64_t seed, random;
	struct net *net;
	unsigned n_flows;
	struct flow flow[MAX_FLOWS];
};

static void fail(const struct run *r, const struct end *e, const char *what)
{
	fprintf(stderr, "seed %llu flow %u side %u plan %u: %s (sent %u of %u, received %u)\n",
		(unsigned long long)r->seed, e->flow->id, e->side, e->flow->plan, what, e->sent,
		e->to_send, e->received);
	abort();
}

static uint8_t pattern(const struct flow *f, unsigned side, uint32_t at)
{
	return (uint8_t)((at * 2654435761u >> 13) ^ (f->id * 37 + side * 101));
}

static void over(struct end *e)
{
	timer_cancel(e->shard->timers, &e->reader);
	e->s = NULL;
	e->over = true;
}

static void pump(struct end *e)
{
	uint8_t buf[3000];

	while (e->sent < e->to_send) {
		uint32_t n = 1 + random_below(&e->flow->run->random, sizeof(buf));
		if (n > e->to_send - e->sent)
			n = e->to_send - e->sent;
		for (uint32_t i = 0; i < n; i++)
			buf[i] = pattern(e->flow, e->side, e->sent + i);
		size_t taken = stream_write(e->s, buf, n, 0);
		e->sent += (uint32_t)taken;
		if (taken < n)
			return;
	}
	stream_shutdown(e->s);
}

static void quit(struct end *e)
{
	if (e->flow->plan == ABORT)
		stream_abort(e->s);
	else
		stream_close(e->s);
	over(e);
}

/* Reads at most cap bytes and compares each. */
static void take(struct end *e, size_t cap)
{
	const uint8_t *p;
	size_t n;

	while (cap > 0 && (n = stream_peek(e->s, &p)) > 0) {
		if (n > cap)
			n = cap;
		for (size_t i = 0; i < n; i++) {
			if (p[i] != pattern(e->flow, 1 - e->side, e->received + (uint32_t)i))
				fail(e->flow->run, e, "a byte that was not sent there");
		}
		stream_consume(e->s, n);
		e->received += (uint32_t)n;
		cap -= n;
	}
	if (e->received > e->flow->end[1 - e->side].sent)
		fail(e->flow->run, e, "more received than sent");
}

static void after_reading(struct end *e)
{
	if (e->quits && e->received >= e->quit_at) {
		quit(e);
	} else if (stream_eof(e->s) && e->sent == e->to_send) {
		e->eof = true;
		stream_close(e->s);
		over(e);
	}
}

static void read_slowly(struct timer *t)
{
	struct end *e = container_of(t, struct end, reader);
	uint64_t *r = &e->flow->run->random;

	take(e, 1 + random_below(r, 4000));
	after_reading(e);
	if (e->s != NULL && (stream_readable(e->s) > 0 || stream_eof(e->s)))
		timer_arm(e->shard->timers, t, e->shard->now_us + 1 + random_below(r, 20000));
}

static void on_opened(struct stream *s, void *user)
{
	struct end *e = user;

	if (e->opened)
		fail(e->flow->run, e, "opened twice");
	e->opened = true;
	e->s = s;
	pump(e);
	if (e->quits && e->quit_at == 0)
		quit(e);
}

static void on_readable(struct stream *s, void *user)
{
	struct end *e = user;

	if (!e->opened)
		fail(e->flow->run, e, "readable before opened");
	if (e->slow) {
		if (!timer_armed(&e->reader))
			timer_arm(e->shard->timers, &e->reader, e->shard->now_us + 1000);
		return;
	}
	take(e, SIZE_MAX);
	after_reading(e);
}

static void on_writable(struct stream *s, void *user)
{
	struct end *e = user;

	pump(e);
	after_reading(e);
}

static void on_closed(struct stream *s, void *user, enum stream_end why)
{
	struct end *e = user;

	e->failed = true;
	e->why = why;
	over(e);
}

static const struct stream_events events = {on_opened, on_readable, on_writable, on_closed};

/* The acceptor learns from the first byte's port which flow it is: one listener a flow. */
static void listen_for(struct flow *f)
{
	struct tcp_listen l = {
		.port = (uint16_t)(PORT + f->id), .events = &events, .user = &f->end[1]};
	int rc = tcp_listen(net_tcp(f->run->net, 1), &l);

	assert(rc == 0);
}

static void open_now(struct timer *t)
{
	struct end *e = container_of(t, struct end, opener);
	struct net *n = e->flow->run->net;
	struct ip_addr from = net_addr(n, e->side), to = net_addr(n, 1 - e->side);
	uint16_t port = (uint16_t)(PORT + e->flow->id);
	uint16_t local = e->flow->plan == SIMULTANEOUS ? port : 0;
	int err = 0;

	e->s = stream_connect_from(net_tcp(n, e->side), &from, local, &to, port, &events, e, &err);
	if (e->s == NULL)
		fail(e->flow->run, e, "connect");
}

static void end_init(struct flow *f, unsigned side)
{
	static const uint32_t amounts[] = {0, 1, 700, 5000, 40000, 150000};
	struct end *e = &f->end[side];
	uint64_t *r = &f->run->random;

	*e = (struct end){.flow = f, .side = side, .shard = net_shard(f->run->net, side)};
	timer_init(&e->reader, read_slowly);
	timer_init(&e->opener, open_now);
	e->to_send = random_below(r, 1 + amounts[random_below(r, 6)]);
	e->slow = random_below(r, 4) == 0;
}

static void flow_init(struct run *run, unsigned id)
{
	struct flow *f = &run->flow[id];
	uint64_t *r = &run->random;

	*f = (struct flow){.run = run, .id = id};
	f->plan = random_below(r, 2) == 0 ? PLAIN : (enum plan)random_below(r, PLANS);
	end_init(f, 0);
	end_init(f, 1);
	if (f->plan == ABORT || f->plan == CLOSE_EARLY) {
		unsigned side = random_below(r, 2);
		f->end[side].quits = true;
		f->end[side].quit_at = random_below(r, f->end[1 - side].to_send + 1);
	}
	uint64_t when = net_now(run->net) + 1000 + random_below(r, 300000);
	timer_arm(f->end[0].shard->timers, &f->end[0].opener, when);
	if (f->plan == SIMULTANEOUS)
		timer_arm(f->end[1].shard->timers, &f->end[1].opener, when);
	else
		listen_for(f);
}

static bool finished(void *arg)
{
	struct run *run = arg;

	for (unsigned i = 0; i < run->n_flows; i++) {
		/* A peer that gave up before the handshake leaves an acceptor that never was. */
		for (unsigned side = 0; side < 2; side++) {
			struct end *e = &run->flow[i].end[side];
			if (!e->over && (e->opened || side == 0 || run->flow[i].plan != ABORT))
				return false;
		}
	}
	return net_is_quiet(run->net);
}

static void judge(struct flow *f)
{
	if (f->plan == ABORT || f->plan == CLOSE_EARLY)
		return;
	for (unsigned side = 0; side < 2; side++) {
		struct end *e = &f->end[side];
		if (e->failed)
			fail(f->run, e, "connection lost");
		if (!e->eof || e->received != f->end[1 - side].to_send)
			fail(f->run, e, "bytes missing");
	}
}

static void configure(uint64_t *r, struct tcp_config *c)
{
	static const uint16_t mtus[] = {576, 1280, 1500, 9000};
	static const uint32_t limits[] = {3000, 16384, 65536, 300000};

	c->mtu = mtus[random_below(r, 4)];
	c->receive_limit = limits[random_below(r, 4)];
	c->send_limit = limits[random_below(r, 4)];
	c->timestamps = random_below(r, 4) != 0;
	c->window_scaling = random_below(r, 4) != 0;
	c->sack = random_below(r, 4) != 0;
	c->hystart = random_below(r, 2) != 0;
	c->ecn = (enum tcp_ecn)random_below(r, 3);
	c->congestion = (enum tcp_congestion)random_below(r, 2);
	c->option_layout = (enum tcp_option_layout)random_below(r, 2);
	c->syn_retries = c->synack_retries = 12;
	c->rto_max_us = 20 * SECOND;
	c->keep_idle_s = 60; /* finds the peer gone whose RST was lost */
	c->keep_interval_s = 10;
	c->max_streams = 64;
	c->max_time_wait = 64;
}

static void make_net(struct run *run, const struct net_conditions *conditions)
{
	struct net_options o;
	uint64_t *r = &run->random;

	net_options_default(&o);
	o.seed = run->seed;
	o.conditions = *conditions;
	o.ip6 = random_below(r, 3) == 0;
	/* Some runs begin just before the millisecond clock wraps at 2^32. */
	o.start_us =
		random_below(r, 4) == 0 ? (1ull << 32) * 1000 - 2 * SECOND : random_next(r) >> 16;
	configure(r, &o.config[0]);
	configure(r, &o.config[1]);
	run->net = net_create(&o);
}

static void tally(struct run *run, struct flows_result *r)
{
	for (unsigned i = 0; i < run->n_flows; i++) {
		const struct flow *f = &run->flow[i];
		r->bytes += f->end[0].received + f->end[1].received;
		r->plain += f->plan == PLAIN;
		r->aborted += f->plan == ABORT;
		r->closed_early += f->plan == CLOSE_EARLY;
		r->simultaneous += f->plan == SIMULTANEOUS;
	}
	r->packets += net_packets(run->net);
	r->digest = net_digest(run->net);
	for (unsigned side = 0; side < 2; side++)
		r->retransmits += tcp_counters(net_tcp(run->net, side))[tcp_retransmits];
}

void flows_run(uint64_t seed, const struct net_conditions *conditions, struct flows_result *r)
{
	struct run *run = calloc(1, sizeof(*run));

	run->seed = run->random = seed;
	make_net(run, conditions);
	run->n_flows = 1 + random_below(&run->random, MAX_FLOWS);
	for (unsigned i = 0; i < run->n_flows; i++)
		flow_init(run, i);
	if (!net_run_until(run->net, finished, run, LIMIT_US)) {
		for (unsigned i = 0; i < run->n_flows; i++) {
			for (unsigned side = 0; side < 2; side++) {
				if (!run->flow[i].end[side].over)
					fail(run, &run->flow[i].end[side], "did not end");
			}
		}
		fail(run, &run->flow[0].end[0], "something is left behind");
	}
	for (unsigned i = 0; i < run->n_flows; i++)
		judge(&run->flow[i]);
	tally(run, r);
	net_destroy(run->net);
	free(run);
}
