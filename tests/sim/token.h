/* token.h - signed JSON Web Tokens and the key sets that go with them.  Test code. */
#ifndef TESTS_SIM_TOKEN_H
#define TESTS_SIM_TOKEN_H

#include "smtp/auth/jwt.h"

#include <openssl/evp.h>

struct token_maker {
	EVP_PKEY *rsa, *ec; /* kid "r" and "e" */
	struct jwks *keys;
	char *file; /* the set, on disk */
};

struct token_spec {
	const char *header; /* NULL: of the kind, with its kid */
	const char *claims; /* JSON */
	bool ec;            /* ES256, else RS256 */
};

#define TOKEN_CLAIMS(expires)                                       \
	"{\"iss\":\"https://id.test/\",\"aud\":\"smtp\",\"email\":" \
	"\"alice@example.test\",\"exp\":" expires "}"

struct token_maker *token_maker_create(void);
void token_maker_free(struct token_maker *m);
char *token_make(const struct token_maker *m, const struct token_spec *s); /* free() it */

/* The text as a file; its name, to be freed and unlinked. */
char *token_keys_file(const char *json);
struct jwks *token_keys(const char *json);

#endif
