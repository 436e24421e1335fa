/* test_records.c - every kind of record, made by real sessions and deliveries, has exactly the
 * fields that control/RECORDS.md says it has */
#include "base/record.h"
#include "tests/unit/manage_kit.h"

#include <jansson.h>

enum { KINDS = 8, RING = 1 << 20 };

static const char *const kinds[KINDS] = {"reception", "rejection",  "delivery", "transient_failure",
					 "bounce",    "expiration", "delay",    "admin"};

static json_t *documented[KINDS], *seen[KINDS];

static bool names(const char *list, size_t n, const char *kind)
{
	size_t k = strlen(kind);

	for (size_t i = 0; i + k <= n; i++) {
		bool begins = i == 0 || list[i - 1] == ' ', ends = i + k == n || list[i + k] == ',';
		if (begins && ends && strncmp(list + i, kind, k) == 0)
			return true;
	}
	return false;
}

/* "all", "all but a, b", "a, b" */
static bool is_of(const char *list, size_t n, const char *kind)
{
	if (n == 3 && strncmp(list, "all", 3) == 0)
		return true;
	if (n > 8 && strncmp(list, "all but ", 8) == 0)
		return !names(list + 8, n - 8, kind);
	return names(list, n, kind);
}

/* "| a, b | of | what |" */
static void read_row(const char *line)
{
	const char *of = strstr(line + 2, " | "), *what = of != NULL ? strstr(of + 3, " | ") : NULL;
	char fields[300];

	if (what == NULL)
		return;
	snprintf(fields, sizeof(fields), "%.*s", (int)(of - line - 2), line + 2);
	for (unsigned k = 0; k < KINDS; k++) {
		char copy[300], *save = NULL;
		snprintf(copy, sizeof(copy), "%s", fields);
		if (!is_of(of + 3, (size_t)(what - of - 3), kinds[k]))
			continue;
		for (char *f = strtok_r(copy, ", ", &save); f != NULL;
		     f = strtok_r(NULL, ", ", &save))
			json_object_set_new(documented[k], f, json_true());
	}
}

static void read_document(void)
{
	FILE *f = fopen(RECORDS_DOCUMENT, "r");
	char line[1000];
	bool table = false;

	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL) {
		table = strncmp(line, "| field |", 9) == 0 || (table && line[0] == '|');
		if (table && strncmp(line, "| field |", 9) != 0 && strncmp(line, "| ---", 5) != 0)
			read_row(line);
	}
	fclose(f);
}

static void note(const char *line, size_t n)
{
	json_t *r = json_loadb(line, n, JSON_REJECT_DUPLICATES, NULL), *v;
	const char *type = json_string_value(json_object_get(r, "type")), *key;
	unsigned k = 0;

	assert_non_null(type);
	while (k < KINDS && strcmp(kinds[k], type) != 0)
		k++;
	if (k == KINDS)
		fail_msg("no such kind: %s", type);
	json_object_foreach(r, key, v) json_object_set(seen[k], key, v);
	json_decref(r);
}

static void take(struct mail *m)
{
	static char text[RING];
	size_t n = records_take(m->records, text, sizeof(text));

	assert_int_equal(records_lost(m->records), 0);
	for (char *at = text, *end; at < text + n; at = end + 1) {
		end = memchr(at, '\n', (size_t)(text + n - at));
		note(at, (size_t)(end - at));
	}
}

static struct bench recorded_bench(void)
{
	struct mail_options o;

	mail_options_default(&o);
	o.records = true;
	o.tenant = "acme";
	o.smtp.n_classes = 1;
	o.smtp.classes[0].rate[SMTP_USER][SMTP_RECIPIENTS] = (struct quota_rate){40, hour_us};
	o.relay.pools[0].hops[0].tls = RELAY_TLS_REQUIRED;
	o.relay.pools[1] = o.relay.pools[0];
	snprintf(o.relay.pools[1].name, RELAY_NAME, "partner");
	o.relay.n_pools = 2;
	struct bench b = bench_with(&o);
	b.h->starttls = true;
	return b;
}

static void outcomes(struct bench *b)
{
	hop_rule(b->h,
		 (struct hop_rule){.stage = HOP_FINAL, .reply = "450 4.2.0 x\r\n", .times = 1});
	hop_rule(b->h,
		 (struct hop_rule){.stage = HOP_FINAL, .reply = "550 5.7.0 x\r\n", .times = 1});
	submit(b, "<alice@x.y> RET=HDRS", "<a@x.y> NOTIFY=FAILURE", TEXT);
	assert_true(drained(b, hour_us));
	submit(b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(b, MINUTE));
	hop_rules_clear(b->h);
	take(b->m);
}

static void rejections(struct bench *b)
{
	struct peer *p = peer_login(b->m);
	char line[100];

	expect_cmd(p, "MAIL FROM:<alice@x.y>", "250");
	for (unsigned i = 0; i < 50; i++) {
		snprintf(line, sizeof(line), "RCPT TO:<r%u@x.y>", i);
		peer_cmd(p, line);
	}
	peer_free(p);
	take(b->m);
}

/* Nobody takes it: it is put off, its sender is told, and it ends. */
static void delay_and_expiration(struct bench *b)
{
	hop_rule(b->h,
		 (struct hop_rule){.stage = HOP_RCPT, .match = "late@", .reply = "450 no\r\n"});
	mail_run(b->m, hour_us);
	submit(b, "<alice@x.y>", "<late@x.y> NOTIFY=DELAY", TEXT);
	assert_true(drained(b, 6 * day_us));
	hop_rules_clear(b->h);
	take(b->m);
}

static void orders(struct bench *b)
{
	hop_rule(b->h,
		 (struct hop_rule){.stage = HOP_RCPT, .match = "late@", .reply = "450 no\r\n"});
	submit(b, "<alice@x.y>", "<late@x.y>", TEXT);
	mail_run(b->m, MAIL_SECOND);
	assert_int_equal(order(b, RELAY_ROUTE, all, "partner", RELAY_DONE), 1);
	mail_run(b->m, MAIL_SECOND);
	assert_int_equal(order(b, RELAY_BOUNCE, all, NULL, RELAY_DONE), 1);
	assert_true(drained(b, MINUTE));
	hop_rules_clear(b->h);
	take(b->m);
}

static void expect_same(unsigned k)
{
	const char *key;
	json_t *v;

	json_object_foreach(seen[k], key, v)
	{
		if (json_object_get(documented[k], key) == NULL)
			fail_msg("%s: the field %s is in no row of the table", kinds[k], key);
	}
	json_object_foreach(documented[k], key, v)
	{
		if (json_object_get(seen[k], key) == NULL)
			fail_msg("%s: no record had the field %s of the table", kinds[k], key);
	}
}

static void each_kind_has_the_fields_of_its_document_and_no_others(void **state)
{
	for (unsigned k = 0; k < KINDS; k++) {
		documented[k] = json_object();
		seen[k] = json_object();
	}
	read_document();
	struct bench b = recorded_bench();
	outcomes(&b);
	rejections(&b);
	delay_and_expiration(&b);
	orders(&b);
	for (unsigned k = 0; k < KINDS; k++) {
		expect_same(k);
		json_decref(documented[k]);
		json_decref(seen[k]);
	}
	bench_end(&b);
}

static void what_a_delivery_tells_is_true(void **state)
{
	struct bench b = recorded_bench();
	char text[4096];

	submit(&b, "<alice@x.y>", "<a@x.y>", TEXT);
	assert_true(drained(&b, MINUTE));
	size_t n = records_take(b.m->records, text, sizeof(text));
	const char *last = memrchr(text, '\n', n - 1);
	json_t *r = json_loadb(last + 1, (size_t)(text + n - last - 2), 0, NULL);
	const struct {
		const char *key, *value;
	} rows[] = {
		{"type", "delivery"},   {"protocol", "smtp"},    {"command", "content"},
		{"pool", "default"},    {"hop_name", "mx.test"}, {"hop_tls_version", "TLS1.3"},
		{"recipient", "a@x.y"}, {"user", "alice"},
	};
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(json_string_value(json_object_get(r, rows[i].key)),
				    rows[i].value);
	assert_int_equal(json_integer_value(json_object_get(r, "response_code")), 250);
	assert_int_equal(json_integer_value(json_object_get(r, "nth")), 1);
	assert_true(json_integer_value(json_object_get(r, "connect_us")) > 0);
	assert_true(json_integer_value(json_object_get(r, "envelope_us")) > 0);
	assert_true(json_integer_value(json_object_get(r, "content_us")) > 0);
	json_decref(r);
	bench_end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_kind_has_the_fields_of_its_document_and_no_others),
		cmocka_unit_test(what_a_delivery_tells_is_true),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
