/*
 * main.c - the daemon's command line and its life between signals.
 *
 *	postern -c FILE          run
 *	postern -t -c FILE       check the file, print every fault with its place, exit
 *	postern --help-config    every key of the file
 */
#include "base/log.h"
#include "control/gateway.h"
#include "control/reload.h"
#include "control/settings.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void usage(FILE *out)
{
	fprintf(out, "usage: postern -c FILE [-t]\n"
		     "       postern --help-config | --version | --help\n\n"
		     "  -c FILE        configuration (YAML)\n"
		     "  -t             check the configuration and exit\n"
		     "  --help-config  list every key: type, range, default, meaning\n");
}

struct arguments {
	const char *file;
	bool check, done;
	int status; /* of a run that is done already */
};

static struct arguments parse(int argc, char **argv)
{
	static const struct option options[] = {
		{"help", no_argument, NULL, 'h'},
		{"help-config", no_argument, NULL, 'H'},
		{"version", no_argument, NULL, 'V'},
		{0},
	};
	struct arguments a = {0};
	int o;

	while ((o = getopt_long(argc, argv, "c:th", options, NULL)) != -1) {
		switch (o) {
		case 'c':
			a.file = optarg;
			break;
		case 't':
			a.check = true;
			break;
		case 'H':
			config_help(stdout);
			a.done = true;
			break;
		case 'V':
			printf("postern %s\n", POSTERN_VERSION);
			a.done = true;
			break;
		case 'h':
			usage(stdout);
			a.done = true;
			break;
		default:
			usage(stderr);
			a.done = true;
			a.status = 2;
		}
	}
	if (!a.done && (a.file == NULL || optind < argc)) {
		usage(stderr);
		a.done = true;
		a.status = 2;
	}
	return a;
}

/* The signal that came, or 0. */
static int next_signal(const sigset_t *set)
{
	struct timespec none = {0};
	int s = sigtimedwait(set, NULL, &none);

	return s > 0 ? s : 0;
}

static int run(struct gateway *g, const sigset_t *signals)
{
	char error[512] = "";
	int rc = gateway_open(g, error, sizeof(error));

	if (rc == 0 && log_start() == 0)
		rc = gateway_start(g, error, sizeof(error));
	if (rc < 0) {
		log_stop();
		fprintf(stderr, "postern: %s\n", error);
		gateway_close(g);
		return 1;
	}
	log_info("control", "postern %s ready: %u workers, %u listeners", POSTERN_VERSION,
		 g->n_units, g->config.listener_count);
	for (;;) {
		int s = next_signal(signals);
		if (s == SIGTERM || s == SIGINT)
			break;
		if (s == SIGHUP)
			json_decref(reload_run(g));
		gateway_turn(g);
	}
	gateway_drain(g);
	log_info("control", "stopped");
	log_stop();
	gateway_close(g);
	return 0;
}

/* Certificates, keys and secrets are loaded as at start. */
static int check_tls(const struct config *c)
{
	struct tls_settings *ts = malloc(sizeof(*ts));
	char error[512] = "out of memory";
	struct tls *t = NULL;
	int rc = -1;

	if (ts != NULL) {
		settings_tls(c, ts);
		rc = tls_open(&t, &ts->c, error, sizeof(error));
	}
	if (rc == 0)
		tls_close(t);
	else
		fprintf(stderr, "%s\n", error);
	free(ts);
	return rc;
}

int main(int argc, char **argv)
{
	struct arguments a = parse(argc, argv);
	struct config_errors errors = {0};
	sigset_t signals;

	if (a.done)
		return a.status;
	/* before any other part of the process touches OpenSSL */
	if (!tls_memory_init()) {
		fprintf(stderr, "postern: OpenSSL was used before its allocator could be set\n");
		return 1;
	}
	struct gateway *g = calloc(1, sizeof(*g));
	if (g == NULL)
		return 1;
	g->config_file = a.file;
	int rc = config_read(&g->config, a.file, CONFIG_THIS_MACHINE, &errors);
	if (errors.count > 0)
		config_errors_print(&errors, stderr);
	if (rc == 0 && a.check)
		rc = check_tls(&g->config);
	if (rc < 0 || a.check) {
		if (rc == 0)
			printf("%s: ok\n", a.file);
		free(g);
		return rc < 0;
	}
	log_set_level(g->config.control.log_level);
	/* threads inherit the mask: signals come to this thread and by sigtimedwait() only */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	rc = run(g, &signals);
	free(g);
	return rc;
}
