/* test_signer_confine.c - what postern-signer can do no more once it has given its rights up, each
 * tried by a process of its own */
#include "tls/signer/confine.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static int makes_a_socket(void)
{
	return socket(AF_INET, SOCK_STREAM, 0) < 0 ? errno : 0;
}

static int connects(void)
{
	return connect(0, NULL, 0) < 0 ? errno : 0;
}

static int runs_a_program(void)
{
	char *const arguments[] = {(char *)"true", NULL};

	execv("/bin/true", arguments);
	return errno;
}

static int makes_a_process(void)
{
	pid_t p = fork();

	if (p == 0)
		_exit(0);
	return p < 0 ? errno : 0;
}

static int traces_another(void)
{
	return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) < 0 ? errno : 0;
}

static int leaves_a_dump(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_CORE, &r) != 0 || r.rlim_cur != 0 || r.rlim_max != 0)
		return 0;
	return prctl(PR_GET_DUMPABLE) == 0 ? EPERM : 0;
}

static void *thread_main(void *arg)
{
	return arg;
}

/* What it still needs; 0: it can. */
static int makes_a_thread(void)
{
	pthread_t t;
	void *out = NULL;
	int rc = pthread_create(&t, NULL, thread_main, &out);

	return rc != 0 ? rc : pthread_join(t, &out) != 0 || out != &out;
}

static int in_confinement(int (*what)(void))
{
	int status;
	pid_t p = fork();

	if (p == 0)
		_exit(confine_memory() >= 0 && confine_calls() == 0 ? what() : 255);
	assert_int_equal(waitpid(p, &status, 0), p);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void there_are_no_new_sockets_programs_processes_traces_or_dumps(void **state)
{
	assert_int_equal(in_confinement(makes_a_socket), EPERM);
	assert_int_equal(in_confinement(connects), EPERM);
	assert_int_equal(in_confinement(runs_a_program), EPERM);
	assert_int_equal(in_confinement(makes_a_process), EPERM);
	assert_int_equal(in_confinement(traces_another), EPERM);
	assert_int_equal(in_confinement(leaves_a_dump), EPERM);
}

static void threads_are_still_made(void **state)
{
	assert_int_equal(in_confinement(makes_a_thread), 0);
}

static int is_root_again(void)
{
	if (confine_user(65534, 65534) != 0)
		return 255;
	return setuid(0) == 0 || seteuid(0) == 0 || setgid(0) == 0 ? 0 : EPERM;
}

static void another_user_stays_one(void **state)
{
	int status;
	pid_t p;

	if (geteuid() != 0)
		skip();
	p = fork();
	if (p == 0)
		_exit(is_root_again());
	assert_int_equal(waitpid(p, &status, 0), p);
	assert_int_equal(WEXITSTATUS(status), EPERM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_are_no_new_sockets_programs_processes_traces_or_dumps),
		cmocka_unit_test(threads_are_still_made),
		cmocka_unit_test(another_user_stays_one),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
