/*
 * client.c - one connection to a next hop, up to the moment it can take a message.
 *
 * Source: RFC 5321 section 3 and 4.5.3.2 (time-outs), RFC 3207 (what a reply carries behind
 * STARTTLS is thrown away with its connection), RFC 2920, 1870, 6152 (what EHLO offers), RFC 8314
 * (TLS from the first octet), RFC 4954 and 4616 (AUTH PLAIN).
 * Every handler that may free the client returns false when it has.
 */
#include "base/log.h"
#include "smtp/relay/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { READ_BYTES = 2048 };

static const char *const stream_ends[] = {
	[STREAM_END_RESET] = "connection reset",     [STREAM_END_TIMEOUT] = "connection timed out",
	[STREAM_END_REFUSED] = "connection refused", [STREAM_END_UNREACHABLE] = "host unreachable",
	[STREAM_END_MEMORY] = "out of memory",
};

void client_arm(struct client *c, uint64_t us)
{
	timer_arm(c->worker->shard->timers, &c->timer,
		  c->worker->shard->now_us + (c->mute ? 0 : us));
}

bool client_flush(struct client *c)
{
	struct chunk *o = c->out;

	if (o == NULL)
		return true;
	o->start += (uint32_t)conn_write(&c->conn, o->data + o->start, o->end - o->start, false);
	if (o->start < o->end)
		return false;
	chunk_free(c->worker->shard->chunks, o);
	c->out = NULL;
	return true;
}

void client_command(struct client *c, const char *text, size_t n)
{
	if (c->out == NULL)
		c->out = chunk_alloc(c->worker->shard->chunks, CHUNK_16K, true);
	if (c->out == NULL || c->out->size - c->out->end < n) {
		/* the timer ends a connection whose command could not be made */
		c->mute = true;
		client_arm(c, 0);
		return;
	}
	memcpy(c->out->data + c->out->end, text, n);
	c->out->end += (uint32_t)n;
}

void client_close(struct client *c, bool polite)
{
	struct relay_worker *w = c->worker;

	timer_cancel(w->shard->timers, &c->timer);
	list_del(&c->link);
	struct hop *h = c->hop;
	h->n_clients--;
	w->n_clients--;
	if (!c->greeted)
		h->n_connecting--;
	content_forget(c);
	if (c->out != NULL)
		chunk_free(w->shard->chunks, c->out);
	if (c->delivery != NULL)
		c->delivery->client = NULL;
	if (polite)
		conn_close(&c->conn);
	else
		conn_abort(&c->conn);
	free(c);
	hop_settle(w, h);
}

void client_failed(struct client *c, const char *why)
{
	struct relay_worker *w = c->worker;
	struct delivery *d = c->delivery;
	enum client_state state = c->state;

	if (!c->greeted)
		hop_failed(c->hop, w, why);
	else if (d != NULL && state > CLIENT_LOADING)
		d->probe = hop_interrupted(c->hop, w, why);
	c->delivery = NULL;
	if (d != NULL)
		client_stage(c, d, STAGE_CONNECTION);
	client_close(c, false);
	if (d == NULL)
		return;
	d->client = NULL;
	/* the envelope is still being read: its return finds no client */
	if (state == CLIENT_LOADING)
		return;
	relay_count(w, relay_interrupted);
	if (state == CLIENT_FINAL)
		relay_count(w, relay_ambiguous);
	delivery_outcome(d, RECIPIENT_TODO, 451, "4.4.2", why);
	delivery_outcome(d, RECIPIENT_ACCEPTED, 451, "4.4.2", why);
	delivery_end(d);
}

/* The hop has gone, or is silent. */
static void client_lost(struct client *c, const char *why)
{
	struct relay_worker *w = c->worker;

	if (c->state == CLIENT_STARTTLS || c->state == CLIENT_SECURING) {
		relay_count(w, relay_tls_failed);
		/* opportunistic: better in clear than not at all, for a while */
		c->hop->tls_broken_until_us = w->shard->now_us + TLS_BROKEN_US;
	}
	client_failed(c, why);
}

static void client_timer(struct timer *t)
{
	struct client *c = container_of(t, struct client, timer);

	if (c->state == CLIENT_IDLE) {
		client_quit(c);
		return;
	}
	if (c->state == CLIENT_QUIT) {
		client_close(c, false);
		return;
	}
	relay_count(c->worker, relay_timeouts);
	client_lost(c, "no answer in time");
}

void client_quit(struct client *c)
{
	c->state = CLIENT_QUIT;
	list_del(&c->link);
	list_push_back(&c->hop->clients, &c->link);
	client_command(c, "QUIT\r\n", 6);
	client_arm(c, IDLE_US);
	client_flush(c);
}

void client_idle(struct client *c, bool reset)
{
	c->delivery = NULL;
	if (reset) {
		c->state = CLIENT_RESET;
		client_command(c, "RSET\r\n", 6);
		client_arm(c, COMMAND_US);
		client_flush(c);
		return;
	}
	if (++c->messages > MESSAGES_A_CONNECTION || c->worker->draining || c->hop->retired) {
		client_quit(c);
		return;
	}
	c->state = CLIENT_IDLE;
	list_del(&c->link);
	list_push_front(&c->hop->clients, &c->link);
	client_arm(c, IDLE_US);
}

static void send_ehlo(struct client *c, const char *verb)
{
	char line[RELAY_NAME + 16];
	int n = snprintf(line, sizeof(line), "%s %s\r\n", verb, c->worker->hostname);

	c->offers = 0;
	c->size_limit = 0;
	c->state = CLIENT_EHLO;
	reply_begin(&c->reply);
	client_command(c, line, (size_t)n);
	client_arm(c, COMMAND_US);
	client_flush(c);
}

static void learn_extension(struct client *c)
{
	static const char *const keywords[OFFERS] = {
		[OFFER_PIPELINING] = "PIPELINING",
		[OFFER_8BITMIME] = "8BITMIME",
		[OFFER_SIZE] = "SIZE",
		[OFFER_STARTTLS] = "STARTTLS",
		[OFFER_CHUNKING] = "CHUNKING",
		[OFFER_BINARYMIME] = "BINARYMIME",
		[OFFER_SMTPUTF8] = "SMTPUTF8",
		[OFFER_DSN] = "DSN",
		[OFFER_DELIVERBY] = "DELIVERBY",
		[OFFER_MT_PRIORITY] = "MT-PRIORITY",
		[OFFER_REQUIRETLS] = "REQUIRETLS",
		[OFFER_AUTH] = "AUTH",
	};
	const char *line = reply_text(&c->reply);
	size_t n = strcspn(line, " ");

	for (unsigned i = 0; i < OFFERS; i++) {
		if (n != strlen(keywords[i]) || strncasecmp(line, keywords[i], n) != 0)
			continue;
		/* one reply a recipient after each chunk is more than BDAT is worth there */
		if (c->hop->config.lmtp && (i == OFFER_CHUNKING || i == OFFER_BINARYMIME))
			continue;
		if (i == OFFER_AUTH && !login_offered(line + n))
			continue;
		c->offers |= 1u << i;
		if (i == OFFER_SIZE)
			c->size_limit = strtoull(line + n, NULL, 10);
	}
}

static bool fail(struct client *c, const char *what)
{
	char why[ERROR_TEXT];

	snprintf(why, sizeof(why), "%s: %u %.100s", what, c->reply.code, reply_text(&c->reply));
	client_failed(c, why);
	return false;
}

static void ready(struct client *c)
{
	c->greeted = true;
	c->connect_us = c->worker->shard->now_us - c->opened_us;
	c->hop->n_connecting--;
	if (c->hop->failures > 0)
		log_info("relay", "next hop %s is back", c->hop->config.name);
	c->hop->failures = 0;
	c->hop->last_error[0] = '\0';
	client_idle(c, false);
}

/* Greeted, and under TLS if that is wanted. */
static bool introduced(struct client *c)
{
	if (c->hop->config.user[0] == '\0') {
		ready(c);
		return true;
	}
	if (!conn_is_secure(&c->conn) || !hop_offers(c, OFFER_AUTH)) {
		relay_count(c->worker, relay_auth_failed);
		client_failed(c, conn_is_secure(&c->conn) ? "AUTH PLAIN is not offered"
							  : "no password without TLS");
		return false;
	}
	login_send(c);
	return true;
}

static bool after_ehlo(struct client *c)
{
	enum relay_tls want = c->hop->config.tls;
	bool broken = c->worker->shard->now_us < c->hop->tls_broken_until_us;

	if (conn_is_secure(&c->conn) || want == RELAY_TLS_NONE ||
	    (want == RELAY_TLS_OPPORTUNISTIC && (!hop_offers(c, OFFER_STARTTLS) || broken)))
		return introduced(c);
	if (!hop_offers(c, OFFER_STARTTLS)) {
		relay_count(c->worker, relay_tls_missing);
		client_failed(c, "STARTTLS is required but not offered");
		return false;
	}
	c->state = CLIENT_STARTTLS;
	client_command(c, "STARTTLS\r\n", 10);
	client_arm(c, COMMAND_US);
	client_flush(c);
	return true;
}

static bool secure(struct client *c)
{
	struct conn_tls how = {
		.client = true,
		.name = c->hop->config.name,
		.verify = hop_verified(c->hop),
		.pins = (const uint8_t(*)[TLS_PIN_BYTES])c->hop->config.pins,
		.n_pins = hop_verified(c->hop) ? c->hop->config.n_pins : 0,
	};

	if (!conn_secure(&c->conn, &how)) {
		client_failed(c, "TLS not possible now");
		return false;
	}
	c->state = CLIENT_SECURING;
	client_arm(c, GREETING_US);
	return true;
}

static bool starttls_reply(struct client *c, bool more)
{
	if (c->reply.code != 220 && hop_verified(c->hop))
		return fail(c, "STARTTLS refused");
	if (c->reply.code != 220)
		return introduced(c);
	if (more || stream_readable(c->conn.stream) > 0) {
		relay_count(c->worker, relay_injected);
		client_failed(c, "octets behind the STARTTLS reply");
		return false;
	}
	return secure(c);
}

/* LMTP: the reply is about one recipient; true: others are still to come. */
static bool one_recipient(struct client *c)
{
	struct delivery *d = c->delivery;
	bool first = true, more = false;

	for (uint32_t i = 0; i < d->e.recipients; i++) {
		if (d->recipients[i].state != RECIPIENT_ACCEPTED)
			continue;
		if (first)
			recipient_answered(d, i, &c->reply);
		else
			more = true;
		first = false;
	}
	if (more)
		client_arm(c, FINAL_US);
	return more;
}

static bool final_reply(struct client *c)
{
	struct delivery *d = c->delivery;
	char status[STATUS_TEXT];
	unsigned code = c->reply.code;
	/* the hop cannot have read the end of data that it has not acknowledged */
	bool early = c->state == CLIENT_CONTENT || c->out != NULL || !conn_drained(&c->conn);

	/* so a 250 is about something else, and says nothing about this message */
	client_stage(c, d, STAGE_CONTENT);
	if (early && code / 100 < 4) {
		relay_count(c->worker, relay_bad_replies);
		client_failed(c, "reply before the end of data");
		return false;
	}
	if (c->hop->config.lmtp && !early && code != 421) {
		if (one_recipient(c))
			return true;
	} else {
		delivery_outcome(d, RECIPIENT_ACCEPTED, code, reply_status(&c->reply, status),
				 reply_text(&c->reply));
	}
	c->delivery = NULL;
	d->client = NULL;
	hop_answered(c->hop);
	/* a reply before the end of data leaves the two sides out of step */
	if (early || code == 421)
		client_close(c, true);
	else
		client_idle(c, false);
	delivery_end(d);
	return false;
}

/* A whole reply has come; more: octets follow it.  false: the client may be gone. */
static bool client_reply(struct client *c, bool more)
{
	switch (c->state) {
	case CLIENT_GREETING:
		if (c->reply.code != 220)
			return fail(c, "greeting");
		send_ehlo(c, c->hop->config.lmtp ? "LHLO" : "EHLO");
		return true;
	case CLIENT_EHLO:
		if (c->reply.code == 250)
			return after_ehlo(c);
		if (c->reply.code < 500 || c->reply.code == 550)
			return fail(c, "EHLO");
		/* a server of RFC 821: HELO, once */
		if (c->messages == 0 && !c->helo_tried && !c->hop->config.lmtp) {
			c->helo_tried = true;
			send_ehlo(c, "HELO");
			return true;
		}
		return fail(c, "HELO");
	case CLIENT_STARTTLS:
		return starttls_reply(c, more);
	case CLIENT_AUTH:
		if (c->reply.code != 235) {
			relay_count(c->worker, relay_auth_failed);
			return fail(c, "AUTH");
		}
		ready(c);
		return true;
	case CLIENT_ENVELOPE:
		transact_reply(c, more);
		return false;
	case CLIENT_CONTENT:
	case CLIENT_FINAL:
		return final_reply(c);
	case CLIENT_RESET:
		if (c->reply.code != 250)
			return fail(c, "RSET");
		client_idle(c, false);
		return true;
	case CLIENT_QUIT:
		client_close(c, true);
		return false;
	case CLIENT_IDLE:
	case CLIENT_LOADING:
	case CLIENT_CONNECTING:
	case CLIENT_SECURING:
		break;
	}
	/* nobody asked: 421 before closing, mostly */
	return fail(c, "unexpected reply");
}

/* Whether the client still lives: handlers that end a message may have freed it. */
static bool alive(struct hop *h, const struct client *c)
{
	list_each (it, &h->clients) {
		if (container_of(it, struct client, link) == c)
			return true;
	}
	return false;
}

static bool feed_hop(struct client *c, struct hop *h, const uint8_t *p, size_t n)
{
	struct relay_worker *w = c->worker;

	while (n > 0) {
		size_t used;
		enum reply_progress r = reply_feed(&c->reply, p, n, &used);
		p += used;
		n -= used;
		if (r == REPLY_BAD) {
			relay_count(w, relay_bad_replies);
			client_failed(c, "malformed reply");
			return false;
		}
		if (r == REPLY_MORE)
			return true;
		if (c->state == CLIENT_EHLO && c->reply.lines > 1)
			learn_extension(c);
		if (r != REPLY_WHOLE)
			continue;
		if (!client_reply(c, n > 0) && !alive(h, c))
			return false;
		reply_begin(&c->reply);
	}
	return true;
}

static bool feed(struct client *c, const uint8_t *p, size_t n)
{
	struct relay_worker *w = c->worker;
	struct hop *h = c->hop;

	hop_use(h);
	bool lives = feed_hop(c, h, p, n);
	hop_unuse(w, h);
	return lives;
}

static struct client *client_of(struct conn *conn)
{
	return container_of(conn, struct client, conn);
}

static void on_readable(struct conn *conn)
{
	struct client *c = client_of(conn);
	uint8_t buf[READ_BYTES];
	size_t n;

	while (!c->conn.securing && (n = conn_read(conn, buf, sizeof(buf))) > 0) {
		if (!feed(c, buf, n))
			return;
	}
	if (!conn_eof(conn) || c->conn.securing)
		return;
	if (c->state == CLIENT_QUIT || c->state == CLIENT_IDLE)
		client_close(c, true);
	else
		client_lost(c, "next hop closed the connection");
}

static void on_writable(struct conn *conn)
{
	struct client *c = client_of(conn);

	if (!client_flush(c))
		return;
	if (c->state == CLIENT_ENVELOPE)
		transact_pump(c);
	else if (c->state == CLIENT_CONTENT)
		content_pump(c);
}

static void await_greeting(struct client *c)
{
	c->state = CLIENT_GREETING;
	reply_begin(&c->reply);
	client_arm(c, GREETING_US);
}

static void on_secured(struct conn *conn)
{
	struct client *c = client_of(conn);

	if (c->hop->config.tls == RELAY_TLS_IMPLICIT) {
		await_greeting(c);
		return;
	}
	/* what was learnt in clear is forgotten (RFC 3207 section 4.2) */
	send_ehlo(c, c->hop->config.lmtp ? "LHLO" : "EHLO");
}

static void on_ended(struct conn *conn, enum conn_end why)
{
	struct client *c = client_of(conn);
	const char *text = why == CONN_END_STREAM ? stream_ends[conn->stream_end]
			   : conn->unpinned ? "TLS failed: the key of its certificate is not pinned"
					    : "TLS failed";

	if (c->state == CLIENT_QUIT || c->state == CLIENT_IDLE)
		client_close(c, false);
	else
		client_lost(c, text);
}

static const struct conn_events client_events = {
	.secured = on_secured,
	.readable = on_readable,
	.writable = on_writable,
	.ended = on_ended,
};

static void on_opened(struct stream *s, void *user)
{
	struct client *c = client_of(user);

	relay_count(c->worker, relay_connections);
	if (c->hop->config.tls == RELAY_TLS_IMPLICIT)
		secure(c);
	else
		await_greeting(c);
}

static const struct stream_events stream_events = {
	.opened = on_opened,
	.readable = conn_stream_readable,
	.writable = conn_stream_writable,
	.closed = conn_stream_closed,
};

bool client_open(struct relay_worker *w, struct hop *h)
{
	struct client *c = calloc(1, sizeof(*c));
	struct ip_addr local;
	int err = -ENETUNREACH;

	if (c == NULL)
		return false;
	if (!w->env.source_for(w->env.source_arg, &h->config.address, &local)) {
		free(c);
		hop_failed(h, w, "no route");
		return false;
	}
	struct stream *s = stream_connect(w->env.tcp, &local, &h->config.address, h->config.port,
					  &stream_events, &c->conn, &err);
	if (s == NULL) {
		free(c);
		hop_failed(h, w, strerror(-err));
		return false;
	}
	c->worker = w;
	c->hop = h;
	c->state = CLIENT_CONNECTING;
	c->opened_us = w->shard->now_us;
	conn_init(&c->conn, w->env.tls, s, &client_events);
	timer_init(&c->timer, client_timer);
	list_push_back(&h->clients, &c->link);
	h->n_clients++;
	h->n_connecting++;
	w->n_clients++;
	client_arm(c, CONNECT_US);
	return true;
}
