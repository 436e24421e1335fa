/*
 * options.h - what a run of postern-bench shall do: the command line, read once.
 *
 * Owner: main().  Read only afterwards, by every thread.
 * Errors: options_read() says on standard error what is wrong and how it is written.
 */
#ifndef PERF_BENCH_OPTIONS_H
#define PERF_BENCH_OPTIONS_H

#include "base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	BENCH_ADDRESSES = 16,
	BENCH_WORKERS = 16,
	BENCH_SIZES = 8,
	BENCH_COMPARED = 8,
	BENCH_NAME = 256,
};

enum bench_mode {
	BENCH_MAIL,      /* log in, submit messages, QUIT */
	BENCH_LOGIN,     /* log in, QUIT */
	BENCH_HANDSHAKE, /* TCP and TLS, then gone */
	BENCH_CONNECT,   /* TCP alone */
	BENCH_HOLD,      /* log in and stay; NOOP now and then */
	BENCH_NOOP,      /* log in, then NOOP after NOOP */
};

enum bench_auth { BENCH_AUTH_NONE, BENCH_AUTH_PLAIN, BENCH_AUTH_SCRAM };

/* One part of a mixture of message sizes: evenly between two sizes, or log-normal about a median.
 */
struct bench_size {
	double weight; /* of all parts together, 1 */
	uint64_t from, to;
	double sigma; /* of the logarithm; 0: evenly from `from` to `to` */
};

enum bench_metric { BENCH_LATENCY, BENCH_SERVICE, BENCH_HANDSHAKE_TIME, BENCH_NOOP_TIME };

/* The highest rate at which a percentile stays below a bound. */
struct bench_slo {
	bool wanted;
	double fraction; /* 0.99 */
	uint64_t below_us;
	enum bench_metric metric;
};

struct bench_options {
	/* the server */
	struct ip_addr target;
	uint16_t port;
	char name[BENCH_NAME]; /* SNI and EHLO's peer; "": the address */
	bool implicit, starttls;

	/* where the traffic leaves */
	bool kernel;        /* kernel sockets in place of our own stack */
	const char *device; /* DPDK, when not kernel */
	struct bench_address {
		struct ip_addr addr;
		uint8_t prefix;
	} address[BENCH_ADDRESSES]; /* sources */
	unsigned n_addresses;
	struct ip_addr gateway; /* family 0: none */
	uint16_t mtu;
	uint64_t memory; /* chunks of all workers */
	bool poll;       /* workers never nap */

	/* the work */
	enum bench_mode mode;
	unsigned sessions; /* at a time, all workers */
	uint64_t messages; /* a session; 0: no end */
	uint64_t total;    /* units of work in all; 0: until the time is over */
	double rate;       /* units of work a second; 0: closed loop */
	bool poisson;      /* arrivals; else evenly spaced */
	double ramp;       /* connections begun a second; 0: at once */
	unsigned opening;  /* connections not yet logged in, at a time */
	uint64_t duration_us, warmup_us;
	uint64_t noop_us;    /* BENCH_HOLD: between two NOOPs of a session */
	uint64_t timeout_us; /* for a reply */
	unsigned recipients;
	bool pipelining, bdat;
	struct bench_size size[BENCH_SIZES];
	unsigned n_sizes;
	char from[BENCH_NAME], to[BENCH_NAME]; /* "%" in `to` becomes the number of the message */

	/* TLS and login */
	bool tls_1_2;
	double resume; /* share of handshakes that resume */
	bool native_records;
	unsigned threads;    /* for handshakes, with our own stack */
	const char *ca_file; /* verifies the server; NULL: it is not verified */
	enum bench_auth auth;
	char user[BENCH_NAME], password[BENCH_NAME];

	unsigned core[BENCH_WORKERS], n_workers;

	/* what comes out */
	const char *json, *html, *ids;
	const char *compare[BENCH_COMPARED]; /* JSON of earlier runs, for the report */
	unsigned n_compared;
	const char *label;
	bool quiet;
	struct bench_slo slo;
	/* in place of a run: which ids of the first file the second lacks or has twice */
	const char *accepted, *arrived;
};

/* 0; 1: help was asked for and given; -EINVAL: said on standard error */
int options_read(struct bench_options *o, int argc, char **argv);
const char *options_mode_name(enum bench_mode m);
const char *options_metric_name(enum bench_metric m);

#endif
