/* test_tcp_pair.c - two stacks on a perfect link: the plainest connection works */
#include "tests/sim/pair.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct end {
	char log[256];
	struct stream *s;
	uint8_t got[262144];
	size_t got_n, to_send, sent;
	bool echo, close_on_eof;
};

static void say(struct end *e, const char *what)
{
	strcat(e->log, what);
	strcat(e->log, " ");
}

static void pump(struct end *e)
{
	uint8_t buf[5000];

	while (e->sent < e->to_send) {
		size_t n = e->to_send - e->sent;
		if (n > sizeof(buf))
			n = sizeof(buf);
		for (size_t i = 0; i < n; i++)
			buf[i] = (uint8_t)((e->sent + i) * 31 >> 3);
		size_t taken = stream_write(e->s, buf, n, 0);
		e->sent += taken;
		if (taken < n)
			return;
	}
	if (e->to_send > 0)
		stream_shutdown(e->s);
}

static void opened(struct stream *s, void *user)
{
	struct end *e = user;

	e->s = s;
	say(e, "opened");
	pump(e);
}

static void readable(struct stream *s, void *user)
{
	struct end *e = user;
	size_t n;

	while ((n = stream_read(s, e->got + e->got_n, 1000)) > 0) {
		if (e->echo)
			assert_int_equal(stream_write(s, e->got + e->got_n, n, 0), n);
		e->got_n += n;
	}
	if (stream_eof(s)) {
		say(e, "eof");
		stream_close(s);
		e->s = NULL;
	}
}

static void writable(struct stream *s, void *user)
{
	pump(user);
}

static void closed(struct stream *s, void *user, enum stream_end why)
{
	static const char *const names[] = {"reset", "timeout", "refused", "unreachable", "memory"};
	struct end *e = user;

	say(e, names[why]);
	e->s = NULL;
}

static const struct stream_events events = {opened, readable, writable, closed};

static void bytes_echo_and_both_ends_close(void **state)
{
	struct pair *p = pair_create(NULL);
	static struct end client, server;

	client = (struct end){.to_send = 30000};
	server = (struct end){.echo = true};
	tcp_listen(pair_tcp(p, 1),
		   &(struct tcp_listen){.port = 25, .events = &events, .user = &server});
	assert_non_null(pair_connect(p, 0, 25, &events, &client));
	pair_run(p, 1000000);
	assert_string_equal(client.log, "opened eof ");
	assert_string_equal(server.log, "opened eof ");
	assert_int_equal(client.got_n, 30000);
	for (size_t i = 0; i < client.got_n; i++)
		assert_int_equal(client.got[i], (uint8_t)(i * 31 >> 3));
	assert_true(net_is_quiet(pair_net(p)));
	pair_destroy(p);
}

static void connect_to_a_closed_port_is_refused(void **state)
{
	struct pair *p = pair_create(NULL);
	static struct end client;

	client = (struct end){0};
	pair_connect(p, 0, 26, &events, &client);
	pair_run(p, 1000000);
	assert_string_equal(client.log, "refused ");
	assert_true(net_is_quiet(pair_net(p)));
	pair_destroy(p);
}

static void abort_reaches_the_peer_as_reset(void **state)
{
	struct pair *p = pair_create(NULL);
	static struct end client, server;

	client = (struct end){0};
	server = (struct end){0};
	tcp_listen(pair_tcp(p, 1),
		   &(struct tcp_listen){.port = 25, .events = &events, .user = &server});
	pair_connect(p, 0, 25, &events, &client);
	pair_run(p, 100000);
	stream_abort(client.s);
	pair_run(p, 100000);
	assert_string_equal(server.log, "opened reset ");
	assert_true(net_is_quiet(pair_net(p)));
	pair_destroy(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_echo_and_both_ends_close),
		cmocka_unit_test(connect_to_a_closed_port_is_refused),
		cmocka_unit_test(abort_reaches_the_peer_as_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
