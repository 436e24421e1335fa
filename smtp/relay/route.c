/*
 * route.c - which pool a recipient goes to.
 *
 * While one pool takes everything no message is looked into.  Otherwise the envelope is read once
 * for each message, and one whose recipients go to several pools becomes an entry for each, so
 * that a pool that is down holds up nobody else's mail.
 */
#include "smtp/relay/internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { ROUTING_MOST = 64 /* envelopes read at a time for this */ };

bool routes_trivial(const struct relay_worker *w)
{
	for (unsigned i = 0; i < w->n_routes; i++) {
		if (w->routes[i].pool != 0)
			return strcmp(w->routes[0].match, "*") == 0 && w->routes[0].pool == 0;
	}
	return true;
}

static bool matches(const char *match, const char *domain, size_t n)
{
	size_t k = strlen(match);

	if (strcmp(match, "*") == 0)
		return true;
	if (match[0] != '*')
		return n == k && strncasecmp(match, domain, n) == 0;
	/* "*.example.org": the dot with what follows it, behind something */
	return n > k - 1 && strncasecmp(domain + n - (k - 1), match + 1, k - 1) == 0;
}

unsigned route_pool(const struct relay_worker *w, const char *path, size_t bytes)
{
	const char *at = memrchr(path, '@', bytes);
	const char *domain = at != NULL ? at + 1 : path + bytes;

	for (unsigned i = 0; i < w->n_routes; i++) {
		if (matches(w->routes[i].match, domain, (size_t)(path + bytes - domain)))
			return w->routes[i].pool;
	}
	return 0;
}

void routes_dispatch(struct relay_worker *w)
{
	while (w->unrouted.n > 0 && w->routing < ROUTING_MOST) {
		struct message *m = message_pop(w, &w->unrouted);
		m->state = MESSAGE_ACTIVE;
		delivery_route(m);
	}
}

/* The pools of the recipients still to be served: of[i] for each; how many they are. */
static unsigned look_up(const struct delivery *d, uint8_t *of, unsigned pools[RELAY_POOLS])
{
	const struct message *m = d->message;
	bool seen[RELAY_POOLS] = {false};
	struct envelope_recipient to;
	size_t cursor = 0;
	unsigned n = 0;

	for (uint32_t i = 0;
	     envelope_next_recipient(d->envelope->data, d->envelope->end, &cursor, &to); i++) {
		of[i] = (uint8_t)route_pool(worker_of(m), to.path.at, to.path.bytes);
		bool done = message_done(m, i);
		if (!done && !seen[of[i]])
			pools[n++] = of[i];
		seen[of[i]] |= !done;
	}
	return n;
}

/* The rare part of an entry for one pool: with the bits of all recipients that go elsewhere; NULL:
 * no memory. */
static struct message_more *more_for(const struct message *m, const uint8_t *of, unsigned pool)
{
	struct message_more *more = calloc(1, sizeof(*more) + (m->recipients + 7) / 8 + 1);

	for (uint32_t i = 0; more != NULL && i < m->recipients; i++) {
		if (message_done(m, i) || of[i] != pool)
			more->done[i / 8] |= (uint8_t)(1u << i % 8);
	}
	if (more != NULL && m->more != NULL) {
		more->by_at_s = m->more->by_at_s;
		more->split = m->more->split;
	}
	return more;
}

/* Room for n entries in all. */
static bool split_grow(struct split *s, unsigned n)
{
	struct message **wider = reallocarray(s->entry, n, sizeof(*wider));

	if (wider == NULL)
		return false;
	s->entry = wider;
	return true;
}

static void split_free(struct split *s)
{
	free(s->entry);
	free(s);
}

void split_leave(struct message *m)
{
	struct split *s = split_of(m);
	unsigned i = 0;

	if (s == NULL)
		return;
	while (s->entry[i] != m)
		i++;
	s->entry[i] = s->entry[--s->entries];
	if (s->entries == 0)
		split_free(s);
}

static struct message *twin(const struct message *m, struct message_more *more, unsigned pool)
{
	struct relay_worker *w = worker_of(m);
	struct message *t = message_alloc(w);

	if (t == NULL)
		return NULL;
	struct timer fresh = t->timer;
	*t = *m;
	t->delivery = NULL; /* it waits at once */
	t->timer = fresh;
	t->error = error_share(w->errors, m->error);
	t->more = more;
	t->pool = (uint8_t)pool;
	return t;
}

/* The split of m, or a new one, with room for n more; NULL: no memory. */
static struct split *split_with_room(const struct message *m, unsigned n)
{
	struct split *s = split_of(m);
	bool fresh = s == NULL;

	if (fresh)
		s = calloc(1, sizeof(*s));
	if (s == NULL || split_grow(s, s->entries + n))
		return s;
	if (fresh)
		split_free(s);
	return NULL;
}

/* m and an entry of its own for each further pool; false: no memory, nothing has changed. */
static bool split(struct message *m, const uint8_t *of, const unsigned *pools, unsigned n)
{
	struct message_more *more[RELAY_POOLS] = {NULL};
	struct message *entry[RELAY_POOLS] = {NULL};
	struct split *s = split_with_room(m, n);
	bool whole = s != NULL;

	for (unsigned i = 0; whole && i < n; i++) {
		more[i] = more_for(m, of, pools[i]);
		whole = more[i] != NULL &&
			(i == 0 || (entry[i] = twin(m, more[i], pools[i])) != NULL);
	}
	if (!whole) {
		for (unsigned i = 0; i < n; i++) {
			if (more[i] != NULL)
				more[i]->split = NULL;
			if (entry[i] != NULL)
				message_free(entry[i]);
			else
				free(more[i]);
		}
		if (s != NULL && s->entries == 0)
			split_free(s);
		return false;
	}
	if (s->entries == 0) {
		s->entry[s->entries++] = m;
		s->open = 1;
	}
	for (unsigned i = 1; i < n; i++)
		s->entry[s->entries++] = entry[i];
	s->open += n - 1;
	for (unsigned i = 0; i < n; i++)
		more[i]->split = s;
	free(m->more);
	m->more = more[0];
	relay_count(worker_of(m), relay_split);
	for (unsigned i = 1; i < n; i++)
		message_resume(entry[i]);
	return true;
}

void route_message(struct delivery *d)
{
	struct message *m = d->message;

	if (m->routed) { /* by an operator, meanwhile */
		delivery_free(d);
		message_resume(m);
		return;
	}
	uint8_t *of = calloc(m->recipients + 1, 1);
	unsigned pools[RELAY_POOLS] = {0}, n = of != NULL ? look_up(d, of, pools) : 0;

	bool known = of != NULL && (n < 2 || split(m, of, pools, n));
	free(of);
	delivery_free(d);
	if (!known) {
		message_defer(m, "out of memory", RETRY_SPOOL_US);
		return;
	}
	m->pool = (uint8_t)pools[0];
	message_resume(m);
}
