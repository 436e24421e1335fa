/* hop.c - the server's side of RFC 5321, plain and scriptable */
#include "tests/sim/hop.h"

#include <stdlib.h>
#include <strings.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct hop_conn {
	bool greeted;
	struct next_hop *h;
	struct hop_mail mail;
	bool data;
	size_t chunk; /* octets of a BDAT still to come */
	size_t seen;  /* octets of input, cut_after counts them */
};

static void mail_clear(struct hop_mail *m)
{
	free(m->from.at);
	free(m->to.at);
	free(m->content.at);
	*m = (struct hop_mail){0};
}

static void end_connection(struct peer *p, enum hop_after how)
{
	if (p->stream == NULL || how == HOP_GO_ON)
		return;
	if (how == HOP_FIN)
		stream_close(p->stream);
	else
		stream_abort(p->stream);
	p->stream = NULL;
}

static const char *usual(const struct next_hop *h, enum hop_stage stage, const struct peer *p)
{
	static const char *const replies[] = {
		[HOP_GREETING] = "220 hop.test\r\n", [HOP_HELO] = "250 hop.test\r\n",
		[HOP_STARTTLS] = "220 go\r\n",       [HOP_MAIL] = "250 2.1.0 sender\r\n",
		[HOP_RCPT] = "250 2.1.5 to\r\n",     [HOP_DATA] = "354 go\r\n",
		[HOP_FINAL] = "250 2.0.0 taken\r\n", [HOP_RSET] = "250 2.0.0 reset\r\n",
		[HOP_QUIT] = "221 2.0.0 bye\r\n",    [HOP_OTHER] = "500 5.5.1 what?\r\n",
	};
	static char ehlo[600];

	if (stage != HOP_EHLO)
		return replies[stage];
	bool tls = p->ssl != NULL && h->offers_tls != NULL;
	snprintf(ehlo, sizeof(ehlo),
		 "250-hop.test\r\n%s%s%s%s%s%s%s%s%s250 ENHANCEDSTATUSCODES\r\n",
		 h->pipelining ? "250-PIPELINING\r\n" : "", h->eightbit ? "250-8BITMIME\r\n" : "",
		 h->size != NULL ? "250-" : "", h->size != NULL ? h->size : "",
		 h->size != NULL ? "\r\n" : "",
		 h->starttls && p->ssl == NULL ? "250-STARTTLS\r\n" : "",
		 h->chunking ? "250-CHUNKING\r\n" : "", h->offers != NULL ? h->offers : "",
		 tls ? h->offers_tls : "");
	return ehlo;
}

static void commit(struct hop_conn *c)
{
	struct next_hop *h = c->h;

	if (h->forgetful)
		hop_forget(h);
	assert_true(h->n_mails < HOP_MAILS);
	h->mails[h->n_mails++] = c->mail;
	c->mail = (struct hop_mail){0};
}

/* What the reply means for the state of the connection. */
static void effect(struct peer *p, enum hop_stage stage, const char *reply, const char *line)
{
	struct hop_conn *c = p->user;

	if (stage == HOP_MAIL || stage == HOP_EHLO || stage == HOP_HELO || stage == HOP_RSET)
		mail_clear(&c->mail);
	if (stage == HOP_MAIL)
		bytes_add(&c->mail.from, line + 10, strlen(line) - 10);
	if (stage == HOP_RCPT && reply[0] == '2') {
		bytes_add(&c->mail.to, line + 8, strlen(line) - 8);
		bytes_add(&c->mail.to, "\n", 1);
	}
	c->data = stage == HOP_DATA && reply[0] == '3';
	/* a hop whose reply makes no sense has not taken it either */
	if (stage == HOP_FINAL && atoi(reply) / 100 == 2 && reply[3] == ' ')
		commit(c);
	if (stage == HOP_STARTTLS && strcmp(reply, "220 go\r\n") == 0) {
		c->h->secured++;
		peer_begin_tls_server(p);
	}
	if (stage == HOP_QUIT)
		end_connection(p, HOP_FIN);
}

static void answer(struct peer *p, enum hop_stage stage, const char *line)
{
	struct next_hop *h = ((struct hop_conn *)p->user)->h;
	const char *reply = usual(h, stage, p);
	enum hop_after after = HOP_GO_ON;

	for (unsigned i = 0; i < h->n_rules; i++) {
		struct hop_rule *r = &h->rules[i];
		if (r->stage != stage || (r->times > 0 && r->used >= r->times) ||
		    (r->match != NULL && strstr(line, r->match) == NULL))
			continue;
		r->used++;
		reply = r->reply != NULL ? r->reply : reply;
		after = r->after;
		break;
	}
	peer_say(p, reply);
	effect(p, stage, reply, line);
	end_connection(p, after);
}

static enum hop_stage stage_of(const char *line)
{
	static const struct {
		const char *verb;
		enum hop_stage stage;
	} verbs[] = {{"EHLO ", HOP_EHLO},        {"LHLO ", HOP_EHLO},      {"HELO ", HOP_HELO},
		     {"STARTTLS", HOP_STARTTLS}, {"MAIL FROM:", HOP_MAIL}, {"RCPT TO:", HOP_RCPT},
		     {"DATA", HOP_DATA},         {"RSET", HOP_RSET},       {"QUIT", HOP_QUIT}};

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strncmp(line, verbs[i].verb, strlen(verbs[i].verb)) == 0)
			return verbs[i].stage;
	return HOP_OTHER;
}

/* A line without its CR LF. */
static void take_line(struct peer *p, uint8_t *line, size_t n)
{
	struct hop_conn *c = p->user;

	if (!c->data) {
		char text[1200];
		snprintf(text, sizeof(text), "%.*s", (int)n, (const char *)line);
		bytes_add(&c->h->log, text, strlen(text));
		bytes_add(&c->h->log, "\n", 1);
		answer(p, stage_of(text), text);
		return;
	}
	if (n == 1 && line[0] == '.') {
		c->data = false;
		answer(p, HOP_FINAL, ".");
		return;
	}
	size_t dot = n > 0 && line[0] == '.';
	/* smuggling towards us would show here */
	assert_null(memchr(line, '\n', n));
	assert_null(memchr(line, '\r', n));
	bytes_add(&c->mail.content, line + dot, n - dot);
	bytes_add(&c->mail.content, "\r\n", 2);
}

/* Octets of a BDAT; its reply comes with the last. */
static void take_chunk(struct peer *p, size_t n)
{
	struct hop_conn *c = p->user;

	n = n < c->chunk ? n : c->chunk;
	c->h->taken += n;
	if (!c->h->forgetful)
		bytes_add(&c->mail.content, p->got.at + p->got_read, n);
	p->got_read += n;
	c->chunk -= n;
	if (c->chunk == 0)
		answer(p, HOP_FINAL, "BDAT");
}

/* The relay sends all of a message as one chunk. */
static bool begin_chunk(struct peer *p, const char *line, size_t n)
{
	struct hop_conn *c = p->user;
	char text[100];

	if (c->data || !c->h->chunking || n < 5 || n >= sizeof(text) ||
	    memcmp(line, "BDAT ", 5) != 0)
		return false;
	snprintf(text, sizeof(text), "%.*s", (int)n, line);
	bytes_add(&c->h->log, text, n);
	bytes_add(&c->h->log, "\n", 1);
	assert_non_null(strstr(text, " LAST"));
	c->chunk = (size_t)atoll(text + 5);
	c->mail.chunked = true;
	assert_true(c->chunk > 0);
	/* a hop that answers before it has seen the chunk */
	for (unsigned i = 0; i < c->h->n_rules; i++) {
		if (c->h->rules[i].stage == HOP_DATA) {
			answer(p, HOP_DATA, text);
			break;
		}
	}
	return true;
}

static void greet(struct peer *p)
{
	((struct hop_conn *)p->user)->greeted = true;
	answer(p, HOP_GREETING, "");
}

static void received(struct peer *p)
{
	struct hop_conn *c = p->user;

	if (!c->greeted && p->secured) {
		c->h->secured++;
		greet(p);
	}
	struct next_hop *h = c->h;
	size_t limit = p->got.n;

	if (h->cut_after > 0 && limit >= h->cut_after)
		limit = h->cut_after;
	while (p->stream != NULL && p->got_read < limit) {
		if (c->chunk > 0) {
			take_chunk(p, limit - p->got_read);
			continue;
		}
		uint8_t *line = p->got.at + p->got_read;
		uint8_t *end = memmem(line, limit - p->got_read, "\r\n", 2);
		if (end == NULL)
			break;
		p->got_read = (size_t)(end + 2 - p->got.at);
		if (begin_chunk(p, (const char *)line, (size_t)(end - line)))
			continue;
		take_line(p, line, (size_t)(end - line));
	}
	if (h->forgetful && p->got_read == p->got.n)
		p->got_read = p->got.n = 0;
	if (h->cut_after > 0 && p->got.n >= h->cut_after) {
		h->cut_after = 0;
		end_connection(p, h->cut_how);
	}
	if (p->eof || p->over) {
		end_connection(p, HOP_FIN);
		mail_clear(&c->mail);
	}
}

static void on_opened(struct stream *s, void *user)
{
	struct next_hop *h = user;
	struct peer *p = peer_accept(h->m, s);
	struct hop_conn *c = calloc(1, sizeof(*c));

	c->h = h;
	p->user = c;
	p->received = received;
	h->connections++;
	if (h->implicit)
		peer_begin_tls_server(p);
	else
		greet(p);
}

static void on_readable(struct stream *s, void *user)
{
	peer_events.readable(s, user);
}

static void on_writable(struct stream *s, void *user)
{
	peer_events.writable(s, user);
}

static void on_closed(struct stream *s, void *user, enum stream_end why)
{
	peer_events.closed(s, user, why);
}

static const struct stream_events events = {on_opened, on_readable, on_writable, on_closed};

struct next_hop *hop_create(struct mail *m, uint16_t port)
{
	struct next_hop *h = calloc(1, sizeof(*h));

	h->m = m;
	h->port = port;
	h->pipelining = h->eightbit = true;
	h->size = "SIZE 10000000";
	bytes_add(&h->log, "", 0);
	assert_int_equal(
		tcp_listen(pair_tcp(m->pair, 0),
			   &(struct tcp_listen){.port = port, .events = &events, .user = h}),
		0);
	return h;
}

void hop_forget(struct next_hop *h)
{
	for (unsigned i = 0; i < h->n_mails; i++)
		mail_clear(&h->mails[i]);
	h->n_mails = 0;
}

void hop_free(struct next_hop *h)
{
	list_each_safe (it, &h->m->peers) {
		struct peer *p = container_of(it, struct peer, link);
		struct hop_conn *c = p->user;
		if (p->received != received || c->h != h)
			continue;
		mail_clear(&c->mail);
		free(c);
		peer_free(p);
	}
	/* nobody connects any more */
	tcp_stop_listening(pair_tcp(h->m->pair, 0));
	hop_forget(h);
	free(h->log.at);
	free(h);
}

void hop_rule(struct next_hop *h, struct hop_rule rule)
{
	assert_true(h->n_rules < HOP_RULES);
	h->rules[h->n_rules++] = rule;
}

void hop_rules_clear(struct next_hop *h)
{
	h->n_rules = 0;
}

unsigned hop_count(const struct next_hop *h, const char *text)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h->n_mails; i++)
		n += h->mails[i].content.n > 0 &&
		     strstr((const char *)h->mails[i].content.at, text) != NULL;
	return n;
}

unsigned hop_recipient(const struct next_hop *h, const char *to)
{
	char line[300];
	unsigned n = 0;

	snprintf(line, sizeof(line), "<%s>", to);
	for (unsigned i = 0; i < h->n_mails; i++)
		n += h->mails[i].to.n > 0 && strstr((const char *)h->mails[i].to.at, line) != NULL;
	return n;
}
