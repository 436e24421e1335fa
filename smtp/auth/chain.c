/* chain.c - the back ends in their order: their queues, their threads, what an answer leads to */
#include "smtp/auth/chain.h"

#include "base/log.h"
#include "smtp/auth/identity.h"
#include "smtp/auth/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NICE = 10, AGAIN_US = 1000000 /* before a connection is tried again */ };

struct remote {
	struct auth_backend spec;
	const struct auth_ops *ops;
	struct chain *chain;
	struct fairq *queue;
	pthread_cond_t work;
	pthread_t thread[BACKEND_CONNECTIONS];
	unsigned threads;
	uint64_t retry_us; /* until then there is no connection; 0: there was one */
	bool out;          /* said so in the log */
};

struct chain {
	struct auth *auth;
	uint32_t generation;
	unsigned n, users_at;                 /* users_at == n: the file is not listed */
	struct remote *remote[AUTH_BACKENDS]; /* NULL: the users file */
	atomic_uint alive;
	atomic_bool stopping;
};

static const struct auth_ops *const kinds[AUTH_BACKEND_KINDS] = {
	[AUTH_BACKEND_DOVECOT] = &dovecot_ops,
	[AUTH_BACKEND_LDAP] = &ldap_ops,
	[AUTH_BACKEND_HTTP] = &http_ops,
};

void chain_setup(void)
{
	for (unsigned i = 0; i < AUTH_BACKEND_KINDS; i++) {
		if (kinds[i] != NULL && kinds[i]->setup != NULL)
			kinds[i]->setup();
	}
}

uint64_t backend_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint32_t backend_left_ms(const struct backend_question *q)
{
	uint64_t now = backend_now_us();

	if (now >= q->deadline_us || atomic_load_explicit(q->stop, memory_order_relaxed))
		return 0;
	return (uint32_t)((q->deadline_us - now + 999) / 1000);
}

/* The first line of a file that only its owner (and a group that reads) can open. */
static int read_secret(struct auth_backend *b, char *error, size_t error_bytes)
{
	struct stat st;
	int fd = open(b->password_file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n = -1;

	if (fd < 0 || fstat(fd, &st) != 0)
		snprintf(error, error_bytes, "%s: cannot be read: %s", b->password_file,
			 strerror(errno));
	else if (!S_ISREG(st.st_mode) || (st.st_mode & (S_IRWXO | S_IWGRP)) != 0)
		snprintf(error, error_bytes,
			 "%s: has mode %04o, open to others; the remedy: chmod 600",
			 b->password_file, st.st_mode & 07777);
	else
		n = read(fd, b->secret, sizeof(b->secret));
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return -EACCES;
	size_t bytes = (size_t)n < sizeof(b->secret) ? (size_t)n : sizeof(b->secret) - 1;
	memset(b->secret + bytes, 0, sizeof(b->secret) - bytes);
	size_t line = strcspn(b->secret, "\r\n");
	memset(b->secret + line, 0, sizeof(b->secret) - line);
	if (line > 0)
		return 0;
	snprintf(error, error_bytes, "%s: its first line is empty", b->password_file);
	return -EINVAL;
}

static struct remote *remote_create(struct chain *c, const struct auth_backend *spec, char *error,
				    size_t error_bytes)
{
	struct remote *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->spec = *spec;
	b->ops = spec->ops != NULL ? spec->ops : kinds[spec->kind];
	b->chain = c;
	pthread_cond_init(&b->work, NULL);
	b->queue = fairq_create(c->auth->c.queue);
	if (b->queue != NULL &&
	    (spec->password_file[0] == '\0' || read_secret(&b->spec, error, error_bytes) == 0))
		return b;
	fairq_destroy(b->queue);
	pthread_cond_destroy(&b->work);
	OPENSSL_cleanse(&b->spec, sizeof(b->spec));
	free(b);
	return NULL;
}

int chain_create(struct chain **out, struct auth *a, const struct auth_backend *list, unsigned n,
		 char *error, size_t error_bytes)
{
	static const struct auth_backend users = {.kind = AUTH_BACKEND_USERS};
	struct chain *c = calloc(1, sizeof(*c));

	*out = NULL;
	snprintf(error, error_bytes, "auth back ends: out of memory");
	if (c == NULL)
		return -ENOMEM;
	c->auth = a;
	c->generation = ++a->generations;
	c->n = n > 0 ? n : 1;
	c->users_at = c->n;
	for (unsigned i = 0; i < c->n; i++) {
		const struct auth_backend *b = n > 0 ? &list[i] : &users;
		if (b->kind == AUTH_BACKEND_USERS) {
			c->users_at = i;
			continue;
		}
		c->remote[i] = remote_create(c, b, error, error_bytes);
		if (c->remote[i] == NULL) {
			chain_destroy(c);
			return -EINVAL;
		}
	}
	error[0] = '\0';
	*out = c;
	return 0;
}

bool chain_equal(const struct chain *a, const struct chain *b)
{
	bool same = a->n == b->n && a->users_at == b->users_at;

	for (unsigned i = 0; same && i < a->n; i++)
		same = a->remote[i] == NULL || memcmp(&a->remote[i]->spec, &b->remote[i]->spec,
						      sizeof(a->remote[i]->spec)) == 0;
	return same;
}

uint64_t chain_route(const struct chain *c)
{
	uint64_t route = (uint64_t)c->generation << ROUTE_BITS;

	if (c->users_at < c->n)
		route |= ROUTE_USERS;
	if (c->users_at == 0)
		route |= ROUTE_USERS_FIRST;
	for (unsigned i = 0; i < c->n; i++) {
		if (c->remote[i] != NULL)
			route |=
				ROUTE_REMOTE | (c->remote[i]->ops->by_source ? ROUTE_BY_SOURCE : 0);
	}
	return route;
}

bool chain_lists_users(const struct chain *c)
{
	return c->users_at < c->n;
}

/* At the users file a name that it does not know goes on, if anybody follows. */
bool chain_push(struct chain *c, struct auth_request *r)
{
	for (; r->at < c->n; r->at++) {
		struct remote *b = c->remote[r->at];
		if (b != NULL) {
			r->queued_us = backend_now_us();
			fairq_push(b->queue, r);
			pthread_cond_signal(&b->work);
			return true;
		}
		if (r->record != NULL || r->at + 1u == c->n)
			return false;
	}
	return false;
}

struct auth_request *chain_pop_waiting(struct chain *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct auth_request *r =
			c->remote[i] != NULL ? fairq_pop(c->remote[i]->queue) : NULL;
		if (r != NULL)
			return r;
	}
	return NULL;
}

/* Once when it begins and once when it ends. */
static void note_state(struct remote *b, enum backend_answer answer, const char *why)
{
	bool out = answer >= BACKEND_OUTAGE;

	if (out && !b->out)
		log_warning("auth", "back end %s: %s; its users get 454 until it answers",
			    b->spec.name, why);
	else if (!out && b->out)
		log_info("auth", "back end %s answers again", b->spec.name);
	b->out = out;
	b->retry_us = answer == BACKEND_UNREACHABLE ? backend_now_us() + AGAIN_US : 0;
}

/* The check is over for this back end; the lock is held. */
static void conclude(struct remote *b, struct auth_request *r, enum backend_answer answer,
		     const struct identity_draft *d)
{
	struct auth *a = b->chain->auth;

	switch (answer) {
	case BACKEND_RIGHT:
		r->identity = identity_create(d, b->spec.cache_s, &a->identities);
		auth_conclude(a, r, r->identity != NULL ? OUTCOME_RIGHT : OUTCOME_NO_MEMORY);
		return;
	case BACKEND_UNKNOWN:
		if (r->at + 1u < b->chain->n) {
			r->at++;
			auth_pass_on(a, r);
			return;
		}
		auth_conclude(a, r, OUTCOME_WRONG);
		return;
	case BACKEND_WRONG:
		auth_conclude(a, r, OUTCOME_WRONG);
		return;
	case BACKEND_MALFORMED:
		auth_conclude(a, r, OUTCOME_MALFORMED);
		return;
	case BACKEND_OUTAGE:
	case BACKEND_UNREACHABLE:
		auth_conclude(a, r, OUTCOME_OUTAGE);
		return;
	}
}

/* Asks without the lock, which is held before and after. */
static void put_question(struct remote *b, void **link, struct auth_request *r)
{
	struct auth *a = b->chain->auth;
	struct backend_question q = {
		.user = r->user,
		.password = r->password,
		.listener = r->listener != NULL ? r->listener : "",
		.source = r->source,
		.deadline_us = backend_now_us() + b->spec.timeout_ms * (uint64_t)1000,
		.stop = &b->chain->stopping,
	};
	struct identity_draft d = {};

	pthread_mutex_unlock(&a->lock);
	if (*link == NULL)
		*link = b->ops->open(&b->spec);
	enum backend_answer answer = *link != NULL ? b->ops->ask(*link, &q, &d) : BACKEND_OUTAGE;
	if (d.user[0] == '\0')
		snprintf(d.user, sizeof(d.user), "%s", r->user);
	pthread_mutex_lock(&a->lock);
	if (!atomic_load_explicit(&b->chain->stopping, memory_order_relaxed))
		note_state(b, answer, *link != NULL ? q.why : "out of memory");
	conclude(b, r, answer, &d);
}

static void serve(struct remote *b, void **link, struct auth_request *r)
{
	struct auth *a = b->chain->auth;
	uint64_t now = backend_now_us();

	if (now - r->queued_us > b->spec.timeout_ms * (uint64_t)1000)
		auth_turn_away(a, r, auth_backend_late);
	else if (now < b->retry_us)
		auth_conclude(a, r, OUTCOME_OUTAGE);
	else if (auth_charge(a, r))
		put_question(b, link, r);
	else
		auth_give_back(r, AUTH_OVERLOADED);
}

static void *remote_thread(void *arg)
{
	struct remote *b = arg;
	struct chain *c = b->chain;
	void *link = NULL; /* until the first question */

	setpriority(PRIO_PROCESS, 0, NICE);
	pthread_mutex_lock(&c->auth->lock);
	while (!atomic_load_explicit(&c->stopping, memory_order_relaxed)) {
		struct auth_request *r = fairq_pop(b->queue);
		if (r != NULL)
			serve(b, &link, r);
		else
			pthread_cond_wait(&b->work, &c->auth->lock);
	}
	pthread_mutex_unlock(&c->auth->lock);
	if (link != NULL)
		b->ops->close(link);
	atomic_fetch_sub(&c->alive, 1);
	return NULL;
}

int chain_start(struct chain *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct remote *b = c->remote[i];
		while (b != NULL && b->threads < b->spec.connections) {
			char name[16];
			int code;
			atomic_fetch_add(&c->alive, 1);
			code = pthread_create(&b->thread[b->threads], NULL, remote_thread, b);
			if (code != 0) {
				atomic_fetch_sub(&c->alive, 1);
				return -code;
			}
			snprintf(name, sizeof(name), "auth-%.6s/%u", b->spec.name, b->threads);
			pthread_setname_np(b->thread[b->threads++], name);
		}
	}
	return 0;
}

void chain_retire(struct chain *c)
{
	atomic_store(&c->stopping, true);
	for (unsigned i = 0; i < c->n; i++) {
		if (c->remote[i] != NULL)
			pthread_cond_broadcast(&c->remote[i]->work);
	}
}

bool chain_ended(const struct chain *c)
{
	return atomic_load(&c->alive) == 0;
}

/* The threads may be started again. */
void chain_join(struct chain *c)
{
	pthread_mutex_lock(&c->auth->lock);
	chain_retire(c);
	pthread_mutex_unlock(&c->auth->lock);
	for (unsigned i = 0; i < c->n; i++) {
		struct remote *b = c->remote[i];
		while (b != NULL && b->threads > 0)
			pthread_join(b->thread[--b->threads], NULL);
	}
	atomic_store(&c->stopping, false);
}

void chain_destroy(struct chain *c)
{
	if (c == NULL)
		return;
	chain_join(c);
	for (unsigned i = 0; i < c->n; i++) {
		struct remote *b = c->remote[i];
		if (b == NULL)
			continue;
		fairq_destroy(b->queue);
		pthread_cond_destroy(&b->work);
		OPENSSL_cleanse(&b->spec, sizeof(b->spec));
		free(b);
	}
	free(c);
}
