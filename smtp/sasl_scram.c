/* sasl_scram.c - SCRAM-SHA-256 and -PLUS (RFC 5802, 7677): the password never travels.
 *
 * -PLUS ties the proof to this TLS connection, so that nobody in between can pass it on:
 * tls-exporter (RFC 9266) on TLS 1.3, tls-server-end-point (RFC 5929) on both versions. */
#include "smtp/sasl.h"

#include "smtp/auth/scram.h"

#include <assert.h>
#include <string.h>

enum { FIRST, FINAL, EMPTY };

static_assert(sizeof(struct scram) <= 4096 - sizeof(struct chunk), "one small chunk holds it");

static bool binding_of(const struct smtp_session *s, enum scram_binding kind, uint8_t *out, int *n)
{
	static const enum tls_binding of[] = {
		[SCRAM_BINDING_EXPORTER] = TLS_BINDING_EXPORTER,
		[SCRAM_BINDING_SERVER_END_POINT] = TLS_BINDING_SERVER_END_POINT,
	};

	*n = 0;
	if (kind == SCRAM_BINDING_NONE)
		return true;
	*n = conn_channel_binding(&s->conn, of[kind], out, SCRAM_BINDING_BYTES);
	return *n > 0;
}

static bool plus_usable(const struct smtp_session *s)
{
	uint8_t out[SCRAM_BINDING_BYTES];
	int n;

	return binding_of(s, SCRAM_BINDING_SERVER_END_POINT, out, &n) ||
	       binding_of(s, SCRAM_BINDING_EXPORTER, out, &n);
}

/* Our part of the nonce: letters and digits. */
static void own_nonce(struct smtp_session *s, char *out)
{
	static const char alphabet[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	uint64_t random = 0;

	for (unsigned i = 0; i < SCRAM_OWN_NONCE_BYTES; i++, random >>= 6) {
		if (i % 8 == 0)
			random = shard_random(s->worker->shard);
		out[i] = alphabet[random & 63];
	}
	out[SCRAM_OWN_NONCE_BYTES] = '\0';
}

/* false: answered */
static bool fine(struct smtp_session *s, enum scram_fault f)
{
	if (f == SCRAM_SYNTAX)
		sasl_fail(s, REPLY_AUTH_NOT_BASE64);
	else if (f == SCRAM_REFUSED)
		sasl_verdict(s, AUTH_BAD);
	return f == SCRAM_FINE;
}

static void first(struct smtp_session *s, struct scram *x, const char *message, size_t n)
{
	bool plus = s->login->mechanism == &sasl_scram_plus;
	char nonce[SCRAM_OWN_NONCE_BYTES + 1], answer[SCRAM_SERVER_FIRST_BYTES];
	struct scram_verifier v;

	if (!fine(s, scram_client_first(x, message, n, plus,
					sasl_offers(s, SMTP_MECHANISM_SCRAM_PLUS))))
		return;
	if (!sasl_set_user(s, x->user, strlen(x->user))) {
		sasl_verdict(s, AUTH_BAD);
		return;
	}
	own_nonce(s, nonce);
	auth_scram_verifier(s->worker->env.auth, x->user, &v);
	scram_server_first(x, &v, nonce, answer);
	explicit_bzero(&v, sizeof(v));
	s->login->step = FINAL;
	sasl_challenge(s, answer);
}

static void final(struct smtp_session *s, struct scram *x, const char *message, size_t n)
{
	uint8_t binding[SCRAM_BINDING_BYTES];
	int bytes;

	if (!binding_of(s, x->binding, binding, &bytes)) {
		sasl_verdict(s, AUTH_BAD);
		return;
	}
	if (!fine(s, scram_client_final(x, message, n, binding, (size_t)bytes)))
		return;
	s->login->request.scram = x;
	sasl_ask(s, AUTH_SCRAM);
}

static void step(struct smtp_session *s, char *message, size_t n)
{
	struct scram *x = sasl_scratch(s, CHUNK_4K);

	if (x == NULL)
		return;
	if (s->login->step == FIRST)
		first(s, x, message, n);
	else if (s->login->step == FINAL)
		final(s, x, message, n);
	else if (n == 0) /* the client has seen our signature */
		sasl_succeed(s);
	else
		sasl_fail(s, REPLY_AUTH_NOT_BASE64);
}

static void judged(struct smtp_session *s, enum auth_verdict v)
{
	char text[SCRAM_SERVER_FINAL_BYTES];

	if (v != AUTH_OK) {
		sasl_verdict(s, v);
		return;
	}
	scram_server_final(s->login->request.scram, text);
	s->login->step = EMPTY;
	sasl_challenge(s, text);
}

const struct sasl_mechanism sasl_scram = {
	.name = "SCRAM-SHA-256",
	.id = SMTP_MECHANISM_SCRAM,
	.step = step,
	.judged = judged,
};

const struct sasl_mechanism sasl_scram_plus = {
	.name = "SCRAM-SHA-256-PLUS",
	.id = SMTP_MECHANISM_SCRAM_PLUS,
	.usable = plus_usable,
	.step = step,
	.judged = judged,
};
