/* follow.c - posternctl trace session|user|address: asks for lines until told to stop */
#include "control/cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { PERIOD_MS = 250 };

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	stopped = 1;
}

static void print_lines(const struct cli *c, const json_t *lines)
{
	const json_t *l;
	size_t i;

	json_array_foreach(lines, i, l)
	{
		if (c->json) {
			json_dumpf(l, stdout, JSON_COMPACT);
			putchar('\n');
			continue;
		}
		printf("%s %s %-6s %s\n", json_string_value(json_object_get(l, "time")),
		       json_string_value(json_object_get(l, "session")),
		       json_string_value(json_object_get(l, "who")),
		       json_string_value(json_object_get(l, "text")));
	}
	fflush(stdout);
}

/* false: the daemon does not answer any more. */
static bool one_round(const struct cli *c, const char *id, json_int_t *lost)
{
	json_t *r = cli_question(c, "follow-more", "id", id);

	if (r == NULL)
		return false;
	print_lines(c, json_object_get(r, "lines"));
	json_int_t now_lost = json_integer_value(json_object_get(r, "lost"));
	if (now_lost > *lost)
		fprintf(stderr, "posternctl: %lld lines came too fast and are lost\n",
			(long long)(now_lost - *lost));
	*lost = now_lost;
	json_decref(r);
	return true;
}

static int follow(const struct cli *c, const char *by)
{
	struct sigaction act = {.sa_handler = stop};
	struct timespec nap = {.tv_nsec = PERIOD_MS * 1000000};
	time_t until = c->seconds > 0 ? time(NULL) + c->seconds : 0;
	json_t *begun = cli_question(c, "follow", by, c->argument[0]);
	json_int_t lost = 0;
	char id[32] = "";
	bool good = true;

	if (begun == NULL)
		return CLI_FAILED;
	snprintf(id, sizeof(id), "%s", json_string_value(json_object_get(begun, "id")));
	json_decref(begun);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	while (good && !stopped && (until == 0 || time(NULL) < until)) {
		good = one_round(c, id, &lost);
		nanosleep(&nap, NULL);
	}
	good = good && one_round(c, id, &lost);
	json_decref(good ? cli_question(c, "follow-end", "id", id) : NULL);
	return good ? CLI_DONE : CLI_FAILED;
}

int cli_follow_session(const struct cli *c)
{
	return follow(c, "session");
}

int cli_follow_user(const struct cli *c)
{
	return follow(c, "user");
}

int cli_follow_address(const struct cli *c)
{
	return follow(c, "address");
}
