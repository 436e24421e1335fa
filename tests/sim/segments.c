/* segments.c - runs scripts of segments: one TAP line a script, file:line where one fails */
#include "tests/sim/segments.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_BYTES = 512, FILES = 2048 };

void seg_fail(struct run *r, const char *format, ...)
{
	va_list args;

	if (r->failed)
		return;
	r->failed = true;
	printf("# %s:%d: ", r->file, r->line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
}

static const struct {
	const char *name;
	int64_t factor;
} units[] = {{"us", 1}, {"ms", 1000}, {"s", 1000000}, {"m", 60000000}, {"h", 3600000000}};

static bool factor(const char **at, int64_t *value)
{
	char *end;

	*value = (int64_t)strtoull(*at, &end, 0);
	if (end == *at)
		return false;
	for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = strlen(units[i].name);
		if (strncmp(end, units[i].name, n) == 0 && (end[n] == 0 || strchr("+-*", end[n]))) {
			*value *= units[i].factor;
			end += n;
			break;
		}
	}
	*at = end;
	return true;
}

static bool product(const char **at, int64_t *value)
{
	int64_t next;

	if (!factor(at, value))
		return false;
	while (**at == '*') {
		++*at;
		if (!factor(at, &next))
			return false;
		*value *= next;
	}
	return true;
}

bool seg_number(const char *text, int64_t *value)
{
	int64_t next;

	if (!product(&text, value))
		return false;
	while (*text == '+' || *text == '-') {
		bool minus = *text++ == '-';
		if (!product(&text, &next))
			return false;
		*value += minus ? -next : next;
	}
	return *text == '\0';
}

int64_t seg_value(struct run *r, const char *text)
{
	int64_t v = 0;

	if (text == NULL || !seg_number(text, &v))
		seg_fail(r, "not a number: %s", text != NULL ? text : "nothing");
	return v;
}

const char *seg_option(const struct run *r, const char *name)
{
	size_t n = strlen(name);

	for (unsigned i = 1; i < r->words; i++) {
		if (strncmp(r->word[i], name, n) == 0 && r->word[i][n] == '=')
			return r->word[i] + n + 1;
	}
	return NULL;
}

int64_t seg_option_value(struct run *r, const char *name, int64_t otherwise)
{
	const char *text = seg_option(r, name);

	return text != NULL ? seg_value(r, text) : otherwise;
}

bool seg_has(const struct run *r, const char *word)
{
	for (unsigned i = 1; i < r->words; i++) {
		if (strcmp(r->word[i], word) == 0)
			return true;
	}
	return false;
}

static uint64_t draw(void *arg)
{
	return ((struct run *)arg)->draw;
}

struct tcpe_addr seg_address(const struct run *r, bool peer)
{
	uint8_t last = peer ? 2 : 1;

	if (r->family == 4)
		return (struct tcpe_addr){4, {192, 0, 2, last}, peer ? r->now->port : SEG_PORT};
	return (struct tcpe_addr){
		6, {0x20, 1, 0xd, 0xb8, [15] = last}, peer ? r->now->port : SEG_PORT};
}

struct tcpe_stack *seg_stack(struct run *r)
{
	int err;

	if (r->st != NULL)
		return r->st;
	r->config.local[0] = seg_address(r, false);
	r->config.n_local = 1;
	r->st = tcpe_create(&r->config, &err);
	if (r->st == NULL) {
		seg_fail(r, "the stack refuses this configuration: %d", err);
		exit(1);
	}
	return r->st;
}

/* Plain by default: a script asks for the options that it is about. */
static void set_defaults(struct run *r)
{
	tcpe_config_default(&r->config);
	r->config.sack = r->config.timestamps = r->config.window_scaling = false;
	r->config.random_iss = r->config.random_ts_offset = false;
	r->config.cc = TCPE_CC_RENO;
	r->config.now_us = SEG_START_US;
	r->config.rng = draw;
	r->config.rng_arg = r;
	r->config.rcvbuf = 32768;
	r->config.rcvbuf_autotune = false;
	r->config.max_socks = 64;
	r->draw = 5000;
	r->family = 4;
	r->window = 65535;
	r->now = &r->peer[0];
	r->peers = 1;
	*r->now = (struct peer){.port = SEG_PEER_PORT, .stack_port = SEG_PORT, .iss = 1000};
}

static void run_line(struct run *r, char *line);

/* Lines that most scripts begin with; what the script adds goes to the peer's SYN. */
static void run_all(struct run *r, const char *const *lines)
{
	char more[LINE_BYTES] = "", line[2 * LINE_BYTES];

	for (unsigned i = 1; i < r->words; i++) {
		size_t n = strlen(more);
		snprintf(more + n, sizeof(more) - n, " %s", r->word[i]);
	}
	if (strstr(more, " mss=") == NULL)
		strncat(more, " mss=1460", sizeof(more) - strlen(more) - 1);
	for (; *lines != NULL && !r->failed; lines++) {
		bool syn = strncmp(*lines, "in S", 4) == 0;
		snprintf(line, sizeof(line), "%s%s", *lines, syn ? more : "");
		run_line(r, line);
	}
}

static void establish(struct run *r)
{
	static const char *const lines[] = {"listen",       "in S 0", "out SA 0 ack=1",
					    "in A 1 ack=1", "accept", NULL};

	run_all(r, lines);
}

static void establish_active(struct run *r)
{
	static const char *const lines[] = {"connect",       "out S 0",     "in SA 0 ack=1",
					    "out A 1 ack=1", "connect = 0", NULL};

	run_all(r, lines);
}

static const struct seg_command packets[] = {
	{"establish", establish, false}, {"establish-active", establish_active, false},
	{"in", seg_in, false},           {"icmp", seg_icmp, false},
	{"out", seg_out, true},          {"burst", seg_burst, true},
	{"none", seg_none, true},        {"drain", seg_drain, false},
};

static const struct seg_command *find(const char *name)
{
	for (unsigned i = 0; i < sizeof(packets) / sizeof(packets[0]); i++) {
		if (strcmp(packets[i].name, name) == 0)
			return &packets[i];
	}
	return seg_call(name);
}

static void run_line(struct run *r, char *line)
{
	char *rest = line, *word;

	line[strcspn(line, "#\n")] = '\0';
	r->words = 0;
	while ((word = strtok_r(rest, " \t", &rest)) != NULL) {
		if (r->words == SEG_WORDS) {
			seg_fail(r, "too many words");
			return;
		}
		r->word[r->words++] = word;
	}
	if (r->words == 0)
		return;
	const struct seg_command *c = find(r->word[0]);
	if (c == NULL) {
		seg_fail(r, "no such command: %s", r->word[0]);
		return;
	}
	r->checks += c->checks;
	c->run(r);
}

static void run_lines(struct run *r, FILE *f)
{
	char line[LINE_BYTES];

	while (!r->failed && fgets(line, sizeof(line), f) != NULL) {
		r->line++;
		if (r->line == 1 && strncmp(line, "# RFC ", 6) != 0)
			seg_fail(r, "the first line says which RFC section is proved");
		else
			run_line(r, line);
	}
	r->line++;
	if (!r->failed)
		seg_none(r); /* nothing is left over */
	if (!r->failed && r->checks == 0)
		seg_fail(r, "the script checks nothing");
}

static bool run_file(const char *file)
{
	struct run *r = calloc(1, sizeof(*r));
	FILE *f = fopen(file, "r");

	if (r == NULL || f == NULL) {
		printf("# %s: cannot be read\n", file);
		free(r);
		return false;
	}
	r->file = file;
	set_defaults(r);
	run_lines(r, f);
	fclose(f);
	tcpe_destroy(r->st);
	bool good = !r->failed;
	free(r);
	return good;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The scripts of a folder, or a script. */
static unsigned collect(const char *path, char **files)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	if (d == NULL) {
		files[0] = strdup(path);
		return 1;
	}
	for (struct dirent *e; (e = readdir(d)) != NULL && n < FILES;) {
		size_t length = strlen(e->d_name);
		if (length < 5 || strcmp(e->d_name + length - 4, ".seg") != 0)
			continue;
		if (asprintf(&files[n], "%s/%s", path, e->d_name) < 0)
			abort();
		n++;
	}
	closedir(d);
	qsort(files, n, sizeof(*files), by_name);
	return n;
}

/* segments [--wrong] FOLDER|FILE: with --wrong each script has to fail. */
int main(int argc, char **argv)
{
	bool wrong = argc > 2 && strcmp(argv[1], "--wrong") == 0;
	char *files[FILES];
	unsigned n = argc > 1 ? collect(argv[argc - 1], files) : 0, bad = n == 0;

	printf("1..%u\n", n);
	for (unsigned i = 0; i < n; i++) {
		const char *name = strrchr(files[i], '/');
		bool good = run_file(files[i]) != wrong;
		bad += !good;
		printf("%s %u - %s\n", good ? "ok" : "not ok", i + 1,
		       name != NULL ? name + 1 : files[i]);
		free(files[i]);
	}
	return bad > 0;
}
