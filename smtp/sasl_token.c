/*
 * sasl_token.c - OAUTHBEARER (RFC 7628) and XOAUTH2, its forerunner: a bearer token.
 *
 * A refusal takes one round more: the server says why in JSON, the client answers with something
 * that means nothing, and only then comes 535 (RFC 7628 section 3.2.3).
 */
#include "smtp/sasl.h"

#include "smtp/auth/jwt.h"

#include <string.h>

enum { TOKEN, REFUSED, SEPARATOR = 1 };

static const char bearer[] = "auth=Bearer ";

/* The value of the key/value pair at *at, which ends with the separator; moves *at behind it. */
static bool next_pair(const char **at, const char *end, const char **pair, size_t *n)
{
	const char *stop = *at < end ? memchr(*at, SEPARATOR, (size_t)(end - *at)) : NULL;

	if (stop == NULL)
		return false;
	*pair = *at;
	*n = (size_t)(stop - *at);
	*at = stop + 1;
	return true;
}

static bool starts(const char *pair, size_t n, const char *with)
{
	size_t k = strlen(with);

	return n >= k && strncasecmp(pair, with, k) == 0;
}

/* Pairs, of which one is the token; others (host, port) are passed over.  An empty pair ends
 * the message. */
static bool find_token(const char *at, const char *end, const char **token, size_t *token_bytes)
{
	const char *pair;
	size_t n = 1;

	*token = NULL;
	while (n > 0 && next_pair(&at, end, &pair, &n)) {
		if (!starts(pair, n, bearer))
			continue;
		if (*token != NULL)
			return false;
		*token = pair + sizeof(bearer) - 1;
		*token_bytes = n - (sizeof(bearer) - 1);
	}
	return *token != NULL && n == 0 && at == end && *token_bytes > 0 &&
	       *token_bytes <= JWT_TOKEN_MOST;
}

static void ask(struct smtp_session *s, const char *token, size_t n)
{
	char *copy = sasl_scratch(s, CHUNK_16K);

	if (copy == NULL)
		return;
	memcpy(copy, token, n);
	s->login->request.token = copy;
	s->login->request.token_bytes = n;
	s->login->request.wall_s = shard_wall_s(s->worker->shard);
	sasl_ask(s, AUTH_TOKEN);
}

/* gs2-header: "n,a=user," or "n,,"; the user may be left to the token. */
static bool take_gs2(struct smtp_session *s, const char **at, const char *end)
{
	const char *comma;

	if (end - *at < 3 || memcmp(*at, "n,", 2) != 0)
		return false;
	*at += 2;
	comma = memchr(*at, ',', (size_t)(end - *at));
	if (comma == NULL)
		return false;
	size_t n = (size_t)(comma - *at);
	bool good =
		n == 0 || (n > 2 && memcmp(*at, "a=", 2) == 0 &&
			   memchr(*at, '=', n) == *at + 1 && /* no escapes in a user's name */
			   memchr(*at + 2, '=', n - 2) == NULL && sasl_set_user(s, *at + 2, n - 2));
	*at = comma + 1;
	return good && *at < end && *(*at)++ == SEPARATOR;
}

static void bearer_step(struct smtp_session *s, char *message, size_t n)
{
	const char *at = message, *end = message + n, *token;
	size_t bytes;

	if (s->login->step == REFUSED)
		sasl_verdict(s, AUTH_BAD);
	else if (!take_gs2(s, &at, end) || !find_token(at, end, &token, &bytes))
		sasl_fail(s, REPLY_AUTH_NOT_BASE64);
	else
		ask(s, token, bytes);
}

/* "user=" name, then the token */
static void xoauth2_step(struct smtp_session *s, char *message, size_t n)
{
	const char *at = message, *end = message + n, *pair, *token;
	size_t pair_bytes, bytes;

	if (s->login->step == REFUSED)
		sasl_verdict(s, AUTH_BAD);
	else if (!next_pair(&at, end, &pair, &pair_bytes) || !starts(pair, pair_bytes, "user=") ||
		 !sasl_set_user(s, pair + 5, pair_bytes - 5) ||
		 !find_token(at, end, &token, &bytes))
		sasl_fail(s, REPLY_AUTH_NOT_BASE64);
	else
		ask(s, token, bytes);
}

static void judged(struct smtp_session *s, enum auth_verdict v)
{
	if (v != AUTH_BAD) {
		sasl_verdict(s, v);
		return;
	}
	s->login->step = REFUSED;
	sasl_challenge(s, s->login->mechanism == &sasl_xoauth2
				  ? "{\"status\":\"401\",\"schemes\":\"bearer\",\"scope\":\"\"}"
				  : "{\"status\":\"invalid_token\"}");
}

const struct sasl_mechanism sasl_oauthbearer = {
	.name = "OAUTHBEARER",
	.id = SMTP_MECHANISM_OAUTHBEARER,
	.step = bearer_step,
	.judged = judged,
};

const struct sasl_mechanism sasl_xoauth2 = {
	.name = "XOAUTH2",
	.id = SMTP_MECHANISM_XOAUTH2,
	.step = xoauth2_step,
	.judged = judged,
};
