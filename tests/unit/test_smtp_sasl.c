/* test_smtp_sasl.c - AUTH by SCRAM, tokens and certificates, in whole sessions */
#include "base/base64.h"
#include "smtp/auth/scram.h"
#include "smtp/internal.h"
#include "tests/sim/cert.h"
#include "tests/sim/peer.h"
#include "tests/sim/token.h"

#include <openssl/hmac.h>
#include <stdlib.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { ALL = 127 };

static const struct jwt_policy policy = {
	.issuer = "https://id.test/",
	.audience = "smtp",
	.user_claim = "email",
	.skew_s = 60,
};

static struct mail *world(const struct token_maker *tokens)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.mechanisms = ALL;
	o.smtp.external = SMTP_EXTERNAL_EMAIL;
	o.auth.tokens = policy;
	o.auth.jwks_file = tokens != NULL ? tokens->file : NULL;
	return mail_create(&o);
}

static struct peer *hello(struct mail *m, int version)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	assert_true(peer_tls(p, version));
	peer_expect(p, "220");
	assert_int_equal(strncmp(peer_cmd(p, "EHLO x"), "250", 3), 0);
	return p;
}

static const char *say(struct peer *p, const char *verb, const char *text)
{
	char line[8192];
	size_t n = (size_t)snprintf(line, sizeof(line), "%s", verb);

	base64_encode((const uint8_t *)text, strlen(text), line + n);
	return peer_cmd(p, line);
}

static void expect(const char *reply, const char *prefix)
{
	if (strncmp(reply, prefix, strlen(prefix)) != 0)
		fail_msg("expected %s, got: %s", prefix, reply);
}

/* What a 334 says, decoded. */
static void challenge(const char *reply, char *out, size_t room)
{
	expect(reply, "334 ");
	int n = base64_decode(reply + 4, strcspn(reply + 4, "\r\n"), (uint8_t *)out, room - 1);
	assert_true(n >= 0);
	out[n] = '\0';
}

/* A SCRAM client of its own. */
struct scram_client {
	const char *user, *password, *gs2; /* "n,," or "p=tls-exporter,," */
	uint8_t binding[64];
	size_t binding_bytes;
	char server_first[512], server_final[128];
	uint8_t server_key[SCRAM_KEY_BYTES];
	char auth_message[2048];
};

static void hmac(const uint8_t *key, const char *text, uint8_t *out)
{
	unsigned n = SCRAM_KEY_BYTES;

	HMAC(EVP_sha256(), key, SCRAM_KEY_BYTES, (const uint8_t *)text, strlen(text), out, &n);
}

/* The client's last message for what the server has said. */
static void client_final(struct scram_client *c, char *out, size_t room)
{
	struct scram_verifier v = {0};
	char nonce[300], salt[200], channel[256], proof_text[64];
	uint8_t bound[128], salted[32], key[32], proof[32];

	assert_int_equal(
		sscanf(c->server_first, "r=%299[^,],s=%199[^,],i=%u", nonce, salt, &v.iterations),
		3);
	v.salt_bytes = (uint8_t)base64_decode(salt, strlen(salt), v.salt, sizeof(v.salt));
	assert_int_equal(scram_derive(c->password, &v), 0);
	memcpy(c->server_key, v.server_key, sizeof(c->server_key));
	size_t n = strlen(c->gs2);
	memcpy(bound, c->gs2, n);
	memcpy(bound + n, c->binding, c->binding_bytes);
	base64_encode(bound, n + c->binding_bytes, channel);
	snprintf(c->auth_message, sizeof(c->auth_message), "n=%s,r=abcdef,%s,c=%s,r=%s", c->user,
		 c->server_first, channel, nonce);
	PKCS5_PBKDF2_HMAC(c->password, (int)strlen(c->password), v.salt, v.salt_bytes,
			  (int)v.iterations, EVP_sha256(), sizeof(salted), salted);
	hmac(salted, "Client Key", key);
	hmac(v.stored_key, c->auth_message, proof);
	for (unsigned i = 0; i < sizeof(proof); i++)
		proof[i] ^= key[i];
	base64_encode(proof, sizeof(proof), proof_text);
	snprintf(out, room, "c=%s,r=%s,p=%s", channel, nonce, proof_text);
}

static const char *scram_login(struct peer *p, const char *mechanism, struct scram_client *c)
{
	char text[1024], verb[64], v[64] = "v=";
	uint8_t signature[32];

	snprintf(verb, sizeof(verb), "AUTH %s ", mechanism);
	snprintf(text, sizeof(text), "%sn=%s,r=abcdef", c->gs2, c->user);
	challenge(say(p, verb, text), c->server_first, sizeof(c->server_first));
	client_final(c, text, sizeof(text));
	const char *reply = say(p, "", text);
	if (strncmp(reply, "334", 3) != 0)
		return reply;
	/* the server knows the verifier, too */
	challenge(reply, c->server_final, sizeof(c->server_final));
	hmac(c->server_key, c->auth_message, signature);
	base64_encode(signature, sizeof(signature), v + 2);
	assert_string_equal(c->server_final, v);
	return peer_cmd(p, "");
}

static struct scram_client alice(void)
{
	return (struct scram_client){.user = "alice", .password = "secret", .gs2 = "n,,"};
}

static void bind_channel(struct scram_client *c, struct peer *p)
{
	c->gs2 = "p=tls-exporter,,";
	c->binding_bytes = 32;
	assert_int_equal(SSL_export_keying_material(p->ssl, c->binding, 32,
						    "EXPORTER-Channel-Binding", 24, NULL, 0, 1),
			 1);
}

static void scram_proves_the_password_both_ways(void **state)
{
	struct mail *m = world(NULL);
	struct peer *p = hello(m, 0);
	struct scram_client c = alice();

	assert_non_null(strstr(p->reply, "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 OAUTHBEARER"));
	expect(scram_login(p, "SCRAM-SHA-256", &c), "235 2.7.0");
	expect(peer_cmd(p, "MAIL FROM:<a@x.test>"), "250");
	mail_destroy(m);
}

static void scram_plus_is_tied_to_the_connection_on_both_versions(void **state)
{
	struct mail *m = world(NULL);
	struct peer *p = hello(m, TLS1_3_VERSION);
	struct scram_client c = alice();

	bind_channel(&c, p);
	expect(scram_login(p, "SCRAM-SHA-256-PLUS", &c), "235");
	peer_free(p);
	/* the octets of another connection: somebody is in between */
	p = hello(m, TLS1_3_VERSION);
	expect(scram_login(p, "SCRAM-SHA-256-PLUS", &c), "535 5.7.8");
	peer_free(p);
	p = hello(m, TLS1_2_VERSION);
	X509 *x = SSL_get1_peer_certificate(p->ssl);
	unsigned n = 0;
	c = alice();
	c.gs2 = "p=tls-server-end-point,,";
	assert_int_equal(X509_digest(x, EVP_sha256(), c.binding, &n), 1);
	c.binding_bytes = n;
	X509_free(x);
	expect(scram_login(p, "SCRAM-SHA-256-PLUS", &c), "235");
	peer_free(p);
	/* the exporter of TLS 1.2 is not unique without extended master secret: never offered */
	p = hello(m, TLS1_2_VERSION);
	bind_channel(&c, p);
	expect(scram_login(p, "SCRAM-SHA-256-PLUS", &c), "535");
	mail_destroy(m);
}

static void a_client_that_was_not_shown_plus_is_refused(void **state)
{
	struct mail *m = world(NULL);
	struct peer *p = hello(m, 0);

	expect(say(p, "AUTH SCRAM-SHA-256 ", "y,,n=alice,r=abcdef"), "535 5.7.8");
	mail_destroy(m);
}

static void wrong_passwords_and_unknown_users_get_the_same_answers(void **state)
{
	struct mail *m = world(NULL);
	char salt[2][512];

	for (unsigned i = 0; i < 4; i++) {
		struct peer *p = hello(m, 0);
		struct scram_client c = alice();
		c.password = "wrong";
		if (i > 0)
			c.user = "nobody";
		expect(scram_login(p, "SCRAM-SHA-256", &c), "535 5.7.8");
		/* always the same salt for a name that does not exist, as for one that does */
		if (i >= 2)
			memcpy(salt[i - 2], strstr(c.server_first, ",s="), 40);
		assert_non_null(strstr(c.server_first, ",i=4096"));
		peer_free(p);
	}
	assert_memory_equal(salt[0], salt[1], 40);
	assert_int_equal(mail_smtp_count(m, smtp_auth_failed), 4);
	mail_destroy(m);
}

static void scram_given_up_anywhere_leaves_nothing_to_the_next_mechanism(void **state)
{
	for (unsigned at = 0; at < 3; at++) {
		for (unsigned how = 0; how < 2; how++) {
			struct mail *m = world(NULL);
			struct peer *p = hello(m, 0);
			struct scram_client c = alice();
			char text[1024];
			expect(peer_cmd(p, "AUTH SCRAM-SHA-256"), "334 ");
			if (at > 0) {
				challenge(say(p, "", "n,,n=alice,r=abcdef"), c.server_first,
					  sizeof(c.server_first));
			}
			if (at > 1) {
				client_final(&c, text, sizeof(text));
				expect(say(p, "", text), "334 ");
			}
			/* not logged in before the last empty line */
			if (how == 0)
				expect(peer_cmd(p, "*"), "501 5.7.0");
			else
				expect(say(p, "", "rubbish"), "501 5.5.2");
			expect(peer_cmd(p, "MAIL FROM:<a@x.test>"), "530");
			expect(peer_cmd(p, "AUTH PLAIN " PEER_PLAIN), "235");
			mail_destroy(m);
		}
	}
}

static void session_that_dies_during_a_check_leaks_nothing(void **state)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.mechanisms = ALL;
	o.auth_waits = true;
	struct mail *m = mail_create(&o);
	struct peer *p = hello(m, 0);
	struct scram_client c = alice();
	char text[1024], line[2048];
	challenge(say(p, "AUTH SCRAM-SHA-256 ", "n,,n=alice,r=abcdef"), c.server_first,
		  sizeof(c.server_first));
	client_final(&c, text, sizeof(text));
	base64_encode((const uint8_t *)text, strlen(text), line);
	strcat(line, "\r\n");
	peer_say(p, line);
	mail_run(m, 100000);
	peer_reset(p);
	mail_run(m, 100000);
	mail_destroy(m); /* fails when a login or a chunk is left */
}

static void bearer_tokens_log_in_by_both_mechanisms(void **state)
{
	struct token_maker *t = token_maker_create();
	struct mail *m = world(t);
	char claims[400], text[4000];

	snprintf(claims, sizeof(claims),
		 "{\"iss\":\"https://id.test/\",\"aud\":\"smtp\",\"email\":\"alice\",\"exp\":%lld}",
		 (long long)shard_wall_s(m->shard) + 1000);
	for (unsigned i = 0; i < 3; i++) {
		struct peer *p = hello(m, 0);
		struct token_spec s = {.claims = claims, .ec = i == 1};
		char *token = token_make(t, &s);
		if (i == 0)
			snprintf(text, sizeof(text),
				 "n,a=alice,\1host=mx.test\1port=465\1auth=Bearer %s\1\1", token);
		else if (i == 1)
			snprintf(text, sizeof(text), "n,,\1auth=Bearer %s\1\1", token);
		else
			snprintf(text, sizeof(text), "user=alice\1auth=Bearer %s\1\1", token);
		expect(say(p, i < 2 ? "AUTH OAUTHBEARER " : "AUTH XOAUTH2 ", text), "235 2.7.0");
		free(token);
		peer_free(p);
	}
	mail_destroy(m);
	token_maker_free(t);
}

static void refused_tokens_are_told_in_json_and_then_refused(void **state)
{
	static const char *const mechanism[] = {"AUTH OAUTHBEARER ", "AUTH XOAUTH2 "};
	struct token_maker *t = token_maker_create();
	struct mail *m = world(t);
	char claims[400], text[4000], json[200];

	for (unsigned i = 0; i < 6; i++) {
		struct peer *p = hello(m, 0);
		/* expired, or another user's */
		snprintf(claims, sizeof(claims),
			 "{\"iss\":\"https://id.test/\",\"aud\":\"smtp\",\"email\":\"%s\","
			 "\"exp\":%lld}",
			 i / 2 == 1 ? "bob" : "alice",
			 (long long)shard_wall_s(m->shard) + (i / 2 == 0 ? -1000 : 1000));
		struct token_spec s = {.claims = claims};
		char *token = token_make(t, &s);
		if (i / 2 == 2)
			token[20] ^= 1;
		snprintf(text, sizeof(text),
			 i % 2 == 0 ? "n,a=alice,\1auth=Bearer %s\1\1"
				    : "user=alice\1auth=Bearer %s\1\1",
			 token);
		challenge(say(p, mechanism[i % 2], text), json, sizeof(json));
		assert_non_null(strstr(json, "{\"status\":\""));
		expect(peer_cmd(p, i % 2 == 0 ? "AQ==" : ""), "535 5.7.8");
		expect(peer_cmd(p, "AUTH PLAIN " PEER_PLAIN), "235");
		free(token);
		peer_free(p);
	}
	mail_destroy(m);
	token_maker_free(t);
}

static void malformed_token_messages_end_the_exchange(void **state)
{
	static const char *const bad[] = {
		"n,,\1auth=Bearer \1\1",
		"n,,\1\1",
		"n,\1auth=Bearer abc\1\1",
		"n,,auth=Bearer abc\1\1",
		"n,,\1auth=Bearer a",
		"n,,\1auth=Bearer a\1",
		"n,,\1auth=Bearer a\1\1x",
		"n,b=x,\1auth=Bearer a\1\1",
		"p=tls-exporter,,\1auth=Bearer a\1\1",
		"n,,\1auth=Bearer a\1auth=Bearer b\1\1",
	};
	struct token_maker *t = token_maker_create();
	struct mail *m = world(t);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct peer *p = hello(m, 0);
		const char *r = say(p, "AUTH OAUTHBEARER ", bad[i]);
		if (strncmp(r, "501 5.5.2", 9) != 0)
			fail_msg("%zu: %s", i, r);
		peer_free(p);
	}
	mail_destroy(m);
	token_maker_free(t);
}

static void external_needs_a_verified_certificate_of_a_user(void **state)
{
	static const struct {
		const char *names, *authzid, *reply;
		bool trusted;
	} cases[] = {
		{"email:bob@x.test,email:alice", "=", "235", true},
		{"email:alice", "YWxpY2U=", "235", true},
		{"email:bob@x.test,email:alice", "Ym9iQHgudGVzdA==", "535", true}, /* no user */
		{"email:alice", "Ym9iQHgudGVzdA==", "535", true}, /* not of this certificate */
		{"email:bob@x.test", "=", "535", true},
		{"DNS:alice", "=", "535", true}, /* only e-mail addresses, as configured */
		{"email:alice", "=", "504", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct cert ca =
			cert_make(&(struct cert_spec){.common_name = "ca", .authority = true});
		struct cert other =
			cert_make(&(struct cert_spec){.common_name = "ca", .authority = true});
		struct cert c =
			cert_make(&(struct cert_spec){.common_name = "client",
						      .alternative = cases[i].names,
						      .issuer = cases[i].trusted ? &ca : &other});
		char file[] = "/tmp/ca.XXXXXX", key[] = "/tmp/ca.XXXXXX", line[100];
		close(mkstemp(file));
		close(mkstemp(key));
		cert_save(&ca, file, key);
		struct mail_options o;
		mail_options_default(&o);
		o.smtp.mechanisms = ALL;
		o.smtp.external = SMTP_EXTERNAL_EMAIL;
		o.tls.client_ca = file;
		struct mail *m = mail_create(&o);
		SSL_CTX_use_certificate(m->client_context, c.x);
		SSL_CTX_use_PrivateKey(m->client_context, c.key);
		struct peer *p = hello(m, 0);
		assert_int_equal(strstr(p->reply, "EXTERNAL") != NULL, cases[i].trusted);
		snprintf(line, sizeof(line), "AUTH EXTERNAL %s", cases[i].authzid);
		expect(peer_cmd(p, line), cases[i].reply);
		mail_destroy(m);
		unlink(file);
		unlink(key);
		cert_free(&ca);
		cert_free(&other);
		cert_free(&c);
	}
}

static void external_is_not_offered_without_a_certificate(void **state)
{
	struct mail *m = world(NULL);
	struct peer *p = hello(m, 0);

	assert_null(strstr(p->reply, "EXTERNAL"));
	expect(peer_cmd(p, "AUTH EXTERNAL ="), "504 5.5.4");
	mail_destroy(m);
}

/* CVE-2011-1720: a mechanism begun and cancelled, then each other one. */
static void every_pair_of_mechanisms_works_after_the_first_is_cancelled(void **state)
{
	static const char *const names[] = {"PLAIN",   "LOGIN",       "SCRAM-SHA-256",
					    "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256-PLUS"};
	struct mail *m = world(NULL);
	char line[64];

	for (size_t i = 0; i < 36; i++) {
		struct peer *p = hello(m, 0);
		snprintf(line, sizeof(line), "AUTH %s", names[i / 6]);
		expect(peer_cmd(p, line), "334");
		expect(peer_cmd(p, "*"), "501 5.7.0");
		snprintf(line, sizeof(line), "AUTH %s", names[i % 6]);
		expect(peer_cmd(p, line), "334");
		expect(peer_cmd(p, "!"), "501 5.5.2");
		expect(peer_cmd(p, "AUTH PLAIN " PEER_PLAIN), "235");
		peer_free(p);
	}
	mail_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(scram_proves_the_password_both_ways),
		cmocka_unit_test(scram_plus_is_tied_to_the_connection_on_both_versions),
		cmocka_unit_test(a_client_that_was_not_shown_plus_is_refused),
		cmocka_unit_test(wrong_passwords_and_unknown_users_get_the_same_answers),
		cmocka_unit_test(scram_given_up_anywhere_leaves_nothing_to_the_next_mechanism),
		cmocka_unit_test(session_that_dies_during_a_check_leaks_nothing),
		cmocka_unit_test(bearer_tokens_log_in_by_both_mechanisms),
		cmocka_unit_test(refused_tokens_are_told_in_json_and_then_refused),
		cmocka_unit_test(malformed_token_messages_end_the_exchange),
		cmocka_unit_test(external_needs_a_verified_certificate_of_a_user),
		cmocka_unit_test(external_is_not_offered_without_a_certificate),
		cmocka_unit_test(every_pair_of_mechanisms_works_after_the_first_is_cancelled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
