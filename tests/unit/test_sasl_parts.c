/* test_sasl_parts.c - SCRAM's messages and proofs, and bearer tokens, octet by octet */
#include "base/base64.h"
#include "smtp/auth/jwt.h"
#include "smtp/auth/scram.h"
#include "tests/sim/token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { NOW = 1700000000 };

/* The example of RFC 7677 section 3: user "user", password "pencil". */
static const char first[] = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
static const char own_nonce[] = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
static const char final[] = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
			    "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

static struct scram_verifier pencil(void)
{
	struct scram_verifier v = {.iterations = 4096};
	static const char salt[] = "W22ZaJ0SNY7soEsUEjb6gQ==";

	v.salt_bytes = (uint8_t)base64_decode(salt, strlen(salt), v.salt, sizeof(v.salt));
	assert_int_equal(scram_derive("pencil", &v), 0);
	return v;
}

static enum scram_fault say_first(struct scram *x, const char *message, bool plus, bool offered)
{
	return scram_client_first(x, message, strlen(message), plus, offered);
}

static enum scram_fault say_final(struct scram *x, const char *message)
{
	return scram_client_final(x, message, strlen(message), NULL, 0);
}

static void the_exchange_of_the_rfc_gives_its_proofs(void **state)
{
	struct scram_verifier v = pencil();
	struct scram x;
	char answer[SCRAM_SERVER_FIRST_BYTES], end[SCRAM_SERVER_FINAL_BYTES];

	assert_int_equal(say_first(&x, first, false, false), SCRAM_FINE);
	assert_string_equal(x.user, "user");
	scram_server_first(&x, &v, own_nonce, answer);
	assert_string_equal(answer, "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
				    "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
	assert_int_equal(say_final(&x, final), SCRAM_FINE);
	assert_int_equal(scram_check(&x, &v), 1);
	scram_server_final(&x, end);
	assert_string_equal(end, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

static void another_password_or_a_changed_octet_is_no_proof(void **state)
{
	struct scram_verifier v = pencil();
	char answer[SCRAM_SERVER_FIRST_BYTES], changed[sizeof(final)];

	for (size_t i = 0; i < sizeof(final) - 1; i++) {
		struct scram x;
		memcpy(changed, final, sizeof(final));
		changed[i] ^= 1;
		say_first(&x, first, false, false);
		scram_server_first(&x, &v, own_nonce, answer);
		assert_false(say_final(&x, changed) == SCRAM_FINE && scram_check(&x, &v) == 1);
	}
}

static void first_messages_that_are_malformed_are_refused(void **state)
{
	static const struct {
		const char *message;
		enum scram_fault fault;
	} cases[] = {
		{"", SCRAM_SYNTAX},
		{"n", SCRAM_SYNTAX},
		{"n,", SCRAM_SYNTAX},
		{"n,,", SCRAM_SYNTAX},
		{"n,,n=user", SCRAM_SYNTAX},
		{"n,,r=abc,n=user", SCRAM_SYNTAX},
		{"n,,n=,r=abc", SCRAM_SYNTAX},
		{"n,,n=user,r=", SCRAM_SYNTAX},
		{"n,,n=us=er,r=abc", SCRAM_SYNTAX},
		{"n,,n=user=2,r=abc", SCRAM_SYNTAX},
		{"n,,n=user=,r=abc", SCRAM_SYNTAX},
		{"n,,m=ext,n=user,r=abc", SCRAM_SYNTAX},
		{"n,,n=user,r=a\x01"
		 "b",
		 SCRAM_SYNTAX},
		{"n,,n=us\xff"
		 "er,r=abc",
		 SCRAM_SYNTAX},
		{"x,,n=user,r=abc", SCRAM_SYNTAX},
		{"n,b=user,n=user,r=abc", SCRAM_SYNTAX},
		{"n,a=other,n=user,r=abc", SCRAM_REFUSED},
		{"n,a=user,n=user,r=abc", SCRAM_FINE},
		{"n,,n=u=2Cs=3Der,r=abc,x=future", SCRAM_FINE},
		{"p=tls-exporter,,n=user,r=abc", SCRAM_REFUSED}, /* not under -PLUS */
	};
	struct scram x;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (say_first(&x, cases[i].message, false, false) != cases[i].fault)
			fail_msg("%s", cases[i].message);
	}
	say_first(&x, "n,,n=u=2Cs=3Der,r=abc", false, false);
	assert_string_equal(x.user, "u,s=er");
	char *longest = malloc(4000);
	memset(longest, 'a', 4000);
	memcpy(longest, "n,,n=user,r=", 12);
	for (size_t n = 12; n < 4000; n++) {
		enum scram_fault f = scram_client_first(&x, longest, n, false, false);
		assert_int_equal(f, n - 12 >= 1 && n - 12 <= SCRAM_NONCE_MOST ? SCRAM_FINE
									      : SCRAM_SYNTAX);
	}
	free(longest);
}

static void a_downgrade_of_the_binding_is_noticed(void **state)
{
	struct scram x;

	/* "I could, but you do not offer it", while we do */
	assert_int_equal(say_first(&x, "y,,n=user,r=abc", false, true), SCRAM_REFUSED);
	assert_int_equal(say_first(&x, "y,,n=user,r=abc", false, false), SCRAM_FINE);
	assert_int_equal(say_first(&x, "n,,n=user,r=abc", false, true), SCRAM_FINE);
	assert_int_equal(say_first(&x, "n,,n=user,r=abc", true, true), SCRAM_REFUSED);
	assert_int_equal(say_first(&x, "p=tls-unique,,n=user,r=abc", true, true), SCRAM_REFUSED);
	assert_int_equal(say_first(&x, "p=tls-exporter,,n=user,r=abc", true, true), SCRAM_FINE);
	assert_int_equal(x.binding, SCRAM_BINDING_EXPORTER);
}

static void final_message_is_bound_to_header_channel_and_nonce(void **state)
{
	static const uint8_t channel[32] = {1, 2, 3}, other[32] = {1, 2, 4};
	struct scram_verifier v = pencil();
	char answer[SCRAM_SERVER_FIRST_BYTES], message[400], c[200];
	uint8_t bound[64];
	struct scram x;

	for (unsigned i = 0; i < 4; i++) {
		static const char header[] = "p=tls-exporter,,";
		size_t n = sizeof(header) - 1;
		say_first(&x, "p=tls-exporter,,n=user,r=abc", true, true);
		scram_server_first(&x, &v, "XYZ", answer);
		memcpy(bound, i == 1 ? "p=tls-exportes,," : header, n);
		memcpy(bound + n, i == 2 ? other : channel, sizeof(channel));
		base64_encode(bound, n + sizeof(channel), c);
		snprintf(message, sizeof(message), "c=%s,r=%s,p=%s", c, i == 3 ? "abcXY" : "abcXYZ",
			 "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
		assert_int_equal(
			scram_client_final(&x, message, strlen(message), channel, sizeof(channel)),
			i == 0 ? SCRAM_FINE : SCRAM_REFUSED);
	}
}

static void final_messages_that_are_malformed_are_refused(void **state)
{
	static const char *const cases[] = {
		"",
		"c=biws",
		"c=biws,r=abcXYZ",
		"r=abcXYZ,c=biws,p=AAAA",
		"c=biws,r=abcXYZ,p=",
		"c=biws,r=abcXYZ,p=AAAA", /* too short */
		"c=biws,r=abcXYZ,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=,x=y",
	};
	struct scram_verifier v = pencil();
	char answer[SCRAM_SERVER_FIRST_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct scram x;
		say_first(&x, "n,,n=user,r=abc", false, false);
		scram_server_first(&x, &v, "XYZ", answer);
		if (say_final(&x, cases[i]) != SCRAM_SYNTAX)
			fail_msg("%s", cases[i]);
	}
}

/* RFC 7515 appendix A.3; its claims name no audience, so only the signature can be right. */
static void the_signature_of_the_rfc_holds(void **state)
{
	static const char keys[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
				   "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
				   "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
	static const char token[] =
		"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9l"
		"eGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCg"
		"fTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
	struct jwks *k = token_keys(keys);
	struct jwt_policy p = {.issuer = "joe", .audience = "x", .user_claim = "iss"};
	char user[64], changed[sizeof(token)];

	assert_int_equal(jwt_check(k, &p, token, sizeof(token) - 1, 1300819379, user, 64),
			 JWT_CLAIMS);
	assert_int_equal(jwt_check(k, &p, token, sizeof(token) - 1, 1300819380, user, 64),
			 JWT_TIME);
	for (size_t i = 0; i < sizeof(token) - 1; i++) {
		memcpy(changed, token, sizeof(token));
		changed[i] = changed[i] == 'A' ? 'B' : 'A';
		enum jwt_verdict v =
			jwt_check(k, &p, changed, sizeof(token) - 1, 1300819379, user, 64);
		/* the last character of a part carries bits that are no octet's: then malformed */
		assert_true(v == JWT_SIGNATURE || v == JWT_MALFORMED || v == JWT_KEY);
	}
	jwks_unref(k);
}

static const struct jwt_policy policy = {
	.issuer = "https://id.test/",
	.audience = "smtp",
	.user_claim = "email",
	.skew_s = 60,
};

static enum jwt_verdict judge(struct token_maker *m, const struct token_spec *spec, char *user)
{
	char *token = token_make(m, spec);
	enum jwt_verdict v =
		jwt_check(m->keys, &policy, token, strlen(token), NOW, user, JWT_TEXT_BYTES);

	free(token);
	return v;
}

static void good_tokens_of_both_kinds_name_their_user(void **state)
{
	for (unsigned ec = 0; ec < 2; ec++) {
		struct token_maker *m = token_maker_create();
		struct token_spec s = {.ec = ec == 1, .claims = TOKEN_CLAIMS("1700000100")};
		char user[JWT_TEXT_BYTES] = "";
		assert_int_equal(judge(m, &s, user), JWT_GOOD);
		assert_string_equal(user, "alice@example.test");
		token_maker_free(m);
	}
}

#define IAE "\"iss\":\"https://id.test/\",\"aud\":\"smtp\",\"email\":\"a@b.test\""

static void tokens_that_prove_nothing_are_refused_for_the_right_reason(void **state)
{
	static const struct {
		const char *header, *claims;
		enum jwt_verdict verdict;
	} cases[] = {
		{NULL, "{" IAE "}", JWT_TIME},
		{NULL, "{" IAE ",\"exp\":\"1700000100\"}", JWT_TIME},
		{NULL, "{" IAE ",\"exp\":1699999940}", JWT_TIME}, /* the skew is over, too */
		{NULL, "{" IAE ",\"exp\":1699999941}", JWT_GOOD},
		{NULL, "{" IAE ",\"exp\":1700000100,\"nbf\":1700000061}", JWT_TIME},
		{NULL, "{" IAE ",\"exp\":1700000100,\"nbf\":1700000060}", JWT_GOOD},
		{NULL, "{" IAE ",\"exp\":1700000100.5}", JWT_GOOD},
		{NULL,
		 "{\"iss\":\"https://id.tes/\",\"aud\":\"smtp\",\"email\":\"a@b.test\","
		 "\"exp\":1700000100}",
		 JWT_CLAIMS},
		{NULL,
		 "{\"iss\":\"https://id.test/\",\"aud\":[\"imap\",\"smtp\"],"
		 "\"email\":\"a@b.test\",\"exp\":1700000100}",
		 JWT_GOOD},
		{NULL,
		 "{\"iss\":\"https://id.test/\",\"aud\":[\"imap\"],\"email\":\"a@b.test\","
		 "\"exp\":1700000100}",
		 JWT_CLAIMS},
		{NULL, "{\"iss\":\"https://id.test/\",\"aud\":\"smtp\",\"exp\":1700000100}",
		 JWT_CLAIMS},
		{NULL,
		 "{\"iss\":\"https://id.test/\",\"aud\":\"smtp\",\"email\":\"\","
		 "\"exp\":1700000100}",
		 JWT_CLAIMS},
		{NULL,
		 "{\"iss\":\"https://id.test/\",\"aud\":\"smtp\",\"email\":\"a\\u0000b\","
		 "\"exp\":1700000100}",
		 JWT_MALFORMED},
		{NULL, "{" IAE ",\"exp\":1700000100,\"exp\":1700000100}", JWT_MALFORMED},
		{NULL, "[]", JWT_MALFORMED},
		{NULL, "{", JWT_MALFORMED},
		{"{\"alg\":\"none\"}", "{" IAE ",\"exp\":1700000100}", JWT_KEY},
		{"{\"alg\":\"HS256\"}", "{" IAE ",\"exp\":1700000100}", JWT_KEY},
		{"{\"alg\":\"ES256\"}", "{" IAE ",\"exp\":1700000100}", JWT_SIGNATURE},
		{"{\"alg\":\"RS256\",\"kid\":\"nobody\"}", "{" IAE ",\"exp\":1700000100}", JWT_KEY},
		{"{\"alg\":\"RS256\"}", "{" IAE ",\"exp\":1700000100}", JWT_GOOD},
		{"{\"alg\":\"RS256\",\"crit\":[\"b64\"]}", "{" IAE ",\"exp\":1700000100}",
		 JWT_MALFORMED},
		{"{}", "{" IAE ",\"exp\":1700000100}", JWT_MALFORMED},
	};
	struct token_maker *m = token_maker_create();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct token_spec s = {.header = cases[i].header, .claims = cases[i].claims};
		char user[JWT_TEXT_BYTES];
		enum jwt_verdict v = judge(m, &s, user);
		if (v != cases[i].verdict)
			fail_msg("%s %s: %d", s.header != NULL ? s.header : "", s.claims, v);
	}
	token_maker_free(m);
}

static void token_cut_anywhere_or_with_other_parts_is_refused(void **state)
{
	struct token_maker *m = token_maker_create();
	struct token_spec s = {.claims = TOKEN_CLAIMS("1700000100")};
	char *token = token_make(m, &s), user[JWT_TEXT_BYTES], more[8] = ".AAAA";
	size_t n = strlen(token);

	for (size_t i = 0; i < n; i++)
		assert_int_not_equal(jwt_check(m->keys, &policy, token, i, NOW, user, sizeof(user)),
				     JWT_GOOD);
	char *longer = malloc(n + sizeof(more));
	memcpy(longer, token, n);
	memcpy(longer + n, more, sizeof(more));
	assert_int_equal(jwt_check(m->keys, &policy, longer, n + 5, NOW, user, sizeof(user)),
			 JWT_MALFORMED);
	free(longer);
	free(token);
	token_maker_free(m);
}

static void key_sets_without_a_usable_key_are_refused_with_the_place(void **state)
{
	static const char *const cases[][2] = {
		{"{\"keys\":[", ":1:"},
		{"{}", "is not a JSON Web Key Set"},
		{"[]", "is not a JSON Web Key Set"},
		{"{\"keys\":[]}", "holds no key"},
		{"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "holds no key"},
		{"{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "holds no key"},
		{"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
		 "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
		 "\"y\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\"}]}",
		 "holds no key"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char error[512] = "";
		struct jwks *k = NULL;
		char *file = token_keys_file(cases[i][0]);
		assert_int_equal(jwks_load(&k, file, error, sizeof(error)), -EINVAL);
		assert_null(k);
		if (strstr(error, cases[i][1]) == NULL || strstr(error, file) == NULL)
			fail_msg("%s: %s", cases[i][0], error);
		unlink(file);
		free(file);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_exchange_of_the_rfc_gives_its_proofs),
		cmocka_unit_test(another_password_or_a_changed_octet_is_no_proof),
		cmocka_unit_test(first_messages_that_are_malformed_are_refused),
		cmocka_unit_test(a_downgrade_of_the_binding_is_noticed),
		cmocka_unit_test(final_message_is_bound_to_header_channel_and_nonce),
		cmocka_unit_test(final_messages_that_are_malformed_are_refused),
		cmocka_unit_test(the_signature_of_the_rfc_holds),
		cmocka_unit_test(good_tokens_of_both_kinds_name_their_user),
		cmocka_unit_test(tokens_that_prove_nothing_are_refused_for_the_right_reason),
		cmocka_unit_test(token_cut_anywhere_or_with_other_parts_is_refused),
		cmocka_unit_test(key_sets_without_a_usable_key_are_refused_with_the_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
