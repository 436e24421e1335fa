/* remote.c - asking the daemon over its control socket */
#include "control/cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_SECONDS = 30 };

static int fail(const char *path, const char *what)
{
	fprintf(stderr, "posternctl: %s: %s\n", path, what);
	return -1;
}

static const char *explain(int code)
{
	switch (code) {
	case ENOENT:
	case ECONNREFUSED:
		return "no daemon answers there; is postern running, and is this its socket?";
	case EACCES:
		return "permission denied; only the owner of the socket may ask";
	default:
		return strerror(code);
	}
}

static int dial(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = ANSWER_SECONDS};
	int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);

	if (n >= (int)sizeof(address.sun_path))
		return fail(path, "the path is too long for a socket");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0 ||
	    connect(fd, (const struct sockaddr *)&address, sizeof(address)) != 0) {
		int code = errno;
		if (fd >= 0)
			close(fd);
		return fail(path, explain(code));
	}
	return fd;
}

static json_t *exchange(int fd, const json_t *request, const char *path)
{
	json_t *reply = NULL;
	char *line = NULL;
	size_t room = 0;
	FILE *f = fdopen(fd, "r+");

	if (f == NULL || request == NULL) {
		close(fd);
		fail(path, "out of memory");
		return NULL;
	}
	json_dumpf(request, f, JSON_COMPACT);
	fputc('\n', f);
	if (fflush(f) != 0 || getline(&line, &room, f) <= 0)
		fail(path, "the daemon did not answer");
	else if ((reply = json_loads(line, 0, NULL)) == NULL)
		fail(path, "the answer is not JSON");
	free(line);
	fclose(f);
	return reply;
}

json_t *cli_request(const struct cli *c, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "command"));
	char path[512];

	if (!cli_socket(c, path, sizeof(path)))
		return NULL;
	int fd = dial(path);
	json_t *reply = fd >= 0 ? exchange(fd, request, path) : NULL;
	if (reply == NULL)
		return NULL;
	json_t *result = NULL;
	if (json_is_true(json_object_get(reply, "ok"))) {
		result = json_incref(json_object_get(reply, "result"));
	} else {
		const char *error = json_string_value(json_object_get(reply, "error"));
		fail(name, error != NULL ? error : "refused");
	}
	json_decref(reply);
	return result;
}

json_t *cli_question(const struct cli *c, const char *name, const char *key, const char *value)
{
	json_t *request = json_pack("{s:s, s:s*}", "command", name, key, value);
	json_t *result = cli_request(c, request);

	json_decref(request);
	return result;
}

static json_t *ask(const struct cli *c, const char *name)
{
	return cli_question(c, name, "about", NULL);
}

static int print(const struct cli *c, json_t *result)
{
	if (result == NULL)
		return CLI_FAILED;
	if (c->json) {
		json_dumpf(result, stdout, JSON_INDENT(1) | JSON_ENCODE_ANY);
		printf("\n");
	} else {
		cli_print_table(result);
	}
	json_decref(result);
	return CLI_DONE;
}

int cli_ask(const struct cli *c, const char *name)
{
	return print(c, ask(c, name));
}

int cli_limits(const struct cli *c)
{
	return print(c, cli_question(c, "limits", "user", c->argument[0]));
}

int cli_trace(const struct cli *c)
{
	const char *which = c->arguments > 0 ? c->argument[0] : NULL;

	return print(c, cli_question(c, "trace", "connection", which));
}

/* Faults go to stderr, one a line, and make the command fail. */
int cli_reload(const struct cli *c)
{
	json_t *result = ask(c, "reload"), *line;
	json_t *faults = result != NULL ? json_object_get(result, "faults") : NULL;
	size_t i;

	if (faults == NULL)
		return print(c, result);
	json_array_foreach(faults, i, line) fprintf(stderr, "%s\n", json_string_value(line));
	fprintf(stderr, "posternctl: reload refused; the running configuration stays\n");
	json_decref(result);
	return CLI_FAILED;
}

/* For human eyes: name, total, unit; what is zero only with --all. */
static json_t *short_stats(const struct cli *c, const json_t *stats)
{
	json_t *rows = json_array(), *m;
	size_t i;

	json_array_foreach(stats, i, m)
	{
		json_int_t total = json_integer_value(json_object_get(m, "total"));
		if (total == 0 && !c->all)
			continue;
		json_array_append_new(rows, json_pack("{s:O, s:I, s:O, s:O}", "name",
						      json_object_get(m, "name"), "total", total,
						      "unit", json_object_get(m, "unit"), "help",
						      json_object_get(m, "help")));
	}
	return rows;
}

int cli_stats(const struct cli *c)
{
	json_t *stats = ask(c, "stats");

	if (stats == NULL || c->json)
		return print(c, stats);
	json_t *rows = short_stats(c, stats);
	json_decref(stats);
	return print(c, rows);
}
