/* scram.c - the SCRAM-SHA-256 verifier: RFC 5802 section 3, stored as in RFC 5803 */
#include "base/base64.h"
#include "smtp/auth/password.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { SALT_BYTES = 16, KEY_TEXT_BYTES = 45, SALT_TEXT_BYTES = 89 };

static bool hmac_text(const uint8_t *key, const char *text, uint8_t *out)
{
	unsigned n = SCRAM_KEY_BYTES;

	return HMAC(EVP_sha256(), key, SCRAM_KEY_BYTES, (const uint8_t *)text, strlen(text), out,
		    &n) != NULL;
}

int scram_derive(const char *password, struct scram_verifier *v)
{
	uint8_t salted[SCRAM_KEY_BYTES], client_key[SCRAM_KEY_BYTES];
	unsigned n = SCRAM_KEY_BYTES;

	bool good =
		PKCS5_PBKDF2_HMAC(password, (int)strlen(password), v->salt, v->salt_bytes,
				  (int)v->iterations, EVP_sha256(), sizeof(salted), salted) == 1;
	good = good && hmac_text(salted, "Client Key", client_key) &&
	       EVP_Digest(client_key, sizeof(client_key), v->stored_key, &n, EVP_sha256(), NULL) ==
		       1 &&
	       hmac_text(salted, "Server Key", v->server_key);
	OPENSSL_cleanse(salted, sizeof(salted));
	OPENSSL_cleanse(client_key, sizeof(client_key));
	return good ? 0 : -ENOMEM;
}

int scram_make(const char *password, uint32_t iterations, char *text)
{
	struct scram_verifier v = {.iterations = iterations, .salt_bytes = SALT_BYTES};
	char salt[SALT_TEXT_BYTES], stored[KEY_TEXT_BYTES], server[KEY_TEXT_BYTES];

	if (getrandom(v.salt, SALT_BYTES, 0) != SALT_BYTES)
		return -EIO;
	int error = scram_derive(password, &v);
	if (error != 0)
		return error;
	base64_encode(v.salt, v.salt_bytes, salt);
	base64_encode(v.stored_key, SCRAM_KEY_BYTES, stored);
	base64_encode(v.server_key, SCRAM_KEY_BYTES, server);
	snprintf(text, SCRAM_TEXT_BYTES, "SCRAM-SHA-256$%u:%s$%s:%s", iterations, salt, stored,
		 server);
	OPENSSL_cleanse(&v, sizeof(v));
	return 0;
}

/* Decodes up to the separator and moves *text behind it. */
static int field(const char **text, char separator, uint8_t *out, size_t limit)
{
	const char *end = separator != '\0' ? strchr(*text, separator) : *text + strlen(*text);

	if (end == NULL)
		return -1;
	int n = base64_decode(*text, (size_t)(end - *text), out, limit);
	*text = end + (separator != '\0');
	return n;
}

bool scram_parse(const char *text, struct scram_verifier *v)
{
	int start = 0;

	memset(v, 0, sizeof(*v));
	if (sscanf(text, "SCRAM-SHA-256$%8u:%n", &v->iterations, &start) != 1 || start == 0)
		return false;
	text += start;
	int salt = field(&text, '$', v->salt, sizeof(v->salt));
	if (salt < 8)
		return false;
	v->salt_bytes = (uint8_t)salt;
	return field(&text, ':', v->stored_key, SCRAM_KEY_BYTES) == SCRAM_KEY_BYTES &&
	       field(&text, '\0', v->server_key, SCRAM_KEY_BYTES) == SCRAM_KEY_BYTES &&
	       v->iterations >= SCRAM_ITERATIONS_MIN && v->iterations <= SCRAM_ITERATIONS_MAX;
}
