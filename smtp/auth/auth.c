/* auth.c - the auth threads' and the control thread's side of the password checks */
#include "smtp/auth/internal.h"

#include "base/log.h"
#include "base/nap.h"
#include "smtp/auth/scram.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { LIMIT_ENTRIES = 65536, THREADS_MAX = 64, LONGEST_NAP_US = 2000, NICE = 10 };

static struct auth_config with_defaults(const struct auth_config *c)
{
	struct auth_config d = *c;

	d.threads = c->threads != 0 ? c->threads : 1;
	d.threads = d.threads < THREADS_MAX ? d.threads : THREADS_MAX;
	d.queue = c->queue != 0 ? c->queue : 256;
	d.queue_per_source = c->queue_per_source != 0 ? c->queue_per_source : 8;
	d.queue_per_user = c->queue_per_user != 0 ? c->queue_per_user : 8;
	d.followers = c->followers != 0 ? c->followers : 4096;
	d.cache_entries = c->cache_entries != 0 ? c->cache_entries : 65536;
	d.cache_ttl_s = c->cache_ttl_s != 0 ? c->cache_ttl_s : 600;
	d.per_address.per_us = c->per_address.count != 0 ? c->per_address.per_us : 0;
	d.per_user.per_us = c->per_user.count != 0 ? c->per_user.per_us : 0;
	return d;
}

static struct file_identity identity(const char *file)
{
	struct stat st;

	if (stat(file, &st) != 0)
		return (struct file_identity){};
	return (struct file_identity){.modified = st.st_mtim,
				      .inode = (uint64_t)st.st_ino,
				      .bytes = (uint64_t)st.st_size};
}

static bool same_file(const struct file_identity *a, const struct file_identity *b)
{
	return a->modified.tv_sec == b->modified.tv_sec &&
	       a->modified.tv_nsec == b->modified.tv_nsec && a->inode == b->inode &&
	       a->bytes == b->bytes;
}

static int draw_secrets(struct auth *a)
{
	return getrandom(a->secret, sizeof(a->secret), 0) == sizeof(a->secret) &&
			       getrandom(&a->tag_key, sizeof(a->tag_key), 0) == sizeof(a->tag_key)
		       ? 0
		       : -EIO;
}

static int allocate(struct auth *a, const struct auth_config *c)
{
	a->users_file = strdup(c->users_file);
	a->jwks_file = c->jwks_file != NULL ? strdup(c->jwks_file) : NULL;
	a->requests = ring_create(LANES * (size_t)a->c.queue);
	a->queue = fairq_create(LANES * a->c.queue);
	a->cheap = fairq_create(a->c.queue);
	a->guesses = guesses_create(LIMIT_ENTRIES);
	a->thread = calloc(a->c.threads, sizeof(*a->thread));
	if (a->users_file == NULL || a->requests == NULL || a->queue == NULL || a->cheap == NULL ||
	    a->guesses == NULL || a->thread == NULL)
		return -ENOMEM;
	return draw_secrets(a);
}

int auth_open(struct auth **out, const struct auth_config *c, char *error, size_t error_bytes)
{
	struct auth *a = calloc(1, sizeof(*a));

	*out = NULL;
	snprintf(error, error_bytes, "password checks: out of memory");
	if (a == NULL)
		return -ENOMEM;
	a->c = with_defaults(c);
	chain_setup();
	list_init(&a->clients);
	pthread_mutex_init(&a->lock, NULL);
	pthread_mutex_init(&a->clients_lock, NULL);
	int code = allocate(a, c);
	if (code == 0 && a->jwks_file != NULL) {
		a->keys_seen = identity(a->jwks_file);
		code = jwks_load(&a->keys, a->jwks_file, error, error_bytes);
	}
	if (code == 0)
		code = chain_create(&a->chain, a, c->backends, c->n_backends, error, error_bytes);
	if (code == 0) {
		a->c.users_file = a->users_file;
		a->read = a->refused = identity(a->users_file);
		a->users_listed = chain_lists_users(a->chain);
		atomic_store(&a->route, chain_route(a->chain));
		code = auth_load_users(a, a->users_listed, &a->users, error, error_bytes);
	}
	if (code != 0) {
		auth_close(a);
		return code;
	}
	atomic_store(&a->user_count, users_count(a->users));
	error[0] = '\0';
	*out = a;
	return 0;
}

/* Both limits hold for every guess that is judged, once for all back ends that are asked. */
bool auth_charge(struct auth *a, struct auth_request *r)
{
	if (r->charged)
		return true;
	if (!guesses_charge(a->guesses, r->source_tag, &a->c.per_address, r->asked_us)) {
		counter_inc(&a->counters[auth_limited_address]);
		return false;
	}
	if (!guesses_charge(a->guesses, r->user_tag, &a->c.per_user, r->asked_us)) {
		guesses_refund(a->guesses, r->source_tag, &a->c.per_address);
		counter_inc(&a->counters[auth_limited_user]);
		return false;
	}
	r->charged = true;
	return true;
}

static void refund(struct auth *a, struct auth_request *r)
{
	if (!r->charged)
		return;
	guesses_refund(a->guesses, r->source_tag, &a->c.per_address);
	guesses_refund(a->guesses, r->user_tag, &a->c.per_user);
	r->charged = false;
}

/* After this the request is its worker's again. */
void auth_give_back(struct auth_request *r, enum auth_verdict v)
{
	OPENSSL_cleanse(r->password, sizeof(r->password));
	r->verdict = v;
	bool pushed = ring_push(r->client->results, r);
	assert(pushed); /* the lanes' bounds together are its capacity */
}

void auth_turn_away(struct auth *a, struct auth_request *r, enum auth_counter why)
{
	counter_inc(&a->counters[why]);
	refund(a, r);
	auth_give_back(r, AUTH_OVERLOADED);
}

void auth_pass_on(struct auth *a, struct auth_request *r)
{
	if (r->route != atomic_load_explicit(&a->route, memory_order_relaxed))
		auth_turn_away(a, r, auth_backends_changed);
	else if (!chain_push(a->chain, r))
		fairq_push(a->queue, r);
}

static void sort_requests(struct auth *a)
{
	struct auth_request *r;

	while ((r = ring_pop(a->requests)) != NULL) {
		if (r->remote)
			auth_pass_on(a, r);
		else
			fairq_push(r->kind == AUTH_PASSWORD ? a->queue : a->cheap, r);
	}
}

static struct auth_request *next_request(struct auth *a, bool *judge)
{
	struct auth_request *r;

	pthread_mutex_lock(&a->lock);
	sort_requests(a);
	r = fairq_pop(a->cheap);
	if (r == NULL)
		r = fairq_pop(a->queue);
	*judge = r != NULL && auth_charge(a, r);
	pthread_mutex_unlock(&a->lock);
	return r;
}

static const struct {
	enum auth_verdict verdict;
	enum auth_counter counter;
	bool refund;
} outcomes[] = {
	[OUTCOME_WRONG] = {AUTH_BAD, auth_rejected, false},
	[OUTCOME_RIGHT] = {AUTH_OK, auth_accepted, true},
	[OUTCOME_NO_MEMORY] = {AUTH_OVERLOADED, auth_no_memory, true},
	[OUTCOME_OUTAGE] = {AUTH_OVERLOADED, auth_backend_outages, true},
	[OUTCOME_MALFORMED] = {AUTH_OVERLOADED, auth_backend_malformed, true},
};

/* The latest of a name: what posternctl limits asks for. */
static void remember(struct auth *a, struct auth_identity *i)
{
	struct auth_identity **place = &a->seen[auth_user_tag(a, i->user) % AUTH_SEEN];

	identity_unref(*place);
	*place = identity_ref(i);
}

void auth_conclude(struct auth *a, struct auth_request *r, enum auth_outcome o)
{
	counter_inc(&a->counters[outcomes[o].counter]);
	if (outcomes[o].refund)
		refund(a, r);
	if (r->identity != NULL)
		remember(a, r->identity);
	auth_give_back(r, outcomes[o].verdict);
}

static int judge_password(struct auth *a, struct auth_request *r)
{
	const struct password_hash *h =
		r->record != NULL ? &r->record->hash : users_dummy(r->users);
	int same = password_verify(h, r->password);

	return same < 0 ? same : same == 1 && r->record != NULL;
}

/* An unknown user's proof costs the same. */
static int judge_scram(struct auth *a, struct auth_request *r)
{
	struct scram_verifier v;
	bool known =
		r->record != NULL && r->record->scram != NULL && scram_parse(r->record->scram, &v);

	if (!known)
		memset(&v, 0, sizeof(v));
	int same = scram_check(r->scram, &v);
	OPENSSL_cleanse(&v, sizeof(v));
	return same < 0 ? same : same == 1 && known;
}

static const enum auth_counter token_counters[] = {
	[JWT_MALFORMED] = auth_token_malformed, [JWT_KEY] = auth_token_key,
	[JWT_SIGNATURE] = auth_token_signature, [JWT_TIME] = auth_token_time,
	[JWT_CLAIMS] = auth_token_claims,       [JWT_NO_MEMORY] = auth_no_memory,
};

/* The name that the token proves is the user's; a name that the client says must be the same. */
static int judge_token(struct auth *a, struct auth_request *r)
{
	char user[AUTH_USER_BYTES];

	pthread_mutex_lock(&a->lock);
	struct jwks *keys = a->keys != NULL ? jwks_ref(a->keys) : NULL;
	pthread_mutex_unlock(&a->lock);
	if (keys == NULL)
		return 0;
	enum jwt_verdict v = jwt_check(keys, &a->c.tokens, r->token, r->token_bytes, r->wall_s,
				       user, sizeof(user));
	jwks_unref(keys);
	if (v == JWT_GOOD &&
	    (user_name_fault(user) != NULL || (r->user[0] != '\0' && strcmp(r->user, user) != 0)))
		v = JWT_CLAIMS;
	if (v == JWT_GOOD) {
		memcpy(r->user, user, sizeof(user));
		return 1;
	}
	pthread_mutex_lock(&a->lock);
	counter_inc(&a->counters[token_counters[v]]);
	pthread_mutex_unlock(&a->lock);
	return v == JWT_NO_MEMORY ? -ENOMEM : 0;
}

static int (*const judges[])(struct auth *a, struct auth_request *r) = {
	[AUTH_PASSWORD] = judge_password,
	[AUTH_SCRAM] = judge_scram,
	[AUTH_TOKEN] = judge_token,
};

static void judge(struct auth *a, struct auth_request *r)
{
	int same = judges[r->kind](a, r);

	pthread_mutex_lock(&a->lock);
	if (r->record == NULL && r->kind != AUTH_TOKEN)
		counter_inc(&a->counters[auth_unknown_users]);
	auth_conclude(a, r,
		      same < 0    ? OUTCOME_NO_MEMORY
		      : same == 1 ? OUTCOME_RIGHT
				  : OUTCOME_WRONG);
	pthread_mutex_unlock(&a->lock);
}

static void *auth_thread(void *arg)
{
	struct auth *a = arg;
	struct nap nap = {.max_us = LONGEST_NAP_US};

	/* Handshakes and commits go first: they are short, a hash is not. */
	setpriority(PRIO_PROCESS, 0, NICE);
	while (!atomic_load_explicit(&a->stopping, memory_order_relaxed)) {
		bool may_judge;
		struct auth_request *r = next_request(a, &may_judge);
		if (r == NULL) {
			nap_idle(&nap);
			continue;
		}
		nap_worked(&nap);
		if (may_judge)
			judge(a, r);
		else
			auth_give_back(r, AUTH_OVERLOADED);
	}
	return NULL;
}

int auth_start(struct auth *a)
{
	for (; a->threads_running < a->c.threads; a->threads_running++) {
		pthread_t *t = &a->thread[a->threads_running];
		int code = pthread_create(t, NULL, auth_thread, a);
		if (code != 0) {
			auth_stop(a);
			return -code;
		}
		char name[16];
		snprintf(name, sizeof(name), "auth/%u", a->threads_running);
		pthread_setname_np(*t, name);
	}
	int code = chain_start(a->chain);
	a->started = code == 0;
	if (code != 0)
		auth_stop(a);
	return code;
}

void auth_return_waiting(struct auth *a)
{
	struct auth_request *r;

	sort_requests(a);
	while ((r = fairq_pop(a->cheap)) != NULL || (r = fairq_pop(a->queue)) != NULL ||
	       (r = chain_pop_waiting(a->chain)) != NULL)
		auth_turn_away(a, r, auth_stopped);
}

void auth_stop(struct auth *a)
{
	atomic_store(&a->stopping, true);
	while (a->threads_running > 0)
		pthread_join(a->thread[--a->threads_running], NULL);
	atomic_store(&a->stopping, false);
	a->started = false;
	if (a->chain != NULL)
		chain_join(a->chain);
	auth_collect_backends(a, true);
	if (a->chain != NULL && a->queue != NULL && a->requests != NULL)
		auth_return_waiting(a);
}

void auth_publish_users(struct auth *a, struct users *u)
{
	pthread_mutex_lock(&a->clients_lock);
	struct users *old = a->users;
	a->users = u;
	list_each (l, &a->clients) {
		struct auth_client *c = container_of(l, struct auth_client, link);
		struct users *unread = atomic_exchange(&c->inbox, users_ref(u));
		if (unread != NULL)
			users_unref(unread);
	}
	pthread_mutex_unlock(&a->clients_lock);
	users_unref(old);
	atomic_store(&a->user_count, users_count(u));
}

static void refresh_keys(struct auth *a)
{
	char error[512];
	struct jwks *k;

	if (a->jwks_file == NULL)
		return;
	struct file_identity now = identity(a->jwks_file);
	if (same_file(&now, &a->keys_seen))
		return;
	a->keys_seen = now;
	if (jwks_load(&k, a->jwks_file, error, sizeof(error)) != 0) {
		counter_inc(&a->counters[auth_reload_errors]);
		log_error("auth", "%s; the keys read before stay in force", error);
		return;
	}
	pthread_mutex_lock(&a->lock);
	struct jwks *old = a->keys;
	a->keys = k;
	pthread_mutex_unlock(&a->lock);
	jwks_unref(old);
	counter_inc(&a->counters[auth_reloads]);
	log_info("auth", "%s: %u keys", a->jwks_file, jwks_count(k));
}

void auth_set_rates(struct auth *a, const struct auth_rate *per_address,
		    const struct auth_rate *per_user)
{
	static const struct auth_rate none;

	pthread_mutex_lock(&a->lock);
	a->c.per_address = per_address->count != 0 ? *per_address : none;
	a->c.per_user = per_user->count != 0 ? *per_user : none;
	pthread_mutex_unlock(&a->lock);
}

void auth_refresh(struct auth *a)
{
	char error[512];
	struct users *u;
	struct file_identity now = identity(a->users_file);

	users_bury(&a->graveyard);
	identity_bury(&a->identities);
	auth_collect_backends(a, false);
	refresh_keys(a);
	if (!a->users_listed || same_file(&now, &a->read) || same_file(&now, &a->refused))
		return;
	if (users_load(&u, a->users_file, &a->graveyard, error, sizeof(error)) != 0) {
		counter_inc(&a->counters[auth_reload_errors]);
		log_error("auth", "%s; the users read before stay in force", error);
		a->refused = now;
		return;
	}
	auth_publish_users(a, u);
	a->read = now;
	a->refused = now;
	counter_inc(&a->counters[auth_reloads]);
	log_info("auth", "%s: %u users", a->users_file, users_count(u));
}

void auth_close(struct auth *a)
{
	auth_stop(a);
	assert(list_empty(&a->clients));
	if (a->users != NULL)
		users_unref(a->users);
	users_bury(&a->graveyard);
	for (unsigned i = 0; i < AUTH_SEEN; i++)
		identity_unref(a->seen[i]);
	identity_bury(&a->identities);
	chain_destroy(a->chain);
	fairq_destroy(a->queue);
	fairq_destroy(a->cheap);
	jwks_unref(a->keys);
	free(a->jwks_file);
	guesses_destroy(a->guesses);
	if (a->requests != NULL)
		ring_destroy(a->requests);
	pthread_mutex_destroy(&a->lock);
	pthread_mutex_destroy(&a->clients_lock);
	free(a->users_file);
	free(a->thread);
	OPENSSL_cleanse(a->secret, sizeof(a->secret));
	free(a);
}

bool auth_tenant(struct auth *a, const char *user, char *tenant)
{
	pthread_mutex_lock(&a->clients_lock);
	const struct user *u = users_find(a->users, user);
	snprintf(tenant, USER_TENANT_MAX + 1, "%s",
		 u != NULL && u->tenant != NULL ? u->tenant : "");
	bool known = u != NULL;
	pthread_mutex_unlock(&a->clients_lock);
	if (known)
		return true;
	pthread_mutex_lock(&a->lock);
	const struct auth_identity *seen = a->seen[auth_user_tag(a, user) % AUTH_SEEN];
	known = seen != NULL && strcmp(seen->user, user) == 0;
	if (known)
		memcpy(tenant, seen->tenant, sizeof(seen->tenant));
	pthread_mutex_unlock(&a->lock);
	return known;
}

const uint64_t *auth_counters(const struct auth *a)
{
	return a->counters;
}

unsigned auth_waiting(const struct auth *a)
{
	return atomic_load_explicit(&a->lane[LANE_HERE].waiting, memory_order_relaxed) +
	       atomic_load_explicit(&a->lane[LANE_REMOTE].waiting, memory_order_relaxed);
}

unsigned auth_users(const struct auth *a)
{
	return atomic_load_explicit(&a->user_count, memory_order_relaxed);
}
