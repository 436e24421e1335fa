/* spool.c - posternctl spool: a spool directory verified, shown, repaired, without the daemon */
#include "control/cli/cli.h"
#include "control/config.h"
#include "smtp/spool/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ERROR_BYTES = 512, COPY_BYTES = 65536, STEP_NS = 1000000 };

struct dump {
	spool_id_t id; /* 0: all */
	const char *directory;
	json_t *found;    /* the message asked for */
	uint8_t *content; /* prefix and, if it is not large, body */
	size_t bytes;
	bool large;
};

static const char *directory_of(const struct cli *c, struct config *config)
{
	if (c->arguments > 0)
		return c->argument[0];
	return cli_config(c, config) ? config->spool.directory : NULL;
}

static int failed(const char *error)
{
	fprintf(stderr, "posternctl: %s\n", error);
	return CLI_FAILED;
}

static void print_fault(void *arg, const char *file, uint64_t at, uint64_t n, const char *what)
{
	const struct cli *c = arg;

	if (c->json) {
		json_t *j = json_pack("{s:s, s:I, s:I, s:s}", "file", file, "at", (json_int_t)at,
				      "bytes", (json_int_t)n, "fault", what);
		json_dumpf(j, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(j);
	} else if (n > 0) {
		printf("%s: bytes %" PRIu64 " to %" PRIu64 ": %s\n", file, at, at + n, what);
	} else {
		printf("%s: %s\n", file, what);
	}
}

static json_t *sums_json(const struct inspect_sums *s)
{
	const struct {
		const char *name;
		uint64_t value;
	} rows[] = {
		{"segments", s->segments},
		{"bytes", s->bytes},
		{"records", s->records},
		{"messages", s->messages},
		{"dispositions", s->dispositions},
		{"live", s->live},
		{"live_bytes", s->live_bytes},
		{"bodies", s->bodies},
		{"bodies_orphaned", s->bodies_orphaned},
		{"bodies_missing", s->bodies_missing},
		{"damaged", s->damaged},
		{"damaged_bytes", s->damaged_bytes},
		{"torn_bytes", s->torn_bytes},
		{"unreadable", s->unreadable},
		{"set_aside", s->set_aside},
	};
	json_t *j = json_object();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		json_object_set_new(j, rows[i].name, json_integer((json_int_t)rows[i].value));
	json_object_set_new(j, "in_use", json_boolean(s->in_use));
	if (s->holder != 0)
		json_object_set_new(j, "holder", json_integer(s->holder));
	json_object_set_new(j, "good", json_boolean(!inspect_bad(s)));
	return j;
}

int cli_spool_check(const struct cli *c)
{
	static struct config config;
	struct inspect_view view = {.arg = (void *)(uintptr_t)c, .fault = print_fault};
	struct inspect_sums sums;
	char error[ERROR_BYTES];
	const char *directory = directory_of(c, &config);

	if (directory == NULL)
		return CLI_FAILED;
	if (inspect_spool(directory, &spool_io_linux, &view, &sums, error, sizeof(error)) < 0)
		return failed(error);
	json_t *j = sums_json(&sums);
	if (c->json) {
		json_dumpf(j, stdout, JSON_COMPACT);
		putchar('\n');
	} else {
		cli_print_table(j);
	}
	json_decref(j);
	return inspect_bad(&sums) ? CLI_FAILED : CLI_DONE;
}

/* An address may hold any octets but NUL, CR and LF. */
static json_t *text_json(struct envelope_text t)
{
	json_t *j = json_stringn(t.at != NULL ? t.at : "", t.bytes);

	return j != NULL ? j : json_string("(not UTF-8)");
}

static json_t *recipients_json(const struct inspect_record *r)
{
	const uint8_t *envelope = r->payload + MESSAGE_HEAD_BYTES;
	struct envelope_recipient to;
	size_t cursor = 0;
	json_t *all = json_array();

	while (envelope_next_recipient(envelope, r->message.envelope_bytes, &cursor, &to))
		json_array_append_new(all, text_json(to.path));
	return all;
}

static json_t *record_json(const struct inspect_record *r)
{
	char id[SPOOL_ID_TEXT];
	json_t *j = json_pack("{s:s, s:I, s:I, s:I, s:I}", "id", spool_id_text(r->head.id, id),
			      "segment", (json_int_t)r->segment, "offset", (json_int_t)r->offset,
			      "sequence", (json_int_t)r->head.sequence, "bytes",
			      (json_int_t)r->head.payload_bytes);

	if (r->head.type == RECORD_MESSAGE) {
		const struct envelope *e = &r->envelope;
		json_object_set_new(j, "type", json_string("message"));
		json_object_set_new(j, "sender", text_json(e->reverse_path));
		json_object_set_new(j, "recipients", recipients_json(r));
		json_object_set_new(j, "user", text_json(e->user));
		json_object_set_new(j, "accepted_at", json_integer(e->accepted_at_s));
		json_object_set_new(j, "hold_until", json_integer(e->hold_until_s));
		json_object_set_new(j, "body_bytes",
				    json_integer((json_int_t)r->message.body_bytes));
		json_object_set_new(j, "large", json_boolean(r->message.large));
		return j;
	}
	const struct disposition_head *d = &r->disposition;
	json_object_set_new(j, "type", json_string("disposition"));
	json_object_set_new(j, "last", json_boolean(d->last));
	json_object_set_new(j, "attempts", json_integer(d->attempts));
	json_object_set_new(j, "held", json_boolean(d->held));
	json_object_set_new(j, "retry_at", json_integer(d->retry_at_s));
	json_t *done = json_array();
	for (uint32_t i = 0; r->done != NULL && i < d->recipients; i++)
		if ((r->done[i / 8] & 1u << i % 8) != 0)
			json_array_append_new(done, json_integer(i));
	json_object_set_new(j, "done", done);
	return j;
}

static void print_json(const json_t *j)
{
	json_dumpf(j, stdout, JSON_COMPACT);
	putchar('\n');
}

static void dump_record(void *arg, const struct inspect_record *r)
{
	struct dump *d = arg;

	if (d->id != 0 && r->head.id != d->id)
		return;
	json_t *j = record_json(r);
	if (d->id == 0 || r->head.type != RECORD_MESSAGE) {
		print_json(j);
		json_decref(j);
		return;
	}
	/* the newest copy counts */
	size_t from = MESSAGE_HEAD_BYTES + r->message.envelope_bytes;
	json_decref(d->found);
	free(d->content);
	d->found = j;
	d->large = r->message.large;
	d->bytes = r->head.payload_bytes - from;
	d->content = malloc(d->bytes + 1);
	if (d->content != NULL)
		memcpy(d->content, r->payload + from, d->bytes);
}

static int print_body(const struct dump *d)
{
	static char buffer[COPY_BYTES];
	char path[4096], id[SPOOL_ID_TEXT];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s.body", d->directory, spool_id_text(d->id, id));
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	while (fd >= 0 && (n = read(fd, buffer, sizeof(buffer))) > 0)
		fwrite(buffer, 1, (size_t)n, stdout);
	if (fd < 0 || n < 0) {
		fprintf(stderr, "posternctl: %s: %s\n", path, strerror(errno));
		return CLI_FAILED;
	}
	close(fd);
	return CLI_DONE;
}

/* The envelope on a line, an empty line, then the content as it is. */
static int print_message(const struct dump *d)
{
	if (d->found == NULL || d->content == NULL)
		return failed(d->found == NULL ? "there is no record of a message with this id"
					       : "out of memory");
	print_json(d->found);
	putchar('\n');
	fwrite(d->content, 1, d->bytes, stdout);
	return d->large ? print_body(d) : CLI_DONE;
}

static bool read_id(const struct cli *c, spool_id_t *id)
{
	for (int i = 0; cli_abouts[i].option != NULL; i++) {
		char *end;
		if (strcmp(cli_abouts[i].option, "id") != 0 || c->about[i] == NULL)
			continue;
		*id = strtoull(c->about[i], &end, 16);
		return *end == '\0' && *id != 0;
	}
	return true;
}

int cli_spool_dump(const struct cli *c)
{
	static struct config config;
	struct dump d = {.directory = directory_of(c, &config)};
	struct inspect_view view = {.arg = &d, .record = dump_record};
	struct inspect_sums sums;
	char error[ERROR_BYTES];

	if (d.directory == NULL)
		return CLI_FAILED;
	if (!read_id(c, &d.id))
		return failed("--id is the hexadecimal number of a message");
	int code = CLI_DONE;
	if (inspect_spool(d.directory, &spool_io_linux, &view, &sums, error, sizeof(error)) < 0)
		code = failed(error);
	else if (d.id != 0)
		code = print_message(&d);
	json_decref(d.found);
	free(d.content);
	if (fflush(stdout) != 0)
		code = failed("standard output cannot be written");
	return code;
}

static void count_found(void *arg, const struct spool_found *f)
{
	(*(uint64_t *)arg)++;
}

/* What the gateway's start would do, without a gateway. */
int cli_spool_repair(const struct cli *c)
{
	static struct config config;
	struct spool_config sc = {.directory = directory_of(c, &config),
				  .max_size = UINT64_MAX / 2,
				  .segment_size = 4 << 20,
				  .readers = 1,
				  .io = &spool_io_linux};
	struct spool_progress p = {0};
	struct spool_status st;
	struct timespec step = {.tv_nsec = STEP_NS};
	uint64_t found = 0;
	char error[ERROR_BYTES];
	struct spool *sp;

	if (sc.directory == NULL)
		return CLI_FAILED;
	if (spool_open(&sp, &sc, error, sizeof(error)) < 0)
		return failed(error);
	int rc = spool_start(sp);
	while (rc == 0 && p.stage < SPOOL_RECOVERY_DONE) {
		if (spool_poll_found(sp, count_found, &found) == 0)
			nanosleep(&step, NULL);
		spool_recovery_progress(sp, &p);
	}
	spool_status(sp, &st);
	spool_close(sp);
	if (rc < 0 || p.stage != SPOOL_RECOVERY_DONE)
		return failed("recovery has failed; what was found wrong stands above");
	json_t *j = json_pack("{s:I, s:I, s:I, s:I}", "messages", (json_int_t)found, "torn_bytes",
			      (json_int_t)st.torn_bytes, "set_aside", (json_int_t)st.quarantined,
			      "segments", (json_int_t)st.segments);
	if (c->json)
		print_json(j);
	else
		cli_print_table(j);
	json_decref(j);
	return CLI_DONE;
}
