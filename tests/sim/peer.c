/* peer.c - a scripted connection */
#include "tests/sim/peer.h"

#include <openssl/err.h>
#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { REPLY_WAIT_US = 700 * MAIL_SECOND, CONNECT_WAIT_US = 5 * MAIL_SECOND };

void bytes_add(struct bytes *b, const void *data, size_t n)
{
	if (b->n + n + 1 > b->room) {
		b->room = (b->n + n + 1) * 2;
		b->at = realloc(b->at, b->room);
	}
	if (n > 0)
		memcpy(b->at + b->n, data, n);
	b->n += n;
	b->at[b->n] = '\0';
}

static void bytes_drop(struct bytes *b, size_t n)
{
	memmove(b->at, b->at + n, b->n - n);
	b->n -= n;
}

struct peer *peer_new(struct mail *m)
{
	struct peer *p = calloc(1, sizeof(*p));

	p->m = m;
	bytes_add(&p->got, "", 0);
	list_push_back(&m->peers, &p->link);
	return p;
}

void peer_free(struct peer *p)
{
	list_del(&p->link);
	if (p->stream != NULL)
		stream_abort(p->stream);
	SSL_free(p->ssl);
	free(p->got.at);
	free(p->raw.at);
	free(p);
}

/* Sealed octets out of OpenSSL; decrypted ones into got. */
static void turn_tls(struct peer *p)
{
	uint8_t buf[16384];
	int n;

	ERR_clear_error();
	if (!p->secured && !p->tls_failed) {
		int rc = SSL_do_handshake(p->ssl);
		p->secured = rc == 1;
		p->tls_failed = rc != 1 && SSL_get_error(p->ssl, rc) != SSL_ERROR_WANT_READ;
	}
	while (p->secured && (n = SSL_read(p->ssl, buf, sizeof(buf))) > 0)
		bytes_add(&p->got, buf, (size_t)n);
	if (p->secured && (SSL_get_shutdown(p->ssl) & SSL_RECEIVED_SHUTDOWN) != 0)
		p->notified = true;
	while ((n = BIO_read(SSL_get_wbio(p->ssl), buf, sizeof(buf))) > 0)
		bytes_add(&p->raw, buf, (size_t)n);
}

void peer_pump(struct peer *p)
{
	if (p->ssl != NULL)
		turn_tls(p);
	if (p->stream == NULL || !p->opened || p->held || p->raw.n == 0)
		return;
	size_t n = p->split > 0 && p->split < p->raw.n ? p->split : p->raw.n;
	bytes_drop(&p->raw, stream_write(p->stream, p->raw.at, n, 0));
}

static void on_opened(struct stream *s, void *user)
{
	struct peer *p = user;

	p->opened = true;
	peer_pump(p);
}

static void on_readable(struct stream *s, void *user)
{
	struct peer *p = user;
	uint8_t buf[4096];
	size_t n;

	if (p->deaf)
		return;
	while ((n = stream_read(s, buf, sizeof(buf))) > 0) {
		if (p->ssl != NULL)
			BIO_write(SSL_get_rbio(p->ssl), buf, (int)n);
		else
			bytes_add(&p->got, buf, n);
	}
	p->eof = stream_eof(s);
	peer_pump(p);
	if (p->received != NULL)
		p->received(p);
}

static void on_writable(struct stream *s, void *user)
{
	peer_pump(user);
}

static void on_closed(struct stream *s, void *user, enum stream_end why)
{
	struct peer *p = user;

	p->stream = NULL;
	p->over = true;
	p->why = why;
	if (p->received != NULL)
		p->received(p);
}

const struct stream_events peer_events = {on_opened, on_readable, on_writable, on_closed};

static bool is_open(void *arg)
{
	const struct peer *p = arg;

	return p->opened || p->over;
}

struct peer *peer_connect(struct mail *m, uint16_t port)
{
	struct ip_addr from = net_addr(pair_net(m->pair), 0);

	return peer_connect_from(m, port, &from);
}

struct peer *peer_connect_from(struct mail *m, uint16_t port, const struct ip_addr *from)
{
	struct peer *p = peer_new(m);
	struct ip_addr to = net_addr(pair_net(m->pair), 1);
	int err;

	p->stream = stream_connect(pair_tcp(m->pair, 0), from, &to, port, &peer_events, p, &err);
	assert_non_null(p->stream);
	mail_run_until(m, is_open, p, CONNECT_WAIT_US);
	return p;
}

struct peer *peer_accept(struct mail *m, struct stream *s)
{
	struct peer *p = peer_new(m);

	p->stream = s;
	p->opened = true;
	stream_set_user(s, p);
	return p;
}

void peer_send(struct peer *p, const void *data, size_t n)
{
	const uint8_t *at = data;

	if (p->ssl == NULL) {
		peer_raw(p, data, n);
		return;
	}
	assert_true(p->secured);
	while (n > 0) {
		int piece = n > 16384 ? 16384 : (int)n;
		if (SSL_write(p->ssl, at, piece) != piece)
			fail_msg("the peer's TLS is over");
		at += piece;
		n -= (size_t)piece;
	}
	peer_pump(p);
}

void peer_say(struct peer *p, const char *text)
{
	peer_send(p, text, strlen(text));
}

void peer_raw(struct peer *p, const void *data, size_t n)
{
	bytes_add(&p->raw, data, n);
	peer_pump(p);
}

void peer_fin(struct peer *p)
{
	if (p->stream != NULL)
		stream_shutdown(p->stream);
}

void peer_reset(struct peer *p)
{
	if (p->stream != NULL)
		stream_abort(p->stream);
	p->stream = NULL;
}

void peer_close_notify(struct peer *p)
{
	SSL_shutdown(p->ssl);
	peer_pump(p);
}

static void begin(struct peer *p, SSL_CTX *context)
{
	p->ssl = SSL_new(context);
	SSL_set_bio(p->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
}

void peer_begin_tls(struct peer *p, int version, SSL_SESSION *session)
{
	begin(p, p->m->client_context);
	SSL_set_connect_state(p->ssl);
	if (p->m->server_name != NULL)
		SSL_set_tlsext_host_name(p->ssl, p->m->server_name);
	if (version != 0) {
		SSL_set_min_proto_version(p->ssl, version);
		SSL_set_max_proto_version(p->ssl, version);
	}
	if (session != NULL)
		SSL_set_session(p->ssl, session);
	peer_pump(p);
}

void peer_begin_tls_server(struct peer *p)
{
	begin(p, p->m->server_context);
	SSL_set_accept_state(p->ssl);
}

static bool handshake_over(void *arg)
{
	const struct peer *p = arg;

	return p->secured || p->tls_failed || p->over || p->eof;
}

bool peer_tls(struct peer *p, int version)
{
	peer_begin_tls(p, version, NULL);
	mail_run_until(p->m, handshake_over, p, REPLY_WAIT_US);
	return p->secured;
}

/* Offset behind a whole reply that begins at got_read; 0: none yet. */
static size_t reply_end(const struct peer *p)
{
	size_t at = p->got_read;

	for (;;) {
		const uint8_t *line = p->got.at + at;
		const uint8_t *lf = memchr(line, '\n', p->got.n - at);
		if (lf == NULL)
			return 0;
		at = (size_t)(lf + 1 - p->got.at);
		if (lf - line < 4 || line[3] != '-')
			return at;
	}
}

static bool reply_or_end(void *arg)
{
	const struct peer *p = arg;

	return reply_end(p) > 0 || p->over || p->eof;
}

const char *peer_reply(struct peer *p)
{
	mail_run_until(p->m, reply_or_end, p, REPLY_WAIT_US);
	size_t end = reply_end(p), n = end - p->got_read;
	if (end == 0 || n >= sizeof(p->reply))
		return "";
	memcpy(p->reply, p->got.at + p->got_read, n);
	p->reply[n] = '\0';
	p->got_read = end;
	return p->reply;
}

const char *peer_cmd(struct peer *p, const char *line)
{
	peer_say(p, line);
	peer_say(p, "\r\n");
	return peer_reply(p);
}

static bool has_ended(void *arg)
{
	const struct peer *p = arg;

	return p->over || p->eof;
}

bool peer_ended(struct peer *p)
{
	return mail_run_until(p->m, has_ended, p, REPLY_WAIT_US);
}

unsigned peer_acknowledged(const struct peer *p)
{
	unsigned n = 0;

	for (const char *at = (const char *)p->got.at;
	     (at = strstr(at, "250 2.0.0 queued")) != NULL; at++)
		n++;
	return n;
}

void peer_expect(struct peer *p, const char *prefix)
{
	const char *r = peer_reply(p);

	if (strncmp(r, prefix, strlen(prefix)) != 0)
		fail_msg("expected %s, got: %s", prefix, r);
}

struct peer *peer_login(struct mail *m)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	assert_true(peer_tls(p, 0));
	peer_expect(p, "220 ");
	peer_say(p, "EHLO client.test\r\n");
	peer_expect(p, "250-");
	peer_say(p, "AUTH PLAIN " PEER_PLAIN "\r\n");
	peer_expect(p, "235 ");
	return p;
}

void peer_envelope(struct peer *p, const char *from, const char *to)
{
	char line[600];

	snprintf(line, sizeof(line), "MAIL FROM:<%s>\r\n", from);
	peer_say(p, line);
	peer_expect(p, "250 2.1.0");
	snprintf(line, sizeof(line), "RCPT TO:<%s>\r\n", to);
	peer_say(p, line);
	peer_expect(p, "250 2.1.5");
}

const char *peer_message(struct peer *p, const char *content)
{
	peer_envelope(p, "alice@example.net", "bob@example.org");
	peer_say(p, "DATA\r\n");
	peer_expect(p, "354");
	peer_say(p, content);
	peer_say(p, ".\r\n");
	return peer_reply(p);
}
