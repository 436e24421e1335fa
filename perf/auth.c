/*
 * auth.c - how many logins a second the password checks take, cold and from the cache.
 *
 *	build/perf/auth [SECONDS [THREADS]]
 *
 * Cold: every check reaches an auth thread (each wrong password is another one, so the cache
 * cannot help).  Cached: the worker alone answers the same right password.  Parameters of the
 * hash are those of posternctl.  The numbers are CPU-bound: say which machine gave them.
 */
#include "smtp/auth/auth.h"
#include "base/nap.h"
#include "smtp/auth/users.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { IN_FLIGHT = 8, SECONDS_MAX = 60 };

struct run {
	struct shard shard;
	struct auth *auth;
	struct auth_client *client;
	struct auth_request r[IN_FLIGHT];
	uint64_t asked, answered;
	double cpu_s; /* of the process while cold() measured */
};

static double clock_s(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double now_s(void)
{
	return clock_s(CLOCK_MONOTONIC);
}

static void prepare(struct run *run, struct auth_request *r, const char *password)
{
	snprintf(r->user, sizeof(r->user), "alice");
	snprintf(r->password, sizeof(r->password), "%s", password);
	addr_parse("192.0.2.1", &r->source);
	r->user_data = run;
	run->asked++;
}

static void on_done(struct auth_request *r)
{
	struct run *run = r->user_data;
	char password[32];

	run->answered++;
	if (run->shard.now_us == 0)
		return; /* the end: no further question */
	snprintf(password, sizeof(password), "wrong %lu", run->asked);
	prepare(run, r, password);
	auth_check(run->client, r);
}

static double cold(struct run *run, double seconds)
{
	struct nap nap = {.max_us = 1000};
	double begin = now_s();

	run->shard.now_us = 1;
	run->answered = 0;
	for (unsigned i = 0; i < IN_FLIGHT; i++) {
		run->r[i].done = on_done;
		run->r[i].user_data = run;
		on_done(&run->r[i]);
	}
	run->answered = 0;
	run->cpu_s = -clock_s(CLOCK_PROCESS_CPUTIME_ID);
	while (now_s() - begin < seconds) {
		if (auth_poll(run->client) > 0)
			nap_worked(&nap);
		else
			nap_idle(&nap);
	}
	double rate = (double)run->answered / (now_s() - begin);
	run->cpu_s += clock_s(CLOCK_PROCESS_CPUTIME_ID);
	run->cpu_s /= (double)run->answered;
	run->shard.now_us = 0;
	uint64_t wanted = run->answered + IN_FLIGHT;
	while (run->answered < wanted && now_s() - begin < seconds + 60) {
		auth_poll(run->client);
		nap_idle(&nap);
	}
	return rate;
}

static void only_count(struct auth_request *r)
{
	struct run *run = r->user_data;

	run->answered++;
}

static double cached(struct run *run, double seconds)
{
	struct nap nap = {.max_us = 1000};
	uint64_t hits = 0;

	run->shard.now_us = 1;
	run->answered = 0;
	run->r[0].done = only_count;
	prepare(run, &run->r[0], "secret");
	if (auth_check(run->client, &run->r[0]) != AUTH_PENDING)
		return 0;
	while (run->answered == 0) {
		auth_poll(run->client);
		nap_idle(&nap);
	}
	double begin = now_s();
	while (now_s() - begin < seconds) {
		for (unsigned i = 0; i < 1000; i++) {
			prepare(run, &run->r[0], "secret");
			hits += auth_check(run->client, &run->r[0]) == AUTH_OK;
		}
	}
	return (double)hits / (now_s() - begin);
}

static int measure(const char *file, double seconds, unsigned threads)
{
	char error[512];
	struct auth_config config = {.users_file = file, .threads = threads};
	struct run *run = calloc(1, sizeof(*run));

	if (run == NULL || auth_open(&run->auth, &config, error, sizeof(error)) != 0 ||
	    auth_start(run->auth) != 0) {
		fprintf(stderr, "%s\n", run != NULL ? error : "out of memory");
		free(run);
		return 1;
	}
	run->client = auth_client_create(run->auth, &run->shard);
	double slow = cold(run, seconds), fast = cached(run, seconds);
	printf("threads %u  cold %.1f/s (CPU %.1f ms)  cached %.0f/s (%.2f us)  ratio %.0f\n",
	       threads, slow, 1000 * run->cpu_s, fast, 1e6 / fast, fast / slow);
	auth_client_destroy(run->client);
	auth_close(run->auth);
	free(run);
	return 0;
}

int main(int argc, char **argv)
{
	char directory[] = "/tmp/postern-perf.XXXXXX", file[64], lock[80], error[512];
	double seconds = argc > 1 ? atof(argv[1]) : 5;
	int threads = argc > 2 ? atoi(argv[2]) : 1;

	if (seconds <= 0 || seconds > SECONDS_MAX || threads < 1 || threads > 64 ||
	    mkdtemp(directory) == NULL) {
		fprintf(stderr, "usage: auth [SECONDS up to %d [THREADS up to 64]]\n", SECONDS_MAX);
		return 2;
	}
	snprintf(file, sizeof(file), "%s/users", directory);
	snprintf(lock, sizeof(lock), "%s.lock", file);
	struct users_edit e = {.file = file,
			       .change = USERS_ADD,
			       .name = "alice",
			       .password = "secret",
			       .cost = password_cost_default()};
	int code = users_edit(&e, error, sizeof(error)) == 0
			   ? measure(file, seconds, (unsigned)threads)
			   : 1;
	unlink(file);
	unlink(lock);
	rmdir(directory);
	return code;
}
