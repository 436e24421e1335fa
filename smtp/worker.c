/* worker.c - the SMTP side of one worker: its tables, its drain, its list of sessions */
#include "smtp/internal.h"

#include <stdlib.h>
#include <string.h>

COUNTER_TABLE(smtp, SMTP_COUNTERS)

enum { SWEEP_US = 3600ull * 1000000 };

static void sweep_quotas(struct timer *t)
{
	struct smtp_worker *w = container_of(t, struct smtp_worker, sweep);

	quota_sweep(w->shared->quotas, w->shard->now_us);
	timer_arm(w->shard->timers, t, w->shard->now_us + SWEEP_US);
}

struct smtp_worker *smtp_worker_create(const struct smtp_env *env)
{
	struct smtp_worker *w = calloc(1, sizeof(*w));
	uint32_t n = env->shared->config.sessions;

	if (w == NULL)
		return NULL;
	w->env = *env;
	w->shared = env->shared;
	w->config = &env->shared->config;
	w->shard = env->shard;
	w->sessions = slab_create(sizeof(struct smtp_session), n);
	/* a transaction outlives its session while the spool has it */
	w->transactions = slab_create(sizeof(struct transaction), n * 2);
	w->appends = slab_create(sizeof(struct append), n * 2);
	w->logins = slab_create(sizeof(struct login), n * 2);
	timer_init(&w->relief, transactions_relieve);
	timer_init(&w->shares, fair_again);
	timer_init(&w->sweep, sweep_quotas);
	list_init(&w->sending);
	if (w->sessions == NULL || w->transactions == NULL || w->appends == NULL ||
	    w->logins == NULL) {
		smtp_worker_destroy(w);
		return NULL;
	}
	if (w->shard->index == 0)
		sweep_quotas(&w->sweep);
	return w;
}

void smtp_worker_configure(struct smtp_worker *w, const struct smtp_config *c)
{
	w->config = c;
	w->configured++;
}

void smtp_worker_destroy(struct smtp_worker *w)
{
	if (w == NULL)
		return;
	for (uint32_t i = 0; w->sessions != NULL && i < slab_extent(w->sessions); i++) {
		struct smtp_session *s = slab_at(w->sessions, i, NULL);
		if (s == NULL)
			continue;
		timer_cancel(w->shard->timers, &s->deadline);
		timer_cancel(w->shard->timers, &s->resume);
		conn_abort(&s->conn);
	}
	timer_cancel(w->shard->timers, &w->relief);
	timer_cancel(w->shard->timers, &w->shares);
	timer_cancel(w->shard->timers, &w->sweep);
	slab_destroy(w->sessions);
	slab_destroy(w->transactions);
	slab_destroy(w->appends);
	slab_destroy(w->logins);
	free(w);
}

void smtp_drain(struct smtp_worker *w)
{
	w->draining = true;
	for (uint32_t i = 0; i < slab_extent(w->sessions); i++) {
		struct smtp_session *s = slab_at(w->sessions, i, NULL);
		if (s != NULL && s->phase != PHASE_SECURING)
			session_run(s);
	}
}

unsigned smtp_sessions_open(const struct smtp_worker *w)
{
	return slab_used(w->sessions);
}

unsigned smtp_spool_pending(const struct smtp_worker *w)
{
	return w->spool_pending;
}

const uint64_t *smtp_counters(const struct smtp_worker *w)
{
	return w->counters;
}

void smtp_each_session(struct smtp_worker *w,
		       void (*fn)(void *arg, const struct smtp_session_info *i), void *arg)
{
	static const char *const phases[] = {
		[PHASE_SECURING] = "handshake", [PHASE_COMMAND] = "command",
		[PHASE_AUTH] = "auth",          [PHASE_CHECKING] = "auth-check",
		[PHASE_DATA] = "data",          [PHASE_CHUNK] = "data",
		[PHASE_COMMIT] = "commit",      [PHASE_CLOSING] = "closing",
	};

	for (uint32_t i = 0; i < slab_extent(w->sessions); i++) {
		const struct smtp_session *s = slab_at(w->sessions, i, NULL);
		if (s == NULL)
			continue;
		struct smtp_session_info info = {
			.peer = s->peer,
			.peer_port = s->peer_port,
			.state = phases[s->phase],
			.user = s->user,
			.tls = conn_is_secure(&s->conn),
			.messages = s->messages,
			.age_us = w->shard->now_us - s->opened_us,
			.body_bytes = s->tx != NULL ? s->tx->body_bytes : 0,
		};
		memcpy(info.tag, s->tag, sizeof(info.tag));
		fn(arg, &info);
	}
}
