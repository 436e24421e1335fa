/* test_relay_pins.c - next hops known by the keys of their certificates */
#include "tests/unit/relay_kit.h"

#include "tests/sim/cert.h"

struct pinned {
	struct mail_options o;
	struct cert cert; /* the hop's: nobody trusts it, of another name, out of date */
	struct bench b;
};

static struct relay_hop *hop_of(struct pinned *t)
{
	return &t->o.relay.pools[0].hops[0];
}

static void reload(struct pinned *t)
{
	hop_of(t)->address = net_addr(pair_net(t->b.m->pair), 0);
	relay_worker_configure(t->b.m->relay, &t->o.relay);
}

/* SHA-256 of the SubjectPublicKeyInfo */
static void pin_of(const struct cert *c, uint8_t pin[TLS_PIN_BYTES])
{
	unsigned char *der = NULL;
	int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(c->x), &der);

	assert_true(n > 0);
	assert_int_equal(EVP_Digest(der, (size_t)n, pin, NULL, EVP_sha256(), NULL), 1);
	OPENSSL_free(der);
}

static void add_pin(struct pinned *t, const struct cert *c)
{
	pin_of(c, hop_of(t)->pins[hop_of(t)->n_pins++]);
}

static void add_other_pin(struct pinned *t)
{
	struct cert other = cert_make(&(struct cert_spec){.common_name = "x", .until_s = 1});

	add_pin(t, &other);
	cert_free(&other);
}

static void prepare(struct pinned *t, enum relay_tls tls, bool native)
{
	*t = (struct pinned){.cert = cert_make(&(struct cert_spec){.common_name = "nobody.example",
								   .until_s = -3600})};
	mail_options_default(&t->o);
	t->o.tls.native_records = native;
	hop_of(t)->tls = tls;
	snprintf(hop_of(t)->name, RELAY_NAME, "mx.test");
}

static void begin(struct pinned *t)
{
	t->b = bench_with(&t->o);
	assert_int_equal(
		SSL_CTX_use_cert_and_key(t->b.m->server_context, t->cert.x, t->cert.key, NULL, 1),
		1);
	t->b.h->starttls = hop_of(t)->tls != RELAY_TLS_IMPLICIT;
	t->b.h->implicit = hop_of(t)->tls == RELAY_TLS_IMPLICIT;
	submit(&t->b, "<alice@x.y>", "<a@x.y>", TEXT);
}

static void end(struct pinned *t)
{
	bench_end(&t->b);
	cert_free(&t->cert);
}

static void take_error(void *arg, const struct relay_hop_info *i)
{
	snprintf(arg, ERROR_TEXT, "%s", i->last_error);
}

static void expect_unpinned(struct pinned *t)
{
	char error[ERROR_TEXT] = "";

	mail_run(t->b.m, 3ull * MINUTE);
	assert_int_equal(t->b.h->n_mails, 0);
	assert_int_equal(relay_queued(t->b.m->relay), 1);
	assert_false(logged(&t->b, "MAIL"));
	assert_true(mail_tls_count(t->b.m, tls_client_unpinned) > 1);
	assert_int_equal(mail_tls_count(t->b.m, tls_client_unpinned),
			 mail_tls_count(t->b.m, tls_client_failed));
	assert_true(count(&t->b, relay_tls_failed) > 1);
	relay_each_hop(t->b.m->relay, take_error, error);
	assert_string_equal(error, "TLS failed: the key of its certificate is not pinned");
}

static void a_pinned_key_suffices_whatever_else_the_certificate_says(void **state)
{
	static const enum relay_tls how[] = {RELAY_TLS_REQUIRED, RELAY_TLS_IMPLICIT};

	for (unsigned i = 0; i < 4; i++) {
		struct pinned t;
		prepare(&t, how[i % 2], i / 2);
		if (i == 3)
			hop_of(&t)->name[0] = '\0';
		add_pin(&t, &t.cert);
		begin(&t);
		assert_true(drained(&t.b, MINUTE));
		assert_int_equal(hop_count(t.b.h, "hello"), 1);
		assert_int_equal(t.b.h->secured, 1);
		/* its own and the client's */
		assert_int_equal(mail_tls_count(t.b.m, tls_records_native), i / 2 * 2);
		assert_int_equal(mail_tls_count(t.b.m, tls_client_unpinned), 0);
		end(&t);
	}
}

static void a_key_that_is_not_pinned_defers_the_message_and_says_so(void **state)
{
	static const enum relay_tls how[] = {RELAY_TLS_REQUIRED, RELAY_TLS_IMPLICIT};

	for (unsigned i = 0; i < 4; i++) {
		struct pinned t;
		prepare(&t, how[i % 2], i / 2);
		add_other_pin(&t);
		begin(&t);
		expect_unpinned(&t);
		end(&t);
	}
}

static void name_and_trust_do_not_stand_in_for_a_pin(void **state)
{
	struct pinned t;

	prepare(&t, RELAY_TLS_REQUIRED, false);
	add_other_pin(&t);
	t.b = bench_with(&t.o);
	/* of mx.test, and a trust anchor itself */
	t.b.h->starttls = true;
	submit(&t.b, "<alice@x.y>", "<a@x.y>", TEXT);
	expect_unpinned(&t);
	end(&t);
}

static void one_of_several_pins_is_enough(void **state)
{
	for (unsigned at = 0; at < RELAY_PINS; at++) {
		struct pinned t;
		prepare(&t, RELAY_TLS_REQUIRED, at % 2);
		for (unsigned i = 0; i < RELAY_PINS; i++) {
			if (i == at)
				add_pin(&t, &t.cert);
			else
				add_other_pin(&t);
		}
		begin(&t);
		assert_true(drained(&t.b, MINUTE));
		assert_int_equal(hop_count(t.b.h, "hello"), 1);
		end(&t);
	}
}

static void new_pins_of_a_reload_end_what_the_old_ones_let_in(void **state)
{
	struct pinned t;

	prepare(&t, RELAY_TLS_REQUIRED, false);
	add_pin(&t, &t.cert);
	begin(&t);
	assert_true(drained(&t.b, MINUTE));
	/* its connection is idle now */
	hop_of(&t)->n_pins = 0;
	add_other_pin(&t);
	reload(&t);
	hop_forget(t.b.h);
	t.b.h->log.n = 0;
	submit(&t.b, "<alice@x.y>", "<a@x.y>", TEXT);
	expect_unpinned(&t);
	hop_of(&t)->n_pins = 0;
	add_pin(&t, &t.cert);
	reload(&t);
	assert_true(drained(&t.b, 5ull * MINUTE));
	assert_int_equal(hop_count(t.b.h, "hello"), 1);
	end(&t);
}

/* The session has a copy of the pins. */
static void a_hop_may_go_while_its_handshake_is_under_way(void **state)
{
	struct pinned t;

	prepare(&t, RELAY_TLS_IMPLICIT, false);
	add_pin(&t, &t.cert);
	begin(&t);
	t.b.m->hold_tls = true;
	mail_run(t.b.m, MAIL_SECOND);
	assert_int_equal(t.b.h->connections, 1);
	assert_int_equal(t.b.h->secured, 0);
	snprintf(hop_of(&t)->name, RELAY_NAME, "other.test");
	reload(&t);
	t.b.m->hold_tls = false;
	assert_true(drained(&t.b, 5ull * MINUTE));
	assert_int_equal(hop_count(t.b.h, "hello"), 1);
	assert_int_equal(t.b.h->connections, 2);
	end(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pinned_key_suffices_whatever_else_the_certificate_says),
		cmocka_unit_test(a_key_that_is_not_pinned_defers_the_message_and_says_so),
		cmocka_unit_test(name_and_trust_do_not_stand_in_for_a_pin),
		cmocka_unit_test(one_of_several_pins_is_enough),
		cmocka_unit_test(new_pins_of_a_reload_end_what_the_old_ones_let_in),
		cmocka_unit_test(a_hop_may_go_while_its_handshake_is_under_way),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
