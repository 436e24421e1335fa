/* test_relay_watch.c - whatever is lost inside the relay, nothing in the queue waits for ever */
#include "tests/sim/random.h"
#include "tests/unit/relay_kit.h"

#include <errno.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct message *only_message(const struct bench *b)
{
	struct message *m = slab_at(b->m->relay->messages, 0, NULL);

	assert_non_null(m);
	return m;
}

/* One message that the hop has put off. */
static struct bench put_off(void)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_RCPT, .reply = "450 x\r\n", .times = 1});
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, 5 * MAIL_SECOND);
	assert_int_equal(only_message(&b)->state, MESSAGE_DEFERRED);
	return b;
}

static void found_and_delivered_once(struct bench *b)
{
	if (!drained(b, 30ull * MINUTE))
		fail_msg("it waits for ever");
	assert_int_equal(count(b, relay_stuck), 1);
	assert_int_equal(hop_recipient(b->h, "a@x.y"), 1);
	bench_end(b);
}

static void an_entry_without_its_timer_goes_on(void **state)
{
	struct bench b = put_off();

	timer_cancel(b.m->shard->timers, &only_message(&b)->timer);
	found_and_delivered_once(&b);
}

static void an_entry_that_fell_out_of_its_list_goes_on(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	struct bench b = {.m = mail_create(&o)};
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, 5 * MAIL_SECOND);
	assert_int_equal(only_message(&b)->state, MESSAGE_READY);
	list_del(&only_message(&b)->link);
	b.h = hop_create(b.m, MAIL_HOP);
	found_and_delivered_once(&b);
}

static void an_entry_that_nobody_holds_goes_on(void **state)
{
	struct bench b = put_off();
	struct message *m = only_message(&b);

	timer_cancel(b.m->shard->timers, &m->timer);
	m->state = MESSAGE_HELD;
	found_and_delivered_once(&b);
}

static void an_entry_that_an_operator_holds_is_left_alone(void **state)
{
	struct bench b = put_off();
	struct message *m = only_message(&b);

	timer_cancel(b.m->shard->timers, &m->timer);
	m->state = MESSAGE_HELD;
	m->held = true;
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 30ull * MINUTE);
	assert_int_equal(count(&b, relay_stuck), 0);
	assert_int_equal(hop_recipient(b.h, "a@x.y"), 0);
	bench_end(&b);
}

static void an_entry_whose_delivery_has_gone_goes_on(void **state)
{
	struct bench b = put_off();
	struct message *m = only_message(&b);

	timer_cancel(b.m->shard->timers, &m->timer);
	m->state = MESSAGE_ACTIVE;
	m->delivery = NULL;
	found_and_delivered_once(&b);
}

static void a_connection_without_its_timer_ends(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_MAIL, .reply = "", .times = 1});
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, 5 * MAIL_SECOND);
	assert_int_equal(only_message(&b)->state, MESSAGE_ACTIVE);
	timer_cancel(b.m->shard->timers, &only_message(&b)->delivery->client->timer);
	found_and_delivered_once(&b);
}

/* An outcome that the spool did not take, and the timer that would offer it again is lost. */
static void an_outcome_whose_timer_is_lost_is_recorded_and_not_delivered_again(void **state)
{
	struct bench b = bench();

	disk_faults(b.m->disk)->per_million[DISK_WRITE] = 0;
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	disk_faults(b.m->disk)->per_million[DISK_WRITE] = 1000000;
	mail_run(b.m, 20 * MAIL_SECOND);
	struct delivery *d = only_message(&b)->delivery;
	assert_true(timer_armed(&d->timer));
	timer_cancel(b.m->shard->timers, &d->timer);
	disk_faults(b.m->disk)->per_million[DISK_WRITE] = 0;
	found_and_delivered_once(&b);
}

/* The spool may have recorded the outcome: to deliver again would be wrong whatever the wait. */
static void an_outcome_that_the_spool_never_answers_is_counted_once_and_kept(void **state)
{
	struct bench b = bench();

	hop_rule(b.h, (struct hop_rule){.stage = HOP_FINAL, .reply = "", .times = 1});
	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	mail_run(b.m, 5 * MAIL_SECOND);
	b.m->hold_spool = true;
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 2 * hour_us);
	struct delivery *d = only_message(&b)->delivery;
	assert_true(d->asked && d->stuck);
	assert_int_equal(d->request.op, SPOOL_DISPOSE);
	assert_int_equal(count(&b, relay_stuck), 1);
	assert_int_equal(relay_queued(b.m->relay), 1);
	/* it comes back after all */
	b.m->hold_spool = false;
	assert_true(drained(&b, 2 * hour_us));
	assert_int_equal(count(&b, relay_stuck), 1);
	bench_end(&b);
}

/* The same with the envelope: its memory is the spool's, and nobody is connected to any more. */
static void an_envelope_that_the_spool_never_returns_is_counted_once(void **state)
{
	struct bench b = put_off();

	b.m->hold_spool = true;
	b.m->tick_us = MAIL_SECOND;
	mail_run(b.m, 2 * hour_us);
	assert_int_equal(count(&b, relay_stuck), 1);
	assert_int_equal(b.m->relay->spool_pending, 1);
	b.m->hold_spool = false;
	assert_true(drained(&b, 2 * hour_us));
	assert_int_equal(hop_recipient(b.h, "a@x.y"), 1);
	bench_end(&b);
}

/* As after a long time without power: the spool has a bounded number of their requests. */
static void many_that_expire_at_once_end_a_few_at_a_time(void **state)
{
	enum { N = 500, AT_ONCE = 128 };
	struct bench b = bench();
	struct relay_worker *w = b.m->relay;
	unsigned most = 0;

	for (unsigned i = 0; i < N; i++) {
		struct spool_found f = {.id = 1 + i, .recipients = 1};
		assert_int_equal(relay_add(w, &f), 0);
	}
	assert_int_equal(w->spool_pending, 0);
	b.m->hold_spool = true;
	mail_run(b.m, MAIL_SECOND);
	assert_int_equal(w->spool_pending, AT_ONCE);
	assert_int_equal(count(&b, relay_expired), AT_ONCE);
	b.m->hold_spool = false;
	/* the spool knows none of them: each is looked at, and again a second later */
	for (unsigned i = 0; i < 200 && count(&b, relay_expired) < N; i++) {
		mail_run(b.m, 5000);
		most = w->spool_pending > most ? w->spool_pending : most;
	}
	assert_in_range(count(&b, relay_expired), N, N + AT_ONCE);
	assert_in_range(most, 0, AT_ONCE);
	assert_int_equal(count(&b, relay_stuck), 0);
	bench_end(&b);
}

/* ---- random trouble ---- */

enum { MESSAGES = 8, RECIPIENTS = 3 };

struct tally {
	unsigned copies[MESSAGES][RECIPIENTS];
	unsigned served[MESSAGES]; /* recipients of the message */
};

static void name_of(char *name, size_t n, unsigned m, unsigned r)
{
	snprintf(name, n, "m%u-%u@x.y", m, r);
}

static void gather(struct tally *t, struct next_hop *h)
{
	char name[32];

	for (unsigned m = 0; m < MESSAGES; m++) {
		for (unsigned r = 0; r < RECIPIENTS; r++) {
			name_of(name, sizeof(name), m, r);
			t->copies[m][r] += hop_recipient(h, name);
		}
	}
	hop_forget(h);
}

static void random_rules(struct next_hop *h, uint64_t *r)
{
	static const char *const replies[] = {NULL,        "421 x\r\n", "450 x\r\n",
					      "550 x\r\n", "",          "junk\r\n"};

	h->pipelining = random_below(r, 2);
	for (unsigned i = 0; i < 10; i++)
		hop_rule(h, (struct hop_rule){.stage = (enum hop_stage)random_below(r, HOP_OTHER),
					      .reply = replies[random_below(r, 6)],
					      .times = 1 + random_below(r, 3),
					      .after = (enum hop_after)random_below(r, 3)});
}

static void submit_some(struct bench *b, struct tally *t, unsigned m, uint64_t *r)
{
	char list[200] = "", name[32];

	t->served[m] = 1 + random_below(r, RECIPIENTS);
	for (unsigned i = 0; i < t->served[m]; i++) {
		name_of(name, sizeof(name), m, i);
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "<%s>\n", name);
	}
	submit(b, "<alice@x.y>", list, TEXT);
}

/* Nobody answers at the next port. */
static void aim(struct bench *b, struct relay_config *c, bool away)
{
	c->pools[0].hops[0].port = MAIL_HOP + away;
	relay_worker_configure(b->m->relay, c);
}

/* The hop goes, comes back with other manners, or the configuration is read again. */
static void trouble(struct bench *b, struct relay_config *c, uint64_t *r)
{
	switch (random_below(r, 4)) {
	case 0:
		aim(b, c, true);
		break;
	case 1:
		aim(b, c, false);
		hop_rules_clear(b->h);
		random_rules(b->h, r);
		break;
	case 2:
		c->pools[0].notice_us = (1 + random_below(r, 60)) * (uint64_t)MINUTE;
		c->pools[0].connections = 1 + random_below(r, 4);
		relay_worker_configure(b->m->relay, c);
		break;
	case 3:
		disk_faults(b->m->disk)->per_million[DISK_READ] = random_below(r, 100000);
		break;
	}
}

static void check_tally(const struct bench *b, const struct tally *t, uint64_t seed)
{
	uint64_t recipients = 0, unserved = 0, more = 0;

	for (unsigned m = 0; m < MESSAGES; m++) {
		recipients += t->served[m];
		for (unsigned r = 0; r < t->served[m]; r++) {
			unserved += t->copies[m][r] == 0;
			more += t->copies[m][r] > 1 ? t->copies[m][r] - 1 : 0;
		}
	}
	/* everybody, and the sender with each report, has come to exactly one end */
	uint64_t ends = count(b, relay_delivered) + count(b, relay_bounced);
	if (ends != recipients + count(b, relay_reports))
		fail_msg("seed %llu: %llu ends", (unsigned long long)seed,
			 (unsigned long long)ends);
	if (unserved > count(b, relay_bounced))
		fail_msg("seed %llu: %llu without a copy", (unsigned long long)seed,
			 (unsigned long long)unserved);
	/* one attempt is for all recipients of its message at most */
	if (more > count(b, relay_ambiguous) * RECIPIENTS)
		fail_msg("seed %llu: %llu copies too many", (unsigned long long)seed,
			 (unsigned long long)more);
	if (count(b, relay_stuck) != 0)
		fail_msg("seed %llu: stuck", (unsigned long long)seed);
}

static void check_random(uint64_t seed)
{
	struct mail_options o;
	struct tally t = {0};
	uint64_t r = seed;

	mail_options_default(&o);
	o.net.seed = seed;
	o.relay.pools[0].give_up_us = 3 * hour_us;
	struct bench b = bench_with(&o);
	struct relay_config c = o.relay;
	c.pools[0].hops[0].address = net_addr(pair_net(b.m->pair), 0);
	random_rules(b.h, &r);
	b.m->tick_us = 500000;
	for (unsigned i = 0; i < MESSAGES; i++) {
		submit_some(&b, &t, i, &r);
		mail_run(b.m, random_below(&r, 20 * MINUTE));
		trouble(&b, &c, &r);
	}
	disk_faults(b.m->disk)->per_million[DISK_READ] = 0;
	hop_rules_clear(b.h);
	/* in every third round the hop is gone for good, and the reports expire as well */
	aim(&b, &c, seed % 3 == 0);
	if (!mail_run_until(b.m, queue_empty, b.m, 8 * hour_us))
		fail_msg("seed %llu: %u still queued", (unsigned long long)seed,
			 relay_queued(b.m->relay));
	gather(&t, b.h);
	check_tally(&b, &t, seed);
	bench_end(&b);
}

static void random_trouble_ends_everything_once_by_the_time_of_giving_up(void **state)
{
	for (uint64_t seed = 1; seed <= 36; seed++)
		check_random(seed);
}

static void after_an_outage_the_oldest_go_first(void **state)
{
	enum { N = 60 };
	struct mail_options o;
	char text[64];

	mail_options_default(&o);
	struct bench b = {.m = mail_create(&o)};
	b.m->tick_us = MAIL_SECOND;
	for (unsigned i = 0; i < N; i++) {
		snprintf(text, sizeof(text), "Subject: n%u.\r\n\r\nx\r\n", i);
		submit(&b, "<alice@x.y>", "<a@x.y>", text);
		mail_run(b.m, MINUTE);
	}
	b.h = hop_create(b.m, MAIL_HOP);
	assert_true(drained(&b, 10ull * MINUTE));
	assert_int_equal(b.h->n_mails, N);
	/* two connections at once: each may have overtaken the other by a little */
	for (unsigned i = 0; i < N; i++) {
		const char *at = strstr((const char *)b.h->mails[i].content.at, "Subject: n");
		assert_non_null(at);
		int n = atoi(at + strlen("Subject: n"));
		assert_in_range(n + N, N + (int)i - N / 10, N + (int)i + N / 10);
	}
	assert_int_equal(count(&b, relay_stuck), 0);
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_entry_without_its_timer_goes_on),
		cmocka_unit_test(an_entry_that_fell_out_of_its_list_goes_on),
		cmocka_unit_test(an_entry_that_nobody_holds_goes_on),
		cmocka_unit_test(an_entry_that_an_operator_holds_is_left_alone),
		cmocka_unit_test(an_entry_whose_delivery_has_gone_goes_on),
		cmocka_unit_test(a_connection_without_its_timer_ends),
		cmocka_unit_test(
			an_outcome_whose_timer_is_lost_is_recorded_and_not_delivered_again),
		cmocka_unit_test(an_outcome_that_the_spool_never_answers_is_counted_once_and_kept),
		cmocka_unit_test(an_envelope_that_the_spool_never_returns_is_counted_once),
		cmocka_unit_test(many_that_expire_at_once_end_a_few_at_a_time),
		cmocka_unit_test(random_trouble_ends_everything_once_by_the_time_of_giving_up),
		cmocka_unit_test(after_an_outage_the_oldest_go_first),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
