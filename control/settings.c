/* settings.c - the configuration in the words of each layer */
#include "control/settings.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum {
	QUEUE_ENTRIES = 1 << 20,
	DIRECTORY_ENTRY = 6400, /* octets of one certificate: perf-certificates */
	DIRECTORY_LEAST = 256,
	DIRECTORY_MOST = 16384,
	HOP_ROOM = 1024, /* connections to next hops that a reload may add */
};

/* Clients spread over the workers: each gives its share. */
static struct tls_rate share(const struct config_rate *r, unsigned workers)
{
	return (struct tls_rate){.count = r->count, .per_us = r->per_us * workers};
}

/* An eighth of OpenSSL's memory (gateway.c), over all threads. */
static unsigned directory_entries(const struct config *c)
{
	uint64_t n = c->dataplane.memory * 3 / 8 / 8 / DIRECTORY_ENTRY / c->tls.threads;

	return (unsigned)(n < DIRECTORY_LEAST  ? DIRECTORY_LEAST
			  : n > DIRECTORY_MOST ? DIRECTORY_MOST
					       : n);
}

static uint32_t masked(uint32_t from, const uint8_t *names, unsigned n)
{
	uint32_t to = 0;

	for (unsigned i = 0; i < n; i++)
		if ((from & 1u << names[i]) != 0)
			to |= 1u << i;
	return to;
}

static const uint8_t suites[TLS_SUITES] = {
	[TLS_SUITE_AES_256_GCM] = CONFIG_SUITE_AES_256_GCM,
	[TLS_SUITE_AES_128_GCM] = CONFIG_SUITE_AES_128_GCM,
	[TLS_SUITE_CHACHA20] = CONFIG_SUITE_CHACHA20,
};

static const uint8_t groups[TLS_GROUPS] = {
	[TLS_GROUP_X25519] = CONFIG_GROUP_X25519,
	[TLS_GROUP_P256] = CONFIG_GROUP_P256,
	[TLS_GROUP_P384] = CONFIG_GROUP_P384,
};

void settings_tls(const struct config *c, struct tls_settings *out)
{
	for (unsigned i = 0; i < c->tls.certificate_count; i++) {
		const struct config_certificate *from = &c->tls.certificate[i];
		for (unsigned k = 0; k < from->name_count; k++)
			out->name[i][k] = from->name[k];
		out->certificate[i] = (struct tls_certificate){
			.chain = from->chain,
			.key = from->key,
			.ocsp = from->ocsp,
			.names = out->name[i],
			.n_names = from->name_count,
		};
	}
	out->c = (struct tls_config){
		.certificates = out->certificate,
		.n_certificates = c->tls.certificate_count,
		.directory = c->tls.certificate_directory,
		.directory_entries = directory_entries(c),
		.minimum_1_3 = c->tls.minimum == CONFIG_TLS_1_3,
		.native_records = c->tls.records == CONFIG_RECORDS_NATIVE,
		.suites = masked(c->tls.suites, suites, TLS_SUITES),
		.groups = masked(c->tls.groups, groups, TLS_GROUPS),
		.ticket_secret = c->tls.tickets.secret,
		.ticket_lifetime_s = c->tls.tickets.lifetime_us / 1000000,
		.client_ca = c->tls.client_ca,
		.signer = c->tls.signer.socket,
		.budget =
			{
				.per_network = share(&c->tls.handshakes.per_network,
						     c->dataplane.worker_count),
				.per_name = share(&c->tls.handshakes.per_name,
						  c->dataplane.worker_count),
				.queue = (unsigned)c->tls.handshakes.queue,
				.deadline_us = c->tls.handshakes.deadline_us,
			},
		.threads = (unsigned)c->tls.threads,
		.channel_bindings = (c->auth.mechanisms & 1u << CONFIG_AUTH_SCRAM_PLUS) != 0,
		.max_sessions =
			(uint32_t)(c->dataplane.limits.sessions + settings_hop_room(c) + 256),
	};
}

static void backend_settings(const struct config_backend *from, struct auth_backend *to)
{
	static const enum auth_backend_kind kinds[] = {
		[CONFIG_BACKEND_USERS] = AUTH_BACKEND_USERS,
		[CONFIG_BACKEND_DOVECOT] = AUTH_BACKEND_DOVECOT,
		[CONFIG_BACKEND_LDAP] = AUTH_BACKEND_LDAP,
		[CONFIG_BACKEND_HTTP] = AUTH_BACKEND_HTTP,
	};
	static const char *const names[] = {"users", "dovecot", "ldap", "http"};
	bool dovecot = from->type == CONFIG_BACKEND_DOVECOT;

	/* compared octet by octet: nothing may be left behind a text's end */
	memset(to, 0, sizeof(*to));
	to->kind = kinds[from->type];
	to->timeout_ms = (uint32_t)(from->timeout_us / 1000);
	to->cache_s = (uint32_t)(from->cache_us / 1000000);
	to->connections = (uint32_t)from->connections;
	to->form = from->format == CONFIG_BACKEND_FORM;
	to->tls = from->tls == CONFIG_BACKEND_TLS_REQUIRED && strncmp(from->url, "ldap://", 7) == 0;
	snprintf(to->name, sizeof(to->name), "%s",
		 from->name[0] != '\0' ? from->name : names[from->type]);
	snprintf(to->url, sizeof(to->url), "%s", dovecot ? from->socket : from->url);
	snprintf(to->ca, sizeof(to->ca), "%s", from->ca);
	snprintf(to->password_file, sizeof(to->password_file), "%s", from->password_file);
	snprintf(to->service, sizeof(to->service), "%s", from->service);
	snprintf(to->bind_dn, sizeof(to->bind_dn), "%s", from->bind_dn);
	snprintf(to->base, sizeof(to->base), "%s", from->base);
	snprintf(to->filter, sizeof(to->filter), "%s", from->filter);
	snprintf(to->dn, sizeof(to->dn), "%s", from->dn);
	snprintf(to->user_field, sizeof(to->user_field), "%s", from->user_field);
	snprintf(to->tenant_field, sizeof(to->tenant_field), "%s", from->tenant_field);
	snprintf(to->addresses_field, sizeof(to->addresses_field), "%s", from->addresses_field);
}

void settings_auth(const struct config *c, struct auth_config *out)
{
	const struct config_oauth *o = &c->auth.oauth;

	*out = (struct auth_config){
		.users_file = c->auth.users,
		.jwks_file = o->jwks[0] != '\0' ? o->jwks : NULL,
		.tokens = {.skew_s = (int64_t)(o->clock_skew_us / 1000000)},
		.threads = (unsigned)c->auth.threads,
		.per_address = {c->auth.failures.per_address.count,
				c->auth.failures.per_address.per_us},
		.per_user = {c->auth.failures.per_user.count, c->auth.failures.per_user.per_us},
	};
	out->n_backends = c->auth.backend_count;
	for (unsigned i = 0; i < out->n_backends; i++)
		backend_settings(&c->auth.backend[i], &out->backends[i]);
	snprintf(out->tokens.issuer, sizeof(out->tokens.issuer), "%s", o->issuer);
	snprintf(out->tokens.audience, sizeof(out->tokens.audience), "%s", o->audience);
	snprintf(out->tokens.user_claim, sizeof(out->tokens.user_claim), "%s", o->user_claim);
}

/* REQUIRETLS can only be promised then (RFC 8689). */
static bool every_hop_verified(const struct config *c)
{
	for (unsigned i = 0; i < c->relay.pool_count; i++) {
		for (unsigned k = 0; k < c->relay.pool[i].next_hop_count; k++) {
			enum config_hop_tls tls = c->relay.pool[i].next_hop[k].tls;
			if (tls != CONFIG_HOP_TLS_REQUIRED && tls != CONFIG_HOP_TLS_IMPLICIT)
				return false;
		}
	}
	return true;
}

static struct quota_rate rate_of(const struct config_rate *r, uint64_t unit)
{
	return (struct quota_rate){
		.count = r->per_us != 0 ? (r->count + unit - 1) / unit : 0,
		.per_us = r->per_us,
	};
}

static void quota_of(const struct config_quota *q, enum smtp_subject i, struct smtp_class *k)
{
	k->sessions[i] = (uint32_t)q->sessions;
	k->rate[i][SMTP_MESSAGES] = rate_of(&q->messages, 1);
	k->rate[i][SMTP_RECIPIENTS] = rate_of(&q->recipients, 1);
	k->rate[i][SMTP_OCTETS] = rate_of(&q->octets, 1024);
}

static void names_of(const char (*names)[CONFIG_CLASS_BYTES], unsigned n, char *out)
{
	size_t at = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < n; i++)
		at += (size_t)snprintf(out + at, SMTP_CLASS_LIST - at, "%s%s", i > 0 ? "," : "",
				       names[i]);
}

static_assert(CONFIG_CLASS_NAMES * CONFIG_CLASS_BYTES <= SMTP_CLASS_LIST, "the lists fit");
static_assert((int)CONFIG_CLASSES < (int)SMTP_CLASSES, "the classes fit");

/* What submission.rates says holds where the class says nothing. */
static void inherit_rates(const struct config_submission *s, struct smtp_class *k)
{
	struct quota_rate *messages = &k->rate[SMTP_USER][SMTP_MESSAGES],
			  *recipients = &k->rate[SMTP_USER][SMTP_RECIPIENTS];

	if (messages->count == 0)
		*messages = rate_of(&s->messages_per_user, 1);
	if (recipients->count == 0)
		*recipients = rate_of(&s->recipients_per_user, 1);
}

static void class_settings(const struct config_class *c, struct smtp_class *k)
{
	*k = (struct smtp_class){
		.max_message_size = c->max_message_size,
		.max_recipients = (uint32_t)c->max_recipients,
		.max_messages = (uint32_t)c->max_messages,
		.weight = (uint32_t)c->weight,
		.permanent = c->reply == CONFIG_LIMIT_PERMANENT,
		.retry_after_us = c->retry_after_us,
	};
	snprintf(k->name, sizeof(k->name), "%s", c->name);
	names_of(c->user, c->user_count, k->users);
	names_of(c->tenant, c->tenant_count, k->tenants);
	quota_of(&c->of_listener, SMTP_LISTENER, k);
	quota_of(&c->of_tenant, SMTP_TENANT, k);
	quota_of(&c->of_user, SMTP_USER, k);
	quota_of(&c->of_address, SMTP_ADDRESS, k);
}

/* Tokens need keys, and after a reload those may still wait for the restart that they need. */
static uint32_t mechanisms_of(const struct config_auth *a)
{
	const uint32_t tokens = 1u << CONFIG_AUTH_OAUTHBEARER | 1u << CONFIG_AUTH_XOAUTH2;

	return a->oauth.jwks[0] == '\0' ? a->mechanisms & ~tokens : a->mechanisms;
}

void settings_smtp(const struct config *c, struct smtp_config *out)
{
	*out = (struct smtp_config){
		.max_message_size = c->submission.max_message_size,
		.max_recipients = (uint32_t)c->submission.max_recipients,
		.max_messages = (uint32_t)c->submission.max_messages,
		.max_header_size = c->submission.max_header_size,
		.extensions = c->submission.extensions,
		.require_tls_onward = every_hop_verified(c),
		.max_hold_us = c->submission.max_hold_us,
		.max_priority = (int8_t)c->submission.max_priority,
		.long_lines_refused = c->submission.long_lines == CONFIG_LONG_LINES_REJECT,
		.command_us = c->submission.timeouts.command_us,
		.data_us = c->submission.timeouts.data_us,
		.unauthenticated_us = c->submission.timeouts.idle_unauthenticated_us,
		.auth_failure_delay_us = c->auth.failures.delay_us,
		.mechanisms = mechanisms_of(&c->auth),
		.external = c->auth.external,
		.sessions = (uint32_t)c->dataplane.limits.sessions,
		.sessions_per_address = (uint32_t)c->dataplane.limits.sessions_per_address,
		.n_exempt = c->dataplane.limits.exempt_count,
		.tls_memory = c->dataplane.memory * 3 / 8,
	};

	snprintf(out->hostname, sizeof(out->hostname), "%s", c->hostname);
	for (unsigned i = 0; i < c->listener_count; i++)
		out->duplicates |= c->listener[i].duplicates_us > 0;
	/* one for everybody behind them */
	out->n_classes = c->class_count + 1;
	for (unsigned i = 0; i < c->class_count; i++)
		class_settings(&c->class[i], &out -> classes[i]);
	for (unsigned i = 0; i < out->n_classes; i++)
		inherit_rates(&c->submission, &out->classes[i]);
	snprintf(out->qualify, sizeof(out->qualify), "%s", c->submission.qualify);
	for (unsigned i = 0; i < out->n_exempt; i++) {
		out->exempt[i].addr = c->dataplane.limits.exempt[i].addr;
		out->exempt[i].bits = c->dataplane.limits.exempt[i].bits;
	}
}

static bool of_listener(enum config_of_listener own, bool submission)
{
	return own == CONFIG_AS_SUBMISSION ? submission : own == CONFIG_LISTENER_YES;
}

void settings_policy(const struct config *c, unsigned listener, struct smtp_policy *p)
{
	const struct config_listener *l = &c->listener[listener];
	const struct config_submission *s = &c->submission;

	*p = (struct smtp_policy){
		.normalize =
			of_listener(l->normalize, s->bare_newline == CONFIG_BARE_NEWLINE_NORMALIZE),
		.hide_client = of_listener(l->hide_client, s->hide_client == CONFIG_ON),
		.from_required = of_listener(l->require_from, s->require_from == CONFIG_ON),
		.remove_bcc = of_listener(l->remove_bcc, s->remove_bcc == CONFIG_ON),
		.add_sender = of_listener(l->add_sender, s->add_sender == CONFIG_ON),
		.own_senders = of_listener(l->senders, s->senders == CONFIG_SENDERS_OWN),
	};
}

static unsigned pool_index(const struct config_relay *r, const char *name)
{
	for (unsigned i = 0; i < r->pool_count; i++) {
		if (strcmp(r->pool[i].name, name) == 0)
			return i;
	}
	return 0;
}

/* The first line; config_check() has seen that the file can be read.  Empty, or gone since: the hop
 * refuses the login, and says so. */
static void read_password(const char *file, char password[RELAY_PASSWORD])
{
	FILE *f = fopen(file, "re");

	if (f == NULL || fgets(password, RELAY_PASSWORD, f) == NULL)
		password[0] = '\0';
	password[strcspn(password, "\r\n")] = '\0';
	if (f != NULL)
		fclose(f);
}

static void hop_settings(const struct config_next_hop *from, unsigned workers, struct relay_hop *h)
{
	static const enum relay_tls tls[] = {
		[CONFIG_HOP_TLS_NONE] = RELAY_TLS_NONE,
		[CONFIG_HOP_TLS_OPPORTUNISTIC] = RELAY_TLS_OPPORTUNISTIC,
		[CONFIG_HOP_TLS_REQUIRED] = RELAY_TLS_REQUIRED,
		[CONFIG_HOP_TLS_IMPLICIT] = RELAY_TLS_IMPLICIT,
	};

	*h = (struct relay_hop){
		.address = from->address,
		.port = (uint16_t)from->port,
		.tls = tls[from->tls],
		.lmtp = from->protocol == CONFIG_PROTOCOL_LMTP,
		.priority = (unsigned)from->priority,
		.weight = (unsigned)from->weight,
		.gap_us =
			from->rate.count != 0 ? from->rate.per_us * workers / from->rate.count : 0,
	};
	snprintf(h->name, sizeof(h->name), "%s", from->name);
	h->n_pins = from->pin_count;
	memcpy(h->pins, from->pin, sizeof(h->pins));
	if (from->auth.user[0] != '\0') {
		snprintf(h->user, sizeof(h->user), "%s", from->auth.user);
		read_password(from->auth.password_file, h->password);
	}
}

static_assert((int)CONFIG_POOLS <= (int)RELAY_POOLS && (int)CONFIG_ROUTES <= (int)RELAY_ROUTES &&
		      (int)CONFIG_NEXT_HOPS <= (int)RELAY_HOPS &&
		      sizeof(((struct config_next_hop *)0)->pin) ==
			      sizeof(((struct relay_hop *)0)->pins),
	      "pools, routes, hops and pins fit");

/* One hop in the file, as many as it has addresses in the pool. */
static void add_hop(const struct config_next_hop *from, unsigned workers, struct resolver *resolver,
		    struct relay_pool *p)
{
	struct ip_addr address[RESOLVER_ADDRESSES] = {from->address};
	unsigned n = 1;

	if (from->host[0] != '\0')
		n = resolver != NULL
			    ? resolver_addresses(resolver, from->host, address, RESOLVER_ADDRESSES)
			    : 0;
	for (unsigned i = 0; i < n && p->n_hops < RELAY_HOPS; i++) {
		hop_settings(from, workers, &p->hops[p->n_hops]);
		p->hops[p->n_hops++].address = address[i];
	}
}

unsigned settings_hop_names(const struct config *c, char names[RESOLVER_NAMES][RESOLVER_NAME])
{
	unsigned n = 0;

	for (unsigned i = 0; i < c->relay.pool_count; i++) {
		for (unsigned k = 0; k < c->relay.pool[i].next_hop_count; k++) {
			const char *host = c->relay.pool[i].next_hop[k].host;
			if (host[0] != '\0' && n < RESOLVER_NAMES)
				snprintf(names[n++], RESOLVER_NAME, "%s", host);
		}
	}
	return n;
}

static_assert((int)RESOLVER_NAME >= (int)CONFIG_NAME_BYTES &&
		      RESOLVER_NAMES >= CONFIG_POOLS * CONFIG_NEXT_HOPS,
	      "every host has its place");

void settings_relay(const struct config *c, struct resolver *resolver, struct relay_config *r)
{
	memset(r, 0, sizeof(*r));
	r->n_pools = c->relay.pool_count;
	r->n_routes = c->relay.route_count;
	r->max_messages = QUEUE_ENTRIES;
	r->memory = c->relay.memory / c->dataplane.worker_count;
	snprintf(r->hostname, sizeof(r->hostname), "%s", c->hostname);
	for (unsigned i = 0; i < r->n_pools; i++) {
		const struct config_pool *from = &c->relay.pool[i];
		struct relay_pool *p = &r->pools[i];
		p->connections = (unsigned)from->connections;
		p->retry_first_us = from->retry.first_us;
		p->retry_max_us = from->retry.max_us;
		p->give_up_us = from->retry.give_up_us;
		p->notice_us = from->retry.notice_us;
		p->retry_factor = (unsigned)from->retry.factor;
		snprintf(p->name, sizeof(p->name), "%s", from->name);
		for (unsigned k = 0; k < from->next_hop_count; k++)
			add_hop(&from->next_hop[k], c->dataplane.worker_count, resolver, p);
	}
	for (unsigned i = 0; i < r->n_routes; i++) {
		r->routes[i].pool = pool_index(&c->relay, c->relay.route[i].pool);
		snprintf(r->routes[i].match, sizeof(r->routes[i].match), "%s",
			 c->relay.route[i].match);
	}
}

uint64_t settings_hop_connections(const struct config *c)
{
	uint64_t n = 0;

	/* names bring a pool up to as many hops as it can hold */
	for (unsigned i = 0; i < c->relay.pool_count; i++) {
		const struct config_pool *p = &c->relay.pool[i];
		bool by_host = false;
		for (unsigned k = 0; k < p->next_hop_count; k++)
			by_host |= p->next_hop[k].host[0] != '\0';
		n += p->connections * (by_host ? RELAY_HOPS : p->next_hop_count);
	}
	return n;
}

uint64_t settings_hop_room(const struct config *c)
{
	return settings_hop_connections(c) + HOP_ROOM;
}
