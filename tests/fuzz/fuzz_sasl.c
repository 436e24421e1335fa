/* fuzz_sasl.c - what a client sends in SCRAM and as a bearer token: nothing but a right proof is
 * taken for one, names stay names, and no octet is read outside the message */
#include "smtp/auth/jwt.h"
#include "smtp/auth/scram.h"
#include "tests/fuzz/fuzz.h"

#include <unistd.h>

static struct jwks *keys(void)
{
	static struct jwks *k;
	static const char text[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
				   "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
				   "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
	char file[] = "/tmp/fuzz_sasl.XXXXXX", error[256];

	if (k != NULL)
		return k;
	int fd = mkstemp(file);
	CLAIM(fd >= 0 && write(fd, text, sizeof(text) - 1) == sizeof(text) - 1);
	close(fd);
	CLAIM(jwks_load(&k, file, error, sizeof(error)) == 0);
	unlink(file);
	return k;
}

/* The message in memory of its own size, so that a sanitizer sees one octet too many. */
static char *exactly(const uint8_t *p, size_t n)
{
	char *s = malloc(n > 0 ? n : 1);

	CLAIM(s != NULL);
	if (n > 0)
		memcpy(s, p, n);
	return s;
}

static void scram(struct input *in, uint8_t how)
{
	static const uint8_t binding[32] = {7};
	struct scram_verifier v = {.iterations = 4096, .salt_bytes = 16, .stored_key = {1}};
	struct scram x;
	char out[SCRAM_SERVER_FIRST_BYTES];
	size_t n = take16(in) % 2000u, rest;
	const uint8_t *p = take(in, &n);
	char *first = exactly(p, n);

	enum scram_fault f = scram_client_first(&x, first, n, (how & 1) != 0, (how & 2) != 0);
	free(first);
	if (f != SCRAM_FINE)
		return;
	CLAIM(x.user[0] != '\0' && memchr(x.user, '\0', sizeof(x.user)) != NULL);
	CLAIM((x.binding != SCRAM_BINDING_NONE) == ((how & 1) != 0));
	scram_server_first(&x, &v, "ABCDEFGHIJKLMNOPQRSTUVWX", out);
	CLAIM(memchr(out, '\0', sizeof(out)) != NULL);
	rest = in->left;
	char *final = exactly(take(in, &rest), rest);
	size_t bound = x.binding != SCRAM_BINDING_NONE ? sizeof(binding) : 0;
	f = scram_client_final(&x, final, rest, binding, bound);
	free(final);
	if (f == SCRAM_FINE)
		CLAIM(scram_check(&x, &v) == 0); /* nobody knows a key with this hash */
}

static void token(struct input *in)
{
	static const struct jwt_policy policy = {
		.issuer = "joe", .audience = "x", .user_claim = "iss"};
	size_t n = in->left;
	const uint8_t *p = take(in, &n);
	char *text = exactly(p, n), user[64];

	enum jwt_verdict v = jwt_check(keys(), &policy, text, n, 1300819379, user, sizeof(user));
	/* only the example of RFC 7515 carries a signature of this key, and it has no audience */
	CLAIM(v != JWT_GOOD && v != JWT_TIME);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = {data, n};
	uint8_t how = take8(&in);

	if ((how & 4) != 0)
		token(&in);
	else
		scram(&in, how);
	return 0;
}
