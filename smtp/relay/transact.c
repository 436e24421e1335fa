/*
 * transact.c - MAIL, RCPT and DATA of one message towards a next hop.
 *
 * MAIL and RCPT are pipelined where the hop offers it (RFC 2920); DATA waits for their
 * replies, so that a hop which refuses every recipient never gets content to misread.
 */
#include "smtp/relay/internal.h"

#include <stdio.h>

static void over(struct client *c, bool reset)
{
	struct delivery *d = c->delivery;

	c->delivery = NULL;
	d->client = NULL;
	client_idle(c, reset);
	delivery_end(d);
}

/* What the hop lacks for this message, refused here for good. */
static bool hop_can_take(struct client *c)
{
	struct delivery *d = c->delivery;

	if (d->e.body == ENVELOPE_8BIT && !c->eightbit) {
		delivery_outcome(d, RECIPIENT_TODO, 554, "5.6.3",
				 "the next hop does not take 8-bit content");
		return false;
	}
	if (c->size_limit > 0 && d->message->content_bytes > c->size_limit) {
		delivery_outcome(d, RECIPIENT_TODO, 552, "5.3.4",
				 "the message is larger than the next hop takes");
		return false;
	}
	return true;
}

void client_transact(struct client *c)
{
	relay_count(c->worker, relay_attempts);
	c->send_cursor = 0;
	c->send_index = c->reply_index = c->accepted = 0;
	c->sent = c->answered = 0;
	c->data_sent = c->mail_refused = false;
	c->state = CLIENT_ENVELOPE;
	reply_begin(&c->reply);
	if (!hop_can_take(c)) {
		over(c, false);
		return;
	}
	client_arm(c, COMMAND_US);
	transact_pump(c);
}

static void send_mail(struct client *c)
{
	struct delivery *d = c->delivery;
	char line[COMMAND_ROOM], size[40] = "";

	if (c->size)
		snprintf(size, sizeof(size), " SIZE=%llu",
			 (unsigned long long)d->message->content_bytes);
	int n = snprintf(line, sizeof(line), "MAIL FROM:<%.*s>%s%s\r\n",
			 (int)d->e.reverse_path.bytes, d->e.reverse_path.at, size,
			 d->e.body == ENVELOPE_8BIT ? " BODY=8BITMIME" : "");
	client_command(c, line, (size_t)n);
	c->sent++;
}

/* The next recipient that still has to be offered; false: none is left. */
static bool send_recipient(struct client *c)
{
	struct delivery *d = c->delivery;
	struct envelope_recipient to;
	char line[COMMAND_ROOM];

	while (!c->mail_refused &&
	       envelope_next_recipient(d->envelope->data, d->envelope->end, &c->send_cursor, &to)) {
		uint32_t i = c->send_index++;
		if (d->recipients[i].state != RECIPIENT_TODO)
			continue;
		int n = snprintf(line, sizeof(line), "RCPT TO:<%.*s>\r\n", (int)to.path.bytes,
				 to.path.at);
		client_command(c, line, (size_t)n);
		c->sent++;
		return true;
	}
	return false;
}

static bool out_room(const struct client *c)
{
	return c->out == NULL || c->out->size - c->out->end >= COMMAND_ROOM;
}

void transact_pump(struct client *c)
{
	bool recipients_left = true;

	while (!c->data_sent && out_room(c) && (c->pipelining || c->sent == c->answered)) {
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
		client_command(c, "DATA\r\n", 6);
		c->data_sent = true;
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
	/* 3xx is no answer to RCPT: later, perhaps, the hop makes sense again */
	r->state = c->reply.code / 100 == 5 ? RECIPIENT_FAILED : RECIPIENT_DEFERRED;
	reply_status(&c->reply, r->status);
	snprintf(r->text, sizeof(r->text), "%u %.140s", c->reply.code, reply_text(&c->reply));
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
