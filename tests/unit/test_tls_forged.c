/* test_tls_forged.c - a peer that has its keys forges records: ours must judge them as OpenSSL's
 * record layer does, octet by octet and all at once */
#include "tests/unit/tls_rig.h"
#include "tls/native.h"

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

enum { ALERTS = 16 };

/* One record: plain on the wire, or sealed.  In 1.3 a content may bring its padding along. */
struct move {
	enum { END, SEALED, PADDED, RAW } how;
	uint8_t type;
	const char *data;
	uint16_t n;
	uint8_t times; /* 0: once */
};

#define S(type, text)                                   \
	{                                               \
		SEALED, type, text, sizeof(text) - 1, 0 \
	}
#define TIMES(type, text, k)                            \
	{                                               \
		SEALED, type, text, sizeof(text) - 1, k \
	}
#define P(text)                                      \
	{                                            \
		PADDED, 0, text, sizeof(text) - 1, 0 \
	}
#define R(text)                                   \
	{                                         \
		RAW, 0, text, sizeof(text) - 1, 0 \
	}
#define NOOP S(23, "NOOP\r\n")

static const struct forgery {
	unsigned versions; /* 1: TLS 1.2, 2: TLS 1.3 */
	const char *name;
	struct move step[8];
} forgeries[] = {
	{3, "a command", {NOOP}},
	{3, "a command in pieces", {S(23, "N"), S(23, "OO"), S(23, ""), S(23, "P\r\n")}},
	{3, "32 empty records", {TIMES(23, "", 32), NOOP}},
	{3, "33 empty records", {TIMES(23, "", 33), NOOP}},
	{3, "close_notify", {NOOP, S(21, "\1\0"), NOOP}},
	{3, "a fatal alert", {NOOP, S(21, "\2\50"), NOOP}},
	{3, "an alert of one octet", {S(21, "\1"), NOOP}},
	{3, "an alert of three octets", {S(21, "\1\0\0"), NOOP}},
	{3, "an empty alert", {S(21, ""), NOOP}},
	{3, "an alert of no level", {S(21, "\3\50"), NOOP}},
	{3, "no_renegotiation", {S(21, "\1\144"), NOOP}},
	{3, "a warning", {S(21, "\1\52"), NOOP}},
	{3, "4 warnings", {TIMES(21, "\1\132", 4), NOOP}},
	{3, "5 warnings", {TIMES(21, "\1\132", 5), NOOP}},
	{3,
	 "warnings with data between",
	 {TIMES(21, "\1\132", 4), NOOP, TIMES(21, "\1\132", 4), NOOP}},
	{3, "a changed cipher", {S(20, "\1"), NOOP}},
	{3, "no known type", {S(99, "x"), NOOP}},
	{3, "a heartbeat", {S(24, "\1\0\0"), NOOP}},
	{3, "an empty handshake record", {S(22, ""), NOOP}},
	{3, "Finished again", {S(22, "\24\0\0\0"), NOOP}},
	{3, "a certificate", {S(22, "\13\0\0\1x"), NOOP}},
	{3, "HelloRequest of a client", {S(22, "\0\0\0\0"), NOOP}},
	{3, "an ill record", {R("\27\3\3\0\50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")}},
	{3, "an empty record on the wire", {R("\27\3\3\0\0"), NOOP}},
	{3, "a record of one octet", {R("\27\3\3\0\1x"), NOOP}},
	{3, "a record that is only a tag", {R("\27\3\3\0\20aaaaaaaaaaaaaaaa"), NOOP}},
	{3, "another version", {R("\27\3\1\0\50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")}},
	{3, "another major version", {R("\27\4\3\0\50aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")}},
	{3, "a record too long", {R("\27\3\3\101\101xxxxxxx")}},
	{3, "a record much too long", {R("\27\3\3\377\377xxxxxxx")}},
	{3, "an alert in clear", {R("\25\3\3\0\2\1\0")}},
	{3, "a handshake record in clear", {R("\26\3\3\0\5\30\0\0\1\0")}},
	{3, "a changed cipher in clear", {R("\24\3\3\0\1\1"), NOOP}},
	{3, "an unknown type in clear", {R("\30\3\3\0\1\1"), NOOP}},
	{2, "padding", {P("NOOP\r\n\27\0\0\0\0\0\0\0\0\0\0\0"), NOOP}},
	{2, "padding alone", {P("\0\0\0\0\0\0\0\0"), NOOP}},
	{2, "padding and an empty content", {P("\27\0\0\0\0\0"), NOOP}},
	{2, "a padded alert", {P("\1\0\25\0\0\0")}},
	{2, "user_canceled, then data", {S(21, "\1\132"), NOOP}},
	{2, "a key update of two octets", {S(22, "\30\0\0\2\0\0"), NOOP}},
	{2, "a key update of none", {S(22, "\30\0\0\0"), NOOP}},
	{2, "a key update of no kind", {S(22, "\30\0\0\1\2"), NOOP}},
	{2, "a key update that does not end its record", {S(22, "\30\0\0\1\0\30"), NOOP}},
	{2, "a key update cut by data", {S(22, "\30\0\0\1"), NOOP, S(22, "\0")}},
	{2, "a ticket of a client", {S(22, "\4\0\0\1x"), NOOP}},
	{2, "a hello", {S(22, "\1\0\0\4aaaa"), NOOP}},
	{1, "a hello under TLS 1.2", {S(22, "\1\0\0\4aaaa"), NOOP}},
	{1, "a hello in pieces", {S(22, "\1\0"), S(22, "\0\4aa"), S(22, "aa"), NOOP}},
	{1, "two hellos", {S(22, "\1\0\0\4aaaa"), S(22, "\1\0\0\4aaaa"), NOOP}},
	{1, "three hellos", {TIMES(22, "\1\0\0\4aaaa", 3), NOOP}},
	{1, "a hello that is too long", {S(22, "\1\2\1\105aaaa"), NOOP}},
};

struct forger {
	struct aead_engine *engine;
	struct aead_suite suite;
	struct aead_key key, unused;
};

static uint8_t traffic_secret[AEAD_SECRET_MOST];

static void note_secret(const SSL *ssl, const char *line)
{
	const char *hex = strrchr(line, ' ') + 1;

	if (strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) != 0)
		return;
	for (size_t i = 0; i < sizeof(traffic_secret) && hex[2 * i] != '\0'; i++)
		sscanf(hex + 2 * i, "%2hhx", &traffic_secret[i]);
}

static void forger_open(struct forger *f, struct peer *p)
{
	uint8_t master[48], client[32], server[32];
	bool tls_1_3 = SSL_version(p->ssl) == TLS1_3_VERSION;

	*f = (struct forger){.engine = aead_engine_create(true)};
	assert_true(aead_suite(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(p->ssl)), tls_1_3,
			       &f->suite));
	if (tls_1_3) {
		memcpy(f->key.secret, traffic_secret, sizeof(traffic_secret));
		assert_true(aead_derive(f->engine, &f->suite, &f->key));
		return;
	}
	SSL_SESSION_get_master_key(SSL_get_session(p->ssl), master, sizeof(master));
	SSL_get_client_random(p->ssl, client, sizeof(client));
	SSL_get_server_random(p->ssl, server, sizeof(server));
	assert_true(
		aead_derive_1_2(f->engine, &f->suite, master, client, server, &f->key, &f->unused));
	f->key.sequence = 1; /* Finished was the first */
	aead_set_explicit(&f->key, (const uint8_t *)"\1\2\3\4\5\6\7\10");
}

static void forge(struct forger *f, struct peer *p, const struct move *s)
{
	uint8_t out[AEAD_PLAIN + 256 + AEAD_OVERHEAD];

	for (unsigned i = 0; i < (s->times > 0 ? s->times : 1) && s->how != RAW; i++) {
		size_t n = aead_seal(f->engine, &f->suite, &f->key, s->type,
				     (const uint8_t *)s->data, s->n, out);
		assert_true(n > 0);
		peer_raw(p, out, n);
	}
	if (s->how == RAW)
		peer_raw(p, s->data, s->n);
	mail_run(p->m, 1000);
}

/* What the client sees and what is counted. */
struct outcome {
	int alerts[ALERTS];
	unsigned n_alerts;
	char replies[2000];
	bool eof, over, notified;
	uint64_t counters[8];
};

static struct outcome *watched;

static void note_alert(const SSL *ssl, int where, int value)
{
	if (where == SSL_CB_READ_ALERT && watched->n_alerts < ALERTS)
		watched->alerts[watched->n_alerts++] = value;
}

static void judge(const struct forgery *f, int version, size_t split, bool native,
		  struct outcome *o)
{
	static const enum tls_counter counted[] = {
		tls_record_errors,
		tls_truncated,
		tls_alert_floods,
		tls_empty_record_floods,
		tls_renegotiation_floods,
		tls_key_update_floods,
		tls_no_memory,
	};
	struct mail *m = rig_records(native);
	struct forger forger;

	*o = (struct outcome){0};
	watched = o;
	SSL_CTX_set_keylog_callback(m->client_context, note_secret);
	SSL_CTX_set_info_callback(m->client_context, note_alert);
	struct peer *p = rig_greeted(m, version);
	forger_open(&forger, p);
	p->split = split;
	for (unsigned i = 0; i < 8 && f->step[i].how != END; i++)
		forge(&forger, p, &f->step[i]);
	mail_run(m, MAIL_SECOND);
	if (!p->eof && !p->over)
		assert_int_equal(mail_tls_count(m, tls_records_native), native);
	snprintf(o->replies, sizeof(o->replies), "%s", (const char *)p->got.at);
	o->eof = p->eof;
	o->over = p->over;
	o->notified = p->notified;
	for (size_t i = 0; i < sizeof(counted) / sizeof(counted[0]); i++)
		o->counters[i] = mail_tls_count(m, counted[i]);
	aead_engine_destroy(forger.engine);
	mail_destroy(m);
}

static void show(const char *who, const struct outcome *o)
{
	fprintf(stderr, "%s: eof %d over %d notified %d, alerts", who, o->eof, o->over,
		o->notified);
	for (unsigned i = 0; i < o->n_alerts; i++)
		fprintf(stderr, " %d.%d", o->alerts[i] >> 8, o->alerts[i] & 255);
	fprintf(stderr, ", counters");
	for (unsigned i = 0; i < 8; i++)
		fprintf(stderr, " %u", (unsigned)o->counters[i]);
	fprintf(stderr, ", replies %s\n", o->replies);
}

static void forged_records_are_judged_as_openssl_judges_them(void **state)
{
	if (getenv("TLS_RECORDS") != NULL)
		return; /* there is nothing to compare with */
	for (size_t i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++)
		for (unsigned v = 0; v < 2; v++) {
			struct outcome theirs, ours;
			if ((forgeries[i].versions & 1u << v) == 0)
				continue;
			judge(&forgeries[i], versions[v], 0, false, &theirs);
			for (size_t split = 0; split < 3; split++) {
				judge(&forgeries[i], versions[v], split, true, &ours);
				if (memcmp(&theirs, &ours, sizeof(ours)) == 0)
					continue;
				show("OpenSSL", &theirs);
				show("native", &ours);
				fail_msg("%s, version %x, pieces of %zu", forgeries[i].name,
					 versions[v], split);
			}
		}
}

/* RFC 8446 section 5.1; OpenSSL lets it pass while the message's header is not whole. */
static void data_between_two_parts_of_a_message_ends_the_session(void **state)
{
	static const struct forgery f = {3, "", {S(22, "\30\0"), NOOP}};

	for (unsigned v = 0; v < 2; v++) {
		struct outcome o;
		judge(&f, versions[v], 0, true, &o);
		assert_int_equal(o.n_alerts, 1);
		assert_int_equal(o.alerts[0], ALERT_FATAL << 8 | ALERT_UNEXPECTED_MESSAGE);
		assert_null(strstr(o.replies, "250"));
	}
}

/* The messages of one update in records of one octet each. */
static void a_key_update_may_come_in_pieces(void **state)
{
	static const char message[] = "\30\0\0\1\1";
	struct mail *m = rig_records(true);
	struct forger f;

	SSL_CTX_set_keylog_callback(m->client_context, note_secret);
	struct peer *p = rig_greeted(m, TLS1_3_VERSION);
	forger_open(&f, p);
	for (size_t i = 0; i < 5; i++)
		forge(&f, p, &(struct move){SEALED, 22, message + i, 1, 0});
	assert_true(aead_update(f.engine, &f.suite, AEAD_OUT, &f.key));
	forge(&f, p, &(struct move)NOOP);
	peer_expect(p, "250");
	aead_engine_destroy(f.engine);
	mail_destroy(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(forged_records_are_judged_as_openssl_judges_them),
		cmocka_unit_test(data_between_two_parts_of_a_message_ends_the_session),
		cmocka_unit_test(a_key_update_may_come_in_pieces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
