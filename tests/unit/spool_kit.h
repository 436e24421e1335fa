/* spool_kit.h - what the spool's tests share: a worker that waits for its own requests, messages
 * whose bytes follow from their number, and a directory that is emptied afterwards. */
#ifndef TESTS_UNIT_SPOOL_KIT_H
#define TESTS_UNIT_SPOOL_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "smtp/spool/envelope.h"
#include "smtp/spool/spool.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t kit_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

struct kit_random {
	uint64_t state;
};

static inline uint64_t kit_draw(struct kit_random *r, uint64_t below)
{
	r->state++;
	return kit_mix(r->state) % below;
}

/* Byte i of message n's body. */
static inline uint8_t kit_byte(uint64_t n, uint64_t i)
{
	return (uint8_t)(kit_mix(n * 1000003 + i / 8) >> (i % 8 * 8));
}

static inline struct chunk *kit_chunk(uint32_t size)
{
	struct chunk *c = calloc(1, sizeof(*c) + size);

	assert_non_null(c);
	c->size = size;
	return c;
}

static inline void kit_free_chunks(struct chunk *c)
{
	while (c != NULL) {
		struct chunk *next = c->next;

		free(c);
		c = next;
	}
}

/* Bytes [from, from + bytes) of message n's body in chunks of the size. */
static inline struct chunk *kit_body(uint64_t n, uint64_t from, uint64_t bytes, uint32_t size)
{
	struct chunk *first = NULL, **at = &first;

	for (uint64_t done = 0; done < bytes;) {
		struct chunk *c = kit_chunk(size);

		while (c->end < size && done < bytes)
			c->data[c->end++] = kit_byte(n, from + done++);
		*at = c;
		at = &c->next;
	}
	return first;
}

/* An envelope with the number of recipients; its length. */
static inline uint32_t kit_envelope(uint8_t *out, size_t room, uint64_t n, uint32_t recipients)
{
	char text[64];
	struct envelope e = {.accepted_at_s = (int64_t)n};
	size_t bytes;

	snprintf(text, sizeof(text), "sender-%llu@example.org", (unsigned long long)n);
	e.reverse_path = (struct envelope_text){text, (uint32_t)strlen(text)};
	e.user = e.reverse_path;
	bytes = (size_t)envelope_begin(out, room, &e);
	for (uint32_t i = 0; i < recipients; i++) {
		snprintf(text, sizeof(text), "to-%llu-%u@example.net", (unsigned long long)n, i);
		struct envelope_recipient r = {.path = {text, (uint32_t)strlen(text)}};
		assert_int_equal(envelope_add_recipient(out, room, &bytes, &r), 0);
	}
	return (uint32_t)bytes;
}

static inline void kit_done(struct spool_request *r)
{
	*(bool *)r->user = true;
}

/* Submits and polls until the verdict; gives up (and fails) after half a minute. */
static inline int kit_run(struct spool_client *c, struct spool_request *r)
{
	bool done = false;
	struct timespec pause = {.tv_nsec = 50000};

	r->user = &done;
	r->done = kit_done;
	assert_int_equal(spool_submit(c, r), 0);
	for (int i = 0; i < 600000 && !done; i++) {
		if (spool_poll(c) == 0)
			nanosleep(&pause, NULL);
	}
	assert_true(done);
	return r->verdict;
}

static inline void kit_empty_directory(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d != NULL)
		closedir(d);
	rmdir(path);
}

static inline unsigned kit_count_files(const char *path, const char *suffix)
{
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	while (d != NULL && (e = readdir(d)) != NULL) {
		size_t name = strlen(e->d_name), end = strlen(suffix);

		n += name > end && strcmp(e->d_name + name - end, suffix) == 0;
	}
	if (d != NULL)
		closedir(d);
	return n;
}

#endif
