/* schedule.c - which handshake is begun next.  Steps of handshakes that have begun go straight to
 * their thread; a first step waits here, one line for clients with a ticket of ours and one for
 * full handshakes.  In a line the sources (IPv6: /64) take turns, so that a flood waits for
 * itself; who has waited longest goes when there are too many or it is too late. */
#include "tls/internal.h"

#include <stdlib.h>

enum {
	SOURCES = 1024,
	IN_FLIGHT = 8, /* first steps of a worker at a thread: what bridges its nap */
	SIGNING = 128, /* waiting for signatures at a thread before full handshakes wait here */
	RESUMPTIONS_A_FULL = 2 /* when both wait */
};

struct source {
	struct list active; /* in line->active while sessions wait */
	struct list waiting;
};

struct line {
	struct list active;
	struct source source[SOURCES];
};

struct schedule {
	struct siphash_key key;
	struct line line[SCHEDULE_LINES];
	struct list by_age; /* all that wait, oldest first */
	unsigned waiting, turn;
	unsigned in_flight[MAX_THREADS];
};

struct schedule *schedule_create(struct shard *shard)
{
	struct schedule *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return NULL;
	q->key.k[0] = shard_random(shard);
	q->key.k[1] = shard_random(shard);
	list_init(&q->by_age);
	for (unsigned l = 0; l < SCHEDULE_LINES; l++) {
		list_init(&q->line[l].active);
		for (unsigned i = 0; i < SOURCES; i++) {
			list_init(&q->line[l].source[i].active);
			list_init(&q->line[l].source[i].waiting);
		}
	}
	return q;
}

void schedule_destroy(struct schedule *q)
{
	free(q);
}

uint64_t schedule_network(const struct schedule *q, const struct ip_addr *peer, unsigned octets4)
{
	return siphash(&q->key, peer->byte, peer->family == 6 ? 8 : octets4);
}

uint64_t schedule_name(const struct schedule *q, const uint8_t *name, size_t n)
{
	return siphash(&q->key, name, n);
}

unsigned schedule_waiting(const struct schedule *q)
{
	return q->waiting;
}

void schedule_remove(struct tls_session *s)
{
	struct schedule *q = s->worker->schedule;
	struct source *from = &q->line[s->line].source[s->source];

	if (!s->waiting)
		return;
	s->waiting = false;
	list_del(&s->queued);
	list_del(&s->aged);
	q->waiting--;
	if (list_empty(&from->waiting))
		list_del(&from->active);
}

static void shed(struct tls_worker *w, enum tls_counter why)
{
	struct tls_session *s = container_of(w->schedule->by_age.next, struct tls_session, aged);

	tls_count(w, why);
	schedule_remove(s);
	conn_over(s->conn, CONN_END_BUSY);
}

void schedule_add(struct tls_session *s, enum schedule_line line)
{
	struct tls_worker *w = s->worker;
	struct schedule *q = w->schedule;
	struct ip_addr peer;
	uint16_t port;

	stream_peer(s->conn->stream, &peer, &port);
	s->line = line;
	s->source = (uint16_t)(schedule_network(q, &peer, 4) % SOURCES);
	s->since_us = w->shard->now_us;
	s->waiting = true;
	struct source *to = &q->line[line].source[s->source];
	if (list_empty(&to->waiting))
		list_push_back(&q->line[line].active, &to->active);
	list_push_back(&to->waiting, &s->queued);
	list_push_back(&q->by_age, &s->aged);
	q->waiting++;
	while (q->waiting > w->state->budget.queue)
		shed(w, tls_shed_overflow);
}

/* First steps of ours that a thread has to run: what waits there for a signature takes none of its
 * time. */
static unsigned burden(const struct tls_worker *w, unsigned thread)
{
	unsigned n = w->schedule->in_flight[thread], paused = atomic_load(&w->signing[thread]);

	return n > paused ? n - paused : 0;
}

/* The thread with the fewest first steps of ours; -1: all have enough. */
static int free_thread(struct tls_worker *w)
{
	unsigned n = w->tls->n_threads, best = w->next_thread++ % n;

	for (unsigned i = 1; i < n; i++) {
		unsigned k = (best + i) % n;
		if (burden(w, k) < burden(w, best))
			best = k;
	}
	return burden(w, best) < IN_FLIGHT ? (int)best : -1;
}

/* Two resumptions for each full handshake: they are cheap, and their clients have logged in.
 * Without a signer that keeps up, resumptions only. */
static struct line *next_line(struct schedule *q, bool signer_keeps_up)
{
	struct line *full = &q->line[SCHEDULE_FULL], *resumed = &q->line[SCHEDULE_RESUMPTION];

	if (!signer_keeps_up)
		return list_empty(&resumed->active) ? NULL : resumed;
	if (list_empty(&full->active))
		return list_empty(&resumed->active) ? NULL : resumed;
	if (list_empty(&resumed->active))
		return full;
	return q->turn++ % (RESUMPTIONS_A_FULL + 1) == RESUMPTIONS_A_FULL ? full : resumed;
}

static struct tls_session *next_session(struct schedule *q, bool signer_keeps_up)
{
	struct line *l = next_line(q, signer_keeps_up);

	if (l == NULL)
		return NULL;
	struct source *from = container_of(l->active.next, struct source, active);
	struct tls_session *s = container_of(from->waiting.next, struct tls_session, queued);
	schedule_remove(s);
	/* its next one waits until all other sources have had their turn */
	if (!list_empty(&from->waiting)) {
		list_del(&from->active);
		list_push_back(&l->active, &from->active);
	}
	return s;
}

void schedule_run(struct tls_worker *w)
{
	struct schedule *q = w->schedule;
	uint64_t patience = w->state->budget.deadline_us;
	int thread;

	while (q->waiting > 0 &&
	       container_of(q->by_age.next, struct tls_session, aged)->since_us + patience <=
		       w->shard->now_us)
		shed(w, tls_shed_late);
	while (q->waiting > 0 && (thread = free_thread(w)) >= 0) {
		unsigned signing = atomic_load(&w->tls->threads[thread].signing);
		struct tls_session *s = next_session(q, signing < SIGNING);
		if (s == NULL)
			break;
		s->thread = (unsigned)thread;
		if (!session_submit(s)) {
			conn_over(s->conn, CONN_END_BUSY);
			continue;
		}
		s->first_step = true;
		q->in_flight[thread]++;
	}
}

void schedule_returned(struct tls_session *s)
{
	if (s->first_step)
		s->worker->schedule->in_flight[s->thread]--;
	s->first_step = false;
}
