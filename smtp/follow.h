/*
 * follow.h - one session, user or address, live: commands, replies and what happened, masked.
 *
 * A worker that somebody follows copies lines into a ring of fixed size; nobody following costs
 * a predicted branch a line.  A full ring loses lines and counts them: the worker never waits.
 * What a client sends within AUTH, what follows AUTH's mechanism, and before the login whatever
 * is no known command (it may be a password sent at the wrong moment) is never copied.
 *
 * Owner: the control thread makes and destroys it; between smtp_follow_attach() with it and with
 *        NULL its writing end is the worker's.
 * Runs on: smtp_follow_attach() on the worker; the rest on the control thread.
 * Units: microseconds of the worker's clock.
 */
#ifndef SMTP_FOLLOW_H
#define SMTP_FOLLOW_H

#include "base/addr.h"
#include "base/slab.h"

#include <stdbool.h>
#include <stdint.h>

struct smtp_follow;
struct smtp_worker;

enum smtp_follow_by { SMTP_FOLLOW_SESSION, SMTP_FOLLOW_USER, SMTP_FOLLOW_ADDRESS };

struct smtp_follow_filter {
	enum smtp_follow_by by;
	char name[256]; /* the session's tag, or the user; a user is followed from the login on */
	struct ip_addr addr;
	unsigned bits;
};

enum smtp_follow_kind { SMTP_FOLLOW_CLIENT, SMTP_FOLLOW_SERVER, SMTP_FOLLOW_EVENT };

struct smtp_follow_line {
	uint64_t at_us;
	handle_t stream; /* of TCP; 0: gone */
	enum smtp_follow_kind kind;
	char tag[12];
	char text[300]; /* printable ASCII; others as \xNN; cut off at its end */
};

/* NULL when memory is short. */
struct smtp_follow *smtp_follow_create(const struct smtp_follow_filter *f);
void smtp_follow_destroy(struct smtp_follow *f);
/* f NULL: nobody any more. */
void smtp_follow_attach(struct smtp_worker *w, struct smtp_follow *f);
/* The oldest line not yet taken; false: none. */
bool smtp_follow_take(struct smtp_follow *f, struct smtp_follow_line *out);
uint64_t smtp_follow_lost(const struct smtp_follow *f);

#endif
