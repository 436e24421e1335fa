/* auth_rig.h - a users file of two, its auth threads not yet started, one worker's requests. */
#ifndef TESTS_UNIT_AUTH_RIG_H
#define TESTS_UNIT_AUTH_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/nap.h"
#include "smtp/auth/auth.h"
#include "smtp/auth/cache.h"
#include "smtp/auth/guesses.h"
#include "smtp/auth/users.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REQUESTS = 256 };

struct fixture {
	char directory[64], file[128];
	struct shard shard;
	struct auth_config config;
	struct auth *auth;
	struct auth_client *client;
	struct auth_request r[REQUESTS];
	unsigned done;
	const struct auth_request *order[REQUESTS]; /* as done() was called */
};

static inline void on_done(struct auth_request *r)
{
	struct fixture *f = r->user_data;

	f->order[f->done++] = r;
}

static inline void change_user(struct fixture *f, enum users_change what, const char *name,
			       const char *password)
{
	char error[512];
	struct users_edit e = {.file = f->file,
			       .change = what,
			       .name = name,
			       .password = password,
			       .cost = {.memory_kib = 8, .passes = 1, .lanes = 1}};

	if (users_edit(&e, error, sizeof(error)) != 0)
		fail_msg("%s", error);
}

static inline int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->directory, sizeof(f->directory), "/tmp/test_auth.XXXXXX");
	if (mkdtemp(f->directory) == NULL)
		return -1;
	snprintf(f->file, sizeof(f->file), "%s/users", f->directory);
	f->shard.now_us = 1000000;
	f->config = (struct auth_config){.users_file = f->file, .queue = 16, .cache_entries = 4};
	change_user(f, USERS_ADD, "alice", "secret");
	change_user(f, USERS_ADD, "bob", "hunter2");
	*state = f;
	return 0;
}

static inline int teardown(void **state)
{
	struct fixture *f = *state;
	char lock[256];

	if (f->client != NULL)
		auth_client_destroy(f->client);
	if (f->auth != NULL)
		auth_close(f->auth);
	snprintf(lock, sizeof(lock), "%s.lock", f->file);
	unlink(lock);
	unlink(f->file);
	rmdir(f->directory);
	free(f);
	return 0;
}

/* Opens without threads, so that what waits stays waiting until auth_start(). */
static inline void open_auth(struct fixture *f)
{
	char error[512];

	if (auth_open(&f->auth, &f->config, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	f->client = auth_client_create(f->auth, &f->shard);
	assert_non_null(f->client);
}

/* Not inline: gcc 12 takes the copies for writes out of bounds under -fsanitize. */
__attribute__((noinline, unused)) static enum auth_verdict
ask(struct fixture *f, unsigned i, const char *user, const char *password, const char *source)
{
	struct auth_request *r = &f->r[i];

	memset(r, 0, sizeof(*r));
	snprintf(r->user, sizeof(r->user), "%s", user);
	snprintf(r->password, sizeof(r->password), "%s", password);
	assert_true(addr_parse(source, &r->source));
	r->user_data = f;
	r->done = on_done;
	return auth_check(f->client, r);
}

/* Waits for the threads: a minute of real time at most, and never decides by time. */
static inline void wait_done(struct fixture *f, unsigned done)
{
	struct timespec begin, now;
	struct nap nap = {.max_us = 1000};

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (f->done < done) {
		auth_poll(f->client);
		nap_idle(&nap);
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec - begin.tv_sec > 60)
			fail_msg("%u of %u checks done after a minute", f->done, done);
	}
}

static inline enum auth_verdict judge(struct fixture *f, const char *user, const char *password)
{
	enum auth_verdict v = ask(f, 0, user, password, "192.0.2.1");

	if (v != AUTH_PENDING)
		return v;
	wait_done(f, f->done + 1);
	f->done = 0;
	return f->r[0].verdict;
}

static inline uint64_t worker_count(struct fixture *f, enum auth_counter c)
{
	return counter_read(&auth_client_counters(f->client)[c]);
}

static inline uint64_t thread_count(struct fixture *f, enum auth_counter c)
{
	return counter_read(&auth_counters(f->auth)[c]);
}

static inline bool wiped(const struct auth_request *r)
{
	for (size_t i = 0; i < sizeof(r->password); i++)
		if (r->password[i] != 0)
			return false;
	return true;
}

#define auth_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

#endif
