/* test_control_socket.c - what the operator can ask: control socket, metrics, status page */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/http.h"
#include "control/server.h"
#include "control/stats.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DEMO_COUNTERS(X)                            \
	X(demo, packets, "packets", "packets seen") \
	X(demo, drops, "packets", "packets dropped")
enum demo_counter { DEMO_COUNTERS(COUNTER_ENUM_ROW) demo_counter_count };
static const struct counter_desc demo_counter_desc[] = {DEMO_COUNTERS(COUNTER_TABLE_ROW)};
static const struct counter_desc demo_gauge_desc = {"demo_sessions", "sessions", "sessions now"};

struct fixture {
	char directory[64], path[100];
	uint64_t counters[2][demo_counter_count];
	struct stats *stats;
	struct server *server;
	struct http *http;
};

static uint64_t seven(void *arg)
{
	return 7;
}

static json_t *echo(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	json_t *copy = json_deep_copy(request);

	json_object_del(copy, "uid");
	return copy;
}

static json_t *who(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	return json_incref(json_object_get(request, "uid"));
}

static json_t *fails(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	snprintf(error, error_bytes, "worker 1 did not answer");
	return NULL;
}

static json_t *huge(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	json_t *list = json_array();

	for (int i = 0; i < 40000; i++)
		json_array_append_new(list, json_string("0123456789"));
	return list;
}

static json_t *status(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	return json_pack("{s:s, s:i}", "version", "<1>", "sessions", 7);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->directory, sizeof(f->directory), "/tmp/test_control.XXXXXX");
	if (mkdtemp(f->directory) == NULL)
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/sock", f->directory);
	f->counters[0][demo_packets] = 5;
	f->counters[1][demo_packets] = 6;
	f->stats = stats_create();
	if (stats_add(f->stats, demo_counter_desc, demo_counter_count, f->counters[0], 0) != 0 ||
	    stats_add(f->stats, demo_counter_desc, demo_counter_count, f->counters[1], 1) != 0 ||
	    stats_gauge(f->stats, &demo_gauge_desc, seven, NULL, STATS_NO_WORKER) != 0 ||
	    stats_provide(f->stats, "echo", "the request", echo, NULL) != 0 ||
	    stats_provide(f->stats, "who", "user id of the asker", who, NULL) != 0 ||
	    stats_provide(f->stats, "fails", "never works", fails, NULL) != 0 ||
	    stats_provide(f->stats, "huge", "half a megabyte", huge, NULL) != 0 ||
	    stats_provide(f->stats, "status", "state", status, NULL) != 0)
		return -1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->server != NULL)
		server_close(f->server);
	if (f->http != NULL)
		http_close(f->http);
	stats_destroy(f->stats);
	unlink(f->path);
	rmdir(f->directory);
	free(f);
	return 0;
}

static void open_server(struct fixture *f)
{
	char error[256];

	if (server_open(&f->server, f->path, f->stats, error, sizeof(error)) != 0)
		fail_msg("%s", error);
}

static int dial(const struct fixture *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	server_poll(f->server, 0);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads up to a line end or the end; false at the end.  Lets the server work meanwhile. */
static bool hear(struct fixture *f, int fd, char *line, size_t bytes)
{
	size_t n = 0;

	for (unsigned rounds = 0; rounds < 1000000 && n + 1 < bytes; rounds++) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, 0) == 1) {
			ssize_t got = recv(fd, line + n, 1, 0);
			if (got <= 0)
				return false;
			n += (size_t)got;
			line[n] = '\0';
			if (line[n - 1] == '\n')
				return true;
			continue;
		}
		server_poll(f->server, 1);
	}
	fail_msg("no answer");
	return false;
}

static void assert_answer(struct fixture *f, int fd, const char *request, const char *answer)
{
	char line[4096];

	say(fd, request);
	assert_true(hear(f, fd, line, sizeof(line)));
	assert_string_equal(line, answer);
}

static void a_request_line_gets_an_answer_line(void **state)
{
	struct fixture *f = *state;

	open_server(f);
	int fd = dial(f);
	assert_answer(f, fd, "{\"command\": \"echo\", \"n\": 1}\n",
		      "{\"ok\":true,\"result\":{\"command\":\"echo\",\"n\":1}}\n");
	assert_answer(f, fd, "{\"command\": \"fails\"}\n",
		      "{\"ok\":false,\"error\":\"worker 1 did not answer\"}\n");
	close(fd);
}

static void a_command_knows_the_asker_whatever_he_says(void **state)
{
	struct fixture *f = *state;
	char expected[80];

	open_server(f);
	int fd = dial(f);
	snprintf(expected, sizeof(expected), "{\"ok\":true,\"result\":%u}\n", geteuid());
	assert_answer(f, fd, "{\"command\": \"who\"}\n", expected);
	assert_answer(f, fd, "{\"command\": \"who\", \"uid\": 4711}\n", expected);
	close(fd);
}

static void what_is_no_command_is_refused_and_the_client_stays(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = {"\n", "status\n", "[]\n", "{\"command\": 1}\n",
					  "{\"command\": \"echo\", \"command\": \"echo\"}\n"};

	open_server(f);
	int fd = dial(f);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_answer(f, fd, bad[i],
			      "{\"ok\":false,\"error\":\"the request is not {\\\"command\\\": "
			      "NAME, ...}\"}\n");
	assert_answer(f, fd, "{\"command\": \"reboot\"}\n",
		      "{\"ok\":false,\"error\":\"unknown command; \\\"help\\\" lists them\"}\n");
	close(fd);
}

static void requests_may_come_in_pieces_or_together(void **state)
{
	struct fixture *f = *state;
	char line[256];

	open_server(f);
	int fd = dial(f);
	say(fd, "{\"comm");
	server_poll(f->server, 0);
	assert_answer(f, fd, "and\": \"echo\"}\n",
		      "{\"ok\":true,\"result\":{\"command\":\"echo\"}}\n");
	say(fd, "{\"command\": \"echo\", \"n\": 1}\n{\"command\": \"echo\", \"n\": 2}\n");
	assert_true(hear(f, fd, line, sizeof(line)));
	assert_non_null(strstr(line, "\"n\":1"));
	assert_true(hear(f, fd, line, sizeof(line)));
	assert_non_null(strstr(line, "\"n\":2"));
	close(fd);
}

static void an_endless_request_is_cut_off(void **state)
{
	struct fixture *f = *state;
	char line[64], block[1024];

	open_server(f);
	int fd = dial(f);
	memset(block, 'x', sizeof(block));
	for (unsigned i = 0; i <= SERVER_REQUEST_BYTES / sizeof(block); i++) {
		if (send(fd, block, sizeof(block), MSG_NOSIGNAL) < 0)
			break;
		server_poll(f->server, 0);
	}
	assert_false(hear(f, fd, line, sizeof(line)));
	close(fd);
}

static void a_large_answer_arrives_whole_at_a_slow_reader(void **state)
{
	struct fixture *f = *state;
	size_t room = 2 << 20;
	char *line = malloc(room);

	open_server(f);
	int slow = dial(f), other = dial(f);
	say(slow, "{\"command\": \"huge\"}\n");
	for (unsigned i = 0; i < 10; i++)
		server_poll(f->server, 0);
	assert_answer(f, other, "{\"command\": \"echo\"}\n",
		      "{\"ok\":true,\"result\":{\"command\":\"echo\"}}\n");
	assert_true(hear(f, slow, line, room));
	json_t *j = json_loads(line, 0, NULL);
	assert_int_equal(json_array_size(json_object_get(j, "result")), 40000);
	json_decref(j);
	free(line);
	close(slow);
	close(other);
}

static void one_client_too_many_is_closed_and_a_place_is_free_again(void **state)
{
	struct fixture *f = *state;
	int fd[SERVER_CLIENTS + 1];
	char line[64];

	open_server(f);
	for (unsigned i = 0; i <= SERVER_CLIENTS; i++)
		fd[i] = dial(f);
	assert_false(hear(f, fd[SERVER_CLIENTS], line, sizeof(line)));
	close(fd[0]);
	server_poll(f->server, 0);
	fd[0] = dial(f);
	assert_answer(f, fd[0], "{\"command\": \"echo\"}\n",
		      "{\"ok\":true,\"result\":{\"command\":\"echo\"}}\n");
	for (unsigned i = 0; i <= SERVER_CLIENTS; i++)
		close(fd[i]);
}

static void only_the_owner_may_connect(void **state)
{
	struct fixture *f = *state;
	struct stat st;

	open_server(f);
	assert_int_equal(lstat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

static void a_stale_socket_file_is_replaced(void **state)
{
	struct fixture *f = *state;
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	close(fd); /* the file stays */
	open_server(f);
	close(dial(f));
}

static void a_socket_that_answers_is_left_alone(void **state)
{
	struct fixture *f = *state;
	struct server *second;
	char error[256], wanted[256];

	open_server(f);
	assert_int_equal(server_open(&second, f->path, f->stats, error, sizeof(error)),
			 -EADDRINUSE);
	snprintf(wanted, sizeof(wanted),
		 "control socket %s: another instance answers there; stop it or choose another "
		 "control.socket",
		 f->path);
	assert_string_equal(error, wanted);
	close(dial(f));
}

static void a_file_that_is_no_socket_is_left_alone(void **state)
{
	struct fixture *f = *state;
	char error[256];

	fclose(fopen(f->path, "w"));
	assert_int_equal(server_open(&f->server, f->path, f->stats, error, sizeof(error)), -EEXIST);
	assert_int_equal(access(f->path, F_OK), 0);
}

static void closing_removes_the_own_socket_file_and_no_other(void **state)
{
	struct fixture *f = *state;

	open_server(f);
	server_close(f->server);
	assert_int_not_equal(access(f->path, F_OK), 0);
	open_server(f);
	unlink(f->path);
	fclose(fopen(f->path, "w"));
	server_close(f->server);
	f->server = NULL;
	assert_int_equal(access(f->path, F_OK), 0);
}

static const char metrics[] = "# HELP postern_demo_packets_total packets seen (packets)\n"
			      "# TYPE postern_demo_packets_total counter\n"
			      "postern_demo_packets_total{worker=\"0\"} 5\n"
			      "postern_demo_packets_total{worker=\"1\"} 6\n"
			      "# HELP postern_demo_drops_total packets dropped (packets)\n"
			      "# TYPE postern_demo_drops_total counter\n"
			      "postern_demo_drops_total{worker=\"0\"} 0\n"
			      "postern_demo_drops_total{worker=\"1\"} 0\n"
			      "# HELP postern_demo_sessions sessions now (sessions)\n"
			      "# TYPE postern_demo_sessions gauge\n"
			      "postern_demo_sessions 7\n";

static void metrics_are_grouped_by_name_and_labelled_by_worker(void **state)
{
	struct fixture *f = *state;
	size_t bytes;
	char *text = stats_prometheus(f->stats, &bytes);

	assert_string_equal(text, metrics);
	assert_int_equal(bytes, sizeof(metrics) - 1);
	free(text);
}

static void a_histogram_is_cumulative_and_grouped_by_name(void **state)
{
	static const struct counter_desc desc = {"demo_cost", "us", "cost"};
	static const uint64_t bounds[] = {10, 20}, a[] = {1, 2, 3}, b[] = {0, 0, 4}, sum = 99;
	struct stats *s = stats_create();
	struct stats_histogram h = {&desc, "kind", "a", bounds, 2, a, &sum, 0};
	size_t bytes;

	assert_int_equal(stats_add_histogram(s, &h), 0);
	h.value = "b";
	h.bucket = b;
	assert_int_equal(stats_add_histogram(s, &h), 0);
	char *text = stats_prometheus(s, &bytes);
	assert_string_equal(text,
			    "# HELP postern_demo_cost cost (us)\n"
			    "# TYPE postern_demo_cost histogram\n"
			    "postern_demo_cost_bucket{kind=\"a\",worker=\"0\",le=\"10\"} 1\n"
			    "postern_demo_cost_bucket{kind=\"a\",worker=\"0\",le=\"20\"} 3\n"
			    "postern_demo_cost_bucket{kind=\"a\",worker=\"0\",le=\"+Inf\"} 6\n"
			    "postern_demo_cost_sum{kind=\"a\",worker=\"0\"} 99\n"
			    "postern_demo_cost_count{kind=\"a\",worker=\"0\"} 6\n"
			    "postern_demo_cost_bucket{kind=\"b\",worker=\"0\",le=\"10\"} 0\n"
			    "postern_demo_cost_bucket{kind=\"b\",worker=\"0\",le=\"20\"} 0\n"
			    "postern_demo_cost_bucket{kind=\"b\",worker=\"0\",le=\"+Inf\"} 4\n"
			    "postern_demo_cost_sum{kind=\"b\",worker=\"0\"} 99\n"
			    "postern_demo_cost_count{kind=\"b\",worker=\"0\"} 4\n");
	free(text);
	stats_destroy(s);
}

static json_t *run_action(void *arg, const json_t *request, char *error, size_t error_bytes)
{
	return json_integer(++*(int *)arg);
}

static void an_action_is_run_for_the_socket_and_hidden_from_viewers(void **state)
{
	struct stats *s = stats_create();
	char error[256];
	int ran = 0;

	assert_int_equal(stats_provide_action(s, "act", "acts", run_action, &ran), 0);
	assert_null(stats_view(s, "act", NULL, error, sizeof(error)));
	assert_int_equal(ran, 0);
	json_decref(stats_run(s, "act", NULL, error, sizeof(error)));
	assert_int_equal(ran, 1);
	stats_destroy(s);
}

static void stats_add_up_the_workers(void **state)
{
	struct fixture *f = *state;
	char error[256];
	json_t *j = stats_run(f->stats, "stats", NULL, error, sizeof(error));
	json_t *first = json_array_get(j, 0);

	assert_int_equal(json_array_size(j), 3);
	assert_string_equal(json_string_value(json_object_get(first, "name")), "demo_packets");
	assert_int_equal(json_integer_value(json_object_get(first, "total")), 11);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(first, "workers"), "1")), 6);
	json_decref(j);
}

static char *fetch(const struct fixture *f, const char *request, char *answer, size_t bytes)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(http_port(f->http)),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct timeval patience = {.tv_sec = 20};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	size_t n = 0;
	ssize_t got;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	say(fd, request);
	while ((got = recv(fd, answer + n, bytes - 1 - n, 0)) > 0)
		n += (size_t)got;
	answer[n] = '\0';
	close(fd);
	return answer;
}

static void http_serves_metrics_status_and_commands_and_nothing_else(void **state)
{
	struct fixture *f = *state;
	struct ip_addr loopback;
	char error[256], answer[16384];
	struct http *second;

	assert_true(addr_parse("127.0.0.1", &loopback));
	if (http_open(&f->http, &loopback, 0, f->stats, error, sizeof(error)) != 0)
		fail_msg("%s", error);
#define END " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	fetch(f, "GET /metrics" END, answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 200", 12);
	assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4"));
	assert_string_equal(strstr(answer, "\r\n\r\n") + 4, metrics);
	fetch(f, "GET /" END, answer, sizeof(answer));
	assert_non_null(strstr(answer, "<td>&lt;1&gt;</td>"));
	assert_non_null(strstr(answer, "<td>demo_packets</td><td class=\"n\">11</td>"));
	assert_null(strstr(answer, "demo_drops"));
	fetch(f, "GET /api/status" END, answer, sizeof(answer));
	assert_non_null(strstr(answer, "\"sessions\": 7"));
	fetch(f, "GET /api/nothing" END, answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 404", 12);
	fetch(f, "GET /etc/passwd" END, answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 404", 12);
	fetch(f, "DELETE /metrics" END, answer, sizeof(answer));
	assert_memory_equal(answer, "HTTP/1.1 405", 12);

	char wanted[256];
	snprintf(wanted, sizeof(wanted), "control.http 127.0.0.1:%u: Address already in use",
		 http_port(f->http));
	assert_int_equal(
		http_open(&second, &loopback, http_port(f->http), f->stats, error, sizeof(error)),
		-EADDRINUSE);
	assert_string_equal(error, wanted);
}

#define control_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		control_test(a_request_line_gets_an_answer_line),
		control_test(a_command_knows_the_asker_whatever_he_says),
		control_test(what_is_no_command_is_refused_and_the_client_stays),
		control_test(requests_may_come_in_pieces_or_together),
		control_test(an_endless_request_is_cut_off),
		control_test(a_large_answer_arrives_whole_at_a_slow_reader),
		control_test(one_client_too_many_is_closed_and_a_place_is_free_again),
		control_test(only_the_owner_may_connect),
		control_test(a_stale_socket_file_is_replaced),
		control_test(a_socket_that_answers_is_left_alone),
		control_test(a_file_that_is_no_socket_is_left_alone),
		control_test(closing_removes_the_own_socket_file_and_no_other),
		control_test(metrics_are_grouped_by_name_and_labelled_by_worker),
		cmocka_unit_test(a_histogram_is_cumulative_and_grouped_by_name),
		cmocka_unit_test(an_action_is_run_for_the_socket_and_hidden_from_viewers),
		control_test(stats_add_up_the_workers),
		control_test(http_serves_metrics_status_and_commands_and_nothing_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
