/*
 * parameters.h - the parameters of MAIL and RCPT: one table says which keyword belongs to which
 * command, which extension offers it, whether it takes a value, and who reads the value.
 *
 * Pure functions on octets; the texts found point into the line.
 *
 * Units: seconds; the times that come out are UNIX times.
 * Errors: a fault and the keyword that it is about.
 * Source: RFC 5321 section 4.1.1.11; RFC 1870, 2852, 3030, 3461, 4865, 4954, 6152, 6531, 6710,
 *         8689.
 */
#ifndef SMTP_PARAMETERS_H
#define SMTP_PARAMETERS_H

#include "smtp/extension.h"
#include "smtp/parse.h"
#include "smtp/spool/envelope.h"

enum parameter_fault {
	PARAMETER_OK,
	PARAMETER_UNKNOWN,  /* 555: no such keyword, or not offered here */
	PARAMETER_SYNTAX,   /* 501 */
	PARAMETER_TWICE,    /* 501 */
	PARAMETER_CONFLICT, /* 501: two that exclude each other */
	PARAMETER_BEYOND,   /* 501: beyond what EHLO offers */
	PARAMETER_NOT_UTF8, /* 501: an octet string that should be UTF-8 */
};
const char *parameter_fault_text(enum parameter_fault f);

/* What the session offers at this moment. */
struct parameter_rules {
	uint32_t offered; /* SMTP_EXT_BIT()s */
	int64_t now_s;
	uint64_t max_hold_s;
};

struct mail_parameters {
	uint64_t size; /* declared; 0: not */
	enum envelope_body body;
	enum envelope_ret ret;
	struct text envid; /* xtext as given */
	bool smtputf8, require_tls, by_trace, has_priority;
	int8_t priority;
	int64_t hold_until_s; /* 0: no hold */
	enum envelope_by by;
	int64_t by_at_s;
};

struct rcpt_parameters {
	uint8_t notify;    /* enum envelope_notify */
	struct text orcpt; /* type;address as given */
};

/* keyword: of the parameter at fault, in the table; "" when there is none. */
enum parameter_fault parse_mail_parameters(struct text rest, const struct parameter_rules *rules,
					   struct mail_parameters *m, const char **keyword);
/* utf8: the transaction has SMTPUTF8, so an ORCPT may hold UTF-8 (RFC 6533 section 3). */
enum parameter_fault parse_rcpt_parameters(struct text rest, const struct parameter_rules *rules,
					   bool utf8, struct rcpt_parameters *r,
					   const char **keyword);

#endif
