/* test_relay_manage.c - what an operator sees of the queue and changes in it while it works: pages,
 * hold and release, retry, route, bounce, delete; and what of it outlives a restart */
#include "tests/unit/manage_kit.h"

#include <time.h>

enum { SECOND_POOL = MAIL_HOP + 10, CROWD = 100000 };

static struct mail_options two_pools(void)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[1] = o.relay.pools[0];
	snprintf(o.relay.pools[1].name, RELAY_NAME, "partner");
	o.relay.pools[1].hops[0].port = SECOND_POOL;
	o.relay.n_pools = 2;
	o.relay.routes[0] = (struct relay_route){.match = "partner.test", .pool = 1};
	o.relay.routes[1] = (struct relay_route){.match = "*", .pool = 0};
	o.relay.n_routes = 2;
	return o;
}

/* A queue that nothing leaves: its hop is not there. */
static struct bench idle_bench(const struct mail_options *o)
{
	return (struct bench){.m = mail_create(o)};
}

static void bench_serve(struct bench *b)
{
	b->h = hop_create(b->m, MAIL_HOP);
}

static void idle_end(struct bench *b)
{
	if (b->h != NULL)
		hop_free(b->h);
	mail_destroy(b->m);
}

static void what_is_held_is_neither_tried_nor_expired_until_it_is_released(void **state)
{
	struct bench b = idle_bench(NULL);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_int_equal(order(&b, RELAY_HOLD, all, NULL, RELAY_DONE), 1);
	assert_int_equal(order(&b, RELAY_HOLD, all, NULL, RELAY_SAME), 1);
	assert_int_equal(order(&b, RELAY_RETRY, all, NULL, RELAY_IS_HELD), 1);
	bench_serve(&b);
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 30 * day_us);
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	assert_int_equal(b.h->n_mails, 0);
	assert_int_equal(count(&b, relay_expired), 0);
	assert_int_equal(order(&b, RELAY_RELEASE, all, NULL, RELAY_DONE), 1);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	assert_int_equal(count(&b, relay_expired), 0);
	idle_end(&b);
}

static void a_hold_and_the_age_after_a_release_outlive_a_restart(void **state)
{
	struct bench b = idle_bench(NULL);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_int_equal(order(&b, RELAY_HOLD, all, NULL, RELAY_DONE), 1);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 30 * day_us);
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	assert_int_equal(order(&b, RELAY_RELEASE, all, NULL, RELAY_DONE), 1);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(with_status(&b, RELAY_HELD), 0);
	bench_serve(&b);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	assert_int_equal(count(&b, relay_expired), 0);
	idle_end(&b);
}

static void futurerelease_is_held_until_then_or_until_an_operator_releases_it(void **state)
{
	struct bench b = bench();

	submit(&b, "<alice@x.y> HOLDFOR=7200", "<a@x.y>", TEXT);
	mail_run(b.m, 10 * MAIL_SECOND);
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	/* to hold it and to route it does not forget its time */
	assert_int_equal(order(&b, RELAY_HOLD, all, NULL, RELAY_DONE), 1);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	mail_run(b.m, 10 * MAIL_SECOND);
	assert_int_equal(b.h->n_mails, 0);
	assert_int_equal(order(&b, RELAY_RELEASE, all, NULL, RELAY_DONE), 1);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	bench_end(&b);
}

static void a_route_does_not_let_a_message_go_before_its_release(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = idle_bench(&o);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);

	submit(&b, "<alice@x.y> HOLDFOR=600", "<a@x.y>", TEXT);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(order(&b, RELAY_ROUTE, all, "partner", RELAY_DONE), 1);
	mail_run(b.m, 9ull * MINUTE);
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	assert_int_equal(partner->n_mails, 0);
	assert_true(drained(&b, 2ull * MINUTE));
	assert_int_equal(partner->n_mails, 1);
	hop_free(partner);
	idle_end(&b);
}

static void retry_does_not_wait_for_the_schedule(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT, .reply = "450 later\r\n", .times = 1});
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(with_status(&b, RELAY_DEFERRED), 1);
	assert_int_equal(found(&b, (struct relay_filter){.hop = "no.such.hop"}), 0);
	struct relay_page *p = look(&b, all);
	assert_int_equal(p->rows[0].hop_port, MAIL_HOP);
	char address[ADDR_TEXT_BYTES];
	struct relay_filter by_hop = {0};
	snprintf(by_hop.hop, sizeof(by_hop.hop), "%s", addr_text(&p->rows[0].hop, address));
	assert_int_equal(found(&b, by_hop), 1);
	assert_int_equal(order(&b, RELAY_RETRY, by_hop, NULL, RELAY_DONE), 1);
	assert_true(drained(&b, 2 * MAIL_SECOND));
	assert_int_equal(b.h->n_mails, 1);
	bench_end(&b);
}

static void retry_does_not_wait_for_a_hop_that_was_down(void **state)
{
	struct bench b = idle_bench(NULL);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, 10ull * MINUTE);
	bench_serve(&b);
	assert_int_equal(order(&b, RELAY_RETRY, all, NULL, RELAY_DONE), 1);
	assert_true(drained(&b, MAIL_SECOND));
	assert_int_equal(b.h->n_mails, 1);
	idle_end(&b);
}

static void a_bounce_tells_the_sender_why_and_a_null_reverse_path_nobody(void **state)
{
	struct bench b = bench();

	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_RCPT, .match = "a@x.y", .reply = "450 no\r\n"});
	submit(&b, "<alice@x.y>", "<a@x.y> ORCPT=rfc822;a@x.y", TEXT);
	submit(&b, "<>", "<a@x.y>", TEXT);
	mail_run(b.m, 10 * MAIL_SECOND);
	assert_int_equal(b.h->n_mails, 0);
	assert_int_equal(order(&b, RELAY_BOUNCE, all, NULL, RELAY_DONE), 2);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	assert_string_equal((const char *)b.h->mails[0].to.at, "<alice@x.y>\n");
	expect_arrived(&b, "Action: failed\r\nStatus: 5.3.0\r\n");
	expect_arrived(&b, "Original-Recipient: rfc822; a@x.y");
	expect_arrived(&b, "returned by the administrator: because");
	assert_int_equal(count(&b, relay_reports_suppressed), 1);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(relay_queued(b.m->relay), 0);
	bench_end(&b);
}

static void a_delete_tells_nobody_and_is_for_good(void **state)
{
	struct bench b = idle_bench(NULL);

	submit(&b, "<alice@x.y>", "<a@x.y>\n<b@x.y>", TEXT);
	submit(&b, "<alice@x.y>", "<c@x.y>", TEXT);
	assert_int_equal(order(&b, RELAY_HOLD, all, NULL, RELAY_DONE), 2);
	struct relay_filter one = {.id = look(&b, all)->rows[0].id};
	assert_int_equal(order(&b, RELAY_DELETE, one, NULL, RELAY_DONE), 1);
	assert_int_equal(count(&b, relay_deleted), 2);
	assert_int_equal(count(&b, relay_reports), 0);
	assert_int_equal(relay_queued(b.m->relay), 1);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(relay_queued(b.m->relay), 1);
	idle_end(&b);
}

static void a_route_is_kept_over_restart_and_reload_while_there_is_such_a_pool(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = idle_bench(&o);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(order(&b, RELAY_ROUTE, all, "nowhere", RELAY_NO_POOL), 1);
	assert_int_equal(order(&b, RELAY_ROUTE, all, "partner", RELAY_DONE), 1);
	assert_int_equal(order(&b, RELAY_ROUTE, all, "partner", RELAY_SAME), 1);
	assert_int_equal(found(&b, (struct relay_filter){.pool = "partner"}), 1);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(found(&b, (struct relay_filter){.pool = "partner"}), 1);
	/* the pools change places, and routes with them */
	struct relay_config c = b.m->o.relay;
	c.pools[0] = b.m->o.relay.pools[1];
	c.pools[1] = b.m->o.relay.pools[0];
	c.routes[0].pool = 0;
	c.routes[1].pool = 1;
	relay_worker_configure(b.m->relay, &c);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(found(&b, (struct relay_filter){.pool = "partner"}), 1);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(partner->n_mails, 1);
	hop_free(partner);
	idle_end(&b);
}

static void a_routed_message_whose_pool_goes_follows_the_routes_again(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = idle_bench(&o);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_int_equal(order(&b, RELAY_ROUTE, all, "partner", RELAY_DONE), 1);
	struct relay_config c = b.m->o.relay;
	c.n_pools = 1;
	c.n_routes = 0;
	relay_worker_configure(b.m->relay, &c);
	bench_serve(&b);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	idle_end(&b);
}

static void a_message_in_two_pools_is_held_and_routed_as_one(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = idle_bench(&o);

	submit(&b, "<alice@x.y>", "<a@x.y>\n<b@partner.test>", TEXT);
	mail_run(b.m, MAIL_SECOND);
	struct relay_filter partner_only = {.pool = "partner"};
	assert_int_equal(found(&b, all), 2);
	assert_int_equal(found(&b, partner_only), 1);
	assert_int_equal(order(&b, RELAY_HOLD, partner_only, NULL, RELAY_DONE), 1);
	assert_int_equal(with_status(&b, RELAY_HELD), 2);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	/* while it is held nobody looks where it goes; its release lets somebody look */
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	assert_int_equal(order(&b, RELAY_RELEASE, all, NULL, RELAY_DONE), 1);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(found(&b, all), 2);
	/* bounce and delete are about one entry, route about the message */
	assert_int_equal(order(&b, RELAY_DELETE, partner_only, NULL, RELAY_DONE), 1);
	assert_int_equal(found(&b, all), 1);
	assert_int_equal(order(&b, RELAY_ROUTE, all, "partner", RELAY_DONE), 1);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(partner->n_mails, 1);
	assert_string_equal((const char *)partner->mails[0].to.at, "<a@x.y>\n");
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(relay_queued(b.m->relay), 0);
	hop_free(partner);
	idle_end(&b);
}

static void an_entry_that_has_ended_is_no_part_of_what_is_ordered(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = idle_bench(&o);

	submit(&b, "<alice@x.y>", "<a@x.y>\n<b@partner.test>", TEXT);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(
		order(&b, RELAY_DELETE, (struct relay_filter){.pool = "default"}, NULL, RELAY_DONE),
		1);
	assert_int_equal(order(&b, RELAY_HOLD, all, NULL, RELAY_DONE), 1);
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	idle_end(&b);
}

static void a_route_outweighs_the_look_up_that_is_under_way(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = idle_bench(&o);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, MAIL_SECOND);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	b.m->hold_spool = true;
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(with_status(&b, RELAY_DELIVERING), 1);
	struct relay_order *route = give(&b, RELAY_ROUTE, all, "partner");
	b.m->hold_spool = false;
	assert_true(mail_run_until(b.m, carried_out, route, MINUTE));
	free(route);
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(found(&b, (struct relay_filter){.pool = "partner"}), 1);
	idle_end(&b);
}

static bool delivering(void *arg)
{
	return with_status(arg, RELAY_DELIVERING) == 1;
}

static void an_attempt_under_way_ends_before_what_is_ordered(void **state)
{
	struct bench b = bench();

	/* the hop thinks about DATA for ever */
	hop_rule(b.h, (struct hop_rule){.stage = HOP_DATA, .reply = "", .times = 1});
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(mail_run_until(b.m, delivering, &b, MINUTE));
	assert_int_equal(order(&b, RELAY_BOUNCE, all, NULL, RELAY_BUSY), 1);
	assert_int_equal(order(&b, RELAY_DELETE, all, NULL, RELAY_BUSY), 1);
	assert_int_equal(order(&b, RELAY_HOLD, all, NULL, RELAY_DONE), 1);
	assert_int_equal(with_status(&b, RELAY_DELIVERING), 1);
	mail_run(b.m, 6ull * MINUTE);
	assert_int_equal(with_status(&b, RELAY_HELD), 1);
	assert_int_equal(b.h->n_mails, 0);
	assert_int_equal(order(&b, RELAY_RELEASE, all, NULL, RELAY_DONE), 1);
	assert_true(drained(&b, 5ull * MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	bench_end(&b);
}

static void nothing_is_done_before_the_spool_has_it(void **state)
{
	struct bench b = idle_bench(NULL);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	submit(&b, "<alice@x.y>", "<b@x.y>", TEXT);
	struct relay_filter first = {.id = look(&b, all)->rows[0].id},
			    second = {.id = look(&b, all)->rows[1].id};
	b.m->hold_spool = true;
	struct relay_order *hold = give(&b, RELAY_HOLD, first, NULL);
	struct relay_order *end = give(&b, RELAY_DELETE, second, NULL);
	mail_run(b.m, MINUTE);
	assert_int_equal(atomic_load(&hold->pending), 1);
	assert_int_equal(atomic_load(&end->pending), 1);
	b.m->hold_spool = false;
	assert_true(mail_run_until(b.m, carried_out, hold, MINUTE));
	assert_true(mail_run_until(b.m, carried_out, end, MINUTE));
	assert_int_equal(results(hold, RELAY_DONE), 1);
	assert_int_equal(results(end, RELAY_DONE), 1);
	free(hold);
	free(end);
	idle_end(&b);
}

static void a_later_order_is_not_undone_by_an_earlier_one_that_failed(void **state)
{
	struct bench b = idle_bench(NULL);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	disk_faults(b.m->disk)->per_million[DISK_SYNC] = 1000000;
	struct relay_order *hold = give(&b, RELAY_HOLD, all, NULL);
	mail_run(b.m, MAIL_SECOND / 10);
	assert_int_equal(atomic_load(&hold->pending), 1);
	disk_faults(b.m->disk)->per_million[DISK_SYNC] = 0;
	struct relay_order *release = give(&b, RELAY_RELEASE, all, NULL);
	assert_true(mail_run_until(b.m, carried_out, hold, MINUTE));
	assert_true(mail_run_until(b.m, carried_out, release, MINUTE));
	free(hold);
	free(release);
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(with_status(&b, RELAY_HELD), 0);
	idle_end(&b);
}

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Entries that the spool knows nothing of. */
static void crowd(struct bench *b, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		struct spool_found f = {.id = 1000000 + i,
					.accepted_at_s = shard_wall_s(b->m->shard) - i % 100,
					.retry_at_s = shard_wall_s(b->m->shard) + 1000,
					.recipients = 1};
		assert_int_equal(relay_add(b->m->relay, &f), 0);
	}
}

static void a_walk_through_a_long_queue_meets_each_once_in_bounded_steps(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.max_messages = CROWD + 1000;
	struct bench b = idle_bench(&o);
	crowd(&b, CROWD);
	static uint8_t seen[CROWD];
	struct relay_page *p = calloc(1, sizeof(*p));
	uint64_t worst = 0, all_ns = 0;
	unsigned pages = 0, rows = 0;

	p->most = RELAY_ROWS;
	while (!p->end) {
		uint64_t begin = clock_ns();
		relay_page(b.m->relay, p);
		uint64_t took = clock_ns() - begin;
		worst = took > worst ? took : worst;
		all_ns += took;
		pages++;
		assert_true(p->looked <= RELAY_LOOK && p->n <= RELAY_ROWS);
		for (unsigned i = 0; i < p->n; i++)
			seen[p->rows[i].id - 1000000]++;
		rows += p->n;
		/* the queue changes under the cursor */
		struct spool_found f = {
			.id = 5000000 + pages, .recipients = 1, .retry_at_s = INT32_MAX};
		p->filter.below = 5000000;
		if (pages < 900)
			assert_int_equal(relay_add(b.m->relay, &f), 0);
	}
	assert_int_equal(rows, CROWD);
	for (unsigned i = 0; i < CROWD; i++)
		assert_int_equal(seen[i], 1);
	print_message("# %u rows: %.0f ns a row, a page at most %.0f us\n", rows,
		      (double)all_ns / rows, (double)worst / 1000);
	/* where little passes, the looking is bounded instead */
	*p = (struct relay_page){.most = RELAY_ROWS, .filter = {.id = 1000000 + CROWD - 1}};
	unsigned looked = 0, steps = 0, hits = 0;
	uint64_t begin = clock_ns();
	while (!p->end) {
		relay_page(b.m->relay, p);
		assert_true(p->looked <= RELAY_LOOK);
		looked += p->looked;
		hits += p->n;
		steps++;
	}
	assert_int_equal(hits, 1);
	assert_true(steps >= CROWD / RELAY_LOOK);
	print_message("# one of %u: %.0f ns an entry looked at\n", looked,
		      (double)(clock_ns() - begin) / looked);
	free(p);
	idle_end(&b);
}

static void ages_and_states_sift(void **state)
{
	struct bench b = idle_bench(NULL);

	crowd(&b, 100);
	int64_t now = shard_wall_s(b.m->shard);
	assert_int_equal(found(&b, (struct relay_filter){.before_s = now - 90}), 10);
	assert_int_equal(found(&b, (struct relay_filter){.after_s = now - 9}), 10);
	assert_int_equal(
		found(&b, (struct relay_filter){.before_s = now - 10, .after_s = now - 19}), 10);
	assert_int_equal(with_status(&b, RELAY_DEFERRED), 100);
	assert_int_equal(with_status(&b, RELAY_READY), 0);
	assert_int_equal(found(&b, (struct relay_filter){.pool = "nowhere"}), 0);
	idle_end(&b);
}

int main(void)
{
#define T(name) cmocka_unit_test(name)
	const struct CMUnitTest tests[] = {
		T(what_is_held_is_neither_tried_nor_expired_until_it_is_released),
		T(a_hold_and_the_age_after_a_release_outlive_a_restart),
		T(futurerelease_is_held_until_then_or_until_an_operator_releases_it),
		T(a_route_does_not_let_a_message_go_before_its_release),
		T(retry_does_not_wait_for_the_schedule),
		T(retry_does_not_wait_for_a_hop_that_was_down),
		T(a_bounce_tells_the_sender_why_and_a_null_reverse_path_nobody),
		T(a_delete_tells_nobody_and_is_for_good),
		T(a_route_is_kept_over_restart_and_reload_while_there_is_such_a_pool),
		T(a_routed_message_whose_pool_goes_follows_the_routes_again),
		T(a_message_in_two_pools_is_held_and_routed_as_one),
		T(an_entry_that_has_ended_is_no_part_of_what_is_ordered),
		T(a_route_outweighs_the_look_up_that_is_under_way),
		T(an_attempt_under_way_ends_before_what_is_ordered),
		T(nothing_is_done_before_the_spool_has_it),
		T(a_later_order_is_not_undone_by_an_earlier_one_that_failed),
		T(a_walk_through_a_long_queue_meets_each_once_in_bounded_steps),
		T(ages_and_states_sift),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
