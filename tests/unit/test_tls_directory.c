/* test_tls_directory.c - certificates of many names: read when asked for, kept within bounds, given
 * back */
#include "tests/unit/tls_rig.h"

static void add_to_directory(struct rig *r, const char *entry, const struct cert_spec *spec)
{
	struct cert c = cert_make(spec);
	char path[RIG_PATH], chain[CREDENTIAL_PATH], key[CREDENTIAL_PATH];

	mkdir(rig_path(r, "many", path), 0700);
	directory_paths(path, entry, chain, key);
	char *slash = strrchr(chain, '/');
	*slash = '\0';
	mkdir(chain, 0700);
	*slash = '/';
	cert_save(&c, chain, key);
	cert_free(&c);
}

/* "00", ... sort before the names that the test asks for: those are left to the first session. */
static int64_t began_s;

static void start_with_directory(struct rig *r)
{
	static char path[RIG_PATH];
	char entry[32];

	rig_init(r);
	rig_add(r, &(struct cert_spec){.common_name = "default", .alternative = "DNS:mx.test"});
	for (unsigned i = 0; i < DIRECTORY_EAGER; i++) {
		snprintf(entry, sizeof(entry), "%02u.test", i);
		add_to_directory(r, entry, &(struct cert_spec){.common_name = entry});
	}
	add_to_directory(r, "lazy.test", &(struct cert_spec){.common_name = "lazy.test"});
	add_to_directory(r, "*.wild.test", &(struct cert_spec){.common_name = "*.wild.test"});
	add_to_directory(r, "wrong.test", &(struct cert_spec){.common_name = "right.test"});
	r->options.tls.directory = rig_path(r, "many", path);
	r->options.tls_threads = 1;
	rig_start(r);
	began_s = atomic_load(&r->m->tls->wall_s);
}

static void a_directory_serves_its_first_names_and_the_others_when_asked(void **state)
{
	struct rig r;

	start_with_directory(&r);
	assert_int_equal(atomic_load(&r.m->tls->current)->sets[0]->n_credentials,
			 1 + DIRECTORY_EAGER);
	expect_shown(&r, "00.test", "00.test");
	expect_shown(&r, "63.test", "63.test");
	expect_shown(&r, "lazy.test", "lazy.test");
	expect_shown(&r, "a.wild.test", "*.wild.test");
	expect_shown(&r, "nobody.test", "default");
	rig_end(&r);
}

static void a_directory_entry_must_be_a_certificate_for_its_name(void **state)
{
	struct rig r;

	start_with_directory(&r);
	expect_shown(&r, "wrong.test", "default");
	expect_shown(&r, "right.test", "default");
	rig_end(&r);
}

static void a_name_once_missed_is_looked_for_again_after_a_minute(void **state)
{
	struct rig r;

	start_with_directory(&r);
	expect_shown(&r, "later.test", "default");
	add_to_directory(&r, "later.test", &(struct cert_spec){.common_name = "later.test"});
	expect_shown(&r, "later.test", "default");
	tls_refresh(r.m->tls, began_s + 61);
	expect_shown(&r, "later.test", "later.test");
	rig_end(&r);
}

static const struct credential *find(struct rig *r, const char *name)
{
	struct tls_thread *t = &r->m->tls->threads[0];
	struct tls_session s = {.contexts = atomic_load(&r->m->tls->current)->sets[0]};

	return directory_find(t->directory, &s, name);
}

static unsigned kept(const struct rig *r)
{
	return directory_count(r->m->tls->threads[0].directory);
}

static void made_up_names_push_no_real_one_out(void **state)
{
	struct rig r;
	char name[64];

	start_with_directory(&r);
	const struct credential *c = find(&r, "lazy.test");
	assert_non_null(c);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "made-up-%u.test", i);
		assert_null(find(&r, name));
	}
	assert_ptr_equal(find(&r, "lazy.test"), c);
	assert_in_range(kept(&r), 1, 2048);
	rig_end(&r);
}

/* One certificate with many names, so that making them is cheap. */
static void add_many(struct rig *r, unsigned n)
{
	char path[RIG_PATH], entry[RIG_PATH + 32];

	add_to_directory(r, "*.many.test", &(struct cert_spec){.common_name = "*.many.test"});
	for (unsigned i = 0; i < n; i++) {
		snprintf(entry, sizeof(entry), "%s/%u.many.test", rig_path(r, "many", path), i);
		assert_int_equal(symlink("*.many.test", entry), 0);
	}
}

static void what_is_kept_is_bounded_and_the_least_recently_used_goes(void **state)
{
	enum { MANY = DIRECTORY_FOUND + 300 };
	struct rig r;
	char name[64];

	start_with_directory(&r);
	add_many(&r, MANY);
	assert_non_null(find(&r, "lazy.test"));
	const struct credential *first = find(&r, "0.many.test");
	for (unsigned i = 1; i < MANY; i++) {
		snprintf(name, sizeof(name), "%u.many.test", i);
		assert_non_null(find(&r, name));
		assert_true(kept(&r) <= DIRECTORY_FOUND);
		assert_ptr_equal(find(&r, "0.many.test"), first); /* in use: stays */
	}
	assert_int_equal(kept(&r), DIRECTORY_FOUND);
	expect_shown(&r, "lazy.test", "lazy.test");
	assert_int_equal(mail_tls_count(r.m, tls_names_read), 1); /* it had gone */
	rig_end(&r);
}

/* Runs the thread's turns, nothing else, at a time so many seconds after the start. */
static void turns(struct rig *r, int64_t after_s, unsigned n)
{
	tls_refresh(r->m->tls, began_s + after_s);
	for (unsigned i = 0; i < n; i++)
		tls_run_queued(r->m->tls);
}

static void memory_of_a_burst_of_names_is_back_within_a_minute(void **state)
{
	struct rig r;
	char name[64];

	start_with_directory(&r);
	add_many(&r, 500);
	assert_non_null(find(&r, "lazy.test"));
	turns(&r, DIRECTORY_IDLE_S + 1, 1);
	assert_int_equal(kept(&r), 0);
	uint64_t before = tls_memory_used();
	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "%u.many.test", i);
		assert_non_null(find(&r, name));
	}
	uint64_t burst = tls_memory_used() - before;
	assert_true(burst > 500 * 1000);
	turns(&r, 2 * DIRECTORY_IDLE_S, 100); /* asked for a second too lately */
	assert_int_equal(kept(&r), 500);
	turns(&r, 2 * DIRECTORY_IDLE_S + 1, 1);
	assert_in_range(kept(&r), 400, 499); /* no step waits for all of it */
	turns(&r, 2 * DIRECTORY_IDLE_S + 1, 100);
	assert_int_equal(kept(&r), 0);
	assert_true(tls_memory_used() < before + burst / 100);
	expect_shown(&r, "7.many.test", "*.many.test");
	rig_end(&r);
}

static void a_session_outlives_the_certificate_that_it_began_with(void **state)
{
	struct rig r;

	start_with_directory(&r);
	r.m->server_name = "lazy.test";
	struct peer *p = peer_login(r.m);
	turns(&r, 3600, 10);
	assert_int_equal(kept(&r), 0);
	assert_int_equal(strncmp(peer_cmd(p, "NOOP"), "250", 3), 0);
	rig_end(&r);
}

/* The hello waits for its thread; what other sessions ask for meanwhile is answered. */
static void reading_a_certificate_holds_up_no_other_session(void **state)
{
	struct rig r;

	start_with_directory(&r);
	struct peer *old = peer_login(r.m);
	r.m->hold_tls = true;
	r.m->server_name = "lazy.test";
	struct peer *p = peer_connect(r.m, MAIL_SUBMISSIONS);
	peer_begin_tls(p, 0, NULL);
	mail_run(r.m, 10000);
	assert_int_equal(strncmp(peer_cmd(old, "NOOP"), "250", 3), 0);
	assert_int_equal(kept(&r), 0);
	r.m->hold_tls = false;
	peer_expect(p, "220");
	assert_int_equal(kept(&r), 1);
	rig_end(&r);
}

static void a_reload_reads_only_those_of_the_directory_that_have_changed(void **state)
{
	struct rig r;
	char error[512];

	start_with_directory(&r);
	add_to_directory(&r, "other.test", &(struct cert_spec){.common_name = "other.test"});
	const struct credential *lazy = find(&r, "lazy.test");
	expect_shown(&r, "other.test", "other.test");
	assert_int_equal(mail_tls_count(r.m, tls_names_read), 1);
	add_to_directory(
		&r, "other.test",
		&(struct cert_spec){.common_name = "new", .alternative = "DNS:other.test"});
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 0);
	assert_ptr_equal(find(&r, "lazy.test"), lazy);
	expect_shown(&r, "other.test", "new");
	assert_int_equal(mail_tls_count(r.m, tls_names_read), 2);
	rig_end(&r);
}

/* What finds the format of a key is set up once: it must not stay with the first that it has met.
 */
static void one_reader_reads_keys_of_all_kinds(void **state)
{
	struct rig r;

	start_with_directory(&r);
	add_to_directory(&r, "rsa.test",
			 &(struct cert_spec){.common_name = "rsa.test", .rsa = true});
	add_to_directory(&r, "ec.test", &(struct cert_spec){.common_name = "ec.test"});
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(find(&r, "lazy.test")->kind, KEY_ECDSA);
		assert_int_equal(find(&r, "rsa.test")->kind, KEY_RSA);
		assert_int_equal(find(&r, "ec.test")->kind, KEY_ECDSA);
		turns(&r, 3600, 10);
	}
	rig_end(&r);
}

static void a_lazily_loaded_certificate_is_reloaded_too(void **state)
{
	struct rig r;
	char error[512];

	start_with_directory(&r);
	expect_shown(&r, "lazy.test", "lazy.test");
	add_to_directory(&r, "lazy.test",
			 &(struct cert_spec){.common_name = "new", .alternative = "DNS:lazy.test"});
	expect_shown(&r, "lazy.test", "lazy.test");
	assert_int_equal(tls_reload(r.m->tls, &r.options.tls, error, sizeof(error)), 0);
	expect_shown(&r, "lazy.test", "new");
	rig_end(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_directory_serves_its_first_names_and_the_others_when_asked),
		cmocka_unit_test(a_directory_entry_must_be_a_certificate_for_its_name),
		cmocka_unit_test(a_name_once_missed_is_looked_for_again_after_a_minute),
		cmocka_unit_test(made_up_names_push_no_real_one_out),
		cmocka_unit_test(what_is_kept_is_bounded_and_the_least_recently_used_goes),
		cmocka_unit_test(memory_of_a_burst_of_names_is_back_within_a_minute),
		cmocka_unit_test(a_session_outlives_the_certificate_that_it_began_with),
		cmocka_unit_test(reading_a_certificate_holds_up_no_other_session),
		cmocka_unit_test(a_reload_reads_only_those_of_the_directory_that_have_changed),
		cmocka_unit_test(one_reader_reads_keys_of_all_kinds),
		cmocka_unit_test(a_lazily_loaded_certificate_is_reloaded_too),
	};

	if (!tls_memory_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
