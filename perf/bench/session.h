/*
 * session.h - what session.c and work.c share.
 *
 * Runs on: the worker.  A bool says whether the session surely lives on: after false it may be
 * gone.
 */
#ifndef PERF_BENCH_SESSION_H
#define PERF_BENCH_SESSION_H

#include "perf/bench/engine.h"

/* session.c */
void session_wait(struct session *s, enum session_state state);
bool session_send(struct session *s, const char *text, size_t n);
/* Commands that did not fit; false: some still do not. */
bool session_send_rest(struct session *s);
/* Over by the server's fault, counted; over by our own doing. */
void session_fail(struct session *s, enum bench_counter why, const char *text);
void session_leave(struct session *s, bool polite);
/* Takes the next unit of work if there is one for this session. */
bool session_next(struct session *s);

/* work.c: replies, whose last line is given */
bool work_envelope_reply(struct session *s, unsigned code, const char *line, size_t n);
/* The message has its verdict. */
bool work_verdict(struct session *s, unsigned code, const char *line, size_t n);
bool work_reset_reply(struct session *s, unsigned code);
bool work_noop_reply(struct session *s, unsigned code, const char *line);
/* As much of the content as there is room for. */
bool work_send_content(struct session *s);

#endif
