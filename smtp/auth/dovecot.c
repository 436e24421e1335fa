/* dovecot.c - passwords judged by Dovecot's auth socket: AUTH PLAIN with the response in it */
#include "smtp/auth/dovecot.h"

#include "base/base64.h"
#include "smtp/auth/auth.h"
#include "smtp/auth/identity.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	PLAIN_BYTES = AUTH_USER_BYTES + AUTH_PASSWORD_BYTES + 2,
	REQUEST_BYTES = 4 * PLAIN_BYTES / 3 + 1024,
};

struct link {
	const struct auth_backend *b;
	int fd; /* -1: not connected */
	uint32_t last_id;
	size_t bytes; /* read and not yet taken */
	char in[DOVECOT_LINE];
};

static void *open_link(const struct auth_backend *b)
{
	struct link *l = calloc(1, sizeof(*l));

	if (l != NULL)
		*l = (struct link){.b = b, .fd = -1};
	return l;
}

static void disconnect(struct link *l)
{
	if (l->fd >= 0)
		close(l->fd);
	l->fd = -1;
	l->bytes = 0;
}

static void close_link(void *link)
{
	struct link *l = link;

	disconnect(l);
	OPENSSL_cleanse(l->in, sizeof(l->in));
	free(l);
}

/* 0 when the socket is ready; -ETIMEDOUT. */
static int await(const struct link *l, short events, const struct backend_question *q)
{
	struct pollfd p = {.fd = l->fd, .events = events};
	uint32_t left;

	while ((left = backend_left_ms(q)) > 0) {
		int n = poll(&p, 1, (int)(left < BACKEND_SLICE_MS ? left : BACKEND_SLICE_MS));
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
	return -ETIMEDOUT;
}

static int send_all(const struct link *l, const char *text, size_t n,
		    const struct backend_question *q)
{
	while (n > 0) {
		ssize_t sent = send(l->fd, text, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (sent < 0) {
			int code = await(l, POLLOUT, q);
			if (code != 0)
				return code;
			continue;
		}
		text += sent;
		n -= (size_t)sent;
	}
	return 0;
}

/* The next line, in pieces; its text is good until l->in is read into again.  0 or -errno. */
static int next_line(struct link *l, const struct backend_question *q, char *line,
		     struct dovecot_line *out)
{
	char *end;

	while ((end = memchr(l->in, '\n', l->bytes)) == NULL) {
		if (l->bytes == sizeof(l->in))
			return -EPROTO;
		int code = await(l, POLLIN, q);
		if (code != 0)
			return code;
		ssize_t n = recv(l->fd, l->in + l->bytes, sizeof(l->in) - l->bytes, MSG_DONTWAIT);
		if (n == 0)
			return -ECONNRESET;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		l->bytes += n > 0 ? (size_t)n : 0;
	}
	size_t n = (size_t)(end - l->in);
	memcpy(line, l->in, n);
	l->bytes -= n + 1;
	memmove(l->in, end + 1, l->bytes);
	return dovecot_split(line, n, out) ? 0 : -EPROTO;
}

/* Dovecot takes one connection a process id: each of ours is a thread's, and says the thread's. */
static int greet(struct link *l, const struct backend_question *q)
{
	char text[64], line[DOVECOT_LINE];
	struct dovecot_line fields;
	struct dovecot_hello hello = {};
	enum dovecot_greeting g = DOVECOT_MORE;

	snprintf(text, sizeof(text), "VERSION\t1\t1\nCPID\t%d\n", (int)gettid());
	int code = send_all(l, text, strlen(text), q);
	while (code == 0 && g == DOVECOT_MORE) {
		code = next_line(l, q, line, &fields);
		if (code == 0)
			g = dovecot_greet(&hello, &fields);
	}
	return code == 0 && g == DOVECOT_BAD ? -EPROTO : code;
}

static int reconnect(struct link *l, const struct backend_question *q)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};

	snprintf(to.sun_path, sizeof(to.sun_path), "%.107s", l->b->url);
	l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (l->fd < 0)
		return -errno;
	/* of a UNIX socket at once, or EAGAIN where its backlog is full */
	if (connect(l->fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		return -errno;
	return greet(l, q);
}

/* The credentials as base64 of PLAIN; out: at least 4 * PLAIN_BYTES / 3 + 4. */
static void plain(const struct backend_question *q, char *out)
{
	uint8_t message[PLAIN_BYTES];
	size_t user = strlen(q->user), password = strlen(q->password);

	message[0] = '\0';
	memcpy(message + 1, q->user, user + 1);
	memcpy(message + 1 + user + 1, q->password, password);
	base64_encode(message, user + password + 2, out);
	OPENSSL_cleanse(message, sizeof(message));
}

static int exchange(struct link *l, const struct backend_question *q, struct identity_draft *d,
		    enum backend_answer *answer)
{
	char request[REQUEST_BYTES], line[DOVECOT_LINE], id[16], source[ADDR_TEXT_BYTES];
	struct dovecot_line fields;

	/* no-penalty: the brakes on guessing are ours, and its delays would pass for outages */
	snprintf(id, sizeof(id), "%u", ++l->last_id);
	int n = snprintf(request, sizeof(request),
			 "AUTH\t%s\tPLAIN\tservice=%s\tsecured\tno-penalty\trip=%s\tresp=", id,
			 l->b->service, addr_text(&q->source, source));
	plain(q, request + n);
	size_t bytes = strlen(request);
	request[bytes++] = '\n';
	int code = send_all(l, request, bytes, q);
	OPENSSL_cleanse(request, sizeof(request));
	do {
		if (code == 0)
			code = next_line(l, q, line, &fields);
	} while (code == 0 && !dovecot_answer(&fields, id, l->b, d, answer));
	return code;
}

static enum backend_answer failed(struct link *l, struct backend_question *q, int code,
				  bool connecting)
{
	disconnect(l);
	snprintf(q->why, sizeof(q->why), "%.100s: %s", l->b->url,
		 code == -EPROTO ? "not Dovecot's authentication protocol 1.x with PLAIN"
				 : strerror(-code));
	if (code == -EPROTO)
		return BACKEND_MALFORMED;
	return connecting ? BACKEND_UNREACHABLE : BACKEND_OUTAGE;
}

static enum backend_answer ask(void *link, struct backend_question *q, struct identity_draft *d)
{
	struct link *l = link;
	enum backend_answer answer = BACKEND_MALFORMED;
	bool kept = l->fd >= 0;
	int code = kept ? exchange(l, q, d, &answer) : -ENOTCONN;

	/* one that was kept may have been closed meanwhile */
	if (code != 0 && code != -ETIMEDOUT) {
		disconnect(l);
		code = reconnect(l, q);
		if (code != 0)
			return failed(l, q, code, true);
		code = exchange(l, q, d, &answer);
	}
	if (code != 0)
		return failed(l, q, code, false);
	if (answer == BACKEND_OUTAGE)
		snprintf(q->why, sizeof(q->why), "it says that it cannot tell now");
	return answer;
}

const struct auth_ops dovecot_ops = {
	.by_source = true, /* allow_nets */
	.open = open_link,
	.ask = ask,
	.close = close_link,
};
