/* client.c - the worker's side: snapshot, cache, admission.  No lock, no system call. */
#include "smtp/auth/internal.h"

#include "base/nap.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>
#include <stdlib.h>
#include <string.h>

enum { MADE_UP_SALT = 16 };

/* The key never changes, so it is expanded once; each check re-initialises without it. */
static EVP_MAC_CTX *keyed_mac(const struct auth *a)
{
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	EVP_MAC_CTX *ctx = mac != NULL ? EVP_MAC_CTX_new(mac) : NULL;

	EVP_MAC_free(mac);
	if (ctx != NULL && EVP_MAC_init(ctx, a->secret, sizeof(a->secret), params) != 1) {
		EVP_MAC_CTX_free(ctx);
		return NULL;
	}
	return ctx;
}

static void free_client(struct auth_client *c)
{
	struct users *next = atomic_load_explicit(&c->inbox, memory_order_acquire);

	if (next != NULL)
		users_unref(next);
	if (c->users != NULL)
		users_unref(c->users);
	EVP_MAC_CTX_free(c->mac);
	cache_destroy(c->cache);
	if (c->results != NULL)
		ring_destroy(c->results);
	free(c);
}

static void release(void *identity)
{
	identity_unref(identity);
}

struct auth_client *auth_client_create(struct auth *a, struct shard *shard)
{
	struct auth_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return NULL;
	c->auth = a;
	c->shard = shard;
	list_init(&c->link);
	list_init(&c->leaders);
	c->results = ring_create(LANES * (size_t)a->c.queue);
	c->cache = cache_create(a->c.cache_entries, release);
	c->mac = keyed_mac(a);
	if (c->results == NULL || c->cache == NULL || c->mac == NULL) {
		free_client(c);
		return NULL;
	}
	pthread_mutex_lock(&a->clients_lock);
	c->users = users_ref(a->users);
	list_push_back(&a->clients, &c->link);
	pthread_mutex_unlock(&a->clients_lock);
	return c;
}

/* A load before the exchange: the usual round only reads a line that stays in its cache. */
static void take_new_snapshot(struct auth_client *c)
{
	if (atomic_load_explicit(&c->inbox, memory_order_relaxed) == NULL)
		return;
	struct users *u = atomic_exchange_explicit(&c->inbox, NULL, memory_order_acq_rel);
	if (u == NULL)
		return;
	users_unref(c->users);
	c->users = u;
	c->users_taken++;
}

/* What a verdict depends on besides name and password: the user's record; for back ends the
 * chain, and where it may depend on them source and listener. */
struct basis {
	uint8_t record_id[USERS_RECORD_ID_BYTES];
	uint64_t route; /* 0: the record decides */
	struct ip_addr source;
};

static void basis_of(const struct auth_request *r, const struct user *u, struct basis *b)
{
	memset(b, 0, sizeof(*b));
	if (!r->remote) {
		if (u != NULL)
			memcpy(b->record_id, u->record_id, sizeof(b->record_id));
		return;
	}
	b->route = r->route;
	if ((r->route & ROUTE_BY_SOURCE) == 0)
		return;
	b->source.family = r->source.family;
	memcpy(b->source.byte, r->source.byte, sizeof(b->source.byte));
}

/* Lengths before contents: no two different checks give the same octets. */
static bool make_cache_key(struct auth_client *c, struct auth_request *r, const struct user *u)
{
	bool by_source = r->remote && (r->route & ROUTE_BY_SOURCE) != 0;
	const char *listener = by_source && r->listener != NULL ? r->listener : "";
	uint32_t lengths[3] = {(uint32_t)strlen(r->user), (uint32_t)strlen(r->password),
			       (uint32_t)strlen(listener)};
	struct basis b;
	size_t n = 0;

	basis_of(r, u, &b);

	return EVP_MAC_init(c->mac, NULL, 0, NULL) == 1 &&
	       EVP_MAC_update(c->mac, (const uint8_t *)lengths, sizeof(lengths)) == 1 &&
	       EVP_MAC_update(c->mac, (const uint8_t *)r->user, lengths[0]) == 1 &&
	       EVP_MAC_update(c->mac, (const uint8_t *)r->password, lengths[1]) == 1 &&
	       EVP_MAC_update(c->mac, (const uint8_t *)listener, lengths[2]) == 1 &&
	       EVP_MAC_update(c->mac, (const uint8_t *)&b, sizeof(b)) == 1 &&
	       EVP_MAC_final(c->mac, r->cache_key, &n, sizeof(r->cache_key)) == 1;
}

static uint64_t source_tag(const struct auth *a, const struct ip_addr *addr)
{
	struct ip_addr net = *addr;

	if (net.family == 6)
		memset(net.byte + 8, 0, 8);
	return siphash(&a->tag_key, &net, sizeof(net));
}

/* One octet before the name keeps users and addresses apart.  Back ends find users without regard
 * to case, so another spelling is not another budget. */
uint64_t auth_user_tag(const struct auth *a, const char *name)
{
	char text[AUTH_USER_BYTES + 1] = {'u'};
	size_t n = strnlen(name, AUTH_USER_BYTES - 1);

	for (size_t i = 0; i < n; i++)
		text[1 + i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] | 0x20) : name[i];
	return siphash(&a->tag_key, text, n + 1);
}

static bool take_load(atomic_ushort *load, unsigned limit)
{
	if (atomic_fetch_add_explicit(load, 1, memory_order_relaxed) < limit)
		return true;
	atomic_fetch_sub_explicit(load, 1, memory_order_relaxed);
	return false;
}

static void drop_load(atomic_ushort *load)
{
	atomic_fetch_sub_explicit(load, 1, memory_order_relaxed);
}

static struct lane *lane_of(struct auth *a, const struct auth_request *r)
{
	return &a->lane[r->remote ? LANE_REMOTE : LANE_HERE];
}

static void leave(struct auth *a, const struct auth_request *r)
{
	struct lane *l = lane_of(a, r);

	drop_load(&l->user_load[r->user_tag % AUTH_LOADS]);
	drop_load(&l->source_load[r->source_tag % AUTH_LOADS]);
	atomic_fetch_sub_explicit(&l->waiting, 1, memory_order_release);
}

/* auth_counter_count when the check may wait, else the counter of what was full. */
static enum auth_counter admit(struct auth *a, const struct auth_request *r)
{
	struct lane *l = lane_of(a, r);

	if (atomic_fetch_add_explicit(&l->waiting, 1, memory_order_acquire) >= a->c.queue) {
		atomic_fetch_sub_explicit(&l->waiting, 1, memory_order_relaxed);
		return auth_queue_full;
	}
	if (!take_load(&l->source_load[r->source_tag % AUTH_LOADS], a->c.queue_per_source)) {
		atomic_fetch_sub_explicit(&l->waiting, 1, memory_order_relaxed);
		return auth_source_full;
	}
	if (!take_load(&l->user_load[r->user_tag % AUTH_LOADS], a->c.queue_per_user)) {
		drop_load(&l->source_load[r->source_tag % AUTH_LOADS]);
		atomic_fetch_sub_explicit(&l->waiting, 1, memory_order_relaxed);
		return auth_user_full;
	}
	return auth_counter_count;
}

static enum auth_verdict answer(struct auth_request *r, enum auth_verdict v)
{
	OPENSSL_cleanse(r->password, sizeof(r->password));
	r->verdict = v;
	return v;
}

static struct auth_request *equal_check(struct auth_client *c, const struct auth_request *r)
{
	list_each (l, &c->leaders) {
		struct auth_request *leader = container_of(l, struct auth_request, link);
		if (leader->kind == AUTH_PASSWORD &&
		    CRYPTO_memcmp(leader->cache_key, r->cache_key, sizeof(r->cache_key)) == 0)
			return leader;
	}
	return NULL;
}

/* The same guess is judged once, so it is charged once; it takes no place in the queue. */
static enum auth_verdict follow(struct auth_client *c, struct auth_request *leader,
				struct auth_request *r)
{
	if (c->followers >= c->auth->c.followers) {
		counter_inc(&c->counters[auth_followers_full]);
		return answer(r, AUTH_OVERLOADED);
	}
	counter_inc(&c->counters[auth_shared]);
	OPENSSL_cleanse(r->password, sizeof(r->password));
	/* behind the leader, the latest first; turned round when they are answered */
	r->follow = leader->follow;
	leader->follow = r;
	c->followers++;
	r->verdict = AUTH_PENDING;
	return AUTH_PENDING;
}

void auth_scram_verifier(struct auth_client *c, const char *user, struct scram_verifier *v)
{
	static const char purpose[] = "SCRAM salt of nobody";
	uint8_t made_up[CACHE_KEY_BYTES] = {0};
	size_t n = 0;

	take_new_snapshot(c);
	const struct user *u = users_find(c->users, user);
	/* made for known users too: the same work, the same time */
	if (EVP_MAC_init(c->mac, NULL, 0, NULL) == 1 &&
	    EVP_MAC_update(c->mac, (const uint8_t *)purpose, sizeof(purpose)) == 1 &&
	    EVP_MAC_update(c->mac, (const uint8_t *)user, strlen(user)) == 1)
		EVP_MAC_final(c->mac, made_up, &n, sizeof(made_up));
	if (u != NULL && u->scram != NULL && scram_parse(u->scram, v))
		return;
	memset(v, 0, sizeof(*v));
	v->iterations = users_scram_iterations(c->users);
	v->salt_bytes = MADE_UP_SALT;
	memcpy(v->salt, made_up, MADE_UP_SALT);
}

bool auth_attributes(struct auth_client *c, const char *user, const struct auth_identity *identity,
		     const char **tenant, const char **addresses)
{
	if (identity != NULL) {
		*tenant = identity->tenant;
		*addresses = identity->addresses;
		return true;
	}
	take_new_snapshot(c);
	const struct user *u = users_find(c->users, user);
	*tenant = u != NULL && u->tenant != NULL ? u->tenant : "";
	*addresses = u != NULL && u->addresses != NULL ? u->addresses : "";
	return u != NULL;
}

uint32_t auth_users_taken(struct auth_client *c)
{
	take_new_snapshot(c);
	return c->users_taken;
}

bool auth_knows(struct auth_client *c, const char *user)
{
	take_new_snapshot(c);
	return users_find(c->users, user) != NULL;
}

/* Into the queue of the auth threads, if there is room. */
static enum auth_verdict ask(struct auth_client *c, struct auth_request *r, const struct user *u)
{
	struct auth *a = c->auth;

	r->source_tag = source_tag(a, &r->source);
	r->user_tag = auth_user_tag(a, r->user);
	enum auth_counter full = admit(a, r);
	if (full != auth_counter_count) {
		counter_inc(&c->counters[full]);
		return answer(r, AUTH_OVERLOADED);
	}
	r->client = c;
	r->users = users_ref(c->users);
	r->record = u;
	r->verdict = AUTH_PENDING;
	c->pending++;
	list_push_back(&c->leaders, &r->link);
	bool pushed = ring_push(a->requests, r);
	assert(pushed); /* the lanes' bounds together are its capacity */
	return AUTH_PENDING;
}

/* The users file decides alone on whom it knows, if it is the first to be asked. */
static bool begins_remote(const struct auth_request *r, const struct user *u)
{
	return r->kind == AUTH_PASSWORD && (r->route & ROUTE_REMOTE) != 0 &&
	       ((r->route & ROUTE_USERS_FIRST) == 0 || u == NULL);
}

static void take_identity(struct auth_request *r, struct auth_identity *identity)
{
	r->identity = identity_ref(identity);
	if (identity != NULL)
		memcpy(r->user, identity->user, sizeof(r->user));
}

/* A verdict of the file needs its record, one of a back end what it said then. */
static bool cached(struct auth_client *c, struct auth_request *r, const struct user *u)
{
	void *identity;

	if (!cache_has(c->cache, r->cache_key, c->shard->now_us, &identity) ||
	    (identity == NULL && (u == NULL || r->remote)))
		return false;
	take_identity(r, identity);
	return true;
}

enum auth_verdict auth_check(struct auth_client *c, struct auth_request *r)
{
	take_new_snapshot(c);
	r->follow = NULL;
	r->identity = NULL;
	r->at = 0;
	r->charged = false;
	r->asked_us = c->shard->now_us;
	r->route = atomic_load_explicit(&c->auth->route, memory_order_relaxed);
	const struct user *u = users_find(c->users, r->user);
	r->remote = begins_remote(r, u);
	if (r->kind != AUTH_PASSWORD) {
		/* no two proofs and no two tokens are the same check */
		memset(r->cache_key, 0, sizeof(r->cache_key));
		return ask(c, r, u);
	}
	/* The key is made for unknown users too: the same work, the same time. */
	bool keyed = make_cache_key(c, r, u);
	if (keyed && cached(c, r, u)) {
		counter_inc(&c->counters[auth_cache_hits]);
		return answer(r, AUTH_OK);
	}
	counter_inc(&c->counters[auth_cache_misses]);
	if (!keyed) {
		counter_inc(&c->counters[auth_no_memory]);
		return answer(r, AUTH_OVERLOADED);
	}
	struct auth_request *leader = equal_check(c, r);
	return leader != NULL ? follow(c, leader, r) : ask(c, r, u);
}

static void void_answer(struct auth_client *c, struct auth_request *r, enum auth_verdict v,
			enum auth_counter why)
{
	counter_inc(&c->counters[why]);
	identity_unref(r->identity);
	r->identity = NULL;
	r->verdict = v;
}

static void put_in_cache(struct auth_client *c, struct auth_request *r, uint32_t ttl_s)
{
	if (cache_put(c->cache, r->cache_key, identity_ref(r->identity), ttl_s * (uint64_t)1000000,
		      c->shard->now_us))
		counter_inc(&c->counters[auth_cache_evictions]);
}

/* A back end has accepted.  The name that it gives must not be one that the users file, asked
 * before it, decides on. */
static void settle_remote(struct auth_client *c, struct auth_request *r)
{
	bool users_first = (r->route & ROUTE_USERS_FIRST) != 0;

	if (r->route != atomic_load_explicit(&c->auth->route, memory_order_relaxed)) {
		void_answer(c, r, AUTH_OVERLOADED, auth_backends_changed);
		return;
	}
	if (users_first && users_find(c->users, r->identity->user) != NULL) {
		void_answer(c, r, AUTH_BAD, auth_shadowed);
		return;
	}
	if (r->identity->cache_s > 0)
		put_in_cache(c, r, r->identity->cache_s);
	memcpy(r->user, r->identity->user, sizeof(r->user));
}

/* The record may have changed between question and answer: then the answer is void. */
static void settle(struct auth_client *c, struct auth_request *r)
{
	if (r->kind == AUTH_TOKEN)
		return;
	if (r->identity != NULL) {
		settle_remote(c, r);
		return;
	}
	const struct user *now = users_find(c->users, r->user);
	if (now == NULL ||
	    memcmp(now->record_id, r->record->record_id, USERS_RECORD_ID_BYTES) != 0) {
		void_answer(c, r, AUTH_OVERLOADED, auth_record_changed);
		return;
	}
	/* a key of the back ends does not name the record */
	if (r->kind == AUTH_PASSWORD && !r->remote)
		put_in_cache(c, r, c->auth->c.cache_ttl_s);
}

static struct auth_request *fetch_result(struct auth_client *c)
{
	struct auth_request *r = ring_pop(c->results);

	if (r == NULL)
		return NULL;
	if (r->verdict == AUTH_OK)
		settle(c, r);
	list_del(&r->link);
	users_unref(r->users);
	r->users = NULL;
	r->record = NULL;
	leave(c->auth, r);
	c->pending--;
	return r;
}

static struct auth_request *in_order(struct auth_request *latest)
{
	struct auth_request *first = NULL;

	while (latest != NULL) {
		struct auth_request *before = latest->follow;
		latest->follow = first;
		first = latest;
		latest = before;
	}
	return first;
}

unsigned auth_poll(struct auth_client *c)
{
	unsigned n = 0;
	struct auth_request *r;

	take_new_snapshot(c);
	while (c->pending > 0 && (r = fetch_result(c)) != NULL) {
		enum auth_verdict v = r->verdict;
		struct auth_request *followers = in_order(r->follow);
		struct auth_identity *identity =
			followers != NULL ? identity_ref(r->identity) : NULL;
		r->done(r);
		n++;
		while (followers != NULL) {
			struct auth_request *f = followers;
			followers = f->follow;
			c->followers--;
			f->verdict = v;
			take_identity(f, identity);
			f->done(f);
			n++;
		}
		identity_unref(identity);
	}
	return n;
}

void auth_client_destroy(struct auth_client *c)
{
	struct nap nap = {.max_us = 1000};

	while (c->pending > 0) {
		if (c->auth->threads_running == 0)
			auth_return_waiting(c->auth);
		struct auth_request *r = fetch_result(c);
		if (r != NULL) {
			identity_unref(r->identity);
			r->identity = NULL;
			nap_worked(&nap);
		} else {
			nap_idle(&nap);
		}
	}
	pthread_mutex_lock(&c->auth->clients_lock);
	list_del(&c->link);
	pthread_mutex_unlock(&c->auth->clients_lock);
	free_client(c);
}

const uint64_t *auth_client_counters(const struct auth_client *c)
{
	return c->counters;
}

void auth_identity_drop(struct auth_identity *identity)
{
	identity_unref(identity);
}
