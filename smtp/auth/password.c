/* password.c - argon2id hashes in the PHC string format */
#include "smtp/auth/password.h"

#include <argon2.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/base64.h"
#include "base/utf8.h"

enum { SALT_BYTES = 16, HASH_BYTES = 32, PASSWORD_BYTES_MAX = 511 };

struct password_cost password_cost_default(void)
{
	return (struct password_cost){
		.memory_kib = 19 << 10, .passes = 2, .lanes = 1, .scram_iterations = 10000};
}

const char *password_fault(const char *password)
{
	const uint8_t *s = (const uint8_t *)password;
	size_t n = strlen(password);
	const uint8_t *end = s + n;

	if (n == 0)
		return "the password is empty";
	if (n > PASSWORD_BYTES_MAX)
		return "the password is longer than 511 octets";
	while (s < end) {
		size_t step = utf8_sequence(s, (size_t)(end - s));
		if (step == 0)
			return "the password is not valid UTF-8";
		if (*s < ' ' || *s == 0x7f)
			return "the password contains a control character";
		s += step;
	}
	return NULL;
}

static int from_argon2(int code)
{
	if (code == ARGON2_OK)
		return 0;
	return code == ARGON2_MEMORY_ALLOCATION_ERROR || code == ARGON2_THREAD_FAIL ? -ENOMEM
										    : -EINVAL;
}

int password_make(const char *password, const struct password_cost *cost, char *encoded)
{
	uint8_t salt[SALT_BYTES];

	if (getrandom(salt, sizeof(salt), 0) != sizeof(salt))
		return -EIO;
	return from_argon2(argon2id_hash_encoded(cost->passes, cost->memory_kib, cost->lanes,
						 password, strlen(password), salt, sizeof(salt),
						 HASH_BYTES, encoded, PASSWORD_ENCODED_BYTES));
}

static bool sane(const struct password_hash *h)
{
	return h->lanes >= 1 && h->lanes <= PASSWORD_LANES_MAX && h->passes >= 1 &&
	       h->passes <= PASSWORD_PASSES_MAX && h->memory_kib >= 8 * h->lanes &&
	       h->memory_kib <= PASSWORD_MEMORY_MAX_KIB &&
	       h->salt_bytes >= ARGON2_MIN_SALT_LENGTH && h->hash_bytes >= 16;
}

bool password_parse(const char *encoded, struct password_hash *h)
{
	int start = 0;

	memset(h, 0, sizeof(*h));
	if (strlen(encoded) >= PASSWORD_ENCODED_BYTES ||
	    sscanf(encoded, "$argon2id$v=19$m=%7u,t=%3u,p=%3u$%n", &h->memory_kib, &h->passes,
		   &h->lanes, &start) != 3 ||
	    start == 0)
		return false;
	const char *salt = encoded + start, *dollar = strchr(salt, '$');
	if (dollar == NULL)
		return false;
	int ns = base64_decode(salt, (size_t)(dollar - salt), h->salt, sizeof(h->salt));
	int nh = base64_decode(dollar + 1, strlen(dollar + 1), h->hash, sizeof(h->hash));
	if (ns < 0 || nh < 0)
		return false;
	h->salt_bytes = (uint8_t)ns;
	h->hash_bytes = (uint8_t)nh;
	return sane(h);
}

int password_verify(const struct password_hash *h, const char *password)
{
	uint8_t got[PASSWORD_HASH_BYTES];
	int error = from_argon2(argon2id_hash_raw(h->passes, h->memory_kib, h->lanes, password,
						  strlen(password), h->salt, h->salt_bytes, got,
						  h->hash_bytes));

	if (error != 0)
		return error;
	int same = CRYPTO_memcmp(got, h->hash, h->hash_bytes) == 0;
	OPENSSL_cleanse(got, sizeof(got));
	return same;
}
