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
		of[i] = (uint8_t)route_pool(m->worker, to.path.at, to.path.bytes);
		bool done = m->done != NULL && (m->done[i / 8] & 1u << i % 8) != 0;
		if (!done && !seen[of[i]])
			pools[n++] = of[i];
		seen[of[i]] |= !done;
	}
	return n;
}

/* The bits of m with those of all recipients that go elsewhere than to pool; NULL: no memory. */
static uint8_t *done_but(const struct message *m, const uint8_t *of, unsigned pool)
{
	uint8_t *done = calloc((m->recipients + 7) / 8 + 1, 1);

	for (uint32_t i = 0; done != NULL && i < m->recipients; i++) {
		bool before = m->done != NULL && (m->done[i / 8] & 1u << i % 8) != 0;
		if (before || of[i] != pool)
			done[i / 8] |= (uint8_t)(1u << i % 8);
	}
	return done;
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
	struct split *s = m->split;
	unsigned i = 0;

	if (s == NULL)
		return;
	while (s->entry[i] != m)
		i++;
	s->entry[i] = s->entry[--s->entries];
	if (s->entries == 0)
		split_free(s);
}

static struct message *twin(const struct message *m, uint8_t *done, unsigned pool)
{
	struct message *t = message_alloc(m->worker);

	if (t == NULL)
		return NULL;
	struct message fresh = *t;
	*t = *m;
	t->link = fresh.link;
	t->timer = fresh.timer;
	t->handle = fresh.handle;
	t->last_error = m->last_error != NULL ? strdup(m->last_error) : NULL;
	t->done = done;
	t->pool = (uint8_t)pool;
	list_init(&t->link);
	return t;
}

/* m and an entry of its own for each further pool; false: no memory, nothing has changed. */
static bool split(struct message *m, const uint8_t *of, const unsigned *pools, unsigned n)
{
	uint8_t *done[RELAY_POOLS] = {NULL};
	struct message *entry[RELAY_POOLS] = {NULL};
	bool whole = m->split != NULL || (m->split = calloc(1, sizeof(*m->split))) != NULL;

	whole = whole && split_grow(m->split, m->split->entries + n);

	for (unsigned i = 0; whole && i < n; i++) {
		done[i] = done_but(m, of, pools[i]);
		whole = done[i] != NULL &&
			(i == 0 || (entry[i] = twin(m, done[i], pools[i])) != NULL);
	}
	if (!whole) {
		for (unsigned i = 0; i < n; i++) {
			if (entry[i] != NULL) {
				entry[i]->split = NULL;
				message_free(entry[i]);
			} else {
				free(done[i]);
			}
		}
		if (m->split != NULL && m->split->entries == 0) {
			split_free(m->split);
			m->split = NULL;
		}
		return false;
	}
	struct split *s = m->split;
	if (s->entries == 0) {
		s->entry[s->entries++] = m;
		s->open = 1;
	}
	for (unsigned i = 1; i < n; i++)
		s->entry[s->entries++] = entry[i];
	s->open += n - 1;
	free(m->done);
	m->done = done[0];
	relay_count(m->worker, relay_split);
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
