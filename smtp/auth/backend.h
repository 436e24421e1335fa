/*
 * backend.h - where passwords are judged besides the users file: one interface, three of it.
 *
 * A back end has threads of its own, each with one connection that it keeps; so a slow one holds
 * up nobody but its own users.  ask() may take until its deadline and looks at *stop every tenth
 * of a second.
 *
 * Owner: struct auth_backend is copied; a link belongs to its thread.
 * Runs on: the threads of chain.c.
 * Errors: an enum backend_answer, with the reason for the log in question.why.
 */
#ifndef SMTP_AUTH_BACKEND_H
#define SMTP_AUTH_BACKEND_H

#include "base/addr.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum auth_backend_kind {
	AUTH_BACKEND_USERS, /* the users file's place in the order */
	AUTH_BACKEND_DOVECOT,
	AUTH_BACKEND_LDAP,
	AUTH_BACKEND_HTTP,
	AUTH_BACKEND_KINDS
};

enum {
	AUTH_BACKENDS = 4,
	BACKEND_CONNECTIONS = 32,
	BACKEND_SLICE_MS = 100, /* how often a waiting thread looks whether it shall stop */
	BACKEND_URL_BYTES = 512,
	BACKEND_TEXT_BYTES = 256,
	BACKEND_FIELD_BYTES = 64,
	BACKEND_SECRET_BYTES = 512,
};

struct auth_ops;

/* Texts: "" where nothing is wanted.  Compared octet by octet: zeroed before it is filled. */
struct auth_backend {
	enum auth_backend_kind kind;
	const struct auth_ops *ops; /* NULL: those of the kind */
	char name[BACKEND_FIELD_BYTES];
	uint32_t timeout_ms, cache_s, connections;
	bool tls;                    /* StartTLS where the URL does not begin with TLS */
	bool form;                   /* HTTP: form fields instead of JSON */
	char url[BACKEND_URL_BYTES]; /* Dovecot: the path of the socket */
	char ca[BACKEND_URL_BYTES];
	char password_file[BACKEND_URL_BYTES];
	char service[BACKEND_FIELD_BYTES]; /* Dovecot */
	/* LDAP: filter with base, or dn */
	char bind_dn[BACKEND_TEXT_BYTES], base[BACKEND_TEXT_BYTES];
	char filter[BACKEND_URL_BYTES], dn[BACKEND_URL_BYTES];
	/* LDAP: attributes; Dovecot: fields of its answer */
	char user_field[BACKEND_FIELD_BYTES], tenant_field[BACKEND_FIELD_BYTES],
		addresses_field[BACKEND_FIELD_BYTES];
	char secret[BACKEND_SECRET_BYTES]; /* read from password_file by chain.c */
};

enum backend_answer {
	BACKEND_RIGHT,
	BACKEND_WRONG,       /* it knows the user and refuses: no other is asked */
	BACKEND_UNKNOWN,     /* unknown, or it does not tell: the next one is asked */
	BACKEND_OUTAGE,      /* no answer in time, or one that says "later" */
	BACKEND_UNREACHABLE, /* no connection */
	BACKEND_MALFORMED,   /* an answer that cannot be used */
};

struct backend_question {
	const char *user, *password, *listener;
	struct ip_addr source;
	uint64_t deadline_us; /* of backend_now_us() */
	const atomic_bool *stop;
	char why[160]; /* an outage: for the log */
};

struct identity_draft;

struct auth_ops {
	bool by_source; /* the answer may depend on source and listener */
	/* Of its library, before any thread starts; NULL: none. */
	void (*setup)(void);
	/* NULL: no memory.  Connects to nobody. */
	void *(*open)(const struct auth_backend *b);
	enum backend_answer (*ask)(void *link, struct backend_question *q,
				   struct identity_draft *d);
	void (*close)(void *link);
};

extern const struct auth_ops dovecot_ops, ldap_ops, http_ops;

uint64_t backend_now_us(void);
/* Milliseconds until the deadline; 0: passed, or the thread shall stop. */
uint32_t backend_left_ms(const struct backend_question *q);

#endif
