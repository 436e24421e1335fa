/* schema_rows.h - how a row of the table of keys is written; for schema*.c only */
#ifndef CONTROL_SCHEMA_ROWS_H
#define CONTROL_SCHEMA_ROWS_H

#include "control/schema.h"

#include <stddef.h>

#define FIELD(S, f) .offset = offsetof(struct S, f), .bytes = sizeof(((struct S *)0)->f)
#define LIST(S, f, n)                                                            \
	.offset = offsetof(struct S, f), .bytes = sizeof(((struct S *)0)->f[0]), \
	.count_offset = offsetof(struct S, n),                                   \
	.max_items = sizeof(((struct S *)0)->f) / sizeof(((struct S *)0)->f[0])
#define RANGE(lo, hi) .min = (lo), .max = (hi)
#define KIB(n)        ((uint64_t)(n) << 10)
#define MIB(n)        ((uint64_t)(n) << 20)
#define GIB(n)        ((uint64_t)(n) << 30)
#define MS(n)         ((uint64_t)(n)*1000)
#define SECONDS(n)    MS((uint64_t)(n)*1000)
#define DAYS(n)       SECONDS((uint64_t)(n)*86400)

/* schema_auth.c */
extern const struct schema_row schema_auth_rows[];
/* schema_limits.c: an item of `limits` */
extern const struct schema_row schema_class_rows[];
/* schema_relay.c: `relay` */
extern const struct schema_row schema_relay_rows[];
/* schema_tls.c: `tls` */
extern const struct schema_row schema_tls_rows[];

/* schema_crypto.c: tls.signer, tls.suites, tls.groups */
extern const struct schema_row schema_signer_rows[];
extern const struct schema_choice schema_suite_choices[], schema_group_choices[];

#endif
