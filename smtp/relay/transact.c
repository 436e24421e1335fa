/*
 * transact.c - MAIL, RCPT and DATA or BDAT of one message towards a next hop.
 *
 * MAIL and RCPT are pipelined where the hop offers it (RFC 2920); DATA waits for their
 * replies, so that a hop which refuses every recipient never gets content to misread.
 */
#include "smtp/relay/internal.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

/* reset: the hop has answered. */
static void over(struct client *c, bool reset)
{
	struct delivery *d = c->delivery;

	if (reset)
		hop_answered(c->hop);
	c->delivery = NULL;
	d->client = NULL;
	client_idle(c, reset);
	delivery_end(d);
}

static bool lacks_8bitmime(const struct client *c, const struct delivery *d)
{
	return d->e.body == ENVELOPE_8BIT && !hop_offers(c, OFFER_8BITMIME);
}

static bool lacks_binarymime(const struct client *c, const struct delivery *d)
{
	return d->e.body == ENVELOPE_BINARY &&
	       !(hop_offers(c, OFFER_BINARYMIME) && hop_offers(c, OFFER_CHUNKING));
}

static bool lacks_smtputf8(const struct client *c, const struct delivery *d)
{
	return d->e.smtputf8 && !hop_offers(c, OFFER_SMTPUTF8);
}

/* RFC 8689: TLS, the hop's name proved by its certificate, and the same promise. */
static bool promises_requiretls(const struct client *c)
{
	return conn_is_secure(&c->conn) && hop_verified(c->hop) && hop_offers(c, OFFER_REQUIRETLS);
}

/* RFC 8689 section 5: a report is not dropped for want of the promise. */
static bool lacks_requiretls(const struct client *c, const struct delivery *d)
{
	return d->e.require_tls && d->e.reverse_path.bytes > 0 && !promises_requiretls(c);
}

/* RFC 2852: a return at the deadline can only be promised by who knows of it. */
static bool lacks_deliverby(const struct client *c, const struct delivery *d)
{
	return d->e.by == ENVELOPE_BY_RETURN && !hop_offers(c, OFFER_DELIVERBY);
}

static bool lacks_size(const struct client *c, const struct delivery *d)
{
	return c->size_limit > 0 && d->message->content_bytes > c->size_limit;
}

/* What the hop lacks for this message, refused here for good: it is never changed to fit. */
static bool hop_can_take(struct client *c)
{
	static const struct {
		bool (*lacks)(const struct client *c, const struct delivery *d);
		unsigned code;
		const char *status, *text;
	} needs[] = {
		{lacks_requiretls, 550, "5.7.30", "the next hop does not promise REQUIRETLS"},
		{lacks_binarymime, 554, "5.6.3", "the next hop does not take binary content"},
		{lacks_8bitmime, 554, "5.6.3", "the next hop does not take 8-bit content"},
		{lacks_smtputf8, 553, "5.6.7", "the next hop does not take SMTPUTF8"},
		{lacks_deliverby, 554, "5.3.3", "the next hop does not take a delivery deadline"},
		{lacks_size, 552, "5.3.4", "the message is larger than the next hop takes"},
	};

	for (size_t i = 0; i < sizeof(needs) / sizeof(needs[0]); i++) {
		if (!needs[i].lacks(c, c->delivery))
			continue;
		relay_count(c->worker, relay_hop_lacks);
		delivery_outcome(c->delivery, RECIPIENT_TODO, needs[i].code, needs[i].status,
				 needs[i].text);
		return false;
	}
	return true;
}

static void note_attempt(const struct client *c, struct attempt *a)
{
	struct conn_tls_facts t;

	*a = (struct attempt){.begun_us = c->worker->shard->now_us,
			      .connect_us = c->connect_us,
			      .nth = c->messages};
	if (c->conn.stream != NULL)
		a->sent_before = a->sent_again = stream_retransmitted(c->conn.stream);
	if (!conn_tls_facts(&c->conn, &t))
		return;
	snprintf(a->tls_version, sizeof(a->tls_version), "%s", t.protocol);
	snprintf(a->tls_cipher, sizeof(a->tls_cipher), "%s", t.cipher);
}

void client_transact(struct client *c)
{
	note_attempt(c, &c->delivery->attempt);
	relay_count(c->worker, relay_attempts);
	c->send_cursor = 0;
	c->send_index = c->reply_index = c->accepted = 0;
	c->sent = c->answered = 0;
	c->data_sent = c->mail_refused = false;
	c->state = CLIENT_ENVELOPE;
	c->chunked = hop_offers(c, OFFER_CHUNKING);
	c->delivery->hop = c->hop;
	hop_use(c->hop);
	c->delivery->hop_dsn = hop_offers(c, OFFER_DSN);
	reply_begin(&c->reply);
	if (!hop_can_take(c)) {
		over(c, false);
		return;
	}
	client_arm(c, COMMAND_US);
	transact_pump(c);
}

struct line {
	char text[COMMAND_ROOM];
	size_t n;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(l->text + l->n, sizeof(l->text) - l->n, fmt, ap);
	va_end(ap);
	/* every text in it has its bound, checked when it came in */
	assert(n >= 0 && (size_t)n < sizeof(l->text) - l->n);
	l->n += (size_t)n;
}

/* What is left until the deadline; a passed one of mode N goes on as such (RFC 2852). */
static void add_by(struct line *l, const struct delivery *d)
{
	enum { MOST = 999999999 };
	int64_t left = d->e.by_at_s - shard_wall_s(d->worker->shard);

	left = left > MOST ? MOST : left < -MOST ? -MOST : left;
	if (d->e.by == ENVELOPE_BY_RETURN && left < 1)
		left = 1;
	add(l, " BY=%lld;%c%s", (long long)left, d->e.by == ENVELOPE_BY_RETURN ? 'R' : 'N',
	    d->e.by_trace ? "T" : "");
}

static void send_mail(struct client *c)
{
	static const char *const bodies[] = {[ENVELOPE_7BIT] = "",
					     [ENVELOPE_8BIT] = " BODY=8BITMIME",
					     [ENVELOPE_BINARY] = " BODY=BINARYMIME"};
	static const char *const rets[] = {[ENVELOPE_RET_NONE] = "",
					   [ENVELOPE_RET_HDRS] = " RET=HDRS",
					   [ENVELOPE_RET_FULL] = " RET=FULL"};
	const struct delivery *d = c->delivery;
	const struct envelope *e = &d->e;
	struct line l = {.n = 0};

	add(&l, "MAIL FROM:<%.*s>", (int)e->reverse_path.bytes, e->reverse_path.at);
	if (hop_offers(c, OFFER_SIZE))
		add(&l, " SIZE=%llu", (unsigned long long)d->message->content_bytes);
	add(&l, "%s%s", bodies[e->body], e->smtputf8 ? " SMTPUTF8" : "");
	if (hop_offers(c, OFFER_DSN)) {
		add(&l, "%s", rets[e->ret]);
		if (e->envid.bytes > 0)
			add(&l, " ENVID=%.*s", (int)e->envid.bytes, e->envid.at);
	}
	if (e->require_tls && promises_requiretls(c))
		add(&l, " REQUIRETLS");
	if (e->priority != 0 && hop_offers(c, OFFER_MT_PRIORITY))
		add(&l, " MT-PRIORITY=%d", e->priority);
	if (e->by != ENVELOPE_BY_NONE && hop_offers(c, OFFER_DELIVERBY))
		add_by(&l, d);
	add(&l, "\r\n");
	client_command(c, l.text, l.n);
	c->sent++;
}

static void add_notify(struct line *l, uint8_t notify)
{
	static const char *const words[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
	const char *before = " NOTIFY=";

	for (unsigned i = 0; i < 4; i++) {
		if ((notify & 1u << i) == 0)
			continue;
		add(l, "%s%s", before, words[i]);
		before = ",";
	}
}

/* The next recipient that still has to be offered; false: none is left. */
static bool send_recipient(struct client *c)
{
	struct delivery *d = c->delivery;
	struct envelope_recipient to;
	struct line l = {.n = 0};

	while (!c->mail_refused &&
	       envelope_next_recipient(d->envelope->data, d->envelope->end, &c->send_cursor, &to)) {
		uint32_t i = c->send_index++;
		if (d->recipients[i].state != RECIPIENT_TODO)
			continue;
		add(&l, "RCPT TO:<%.*s>", (int)to.path.bytes, to.path.at);
		if (hop_offers(c, OFFER_DSN)) {
			add_notify(&l, to.notify);
			if (to.orcpt.bytes > 0)
				add(&l, " ORCPT=%.*s", (int)to.orcpt.bytes, to.orcpt.at);
		}
		add(&l, "\r\n");
		client_command(c, l.text, l.n);
		c->sent++;
		return true;
	}
	return false;
}

static bool out_room(const struct client *c)
{
	return c->out == NULL || c->out->size - c->out->end >= COMMAND_ROOM;
}

/* One chunk with all of the content: nothing to wait for and nothing to double (RFC 3030). */
static void send_bdat(struct client *c)
{
	struct line l = {.n = 0};

	add(&l, "BDAT %llu LAST\r\n", (unsigned long long)c->delivery->message->content_bytes);
	client_command(c, l.text, l.n);
	content_begin_transfer(c);
}

void transact_pump(struct client *c)
{
	bool recipients_left = true;

	while (!c->data_sent && out_room(c) &&
	       (hop_offers(c, OFFER_PIPELINING) || c->sent == c->answered)) {
		if (c->sent == 0) {
			send_mail(c);
			continue;
		}
		recipients_left = send_recipient(c);
		if (!recipients_left)
			break;
	}
	if (!recipients_left && c->sent == c->answered && !c->data_sent) {
		if (c->accepted == 0) {
			over(c, true);
			return;
		}
		c->data_sent = true;
		if (c->chunked) {
			send_bdat(c);
			return;
		}
		client_command(c, "DATA\r\n", 6);
		client_arm(c, COMMAND_US);
	}
	client_flush(c);
}

static void recipient_reply(struct client *c)
{
	struct delivery *d = c->delivery;

	while (c->reply_index < d->e.recipients &&
	       d->recipients[c->reply_index].state == RECIPIENT_DONE)
		c->reply_index++;
	if (c->reply_index >= d->e.recipients)
		return;
	struct recipient *r = &d->recipients[c->reply_index++];
	if (c->mail_refused)
		return;
	if (c->reply.code / 100 == 2) {
		r->state = RECIPIENT_ACCEPTED;
		c->accepted++;
		return;
	}
	recipient_answered(d, c->reply_index - 1, &c->reply);
}

/* May free the client (a lost message ends with its connection). */
void transact_reply(struct client *c, bool more)
{
	struct delivery *d = c->delivery;
	unsigned code = c->reply.code;
	char status[STATUS_TEXT];

	/* what follows the last reply owed would be taken for the answer to our next command */
	if (more && code != 421 && c->sent - c->answered + c->data_sent <= 1) {
		relay_count(c->worker, relay_bad_replies);
		client_failed(c, "reply before its command");
		return;
	}
	client_stage(c, d, c->data_sent ? STAGE_DATA : c->answered == 0 ? STAGE_MAIL : STAGE_RCPT);
	reply_status(&c->reply, status);
	if (code == 421) {
		delivery_outcome(d, RECIPIENT_TODO, code, status, reply_text(&c->reply));
		delivery_outcome(d, RECIPIENT_ACCEPTED, code, status, reply_text(&c->reply));
		c->delivery = NULL;
		d->client = NULL;
		client_close(c, true);
		delivery_end(d);
		return;
	}
	client_arm(c, COMMAND_US);
	if (c->data_sent) {
		if (code == 354) {
			content_begin_transfer(c);
			return;
		}
		/* 2xx to DATA is no reply at all: the hop may try again later */
		delivery_outcome(d, RECIPIENT_ACCEPTED, code / 100 == 2 ? 451 : code, status,
				 reply_text(&c->reply));
		over(c, true);
		return;
	}
	if (c->answered++ == 0) {
		c->mail_refused = code / 100 != 2;
		if (c->mail_refused)
			delivery_outcome(d, RECIPIENT_TODO, code, status, reply_text(&c->reply));
	} else {
		recipient_reply(c);
	}
	transact_pump(c);
}
