/*
 * http.h - metrics and a status page over HTTP, read-only.
 *
 * GET /metrics (Prometheus), GET / (status page), GET /api/NAME (a command of stats.h as JSON).
 *
 * Owner: the control thread.
 * Runs on: a thread of libmicrohttpd's; it takes no signals if the caller blocks them first.
 * Errors: 0 or -errno with a text.
 */
#ifndef CONTROL_HTTP_H
#define CONTROL_HTTP_H

#include "base/addr.h"
#include "control/stats.h"

struct http;

/* port 0: any free one, see http_port(). */
int http_open(struct http **h, const struct ip_addr *address, uint16_t port, struct stats *stats,
	      char *error, size_t error_bytes);
uint16_t http_port(const struct http *h);
void http_close(struct http *h);

#endif
