/* test_smtp_message.c - what is added to a message, what may be changed in it, and for what it is
 * refused (RFC 6409 section 8, RFC 5322 section 3.6) */
#include "tests/unit/mail_kit.h"

#define FROM "From: alice@example.net\r\n"
#define DKIM "DKIM-Signature: v=1; a=rsa-sha256\r\n"

static struct mail *begin_with(const struct mail_options *o, struct peer **p)
{
	struct mail *m = mail_create(o);

	m->hold_relay = true;
	*p = peer_login(m);
	return m;
}

static struct mail_options defaults(void)
{
	struct mail_options o;

	mail_options_default(&o);
	return o;
}

/* The fields of ours in front of what was sent. */
static const char *added(struct mail *m, const char *sent)
{
	static char out[8192];

	out[stored(m, out, sizeof(out), sent, strlen(sent))] = '\0';
	return out;
}

/* RFC 6758 */
static void a_priority_is_told_by_a_field_as_well(void **state)
{
	static const struct {
		const char *parameter, *text, *field; /* NULL: none is added */
	} rows[] = {
		{"MT-PRIORITY=-4", FROM "\r\n", "MT-Priority: -4\r\n"},
		{"MT-PRIORITY=9", FROM "\r\n", "MT-Priority: 2\r\n"}, /* what it is lowered to */
		{"MT-PRIORITY=0", FROM "\r\n", NULL},
		{"", FROM "\r\n", NULL},
		{"MT-PRIORITY=1", FROM "MT-PRIORITY: 1 (mine)\r\n\r\n", NULL},
	};
	struct mail_options o = defaults();
	struct peer *p;

	o.smtp.max_priority = 2;
	struct mail *m = begin_with(&o, &p);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		data_with(p, rows[i].parameter, rows[i].text, "250");
		const char *fields = added(m, rows[i].text);
		if (rows[i].field == NULL)
			assert_null(strstr(fields, "MT-Priority"));
		else
			assert_non_null(strstr(fields, rows[i].field));
	}
	mail_destroy(m);
}

static void a_singleton_field_that_is_there_twice_is_refused_by_its_name(void **state)
{
	static const char *const names[] = {"Date",        "From",       "Sender", "Reply-To",
					    "To",          "Cc",         "Bcc",    "Message-ID",
					    "In-Reply-To", "References", "Subject"};
	struct mail_options o = defaults();
	struct peer *p;
	struct mail *m = begin_with(&o, &p);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[200], reply[100];
		snprintf(text, sizeof(text), "%s: a@b\r\nX: y\r\n%s : c@d\r\n\r\n", names[i],
			 names[i]);
		snprintf(reply, sizeof(reply), "554 5.6.0 header field %s is there more than once",
			 names[i]);
		data_with(p, "", text, reply);
	}
	/* resent blocks, trace and unknown fields may come as often as they like */
	data_with(p, "",
		  FROM "Resent-From: a@b\r\nResent-From: a@b\r\nReceived: x\r\nReceived: y\r\n"
		       "Comments: x\r\nComments: y\r\nResent-To: a@b\r\nResent-To: c@d\r\n\r\n",
		  "250");
	/* and fields in the body are none */
	data_with(p, "", FROM "\r\nSubject: x\r\nSubject: y\r\n", "250");
	assert_int_equal(mail_smtp_count(m, smtp_message_header_fields), 11);
	mail_destroy(m);
}

static void a_message_without_from_is_refused_only_where_from_is_required(void **state)
{
	for (unsigned required = 0; required < 2; required++) {
		struct mail_options o = defaults();
		struct peer *p;
		o.smtp.from_required = required;
		struct mail *m = begin_with(&o, &p);
		data_with(p, "", "Subject: x\r\n\r\n", required ? "554 5.6.0" : "250");
		data_with(p, "", "just text\r\n", required ? "554 5.6.0" : "250");
		data_with(p, "", "\r\n" FROM, required ? "554 5.6.0" : "250");
		data_with(p, "", FROM "\r\n", "250");
		mail_destroy(m);
	}
}

static void long_lines_pass_or_are_refused_as_configured(void **state)
{
	char text[2000] = FROM "\r\n";
	size_t head = strlen(text);

	for (unsigned refused = 0; refused < 2; refused++) {
		struct mail_options o = defaults();
		struct peer *p;
		o.smtp.long_lines_refused = refused;
		struct mail *m = begin_with(&o, &p);
		memset(text + head, 'x', 999);
		strcpy(text + head + 999, "\r\n");
		data_with(p, "", text, refused ? "554 5.6.0" : "250");
		strcpy(text + head + 998, "\r\n");
		data_with(p, "", text, "250");
		stored_text(m, text);
		mail_destroy(m);
	}
}

static void a_lone_lf_is_made_a_line_end_only_where_normalizing_is_on(void **state)
{
	static const struct {
		const char *sent, *stored;
	} rows[] = {
		{FROM "Subject: x\n\nbody\n", "Subject: x\r\n\r\nbody\r\n"},
		{"From: a@b\nSubject: x\n\nbody\r\n", "From: a@b\r\nSubject: x\r\n\r\nbody\r\n"},
		{FROM "\r\na\n\nb\n", "\r\na\r\n\r\nb\r\n"},
		/* no dot behind a lone LF is transparency or an end */
		{FROM "\r\na\n.\nb\r\n", "\r\na\r\n.\r\nb\r\n"},
		{FROM "\r\na\n.\r\nb\r\n", "\r\na\r\n.\r\nb\r\n"},
		{FROM "\r\na\n..b\r\n..c\r\n", "\r\na\r\n..b\r\n.c\r\n"},
	};

	for (unsigned normalize = 0; normalize < 2; normalize++) {
		struct mail_options o = defaults();
		struct peer *p;
		o.normalize = normalize;
		struct mail *m = begin_with(&o, &p);
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			envelope_with(p, "");
			expect_cmd(p, "DATA", "354");
			peer_say(p, rows[i].sent);
			/* the end that counts is CR LF . CR LF */
			expect_say(p, "\r\n.\r\n", normalize ? "250" : "550 5.6.0");
			if (!normalize)
				continue;
			char expected[200];
			snprintf(expected, sizeof(expected), "%s\r\n", rows[i].stored);
			stored_text(m, expected);
		}
		/* a lone CR is never repaired */
		data_with(p, "", FROM "\r\na\rb\r\n", "550 5.6.0");
		data_with(p, "", FROM "\r\na\r\r\nb\r\n", "550 5.6.0");
		assert_int_equal(mail_smtp_count(m, smtp_message_normalized), normalize ? 6 : 0);
		mail_destroy(m);
	}
}

static void normalizing_is_for_data_and_not_for_bdat(void **state)
{
	struct mail_options o = defaults();
	struct peer *p;

	o.normalize = true;
	struct mail *m = begin_with(&o, &p);
	envelope_with(p, "");
	bdat(p, FROM "\r\na\nb\r\n", strlen(FROM) + 7, true, "550 5.6.0");
	mail_destroy(m);
}

/* DKIM, S/MIME and OpenPGP: where a change would break the signature, the sender hears of it. */
static void a_signed_message_is_taken_as_it_is_or_refused_with_the_reason(void **state)
{
	static const char *const signs[] = {
		DKIM, "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"\r\n",
		"Content-Type:\r\n multipart/encrypted;\r\n protocol=x\r\n",
		"content-type: APPLICATION/PKCS7-MIME; smime-type=signed-data\r\n",
		"Content-Type: application/x-pkcs7-mime\r\n"};

	for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
		struct mail_options o = defaults();
		struct peer *p;
		char text[400];
		o.normalize = o.smtp.remove_bcc = true;
		struct mail *m = begin_with(&o, &p);
		snprintf(text, sizeof(text), FROM "%s\r\na\nb\r\n", signs[i]);
		data_with(p, "", text, "554 5.6.0 the message is signed: making its lone LF");
		snprintf(text, sizeof(text), FROM "Bcc: x@y\r\n%s\r\na\r\n", signs[i]);
		data_with(p, "", text, "554 5.6.0 the message is signed: taking its Bcc");
		/* fields above do not touch what was signed below */
		snprintf(text, sizeof(text), FROM "%s\r\na\r\n", signs[i]);
		data_with(p, "", text, "250");
		stored_text(m, text);
		assert_int_equal(mail_smtp_count(m, smtp_message_signed), 2);
		mail_destroy(m);
	}
}

static void other_content_types_are_not_taken_for_signed(void **state)
{
	struct mail_options o = defaults();
	struct peer *p;

	o.normalize = true;
	struct mail *m = begin_with(&o, &p);
	data_with(p, "", FROM "Content-Type: multipart/signedx\r\n\r\na\nb\r\n", "250");
	data_with(p, "", FROM "Content-Type: text/plain; x=multipart/signed\r\n\r\na\nb\r\n",
		  "250");
	data_with(p, "", FROM "X-DKIM-Signature: x\r\n\r\nDKIM-Signature: x\nb\r\n", "250");
	mail_destroy(m);
}

static void bcc_vanishes_with_its_folded_lines_and_nothing_else_does(void **state)
{
	static const struct {
		const char *sent, *stored;
	} rows[] = {
		{"Bcc: x@y\r\n" FROM "\r\nBcc: body\r\n", FROM "\r\nBcc: body\r\n"},
		{FROM "bCC : x@y,\r\n z@y\r\n\tw@y\r\nTo: a@b\r\n\r\n", FROM "To: a@b\r\n\r\n"},
		{FROM "Bcc:\r\n\r\nbody\r\n", FROM "\r\nbody\r\n"},
		{FROM "Bcc: x\r\n", FROM},
		{FROM "Bccx: x\r\nBc: y\r\nB: z\r\nXBcc: w\r\n\r\n",
		 FROM "Bccx: x\r\nBc: y\r\nB: z\r\nXBcc: w\r\n\r\n"},
		{FROM "Subject: Bcc: x\r\n bcc: y\r\n\r\n",
		 FROM "Subject: Bcc: x\r\n bcc: y\r\n\r\n"},
		{FROM "\r\nb\r\nbc\r\nbcc\r\n", FROM "\r\nb\r\nbc\r\nbcc\r\n"},
		{"bcc\r\n" FROM, "bcc\r\n" FROM},
	};
	struct mail_options o = defaults();
	struct peer *p;

	o.smtp.remove_bcc = true;
	struct mail *m = begin_with(&o, &p);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *sent = rows[i].sent;
		char out[4000];
		data_with(p, "", sent, "250");
		size_t at = stored(m, out, sizeof(out), rows[i].stored, strlen(rows[i].stored));
		out[at] = '\0';
		assert_null(strcasestr(out, "\nbcc"));
		/* the same in chunks of one octet */
		envelope_with(p, "");
		for (size_t k = 0; sent[k] != '\0'; k++)
			bdat(p, sent + k, 1, false, "250");
		bdat(p, "", 0, true, "250");
		stored_text(m, rows[i].stored);
	}
	assert_int_equal(mail_smtp_count(m, smtp_message_bcc_removed), 8);
	mail_destroy(m);
}

static void a_hidden_client_leaves_the_field_but_not_its_name_and_address(void **state)
{
	for (unsigned hidden = 0; hidden < 2; hidden++) {
		struct mail_options o = defaults();
		struct peer *p;
		o.hide_client = hidden;
		struct mail *m = begin_with(&o, &p);
		data_with(p, "", FROM "\r\n", "250");
		const char *fields = added(m, FROM "\r\n");
		assert_int_equal(strncmp(fields, "Received: from ", 15), 0);
		assert_int_equal(strstr(fields, "client.test") == NULL, hidden);
		assert_int_equal(strstr(fields, "10.0.0.1") == NULL, hidden);
		assert_non_null(strstr(fields, "\r\n\tby mx.test with ESMTPSA id "));
		/* the operator still finds it */
		char text[ADDR_TEXT_BYTES];
		assert_string_equal(addr_text(&stored_envelope(m, NULL)->client, text), "10.0.0.1");
		mail_destroy(m);
	}
}

static void bare_addresses_are_qualified_only_where_a_domain_is_configured(void **state)
{
	for (unsigned on = 0; on < 2; on++) {
		struct mail_options o = defaults();
		struct envelope_recipient r;
		struct peer *p;
		if (on)
			strcpy(o.smtp.qualify, "corp.example");
		struct mail *m = begin_with(&o, &p);
		expect_cmd(p, "MAIL FROM:<alice>", on ? "250" : "501 5.1.7");
		if (!on)
			expect_cmd(p, "MAIL FROM:<a@x.y>", "250");
		expect_cmd(p, "RCPT TO:<bob>", on ? "250" : "501 5.1.3");
		expect_cmd(p, "RCPT TO:<postmaster>", "250");
		expect_cmd(p, "DATA", "354");
		expect_say(p, FROM "\r\n.\r\n", "250");
		const struct envelope *e = stored_envelope(m, &r);
		expect_text(&e->reverse_path, on ? "alice@corp.example" : "a@x.y");
		expect_text(&r.path, on ? "bob@corp.example" : "postmaster@mx.test");
		/* the null path stays null */
		expect_cmd(p, "MAIL FROM:<>", "250");
		mail_destroy(m);
	}
}

static void sender_is_added_when_the_author_is_somebody_else(void **state)
{
	static const struct {
		const char *header;
		bool added;
	} rows[] = {
		{"From: bob@example.org\r\n", true},
		{"From: alice@corp.example, bob@example.org\r\n", true},
		{"From: undisclosed\r\n", true},
		{"From: Alice <alice@corp.example>\r\n", false},
		{"From: bob@example.org\r\nSender: carol@example.org\r\n", false},
		{"Subject: none\r\n", false},
	};

	for (unsigned on = 0; on < 2; on++) {
		struct mail_options o = defaults();
		struct peer *p;
		o.smtp.add_sender = on;
		strcpy(o.smtp.qualify, "corp.example");
		o.addresses = "alice@corp.example";
		struct mail *m = begin_with(&o, &p);
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			data_with(p, "", rows[i].header, "250");
			bool there = strstr(added(m, rows[i].header),
					    "\r\nSender: <alice@corp.example>\r\n") != NULL;
			if (there != (on && rows[i].added))
				fail_msg("%s", rows[i].header);
		}
		mail_destroy(m);
	}
}

static void only_own_addresses_may_send_where_senders_are_own(void **state)
{
	struct mail_options o = defaults();
	struct peer *p;

	o.smtp.own_senders = true;
	o.addresses = "alice@example.net,@own.example";
	struct mail *m = begin_with(&o, &p);
	expect_cmd(p, "MAIL FROM:<alice@example.com>", "550 5.7.1 <alice@example.com> is not");
	expect_cmd(p, "MAIL FROM:<bob@example.net>", "550 5.7.1");
	expect_cmd(p, "MAIL FROM:<any@own.example>", "250");
	expect_cmd(p, "RSET", "250");
	data_with(p, "", "From: Alice <alice@example.net>, x@OWN.example\r\n\r\n", "250");
	data_with(p, "", "From: bob@example.net\r\n\r\n",
		  "550 5.7.1 From: <bob@example.net> is not");
	data_with(p, "", "From: alice@example.net, bob@example.net\r\n\r\n", "550 5.7.1");
	data_with(p, "", "From: alice@example.net bob@example.net\r\n\r\n", "550 5.7.1");
	data_with(p, "", "Subject: no author\r\n\r\n", "550 5.7.1");
	/* reports and replies of machines: nobody's address */
	expect_cmd(p, "MAIL FROM:<>", "250");
	assert_int_equal(mail_smtp_count(m, smtp_sender_not_own), 2);
	assert_int_equal(mail_smtp_count(m, smtp_message_not_own), 4);
	mail_destroy(m);
}

static void a_user_whose_name_is_an_address_may_send_as_it(void **state)
{
	struct mail_options o = defaults();
	struct peer *p;

	o.smtp.own_senders = true;
	struct mail *m = begin_with(&o, &p);
	struct smtp_session *s = slab_at(m->smtp->sessions, 0, NULL);
	strcpy(s->user, "alice@example.net");
	data_with(p, "", "From: alice@example.net\r\n\r\n", "250");
	expect_cmd(p, "MAIL FROM:<bob@example.net>", "550 5.7.1");
	mail_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_priority_is_told_by_a_field_as_well),
		cmocka_unit_test(a_singleton_field_that_is_there_twice_is_refused_by_its_name),
		cmocka_unit_test(a_message_without_from_is_refused_only_where_from_is_required),
		cmocka_unit_test(long_lines_pass_or_are_refused_as_configured),
		cmocka_unit_test(a_lone_lf_is_made_a_line_end_only_where_normalizing_is_on),
		cmocka_unit_test(normalizing_is_for_data_and_not_for_bdat),
		cmocka_unit_test(a_signed_message_is_taken_as_it_is_or_refused_with_the_reason),
		cmocka_unit_test(other_content_types_are_not_taken_for_signed),
		cmocka_unit_test(bcc_vanishes_with_its_folded_lines_and_nothing_else_does),
		cmocka_unit_test(a_hidden_client_leaves_the_field_but_not_its_name_and_address),
		cmocka_unit_test(bare_addresses_are_qualified_only_where_a_domain_is_configured),
		cmocka_unit_test(sender_is_added_when_the_author_is_somebody_else),
		cmocka_unit_test(only_own_addresses_may_send_where_senders_are_own),
		cmocka_unit_test(a_user_whose_name_is_an_address_may_send_as_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
