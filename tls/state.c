/* state.c - what new sessions use: built and published by the control thread, taken by threads
 * and workers between two pieces of work, freed when nobody has it any more */
#include "base/log.h"
#include "tls/internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	LIFETIME_S = 12 * 3600,
	BOOT_EPOCH_S = 3600,
	DAY_S = 86400,
	WARN_DAYS = 14,
	QUEUE = 1024,
	DEADLINE_US = 5000000,
};

struct tls_state *state_adopt(struct tls *t, struct tls_state *_Atomic *seen)
{
	struct tls_state *now = atomic_load(&t->current), *after;

	/* The control thread frees what it does not find in any `seen`: so it is written first,
	 * and counts only if it still is the current one after that. */
	for (;;) {
		atomic_store(seen, now);
		after = atomic_load(&t->current);
		if (after == now)
			return now;
		now = after;
	}
}

static bool in_use(const struct tls *t, const struct tls_state *s)
{
	for (unsigned i = 0; i < t->n_threads; i++)
		if (atomic_load(&t->threads[i].seen) == s)
			return true;
	for (unsigned i = 0; i < MAX_WORKERS; i++)
		if (t->workers[i] != NULL && atomic_load(&t->workers[i]->seen) == s)
			return true;
	return false;
}

static void retire_set(struct tls *t, struct context_set *s)
{
	unsigned n = atomic_load(&t->n_retired_sets);

	if (--s->references > 0)
		return;
	/* tls_reload() has made sure of the room */
	assert(n < RETIRED_SETS);
	t->retired_sets[n] = s;
	atomic_store(&t->n_retired_sets, n + 1);
}

static void state_free(struct tls *t, struct tls_state *s)
{
	for (unsigned i = 0; i < t->n_threads; i++)
		if (s->sets[i] != NULL)
			retire_set(t, s->sets[i]);
	tickets_free(s->tickets);
	free(s);
}

/* Sessions that began under an old configuration keep its contexts. */
static void collect_sets(struct tls *t, bool all)
{
	unsigned kept = 0, n = atomic_load(&t->n_retired_sets);

	for (unsigned i = 0; i < n; i++) {
		struct context_set *s = t->retired_sets[i];
		if (all || atomic_load(&s->sessions) == 0)
			context_set_free(s);
		else
			t->retired_sets[kept++] = s;
	}
	atomic_store(&t->n_retired_sets, kept);
}

static void collect(struct tls *t)
{
	struct tls_state **at = &t->retired;

	while (*at != NULL) {
		struct tls_state *s = *at;
		if (in_use(t, s)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		state_free(t, s);
	}
	collect_sets(t, false);
}

static void publish(struct tls *t, struct tls_state *s)
{
	struct tls_state *before = atomic_exchange(&t->current, s);

	if (before != NULL) {
		before->next = t->retired;
		t->retired = before;
	}
	collect(t);
}

static int64_t first_expiry(const struct tls_state *s)
{
	int64_t first = INT64_MAX;

	for (unsigned i = 0; i < s->sets[0]->n_credentials; i++)
		if (s->sets[0]->credential[i]->expires_s < first)
			first = s->sets[0]->credential[i]->expires_s;
	return first;
}

/* Once a day, and after a reload. */
static void warn_of_expiry(struct tls *t, int64_t wall_s)
{
	const struct context_set *s = atomic_load(&t->current)->sets[0];

	t->warned_day = wall_s / DAY_S;
	for (unsigned i = 0; i < s->n_credentials; i++) {
		const struct credential *c = s->credential[i];
		int64_t left = c->expires_s - wall_s;
		if (left <= 0)
			log_error("tls", "certificate %s has expired", c->path[0]);
		else if (left < (int64_t)WARN_DAYS * DAY_S)
			log_warning("tls", "certificate %s expires in %d days", c->path[0],
				    (int)(left / DAY_S));
		if (c->staple.der != NULL && c->staple.until_s <= wall_s)
			log_warning("tls", "OCSP response %s has expired and is not stapled",
				    c->path[2]);
	}
}

uint64_t tls_days_left(void *tls)
{
	struct tls *t = tls;
	int64_t left = atomic_load(&t->first_expiry_s) - (int64_t)time(NULL);

	return left > 0 ? (uint64_t)left / DAY_S : 0;
}

uint64_t tls_retired(void *tls)
{
	return atomic_load(&((struct tls *)tls)->n_retired_sets);
}

/* The secret of the file, or, without a file, the one this process has made. */
static int load_secret(struct tls *t, const struct tls_config *c, struct ticket_secret *s,
		       char *error, size_t error_bytes)
{
	int64_t now = (int64_t)time(NULL);
	bool file = c->ticket_secret != NULL && c->ticket_secret[0] != '\0';

	if (file)
		return ticket_secret_read(s, c->ticket_secret, now, error, error_bytes);
	if (t->secret.epoch_s > 0 && t->secret_file == NULL) {
		*s = t->secret;
		return 0;
	}
	snprintf(error, error_bytes, "no randomness for a ticket secret");
	return ticket_secret_random(s, BOOT_EPOCH_S, now);
}

static int make_tickets(struct tls_state *s, struct ticket_secret *secret, uint64_t lifetime_s,
			char *error, size_t error_bytes)
{
	s->tickets = tickets_create(secret, lifetime_s, (int64_t)time(NULL));
	if (s->tickets != NULL)
		return 0;
	snprintf(error, error_bytes,
		 "tls.tickets.lifetime: more than %d epochs of %u seconds; make a secret with "
		 "longer ones",
		 TICKET_EPOCHS - 2, (unsigned)secret->epoch_s);
	return -EINVAL;
}

static int make_sets(struct tls *t, struct tls_state *s, const struct tls_config *c, char *error,
		     size_t error_bytes)
{
	const struct tls_state *before = atomic_load(&t->current);

	for (unsigned i = 0; i < t->n_threads; i++) {
		s->sets[i] = context_set_create(&t->threads[i], c,
						before != NULL ? before->sets[i] : NULL, error,
						error_bytes);
		if (s->sets[i] == NULL)
			return -EINVAL;
		s->sets[i]->generation = t->generation + 1;
	}
	return 0;
}

static void make_budget(struct tls_state *s, const struct tls_budget *b)
{
	s->budget = *b;
	if (s->budget.queue == 0)
		s->budget.queue = QUEUE;
	if (s->budget.deadline_us == 0)
		s->budget.deadline_us = DEADLINE_US;
	if (s->budget.per_network.count == 0)
		s->budget.per_network.per_us = 0;
	if (s->budget.per_name.count == 0)
		s->budget.per_name.per_us = 0;
}

static void keep(struct tls *t, const struct tls_config *c, const struct ticket_secret *secret)
{
	bool file = c->ticket_secret != NULL && c->ticket_secret[0] != '\0';

	t->generation++;
	t->secret = *secret;
	t->lifetime_s = c->ticket_lifetime_s;
	free(t->secret_file);
	t->secret_file = file ? strdup(c->ticket_secret) : NULL;
}

int state_build(struct tls *t, const struct tls_config *config, char *error, size_t error_bytes)
{
	struct tls_config c = *config;
	struct ticket_secret secret = {0};
	struct tls_state *s = calloc(1, sizeof(*s));

	if (c.ticket_lifetime_s == 0)
		c.ticket_lifetime_s = LIFETIME_S;
	snprintf(error, error_bytes, "out of memory");
	int rc = s != NULL ? load_secret(t, &c, &secret, error, error_bytes) : -ENOMEM;
	if (rc == 0)
		rc = make_tickets(s, &secret, c.ticket_lifetime_s, error, error_bytes);
	if (rc == 0)
		rc = make_sets(t, s, &c, error, error_bytes);
	if (rc == 0) {
		make_budget(s, &c.budget);
		s->channel_bindings = c.channel_bindings;
		s->native_records = c.native_records;
	}
	if (rc == 0) {
		keep(t, &c, &secret);
		atomic_store(&t->first_expiry_s, first_expiry(s));
		publish(t, s);
	} else if (s != NULL) {
		for (unsigned i = 0; i < t->n_threads; i++)
			if (s->sets[i] != NULL)
				context_set_free(s->sets[i]);
		tickets_free(s->tickets);
		free(s);
	}
	ticket_secret_wipe(&secret);
	return rc;
}

static struct credential **copy_credentials(const struct context_set *s)
{
	struct credential **copy = calloc(s->n_credentials, sizeof(*copy));

	for (unsigned i = 0; copy != NULL && i < s->n_credentials; i++)
		copy[i] = credential_ref(s->credential[i]);
	return copy;
}

static void free_credentials(struct credential **copy, unsigned n)
{
	for (unsigned i = 0; copy != NULL && i < n; i++)
		credential_unref(copy[i]);
	free(copy);
}

static int count_new(const struct context_set *s, struct credential *const *known, unsigned n_known)
{
	int n = 0;

	for (unsigned i = 0; i < s->n_credentials; i++) {
		bool found = false;
		for (unsigned k = 0; !found && k < n_known; k++)
			found = known[k] == s->credential[i];
		n += !found;
	}
	return n;
}

int tls_reload(struct tls *t, const struct tls_config *c, char *error, size_t error_bytes)
{
	collect(t);
	if (atomic_load(&t->n_retired_sets) + 2 * t->n_threads > RETIRED_SETS) {
		snprintf(error, error_bytes, "sessions still use too many older configurations");
		return -EBUSY;
	}
	const struct tls_state *before = atomic_load(&t->current);
	/* its sets may be freed by what follows */
	struct credential **known = copy_credentials(before->sets[0]);
	unsigned n_known = before->sets[0]->n_credentials;
	int rc = known != NULL ? state_build(t, c, error, error_bytes) : -ENOMEM;
	if (rc == 0) {
		warn_of_expiry(t, (int64_t)time(NULL));
		rc = count_new(atomic_load(&t->current)->sets[0], known, n_known);
	}
	free_credentials(known, n_known);
	return rc;
}

/* A new epoch: the same contexts with other ticket keys. */
static void turn_epoch(struct tls *t, int64_t wall_s)
{
	const struct tls_state *before = atomic_load(&t->current);
	const struct tickets *k = before->tickets;

	if ((uint64_t)wall_s / t->secret.epoch_s <= k->first + k->current)
		return;
	struct tls_state *s = calloc(1, sizeof(*s));
	struct tickets *next = s != NULL ? tickets_create(&t->secret, t->lifetime_s, wall_s) : NULL;
	if (next == NULL) { /* tried again at the next turn */
		free(s);
		return;
	}
	memcpy(s->sets, before->sets, sizeof(s->sets));
	for (unsigned i = 0; i < t->n_threads; i++)
		s->sets[i]->references++;
	s->tickets = next;
	s->budget = before->budget;
	s->channel_bindings = before->channel_bindings;
	s->native_records = before->native_records;
	publish(t, s);
}

void tls_refresh(struct tls *t, int64_t wall_s)
{
	atomic_store_explicit(&t->wall_s, wall_s, memory_order_relaxed);
	turn_epoch(t, wall_s);
	collect(t);
	tls_memory_trim();
	if (wall_s / DAY_S != t->warned_day)
		warn_of_expiry(t, wall_s);
}

/* Nobody reads any more and no session is left. */
void state_close(struct tls *t)
{
	struct tls_state *s = atomic_exchange(&t->current, NULL);

	if (s != NULL) {
		s->next = t->retired;
		t->retired = s;
	}
	while ((s = t->retired) != NULL) {
		t->retired = s->next;
		state_free(t, s);
	}
	collect_sets(t, true);
	ticket_secret_wipe(&t->secret);
	free(t->secret_file);
}
