/* mail_kit.h - what tests of SMTP sessions share: a command and its reply, a whole message by DATA
 * or BDAT, and what was stored of it */
#ifndef TESTS_UNIT_MAIL_KIT_H
#define TESTS_UNIT_MAIL_KIT_H

#include "smtp/internal.h"
#include "tests/sim/peer.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static inline void expect_cmd(struct peer *p, const char *line, const char *prefix)
{
	const char *r = peer_cmd(p, line);

	if (strncmp(r, prefix, strlen(prefix)) != 0)
		fail_msg("%.200s: expected %s, got: %s", line, prefix, r);
}

static inline void expect_say(struct peer *p, const char *octets, const char *prefix)
{
	peer_say(p, octets);
	peer_expect(p, prefix);
}

/* MAIL with these parameters, and one RCPT. */
static inline void envelope_with(struct peer *p, const char *parameters)
{
	char line[700];

	snprintf(line, sizeof(line), "MAIL FROM:<alice@example.net> %s", parameters);
	expect_cmd(p, line, "250");
	expect_cmd(p, "RCPT TO:<bob@example.org>", "250");
}

/* A message by DATA; the reply must begin so. */
static inline void data_with(struct peer *p, const char *parameters, const char *content,
			     const char *prefix)
{
	envelope_with(p, parameters);
	expect_cmd(p, "DATA", "354");
	peer_say(p, content);
	expect_say(p, ".\r\n", prefix);
}

/* One BDAT with its octets. */
static inline void bdat(struct peer *p, const void *octets, size_t n, bool last, const char *prefix)
{
	char line[60];

	snprintf(line, sizeof(line), "BDAT %zu%s\r\n", n, last ? " LAST" : "");
	peer_say(p, line);
	peer_send(p, octets, n);
	peer_expect(p, prefix);
}

/* Where what the client sent begins in the stored content: behind our own fields. */
static inline size_t stored(struct mail *m, char *out, size_t room, const char *sent, size_t n)
{
	size_t all = mail_content(m, (uint8_t *)out, room - 1);

	out[all] = '\0';
	assert_true(all >= n);
	assert_memory_equal(out + all - n, sent, n);
	return all - n;
}

static inline void stored_text(struct mail *m, const char *sent)
{
	char out[8192];

	stored(m, out, sizeof(out), sent, strlen(sent));
}

/* The envelope of the last message; valid until the next call. */
static inline const struct envelope *stored_envelope(struct mail *m, struct envelope_recipient *r)
{
	static uint8_t data[65536];
	static struct envelope e;
	size_t n = mail_envelope(m, data, sizeof(data)), cursor = 0;

	assert_int_equal(envelope_decode(data, n, &e), 0);
	if (r != NULL)
		assert_true(envelope_next_recipient(data, n, &cursor, r));
	return &e;
}

static inline void expect_text(const struct envelope_text *t, const char *expected)
{
	assert_int_equal(t->bytes, strlen(expected));
	assert_memory_equal(t->at, expected, t->bytes);
}

#endif
