/* server.c - the control socket, one poll() over all clients */
#include "control/server.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct client {
	int fd;    /* -1: free */
	uid_t uid; /* whose process it is */
	char *request;
	size_t request_bytes;
	char *reply; /* malloc'd; while there is one, no further request is read */
	size_t reply_bytes, reply_sent;
	int64_t heard_ms;
};

struct server {
	int fd;
	struct sockaddr_un address;
	dev_t device; /* of the socket file: another one's is not unlinked */
	ino_t inode;
	struct stats *stats;
	struct client client[SERVER_CLIENTS];
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool somebody_answers(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool answered =
		fd >= 0 && (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
			    errno == EAGAIN);

	if (fd >= 0)
		close(fd);
	return answered;
}

/* What is in the way is removed only when it is a socket without a listener. */
static int clear_stale(const struct sockaddr_un *address)
{
	struct stat st;

	if (lstat(address->sun_path, &st) != 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	if (somebody_answers(address))
		return -EADDRINUSE;
	return unlink(address->sun_path) == 0 || errno == ENOENT ? 0 : -errno;
}

static const char *explain(int code)
{
	switch (code) {
	case -EADDRINUSE:
		return "another instance answers there; stop it or choose another control.socket";
	case -EEXIST:
		return "a file that is no socket is in the way; remove it";
	default:
		return strerror(-code);
	}
}

static int bind_socket(struct server *s)
{
	struct stat st;
	int code = clear_stale(&s->address);

	if (code != 0)
		return code;
	s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* The mode before bind() is the mode of the file: there is no moment when it is open
	 * to others, and the umask of other threads stays as it is. */
	if (s->fd < 0 || fchmod(s->fd, 0600) != 0 ||
	    bind(s->fd, (const struct sockaddr *)&s->address, sizeof(s->address)) != 0 ||
	    listen(s->fd, SERVER_CLIENTS) != 0 || lstat(s->address.sun_path, &st) != 0)
		return -errno;
	s->device = st.st_dev;
	s->inode = st.st_ino;
	return 0;
}

int server_open(struct server **out, const char *socket_path, struct stats *stats, char *error,
		size_t error_bytes)
{
	struct server *s = calloc(1, sizeof(*s));

	*out = NULL;
	snprintf(error, error_bytes, "control socket: out of memory");
	if (s == NULL)
		return -ENOMEM;
	s->stats = stats;
	s->fd = -1;
	for (unsigned i = 0; i < SERVER_CLIENTS; i++)
		s->client[i].fd = -1;
	s->address.sun_family = AF_UNIX;
	int n = snprintf(s->address.sun_path, sizeof(s->address.sun_path), "%s", socket_path);
	int code = n < (int)sizeof(s->address.sun_path) ? bind_socket(s) : -ENAMETOOLONG;
	if (code != 0) {
		snprintf(error, error_bytes, "control socket %s: %s", socket_path, explain(code));
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return code;
	}
	*out = s;
	return 0;
}

static void close_client(struct client *c)
{
	close(c->fd);
	free(c->request);
	free(c->reply);
	*c = (struct client){.fd = -1};
}

void server_close(struct server *s)
{
	struct stat st;

	for (unsigned i = 0; i < SERVER_CLIENTS; i++)
		if (s->client[i].fd >= 0)
			close_client(&s->client[i]);
	if (lstat(s->address.sun_path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode)
		unlink(s->address.sun_path);
	close(s->fd);
	free(s);
}

static json_t *answer(struct server *s, uid_t uid, const char *line, size_t bytes)
{
	char why[STATS_ERROR_BYTES] = "the request is not {\"command\": NAME, ...}";
	json_t *request = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(request, "command"));
	/* the kernel's word, whatever the request says */
	json_object_set_new(request, "uid", json_integer((json_int_t)uid));
	json_t *result = name != NULL ? stats_run(s->stats, name, request, why, sizeof(why)) : NULL;

	json_decref(request);
	if (result != NULL)
		return json_pack("{s:b, s:o}", "ok", 1, "result", result);
	return json_pack("{s:b, s:s}", "ok", 0, "error", why);
}

/* Takes one line off the request buffer and puts its answer into the reply. */
static void serve_line(struct server *s, struct client *c)
{
	char *end = memchr(c->request, '\n', c->request_bytes);

	if (c->reply != NULL || end == NULL)
		return;
	size_t n = (size_t)(end - c->request);
	json_t *reply = answer(s, c->uid, c->request, n);
	char *text = reply != NULL ? json_dumps(reply, JSON_COMPACT) : NULL;
	json_decref(reply);
	if (text == NULL)
		text = strdup("{\"ok\":false,\"error\":\"out of memory\"}");
	c->request_bytes -= n + 1;
	memmove(c->request, end + 1, c->request_bytes);
	c->reply_bytes = text != NULL ? strlen(text) + 1 : 0;
	c->reply_sent = 0;
	c->reply = text;
	if (text != NULL)
		text[c->reply_bytes - 1] = '\n'; /* in place of the NUL */
}

/* false: the client is done with, or has asked too much */
static bool read_client(struct client *c)
{
	if (c->request_bytes == SERVER_REQUEST_BYTES)
		return false;
	ssize_t n = recv(c->fd, c->request + c->request_bytes,
			 SERVER_REQUEST_BYTES - c->request_bytes, 0);
	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	c->request_bytes += (size_t)n;
	return true;
}

static bool write_client(struct client *c)
{
	ssize_t n =
		send(c->fd, c->reply + c->reply_sent, c->reply_bytes - c->reply_sent, MSG_NOSIGNAL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	c->reply_sent += (size_t)n;
	if (c->reply_sent == c->reply_bytes) {
		free(c->reply);
		c->reply = NULL;
	}
	return true;
}

static void serve_client(struct server *s, struct client *c, short events, int64_t now)
{
	bool good = true;

	if (events != 0)
		c->heard_ms = now;
	if (c->reply != NULL && (events & (POLLOUT | POLLERR | POLLHUP)) != 0)
		good = write_client(c);
	else if (c->reply == NULL && (events & (POLLIN | POLLERR | POLLHUP)) != 0)
		good = read_client(c);
	if (good)
		serve_line(s, c);
	if (good && c->reply != NULL)
		good = write_client(c);
	if (!good || now - c->heard_ms > SERVER_SILENCE_MS)
		close_client(c);
}

static void accept_client(struct server *s, int64_t now)
{
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *c = NULL;

	for (unsigned i = 0; fd >= 0 && i < SERVER_CLIENTS && c == NULL; i++)
		if (s->client[i].fd < 0)
			c = &s->client[i];
	struct ucred peer;
	socklen_t n = sizeof(peer);
	bool known = fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0;
	char *request = c != NULL && known ? malloc(SERVER_REQUEST_BYTES) : NULL;
	if (request != NULL)
		*c = (struct client){
			.fd = fd, .uid = peer.uid, .request = request, .heard_ms = now};
	else if (fd >= 0)
		close(fd);
}

void server_poll(struct server *s, int timeout_ms)
{
	struct pollfd p[SERVER_CLIENTS + 1] = {{.fd = s->fd, .events = POLLIN}};

	for (unsigned i = 0; i < SERVER_CLIENTS; i++) {
		const struct client *c = &s->client[i];
		p[i + 1].fd = c->fd;
		p[i + 1].events = c->reply != NULL ? POLLOUT : POLLIN;
		/* a further request is waiting already */
		if (c->fd >= 0 && c->reply == NULL && c->request_bytes > 0 &&
		    memchr(c->request, '\n', c->request_bytes) != NULL)
			timeout_ms = 0;
	}
	if (poll(p, SERVER_CLIENTS + 1, timeout_ms) < 0)
		return;
	int64_t now = now_ms();
	for (unsigned i = 0; i < SERVER_CLIENTS; i++)
		if (s->client[i].fd >= 0 && s->client[i].fd == p[i + 1].fd)
			serve_client(s, &s->client[i], p[i + 1].revents, now);
	if ((p[0].revents & POLLIN) != 0)
		accept_client(s, now);
}
