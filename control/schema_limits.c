/* schema_limits.c - the keys of a class of users */
#include "control/schema_rows.h"

#define QUOTA_ROWS(of)                                                                      \
	{"messages",                                                                        \
	 SCHEMA_RATE,                                                                       \
	 FIELD(config_class, of.messages),                                                  \
	 RANGE(1, 1000000000),                                                              \
	 .preset = "off",                                                                   \
	 .help = "messages accepted; 450 (550) to MAIL beyond"},                            \
		{"recipients",                                                              \
		 SCHEMA_RATE,                                                               \
		 FIELD(config_class, of.recipients),                                        \
		 RANGE(1, 1000000000),                                                      \
		 .preset = "off",                                                           \
		 .help = "recipients of them; 452 (550) to RCPT beyond"},                   \
	{                                                                                   \
		"bytes", SCHEMA_VOLUME, FIELD(config_class, of.octets),                     \
			RANGE(KIB(1), GIB(1048576)),                                        \
			.preset = "off",                                                    \
			.help = "octets of them; the next message waits, 450 (550) to MAIL" \
	}

static const struct schema_row class_listener_rows[] = {
	{"sessions", SCHEMA_NUMBER, FIELD(config_class, of_listener.sessions), RANGE(0, 10000000),
	 .preset = "0", .help = "at a time; 421 to AUTH beyond; 0: no limit"},
	QUOTA_ROWS(of_listener),
	{},
};

static const struct schema_row class_tenant_rows[] = {
	{"sessions", SCHEMA_NUMBER, FIELD(config_class, of_tenant.sessions), RANGE(0, 10000000),
	 .preset = "0", .help = "at a time; 421 to AUTH beyond; 0: no limit"},
	QUOTA_ROWS(of_tenant),
	{},
};

static const struct schema_row class_user_rows[] = {
	{"sessions", SCHEMA_NUMBER, FIELD(config_class, of_user.sessions), RANGE(0, 10000000),
	 .preset = "0", .help = "at a time; 421 to AUTH beyond; 0: no limit"},
	QUOTA_ROWS(of_user),
	{},
};

static const struct schema_row class_address_rows[] = {QUOTA_ROWS(of_address), {}};

static const struct schema_choice limit_reply_choices[] = {
	{"temporary", CONFIG_LIMIT_TEMPORARY},
	{"permanent", CONFIG_LIMIT_PERMANENT},
	{},
};

const struct schema_row schema_class_rows[] = {
	{"name", SCHEMA_TEXT, FIELD(config_class, name), .required = true,
	 .help = "shown by posternctl limits"},
	{"users", SCHEMA_TEXT, LIST(config_class, user, user_count),
	 .help = "whom the class is for; neither users nor tenants: everybody"},
	{"tenants", SCHEMA_TEXT, LIST(config_class, tenant, tenant_count),
	 .help = "the same by tenant (posternctl user set NAME --tenant)"},
	{"listener", SCHEMA_MAP, .rows = class_listener_rows,
	 .help = "of all these users together on one listener"},
	{"tenant", SCHEMA_MAP, .rows = class_tenant_rows,
	 .help = "of all users of a tenant together"},
	{"user", SCHEMA_MAP, .rows = class_user_rows, .help = "of one user"},
	{"address", SCHEMA_MAP, .rows = class_address_rows,
	 .help = "of one address (IPv6: /64), whoever logs in there"},
	{"max_message_size", SCHEMA_SIZE, FIELD(config_class, max_message_size), RANGE(0, GIB(1)),
	 .preset = "0", .help = "in place of submission.max_message_size; told by EHLO"},
	{"max_recipients", SCHEMA_NUMBER, FIELD(config_class, max_recipients), RANGE(0, 100000),
	 .preset = "0", .help = "in place of submission.max_recipients; told by EHLO"},
	{"max_messages", SCHEMA_NUMBER, FIELD(config_class, max_messages), RANGE(0, 1000000),
	 .preset = "0", .help = "a session; in place of submission.max_messages; told by EHLO"},
	{"weight", SCHEMA_NUMBER, FIELD(config_class, weight), RANGE(1, 1000), .preset = "1",
	 .help = "of the tenant (or user without one) where receive windows are shared out"},
	{"reply", SCHEMA_CHOICE, FIELD(config_class, reply), .preset = "temporary",
	 .choices = limit_reply_choices, .help = "what a limit gives: 450 and 452, or 550"},
	{"retry_after", SCHEMA_TIME, FIELD(config_class, retry_after_us), RANGE(0, DAYS(7)),
	 .preset = "0s", .help = "told to the client; 0s: when there is room again"},
	{},
};
