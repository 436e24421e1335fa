/*
 * mailbox.h - the addresses in the value of a From field: display names, comments, quotes and
 * groups are stepped over.  Pure functions; the addresses point into the value.
 *
 * What is not clearly an address list is a fault, never a guess: a permission hangs on it.
 *
 * Source: RFC 5322 section 3.4.
 */
#ifndef SMTP_MAILBOX_H
#define SMTP_MAILBOX_H

#include "smtp/parse.h"

enum mailbox { MAILBOX_FOUND, MAILBOX_END, MAILBOX_BAD };

/* Cuts the next address off the front of *rest (a field's value, unfolded). */
enum mailbox mailbox_next(struct text *rest, struct text *address);

/* Whether the address is in the list: addresses, and @domains that stand for all of theirs,
 * separated by commas.  Domains compare without case, local parts with. */
bool mailbox_in_list(struct text address, struct text list);

#endif
