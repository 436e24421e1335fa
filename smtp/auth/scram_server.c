/* scram_server.c - parsing and making of SCRAM's four messages, and the proof */
#include "smtp/auth/scram.h"

#include "base/base64.h"
#include "base/utf8.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	enum scram_binding kind;
} bindings[] = {
	{"tls-exporter", SCRAM_BINDING_EXPORTER},
	{"tls-server-end-point", SCRAM_BINDING_SERVER_END_POINT},
};

struct cursor {
	const char *at, *end;
};

/* The field up to the next comma, which is passed over; false at the end of the message. */
static bool next_field(struct cursor *c, struct cursor *field)
{
	if (c->at > c->end)
		return false;
	const char *comma = memchr(c->at, ',', (size_t)(c->end - c->at));
	*field = (struct cursor){c->at, comma != NULL ? comma : c->end};
	c->at = comma != NULL ? comma + 1 : c->end + 1;
	return true;
}

static size_t length(const struct cursor *f)
{
	return (size_t)(f->end - f->at);
}

/* The value of a field "k=value"; false: another key. */
static bool value_of(const struct cursor *field, char key, struct cursor *value)
{
	if (length(field) < 2 || field->at[0] != key || field->at[1] != '=')
		return false;
	*value = (struct cursor){field->at + 2, field->end};
	return true;
}

/* saslname: =2C and =3D stand for comma and equals sign, nothing else may follow "=". */
static bool decode_name(const struct cursor *f, char *out, size_t room)
{
	size_t n = 0;

	for (const char *s = f->at; s < f->end; s++) {
		char c = *s;
		if (n + 1 >= room || c == '\0')
			return false;
		if (c == '=') {
			if (f->end - s < 3)
				return false;
			bool comma = memcmp(s, "=2C", 3) == 0;
			if (!comma && memcmp(s, "=3D", 3) != 0)
				return false;
			c = comma ? ',' : '=';
			s += 2;
		}
		out[n++] = c;
	}
	out[n] = '\0';
	return n > 0;
}

/* n, y or p=name */
static enum scram_fault binding_flag(struct scram *x, const struct cursor *f, bool plus,
				     bool plus_offered)
{
	struct cursor name;

	if (length(f) == 1 && (f->at[0] == 'n' || f->at[0] == 'y')) {
		x->binding = SCRAM_BINDING_NONE;
		/* the client could have used -PLUS and did not see it: somebody took it away */
		if (plus || (f->at[0] == 'y' && plus_offered))
			return SCRAM_REFUSED;
		return SCRAM_FINE;
	}
	if (!value_of(f, 'p', &name))
		return SCRAM_SYNTAX;
	if (!plus)
		return SCRAM_REFUSED;
	for (size_t i = 0; i < sizeof(bindings) / sizeof(bindings[0]); i++) {
		if (length(&name) == strlen(bindings[i].name) &&
		    memcmp(name.at, bindings[i].name, length(&name)) == 0) {
			x->binding = bindings[i].kind;
			return SCRAM_FINE;
		}
	}
	return SCRAM_REFUSED;
}

static bool printable(const struct cursor *f)
{
	for (const char *s = f->at; s < f->end; s++)
		if (*s < 0x21 || *s > 0x7e || *s == ',')
			return false;
	return true;
}

static bool good_text(const char *message, size_t n)
{
	const uint8_t *s = (const uint8_t *)message, *end = s + n;

	while (s < end) {
		size_t step = *s == '\0' ? 0 : utf8_sequence(s, (size_t)(end - s));
		if (step == 0)
			return false;
		s += step;
	}
	return true;
}

static bool append(struct scram *x, const char *text, size_t n)
{
	if (x->transcript_bytes + n > sizeof(x->transcript))
		return false;
	memcpy(x->transcript + x->transcript_bytes, text, n);
	x->transcript_bytes += n;
	return true;
}

/* "n=user,r=nonce" and extensions that may be ignored */
static enum scram_fault first_bare(struct scram *x, struct cursor c)
{
	struct cursor bare = c, field, name, nonce;

	/* a mandatory extension comes first and is refused by its key */
	if (!next_field(&c, &field) || !value_of(&field, 'n', &name) ||
	    !decode_name(&name, x->user, sizeof(x->user)) || !next_field(&c, &field) ||
	    !value_of(&field, 'r', &nonce) || length(&nonce) == 0 ||
	    length(&nonce) > SCRAM_NONCE_MOST || !printable(&nonce) ||
	    length(&bare) > SCRAM_FIRST_MOST)
		return SCRAM_SYNTAX;
	x->nonce_at = (size_t)(nonce.at - bare.at);
	x->nonce_bytes = length(&nonce);
	x->transcript_bytes = 0;
	return append(x, bare.at, length(&bare)) ? SCRAM_FINE : SCRAM_SYNTAX;
}

enum scram_fault scram_client_first(struct scram *x, const char *message, size_t n, bool plus,
				    bool plus_offered)
{
	struct cursor c = {message, message + n}, field, authzid;
	char identity[SCRAM_USER_BYTES] = "";

	memset(x, 0, sizeof(*x));
	if (!good_text(message, n) || !next_field(&c, &field))
		return SCRAM_SYNTAX;
	enum scram_fault flag = binding_flag(x, &field, plus, plus_offered);
	if (flag == SCRAM_SYNTAX || !next_field(&c, &field) || c.at > c.end)
		return SCRAM_SYNTAX;
	if (length(&field) > 0 && (!value_of(&field, 'a', &authzid) ||
				   !decode_name(&authzid, identity, sizeof(identity))))
		return SCRAM_SYNTAX;
	x->gs2_bytes = (size_t)(c.at - message);
	if (x->gs2_bytes > sizeof(x->gs2))
		return SCRAM_SYNTAX;
	memcpy(x->gs2, message, x->gs2_bytes);
	enum scram_fault bare = first_bare(x, c);
	if (bare != SCRAM_FINE)
		return bare;
	/* acting for another user needs a right that nobody has */
	if (identity[0] != '\0' && strcmp(identity, x->user) != 0)
		return SCRAM_REFUSED;
	return flag;
}

void scram_server_first(struct scram *x, const struct scram_verifier *v, const char *own_nonce,
			char *out)
{
	char salt[PASSWORD_SALT_BYTES * 2];

	base64_encode(v->salt, v->salt_bytes, salt);
	int n = snprintf(out, SCRAM_SERVER_FIRST_BYTES, "r=%.*s%s,s=%s,i=%u", (int)x->nonce_bytes,
			 x->transcript + x->nonce_at, own_nonce, salt, v->iterations);
	append(x, ",", 1);
	x->nonce_at = x->transcript_bytes + 2;
	x->nonce_bytes += strlen(own_nonce);
	append(x, out, (size_t)n);
}

/* c= must be the very header of the first message, and the channel's octets behind it. */
static bool same_channel(const struct scram *x, const struct cursor *f, const uint8_t *binding,
			 size_t binding_bytes)
{
	uint8_t got[SCRAM_GS2_BYTES + SCRAM_BINDING_BYTES];
	int n = base64_decode(f->at, length(f), got, sizeof(got));

	return n >= 0 && (size_t)n == x->gs2_bytes + binding_bytes &&
	       memcmp(got, x->gs2, x->gs2_bytes) == 0 &&
	       (binding_bytes == 0 ||
		CRYPTO_memcmp(got + x->gs2_bytes, binding, binding_bytes) == 0);
}

enum scram_fault scram_client_final(struct scram *x, const char *message, size_t n,
				    const uint8_t *binding, size_t binding_bytes)
{
	struct cursor c = {message, message + n}, field, channel, nonce, proof = {NULL, NULL};
	const char *without = message;

	if (!good_text(message, n) || !next_field(&c, &field) || !value_of(&field, 'c', &channel) ||
	    !next_field(&c, &field) || !value_of(&field, 'r', &nonce))
		return SCRAM_SYNTAX;
	/* extensions may come in between; the proof is the last field */
	while (proof.at == NULL) {
		without = field.end;
		if (!next_field(&c, &field))
			return SCRAM_SYNTAX;
		if (!value_of(&field, 'p', &proof))
			proof.at = NULL;
	}
	if (c.at <= c.end || length(&proof) != (SCRAM_KEY_BYTES + 2) / 3 * 4 ||
	    base64_decode(proof.at, length(&proof), x->proof, sizeof(x->proof)) != SCRAM_KEY_BYTES)
		return SCRAM_SYNTAX;
	if (length(&nonce) != x->nonce_bytes ||
	    memcmp(nonce.at, x->transcript + x->nonce_at, x->nonce_bytes) != 0 ||
	    !same_channel(x, &channel, binding, binding_bytes))
		return SCRAM_REFUSED;
	if (!append(x, ",", 1) || !append(x, message, (size_t)(without - message)))
		return SCRAM_SYNTAX;
	return SCRAM_FINE;
}

static bool sign(const uint8_t *key, const struct scram *x, uint8_t *out)
{
	unsigned n = SCRAM_KEY_BYTES;

	return HMAC(EVP_sha256(), key, SCRAM_KEY_BYTES, (const uint8_t *)x->transcript,
		    x->transcript_bytes, out, &n) != NULL;
}

int scram_check(struct scram *x, const struct scram_verifier *v)
{
	uint8_t key[SCRAM_KEY_BYTES], hash[SCRAM_KEY_BYTES];
	unsigned n = SCRAM_KEY_BYTES;

	if (!sign(v->stored_key, x, key))
		return -ENOMEM;
	for (unsigned i = 0; i < SCRAM_KEY_BYTES; i++)
		key[i] ^= x->proof[i];
	if (EVP_Digest(key, sizeof(key), hash, &n, EVP_sha256(), NULL) != 1 ||
	    !sign(v->server_key, x, x->signature))
		return -ENOMEM;
	OPENSSL_cleanse(key, sizeof(key));
	return CRYPTO_memcmp(hash, v->stored_key, sizeof(hash)) == 0;
}

void scram_server_final(const struct scram *x, char *out)
{
	memcpy(out, "v=", 2);
	base64_encode(x->signature, SCRAM_KEY_BYTES, out + 2);
}

void scram_wipe(struct scram *x)
{
	OPENSSL_cleanse(x, sizeof(*x));
}
