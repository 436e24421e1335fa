/* scram.c - the client's side of SCRAM-SHA-256 without channel binding */
#include "perf/bench/engine.h"

#include "base/base64.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>

enum { KEY = SHA256_DIGEST_LENGTH, SALT_MOST = 256, ITERATIONS_MOST = 1000000 };

struct scram_client {
	char user[BENCH_NAME * 3], password[BENCH_NAME];
	char nonce[40], bare[SCRAM_TEXT];
	uint8_t server_signature[KEY];
	bool proved;
};

/* The password's stretching costs milliseconds and is the same at every login to one account. */
struct stretched {
	char password[BENCH_NAME];
	uint8_t salt[SALT_MOST];
	size_t salt_bytes;
	unsigned iterations;
	uint8_t key[KEY];
};

static bool stretch(const char *password, const uint8_t *salt, size_t n, unsigned iterations,
		    uint8_t *key)
{
	static _Thread_local struct stretched last;

	if (last.iterations != iterations || last.salt_bytes != n ||
	    memcmp(last.salt, salt, n) != 0 || strcmp(last.password, password) != 0) {
		last.iterations = 0;
		if (PKCS5_PBKDF2_HMAC(password, (int)strlen(password), salt, (int)n,
				      (int)iterations, EVP_sha256(), KEY, last.key) != 1)
			return false;
		snprintf(last.password, sizeof(last.password), "%s", password);
		memcpy(last.salt, salt, n);
		last.salt_bytes = n;
		last.iterations = iterations;
	}
	memcpy(key, last.key, KEY);
	return true;
}

struct scram_client *scram_client_create(const char *user, const char *password, uint64_t a,
					 uint64_t b)
{
	struct scram_client *x = calloc(1, sizeof(*x));
	size_t n = 0;

	if (x == NULL)
		return NULL;
	/* RFC 5802 section 5.1: "," and "=" have a form of their own */
	for (const char *p = user; *p != '\0'; p++) {
		const char plain[] = {*p, '\0'};
		const char *form = *p == ',' ? "=2C" : *p == '=' ? "=3D" : plain;
		n += (size_t)snprintf(x->user + n, sizeof(x->user) - n, "%s", form);
	}
	snprintf(x->password, sizeof(x->password), "%s", password);
	snprintf(x->nonce, sizeof(x->nonce), "%016" PRIx64 "%016" PRIx64, a, b);
	return x;
}

void scram_client_destroy(struct scram_client *x)
{
	free(x);
}

void scram_client_first(struct scram_client *x, char *out)
{
	char message[sizeof(x->user) + 64];

	snprintf(x->bare, sizeof(x->bare), "n=%s,r=%s", x->user, x->nonce);
	int n = snprintf(message, sizeof(message), "n,,%s", x->bare);
	base64_encode((const uint8_t *)message, (size_t)n, out);
}

static void hmac(const uint8_t *key, const void *data, size_t n, uint8_t *out)
{
	HMAC(EVP_sha256(), key, KEY, data, n, out, NULL);
}

static bool final(struct scram_client *x, const char *challenge, char *out)
{
	char nonce[512], salt_text[SALT_MOST * 2], without[640], proof_text[64], message[768];
	char signed_text[SCRAM_TEXT * 2];
	uint8_t salt[SALT_MOST], salted[KEY], client[KEY], stored[KEY], signature[KEY], server[KEY];
	unsigned iterations;

	if (sscanf(challenge, "r=%511[^,],s=%511[^,],i=%u", nonce, salt_text, &iterations) != 3 ||
	    strncmp(nonce, x->nonce, strlen(x->nonce)) != 0 || iterations == 0 ||
	    iterations > ITERATIONS_MOST)
		return false;
	int n = base64_decode(salt_text, strlen(salt_text), salt, sizeof(salt));
	if (n < 0 || !stretch(x->password, salt, (size_t)n, iterations, salted))
		return false;
	hmac(salted, "Client Key", 10, client);
	SHA256(client, KEY, stored);
	snprintf(without, sizeof(without), "c=biws,r=%s", nonce);
	int bytes =
		snprintf(signed_text, sizeof(signed_text), "%s,%s,%s", x->bare, challenge, without);
	if (bytes < 0 || (size_t)bytes >= sizeof(signed_text))
		return false;
	hmac(stored, signed_text, (size_t)bytes, signature);
	hmac(salted, "Server Key", 10, server);
	hmac(server, signed_text, (size_t)bytes, x->server_signature);
	for (unsigned i = 0; i < KEY; i++)
		client[i] ^= signature[i];
	base64_encode(client, KEY, proof_text);
	n = snprintf(message, sizeof(message), "%s,p=%s", without, proof_text);
	base64_encode((const uint8_t *)message, (size_t)n, out);
	x->proved = true;
	return true;
}

bool scram_client_next(struct scram_client *x, const char *challenge, size_t n, char *out)
{
	char text[SCRAM_TEXT], signature[64];
	int bytes = base64_decode(challenge, n, (uint8_t *)text, sizeof(text) - 1);

	if (bytes < 0)
		return false;
	text[bytes] = '\0';
	if (!x->proved)
		return final(x, text, out);
	base64_encode(x->server_signature, KEY, signature);
	out[0] = '\0';
	return strncmp(text, "v=", 2) == 0 && strcmp(text + 2, signature) == 0;
}
