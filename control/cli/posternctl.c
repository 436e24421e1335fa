/* posternctl.c - the operator's tool: one table of commands, one of options */
#include "control/cli/cli.h"
#include "control/config.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_CONFIG "/etc/postern/postern.yaml"
#define DEFAULT_SOCKET "/run/postern/control.sock"

static int ask_status(const struct cli *c)
{
	return cli_ask(c, "status");
}

static int ask_sessions(const struct cli *c)
{
	return cli_ask(c, "sessions");
}

static const struct command {
	const char *word, *sub;  /* "user" "add"; sub NULL: one word */
	int arguments, optional; /* at least; more */
	const char *usage, *help;
	int (*run)(const struct cli *c);
} commands[] = {
	{"user", "add", 1, 0, "NAME", "add a user; asks for the password", cli_user_add},
	{"user", "password", 1, 0, "NAME", "set a user's password", cli_user_password},
	{"user", "set", 1, 0, "NAME", "set a user's --tenant or --addresses", cli_user_set},
	{"user", "remove", 1, 0, "NAME", "remove a user", cli_user_remove},
	{"user", "list", 0, 0, "", "list the users", cli_user_list},
	{"tickets", "create", 0, 0, "", "make the secret of the configuration's tls.tickets",
	 cli_tickets_create},
	{"tickets", "advance", 0, 0, "", "forget keys that no ticket needs; about once a lifetime",
	 cli_tickets_advance},
	{"reload", NULL, 0, 0, "", "read the configuration and its files again", cli_reload},
	{"status", NULL, 0, 0, "", "what the daemon is and does", ask_status},
	{"sessions", NULL, 0, 0, "", "sessions at this moment", ask_sessions},
	{"stats", NULL, 0, 0, "", "counters and gauges; zeros only with --all", cli_stats},
	{"queue", "list", 0, 0, "", "messages in the queue; --detail: with their envelopes",
	 cli_queue_list},
	{"queue", "show", 1, 0, "ID", "all about one message; --header: with its header",
	 cli_queue_show},
	{"queue", "hold", 0, 0, "", "no attempts and no expiry until released", cli_queue_hold},
	{"queue", "release", 0, 0, "", "held messages go on, also those held by FUTURERELEASE",
	 cli_queue_release},
	{"queue", "retry", 0, 0, "", "attempt now what waits for its next attempt",
	 cli_queue_retry},
	{"queue", "route", 1, 0, "POOL", "send to this pool from now on", cli_queue_route},
	{"queue", "bounce", 0, 0, "", "end with a report to the sender", cli_queue_bounce},
	{"queue", "delete", 0, 0, "", "end without a word", cli_queue_delete},
	{"queue", NULL, 0, 0, "", "the same as queue list", cli_queue_list},
	{"spool", "check", 0, 1, "[DIR]", "verify a spool, in use or not; changes nothing",
	 cli_spool_check},
	{"spool", "dump", 0, 1, "[DIR]", "its records, one JSON object a line; --id: one message",
	 cli_spool_dump},
	{"spool", "repair", 0, 1, "[DIR]", "cut torn ends, set damage aside, as a start does",
	 cli_spool_repair},
	{"limits", NULL, 1, 0, "USER", "a user's use of the limits", cli_limits},
	{"trace", "session", 1, 0, "ID", "a session live; secrets masked; --for SECONDS",
	 cli_follow_session},
	{"trace", "user", 1, 0, "NAME", "all sessions of a user, from their logins on",
	 cli_follow_user},
	{"trace", "address", 1, 0, "ADDRESS[/BITS]", "all sessions of an address or network",
	 cli_follow_address},
	{"trace", NULL, 0, 1, "[CONNECTION]", "the latest events of TCP connections", cli_trace},
};

enum {
	OPT_JSON = 256,
	OPT_ALL,
	OPT_FILE,
	OPT_NO_SCRAM,
	OPT_PASSWORD_STDIN,
	OPT_COST,
	OPT_TENANT,
	OPT_ADDRESSES,
	OPT_FOR,
	OPT_DRY_RUN,
	OPT_DETAIL,
	OPT_HEADER,
	OPT_ABOUT /* and the place in cli_abouts[] */
};

static const struct option plain_options[] = {
	{"config", required_argument, NULL, 'c'},
	{"socket", required_argument, NULL, 's'},
	{"help", no_argument, NULL, 'h'},
	{"json", no_argument, NULL, OPT_JSON},
	{"all", no_argument, NULL, OPT_ALL},
	{"file", required_argument, NULL, OPT_FILE},
	{"no-scram", no_argument, NULL, OPT_NO_SCRAM},
	{"password-stdin", no_argument, NULL, OPT_PASSWORD_STDIN},
	{"cost", required_argument, NULL, OPT_COST},
	{"tenant", required_argument, NULL, OPT_TENANT},
	{"addresses", required_argument, NULL, OPT_ADDRESSES},
	{"for", required_argument, NULL, OPT_FOR},
	{"dry-run", no_argument, NULL, OPT_DRY_RUN},
	{"detail", no_argument, NULL, OPT_DETAIL},
	{"header", no_argument, NULL, OPT_HEADER},
	{"content", no_argument, NULL, OPT_HEADER},
};

enum { PLAIN_OPTIONS = sizeof(plain_options) / sizeof(plain_options[0]) };

/* Both tables of options as one. */
static const struct option *all_options(void)
{
	static struct option all[PLAIN_OPTIONS + CLI_ABOUTS + 1];

	memcpy(all, plain_options, sizeof(plain_options));
	for (int i = 0; cli_abouts[i].option != NULL; i++)
		all[PLAIN_OPTIONS + i] = (struct option){cli_abouts[i].option, required_argument,
							 NULL, OPT_ABOUT + i};
	return all;
}

static void print_help(FILE *f)
{
	fprintf(f, "posternctl [OPTIONS] COMMAND\n\nCommands:\n");
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *c = &commands[i];
		char words[64];
		snprintf(words, sizeof(words), "%s%s%s %s", c->word, c->sub != NULL ? " " : "",
			 c->sub != NULL ? c->sub : "", c->usage);
		fprintf(f, "  %-22s %s\n", words, c->help);
	}
	fprintf(f, "\nWhich messages of the queue (all of these at once), and how:\n");
	for (size_t i = 0; cli_abouts[i].option != NULL; i++) {
		char words[64];
		snprintf(words, sizeof(words), "%s %s", cli_abouts[i].option, cli_abouts[i].value);
		fprintf(f, "      --%-16s %s\n", words, cli_abouts[i].help);
	}
	fprintf(f, "\nOptions:\n"
		   "  -c, --config FILE      the daemon's configuration (" DEFAULT_CONFIG ")\n"
		   "  -s, --socket SOCKET    control socket; default: the configuration's\n"
		   "      --file FILE        users file; default: the configuration's\n"
		   "      --json             JSON in place of tables; queue: one object a line\n"
		   "      --all              zero counters too; queue: every message\n"
		   "      --dry-run          queue: only count what would be changed\n"
		   "      --detail, --header queue: with the envelope; with the message's header\n"
		   "      --password-stdin   the password is a line on standard input\n"
		   "      --no-scram         store no SCRAM-SHA-256 verifier\n"
		   "      --cost KIB,PASSES,LANES   of argon2id; default 19456,2,1\n"
		   "      --for SECONDS      trace a session, user or address so long\n"
		   "      --tenant NAME      whose limits the user shares; \"\": none\n"
		   "      --addresses LIST   that the user may send as: a@b.example,@c.example\n"
		   "  -h, --help             this text\n");
}

static bool take_option(struct cli *c, int option)
{
	if (option >= OPT_ABOUT) {
		c->about[option - OPT_ABOUT] = optarg;
		return true;
	}
	switch (option) {
	case OPT_DRY_RUN:
		c->dry = true;
		return true;
	case OPT_DETAIL:
		c->detail = true;
		return true;
	case OPT_HEADER:
		c->header = true;
		return true;
	case 'c':
		c->config = optarg;
		return true;
	case 's':
		c->socket = optarg;
		return true;
	case OPT_FILE:
		c->users = optarg;
		return true;
	case OPT_COST:
		c->cost = optarg;
		return true;
	case OPT_TENANT:
		c->tenant = optarg;
		return true;
	case OPT_ADDRESSES:
		c->addresses = optarg;
		return true;
	case OPT_FOR:
		c->seconds = (unsigned)strtoul(optarg, NULL, 10);
		return c->seconds > 0;
	case OPT_JSON:
		c->json = true;
		return true;
	case OPT_ALL:
		c->all = true;
		return true;
	case OPT_NO_SCRAM:
		c->no_scram = true;
		return true;
	case OPT_PASSWORD_STDIN:
		c->password_stdin = true;
		return true;
	default:
		return false;
	}
}

static bool read_config(const char *file, struct config *config)
{
	struct config_errors errors;

	if (config_read(config, file, CONFIG_FILE_ONLY, &errors) == 0)
		return true;
	config_errors_print(&errors, stderr);
	return false;
}

bool cli_config(const struct cli *c, struct config *config)
{
	return read_config(c->config != NULL ? c->config : DEFAULT_CONFIG, config);
}

bool cli_users_file(const struct cli *c, char *path, size_t bytes)
{
	struct config config;

	if (c->users != NULL) {
		snprintf(path, bytes, "%s", c->users);
		return true;
	}
	if (!read_config(c->config != NULL ? c->config : DEFAULT_CONFIG, &config))
		return false;
	snprintf(path, bytes, "%s", config.auth.users);
	return true;
}

bool cli_socket(const struct cli *c, char *path, size_t bytes)
{
	struct config config;
	struct config_errors errors;

	snprintf(path, bytes, "%s", c->socket != NULL ? c->socket : DEFAULT_SOCKET);
	if (c->socket != NULL)
		return true;
	/* a named file must be good; the default one may be missing or of a newer version */
	if (c->config != NULL && !read_config(c->config, &config))
		return false;
	if (c->config != NULL ||
	    config_read(&config, DEFAULT_CONFIG, CONFIG_FILE_ONLY, &errors) == 0)
		snprintf(path, bytes, "%s", config.control.socket);
	return true;
}

static int run(struct cli *c, int words, char **word)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		const struct command *command = &commands[i];
		int used = command->sub != NULL ? 2 : 1;
		if (words < used || strcmp(word[0], command->word) != 0 ||
		    (used == 2 && strcmp(word[1], command->sub) != 0))
			continue;
		c->arguments = words - used;
		c->argument = word + used;
		if (c->arguments >= command->arguments &&
		    c->arguments <= command->arguments + command->optional)
			return command->run(c);
		fprintf(stderr, "usage: posternctl %s%s%s %s\n", command->word,
			used == 2 ? " " : "", used == 2 ? command->sub : "", command->usage);
		return CLI_USAGE;
	}
	fprintf(stderr, "posternctl: unknown command; see posternctl --help\n");
	return CLI_USAGE;
}

int main(int argc, char **argv)
{
	struct cli c = {};
	int option;

	while ((option = getopt_long(argc, argv, "c:s:h", all_options(), NULL)) != -1) {
		if (option == 'h') {
			print_help(stdout);
			return CLI_DONE;
		}
		if (!take_option(&c, option)) {
			fprintf(stderr, "see posternctl --help\n");
			return CLI_USAGE;
		}
	}
	if (optind + 1 == argc && strcmp(argv[optind], "help") == 0) {
		print_help(stdout);
		return CLI_DONE;
	}
	if (optind == argc) {
		print_help(stderr);
		return CLI_USAGE;
	}
	return run(&c, argc - optind, argv + optind);
}
