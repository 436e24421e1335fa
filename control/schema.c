/* schema.c - every key of the configuration file */
#include "control/schema_rows.h"

#include "smtp/extension.h"

static const struct schema_choice switch_choices[] = {
	{"true", CONFIG_ON}, {"false", CONFIG_OFF}, {"on", CONFIG_ON}, {"off", CONFIG_OFF}, {},
};

static const struct schema_choice idle_choices[] = {
	{"adaptive", CONFIG_IDLE_ADAPTIVE},
	{"poll", CONFIG_IDLE_POLL},
	{},
};

static const struct schema_choice hugepage_choices[] = {
	{"auto", CONFIG_HUGEPAGES_AUTO},
	{"required", CONFIG_HUGEPAGES_REQUIRED},
	{"off", CONFIG_HUGEPAGES_OFF},
	{},
};

static const struct schema_choice steering_choices[] = {
	{"auto", CONFIG_STEERING_AUTO},
	{"rss", CONFIG_STEERING_RSS},
	{"software", CONFIG_STEERING_SOFTWARE},
	{},
};

static const struct schema_choice cookie_choices[] = {
	{"under_pressure", CONFIG_COOKIES_PRESSURE},
	{"always", CONFIG_COOKIES_ALWAYS},
	{"never", CONFIG_COOKIES_NEVER},
	{},
};

static const struct schema_choice ecn_choices[] = {
	{"accept", CONFIG_ECN_ACCEPT},
	{"on", CONFIG_ECN_ON},
	{"off", CONFIG_ECN_OFF},
	{},
};

static const struct schema_choice congestion_choices[] = {
	{"cubic", CONFIG_CONGESTION_CUBIC},
	{"newreno", CONFIG_CONGESTION_NEWRENO},
	{},
};

static const struct schema_choice listener_tls_choices[] = {
	{"implicit", CONFIG_TLS_IMPLICIT},
	{"starttls", CONFIG_TLS_STARTTLS},
	{"none", 0, "is refused: passwords never travel in the clear (RFC 8314 section 3)"},
	{},
};

static const struct schema_choice senders_choices[] = {
	{"any", CONFIG_SENDERS_ANY},
	{"own", CONFIG_SENDERS_OWN},
	{},
};

static const struct schema_choice bare_newline_choices[] = {
	{"reject", CONFIG_BARE_NEWLINE_REJECT},
	{"normalize", CONFIG_BARE_NEWLINE_NORMALIZE},
	{},
};

static const struct schema_choice long_lines_choices[] = {
	{"pass", CONFIG_LONG_LINES_PASS},
	{"reject", CONFIG_LONG_LINES_REJECT},
	{},
};

static const struct schema_choice listener_newline_choices[] = {
	{"inherit", CONFIG_AS_SUBMISSION},
	{"reject", CONFIG_LISTENER_NO},
	{"normalize", CONFIG_LISTENER_YES},
	{},
};

static const struct schema_choice listener_switch_choices[] = {
	{"inherit", CONFIG_AS_SUBMISSION},
	{"false", CONFIG_LISTENER_NO},
	{"true", CONFIG_LISTENER_YES},
	{},
};

static const struct schema_choice listener_senders_choices[] = {
	{"inherit", CONFIG_AS_SUBMISSION},
	{"any", CONFIG_LISTENER_NO},
	{"own", CONFIG_LISTENER_YES},
	{},
};

#define EXTENSION_CHOICE(id, keyword) {keyword, SMTP_EXT_##id},
static const struct schema_choice extension_choices[] = {SMTP_EXTENSIONS(EXTENSION_CHOICE){}};

static const struct schema_choice log_level_choices[] = {
	{"error", LOG_ERROR},
	{"warning", LOG_WARNING},
	{"info", LOG_INFO},
	{"debug", LOG_DEBUG},
	{},
};

static const struct schema_row static_route_rows[] = {
	{"to", SCHEMA_NETWORK, FIELD(config_static_route, to), .required = true,
	 .help = "destinations; the longest prefix wins"},
	{"via", SCHEMA_ADDRESS, FIELD(config_static_route, via), .required = true,
	 .help = "their router, inside one of the port's prefixes or (IPv6) link-local"},
	{},
};

static const struct schema_row port_rows[] = {
	{"device", SCHEMA_TEXT, FIELD(config_port, device), .required = true,
	 .help = "a PCI address or any DPDK vdev string"},
	{"addresses", SCHEMA_PREFIX, LIST(config_port, address, address_count), .required = true,
	 .min_items = 1, .help = "IPv4 and IPv6 addresses of this port with their prefix length"},
	{"gateways", SCHEMA_ADDRESS, LIST(config_port, gateway, gateway_count),
	 .help = "routers, each inside one of the prefixes or (IPv6) link-local"},
	{"routes", SCHEMA_MAP, LIST(config_port, static_route, static_route_count),
	 .help = "networks that are not reached by the gateways", .rows = static_route_rows},
	{"mtu", SCHEMA_NUMBER, FIELD(config_port, mtu), RANGE(576, 9000), .preset = "1500",
	 .help = "largest IP packet, octets"},
	{"vlan", SCHEMA_NUMBER, FIELD(config_port, vlan), RANGE(0, 4094), .preset = "0",
	 .help = "802.1Q tag; 0: untagged"},
	{"steering", SCHEMA_CHOICE, FIELD(config_port, steering), .preset = "auto",
	 .choices = steering_choices,
	 .help = "who finds the worker of a packet: auto takes the port's hash once it has proved "
		 "to be ours, rss demands a port "
		 "that takes our key, software never asks the port"},
	{},
};

static const struct schema_row limits_rows[] = {
	{"sessions", SCHEMA_NUMBER, FIELD(config_limits, sessions), RANGE(1, 10000000),
	 .preset = "5000", .help = "sessions at a time, all workers together"},
	{"sessions_per_address", SCHEMA_NUMBER, FIELD(config_limits, sessions_per_address),
	 RANGE(0, 10000000), .preset = "100", .reloadable = true,
	 .help = "sessions of one client address; 0: no limit"},
	{"exempt", SCHEMA_NETWORK, LIST(config_limits, exempt, exempt_count), .reloadable = true,
	 .help = "networks that sessions_per_address does not hold for"},
	{"syn_backlog", SCHEMA_NUMBER, FIELD(config_limits, syn_backlog), RANGE(16, 1048576),
	 .preset = "4096", .help = "half-open connections before SYN cookies, a worker"},
	{},
};

static const struct schema_row tcp_rows[] = {
	{"syn_cookies", SCHEMA_CHOICE, FIELD(config_tcp, syn_cookies), .preset = "under_pressure",
	 .choices = cookie_choices,
	 .help = "when a SYN is answered without keeping anything of it"},
	{"synacks_per_s", SCHEMA_NUMBER, FIELD(config_tcp, synacks_per_s), RANGE(0, 100000000),
	 .preset = "1000000", .help = "SYNs answered in a second, a worker; 0: no limit"},
	{"ecn", SCHEMA_CHOICE, FIELD(config_tcp, ecn), .preset = "accept", .choices = ecn_choices,
	 .help = "marks in place of drops (RFC 3168); on: asked for when we connect"},
	{"congestion", SCHEMA_CHOICE, FIELD(config_tcp, congestion), .preset = "cubic",
	 .choices = congestion_choices, .help = "RFC 9438, or RFC 5681 and 6582"},
	{"hystart", SCHEMA_CHOICE, FIELD(config_tcp, hystart), .preset = "on",
	 .choices = switch_choices, .help = "slow start ends when the round trip grows (RFC 9406)"},
	{"blackhole_detection", SCHEMA_CHOICE, FIELD(config_tcp, blackhole_detection),
	 .preset = "true", .choices = switch_choices,
	 .help = "smaller segments after timeouts in a row (RFC 4821)"},
	{"keepalive", SCHEMA_TIME, FIELD(config_tcp, keepalive_us), RANGE(0, DAYS(7)),
	 .preset = "2h", .help = "silence before a peer is asked for a sign of life; 0s: never"},
	{"trace_events", SCHEMA_NUMBER, FIELD(config_tcp, trace_events), RANGE(0, 1048576),
	 .preset = "4096",
	 .help = "events kept for posternctl trace, a worker; a power of two, or 0"},
	{},
};

static const struct schema_row dataplane_rows[] = {
	{"workers", SCHEMA_NUMBER, LIST(config_dataplane, worker, worker_count), RANGE(0, 1023),
	 .min_items = 1, .preset = "1", .help = "core numbers, one worker each"},
	{"idle", SCHEMA_CHOICE, FIELD(config_dataplane, idle), .preset = "adaptive",
	 .choices = idle_choices, .help = "what a worker with nothing to do does"},
	{"hugepages", SCHEMA_CHOICE, FIELD(config_dataplane, hugepages), .preset = "auto",
	 .choices = hugepage_choices, .help = "where packet memory comes from"},
	{"memory", SCHEMA_SIZE, FIELD(config_dataplane, memory), RANGE(MIB(32), GIB(1024)),
	 .preset = "128M",
	 .help = "packet buffers and all session memory, TLS included, all workers"},
	{"ports", SCHEMA_MAP, LIST(config_dataplane, port, port_count), .required = true,
	 .min_items = 1, .rows = port_rows, .help = "network ports"},
	{"limits", SCHEMA_MAP, FIELD(config_dataplane, limits), .rows = limits_rows,
	 .help = "how much the gateway takes on"},
	{"tcp", SCHEMA_MAP, FIELD(config_dataplane, tcp), .rows = tcp_rows,
	 .help = "the TCP stack"},
	{},
};

#define LISTENER_SWITCH(name)                                                       \
	{                                                                           \
#name, SCHEMA_CHOICE, FIELD(config_listener, name),                 \
			.preset = "inherit", .choices = listener_switch_choices,    \
			.reloadable = true, .help = "in place of submission." #name \
	}

static const struct schema_row listener_rows[] = {
	{"name", SCHEMA_TEXT, FIELD(config_listener, name), .required = true,
	 .help = "shown in logs and metrics"},
	{"port", SCHEMA_NUMBER, FIELD(config_listener, port), RANGE(1, 65535), .required = true,
	 .help = "TCP port"},
	{"tls", SCHEMA_CHOICE, FIELD(config_listener, tls), .preset = "implicit",
	 .choices = listener_tls_choices,
	 .help = "implicit (port 465) or starttls (port 587), RFC 8314"},
	{"bare_newline", SCHEMA_CHOICE, FIELD(config_listener, normalize), .preset = "inherit",
	 .choices = listener_newline_choices, .reloadable = true,
	 .help = "in place of submission.bare_newline"},
	LISTENER_SWITCH(hide_client),
	LISTENER_SWITCH(require_from),
	LISTENER_SWITCH(remove_bcc),
	LISTENER_SWITCH(add_sender),
	{"senders", SCHEMA_CHOICE, FIELD(config_listener, senders), .preset = "inherit",
	 .choices = listener_senders_choices, .reloadable = true,
	 .help = "in place of submission.senders"},
	{"duplicates", SCHEMA_TIME, FIELD(config_listener, duplicates_us), RANGE(0, DAYS(7)),
	 .preset = "0s",
	 .help = "a message that comes again within this time (its 250 was lost) is answered as "
		 "before and not delivered twice; 0s: off"},
	{},
};

static const struct schema_row timeout_rows[] = {
	{"command", SCHEMA_TIME, FIELD(config_submission, timeouts.command_us),
	 RANGE(SECONDS(1), SECONDS(3600)), .preset = "5m", .reloadable = true,
	 .help = "a whole command line must arrive within (RFC 5321 section 4.5.3.2)"},
	{"data", SCHEMA_TIME, FIELD(config_submission, timeouts.data_us),
	 RANGE(SECONDS(1), SECONDS(3600)), .preset = "10m", .reloadable = true,
	 .help = "longest silence inside message data"},
	{"idle_unauthenticated", SCHEMA_TIME,
	 FIELD(config_submission, timeouts.idle_unauthenticated_us),
	 RANGE(SECONDS(1), SECONDS(3600)), .preset = "30s", .reloadable = true,
	 .help = "time a client has to authenticate"},
	{},
};

static const struct schema_row rates_rows[] = {
	{"messages_per_user", SCHEMA_RATE, FIELD(config_submission, messages_per_user),
	 RANGE(1, 1000000000), .preset = "off", .reloadable = true,
	 .help = "where no class of limits says otherwise"},
	{"recipients_per_user", SCHEMA_RATE, FIELD(config_submission, recipients_per_user),
	 RANGE(1, 1000000000), .preset = "off", .reloadable = true, .help = "the same"},
	{},
};

static const struct schema_row submission_rows[] = {
	{"max_message_size", SCHEMA_SIZE, FIELD(config_submission, max_message_size),
	 RANGE(KIB(64), GIB(1)), .preset = "50M", .reloadable = true,
	 .help = "announced as SIZE (RFC 1870)"},
	{"max_recipients", SCHEMA_NUMBER, FIELD(config_submission, max_recipients),
	 RANGE(100, 100000), .preset = "1000", .reloadable = true,
	 .help = "a message (RFC 5321 section 4.5.3.1.8)"},
	{"timeouts", SCHEMA_MAP, .rows = timeout_rows, .help = "how long clients may take"},
	{"rates", SCHEMA_MAP, .rows = rates_rows, .help = "in short; all of it is under limits"},
	{"max_messages", SCHEMA_NUMBER, FIELD(config_submission, max_messages), RANGE(0, 1000000),
	 .preset = "10000", .reloadable = true,
	 .help = "a session, announced by LIMITS (RFC 9422); 0: no limit"},
	{"max_header_size", SCHEMA_SIZE, FIELD(config_submission, max_header_size),
	 RANGE(KIB(16), MIB(16)), .preset = "256K", .reloadable = true,
	 .help = "of the header section of a message"},
	{"extensions", SCHEMA_CHOICES, FIELD(config_submission, extensions),
	 .max_items = SMTP_EXT_COUNT, .choices = extension_choices,
	 .preset = "CHUNKING, BINARYMIME, SMTPUTF8, DSN, FUTURERELEASE, DELIVERBY, MT-PRIORITY, "
		   "REQUIRETLS, LIMITS",
	 .reloadable = true,
	 .help = "offered by EHLO besides those that always are; REQUIRETLS only where every next "
		 "hop has tls: required"},
	{"max_hold", SCHEMA_TIME, FIELD(config_submission, max_hold_us), RANGE(0, DAYS(365)),
	 .preset = "7d", .reloadable = true,
	 .help = "longest hold that a client may ask for (RFC 4865); 0s: none"},
	{"max_priority", SCHEMA_NUMBER, FIELD(config_submission, max_priority), RANGE(0, 9),
	 .preset = "0", .reloadable = true,
	 .help = "highest MT-PRIORITY that users get (RFC 6710)"},
	{"qualify", SCHEMA_HOSTNAME, FIELD(config_submission, qualify), .reloadable = true,
	 .help = "domain of envelope addresses that have none; default: they are refused"},
	{"senders", SCHEMA_CHOICE, FIELD(config_submission, senders), .preset = "any",
	 .choices = senders_choices, .reloadable = true,
	 .help = "any, or own: reverse-path and From must be the user's addresses"},
	{"bare_newline", SCHEMA_CHOICE, FIELD(config_submission, bare_newline), .preset = "reject",
	 .choices = bare_newline_choices, .reloadable = true,
	 .help = "a lone LF in message data: refused, or made to CR LF unless signed"},
	{"long_lines", SCHEMA_CHOICE, FIELD(config_submission, long_lines), .preset = "pass",
	 .choices = long_lines_choices, .reloadable = true, .help = "lines over 998 octets"},
	{"require_from", SCHEMA_CHOICE, FIELD(config_submission, require_from), .preset = "false",
	 .choices = switch_choices, .reloadable = true,
	 .help = "refuse a message without From (RFC 5322)"},
	{"remove_bcc", SCHEMA_CHOICE, FIELD(config_submission, remove_bcc), .preset = "false",
	 .choices = switch_choices, .reloadable = true,
	 .help = "take Bcc fields out; a signed message is refused"},
	{"add_sender", SCHEMA_CHOICE, FIELD(config_submission, add_sender), .preset = "false",
	 .choices = switch_choices, .reloadable = true,
	 .help = "add Sender when From is not the user's (RFC 6409)"},
	{"hide_client", SCHEMA_CHOICE, FIELD(config_submission, hide_client), .preset = "false",
	 .choices = switch_choices, .reloadable = true,
	 .help = "Received does not tell the client's name and address"},
	{},
};

static const struct schema_row commit_rows[] = {
	{"max_delay", SCHEMA_TIME, FIELD(config_spool, commit.max_delay_us), RANGE(0, SECONDS(1)),
	 .preset = "2ms", .help = "how long a message may wait for others to share its sync"},
	{"max_bytes", SCHEMA_SIZE, FIELD(config_spool, commit.max_bytes), RANGE(KIB(64), MIB(256)),
	 .preset = "8M", .help = "a commit is written at this size"},
	{},
};

static const struct schema_row spool_rows[] = {
	{"directory", SCHEMA_PATH, FIELD(config_spool, directory), .preset = "/var/spool/postern",
	 .help = "of this instance alone"},
	{"max_size", SCHEMA_SIZE, FIELD(config_spool, max_size), RANGE(MIB(64), GIB(65536)),
	 .preset = "20G", .help = "disk space the spool may take"},
	{"commit", SCHEMA_MAP, .rows = commit_rows, .help = "group commit"},
	{},
};

static const struct schema_row log_rows[] = {
	{"level", SCHEMA_CHOICE, FIELD(config_control, log_level), .preset = "info",
	 .reloadable = true, .choices = log_level_choices, .help = "what goes to stderr"},
	{"records", SCHEMA_PATH, FIELD(config_control, records),
	 .help = "file of one JSON line an event: receptions, rejections, deliveries; reload opens "
		 "it anew"},
	{"records_size", SCHEMA_SIZE, FIELD(config_control, records_size), RANGE(0, GIB(1024)),
	 .preset = "1G", .help = "then FILE becomes FILE.1 and so on; 0: never"},
	{"records_keep", SCHEMA_NUMBER, FIELD(config_control, records_keep), RANGE(0, 1000),
	 .preset = "5", .help = "old files kept"},
	{},
};

static const struct schema_row control_rows[] = {
	{"socket", SCHEMA_PATH, FIELD(config_control, socket),
	 .preset = "/run/postern/control.sock", .help = "UNIX socket of posternctl"},
	{"http", SCHEMA_HTTP, .offset = offsetof(struct config_control, http_address),
	 .count_offset = offsetof(struct config_control, http_port), .preset = "off",
	 .help = "metrics and status page: ADDRESS:PORT or off"},
	{"log", SCHEMA_MAP, .rows = log_rows, .help = "log lines"},
	{},
};

static const struct schema_row root_rows[] = {
	{"hostname", SCHEMA_HOSTNAME, FIELD(config, hostname), .required = true,
	 .help = "greeting, Received, Message-ID domain"},
	{"dataplane", SCHEMA_MAP, FIELD(config, dataplane), .required = true,
	 .rows = dataplane_rows, .help = "workers, memory, network ports"},
	{"listeners", SCHEMA_MAP, LIST(config, listener, listener_count), .required = true,
	 .min_items = 1, .rows = listener_rows, .help = "where clients connect"},
	{"tls", SCHEMA_MAP, FIELD(config, tls), .required = true, .rows = schema_tls_rows,
	 .help = "towards clients"},
	{"auth", SCHEMA_MAP, FIELD(config, auth), .rows = schema_auth_rows,
	 .help = "who may submit"},
	{"submission", SCHEMA_MAP, FIELD(config, submission), .rows = submission_rows,
	 .help = "what clients may send"},
	{"limits", SCHEMA_MAP, LIST(config, class, class_count), .rows = schema_class_rows,
	 .reloadable = true,
	 .help = "of users, tenants and addresses; the first class that matches holds"},
	{"spool", SCHEMA_MAP, FIELD(config, spool), .rows = spool_rows,
	 .help = "where acknowledged messages live"},
	{"relay", SCHEMA_MAP, FIELD(config, relay), .required = true, .rows = schema_relay_rows,
	 .help = "where messages go"},
	{"control", SCHEMA_MAP, FIELD(config, control), .rows = control_rows,
	 .help = "for the operator"},
	{},
};

const struct schema_row *schema_root(void)
{
	return root_rows;
}
