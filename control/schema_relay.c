/* schema_relay.c - the keys of `relay` */
#include "control/schema_rows.h"

static const struct schema_choice protocol_choices[] = {
	{"smtp", CONFIG_PROTOCOL_SMTP},
	{"lmtp", CONFIG_PROTOCOL_LMTP},
	{},
};

static const struct schema_choice hop_tls_choices[] = {
	{"none", CONFIG_HOP_TLS_NONE},
	{"opportunistic", CONFIG_HOP_TLS_OPPORTUNISTIC},
	{"required", CONFIG_HOP_TLS_REQUIRED},
	{"implicit", CONFIG_HOP_TLS_IMPLICIT},
	{},
};

static const struct schema_row hop_auth_rows[] = {
	{"user", SCHEMA_TEXT, FIELD(config_next_hop, auth.user),
	 .help = "needs tls: required or implicit"},
	{"password_file", SCHEMA_PATH, FIELD(config_next_hop, auth.password_file),
	 .help = "its first line is the password; read anew by reload"},
	{},
};

static const struct schema_row next_hop_rows[] = {
	{"address", SCHEMA_ADDRESS, FIELD(config_next_hop, address),
	 .help = "address of the server; or host"},
	{"host", SCHEMA_HOSTNAME, FIELD(config_next_hop, host),
	 .help = "its name: all its addresses, asked for again when their time to live is over"},
	{"name", SCHEMA_HOSTNAME, FIELD(config_next_hop, name),
	 .help = "its host name, checked in its certificate; default: host, or the address"},
	{"port", SCHEMA_NUMBER, FIELD(config_next_hop, port), RANGE(1, 65535), .preset = "25",
	 .help = "TCP port"},
	{"protocol", SCHEMA_CHOICE, FIELD(config_next_hop, protocol), .preset = "smtp",
	 .choices = protocol_choices, .help = "what it speaks"},
	{"tls", SCHEMA_CHOICE, FIELD(config_next_hop, tls), .preset = "opportunistic",
	 .choices = hop_tls_choices,
	 .help = "STARTTLS, or implicit: from the first octet; required and implicit verify "
		 "the certificate"},
	{"pins", SCHEMA_PIN, LIST(config_next_hop, pin, pin_count), .min_items = 1,
	 .help = "with tls: required or implicit: keys that its certificate may hold, each the "
		 "base64 of the SHA-256 of its SubjectPublicKeyInfo; name and CA do not count "
		 "then"},
	{"priority", SCHEMA_NUMBER, FIELD(config_next_hop, priority), RANGE(0, 1000), .preset = "0",
	 .help = "the hops of the lowest that work take the mail"},
	{"weight", SCHEMA_NUMBER, FIELD(config_next_hop, weight), RANGE(1, 1000), .preset = "1",
	 .help = "its share among the hops of its priority"},
	{"rate", SCHEMA_RATE, FIELD(config_next_hop, rate), RANGE(1, 1000000000), .preset = "off",
	 .help = "messages it is given, all workers together"},
	{"auth", SCHEMA_MAP, .rows = hop_auth_rows, .help = "how to log in there: AUTH PLAIN"},
	{},
};

static const struct schema_row retry_rows[] = {
	{"first", SCHEMA_TIME, FIELD(config_pool, retry.first_us), RANGE(SECONDS(1), DAYS(1)),
	 .preset = "1m", .reloadable = true, .help = "after the first failure"},
	{"factor", SCHEMA_NUMBER, FIELD(config_pool, retry.factor), RANGE(1, 10), .preset = "2",
	 .reloadable = true, .help = "each wait is so many times the one before"},
	{"max", SCHEMA_TIME, FIELD(config_pool, retry.max_us), RANGE(SECONDS(1), DAYS(7)),
	 .preset = "1h", .reloadable = true, .help = "longest wait"},
	{"give_up", SCHEMA_TIME, FIELD(config_pool, retry.give_up_us), RANGE(SECONDS(10), DAYS(30)),
	 .preset = "5d", .reloadable = true, .help = "age at which the sender is told (RFC 3464)"},
	{"notice", SCHEMA_TIME, FIELD(config_pool, retry.notice_us), RANGE(SECONDS(1), DAYS(30)),
	 .preset = "4h", .reloadable = true,
	 .help = "age at which a sender who asked for it hears of the delay"},
	{},
};

static const struct schema_row pool_rows[] = {
	{"name", SCHEMA_TEXT, FIELD(config_pool, name), .preset = "default",
	 .help = "named by routes"},
	{"next_hops", SCHEMA_MAP, LIST(config_pool, next_hop, next_hop_count), .required = true,
	 .min_items = 1, .rows = next_hop_rows, .help = "servers that take the mail"},
	{"connections", SCHEMA_NUMBER, FIELD(config_pool, connections), RANGE(1, 1024),
	 .preset = "32", .help = "connections at a time, a worker and hop"},
	{"retry", SCHEMA_MAP, .rows = retry_rows, .help = "when a delivery is tried again"},
	{},
};

static const struct schema_row route_rows[] = {
	{"match", SCHEMA_TEXT, FIELD(config_route, match), .preset = "*",
	 .help = "a recipient domain, \"*.\" and a domain for all below it, or \"*\""},
	{"pool", SCHEMA_TEXT, FIELD(config_route, pool), .required = true,
	 .help = "the pool that takes them"},
	{},
};

const struct schema_row schema_relay_rows[] = {
	{"pools", SCHEMA_MAP, LIST(config_relay, pool, pool_count), .required = true,
	 .min_items = 1, .rows = pool_rows, .reloadable = true,
	 .help = "next hops that can stand in for each other"},
	{"memory", SCHEMA_SIZE, FIELD(config_relay, memory), RANGE(0, GIB(1024)),
	 .reloadable = true,
	 .help = "chunks that hold messages up to 64K from their 250 to their first attempt, so "
		 "that it reads no disk; sessions come first; default: a quarter of "
		 "dataplane.memory"},
	{"resolvers", SCHEMA_ADDRESS, LIST(config_relay, resolver, resolver_count),
	 .help = "name servers for host; default: those of the machine"},
	{"routes", SCHEMA_MAP, LIST(config_relay, route, route_count), .rows = route_rows,
	 .reloadable = true,
	 .help = "the first that matches a recipient holds, the last matches \"*\"; default: "
		 "everything to the first pool"},
	{},
};
