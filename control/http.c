/* http.c - libmicrohttpd over the registry */
#include "control/http.h"

#include <errno.h>
#include <microhttpd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HTTP_CLIENTS = 32, HTTP_CLIENTS_AN_ADDRESS = 16, HTTP_SILENCE_S = 10 };

struct http {
	struct MHD_Daemon *daemon;
	struct stats *stats;
	uint16_t port;
};

/* A page's text (malloc'd) or NULL; *status is then the reason. */
typedef char *page_make(struct http *h, const char *url, size_t *bytes, unsigned *status);

static const char page_head[] =
	"<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\">"
	"<meta http-equiv=\"refresh\" content=\"5\"><title>postern</title><style>"
	"body{font:15px/1.4 sans-serif;margin:2em;max-width:60em}"
	"table{border-collapse:collapse}td,th{padding:.2em .8em;text-align:left;"
	"border-bottom:1px solid #ccc}td.n{text-align:right;font-variant-numeric:tabular-nums}"
	"</style></head><body><h1>postern</h1><p><a href=\"/metrics\">metrics</a></p>\n";

static void print_escaped(FILE *f, const char *s)
{
	static const char *const entities[256] = {
		['&'] = "&amp;", ['<'] = "&lt;", ['>'] = "&gt;", ['"'] = "&quot;"};

	for (; *s != '\0'; s++) {
		const char *e = entities[(unsigned char)*s];
		if (e != NULL)
			fputs(e, f);
		else
			fputc(*s, f);
	}
}

static void print_cell(FILE *f, const json_t *v)
{
	char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);

	fprintf(f, "<td%s>", json_is_number(v) ? " class=\"n\"" : "");
	print_escaped(f, json_is_string(v) ? json_string_value(v) : text != NULL ? text : "");
	fprintf(f, "</td>");
	free(text);
}

static void print_status(struct http *h, FILE *f)
{
	char error[STATS_ERROR_BYTES];
	json_t *status = stats_view(h->stats, "status", NULL, error, sizeof(error)), *v;
	const char *key;

	fprintf(f, "<h2>Status</h2>");
	if (status == NULL) {
		fprintf(f, "<p>");
		print_escaped(f, error);
		fprintf(f, "</p>");
		return;
	}
	fprintf(f, "<table>");
	json_object_foreach(status, key, v)
	{
		fprintf(f, "<tr><th>");
		print_escaped(f, key);
		fprintf(f, "</th>");
		print_cell(f, v);
		fprintf(f, "</tr>\n");
	}
	fprintf(f, "</table>");
	json_decref(status);
}

static void print_counters(struct http *h, FILE *f)
{
	char error[STATS_ERROR_BYTES];
	json_t *stats = stats_view(h->stats, "stats", NULL, error, sizeof(error)), *m;
	size_t i;

	fprintf(f, "<h2>Counters and gauges that are not zero</h2><table>");
	json_array_foreach(stats, i, m)
	{
		const json_t *total = json_object_get(m, "total");
		if (json_integer_value(total) == 0)
			continue;
		fprintf(f, "<tr>");
		print_cell(f, json_object_get(m, "name"));
		print_cell(f, total);
		print_cell(f, json_object_get(m, "unit"));
		print_cell(f, json_object_get(m, "help"));
		fprintf(f, "</tr>\n");
	}
	fprintf(f, "</table></body></html>\n");
	json_decref(stats);
}

static char *make_root(struct http *h, const char *url, size_t *bytes, unsigned *status)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, bytes);

	if (f == NULL)
		return NULL;
	fputs(page_head, f);
	print_status(h, f);
	print_counters(h, f);
	if (fclose(f) == 0)
		return text;
	free(text);
	return NULL;
}

static char *make_metrics(struct http *h, const char *url, size_t *bytes, unsigned *status)
{
	return stats_prometheus(h->stats, bytes);
}

static char *make_api(struct http *h, const char *url, size_t *bytes, unsigned *status)
{
	char error[STATS_ERROR_BYTES];
	json_t *j = stats_view(h->stats, url, NULL, error, sizeof(error));

	if (j == NULL) {
		*status = MHD_HTTP_NOT_FOUND;
		return NULL;
	}
	char *text = json_dumps(j, JSON_INDENT(1) | JSON_ENCODE_ANY);
	json_decref(j);
	*bytes = text != NULL ? strlen(text) : 0;
	return text;
}

static const struct page {
	const char *url, *type;
	bool prefix;
	page_make *make;
} pages[] = {
	{"/metrics", "text/plain; version=0.0.4; charset=utf-8", false, make_metrics},
	{"/api/", "application/json", true, make_api},
	{"/", "text/html; charset=utf-8", false, make_root},
};

static const struct page *find_page(const char *url, const char **rest)
{
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		size_t n = strlen(pages[i].url);
		*rest = url + n;
		if (pages[i].prefix ? strncmp(url, pages[i].url, n) == 0
				    : strcmp(url, pages[i].url) == 0)
			return &pages[i];
	}
	return NULL;
}

static enum MHD_Result send_page(struct MHD_Connection *c, unsigned status, const char *type,
				 char *text, size_t bytes)
{
	static const char sorry[] = "not available\n";
	struct MHD_Response *r =
		text != NULL ? MHD_create_response_from_buffer(bytes, text, MHD_RESPMEM_MUST_FREE)
			     : MHD_create_response_from_buffer(sizeof(sorry) - 1, (void *)sorry,
							       MHD_RESPMEM_PERSISTENT);

	if (r == NULL) {
		free(text);
		return MHD_NO;
	}
	MHD_add_response_header(r, "Content-Type", text != NULL ? type : "text/plain");
	MHD_add_response_header(r, "Cache-Control", "no-store");
	MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	MHD_add_response_header(r, "Content-Security-Policy",
				"default-src 'none'; style-src 'unsafe-inline'");
	enum MHD_Result result = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return result;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *c, const char *url,
				  const char *method, const char *version, const char *body,
				  size_t *body_bytes, void **state)
{
	static const char seen;
	const char *rest;
	size_t bytes = 0;

	/* first call: headers only; a body, which no page wants, is swallowed unread */
	if (*state == NULL) {
		*state = (void *)&seen;
		return MHD_YES;
	}
	*body_bytes = 0;
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0)
		return send_page(c, MHD_HTTP_METHOD_NOT_ALLOWED, NULL, NULL, 0);
	const struct page *page = find_page(url, &rest);
	if (page == NULL)
		return send_page(c, MHD_HTTP_NOT_FOUND, NULL, NULL, 0);
	unsigned status = MHD_HTTP_SERVICE_UNAVAILABLE;
	char *text = page->make(arg, rest, &bytes, &status);
	return send_page(c, text != NULL ? MHD_HTTP_OK : status, page->type, text, bytes);
}

/* The socket is made here and not by libmicrohttpd, which would hide why it failed. */
static int listen_on(const struct ip_addr *address, uint16_t port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (address->family != 4)
		return -EAFNOSUPPORT;
	memcpy(&in.sin_addr, address->byte, 4);
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    bind(fd, (const struct sockaddr *)&in, sizeof(in)) == 0 &&
	    listen(fd, HTTP_CLIENTS) == 0)
		return fd;
	int code = -errno;
	if (fd >= 0)
		close(fd);
	return code;
}

static uint16_t bound_port(int fd)
{
	struct sockaddr_in in = {};
	socklen_t n = sizeof(in);

	return getsockname(fd, (struct sockaddr *)&in, &n) == 0 ? ntohs(in.sin_port) : 0;
}

int http_open(struct http **out, const struct ip_addr *address, uint16_t port, struct stats *stats,
	      char *error, size_t error_bytes)
{
	char text[ADDR_TEXT_BYTES];
	struct http *h = calloc(1, sizeof(*h));
	int fd = h != NULL ? listen_on(address, port) : -ENOMEM;

	*out = NULL;
	if (fd >= 0) {
		h->stats = stats;
		h->port = bound_port(fd);
		h->daemon = MHD_start_daemon(
			MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO, 0, NULL, NULL, on_request,
			h, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
			(unsigned)HTTP_CLIENTS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
			(unsigned)HTTP_CLIENTS_AN_ADDRESS, MHD_OPTION_CONNECTION_TIMEOUT,
			(unsigned)HTTP_SILENCE_S, MHD_OPTION_END);
	}
	if (fd >= 0 && h->daemon == NULL) {
		close(fd);
		fd = -ENOMEM;
	}
	if (fd < 0) {
		snprintf(error, error_bytes, "control.http %s:%u: %s", addr_text(address, text),
			 port, strerror(-fd));
		free(h);
		return fd;
	}
	*out = h;
	return 0;
}

uint16_t http_port(const struct http *h)
{
	return h->port;
}

void http_close(struct http *h)
{
	MHD_stop_daemon(h->daemon);
	free(h);
}
