/* handshake.c - the worker's side of a handshake: frames records, asks whether to begin, lends the
 * session to a thread, passes its answer on */
#include "base/log.h"
#include "tls/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Half tokens of a budget. */
enum { HALVES_RESUMPTION = 1, HALVES_FULL = 2 };

const uint64_t tls_cost_bounds_us[TLS_COST_BUCKETS - 1] = {25,  50,  100, 150,  200, 300,
							   400, 600, 800, 1200, 2000};

struct tls_worker *tls_worker_create(struct tls *t, struct shard *shard)
{
	struct tls_worker *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->tls = t;
	w->shard = shard;
	w->sessions = slab_create(sizeof(struct tls_session), t->max_sessions);
	w->back = ring_create(t->max_sessions);
	w->schedule = schedule_create(shard);
	w->networks = budget_create();
	w->names = budget_create();
	w->scratch = malloc(HELLO_BYTES + 4);
	w->engine = aead_engine_create(true);
	w->sealed = OPENSSL_malloc(AEAD_PLAIN + AEAD_OVERHEAD);
	w->record_limit = AEAD_GCM_RECORDS;
	for (unsigned i = 0; i < MAX_WORKERS && w->slot == NULL; i++)
		if (t->workers[i] == NULL)
			w->slot = &t->workers[i];
	if (w->sessions == NULL || w->back == NULL || w->slot == NULL || w->schedule == NULL ||
	    w->networks == NULL || w->names == NULL || w->scratch == NULL || w->engine == NULL ||
	    w->sealed == NULL) {
		w->slot = NULL;
		tls_worker_destroy(w);
		return NULL;
	}
	*w->slot = w;
	w->state = state_adopt(t, &w->seen);
	return w;
}

static void session_drop_secrets(struct tls_session *s)
{
	takeover_drop(s);
	native_drop(s);
	pins_drop(s);
	session_drop_facts(s);
}

void session_free_in(struct tls_session *s)
{
	if (s->in_private)
		OPENSSL_clear_free(s->in, sizeof(*s->in) + s->in->size);
	else if (s->in != NULL)
		chunk_free(s->worker->shard->chunks, s->in);
	s->in = NULL;
	s->in_private = false;
}

/* After tls_stop(): what was in flight is nobody else's any more. */
void tls_worker_destroy(struct tls_worker *w)
{
	if (w == NULL)
		return;
	for (uint32_t i = 0; w->sessions != NULL && i < slab_extent(w->sessions); i++) {
		struct tls_session *s = slab_at(w->sessions, i, NULL);
		if (s == NULL)
			continue;
		session_free_ssl(s);
		session_drop_secrets(s);
	}
	if (w->slot != NULL)
		*w->slot = NULL;
	schedule_destroy(w->schedule);
	budget_destroy(w->networks);
	budget_destroy(w->names);
	free(w->scratch);
	aead_engine_destroy(w->engine);
	OPENSSL_free(w->sealed);
	slab_destroy(w->sessions);
	ring_destroy(w->back);
	free(w);
}

const uint64_t *tls_counters(const struct tls_worker *w)
{
	return w->counters;
}

unsigned tls_poll(struct tls_worker *w)
{
	struct tls_session *s;
	unsigned n = 0;

	w->state = state_adopt(w->tls, &w->seen);
	while ((s = ring_pop(w->back)) != NULL) {
		session_returned(s);
		n++;
	}
	schedule_run(w);
	counter_set(&w->counters[tls_waiting], schedule_waiting(w->schedule));
	return n;
}

static void session_release(struct tls_session *s)
{
	struct tls_worker *w = s->worker;

	session_free_in(s);
	chunk_free_list(w->shard->chunks, s->out);
	session_drop_secrets(s);
	slab_free(w->sessions, s->handle);
	counter_set(&w->counters[tls_sessions], slab_used(w->sessions));
}

/* The object goes back to its thread to be freed: 14 us that the worker does not spend. */
void session_dispose(struct tls_session *s)
{
	schedule_remove(s);
	s->conn = NULL;
	if (s->in_flight)
		return;
	s->job = JOB_FREE;
	s->detached = true;
	if (s->ssl != NULL && ring_push(s->worker->tls->threads[s->thread].queue, s)) {
		s->in_flight = true;
		return;
	}
	session_free_ssl(s);
	session_release(s);
}

bool session_submit(struct tls_session *s)
{
	struct tls_worker *w = s->worker;

	/* room for the answer only while there can be one: a peer that says nothing holds none */
	if (s->out == NULL)
		s->out = chunk_alloc(w->shard->chunks, CHUNK_16K, false);
	if (s->out == NULL) {
		tls_count(w, tls_no_memory);
		return false;
	}
	s->detached = true;
	if (!ring_push(w->tls->threads[s->thread].queue, s)) {
		tls_count(w, tls_queue_full);
		return false;
	}
	s->in_flight = true;
	tls_count(w, tls_jobs);
	return true;
}

/* Makes `in` hold at least bytes; false: no chunk. */
static bool grow_in(struct tls_session *s, uint32_t bytes)
{
	enum chunk_size size = bytes <= chunk_capacity(CHUNK_4K)    ? CHUNK_4K
			       : bytes <= chunk_capacity(CHUNK_16K) ? CHUNK_16K
								    : CHUNK_64K;
	struct chunk *old = s->in;

	if (old != NULL && old->size >= bytes)
		return true;
	struct chunk *c = chunk_alloc(s->worker->shard->chunks, size, false);
	if (c == NULL) {
		tls_count(s->worker, tls_no_memory);
		return false;
	}
	if (old != NULL) {
		c->end = old->end - old->start;
		memcpy(c->data, old->data + old->start, c->end);
		chunk_free(s->worker->shard->chunks, old);
	} else {
		s->whole = 0;
	}
	s->in = c;
	return true;
}

/* A client is given no more than the middle size of chunks, next to the answer's. */
static uint32_t most_gathered(const struct tls_session *s)
{
	return s->job == JOB_ACCEPT ? chunk_capacity(CHUNK_16K) : HANDSHAKE_BYTES;
}

/* Moves bytes of one record from the stream into `in`.  1: it is whole; 0: bytes are missing;
 * -1: hopeless (counted). */
static int gather_record(struct tls_session *s, uint32_t at)
{
	struct stream *stream = s->conn->stream;

	for (;;) {
		uint32_t have = s->in->end - at, need = RECORD_HEADER;
		const uint8_t *p = s->in->data + at;

		if (have > 0 && (p[0] < 20 || p[0] > 23)) {
			tls_count(s->worker, tls_not_tls);
			return -1;
		}
		if (have >= RECORD_HEADER)
			need += (uint32_t)(p[3] << 8 | p[4]);
		if (at + need > most_gathered(s)) {
			tls_count(s->worker, tls_oversized_record);
			return -1;
		}
		if (have >= need) {
			s->whole = at + need;
			return 1;
		}
		if (!grow_in(s, at + need))
			return -1;
		size_t n = stream_read(stream, s->in->data + s->in->end, need - have);
		if (n == 0)
			return 0;
		s->in->end += (uint32_t)n;
	}
}

/* Whether the stream shows another whole record that can go along. */
static bool another_record(struct stream *s, uint32_t room)
{
	const uint8_t *p;

	if (stream_peek(s, &p) < RECORD_HEADER)
		return false;
	size_t bytes = (size_t)RECORD_HEADER + (size_t)(p[3] << 8 | p[4]);
	return bytes <= room && stream_readable(s) >= bytes;
}

/* 1: whole records wait in `in`; 0: not yet; -1: hopeless. */
static int gather(struct tls_session *s)
{
	int rc;

	if (!grow_in(s, RECORD_HEADER))
		return -1;
	/* what the thread has read is gone */
	if (s->in->start > 0) {
		s->in->end -= s->in->start;
		memmove(s->in->data, s->in->data + s->in->start, s->in->end);
		s->in->start = s->whole = 0;
	}
	uint32_t before = s->in->end;
	while ((rc = gather_record(s, s->whole)) == 1 &&
	       another_record(s->conn->stream, most_gathered(s) - s->in->end))
		;
	rc = rc == 0 && s->whole > 0 ? 1 : rc;
	/* OpenSSL gathers a message out of many records: what it holds is bounded here */
	s->gathered += s->in->end - before;
	if (s->gathered > (s->job == JOB_ACCEPT ? HANDSHAKE_BYTES : SERVER_HANDSHAKE_BYTES)) {
		tls_count(s->worker, tls_oversized_record);
		return -1;
	}
	return rc;
}

bool conn_may_secure(const struct conn *c)
{
	struct tls_worker *w = c->worker;
	struct chunk *probe;

	if (slab_used(w->sessions) < slab_limit(w->sessions) &&
	    (probe = chunk_alloc(w->shard->chunks, CHUNK_16K, false)) != NULL) {
		chunk_free(w->shard->chunks, probe);
		return true;
	}
	tls_count(w, tls_no_memory);
	return false;
}

bool conn_over_budget(const struct conn *c)
{
	struct tls_worker *w = c->worker;
	struct ip_addr peer;
	uint16_t port;

	stream_peer(c->stream, &peer, &port);
	if (budget_allows(w->networks, schedule_network(w->schedule, &peer, 3),
			  &w->state->budget.per_network, HALVES_RESUMPTION, w->shard->now_us))
		return false;
	tls_count(w, tls_budget_network);
	return true;
}

static struct tls_session *session_create(struct conn *c, const struct conn_tls *how)
{
	struct tls_worker *w = c->worker;
	handle_t h;
	struct tls_session *s = slab_alloc(w->sessions, &h);

	if (s == NULL)
		return NULL;
	s->worker = w;
	s->handle = h;
	s->conn = c;
	s->job = how->client ? JOB_CONNECT : JOB_ACCEPT;
	s->verify = how->verify;
	if (how->client) {
		s->ticket = how->ticket;
		s->thread = w->next_thread++ % w->tls->n_threads;
	}
	if (how->name != NULL && (s->server_name = strdup(how->name)) == NULL) {
		slab_free(w->sessions, h);
		return NULL;
	}
	if (how->n_pins > 0 && !pins_keep(s, how)) {
		session_drop_facts(s);
		slab_free(w->sessions, h);
		return NULL;
	}
	return s;
}

bool conn_secure(struct conn *c, const struct conn_tls *how)
{
	struct tls_worker *w = c->worker;
	struct tls_session *s = session_create(c, how);

	if (s == NULL) {
		tls_count(w, tls_no_memory);
		return false;
	}
	c->tls = s;
	c->securing = true;
	counter_set(&w->counters[tls_sessions], slab_used(w->sessions));
	if (!how->client)
		return true;
	/* the client speaks first */
	if (session_submit(s))
		return true;
	c->tls = NULL;
	c->securing = false;
	session_dispose(s);
	return false;
}

/* Whether one of its tickets names a key of ours: anybody may copy a name, so that this buys
 * half the price and the shorter line, not trust. */
static bool may_resume(const struct tls_worker *w, const struct hello *h)
{
	for (unsigned i = 0; i < h->n_tickets; i++)
		if (tickets_find(w->state->tickets, h->ticket[i]) != NULL)
			return true;
	return false;
}

static uint64_t name_tag(const struct tls_worker *w, const struct hello *h)
{
	uint8_t lower[256];

	for (size_t i = 0; i < h->name_bytes; i++)
		lower[i] = h->name[i] >= 'A' && h->name[i] <= 'Z' ? h->name[i] | 0x20 : h->name[i];
	return schedule_name(w->schedule, lower, h->name_bytes);
}

/* What the network and the name may still spend on handshakes. */
static bool afford(struct tls_session *s, const struct hello *h, unsigned halves)
{
	struct tls_worker *w = s->worker;
	const struct tls_budget *b = &w->state->budget;
	uint64_t now_us = w->shard->now_us;
	struct ip_addr peer;
	uint16_t port;

	stream_peer(s->conn->stream, &peer, &port);
	if (!budget_charge(w->networks, schedule_network(w->schedule, &peer, 3), &b->per_network,
			   halves, now_us)) {
		tls_count(w, tls_budget_network);
		return false;
	}
	if (h->name_bytes > 0 &&
	    !budget_charge(w->names, name_tag(w, h), &b->per_name, halves, now_us)) {
		tls_count(w, tls_budget_name);
		return false;
	}
	return true;
}

/* The first records of a client.  Nothing is spent on it before its hello is whole. */
static void hello_input(struct conn *c)
{
	struct tls_session *s = c->tls;
	struct tls_worker *w = s->worker;
	struct hello h;
	enum hello_verdict v =
		hello_read(s->in->data + s->in->start, s->whole - s->in->start, w->scratch, &h);

	if (v == HELLO_PART) {
		s->tried = s->whole;
		if (stream_eof(c->stream)) {
			tls_count(w, tls_handshakes_failed);
			conn_over(c, CONN_END_TLS);
		}
		return;
	}
	if (v == HELLO_TOO_LARGE) {
		tls_count(w, tls_oversized_record);
		conn_over(c, CONN_END_TLS);
		return;
	}
	if (v == HELLO_MALFORMED)
		tls_count(w, tls_hellos_malformed);
	bool resume = may_resume(w, &h);
	if (!afford(s, &h, resume ? HALVES_RESUMPTION : HALVES_FULL)) {
		conn_over(c, CONN_END_BUSY);
		return;
	}
	s->hello_seen = true;
	schedule_add(s, resume ? SCHEDULE_RESUMPTION : SCHEDULE_FULL);
	schedule_run(w);
}

void handshake_input(struct conn *c)
{
	struct tls_session *s = c->tls;

	/* done: its last octets wait for room, and what comes now is the protocol's */
	if (s->in_flight || s->waiting || s->step == STEP_DONE)
		return;
	int rc = gather(s);
	if (rc < 0) {
		conn_over(c, CONN_END_TLS);
	} else if (rc > 0 && s->job == JOB_ACCEPT && !s->hello_seen) {
		/* not again for each octet of a record */
		if (s->whole > s->tried || stream_eof(c->stream))
			hello_input(c);
	} else if (rc > 0 && !session_submit(s)) {
		conn_over(c, CONN_END_BUSY);
	} else if (rc == 0 && stream_eof(c->stream)) {
		tls_count(s->worker,
			  s->job == JOB_CONNECT ? tls_client_failed : tls_handshakes_failed);
		conn_over(c, CONN_END_TLS);
	}
}

bool session_send_chunk(struct tls_session *s, struct chunk *c)
{
	c->start += (uint32_t)stream_write(s->conn->stream, c->data + c->start, c->end - c->start,
					   STREAM_MORE);
	return c->start == c->end;
}

/* The handshake's answer into the stream; false while some of it waits for room. */
static bool flush_out(struct tls_session *s)
{
	struct chunk *c = s->out;

	if (c == NULL)
		return true;
	if (!session_send_chunk(s, c))
		return false;
	chunk_free(s->worker->shard->chunks, c);
	s->out = NULL;
	return true;
}

static void note_cost(struct tls_session *s)
{
	struct tls_cost *c = &s->worker->costs[s->kind];
	uint64_t us = (s->cpu_ns + 500) / 1000;
	unsigned i = 0;

	while (i < TLS_COST_BUCKETS - 1 && us > tls_cost_bounds_us[i])
		i++;
	counter_inc(&c->bucket[i]);
	counter_add(&c->sum_us, us);
}

const struct tls_cost *tls_costs(const struct tls_worker *w)
{
	return w->costs;
}

static void handshake_done(struct tls_session *s)
{
	struct conn *c = s->conn;
	struct tls_worker *w = s->worker;

	c->securing = false;
	if (s->job == JOB_CONNECT) {
		tls_count(w, tls_client_handshakes);
	} else {
		tls_count(w, tls_handshakes);
		note_cost(s);
		if (s->resumed)
			tls_count(w, tls_handshakes_resumed);
		if (s->version == TLS1_2_VERSION)
			tls_count(w, tls_handshakes_1_2);
	}
	if (s->records != NULL)
		tls_count(w, tls_records_native);
	else if (s->kept)
		tls_count(w, tls_records_kept);
	c->events->secured(c);
}

static void handshake_failed(struct tls_session *s)
{
	struct conn *c = s->conn;
	struct ip_addr peer;
	uint16_t port;
	char text[ADDR_TEXT_BYTES];

	stream_peer(c->stream, &peer, &port);
	log_debug("tls", "%s [%s]:%u: handshake failed: %s",
		  s->job == JOB_CONNECT ? "next hop" : "client", addr_text(&peer, text), port,
		  s->failure != NULL ? s->failure : "unknown");
	tls_count(s->worker, s->job == JOB_CONNECT ? tls_client_failed : tls_handshakes_failed);
	/* the alert goes out before the connection is closed */
	struct stream *stream = c->stream;
	flush_out(s);
	c->stream = NULL;
	c->tls = NULL;
	c->unpinned = s->unpinned;
	session_dispose(s);
	stream_close(stream);
	c->events->ended(c, CONN_END_TLS);
}

/* After a step, and again when there is room for the rest of its output. */
void handshake_output(struct tls_session *s)
{
	if (s->step == STEP_FAILED) {
		handshake_failed(s);
		return;
	}
	if (!flush_out(s))
		return;
	/* OpenSSL stopped because `out` was full: it has more to say before it listens */
	if (s->step == STEP_MORE && SSL_want_write(s->ssl)) {
		if (!session_submit(s))
			conn_over(s->conn, CONN_END_BUSY);
		return;
	}
	if (s->step == STEP_DONE) {
		s->detached = false;
		handshake_done(s);
		return;
	}
	handshake_input(s->conn);
}

void session_count_notes(struct tls_session *s)
{
	static const struct {
		uint32_t note;
		enum tls_counter counter;
	} rows[] = {
		{NOTE_TICKET_FOREIGN, tls_tickets_foreign},
		{NOTE_TICKET_OLD, tls_tickets_old},
		{NOTE_TICKET_CERTIFICATE, tls_tickets_certificate},
		{NOTE_NAME_UNKNOWN, tls_names_unknown},
		{NOTE_NAME_MALFORMED, tls_names_malformed},
		{NOTE_NAME_READ, tls_names_read},
		{NOTE_SIGNED, tls_signatures},
		{NOTE_SIGNER_FAILED, tls_signer_failed},
		{NOTE_UNPINNED, tls_client_unpinned},
		{NOTE_OCSP_EXPIRED, tls_ocsp_expired},
		{NOTE_CERTIFICATE_BAD, tls_client_certificates_bad},
		{NOTE_KEY_UPDATES, tls_key_update_floods},
		{NOTE_RENEGOTIATION, tls_renegotiation_floods},
		{NOTE_ALERTS, tls_alert_floods},
		{NOTE_EMPTY_RECORDS, tls_empty_record_floods},
	};

	for (size_t i = 0; s->notes != 0 && i < sizeof(rows) / sizeof(rows[0]); i++)
		if ((s->notes & rows[i].note) != 0)
			tls_count(s->worker, rows[i].counter);
	s->notes = 0;
}

void session_returned(struct tls_session *s)
{
	s->in_flight = false;
	schedule_returned(s);
	session_count_notes(s);
	/* a client may take its time now: it holds no more than it must */
	if (s->in != NULL && s->in->start == s->in->end)
		session_free_in(s);
	if (s->job == JOB_FREE)
		session_release(s);
	else if (s->conn == NULL)
		session_dispose(s);
	else
		handshake_output(s);
}
