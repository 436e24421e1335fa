/*
 * shim.c - a bad network between two interfaces: delay, rate, queue, and loss, reordering and
 * duplication decided by (seed, direction, ordinal of the data segment).
 *
 *	shim IFACE IFACE
 *
 * A line on standard input begins a run and is answered by "ok":
 *	SEED DELAY_US RATE_KBIT QUEUE_BYTES DROP_PPM BURST DUPLICATE_PPM REORDER_PPM REORDER_US
 * DELAY is one way; RATE 0: no limit; BURST: a drop takes so many data segments in a row.  The
 * same seed meets the same segments of any pair of stacks, so that two pairs can be compared.
 * Segments without data and everything that is not TCP are only delayed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 8192, FRAME_BYTES = 2048, SPIN_US = 300 };

struct run {
	uint64_t seed, delay_us, rate_kbit, queue_bytes;
	uint64_t drop_ppm, burst, duplicate_ppm, reorder_ppm, reorder_us;
};

struct frame {
	uint64_t due_us, order;
	uint16_t bytes;
	uint8_t data[FRAME_BYTES];
};

/* One direction: frames wait in a heap by due time. */
struct way {
	int to;
	struct frame *heap[FRAMES];
	unsigned n;
	uint64_t ordinal;  /* data segments so far */
	uint64_t dropping; /* data segments a burst still takes */
	uint64_t free_us;  /* when the link has sent what is queued */
	uint64_t order;
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* A number below a million for the nth decision of a kind; splitmix64. */
static uint64_t dice(const struct run *r, unsigned way, uint64_t ordinal, unsigned kind)
{
	uint64_t x = r->seed * 0x9e3779b97f4a7c15ULL + way * 0xbf58476d1ce4e5b9ULL +
		     ordinal * 0x94d049bb133111ebULL + kind * 0xd6e8feb86659fd93ULL;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebULL;
	return (x ^ x >> 31) % 1000000;
}

static bool has_tcp_data(const uint8_t *f, size_t n)
{
	size_t ip = ETH_HLEN, tcp, end;

	if (n < ip + 40)
		return false;
	if (f[12] == 0x08 && f[13] == 0x00 && f[ip + 9] == 6) {
		tcp = ip + (size_t)(f[ip] & 15) * 4;
		end = ip + (size_t)(f[ip + 2] << 8 | f[ip + 3]);
	} else if (f[12] == 0x86 && f[13] == 0xdd && f[ip + 6] == 6) {
		tcp = ip + 40;
		end = tcp + (size_t)(f[ip + 4] << 8 | f[ip + 5]);
	} else {
		return false;
	}
	return tcp + 20 <= n && tcp + (size_t)(f[tcp + 12] >> 4) * 4 < end;
}

static bool earlier(const struct frame *a, const struct frame *b)
{
	return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void heap_push(struct way *w, struct frame *f)
{
	unsigned i = w->n++;

	for (; i > 0 && earlier(f, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
		w->heap[i] = w->heap[(i - 1) / 2];
	w->heap[i] = f;
}

static struct frame *heap_pop(struct way *w)
{
	struct frame *first = w->heap[0], *last = w->heap[--w->n];
	unsigned i = 0, child;

	while ((child = 2 * i + 1) < w->n) {
		if (child + 1 < w->n && earlier(w->heap[child + 1], w->heap[child]))
			child++;
		if (!earlier(w->heap[child], last))
			break;
		w->heap[i] = w->heap[child];
		i = child;
	}
	w->heap[i] = last;
	return first;
}

static void enqueue(struct way *w, const uint8_t *data, size_t n, uint64_t due_us)
{
	struct frame *f = w->n < FRAMES ? malloc(sizeof(*f)) : NULL;

	if (f == NULL)
		return;
	f->due_us = due_us;
	f->order = w->order++;
	f->bytes = (uint16_t)n;
	memcpy(f->data, data, n);
	heap_push(w, f);
}

/* When the frame leaves the bottleneck, or 0: the queue is full. */
static uint64_t through_link(const struct run *r, struct way *w, size_t n, uint64_t now)
{
	if (r->rate_kbit == 0)
		return now;
	if (w->free_us < now)
		w->free_us = now;
	if ((w->free_us - now) * r->rate_kbit / 8000 > r->queue_bytes)
		return 0;
	w->free_us += n * 8000 / r->rate_kbit;
	return w->free_us;
}

static void forward(const struct run *r, struct way *w, unsigned way, const uint8_t *data, size_t n)
{
	uint64_t now = now_us(), extra = 0;
	bool twice = false;

	if (has_tcp_data(data, n)) {
		uint64_t k = w->ordinal++;
		if (w->dropping > 0) {
			w->dropping--;
			return;
		}
		if (dice(r, way, k, 0) < r->drop_ppm) {
			w->dropping = r->burst > 0 ? r->burst - 1 : 0;
			return;
		}
		twice = dice(r, way, k, 1) < r->duplicate_ppm;
		if (dice(r, way, k, 2) < r->reorder_ppm)
			extra = r->reorder_us;
	}
	uint64_t out = through_link(r, w, n, now);
	if (out == 0)
		return;
	enqueue(w, data, n, out + r->delay_us + extra);
	if (twice)
		enqueue(w, data, n, out + r->delay_us + extra);
}

static void release(struct way *w, uint64_t now)
{
	while (w->n > 0 && w->heap[0]->due_us <= now) {
		struct frame *f = heap_pop(w);
		/* a full socket is a loss that nobody decided; it does not happen at these rates */
		if (send(w->to, f->data, f->bytes, MSG_DONTWAIT) < 0 && errno != EAGAIN)
			perror("send");
		free(f);
	}
}

static int open_interface(const char *name)
{
	struct sockaddr_ll a = {.sll_family = AF_PACKET,
				.sll_protocol = htons(ETH_P_ALL),
				.sll_ifindex = (int)if_nametoindex(name)};
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL)), on = 1, room = 8 << 20;
	struct packet_mreq m = {.mr_ifindex = a.sll_ifindex, .mr_type = PACKET_MR_PROMISC};

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &m, sizeof(m)) < 0 ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) < 0) {
		perror(name);
		exit(1);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	return fd;
}

static bool begin_run(struct run *r, struct way ways[2])
{
	char line[256];
	ssize_t n = read(0, line, sizeof(line) - 1);

	if (n <= 0)
		return false;
	line[n] = '\0';
	unsigned long v[9];
	if (sscanf(line, "%lu %lu %lu %lu %lu %lu %lu %lu %lu", &v[0], &v[1], &v[2], &v[3], &v[4],
		   &v[5], &v[6], &v[7], &v[8]) != 9) {
		fprintf(stderr, "nine numbers are expected: %s", line);
		return false;
	}
	*r = (struct run){v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8]};
	for (unsigned i = 0; i < 2; i++) {
		while (ways[i].n > 0)
			free(heap_pop(&ways[i]));
		ways[i].ordinal = ways[i].dropping = ways[i].free_us = 0;
	}
	printf("ok\n");
	fflush(stdout);
	return true;
}

/* Sleeps while nothing is due soon, spins shortly before it is. */
static int wait_timeout(const struct way ways[2], uint64_t now)
{
	uint64_t due = UINT64_MAX;

	for (unsigned i = 0; i < 2; i++) {
		if (ways[i].n > 0 && ways[i].heap[0]->due_us < due)
			due = ways[i].heap[0]->due_us;
	}
	if (due == UINT64_MAX)
		return 100;
	if (due <= now + SPIN_US)
		return 0;
	return (int)((due - now - SPIN_US) / 1000);
}

int main(int argc, char **argv)
{
	static struct way ways[2];
	struct run r = {0};
	uint8_t data[FRAME_BYTES];

	if (argc != 3) {
		fprintf(stderr, "usage: shim IFACE IFACE\n");
		return 2;
	}
	int fd[2] = {open_interface(argv[1]), open_interface(argv[2])};
	ways[0].to = fd[1];
	ways[1].to = fd[0];
	for (;;) {
		struct pollfd p[3] = {{fd[0], POLLIN, 0}, {fd[1], POLLIN, 0}, {0, POLLIN, 0}};
		if (poll(p, 3, wait_timeout(ways, now_us())) < 0 && errno != EINTR)
			return 1;
		if (p[2].revents != 0 && !begin_run(&r, ways))
			return 0;
		for (unsigned i = 0; i < 2; i++) {
			ssize_t n;
			for (unsigned k = 0;
			     k < 64 && (n = recv(fd[i], data, sizeof(data), MSG_DONTWAIT)) > 0; k++)
				forward(&r, &ways[i], i, data, (size_t)n);
			release(&ways[i], now_us());
		}
	}
}
