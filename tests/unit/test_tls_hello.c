/* test_tls_hello.c - a ClientHello of OpenSSL read, cut, split and bent */
#include "tls/hello.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { ROOM = 40000 };

static uint8_t scratch[HELLO_BYTES + 4];

/* The records of a client's first flight. */
static size_t make_hello(const char *name, int version, SSL_SESSION *session, uint8_t *out)
{
	SSL_CTX *x = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(x);
	BIO *out_bio = BIO_new(BIO_s_mem());

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), out_bio);
	SSL_set_max_proto_version(ssl, version);
	if (name != NULL)
		SSL_set_tlsext_host_name(ssl, name);
	if (session != NULL)
		SSL_set_session(ssl, session);
	SSL_connect(ssl);
	int n = BIO_read(out_bio, out, ROOM);
	assert_true(n > 100);
	SSL_free(ssl);
	SSL_CTX_free(x);
	return (size_t)n;
}

static void name_and_version_are_found(void **state)
{
	static uint8_t wire[ROOM];
	struct hello h;
	size_t n = make_hello("mx.example.net", TLS1_3_VERSION, NULL, wire);

	assert_int_equal(hello_read(wire, n, scratch, &h), HELLO_WHOLE);
	assert_int_equal(h.name_bytes, 14);
	assert_memory_equal(h.name, "mx.example.net", 14);
	assert_true(h.tls_1_3);
	n = make_hello(NULL, TLS1_2_VERSION, NULL, wire);
	assert_int_equal(hello_read(wire, n, scratch, &h), HELLO_WHOLE);
	assert_null(h.name);
	assert_false(h.tls_1_3);
	assert_int_equal(h.n_tickets, 0);
}

static void every_cut_is_a_part(void **state)
{
	static uint8_t wire[ROOM];
	struct hello h;
	size_t n = make_hello("mx.example.net", TLS1_3_VERSION, NULL, wire);

	for (size_t at = 5; at < n; at++)
		assert_int_equal(hello_read(wire, at, scratch, &h), HELLO_PART);
}

/* The same message in records of so many octets. */
static size_t split(const uint8_t *wire, size_t n, size_t piece, uint8_t *out)
{
	size_t used = 0;

	for (size_t at = 5; at < n; at += piece) {
		size_t k = n - at < piece ? n - at : piece;
		memcpy(out + used, wire, 3);
		out[used + 3] = (uint8_t)(k >> 8);
		out[used + 4] = (uint8_t)k;
		memcpy(out + used + 5, wire + at, k);
		used += 5 + k;
	}
	return used;
}

static void a_hello_in_many_records_reads_as_in_one(void **state)
{
	static uint8_t wire[ROOM], pieces[ROOM];
	struct hello h;
	size_t n = make_hello("mx.example.net", TLS1_3_VERSION, NULL, wire);

	for (size_t piece = 1; piece < n; piece += piece < 20 ? 1 : 37) {
		size_t k = split(wire, n, piece, pieces);
		assert_int_equal(hello_read(pieces, k, scratch, &h), HELLO_WHOLE);
		assert_int_equal(h.name_bytes, 14);
		assert_int_equal(hello_read(pieces, k - 1, scratch, &h), HELLO_PART);
	}
}

static void an_empty_record_is_malformed(void **state)
{
	static const uint8_t empty[] = {22, 3, 1, 0, 0, 22, 3, 1, 0, 1, 1};
	struct hello h;

	assert_int_equal(hello_read(empty, sizeof(empty), scratch, &h), HELLO_MALFORMED);
}

static void what_is_no_hello_is_other(void **state)
{
	static const uint8_t alert[] = {21, 3, 1, 0, 2, 2, 40}, finished[] = {22, 3, 1, 0, 1, 20};
	struct hello h;

	assert_int_equal(hello_read(alert, sizeof(alert), scratch, &h), HELLO_OTHER);
	assert_int_equal(hello_read(finished, sizeof(finished), scratch, &h), HELLO_OTHER);
	assert_int_equal(hello_read(alert, 0, scratch, &h), HELLO_OTHER);
}

static void too_large_is_known_from_the_header(void **state)
{
	static const uint8_t big[] = {22, 3, 1, 0, 4, 1, 0, 0x40, 1};
	struct hello h;

	assert_int_equal(hello_read(big, sizeof(big), scratch, &h), HELLO_TOO_LARGE);
}

/* Each octet of the message set to each of some values: never beyond the end (the sanitizers
 * watch), and what is found lies inside. */
static void a_bent_octet_leads_nowhere(void **state)
{
	static const uint8_t values[] = {0, 1, 2, 4, 0x7f, 0x80, 0xff};
	static uint8_t wire[ROOM];
	size_t n = make_hello("mx.example.net", TLS1_3_VERSION, NULL, wire);
	uint8_t *copy = malloc(n);
	unsigned malformed = 0;

	for (size_t at = 0; at < n; at++) {
		for (size_t v = 0; v < sizeof(values); v++) {
			struct hello h;
			memcpy(copy, wire, n);
			copy[at] = values[v];
			malformed += hello_read(copy, n, scratch, &h) == HELLO_MALFORMED;
			if (h.name == NULL)
				continue;
			bool inside = h.name >= copy && h.name + h.name_bytes <= copy + n;
			bool joined = h.name >= scratch &&
				      h.name + h.name_bytes <= scratch + sizeof(scratch);
			assert_true(inside || joined);
		}
	}
	assert_true(malformed > 50);
	free(copy);
}

/* A hello with these extensions. */
static size_t with_extensions(const uint8_t *extensions, size_t n, uint8_t *out)
{
	size_t body = 2 + 32 + 1 + 4 + 2 + 2 + n;
	uint8_t *p = out;

	*p++ = 22;
	*p++ = 3;
	*p++ = 1;
	*p++ = (uint8_t)((body + 4) >> 8);
	*p++ = (uint8_t)(body + 4);
	*p++ = 1;
	*p++ = 0;
	*p++ = (uint8_t)(body >> 8);
	*p++ = (uint8_t)body;
	memset(p, 3, 34);
	p += 34;
	memcpy(p, "\0\0\x02\x13\x01\x01\0", 7);
	p += 7;
	*p++ = (uint8_t)(n >> 8);
	*p++ = (uint8_t)n;
	memcpy(p, extensions, n);
	return (size_t)(p + n - out);
}

#define EXT(text) (const uint8_t *)(text), sizeof(text) - 1

static enum hello_verdict verdict(const uint8_t *extensions, size_t n, struct hello *h)
{
	static uint8_t wire[1000];

	return hello_read(wire, with_extensions(extensions, n, wire), scratch, h);
}

static void malformed_extensions_are_told(void **state)
{
	static const struct {
		const uint8_t *at;
		size_t n;
	} bad[] = {
		{EXT("\0\0\0\4\0\2\0\0")},                             /* empty name */
		{EXT("\0\0\0\6\0\4\1\0\1a")},                          /* not a host name */
		{EXT("\0\0\0\6\0\4\0\0\2a")},                          /* longer than its list */
		{EXT("\0\0\0\x0a\0\x08\0\0\1a\0\0\1b")},               /* two names */
		{EXT("\0\0\0\6\0\4\0\0\1a\0\0\0\6\0\4\0\0\1a")},       /* twice */
		{EXT("\0\0\0\7\0\4\0\0\1ax")},                         /* something behind */
		{EXT("\0\x29\0\x0b\0\5\0\0\0\0\0\0\0\0\0\0\0\0\0\0")}, /* PSKs not the last */
		{EXT("\0\x2b\0\4\3\3\4\3")},                           /* half a version */
		{EXT("\0\0\0")},
		{EXT("\0\0\0\xff")},
	};
	struct hello h;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (verdict(bad[i].at, bad[i].n, &h) != HELLO_MALFORMED)
			fail_msg("row %zu", i);
}

static void tickets_and_psk_identities_show_their_key_names(void **state)
{
	struct hello h;

	assert_int_equal(verdict(EXT("\0\x23\0\x12"
				     "0123456789abcdefXY"),
				 &h),
			 HELLO_WHOLE);
	assert_int_equal(h.n_tickets, 1);
	assert_memory_equal(h.ticket[0], "0123456789abcdef", 16);
	assert_int_equal(verdict(EXT("\0\x23\0\x03"
				     "abc"),
				 &h),
			 HELLO_WHOLE);
	assert_int_equal(h.n_tickets, 0);
	assert_int_equal(verdict(EXT("\0\x29\0\x1b\0\x16\0\x10"
				     "0123456789abcdef"
				     "\0\0\0\0"
				     "\0\1\0"),
				 &h),
			 HELLO_WHOLE);
	assert_int_equal(h.n_tickets, 1);
	assert_memory_equal(h.ticket[0], "0123456789abcdef", 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(name_and_version_are_found),
		cmocka_unit_test(every_cut_is_a_part),
		cmocka_unit_test(a_hello_in_many_records_reads_as_in_one),
		cmocka_unit_test(an_empty_record_is_malformed),
		cmocka_unit_test(what_is_no_hello_is_other),
		cmocka_unit_test(too_large_is_known_from_the_header),
		cmocka_unit_test(a_bent_octet_leads_nowhere),
		cmocka_unit_test(malformed_extensions_are_told),
		cmocka_unit_test(tickets_and_psk_identities_show_their_key_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
