/* aead.c - the record protection of TLS 1.2 and 1.3 over OpenSSL's ciphers and digests */
#include "tls/aead.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

enum {
	CONTEXTS = 16,    /* keyed ones, of each cipher and direction */
	BLOCK_MOST = 128, /* of a digest */
	DIGEST_MOST = 48,
	LABEL_MOST = 16,
	KEY_BLOCK = 2 * (AEAD_KEY_MOST + AEAD_IV),
	SALT = 4, /* of TLS 1.2 with GCM (RFC 5288 section 3) */
};

static const struct {
	const char *name;
	uint8_t key_bytes;
} ciphers[AEAD_CIPHERS] = {
	[AEAD_AES_128_GCM] = {"AES-128-GCM", 16},
	[AEAD_AES_256_GCM] = {"AES-256-GCM", 32},
	[AEAD_CHACHA20_POLY1305] = {"ChaCha20-Poly1305", 32},
};

static const struct {
	const char *name;
	uint8_t bytes, block;
} hashes[AEAD_HASHES] = {[AEAD_SHA256] = {"SHA256", 32, 64}, [AEAD_SHA384] = {"SHA384", 48, 128}};

static const struct {
	uint16_t id;
	struct aead_suite suite;
} suites[] = {
	{0x1301, {AEAD_AES_128_GCM, AEAD_SHA256, true}},
	{0x1302, {AEAD_AES_256_GCM, AEAD_SHA384, true}},
	{0x1303, {AEAD_CHACHA20_POLY1305, AEAD_SHA256, true}},
	{0xc02b, {AEAD_AES_128_GCM, AEAD_SHA256, false}},
	{0xc02c, {AEAD_AES_256_GCM, AEAD_SHA384, false}},
	{0xc02f, {AEAD_AES_128_GCM, AEAD_SHA256, false}},
	{0xc030, {AEAD_AES_256_GCM, AEAD_SHA384, false}},
	{0xcca8, {AEAD_CHACHA20_POLY1305, AEAD_SHA256, false}},
	{0xcca9, {AEAD_CHACHA20_POLY1305, AEAD_SHA256, false}},
};

struct keyed {
	EVP_CIPHER_CTX *ctx;
	uint64_t holds; /* aead_key.id; 0: nobody's */
};

struct aead_engine {
	struct keyed keyed[AEAD_CIPHERS][2][CONTEXTS];
	EVP_CIPHER *cipher[AEAD_CIPHERS];
	EVP_MD *md[AEAD_HASHES];
	EVP_MD_CTX *digest[AEAD_HASHES];
	uint64_t last_id;
	EVP_CIPHER_CTX *opening; /* between begin and end */
};

bool aead_suite(uint16_t id, bool tls_1_3, struct aead_suite *out)
{
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].id == id && suites[i].suite.tls_1_3 == tls_1_3) {
			*out = suites[i].suite;
			return true;
		}
	return false;
}

size_t aead_hash_bytes(const struct aead_suite *a)
{
	return hashes[a->hash].bytes;
}

size_t aead_explicit(const struct aead_suite *a)
{
	return !a->tls_1_3 && a->cipher != AEAD_CHACHA20_POLY1305 ? AEAD_EXPLICIT : 0;
}

static bool open_contexts(struct aead_engine *e, enum aead_cipher c)
{
	e->cipher[c] = EVP_CIPHER_fetch(NULL, ciphers[c].name, NULL);
	for (unsigned d = 0; d < 2; d++)
		for (unsigned i = 0; i < CONTEXTS; i++) {
			EVP_CIPHER_CTX *x = EVP_CIPHER_CTX_new();
			e->keyed[c][d][i].ctx = x;
			if (x == NULL || e->cipher[c] == NULL ||
			    EVP_CipherInit_ex2(x, e->cipher[c], NULL, NULL, d == AEAD_OUT, NULL) !=
				    1)
				return false;
		}
	return true;
}

struct aead_engine *aead_engine_create(bool records)
{
	struct aead_engine *e = OPENSSL_zalloc(sizeof(*e));
	bool good = e != NULL;

	for (unsigned c = 0; records && good && c < AEAD_CIPHERS; c++)
		good = open_contexts(e, c);
	for (unsigned h = 0; good && h < AEAD_HASHES; h++) {
		e->md[h] = EVP_MD_fetch(NULL, hashes[h].name, NULL);
		e->digest[h] = EVP_MD_CTX_new();
		good = e->md[h] != NULL && e->digest[h] != NULL &&
		       EVP_DigestInit_ex2(e->digest[h], e->md[h], NULL) == 1;
	}
	if (good)
		return e;
	aead_engine_destroy(e);
	return NULL;
}

void aead_engine_destroy(struct aead_engine *e)
{
	if (e == NULL)
		return;
	for (unsigned c = 0; c < AEAD_CIPHERS; c++) {
		for (unsigned i = 0; i < CONTEXTS; i++) {
			EVP_CIPHER_CTX_free(e->keyed[c][AEAD_IN][i].ctx);
			EVP_CIPHER_CTX_free(e->keyed[c][AEAD_OUT][i].ctx);
		}
		EVP_CIPHER_free(e->cipher[c]);
	}
	for (unsigned h = 0; h < AEAD_HASHES; h++) {
		EVP_MD_CTX_free(e->digest[h]);
		EVP_MD_free(e->md[h]);
	}
	OPENSSL_clear_free(e, sizeof(*e));
}

struct piece {
	const void *data;
	size_t n;
};

/* HMAC (RFC 2104) of up to three pieces; the key is no longer than a block.  In place of OpenSSL's
 * own, which allocates and asks the library for its digest each time. */
static bool hmac(struct aead_engine *e, unsigned hash, const uint8_t *key, size_t key_bytes,
		 const struct piece *p, unsigned n, uint8_t *out)
{
	EVP_MD_CTX *x = e->digest[hash];
	uint8_t pad[BLOCK_MOST] = {0}, inner[DIGEST_MOST];
	size_t block = hashes[hash].block;

	memcpy(pad, key, key_bytes);
	for (size_t i = 0; i < block; i++)
		pad[i] ^= 0x36;
	bool good = EVP_DigestInit_ex2(x, e->md[hash], NULL) == 1 &&
		    EVP_DigestUpdate(x, pad, block) == 1;
	for (unsigned i = 0; good && i < n; i++)
		good = EVP_DigestUpdate(x, p[i].data, p[i].n) == 1;
	for (size_t i = 0; i < block; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	good = good && EVP_DigestFinal_ex(x, inner, NULL) == 1 &&
	       EVP_DigestInit_ex2(x, e->md[hash], NULL) == 1 &&
	       EVP_DigestUpdate(x, pad, block) == 1 &&
	       EVP_DigestUpdate(x, inner, hashes[hash].bytes) == 1 &&
	       EVP_DigestFinal_ex(x, out, NULL) == 1;
	OPENSSL_cleanse(pad, sizeof(pad));
	OPENSSL_cleanse(inner, sizeof(inner));
	return good;
}

/* HKDF-Expand-Label (RFC 8446 section 7.1) without context and of at most one block of output. */
static bool expand(struct aead_engine *e, const struct aead_suite *a, const uint8_t *secret,
		   const char *label, uint8_t *out, size_t n)
{
	uint8_t info[4 + 6 + LABEL_MOST + 1], block[DIGEST_MOST];
	size_t length = strlen(label), used = 0;

	info[used++] = 0;
	info[used++] = (uint8_t)n;
	info[used++] = (uint8_t)(6 + length);
	memcpy(info + used, "tls13 ", 6);
	memcpy(info + used + 6, label, length);
	used += 6 + length;
	info[used++] = 0; /* no context */
	info[used++] = 1; /* the first block */
	bool good = hmac(e, a->hash, secret, hashes[a->hash].bytes, &(struct piece){info, used}, 1,
			 block);
	memcpy(out, block, n);
	OPENSSL_cleanse(block, sizeof(block));
	return good;
}

bool aead_derive(struct aead_engine *e, const struct aead_suite *a, struct aead_key *k)
{
	k->id = 0;
	k->sequence = 0;
	return expand(e, a, k->secret, "key", k->key, ciphers[a->cipher].key_bytes) &&
	       expand(e, a, k->secret, "iv", k->iv, AEAD_IV);
}

/* P_hash (RFC 5246 section 5): A(i) = HMAC(A(i-1)), A(0) = seed. */
static bool prf(struct aead_engine *e, unsigned hash, const uint8_t secret[48], const uint8_t *seed,
		size_t seed_bytes, uint8_t *out, size_t n)
{
	uint8_t turn[DIGEST_MOST], block[DIGEST_MOST];
	size_t bytes = hashes[hash].bytes;
	bool good = hmac(e, hash, secret, 48, &(struct piece){seed, seed_bytes}, 1, turn);

	for (size_t at = 0; good && at < n; at += bytes) {
		const struct piece both[] = {{turn, bytes}, {seed, seed_bytes}};
		good = hmac(e, hash, secret, 48, both, 2, block) &&
		       hmac(e, hash, secret, 48, &(struct piece){turn, bytes}, 1, turn);
		memcpy(out + at, block, n - at < bytes ? n - at : bytes);
	}
	OPENSSL_cleanse(turn, sizeof(turn));
	OPENSSL_cleanse(block, sizeof(block));
	return good;
}

bool aead_derive_1_2(struct aead_engine *e, const struct aead_suite *a, const uint8_t master[48],
		     const uint8_t client_random[32], const uint8_t server_random[32],
		     struct aead_key *client, struct aead_key *server)
{
	static const char label[] = "key expansion";
	enum { LABEL = sizeof(label) - 1 };
	uint8_t seed[LABEL + 64], block[KEY_BLOCK];
	size_t key = ciphers[a->cipher].key_bytes;
	size_t iv = aead_explicit(a) > 0 ? SALT : AEAD_IV;

	memcpy(seed, label, LABEL);
	memcpy(seed + LABEL, server_random, 32);
	memcpy(seed + LABEL + 32, client_random, 32);
	bool good = prf(e, a->hash, master, seed, sizeof(seed), block, 2 * (key + iv));
	memcpy(client->key, block, key);
	memcpy(server->key, block + key, key);
	memcpy(client->iv, block + 2 * key, iv);
	memcpy(server->iv, block + 2 * key + iv, iv);
	OPENSSL_cleanse(block, sizeof(block));
	return good;
}

/* Takes the key out of a context that holds it. */
static void unload(struct aead_engine *e, const struct aead_suite *a, enum aead_direction d,
		   struct aead_key *k)
{
	static const uint8_t nothing[AEAD_KEY_MOST];
	struct keyed *x = &e->keyed[a->cipher][d][k->id % CONTEXTS];

	if (k->id == 0 || x->holds != k->id)
		return;
	EVP_CipherInit_ex2(x->ctx, NULL, nothing, nothing, -1, NULL);
	x->holds = 0;
}

bool aead_update(struct aead_engine *e, const struct aead_suite *a, enum aead_direction d,
		 struct aead_key *k)
{
	uint8_t next[AEAD_SECRET_MOST] = {0};

	unload(e, a, d, k);
	bool good = expand(e, a, k->secret, "traffic upd", next, hashes[a->hash].bytes);
	memcpy(k->secret, next, sizeof(next));
	OPENSSL_cleanse(next, sizeof(next));
	return good && aead_derive(e, a, k);
}

void aead_forget(struct aead_engine *e, const struct aead_suite *a, enum aead_direction d,
		 struct aead_key *k)
{
	unload(e, a, d, k);
	OPENSSL_cleanse(k, sizeof(*k));
}

/* A context with the key, ready for this nonce. */
static EVP_CIPHER_CTX *keyed(struct aead_engine *e, const struct aead_suite *a,
			     enum aead_direction d, struct aead_key *k, const uint8_t *nonce)
{
	if (k->id == 0)
		k->id = ++e->last_id;
	struct keyed *x = &e->keyed[a->cipher][d][k->id % CONTEXTS];
	const uint8_t *key = x->holds == k->id ? NULL : k->key;
	if (EVP_CipherInit_ex2(x->ctx, NULL, key, nonce, -1, NULL) != 1) {
		x->holds = 0;
		return NULL;
	}
	x->holds = k->id;
	return x->ctx;
}

static void put64(uint8_t *p, uint64_t v)
{
	for (unsigned i = 0; i < 8; i++)
		p[i] = (uint8_t)(v >> (56 - 8 * i));
}

static void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* RFC 8446 section 5.3, RFC 7905 section 2: the IV and the sequence number. */
static void mixed_nonce(const struct aead_key *k, uint8_t nonce[AEAD_IV])
{
	memcpy(nonce, k->iv, AEAD_IV);
	for (unsigned i = 0; i < 8; i++)
		nonce[4 + i] ^= (uint8_t)(k->sequence >> (56 - 8 * i));
}

/* RFC 5246 section 6.2.3.3 */
static size_t additional_1_2(const struct aead_key *k, const uint8_t *header, size_t n,
			     uint8_t *out)
{
	put64(out, k->sequence);
	memcpy(out + 8, header, 3);
	put16(out + 11, n);
	return 13;
}

/* TLS 1.2 with GCM: the next explicit nonce, which only ever goes up. */
static void turn_explicit(struct aead_key *k)
{
	for (unsigned i = AEAD_IV; i-- > SALT && ++k->iv[i] == 0;)
		;
}

void aead_set_explicit(struct aead_key *k, const uint8_t last[AEAD_EXPLICIT])
{
	memcpy(k->iv + SALT, last, AEAD_EXPLICIT);
	turn_explicit(k);
}

size_t aead_seal(struct aead_engine *e, const struct aead_suite *a, struct aead_key *k,
		 uint8_t type, const uint8_t *data, size_t n, uint8_t *out)
{
	size_t explicit = aead_explicit(a), inner = n + a->tls_1_3, used;
	uint8_t *body = out + AEAD_HEADER + explicit, nonce[AEAD_IV], additional[13];
	int got;

	out[0] = a->tls_1_3 ? 23 : type;
	out[1] = out[2] = 3;
	put16(out + 3, explicit + inner + AEAD_TAG);
	if (explicit > 0) {
		memcpy(nonce, k->iv, AEAD_IV);
		memcpy(out + AEAD_HEADER, k->iv + SALT, AEAD_EXPLICIT);
		turn_explicit(k);
	} else {
		mixed_nonce(k, nonce);
	}
	if (a->tls_1_3)
		memcpy(additional, out, used = AEAD_HEADER);
	else
		used = additional_1_2(k, out, n, additional);
	EVP_CIPHER_CTX *x = keyed(e, a, AEAD_OUT, k, nonce);
	k->sequence++;
	if (x == NULL || EVP_EncryptUpdate(x, NULL, &got, additional, (int)used) != 1 ||
	    (n > 0 && EVP_EncryptUpdate(x, body, &got, data, (int)n) != 1) ||
	    (a->tls_1_3 && EVP_EncryptUpdate(x, body + n, &got, &type, 1) != 1) ||
	    EVP_EncryptFinal_ex(x, body + inner, &got) != 1 ||
	    EVP_CIPHER_CTX_ctrl(x, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG, body + inner) != 1)
		return 0;
	return AEAD_HEADER + explicit + inner + AEAD_TAG;
}

bool aead_open_begin(struct aead_engine *e, const struct aead_suite *a, struct aead_key *k,
		     const uint8_t header[AEAD_HEADER], const uint8_t *explicit_nonce)
{
	uint8_t nonce[AEAD_IV], additional[13];
	size_t length = (size_t)header[3] << 8 | header[4], used;
	int got;

	if (aead_explicit(a) > 0) {
		memcpy(nonce, k->iv, SALT);
		memcpy(nonce + SALT, explicit_nonce, AEAD_EXPLICIT);
	} else {
		mixed_nonce(k, nonce);
	}
	if (a->tls_1_3)
		memcpy(additional, header, used = AEAD_HEADER);
	else
		used = additional_1_2(k, header, length - aead_explicit(a) - AEAD_TAG, additional);
	e->opening = keyed(e, a, AEAD_IN, k, nonce);
	return e->opening != NULL &&
	       EVP_DecryptUpdate(e->opening, NULL, &got, additional, (int)used) == 1;
}

bool aead_open_part(struct aead_engine *e, const uint8_t *in, uint8_t *out, size_t n)
{
	int got;

	return EVP_DecryptUpdate(e->opening, out, &got, in, (int)n) == 1;
}

bool aead_open_end(struct aead_engine *e, struct aead_key *k, const uint8_t tag[AEAD_TAG])
{
	uint8_t none[AEAD_TAG], *copy = none;
	int got;

	memcpy(copy, tag, AEAD_TAG);
	k->sequence++;
	return EVP_CIPHER_CTX_ctrl(e->opening, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG, copy) == 1 &&
	       EVP_DecryptFinal_ex(e->opening, none, &got) == 1;
}
