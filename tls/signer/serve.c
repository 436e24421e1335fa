/* serve.c - requests in, signatures out */
#include "tls/signer/serve.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	STACK_BYTES = 256 << 10,
	BACKLOG = 64,
	BATCH = 16,
	IN_BYTES = BATCH * SIGNER_REQUEST,
	OUT_BYTES = BATCH * SIGNER_ANSWER
};

struct connection {
	struct service *service;
	int fd;
	size_t end;
	uint8_t in[IN_BYTES], out[OUT_BYTES];
};

static int take_place(int fd, const struct sockaddr_un *at, uid_t owner)
{
	struct stat st;

	if (connect(fd, (const struct sockaddr *)at, sizeof(*at)) == 0)
		return -EADDRINUSE;
	if (lstat(at->sun_path, &st) == 0 && !S_ISSOCK(st.st_mode))
		return -EEXIST;
	unlink(at->sun_path);
	/* the mode before bind() is that of the file: there is no moment when others may */
	if (fchmod(fd, 0600) != 0 || bind(fd, (const struct sockaddr *)at, sizeof(*at)) != 0 ||
	    (owner != geteuid() && chown(at->sun_path, owner, (gid_t)-1) != 0) ||
	    listen(fd, BACKLOG) != 0)
		return -errno;
	return 0;
}

int serve_listen(const char *path, uid_t owner)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	int n = snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	int rc = n < (int)sizeof(at.sun_path) ? take_place(fd, &at, owner) : -ENAMETOOLONG;
	if (rc == 0)
		return fd;
	close(fd);
	return rc;
}

static size_t answer(const struct keys *k, const struct signer_ask *q, uint8_t *out)
{
	uint8_t signature[SIGNER_SIGNATURE];
	struct signer_answer a = {.tag = q->tag, .signature = signature};

	a.status = (uint16_t)keys_sign(k, q, signature, &a.signature_bytes);
	return signer_put_answer(out, &a);
}

static bool write_all(int fd, const uint8_t *p, size_t n)
{
	while (n > 0) {
		ssize_t wrote = send(fd, p, n, MSG_NOSIGNAL);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0)
			return false;
		p += wrote;
		n -= (size_t)wrote;
	}
	return true;
}

/* Answers what is whole; false: the peer says what is no request, or has gone. */
static bool work(struct connection *c)
{
	struct service *s = c->service;
	struct signer_ask q;
	size_t at = 0, out = 0;
	int used;

	pthread_mutex_lock(&s->lock);
	struct keys *k = keys_ref(s->keys);
	pthread_mutex_unlock(&s->lock);
	while ((used = signer_take_ask(c->in + at, c->end - at, &q)) > 0 &&
	       OUT_BYTES - out >= SIGNER_ANSWER) {
		out += answer(k, &q, c->out + out);
		at += (size_t)used;
	}
	keys_unref(k);
	c->end -= at;
	memmove(c->in, c->in + at, c->end);
	if (!write_all(c->fd, c->out, out))
		return false;
	if (used > 0)
		return work(c);
	if (used < 0)
		fprintf(stderr, "postern-signer: what a client says is no request\n");
	return used == 0;
}

static void *connection_main(void *arg)
{
	struct connection *c = arg;
	ssize_t n;

	do {
		n = recv(c->fd, c->in + c->end, IN_BYTES - c->end, 0);
		if (n > 0)
			c->end += (size_t)n;
	} while (n > 0 ? work(c) : n < 0 && errno == EINTR);
	close(c->fd);
	atomic_fetch_sub(&c->service->connections, 1);
	free(c);
	return NULL;
}

static bool may_ask(const struct service *s, int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) != 0)
		return false;
	for (unsigned i = 0; i < s->n_peers; i++)
		if (s->peer[i] == peer.uid)
			return true;
	fprintf(stderr, "postern-signer: user %u may not ask\n", (unsigned)peer.uid);
	return false;
}

void serve_accept(struct service *s, int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct connection *c = fd >= 0 ? calloc(1, sizeof(*c)) : NULL;
	pthread_attr_t small;
	pthread_t thread;

	if (c == NULL || !may_ask(s, fd) || atomic_load(&s->connections) >= SERVE_CONNECTIONS) {
		if (fd >= 0)
			close(fd);
		free(c);
		return;
	}
	c->service = s;
	c->fd = fd;
	atomic_fetch_add(&s->connections, 1);
	/* a stack is locked in memory, all of it */
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, STACK_BYTES);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	int rc = pthread_create(&thread, &small, connection_main, c);
	pthread_attr_destroy(&small);
	if (rc == 0)
		return;
	atomic_fetch_sub(&s->connections, 1);
	close(fd);
	free(c);
}

void serve_keys(struct service *s, struct keys *k)
{
	pthread_mutex_lock(&s->lock);
	struct keys *before = s->keys;
	s->keys = k;
	pthread_mutex_unlock(&s->lock);
	keys_unref(before);
}
