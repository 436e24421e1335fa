/* transcript.c - runs the session and writes down what may be compared */
#include "tests/sim/transcript.h"

#include "smtp/internal.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { PIECE_US = 3000 };

static struct smtp_session *only_session(struct mail *m)
{
	for (uint32_t i = 0; i < slab_extent(m->smtp->sessions); i++) {
		struct smtp_session *s = slab_at(m->smtp->sessions, i, NULL);
		if (s != NULL)
			return s;
	}
	return NULL;
}

static struct peer *login(struct mail *m)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSION);

	peer_expect(p, "220");
	peer_cmd(p, "EHLO client.test");
	struct smtp_session *s = only_session(m);
	s->authenticated = true;
	strcpy(s->user, "alice");
	session_arm_deadline(s);
	return p;
}

/* "queued as ID" and " [TAG]" are new every time, and so is the last time of a release. */
static void add_replies(struct bytes *out, const char *text)
{
	while (*text != '\0') {
		size_t n = strcspn(text, "\r");
		const char *id = memmem(text, n, "queued as ", 10);
		const char *tag = n > 13 && text[n - 1] == ']' ? text + n - 13 : NULL;
		size_t shown = id != NULL ? (size_t)(id - text) + 9 : n;
		if (tag != NULL && tag[0] == ' ' && tag[1] == '[')
			shown = (size_t)(tag - text);
		if (strncmp(text, "250-FUTURERELEASE", 17) == 0)
			shown = 17;
		bytes_add(out, text, shown);
		bytes_add(out, "\n", 1);
		text += n;
		text += strspn(text, "\r\n");
	}
}

/* The names of the fields of ours: their values hold ids and times. */
static void add_prefix(struct bytes *out, const char *prefix, size_t n)
{
	for (size_t at = 0; at < n;) {
		const char *end = memmem(prefix + at, n - at, "\r\n", 2);
		size_t line = end != NULL ? (size_t)(end - prefix) - at : n - at;
		const char *colon = memchr(prefix + at, ':', line);
		if (line == 0)
			bytes_add(out, "(empty)\n", 8);
		if (line > 0 && prefix[at] != '\t' && colon != NULL) {
			bytes_add(out, prefix + at, (size_t)(colon - prefix) - at);
			bytes_add(out, "\n", 1);
		}
		at += line + 2;
	}
}

static void add_message(struct bytes *out, struct mail *m, const struct spool_found *f)
{
	static uint8_t data[1 << 20];
	static const struct {
		size_t at, n;
	} times[] = {{20, 8}, {48, 16}};

	m->last = *f;
	size_t n = mail_envelope(m, data, sizeof(data));
	for (size_t i = 0; i < 2; i++)
		memset(data + times[i].at, 0, times[i].n);
	bytes_add(out, "--envelope\n", 11);
	bytes_add(out, data, n);
	n = mail_content(m, data, sizeof(data));
	bytes_add(out, "--content\n", 10);
	add_prefix(out, (const char *)data, f->place.prefix_bytes);
	bytes_add(out, data + f->place.prefix_bytes, n - f->place.prefix_bytes);
}

struct bytes transcript_run(struct mail *m, const void *octets, size_t n, transcript_piece *piece,
			    void *arg)
{
	struct peer *p = login(m);
	struct bytes out = {0};
	unsigned before = m->accepted;
	size_t mark = p->got_read;

	for (size_t at = 0; at < n;) {
		size_t some = piece != NULL ? piece(arg, n - at) : 0;
		some = some == 0 || some > n - at ? n - at : some;
		peer_send(p, (const uint8_t *)octets + at, some);
		at += some;
		mail_run(m, PIECE_US);
	}
	mail_run(m, MAIL_SECOND);
	add_replies(&out, (const char *)p->got.at + mark);
	bytes_add(&out, p->eof || p->over ? "(closed)\n" : "(open)\n", p->eof || p->over ? 9 : 7);
	assert_true(m->accepted - before <= 16);
	for (unsigned i = before; i < m->accepted; i++)
		add_message(&out, m, &m->kept[i % 16]);
	peer_free(p);
	mail_run(m, MAIL_SECOND);
	assert_int_equal(smtp_sessions_open(m->smtp), 0);
	return out;
}
