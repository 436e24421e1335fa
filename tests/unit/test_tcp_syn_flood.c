/* test_tcp_syn_flood.c - SYN cookies (RFC 4987): no memory for who does not answer */
#include "dataplane/tcp/checksum.h"
#include "dataplane/tcp/isn.h"
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/net.h"
#include "tests/sim/random.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SECOND = 1000000 };

static void always(struct tcp_config *c)
{
	c->syn_cookies = TCP_COOKIES_ALWAYS;
	c->timestamps = c->window_scaling = c->sack = true;
}

static void backlog_of_3(struct tcp_config *c)
{
	c->syn_backlog = 3;
}

static void ten_a_second(struct tcp_config *c)
{
	always(c);
	c->synacks_per_s = 10;
}

static void one_a_second(struct tcp_config *c)
{
	always(c);
	c->synacks_per_s = 1;
}

static void no_limit(struct tcp_config *c)
{
	always(c);
	c->synacks_per_s = 0;
}

static void one_stream(struct tcp_config *c)
{
	always(c);
	c->max_streams = 1;
}

static const struct tcp_options full = {.has_mss = true,
					.mss = 1400,
					.has_scale = true,
					.scale = 9,
					.has_timestamp = true,
					.ts_value = 700,
					.sack_permitted = true};

/* A SYN with these options; what came back. */
static struct tcp_options syn(struct script *x, const struct tcp_options *o)
{
	uint8_t options[OPTIONS_MAX_BYTES];
	struct tcp_options answer;
	size_t n = options_write_syn(options, o, TCP_OPTIONS_LINUX);

	x->iss_known = false;
	script_raw(x, S_SYN, 0, 0, options, (unsigned)n, 0);
	script_flush(x);
	const struct script_segment *s = script_take(x);
	assert_non_null(s);
	assert_int_equal(s->flags, S_SYN | S_ACK);
	assert_int_equal(s->seq, 0);
	assert_int_equal(s->ack, 1);
	assert_true(options_parse(&answer, s->options, s->option_bytes));
	return answer;
}

static struct script *listening(void (*configure)(struct tcp_config *c))
{
	struct script *x = script_create(configure);

	script_listen(x);
	return x;
}

static void syn_beyond_the_backlog_is_answered_and_nothing_is_kept(void **state)
{
	struct script *x = listening(backlog_of_3);

	for (unsigned i = 0; i < 5; i++) {
		x->peer_port = (uint16_t)(SCRIPT_PEER_PORT + i);
		x->iss_known = false;
		script_in(x, S_SYN, 0, 0, 0);
		script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	}
	assert_int_equal(x->tcp->syn_cache.used, 3);
	assert_int_equal(script_count(x, tcp_cookies_sent), 2);
	script_in(x, S_ACK, 1, 1, 0);
	assert_string_equal(x->log, "opened");
	assert_int_equal(script_state(x), TCP_ESTABLISHED);
	assert_int_equal(script_count(x, tcp_cookies_accepted), 1);
	assert_int_equal(script_count(x, tcp_accepted), 1);
	script_destroy(x);
}

static void cookie_keeps_what_the_syn_offered_in_the_timestamp(void **state)
{
	struct script *x = listening(always);
	struct tcp_options answer = syn(x, &full);

	assert_int_equal(tcp_stream_count(x->tcp), 0);
	assert_int_equal(answer.mss, 1460);
	assert_true(answer.has_scale && answer.sack_permitted && answer.has_timestamp);
	assert_int_equal(answer.ts_echo, 700);
	x->timestamps = true;
	x->ts_value = 710;
	x->window = 100;
	script_in(x, S_ACK, 1, 1, 0);
	const struct stream *s = script_tcb(x);
	assert_int_equal(s->flags & (F_SCALING | F_TIMESTAMPS | F_SACK),
			 F_SCALING | F_TIMESTAMPS | F_SACK);
	assert_int_equal(snd_scale(s), 9);
	assert_int_equal(s->snd_wnd, 100 << 9);
	assert_int_equal(s->ts_recent, 710);
	assert_int_equal(s->mss, 1360 - OPTION_TIMESTAMP_BYTES); /* the next lower of the table */
	script_destroy(x);
}

static void every_scale_and_size_survives_the_cookie(void **state)
{
	static const uint16_t offered[] = {1, 64, 535, 536, 1220, 1439, 1440, 1459, 1460};
	static const uint16_t kept[] = {64, 64, 64, 536, 1220, 1360, 1440, 1440, 1460};

	for (unsigned i = 0; i < 15 * 9; i++) {
		struct script *x = listening(always);
		struct tcp_options o = full;

		o.mss = offered[i % 9];
		o.scale = (uint8_t)(i / 9);
		o.sack_permitted = i % 2 != 0;
		syn(x, &o);
		x->timestamps = true;
		script_in(x, S_ACK, 1, 1, 0);
		assert_int_equal(snd_scale(script_tcb(x)), o.scale);
		assert_int_equal((script_tcb(x)->flags & F_SACK) != 0, o.sack_permitted);
		assert_int_equal(script_tcb(x)->mss, kept[i % 9] - OPTION_TIMESTAMP_BYTES);
		script_destroy(x);
	}
}

static void without_timestamps_only_the_size_is_kept(void **state)
{
	struct script *x = listening(always);
	struct tcp_options o = full;

	o.has_timestamp = false;
	struct tcp_options answer = syn(x, &o);
	assert_false(answer.has_scale || answer.sack_permitted || answer.has_timestamp);
	script_in(x, S_ACK, 1, 1, 0);
	const struct stream *s = script_tcb(x);
	assert_int_equal(s->flags & (F_SCALING | F_TIMESTAMPS | F_SACK), 0);
	assert_int_equal(s->mss, 1360);
	assert_int_equal(s->snd_wnd, 65535);
	script_destroy(x);
}

static void timestamp_of_a_cookie_is_never_ahead_of_the_clock(void **state)
{
	struct script *x = listening(always);

	for (unsigned i = 0; i < 130; i++) {
		uint32_t value = syn(x, &full).ts_value;
		uint32_t clock = stack_ticks(x->tcp);
		struct flow_key key = {.peer_port = x->peer_port, .local_port = SCRIPT_PORT};
		flow_address(key.peer, &(struct ip_addr){4, {192, 0, 2, 2}});
		flow_address(key.local, &(struct ip_addr){4, {192, 0, 2, 1}});
		uint32_t behind = clock +
				  isn_timestamp_offset(x->tcp, flow_hash(&x->tcp->flows, &key)) -
				  value;
		assert_in_range(behind, 0, 63);
		assert_int_equal(value & 63, 9 | 1 << 4); /* scale and SACK, at any time */
		script_advance(x, 1000);
	}
	script_destroy(x);
}

static void data_that_comes_instead_of_a_lost_ack_is_taken(void **state)
{
	struct script *x = listening(always);

	syn(x, &full);
	x->timestamps = true;
	script_in(x, S_ACK | S_PSH, 1, 1, 50);
	assert_string_equal(x->log, "opened readable");
	assert_int_equal(x->received, 50);
	script_destroy(x);
}

static void guessed_cookie_is_counted_and_reset(void **state)
{
	struct script *x = listening(always);
	uint64_t seed = 7;

	syn(x, &full);
	for (unsigned i = 0; i < 2000; i++) {
		uint32_t ack = 2 + random_below(&seed, UINT32_MAX - 2);
		script_in(x, S_ACK, 1, ack, 0);
		script_expect(x, S_RST, ack, 0, 0);
	}
	assert_int_equal(script_count(x, tcp_cookies_bad), 2000);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_destroy(x);
}

static void cookie_of_another_connection_is_refused(void **state)
{
	struct script *x = listening(always);

	syn(x, &full);
	x->peer_port++;
	script_in(x, S_ACK, 1, 1, 0);
	script_expect(x, S_RST, 1, 0, 0);
	x->peer_port--;
	script_in(x, S_ACK, 2, 1, 0); /* right connection, wrong number of the peer */
	script_expect(x, S_RST, 1, 0, 0);
	assert_int_equal(script_count(x, tcp_cookies_bad), 2);
	script_in(x, S_ACK, 1, 1, 0);
	assert_string_equal(x->log, "opened");
	script_destroy(x);
}

static void cookie_is_good_for_96_seconds_and_no_longer_than_128(void **state)
{
	static const struct {
		uint32_t after_s;
		bool good;
	} cases[] = {{1, true}, {95, true}, {128, false}, {160, false}, {1000, false}};

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct script *x = listening(always);

		syn(x, &full);
		script_advance(x, cases[i].after_s * 1000000ull);
		x->peer_port++; /* another keeps the stack waiting for cookies */
		uint32_t iss = x->iss;
		syn(x, &full);
		x->peer_port--;
		x->iss = iss;
		script_in(x, S_ACK, 1, 1, 0);
		assert_int_equal(script_state(x) == TCP_ESTABLISHED, cases[i].good);
		assert_int_equal(script_count(x, tcp_cookies_bad), !cases[i].good);
		script_destroy(x);
	}
}

static void nothing_is_taken_for_a_cookie_where_none_was_sent(void **state)
{
	struct script *x = listening(NULL);

	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_count(x, tcp_no_flow), 1);
	assert_int_equal(script_count(x, tcp_cookies_bad), 0);
	script_destroy(x);
}

/* Refuses the first, and notes each question in the log. */
static bool admit_second(void *user, const struct ip_addr *peer)
{
	struct script *x = user;
	bool first = x->log[0] == '\0';

	strcat(x->log, first ? "asked" : " again");
	return !first;
}

static void admission_is_asked_when_the_connection_is_created(void **state)
{
	struct script *x = script_create(always);

	x->admit = admit_second;
	script_listen(x);
	syn(x, &full);
	assert_string_equal(x->log, "");
	x->timestamps = true;
	script_in(x, S_ACK, 1, 1, 0);
	script_expect(x, S_RST, 1, 0, 0);
	assert_int_equal(script_count(x, tcp_syn_refused), 1);
	script_in(x, S_ACK, 1, 1, 0);
	assert_string_equal(x->log, "asked again opened");
	script_destroy(x);
}

static void cookie_that_finds_no_stream_left_is_reset(void **state)
{
	struct script *x = listening(one_stream);

	syn(x, &full);
	script_in(x, S_ACK, 1, 1, 0);
	x->peer_port++;
	syn(x, &full);
	script_in(x, S_ACK, 1, 1, 0);
	script_expect(x, S_RST, 1, 0, 0);
	assert_int_equal(script_count(x, tcp_streams_full), 1);
	script_destroy(x);
}

static void drain_refuses_cookies_too(void **state)
{
	struct script *x = listening(always);

	syn(x, &full);
	tcp_stop_listening(x->tcp);
	script_in(x, S_ACK, 1, 1, 0);
	script_expect(x, S_RST, 1, 0, 0);
	script_in(x, S_SYN, 0, 0, 0);
	script_expect(x, S_RST | S_ACK, -x->iss, 1, 0);
	assert_int_equal(script_count(x, tcp_syn_refused), 2);
	assert_int_equal(script_count(x, tcp_no_flow), 0);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_destroy(x);
}

/* Takes chunks until the pool is that full; they form a list. */
static void fill(struct script *x, struct chunk **taken, unsigned percent)
{
	while (chunk_pool_percent(x->shard.chunks) < percent) {
		struct chunk *c = chunk_alloc(x->shard.chunks, CHUNK_4K, true);
		assert_non_null(c);
		c->next = *taken;
		*taken = c;
	}
}

static void memory_pressure_turns_to_cookies_and_then_to_refusal(void **state)
{
	struct script *x = listening(NULL);
	struct chunk *taken = NULL;

	fill(x, &taken, 90);
	script_in(x, S_SYN, 0, 0, 0);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	fill(x, &taken, 95);
	x->peer_port++;
	script_in(x, S_SYN, 0, 0, 0);
	script_expect_nothing(x);
	assert_int_equal(script_count(x, tcp_syn_refused), 1);
	x->peer_port--;
	script_in(x, S_ACK, 1, 1, 0); /* too late: memory is needed by then */
	script_expect(x, S_RST, 1, 0, 0);
	chunk_free_list(x->shard.chunks, taken);
	script_destroy(x);
}

static void synacks_are_limited_a_second(void **state)
{
	struct script *x = listening(ten_a_second);
	unsigned answered = 0;

	for (unsigned i = 0; i < 3000; i++) { /* one each 10 ms: 30 seconds */
		x->peer_port = (uint16_t)(1024 + i);
		script_in(x, S_SYN, 0, 0, 0);
		while (script_take(x) != NULL)
			answered++;
		script_advance(x, 10000);
	}
	assert_in_range(answered, 300, 303);
	assert_int_equal(script_count(x, tcp_syn_limited), 3000 - answered);
	script_destroy(x);
}

/* Of so many SYNs at one instant */
static unsigned answered_at_once(void (*configure)(struct tcp_config *c), unsigned syns)
{
	struct script *x = listening(configure);
	unsigned n = 0;

	for (unsigned i = 0; i < syns; i++) {
		x->peer_port = (uint16_t)(1024 + i);
		script_in(x, S_SYN, 0, 0, 0);
		while (script_take(x) != NULL)
			n++;
	}
	script_destroy(x);
	return n;
}

static void limit_allows_a_tenth_of_a_second_at_once_and_at_least_one(void **state)
{
	assert_int_equal(answered_at_once(one_a_second, 50), 1);
	assert_int_equal(answered_at_once(ten_a_second, 50), 2);
	assert_int_equal(answered_at_once(no_limit, 5000), 5000);
}

/* A flood: a hundred SYNs for every segment of an established transfer. */
enum { FLOOD_FACTOR = 100, FLOOD_BACKLOG = 16, TRANSFER = 300000, PORT = 25 };

struct flood {
	struct net *net;
	uint64_t seed, sent, segments;
	struct stream *late; /* opened through the flood */
	uint32_t to_write, received;
	unsigned opened, most_streams;
};

static void put_syn(struct flood *f)
{
	uint8_t ip[WIRE_IP4_BYTES + WIRE_TCP_BYTES] = {0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6};
	uint8_t *h = ip + WIRE_IP4_BYTES;
	struct ip_addr from = {4, {172, 16, 0, 0}}, to = net_addr(f->net, 1);
	uint64_t r = random_next(&f->seed);

	from.byte[2] = (uint8_t)r;
	from.byte[3] = (uint8_t)(r >> 8);
	memcpy(ip + 12, from.byte, 4);
	memcpy(ip + 16, to.byte, 4);
	wire_put16(h, (uint16_t)(1024 + (r >> 16) % 60000));
	wire_put16(h + 2, PORT);
	wire_put32(h + 4, (uint32_t)(r >> 32));
	h[12] = 5 << 4;
	h[13] = WIRE_SYN;
	wire_put16(h + 14, 65535);
	uint64_t sum = checksum_pseudo(&from, &to, WIRE_TCP_BYTES);
	uint16_t folded = checksum_finish(checksum_add(sum, h, WIRE_TCP_BYTES));
	memcpy(h + 16, &folded, 2);
	net_inject(f->net, 1, ip, sizeof(ip));
	f->sent++;
}

static bool count_segments(void *arg, unsigned from, uint8_t *ip, size_t bytes)
{
	struct flood *f = arg;

	f->segments += from == 0;
	return true;
}

static void rain(void *arg)
{
	struct flood *f = arg;
	unsigned streams = tcp_stream_count(net_tcp(f->net, 1));

	while (f->sent < f->segments * FLOOD_FACTOR)
		put_syn(f);
	if (streams > f->most_streams)
		f->most_streams = streams;
}

static void pump(struct stream *s, void *user)
{
	static const uint8_t data[4096];
	struct flood *f = user;
	size_t n;

	do {
		n = f->to_write < sizeof(data) ? f->to_write : sizeof(data);
		n = stream_write(s, data, n, 0);
		f->to_write -= (uint32_t)n;
	} while (n > 0);
}

static void opened(struct stream *s, void *user)
{
	((struct flood *)user)->opened++;
	pump(s, user);
}

static void accepted(struct stream *s, void *user)
{
}

static void take(struct stream *s, void *user)
{
	((struct flood *)user)->received += (uint32_t)stream_readable(s);
	stream_consume(s, stream_readable(s));
}

static void ended(struct stream *s, void *user, enum stream_end why)
{
	fail_msg("a connection was lost in the flood");
}

static const struct stream_events client = {opened, take, pump, ended};
static const struct stream_events server = {accepted, take, pump, ended};

static bool all_received(void *arg)
{
	return ((struct flood *)arg)->received == 2 * TRANSFER;
}

static bool half_received(void *arg)
{
	return ((struct flood *)arg)->received >= TRANSFER / 2;
}

static void connect_one(struct flood *f)
{
	struct ip_addr from = net_addr(f->net, 0), to = net_addr(f->net, 1);
	int err;

	f->to_write += TRANSFER;
	f->late = stream_connect(net_tcp(f->net, 0), &from, &to, PORT, &client, f, &err);
	assert_non_null(f->late);
}

static void transfers_complete_through_a_flood_of_100_syns_a_segment(void **state)
{
	struct flood f = {.seed = 11};
	struct net_options o;

	net_options_default(&o);
	o.config[1].syn_backlog = FLOOD_BACKLOG;
	f.net = net_create(&o);
	net_set_filter(f.net, count_segments, &f);
	net_on_step(f.net, rain, &f);
	tcp_listen(net_tcp(f.net, 1),
		   &(struct tcp_listen){.port = PORT, .events = &server, .user = &f});
	connect_one(&f);
	assert_true(net_run_until(f.net, half_received, &f, 10 * SECOND));
	connect_one(&f); /* a newcomer while it rains */
	assert_true(net_run_until(f.net, all_received, &f, 10 * SECOND));
	const uint64_t *c = tcp_counters(net_tcp(f.net, 1));
	assert_int_equal(f.opened, 2);
	assert_true(c[tcp_cookies_sent] > f.sent / 2);
	assert_true(c[tcp_cookies_accepted] > 0);
	assert_in_range(f.most_streams, 1, FLOOD_BACKLOG + 2);
	assert_int_equal(tcp_counters(net_tcp(f.net, 0))[tcp_retransmits], 0);
	net_destroy(f.net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(syn_beyond_the_backlog_is_answered_and_nothing_is_kept),
		cmocka_unit_test(cookie_keeps_what_the_syn_offered_in_the_timestamp),
		cmocka_unit_test(every_scale_and_size_survives_the_cookie),
		cmocka_unit_test(without_timestamps_only_the_size_is_kept),
		cmocka_unit_test(timestamp_of_a_cookie_is_never_ahead_of_the_clock),
		cmocka_unit_test(data_that_comes_instead_of_a_lost_ack_is_taken),
		cmocka_unit_test(guessed_cookie_is_counted_and_reset),
		cmocka_unit_test(cookie_of_another_connection_is_refused),
		cmocka_unit_test(cookie_is_good_for_96_seconds_and_no_longer_than_128),
		cmocka_unit_test(nothing_is_taken_for_a_cookie_where_none_was_sent),
		cmocka_unit_test(admission_is_asked_when_the_connection_is_created),
		cmocka_unit_test(cookie_that_finds_no_stream_left_is_reset),
		cmocka_unit_test(drain_refuses_cookies_too),
		cmocka_unit_test(memory_pressure_turns_to_cookies_and_then_to_refusal),
		cmocka_unit_test(synacks_are_limited_a_second),
		cmocka_unit_test(limit_allows_a_tenth_of_a_second_at_once_and_at_least_one),
		cmocka_unit_test(transfers_complete_through_a_flood_of_100_syns_a_segment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
