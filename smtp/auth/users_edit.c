/* users_edit.c - changing the users file: lock, temporary file, sync, rename, sync */
#include "smtp/auth/users.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct edit {
	const struct users_edit *e;
	const struct users *old; /* NULL: the file is new */
	char argon2id[PASSWORD_ENCODED_BYTES];
	char scram[SCRAM_TEXT_BYTES];
	char *error;
	size_t error_bytes;
};

static int fail(struct edit *d, int code, const char *doing, const char *what)
{
	snprintf(d->error, d->error_bytes, "%s %s: %s", doing, what, strerror(-code));
	return code;
}

static int check(struct edit *d)
{
	const struct users_edit *e = d->e;
	const char *fault = user_name_fault(e->name);

	if (fault == NULL && (e->change == USERS_ADD || e->change == USERS_PASSWORD))
		fault = password_fault(e->password);
	if (fault == NULL && e->tenant != NULL && e->tenant[0] != '\0')
		fault = user_tenant_fault(e->tenant);
	if (fault == NULL && e->addresses != NULL && e->addresses[0] != '\0')
		fault = user_addresses_fault(e->addresses);
	if (fault != NULL) {
		snprintf(d->error, d->error_bytes, "%s", fault);
		return -EINVAL;
	}
	bool known = d->old != NULL && users_find(d->old, e->name) != NULL;
	if (known && e->change == USERS_ADD) {
		snprintf(d->error, d->error_bytes,
			 "user %s exists; the password is changed with: posternctl user password",
			 e->name);
		return -EEXIST;
	}
	if (!known && e->change != USERS_ADD) {
		snprintf(d->error, d->error_bytes, "there is no user %s", e->name);
		return -ENOENT;
	}
	return 0;
}

static int make_record(struct edit *d)
{
	const struct users_edit *e = d->e;

	if (e->change == USERS_REMOVE || e->change == USERS_SET)
		return 0;
	int error = password_make(e->password, &e->cost, d->argon2id);
	if (error == 0 && e->scram)
		error = scram_make(e->password, e->cost.scram_iterations, d->scram);
	return error == 0 ? 0 : fail(d, error, "hashing", "the password");
}

/* As it shall be written; NULL or "" is left out. */
struct record {
	const char *name, *argon2id, *scram, *tenant, *addresses;
};

static void print_field(FILE *f, const char *key, const char *value)
{
	if (value != NULL && value[0] != '\0')
		fprintf(f, " %s%s", key, value);
}

static void print_user(FILE *f, const struct record *r)
{
	fprintf(f, "%s %s", r->name, r->argon2id);
	print_field(f, "", r->scram);
	print_field(f, "tenant=", r->tenant);
	print_field(f, "addresses=", r->addresses);
	fputc('\n', f);
}

static void print_file(const struct edit *d, FILE *f)
{
	const struct users_edit *e = d->e;

	fprintf(f, "postern-users 1\n");
	for (unsigned i = 0; d->old != NULL && i < users_count(d->old); i++) {
		const struct user *u = users_at(d->old, i);
		struct record r = {u->name, u->argon2id, u->scram, u->tenant, u->addresses};
		bool meant = strcmp(u->name, e->name) == 0;
		if (meant && e->change == USERS_REMOVE)
			continue;
		if (meant && e->change == USERS_PASSWORD) {
			r.argon2id = d->argon2id;
			r.scram = d->scram;
		}
		if (meant && e->tenant != NULL)
			r.tenant = e->tenant;
		if (meant && e->addresses != NULL)
			r.addresses = e->addresses;
		print_user(f, &r);
	}
	if (e->change == USERS_ADD)
		print_user(f, &(struct record){e->name, d->argon2id, d->scram, e->tenant,
					       e->addresses});
}

/* The new file is as readable for a daemon in another group as the old one was. */
static void keep_owner(int fd, const char *file)
{
	struct stat st;

	if (stat(file, &st) == 0 && fchown(fd, st.st_uid, st.st_gid) == 0)
		(void)fchmod(fd, st.st_mode & (S_IRUSR | S_IWUSR | S_IRGRP));
}

/* A temporary file left by a crash may have another mode or owner: it is never written into. */
static int write_temporary(struct edit *d, const char *temporary)
{
	unlink(temporary);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	keep_owner(fd, d->e->file);
	FILE *f = fdopen(fd, "w");
	if (f == NULL) {
		close(fd);
		return -ENOMEM;
	}
	print_file(d, f);
	int error = fflush(f) != 0 || ferror(f) || fsync(fd) != 0 ? -errno : 0;
	if (fclose(f) != 0 && error == 0)
		error = -errno;
	return error;
}

static int replace_file(struct edit *d)
{
	char temporary[PATH_MAX];

	snprintf(temporary, sizeof(temporary), "%s.new", d->e->file);
	int error = write_temporary(d, temporary);
	if (error == 0 && rename(temporary, d->e->file) != 0)
		error = -errno;
	if (error != 0) {
		unlink(temporary);
		return fail(d, error, "writing", d->e->file);
	}
	error = file_sync_directory(d->e->file);
	return error == 0 ? 0 : fail(d, error, "syncing the directory of", d->e->file);
}

static int take_lock(struct edit *d)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s.lock", d->e->file);
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail(d, -errno, "opening the lock", name);
	while (flock(fd, LOCK_EX) != 0) {
		if (errno == EINTR)
			continue;
		int error = -errno;
		close(fd);
		return fail(d, error, "locking", name);
	}
	return fd;
}

int users_edit(const struct users_edit *e, char *error, size_t error_bytes)
{
	struct edit d = {.e = e, .error = error, .error_bytes = error_bytes};
	struct users *old = NULL;
	int lock = take_lock(&d);

	if (lock < 0)
		return lock;
	int code = users_load(&old, e->file, NULL, error, error_bytes);
	if (code == -ENOENT && e->change == USERS_ADD)
		code = 0;
	d.old = old;
	if (code == 0)
		code = check(&d);
	if (code == 0)
		code = make_record(&d);
	if (code == 0)
		code = replace_file(&d);
	if (old != NULL)
		users_unref(old);
	close(lock);
	OPENSSL_cleanse(&d, sizeof(d));
	return code;
}
