/*
 * config.h - the operator's file, read, checked and ready to use.
 *
 * One schema table (schema.c) says which keys exist, their type, unit, range and default; the
 * parser, the messages and `postern --help-config` all come from it.  Strings are arrays inside
 * struct config, so it is copied with = and owns nothing.
 *
 * Owner: the caller.
 * Runs on: the control thread, before the workers start; afterwards it is read-only.
 * Units: bytes in uint64_t, times in microseconds (`_us`), rates as count per microseconds.
 * Errors: all of a file's faults, each `file:line:col: key: what is wrong and what is allowed`.
 */
#ifndef CONTROL_CONFIG_H
#define CONTROL_CONFIG_H

#include "base/addr.h"
#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	CONFIG_BACKENDS = 4,
	CONFIG_CLAIM_BYTES = 256,
	CONFIG_CLASSES = 16,
	CONFIG_CLASS_BYTES = 64,
	CONFIG_CLASS_NAMES = 15,
	CONFIG_NAME_BYTES = 256, /* host names, names of listeners and pools */
	CONFIG_PATH_BYTES = 512,
	CONFIG_SOCKET_BYTES = 108, /* sun_path, unix(7) */
	CONFIG_WORKERS = 64,
	CONFIG_PORTS = 16,
	CONFIG_ADDRESSES = 16,
	CONFIG_GATEWAYS = 4,
	CONFIG_STATIC_ROUTES = 32, /* of a port */
	CONFIG_EXEMPT = 64,
	CONFIG_LISTENERS = 16,
	CONFIG_CERTIFICATES = 32,
	CONFIG_CERTIFICATE_NAMES = 8,
	CONFIG_POOLS = 16,
	CONFIG_NEXT_HOPS = 16,
	CONFIG_PINS = 8,
	CONFIG_PIN_BYTES = 32,
	CONFIG_ROUTES = 64,
	CONFIG_RESOLVERS = 4,
	CONFIG_ERRORS = 20,
	CONFIG_ERROR_BYTES = 768,
	/* The known minimum that `dataplane.memory` must hold: an established TLS 1.3 session
	 * (14 KB measured inside OpenSSL, one 4 KiB chunk, its TCP and SMTP state), and for
	 * every worker its packet buffers, rings and tables. */
	CONFIG_SESSION_MIN_BYTES = 20 << 10,
	CONFIG_WORKER_MIN_BYTES = 16 << 20,
};

struct config_prefix {
	struct ip_addr addr;
	uint8_t bits;
};

struct config_rate {
	uint64_t count;
	uint64_t per_us; /* 0: no limit */
};

enum config_idle { CONFIG_IDLE_ADAPTIVE, CONFIG_IDLE_POLL };
enum config_hugepages { CONFIG_HUGEPAGES_AUTO, CONFIG_HUGEPAGES_REQUIRED, CONFIG_HUGEPAGES_OFF };
enum config_steering { CONFIG_STEERING_AUTO, CONFIG_STEERING_RSS, CONFIG_STEERING_SOFTWARE };
enum config_listener_tls { CONFIG_TLS_IMPLICIT, CONFIG_TLS_STARTTLS };
enum config_tls_minimum { CONFIG_TLS_1_2, CONFIG_TLS_1_3 };
enum config_tls_records { CONFIG_RECORDS_OPENSSL, CONFIG_RECORDS_NATIVE };
enum config_mechanism {
	CONFIG_AUTH_PLAIN,
	CONFIG_AUTH_LOGIN,
	CONFIG_AUTH_SCRAM,
	CONFIG_AUTH_SCRAM_PLUS,
	CONFIG_AUTH_OAUTHBEARER,
	CONFIG_AUTH_XOAUTH2,
	CONFIG_AUTH_EXTERNAL,
};
enum config_backend_type {
	CONFIG_BACKEND_USERS,
	CONFIG_BACKEND_DOVECOT,
	CONFIG_BACKEND_LDAP,
	CONFIG_BACKEND_HTTP,
};
enum config_backend_tls { CONFIG_BACKEND_TLS_NONE, CONFIG_BACKEND_TLS_REQUIRED };
enum config_backend_format { CONFIG_BACKEND_JSON, CONFIG_BACKEND_FORM };
enum config_external {
	CONFIG_EXTERNAL_EMAIL,
	CONFIG_EXTERNAL_DNS,
	CONFIG_EXTERNAL_COMMON_NAME,
};
enum config_senders { CONFIG_SENDERS_ANY, CONFIG_SENDERS_OWN };
enum config_bare_newline { CONFIG_BARE_NEWLINE_REJECT, CONFIG_BARE_NEWLINE_NORMALIZE };
enum config_long_lines { CONFIG_LONG_LINES_PASS, CONFIG_LONG_LINES_REJECT };
/* What a listener says of its own. */
enum config_of_listener { CONFIG_AS_SUBMISSION, CONFIG_LISTENER_NO, CONFIG_LISTENER_YES };
enum config_switch { CONFIG_OFF, CONFIG_ON };
enum config_protocol { CONFIG_PROTOCOL_SMTP, CONFIG_PROTOCOL_LMTP };
enum config_hop_tls {
	CONFIG_HOP_TLS_NONE,
	CONFIG_HOP_TLS_OPPORTUNISTIC,
	CONFIG_HOP_TLS_REQUIRED,
	CONFIG_HOP_TLS_IMPLICIT
};

enum config_ecn { CONFIG_ECN_OFF, CONFIG_ECN_ACCEPT, CONFIG_ECN_ON };
enum config_cookies { CONFIG_COOKIES_NEVER, CONFIG_COOKIES_PRESSURE, CONFIG_COOKIES_ALWAYS };
enum config_congestion { CONFIG_CONGESTION_NEWRENO, CONFIG_CONGESTION_CUBIC };

struct config_static_route {
	struct config_prefix to;
	struct ip_addr via; /* inside one of the port's prefixes */
};

struct config_port {
	char device[CONFIG_PATH_BYTES];
	struct config_prefix address[CONFIG_ADDRESSES]; /* IPv4 */
	unsigned address_count;
	struct ip_addr gateway[CONFIG_GATEWAYS]; /* IPv4 */
	unsigned gateway_count;
	struct config_static_route static_route[CONFIG_STATIC_ROUTES];
	unsigned static_route_count;
	uint64_t mtu;
	uint64_t vlan; /* 0: untagged */
	enum config_steering steering;
};

struct config_limits {
	uint64_t sessions;             /* of all workers together */
	uint64_t sessions_per_address; /* 0: no limit */
	struct config_prefix exempt[CONFIG_EXEMPT];
	unsigned exempt_count;
	uint64_t syn_backlog; /* a worker */
};

struct config_tcp {
	enum config_cookies syn_cookies;
	uint64_t synacks_per_s; /* a worker; 0: no limit */
	enum config_ecn ecn;
	enum config_congestion congestion;
	enum config_switch hystart, blackhole_detection;
	uint64_t keepalive_us; /* 0: off */
	uint64_t trace_events; /* a worker; a power of two, or 0 */
};

struct config_dataplane {
	uint64_t worker[CONFIG_WORKERS]; /* core numbers */
	unsigned worker_count;
	enum config_idle idle;
	enum config_hugepages hugepages;
	uint64_t memory;
	struct config_port port[CONFIG_PORTS];
	unsigned port_count;
	struct config_limits limits;
	struct config_tcp tcp;
};

struct config_listener {
	char name[CONFIG_NAME_BYTES];
	uint64_t port;
	enum config_listener_tls tls;
	enum config_of_listener normalize, hide_client, require_from, remove_bcc, add_sender,
		senders;
	uint64_t duplicates_us; /* 0: they are not looked for */
};

struct config_certificate {
	char chain[CONFIG_PATH_BYTES];
	char key[CONFIG_PATH_BYTES];
	char ocsp[CONFIG_PATH_BYTES];                           /* "": none */
	char name[CONFIG_CERTIFICATE_NAMES][CONFIG_NAME_BYTES]; /* none: the certificate's */
	unsigned name_count;
};

enum config_suite { CONFIG_SUITE_AES_256_GCM, CONFIG_SUITE_AES_128_GCM, CONFIG_SUITE_CHACHA20 };
enum config_group { CONFIG_GROUP_X25519, CONFIG_GROUP_P256, CONFIG_GROUP_P384 };

struct config_tls {
	uint64_t threads;
	struct config_certificate certificate[CONFIG_CERTIFICATES];
	unsigned certificate_count;
	char certificate_directory[CONFIG_PATH_BYTES]; /* "": none */
	enum config_tls_minimum minimum;
	enum config_tls_records records; /* of sessions that begin from now on */
	uint32_t suites, groups;         /* bits 1 << enum config_suite, config_group */
	struct {
		char secret[CONFIG_PATH_BYTES]; /* "": a random one at each start */
		uint64_t lifetime_us;
	} tickets;
	struct {
		struct config_rate per_network, per_name;
		uint64_t queue, deadline_us;
	} handshakes;
	struct {
		char socket[CONFIG_SOCKET_BYTES]; /* "": keys are read from their files */
	} signer;
	char client_ca[CONFIG_PATH_BYTES]; /* "": clients are not asked for certificates */
};

/* Texts that are not written are empty. */
struct config_backend {
	enum config_backend_type type;
	char name[64];
	uint64_t timeout_us, connections, cache_us;
	enum config_backend_tls tls;
	enum config_backend_format format;
	char url[CONFIG_PATH_BYTES], ca[CONFIG_PATH_BYTES], password_file[CONFIG_PATH_BYTES];
	char socket[CONFIG_SOCKET_BYTES], service[64];
	char bind_dn[256], base[256], filter[512], dn[512];
	char user_field[64], tenant_field[64], addresses_field[64];
};

struct config_auth {
	uint32_t mechanisms; /* bits 1 << enum config_mechanism */
	uint32_t external;   /* bits 1 << enum config_external */
	struct config_oauth {
		char jwks[CONFIG_PATH_BYTES]; /* "": no tokens */
		char issuer[CONFIG_CLAIM_BYTES], audience[CONFIG_CLAIM_BYTES];
		char user_claim[CONFIG_CLAIM_BYTES];
		uint64_t clock_skew_us;
	} oauth;
	uint64_t threads;
	char users[CONFIG_PATH_BYTES];
	struct config_backend backend[CONFIG_BACKENDS];
	unsigned backend_count; /* 0: the users file alone */
	struct {
		uint64_t delay_us;
		struct config_rate per_address, per_user;
	} failures;
};

struct config_submission {
	struct config_rate messages_per_user, recipients_per_user;
	uint64_t max_message_size;
	uint64_t max_recipients;
	struct {
		uint64_t command_us, data_us, idle_unauthenticated_us;
	} timeouts;
	uint64_t max_messages;    /* a session; 0: no limit */
	uint64_t max_header_size; /* octets */
	uint32_t extensions;      /* SMTP_EXT_BIT()s */
	uint64_t max_hold_us;     /* 0: FUTURERELEASE is not offered */
	uint64_t max_priority;
	char qualify[CONFIG_NAME_BYTES]; /* empty: addresses without a domain are refused */
	enum config_senders senders;
	enum config_bare_newline bare_newline;
	enum config_long_lines long_lines;
	enum config_switch require_from, remove_bcc, add_sender, hide_client;
};

struct config_spool {
	char directory[CONFIG_PATH_BYTES];
	uint64_t max_size;
	struct {
		uint64_t max_delay_us;
		uint64_t max_bytes;
	} commit;
};

struct config_next_hop {
	struct ip_addr address;       /* family 0: by host */
	char host[CONFIG_NAME_BYTES]; /* "": by address */
	char name[CONFIG_NAME_BYTES];
	uint64_t port;
	uint64_t priority, weight;
	struct config_rate rate; /* messages; count 0: no limit */
	struct {
		char user[CONFIG_NAME_BYTES]; /* "": no login */
		char password_file[CONFIG_PATH_BYTES];
	} auth;
	enum config_protocol protocol;
	enum config_hop_tls tls;
	uint8_t pin[CONFIG_PINS][CONFIG_PIN_BYTES]; /* SHA-256 of SubjectPublicKeyInfo */
	unsigned pin_count;
};

struct config_pool {
	char name[CONFIG_NAME_BYTES];
	struct config_next_hop next_hop[CONFIG_NEXT_HOPS];
	unsigned next_hop_count;
	uint64_t connections; /* a worker and hop */
	struct {
		uint64_t first_us, factor, max_us, give_up_us, notice_us;
	} retry;
};

struct config_route {
	char match[CONFIG_NAME_BYTES];
	char pool[CONFIG_NAME_BYTES];
};

/* A quarter of dataplane.memory; gone once the whole file has been read. */
#define CONFIG_MEMORY_SHARE UINT64_MAX

struct config_relay {
	uint64_t memory; /* messages kept until their first attempt, all workers together */
	struct config_pool pool[CONFIG_POOLS];
	unsigned pool_count;
	struct config_route route[CONFIG_ROUTES];
	struct ip_addr resolver[CONFIG_RESOLVERS];
	unsigned resolver_count; /* 0: those of the machine */
	unsigned route_count;    /* 0: everything goes to pool[0]; else the last matches all */
};

struct config_control {
	char socket[CONFIG_SOCKET_BYTES];
	struct ip_addr http_address; /* family 0: no HTTP */
	uint16_t http_port;
	enum log_level log_level;
	char records[CONFIG_PATH_BYTES]; /* "": none */
	uint64_t records_size, records_keep;
};

enum config_limit_reply { CONFIG_LIMIT_TEMPORARY, CONFIG_LIMIT_PERMANENT };

/* What a tenant, a user or an address may do. */
struct config_quota {
	uint64_t sessions; /* at a time; 0: no limit */
	struct config_rate messages, recipients, octets;
};

struct config_class {
	char name[CONFIG_CLASS_BYTES];
	char user[CONFIG_CLASS_NAMES][CONFIG_CLASS_BYTES];
	unsigned user_count;
	char tenant[CONFIG_CLASS_NAMES][CONFIG_CLASS_BYTES];
	unsigned tenant_count;
	struct config_quota of_listener, of_tenant, of_user, of_address;
	uint64_t max_message_size, max_recipients, max_messages; /* 0: submission's */
	uint64_t weight;
	enum config_limit_reply reply;
	uint64_t retry_after_us; /* 0: when there is room again */
};

struct config {
	char hostname[CONFIG_NAME_BYTES];
	struct config_dataplane dataplane;
	struct config_listener listener[CONFIG_LISTENERS];
	unsigned listener_count;
	struct config_tls tls;
	struct config_auth auth;
	struct config_submission submission;
	struct config_class class[CONFIG_CLASSES]; /* the first that matches holds */
	unsigned class_count;
	struct config_spool spool;
	struct config_relay relay;
	struct config_control control;
};

struct config_error {
	unsigned line, column;
	char text[CONFIG_ERROR_BYTES]; /* file:line:col: key: ... */
};

struct config_errors {
	unsigned count;   /* kept in item[], in the order of the file */
	unsigned dropped; /* found beyond CONFIG_ERRORS */
	struct config_error item[CONFIG_ERRORS];
};

/* CONFIG_THIS_MACHINE also asks the machine: cores, readable files, writable directories;
 * CONFIG_RUNNING all but the cores, which a running daemon has shared out already. */
enum config_checks { CONFIG_FILE_ONLY, CONFIG_THIS_MACHINE, CONFIG_RUNNING };

/* 0, or -EINVAL with at least one error; *c is usable only after 0. */
int config_read(struct config *c, const char *file, enum config_checks checks,
		struct config_errors *errors);
/* The same for text in memory; file is only its name in messages. */
int config_parse(struct config *c, const char *text, size_t bytes, const char *file,
		 enum config_checks checks, struct config_errors *errors);
void config_errors_print(const struct config_errors *errors, FILE *out);

/* Calls differs() for each key, as the operator writes its path, that is not the same in both;
 * reloadable: config_take() takes it over. */
void config_compare(const struct config *a, const struct config *b,
		    void (*differs)(void *arg, const char *path, bool reloadable), void *arg);
/* The reloadable keys of from into a running configuration. */
void config_take(struct config *into, const struct config *from);

/* The listing of `postern --help-config`: every key, its type, range, default and meaning. */
void config_help(FILE *out);

#endif
