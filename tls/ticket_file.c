/* ticket_file.c - reading, making and advancing the ticket secret */
#include "tls/ticket_file.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	FILE_BYTES = 512, /* a good file has about 110 */
	EPOCH_LEAST_S = 60,
	EPOCH_MOST_S = 7 * 86400,
	RATCHET_MOST = 100000, /* eleven years of hours; half a second of hashing */
};

int ticket_derive(const uint8_t *key, const char *info, uint8_t *out, size_t bytes)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *x = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
	OSSL_PARAM p[] = {
		OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key,
					TICKET_SECRET_BYTES),
		OSSL_PARAM_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info, strlen(info)),
		OSSL_PARAM_END,
	};
	int good = x != NULL && EVP_KDF_derive(x, out, bytes, p) == 1;

	EVP_KDF_CTX_free(x);
	EVP_KDF_free(kdf);
	return good ? 0 : -ENOMEM;
}

int ticket_secret_ratchet(struct ticket_secret *s, uint64_t epoch)
{
	uint8_t next[TICKET_SECRET_BYTES];
	int rc = epoch < s->epoch || epoch - s->epoch > RATCHET_MOST ? -EINVAL : 0;

	while (rc == 0 && s->epoch < epoch) {
		rc = ticket_derive(s->key, "postern ticket ratchet", next, sizeof(next));
		if (rc == 0) {
			memcpy(s->key, next, sizeof(next));
			s->epoch++;
		}
	}
	OPENSSL_cleanse(next, sizeof(next));
	return rc;
}

uint64_t ticket_secret_oldest(const struct ticket_secret *s, uint64_t lifetime_s, int64_t now_s)
{
	uint64_t from = now_s > (int64_t)lifetime_s ? (uint64_t)now_s - lifetime_s : 0;

	return from / s->epoch_s > s->epoch ? from / s->epoch_s : s->epoch;
}

void ticket_secret_wipe(struct ticket_secret *s)
{
	OPENSSL_cleanse(s, sizeof(*s));
}

int ticket_secret_random(struct ticket_secret *s, uint64_t epoch_s, int64_t now_s)
{
	*s = (struct ticket_secret){.epoch = (uint64_t)now_s / epoch_s, .epoch_s = epoch_s};
	return RAND_bytes(s->key, sizeof(s->key)) == 1 ? 0 : -EIO;
}

__attribute__((format(printf, 4, 5))) static int fail(char *error, size_t error_bytes,
						      const char *file, const char *fmt, ...)
{
	char what[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	snprintf(error, error_bytes, "tls.tickets.secret: %s: %s", file, what);
	return -EINVAL;
}

static int read_text(const char *file, char *text, char *error, size_t error_bytes)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct stat st;
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st) != 0 || (n = read(fd, text, FILE_BYTES - 1)) < 0) {
		int code = errno;
		if (fd >= 0)
			close(fd);
		fail(error, error_bytes, file,
		     "cannot be read: %s; posternctl tickets create "
		     "makes one",
		     strerror(code));
		return -code;
	}
	close(fd);
	text[n] = '\0';
	if (!S_ISREG(st.st_mode))
		return fail(error, error_bytes, file, "is not a file");
	if ((st.st_mode & (S_IRWXO | S_IWGRP)) != 0)
		return fail(error, error_bytes, file,
			    "mode %04o lets others read or write it; chmod 600, and make a new "
			    "secret if they may have read it",
			    st.st_mode & 07777u);
	return 0;
}

/* "NAME VALUE\n", exactly; moves *at behind it. */
static bool take_line(const char **at, const char *name, char *value, size_t value_bytes)
{
	size_t n = strlen(name);
	const char *end = strchr(*at, '\n');

	if (end == NULL || strncmp(*at, name, n) != 0 || (*at)[n] != ' ')
		return false;
	size_t v = (size_t)(end - *at) - n - 1;
	if (v == 0 || v >= value_bytes)
		return false;
	memcpy(value, *at + n + 1, v);
	value[v] = '\0';
	*at = end + 1;
	return true;
}

static bool take_number(const char **at, const char *name, uint64_t *out)
{
	char value[24], *end;

	if (!take_line(at, name, value, sizeof(value)) || value[0] < '0' || value[0] > '9')
		return false;
	errno = 0;
	*out = strtoull(value, &end, 10);
	return errno == 0 && *end == '\0';
}

static bool take_key(const char **at, uint8_t *key)
{
	char value[2 * TICKET_SECRET_BYTES + 2];
	bool good = take_line(at, "key", value, sizeof(value)) &&
		    strlen(value) == (size_t)2 * TICKET_SECRET_BYTES;

	for (unsigned i = 0; good && i < TICKET_SECRET_BYTES; i++) {
		const char digits[3] = {value[2 * i], value[2 * i + 1]};
		char *end;
		key[i] = (uint8_t)strtoul(digits, &end, 16);
		good = end == digits + 2 && digits[0] != '+' && digits[0] != '-' &&
		       digits[0] != ' ';
	}
	OPENSSL_cleanse(value, sizeof(value));
	return good;
}

static int parse(struct ticket_secret *s, const char *text, const char *file, int64_t now_s,
		 char *error, size_t error_bytes)
{
	static const uint8_t zeros[TICKET_SECRET_BYTES];
	const char *at = text;
	uint64_t version;

	if (!take_number(&at, "version", &version) || version != 1)
		return fail(error, error_bytes, file, "is not a ticket secret of version 1");
	if (!take_number(&at, "epoch_seconds", &s->epoch_s) || s->epoch_s < EPOCH_LEAST_S ||
	    s->epoch_s > EPOCH_MOST_S || !take_number(&at, "epoch", &s->epoch) ||
	    !take_key(&at, s->key) || *at != '\0')
		return fail(error, error_bytes, file,
			    "is cut short or damaged; restore it, or "
			    "make a new one with posternctl tickets create");
	if (memcmp(s->key, zeros, sizeof(zeros)) == 0)
		return fail(error, error_bytes, file, "the key is all zeros; make a new one");
	uint64_t now = (uint64_t)now_s / s->epoch_s;
	if (s->epoch > now + 1)
		return fail(error, error_bytes, file,
			    "epoch %" PRIu64 " is in the future (now %" PRIu64
			    "); is the clock right?",
			    s->epoch, now);
	if (now - s->epoch > RATCHET_MOST && now > s->epoch)
		return fail(error, error_bytes, file,
			    "epoch %" PRIu64 " is too long ago; make a "
			    "new secret",
			    s->epoch);
	return 0;
}

int ticket_secret_read(struct ticket_secret *s, const char *file, int64_t now_s, char *error,
		       size_t error_bytes)
{
	char text[FILE_BYTES];

	memset(s, 0, sizeof(*s));
	int rc = read_text(file, text, error, error_bytes);
	if (rc == 0)
		rc = parse(s, text, file, now_s, error, error_bytes);
	OPENSSL_cleanse(text, sizeof(text));
	if (rc < 0)
		ticket_secret_wipe(s);
	return rc;
}

static int format(const struct ticket_secret *s, char *text)
{
	int n = snprintf(text, FILE_BYTES,
			 "version 1\nepoch_seconds %" PRIu64 "\nepoch %" PRIu64 "\nkey ",
			 s->epoch_s, s->epoch);

	for (unsigned i = 0; i < TICKET_SECRET_BYTES; i++)
		n += snprintf(text + n, (size_t)(FILE_BYTES - n), "%02x", s->key[i]);
	n += snprintf(text + n, (size_t)(FILE_BYTES - n), "\n");
	return n;
}

/* A reader sees the old file or the new one, whole. */
static int write_file(const struct ticket_secret *s, const char *file, bool replace, char *error,
		      size_t error_bytes)
{
	char text[FILE_BYTES], temporary[520];
	int n = format(s, text), rc = 0;

	snprintf(temporary, sizeof(temporary), "%.500s.XXXXXX", file);
	int fd = mkostemp(temporary, O_CLOEXEC); /* mode 0600 */
	if (fd < 0 || write(fd, text, (size_t)n) != n || fsync(fd) != 0)
		rc = -errno;
	OPENSSL_cleanse(text, sizeof(text));
	if (fd >= 0)
		close(fd);
	if (rc == 0 &&
	    renameat2(AT_FDCWD, temporary, AT_FDCWD, file, replace ? 0 : RENAME_NOREPLACE) != 0)
		rc = -errno;
	if (rc < 0 && fd >= 0)
		unlink(temporary);
	if (rc == 0)
		rc = file_sync_directory(file);
	if (rc < 0)
		fail(error, error_bytes, file, "cannot be written: %s", strerror(-rc));
	return rc;
}

int ticket_secret_create(const char *file, uint64_t epoch_s, int64_t now_s, char *error,
			 size_t error_bytes)
{
	struct ticket_secret s;

	if (epoch_s < EPOCH_LEAST_S || epoch_s > EPOCH_MOST_S)
		return fail(error, error_bytes, file, "an epoch takes %d to %d seconds",
			    EPOCH_LEAST_S, EPOCH_MOST_S);
	int rc = ticket_secret_random(&s, epoch_s, now_s);
	if (rc < 0)
		fail(error, error_bytes, file, "no randomness");
	else
		rc = write_file(&s, file, false, error, error_bytes);
	ticket_secret_wipe(&s);
	return rc;
}

int ticket_secret_advance(const char *file, uint64_t lifetime_s, int64_t now_s, char *error,
			  size_t error_bytes)
{
	struct ticket_secret s;
	int rc = ticket_secret_read(&s, file, now_s, error, error_bytes);

	if (rc < 0)
		return rc;
	uint64_t oldest = ticket_secret_oldest(&s, lifetime_s, now_s);
	if (oldest > s.epoch) {
		rc = ticket_secret_ratchet(&s, oldest);
		if (rc < 0)
			fail(error, error_bytes, file, "cannot be advanced: %s", strerror(-rc));
		else
			rc = write_file(&s, file, true, error, error_bytes);
	}
	ticket_secret_wipe(&s);
	return rc;
}
