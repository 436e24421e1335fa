/* fuzz_tls_record.c - records of our own, from a peer that has the keys: sealed well, padded,
 * spoilt, or mere octets.  What is read is what was sealed, up to the first fault; cutting the
 * octets changes nothing; and all that goes out are records that the peer can open. */
#include "perf/tls_pipe.h"
#include "tests/fuzz/fuzz.h"
#include "tls/native.h"

enum { MEMORY = 4 << 20, RECORD_MOST = AEAD_PLAIN + 256 + AEAD_OVERHEAD, TEXT = 1 << 20 };

static const struct {
	uint16_t id;
	bool tls_1_3;
} suites[] = {{0x1301, true},  {0x1302, true},  {0x1303, true},
	      {0xc02b, false}, {0xc02c, false}, {0xcca9, false}};

struct text {
	uint8_t at[TEXT];
	size_t n;
};

struct world {
	struct shard shard;
	struct tls tls;
	struct tls_worker *worker;
	struct aead_engine *peer; /* seals and opens as the other end */
};

struct side {
	struct conn conn;
	struct stream stream;
	struct aead_suite suite;
	struct aead_key key[2]; /* of the other end */
	struct text *read, *written, *sealed;
	uint8_t piece, cap; /* 0: all at once */
	bool spoilt;        /* what comes now is not sealed well */
};

static uint64_t draw(void *arg)
{
	return 4;
}

static void on_event(struct conn *c)
{
}

static void on_ended(struct conn *c, enum conn_end why)
{
}

static const struct conn_events events = {on_event, on_event, on_event, on_ended};

static struct world *open_world(void)
{
	static struct world w;

	if (w.worker != NULL)
		return &w;
	w.shard = (struct shard){.chunks = chunk_pool_create(aligned_alloc(65536, MEMORY), MEMORY),
				 .random64 = draw};
	w.tls.max_sessions = 4;
	w.worker = tls_worker_create(&w.tls, &w.shard);
	w.worker->record_limit = 20;
	w.peer = aead_engine_create(true);
	CLAIM(w.worker != NULL && w.peer != NULL);
	return &w;
}

static void add(struct text *t, const void *data, size_t n)
{
	CLAIM(n <= TEXT - t->n);
	memcpy(t->at + t->n, data, n);
	t->n += n;
}

static void open_side(struct world *w, struct side *s, unsigned suite, bool client)
{
	handle_t h;
	struct tls_session *x = slab_alloc(w->worker->sessions, &h);

	CLAIM(aead_suite(suites[suite].id, suites[suite].tls_1_3, &s->suite));
	conn_init(&s->conn, w->worker, &s->stream, &events);
	s->conn.tls = x;
	*x = (struct tls_session){.conn = &s->conn, .worker = w->worker, .handle = h};
	x->records = OPENSSL_zalloc(sizeof(*x->records));
	x->records->suite = s->suite;
	x->records->client = client;
	for (unsigned d = 0; d < 2; d++) {
		struct aead_key *k = &x->records->key[d];
		memset(k->secret, (int)d + 1, sizeof(k->secret));
		memset(k->key, (int)d + 3, sizeof(k->key));
		if (s->suite.tls_1_3)
			CLAIM(aead_derive(w->peer, &s->suite, k));
		s->key[!d] = *k;
	}
}

/* Opens what went out. */
static void check_output(struct world *w, struct side *s)
{
	struct pipe_buffer *b = &s->stream.out;
	size_t explicit = aead_explicit(&s->suite);

	while (b->end > b->start) {
		uint8_t *p = b->data + b->start, *body = p + AEAD_HEADER + explicit;
		size_t length = (size_t)p[3] << 8 | p[4], n = length - explicit - AEAD_TAG;
		CLAIM(b->end - b->start >= AEAD_HEADER + length && length <= AEAD_PLAIN + 256);
		CLAIM(aead_open_begin(w->peer, &s->suite, &s->key[AEAD_IN], p, p + AEAD_HEADER) &&
		      aead_open_part(w->peer, body, body, n) &&
		      aead_open_end(w->peer, &s->key[AEAD_IN], body + n));
		uint8_t type = s->suite.tls_1_3 ? body[n - 1] : p[0];
		CLAIM(type >= 21 && type <= 23);
		add(s->written, body, n);
		if (type == 22)
			CLAIM(aead_update(w->peer, &s->suite, AEAD_IN, &s->key[AEAD_IN]));
		b->start += AEAD_HEADER + length;
	}
	b->start = b->end = 0;
}

static void feed(struct world *w, struct side *s, const uint8_t *data, size_t n)
{
	uint8_t buf[300];
	size_t step = s->piece > 0 ? s->piece : n, got;
	struct pipe_buffer *b = &s->stream.in;

	for (size_t at = 0; at < n && !s->conn.tls_eof; at += step) {
		if (b->start > 0)
			memmove(b->data, b->data + b->start, b->end - b->start);
		b->end -= b->start;
		b->start = 0;
		pipe_put(b, data + at, n - at < step ? n - at : step);
		while ((got = conn_read(&s->conn, buf, 1 + s->cap)) > 0)
			add(s->read, buf, got);
		check_output(w, s);
	}
}

static void seal(struct world *w, struct side *s, struct input *in, uint8_t op)
{
	static const uint8_t types[] = {23, 23, 22, 21, 20, 24};
	static uint8_t content[AEAD_PLAIN + 600], record[RECORD_MOST + 600];
	uint8_t type = op == 6 ? 23 : types[take8(in) % 6];
	size_t n = op == 6 ? take16(in) % 16600 : take8(in), pad = 0;

	if (op == 6) {
		memset(content, (int)n, n);
	} else {
		const uint8_t *from = take(in, &n);
		memcpy(content, from, n);
	}
	if (op == 2 && s->suite.tls_1_3) {
		pad = take16(in) % 300;
		content[n] = type;
		memset(content + n + 1, 0, pad);
		pad++; /* the type; the last zero stands in its place */
	}
	size_t size = aead_seal(w->peer, &s->suite, &s->key[AEAD_OUT], pad > 0 ? 0 : type, content,
				n + pad, record);
	CLAIM(size > 0);
	if (op == 4) {
		record[take16(in) % size] ^= (uint8_t)(1 << take8(in) % 8);
		s->spoilt = true;
	}
	if (type == 23 && !s->spoilt)
		add(s->sealed, content, n);
	feed(w, s, record, size);
}

static void update(struct world *w, struct side *s, uint8_t kind)
{
	uint8_t message[] = {24, 0, 0, 1, kind}, record[64];
	size_t n = aead_seal(w->peer, &s->suite, &s->key[AEAD_OUT], 22, message, 5, record);

	if (s->suite.tls_1_3)
		CLAIM(aead_update(w->peer, &s->suite, AEAD_OUT, &s->key[AEAD_OUT]));
	feed(w, s, record, n);
}

static void run(struct side *s, const uint8_t *data, size_t n)
{
	struct world *w = open_world();
	struct input in = {data, n};

	w->shard.now_us = 1;
	uint8_t first = take8(&in);
	take16(&in); /* the widths */
	open_side(w, s, first % 6, (first & 64) != 0);
	while (in.left > 0 && !s->conn.tls_eof) {
		uint8_t op = take8(&in) % 8;
		if (op == 3) {
			size_t k = take8(&in);
			const uint8_t *raw = take(&in, &k);
			s->spoilt |= k > 0;
			feed(w, s, raw, k);
		} else if (op == 5) {
			update(w, s, take8(&in) % 2);
		} else if (op == 7) {
			w->shard.now_us += 1100000;
			conn_write(&s->conn, data, n < 100 ? n : 100, false);
			check_output(w, s);
		} else {
			seal(w, s, &in, op);
		}
	}
	CLAIM(s->conn.tls->in == NULL || s->conn.tls->in->end > s->conn.tls->in->start);
	conn_close(&s->conn);
	check_output(w, s);
	pipe_free(&s->stream);
	CLAIM(slab_used(w->worker->sessions) == 0);
	CLAIM(s->read->n <= s->sealed->n && memcmp(s->read->at, s->sealed->at, s->read->n) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct text text[2][3];
	static struct side side[2];

	if (n < 3 || n > 20000)
		return 0;
	for (unsigned i = 0; i < 2; i++) {
		for (unsigned k = 0; k < 3; k++)
			text[i][k].n = 0;
		side[i] = (struct side){.read = &text[i][0],
					.written = &text[i][1],
					.sealed = &text[i][2],
					.piece = i == 0 ? 0 : 1 + data[1] % 60,
					.cap = i == 0 ? 255 : data[2]};
		run(&side[i], data, n);
	}
	CLAIM(side[0].read->n == side[1].read->n &&
	      memcmp(side[0].read->at, side[1].read->at, side[0].read->n) == 0);
	CLAIM(side[0].written->n == side[1].written->n &&
	      memcmp(side[0].written->at, side[1].written->at, side[0].written->n) == 0);
	return 0;
}
