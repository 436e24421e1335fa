/* script.c - the peer's side of hand-made conversations */
#include "tests/sim/script.h"

#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/isn.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/check.h"
#include "tests/sim/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { POOL_BYTES = 2 << 20 };

static const struct ip_addr local = {4, {192, 0, 2, 1}}, peer = {4, {192, 0, 2, 2}};

static uint64_t draw(void *arg)
{
	return random_next(&((struct script *)arg)->random);
}

static bool get_buffer(void *arg, struct tcp_buffer *b, unsigned bytes, bool control)
{
	if (((struct script *)arg)->no_buffers)
		return false;
	b->data = b->handle = malloc(bytes);
	return true;
}

static void drop_buffer(void *arg, struct tcp_buffer *b)
{
	free(b->handle);
}

static void decode(struct script *x, const uint8_t *h, unsigned bytes, struct script_segment *o)
{
	struct tcp_options options;
	unsigned header = (unsigned)(h[12] >> 4) * 4;

	*o = (struct script_segment){
		.flags = h[13], .window = wire_get16(h + 14), .bytes = bytes - header};
	if ((o->flags & WIRE_SYN) != 0 && !x->iss_known) {
		x->iss = wire_get32(h + 4);
		x->iss_known = true;
	}
	o->seq = wire_get32(h + 4) - x->iss;
	o->ack = (o->flags & WIRE_ACK) != 0 ? wire_get32(h + 8) - x->peer_iss : 0;
	o->option_bytes = header - WIRE_TCP_BYTES;
	memcpy(o->options, h + WIRE_TCP_BYTES, o->option_bytes);
	options_parse(&options, o->options, o->option_bytes);
	o->has_timestamp = options.has_timestamp;
	o->ts_value = options.ts_value;
	o->ts_echo = options.ts_echo;
	memcpy(o->data, h + header, o->bytes);
}

/* What a port does: sums all of the segment, the field included, and knows nothing else. */
static void complete_checksum(uint8_t *h, unsigned bytes)
{
	uint16_t sum = checksum_finish(checksum_add(0, h, bytes));

	memcpy(h + 16, &sum, 2);
}

static void send_packet(void *arg, struct tcp_buffer *b, unsigned bytes, const struct ip_addr *to)
{
	struct script *x = arg;

	if (x->offload)
		complete_checksum(b->data + WIRE_IP4_BYTES, bytes - WIRE_IP4_BYTES);
	check_headers(b->data, bytes, to);
	if (x->n_out == x->room) {
		x->room = x->room == 0 ? 16 : x->room * 2;
		x->out = realloc(x->out, x->room * sizeof(*x->out));
	}
	x->port = wire_get16(b->data + WIRE_IP4_BYTES);
	decode(x, b->data + WIRE_IP4_BYTES, bytes - WIRE_IP4_BYTES, &x->out[x->n_out]);
	x->out[x->n_out++].tos = b->data[1];
	free(b->handle);
}

static bool owns(void *arg, const struct ip_addr *l, uint16_t lp, const struct ip_addr *p,
		 uint16_t pp)
{
	return true;
}

static void note(struct script *x, const char *event, struct stream *s)
{
	size_t n = strlen(x->log);

	snprintf(x->log + n, sizeof(x->log) - n, n > 0 ? " %s" : "%s", event);
	if (x->on_event != NULL)
		x->on_event(x, event, s);
}

static void opened(struct stream *s, void *user)
{
	((struct script *)user)->stream = s;
	note(user, "opened", s);
}

static void readable(struct stream *s, void *user)
{
	struct script *x = user;

	if (!x->keep_unread) {
		size_t n = stream_readable(s);
		stream_consume(s, n);
		x->received += (uint32_t)n;
	}
	note(x, stream_eof(s) ? "eof" : "readable", s);
}

static void writable(struct stream *s, void *user)
{
	note(user, "writable", s);
}

static void closed(struct stream *s, void *user, enum stream_end why)
{
	static const char *const names[] = {"closed:reset", "closed:timeout", "closed:refused",
					    "closed:unreachable", "closed:memory"};

	((struct script *)user)->stream = NULL;
	note(user, names[why], s);
}

static const struct stream_events events = {opened, readable, writable, closed};

struct script *script_create(void (*configure)(struct tcp_config *c))
{
	struct script *x = calloc(1, sizeof(*x));
	struct tcp_env env = {x, get_buffer, send_packet, drop_buffer, owns};

	x->random = 42;
	x->memory = aligned_alloc(65536, POOL_BYTES);
	x->shard = (struct shard){.now_us = 5000000,
				  .chunks = chunk_pool_create(x->memory, POOL_BYTES),
				  .timers = timer_wheel_create(5000000),
				  .random64 = draw,
				  .random_arg = x};
	tcp_config_default(&x->config);
	x->config.timestamps = x->config.window_scaling = x->config.sack = false;
	x->config.congestion = TCP_CONGESTION_NEWRENO;
	x->config.max_streams = 256;
	x->config.max_time_wait = 16;
	if (configure != NULL)
		configure(&x->config);
	x->tcp = tcp_create(&x->shard, &env, &x->config);
	assert_non_null(x->tcp);
	x->peer_iss = 1000;
	x->peer_port = SCRIPT_PEER_PORT;
	x->port = SCRIPT_PORT;
	x->window = 65535;
	x->ts_value = 700;
	return x;
}

void script_destroy(struct script *x)
{
	tcp_destroy(x->tcp);
	assert_int_equal(chunk_pool_used(x->shard.chunks), 0);
	assert_true(timer_next(x->shard.timers) == UINT64_MAX);
	timer_wheel_destroy(x->shard.timers);
	chunk_pool_destroy(x->shard.chunks);
	free(x->memory);
	free(x->out);
	free(x);
}

void script_raw(struct script *x, unsigned flags, uint32_t seq, uint32_t ack, const void *options,
		unsigned option_bytes, uint32_t n)
{
	unsigned bytes = WIRE_TCP_BYTES + option_bytes + n;
	uint8_t *h = calloc(1, bytes);
	struct tcp_packet p = {
		.source = peer, .destination = local, .segment = h, .bytes = bytes, .tos = x->tos};

	wire_put16(h, x->peer_port);
	wire_put16(h + 2, x->port);
	wire_put32(h + 4, x->peer_iss + seq);
	wire_put32(h + 8, (flags & S_ACK) != 0 ? x->iss + ack : 0);
	h[12] = (uint8_t)((WIRE_TCP_BYTES + option_bytes) / 4 << 4);
	h[13] = (uint8_t)flags;
	wire_put16(h + 14, x->window);
	if (option_bytes > 0)
		memcpy(h + WIRE_TCP_BYTES, options, option_bytes);
	for (uint32_t i = 0; i < n; i++)
		h[WIRE_TCP_BYTES + option_bytes + i] = (uint8_t)(seq + i);
	uint64_t sum = checksum_pseudo(&peer, &local, bytes);
	uint16_t folded = checksum_finish(checksum_add(sum, h, bytes));
	if (x->spoil_checksum)
		folded ^= 0x0100;
	x->spoil_checksum = false;
	memcpy(h + 16, &folded, 2);
	x->verdict = tcp_input(x->tcp, &p);
	free(h);
}

void script_in(struct script *x, unsigned flags, uint32_t seq, uint32_t ack, uint32_t n)
{
	uint8_t timestamp[OPTION_TIMESTAMP_BYTES];
	uint32_t echo = x->n_out > 0 ? x->out[x->n_out - 1].ts_value : 0;

	options_write_timestamp(timestamp, x->ts_value, echo);
	script_raw(x, flags, seq, ack, timestamp, x->timestamps ? OPTION_TIMESTAMP_BYTES : 0, n);
	script_flush(x);
}

void script_flush(struct script *x)
{
	tcp_flush(x->tcp);
}

void script_advance(struct script *x, uint64_t us)
{
	timer_advance(&x->shard, x->shard.now_us + us);
	tcp_flush(x->tcp);
}

const struct script_segment *script_take(struct script *x)
{
	return x->taken < x->n_out ? &x->out[x->taken++] : NULL;
}

unsigned script_pending(const struct script *x)
{
	return x->n_out - x->taken;
}

void script_expect_at(struct script *x, unsigned flags, uint32_t seq, uint32_t ack, uint32_t n,
		      const char *file, int line)
{
	const struct script_segment *o = script_take(x);

	if (o == NULL) {
		print_error("%s:%d: no segment\n", file, line);
		_fail(file, line);
		return;
	}
	if ((o->flags & ~(unsigned)S_PSH) != flags || o->seq != seq || o->ack != ack ||
	    o->bytes != n) {
		print_error("%s:%d: flags %02x seq %u ack %u len %u, not %02x %u %u %u\n", file,
			    line, o->flags, o->seq, o->ack, o->bytes, flags, seq, ack, n);
		_fail(file, line);
	}
}

void script_expect_nothing_at(struct script *x, const char *file, int line)
{
	const struct script_segment *o = script_take(x);

	if (o != NULL) {
		print_error("%s:%d: unexpected flags %02x seq %u ack %u len %u\n", file, line,
			    o->flags, o->seq, o->ack, o->bytes);
		_fail(file, line);
	}
}

void script_listen(struct script *x)
{
	struct tcp_listen l = {
		.port = SCRIPT_PORT, .events = &events, .user = x, .admit = x->admit};

	assert_int_equal(tcp_listen(x->tcp, &l), 0);
}

void script_connect(struct script *x)
{
	int err = 0;

	x->stream = stream_connect_from(x->tcp, &local, SCRIPT_PORT, &peer, x->peer_port, &events,
					x, &err);
	assert_non_null(x->stream);
	script_flush(x);
}

void script_establish(struct script *x)
{
	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	script_in(x, S_ACK, 1, 1, 0);
	script_expect_nothing(x);
	assert_string_equal(x->log, "opened");
	x->log[0] = '\0';
}

struct script *script_established(void (*configure)(struct tcp_config *c))
{
	static const uint8_t mss[4] = {2, 4, SCRIPT_MSS >> 8, SCRIPT_MSS & 255};
	struct script *x = script_create(configure);

	script_listen(x);
	script_raw(x, S_SYN, 0, 0, mss, 4, 0);
	script_flush(x);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	script_in(x, S_ACK, 1, 1, 0);
	x->log[0] = '\0';
	return x;
}

unsigned script_take_all(struct script *x)
{
	unsigned n = script_pending(x);

	x->taken = x->n_out;
	return n;
}

void script_establish_active(struct script *x)
{
	script_connect(x);
	script_expect(x, S_SYN, 0, 0, 0);
	script_in(x, S_SYN | S_ACK, 0, 1, 0);
	script_expect(x, S_ACK, 1, 1, 0);
	assert_string_equal(x->log, "opened");
	x->log[0] = '\0';
}

void script_write(struct script *x, uint32_t n)
{
	uint8_t *data = malloc(n);

	for (uint32_t i = 0; i < n; i++)
		data[i] = (uint8_t)(i * 7);
	assert_int_equal(stream_write(x->stream, data, n, 0), n);
	free(data);
	script_flush(x);
}

static uint32_t find(const struct script *x)
{
	struct flow_key key = {.peer_port = x->peer_port, .local_port = SCRIPT_PORT};

	flow_address(key.peer, &peer);
	flow_address(key.local, &local);
	return stack_find(x->tcp, &key, flow_hash(&x->tcp->flows, &key));
}

struct stream *script_tcb(const struct script *x)
{
	uint32_t ref = find(x);

	return ref == FLOW_NONE || (ref & FLOW_TAGS) != 0 ? NULL
							  : slab_at(x->tcp->streams, ref, NULL);
}

enum tcp_state script_state(const struct script *x)
{
	uint32_t ref = find(x);

	if (ref == FLOW_NONE)
		return TCP_CLOSED;
	if ((ref & FLOW_SYN) != 0)
		return TCP_SYN_RCVD;
	return (ref & FLOW_TIME_WAIT) != 0 ? TCP_TIME_WAIT : (enum tcp_state)script_tcb(x)->state;
}

static void reach_syn_rcvd(struct script *x)
{
	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
}

static void reach_fin_wait_1(struct script *x)
{
	script_establish(x);
	stream_close(x->stream);
	script_flush(x);
}

static void reach_fin_wait_2(struct script *x)
{
	reach_fin_wait_1(x);
	script_in(x, S_ACK, 1, 2, 0);
}

static void reach_close_wait(struct script *x)
{
	script_establish(x);
	script_in(x, S_FIN | S_ACK, 1, 1, 0);
}

static void reach_closing(struct script *x)
{
	reach_fin_wait_1(x);
	script_in(x, S_FIN | S_ACK, 1, 1, 0);
}

static void reach_last_ack(struct script *x)
{
	reach_close_wait(x);
	stream_close(x->stream);
	script_flush(x);
}

static void reach_time_wait(struct script *x)
{
	reach_fin_wait_2(x);
	script_in(x, S_FIN | S_ACK, 1, 2, 0);
}

void script_reach(struct script *x, enum tcp_state state)
{
	static void (*const reach[TCP_STATES])(struct script * x) = {
		[TCP_CLOSED] = NULL,
		[TCP_SYN_SENT] = script_connect,
		[TCP_SYN_RCVD] = reach_syn_rcvd,
		[TCP_ESTABLISHED] = script_establish,
		[TCP_FIN_WAIT_1] = reach_fin_wait_1,
		[TCP_FIN_WAIT_2] = reach_fin_wait_2,
		[TCP_CLOSE_WAIT] = reach_close_wait,
		[TCP_CLOSING] = reach_closing,
		[TCP_LAST_ACK] = reach_last_ack,
		[TCP_TIME_WAIT] = reach_time_wait,
	};

	if (reach[state] != NULL)
		reach[state](x);
	assert_int_equal(script_state(x), state);
	x->taken = x->n_out;
	x->log[0] = '\0';
}

uint64_t script_count(const struct script *x, enum tcp_counter c)
{
	return tcp_counters(x->tcp)[c];
}

void script_set_isn(struct script *x, uint32_t isn)
{
	struct flow_key key = {.peer_port = x->peer_port, .local_port = SCRIPT_PORT};

	flow_address(key.peer, &peer);
	flow_address(key.local, &local);
	/* The ISN clock ticks every 4 us (RFC 6528): wait until it shows what is wanted. */
	script_advance(x, (uint64_t)(isn - isn_choose(x->tcp, &key)) * 4);
}
