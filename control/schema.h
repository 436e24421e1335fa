/*
 * schema.h - the one table of configuration keys; parser, messages and help come from it.
 *
 * A row is a key of one map.  `max_items` > 0 makes it a list of its type.  SCHEMA_MAP rows
 * have rows of their own; their fields lie at the row's offset.
 *
 * Owner: constant data; struct schema_fault_sink borrows the caller's struct config_errors.
 * Runs on: the control thread.
 */
#ifndef CONTROL_SCHEMA_H
#define CONTROL_SCHEMA_H

#include "control/config.h"
#include "control/yaml.h"

enum schema_type {
	SCHEMA_MAP,
	SCHEMA_TEXT,     /* char[bytes] */
	SCHEMA_HOSTNAME, /* char[bytes] */
	SCHEMA_PATH,     /* char[bytes], absolute */
	SCHEMA_NUMBER,   /* uint64_t */
	SCHEMA_SIZE,     /* uint64_t bytes */
	SCHEMA_TIME,     /* uint64_t microseconds */
	SCHEMA_RATE,     /* struct config_rate */
	SCHEMA_VOLUME,   /* struct config_rate of bytes */
	SCHEMA_CHOICE,   /* an enum */
	SCHEMA_CHOICES,  /* uint32_t of 1 << value */
	SCHEMA_ADDRESS,  /* struct ip_addr */
	SCHEMA_PREFIX,   /* struct config_prefix, host bits allowed (an interface) */
	SCHEMA_NETWORK,  /* struct config_prefix, no host bits */
	SCHEMA_PIN,      /* uint8_t[32] */
	SCHEMA_HTTP,     /* struct ip_addr at offset, uint16_t port at count_offset */
	SCHEMA_TYPES
};

struct schema_choice {
	const char *name;
	unsigned value;
	const char *not_yet; /* known, refused in this version: why */
};

struct schema_row {
	const char *key;
	enum schema_type type;
	size_t offset, bytes; /* of the field; of one item when it is a list */
	size_t count_offset;
	unsigned max_items, min_items;
	uint64_t min, max;
	const char *preset; /* the default as the operator would write it, lists by comma */
	bool required;
	bool reloadable;
	const char *help;
	const char *not_yet;
	const struct schema_choice *choices;
	const struct schema_row *rows;
};

/* Rows end with key == NULL. */
const struct schema_row *schema_root(void);

struct schema_scalar_type {
	const char *name;    /* for the help */
	const char *allowed; /* how a value looks, for the messages */
	/* false with the reason in why */
	bool (*parse)(const struct schema_row *row, const char *text, void *field, char *why,
		      size_t why_bytes);
};
const struct schema_scalar_type *schema_scalar(enum schema_type type);

/* The range of a row in the operator's units; "" when there is none. */
const char *schema_range(const struct schema_row *row, char *text, size_t bytes);
/* "a, b or c": the choices of a row that this version takes. */
const char *schema_choice_names(const struct schema_row *row, char *text, size_t bytes);

struct config_sink {
	const char *file;
	struct config_errors *errors;
};
__attribute__((format(printf, 5, 6))) void config_fail(const struct config_sink *s, unsigned line,
						       unsigned column, const char *key,
						       const char *fmt, ...);

/* Semantic checks over a configuration whose single values are all good. */
void config_check(const struct config *c, const struct yaml_node *root,
		  const struct config_sink *sink, enum config_checks checks);

#endif
