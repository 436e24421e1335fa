/* test_auth_backends.c - the order of back ends, what an answer leads to, and whom a slow one holds
 * up: with back ends that answer as the test says */
#include "tests/unit/auth_rig.h"

#include "smtp/auth/identity.h"

#include <sched.h>
#include <sys/stat.h>

/* What the fake back ends do; the question's password is "right" where it is right. */
static struct {
	atomic_uint asked;
	atomic_int answer; /* to whom it knows, with a right password */
	atomic_bool hold;  /* nobody is answered until it is false */
	atomic_uint held;
	char tenant[64];
	char name[64]; /* that it gives every user; "": none */
} fake;

static void *fake_open(const struct auth_backend *b)
{
	return (void *)(uintptr_t)b;
}

static void fake_close(void *link)
{
}

static enum backend_answer fake_ask(void *link, struct backend_question *q,
				    struct identity_draft *d)
{
	const struct auth_backend *b = link;

	atomic_fetch_add(&fake.asked, 1);
	atomic_fetch_add(&fake.held, 1);
	while (atomic_load(&fake.hold) && backend_left_ms(q) > 0)
		sched_yield();
	atomic_fetch_sub(&fake.held, 1);
	if (backend_left_ms(q) == 0)
		return BACKEND_OUTAGE;
	if (strncmp(q->user, b->name, strlen(b->name)) != 0)
		return BACKEND_UNKNOWN;
	if (strcmp(q->password, "right") != 0)
		return BACKEND_WRONG;
	if (fake.name[0] != '\0')
		identity_set_user(d, fake.name, strlen(fake.name));
	identity_set_tenant(d, fake.tenant, strlen(fake.tenant));
	identity_add_addresses(d, "a@example.net", 13);
	return (enum backend_answer)atomic_load(&fake.answer);
}

static const struct auth_ops fake_ops = {.open = fake_open, .ask = fake_ask, .close = fake_close};
static const struct auth_ops by_source_ops = {
	.by_source = true, .open = fake_open, .ask = fake_ask, .close = fake_close};

/* Behind those that are there; it knows users whose names begin with its own. */
static void add_backend(struct fixture *f, const char *name, uint32_t cache_s)
{
	struct auth_backend *b = &f->config.backends[f->config.n_backends++];

	if (strcmp(name, "users") == 0) {
		b->kind = AUTH_BACKEND_USERS;
		return;
	}
	b->kind = AUTH_BACKEND_HTTP;
	b->ops = &fake_ops;
	b->timeout_ms = 60000;
	b->connections = 2;
	b->cache_s = cache_s;
	snprintf(b->name, sizeof(b->name), "%s", name);
}

static int backends_setup(void **state)
{
	memset(&fake, 0, sizeof(fake));
	snprintf(fake.tenant, sizeof(fake.tenant), "acme");
	return setup(state);
}

static int backends_teardown(void **state)
{
	struct fixture *f = *state;

	atomic_store(&fake.hold, false);
	for (unsigned i = 0; i < REQUESTS; i++) {
		auth_identity_drop(f->r[i].identity);
		f->r[i].identity = NULL;
	}
	return teardown(state);
}

static void start(struct fixture *f)
{
	open_auth(f);
	assert_int_equal(auth_start(f->auth), 0);
}

/* The verdict alone. */
static enum auth_verdict verdict(struct fixture *f, const char *user, const char *password)
{
	enum auth_verdict v = judge(f, user, password);

	auth_identity_drop(f->r[0].identity);
	f->r[0].identity = NULL;
	return v;
}

static void wait_held(unsigned n)
{
	struct nap nap = {.max_us = 1000};

	while (atomic_load(&fake.held) < n)
		nap_idle(&nap);
}

static void what_the_file_knows_is_decided_there(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "users", 0);
	add_backend(f, "a", 60);
	start(f);
	assert_int_equal(verdict(f, "alice", "secret"), AUTH_OK);
	assert_int_equal(verdict(f, "alice", "right"), AUTH_BAD);
	assert_int_equal(atomic_load(&fake.asked), 0);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	assert_int_equal(verdict(f, "anna", "wrong"), AUTH_BAD);
	assert_int_equal(verdict(f, "nobody", "right"), AUTH_BAD);
	assert_int_equal(atomic_load(&fake.asked), 3);
}

static void the_file_may_be_last_or_absent(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "al", 0);
	add_backend(f, "users", 0);
	start(f);
	assert_int_equal(verdict(f, "alice", "right"), AUTH_OK);
	assert_int_equal(verdict(f, "alice", "secret"), AUTH_BAD); /* known before it */
	assert_int_equal(verdict(f, "bob", "hunter2"), AUTH_OK);
	assert_int_equal(verdict(f, "bob", "right"), AUTH_BAD);
	assert_int_equal(verdict(f, "nobody", "right"), AUTH_BAD);
	assert_int_equal(thread_count(f, auth_unknown_users), 1);
}

static void without_the_file_its_users_are_unknown(void **state)
{
	struct fixture *f = *state;

	unlink(f->file); /* and it is not read */
	add_backend(f, "a", 0);
	start(f);
	auth_refresh(f->auth);
	assert_int_equal(verdict(f, "bob", "hunter2"), AUTH_BAD);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	assert_int_equal(auth_users(f->auth), 0);
}

static void an_unknown_user_goes_on_to_the_next_and_a_wrong_password_does_not(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "a", 0);
	add_backend(f, "an", 0);
	add_backend(f, "b", 0);
	start(f);
	assert_int_equal(verdict(f, "anna", "wrong"), AUTH_BAD);
	assert_int_equal(atomic_load(&fake.asked), 1);
	assert_int_equal(verdict(f, "bill", "right"), AUTH_OK);
	assert_int_equal(atomic_load(&fake.asked), 4);
}

static void an_identity_comes_with_the_verdict_and_from_the_cache(void **state)
{
	struct fixture *f = *state;
	const char *tenant, *addresses;
	char of[USER_TENANT_MAX + 1];

	add_backend(f, "users", 0);
	add_backend(f, "A", 60);
	snprintf(fake.name, sizeof(fake.name), "anna");
	start(f);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(judge(f, "Anna", "right"), AUTH_OK);
		assert_string_equal(f->r[0].user, "anna");
		assert_true(
			auth_attributes(f->client, "anna", f->r[0].identity, &tenant, &addresses));
		assert_string_equal(tenant, "acme");
		assert_string_equal(addresses, "a@example.net");
		auth_identity_drop(f->r[0].identity);
		f->r[0].identity = NULL;
	}
	assert_int_equal(atomic_load(&fake.asked), 1);
	assert_true(auth_tenant(f->auth, "anna", of));
	assert_string_equal(of, "acme");
	assert_false(auth_tenant(f->auth, "Anna", of));
}

static void a_cached_verdict_ends_with_the_back_ends_time(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "users", 0);
	add_backend(f, "a", 60);
	start(f);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	f->shard.now_us += 59999999;
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	assert_int_equal(atomic_load(&fake.asked), 1);
	f->shard.now_us += 1;
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	assert_int_equal(atomic_load(&fake.asked), 2);
}

static void without_a_cache_time_every_check_is_asked(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "a", 0);
	start(f);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	assert_int_equal(atomic_load(&fake.asked), 3);
}

static void where_the_source_matters_it_is_part_of_what_is_cached(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "a", 60);
	f->config.backends[0].ops = &by_source_ops;
	start(f);
	ask(f, 0, "anna", "right", "192.0.2.1");
	wait_done(f, 1);
	assert_int_equal(ask(f, 1, "anna", "right", "192.0.2.1"), AUTH_OK);
	assert_int_equal(ask(f, 2, "anna", "right", "192.0.2.2"), AUTH_PENDING);
	wait_done(f, 2);
	assert_int_equal(f->r[2].verdict, AUTH_OK);
}

static void an_outage_is_no_guess_and_no_refusal(void **state)
{
	static const enum backend_answer none[] = {BACKEND_OUTAGE, BACKEND_MALFORMED};
	struct fixture *f = *state;

	f->config.per_user = (struct auth_rate){.count = 2, .per_us = 60000000};
	add_backend(f, "a", 60);
	start(f);
	for (unsigned i = 0; i < 6; i++) {
		atomic_store(&fake.answer, none[i % 2]);
		assert_int_equal(verdict(f, "anna", "right"), AUTH_OVERLOADED);
	}
	assert_int_equal(thread_count(f, auth_backend_outages), 3);
	assert_int_equal(thread_count(f, auth_backend_malformed), 3);
	assert_int_equal(thread_count(f, auth_limited_user), 0);
	atomic_store(&fake.answer, BACKEND_RIGHT);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	/* and wrong guesses are judged as often as those of the file, in any spelling */
	assert_int_equal(verdict(f, "anna", "wrong"), AUTH_BAD);
	assert_int_equal(verdict(f, "ANNA", "wrong2"), AUTH_OVERLOADED);
	assert_int_equal(thread_count(f, auth_limited_user), 1);
}

static void one_that_cannot_be_reached_is_not_tried_at_once_again(void **state)
{
	struct fixture *f = *state;

	atomic_store(&fake.answer, BACKEND_UNREACHABLE);
	add_backend(f, "a", 60);
	start(f);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OVERLOADED);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OVERLOADED);
	assert_int_equal(atomic_load(&fake.asked), 1);
	assert_int_equal(thread_count(f, auth_backend_outages), 2);
}

static void a_slow_back_end_leaves_threads_and_places_to_the_file(void **state)
{
	struct fixture *f = *state;
	unsigned pending = 0;

	f->config.queue_per_source = 16;
	add_backend(f, "users", 0);
	add_backend(f, "a", 60);
	atomic_store(&fake.hold, true);
	start(f);
	for (unsigned i = 1; i < 40; i++) {
		char name[16];
		snprintf(name, sizeof(name), "a%u", i);
		pending += ask(f, i, name, "right", "192.0.2.1") == AUTH_PENDING;
	}
	assert_int_equal(pending, 16); /* the queue's bound */
	wait_held(2);
	assert_int_equal(ask(f, 0, "alice", "secret", "192.0.2.1"), AUTH_PENDING);
	wait_done(f, 1);
	assert_ptr_equal(f->order[0], &f->r[0]);
	assert_int_equal(f->r[0].verdict, AUTH_OK);
	atomic_store(&fake.hold, false);
	wait_done(f, 17);
	assert_int_equal(f->r[16].verdict, AUTH_OK);
}

static void what_waits_too_long_for_its_turn_is_not_asked(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "a", 60);
	f->config.backends[0].connections = 1;
	f->config.backends[0].timeout_ms = 100;
	atomic_store(&fake.hold, true);
	start(f);
	for (unsigned i = 0; i < 4; i++) {
		char name[16];
		snprintf(name, sizeof(name), "a%u", i);
		ask(f, i, name, "right", "192.0.2.1");
	}
	wait_done(f, 4);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(f->r[i].verdict, AUTH_OVERLOADED);
	assert_true(thread_count(f, auth_backend_late) > 0);
	assert_true(atomic_load(&fake.asked) < 4);
}

static void equal_checks_of_a_back_end_are_asked_once(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "a", 60);
	atomic_store(&fake.hold, true);
	start(f);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(ask(f, i, "anna", "right", "192.0.2.1"), AUTH_PENDING);
	atomic_store(&fake.hold, false);
	wait_done(f, 20);
	assert_int_equal(atomic_load(&fake.asked), 1);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(f->r[i].verdict, AUTH_OK);
		assert_non_null(f->r[i].identity);
		assert_true(wiped(&f->r[i]));
	}
}

static void a_name_of_the_file_cannot_be_got_from_a_back_end(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "users", 0);
	add_backend(f, "A", 60);
	snprintf(fake.name, sizeof(fake.name), "alice");
	start(f);
	assert_int_equal(verdict(f, "Alice", "right"), AUTH_BAD);
	assert_int_equal(worker_count(f, auth_shadowed), 1);
	assert_null(f->r[0].identity);
}

static void take_backends(struct fixture *f)
{
	struct chain *next;
	char error[256];

	assert_int_equal(auth_prepare_backends(f->auth, &f->config, &next, error, sizeof(error)),
			 0);
	auth_take_backends(f->auth, next);
}

static void other_back_ends_void_what_was_known_and_what_waits(void **state)
{
	struct fixture *f = *state;
	struct chain *next;
	char error[256];

	add_backend(f, "a", 60);
	start(f);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	/* the same again is no change */
	assert_int_equal(auth_prepare_backends(f->auth, &f->config, &next, error, sizeof(error)),
			 0);
	assert_null(next);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	assert_int_equal(atomic_load(&fake.asked), 1);
	f->config.backends[0].cache_s = 30;
	take_backends(f);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK);
	assert_int_equal(atomic_load(&fake.asked), 2);

	atomic_store(&fake.hold, true);
	for (unsigned i = 1; i < 4; i++) {
		char name[16];
		snprintf(name, sizeof(name), "a%u", i);
		ask(f, i, name, "right", "192.0.2.1");
	}
	wait_held(2);
	add_backend(f, "users", 0);
	take_backends(f);
	wait_done(f, 3); /* those asked are told to stop */
	for (unsigned i = 1; i < 4; i++)
		assert_int_equal(f->r[i].verdict, AUTH_OVERLOADED);
	atomic_store(&fake.hold, false);
	f->done = 0;
	assert_int_equal(verdict(f, "bob", "hunter2"), AUTH_OK); /* the file is listed now */
	auth_refresh(f->auth);
}

static void a_password_file_must_be_closed_to_others(void **state)
{
	struct fixture *f = *state;
	char error[512];
	struct chain *next;

	add_backend(f, "a", 60);
	start(f);
	struct auth_backend *b = &f->config.backends[0];
	snprintf(b->password_file, sizeof(b->password_file), "%s/secret", f->directory);
	assert_int_not_equal(
		auth_prepare_backends(f->auth, &f->config, &next, error, sizeof(error)), 0);
	assert_non_null(strstr(error, "cannot be read"));
	FILE *out = fopen(b->password_file, "w");
	assert_non_null(out);
	fputs("s3cret\nmore\n", out);
	fclose(out);
	assert_int_equal(chmod(b->password_file, 0644), 0);
	assert_int_not_equal(
		auth_prepare_backends(f->auth, &f->config, &next, error, sizeof(error)), 0);
	assert_non_null(strstr(error, "chmod 600"));
	assert_int_equal(chmod(b->password_file, 0600), 0);
	take_backends(f);
	assert_int_equal(verdict(f, "anna", "right"), AUTH_OK); /* those before went on */
	unlink(b->password_file);
}

static void stopping_gives_back_what_a_back_end_has(void **state)
{
	struct fixture *f = *state;

	add_backend(f, "a", 60);
	atomic_store(&fake.hold, true);
	start(f);
	for (unsigned i = 0; i < 5; i++) {
		char name[16];
		snprintf(name, sizeof(name), "a%u", i);
		ask(f, i, name, "right", "192.0.2.1");
	}
	wait_held(2);
	auth_stop(f->auth);
	assert_int_equal(auth_poll(f->client), 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(f->r[i].verdict, AUTH_OVERLOADED);
		assert_true(wiped(&f->r[i]));
	}
}

#define backends_test(t) cmocka_unit_test_setup_teardown(t, backends_setup, backends_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		backends_test(what_the_file_knows_is_decided_there),
		backends_test(the_file_may_be_last_or_absent),
		backends_test(without_the_file_its_users_are_unknown),
		backends_test(an_unknown_user_goes_on_to_the_next_and_a_wrong_password_does_not),
		backends_test(an_identity_comes_with_the_verdict_and_from_the_cache),
		backends_test(a_cached_verdict_ends_with_the_back_ends_time),
		backends_test(without_a_cache_time_every_check_is_asked),
		backends_test(where_the_source_matters_it_is_part_of_what_is_cached),
		backends_test(an_outage_is_no_guess_and_no_refusal),
		backends_test(one_that_cannot_be_reached_is_not_tried_at_once_again),
		backends_test(a_slow_back_end_leaves_threads_and_places_to_the_file),
		backends_test(what_waits_too_long_for_its_turn_is_not_asked),
		backends_test(equal_checks_of_a_back_end_are_asked_once),
		backends_test(a_name_of_the_file_cannot_be_got_from_a_back_end),
		backends_test(other_back_ends_void_what_was_known_and_what_waits),
		backends_test(a_password_file_must_be_closed_to_others),
		backends_test(stopping_gives_back_what_a_back_end_has),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
