/* test_relay_pools.c - several pools and hops: routes, a message for two pools, priorities and
 * weights, rates, hops that come and go while mail waits */
#include "tests/unit/relay_kit.h"

enum { SECOND_POOL = MAIL_HOP + 10 };

static struct relay_pool pool_like(const struct relay_pool *p, const char *name, uint16_t port)
{
	struct relay_pool q = *p;

	snprintf(q.name, sizeof(q.name), "%s", name);
	q.hops[0].port = port;
	return q;
}

static void route(struct relay_config *c, const char *match, unsigned pool)
{
	struct relay_route *r = &c->routes[c->n_routes++];

	snprintf(r->match, sizeof(r->match), "%s", match);
	r->pool = pool;
}

/* "default" on MAIL_HOP; partner.test and all below it to "partner" on SECOND_POOL. */
static struct mail_options two_pools(void)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[1] = pool_like(&o.relay.pools[0], "partner", SECOND_POOL);
	o.relay.n_pools = 2;
	route(&o.relay, "partner.test", 1);
	route(&o.relay, "*.partner.test", 1);
	route(&o.relay, "*", 0);
	return o;
}

/* A second hop in the only pool. */
static struct mail_options two_hops(unsigned priority, unsigned weight)
{
	struct mail_options o;

	mail_options_default(&o);
	struct relay_pool *p = &o.relay.pools[0];
	p->n_hops = 2;
	p->hops[1] = p->hops[0];
	p->hops[1].port = MAIL_HOP + 1;
	p->hops[1].priority = priority;
	p->hops[1].weight = weight;
	return o;
}

static void addresses(struct mail *m, struct relay_config *c)
{
	for (unsigned p = 0; p < c->n_pools; p++) {
		for (unsigned i = 0; i < c->pools[p].n_hops; i++)
			c->pools[p].hops[i].address = net_addr(pair_net(m->pair), 0);
	}
}

static void the_domain_of_a_recipient_chooses_its_pool(void **state)
{
	static const struct {
		const char *to;
		bool partner;
	} rows[] = {
		{"<a@partner.test>", true},
		{"<a@PARTNER.Test>", true},
		{"<a@deep.in.partner.test>", true},
		{"<a@apartner.test>", false},
		{"<a@partner.test.example>", false},
		{"<a@x.y>", false},
		{"<\"odd@partner.test\"@x.y>", false},
	};
	struct mail_options o = two_pools();
	struct bench b = bench_with(&o);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);
	unsigned left = 0, right = 0;

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		submit(&b, "<alice@x.y>", rows[i].to, TEXT);
		assert_true(drained(&b, MINUTE));
		left += !rows[i].partner;
		right += rows[i].partner;
		assert_int_equal(b.h->n_mails, left);
		assert_int_equal(partner->n_mails, right);
	}
	assert_int_equal(count(&b, relay_split), 0);
	hop_free(partner);
	bench_end(&b);
}

static void a_message_for_two_pools_goes_to_each_with_its_own_recipients(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = bench_with(&o);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);

	submit(&b, "<alice@x.y>", "<a@x.y>\n<b@partner.test>\n<c@x.y>\n<d@in.partner.test>", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(count(&b, relay_split), 1);
	assert_string_equal((const char *)b.h->mails[0].to.at, "<a@x.y>\n<c@x.y>\n");
	assert_string_equal((const char *)partner->mails[0].to.at,
			    "<b@partner.test>\n<d@in.partner.test>\n");
	assert_int_equal(b.h->n_mails + partner->n_mails, 2);
	assert_int_equal(count(&b, relay_delivered), 4);
	/* the spool has nothing left of it */
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(relay_queued(b.m->relay), 0);
	hop_free(partner);
	bench_end(&b);
}

static void a_pool_that_is_down_holds_up_nobody_else(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = bench_with(&o);

	submit(&b, "<alice@x.y>", "<b@partner.test>\n<a@x.y>", TEXT);
	submit(&b, "<alice@x.y>", "<b@partner.test>", TEXT);
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, 10 * MAIL_SECOND);
	assert_int_equal(b.h->n_mails, 2);
	assert_int_equal(relay_queued(b.m->relay), 2);
	/* a restart remembers who has been served, and what is left is routed anew */
	mail_restart_relay(b.m, DISK_DROP_ALL);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(b.h->n_mails, 2);
	assert_int_equal(partner->n_mails, 2);
	assert_int_equal(hop_recipient(partner, "a@x.y"), 0);
	hop_free(partner);
	bench_end(&b);
}

static void one_that_ends_first_leaves_the_message_to_the_other(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = bench_with(&o);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);

	hop_rule(partner,
		 (struct hop_rule){.stage = HOP_RCPT, .reply = "450 later\r\n", .times = 1});
	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT, .reply = "550 never\r\n", .times = 1});
	submit(&b, "<alice@x.y>", "<a@x.y>\n<b@partner.test>", TEXT);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(partner->n_mails, 1);
	/* the report about the refused one, and about him alone */
	assert_int_equal(b.h->n_mails, 1);
	expect_arrived(&b, "a@x.y");
	expect_not_arrived(&b, "b@partner.test");
	mail_restart_relay(b.m, DISK_DROP_ALL);
	assert_int_equal(relay_queued(b.m->relay), 0);
	hop_free(partner);
	bench_end(&b);
}

static void the_entries_of_a_message_expire_each_with_its_pool(void **state)
{
	struct mail_options o = two_pools();

	o.relay.pools[1].give_up_us = 2 * hour_us;
	struct bench b = bench_with(&o);
	submit(&b, "<alice@x.y>", "<a@x.y>\n<b@partner.test>", TEXT);
	assert_true(drained(&b, 3 * hour_us));
	assert_int_equal(b.h->n_mails, 2);
	assert_int_equal(count(&b, relay_expired), 1);
	expect_arrived(&b, "b@partner.test");
	bench_end(&b);
}

static void the_lowest_priority_that_works_takes_everything(void **state)
{
	struct mail_options o = two_hops(10, 1);
	struct mail *m = mail_create(&o);
	struct bench b = {.m = m, .h = hop_create(m, MAIL_HOP + 1)};

	for (unsigned i = 0; i < 4; i++) {
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		assert_true(drained(&b, 10 * MAIL_SECOND));
	}
	assert_int_equal(b.h->n_mails, 4);
	/* it is tried beside the other while there is mail, and has it all when it is back */
	struct next_hop *first = hop_create(m, MAIL_HOP);
	for (unsigned i = 0; i < 4 && first->n_mails == 0; i++) {
		mail_run(m, 2ull * MINUTE);
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		assert_true(drained(&b, 10 * MAIL_SECOND));
	}
	assert_true(first->connections > 0);
	unsigned before = b.h->n_mails;
	for (unsigned i = 0; i < 6; i++) {
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		assert_true(drained(&b, 10 * MAIL_SECOND));
	}
	assert_int_equal(b.h->n_mails, before);
	assert_true(first->n_mails >= 6);
	hop_free(first);
	bench_end(&b);
}

static void weights_share_out_the_mail(void **state)
{
	struct mail_options o = two_hops(0, 3);

	o.relay.pools[0].connections = 1;
	struct mail *m = mail_create(&o);
	struct bench b = {.m = m, .h = hop_create(m, MAIL_HOP)};
	struct next_hop *heavy = hop_create(m, MAIL_HOP + 1);
	/* both connections are open, and one message comes at a time */
	for (unsigned i = 0; i < 4; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, MINUTE));
	hop_forget(b.h);
	hop_forget(heavy);
	for (unsigned i = 0; i < 40; i++) {
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		assert_true(drained(&b, 10 * MAIL_SECOND));
	}
	assert_int_equal(b.h->n_mails + heavy->n_mails, 40);
	assert_in_range(heavy->n_mails, 28, 32);
	hop_free(heavy);
	bench_end(&b);
}

static bool two_arrived(void *arg)
{
	return ((struct next_hop *)arg)->n_mails >= 2;
}

static void a_rate_spaces_what_a_hop_is_given(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].hops[0].gap_us = 10 * MAIL_SECOND;
	o.relay.pools[0].connections = 10;
	struct bench b = bench_with(&o);
	b.m->hold_relay = false;
	for (unsigned i = 0; i < 4; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	uint64_t begin = b.m->shard->now_us;
	assert_true(mail_run_until(b.m, two_arrived, b.h, MINUTE));
	assert_true(drained(&b, MINUTE));
	uint64_t took = b.m->shard->now_us - begin;
	assert_int_equal(b.h->n_mails, 4);
	assert_in_range(took, 15 * MAIL_SECOND, 35 * MAIL_SECOND);
	/* nor are connections opened for what may not go yet */
	assert_in_range(b.h->connections, 1, 2);
	bench_end(&b);
}

static void a_hop_that_breaks_off_every_message_is_left_alone(void **state)
{
	struct mail_options o = two_hops(10, 1);
	struct bench b = bench_with(&o);
	struct next_hop *second = hop_create(b.m, MAIL_HOP + 1);

	hop_rule(b.h, (struct hop_rule){.stage = HOP_DATA, .reply = "", .after = HOP_RESET});
	for (unsigned i = 0; i < 6; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(second->n_mails, 6);
	assert_true(count(&b, relay_interrupted) >= 3);
	assert_true(count(&b, relay_circuits_opened) >= 1);
	hop_free(second);
	bench_end(&b);
}

static void connections_that_break_together_are_one_failure(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].connections = 8;
	struct bench b = bench_with(&o);
	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_DATA, .reply = "", .after = HOP_RESET, .times = 4});
	for (unsigned i = 0; i < 4; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(count(&b, relay_interrupted), 4);
	assert_int_equal(count(&b, relay_circuits_opened), 0);
	assert_int_equal(b.h->n_mails, 4);
	bench_end(&b);
}

static void a_reload_moves_what_waits_to_the_hops_of_now(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = bench_with(&o);
	struct relay_config c = o.relay;

	/* nobody at home at SECOND_POOL; then its pool gets another hop, then it goes */
	submit(&b, "<alice@x.y>", "<a@partner.test>", TEXT);
	mail_run(b.m, 5 * MAIL_SECOND);
	c.pools[1].hops[0].port = SECOND_POOL + 1;
	addresses(b.m, &c);
	struct next_hop *moved = hop_create(b.m, SECOND_POOL + 1);
	relay_worker_configure(b.m->relay, &c);
	assert_true(drained(&b, 5 * MAIL_SECOND));
	assert_int_equal(moved->n_mails, 1);
	c.pools[1].hops[0].port = SECOND_POOL;
	relay_worker_configure(b.m->relay, &c);
	submit(&b, "<alice@x.y>", "<a@partner.test>\n<b@x.y>", TEXT);
	mail_run(b.m, 5 * MAIL_SECOND);
	assert_int_equal(relay_queued(b.m->relay), 1);
	c.n_pools = 1;
	c.n_routes = 0;
	relay_worker_configure(b.m->relay, &c);
	assert_true(drained(&b, 5 * MAIL_SECOND));
	assert_int_equal(hop_recipient(b.h, "a@partner.test"), 1);
	assert_int_equal(hop_recipient(b.h, "b@x.y"), 1);
	hop_free(moved);
	bench_end(&b);
}

static bool content_begun(void *arg)
{
	return strstr((const char *)((struct next_hop *)arg)->log.at, "DATA") != NULL;
}

static void a_hop_taken_away_ends_what_it_has_begun(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	struct bench b = bench_with(&o);
	struct relay_config c = o.relay;
	struct next_hop *other = hop_create(b.m, MAIL_HOP + 1);

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(mail_run_until(b.m, content_begun, b.h, MINUTE));
	c.pools[0].hops[0].port = MAIL_HOP + 1;
	addresses(b.m, &c);
	relay_worker_configure(b.m->relay, &c);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 1);
	assert_int_equal(other->n_mails, 1);
	/* and the same again, with the connection idle at the reload */
	c.pools[0].hops[0].port = MAIL_HOP;
	relay_worker_configure(b.m->relay, &c);
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, MINUTE));
	assert_int_equal(b.h->n_mails, 2);
	hop_free(other);
	bench_end(&b);
}

static void a_message_is_given_up_by_the_times_of_its_own_pool(void **state)
{
	struct mail_options o = two_pools();

	o.relay.pools[0].give_up_us = hour_us;
	struct bench b = bench_with(&o);
	struct relay_config c = o.relay;
	addresses(b.m, &c);
	submit(&b, "<alice@x.y>", "<b@partner.test>", TEXT);
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 2 * hour_us);
	/* while nobody has looked where it goes, no other pool's time ends it */
	mail_restart_relay(b.m, DISK_DROP_ALL);
	mail_run(b.m, 2 * hour_us);
	assert_int_equal(relay_queued(b.m->relay), 1);
	snprintf(c.routes[1].match, sizeof(c.routes[1].match), "*.partners.test");
	relay_worker_configure(b.m->relay, &c);
	mail_run(b.m, 2 * hour_us);
	assert_int_equal(relay_queued(b.m->relay), 1);
	assert_int_equal(count(&b, relay_expired), 0);
	struct next_hop *partner = hop_create(b.m, SECOND_POOL);
	assert_true(drained(&b, 3 * hour_us));
	assert_int_equal(partner->n_mails, 1);
	assert_int_equal(b.h->n_mails, 0);
	hop_free(partner);
	bench_end(&b);
}

static void a_reload_may_shorten_the_life_of_what_waits(void **state)
{
	struct mail_options o = two_pools();
	struct bench b = bench_with(&o);
	struct relay_config c = o.relay;

	addresses(b.m, &c);
	submit(&b, "<alice@x.y>", "<b@partner.test>", TEXT);
	mail_run(b.m, MINUTE);
	/* nothing has changed for it, then something has */
	c.pools[1].hops[0].port++;
	relay_worker_configure(b.m->relay, &c);
	mail_run(b.m, MINUTE);
	assert_int_equal(relay_queued(b.m->relay), 1);
	c.pools[1].give_up_us = hour_us;
	relay_worker_configure(b.m->relay, &c);
	assert_true(drained(&b, 2 * hour_us));
	assert_int_equal(count(&b, relay_expired), 1);
	assert_int_equal(b.h->n_mails, 1);
	bench_end(&b);
}

/* Two names may have the same address. */
static void a_hop_that_is_there_twice_is_one(void **state)
{
	struct mail_options o = two_hops(0, 1);

	o.relay.pools[0].hops[1].port = MAIL_HOP;
	struct bench b = bench_with(&o);
	struct relay_config c = o.relay;
	addresses(b.m, &c);
	for (unsigned i = 0; i < 3; i++) {
		relay_worker_configure(b.m->relay, &c);
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		assert_true(drained(&b, MINUTE));
	}
	c.pools[0].n_hops = 1;
	c.pools[0].hops[0].port = MAIL_HOP + 1;
	relay_worker_configure(b.m->relay, &c);
	mail_run(b.m, MINUTE);
	assert_int_equal(b.h->n_mails, 3);
	bench_end(&b);
}

static void a_hop_that_broke_off_messages_is_whole_again_with_the_first_it_takes(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.relay.pools[0].connections = 4;
	struct bench b = bench_with(&o);
	hop_rule(b.h,
		 (struct hop_rule){.stage = HOP_DATA, .reply = "", .times = 4, .after = HOP_RESET});
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(count(&b, relay_circuits_opened), 1);
	/* no connection is left, and no time of grace is waited for */
	hop_rule(b.h, (struct hop_rule){.stage = HOP_MAIL, .reply = "", .times = 1});
	unsigned before = b.h->connections;
	for (unsigned i = 0; i < 6; i++)
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, 5 * MAIL_SECOND);
	assert_true(b.h->connections > before);
	assert_int_equal(b.h->n_mails, 6);
	assert_true(drained(&b, 10ull * MINUTE));
	bench_end(&b);
}

/* base64 of NUL alice NUL secret */
#define LOGIN "AUTH PLAIN AGFsaWNlAHNlY3JldA=="

static struct mail_options login(enum relay_tls tls)
{
	struct mail_options o;

	mail_options_default(&o);
	struct relay_hop *h = &o.relay.pools[0].hops[0];
	h->tls = tls;
	snprintf(h->user, sizeof(h->user), "alice");
	snprintf(h->password, sizeof(h->password), "secret");
	return o;
}

static void tls_may_begin_with_the_first_octet(void **state)
{
	static const char *const names[] = {"mx.test", "other.test"};

	for (unsigned i = 0; i < 2; i++) {
		struct mail_options o;
		mail_options_default(&o);
		struct relay_hop *hop = &o.relay.pools[0].hops[0];
		hop->tls = RELAY_TLS_IMPLICIT;
		snprintf(hop->name, sizeof(hop->name), "%s", names[i]);
		struct bench b = bench_with(&o);
		b.h->implicit = true;
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		/* a certificate of another name is no good */
		assert_int_equal(drained(&b, MINUTE), i == 0);
		assert_int_equal(b.h->n_mails, i == 0);
		assert_int_equal(count(&b, relay_tls_failed) > 0, i == 1);
		assert_false(logged(&b, "STARTTLS"));
		bench_end(&b);
	}
}

static void it_logs_in_where_that_is_configured(void **state)
{
	static const enum relay_tls how[] = {RELAY_TLS_REQUIRED, RELAY_TLS_IMPLICIT};

	for (unsigned i = 0; i < 2; i++) {
		struct mail_options o = login(how[i]);
		struct bench b = bench_with(&o);
		b.h->starttls = i == 0;
		b.h->implicit = i == 1;
		b.h->offers_tls = "250-AUTH LOGIN PLAIN\r\n";
		hop_rule(b.h, (struct hop_rule){.stage = HOP_OTHER,
						.match = LOGIN,
						.reply = "235 2.7.0 come in\r\n"});
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		assert_true(drained(&b, MINUTE));
		assert_int_equal(b.h->n_mails, 2);
		expect_logged(&b, LOGIN "\nMAIL FROM:");
		bench_end(&b);
	}
}

static void a_login_that_fails_closes_the_hop_for_a_while(void **state)
{
	static const struct {
		const char *offers, *reply;
	} rows[] = {
		{"250-AUTH LOGIN PLAIN\r\n", "535 5.7.8 no\r\n"},
		{"250-AUTH PLAIN\r\n", "454 4.7.0 later\r\n"},
		{"250-AUTH PLAINER LOGIN\r\n", NULL},
		{NULL, NULL},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct mail_options o = login(RELAY_TLS_REQUIRED);
		struct bench b = bench_with(&o);
		b.h->starttls = true;
		b.h->offers_tls = rows[i].offers;
		hop_rule(b.h, (struct hop_rule){.stage = HOP_OTHER, .reply = rows[i].reply});
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		mail_run(b.m, MINUTE);
		assert_int_equal(b.h->n_mails, 0);
		assert_int_equal(relay_queued(b.m->relay), 1);
		assert_in_range(count(&b, relay_auth_failed), 2, 8);
		assert_int_equal(logged(&b, LOGIN), rows[i].reply != NULL);
		assert_false(logged(&b, "MAIL FROM"));
		bench_end(&b);
	}
}

static void a_password_never_goes_in_clear(void **state)
{
	static const enum relay_tls how[] = {RELAY_TLS_NONE, RELAY_TLS_OPPORTUNISTIC};

	for (unsigned i = 0; i < 2; i++) {
		struct mail_options o = login(how[i]);
		struct bench b = bench_with(&o);
		b.h->offers = "250-AUTH PLAIN\r\n";
		submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
		mail_run(b.m, MINUTE);
		assert_int_equal(b.h->n_mails, 0);
		assert_false(logged(&b, "AUTH"));
		bench_end(&b);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_domain_of_a_recipient_chooses_its_pool),
		cmocka_unit_test(a_message_for_two_pools_goes_to_each_with_its_own_recipients),
		cmocka_unit_test(a_pool_that_is_down_holds_up_nobody_else),
		cmocka_unit_test(one_that_ends_first_leaves_the_message_to_the_other),
		cmocka_unit_test(the_entries_of_a_message_expire_each_with_its_pool),
		cmocka_unit_test(the_lowest_priority_that_works_takes_everything),
		cmocka_unit_test(weights_share_out_the_mail),
		cmocka_unit_test(a_rate_spaces_what_a_hop_is_given),
		cmocka_unit_test(a_hop_that_breaks_off_every_message_is_left_alone),
		cmocka_unit_test(connections_that_break_together_are_one_failure),
		cmocka_unit_test(a_reload_moves_what_waits_to_the_hops_of_now),
		cmocka_unit_test(a_hop_taken_away_ends_what_it_has_begun),
		cmocka_unit_test(a_message_is_given_up_by_the_times_of_its_own_pool),
		cmocka_unit_test(a_reload_may_shorten_the_life_of_what_waits),
		cmocka_unit_test(a_hop_that_is_there_twice_is_one),
		cmocka_unit_test(
			a_hop_that_broke_off_messages_is_whole_again_with_the_first_it_takes),
		cmocka_unit_test(tls_may_begin_with_the_first_octet),
		cmocka_unit_test(it_logs_in_where_that_is_configured),
		cmocka_unit_test(a_login_that_fails_closes_the_hop_for_a_while),
		cmocka_unit_test(a_password_never_goes_in_clear),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
