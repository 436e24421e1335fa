/* http_answer.h - the JSON that an HTTP back end answers an accepted login with; for http.c and
 * tests.  {"tenant": "...", "addresses": ["...", "@..."], "user": "..."}, each optional; other
 * members are passed over.  Runs on: any thread. */
#ifndef SMTP_AUTH_HTTP_ANSWER_H
#define SMTP_AUTH_HTTP_ANSWER_H

#include "smtp/auth/identity.h"

enum { HTTP_ANSWER_MOST = 16384 };

/* false: not such an object, or a value that cannot be what it is for. */
bool http_answer_read(const char *text, size_t n, struct identity_draft *d);

#endif
