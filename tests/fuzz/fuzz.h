/*
 * fuzz.h - what the fuzz targets share: an input is taken apart into small choices, and a claim
 * that does not hold ends the process, as a memory error does.
 *
 * A target is LLVMFuzzerTestOneInput(); libFuzzer calls it in the fuzzing build, replay.c in all
 * others.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CLAIM(what)                                                                \
	do {                                                                       \
		if (!(what)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
			abort();                                                   \
		}                                                                  \
	} while (0)

struct input {
	const uint8_t *at;
	size_t left;
};

/* 0 behind the end. */
static inline uint8_t take8(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

static inline uint16_t take16(struct input *in)
{
	uint16_t high = take8(in);

	return (uint16_t)(high << 8 | take8(in));
}

static inline uint32_t take32(struct input *in)
{
	uint32_t high = take16(in);

	return high << 16 | take16(in);
}

/* n bytes of the input, or what is left; *n says how many. */
static inline const uint8_t *take(struct input *in, size_t *n)
{
	const uint8_t *p = in->at;

	if (*n > in->left)
		*n = in->left;
	in->at += *n;
	in->left -= *n;
	return p;
}

static inline bool within(const void *p, size_t n, const void *whole, size_t whole_n)
{
	const uint8_t *a = p, *b = whole;

	return a >= b && n <= whole_n && (size_t)(a - b) <= whole_n - n;
}

#endif
