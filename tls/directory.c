/* directory.c - certificates of many names: NAME/fullchain.pem and NAME/key.pem, loaded by a
 * handshake thread at the first session that asks for NAME.  What was found and what was not
 * found are kept apart, each bounded, the least recently used going first, so that made-up names
 * push out no real ones. */
#include "base/list.h"
#include "base/log.h"
#include "tls/internal.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	MISSED_MOST = 1024,
	MISSED_S = 60, /* a new certificate is seen after so long without a reload */
	BUCKETS = 4096,
	/* entries dropped at a time: no step waits longer for it than for a handshake */
	SWEEP = 32,
};

struct entry {
	struct list bucket, recent;
	char name[NAME_BYTES];
	struct credential *credential; /* NULL: there is none */
	uint64_t generation;
	int64_t since_s, used_s; /* looked for; asked for last */
};

struct directory {
	struct siphash_key key;
	const struct tls_thread *thread;
	struct credential_reader reader; /* opened at the first use */
	struct list bucket[BUCKETS];
	struct list found, missed; /* front: least recently used */
	unsigned n_found, n_missed, most_found;
};

struct directory *directory_create(const struct siphash_key *key, const struct tls_thread *t,
				   unsigned entries)
{
	struct directory *d = calloc(1, sizeof(*d));

	if (d == NULL)
		return NULL;
	d->key = *key;
	d->thread = t;
	d->most_found = entries > 0 ? entries : DIRECTORY_FOUND;
	list_init(&d->found);
	list_init(&d->missed);
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&d->bucket[i]);
	return d;
}

static void forget(struct directory *d, struct entry *e)
{
	*(e->credential != NULL ? &d->n_found : &d->n_missed) -= 1;
	list_del(&e->bucket);
	list_del(&e->recent);
	credential_unref(e->credential);
	free(e);
}

void directory_free(struct directory *d)
{
	if (d == NULL)
		return;
	list_each_safe (it, &d->found)
		forget(d, container_of(it, struct entry, recent));
	list_each_safe (it, &d->missed)
		forget(d, container_of(it, struct entry, recent));
	credential_reader_close(&d->reader);
	free(d);
}

static unsigned sweep_list(struct directory *d, struct list *l, int64_t before_s)
{
	unsigned n = 0;

	for (; n < SWEEP && !list_empty(l); n++) {
		struct entry *e = container_of(l->next, struct entry, recent);
		if (e->used_s > before_s)
			break;
		forget(d, e);
	}
	return n;
}

unsigned directory_sweep(struct directory *d, int64_t wall_s)
{
	return sweep_list(d, &d->found, wall_s - DIRECTORY_IDLE_S) +
	       sweep_list(d, &d->missed, wall_s - MISSED_S);
}

unsigned directory_count(const struct directory *d)
{
	return d->n_found + d->n_missed;
}

void directory_paths(const char *path, const char *name, char *chain, char *key)
{
	snprintf(chain, CREDENTIAL_PATH, "%.500s/%.253s/fullchain.pem", path, name);
	snprintf(key, CREDENTIAL_PATH, "%.500s/%.253s/key.pem", path, name);
}

static int no_dots(const struct dirent *e)
{
	return e->d_name[0] != '.' && strlen(e->d_name) < NAME_BYTES;
}

unsigned directory_list(const char *path, char **names, unsigned most)
{
	struct dirent **all = NULL;
	int n = scandir(path, &all, no_dots, alphasort);
	unsigned kept = 0;

	if (n < 0)
		log_warning("tls", "tls.certificate_directory: %s cannot be read", path);
	for (int i = 0; i < n; i++) {
		if (kept < most && (names[kept] = strdup(all[i]->d_name)) != NULL)
			kept++;
		free(all[i]);
	}
	free(all);
	return kept;
}

static struct list *bucket_of(struct directory *d, const char *name)
{
	return &d->bucket[siphash(&d->key, name, strlen(name)) % BUCKETS];
}

static struct entry *look_up(struct directory *d, const char *name)
{
	list_each (it, bucket_of(d, name)) {
		struct entry *e = container_of(it, struct entry, bucket);
		if (strcmp(e->name, name) == 0)
			return e;
	}
	return NULL;
}

/* Of the name itself, or of the wildcard above it; it must be in the certificate. */
static struct credential *load(struct directory *d, const struct context_set *s, const char *name)
{
	char wildcard[NAME_BYTES + 1], chain[CREDENTIAL_PATH], key[CREDENTIAL_PATH], error[512];
	const char *dot = strchr(name, '.'), *tries[2] = {name, dot != NULL ? wildcard : NULL};
	struct tls_certificate from = {.chain = chain, .key = key};

	snprintf(wildcard, sizeof(wildcard), "*%s", dot != NULL ? dot : "");
	for (unsigned i = 0; i < 2 && tries[i] != NULL; i++) {
		directory_paths(s->directory, tries[i], chain, key);
		if (access(chain, F_OK) != 0)
			continue;
		struct credential *c = credential_load(&d->reader, &from, error, sizeof(error));
		if (c == NULL) {
			log_warning("tls", "%s", error);
		} else if (!credential_covers(c, name)) {
			log_warning("tls", "%s is not a certificate for %s", chain, name);
			credential_unref(c);
			c = NULL;
		}
		return c;
	}
	return NULL;
}

static struct entry *add(struct directory *d, const struct context_set *s, const char *name,
			 int64_t wall_s)
{
	if (d->reader.lib == NULL &&
	    !credential_reader_open(&d->reader, d->thread->lib, d->thread->remote))
		return NULL;
	struct entry *e = calloc(1, sizeof(*e));
	if (e == NULL)
		return NULL;
	snprintf(e->name, sizeof(e->name), "%s", name);
	e->credential = load(d, s, name);
	e->generation = s->generation;
	e->since_s = wall_s;
	list_push_back(bucket_of(d, name), &e->bucket);
	if (e->credential != NULL) {
		list_push_back(&d->found, &e->recent);
		if (++d->n_found > d->most_found)
			forget(d, container_of(d->found.next, struct entry, recent));
	} else {
		list_push_back(&d->missed, &e->recent);
		if (++d->n_missed > MISSED_MOST)
			forget(d, container_of(d->missed.next, struct entry, recent));
	}
	return e;
}

/* After a reload, files that are the same are not read again; a miss is looked at again. */
static bool still_good(struct entry *e, const struct context_set *s, int64_t wall_s)
{
	if (e->credential == NULL)
		return e->generation == s->generation && wall_s < e->since_s + MISSED_S;
	if (e->generation == s->generation)
		return true;
	e->generation = s->generation;
	return credential_unchanged(e->credential);
}

const struct credential *directory_find(struct directory *d, struct tls_session *s,
					const char *name)
{
	const struct context_set *set = s->contexts;
	int64_t wall_s = atomic_load_explicit(&set->thread->tls->wall_s, memory_order_relaxed);
	struct entry *e = look_up(d, name);

	if (e != NULL && !still_good(e, set, wall_s)) {
		forget(d, e);
		e = NULL;
	}
	if (e == NULL) {
		e = add(d, set, name, wall_s);
		if (e == NULL)
			return NULL;
		if (e->credential != NULL)
			s->notes |= NOTE_NAME_READ;
	}
	e->used_s = wall_s;
	list_del(&e->recent);
	list_push_back(e->credential != NULL ? &d->found : &d->missed, &e->recent);
	return e->credential;
}
