/* signer.c - a thread's connection to postern-signer and the handshakes that wait for it */
#include "tls/signer.h"

#include "base/list.h"
#include "base/log.h"
#include "tls/internal.h"

#include <errno.h>
#include <openssl/async.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_MS = 100, IN_BYTES = 16 * SIGNER_ANSWER, OUT_BYTES = SIGNER_SLOTS * SIGNER_REQUEST };

enum slot_state { SLOT_FREE, SLOT_WAITING, SLOT_SIGNED, SLOT_FAILED };

struct slot {
	struct list link; /* in waiting (oldest first), ready or unused */
	struct tls_session *session;
	int64_t until_ms;
	uint32_t generation; /* of the tag: an answer to somebody before finds nobody */
	enum slot_state state;
	size_t n;
	uint8_t signature[SIGNER_SIGNATURE];
};

struct signer {
	struct sockaddr_un address;
	int fd;             /* -1: not connected */
	bool stopped, told; /* told: the log knows that it is away */
	int64_t tried_ms;
	struct list waiting, ready, unused;
	unsigned n_waiting;
	size_t in_end, out_start, out_end;
	uint8_t in[IN_BYTES], out[OUT_BYTES];
	struct slot slot[SIGNER_SLOTS];
};

/* What the provider's functions, which OpenSSL calls without an argument of ours, work for. */
static _Thread_local struct signer *entered;
static _Thread_local struct tls_session *entered_session;

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct signer *signer_create(const char *path)
{
	struct signer *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return NULL;
	s->fd = -1;
	s->tried_ms = -RETRY_MS;
	s->address.sun_family = AF_UNIX;
	snprintf(s->address.sun_path, sizeof(s->address.sun_path), "%s", path);
	list_init(&s->waiting);
	list_init(&s->ready);
	list_init(&s->unused);
	for (unsigned i = 0; i < SIGNER_SLOTS; i++)
		list_push_back(&s->unused, &s->slot[i].link);
	return s;
}

void signer_destroy(struct signer *s)
{
	if (s == NULL)
		return;
	if (s->fd >= 0)
		close(s->fd);
	free(s);
}

static void finish(struct signer *s, struct slot *at, enum slot_state how)
{
	at->state = how;
	list_del(&at->link);
	list_push_back(&s->ready, &at->link);
	s->n_waiting--;
}

static void lose(struct signer *s, const char *why)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->in_end = s->out_start = s->out_end = 0;
	list_each_safe (it, &s->waiting)
		finish(s, container_of(it, struct slot, link), SLOT_FAILED);
	if (!s->told)
		log_warning("tls",
			    "tls.signer.socket %s: %s; full handshakes fail until "
			    "postern-signer is there",
			    s->address.sun_path, why);
	s->told = true;
}

/* A connection, a new one if need be.  Connecting to a UNIX socket does not wait. */
static bool connected(struct signer *s)
{
	int64_t now = now_ms();
	uint8_t probe;

	/* one that has been restarted meanwhile should cost no handshake */
	if (s->fd >= 0 && s->n_waiting == 0 && recv(s->fd, &probe, 1, MSG_PEEK) == 0)
		lose(s, "it has closed the connection");
	if (s->fd >= 0)
		return true;
	if (s->stopped || now - s->tried_ms < RETRY_MS)
		return false;
	s->tried_ms = now;
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0 ||
	    connect(s->fd, (const struct sockaddr *)&s->address, sizeof(s->address)) < 0) {
		lose(s, strerror(errno));
		return false;
	}
	if (s->told)
		log_info("tls", "postern-signer is there again");
	s->told = false;
	return true;
}

static struct slot *begin(struct signer *s, const struct signer_ask *ask)
{
	struct signer_ask q = *ask;

	if (!connected(s) || list_empty(&s->unused))
		return NULL;
	if (s->out_start > 0 && OUT_BYTES - s->out_end < SIGNER_REQUEST) {
		memmove(s->out, s->out + s->out_start, s->out_end - s->out_start);
		s->out_end -= s->out_start;
		s->out_start = 0;
	}
	if (OUT_BYTES - s->out_end < SIGNER_REQUEST)
		return NULL;
	struct slot *at = container_of(s->unused.next, struct slot, link);
	at->state = SLOT_WAITING;
	at->session = entered_session;
	at->until_ms = now_ms() + SIGNER_PATIENCE_MS;
	list_del(&at->link);
	list_push_back(&s->waiting, &at->link);
	s->n_waiting++;
	q.tag = (uint64_t)++at->generation << 32 | (uint32_t)(at - s->slot);
	s->out_end += signer_put_ask(s->out + s->out_end, &q);
	return at;
}

bool signer_sign(const struct signer_ask *ask, uint8_t *signature, size_t *n)
{
	struct signer *s = entered;
	struct tls_session *session = entered_session;

	/* only a job can be paused */
	if (s == NULL || ASYNC_get_current_job() == NULL || ask->content_bytes > SIGNER_CONTENT)
		return false;
	struct slot *at = begin(s, ask);
	while (at != NULL && at->state == SLOT_WAITING)
		if (ASYNC_pause_job() != 1)
			break;
	bool good = at != NULL && at->state == SLOT_SIGNED && at->n <= *n;
	if (good) {
		memcpy(signature, at->signature, at->n);
		*n = at->n;
	}
	session->notes |= good ? NOTE_SIGNED : NOTE_SIGNER_FAILED;
	if (at == NULL)
		return false;
	if (at->state == SLOT_WAITING)
		s->n_waiting--;
	at->state = SLOT_FREE;
	at->generation++;
	list_del(&at->link);
	list_push_back(&s->unused, &at->link);
	return good;
}

void signer_enter(struct signer *s, struct tls_session *session)
{
	entered = s;
	entered_session = session;
}

void signer_leave(void)
{
	entered = NULL;
	entered_session = NULL;
}

static bool flush(struct signer *s)
{
	while (s->out_start < s->out_end) {
		ssize_t n =
			send(s->fd, s->out + s->out_start, s->out_end - s->out_start, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		s->out_start += (size_t)n;
	}
	s->out_start = s->out_end = 0;
	return true;
}

/* To whoever still waits for it. */
static void take(struct signer *s, const struct signer_answer *a)
{
	uint32_t index = (uint32_t)a->tag;

	if (index >= SIGNER_SLOTS)
		return;
	struct slot *at = &s->slot[index];
	if (at->state != SLOT_WAITING || at->generation != (uint32_t)(a->tag >> 32))
		return;
	at->n = a->signature_bytes;
	if (at->n > 0)
		memcpy(at->signature, a->signature, at->n);
	finish(s, at, a->status == SIGNER_OK ? SLOT_SIGNED : SLOT_FAILED);
}

/* How many answers are whole; -1: what came is none. */
static int take_all(struct signer *s)
{
	struct signer_answer a;
	size_t at = 0;
	int used, n = 0;

	while ((used = signer_take_answer(s->in + at, s->in_end - at, &a)) > 0) {
		take(s, &a);
		at += (size_t)used;
		n++;
	}
	s->in_end -= at;
	memmove(s->in, s->in + at, s->in_end);
	return used < 0 ? -1 : n;
}

static unsigned receive(struct signer *s)
{
	unsigned all = 0;

	for (;;) {
		ssize_t got = recv(s->fd, s->in + s->in_end, IN_BYTES - s->in_end, 0);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN)
			return all;
		if (got <= 0) {
			lose(s, got < 0 ? strerror(errno) : "it has closed the connection");
			return all + 1;
		}
		bool full = (size_t)got == IN_BYTES - s->in_end;
		s->in_end += (size_t)got;
		int n = take_all(s);
		if (n < 0) {
			lose(s, "what it says is no answer");
			return all + 1;
		}
		all += (unsigned)n;
		if (!full)
			return all;
	}
}

unsigned signer_poll(struct signer *s)
{
	unsigned n = 0;

	if (s->fd < 0)
		return 0;
	if (s->n_waiting == 0 && s->out_start == s->out_end)
		return 0;
	if (!flush(s)) {
		lose(s, strerror(errno));
		return 1;
	}
	n = receive(s);
	if (s->n_waiting == 0)
		return n;
	int64_t now = now_ms();
	list_each_safe (it, &s->waiting) {
		struct slot *at = container_of(it, struct slot, link);
		if (at->until_ms > now)
			break;
		finish(s, at, SLOT_FAILED);
		n++;
	}
	return n;
}

struct tls_session *signer_ready(struct signer *s)
{
	if (list_empty(&s->ready))
		return NULL;
	struct slot *at = container_of(s->ready.next, struct slot, link);
	/* its job takes the rest; it must not be named twice */
	list_del(&at->link);
	list_init(&at->link);
	return at->session;
}

void signer_stop(struct signer *s)
{
	s->stopped = s->told = true;
	lose(s, "stopped");
}

unsigned signer_waiting(const struct signer *s)
{
	return s->n_waiting;
}
