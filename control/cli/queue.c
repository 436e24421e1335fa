/*
 * queue.c - posternctl queue: asks page by page until the daemon says that nothing is behind it, so
 * the length of the queue costs neither side memory.
 */
#include "control/cli/cli.h"
#include "control/schema.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_AGE_DAYS = 36500 };

/* What a walk has come to. */
struct walk {
	const struct cli *cli;
	json_t *request;
	json_int_t left; /* of --limit; -1: none was given */
	json_int_t matched;
	json_t *results; /* counts by name */
};

const struct cli_about cli_abouts[] = {
	{"id", "id", "ID", "the message with this id"},
	{"sender", "sender", "ADDRESS", "its sender; @DOMAIN: of this domain; <>: a report"},
	{"user", "user", "NAME", "who submitted it"},
	{"domain", "domain", "DOMAIN", "of a recipient that is still to be served"},
	{"older", "older_s", "AGE", "accepted so long ago, or longer: 90s, 15m, 12h, 3d"},
	{"younger", "younger_s", "AGE", "accepted since"},
	{"hop", "hop", "HOP", "name or address of the next hop tried last, since the start"},
	{"pool", "pool", "POOL", "pool that it waits for"},
	{"status", "status", "STATUS", "ready, deferred, held, delivering; several by comma"},
	{"limit", "limit", "NUMBER", "that many at most"},
	{"reason", "reason", "TEXT", "for the record, and for the sender of what is bounced"},
	{},
};

static bool age(const char *text, json_t *request, const char *key)
{
	const struct schema_row row = {.type = SCHEMA_TIME,
				       .max = MOST_AGE_DAYS * UINT64_C(86400000000)};
	uint64_t us;
	char why[200];

	if (!schema_scalar(SCHEMA_TIME)->parse(&row, text, &us, why, sizeof(why))) {
		fprintf(stderr, "posternctl: %s\n", why);
		return false;
	}
	json_object_set_new(request, key, json_integer((json_int_t)(us / 1000000)));
	return true;
}

static bool limit(struct walk *w, const char *text)
{
	char *end = NULL;

	w->left = strtoll(text, &end, 10);
	if (end != text && *end == '\0' && w->left > 0)
		return true;
	fprintf(stderr, "posternctl: --limit: \"%s\" is no number above 0\n", text);
	return false;
}

static bool begin(struct walk *w, const struct cli *c, const char *command)
{
	bool good = true;

	*w = (struct walk){.cli = c, .left = -1, .results = json_object()};
	w->request = json_pack("{s:s}", "command", command);
	for (unsigned i = 0; good && cli_abouts[i].option != NULL; i++) {
		const char *key = cli_abouts[i].key, *text = c->about[i];
		if (text == NULL)
			continue;
		if (strcmp(key, "limit") == 0)
			good = limit(w, text);
		else if (strcmp(key, "older_s") == 0 || strcmp(key, "younger_s") == 0)
			good = age(text, w->request, key);
		else if (json_object_set_new(w->request, key, json_string(text)) != 0) {
			fprintf(stderr, "posternctl: --%s: not UTF-8\n", cli_abouts[i].option);
			good = false;
		}
	}
	if (c->all)
		json_object_set_new(w->request, "all", json_true());
	return good;
}

static void end(struct walk *w)
{
	json_decref(w->request);
	json_decref(w->results);
}

/* The next page, or NULL with the reason on stderr. */
static json_t *next(struct walk *w)
{
	if (w->left >= 0)
		json_object_set_new(w->request, "most", json_integer(w->left));
	return cli_request(w->cli, w->request);
}

/* false: that was the last one. */
static bool go_on(struct walk *w, const json_t *answer, json_int_t found)
{
	json_t *cursor = json_object_get(answer, "cursor");

	w->matched += found;
	w->left -= w->left >= 0 ? found : 0;
	json_object_set(w->request, "cursor", cursor);
	return cursor != NULL && w->left != 0;
}

static const char *text_of(const json_t *row, const char *key)
{
	const char *text = json_string_value(json_object_get(row, key));

	return text != NULL && text[0] != '\0' ? text : "-";
}

static const char *span(json_int_t s, char out[24])
{
	if (s < 600)
		snprintf(out, 24, "%llds", (long long)s);
	else if (s < 36000)
		snprintf(out, 24, "%lldm", (long long)s / 60);
	else if (s < 864000)
		snprintf(out, 24, "%lldh", (long long)s / 3600);
	else
		snprintf(out, 24, "%lldd", (long long)s / 86400);
	return out;
}

static json_int_t number_of(const json_t *row, const char *key)
{
	return json_integer_value(json_object_get(row, key));
}

static void print_row(const json_t *row)
{
	char a[24], b[24], line[1200];

	snprintf(line, sizeof(line), "%-16s  %-10s %6s %6s %5lld %5lld %10lld  %-12s %-28s %s",
		 text_of(row, "id"), text_of(row, "status"), span(number_of(row, "age_s"), a),
		 span(number_of(row, "next_in_s"), b), (long long)number_of(row, "attempts"),
		 (long long)number_of(row, "recipients"), (long long)number_of(row, "bytes"),
		 text_of(row, "pool"), text_of(row, "sender"), text_of(row, "last_error"));
	cli_clean(line);
	puts(line);
}

static void print_rows(const struct walk *w, const json_t *rows)
{
	const json_t *row;
	size_t i;

	if (!w->cli->json && w->matched == 0 && json_array_size(rows) > 0)
		printf("%-16s  %-10s %6s %6s %5s %5s %10s  %-12s %-28s %s\n", "id", "status", "age",
		       "next", "tries", "rcpts", "bytes", "pool", "sender", "last error");
	json_array_foreach(rows, i, row)
	{
		if (w->cli->json) {
			json_dumpf(row, stdout, JSON_COMPACT);
			putchar('\n');
		} else {
			print_row(row);
		}
	}
}

int cli_queue_list(const struct cli *c)
{
	struct walk w;
	json_t *answer = NULL;
	bool good = begin(&w, c, "queue"), more = good;

	if (c->detail)
		json_object_set_new(w.request, "detail", json_true());
	while (more && (answer = next(&w)) != NULL) {
		const json_t *rows = json_object_get(answer, "messages");
		print_rows(&w, rows);
		more = go_on(&w, answer, (json_int_t)json_array_size(rows));
		json_decref(answer);
	}
	if (good && answer != NULL && !c->json)
		printf("%lld shown\n", (long long)w.matched);
	end(&w);
	return !good ? CLI_USAGE : answer != NULL ? CLI_DONE : CLI_FAILED;
}

static void print_message(const struct cli *c, json_t *row)
{
	json_t *header = json_incref(json_object_get(row, "header")), *line;
	size_t i;

	if (c->json) {
		json_dumpf(row, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(header);
		return;
	}
	json_object_del(row, "header");
	cli_print_table(row);
	printf("\n");
	json_array_foreach(header, i, line)
	{
		char text[1200];
		snprintf(text, sizeof(text), "    %s", json_string_value(line));
		cli_clean(text);
		puts(text);
	}
	json_decref(header);
}

int cli_queue_show(const struct cli *c)
{
	struct walk w;
	json_t *answer = NULL, *row;
	bool good = begin(&w, c, "queue"), more = good;
	size_t i;

	json_object_set_new(w.request, "id", json_string(c->argument[0]));
	json_object_set_new(w.request, "detail", json_true());
	if (c->header)
		json_object_set_new(w.request, "header", json_true());
	while (more && (answer = next(&w)) != NULL) {
		const json_t *rows = json_object_get(answer, "messages");
		json_array_foreach(rows, i, row) print_message(c, row);
		more = go_on(&w, answer, (json_int_t)json_array_size(rows));
		json_decref(answer);
	}
	if (answer != NULL && w.matched == 0)
		fprintf(stderr, "posternctl: no message %s is in the queue\n", c->argument[0]);
	end(&w);
	return !good ? CLI_USAGE : answer != NULL && w.matched > 0 ? CLI_DONE : CLI_FAILED;
}

static void add_results(struct walk *w, const json_t *results)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)results, key, v) json_object_set_new(
		w->results, key, json_integer(number_of(w->results, key) + json_integer_value(v)));
}

/* Until the daemon has carried it out; what is wrong with a disk may take its time. */
static json_t *settled(const struct cli *c, json_t *answer)
{
	while (answer != NULL && number_of(answer, "pending") > 0) {
		json_t *ask = json_pack("{s:s, s:O}", "command", "queue-wait", "order",
					json_object_get(answer, "order"));
		json_t *later = cli_request(c, ask);
		json_decref(ask);
		if (later != NULL) {
			json_object_del(answer, "order");
			json_object_update(answer, later);
			json_decref(later);
			continue;
		}
		json_decref(answer);
		answer = NULL;
	}
	return answer;
}

static int print_results(const struct walk *w, const char *verb)
{
	static const struct {
		const char *key, *text;
		bool fault;
	} rows[] = {
		{"unchanged", "so already", false},
		{"gone", "ended meanwhile", false},
		{"delivering", "under way and left alone: once more when their attempts have ended",
		 true},
		{"held", "held and left alone: release them first", true},
		{"no_pool", "left alone: the worker knows no such pool", true},
		{"failed", "failed: memory is short, or the spool cannot read them", true},
	};
	int status = CLI_DONE;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (rows[i].fault && number_of(w->results, rows[i].key) > 0)
			status = CLI_FAILED;
	}
	if (w->cli->json) {
		json_t *all =
			json_pack("{s:s, s:b, s:I, s:O}", "verb", verb, "dry_run", (int)w->cli->dry,
				  "matched", w->matched, "results", w->results);
		json_dumpf(all, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(all);
		return status;
	}
	printf("%s: %lld matched", verb, (long long)w->matched);
	if (w->cli->dry) {
		printf("; nothing is changed\n");
		return status;
	}
	printf(", %lld changed\n", (long long)number_of(w->results, "done"));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_int_t n = number_of(w->results, rows[i].key);
		if (n > 0)
			printf("%lld %s\n", (long long)n, rows[i].text);
	}
	return status;
}

static int change(const struct cli *c, const char *verb, const char *to_pool)
{
	struct walk w;
	json_t *answer = NULL;
	bool good = begin(&w, c, "queue-change"), more = good;
	int status = good ? CLI_FAILED : CLI_USAGE;

	json_object_set_new(w.request, "verb", json_string(verb));
	if (to_pool != NULL)
		json_object_set_new(w.request, "to_pool", json_string(to_pool));
	if (c->dry)
		json_object_set_new(w.request, "dry_run", json_true());
	while (more && (answer = settled(c, next(&w))) != NULL) {
		add_results(&w, json_object_get(answer, "results"));
		more = go_on(&w, answer, number_of(answer, "matched"));
		json_decref(answer);
	}
	/* what was done before the daemon failed is done */
	if (good && (answer != NULL || w.matched > 0)) {
		int counted = print_results(&w, verb);
		status = answer != NULL ? counted : CLI_FAILED;
	}
	if (status == CLI_DONE && w.matched == 0 && json_object_get(w.request, "id") != NULL) {
		fprintf(stderr, "posternctl: no message in the queue is meant\n");
		status = CLI_FAILED;
	}
	end(&w);
	return status;
}

int cli_queue_hold(const struct cli *c)
{
	return change(c, "hold", NULL);
}

int cli_queue_release(const struct cli *c)
{
	return change(c, "release", NULL);
}

int cli_queue_retry(const struct cli *c)
{
	return change(c, "retry", NULL);
}

int cli_queue_bounce(const struct cli *c)
{
	return change(c, "bounce", NULL);
}

int cli_queue_delete(const struct cli *c)
{
	return change(c, "delete", NULL);
}

int cli_queue_route(const struct cli *c)
{
	return change(c, "route", c->argument[0]);
}
