/* record.c - JSON text built in place, then copied into the ring as a line */
#include "base/record.h"

#include "base/utf8.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RECORD_MOST = 16384 };

struct record {
	struct records *records;
	size_t n;
	bool overflow, first_item;
	char text[RECORD_MOST];
};

struct records {
	size_t bytes;
	_Atomic size_t head, tail; /* written by the worker; by the reader */
	_Atomic uint64_t lost;
	struct record record;
	char ring[];
};

struct records *records_create(size_t bytes)
{
	struct records *r = calloc(1, sizeof(*r) + bytes);

	if (r == NULL)
		return NULL;
	r->bytes = bytes;
	r->record.records = r;
	return r;
}

void records_destroy(struct records *r)
{
	free(r);
}

static void put(struct record *r, const char *text, size_t n)
{
	if (n > sizeof(r->text) - r->n) {
		r->overflow = true;
		return;
	}
	memcpy(r->text + r->n, text, n);
	r->n += n;
}

__attribute__((format(printf, 2, 3))) static void print(struct record *r, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put(r, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* A JSON string (RFC 8259 section 7). */
static void quote(struct record *r, const char *text, size_t n)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + n;

	put(r, "\"", 1);
	while (s < end) {
		size_t k = utf8_sequence(s, (size_t)(end - s));
		if (k == 0) {
			put(r, "\\ufffd", 6);
			k = 1;
		} else if (*s < ' ' || *s == 0x7f) {
			print(r, "\\u%04x", *s);
		} else {
			if (*s == '"' || *s == '\\')
				put(r, "\\", 1);
			put(r, (const char *)s, k);
		}
		s += k;
	}
	put(r, "\"", 1);
}

struct record *record_begin(struct records *records, const char *type, int64_t wall_us)
{
	time_t s = (time_t)(wall_us / 1000000);
	struct tm tm;

	if (records == NULL)
		return NULL;
	struct record *r = &records->record;
	r->n = 0;
	r->overflow = false;
	gmtime_r(&s, &tm);
	print(r, "{\"type\":\"%s\",\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ\"", type,
	      (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min,
	      tm.tm_sec, (int)(wall_us % 1000000));
	return r;
}

void record_text(struct record *r, const char *key, const char *text, size_t n)
{
	if (r == NULL)
		return;
	print(r, ",\"%s\":", key);
	quote(r, text, n);
}

void record_string(struct record *r, const char *key, const char *text)
{
	if (r != NULL && text != NULL && text[0] != '\0')
		record_text(r, key, text, strlen(text));
}

void record_number(struct record *r, const char *key, uint64_t value)
{
	if (r != NULL)
		print(r, ",\"%s\":%" PRIu64, key, value);
}

void record_bool(struct record *r, const char *key, bool value)
{
	if (r != NULL)
		print(r, ",\"%s\":%s", key, value ? "true" : "false");
}

void record_list(struct record *r, const char *key)
{
	if (r == NULL)
		return;
	print(r, ",\"%s\":[", key);
	r->first_item = true;
}

void record_item(struct record *r, const char *text, size_t n)
{
	if (r == NULL)
		return;
	if (!r->first_item)
		put(r, ",", 1);
	r->first_item = false;
	quote(r, text, n);
}

void record_list_end(struct record *r)
{
	if (r != NULL)
		put(r, "]", 1);
}

static void copy_in(struct records *r, size_t at, const char *text, size_t n)
{
	size_t begin = at & (r->bytes - 1), first = r->bytes - begin < n ? r->bytes - begin : n;

	memcpy(r->ring + begin, text, first);
	memcpy(r->ring, text + first, n - first);
}

void record_end(struct record *r)
{
	if (r == NULL)
		return;
	put(r, "}\n", 2);
	struct records *to = r->records;
	size_t head = atomic_load_explicit(&to->head, memory_order_relaxed);
	size_t used = head - atomic_load_explicit(&to->tail, memory_order_acquire);
	if (r->overflow || r->n > to->bytes - used) {
		atomic_fetch_add_explicit(&to->lost, 1, memory_order_relaxed);
		return;
	}
	copy_in(to, head, r->text, r->n);
	atomic_store_explicit(&to->head, head + r->n, memory_order_release);
}

size_t records_take(struct records *r, char *out, size_t room)
{
	size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
	size_t n = atomic_load_explicit(&r->head, memory_order_acquire) - tail;
	size_t begin = tail & (r->bytes - 1);

	n = n < room ? n : room;
	size_t first = r->bytes - begin < n ? r->bytes - begin : n;
	memcpy(out, r->ring + begin, first);
	memcpy(out + first, r->ring, n - first);
	/* no line is torn */
	while (n > 0 && out[n - 1] != '\n')
		n--;
	atomic_store_explicit(&r->tail, tail + n, memory_order_release);
	return n;
}

uint64_t records_lost(const struct records *r)
{
	return atomic_load_explicit(&r->lost, memory_order_relaxed);
}
