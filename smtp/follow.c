/* follow.c - a ring of lines with one writer and one reader */
#include "smtp/follow.h"

#include "smtp/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINES = 1024 };

struct smtp_follow {
	struct smtp_follow_filter filter;
	_Atomic uint32_t head, tail; /* written by the worker; by the reader */
	_Atomic uint64_t lost;
	struct smtp_follow_line line[LINES];
};

struct smtp_follow *smtp_follow_create(const struct smtp_follow_filter *filter)
{
	struct smtp_follow *f = calloc(1, sizeof(*f));

	if (f != NULL)
		f->filter = *filter;
	return f;
}

void smtp_follow_destroy(struct smtp_follow *f)
{
	free(f);
}

void smtp_follow_attach(struct smtp_worker *w, struct smtp_follow *f)
{
	w->follow = f;
}

bool smtp_follow_take(struct smtp_follow *f, struct smtp_follow_line *out)
{
	uint32_t tail = atomic_load_explicit(&f->tail, memory_order_relaxed);

	if (tail == atomic_load_explicit(&f->head, memory_order_acquire))
		return false;
	*out = f->line[tail % LINES];
	atomic_store_explicit(&f->tail, tail + 1, memory_order_release);
	return true;
}

uint64_t smtp_follow_lost(const struct smtp_follow *f)
{
	return atomic_load_explicit(&f->lost, memory_order_relaxed);
}

static bool meant(const struct smtp_follow_filter *f, const struct smtp_session *s)
{
	if (f->by == SMTP_FOLLOW_SESSION)
		return strcmp(f->name, s->tag) == 0;
	if (f->by == SMTP_FOLLOW_USER)
		return s->authenticated && strcmp(f->name, s->user) == 0;
	return addr_same_network(&f->addr, &s->peer, f->bits);
}

/* Printable ASCII as it is; what could upset a terminal or a log as \xNN. */
static void escape(const char *text, size_t n, char *out, size_t room)
{
	size_t at = 0;

	for (size_t i = 0; i < n && at + 5 < room; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c >= ' ' && c < 0x7f && c != '\\')
			out[at++] = (char)c;
		else
			at += (size_t)snprintf(out + at, room - at, "\\x%02x", c);
	}
	out[at] = '\0';
}

void follow_note(struct smtp_session *s, enum smtp_follow_kind kind, const char *text, size_t n)
{
	struct smtp_follow *f = s->worker->follow;

	if (!meant(&f->filter, s))
		return;
	uint32_t head = atomic_load_explicit(&f->head, memory_order_relaxed);
	if (head - atomic_load_explicit(&f->tail, memory_order_acquire) == LINES) {
		atomic_fetch_add_explicit(&f->lost, 1, memory_order_relaxed);
		return;
	}
	struct smtp_follow_line *l = &f->line[head % LINES];
	l->at_us = s->worker->shard->now_us;
	l->stream = s->conn.stream != NULL ? stream_handle(s->conn.stream) : 0;
	l->kind = kind;
	memcpy(l->tag, s->tag, sizeof(l->tag));
	escape(text, n, l->text, sizeof(l->text));
	atomic_store_explicit(&f->head, head + 1, memory_order_release);
}

void follow_event_note(struct smtp_session *s, const char *fmt, ...)
{
	char text[300];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	follow_note(s, SMTP_FOLLOW_EVENT, text,
		    n < (int)sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

void follow_command_note(struct smtp_session *s, const char *line, size_t n)
{
	struct text rest = {line, n}, verb = text_word(&rest);
	char text[80];

	if (s->phase == PHASE_AUTH) {
		snprintf(text, sizeof(text), "*** (%zu octets of AUTH)", n);
	} else if (text_is(verb, "AUTH")) {
		struct text mechanism = text_word(&rest);
		snprintf(text, sizeof(text), "AUTH %.*s%s",
			 mechanism.n < 24 ? (int)mechanism.n : 24, mechanism.at,
			 rest.n > 0 ? " ***" : "");
	} else if (!s->authenticated && !command_is_known(verb)) {
		snprintf(text, sizeof(text), "*** (%zu octets that are no command)", n);
	} else {
		follow_note(s, SMTP_FOLLOW_CLIENT, line, n);
		return;
	}
	follow_note(s, SMTP_FOLLOW_CLIENT, text, strlen(text));
}

/* All lines of a reply; challenges of AUTH are masked. */
void follow_reply_note(struct smtp_session *s, const char *text, size_t n)
{
	while (n > 0) {
		const char *end = memchr(text, '\n', n);
		size_t k = end != NULL ? (size_t)(end - text) + 1 : n, shown = k;
		while (shown > 0 && (text[shown - 1] == '\n' || text[shown - 1] == '\r'))
			shown--;
		if (shown > 4 && memcmp(text, "334 ", 4) == 0)
			follow_note(s, SMTP_FOLLOW_SERVER, "334 ***", 7);
		else
			follow_note(s, SMTP_FOLLOW_SERVER, text, shown);
		text += k;
		n -= k;
	}
}
