/*
 * bench_kit.h - postern-bench's engine in virtual time, over a link that is a small server itself.
 */
#ifndef TESTS_UNIT_BENCH_KIT_H
#define TESTS_UNIT_BENCH_KIT_H

#include "perf/bench/engine.h"

#include <stdio.h>
#include <stdlib.h>

enum { KIT_SESSIONS = 128, KIT_OUT = 65536, KIT_TURN_US = 100 };

/* The server's end of one session. */
struct kit_peer {
	handle_t session;
	bool open, opening, securing, secure, in_data, eof;
	char out[KIT_OUT];
	size_t out_at, out_n;
	char line[1024];
	size_t line_n, content_n;
	uint64_t bdat_left;
	char last;
	char tail[5]; /* the last octets of DATA */
	unsigned transactions;
};

struct kit {
	struct shard shard;
	struct bench_options options;
	struct engine *engine;
	struct kit_peer peer[KIT_SESSIONS];
	uint64_t random;
	/* how the server behaves */
	uint64_t silent_until_us; /* answers nothing before */
	size_t cut;               /* octets of a read; 0: all there are */
	size_t room;              /* octets that a write takes; 0: all */
	const char *refuse_rcpt, *refuse_data, *verdict, *greeting, *auth;
	unsigned accepted, rsets, resumptions, drop_after; /* transactions, then it breaks off */
	uint64_t content_bytes;
	unsigned lone; /* CRs and LFs of contents */
};

static struct kit *kit_of(const struct session *s)
{
	return s->engine->link_arg;
}

static struct kit_peer *kit_peer_of(const struct session *s)
{
	return &kit_of(s)->peer[(uint32_t)s->handle % KIT_SESSIONS];
}

static void kit_say(struct kit_peer *p, const char *text)
{
	size_t n = strlen(text);

	if (p->out_n + n + 2 > KIT_OUT)
		abort();
	memcpy(p->out + p->out_n, text, n);
	memcpy(p->out + p->out_n + n, "\r\n", 2);
	p->out_n += n + 2;
}

static void kit_verdict(struct kit *k, struct kit_peer *p)
{
	char text[64];

	p->transactions++;
	if (k->verdict == NULL)
		k->accepted++;
	snprintf(text, sizeof(text), "250 2.0.0 kept as %u", k->accepted);
	kit_say(p, k->verdict != NULL ? k->verdict : text);
	if (k->drop_after != 0 && p->transactions == k->drop_after)
		p->eof = true;
}

static void kit_command(struct kit *k, struct kit_peer *p, const char *line)
{
	if (strncmp(line, "EHLO", 4) == 0) {
		kit_say(p, "250-mx.test greets you");
		kit_say(p, "250-PIPELINING");
		kit_say(p, "250 CHUNKING");
	} else if (strncmp(line, "AUTH", 4) == 0) {
		kit_say(p, k->auth != NULL ? k->auth : "235 2.7.0 welcome");
	} else if (strncmp(line, "STARTTLS", 8) == 0) {
		kit_say(p, "220 go ahead");
	} else if (strncmp(line, "RCPT", 4) == 0) {
		kit_say(p, k->refuse_rcpt != NULL ? k->refuse_rcpt : "250 2.1.5 ok");
	} else if (strncmp(line, "DATA", 4) == 0) {
		const char *refuse = k->refuse_data != NULL   ? k->refuse_data
				     : k->refuse_rcpt != NULL ? "554 5.5.1 nobody"
							      : NULL;
		kit_say(p, refuse != NULL ? refuse : "354 go on");
		p->in_data = refuse == NULL;
		memcpy(p->tail, "\0\0\0\r\n", 5);
	} else if (strncmp(line, "BDAT", 4) == 0) {
		p->bdat_left = strtoull(line + 5, NULL, 10);
		if (p->bdat_left == 0)
			kit_verdict(k, p);
	} else if (strncmp(line, "RSET", 4) == 0) {
		k->rsets++;
		kit_say(p, "250 2.0.0 forgotten");
	} else if (strncmp(line, "QUIT", 4) == 0) {
		kit_say(p, "221 2.0.0 bye");
	} else {
		kit_say(p, "250 2.0.0 ok");
	}
}

static void kit_octet(struct kit *k, struct kit_peer *p, char c)
{
	k->lone += (c == '\n') != (p->last == '\r');
	p->last = c;
	if (p->bdat_left > 0) {
		k->content_bytes++;
		if (--p->bdat_left == 0)
			kit_verdict(k, p);
		return;
	}
	if (p->in_data) {
		memmove(p->tail, p->tail + 1, 4);
		p->tail[4] = c;
		k->content_bytes++;
		if (memcmp(p->tail, "\r\n.\r\n", 5) == 0) {
			p->in_data = false;
			k->content_bytes -= 3;
			kit_verdict(k, p);
		}
		return;
	}
	if (p->line_n < sizeof(p->line) - 1)
		p->line[p->line_n++] = c;
	if (c != '\n')
		return;
	p->line[p->line_n] = '\0';
	p->line_n = 0;
	kit_command(k, p, p->line);
}

static int kit_link_open(struct session *s)
{
	struct kit_peer *p = kit_peer_of(s);

	memset(p, 0, sizeof(*p));
	p->session = s->handle;
	p->open = p->opening = true;
	if (!s->engine->options->implicit)
		kit_say(p, kit_of(s)->greeting != NULL ? kit_of(s)->greeting : "220 mx.test");
	return 0;
}

static bool kit_link_secure(struct session *s, const struct tls_ticket *ticket)
{
	struct kit_peer *p = kit_peer_of(s);

	kit_of(s)->resumptions += ticket != NULL;
	p->securing = true;
	return true;
}

static size_t kit_link_read(struct session *s, void *buf, size_t cap)
{
	struct kit *k = kit_of(s);
	struct kit_peer *p = kit_peer_of(s);
	size_t n = p->out_n - p->out_at;

	if (k->shard.now_us < k->silent_until_us)
		return 0;
	n = n < cap ? n : cap;
	if (k->cut != 0 && n > k->cut)
		n = k->cut;
	memcpy(buf, p->out + p->out_at, n);
	p->out_at += n;
	if (p->out_at == p->out_n)
		p->out_at = p->out_n = 0;
	return n;
}

static bool kit_link_eof(const struct session *s)
{
	const struct kit_peer *p = kit_peer_of(s);

	return p->eof && p->out_n == 0;
}

static size_t kit_link_write(struct session *s, const void *data, size_t n)
{
	struct kit *k = kit_of(s);

	if (k->room != 0 && n > k->room)
		n = k->room;
	if (kit_peer_of(s)->eof)
		return n;
	for (size_t i = 0; i < n; i++)
		kit_octet(k, kit_peer_of(s), ((const char *)data)[i]);
	return n;
}

static void kit_link_close(struct session *s, bool polite)
{
	kit_peer_of(s)->open = false;
}

static bool kit_link_ticket(const struct session *s, struct tls_ticket *t)
{
	t->bytes = 1;
	return true;
}

static const struct link_ops kit_link = {kit_link_open,  kit_link_secure, kit_link_read,
					 kit_link_eof,   kit_link_write,  kit_link_close,
					 kit_link_ticket};

static uint64_t kit_draw(void *arg)
{
	uint64_t *x = arg;

	*x = *x * 6364136223846793005 + 1442695040888963407;
	return *x ^ *x >> 29;
}

static void kit_begin(struct kit *k)
{
	k->random = 42;
	k->shard.now_us = 1000000;
	k->shard.timers = timer_wheel_create(k->shard.now_us);
	k->shard.random64 = kit_draw;
	k->shard.random_arg = &k->random;
	k->engine = engine_create(&k->shard, &k->options, 0, &kit_link, k);
	if (k->engine == NULL)
		abort();
}

/* What the link has for the session of a peer. */
static void kit_serve(struct kit *k, struct kit_peer *p)
{
	struct session *s = p->open ? slab_get(k->engine->sessions, p->session) : NULL;

	if (s == NULL)
		return;
	if (p->opening) {
		p->opening = false;
		session_opened(s);
	} else if (p->securing) {
		p->securing = false;
		p->secure = true;
		if (k->options.implicit)
			kit_say(p, k->greeting != NULL ? k->greeting : "220 mx.test");
		session_secured(s);
	} else {
		session_writable(s);
		if (p->open && slab_get(k->engine->sessions, p->session) == s)
			session_readable(s);
	}
}

static void kit_run(struct kit *k, uint64_t us)
{
	for (uint64_t end = k->shard.now_us + us; k->shard.now_us < end;) {
		timer_advance(&k->shard, k->shard.now_us + KIT_TURN_US);
		engine_turn(k->engine);
		for (unsigned i = 0; i < KIT_SESSIONS; i++)
			kit_serve(k, &k->peer[i]);
	}
}

static void kit_end(struct kit *k)
{
	engine_destroy(k->engine);
	timer_wheel_destroy(k->shard.timers);
	free(k);
}

static uint64_t kit_count(const struct kit *k, enum bench_counter c)
{
	return k->engine->counters[c];
}

/* Options of a run over the kit, as the command line would give them. */
static struct kit *kit_new(const char *const *arguments)
{
	struct kit *k = calloc(1, sizeof(*k));
	char *argv[40] = {"postern-bench"};
	int n = 1;

	if (k == NULL)
		abort();
	while (arguments[n - 1] != NULL) {
		argv[n] = (char *)(uintptr_t)arguments[n - 1];
		n++;
	}
	if (options_read(&k->options, n, argv) != 0)
		abort();
	return k;
}

#endif
