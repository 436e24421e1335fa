/*
 * cli.h - the parts of posternctl: the command table, user commands, the control socket, tables.
 *
 * Runs on: the operator's terminal; one command a process.
 * Errors: functions of commands return the exit status (0 done, 1 failed, 2 wrong usage) and
 *         have written the reason to stderr.
 */
#ifndef CONTROL_CLI_CLI_H
#define CONTROL_CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CLI_DONE, CLI_FAILED, CLI_USAGE };

/* Options that say which messages, and in what words the daemon is told. */
struct cli_about {
	const char *option, *key; /* --option; of the request */
	const char *value, *help;
};
extern const struct cli_about cli_abouts[]; /* queue.c; ends with option NULL */
enum { CLI_ABOUTS = 16 };

struct cli {
	const char *config;             /* NULL: the default file, if it is needed */
	const char *socket;             /* NULL: from the configuration */
	const char *users;              /* NULL: from the configuration */
	const char *cost;               /* NULL: the default */
	const char *tenant, *addresses; /* NULL: not given */
	unsigned seconds;               /* 0: until interrupted */
	const char *about[CLI_ABOUTS];  /* values of cli_abouts[]; NULL: not given */
	bool json, all, no_scram, password_stdin, dry, detail, header;
	int arguments;
	char **argument;
};

/* The configuration's users file and socket; false with the reason on stderr. */
bool cli_users_file(const struct cli *c, char *path, size_t bytes);
/* All of the named or the default configuration. */
struct config;
bool cli_config(const struct cli *c, struct config *config);
bool cli_socket(const struct cli *c, char *path, size_t bytes);

int cli_user_add(const struct cli *c);
int cli_user_password(const struct cli *c);
int cli_user_set(const struct cli *c);
int cli_user_remove(const struct cli *c);
int cli_user_list(const struct cli *c);

int cli_tickets_create(const struct cli *c);
int cli_tickets_advance(const struct cli *c);

int cli_reload(const struct cli *c);
/* Sends {"command": name} and prints the result, as a table or as JSON. */
int cli_ask(const struct cli *c, const char *name);
/* The trace of one connection, or of all. */
int cli_trace(const struct cli *c);
int cli_limits(const struct cli *c);
/* Sends {"command": name, key: value}; the result, or NULL with the reason on stderr. */
json_t *cli_question(const struct cli *c, const char *name, const char *key, const char *value);
/* Sends the request; the same. */
json_t *cli_request(const struct cli *c, const json_t *request);

int cli_queue_list(const struct cli *c);
int cli_queue_show(const struct cli *c);
int cli_queue_hold(const struct cli *c);
int cli_queue_release(const struct cli *c);
int cli_queue_retry(const struct cli *c);
int cli_queue_bounce(const struct cli *c);
int cli_queue_delete(const struct cli *c);
int cli_queue_route(const struct cli *c);

/* spool.c: a spool directory itself, argument or configuration */
int cli_spool_check(const struct cli *c);
int cli_spool_dump(const struct cli *c);
int cli_spool_repair(const struct cli *c);

int cli_follow_session(const struct cli *c);
int cli_follow_user(const struct cli *c);
int cli_follow_address(const struct cli *c);
int cli_stats(const struct cli *c);

/* An array of objects as columns, an object as rows of key and value (nested keys by dots). */
void cli_print_table(const json_t *j);
/* What a peer sent may lie in a text: nothing of it reaches the terminal as a control. */
void cli_clean(char *text);

#endif
