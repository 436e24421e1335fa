/* test_tls_schedule.c - who gets a handshake, in which order, and who does not */
#include "tests/unit/tls_rig.h"

enum { IN_FLIGHT = 8 };

/* One thread; what the test submits stays in its queue while m->hold_tls. */
static struct mail *create(const struct tls_budget *b)
{
	struct mail_options o;

	mail_options_default(&o);
	o.tls_threads = 1;
	o.net.host_0_is_many = true;
	if (b != NULL)
		o.tls.budget = *b;
	return mail_create(&o);
}

static struct ip_addr address(unsigned network, unsigned host)
{
	struct ip_addr a = {.family = 4,
			    .byte = {10, (uint8_t)(network >> 8), (uint8_t)network, 0}};

	a.byte[3] = (uint8_t)host;
	return a;
}

static struct peer *hello_from(struct mail *m, unsigned network, unsigned host,
			       SSL_SESSION *session)
{
	struct ip_addr from = address(network, host);
	struct peer *p = peer_connect_from(m, MAIL_SUBMISSIONS, &from);

	peer_begin_tls(p, 0, session);
	mail_run(m, 10000);
	return p;
}

/* Lets the thread do one step, and the worker take it back. */
static void one_step(struct mail *m)
{
	struct tls_thread *t = &m->tls->threads[0];
	struct tls_session *s = ring_pop(t->queue);

	assert_non_null(s);
	t->state = state_adopt(m->tls, &t->seen);
	session_step(t, s);
	ring_push(s->worker->back, s);
	tls_poll(m->tls_worker);
	mail_run(m, 10000);
}

static bool begun(const struct peer *p)
{
	return p->secured;
}

static void a_flood_of_one_source_lets_others_pass(void **state)
{
	struct mail *m = create(NULL);
	struct peer *flood[40], *other[3];

	m->hold_tls = true;
	for (unsigned i = 0; i < 40; i++)
		flood[i] = hello_from(m, 5, 1, NULL);
	for (unsigned i = 0; i < 3; i++)
		other[i] = hello_from(m, 6 + i, 1, NULL);
	/* those that are at the thread already, then a turn for each of the four sources, with
	 * the second steps of the first ones in between */
	for (unsigned i = 0; i < IN_FLIGHT + 2 * 4; i++)
		one_step(m);
	for (unsigned i = 0; i < 3; i++)
		assert_true(begun(other[i]));
	unsigned served = 0;
	for (unsigned i = 0; i < 40; i++)
		served += begun(flood[i]);
	assert_in_range(served, IN_FLIGHT, IN_FLIGHT + 2);
	m->hold_tls = false;
	for (unsigned i = 0; i < 40; i++)
		peer_expect(flood[i], "220");
	mail_destroy(m);
}

static void a_client_with_a_ticket_of_ours_passes_those_without(void **state)
{
	struct mail *m = create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);
	struct peer *full[30];

	peer_begin_tls(p, 0, NULL);
	peer_expect(p, "220");
	SSL_SESSION *session = SSL_get1_session(p->ssl);
	m->hold_tls = true;
	for (unsigned i = 0; i < 30; i++)
		full[i] = hello_from(m, 5 + i, 1, NULL);
	struct peer *known = hello_from(m, 100, 1, session);
	for (unsigned i = 0; i < IN_FLIGHT + 1; i++)
		one_step(m);
	assert_true(begun(known));
	assert_false(begun(full[29]));
	m->hold_tls = false;
	peer_expect(full[29], "220");
	SSL_SESSION_free(session);
	mail_destroy(m);
}

static void tickets_do_not_starve_full_handshakes(void **state)
{
	struct mail *m = create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	peer_begin_tls(p, TLS1_2_VERSION, NULL);
	peer_expect(p, "220");
	SSL_SESSION *session = SSL_get1_session(p->ssl);
	SSL_CTX_set_max_proto_version(m->client_context, TLS1_2_VERSION);
	m->hold_tls = true;
	for (unsigned i = 0; i < 30; i++)
		hello_from(m, 5 + i, 1, session);
	SSL_CTX_set_max_proto_version(m->client_context, 0);
	struct peer *full = hello_from(m, 100, 1, NULL);
	for (unsigned i = 0; i < IN_FLIGHT + 2 * 4; i++)
		one_step(m);
	assert_true(begun(full));
	m->hold_tls = false;
	SSL_SESSION_free(session);
	mail_destroy(m);
}

static void who_waited_longest_goes_when_too_many_wait(void **state)
{
	struct mail *m = create(&(struct tls_budget){.queue = 5});
	struct peer *p[IN_FLIGHT + 7];

	m->hold_tls = true;
	for (unsigned i = 0; i < IN_FLIGHT + 7; i++)
		p[i] = hello_from(m, i, 1, NULL);
	assert_int_equal(mail_tls_count(m, tls_shed_overflow), 2);
	for (unsigned i = 0; i < IN_FLIGHT + 7; i++)
		assert_int_equal(p[i]->over, i >= IN_FLIGHT && i < IN_FLIGHT + 2);
	m->hold_tls = false;
	peer_expect(p[IN_FLIGHT + 6], "220");
	mail_destroy(m);
}

static void who_waits_too_long_is_dropped_and_counted(void **state)
{
	struct mail *m = create(&(struct tls_budget){.deadline_us = 2 * MAIL_SECOND});
	struct peer *p[IN_FLIGHT + 2];

	m->hold_tls = true;
	for (unsigned i = 0; i < IN_FLIGHT + 2; i++)
		p[i] = hello_from(m, i, 1, NULL);
	mail_run(m, MAIL_SECOND);
	tls_poll(m->tls_worker);
	assert_int_equal(mail_tls_count(m, tls_shed_late), 0);
	mail_run(m, 2 * MAIL_SECOND);
	tls_poll(m->tls_worker);
	mail_run(m, 10000);
	assert_int_equal(mail_tls_count(m, tls_shed_late), 2);
	assert_true(p[IN_FLIGHT]->over && p[IN_FLIGHT + 1]->over);
	m->hold_tls = false;
	peer_expect(p[0], "220");
	mail_destroy(m);
}

static void a_client_that_leaves_while_it_waits_is_forgotten(void **state)
{
	struct mail *m = create(NULL);
	struct peer *p[IN_FLIGHT + 3];

	m->hold_tls = true;
	for (unsigned i = 0; i < IN_FLIGHT + 3; i++)
		p[i] = hello_from(m, 1, 1, NULL);
	assert_int_equal(schedule_waiting(m->tls_worker->schedule), 3);
	peer_free(p[IN_FLIGHT + 1]);
	mail_run(m, 10000);
	assert_int_equal(schedule_waiting(m->tls_worker->schedule), 2);
	m->hold_tls = false;
	peer_expect(p[IN_FLIGHT + 2], "220");
	mail_destroy(m);
}

static const struct tls_budget two_an_hour = {.per_network = {2, 3600ull * MAIL_SECOND}};

static void a_network_that_has_spent_its_budget_is_reset(void **state)
{
	struct mail *m = create(&two_an_hour);

	for (unsigned i = 0; i < 4; i++) {
		struct peer *p = hello_from(m, 9, i, NULL);
		assert_int_equal(p->over, i >= 2);
	}
	assert_int_equal(mail_tls_count(m, tls_budget_network), 2);
	assert_int_equal(mail_tls_count(m, tls_jobs), 4);
	peer_expect(hello_from(m, 10, 1, NULL), "220");
	mail_destroy(m);
}

static void a_budget_fills_again_with_time(void **state)
{
	struct mail *m = create(&two_an_hour);

	hello_from(m, 9, 1, NULL);
	hello_from(m, 9, 1, NULL);
	assert_true(hello_from(m, 9, 1, NULL)->over);
	m->tick_us = MAIL_SECOND;
	mail_run(m, 1801ull * MAIL_SECOND);
	assert_false(hello_from(m, 9, 1, NULL)->over);
	assert_true(hello_from(m, 9, 1, NULL)->over);
	mail_destroy(m);
}

static void a_resumption_costs_half(void **state)
{
	struct mail *m = create(&two_an_hour);
	struct peer *p = hello_from(m, 9, 1, NULL);

	peer_expect(p, "220");
	SSL_SESSION *session = SSL_get1_session(p->ssl);
	assert_false(hello_from(m, 9, 1, session)->over);
	assert_true(hello_from(m, 9, 1, NULL)->over);
	assert_false(hello_from(m, 9, 1, session)->over);
	assert_true(hello_from(m, 9, 1, session)->over);
	SSL_SESSION_free(session);
	mail_destroy(m);
}

static void a_foreign_ticket_costs_a_full_handshake(void **state)
{
	struct mail *other = create(NULL), *m = create(&two_an_hour);
	struct peer *p = peer_connect(other, MAIL_SUBMISSIONS);

	peer_begin_tls(p, 0, NULL);
	peer_expect(p, "220");
	SSL_SESSION *session = SSL_get1_session(p->ssl);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hello_from(m, 9, 1, session)->over, i == 2);
	SSL_SESSION_free(session);
	mail_destroy(other);
	mail_destroy(m);
}

static void a_name_has_a_budget_of_its_own_over_all_networks(void **state)
{
	struct mail *m = create(&(struct tls_budget){.per_name = {2, 3600ull * MAIL_SECOND}});

	m->server_name = "hot.test";
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(hello_from(m, i, 1, NULL)->over, i == 2);
	m->server_name = "HOT.test";
	assert_true(hello_from(m, 7, 1, NULL)->over);
	assert_int_equal(mail_tls_count(m, tls_budget_name), 2);
	m->server_name = "cool.test";
	peer_expect(hello_from(m, 7, 1, NULL), "220");
	m->server_name = NULL;
	peer_expect(hello_from(m, 7, 1, NULL), "220");
	mail_destroy(m);
}

static void the_table_of_networks_is_bounded(void **state)
{
	struct budget *b = budget_create();
	struct tls_rate rate = {2, 3600ull * MAIL_SECOND};

	for (uint64_t tag = 1; tag < 1000000; tag++)
		assert_true(budget_charge(b, tag, &rate, 2, 1000));
	/* the newest are remembered */
	assert_true(budget_charge(b, 999999, &rate, 2, 1000));
	assert_false(budget_charge(b, 999999, &rate, 1, 1000));
	budget_destroy(b);
}

static void costs_are_told_by_kind(void **state)
{
	struct mail *m = create(NULL);
	const struct tls_cost *c = tls_costs(m->tls_worker);
	uint64_t n[TLS_KINDS] = {0};

	for (unsigned i = 0; i < 2; i++) {
		struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);
		int version = i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION;
		peer_begin_tls(p, version, NULL);
		peer_expect(p, "220");
		SSL_SESSION *session = SSL_get1_session(p->ssl);
		p = peer_connect(m, MAIL_SUBMISSIONS);
		peer_begin_tls(p, version, session);
		peer_expect(p, "220");
		SSL_SESSION_free(session);
	}
	for (unsigned k = 0; k < TLS_KINDS; k++)
		for (unsigned i = 0; i < TLS_COST_BUCKETS; i++)
			n[k] += c[k].bucket[i];
	assert_int_equal(n[TLS_FULL_ECDSA], 2);
	assert_int_equal(n[TLS_FULL_RSA], 0);
	assert_int_equal(n[TLS_RESUMED_1_2], 1);
	assert_int_equal(n[TLS_RESUMED_1_3], 1);
	assert_true(c[TLS_FULL_ECDSA].sum_us > 0);
	mail_destroy(m);
}

static void a_client_in_its_handshake_holds_20_kb_at_most(void **state)
{
	struct mail *m = create(NULL);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	m->hold_tls = true;
	peer_begin_tls(p, 0, NULL);
	mail_run(m, 10000);
	struct tls_session *s = slab_at(m->tls_worker->sessions, 0, NULL);
	assert_non_null(s);
	assert_true(s->in_flight);
	assert_true(s->in->size + s->out->size <= 20 << 10);
	m->hold_tls = false;
	peer_expect(p, "220");
	assert_null(s->in);
	assert_null(s->out);
	mail_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_flood_of_one_source_lets_others_pass),
		cmocka_unit_test(a_client_with_a_ticket_of_ours_passes_those_without),
		cmocka_unit_test(tickets_do_not_starve_full_handshakes),
		cmocka_unit_test(who_waited_longest_goes_when_too_many_wait),
		cmocka_unit_test(who_waits_too_long_is_dropped_and_counted),
		cmocka_unit_test(a_client_that_leaves_while_it_waits_is_forgotten),
		cmocka_unit_test(a_network_that_has_spent_its_budget_is_reset),
		cmocka_unit_test(a_budget_fills_again_with_time),
		cmocka_unit_test(a_resumption_costs_half),
		cmocka_unit_test(a_foreign_ticket_costs_a_full_handshake),
		cmocka_unit_test(a_name_has_a_budget_of_its_own_over_all_networks),
		cmocka_unit_test(the_table_of_networks_is_bounded),
		cmocka_unit_test(costs_are_told_by_kind),
		cmocka_unit_test(a_client_in_its_handshake_holds_20_kb_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
