/* takeover.c - at the end of a handshake its keys leave OpenSSL, and the SSL object goes.
 *
 * OpenSSL has no call for traffic secrets or sequence numbers.  TLS 1.3 shows its secrets to the
 * keylog callback, in the moment from which they protect a direction; under TLS 1.2 they follow
 * from the master secret and both randoms.  Sequence numbers are the headers that the message
 * callback shows after that moment: a server's tickets already count (RFC 8446 section 5.3).  Under
 * TLS 1.2 with GCM our explicit nonces go on from the one in our Finished (RFC 5288 section 3). */
#include "tls/internal.h"
#include "tls/native.h"

#include <openssl/err.h>
#include <string.h>

enum { HEAD = RECORD_HEADER + AEAD_EXPLICIT };

struct takeover {
	uint64_t records[2];                 /* enum aead_direction: under the keys of now */
	uint8_t secret[2][AEAD_SECRET_MOST]; /* TLS 1.3 */
	uint8_t secret_bytes[2];
	bool listens;
	uint8_t head[HEAD], head_bytes; /* the first octets of the last record that went out */
	uint32_t left;                  /* of it, behind them */
};

void takeover_begin(struct tls_session *s)
{
	s->takeover = OPENSSL_zalloc(sizeof(*s->takeover));
	s->kept = true; /* until the end says otherwise */
}

void takeover_drop(struct tls_session *s)
{
	OPENSSL_clear_free(s->takeover, sizeof(*s->takeover));
	s->takeover = NULL;
}

void takeover_header(struct tls_session *s, bool sent, const uint8_t *header)
{
	struct takeover *t = s->takeover;

	if (t == NULL)
		return;
	uint64_t *records = &t->records[sent ? AEAD_OUT : AEAD_IN];
	if (header[0] == SSL3_RT_CHANGE_CIPHER_SPEC)
		*records = 0;
	else
		++*records;
}

void takeover_sent(struct tls_session *s, const uint8_t *data, size_t n)
{
	struct takeover *t = s->takeover;

	while (t != NULL && n > 0) {
		if (t->left == 0 && t->head_bytes >= RECORD_HEADER)
			t->head_bytes = 0;
		size_t skip = t->head_bytes == HEAD ? (n < t->left ? n : t->left) : 1;
		if (t->head_bytes >= RECORD_HEADER)
			t->left -= (uint32_t)skip;
		if (t->head_bytes < HEAD)
			t->head[t->head_bytes++] = *data;
		if (t->head_bytes == RECORD_HEADER)
			t->left = (uint32_t)(t->head[3] << 8 | t->head[4]);
		data += skip;
		n -= skip;
	}
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Octets of the hex at the end of a line; 0: it is none. */
static uint8_t read_hex(const char *hex, uint8_t out[AEAD_SECRET_MOST])
{
	size_t n = strlen(hex);

	if (n % 2 != 0 || n / 2 > AEAD_SECRET_MOST)
		return 0;
	for (size_t i = 0; i < n; i += 2) {
		int high = hex_digit(hex[i]), low = hex_digit(hex[i + 1]);
		if (high < 0 || low < 0)
			return 0;
		out[i / 2] = (uint8_t)(high << 4 | low);
	}
	return (uint8_t)(n / 2);
}

static void keylog(const SSL *ssl, const char *line)
{
	static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ",
			  server[] = "SERVER_TRAFFIC_SECRET_0 ";
	const struct tls_session *s = SSL_get_app_data(ssl);
	bool of_client = strncmp(line, client, sizeof(client) - 1) == 0;

	if (s == NULL || s->takeover == NULL ||
	    (!of_client && strncmp(line, server, sizeof(server) - 1) != 0))
		return;
	enum aead_direction d = of_client == (s->job == JOB_ACCEPT) ? AEAD_IN : AEAD_OUT;
	s->takeover->secret_bytes[d] = read_hex(strrchr(line, ' ') + 1, s->takeover->secret[d]);
	s->takeover->records[d] = 0;
}

/* OpenSSL writes every secret of a handshake in hex for the callback, 5 us each: so it is there
 * from the first Finished under TLS 1.3 on, where the secrets of the records come.  The contexts
 * are this thread's, on which one step runs at a time. */
void takeover_listen(struct tls_session *s, bool finished)
{
	struct takeover *t = s->takeover;

	if (t != NULL && finished)
		t->listens = SSL_version(s->ssl) == TLS1_3_VERSION;
	SSL_CTX_set_keylog_callback(SSL_get_SSL_CTX(s->ssl),
				    t != NULL && t->listens ? keylog : NULL);
}

static bool keys_1_3(struct tls_thread *t, const struct takeover *from, struct records *r)
{
	for (unsigned d = 0; d < 2; d++) {
		memcpy(r->key[d].secret, from->secret[d], AEAD_SECRET_MOST);
		if (from->secret_bytes[d] != aead_hash_bytes(&r->suite) ||
		    !aead_derive(t->engine, &r->suite, &r->key[d]))
			return false;
	}
	return true;
}

static bool keys_1_2(struct tls_thread *t, SSL *ssl, const struct takeover *from, struct records *r)
{
	uint8_t master[AEAD_SECRET_MOST], client[SSL3_RANDOM_SIZE], server[SSL3_RANDOM_SIZE];
	bool explicit = aead_explicit(&r->suite) > 0;
	struct aead_key *in = &r->key[AEAD_IN], *out = &r->key[AEAD_OUT];

	if (SSL_SESSION_get_master_key(SSL_get_session(ssl), master, sizeof(master)) !=
		    sizeof(master) ||
	    SSL_get_client_random(ssl, client, sizeof(client)) != sizeof(client) ||
	    SSL_get_server_random(ssl, server, sizeof(server)) != sizeof(server))
		return false;
	bool good = aead_derive_1_2(t->engine, &r->suite, master, client, server,
				    r->client ? out : in, r->client ? in : out);
	OPENSSL_cleanse(master, sizeof(master));
	/* the last record out was Finished: of no other do we know the nonce */
	if (!good || (explicit && (from->head[0] != SSL3_RT_HANDSHAKE || from->head_bytes != HEAD ||
				   from->left != 0)))
		return false;
	if (explicit)
		aead_set_explicit(out, from->head + RECORD_HEADER);
	return true;
}

/* Whether OpenSSL holds nothing that would be lost with it. */
static bool at_rest(const SSL *ssl)
{
	return SSL_is_init_finished(ssl) && !SSL_has_pending(ssl) && SSL_get_shutdown(ssl) == 0 &&
	       SSL_get_key_update_type(ssl) == SSL_KEY_UPDATE_NONE;
}

static struct records *take(struct tls_thread *t, const struct tls_session *s)
{
	const struct takeover *from = s->takeover;
	bool tls_1_3 = s->version == TLS1_3_VERSION;
	struct records *r = OPENSSL_zalloc(sizeof(*r));

	if (r == NULL)
		return NULL;
	r->client = s->job == JOB_CONNECT;
	if (at_rest(s->ssl) && aead_suite(s->cipher, tls_1_3, &r->suite) &&
	    (tls_1_3 ? keys_1_3(t, from, r) : keys_1_2(t, s->ssl, from, r))) {
		for (unsigned d = 0; d < 2; d++)
			r->key[d].sequence = from->records[d];
		return r;
	}
	OPENSSL_clear_free(r, sizeof(*r));
	return NULL;
}

void takeover_finish(struct tls_thread *t, struct tls_session *s)
{
	if (s->takeover == NULL)
		return;
	s->records = take(t, s);
	takeover_drop(s);
	ERR_clear_error();
	if (s->records == NULL)
		return;
	s->kept = false;
	session_free_ssl(s);
}
