/* user.c - posternctl user: the users file, edited in place; the daemon notices within a second */
#include "control/cli/cli.h"
#include "smtp/auth/users.h"

#include <errno.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

enum { PASSWORD_ROOM = 1024 };

/* A line without its end; false at end of file or when it does not fit. */
static bool read_line(FILE *f, char *line)
{
	if (fgets(line, PASSWORD_ROOM, f) == NULL)
		return false;
	size_t n = strcspn(line, "\n");
	bool whole = line[n] == '\n' || feof(f);
	line[n] = '\0';
	if (n > 0 && line[n - 1] == '\r')
		line[n - 1] = '\0';
	return whole;
}

/* Signals wait until the terminal shows what is typed again. */
static bool ask_hidden(FILE *tty, const char *prompt, char *line)
{
	struct termios before, hidden;
	sigset_t all, mask;

	if (tcgetattr(fileno(tty), &before) != 0)
		return false;
	hidden = before;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	fprintf(stderr, "%s: ", prompt);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &mask);
	bool good = tcsetattr(fileno(tty), TCSAFLUSH, &hidden) == 0 && read_line(tty, line);
	tcsetattr(fileno(tty), TCSAFLUSH, &before);
	sigprocmask(SIG_SETMASK, &mask, NULL);
	fprintf(stderr, "\n");
	return good;
}

static bool ask_twice(char *password)
{
	char again[PASSWORD_ROOM] = "";
	FILE *tty = fopen("/dev/tty", "r+e");

	if (tty == NULL) {
		fprintf(stderr, "posternctl: no terminal to ask for the password; "
				"use --password-stdin\n");
		return false;
	}
	bool good = ask_hidden(tty, "Password", password) && ask_hidden(tty, "Again", again);
	fclose(tty);
	if (good && strcmp(password, again) != 0) {
		fprintf(stderr, "posternctl: the two passwords differ\n");
		good = false;
	}
	explicit_bzero(again, sizeof(again));
	return good;
}

static bool get_password(const struct cli *c, char *password)
{
	if (!c->password_stdin)
		return ask_twice(password);
	if (read_line(stdin, password))
		return true;
	fprintf(stderr, "posternctl: no password line on standard input\n");
	return false;
}

/* --cost MEMORY_KIB,PASSES,LANES */
static bool get_cost(const struct cli *c, struct password_cost *cost)
{
	int end = 0;

	*cost = password_cost_default();
	if (c->cost == NULL)
		return true;
	if (sscanf(c->cost, "%7u,%2u,%2u%n", &cost->memory_kib, &cost->passes, &cost->lanes,
		   &end) == 3 &&
	    c->cost[end] == '\0' && cost->lanes >= 1 && cost->lanes <= PASSWORD_LANES_MAX &&
	    cost->memory_kib >= 8 * cost->lanes && cost->memory_kib <= PASSWORD_MEMORY_MAX_KIB &&
	    cost->passes >= 1 && cost->passes <= PASSWORD_PASSES_MAX)
		return true;
	fprintf(stderr,
		"posternctl: --cost takes KIB,PASSES,LANES: memory of 8 KiB a lane to %d KiB, "
		"1 to %d passes, 1 to %d lanes\n",
		PASSWORD_MEMORY_MAX_KIB, PASSWORD_PASSES_MAX, PASSWORD_LANES_MAX);
	return false;
}

static int change(const struct cli *c, enum users_change what)
{
	char file[512], password[PASSWORD_ROOM] = "", error[512];
	struct users_edit e = {.file = file,
			       .change = what,
			       .name = c->argument[0],
			       .password = password,
			       .tenant = c->tenant,
			       .addresses = c->addresses,
			       .scram = !c->no_scram};
	const char *fault = user_name_fault(e.name);

	if (fault != NULL) {
		fprintf(stderr, "posternctl: %s\n", fault);
		return CLI_FAILED;
	}
	if (!cli_users_file(c, file, sizeof(file)) || !get_cost(c, &e.cost) ||
	    ((what == USERS_ADD || what == USERS_PASSWORD) && !get_password(c, password)))
		return CLI_FAILED;
	int code = users_edit(&e, error, sizeof(error));
	explicit_bzero(password, sizeof(password));
	if (code != 0)
		fprintf(stderr, "posternctl: %s\n", error);
	return code == 0 ? CLI_DONE : CLI_FAILED;
}

int cli_user_add(const struct cli *c)
{
	return change(c, USERS_ADD);
}

int cli_user_password(const struct cli *c)
{
	return change(c, USERS_PASSWORD);
}

int cli_user_set(const struct cli *c)
{
	if (c->tenant != NULL || c->addresses != NULL)
		return change(c, USERS_SET);
	fprintf(stderr, "posternctl: nothing to set: give --tenant or --addresses\n");
	return CLI_FAILED;
}

int cli_user_remove(const struct cli *c)
{
	return change(c, USERS_REMOVE);
}

int cli_user_list(const struct cli *c)
{
	char file[512], error[512];
	struct users *u;

	if (!cli_users_file(c, file, sizeof(file)))
		return CLI_FAILED;
	if (users_load(&u, file, NULL, error, sizeof(error)) != 0) {
		fprintf(stderr, "posternctl: %s\n", error);
		return CLI_FAILED;
	}
	json_t *rows = json_array();
	for (unsigned i = 0; i < users_count(u); i++) {
		const struct user *user = users_at(u, i);
		char cost[64];
		snprintf(cost, sizeof(cost), "argon2id m=%u KiB t=%u p=%u", user->hash.memory_kib,
			 user->hash.passes, user->hash.lanes);
		json_array_append_new(
			rows, json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", user->name, "tenant",
					user->tenant != NULL ? user->tenant : "-", "hash", cost,
					"scram", user->scram != NULL ? "SHA-256" : "-", "addresses",
					user->addresses != NULL ? user->addresses : "-"));
	}
	users_unref(u);
	if (c->json) {
		json_dumpf(rows, stdout, JSON_INDENT(1));
		printf("\n");
	} else {
		cli_print_table(rows);
	}
	json_decref(rows);
	return CLI_DONE;
}
