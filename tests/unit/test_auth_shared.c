/* test_auth_shared.c - equal checks under way share one hash */
#include "tests/unit/auth_rig.h"

static void equal_checks_share_one_hash_and_its_verdict(void **state)
{
	struct fixture *f = *state;

	/* far more than the queue takes, of a source or in all */
	open_auth(f);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(ask(f, i, "alice", "secret", "192.0.2.1"), AUTH_PENDING);
	assert_int_equal(auth_waiting(f->auth), 1);
	for (unsigned i = 1; i < 200; i++)
		assert_true(wiped(&f->r[i]));
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 200);
	for (unsigned i = 0; i < 200; i++) {
		assert_ptr_equal(f->order[i], &f->r[i]);
		assert_int_equal(f->r[i].verdict, AUTH_OK);
	}
	assert_int_equal(thread_count(f, auth_accepted), 1);
	assert_int_equal(worker_count(f, auth_shared), 199);
}

static void an_equal_wrong_guess_is_judged_and_charged_once(void **state)
{
	struct fixture *f = *state;

	f->config.per_address = (struct auth_rate){.count = 2, .per_us = 60000000};
	open_auth(f);
	for (unsigned i = 0; i < 10; i++)
		ask(f, i, "nobody", "wrong", "192.0.2.1");
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 10);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(f->r[i].verdict, AUTH_BAD);
	assert_int_equal(thread_count(f, auth_rejected), 1);
}

static void checks_that_differ_in_anything_are_judged_apart(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	ask(f, 0, "alice", "secret", "192.0.2.1");
	ask(f, 1, "alice", "secreT", "192.0.2.1");
	ask(f, 2, "bob", "secret", "192.0.2.1");
	change_user(f, USERS_PASSWORD, "alice", "secret"); /* another record */
	auth_refresh(f->auth);
	ask(f, 3, "alice", "secret", "192.0.2.1");
	ask(f, 4, "alice", "secret", "192.0.2.1");
	assert_int_equal(auth_waiting(f->auth), 4);
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 5);
	assert_int_equal(f->r[0].verdict, AUTH_OVERLOADED); /* void: its record has gone */
	assert_int_equal(f->r[1].verdict, AUTH_BAD);
	assert_int_equal(f->r[2].verdict, AUTH_BAD);
	assert_int_equal(f->r[3].verdict, AUTH_OK);
	assert_int_equal(f->r[4].verdict, AUTH_OK);
}

static void those_who_wait_for_an_equal_check_are_bounded(void **state)
{
	struct fixture *f = *state;

	f->config.followers = 3;
	open_auth(f);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(ask(f, i, "alice", "secret", "192.0.2.1"),
				 i < 4 ? AUTH_PENDING : AUTH_OVERLOADED);
	assert_int_equal(worker_count(f, auth_followers_full), 2);
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 4);
	/* and there is room again */
	f->done = 0;
	ask(f, 0, "bob", "x", "192.0.2.1");
	ask(f, 1, "bob", "x", "192.0.2.1");
	wait_done(f, 2);
	assert_int_equal(f->r[1].verdict, AUTH_BAD);
}

static void followers_come_back_when_the_gateway_stops(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	for (unsigned i = 0; i < 3; i++)
		ask(f, i, "alice", "secret", "192.0.2.1");
	auth_stop(f->auth);
	assert_int_equal(auth_poll(f->client), 3);
	assert_int_equal(f->r[2].verdict, AUTH_OVERLOADED);
	/* dropped without done() when the worker goes */
	for (unsigned i = 0; i < 3; i++)
		ask(f, i, "alice", "secret", "192.0.2.1");
	auth_client_destroy(f->client);
	f->client = NULL;
	assert_int_equal(f->done, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		auth_test(equal_checks_share_one_hash_and_its_verdict),
		auth_test(an_equal_wrong_guess_is_judged_and_charged_once),
		auth_test(checks_that_differ_in_anything_are_judged_apart),
		auth_test(those_who_wait_for_an_equal_check_are_bounded),
		auth_test(followers_come_back_when_the_gateway_stops),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
