/*
 * mail.h - the gateway's mail layers in one thread and virtual time: tls, smtp, relay and a spool
 * on a simulated disk on host 1 of a simulated network; clients and next hops (peer.h) on host 0.
 *
 *	struct mail *m = mail_create(NULL);
 *	struct peer *p = peer_connect(m, MAIL_SUBMISSION);     // peer.h
 *	peer_expect(p, "220");
 *	mail_destroy(m);                                       // checks that nothing is left over
 *
 * Only the password checks run on real threads; a step waits for them, so that virtual time and
 * the order of events do not depend on them.
 *
 * Owner: the test.  Units: virtual microseconds.
 */
#ifndef TESTS_SIM_MAIL_H
#define TESTS_SIM_MAIL_H

#include "base/list.h"
#include "smtp/auth/auth.h"
#include "smtp/relay/relay.h"
#include "smtp/smtp.h"
#include "smtp/spool/spool.h"
#include "tests/sim/disk.h"
#include "tests/sim/pair.h"
#include "tls/tls.h"

#include <openssl/ssl.h>

enum {
	MAIL_SUBMISSION = 587,
	MAIL_SUBMISSIONS = 465,
	MAIL_HOP = 2525, /* port of the first next hop, on host 0 */
	MAIL_SECOND = 1000000,
};

struct mail_options {
	struct net_options net;
	struct smtp_config smtp;
	struct relay_config relay;
	struct auth_config auth;
	uint64_t duplicates_us;         /* of both listeners */
	const char *tenant, *addresses; /* alice's; NULL: none */
	const char *more_users;         /* "bob carol:acme": the same password, and their tenants */
	unsigned tls_threads;
	uint32_t tls_sessions;
	struct tls_config tls; /* without certificates: one of mx.test, which next hops trust too */
	unsigned spool_ring;
	/* What stands between the spool and its disk; NULL: nothing. */
	const struct spool_io *(*spool_io)(const struct spool_io *disk);
	struct smtp_policy policy; /* of both listeners */
	bool records;              /* into records of struct mail, of both sides */
	bool auth_waits;           /* the auth threads begin with mail_auth_start() */
};

struct mail {
	struct mail_options o;
	struct pair *pair;
	struct shard *shard; /* of the gateway */
	struct disk *disk;
	struct spool *spool;
	struct spool_client *smtp_spool, *relay_spool;
	struct tls *tls;
	struct tls_worker *tls_worker;
	struct auth *auth;
	struct auth_client *auth_client;
	struct smtp_shared *shared;
	struct smtp_worker *smtp;
	struct relay_worker *relay;
	struct smtp_listener listeners[2];
	struct records *records;                  /* NULL: not wanted */
	SSL_CTX *client_context, *server_context; /* the peers' */
	char directory[64], chain[96], key[96], users[96];
	struct timer tick;
	const char *server_name;   /* what peers ask for by SNI; NULL: nothing */
	uint64_t tick_us;          /* the gateway's loop goes round at least so often */
	bool hold_spool, hold_tls; /* their requests wait */
	bool hold_relay;           /* accepted messages are only counted */
	bool auth_runs;
	unsigned accepted;           /* messages handed from smtp to relay */
	struct spool_found last;     /* of these, the last */
	struct spool_found kept[16]; /* the last ones: number n at n % 16, from 0 */
	struct list peers;
};

/* One user: alice, password secret.  One next hop, without TLS; long deadlines.  The relay reads
 * the spool, but sends from memory where RELAY_MEMORY is in the environment. */
void mail_options_default(struct mail_options *o);
struct mail *mail_create(const struct mail_options *o); /* NULL: the defaults */
/* Aborts the peers that are left, lets everything end, and fails unless all chunks, sessions,
 * transactions, logins and TLS objects are back. */
void mail_destroy(struct mail *m);

void mail_run(struct mail *m, uint64_t us);
bool mail_run_until(struct mail *m, bool (*done)(void *arg), void *arg, uint64_t us);
void mail_auth_start(struct mail *m);
/* Recovers the spool as after a restart: a new relay finds what the disk holds. */
void mail_restart_relay(struct mail *m, enum disk_loss loss);

/* The content of the last accepted message as the spool gives it back, up to most bytes at out. */
size_t mail_content(struct mail *m, uint8_t *out, size_t most);
/* Its envelope; the same. */
size_t mail_envelope(struct mail *m, uint8_t *out, size_t most);

uint64_t mail_smtp_count(const struct mail *m, enum smtp_counter c);
uint64_t mail_relay_count(const struct mail *m, enum relay_counter c);
uint64_t mail_tls_count(const struct mail *m, enum tls_counter c);

#endif
