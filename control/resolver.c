/* resolver.c - one thread, one question at a time, by c-ares */
#include "control/resolver.h"

#include "base/log.h"

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	TIMEOUT_MS = 2000,
	TRIES = 2,
	LOOK_MS = 200,
	SOCKETS = ARES_GETSOCK_MAXNUM - 1, /* the bit of the last would be a sign */
};

struct name {
	char name[RESOLVER_NAME];
	struct ip_addr address[RESOLVER_ADDRESSES];
	unsigned n;
	int64_t due_s;
	bool failing;
};

struct resolver {
	pthread_t thread;
	atomic_bool stop;     /* set under the lock */
	pthread_mutex_t lock; /* over what follows */
	pthread_cond_t wake;
	struct name names[RESOLVER_NAMES];
	unsigned n;
	bool changed, started;
	ares_channel channel; /* the thread's */
};

struct answer {
	struct ip_addr address[RESOLVER_ADDRESSES];
	unsigned n;
	int64_t ttl_s;
	int status;
	bool done;
};

static int64_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void take_node(struct answer *a, const struct ares_addrinfo_node *n)
{
	struct ip_addr *to = &a->address[a->n];

	if (a->n == RESOLVER_ADDRESSES || (n->ai_family != AF_INET && n->ai_family != AF_INET6))
		return;
	*to = (struct ip_addr){.family = n->ai_family == AF_INET ? 4 : 6};
	if (n->ai_family == AF_INET)
		memcpy(to->byte, &((const struct sockaddr_in *)n->ai_addr)->sin_addr, 4);
	else
		memcpy(to->byte, &((const struct sockaddr_in6 *)n->ai_addr)->sin6_addr, 16);
	a->n++;
	if (n->ai_ttl < a->ttl_s)
		a->ttl_s = n->ai_ttl;
}

static void answered(void *arg, int status, int timeouts, struct ares_addrinfo *result)
{
	struct answer *a = arg;

	a->status = status;
	a->done = true;
	for (const struct ares_addrinfo_node *n = result != NULL ? result->nodes : NULL; n != NULL;
	     n = n->ai_next)
		take_node(a, n);
	if (result != NULL)
		ares_freeaddrinfo(result);
}

static int by_bytes(const void *a, const void *b)
{
	const struct ip_addr *x = a, *y = b;

	return x->family != y->family ? x->family - y->family : memcmp(x->byte, y->byte, 16);
}

/* By poll(): a process with many files has descriptors that an fd_set cannot hold. */
static void wait_a_little(ares_channel channel)
{
	ares_socket_t s[SOCKETS];
	struct pollfd p[SOCKETS];
	struct timeval most = {.tv_usec = LOOK_MS * 1000}, left;
	int bits = ares_getsock(channel, s, SOCKETS);
	nfds_t n = 0;

	for (int i = 0; i < SOCKETS; i++) {
		short events = (short)((ARES_GETSOCK_READABLE(bits, i) ? POLLIN : 0) |
				       (ARES_GETSOCK_WRITABLE(bits, i) ? POLLOUT : 0));
		if (events != 0)
			p[n++] = (struct pollfd){.fd = s[i], .events = events};
	}
	const struct timeval *t = ares_timeout(channel, &most, &left);
	poll(p, n, (int)(t->tv_sec * 1000 + (t->tv_usec + 999) / 1000));
	for (nfds_t i = 0; i < n; i++) {
		bool in = (p[i].revents & ~POLLOUT) != 0, out = (p[i].revents & POLLOUT) != 0;
		ares_process_fd(channel, in ? p[i].fd : ARES_SOCKET_BAD,
				out ? p[i].fd : ARES_SOCKET_BAD);
	}
	ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* time-outs */
}

/* Waits for the answer, at most TRIES time-outs a server, or for resolver_close(). */
static void ask(struct resolver *r, const char *name, struct answer *a)
{
	const struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC,
						  .ai_flags = ARES_AI_NOSORT};

	*a = (struct answer){.ttl_s = RESOLVER_MOST_S};
	ares_getaddrinfo(r->channel, name, NULL, &hints, answered, a);
	while (!a->done) {
		wait_a_little(r->channel);
		if (atomic_load(&r->stop))
			ares_cancel(r->channel); /* answers at once */
	}
	/* the order of an answer changes from one to the next, and says nothing */
	qsort(a->address, a->n, sizeof(a->address[0]), by_bytes);
	if (a->ttl_s < RESOLVER_LEAST_S)
		a->ttl_s = RESOLVER_LEAST_S;
}

static struct name *find(struct resolver *r, const char *name)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (strcmp(r->names[i].name, name) == 0)
			return &r->names[i];
	}
	return NULL;
}

/* Under the lock. */
static void learn(struct resolver *r, const char *name, const struct answer *a)
{
	struct name *n = find(r, name);

	if (n == NULL)
		return; /* reloaded meanwhile */
	if (a->status != ARES_SUCCESS || a->n == 0) {
		if (!n->failing)
			log_warning("relay", "next hop %s: %s; %u addresses of before stay", name,
				    ares_strerror(a->status), n->n);
		n->failing = true;
		n->due_s = now_s() + RESOLVER_RETRY_S;
		return;
	}
	if (n->failing || n->n != a->n ||
	    memcmp(n->address, a->address, a->n * sizeof(a->address[0])) != 0) {
		log_info("relay", "next hop %s: %u addresses", name, a->n);
		memcpy(n->address, a->address, sizeof(n->address));
		n->n = a->n;
		r->changed = true;
	}
	n->failing = false;
	n->due_s = now_s() + a->ttl_s;
}

/* The one that has waited longest, so that names whose servers are silent hold up no other for
 * ever. */
static const struct name *due(const struct resolver *r)
{
	const struct name *first = NULL;

	for (unsigned i = 0; i < r->n; i++) {
		if (first == NULL || r->names[i].due_s < first->due_s)
			first = &r->names[i];
	}
	return first != NULL && first->due_s <= now_s() ? first : NULL;
}

static void *run(void *arg)
{
	struct resolver *r = arg;
	struct answer a;

	pthread_mutex_lock(&r->lock);
	while (!atomic_load(&r->stop)) {
		char name[RESOLVER_NAME];
		const struct name *n = due(r);
		if (n == NULL) {
			struct timespec until;
			clock_gettime(CLOCK_REALTIME, &until);
			until.tv_sec++;
			pthread_cond_timedwait(&r->wake, &r->lock, &until);
			continue;
		}
		snprintf(name, sizeof(name), "%s", n->name);
		pthread_mutex_unlock(&r->lock);
		ask(r, name, &a);
		pthread_mutex_lock(&r->lock);
		if (!atomic_load(&r->stop))
			learn(r, name, &a);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int resolver_open(struct resolver **out, const char *servers, char *error, size_t error_bytes)
{
	struct ares_options options = {.timeout = TIMEOUT_MS, .tries = TRIES};
	struct resolver *r = calloc(1, sizeof(*r));

	snprintf(error, error_bytes, "out of memory");
	if (r == NULL)
		return -ENOMEM;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
	*out = r;
	int rc = ares_library_init(ARES_LIB_INIT_ALL);
	if (rc == ARES_SUCCESS)
		rc = ares_init_options(&r->channel, &options, ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES);
	if (rc == ARES_SUCCESS && servers[0] != '\0')
		rc = ares_set_servers_ports_csv(r->channel, servers);
	if (rc != ARES_SUCCESS) {
		snprintf(error, error_bytes, "name servers %s: %s", servers, ares_strerror(rc));
		return -EINVAL;
	}
	rc = pthread_create(&r->thread, NULL, run, r);
	r->started = rc == 0;
	return -rc;
}

void resolver_close(struct resolver *r)
{
	if (r == NULL)
		return;
	pthread_mutex_lock(&r->lock);
	atomic_store(&r->stop, true);
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	if (r->started)
		pthread_join(r->thread, NULL);
	if (r->channel != NULL)
		ares_destroy(r->channel);
	ares_library_cleanup();
	pthread_cond_destroy(&r->wake);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void resolver_names(struct resolver *r, const char (*names)[RESOLVER_NAME], unsigned n)
{
	struct name *fresh = calloc(RESOLVER_NAMES, sizeof(*fresh));

	if (fresh == NULL)
		return; /* the names of before stay */
	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < n && i < RESOLVER_NAMES; i++) {
		const struct name *known = find(r, names[i]);
		if (known != NULL)
			fresh[i] = *known;
		else
			snprintf(fresh[i].name, sizeof(fresh[i].name), "%s", names[i]);
	}
	memcpy(r->names, fresh, sizeof(r->names));
	r->n = n < RESOLVER_NAMES ? n : RESOLVER_NAMES;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	free(fresh);
}

unsigned resolver_addresses(struct resolver *r, const char *name, struct ip_addr *out,
			    unsigned most)
{
	pthread_mutex_lock(&r->lock);
	const struct name *n = find(r, name);
	unsigned count = n != NULL ? n->n : 0;
	if (count > most)
		count = most;
	if (count > 0)
		memcpy(out, n->address, count * sizeof(*out));
	pthread_mutex_unlock(&r->lock);
	return count;
}

bool resolver_changed(struct resolver *r)
{
	pthread_mutex_lock(&r->lock);
	bool changed = r->changed;
	r->changed = false;
	pthread_mutex_unlock(&r->lock);
	return changed;
}
