/*
 * sasl.h - the mechanisms of AUTH, behind one table; for the files sasl*.c only.
 *
 * A mechanism gets each response decoded and answers by one of sasl_challenge(), sasl_fail(),
 * sasl_ask(), sasl_succeed() and sasl_verdict().  The exchange lives in struct login, which may
 * outlive its session while the auth threads have its request.
 *
 * Runs on: the worker of the session.
 * Source: RFC 4954, RFC 4422.
 */
#ifndef SMTP_SASL_H
#define SMTP_SASL_H

#include "smtp/internal.h"

struct sasl_mechanism {
	const char *name;
	enum smtp_mechanism id;
	/* When the client sends no initial response: in base64.  NULL: an empty one. */
	const char *prompt;
	/* NULL: wherever there is TLS. */
	bool (*usable)(const struct smtp_session *s);
	/* message[n] is NUL. */
	void (*step)(struct smtp_session *s, char *message, size_t n);
	/* What the auth threads say; NULL: sasl_verdict(). */
	void (*judged)(struct smtp_session *s, enum auth_verdict v);
};
extern const struct sasl_mechanism sasl_plain, sasl_login, sasl_scram, sasl_scram_plus,
	sasl_oauthbearer, sasl_xoauth2, sasl_external;

/* sasl.c */
void sasl_challenge(struct smtp_session *s, const char *text);
/* Malformed: ends the exchange with the reply. */
void sasl_fail(struct smtp_session *s, enum smtp_reply r);
/* Judges login->request on the auth threads. */
void sasl_ask(struct smtp_session *s, enum auth_kind kind);
void sasl_succeed(struct smtp_session *s);
void sasl_verdict(struct smtp_session *s, enum auth_verdict v);
/* The name as the user of the request; false: it cannot be one. */
bool sasl_set_user(struct smtp_session *s, const char *name, size_t n);
/* Memory of the exchange, of one kind for its whole length; NULL: none, and 454 is answered. */
void *sasl_scratch(struct smtp_session *s, enum chunk_size size);

#endif
