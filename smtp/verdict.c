/*
 * verdict.c - why a message is refused when its data has come: one row a reason, asked in
 * order.
 *
 * Source: RFC 5321 sections 2.3.8, 4.5.3.1.6, 6.3; RFC 5322 section 3.6; RFC 6409 sections 6.1 and
 * 8; RFC 6531; RFC 1870 section 6.3.
 */
#include "smtp/internal.h"
#include "smtp/mailbox.h"

#include <stdio.h>
#include <string.h>

enum { ARGUMENT = 160 };

/* A reason: true when it applies; writes what fills the reply's %s. */
typedef bool reason(const struct transaction *tx, char *argument);

static bool too_big(const struct transaction *tx, char *argument)
{
	snprintf(argument, ARGUMENT, "%llu", (unsigned long long)tx->max_bytes);
	return tx->too_big;
}

static bool line_ends(const struct transaction *tx, char *argument)
{
	const struct content *c = &tx->content;

	return c->lone_cr || c->nul || (c->lone_lf && !c->rules.normalize);
}

static bool long_line(const struct transaction *tx, char *argument)
{
	return tx->content.long_line && tx->worker->config->long_lines_refused;
}

static bool header_too_big(const struct transaction *tx, char *argument)
{
	uint64_t most = tx->worker->config->max_header_size;

	snprintf(argument, ARGUMENT, "%llu", (unsigned long long)most);
	return most > 0 && tx->content.header.bytes > most;
}

static bool header_utf8(const struct transaction *tx, char *argument)
{
	return tx->content.header.non_ascii && !tx->parameters.smtputf8;
}

static bool header_not_utf8(const struct transaction *tx, char *argument)
{
	return tx->content.header.bad_utf8;
}

static bool loop(const struct transaction *tx, char *argument)
{
	return tx->content.header.count[HEADER_RECEIVED] > RECEIVED_LIMIT;
}

static bool field_twice(const struct transaction *tx, char *argument)
{
	enum header_field f = header_doubled(&tx->content.header);

	if (f == HEADER_KNOWN)
		return false;
	snprintf(argument, ARGUMENT, "%s", header_name(f));
	return true;
}

static bool no_from(const struct transaction *tx, char *argument)
{
	return tx->content.header.count[HEADER_FROM] == 0 &&
	       tx->session->listener->policy.from_required;
}

static bool signed_lines(const struct transaction *tx, char *argument)
{
	snprintf(argument, ARGUMENT, "making its lone LF to CR LF");
	return tx->content.lone_lf && tx->content.rules.normalize &&
	       header_is_signed(&tx->content.header);
}

static bool signed_bcc(const struct transaction *tx, char *argument)
{
	snprintf(argument, ARGUMENT, "taking its Bcc field out");
	return tx->content.header.bcc_removed && header_is_signed(&tx->content.header);
}

bool sender_is_own(const struct smtp_session *s, struct text address)
{
	const char *tenant, *addresses;

	auth_attributes(s->worker->env.auth, s->user, s->identity, &tenant, &addresses);
	struct text user = {s->user, strlen(s->user)};
	struct text list = {addresses, strlen(addresses)};

	return mailbox_in_list(address, user) || mailbox_in_list(address, list);
}

bool authors_are_own(const struct transaction *tx, struct text *offender)
{
	const struct header *h = &tx->content.header;
	struct text rest = {h->from, h->from_bytes}, address;
	enum mailbox m = MAILBOX_END;
	unsigned n = 0;

	*offender = (struct text){NULL, 0};
	if (h->from_too_long)
		return false;
	for (; (m = mailbox_next(&rest, &address)) == MAILBOX_FOUND; n++) {
		if (sender_is_own(tx->session, address))
			continue;
		*offender = address;
		return false;
	}
	return m == MAILBOX_END && n > 0;
}

static bool from_not_own(const struct transaction *tx, char *argument)
{
	struct text offender;

	if (!tx->session->listener->policy.own_senders || authors_are_own(tx, &offender))
		return false;
	if (offender.n > 0)
		snprintf(argument, ARGUMENT, "From: <%.*s>",
			 offender.n < 100 ? (int)offender.n : 100, offender.at);
	else
		snprintf(argument, ARGUMENT, "what the From field holds");
	return true;
}

enum { AT_ANY_TIME = 1, AT_THE_END = 2 };

static const struct {
	reason *applies;
	enum smtp_reply reply;
	enum smtp_counter counter;
	unsigned when;
} reasons[] = {
	{too_big, REPLY_TOO_BIG, smtp_message_too_big, AT_ANY_TIME},
	{line_ends, REPLY_CONTENT_LINE_ENDS, smtp_message_bare_newline, AT_ANY_TIME},
	{long_line, REPLY_LONG_LINE, smtp_message_long_line, AT_ANY_TIME},
	{header_too_big, REPLY_HEADER_TOO_BIG, smtp_message_header_size, AT_ANY_TIME},
	{header_utf8, REPLY_HEADER_UTF8, smtp_message_header_utf8, AT_ANY_TIME},
	{header_not_utf8, REPLY_HEADER_NOT_UTF8, smtp_message_header_utf8, AT_ANY_TIME},
	{loop, REPLY_LOOP, smtp_message_loop, AT_ANY_TIME},
	{field_twice, REPLY_HEADER_TWICE, smtp_message_header_fields, AT_ANY_TIME},
	{no_from, REPLY_HEADER_NO_FROM, smtp_message_header_fields, AT_THE_END},
	{signed_lines, REPLY_SIGNED, smtp_message_signed, AT_THE_END},
	{signed_bcc, REPLY_SIGNED, smtp_message_signed, AT_THE_END},
	{from_not_own, REPLY_NOT_OWN, smtp_message_not_own, AT_THE_END},
};

bool verdict_refuses(struct transaction *tx, bool final)
{
	struct smtp_session *s = tx->session;
	unsigned when = AT_ANY_TIME | (final ? AT_THE_END : 0);
	char argument[ARGUMENT] = "";

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if ((reasons[i].when & when) == 0 || !reasons[i].applies(tx, argument))
			continue;
		smtp_count(tx->worker, reasons[i].counter);
		if (reasons[i].reply == REPLY_TOO_BIG)
			session_reply(s, reasons[i].reply, argument);
		else
			session_error(s, reasons[i].reply, argument);
		return true;
	}
	if (tx->failure != 0) {
		session_reply(s, transaction_failure(tx->worker, tx->failure), NULL);
		return true;
	}
	return false;
}
