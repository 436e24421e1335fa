/* options.c - the command line of postern-bench */
#include "perf/bench/options.h"
#include "perf/bench/values.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

struct option_row {
	const char *name, *value, *help;
	bool (*read)(struct bench_options *o, const char *text);
};

static bool read_unsigned(const char *text, unsigned least, unsigned most, unsigned *out)
{
	uint64_t v;

	if (!value_count(text, most, &v) || v < least)
		return false;
	*out = (unsigned)v;
	return true;
}

static bool read_switch(const char *text, bool *out)
{
	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
		return false;
	*out = strcmp(text, "on") == 0;
	return true;
}

static bool read_text(const char *text, char *out)
{
	if (strlen(text) >= BENCH_NAME || strpbrk(text, "\r\n") != NULL)
		return false;
	strcpy(out, text);
	return true;
}

static bool opt_via(struct bench_options *o, const char *text)
{
	o->kernel = strcmp(text, "kernel") == 0;
	o->device = text;
	return text[0] != '\0';
}

static bool opt_address(struct bench_options *o, const char *text)
{
	char host[ADDR_TEXT_BYTES];
	const char *slash = strchr(text, '/');
	size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
	unsigned prefix = 0;

	if (o->n_addresses == BENCH_ADDRESSES || n >= sizeof(host))
		return false;
	memcpy(host, text, n);
	host[n] = '\0';
	struct bench_address *a = &o->address[o->n_addresses++];
	if (!addr_parse(host, &a->addr))
		return false;
	if (slash != NULL && !read_unsigned(slash + 1, 1, a->addr.family == 6 ? 128 : 32, &prefix))
		return false;
	a->prefix = (uint8_t)(slash != NULL ? prefix : a->addr.family == 6 ? 64 : 24);
	return true;
}

static bool opt_gateway(struct bench_options *o, const char *text)
{
	return addr_parse(text, &o->gateway);
}

static bool opt_mtu(struct bench_options *o, const char *text)
{
	unsigned v;

	if (!read_unsigned(text, 576, 9600, &v))
		return false;
	o->mtu = (uint16_t)v;
	return true;
}

static bool opt_memory(struct bench_options *o, const char *text)
{
	return value_count(text, 1ull << 40, &o->memory) && o->memory >= 8 << 20;
}

static bool opt_poll(struct bench_options *o, const char *text)
{
	return read_switch(text, &o->poll);
}

static bool opt_cores(struct bench_options *o, const char *text)
{
	o->n_workers = 0;
	for (const char *p = text; *p != '\0';) {
		char *end;
		unsigned long v = strtoul(p, &end, 10);
		if (end == p || o->n_workers == BENCH_WORKERS || v > 1023)
			return false;
		o->core[o->n_workers++] = (unsigned)v;
		p = *end == ',' ? end + 1 : end;
		if (*end != ',' && *end != '\0')
			return false;
	}
	return o->n_workers > 0;
}

static const char *const modes[] = {
	[BENCH_MAIL] = "mail",       [BENCH_LOGIN] = "login", [BENCH_HANDSHAKE] = "handshake",
	[BENCH_CONNECT] = "connect", [BENCH_HOLD] = "hold",   [BENCH_NOOP] = "noop",
};

static const char *const metrics[] = {
	[BENCH_LATENCY] = "latency",
	[BENCH_SERVICE] = "service",
	[BENCH_HANDSHAKE_TIME] = "handshake",
	[BENCH_NOOP_TIME] = "noop",
};

const char *options_mode_name(enum bench_mode m)
{
	return modes[m];
}

const char *options_metric_name(enum bench_metric m)
{
	return metrics[m];
}

static bool opt_mode(struct bench_options *o, const char *text)
{
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(text, modes[i]) == 0) {
			o->mode = (enum bench_mode)i;
			return true;
		}
	}
	return false;
}

static bool opt_sessions(struct bench_options *o, const char *text)
{
	return read_unsigned(text, 1, 4000000, &o->sessions);
}

static bool opt_messages(struct bench_options *o, const char *text)
{
	return value_count(text, UINT64_MAX, &o->messages);
}

static bool opt_total(struct bench_options *o, const char *text)
{
	return value_count(text, UINT64_MAX, &o->total);
}

static bool opt_rate(struct bench_options *o, const char *text)
{
	return value_number(text, &o->rate) && o->rate <= 1e8;
}

static bool opt_arrivals(struct bench_options *o, const char *text)
{
	o->poisson = strcmp(text, "poisson") == 0;
	return o->poisson || strcmp(text, "even") == 0;
}

static bool opt_ramp(struct bench_options *o, const char *text)
{
	return value_number(text, &o->ramp);
}

static bool opt_opening(struct bench_options *o, const char *text)
{
	return read_unsigned(text, 1, 1000000, &o->opening);
}

static bool opt_duration(struct bench_options *o, const char *text)
{
	return value_time(text, &o->duration_us) && o->duration_us > 0;
}

static bool opt_warmup(struct bench_options *o, const char *text)
{
	return value_time(text, &o->warmup_us);
}

static bool opt_noop(struct bench_options *o, const char *text)
{
	return value_time(text, &o->noop_us) && o->noop_us > 0;
}

static bool opt_timeout(struct bench_options *o, const char *text)
{
	return value_time(text, &o->timeout_us) && o->timeout_us > 0;
}

static bool opt_recipients(struct bench_options *o, const char *text)
{
	return read_unsigned(text, 1, 200, &o->recipients);
}

static bool opt_pipelining(struct bench_options *o, const char *text)
{
	return read_switch(text, &o->pipelining);
}

static bool opt_bdat(struct bench_options *o, const char *text)
{
	return read_switch(text, &o->bdat);
}

static bool opt_size(struct bench_options *o, const char *text)
{
	char copy[256], *save = NULL;
	double all = 0;

	if (strlen(text) >= sizeof(copy))
		return false;
	strcpy(copy, text);
	o->n_sizes = 0;
	for (char *p = strtok_r(copy, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
		if (o->n_sizes == BENCH_SIZES || !value_size(p, &o->size[o->n_sizes]))
			return false;
		all += o->size[o->n_sizes++].weight;
	}
	for (unsigned i = 0; i < o->n_sizes; i++)
		o->size[i].weight /= all;
	return o->n_sizes > 0 && all > 0;
}

static bool opt_from(struct bench_options *o, const char *text)
{
	return read_text(text, o->from);
}

static bool opt_to(struct bench_options *o, const char *text)
{
	return read_text(text, o->to) && strchr(text, '@') != NULL;
}

static bool opt_name(struct bench_options *o, const char *text)
{
	return read_text(text, o->name);
}

static bool opt_tls(struct bench_options *o, const char *text)
{
	o->tls_1_2 = strcmp(text, "1.2") == 0;
	return o->tls_1_2 || strcmp(text, "1.3") == 0;
}

static bool opt_resume(struct bench_options *o, const char *text)
{
	char *end;

	o->resume = strtod(text, &end);
	if (*end == '%' && end[1] == '\0')
		o->resume /= 100;
	else if (*end != '\0')
		return false;
	return end != text && o->resume >= 0 && o->resume <= 1;
}

static bool opt_records(struct bench_options *o, const char *text)
{
	o->native_records = strcmp(text, "native") == 0;
	return o->native_records || strcmp(text, "openssl") == 0;
}

static bool opt_threads(struct bench_options *o, const char *text)
{
	return read_unsigned(text, 1, 32, &o->threads);
}

static bool opt_ca(struct bench_options *o, const char *text)
{
	o->ca_file = text;
	return true;
}

static bool opt_auth(struct bench_options *o, const char *text)
{
	static const char *const names[] = {"none", "plain", "scram"};

	for (unsigned i = 0; i < 3; i++) {
		if (strcmp(text, names[i]) == 0) {
			o->auth = (enum bench_auth)i;
			return true;
		}
	}
	return false;
}

static bool opt_user(struct bench_options *o, const char *text)
{
	return read_text(text, o->user);
}

/* Not on the command line itself, where every user of the machine could read it. */
static bool opt_password_file(struct bench_options *o, const char *text)
{
	FILE *f = fopen(text, "re");

	if (f == NULL || fgets(o->password, sizeof(o->password), f) == NULL) {
		if (f != NULL)
			fclose(f);
		return false;
	}
	fclose(f);
	o->password[strcspn(o->password, "\r\n")] = '\0';
	return o->password[0] != '\0';
}

static bool opt_json(struct bench_options *o, const char *text)
{
	o->json = text;
	return true;
}

static bool opt_html(struct bench_options *o, const char *text)
{
	o->html = text;
	return true;
}

static bool opt_ids(struct bench_options *o, const char *text)
{
	o->ids = text;
	return true;
}

static bool opt_label(struct bench_options *o, const char *text)
{
	o->label = text;
	return true;
}

static bool opt_compare(struct bench_options *o, const char *text)
{
	if (o->n_compared == BENCH_COMPARED)
		return false;
	o->compare[o->n_compared++] = text;
	return true;
}

/* [METRIC] pN<TIME: p99<20ms, or handshake:p99.9<50ms */
static bool opt_slo(struct bench_options *o, const char *text)
{
	struct bench_slo *s = &o->slo;
	const char *colon = strchr(text, ':'), *below = strchr(text, '<');
	char number[32];

	for (unsigned i = 0; colon != NULL; i++) {
		if (i == sizeof(metrics) / sizeof(metrics[0]))
			return false;
		if (strlen(metrics[i]) == (size_t)(colon - text) &&
		    strncmp(metrics[i], text, (size_t)(colon - text)) == 0) {
			s->metric = (enum bench_metric)i;
			text = colon + 1;
			break;
		}
	}
	if (text[0] != 'p' || below == NULL || (size_t)(below - text) > sizeof(number))
		return false;
	memcpy(number, text + 1, (size_t)(below - text - 1));
	number[below - text - 1] = '\0';
	s->wanted = true;
	if (!value_number(number, &s->fraction) || s->fraction <= 0 || s->fraction > 100)
		return false;
	s->fraction /= 100;
	return value_time(below + 1, &s->below_us) && s->below_us > 0;
}

static const struct option_row rows[] = {
	{"via", "kernel|DEVICE", "sockets, or a DPDK device of our own stack (default kernel)",
	 opt_via},
	{"address", "ADDR[/BITS]", "a source address; up to 16 times", opt_address},
	{"gateway", "ADDR", "router, with a DPDK device", opt_gateway},
	{"mtu", "BYTES", "with a DPDK device (1500)", opt_mtu},
	{"memory", "BYTES", "for payload on its way, all workers (64M)", opt_memory},
	{"cores", "N,N", "one worker a core (0)", opt_cores},
	{"poll", "on|off", "workers never rest (off)", opt_poll},
	{"mode", "MODE", "mail, login, handshake, connect, hold or noop (mail)", opt_mode},
	{"sessions", "N", "at a time (10)", opt_sessions},
	{"messages", "N", "a session; 0: no end (20)", opt_messages},
	{"total", "N", "units of work, then the run ends", opt_total},
	{"rate", "N", "open loop: so many units of work begin each second", opt_rate},
	{"arrivals", "even|poisson", "of the open loop (poisson)", opt_arrivals},
	{"ramp", "N", "connections begun a second", opt_ramp},
	{"opening", "N", "connections on the way to their login, at a time (128)", opt_opening},
	{"duration", "TIME", "measured (10s)", opt_duration},
	{"warmup", "TIME", "before it (2s)", opt_warmup},
	{"noop", "TIME", "hold: between the NOOPs of a session (60s)", opt_noop},
	{"timeout", "TIME", "for a reply (60s)", opt_timeout},
	{"size", "SPEC", "of a message: 10K, 4K-64K, ~10K:1.2 (log-normal), 80%10K,20%1M (10K)",
	 opt_size},
	{"recipients", "N", "a message (1)", opt_recipients},
	{"pipelining", "on|off", "MAIL, RCPT and DATA at once (on)", opt_pipelining},
	{"bdat", "on|off", "CHUNKING in place of DATA (off)", opt_bdat},
	{"from", "ADDR", "reverse-path (the user)", opt_from},
	{"to", "ADDR", "forward-path; % is a number (user%@example.org)", opt_to},
	{"name", "NAME", "the server's, for SNI", opt_name},
	{"tls", "1.2|1.3", "highest version (1.3)", opt_tls},
	{"resume", "SHARE", "of handshakes that resume a session, 0.5 or 50%", opt_resume},
	{"records", "openssl|native", "who seals them, with a DPDK device (openssl)", opt_records},
	{"threads", "N", "for handshakes, with a DPDK device (1)", opt_threads},
	{"ca", "FILE", "verify the server by it", opt_ca},
	{"auth", "plain|scram|none", "login (plain when there is a user)", opt_auth},
	{"user", "NAME", "of the login", opt_user},
	{"password-file", "FILE", "its first line", opt_password_file},
	{"slo", "[METRIC:]pN<TIME",
	 "search the highest rate that holds it, a warmup and a duration a step: p99<20ms",
	 opt_slo},
	{"json", "FILE", "results for programs", opt_json},
	{"html", "FILE", "results with plots, one file", opt_html},
	{"compare", "FILE", "JSON of an earlier run, for the report; up to 8 times", opt_compare},
	{"label", "TEXT", "the run's name in reports", opt_label},
	{"ids", "FILE", "numbers of the messages that were accepted", opt_ids},
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static void help(FILE *f)
{
	fprintf(f, "postern-bench - load for any server of mail submission\n\n"
		   "  postern-bench [OPTION]... smtps://HOST:PORT   TLS from the first octet\n"
		   "  postern-bench [OPTION]... smtp://HOST:PORT    STARTTLS\n"
		   "  postern-bench [OPTION]... plain://HOST:PORT   in clear\n"
		   "  postern-bench --check-ids ACCEPTED ARRIVED    what was lost, what came "
		   "twice\n\n");
	for (unsigned i = 0; i < ROWS; i++)
		fprintf(f, "  --%-14s %-18s %s\n", rows[i].name, rows[i].value, rows[i].help);
	fprintf(f, "  --%-14s %-18s %s\n", "quiet", "", "no line a second on standard error");
}

static bool read_target(struct bench_options *o, const char *text)
{
	static const struct {
		const char *scheme;
		bool implicit, starttls;
		uint16_t port;
	} schemes[] = {{"smtps://", true, false, 465},
		       {"smtp://", false, true, 587},
		       {"plain://", false, false, 25}};
	char host[ADDR_TEXT_BYTES];

	for (unsigned i = 0; i < 3; i++) {
		size_t n = strlen(schemes[i].scheme);
		if (strncmp(text, schemes[i].scheme, n) != 0)
			continue;
		o->implicit = schemes[i].implicit;
		o->starttls = schemes[i].starttls;
		o->port = schemes[i].port;
		const char *from = text + n, *to = from + strcspn(from, ":/");
		if (*from == '[') {
			from++;
			to = from + strcspn(from, "]");
		}
		if ((size_t)(to - from) >= sizeof(host))
			return false;
		memcpy(host, from, (size_t)(to - from));
		host[to - from] = '\0';
		to += *to == ']';
		unsigned port;
		if (*to == ':') {
			if (!read_unsigned(to + 1, 1, 65535, &port))
				return false;
			o->port = (uint16_t)port;
		} else if (*to != '\0') {
			return false;
		}
		return addr_parse(host, &o->target);
	}
	return false;
}

static int refuse(const char *what, const char *value, const char *remedy)
{
	fprintf(stderr, "postern-bench: %s%s%s; %s\n", what, value[0] != '\0' ? " " : "", value,
		remedy);
	return -EINVAL;
}

static void defaults(struct bench_options *o)
{
	*o = (struct bench_options){
		.kernel = true,
		.mtu = 1500,
		.memory = 64 << 20,
		.sessions = 10,
		.messages = 20,
		.poisson = true,
		.opening = 128,
		.duration_us = 10000000,
		.warmup_us = 2000000,
		.noop_us = 60000000,
		.timeout_us = 60000000,
		.recipients = 1,
		.pipelining = true,
		.threads = 1,
		.n_workers = 1,
		.label = "run",
		.size = {{.weight = 1, .from = 10240, .to = 10240}},
		.n_sizes = 1,
		.to = "user%@example.org",
	};
}

/* What one option alone cannot know. */
static int judge(struct bench_options *o)
{
	if (o->auth != BENCH_AUTH_NONE && (o->user[0] == '\0' || o->password[0] == '\0'))
		return refuse("--auth needs --user and --password-file", "", "give both");
	if (o->auth != BENCH_AUTH_NONE && !o->implicit && !o->starttls)
		return refuse("no password goes over plain://", "", "use --auth none");
	if (!o->kernel && o->n_addresses == 0)
		return refuse("a DPDK device needs", "--address", "give our address there");
	for (unsigned i = 0; i < o->n_addresses; i++)
		if (o->address[i].addr.family != o->target.family)
			return refuse("--address and the target are of two families", "",
				      "choose one");
	if (o->resume > 0 && o->native_records)
		return refuse("--resume needs", "--records openssl",
			      "a taken over session has no ticket");
	if (o->slo.wanted && o->mode == BENCH_HOLD)
		return refuse("--slo does not go with", "--mode hold", "choose another mode");
	if (o->ca_file != NULL && o->name[0] == '\0')
		return refuse("--ca needs", "--name", "there is no name to verify");
	if (o->sessions < o->n_workers)
		return refuse("--sessions", "", "at least one for each of --cores");
	if (o->from[0] == '\0')
		snprintf(o->from, sizeof(o->from), "%.230s%s",
			 o->user[0] != '\0' ? o->user : "bench",
			 strchr(o->user, '@') != NULL ? "" : "@example.net");
	return 0;
}

int options_read(struct bench_options *o, int argc, char **argv)
{
	bool auth_given = false;
	int at = 1;

	defaults(o);
	for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
		const char *name = argv[at] + 2;
		unsigned i = 0;

		if (strcmp(name, "help") == 0) {
			help(stdout);
			return 1;
		}
		if (strcmp(name, "check-ids") == 0 && at + 2 < argc) {
			o->accepted = argv[at + 1];
			o->arrived = argv[at + 2];
			return 0;
		}
		if (strcmp(name, "quiet") == 0) {
			o->quiet = true;
			continue;
		}
		while (i < ROWS && strcmp(name, rows[i].name) != 0)
			i++;
		if (i == ROWS)
			return refuse("unknown option", argv[at], "see --help");
		if (at + 1 == argc)
			return refuse(argv[at], rows[i].value, "the value is missing");
		if (!rows[i].read(o, argv[++at]))
			return refuse(argv[at - 1], argv[at], rows[i].help);
		auth_given |= rows[i].read == opt_auth;
	}
	if (at + 1 != argc || !read_target(o, argv[at]))
		return refuse("a target is needed", at < argc ? argv[at] : "",
			      "for example smtps://192.0.2.10:465");
	if (!auth_given && o->user[0] != '\0')
		o->auth = BENCH_AUTH_PLAIN;
	return judge(o);
}
