/* sasl_plain.c - PLAIN (RFC 4616) and LOGIN: a user and a password in clear, under TLS */
#include "smtp/sasl.h"

#include <string.h>

static bool set_password(struct smtp_session *s, const char *password, size_t n)
{
	if (n == 0 || n >= AUTH_PASSWORD_BYTES || memchr(password, '\0', n) != NULL)
		return false;
	memcpy(s->login->request.password, password, n);
	s->login->request.password[n] = '\0';
	return true;
}

/* authzid NUL authcid NUL password, exactly two NULs (RFC 4616 section 2). */
static void plain_step(struct smtp_session *s, char *message, size_t n)
{
	char *end = message + n, *authcid = memchr(message, '\0', n);
	char *password =
		authcid != NULL ? memchr(authcid + 1, '\0', (size_t)(end - authcid - 1)) : NULL;

	if (password == NULL || memchr(password + 1, '\0', (size_t)(end - password - 1)) != NULL) {
		sasl_fail(s, REPLY_AUTH_NOT_BASE64);
		return;
	}
	authcid++;
	password++;
	/* acting for another user needs a right that nobody has */
	bool proxy = message[0] != '\0' && strcmp(message, authcid) != 0;
	if (proxy || !sasl_set_user(s, authcid, strlen(authcid)) ||
	    !set_password(s, password, (size_t)(end - password)))
		sasl_verdict(s, AUTH_BAD);
	else
		sasl_ask(s, AUTH_PASSWORD);
}

static void login_step(struct smtp_session *s, char *message, size_t n)
{
	bool name = s->login->step++ == 0;

	if (name ? !sasl_set_user(s, message, n) : !set_password(s, message, n))
		sasl_verdict(s, AUTH_BAD);
	else if (name)
		sasl_challenge(s, "Password:");
	else
		sasl_ask(s, AUTH_PASSWORD);
}

const struct sasl_mechanism sasl_plain = {
	.name = "PLAIN",
	.id = SMTP_MECHANISM_PLAIN,
	.step = plain_step,
};

const struct sasl_mechanism sasl_login = {
	.name = "LOGIN",
	.id = SMTP_MECHANISM_LOGIN,
	.prompt = "VXNlcm5hbWU6", /* "Username:" */
	.step = login_step,
};
