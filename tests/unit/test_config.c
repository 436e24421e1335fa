/* test_config.c - the configuration file: what is accepted, and the exact words for what is not */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char good_file[] =
	"hostname: submit.example.net\n"                                               /* 1 */
	"dataplane:\n"                                                                 /* 2 */
	"  workers: [1, 2]\n"                                                          /* 3 */
	"  idle: poll\n"                                                               /* 4 */
	"  memory: 256M\n"                                                             /* 5 */
	"  hugepages: \"off\"\n"                                                       /* 6 */
	"  ports:\n"                                                                   /* 7 */
	"    - device: net_af_packet0,iface=gw0\n"                                     /* 8 */
	"      addresses: [192.0.2.10/24, 198.51.100.1/31]\n"                          /* 9 */
	"      gateways: [192.0.2.1]\n"                                                /* 10 */
	"      mtu: 1400\n"                                                            /* 11 */
	"      vlan: 7\n"                                                              /* 12 */
	"      steering: software\n"                                                   /* 13 */
	"  limits: {sessions: 1000, sessions_per_address: 10, exempt: [10.0.0.0/8]}\n" /* 14 */
	"listeners:\n"                                                                 /* 15 */
	"  - {name: submissions, port: 465, tls: implicit}\n"                          /* 16 */
	"  - {name: submission, port: 587, tls: starttls}\n"                           /* 17 */
	"tls:\n"                                                                       /* 18 */
	"  threads: 2\n"                                                               /* 19 */
	"  certificates:\n"                                                            /* 20 */
	"    - {chain: /etc/postern/chain.pem, key: /etc/postern/key.pem}\n"           /* 21 */
	"  minimum: \"1.3\"\n"                                                         /* 22 */
	"auth:\n"                                                                      /* 23 */
	"  mechanisms: [LOGIN]\n"                                                      /* 24 */
	"  users: /etc/postern/users\n"                                                /* 25 */
	"  failures: {delay: 1500ms, per_address: 3/s, per_user: off}\n"               /* 26 */
	"submission:\n"                                                                /* 27 */
	"  max_message_size: 20M\n"                                                    /* 28 */
	"  timeouts: {command: 2m}\n"                                                  /* 29 */
	"spool:\n"                                                                     /* 30 */
	"  directory: /var/spool/postern\n"                                            /* 31 */
	"  commit: {max_delay: 0, max_bytes: 4M}\n"                                    /* 32 */
	"relay:\n"                                                                     /* 33 */
	"  pools:\n"                                                                   /* 34 */
	"    - name: default\n"                                                        /* 35 */
	"      next_hops:\n"                                                           /* 36 */
	"        - {address: 192.0.2.1, name: mta1.example.net, tls: required}\n"      /* 37 */
	"        - {address: 192.0.2.2, port: 2525}\n"                                 /* 38 */
	"      retry: {first: 30s, max: 2h}\n"                                         /* 39 */
	"  routes: [{match: \"*\", pool: default}]\n"                                  /* 40 */
	"control:\n"                                                                   /* 41 */
	"  socket: /run/postern/control.sock\n"                                        /* 42 */
	"  http: 127.0.0.1:9587\n"                                                     /* 43 */
	"  log: {level: debug}\n";                                                     /* 44 */

static int parse(struct config *c, const char *text, struct config_errors *e)
{
	return config_parse(c, text, strlen(text), "p.yaml", CONFIG_FILE_ONLY, e);
}

/* good_file with the first occurrence of find replaced */
static char *edited(const char *find, const char *replace)
{
	const char *at = strstr(good_file, find);
	char *text = calloc(1, sizeof(good_file) + strlen(replace));

	assert_non_null(at);
	assert_non_null(text);
	memcpy(text, good_file, (size_t)(at - good_file));
	strcat(text, replace);
	strcat(text, at + strlen(find));
	return text;
}

static void every_value_reaches_its_field(void **state)
{
	struct config c;
	struct config_errors e;
	char text[ADDR_TEXT_BYTES];

	if (parse(&c, good_file, &e) != 0)
		config_errors_print(&e, stderr);
	assert_int_equal(e.count, 0);
	assert_string_equal(c.hostname, "submit.example.net");
	assert_int_equal(c.dataplane.worker_count, 2);
	assert_int_equal(c.dataplane.worker[1], 2);
	assert_int_equal(c.dataplane.idle, CONFIG_IDLE_POLL);
	assert_int_equal(c.dataplane.memory, 256 << 20);
	assert_int_equal(c.dataplane.hugepages, CONFIG_HUGEPAGES_OFF);
	const struct config_port *p = &c.dataplane.port[0];
	assert_string_equal(p->device, "net_af_packet0,iface=gw0");
	assert_int_equal(p->address_count, 2);
	assert_string_equal(addr_text(&p->address[1].addr, text), "198.51.100.1");
	assert_int_equal(p->address[1].bits, 31);
	assert_string_equal(addr_text(&p->gateway[0], text), "192.0.2.1");
	assert_int_equal(p->mtu, 1400);
	assert_int_equal(p->vlan, 7);
	assert_int_equal(p->steering, CONFIG_STEERING_SOFTWARE);
	assert_int_equal(c.dataplane.limits.sessions, 1000);
	assert_int_equal(c.dataplane.limits.exempt[0].bits, 8);
	assert_int_equal(c.listener_count, 2);
	assert_int_equal(c.listener[1].port, 587);
	assert_int_equal(c.listener[1].tls, CONFIG_TLS_STARTTLS);
	assert_int_equal(c.tls.threads, 2);
	assert_string_equal(c.tls.certificate[0].key, "/etc/postern/key.pem");
	assert_int_equal(c.tls.minimum, CONFIG_TLS_1_3);
	assert_int_equal(c.auth.mechanisms, 1u << CONFIG_AUTH_LOGIN);
	assert_int_equal(c.auth.failures.delay_us, 1500000);
	assert_int_equal(c.auth.failures.per_address.count, 3);
	assert_int_equal(c.auth.failures.per_address.per_us, 1000000);
	assert_int_equal(c.auth.failures.per_user.per_us, 0);
	assert_int_equal(c.submission.max_message_size, 20 << 20);
	assert_int_equal(c.submission.timeouts.command_us, 120000000);
	assert_int_equal(c.spool.commit.max_delay_us, 0);
	assert_int_equal(c.spool.commit.max_bytes, 4 << 20);
	const struct config_pool *pool = &c.relay.pool[0];
	assert_int_equal(pool->next_hop_count, 2);
	assert_string_equal(pool->next_hop[0].name, "mta1.example.net");
	assert_int_equal(pool->next_hop[0].tls, CONFIG_HOP_TLS_REQUIRED);
	assert_int_equal(pool->next_hop[1].port, 2525);
	assert_int_equal(pool->retry.max_us, 7200000000);
	assert_string_equal(c.relay.route[0].match, "*");
	assert_int_equal(c.control.http_port, 9587);
	assert_string_equal(addr_text(&c.control.http_address, text), "127.0.0.1");
	assert_int_equal(c.control.log_level, LOG_DEBUG);
}

static void absent_keys_take_their_defaults(void **state)
{
	static const char least[] = "hostname: a.example\n"
				    "dataplane: {ports: [{device: d, addresses: [192.0.2.9/24]}]}\n"
				    "listeners: [{name: s, port: 465}]\n"
				    "tls: {certificates: [{chain: /c, key: /k}]}\n"
				    "relay: {pools: [{next_hops: [{address: 192.0.2.1}]}]}\n";
	struct config c;
	struct config_errors e;

	if (parse(&c, least, &e) != 0)
		config_errors_print(&e, stderr);
	assert_int_equal(e.count, 0);
	assert_int_equal(c.dataplane.worker_count, 1);
	assert_int_equal(c.dataplane.worker[0], 1);
	assert_int_equal(c.dataplane.memory, 128 << 20);
	assert_int_equal(c.dataplane.limits.sessions, 5000);
	assert_int_equal(c.dataplane.port[0].mtu, 1500);
	assert_int_equal(c.dataplane.tcp.congestion, CONFIG_CONGESTION_CUBIC);
	assert_int_equal(c.dataplane.tcp.ecn, CONFIG_ECN_ACCEPT);
	assert_int_equal(c.dataplane.tcp.syn_cookies, CONFIG_COOKIES_PRESSURE);
	assert_int_equal(c.dataplane.tcp.hystart, CONFIG_ON);
	assert_int_equal(c.dataplane.tcp.keepalive_us, 7200ull * 1000000);
	assert_int_equal(c.listener[0].tls, CONFIG_TLS_IMPLICIT);
	assert_int_equal(c.auth.mechanisms, 1u << CONFIG_AUTH_PLAIN | 1u << CONFIG_AUTH_LOGIN |
						    1u << CONFIG_AUTH_SCRAM);
	assert_int_equal(c.auth.failures.per_address.count, 10);
	assert_int_equal(c.submission.max_message_size, 50 << 20);
	assert_int_equal(c.spool.commit.max_delay_us, 2000);
	assert_string_equal(c.relay.pool[0].name, "default");
	assert_string_equal(c.relay.pool[0].next_hop[0].name, "192.0.2.1");
	assert_int_equal(c.relay.memory, 32 << 20);
	assert_int_equal(c.relay.pool[0].retry.give_up_us, 5ull * 86400 * 1000000);
	assert_int_equal(c.control.http_address.family, 0);
	assert_int_equal(c.control.log_level, LOG_INFO);
}

static void every_choice_of_the_tcp_stack_reaches_its_field(void **state)
{
	static const char *const before = "  limits: {";
	static const char tcp[] =
		"  tcp: {syn_cookies: always, synacks_per_s: 5, ecn: on, hystart: false,\n"
		"        blackhole_detection: false, congestion: newreno,\n"
		"        keepalive: 90s, trace_events: 64}\n";
	char text[8192];
	size_t n = (size_t)(strstr(good_file, before) - good_file);
	struct config c;
	struct config_errors e;

	snprintf(text, sizeof(text), "%.*s%s%s", (int)n, good_file, tcp, good_file + n);
	assert_int_equal(parse(&c, text, &e), 0);
	assert_int_equal(c.dataplane.tcp.syn_cookies, CONFIG_COOKIES_ALWAYS);
	assert_int_equal(c.dataplane.tcp.synacks_per_s, 5);
	assert_int_equal(c.dataplane.tcp.ecn, CONFIG_ECN_ON);
	assert_int_equal(c.dataplane.tcp.hystart, CONFIG_OFF);
	assert_int_equal(c.dataplane.tcp.blackhole_detection, CONFIG_OFF);
	assert_int_equal(c.dataplane.tcp.congestion, CONFIG_CONGESTION_NEWRENO);
	assert_int_equal(c.dataplane.tcp.keepalive_us, 90000000);
	assert_int_equal(c.dataplane.tcp.trace_events, 64);
}

#define PIN_TEXT "+/8QqkFYCQIuUlHJ1aHdxGZcMCg3N3TEIL1NTrjAjeQ="

static void pins_are_octets_and_stand_in_for_a_name(void **state)
{
	static const char pins[] =
		"port: 2525, tls: implicit, pins: [" PIN_TEXT ", \"" PIN_TEXT "\"]";
	static const uint8_t first[] = {0xfb, 0xff, 0x10, 0xaa, 0x41, 0x58};
	char *text = edited("port: 2525", pins);
	struct config c;
	struct config_errors e;

	assert_int_equal(parse(&c, text, &e), 0);
	const struct config_next_hop *h = &c.relay.pool[0].next_hop[1];
	assert_int_equal(h->pin_count, 2);
	assert_memory_equal(h->pin[0], first, sizeof(first));
	assert_memory_equal(h->pin[0], h->pin[1], CONFIG_PIN_BYTES);
	assert_int_equal(c.relay.pool[0].next_hop[0].pin_count, 0);
	free(text);
}

static const struct {
	const char *find, *replace, *error;
} bad[] = {
#include "tests/unit/bad_config.h"
};

static void each_fault_is_told_with_place_and_remedy(void **state)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct config c;
		struct config_errors e;
		char *text = edited(bad[i].find, bad[i].replace);

		assert_int_not_equal(parse(&c, text, &e), 0);
		assert_int_equal(e.dropped, 0);
		assert_string_equal(e.item[0].text, bad[i].error);
		if (e.count != 1)
			config_errors_print(&e, stderr);
		assert_int_equal(e.count, 1);
		free(text);
	}
}

static void all_faults_are_reported_in_the_order_of_the_file(void **state)
{
	struct config c;
	struct config_errors e;

	parse(&c, "hostname: -x\ndataplane: {memory: 12}\nlisteners: []\nbogus: 1\n", &e);
	assert_int_equal(e.count, 7);
	for (unsigned i = 1; i < e.count; i++)
		assert_true(e.item[i].line >= e.item[i - 1].line);
}

static void more_than_twenty_faults_are_counted(void **state)
{
	char text[400] = "";
	struct config c;
	struct config_errors e;

	for (unsigned i = 0; i < 25; i++)
		sprintf(text + strlen(text), "x%u: 1\n", i);
	parse(&c, text, &e);
	assert_int_equal(e.count, CONFIG_ERRORS);
	assert_int_equal(e.dropped, 25 + 5 - CONFIG_ERRORS); /* 5 required keys are missing */
}

static void every_prefix_of_a_good_file_is_answered_without_a_crash(void **state)
{
	struct config c;
	struct config_errors e;

	for (size_t n = 0; n < sizeof(good_file) - 1; n++) {
		int error = config_parse(&c, good_file, n, "p.yaml", CONFIG_FILE_ONLY, &e);
		assert_int_equal(error != 0, e.count > 0);
	}
}

static void the_machine_is_asked_for_cores_files_and_directories(void **state)
{
	struct config c;
	struct config_errors e;
	char *text = edited("[1, 2]", "[0, 1000]");

	config_parse(&c, text, strlen(text), "p.yaml", CONFIG_THIS_MACHINE, &e);
	free(text);
	static const char *const wanted[] = {
		"p.yaml:3:16: dataplane.workers[1]: core 1000 does not exist or may not be used",
		"p.yaml:21:15: tls.certificates[0].chain: /etc/postern/chain.pem cannot be read: "
		"No such file or directory",
		"p.yaml:21:44: tls.certificates[0].key: /etc/postern/key.pem cannot be read: "
		"No such file or directory",
		"p.yaml:25:10: auth.users: /etc/postern/users cannot be read: No such file or "
		"directory; posternctl user add NAME creates it",
		"p.yaml:31:14: spool.directory: directory /var/spool/postern is not writable: No "
		"such file or directory",
		"p.yaml:42:11: control.socket: directory /run/postern is not writable: No such "
		"file or directory",
	};
	assert_int_equal(e.count, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_memory_equal(e.item[i].text, wanted[i], strlen(wanted[i]));
}

static void an_unreadable_file_is_one_clear_error(void **state)
{
	struct config c;
	struct config_errors e;

	assert_int_not_equal(config_read(&c, "/nonexistent/p.yaml", CONFIG_FILE_ONLY, &e), 0);
	assert_string_equal(e.item[0].text, "/nonexistent/p.yaml:1:1: cannot be read: No such file "
					    "or directory");
}

static void help_lists_every_key_with_type_range_and_default(void **state)
{
	char *text = NULL;
	size_t bytes = 0;
	FILE *f = open_memstream(&text, &bytes);

	config_help(f);
	fclose(f);
	assert_non_null(strstr(text, "dataplane.memory    (size, 32M to 1024G, default 128M)\n"));
	assert_non_null(strstr(text,
			       "relay.pools[].next_hops[].tls    (choice, none, "
			       "opportunistic, required or implicit, default opportunistic)\n"));
	assert_non_null(
		strstr(text, "control.log.records_size    (size, 0 to 1024G, default 1G)\n"));
	free(text);
}

struct found_keys {
	unsigned n;
	char text[400];
};

static void note_key(void *arg, const char *path, bool reloadable)
{
	struct found_keys *f = arg;
	size_t used = strlen(f->text);

	snprintf(f->text + used, sizeof(f->text) - used, "%s%s ", reloadable ? "+" : "-", path);
	f->n++;
}

static const char *changed(const struct config *a, const struct config *b, struct found_keys *f)
{
	*f = (struct found_keys){0};
	config_compare(a, b, note_key, f);
	return f->text;
}

static void a_comparison_names_every_key_that_differs_and_whether_it_reloads(void **state)
{
	static const struct {
		const char *find, *replace, *keys;
	} rows[] = {
		{"key: /etc/postern/key.pem", "key: /other", "+tls.certificates[0].key "},
		{"minimum: \"1.3\"", "minimum: \"1.2\"", "+tls.minimum "},
		{"minimum: \"1.3\"", "records: native\n  minimum: \"1.3\"", "+tls.records "},
		{"http: 127.0.0.1:9587", "http: 127.0.0.1:9588", "-control.http "},
		{"port: 2525", "port: 2526", "+relay.pools[0].next_hops[1].port "},
		{"relay:\n", "relay:\n  memory: 64M\n", ""}, /* what 256M make it anyway */
		{"relay:\n", "relay:\n  memory: 0\n", "+relay.memory "},
		{"tls: required", "tls: required, pins: [" PIN_TEXT "]",
		 "+relay.pools[0].next_hops[0].pins "},
		{"[LOGIN]", "[PLAIN]", "+auth.mechanisms "},
		{"[LOGIN]", "[LOGIN]", ""},
		{"/etc/postern/users\n", "/etc/postern/users\n  backends: [{type: users}]\n",
		 "+auth.backends "},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		static struct config a, b;
		struct config_errors e;
		struct found_keys f;
		char *text = edited(rows[i].find, rows[i].replace), *same = edited("h", "h");
		assert_int_equal(parse(&a, same, &e), 0);
		assert_int_equal(parse(&b, text, &e), 0);
		assert_string_equal(changed(&a, &b, &f), rows[i].keys);
		free(text);
		free(same);
	}
}

static void taking_over_leaves_only_what_needs_a_restart(void **state)
{
	static struct config a, b;
	struct config_errors e;
	struct found_keys f;
	char *text = edited("key: /etc/postern/key.pem", "key: /k, names: [a.example]");
	char *same = edited("h", "h");

	assert_int_equal(parse(&a, same, &e), 0);
	assert_int_equal(parse(&b, text, &e), 0);
	b.dataplane.limits.sessions++;
	b.dataplane.limits.sessions_per_address++;
	b.relay.pool[0].retry.first_us++;
	changed(&a, &b, &f);
	assert_int_equal(f.n, 5);
	config_take(&a, &b);
	assert_string_equal(changed(&a, &b, &f), "-dataplane.limits.sessions ");
	assert_string_equal(a.tls.certificate[0].name[0], "a.example");
	free(text);
	free(same);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_value_reaches_its_field),
		cmocka_unit_test(every_choice_of_the_tcp_stack_reaches_its_field),
		cmocka_unit_test(absent_keys_take_their_defaults),
		cmocka_unit_test(pins_are_octets_and_stand_in_for_a_name),
		cmocka_unit_test(each_fault_is_told_with_place_and_remedy),
		cmocka_unit_test(all_faults_are_reported_in_the_order_of_the_file),
		cmocka_unit_test(more_than_twenty_faults_are_counted),
		cmocka_unit_test(every_prefix_of_a_good_file_is_answered_without_a_crash),
		cmocka_unit_test(the_machine_is_asked_for_cores_files_and_directories),
		cmocka_unit_test(an_unreadable_file_is_one_clear_error),
		cmocka_unit_test(help_lists_every_key_with_type_range_and_default),
		cmocka_unit_test(a_comparison_names_every_key_that_differs_and_whether_it_reloads),
		cmocka_unit_test(taking_over_leaves_only_what_needs_a_restart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
