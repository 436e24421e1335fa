/* check.h - what the semantic checks share: check.c and check_auth.c only.  Runs on: the control
 * thread. */
#ifndef CONTROL_CHECK_H
#define CONTROL_CHECK_H

#include "control/schema.h"

#include <stdio.h>

struct check {
	const struct config *c;
	const struct yaml_node *root;
	const struct config_sink *sink;
};

enum { CHECK_PATH_BYTES = 128 };

/* path: "a.b.0.c", as far as the file goes. */
__attribute__((format(printf, 3, 4))) void check_fault(const struct check *k, const char *path,
						       const char *fmt, ...);
#define check_fault_at(k, path_fmt, i, ...)              \
	do {                                             \
		char at_[CHECK_PATH_BYTES];              \
		snprintf(at_, sizeof(at_), path_fmt, i); \
		check_fault(k, at_, __VA_ARGS__);        \
	} while (0)
void check_readable(const struct check *k, const char *path, const char *file, const char *remedy);

/* check_auth.c */
void check_auth(const struct check *k);
void check_auth_files(const struct check *k);

#endif
