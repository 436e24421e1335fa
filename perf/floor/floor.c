/* floor.c - the server: sockets, TLS, and as much SMTP as a client of submission speaks */
#include "perf/floor/floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, READ_BYTES = 16384, LINE_BYTES = 1024, OUT_BYTES = 2048, FIRST_ROOM = 16384 };

struct session {
	int fd;
	uint32_t generation;
	SSL *ssl;
	bool handshaking, in_data, committing, leaving;
	size_t line_n, out_n, content_n, content_room;
	uint64_t chunk_left; /* BDAT */
	char line[LINE_BYTES], out[OUT_BYTES];
	char *content;
	char *rest; /* what came behind a content that is being committed; NULL: nothing */
	size_t rest_n;
};

struct floor {
	int listener, epoll, event;
	SSL_CTX *context; /* NULL: in clear */
	struct commit *commit;
	FILE *numbers;
	struct session **session; /* by descriptor */
	size_t sessions;
	uint64_t accepted;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
	stop = 1;
}

static void fail(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void end(struct floor *f, struct session *s)
{
	uint32_t generation = s->generation;
	int fd = s->fd;

	if (s->ssl != NULL)
		SSL_free(s->ssl);
	close(fd);
	free(s->content);
	free(s->rest);
	memset(s, 0, sizeof(*s));
	s->generation = generation + 1;
	s->fd = -1;
}

static void flush(struct floor *f, struct session *s)
{
	while (s->out_n > 0) {
		int n = s->ssl != NULL ? SSL_write(s->ssl, s->out, (int)s->out_n)
				       : (int)send(s->fd, s->out, s->out_n, MSG_NOSIGNAL);
		if (n <= 0)
			return;
		s->out_n -= (size_t)n;
		memmove(s->out, s->out + n, s->out_n);
	}
}

static void say(struct session *s, const char *text)
{
	size_t n = strlen(text);

	if (s->out_n + n + 2 > OUT_BYTES)
		return; /* of a client that does not read replies */
	memcpy(s->out + s->out_n, text, n);
	memcpy(s->out + s->out_n + n, "\r\n", 2);
	s->out_n += n + 2;
}

static void note_number(struct floor *f, const struct session *s)
{
	static const char name[] = "\r\nX-Bench-Number: ";
	const char *at = f->numbers != NULL
				 ? memmem(s->content, s->content_n, name, sizeof(name) - 1)
				 : NULL;

	if (at == NULL)
		return;
	at += sizeof(name) - 1;
	const char *to = memchr(at, '\r', s->content_n - (size_t)(at - s->content));
	if (to != NULL)
		fprintf(f->numbers, "%.*s\n", (int)(to - at), at);
}

static void accepted(struct floor *f, struct session *s)
{
	char text[64];

	snprintf(text, sizeof(text), "250 2.0.0 kept as %llx", (unsigned long long)++f->accepted);
	say(s, text);
}

static void content_whole(struct floor *f, struct session *s)
{
	note_number(f, s);
	s->in_data = false;
	if (f->commit == NULL) {
		accepted(f, s);
	} else {
		struct commit_item *i = malloc(sizeof(*i));
		if (i == NULL)
			fail("memory");
		i->session = (uint64_t)s->generation << 32 | (uint32_t)s->fd;
		i->bytes = s->content;
		i->n = s->content_n;
		s->content = NULL;
		s->content_room = 0;
		s->committing = true;
		commit_push(f->commit, i);
	}
	s->content_n = 0;
}

static void command(struct floor *f, struct session *s)
{
	const char *l = s->line;

	if (strncasecmp(l, "EHLO", 4) == 0) {
		say(s, "250-floor.example.net");
		say(s, "250-PIPELINING");
		say(s, "250-8BITMIME");
		say(s, "250-CHUNKING");
		say(s, f->context != NULL ? "250 AUTH PLAIN" : "250 SIZE");
	} else if (strncasecmp(l, "AUTH", 4) == 0) {
		say(s, "235 2.7.0 welcome");
	} else if (strncasecmp(l, "DATA", 4) == 0) {
		say(s, "354 go on");
		s->in_data = true;
	} else if (strncasecmp(l, "BDAT", 4) == 0) {
		s->chunk_left = strtoull(l + 5, NULL, 10);
		s->in_data = true;
	} else if (strncasecmp(l, "QUIT", 4) == 0) {
		say(s, "221 2.0.0 bye");
		s->leaving = true;
	} else {
		say(s, "250 2.0.0 ok");
	}
}

static void keep(struct session *s, const char *p, size_t n)
{
	if (s->content_n + n > s->content_room) {
		size_t room = s->content_room > 0 ? s->content_room : FIRST_ROOM;
		while (room < s->content_n + n)
			room *= 2;
		s->content = realloc(s->content, room);
		if (s->content == NULL)
			fail("memory");
		s->content_room = room;
	}
	memcpy(s->content + s->content_n, p, n);
	s->content_n += n;
}

/* Octets of a content; how many were its. */
static size_t content_in(struct floor *f, struct session *s, const char *p, size_t n)
{
	static const char mark[] = "\r\n.\r\n";

	if (s->chunk_left > 0) {
		n = n < s->chunk_left ? n : (size_t)s->chunk_left;
		keep(s, p, n);
		s->chunk_left -= n;
		if (s->chunk_left == 0)
			content_whole(f, s);
		return n;
	}
	/* the end may have begun in the piece before */
	size_t back = s->content_n < 4 ? s->content_n : 4, before = s->content_n;
	keep(s, p, n);
	const char *at = memmem(s->content + before - back, n + back, mark, 5);
	if (at == NULL)
		return n;
	size_t used = (size_t)(at - s->content) + 5 - before;
	s->content_n = (size_t)(at - s->content) + 2;
	content_whole(f, s);
	return used;
}

static void octets_in(struct floor *f, struct session *s, const char *p, size_t n)
{
	while (n > 0 && !s->committing) {
		if (s->in_data) {
			size_t used = content_in(f, s, p, n);
			p += used;
			n -= used;
			continue;
		}
		const char *lf = memchr(p, '\n', n);
		size_t take = lf != NULL ? (size_t)(lf - p) + 1 : n;
		size_t fits = LINE_BYTES - 1 - s->line_n < take ? LINE_BYTES - 1 - s->line_n : take;
		memcpy(s->line + s->line_n, p, fits);
		s->line_n += fits;
		p += take;
		n -= take;
		if (lf == NULL)
			return;
		s->line[s->line_n] = '\0';
		s->line_n = 0;
		command(f, s);
	}
	if (n == 0)
		return;
	s->rest = malloc(n);
	if (s->rest == NULL)
		fail("memory");
	memcpy(s->rest, p, n);
	s->rest_n = n;
}

static bool handshake(struct floor *f, struct session *s)
{
	ERR_clear_error();
	int rc = SSL_accept(s->ssl);

	if (rc == 1) {
		s->handshaking = false;
		say(s, "220 floor.example.net");
		flush(f, s);
		return true;
	}
	int why = SSL_get_error(s->ssl, rc);
	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		end(f, s);
	return false;
}

/* A client that waits for its 250 is not read: what it sent on is still in the socket. */
static void serve(struct floor *f, struct session *s)
{
	static char buffer[READ_BYTES];

	if (s->handshaking && !handshake(f, s))
		return;
	flush(f, s);
	while (!s->committing && !s->leaving) {
		ERR_clear_error();
		int n = s->ssl != NULL ? SSL_read(s->ssl, buffer, sizeof(buffer))
				       : (int)recv(s->fd, buffer, sizeof(buffer), 0);
		if (n <= 0) {
			bool wait = s->ssl != NULL ? SSL_get_error(s->ssl, n) == SSL_ERROR_WANT_READ
						   : n < 0 && errno == EAGAIN;
			if (!wait) {
				end(f, s);
				return;
			}
			break;
		}
		octets_in(f, s, buffer, (size_t)n);
		flush(f, s);
	}
	if (s->leaving) {
		if (s->ssl != NULL)
			SSL_shutdown(s->ssl);
		end(f, s);
	}
}

static struct session *session_at(struct floor *f, int fd)
{
	if ((size_t)fd >= f->sessions) {
		size_t room = f->sessions * 2 > (size_t)fd ? f->sessions * 2 : (size_t)fd + 1024;
		f->session = reallocarray(f->session, room, sizeof(*f->session));
		if (f->session == NULL)
			fail("memory");
		memset(f->session + f->sessions, 0, (room - f->sessions) * sizeof(*f->session));
		f->sessions = room;
	}
	if (f->session[fd] == NULL)
		f->session[fd] = calloc(1, sizeof(struct session));
	if (f->session[fd] == NULL)
		fail("memory");
	return f->session[fd];
}

static void take(struct floor *f)
{
	int fd, on = 1;

	while ((fd = accept4(f->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct session *s = session_at(f, fd);
		struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
					 .data.u64 = (uint64_t)s->generation << 32 | (uint32_t)fd};
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		s->fd = fd;
		if (f->context != NULL) {
			s->ssl = SSL_new(f->context);
			if (s->ssl == NULL || SSL_set_fd(s->ssl, fd) != 1)
				fail("TLS");
			s->handshaking = true;
		} else {
			say(s, "220 floor.example.net");
		}
		if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
			fail("epoll");
	}
}

static struct session *session_of(struct floor *f, uint64_t key)
{
	struct session *s = f->session[(uint32_t)key];

	return s->fd >= 0 && s->generation == key >> 32 ? s : NULL;
}

static void rest_in(struct floor *f, struct session *s)
{
	char *rest = s->rest;

	if (rest == NULL)
		return;
	s->rest = NULL;
	octets_in(f, s, rest, s->rest_n);
	free(rest);
}

static void committed(struct floor *f)
{
	uint64_t n;
	struct commit_item *i = read(f->event, &n, sizeof(n)) > 0 ? commit_pop(f->commit) : NULL;

	while (i != NULL) {
		struct commit_item *next = i->next;
		struct session *s = session_of(f, i->session);
		if (s != NULL) {
			s->committing = false;
			accepted(f, s);
			rest_in(f, s);
			serve(f, s);
		}
		free(i->bytes);
		free(i);
		i = next;
	}
}

static SSL_CTX *make_context(const char *chain, const char *key)
{
	SSL_CTX *x = SSL_CTX_new(TLS_server_method());

	if (x == NULL || SSL_CTX_use_certificate_chain_file(x, chain) != 1 ||
	    SSL_CTX_use_PrivateKey_file(x, key, SSL_FILETYPE_PEM) != 1) {
		fprintf(stderr, "floor: %s, %s: not a certificate and its key\n", chain, key);
		exit(1);
	}
	SSL_CTX_set_mode(x, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_options(x, SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_min_proto_version(x, TLS1_2_VERSION);
	SSL_CTX_set1_groups_list(x, "X25519:P-256");
	SSL_CTX_set_num_tickets(x, 1);
	return x;
}

static int listen_at(const char *address, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET, address, &a.sin_addr) != 1)
		fail(address);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4096) < 0)
		fail(address);
	return fd;
}

static void loop(struct floor *f)
{
	struct epoll_event events[EVENTS];

	while (!stop) {
		int n = epoll_wait(f->epoll, events, EVENTS, 200);
		for (int i = 0; i < n; i++) {
			uint64_t key = events[i].data.u64;
			if (key == UINT64_MAX) {
				take(f);
			} else if (key == UINT64_MAX - 1) {
				committed(f);
			} else {
				struct session *s = session_of(f, key);
				if (s != NULL)
					serve(f, s);
			}
		}
	}
}

static int usage(void)
{
	fprintf(stderr, "usage: floor ADDRESS PORT [--tls CHAIN KEY] [--commit FILE] "
			"[--numbers FILE]\n");
	return 64;
}

int main(int argc, char **argv)
{
	static struct floor f;
	const char *file = NULL;
	struct rlimit files;

	if (argc < 3)
		return usage();
	for (int i = 3; i < argc; i++) {
		if (strcmp(argv[i], "--tls") == 0 && i + 2 < argc) {
			f.context = make_context(argv[i + 1], argv[i + 2]);
			i += 2;
		} else if (strcmp(argv[i], "--commit") == 0 && i + 1 < argc) {
			file = argv[++i];
		} else if (strcmp(argv[i], "--numbers") == 0 && i + 1 < argc) {
			f.numbers = fopen(argv[++i], "we");
			if (f.numbers == NULL)
				fail(argv[i]);
		} else {
			return usage();
		}
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	signal(SIGPIPE, SIG_IGN);
	f.epoll = epoll_create1(EPOLL_CLOEXEC);
	f.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	f.listener = listen_at(argv[1], argv[2]);
	if (file != NULL)
		f.commit = commit_open(file, f.event);
	struct epoll_event a = {.events = EPOLLIN, .data.u64 = UINT64_MAX},
			   b = {.events = EPOLLIN, .data.u64 = UINT64_MAX - 1};
	if (f.epoll < 0 || f.event < 0 || epoll_ctl(f.epoll, EPOLL_CTL_ADD, f.listener, &a) < 0 ||
	    epoll_ctl(f.epoll, EPOLL_CTL_ADD, f.event, &b) < 0)
		fail("epoll");
	printf("ready\n");
	fflush(stdout);
	loop(&f);
	if (f.numbers != NULL && fclose(f.numbers) != 0)
		fail("numbers");
	return 0;
}
