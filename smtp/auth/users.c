/* users.c - reading the users file into a snapshot with a hash table */
#include "smtp/auth/users.h"

#include "base/list.h"
#include "base/siphash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const char first_line[] = "postern-users 1";

enum { FILE_BYTES_MAX = 1 << 30, COSTS = 16 };

struct users {
	atomic_uint references;
	struct graveyard *graveyard;
	struct tomb tomb;
	char *text;
	struct user *user;
	unsigned count, room;
	uint32_t *bucket; /* index + 1; 0: free */
	uint32_t mask;
	struct siphash_key key;
	struct password_hash dummy;
	uint32_t scram_iterations; /* 0: no verifier has been seen */
};

struct reading {
	const char *file;
	unsigned line;
	char *error;
	size_t error_bytes;
};

__attribute__((format(printf, 2, 3))) static int refuse(const struct reading *r, const char *fmt,
							...)
{
	char what[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	if (r->line > 0)
		snprintf(r->error, r->error_bytes, "%s:%u: %s", r->file, r->line, what);
	else
		snprintf(r->error, r->error_bytes, "%s: %s", r->file, what);
	return -EINVAL;
}

const char *user_name_fault(const char *name)
{
	size_t n = strlen(name);

	if (n == 0)
		return "the name is empty";
	if (n > USER_NAME_MAX)
		return "the name is longer than 255 octets";
	if (name[0] == '#')
		return "the name begins with #";
	for (const unsigned char *s = (const unsigned char *)name; *s != '\0'; s++)
		if (*s <= ' ' || *s == 0x7f || *s == ':')
			return "the name contains white space, a control character or :";
	return NULL;
}

const char *user_tenant_fault(const char *tenant)
{
	if (strlen(tenant) > USER_TENANT_MAX)
		return "the tenant's name is longer than 63 octets";
	for (const unsigned char *s = (const unsigned char *)tenant; *s != '\0'; s++)
		if (*s <= ' ' || *s >= 0x7f)
			return "the tenant's name contains white space, control characters or "
			       "octets that are not ASCII";
	return tenant[0] != '\0' ? NULL : "the tenant's name is empty";
}

/* Each begins with @ or holds one. */
const char *user_addresses_fault(const char *addresses)
{
	const char *at = addresses;

	if (addresses[0] == '\0')
		return "the list of addresses is empty";
	if (strlen(addresses) > USER_ADDRESSES_MAX)
		return "the list of addresses is longer than 4000 octets";
	for (const unsigned char *s = (const unsigned char *)addresses; *s != '\0'; s++)
		if (*s <= ' ' || *s == 0x7f)
			return "the list of addresses contains white space or a control character";
	while (at != NULL) {
		size_t n = strcspn(at, ",");
		const char *sign = memchr(at, '@', n);
		if (sign == NULL || sign + 1 == at + n)
			return "an entry of the list of addresses is neither an address nor a "
			       "@domain";
		at = at[n] == ',' ? at + n + 1 : NULL;
	}
	return NULL;
}

static uint32_t *find_bucket(const struct users *u, const char *name)
{
	uint32_t i = (uint32_t)siphash(&u->key, name, strlen(name)) & u->mask;

	while (u->bucket[i] != 0 && strcmp(u->user[u->bucket[i] - 1].name, name) != 0)
		i = (i + 1) & u->mask;
	return &u->bucket[i];
}

const struct user *users_find(const struct users *u, const char *name)
{
	uint32_t i = *find_bucket(u, name);

	return i != 0 ? &u->user[i - 1] : NULL;
}

unsigned users_count(const struct users *u)
{
	return u->count;
}

const struct user *users_at(const struct users *u, unsigned i)
{
	return &u->user[i];
}

const struct password_hash *users_dummy(const struct users *u)
{
	return &u->dummy;
}

uint32_t users_scram_iterations(const struct users *u)
{
	return u->scram_iterations != 0 ? u->scram_iterations
					: password_cost_default().scram_iterations;
}

static bool same_cost(const struct password_hash *a, const struct password_hash *b)
{
	return a->memory_kib == b->memory_kib && a->passes == b->passes && a->lanes == b->lanes;
}

static void choose_dummy(struct users *u)
{
	struct {
		const struct password_hash *hash;
		unsigned users;
	} cost[COSTS] = {};
	unsigned known = 0, best = 0;
	struct password_cost preset = password_cost_default();

	for (unsigned i = 0; i < u->count; i++) {
		unsigned k = 0;
		while (k < known && !same_cost(cost[k].hash, &u->user[i].hash))
			k++;
		if (k == COSTS)
			continue;
		if (k == known)
			cost[known++].hash = &u->user[i].hash;
		cost[k].users++;
		best = cost[k].users > cost[best].users ? k : best;
	}
	u->dummy = (struct password_hash){.memory_kib = preset.memory_kib,
					  .passes = preset.passes,
					  .lanes = preset.lanes,
					  .salt_bytes = 16,
					  .hash_bytes = 32};
	if (known > 0) {
		u->dummy.memory_kib = cost[best].hash->memory_kib;
		u->dummy.passes = cost[best].hash->passes;
		u->dummy.lanes = cost[best].hash->lanes;
	}
}

/* The fields behind the hash, each at most once. */
static int add_field(struct reading *r, struct user *user, struct scram_verifier *scram,
		     char *field)
{
	static const char tenant[] = "tenant=", addresses[] = "addresses=", verifier[] = "SCRAM-";
	const char *fault = NULL;

	if (strncmp(field, verifier, sizeof(verifier) - 1) == 0 && user->scram == NULL) {
		user->scram = field;
		if (!scram_parse(field, scram))
			fault = "the verifier is not "
				"SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey";
	} else if (strncmp(field, tenant, sizeof(tenant) - 1) == 0 && user->tenant == NULL) {
		user->tenant = field + sizeof(tenant) - 1;
		fault = user_tenant_fault(user->tenant);
	} else if (strncmp(field, addresses, sizeof(addresses) - 1) == 0 &&
		   user->addresses == NULL) {
		user->addresses = field + sizeof(addresses) - 1;
		fault = user_addresses_fault(user->addresses);
	} else {
		return refuse(r,
			      "expected: name, argon2id hash, optional SCRAM-SHA-256 verifier, "
			      "tenant=NAME and addresses=LIST, each once, separated by one space");
	}
	return fault == NULL ? 0 : refuse(r, "%s", fault);
}

static int add_user(struct users *u, struct reading *r, char *line)
{
	struct user *user = &u->user[u->count];
	unsigned n = 0;
	struct scram_verifier scram;
	char *field;

	if (u->count == u->room)
		return refuse(r, "more users than lines");
	EVP_Digest(line, strlen(line), user->record_id, &n, EVP_sha256(), NULL);
	user->name = strsep(&line, " ");
	user->argon2id = strsep(&line, " ");
	const char *fault = user_name_fault(user->name);
	if (fault != NULL)
		return refuse(r, "%s", fault);
	if (user->argon2id == NULL || !password_parse(user->argon2id, &user->hash))
		return refuse(r,
			      "the second field is not an argon2id hash ($argon2id$v=19$...); "
			      "set it with: posternctl user password %s",
			      user->name);
	while ((field = strsep(&line, " ")) != NULL) {
		int error = add_field(r, user, &scram, field);
		if (error != 0)
			return error;
	}
	if (user->scram != NULL && u->scram_iterations == 0)
		u->scram_iterations = scram.iterations;
	uint32_t *bucket = find_bucket(u, user->name);
	if (*bucket != 0)
		return refuse(r, "user %s is written twice", user->name);
	*bucket = ++u->count;
	return 0;
}

static int parse_text(struct users *u, struct reading *r, size_t bytes)
{
	char *rest = u->text;
	int error = 0;

	if (strlen(u->text) != bytes)
		return refuse(r, "contains a NUL octet");
	if (bytes > 0 && u->text[bytes - 1] != '\n')
		return refuse(r, "the last line is cut off (no line end)");
	for (r->line = 1; error == 0 && rest != NULL && (*rest != '\0' || r->line == 1);
	     r->line++) {
		char *line = strsep(&rest, "\n");
		if (r->line > 1)
			error = add_user(u, r, line);
		else if (strcmp(line, first_line) != 0)
			error = refuse(r, "the first line must be: %s", first_line);
	}
	r->line = 0;
	return error;
}

static int make_room(struct users *u, size_t bytes)
{
	size_t lines = 0, buckets = 8;

	for (size_t i = 0; i < bytes; i++)
		lines += u->text[i] == '\n';
	if (lines > USERS_MAX)
		return -EFBIG;
	while (buckets < 2 * lines)
		buckets *= 2;
	u->room = (unsigned)lines;
	u->mask = (uint32_t)buckets - 1;
	u->user = calloc(lines + 1, sizeof(*u->user));
	u->bucket = calloc(buckets, sizeof(*u->bucket));
	if (u->user == NULL || u->bucket == NULL)
		return -ENOMEM;
	return getrandom(&u->key, sizeof(u->key), 0) == sizeof(u->key) ? 0 : -EIO;
}

static void free_users(struct users *u)
{
	free(u->text);
	free(u->user);
	free(u->bucket);
	free(u);
}

/* Reads all of fd; the octets or -errno. */
static ssize_t slurp(int fd, off_t size, char **text)
{
	ssize_t n = 0, got = 1;

	*text = calloc(1, (size_t)size + 1);
	if (*text == NULL)
		return -ENOMEM;
	while (n < size && got > 0) {
		got = read(fd, *text + n, (size_t)(size - n));
		if (got < 0 && errno == EINTR)
			got = 1;
		else if (got < 0)
			return -errno;
		else
			n += got;
	}
	return n;
}

static int open_file(const struct reading *r, struct stat *st)
{
	int fd = open(r->file, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0 || fstat(fd, st) != 0) {
		int error = -errno;
		refuse(r, "cannot be read: %s%s", strerror(-error),
		       error == -ENOENT ? "; posternctl user add NAME creates it" : "");
		if (fd >= 0)
			close(fd);
		return error;
	}
	if (!S_ISREG(st->st_mode) || st->st_size > FILE_BYTES_MAX)
		refuse(r, "is not a regular file of at most 1 GiB");
	else if ((st->st_mode & (S_IRWXO | S_IWGRP)) != 0)
		refuse(r, "has mode %04o, open to others; the remedy: chmod 600",
		       st->st_mode & 07777);
	else
		return fd;
	close(fd);
	return -EPERM;
}

int users_load(struct users **out, const char *file, struct graveyard *graveyard, char *error,
	       size_t error_bytes)
{
	struct reading r = {.file = file, .error = error, .error_bytes = error_bytes};
	struct stat st;
	int fd = open_file(&r, &st);

	*out = NULL;
	if (fd < 0)
		return fd;
	struct users *u = calloc(1, sizeof(*u));
	ssize_t n = u != NULL ? slurp(fd, st.st_size, &u->text) : -ENOMEM;
	close(fd);
	int code = n < 0 ? (int)n : make_room(u, (size_t)n);
	if (code != 0)
		refuse(&r, "cannot be read: %s", strerror(-code));
	else
		code = parse_text(u, &r, (size_t)n);
	if (code != 0) {
		if (u != NULL)
			free_users(u);
		return code;
	}
	choose_dummy(u);
	atomic_init(&u->references, 1);
	u->graveyard = graveyard;
	*out = u;
	return 0;
}

struct users *users_none(struct graveyard *graveyard)
{
	struct users *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return NULL;
	u->text = calloc(1, 1);
	if (u->text == NULL || make_room(u, 0) != 0) {
		free_users(u);
		return NULL;
	}
	choose_dummy(u);
	atomic_init(&u->references, 1);
	u->graveyard = graveyard;
	return u;
}

struct users *users_ref(struct users *u)
{
	atomic_fetch_add_explicit(&u->references, 1, memory_order_relaxed);
	return u;
}

void users_unref(struct users *u)
{
	if (atomic_fetch_sub_explicit(&u->references, 1, memory_order_acq_rel) != 1)
		return;
	if (u->graveyard == NULL) {
		free_users(u);
		return;
	}
	graveyard_add(u->graveyard, &u->tomb);
}

unsigned users_bury(struct graveyard *g)
{
	struct tomb *t = graveyard_take(g);
	unsigned n = 0;

	for (; t != NULL; n++) {
		struct tomb *next = t->next;
		free_users(container_of(t, struct users, tomb));
		t = next;
	}
	return n;
}
