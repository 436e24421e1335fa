/*
 * sasl_external.c - EXTERNAL (RFC 4422 appendix A): the client's certificate says who it is.
 *
 * Only a certificate that was verified in this session counts, on a resumed one too.  Its
 * e-mail addresses (or its common name, by configuration) are compared with the users file; the
 * client may name one of them, else the first that is a user is taken.
 */
#include "smtp/sasl.h"

#include <string.h>

static bool usable(const struct smtp_session *s)
{
	const struct tls_peer_certificate *c = conn_peer_certificate(&s->conn);

	return c != NULL && c->verified;
}

/* Takes the name if it is a user's and the one that the client asks for, if it asks. */
static bool take(struct smtp_session *s, const char *name, const char *wanted)
{
	return (wanted[0] == '\0' || strcmp(name, wanted) == 0) &&
	       auth_knows(s->worker->env.auth, name) && sasl_set_user(s, name, strlen(name));
}

static bool identify(struct smtp_session *s, const char *wanted)
{
	const struct tls_peer_certificate *c = conn_peer_certificate(&s->conn);
	uint32_t by = s->worker->config->external;

	for (unsigned i = 0; (by & SMTP_EXTERNAL_EMAIL) != 0 && i < c->n_emails; i++) {
		if (take(s, c->emails[i], wanted))
			return true;
	}
	for (unsigned i = 0; (by & SMTP_EXTERNAL_DNS) != 0 && i < c->n_dns; i++) {
		if (take(s, c->dns[i], wanted))
			return true;
	}
	return (by & SMTP_EXTERNAL_COMMON_NAME) != 0 && take(s, c->common_name, wanted);
}

static void step(struct smtp_session *s, char *message, size_t n)
{
	/* `usable` was asked when the exchange began; a NUL inside would cut the name short */
	if (strlen(message) != n)
		sasl_fail(s, REPLY_AUTH_NOT_BASE64);
	else if (usable(s) && identify(s, message))
		sasl_succeed(s);
	else
		sasl_verdict(s, AUTH_BAD);
}

const struct sasl_mechanism sasl_external = {
	.name = "EXTERNAL",
	.id = SMTP_MECHANISM_EXTERNAL,
	.usable = usable,
	.step = step,
};
