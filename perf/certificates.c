/*
 * certificates.c - what a directory of many certificates costs: handshakes over names drawn at
 * random of all, beside handshakes over few; memory
 * before, during and after.  KEPT is the bound of what is kept.
 *
 *	build/perf/perf-certificates [NAMES [HANDSHAKES [KEPT]]]
 *
 * "few" and "all" take turns, handshake by handshake, in one thread, so that the ratio holds where
 * the numbers do not.  Wall time of this process counts for nothing: all is CPU time of the thread,
 * from the client's hello to the server's last octet.
 */
#include "perf/tls_bench.h"
#include "tests/sim/cert.h"

#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FEW = 16, HOT = 512, YEAR_S = 365 * 86400 };

static char root[64] = "/tmp/perf-certificates.XXXXXX";

static void entry(unsigned i, char *name, char *chain, char *key)
{
	snprintf(name, NAME_BYTES, "host%u.example.net", i);
	directory_paths(root, name, chain, key);
}

/* "aa..." sorts before, so that none of the names below is loaded at the start. */
static void make(unsigned i, const struct cert *ca, bool early)
{
	char name[NAME_BYTES], chain[CREDENTIAL_PATH], key[CREDENTIAL_PATH],
		folder[CREDENTIAL_PATH];

	entry(i, name, chain, key);
	if (early) {
		snprintf(name, sizeof(name), "aa%u.example.net", i);
		directory_paths(root, name, chain, key);
	}
	snprintf(folder, sizeof(folder), "%s/%.200s", root, name);
	bench_must(mkdir(folder, 0700) == 0, "cannot make a folder");
	char alternative[NAME_BYTES + 4];
	snprintf(alternative, sizeof(alternative), "DNS:%.253s", name);
	struct cert c = cert_make(&(struct cert_spec){.common_name = "host",
						      .alternative = alternative,
						      .issuer = ca,
						      .until_s = YEAR_S});
	cert_save(&c, chain, key);
	cert_free(&c);
}

static void remove_all(unsigned names)
{
	char name[NAME_BYTES], chain[CREDENTIAL_PATH], key[CREDENTIAL_PATH];

	for (unsigned i = 0; i < names + DIRECTORY_EAGER; i++) {
		if (i < names) {
			entry(i, name, chain, key);
		} else {
			snprintf(name, sizeof(name), "aa%u.example.net", i - names);
			directory_paths(root, name, chain, key);
		}
		unlink(chain);
		unlink(key);
		*strrchr(chain, '/') = '\0';
		rmdir(chain);
	}
	rmdir(root);
}

static double resident_mb(void)
{
	unsigned long total, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f == NULL || fscanf(f, "%lu %lu", &total, &pages) != 2)
		pages = 0;
	if (f != NULL)
		fclose(f);
	return (double)pages * 4096 / (1 << 20);
}

/* Microseconds of a handshake for the name. */
static double handshake(struct bench *b, unsigned number)
{
	char name[NAME_BYTES], chain[CREDENTIAL_PATH], key[CREDENTIAL_PATH];
	struct side s = {0};

	entry(number, name, chain, key);
	b->thread_ns = b->worker_ns = 0;
	bench_open_side(b, &s, bench_client(b, TLS1_3_VERSION, name, NULL));
	for (unsigned i = 0; i < 4; i++)
		bench_turn(b, &s, 1);
	bench_must(s.secured, "a handshake failed");
	bench_must(X509_check_host(SSL_get0_peer_certificate(s.client), name, 0, 0, NULL) == 1,
		   "the certificate of another name was shown");
	double us = (double)(b->thread_ns + b->worker_ns) / 1000;
	bench_close_side(b, &s);
	return us;
}

struct sample {
	const char *name;
	double *us;
};

static void show(struct sample *s, unsigned n, const struct sample *base)
{
	qsort(s->us, n, sizeof(*s->us), bench_by_size);
	printf("%-34s %8.0f %8.0f", s->name, s->us[n / 2], s->us[n * 99 / 100]);
	if (base != NULL)
		printf(" %8.2f %8.2f", s->us[n / 2] / base->us[n / 2],
		       s->us[n * 99 / 100] / base->us[n * 99 / 100]);
	printf("\n");
}

static void measure(struct bench *b, unsigned names, unsigned n)
{
	struct sample few = {"16 names", calloc(n, sizeof(double))},
		      hot = {"names of which 512 are in use", calloc(n, sizeof(double))},
		      cold = {"each time a name not kept", calloc(n, sizeof(double))},
		      all = {"each time one of all names", calloc(n, sizeof(double))};
	uint64_t seed = 1;

	for (unsigned i = 0; i < HOT; i++)
		handshake(b, i);
	for (unsigned i = 0; i < n; i++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		few.us[i] = handshake(b, (unsigned)(seed >> 33) % FEW);
		hot.us[i] = handshake(b, (unsigned)(seed >> 33) % HOT);
	}
	for (unsigned i = 0; i < n; i++) {
		cold.us[i] = handshake(b, HOT + i % (names - HOT));
	}
	for (unsigned i = 0; i < names; i++)
		handshake(b, i);
	for (unsigned i = 0; i < n; i++) {
		seed = seed * 6364136223846793005 + 1442695040888963407;
		all.us[i] = handshake(b, (unsigned)(seed >> 33) % names);
	}
	printf("%-34s %8s %8s %8s %8s\n", "handshakes, us of CPU", "p50", "p99", "ratio", "ratio");
	show(&few, n, NULL);
	show(&hot, n, &few);
	show(&cold, n, &few);
	show(&all, n, &few);
	free(few.us);
	free(hot.us);
	free(cold.us);
	free(all.us);
}

/* Reloads, of which each finds nothing changed. */
static void reloads(struct bench *b, const struct tls_config *c)
{
	char error[512];
	uint64_t from = bench_cpu_ns();

	for (unsigned i = 0; i < 10; i++)
		bench_must(tls_reload(b->tls, c, error, sizeof(error)) >= 0, error);
	printf("a reload costs the control thread %.1f ms; the handshake after it for a name that "
	       "was "
	       "loaded %.0f us\n",
	       (double)bench_since(from) / 10e6, handshake(b, 1));
}

static void memory(struct bench *b, uint64_t before, double resident)
{
	int64_t now = (int64_t)time(NULL);
	unsigned n = directory_count(b->tls->threads[0].directory);

	printf("%u certificates kept: %.2f MB of OpenSSL, resident %.1f MB more than before\n", n,
	       (double)(tls_memory_used() - before) / (1 << 20), resident_mb() - resident);
	uint64_t longest = 0;
	for (int64_t s = 0; s <= 60; s++) {
		tls_refresh(b->tls, now + s);
		for (unsigned i = 0; i < 2000; i++) {
			uint64_t from = bench_cpu_ns();
			tls_run_queued(b->tls);
			uint64_t ns = bench_since(from);
			longest = ns > longest ? ns : longest;
		}
		if (s >= DIRECTORY_IDLE_S + 10)
			sleep(1); /* pages are given back by the clock */
	}
	printf("60 s later: %u kept, %.2f MB of OpenSSL, resident %.1f MB more than before; "
	       "longest "
	       "turn %.0f us\n",
	       directory_count(b->tls->threads[0].directory),
	       (double)((int64_t)tls_memory_used() - (int64_t)before) / (1 << 20),
	       resident_mb() - resident, (double)longest / 1000);
}

int main(int argc, char **argv)
{
	unsigned names = argc > 1 ? (unsigned)atoi(argv[1]) : 10000;
	unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 2000;
	unsigned entries = argc > 3 ? (unsigned)atoi(argv[3]) : 1024;
	char chain[96], key[96];
	struct bench b;

	bench_must(tls_memory_init(), "OpenSSL was used before its allocator could be set");
	bench_must(names >= HOT && names <= 100000 && n >= 100, "NAMES 512..100000, HANDSHAKES");
	bench_must(mkdtemp(root) != NULL, "no temporary directory");
	struct cert ca = cert_make(
		&(struct cert_spec){.common_name = "CA", .authority = true, .until_s = YEAR_S});
	for (unsigned i = 0; i < DIRECTORY_EAGER; i++)
		make(i, &ca, true);
	for (unsigned i = 0; i < names; i++)
		make(i, &ca, false);
	snprintf(chain, sizeof(chain), "%s.chain", root);
	snprintf(key, sizeof(key), "%s.key", root);
	cert_save(&ca, chain, key);
	struct tls_certificate own = {.chain = chain, .key = key};
	struct tls_config c = {.certificates = &own,
			       .n_certificates = 1,
			       .directory = root,
			       .directory_entries = entries,
			       .max_sessions = 64,
			       .ca_file = chain};
	bench_open(&b, &c);
	handshake(&b, 0);
	uint64_t before = tls_memory_used();
	double resident = resident_mb();
	measure(&b, names, n);
	reloads(&b, &c);
	memory(&b, before, resident);
	bench_close(&b);
	cert_free(&ca);
	remove_all(names);
	unlink(chain);
	unlink(key);
	return 0;
}
