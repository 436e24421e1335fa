/* policy.c - whom a limit is for, what it says, and what is given back */
#include "smtp/policy.h"

#include "smtp/internal.h"

#include <stdio.h>
#include <string.h>

enum { TEXT = 260, SUBJECT_BYTES = 256 };

static const struct smtp_class everybody = {.name = ""};

/* Whose buckets they are; n 0: there is none. */
struct subjects {
	struct {
		char text[SUBJECT_BYTES];
		size_t n;
	} of[SMTP_SUBJECTS];
};

static const char *const subject_names[] = {
	[SMTP_LISTENER] = "listener",
	[SMTP_TENANT] = "tenant",
	[SMTP_USER] = "user",
	[SMTP_ADDRESS] = "address",
};
static const char *const measure_names[] = {
	[SMTP_MESSAGES] = "messages", [SMTP_RECIPIENTS] = "recipients", [SMTP_OCTETS] = "KiB"};
static const char *const limit_names[] = {
	[SMTP_MESSAGES] = "messages", [SMTP_RECIPIENTS] = "recipients", [SMTP_OCTETS] = "octets"};
static const enum smtp_counter subject_counters[] = {
	[SMTP_LISTENER] = smtp_limited_listener,
	[SMTP_TENANT] = smtp_limited_tenant,
	[SMTP_USER] = smtp_limited_user,
	[SMTP_ADDRESS] = smtp_limited_address,
};

static bool in_list(const char *list, const char *name)
{
	size_t n = strlen(name);

	while (list[0] != '\0') {
		size_t k = strcspn(list, ",");
		if (k == n && memcmp(list, name, n) == 0)
			return true;
		list += k + (list[k] == ',');
	}
	return false;
}

static const struct smtp_class *class_of(const struct smtp_config *c, const char *user,
					 const char *tenant)
{
	for (unsigned i = 0; i < c->n_classes; i++) {
		const struct smtp_class *k = &c->classes[i];
		if ((k->users[0] == '\0' && k->tenants[0] == '\0') || in_list(k->users, user) ||
		    (tenant[0] != '\0' && in_list(k->tenants, tenant)))
			return k;
	}
	return &everybody;
}

const char *session_tenant(const struct smtp_session *s)
{
	const char *tenant, *addresses;

	auth_attributes(s->worker->env.auth, s->user, s->identity, &tenant, &addresses);
	return tenant;
}

/* The class depends on the lists of the configuration and on the user's tenant, which the users
 * file may change. */
const struct smtp_class *session_class(struct smtp_session *s)
{
	uint32_t config = s->worker->configured, users = auth_users_taken(s->worker->env.auth);

	if (!s->authenticated)
		return &everybody;
	if (s->class == NULL || s->class_config != config || s->class_users != users) {
		s->class = class_of(s->worker->config, s->user, session_tenant(s));
		s->class_config = config;
		s->class_users = users;
	}
	return s->class;
}

uint64_t session_max_size(struct smtp_session *s)
{
	uint64_t own = session_class(s)->max_message_size;

	return own != 0 ? own : s->worker->config->max_message_size;
}

uint32_t session_max_recipients(struct smtp_session *s)
{
	uint32_t own = session_class(s)->max_recipients;

	return own != 0 ? own : s->worker->config->max_recipients;
}

uint32_t session_max_messages(struct smtp_session *s)
{
	uint32_t own = session_class(s)->max_messages;

	return own != 0 ? own : s->worker->config->max_messages;
}

static void set_subject(struct subjects *u, enum smtp_subject i, const void *text, size_t n)
{
	u->of[i].n = n < SUBJECT_BYTES ? n : SUBJECT_BYTES - 1;
	memcpy(u->of[i].text, text, u->of[i].n);
	u->of[i].text[u->of[i].n] = '\0';
}

static void subjects_named(struct subjects *u, const char *user, const char *tenant)
{
	set_subject(u, SMTP_TENANT, tenant, strlen(tenant));
	set_subject(u, SMTP_USER, user, strlen(user));
	u->of[SMTP_LISTENER].n = u->of[SMTP_ADDRESS].n = 0;
}

/* Whether a rate of the class says anything of the measure: mostly none does. */
static bool is_limited(const struct smtp_class *k, enum smtp_measure m)
{
	for (unsigned i = 0; i < SMTP_SUBJECTS; i++) {
		if (k->rate[i][m].count > 0)
			return true;
	}
	return false;
}

/* The address without what one customer can change at will: the last 64 bits of IPv6. */
static void subjects_of(const struct smtp_session *s, struct subjects *u)
{
	subjects_named(u, s->user, session_tenant(s));
	set_subject(u, SMTP_LISTENER, s->listener->name, strlen(s->listener->name));
	set_subject(u, SMTP_ADDRESS, s->peer.byte, s->peer.family == 6 ? 8 : 4);
}

/* Another rate, another bucket: who raises a limit wants it to hold at once. */
static uint64_t bucket(const struct smtp_shared *shared, const struct subjects *u,
		       enum smtp_subject i, enum smtp_measure m, const struct quota_rate *r)
{
	char name[SUBJECT_BYTES + sizeof(*r)];

	memcpy(name, r, sizeof(*r));
	memcpy(name + sizeof(*r), u->of[i].text, u->of[i].n);
	return quota_key(shared->quotas, (char)(1 + i * SMTP_MEASURES + m), name,
			 sizeof(*r) + u->of[i].n);
}

static uint64_t inside_key(const struct smtp_shared *shared, const struct subjects *u,
			   enum smtp_subject i)
{
	return quota_key(shared->quotas, (char)(64 + i), u->of[i].text, u->of[i].n);
}

/* "40 s", "12 min", "3 h": rounded up. */
static void duration(uint64_t us, char *out, size_t room)
{
	uint64_t s = (us + 999999) / 1000000;

	if (us == UINT64_MAX)
		snprintf(out, room, "never");
	else if (s < 120)
		snprintf(out, room, "%llu s", (unsigned long long)s);
	else if (s < 7200)
		snprintf(out, room, "%llu min", (unsigned long long)(s + 59) / 60);
	else
		snprintf(out, room, "%llu h", (unsigned long long)(s + 3599) / 3600);
}

static void name_subject(const struct smtp_session *s, const struct subjects *u,
			 enum smtp_subject i, char *out, size_t room)
{
	char addr[ADDR_TEXT_BYTES];

	snprintf(out, room, "%s %.100s", subject_names[i],
		 i == SMTP_ADDRESS ? addr_text(&s->peer, addr) : u->of[i].text);
}

/* The record of it names the limit by its key. */
static void reply_about(struct smtp_session *s, enum smtp_reply r, const char *text,
			const char *limit, enum smtp_subject i)
{
	struct smtp_worker *w = s->worker;

	w->limit = limit;
	w->limit_of = subject_names[i];
	session_reply(s, r, text);
	w->limit = w->limit_of = NULL;
}

/* Which limit it was, for whom, and for how long: nobody shall have to guess. */
static void refuse(struct smtp_session *s, const struct subjects *u, enum smtp_subject i,
		   enum smtp_measure m, uint64_t wait_us)
{
	const struct smtp_class *k = session_class(s);
	const struct quota_rate *r = &k->rate[i][m];
	char text[TEXT], who[120], per[24], wait[24];

	smtp_count(s->worker, subject_counters[i]);
	name_subject(s, u, i, who, sizeof(who));
	duration(r->per_us, per, sizeof(per));
	duration(k->retry_after_us != 0 ? k->retry_after_us : wait_us, wait, sizeof(wait));
	snprintf(text, sizeof(text), "%llu %s in %s for %s reached%s%s",
		 (unsigned long long)r->count, measure_names[m], per, who,
		 k->permanent ? "" : "; try again in ", k->permanent ? "" : wait);
	enum smtp_reply later = m == SMTP_RECIPIENTS ? REPLY_LIMIT_RECIPIENTS : REPLY_LIMIT;
	reply_about(s, k->permanent ? REPLY_LIMIT_PERMANENT : later, text, limit_names[m], i);
}

static void give_back(struct smtp_session *s, const struct subjects *u, unsigned subjects,
		      enum smtp_measure m, uint64_t n)
{
	const struct smtp_class *k = session_class(s);
	struct smtp_shared *shared = s->worker->shared;

	for (unsigned i = 0; i < subjects; i++) {
		if (k->rate[i][m].count > 0 && u->of[i].n > 0)
			quota_give_back(shared->quotas, bucket(shared, u, i, m, &k->rate[i][m]),
					&k->rate[i][m], n, s->worker->shard->now_us);
	}
}

/* One of the measure from every subject, or a reply and from none. */
static bool take(struct smtp_session *s, enum smtp_measure m)
{
	const struct smtp_class *k = session_class(s);
	struct smtp_shared *shared = s->worker->shared;
	struct subjects u;
	uint64_t wait_us = 0;

	if (!is_limited(k, m))
		return true;
	subjects_of(s, &u);
	for (unsigned i = 0; i < SMTP_SUBJECTS; i++) {
		if (k->rate[i][m].count == 0 || u.of[i].n == 0)
			continue;
		enum quota_verdict v =
			quota_take(shared->quotas, bucket(shared, &u, i, m, &k->rate[i][m]),
				   &k->rate[i][m], 1, s->worker->shard->now_us, &wait_us);
		if (v == QUOTA_NO_CELL)
			smtp_count(s->worker, smtp_limits_no_cell);
		if (v != QUOTA_EXHAUSTED)
			continue;
		give_back(s, &u, i, m, 1);
		refuse(s, &u, i, m, wait_us);
		return false;
	}
	return true;
}

/* Octets are known only at the end: what was too much is waited for before the next message. */
static bool octets_left(struct smtp_session *s)
{
	const struct smtp_class *k = session_class(s);
	struct smtp_shared *shared = s->worker->shared;
	struct subjects u;

	if (!is_limited(k, SMTP_OCTETS))
		return true;
	subjects_of(s, &u);
	for (unsigned i = 0; i < SMTP_SUBJECTS; i++) {
		const struct quota_rate *r = &k->rate[i][SMTP_OCTETS];
		if (r->count == 0 || u.of[i].n == 0)
			continue;
		uint64_t used = quota_used(shared->quotas, bucket(shared, &u, i, SMTP_OCTETS, r), r,
					   s->worker->shard->now_us);
		if (used < r->count)
			continue;
		refuse(s, &u, i, SMTP_OCTETS, (used - r->count + 1) * r->per_us / r->count);
		return false;
	}
	return true;
}

bool policy_mail(struct smtp_session *s)
{
	return octets_left(s) && take(s, SMTP_MESSAGES);
}

bool policy_recipient(struct smtp_session *s)
{
	return take(s, SMTP_RECIPIENTS);
}

static uint64_t kib(uint64_t octets)
{
	return (octets + 1023) / 1024;
}

void policy_content(struct smtp_session *s, uint64_t octets)
{
	const struct smtp_class *k = session_class(s);
	struct smtp_shared *shared = s->worker->shared;
	struct subjects u;

	if (!is_limited(k, SMTP_OCTETS))
		return;
	subjects_of(s, &u);
	for (unsigned i = 0; i < SMTP_SUBJECTS; i++) {
		if (k->rate[i][SMTP_OCTETS].count > 0 && u.of[i].n > 0)
			quota_owe(shared->quotas,
				  bucket(shared, &u, i, SMTP_OCTETS, &k->rate[i][SMTP_OCTETS]),
				  &k->rate[i][SMTP_OCTETS], kib(octets), s->worker->shard->now_us);
	}
}

void policy_forget(const struct transaction *tx)
{
	struct smtp_session *s = tx->session;
	struct subjects u;

	subjects_of(s, &u);
	give_back(s, &u, SMTP_SUBJECTS, SMTP_MESSAGES, 1);
	give_back(s, &u, SMTP_SUBJECTS, SMTP_RECIPIENTS, tx->recipients);
	if (tx->charged > 0)
		give_back(s, &u, SMTP_SUBJECTS, SMTP_OCTETS, kib(tx->charged));
}

bool policy_enter(struct smtp_session *s)
{
	const struct smtp_class *k = session_class(s);
	struct smtp_shared *shared = s->worker->shared;
	char text[TEXT + SMTP_HOSTNAME], who[120];
	struct subjects u;

	subjects_of(s, &u);
	for (unsigned i = 0; i < SMTP_SUBJECTS; i++) {
		uint64_t key = inside_key(shared, &u, i);
		if (k->sessions[i] == 0 || u.of[i].n == 0)
			continue;
		enum quota_verdict v = quota_enter(shared->quotas, key, k->sessions[i]);
		if (v == QUOTA_TAKEN)
			s->inside[i] = key;
		if (v == QUOTA_NO_CELL)
			smtp_count(s->worker, smtp_limits_no_cell);
		if (v != QUOTA_EXHAUSTED)
			continue;
		smtp_count(s->worker, subject_counters[i]);
		name_subject(s, &u, i, who, sizeof(who));
		snprintf(text, sizeof(text), "%s limit of %u sessions for %s reached",
			 s->worker->config->hostname, k->sessions[i], who);
		reply_about(s, REPLY_LIMIT_SESSIONS, text, "sessions", i);
		s->phase = PHASE_CLOSING;
		s->quitting = true;
		return false;
	}
	return true;
}

void policy_leave(struct smtp_session *s)
{
	for (unsigned i = 0; i < SMTP_SUBJECTS; i++) {
		if (s->inside[i] != 0)
			quota_leave(s->worker->shared->quotas, s->inside[i]);
		s->inside[i] = 0;
	}
}

void smtp_limits_report(const struct smtp_shared *shared, const struct smtp_config *c,
			const char *user, const char *tenant, uint64_t now_us,
			void (*row)(void *arg, const struct smtp_limit_row *r), void *arg)
{
	const struct smtp_class *k = class_of(c, user, tenant);
	struct subjects u;

	subjects_named(&u, user, tenant);
	for (unsigned i = SMTP_TENANT; i < SMTP_ADDRESS; i++) {
		struct smtp_limit_row r = {
			.class_name = k->name, .subject = subject_names[i], .name = u.of[i].text};
		if (u.of[i].n == 0)
			continue;
		for (unsigned m = 0; m < SMTP_MEASURES; m++) {
			if (k->rate[i][m].count == 0)
				continue;
			r.measure = measure_names[m];
			r.limit = k->rate[i][m].count;
			r.per_us = k->rate[i][m].per_us;
			r.used =
				quota_used(shared->quotas, bucket(shared, &u, i, m, &k->rate[i][m]),
					   &k->rate[i][m], now_us);
			row(arg, &r);
		}
		if (k->sessions[i] == 0)
			continue;
		r.measure = "sessions";
		r.limit = k->sessions[i];
		r.per_us = 0;
		r.used = quota_inside(shared->quotas, inside_key(shared, &u, i));
		row(arg, &r);
	}
}
