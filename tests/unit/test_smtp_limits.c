/* test_smtp_limits.c - what a user, a tenant and an address may send, and how they are told */
#include "base/base64.h"
#include "smtp/internal.h"
#include "tests/sim/peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const uint64_t hour = 3600ull * MAIL_SECOND;

static void expect(const char *reply, const char *prefix)
{
	if (strncmp(reply, prefix, strlen(prefix)) != 0)
		fail_msg("expected %s, got: %s", prefix, reply);
}

static void expect_cmd(struct peer *p, const char *line, const char *prefix)
{
	const char *r = peer_cmd(p, line);

	if (strncmp(r, prefix, strlen(prefix)) != 0)
		fail_msg("%s: expected %s, got: %s", line, prefix, r);
}

static const char *try_login(struct mail *m, const char *user, struct peer **out)
{
	uint8_t plain[300];
	char line[500] = "AUTH PLAIN ";
	size_t n = strlen(user);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	*out = p;
	assert_true(peer_tls(p, 0));
	peer_expect(p, "220");
	expect_cmd(p, "EHLO x", "250");
	plain[0] = 0;
	memcpy(plain + 1, user, n + 1);
	memcpy(plain + 2 + n, "secret", 6);
	base64_encode(plain, 2 + n + 6, line + strlen(line));
	return peer_cmd(p, line);
}

static struct peer *login(struct mail *m, const char *user)
{
	struct peer *p;

	expect(try_login(m, user, &p), "235");
	return p;
}

static void send_one(struct peer *p, const char *prefix)
{
	const char *r = peer_cmd(p, "MAIL FROM:<a@x.test>");

	if (strncmp(r, "250", 3) == 0) {
		expect_cmd(p, "RCPT TO:<b@y.test>", "250");
		expect_cmd(p, "DATA", "354");
		r = peer_cmd(p, "Subject: x\r\n\r\nx\r\n.");
	}
	expect(r, prefix);
}

static struct mail_options options(void)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.n_classes = 1;
	return o;
}

static void messages_of_a_user_are_limited_over_his_sessions_and_nobody_elses(void **state)
{
	struct mail_options o = options();

	o.more_users = "bob";
	o.smtp.classes[0].rate[SMTP_USER][SMTP_MESSAGES] = (struct quota_rate){3, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	for (unsigned i = 0; i < 3; i++) {
		struct peer *p = login(m, "alice");
		send_one(p, "250");
		peer_free(p);
	}
	struct peer *p = login(m, "alice"), *q = login(m, "bob");
	send_one(p, "450 4.7.1 limit of 3 messages in 60 min for user alice reached; try again in "
		    "20 min");
	send_one(q, "250");
	mail_run(m, hour / 3);
	p = login(m, "alice");
	send_one(p, "250");
	send_one(p, "450 4.7.1");
	assert_int_equal(mail_smtp_count(m, smtp_limited_user), 2);
	mail_destroy(m);
}

static void what_is_not_accepted_does_not_count(void **state)
{
	struct mail_options o = options();

	o.smtp.classes[0].rate[SMTP_USER][SMTP_MESSAGES] = (struct quota_rate){2, hour};
	o.smtp.classes[0].rate[SMTP_USER][SMTP_RECIPIENTS] = (struct quota_rate){3, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice");
	for (unsigned i = 0; i < 10; i++) {
		expect_cmd(p, "MAIL FROM:<a@x.test>", "250");
		expect_cmd(p, "RCPT TO:<b@y.test>", "250");
		expect_cmd(p, "RCPT TO:<c@y.test>", "250");
		if (i % 2 == 0) {
			expect_cmd(p, "RSET", "250");
			continue;
		}
		expect_cmd(p, "DATA", "354");
		expect(peer_cmd(p, "Subject: x\r\n\r\na\nb\r\n."), "550 5.6.0");
	}
	/* the session breaks off */
	expect_cmd(p, "MAIL FROM:<a@x.test>", "250");
	peer_reset(p);
	mail_run(m, MAIL_SECOND);
	p = login(m, "alice");
	send_one(p, "250");
	send_one(p, "250");
	send_one(p, "450");
	mail_destroy(m);
}

static void recipients_are_limited_one_by_one(void **state)
{
	struct mail_options o = options();

	o.smtp.classes[0].rate[SMTP_USER][SMTP_RECIPIENTS] = (struct quota_rate){2, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice");
	expect_cmd(p, "MAIL FROM:<a@x.test>", "250");
	expect_cmd(p, "RCPT TO:<b@y.test>", "250");
	expect_cmd(p, "RCPT TO:<c@y.test>", "250");
	expect_cmd(p, "RCPT TO:<d@y.test>",
		   "452 4.5.3 limit of 2 recipients in 60 min for user alice");
	/* those taken before are delivered */
	expect_cmd(p, "DATA", "354");
	expect(peer_cmd(p, "Subject: x\r\n\r\nx\r\n."), "250");
	mail_destroy(m);
}

static void octets_are_owed_and_the_next_message_waits(void **state)
{
	struct mail_options o = options();
	char *body = malloc(50000);

	memset(body, 'x', 50000);
	for (size_t i = 70; i < 50000; i += 72)
		memcpy(body + i, "\r\n", 2);
	memcpy(body, "Subject: x\r\n\r\n", 14);
	memcpy(body + 49995, "\r\n.", 4);
	o.smtp.classes[0].rate[SMTP_USER][SMTP_OCTETS] = (struct quota_rate){20, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice");
	expect_cmd(p, "MAIL FROM:<a@x.test>", "250");
	expect_cmd(p, "RCPT TO:<b@y.test>", "250");
	expect_cmd(p, "DATA", "354");
	expect(peer_cmd(p, body), "250");
	send_one(p,
		 "450 4.7.1 limit of 20 KiB in 60 min for user alice reached; try again in 90 min");
	mail_destroy(m);
	free(body);
}

static void tenants_share_what_their_users_send(void **state)
{
	struct mail_options o = options();

	o.tenant = "acme";
	o.more_users = "bob:acme carol:other";
	o.smtp.n_classes = 2;
	strcpy(o.smtp.classes[0].tenants, "elsewhere,acme");
	strcpy(o.smtp.classes[0].name, "acme");
	o.smtp.classes[0].rate[SMTP_TENANT][SMTP_MESSAGES] = (struct quota_rate){3, hour};
	o.smtp.classes[0].rate[SMTP_USER][SMTP_MESSAGES] = (struct quota_rate){2, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice"), *q = login(m, "bob"), *r = login(m, "carol");
	send_one(p, "250");
	send_one(p, "250");
	send_one(p, "450 4.7.1 limit of 2 messages in 60 min for user alice");
	send_one(q, "250");
	send_one(q, "450 4.7.1 limit of 3 messages in 60 min for tenant acme");
	for (unsigned i = 0; i < 5; i++)
		send_one(r, "250");
	/* what the tenant refused was not taken from bob: he has one left of his own */
	mail_run(m, hour / 3);
	send_one(login(m, "bob"), "250");
	assert_int_equal(mail_smtp_count(m, smtp_limited_tenant), 1);
	mail_destroy(m);
}

static void addresses_have_limits_whoever_logs_in(void **state)
{
	struct mail_options o = options();

	o.more_users = "bob";
	o.smtp.classes[0].rate[SMTP_ADDRESS][SMTP_MESSAGES] = (struct quota_rate){2, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	send_one(login(m, "alice"), "250");
	send_one(login(m, "bob"), "250");
	send_one(login(m, "alice"), "450 4.7.1 limit of 2 messages in 60 min for address ");
	assert_int_equal(mail_smtp_count(m, smtp_limited_address), 1);
	mail_destroy(m);
}

static void listeners_have_limits_of_their_own(void **state)
{
	struct mail_options o = options();

	o.more_users = "bob";
	o.smtp.classes[0].rate[SMTP_LISTENER][SMTP_MESSAGES] = (struct quota_rate){2, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	send_one(login(m, "alice"), "250");
	send_one(login(m, "bob"), "250");
	send_one(login(m, "alice"),
		 "450 4.7.1 limit of 2 messages in 60 min for listener submissions");
	/* the other listener is not concerned */
	struct peer *p = peer_connect(m, MAIL_SUBMISSION);
	peer_expect(p, "220");
	expect_cmd(p, "EHLO x", "250");
	expect_cmd(p, "STARTTLS", "220");
	assert_true(peer_tls(p, 0));
	expect_cmd(p, "EHLO x", "250");
	expect_cmd(p, "AUTH PLAIN " PEER_PLAIN, "235");
	send_one(p, "250");
	assert_int_equal(mail_smtp_count(m, smtp_limited_listener), 1);
	mail_destroy(m);
}

static void a_permanent_limit_says_so_and_a_configured_wait_is_told(void **state)
{
	struct mail_options o = options();

	o.more_users = "bob";
	o.smtp.n_classes = 2;
	strcpy(o.smtp.classes[0].users, "alice");
	o.smtp.classes[0].permanent = true;
	o.smtp.classes[1].retry_after_us = 2 * hour + 1;
	for (unsigned i = 0; i < 2; i++)
		o.smtp.classes[i].rate[SMTP_USER][SMTP_MESSAGES] = (struct quota_rate){1, hour};
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice"), *q = login(m, "bob");
	send_one(p, "250");
	send_one(p, "550 5.7.1 limit of 1 messages in 60 min for user alice reached [");
	send_one(q, "250");
	send_one(
		q,
		"450 4.7.1 limit of 1 messages in 60 min for user bob reached; try again in 3 h [");
	mail_destroy(m);
}

static void sessions_of_a_user_and_a_tenant_are_counted(void **state)
{
	struct mail_options o = options();
	struct peer *p;

	o.tenant = "acme";
	o.more_users = "bob:acme";
	o.smtp.classes[0].sessions[SMTP_USER] = 2;
	o.smtp.classes[0].sessions[SMTP_TENANT] = 3;
	struct mail *m = mail_create(&o);
	struct peer *first = login(m, "alice");
	login(m, "alice");
	expect(try_login(m, "alice", &p), "421 4.7.0 mx.test limit of 2 sessions for user alice");
	assert_true(peer_ended(p));
	login(m, "bob");
	expect(try_login(m, "bob", &p), "421 4.7.0 mx.test limit of 3 sessions for tenant acme");
	/* one ends: there is room for one */
	expect_cmd(first, "QUIT", "221");
	mail_run(m, MAIL_SECOND);
	login(m, "bob");
	expect(try_login(m, "alice", &p), "421");
	mail_destroy(m);
}

static void ehlo_after_login_tells_the_users_own_figures(void **state)
{
	struct mail_options o = options();

	o.smtp.extensions = SMTP_EXT_BIT(LIMITS);
	o.smtp.max_messages = 1000;
	strcpy(o.smtp.classes[0].users, "alice");
	o.smtp.classes[0].max_message_size = 12345;
	o.smtp.classes[0].max_recipients = 2;
	o.smtp.classes[0].max_messages = 3;
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice");
	expect_cmd(p, "EHLO x", "250");
	assert_non_null(strstr(p->reply, "250-SIZE 12345\r\n"));
	assert_non_null(strstr(p->reply, "LIMITS RCPTMAX=2 MAILMAX=3"));
	expect_cmd(p, "MAIL FROM:<a@x.test> SIZE=12346", "552 5.3.4");
	expect_cmd(p, "MAIL FROM:<a@x.test> SIZE=12345", "250");
	expect_cmd(p, "RCPT TO:<b@y.test>", "250");
	expect_cmd(p, "RCPT TO:<c@y.test>", "250");
	expect_cmd(p, "RCPT TO:<d@y.test>", "452 4.5.3");
	mail_destroy(m);
}

static void new_limits_hold_for_sessions_that_are_open(void **state)
{
	struct mail_options o = options();
	struct smtp_config *c = malloc(sizeof(*c));

	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice");
	send_one(p, "250");
	*c = o.smtp;
	c->classes[0].rate[SMTP_USER][SMTP_MESSAGES] = (struct quota_rate){1, hour};
	smtp_worker_configure(m->smtp, c);
	send_one(p, "250");
	send_one(p, "450");
	mail_destroy(m);
	free(c);
}

struct rows {
	char text[1000];
};

static void note_row(void *arg, const struct smtp_limit_row *r)
{
	struct rows *t = arg;
	size_t n = strlen(t->text);

	snprintf(t->text + n, sizeof(t->text) - n, "%s/%s %s %s %llu of %llu\n", r->class_name,
		 r->subject, r->name, r->measure, (unsigned long long)r->used,
		 (unsigned long long)r->limit);
}

static void use_is_reported_against_the_limits(void **state)
{
	struct mail_options o = options();
	struct rows t = {""};

	o.tenant = "acme";
	strcpy(o.smtp.classes[0].name, "all");
	o.smtp.classes[0].rate[SMTP_USER][SMTP_MESSAGES] = (struct quota_rate){5, hour};
	o.smtp.classes[0].rate[SMTP_TENANT][SMTP_RECIPIENTS] = (struct quota_rate){9, hour};
	o.smtp.classes[0].sessions[SMTP_USER] = 4;
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	struct peer *p = login(m, "alice");
	send_one(p, "250");
	send_one(p, "250");
	smtp_limits_report(m->shared, &o.smtp, "alice", "acme", m->shard->now_us, note_row, &t);
	assert_string_equal(t.text, "all/tenant acme recipients 2 of 9\n"
				    "all/user alice messages 2 of 5\n"
				    "all/user alice sessions 1 of 4\n");
	mail_destroy(m);
}

/* Octets that the gateway has taken of the user's sessions that are open. */
static uint64_t taken(struct mail *m, const char *user)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < slab_extent(m->smtp->sessions); i++) {
		struct smtp_session *s = slab_at(m->smtp->sessions, i, NULL);
		if (s != NULL && strcmp(s->user, user) == 0)
			n += s->data_bytes;
	}
	return n;
}

enum { FLOODERS = 20, PIECE = 4000, PIECES = 30, ROUNDS = 60 };

static void pour(struct peer *p)
{
	static char piece[PIECE + 1];

	if (piece[0] == '\0') {
		memset(piece, 'x', PIECE);
		for (size_t i = 78; i < PIECE; i += 80)
			memcpy(piece + i, "\r\n", 2);
	}
	if (p->raw.n < 400000)
		peer_say(p, piece);
}

static struct peer *in_data(struct mail *m, const char *user)
{
	struct peer *p = login(m, user);

	expect_cmd(p, "MAIL FROM:<a@x.test>", "250");
	expect_cmd(p, "RCPT TO:<b@y.test>", "250");
	expect_cmd(p, "DATA", "354");
	return p;
}

/* Three seconds of alice beside bob, both with so many sessions; what each got through. */
struct contest {
	unsigned alices, bobs;
	uint32_t weight; /* alice's */
	size_t pool;
	uint64_t alice, bob;
};

static void compete(struct contest *c)
{
	struct mail_options o = options();
	struct peer *peers[2 * FLOODERS];

	o.more_users = "bob";
	o.net.conditions.delay_us = 50000;
	o.net.chunk_bytes = c->pool;
	o.smtp.max_message_size = 1ull << 32;
	o.smtp.n_classes = 2;
	strcpy(o.smtp.classes[0].users, "alice");
	o.smtp.classes[0].weight = c->weight;
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	for (unsigned i = 0; i < c->alices + c->bobs; i++)
		peers[i] = in_data(m, i < c->alices ? "alice" : "bob");
	for (unsigned i = 0; i < ROUNDS; i++) {
		for (unsigned k = 0; k < c->alices + c->bobs; k++) {
			for (unsigned n = 0; n < PIECES; n++)
				pour(peers[k]);
		}
		mail_run(m, 50000);
	}
	c->alice = taken(m, "alice");
	c->bob = taken(m, "bob");
	mail_destroy(m);
}

static void a_flood_of_one_user_does_not_push_another_below_his_share(void **state)
{
	struct contest alone = {.alices = 1, .weight = 1, .pool = 8 << 20};
	struct contest beside = {.alices = 1, .bobs = FLOODERS, .weight = 1, .pool = 8 << 20};

	compete(&alone);
	compete(&beside);
	assert_true(alone.alice > 400000);
	if (beside.alice * 10 < alone.alice * 9)
		fail_msg("%llu of %llu", (unsigned long long)beside.alice,
			 (unsigned long long)alone.alice);
}

static void shares_follow_the_weights(void **state)
{
	struct contest even = {.alices = 8, .bobs = 8, .weight = 1, .pool = 3 << 20};
	struct contest heavy = {.alices = 8, .bobs = 8, .weight = 3, .pool = 3 << 20};

	compete(&even);
	compete(&heavy);
	if (even.alice * 10 < even.bob * 8 || even.alice * 8 > even.bob * 10)
		fail_msg("even: %llu and %llu", (unsigned long long)even.alice,
			 (unsigned long long)even.bob);
	if (heavy.alice < heavy.bob * 2)
		fail_msg("heavy: %llu and %llu", (unsigned long long)heavy.alice,
			 (unsigned long long)heavy.bob);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_of_a_user_are_limited_over_his_sessions_and_nobody_elses),
		cmocka_unit_test(what_is_not_accepted_does_not_count),
		cmocka_unit_test(recipients_are_limited_one_by_one),
		cmocka_unit_test(octets_are_owed_and_the_next_message_waits),
		cmocka_unit_test(tenants_share_what_their_users_send),
		cmocka_unit_test(addresses_have_limits_whoever_logs_in),
		cmocka_unit_test(listeners_have_limits_of_their_own),
		cmocka_unit_test(a_permanent_limit_says_so_and_a_configured_wait_is_told),
		cmocka_unit_test(sessions_of_a_user_and_a_tenant_are_counted),
		cmocka_unit_test(ehlo_after_login_tells_the_users_own_figures),
		cmocka_unit_test(new_limits_hold_for_sessions_that_are_open),
		cmocka_unit_test(use_is_reported_against_the_limits),
		cmocka_unit_test(a_flood_of_one_user_does_not_push_another_below_his_share),
		cmocka_unit_test(shares_follow_the_weights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
