/* spool_fixture.h - a spool on real files with its threads, and a worker that waits for each of its
 * requests. */
#ifndef TESTS_UNIT_SPOOL_FIXTURE_H
#define TESTS_UNIT_SPOOL_FIXTURE_H

#include "tests/unit/spool_kit.h"

#include <errno.h>
#include <pthread.h>

enum { CHUNK_BYTES = 4096 };

struct fixture {
	char directory[64];
	struct spool_config config;
	struct spool *sp;
	struct spool_client *client;
};

static inline void start(struct fixture *f)
{
	char error[256] = "";

	if (spool_open(&f->sp, &f->config, error, sizeof(error)) != 0)
		fail_msg("%s", error);
	assert_int_equal(spool_start(f->sp), 0);
	f->client = spool_client_create(f->sp, 256);
	assert_non_null(f->client);
}

static inline void ignore_found(void *arg, const struct spool_found *f)
{
}

/* Until everything found at the start has been handed over. */
static inline void recovered(struct spool *sp, void (*fn)(void *, const struct spool_found *),
			     void *arg)
{
	struct spool_progress p;

	do {
		if (spool_poll_found(sp, fn, arg) == 0)
			usleep(20);
		spool_recovery_progress(sp, &p);
		assert_int_not_equal(p.stage, SPOOL_RECOVERY_FAILED);
	} while (p.stage != SPOOL_RECOVERY_DONE);
}

static inline void stop(struct fixture *f)
{
	spool_client_destroy(f->client);
	spool_close(f->sp);
}

static inline int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	snprintf(f->directory, sizeof(f->directory), "/tmp/test-spool-XXXXXX");
	if (mkdtemp(f->directory) == NULL)
		return -1;
	f->config = (struct spool_config){
		.directory = f->directory,
		.segment_size = 1 << 20,
		.max_delay_us = 2000,
		.readers = 2,
		.io = &spool_io_linux,
	};
	start(f);
	*state = f;
	return 0;
}

static inline int tear_down(void **state)
{
	struct fixture *f = *state;

	stop(f);
	kit_empty_directory(f->directory);
	free(f);
	return 0;
}

static inline int commit(struct fixture *f, uint64_t n, uint64_t body_bytes, spool_id_t *id)
{
	uint8_t envelope[512];
	struct spool_request r = {.op = SPOOL_COMMIT};
	static const char prefix[] = "Received: by test\r\n";

	*id = r.id = spool_new_id(f->sp);
	r.envelope = envelope;
	r.envelope_bytes = kit_envelope(envelope, sizeof(envelope), n, 3);
	r.prefix = (const uint8_t *)prefix;
	r.prefix_bytes = sizeof(prefix) - 1;
	r.body_bytes = body_bytes;
	r.chunks = kit_body(n, 0, body_bytes, CHUNK_BYTES);
	int verdict = kit_run(f->client, &r);
	kit_free_chunks(r.chunks);
	return verdict;
}

static inline int commit_large(struct fixture *f, uint64_t n, uint64_t body_bytes, spool_id_t *id)
{
	uint8_t envelope[512];
	struct spool_request r = {.op = SPOOL_COMMIT, .large = true, .body_bytes = body_bytes};

	*id = r.id = spool_new_id(f->sp);
	for (uint64_t at = 0; at < body_bytes; at += 65536) {
		uint64_t piece = body_bytes - at < 65536 ? body_bytes - at : 65536;
		struct spool_request a = {.op = SPOOL_BODY_APPEND, .id = r.id};

		a.chunks = kit_body(n, at, piece, CHUNK_BYTES);
		assert_int_equal(kit_run(f->client, &a), 0);
		kit_free_chunks(a.chunks);
	}
	r.envelope = envelope;
	r.envelope_bytes = kit_envelope(envelope, sizeof(envelope), n, 3);
	return kit_run(f->client, &r);
}

static inline int dispose_last(struct fixture *f, spool_id_t id)
{
	struct spool_request r = {.op = SPOOL_DISPOSE, .id = id, .last = true};

	return kit_run(f->client, &r);
}

/* The body as it reads back, in pieces of an odd size, must be message n's. */
static inline void assert_body(struct fixture *f, spool_id_t id, uint64_t n, uint64_t prefix_bytes,
			       uint64_t body_bytes)
{
	uint64_t at = prefix_bytes;

	while (at < prefix_bytes + body_bytes) {
		struct spool_request r = {.op = SPOOL_READ, .id = id, .read_offset = at};

		r.chunks = kit_chunk(CHUNK_BYTES);
		r.chunks->next = kit_chunk(CHUNK_BYTES);
		r.read_bytes = 5003;
		assert_int_equal(kit_run(f->client, &r), 0);
		assert_true(r.read_bytes > 0);
		for (uint64_t i = 0; i < r.read_bytes; i++) {
			const struct chunk *c = i < CHUNK_BYTES ? r.chunks : r.chunks->next;

			assert_int_equal(c->data[i % CHUNK_BYTES],
					 kit_byte(n, at - prefix_bytes + i));
		}
		at += r.read_bytes;
		kit_free_chunks(r.chunks);
	}
	assert_int_equal(at, prefix_bytes + body_bytes);
}

struct found_list {
	struct spool_found at[8];
	uint8_t done[8];
	unsigned n;
};

static inline void note_found(void *arg, const struct spool_found *f)
{
	struct found_list *l = arg;

	assert_true(l->n < 8);
	l->done[l->n] = f->done[0];
	l->at[l->n++] = *f;
}

#endif
