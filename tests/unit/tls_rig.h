/* tls_rig.h - a directory of certificates and a gateway that serves them.  Test code. */
#ifndef TESTS_UNIT_TLS_RIG_H
#define TESTS_UNIT_TLS_RIG_H

#include "tests/sim/cert.h"
#include "tests/sim/peer.h"
#include "tls/internal.h"

#include <ftw.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { RIG_CERTIFICATES = 8, RIG_PATH = 160 };

struct rig {
	char directory[64];
	char path[RIG_CERTIFICATES][3][RIG_PATH]; /* chain, key, OCSP response */
	struct tls_certificate certificate[RIG_CERTIFICATES];
	struct mail_options options;
	struct mail *m;
};

static inline const char *rig_path(const struct rig *r, const char *name, char *out)
{
	snprintf(out, RIG_PATH, "%s/%s", r->directory, name);
	return out;
}

static inline void rig_init(struct rig *r)
{
	*r = (struct rig){.directory = "/tmp/test_tls.XXXXXX"};
	assert_non_null(mkdtemp(r->directory));
	mail_options_default(&r->options);
	r->options.tls.certificates = r->certificate;
}

/* Makes certificate files and adds them to the configuration; the number. */
static inline unsigned rig_add(struct rig *r, const struct cert_spec *spec)
{
	unsigned i = r->options.tls.n_certificates++;
	struct cert c = cert_make(spec);

	for (unsigned k = 0; k < 3; k++)
		snprintf(r->path[i][k], RIG_PATH, "%s/%u.%s", r->directory, i,
			 (const char *[]){"chain", "key", "ocsp"}[k]);
	cert_save(&c, r->path[i][0], r->path[i][1]);
	cert_free(&c);
	r->certificate[i] = (struct tls_certificate){.chain = r->path[i][0], .key = r->path[i][1]};
	return i;
}

static inline void rig_start(struct rig *r)
{
	r->m = mail_create(&r->options);
}

/* A gateway whose records are ours after the handshake, or OpenSSL's. */
static inline struct mail *rig_records(bool native)
{
	struct mail_options o;

	mail_options_default(&o);
	o.tls.native_records = native;
	return mail_create(&o);
}

static inline struct peer *rig_greeted(struct mail *m, int version)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	assert_true(peer_tls(p, version));
	peer_expect(p, "220");
	return p;
}

static inline int rig_remove(const char *path, const struct stat *st, int type, struct FTW *f)
{
	return remove(path);
}

static inline void rig_end(struct rig *r)
{
	if (r->m != NULL)
		mail_destroy(r->m);
	nftw(r->directory, rig_remove, 8, FTW_DEPTH | FTW_PHYS);
}

/* The common name of the certificate that a client gets who asks for this name; owned by the
 * caller's out. */
static inline const char *rig_shown(struct rig *r, const char *name, int version, char *out)
{
	struct peer *p = peer_connect(r->m, MAIL_SUBMISSIONS);

	r->m->server_name = name;
	peer_begin_tls(p, version, NULL);
	peer_expect(p, "220");
	X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(p->ssl)),
				  NID_commonName, out, 128);
	peer_free(p);
	mail_run(r->m, 10000);
	return out;
}

/* Under both versions. */
static inline void expect_shown(struct rig *r, const char *asked, const char *common_name)
{
	static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
	char shown[128];

	for (unsigned i = 0; i < 2; i++)
		if (strcmp(rig_shown(r, asked, versions[i], shown), common_name) != 0)
			fail_msg("asked for %s, got %s", asked != NULL ? asked : "nothing", shown);
}

#endif
