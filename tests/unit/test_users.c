/* test_users.c - the users file and what it stores in place of passwords */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/base64.h"
#include "smtp/auth/password.h"
#include "smtp/auth/users.h"

#include <errno.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct password_cost cheap = {
	.memory_kib = 8, .passes = 1, .lanes = 1, .scram_iterations = 4096};

static char directory[64], file[128];

static int make_directory(void **state)
{
	snprintf(directory, sizeof(directory), "/tmp/test_users.XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(file, sizeof(file), "%s/users", directory);
	return 0;
}

static int remove_directory(void **state)
{
	static const char *const names[] = {"users", "users.lock", "users.new"};

	for (unsigned i = 0; i < 3; i++) {
		char path[256];
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		unlink(path);
	}
	return rmdir(directory);
}

static int edit(enum users_change change, const char *name, const char *password, bool scram,
		char *error)
{
	struct users_edit e = {.file = file,
			       .change = change,
			       .name = name,
			       .password = password,
			       .cost = cheap,
			       .scram = scram};

	return users_edit(&e, error, 512);
}

static struct users *load(void)
{
	char error[512] = "";
	struct users *u;

	if (users_load(&u, file, NULL, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	return u;
}

static void write_file(const char *text, mode_t mode)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	assert_int_equal(chmod(file, mode), 0);
}

static void an_added_user_is_found_with_his_password(void **state)
{
	char error[512];
	struct scram_verifier v;

	assert_int_equal(edit(USERS_ADD, "alice", "p\xc3\xa4ss word", true, error), 0);
	assert_int_equal(edit(USERS_ADD, "bob@example.net", "secret", false, error), 0);
	struct users *u = load();
	assert_int_equal(users_count(u), 2);
	const struct user *alice = users_find(u, "alice");
	assert_non_null(alice);
	assert_int_equal(password_verify(&alice->hash, "p\xc3\xa4ss word"), 1);
	assert_int_equal(password_verify(&alice->hash, "pass word"), 0);
	assert_true(scram_parse(alice->scram, &v));
	assert_null(users_find(u, "bob@example.net")->scram);
	assert_null(users_find(u, "carol"));
	users_unref(u);
}

static void the_file_is_for_its_owner_alone(void **state)
{
	char error[512];
	struct stat st;

	edit(USERS_ADD, "alice", "secret", false, error);
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_new_password_replaces_the_old_one_and_the_record_id(void **state)
{
	char error[512];
	uint8_t before[USERS_RECORD_ID_BYTES];

	edit(USERS_ADD, "alice", "old", false, error);
	struct users *u = load();
	memcpy(before, users_find(u, "alice")->record_id, sizeof(before));
	users_unref(u);
	assert_int_equal(edit(USERS_PASSWORD, "alice", "new", false, error), 0);
	u = load();
	assert_int_equal(password_verify(&users_find(u, "alice")->hash, "new"), 1);
	assert_int_equal(password_verify(&users_find(u, "alice")->hash, "old"), 0);
	assert_memory_not_equal(users_find(u, "alice")->record_id, before, sizeof(before));
	users_unref(u);
}

static void a_removed_user_is_gone_and_the_others_stay(void **state)
{
	char error[512];

	edit(USERS_ADD, "alice", "a", false, error);
	edit(USERS_ADD, "bob", "b", true, error);
	assert_int_equal(edit(USERS_REMOVE, "alice", NULL, false, error), 0);
	struct users *u = load();
	assert_int_equal(users_count(u), 1);
	assert_null(users_find(u, "alice"));
	assert_int_equal(password_verify(&users_find(u, "bob")->hash, "b"), 1);
	users_unref(u);
}

static void impossible_changes_are_refused_with_a_text(void **state)
{
	char error[512];

	assert_int_equal(edit(USERS_REMOVE, "alice", NULL, false, error), -ENOENT);
	edit(USERS_ADD, "alice", "a", false, error);
	assert_int_equal(edit(USERS_ADD, "alice", "b", false, error), -EEXIST);
	assert_string_equal(error, "user alice exists; the password is changed with: posternctl "
				   "user password");
	assert_int_equal(edit(USERS_PASSWORD, "bob", "b", false, error), -ENOENT);
	assert_string_equal(error, "there is no user bob");
	static const char *const names[] = {"", "a b", "a:b", "a\tb", "a\x7f", "a\nb", "#a"};
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(edit(USERS_ADD, names[i], "x", false, error), -EINVAL);
	static const char *const passwords[] = {"", "\xff", "a\x01", "\xc0\x80", "\xed\xa0\x80"};
	for (unsigned i = 0; i < sizeof(passwords) / sizeof(passwords[0]); i++)
		assert_int_equal(edit(USERS_ADD, "bob", passwords[i], false, error), -EINVAL);
}

static void a_bad_file_is_refused_with_line_and_reason(void **state)
{
#define GOOD_HASH                                            \
	"$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" \
	"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
	static const struct {
		const char *text, *error;
		mode_t mode;
	} cases[] = {
		{"", ":1: the first line must be: postern-users 1", 0600},
		{"postern-users 2\n", ":1: the first line must be: postern-users 1", 0600},
		{"postern-users 1\nalice", ": the last line is cut off (no line end)", 0600},
		{"postern-users 1\nalice\n",
		 ":2: the second field is not an argon2id hash ($argon2id$v=19$...); set it with: "
		 "posternctl user password alice",
		 0600},
		{"postern-users 1\nalice $6$x\n",
		 ":2: the second field is not an argon2id hash ($argon2id$v=19$...); set it with: "
		 "posternctl user password alice",
		 0600},
		{"postern-users 1\na " GOOD_HASH "\na " GOOD_HASH "\n",
		 ":3: user a is written twice", 0600},
		{"postern-users 1\na " GOOD_HASH " x\n",
		 ":2: expected: name, argon2id hash, optional SCRAM-SHA-256 verifier, tenant=NAME "
		 "and "
		 "addresses=LIST, each once, separated by one space",
		 0600},
		{"postern-users 1\na " GOOD_HASH " SCRAM-SHA-1$x\n",
		 ":2: the verifier is not SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey", 0600},
		{"postern-users 1\na " GOOD_HASH " tenant=x tenant=y\n",
		 ":2: expected: name, argon2id hash, optional SCRAM-SHA-256 verifier, tenant=NAME "
		 "and "
		 "addresses=LIST, each once, separated by one space",
		 0600},
		{"postern-users 1\na " GOOD_HASH " tenant=\n", ":2: the tenant's name is empty",
		 0600},
		{"postern-users 1\na " GOOD_HASH " addresses=a@b,c\n",
		 ":2: an entry of the list of addresses is neither an address nor a @domain", 0600},
		{"postern-users 1\n\n", ":2: the name is empty", 0600},
		{"postern-users 1\n", ": has mode 0644, open to others; the remedy: chmod 600",
		 0644},
	};
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char error[512] = "", wanted[512];
		struct users *u;
		write_file(cases[i].text, cases[i].mode);
		assert_int_not_equal(users_load(&u, file, NULL, error, sizeof(error)), 0);
		snprintf(wanted, sizeof(wanted), "%s%s", file, cases[i].error);
		assert_string_equal(error, wanted);
	}
}

static void attributes_are_read_set_and_kept_by_other_changes(void **state)
{
	struct users_edit e = {.file = file,
			       .change = USERS_ADD,
			       .name = "alice",
			       .password = "secret",
			       .cost = cheap,
			       .scram = true,
			       .tenant = "acme",
			       .addresses = "a@b.test,@c.test"};
	char error[512];
	struct users *u;

	unlink(file);
	assert_int_equal(users_edit(&e, error, sizeof(error)), 0);
	e.change = USERS_PASSWORD;
	e.tenant = e.addresses = NULL;
	assert_int_equal(users_edit(&e, error, sizeof(error)), 0);
	assert_int_equal(users_load(&u, file, NULL, error, sizeof(error)), 0);
	assert_string_equal(users_find(u, "alice")->tenant, "acme");
	assert_string_equal(users_find(u, "alice")->addresses, "a@b.test,@c.test");
	users_unref(u);
	e.change = USERS_SET;
	e.tenant = "";
	e.addresses = "@d.test";
	assert_int_equal(users_edit(&e, error, sizeof(error)), 0);
	assert_int_equal(users_load(&u, file, NULL, error, sizeof(error)), 0);
	assert_null(users_find(u, "alice")->tenant);
	assert_string_equal(users_find(u, "alice")->addresses, "@d.test");
	assert_non_null(users_find(u, "alice")->scram);
	users_unref(u);
	e.tenant = "two words";
	assert_int_equal(users_edit(&e, error, sizeof(error)), -EINVAL);
}

static void hashes_that_would_cost_too_much_are_refused(void **state)
{
	static const char *const bad[] = {
		"$argon2id$v=19$m=9999999,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
		"$argon2id$v=19$m=8,t=999,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
		"$argon2id$v=19$m=8,t=1,p=0$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
		"$argon2id$v=19$m=8,t=1,p=1$MDEy$MDEyMzQ1Njc4OWFiY2RlZg",
		"$argon2id$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$",
		"$argon2i$v=19$m=8,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZg",
	};
	struct password_hash h;

	assert_true(password_parse(GOOD_HASH, &h));
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(password_parse(bad[i], &h));
}

static void unknown_names_cost_what_most_users_cost(void **state)
{
	char error[512];
	struct password_cost dear = cheap;

	edit(USERS_ADD, "a", "a", false, error);
	edit(USERS_ADD, "b", "b", false, error);
	dear.passes = 3;
	struct users_edit e = {
		.file = file, .change = USERS_ADD, .name = "c", .password = "c", .cost = dear};
	assert_int_equal(users_edit(&e, error, sizeof(error)), 0);
	struct users *u = load();
	assert_int_equal(users_dummy(u)->passes, 1);
	assert_int_equal(users_dummy(u)->memory_kib, 8);
	users_unref(u);
	write_file("postern-users 1\n", 0600);
	u = load();
	assert_int_equal(users_dummy(u)->memory_kib, 19456);
	users_unref(u);
}

static void edits_side_by_side_lose_nobody(void **state)
{
	enum { WRITERS = 4, USERS = 5 };
	pid_t child[WRITERS];

	for (unsigned w = 0; w < WRITERS; w++) {
		child[w] = fork();
		assert_true(child[w] >= 0);
		if (child[w] != 0)
			continue;
		int bad = 0;
		for (unsigned i = 0; i < USERS; i++) {
			char name[32], error[512];
			snprintf(name, sizeof(name), "u%u-%u", w, i);
			bad |= edit(USERS_ADD, name, "x", false, error);
		}
		_exit(bad != 0);
	}
	for (unsigned w = 0; w < WRITERS; w++) {
		int status;
		assert_int_equal(waitpid(child[w], &status, 0), child[w]);
		assert_int_equal(status, 0);
	}
	struct users *u = load();
	assert_int_equal(users_count(u), WRITERS * USERS);
	users_unref(u);
}

static void a_leftover_temporary_file_is_overwritten(void **state)
{
	char path[256], error[512];

	snprintf(path, sizeof(path), "%s.new", file);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs("half a fi", f);
	fclose(f);
	assert_int_equal(edit(USERS_ADD, "alice", "a", false, error), 0);
	struct users *u = load();
	assert_int_equal(users_count(u), 1);
	users_unref(u);
	assert_int_not_equal(access(path, F_OK), 0);
}

static void the_scram_server_signature_matches_the_example_of_rfc_7677(void **state)
{
	static const char auth_message[] =
		"n=user,r=rOprNGfwEbeRWgbNEkqO,"
		"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
		"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,"
		"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
	struct scram_verifier v = {.iterations = 4096};
	uint8_t signature[32];
	char text[45];
	unsigned n = 0;

	v.salt_bytes = (uint8_t)base64_decode("W22ZaJ0SNY7soEsUEjb6gQ==", 24, v.salt, 64);
	assert_int_equal(v.salt_bytes, 16);
	assert_int_equal(scram_derive("pencil", &v), 0);
	HMAC(EVP_sha256(), v.server_key, 32, (const uint8_t *)auth_message,
	     sizeof(auth_message) - 1, signature, &n);
	base64_encode(signature, n, text);
	assert_string_equal(text, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

static void base64_takes_only_the_one_canonical_form(void **state)
{
	uint8_t out[8];

	assert_int_equal(base64_decode("Zm9v", 4, out, 8), 3);
	assert_int_equal(base64_decode("Zm8=", 4, out, 8), 2);
	assert_int_equal(base64_decode("Zm8", 3, out, 8), 2);
	assert_int_equal(base64_decode("Zg==", 4, out, 8), 1);
	assert_int_equal(base64_decode("", 0, out, 8), 0);
	static const char *const bad[] = {"Zm9", "Zh==", "Z", "Zm9v=", "Zm=v", "Z m9", "===="};
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(base64_decode(bad[i], strlen(bad[i]), out, 8), -1);
	assert_int_equal(base64_decode("Zm9vZm9vZm9v", 12, out, 8), -1); /* 9 octets */
}

#define users_test(f) cmocka_unit_test_setup_teardown(f, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		users_test(an_added_user_is_found_with_his_password),
		users_test(the_file_is_for_its_owner_alone),
		users_test(a_new_password_replaces_the_old_one_and_the_record_id),
		users_test(a_removed_user_is_gone_and_the_others_stay),
		users_test(impossible_changes_are_refused_with_a_text),
		users_test(a_bad_file_is_refused_with_line_and_reason),
		users_test(attributes_are_read_set_and_kept_by_other_changes),
		users_test(hashes_that_would_cost_too_much_are_refused),
		users_test(unknown_names_cost_what_most_users_cost),
		users_test(edits_side_by_side_lose_nobody),
		users_test(a_leftover_temporary_file_is_overwritten),
		cmocka_unit_test(the_scram_server_signature_matches_the_example_of_rfc_7677),
		cmocka_unit_test(base64_takes_only_the_one_canonical_form),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
