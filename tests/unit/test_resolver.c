/* test_resolver.c - names asked for at a name server of the test's own, or one that never answers
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/resolver.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 12, TYPE_A = 1, PACKET = 512 };

struct bench {
	int server;
	struct resolver *r;
};

static struct bench begin(const char *name)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(at);
	const struct timeval most = {.tv_sec = 3};
	static char names[RESOLVER_NAMES][RESOLVER_NAME];
	char servers[32], error[256];
	struct bench b = {.server = socket(AF_INET, SOCK_DGRAM, 0)};

	assert_int_equal(bind(b.server, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(b.server, (struct sockaddr *)&at, &bytes), 0);
	setsockopt(b.server, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most));
	snprintf(servers, sizeof(servers), "127.0.0.1:%u", ntohs(at.sin_port));
	assert_int_equal(resolver_open(&b.r, servers, error, sizeof(error)), 0);
	snprintf(names[0], sizeof(names[0]), "%s", name);
	resolver_names(b.r, names, 1);
	return b;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* One question: to that for an A record 192.0.2.7, to any other that there is none. */
static void answer(const struct bench *b)
{
	static const uint8_t record[] = {0xc0, HEAD, 0, 1, 0, 1, 0, 0, 1, 0, 0, 4, 192, 0, 2, 7};
	uint8_t p[PACKET + sizeof(record)];
	struct sockaddr_in from;
	socklen_t bytes = sizeof(from);
	ssize_t got = recvfrom(b->server, p, PACKET, 0, (struct sockaddr *)&from, &bytes);

	assert_in_range(got, HEAD + 5, PACKET);
	size_t n = HEAD + strlen((const char *)p + HEAD) + 5;
	bool is_a = p[n - 3] == TYPE_A;
	p[2] |= 0x80;
	memset(p + 6, 0, 6);
	p[7] = is_a;
	if (is_a)
		memcpy(p + n, record, sizeof(record));
	n += is_a ? sizeof(record) : 0;
	assert_int_equal(sendto(b->server, p, n, 0, (struct sockaddr *)&from, bytes), n);
}

static void expect_address(const struct bench *b)
{
	struct ip_addr a[RESOLVER_ADDRESSES];
	double until = seconds() + 5;

	while (!resolver_changed(b->r) && seconds() < until)
		usleep(1000);
	assert_int_equal(resolver_addresses(b->r, "mx.test", a, RESOLVER_ADDRESSES), 1);
	assert_int_equal(a[0].family, 4);
	assert_memory_equal(a[0].byte, "\xc0\x00\x02\x07", 4);
}

static void end(struct bench *b)
{
	resolver_close(b->r);
	close(b->server);
}

static void a_name_gets_its_addresses(void **state)
{
	struct bench b = begin("mx.test");

	answer(&b);
	answer(&b);
	expect_address(&b);
	end(&b);
}

/* The spool may have thousands of files open. */
static void so_it_does_with_many_files_open(void **state)
{
	static int files[FD_SETSIZE];
	struct rlimit most;
	unsigned n = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &most), 0);
	if (most.rlim_max < 2 * FD_SETSIZE)
		skip();
	most.rlim_cur = 2 * FD_SETSIZE;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &most), 0);
	do
		files[n] = open("/dev/null", O_RDONLY);
	while (files[n++] < FD_SETSIZE - 1 && n < FD_SETSIZE);
	struct bench b = begin("mx.test");
	assert_true(b.server >= FD_SETSIZE);
	answer(&b);
	answer(&b);
	expect_address(&b);
	end(&b);
	while (n-- > 0)
		close(files[n]);
}

static void a_silent_name_server_does_not_hold_up_the_end(void **state)
{
	struct bench b = begin("mx.test");
	char question[PACKET];

	assert_true(recv(b.server, question, sizeof(question), 0) > 0);
	double before = seconds();
	resolver_close(b.r);
	assert_true(seconds() - before < 1);
	close(b.server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_gets_its_addresses),
		cmocka_unit_test(so_it_does_with_many_files_open),
		cmocka_unit_test(a_silent_name_server_does_not_hold_up_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
