/* test_relay_memory.c - messages that are sent from memory, and all that makes the spool be read
 * instead: octet by octet the same */
#include "tests/unit/relay_kit.h"

#include "tests/sim/random.h"

enum { BUDGET = 1 << 20, LONGEST = 300000, SECOND_POOL = MAIL_HOP + 10 };

static struct mail_options remembering(size_t budget)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.memory = budget;
	return o;
}

/* Hops that are not there yet: messages wait, and no attempt has begun. */
static struct bench waiting(const struct mail_options *o)
{
	return (struct bench){.m = mail_create(o)};
}

static void expect_counts(const struct bench *b, unsigned hits, unsigned misses, unsigned evictions)
{
	assert_int_equal(count(b, relay_memory_hits), hits);
	assert_int_equal(count(b, relay_memory_misses), misses);
	assert_int_equal(count(b, relay_memory_evictions), evictions);
}

static uint64_t reads(const struct bench *b)
{
	return disk_calls(b->m->disk, DISK_READ);
}

/* Lines and dots of all kinds, n octets. */
static void fill(char *out, size_t n, uint64_t seed)
{
	static const char *const parts[] = {".", "..", "\r\n", "a", ".\r\n", "\r\n.", "some text "};
	size_t at = (size_t)sprintf(out, "Subject: x\r\n\r\n");

	while (at + 12 < n)
		at += (size_t)sprintf(out + at, "%s", parts[random_below(&seed, 7)]);
	while (at < n)
		out[at++] = 'z';
	out[n] = '\0';
}

static size_t stuffed(const char *from, char *to)
{
	size_t n = 0;

	for (size_t i = 0; from[i] != '\0'; i++) {
		if (from[i] == '.' && (i == 0 || from[i - 1] == '\n'))
			to[n++] = '.';
		to[n++] = from[i];
	}
	return n;
}

/* By BDAT in two chunks, or by DATA. */
static void submit_by(struct bench *b, const char *text, bool chunked)
{
	static char wire[2 * LONGEST];
	struct peer *p = peer_login(b->m);
	size_t n = strlen(text);

	expect_cmd(p, "MAIL FROM:<alice@x.y>", "250");
	expect_cmd(p, "RCPT TO:<a@x.y>", "250");
	if (chunked) {
		bdat(p, text, n / 3, false, "250");
		bdat(p, text + n / 3, n - n / 3, true, "250");
	} else {
		expect_cmd(p, "DATA", "354");
		peer_send(p, wire, stuffed(text, wire));
		expect_say(p, "\r\n.\r\n", "250");
	}
	peer_free(p);
}

static void expect_octets(size_t n, bool from, bool to, size_t budget, bool kept)
{
	static char text[LONGEST + 1];
	static uint8_t stored[LONGEST + 4096];
	struct mail_options o = remembering(budget);
	struct bench b = waiting(&o);

	fill(text, n, n);
	submit_by(&b, text, from);
	/* as the spool has it */
	size_t all = mail_content(b.m, stored, sizeof(stored));
	assert_true(all > n);
	uint64_t before = reads(&b);
	b.h = hop_create(b.m, MAIL_HOP);
	b.h->chunking = to;
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	const struct bytes *got = &b.h->mails[0].content;
	/* to a hop without BDAT a last line end is added where there is none */
	assert_true(got->n == all || (!to && got->n == all + 2 && stored[all - 1] != '\n'));
	assert_memory_equal(got->at, stored, all);
	assert_int_equal(b.h->mails[0].chunked, to);
	expect_counts(&b, kept, !kept, 0);
	assert_int_equal(reads(&b) == before, kept);
	assert_int_equal(count(&b, relay_memory_bytes), 0);
	bench_end(&b);
}

static void octets_are_those_of_the_spool_whatever_the_way(void **state)
{
	static const size_t sizes[] = {40,    3000,  4072,  8000,  12000, 16200,
				       33000, 48800, 60000, 65000, 300000};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		for (unsigned way = 0; way < 4; way++) {
			expect_octets(sizes[i], way & 1, way & 2, BUDGET, sizes[i] <= 65000);
			expect_octets(sizes[i], way & 1, way & 2, 0, false);
		}
	}
}

static void memory_serves_while_the_disk_cannot_be_read(void **state)
{
	struct mail_options o = remembering(BUDGET);
	struct bench b = bench_with(&o);

	disk_faults(b.m->disk)->per_million[DISK_READ] = 1000000;
	for (unsigned i = 0; i < 10; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>\n<b@x.y>", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(hop_count(b.h, ".hello"), 10);
	expect_counts(&b, 10, 0, 0);
	assert_int_equal(reads(&b), 0);
	bench_end(&b);
}

static void what_is_put_off_is_read_from_the_spool_later(void **state)
{
	static const enum hop_stage stages[] = {HOP_MAIL, HOP_RCPT, HOP_DATA, HOP_FINAL};

	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		struct mail_options o = remembering(BUDGET);
		struct bench b = bench_with(&o);
		hop_rule(b.h, (struct hop_rule){
				      .stage = stages[i], .reply = "451 later\r\n", .times = 1});
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		mail_run(b.m, 5 * MAIL_SECOND);
		assert_int_equal(relay_queued(b.m->relay), 1);
		expect_counts(&b, 1, 0, 0);
		assert_int_equal(count(&b, relay_memory_bytes), 0);
		assert_int_equal(reads(&b), 0);
		assert_true(drained(&b, 10ull * MINUTE));
		assert_int_equal(hop_count(b.h, ".hello"), 1);
		expect_counts(&b, 1, 1, 0);
		bench_end(&b);
	}
}

static void a_connection_lost_in_the_middle_takes_the_copy_along(void **state)
{
	static char text[50001];
	struct mail_options o = remembering(BUDGET);

	fill(text, 50000, 1);
	for (size_t cut = 500; cut < 50000; cut += 7000) {
		struct bench b = bench_with(&o);
		b.h->cut_after = cut;
		b.h->cut_how = HOP_RESET;
		submit_by(&b, text, true);
		mail_run(b.m, 5 * MAIL_SECOND);
		assert_int_equal(count(&b, relay_memory_bytes), 0);
		assert_true(drained(&b, 10ull * MINUTE));
		assert_int_equal(b.h->n_mails, 1);
		assert_memory_equal(b.h->mails[0].content.at + b.h->mails[0].content.n - 50002,
				    text, 50000);
		expect_counts(&b, 1, 1, 0);
		bench_end(&b);
	}
}

static void the_oldest_goes_when_the_budget_is_spent(void **state)
{
	struct mail_options o = remembering(3 * 4096 + 4095);
	struct bench b = waiting(&o);

	for (unsigned i = 0; i < 5; i++) {
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		assert_int_equal(count(&b, relay_memory_bytes), (i < 3 ? i + 1 : 3) * 4096);
	}
	expect_counts(&b, 0, 0, 2);
	b.h = hop_create(b.m, MAIL_HOP);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(hop_count(b.h, ".hello"), 5);
	expect_counts(&b, 3, 2, 2);
	bench_end(&b);
}

/* So many percent of the gateway's chunks; they are given back by chunk_free_list(). */
static struct chunk *press(struct mail *m, unsigned percent)
{
	struct chunk *all = NULL, *c;

	while (chunk_pool_percent(m->shard->chunks) < percent &&
	       (c = chunk_alloc(m->shard->chunks, CHUNK_64K, false)) != NULL) {
		c->next = all;
		all = c;
	}
	return all;
}

static void short_of_chunks_copies_go_before_sessions_feel_it(void **state)
{
	struct mail_options o = remembering(BUDGET);
	struct bench b = waiting(&o);
	static char text[50001];

	fill(text, 50000, 2);
	for (unsigned i = 0; i < 6; i++)
		submit_by(&b, text, true);
	assert_int_equal(count(&b, relay_memory_bytes), 6 * 65536);
	struct chunk *some = press(b.m, 57);
	mail_run(b.m, MAIL_SECOND);
	expect_counts(&b, 0, 0, 0);
	struct chunk *more = press(b.m, 63);
	mail_run(b.m, MAIL_SECOND);
	/* as many as it takes, the oldest */
	assert_in_range(count(&b, relay_memory_evictions), 1, 5);
	assert_in_range(chunk_pool_percent(b.m->shard->chunks), 55, 59);
	struct chunk *rest = press(b.m, 69);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(count(&b, relay_memory_bytes), 0);
	expect_counts(&b, 0, 0, 6);
	/* and nothing new is kept */
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_int_equal(count(&b, relay_memory_bytes), 0);
	chunk_free_list(b.m->shard->chunks, some);
	chunk_free_list(b.m->shard->chunks, more);
	chunk_free_list(b.m->shard->chunks, rest);
	b.h = hop_create(b.m, MAIL_HOP);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(b.h->n_mails, 7);
	expect_counts(&b, 0, 7, 6);
	bench_end(&b);
}

static struct mail_options two_pools(void)
{
	struct mail_options o = remembering(BUDGET);
	struct relay_config *c = &o.relay;

	c->pools[1] = c->pools[0];
	snprintf(c->pools[1].name, RELAY_NAME, "partner");
	c->pools[1].hops[0].port = SECOND_POOL;
	c->n_pools = 2;
	c->routes[0] = (struct relay_route){.match = "partner.test", .pool = 1};
	c->routes[1] = (struct relay_route){.match = "*", .pool = 0};
	c->n_routes = 2;
	return o;
}

static void entries_of_several_pools_share_one_copy(void **state)
{
	/* the second pool takes it, puts it off, or is not there */
	for (unsigned i = 0; i < 3; i++) {
		struct mail_options o = two_pools();
		struct bench b = bench_with(&o);
		struct next_hop *partner = i < 2 ? hop_create(b.m, SECOND_POOL) : NULL;
		if (i == 1)
			hop_rule(partner, (struct hop_rule){.stage = HOP_FINAL,
							    .reply = "451 later\r\n",
							    .times = 1});
		submit(&b, "<alice@x.y>", "<a@x.y>\n<b@partner.test>", TEXT);
		mail_run(b.m, 5 * MAIL_SECOND);
		assert_int_equal(b.h->n_mails, 1);
		assert_int_equal(relay_queued(b.m->relay), i > 0);
		assert_int_equal(count(&b, relay_split), 1);
		assert_int_equal(reads(&b), 0);
		/* who has not tried yet still has it */
		assert_int_equal(count(&b, relay_memory_bytes), i == 2 ? 4096 : 0);
		if (i == 2)
			partner = hop_create(b.m, SECOND_POOL);
		assert_true(drained(&b, 10ull * MINUTE));
		assert_int_equal(partner->n_mails, 1);
		assert_int_equal(partner->mails[0].content.n, b.h->mails[0].content.n);
		assert_memory_equal(partner->mails[0].content.at, b.h->mails[0].content.at,
				    b.h->mails[0].content.n);
		expect_counts(&b, 2, i == 1, 0);
		assert_int_equal(count(&b, relay_memory_bytes), 0);
		hop_free(partner);
		bench_end(&b);
	}
}

static void a_report_goes_from_memory_too(void **state)
{
	struct mail_options o = remembering(BUDGET);
	struct bench b = bench_with(&o);

	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_RCPT, .match = "<a@x.y>", .reply = "550 no\r\n"});
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(count(&b, relay_reports), 1);
	expect_counts(&b, 2, 0, 0);
	expect_arrived(&b, "Final-Recipient: rfc822; a@x.y");
	expect_arrived(&b, "Subject: x\r\n");
	bench_end(&b);
}

static void nothing_is_kept_for_a_time_to_come(void **state)
{
	struct mail_options o = remembering(BUDGET);
	struct bench b = bench_with(&o);

	submit(&b, "<alice@x.y> HOLDFOR=100", "<a@x.y>", TEXT);
	assert_int_equal(count(&b, relay_memory_bytes), 0);
	assert_true(drained(&b, 5ull * MINUTE));
	expect_counts(&b, 0, 1, 0);
	bench_end(&b);
}

static void a_reload_may_take_memory_away_and_give_it_again(void **state)
{
	struct mail_options o = remembering(BUDGET);
	struct bench b = waiting(&o);

	for (unsigned i = 0; i < 4; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	struct relay_config c = b.m->o.relay;
	c.memory = 2 * 4096;
	relay_worker_configure(b.m->relay, &c);
	assert_int_equal(count(&b, relay_memory_bytes), 2 * 4096);
	expect_counts(&b, 0, 0, 2);
	c.memory = 0;
	relay_worker_configure(b.m->relay, &c);
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_int_equal(count(&b, relay_memory_bytes), 0);
	c.memory = BUDGET;
	relay_worker_configure(b.m->relay, &c);
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_int_equal(count(&b, relay_memory_bytes), 4096);
	b.h = hop_create(b.m, MAIL_HOP);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(b.h->n_mails, 6);
	expect_counts(&b, 1, 5, 4);
	bench_end(&b);
}

static void a_restart_finds_in_the_spool_what_was_in_memory(void **state)
{
	struct mail_options o = remembering(BUDGET);
	struct bench b = waiting(&o);

	for (unsigned i = 0; i < 3; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, MAIL_SECOND);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	b.h = hop_create(b.m, MAIL_HOP);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(hop_count(b.h, ".hello"), 3);
	expect_counts(&b, 0, 3, 0);
	bench_end(&b);
}

/* A COMMIT as the spool has it behind it. */
static void keep(struct memory *m, spool_id_t id, const char *envelope, const char *prefix,
		 struct chunk *body)
{
	struct spool_request r = {
		.op = SPOOL_COMMIT,
		.id = id,
		.chunks = body,
		.envelope = (const uint8_t *)envelope,
		.envelope_bytes = (uint32_t)strlen(envelope),
		.prefix = (const uint8_t *)prefix,
		.prefix_bytes = (uint32_t)strlen(prefix),
		.body_bytes = body != NULL ? body->end - body->start : 0,
	};

	memory_keep(m, &r);
}

struct rig {
	void *region;
	struct chunk_pool *chunks;
	struct memory *m;
	struct chunk *body;
	uint64_t counters[relay_counter_count];
};

static void rig_open(struct rig *r, size_t blocks, uint32_t body_bytes)
{
	*r = (struct rig){.region = aligned_alloc(65536, blocks * 65536)};
	r->chunks = chunk_pool_create(r->region, blocks * 65536);
	r->m = memory_create(r->chunks, blocks * 65536, r->counters);
	r->body = chunk_alloc(r->chunks, CHUNK_64K, false);
	r->body->next = NULL;
	r->body->start = 0;
	r->body->end = body_bytes;
	memset(r->body->data, 'x', body_bytes);
}

/* Nothing but the body may be left. */
static void rig_close(struct rig *r)
{
	assert_int_equal(r->counters[relay_memory_bytes], 0);
	chunk_free(r->chunks, r->body);
	assert_int_equal(chunk_pool_used(r->chunks), 0);
	memory_destroy(r->m);
	chunk_pool_destroy(r->chunks);
	free(r->region);
}

static void what_is_held_outlives_being_given_up(void **state)
{
	const uint8_t *at;
	struct rig r;

	rig_open(&r, 16, 30000);
	keep(r.m, 1, "envelope", "prefix", r.body);
	assert_int_equal(r.counters[relay_memory_bytes], 2 * 16384);
	struct copy *c = memory_take(r.m, 1);
	assert_non_null(c);
	memory_limit(r.m, 0);
	memory_forget(r.m, 1);
	assert_null(memory_take(r.m, 1));
	assert_true(memory_content(c, 0, &at) > 6);
	assert_memory_equal(at, "prefixx", 7);
	assert_int_equal(memory_content(c, 30005, &at), 1);
	assert_int_equal(memory_content(c, 30006, &at), 0);
	memory_give_back(r.m, c);
	assert_int_equal(r.counters[relay_memory_evictions], 0);
	rig_close(&r);
}

/* The first chunk is there, the second is not: the pool has two blocks, one is the body's. */
static void a_copy_that_finds_half_its_chunks_leaves_nothing_over(void **state)
{
	char prefix[600];
	struct rig r;

	memset(prefix, 'p', sizeof(prefix) - 1);
	prefix[sizeof(prefix) - 1] = '\0';
	rig_open(&r, 2, chunk_capacity(CHUNK_64K));
	keep(r.m, 1, "envelope", prefix, r.body);
	assert_null(memory_take(r.m, 1));
	assert_int_equal(chunk_pool_used(r.chunks), 65536);
	/* a small one finds room */
	r.body->end = 100;
	keep(r.m, 2, "envelope", prefix, r.body);
	assert_int_equal(r.counters[relay_memory_bytes], 4096);
	memory_forget(r.m, 2);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(octets_are_those_of_the_spool_whatever_the_way),
		cmocka_unit_test(memory_serves_while_the_disk_cannot_be_read),
		cmocka_unit_test(what_is_put_off_is_read_from_the_spool_later),
		cmocka_unit_test(a_connection_lost_in_the_middle_takes_the_copy_along),
		cmocka_unit_test(the_oldest_goes_when_the_budget_is_spent),
		cmocka_unit_test(short_of_chunks_copies_go_before_sessions_feel_it),
		cmocka_unit_test(entries_of_several_pools_share_one_copy),
		cmocka_unit_test(a_report_goes_from_memory_too),
		cmocka_unit_test(nothing_is_kept_for_a_time_to_come),
		cmocka_unit_test(a_reload_may_take_memory_away_and_give_it_again),
		cmocka_unit_test(a_restart_finds_in_the_spool_what_was_in_memory),
		cmocka_unit_test(what_is_held_outlives_being_given_up),
		cmocka_unit_test(a_copy_that_finds_half_its_chunks_leaves_nothing_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
