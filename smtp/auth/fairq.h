/*
 * fairq.h - waiting password checks, served round robin by source.
 *
 * Owner: struct auth; the requests belong to their workers.
 * Runs on: auth threads, under their lock.
 */
#ifndef SMTP_AUTH_FAIRQ_H
#define SMTP_AUTH_FAIRQ_H

#include "smtp/auth/auth.h"

struct fairq;

/* requests: the most that ever wait; NULL when memory is short. */
struct fairq *fairq_create(unsigned requests);
void fairq_destroy(struct fairq *q);
void fairq_push(struct fairq *q, struct auth_request *r);
/* The oldest of the source whose turn it is; NULL: nothing waits. */
struct auth_request *fairq_pop(struct fairq *q);

#endif
