/* schema_tls.c - the keys of `tls` */
#include "control/schema_rows.h"

static const struct schema_choice tls_minimum_choices[] = {
	{"1.2", CONFIG_TLS_1_2},
	{"1.3", CONFIG_TLS_1_3},
	{"1.0", 0, "is refused: TLS before 1.2 is obsolete (RFC 8996)"},
	{"1.1", 0, "is refused: TLS before 1.2 is obsolete (RFC 8996)"},
	{},
};

static const struct schema_choice tls_records_choices[] = {
	{"openssl", CONFIG_RECORDS_OPENSSL},
	{"native", CONFIG_RECORDS_NATIVE},
	{},
};

static const struct schema_row certificate_rows[] = {
	{"chain", SCHEMA_PATH, FIELD(config_certificate, chain), .required = true,
	 .reloadable = true, .help = "PEM, the leaf first"},
	{"key", SCHEMA_PATH, FIELD(config_certificate, key), .required = true, .reloadable = true,
	 .help = "PEM private key"},
	{"ocsp", SCHEMA_PATH, FIELD(config_certificate, ocsp), .reloadable = true,
	 .help = "DER, an OCSP response for it; stapled until it expires"},
	{"names", SCHEMA_TEXT, LIST(config_certificate, name, name_count), .reloadable = true,
	 .help = "names it is shown for, \"*.\" allowed; default: those in the certificate"},
	{},
};

static const struct schema_row ticket_rows[] = {
	{"secret", SCHEMA_PATH, FIELD(config_tls, tickets.secret), .reloadable = true,
	 .help = "secret shared by the fleet, made by posternctl tickets create; default: random "
		 "at each start"},
	{"lifetime", SCHEMA_TIME, FIELD(config_tls, tickets.lifetime_us),
	 RANGE(SECONDS(60), DAYS(7)), .preset = "12h", .reloadable = true,
	 .help = "how long a client may resume a session (RFC 8446 section 4.6.1)"},
	{},
};

static const struct schema_row handshake_rows[] = {
	{"per_network", SCHEMA_RATE, FIELD(config_tls, handshakes.per_network), RANGE(1, 1000000),
	 .preset = "500/s", .reloadable = true,
	 .help = "full handshakes for one network of clients (/24, IPv6: /64); a resumption "
		 "counts half; off: no limit"},
	{"per_name", SCHEMA_RATE, FIELD(config_tls, handshakes.per_name), RANGE(1, 1000000),
	 .preset = "off", .reloadable = true, .help = "the same for one name asked for by SNI"},
	{"queue", SCHEMA_NUMBER, FIELD(config_tls, handshakes.queue), RANGE(16, 65536),
	 .preset = "1024", .reloadable = true,
	 .help = "handshakes that may wait to begin, a worker; the oldest goes"},
	{"deadline", SCHEMA_TIME, FIELD(config_tls, handshakes.deadline_us),
	 RANGE(MS(100), SECONDS(60)), .preset = "5s", .reloadable = true,
	 .help = "how long one may wait to begin"},
	{},
};

const struct schema_row schema_tls_rows[] = {
	{"threads", SCHEMA_NUMBER, FIELD(config_tls, threads), RANGE(1, 64), .preset = "1",
	 .help = "handshake threads"},
	{"certificates", SCHEMA_MAP, LIST(config_tls, certificate, certificate_count),
	 .required = true, .min_items = 1, .reloadable = true, .rows = certificate_rows,
	 .help = "chosen by SNI: exact name, wildcard, else the first; ECDSA and RSA side by side"},
	{"certificate_directory", SCHEMA_PATH, FIELD(config_tls, certificate_directory),
	 .reloadable = true,
	 .help = "of NAME/fullchain.pem and NAME/key.pem, loaded when NAME is asked for"},
	{"minimum", SCHEMA_CHOICE, FIELD(config_tls, minimum), .preset = "1.2", .reloadable = true,
	 .choices = tls_minimum_choices, .help = "oldest TLS version taken"},
	{"records", SCHEMA_CHOICE, FIELD(config_tls, records), .preset = "openssl",
	 .reloadable = true, .choices = tls_records_choices,
	 .help = "who protects the records of a session after its handshake: openssl, or native, "
		 "which holds 15 KB less for each"},
	{"tickets", SCHEMA_MAP, .rows = ticket_rows, .help = "resumption of sessions"},
	{"handshakes", SCHEMA_MAP, .rows = handshake_rows,
	 .help = "what clients that have not logged in may cost"},
	{"suites", SCHEMA_CHOICES, FIELD(config_tls, suites), .max_items = 3, .min_items = 1,
	 .preset = "AES-256-GCM, AES-128-GCM, CHACHA20-POLY1305", .reloadable = true,
	 .choices = schema_suite_choices,
	 .help = "under TLS 1.3, and under 1.2 with an ephemeral key; AES-256-GCM is preferred"},
	{"groups", SCHEMA_CHOICES, FIELD(config_tls, groups), .max_items = 3, .min_items = 1,
	 .preset = "X25519, P-256", .reloadable = true, .choices = schema_group_choices,
	 .help = "of ephemeral keys; a client's own choice among them is taken"},
	{"signer", SCHEMA_MAP, .rows = schema_signer_rows, .help = "private keys elsewhere"},
	{"client_ca", SCHEMA_PATH, FIELD(config_tls, client_ca), .reloadable = true,
	 .help = "PEM; clients are asked for a certificate of these CAs, none is required"},
	{},
};
