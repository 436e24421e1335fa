/* test_auth.c - password checks: cache, queue bounds, fairness, limits, users who change */
#include "tests/unit/auth_rig.h"

static void right_and_wrong_passwords_are_told_apart(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	assert_int_equal(judge(f, "alice", "secret"), AUTH_OK);
	assert_int_equal(judge(f, "alice", "secreT"), AUTH_BAD);
	assert_int_equal(judge(f, "bob", "secret"), AUTH_BAD);
	assert_int_equal(thread_count(f, auth_accepted), 1);
	assert_int_equal(thread_count(f, auth_rejected), 2);
}

static void an_unknown_user_is_judged_like_a_wrong_password(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(ask(f, 0, "nobody", "secret", "192.0.2.1"), AUTH_PENDING);
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 1);
	assert_int_equal(f->r[0].verdict, AUTH_BAD);
	assert_int_equal(thread_count(f, auth_unknown_users), 1);
	assert_int_equal(judge(f, "", ""), AUTH_BAD);
}

static void a_verified_password_is_answered_from_the_cache(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	judge(f, "alice", "secret");
	assert_int_equal(ask(f, 1, "alice", "secret", "203.0.113.9"), AUTH_OK);
	assert_int_equal(worker_count(f, auth_cache_hits), 1);
	/* neither a wrong password nor the same octets cut elsewhere hit */
	assert_int_equal(ask(f, 2, "alice", "secre", "203.0.113.9"), AUTH_PENDING);
	assert_int_equal(ask(f, 3, "alices", "ecret", "203.0.113.9"), AUTH_PENDING);
	wait_done(f, 2);
	assert_int_equal(worker_count(f, auth_cache_hits), 1);
}

static void a_wrong_password_is_never_cached(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(judge(f, "alice", "wrong"), AUTH_BAD);
	assert_int_equal(worker_count(f, auth_cache_hits), 0);
}

static void a_cached_entry_lives_ten_minutes(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	judge(f, "alice", "secret");
	f->shard.now_us += 600 * 1000000ull - 1;
	assert_int_equal(ask(f, 1, "alice", "secret", "192.0.2.1"), AUTH_OK);
	f->shard.now_us += 1;
	assert_int_equal(ask(f, 1, "alice", "secret", "192.0.2.1"), AUTH_PENDING);
	wait_done(f, 1);
}

static void cache_keys_depend_on_the_boot_and_the_record(void **state)
{
	struct fixture *f = *state;
	uint8_t first[CACHE_KEY_BYTES];

	open_auth(f);
	ask(f, 0, "alice", "secret", "192.0.2.1");
	memcpy(first, f->r[0].cache_key, sizeof(first));
	ask(f, 1, "alice", "secret", "192.0.2.1");
	assert_memory_equal(f->r[1].cache_key, first, sizeof(first));
	change_user(f, USERS_PASSWORD, "alice", "secret"); /* another salt, another record */
	auth_refresh(f->auth);
	ask(f, 2, "alice", "secret", "192.0.2.1");
	assert_memory_not_equal(f->r[2].cache_key, first, sizeof(first));
	memcpy(first, f->r[2].cache_key, sizeof(first));
	auth_client_destroy(f->client);
	auth_close(f->auth);
	open_auth(f);
	ask(f, 3, "alice", "secret", "192.0.2.1");
	assert_memory_not_equal(f->r[3].cache_key, first, sizeof(first));
}

static void a_changed_password_ends_the_cached_one_at_once(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	judge(f, "alice", "secret");
	change_user(f, USERS_PASSWORD, "alice", "newer");
	auth_refresh(f->auth);
	assert_int_equal(judge(f, "alice", "secret"), AUTH_BAD);
	assert_int_equal(judge(f, "alice", "newer"), AUTH_OK);
	assert_int_equal(thread_count(f, auth_reloads), 1);
}

static void a_removed_user_ends_his_cached_entry_at_once(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	judge(f, "alice", "secret");
	assert_int_equal(auth_users(f->auth), 2);
	change_user(f, USERS_REMOVE, "alice", NULL);
	auth_refresh(f->auth);
	assert_int_equal(auth_users(f->auth), 1);
	assert_int_equal(judge(f, "alice", "secret"), AUTH_BAD);
}

static void an_answer_about_a_record_that_changed_meanwhile_is_void(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(ask(f, 0, "alice", "secret", "192.0.2.1"), AUTH_PENDING);
	change_user(f, USERS_PASSWORD, "alice", "newer");
	auth_refresh(f->auth);
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 1);
	assert_int_equal(f->r[0].verdict, AUTH_OVERLOADED);
	assert_int_equal(worker_count(f, auth_record_changed), 1);
	f->done = 0;
	assert_int_equal(judge(f, "alice", "secret"), AUTH_BAD);
}

static void a_broken_users_file_leaves_the_old_users_in_force(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	FILE *file = fopen(f->file, "w");
	assert_non_null(file);
	fputs("nonsense\n", file);
	fclose(file);
	log_set_level(LOG_ERROR);
	auth_refresh(f->auth);
	auth_refresh(f->auth);
	assert_int_equal(thread_count(f, auth_reload_errors), 1);
	assert_int_equal(judge(f, "alice", "secret"), AUTH_OK);
}

static void the_queue_is_bounded_in_all(void **state)
{
	struct fixture *f = *state;
	char source[16], user[16];

	open_auth(f);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(source, sizeof(source), "192.0.2.%u", i);
		snprintf(user, sizeof(user), "u%u", i);
		assert_int_equal(ask(f, i, user, "x", source),
				 i < 16 ? AUTH_PENDING : AUTH_OVERLOADED);
	}
	assert_int_equal(worker_count(f, auth_queue_full), 4);
	assert_int_equal(auth_waiting(f->auth), 16);
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 16);
	assert_int_equal(auth_waiting(f->auth), 0);
}

static void one_address_may_not_fill_the_queue(void **state)
{
	struct fixture *f = *state;
	char user[16];

	f->config.queue_per_source = 3;
	open_auth(f);
	for (unsigned i = 0; i < 5; i++) {
		snprintf(user, sizeof(user), "u%u", i);
		assert_int_equal(ask(f, i, user, "x", "192.0.2.1"),
				 i < 3 ? AUTH_PENDING : AUTH_OVERLOADED);
	}
	assert_int_equal(worker_count(f, auth_source_full), 2);
	assert_int_equal(ask(f, 5, "u9", "x", "192.0.2.2"), AUTH_PENDING);
	/* answered checks make room again */
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 4);
	assert_int_equal(ask(f, 6, "u1", "x", "192.0.2.1"), AUTH_PENDING);
	wait_done(f, 5);
}

static void one_ip6_network_of_64_bits_counts_as_one_address(void **state)
{
	struct fixture *f = *state;

	f->config.queue_per_source = 1;
	open_auth(f);
	assert_int_equal(ask(f, 0, "a", "x", "2001:db8::1"), AUTH_PENDING);
	assert_int_equal(ask(f, 1, "b", "x", "2001:db8::ffff:1"), AUTH_OVERLOADED);
	assert_int_equal(ask(f, 2, "c", "x", "2001:db8:0:1::1"), AUTH_PENDING);
}

static void one_user_may_not_fill_the_queue_from_many_addresses(void **state)
{
	struct fixture *f = *state;
	char source[16], password[16];

	f->config.queue_per_user = 2;
	open_auth(f);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(source, sizeof(source), "192.0.2.%u", i);
		snprintf(password, sizeof(password), "x%u", i);
		assert_int_equal(ask(f, i, "alice", password, source),
				 i < 2 ? AUTH_PENDING : AUTH_OVERLOADED);
	}
	assert_int_equal(worker_count(f, auth_user_full), 2);
}

static void sources_are_served_in_turn(void **state)
{
	struct fixture *f = *state;
	static const char *const source[] = {"192.0.2.1", "192.0.2.1", "192.0.2.1",
					     "192.0.2.2", "192.0.2.3", "192.0.2.3"};
	static const unsigned order[] = {0, 3, 4, 1, 5, 2};
	char password[16];

	open_auth(f);
	for (unsigned i = 0; i < 6; i++) {
		snprintf(password, sizeof(password), "x%u", i);
		assert_int_equal(ask(f, i, "alice", password, source[i]), AUTH_PENDING);
	}
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_ptr_equal(f->order[i], &f->r[order[i]]);
}

static void the_password_is_wiped_whatever_the_answer(void **state)
{
	struct fixture *f = *state;

	f->config.queue_per_source = 2;
	open_auth(f);
	assert_int_equal(ask(f, 0, "alice", "secret", "192.0.2.1"), AUTH_PENDING);
	assert_int_equal(ask(f, 1, "nobody", "secret", "192.0.2.1"), AUTH_PENDING);
	assert_int_equal(ask(f, 2, "bob", "secret", "192.0.2.1"), AUTH_OVERLOADED);
	assert_true(wiped(&f->r[2]));
	assert_int_equal(auth_start(f->auth), 0);
	wait_done(f, 2);
	assert_true(wiped(&f->r[0]));
	assert_true(wiped(&f->r[1]));
	assert_int_equal(ask(f, 3, "alice", "secret", "192.0.2.1"), AUTH_OK);
	assert_true(wiped(&f->r[3]));
}

static void what_waits_at_the_end_comes_back_unjudged(void **state)
{
	struct fixture *f = *state;

	open_auth(f);
	assert_int_equal(ask(f, 0, "alice", "secret", "192.0.2.1"), AUTH_PENDING);
	auth_stop(f->auth);
	assert_int_equal(auth_poll(f->client), 1);
	assert_int_equal(f->r[0].verdict, AUTH_OVERLOADED);
	assert_true(wiped(&f->r[0]));
}

static void wrong_guesses_of_one_address_are_limited_and_others_are_not(void **state)
{
	struct fixture *f = *state;

	f->config.per_address = (struct auth_rate){.count = 4, .per_us = 60000000};
	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	assert_int_equal(judge(f, "bob", "hunter2"), AUTH_OK);
	assert_int_equal(judge(f, "alice", "1"), AUTH_BAD);
	assert_int_equal(judge(f, "carol", "2"), AUTH_BAD);
	/* half of four at once; now not even the right one is judged */
	assert_int_equal(judge(f, "alice", "3"), AUTH_OVERLOADED);
	assert_int_equal(judge(f, "alice", "secret"), AUTH_OVERLOADED);
	assert_int_equal(thread_count(f, auth_limited_address), 2);
	/* another address, and whoever has logged in before, are served */
	assert_int_equal(ask(f, 1, "alice", "secret", "192.0.2.2"), AUTH_PENDING);
	wait_done(f, 1);
	assert_int_equal(f->r[1].verdict, AUTH_OK);
	f->done = 0;
	assert_int_equal(judge(f, "bob", "hunter2"), AUTH_OK);
	f->shard.now_us += 30000000;
	assert_int_equal(judge(f, "alice", "4"), AUTH_BAD);
}

static void wrong_guesses_of_one_user_are_limited_known_or_not(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {"alice", "nobody"};

	f->config.per_user = (struct auth_rate){.count = 2, .per_us = 60000000};
	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(judge(f, names[i], "1"), AUTH_BAD);
		assert_int_equal(judge(f, names[i], "2"), AUTH_OVERLOADED);
	}
	assert_int_equal(thread_count(f, auth_limited_user), 2);
}

static void never_more_than_count_guesses_in_any_period(void **state)
{
	enum { COUNTS = 21, PERIOD_S = 60, SECONDS = 600 };

	for (unsigned count = 1; count < COUNTS; count++) {
		struct guesses *g = guesses_create(64);
		struct auth_rate rate = {.count = count, .per_us = PERIOD_S * 1000000ull};
		unsigned judged[SECONDS] = {};
		assert_non_null(g);
		for (unsigned s = 0; s < SECONDS; s++) {
			while (guesses_charge(g, 7, &rate, (s + 1) * 1000000ull))
				judged[s]++;
			unsigned sum = 0;
			for (unsigned i = 0; i < PERIOD_S && i <= s; i++)
				sum += judged[s - i];
			assert_in_range(sum, 0, count);
		}
		guesses_destroy(g);
	}
}

static void right_guesses_cost_nothing(void **state)
{
	struct guesses *g = guesses_create(64);
	struct auth_rate rate = {.count = 2, .per_us = 60000000};

	assert_non_null(g);
	for (unsigned i = 0; i < 100; i++) {
		assert_true(guesses_charge(g, 7, &rate, 1000000));
		guesses_refund(g, 7, &rate);
	}
	assert_true(guesses_charge(g, 7, &rate, 1000000));
	assert_false(guesses_charge(g, 7, &rate, 1000000));
	guesses_destroy(g);
}

static void a_full_cache_forgets_the_oldest(void **state)
{
	struct cache *c = cache_create(4, NULL);
	uint8_t key[6][CACHE_KEY_BYTES] = {};

	assert_non_null(c);
	for (uint8_t i = 0; i < 6; i++) {
		key[i][0] = i & 1; /* two share a bucket */
		key[i][31] = i;
		assert_int_equal(cache_put(c, key[i], NULL, 1000, 10), i >= 4);
		assert_false(cache_put(c, key[i], NULL, 1000, 10)); /* again: no second entry */
	}
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(cache_has(c, key[i], 11, NULL), i >= 2);
	assert_false(cache_has(c, key[5], 1010, NULL));
	assert_false(
		cache_put(c, key[0], NULL, 1000, 2000)); /* takes the place of an expired one */
	assert_true(cache_has(c, key[0], 2000, NULL));
	cache_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		auth_test(right_and_wrong_passwords_are_told_apart),
		auth_test(an_unknown_user_is_judged_like_a_wrong_password),
		auth_test(a_verified_password_is_answered_from_the_cache),
		auth_test(a_wrong_password_is_never_cached),
		auth_test(a_cached_entry_lives_ten_minutes),
		auth_test(cache_keys_depend_on_the_boot_and_the_record),
		auth_test(a_changed_password_ends_the_cached_one_at_once),
		auth_test(a_removed_user_ends_his_cached_entry_at_once),
		auth_test(an_answer_about_a_record_that_changed_meanwhile_is_void),
		auth_test(a_broken_users_file_leaves_the_old_users_in_force),
		auth_test(the_queue_is_bounded_in_all),
		auth_test(one_address_may_not_fill_the_queue),
		auth_test(one_ip6_network_of_64_bits_counts_as_one_address),
		auth_test(one_user_may_not_fill_the_queue_from_many_addresses),
		auth_test(sources_are_served_in_turn),
		auth_test(the_password_is_wiped_whatever_the_answer),
		auth_test(what_waits_at_the_end_comes_back_unjudged),
		auth_test(wrong_guesses_of_one_address_are_limited_and_others_are_not),
		auth_test(wrong_guesses_of_one_user_are_limited_known_or_not),
		cmocka_unit_test(never_more_than_count_guesses_in_any_period),
		cmocka_unit_test(right_guesses_cost_nothing),
		cmocka_unit_test(a_full_cache_forgets_the_oldest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
