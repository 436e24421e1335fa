/* bio.c - OpenSSL reads and writes the session's chunks while a handshake thread has it, and
 * the stream while the worker has it; no memory BIO in between (2.7 KB a session) */
#include "tls/internal.h"

#include <string.h>

static int chunk_take(struct chunk *c, char *out, int n)
{
	int have = c != NULL ? (int)(c->end - c->start) : 0;

	if (n > have)
		n = have;
	if (n > 0) {
		memcpy(out, c->data + c->start, (size_t)n);
		c->start += (uint32_t)n;
	}
	return n;
}

static int bio_read(BIO *b, char *out, int n)
{
	struct tls_session *s = BIO_get_data(b);

	BIO_clear_retry_flags(b);
	if (s->hostile)
		return -1;
	int got = chunk_take(s->in, out, n);
	if (got == 0 && !s->detached && s->conn != NULL)
		got = (int)stream_read(s->conn->stream, out, (size_t)n);
	if (got > 0)
		return got;
	if (!s->detached && s->conn != NULL && stream_eof(s->conn->stream))
		return 0;
	BIO_set_retry_read(b);
	return -1;
}

static int bio_write(BIO *b, const char *data, int n)
{
	struct tls_session *s = BIO_get_data(b);
	size_t took = 0;

	BIO_clear_retry_flags(b);
	if (!s->detached && s->conn != NULL) {
		took = stream_write(s->conn->stream, data, (size_t)n, STREAM_MORE);
	} else if (s->out != NULL) {
		struct chunk *c = s->out;
		took = c->size - c->end < (uint32_t)n ? c->size - c->end : (uint32_t)n;
		memcpy(c->data + c->end, data, took);
		c->end += (uint32_t)took;
		takeover_sent(s, (const uint8_t *)data, took);
	}
	if (took > 0)
		return (int)took;
	BIO_set_retry_write(b);
	return -1;
}

static long bio_ctrl(BIO *b, int command, long num, void *ptr)
{
	return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int bio_create(BIO *b)
{
	BIO_set_init(b, 1);
	return 1;
}

BIO_METHOD *bio_method_create(void)
{
	BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "postern");

	if (m == NULL)
		return NULL;
	BIO_meth_set_read(m, bio_read);
	BIO_meth_set_write(m, bio_write);
	BIO_meth_set_ctrl(m, bio_ctrl);
	BIO_meth_set_create(m, bio_create);
	return m;
}
