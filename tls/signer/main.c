/* main.c - postern-signer: private keys in a process of their own, asked for signatures by postern
 */
#include "tls/signer/confine.h"
#include "tls/signer/serve.h"
#include "tls/tls.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct arguments {
	const char *socket;
	uid_t user;
	gid_t group;
	const char *const *paths;
	unsigned n_paths;
};

static volatile sig_atomic_t reload, stop;

static void on_signal(int number)
{
	if (number == SIGHUP)
		reload = 1;
	else
		stop = 1;
}

static _Noreturn void usage(void)
{
	fprintf(stderr,
		"usage: postern-signer -s SOCKET [-u USER] [-p PEER]... KEY...\n"
		"\n"
		"Signs TLS handshakes for postern (tls.signer.socket).\n"
		"  -s SOCKET  where it is asked; the file belongs to the first PEER\n"
		"  -u USER    whom it becomes before it reads a key; needs root\n"
		"  -p PEER    whose processes may ask, up to 8 times; default: this user\n"
		"  KEY        a PEM file, or a directory of NAME/key.pem, readable by USER\n"
		"SIGHUP reads the keys again; where one fails, the former stay.\n");
	exit(2);
}

static const struct passwd *user_of(const char *name)
{
	const struct passwd *p = getpwnam(name);

	if (p != NULL)
		return p;
	fprintf(stderr, "postern-signer: there is no user %s\n", name);
	exit(1);
}

static struct arguments parse(int argc, char **argv, struct service *s)
{
	struct arguments a = {.user = geteuid(), .group = getegid()};
	int option;

	while ((option = getopt(argc, argv, "s:u:p:")) != -1) {
		if (option == 's') {
			a.socket = optarg;
		} else if (option == 'u') {
			a.user = user_of(optarg)->pw_uid;
			a.group = user_of(optarg)->pw_gid;
		} else if (option == 'p' && s->n_peers < SERVE_PEERS) {
			s->peer[s->n_peers++] = user_of(optarg)->pw_uid;
		} else {
			usage();
		}
	}
	if (a.socket == NULL || optind == argc)
		usage();
	if (s->n_peers == 0)
		s->peer[s->n_peers++] = geteuid();
	a.paths = (const char *const *)argv + optind;
	a.n_paths = (unsigned)(argc - optind);
	return a;
}

static void must(int rc, const char *what)
{
	if (rc >= 0)
		return;
	fprintf(stderr, "postern-signer: %s: %s\n", what, strerror(-rc));
	exit(1);
}

static bool load(struct service *s, const struct arguments *a)
{
	char error[512];
	struct keys *k = keys_load(a->paths, a->n_paths, error, sizeof(error));

	if (k == NULL) {
		fprintf(stderr, "postern-signer: %s\n", error);
		return false;
	}
	fprintf(stderr, "postern-signer: %u keys\n", keys_count(k));
	serve_keys(s, k);
	return true;
}

static void catch_signals(sigset_t *open)
{
	struct sigaction action = {.sa_handler = on_signal};
	sigset_t held;

	/* they come only while the main thread waits; the threads of connections inherit the mask
	 */
	sigemptyset(&held);
	sigaddset(&held, SIGHUP);
	sigaddset(&held, SIGTERM);
	sigaddset(&held, SIGINT);
	pthread_sigmask(SIG_BLOCK, &held, open);
	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

int main(int argc, char **argv)
{
	static struct service service = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct arguments a = parse(argc, argv, &service);
	sigset_t open;

	if (!tls_memory_init()) /* keys are left out of dumps */
		return 1;
	int listener = serve_listen(a.socket, service.peer[0]);
	must(listener, a.socket);
	int locked = confine_memory();
	must(locked, "locking memory");
	if (locked == 0)
		fprintf(stderr, "postern-signer: memory is not locked and may be swapped: raise "
				"RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity)\n");
	must(confine_user(a.user, a.group), "becoming another user");
	must(confine_calls(), "giving up system calls");
	catch_signals(&open);
	if (!load(&service, &a))
		return 1;
	struct pollfd p = {.fd = listener, .events = POLLIN};
	while (!stop) {
		if (reload) {
			reload = 0;
			load(&service, &a);
		}
		if (ppoll(&p, 1, NULL, &open) == 1)
			serve_accept(&service, listener);
	}
	return 0;
}
