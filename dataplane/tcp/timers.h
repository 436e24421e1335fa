/*
 * timers.h - the deadlines of a stream: retransmission or persist, delayed ACK, and one for
 * whatever an idle connection waits for (keepalive, FIN_WAIT_2, TIME_WAIT).
 *
 * One wheel timer a stream stands at the earliest deadline; it is set once a flush.
 *
 * Runs on: the worker.
 */
#ifndef DATAPLANE_TCP_TIMERS_H
#define DATAPLANE_TCP_TIMERS_H

struct stream;
struct timer;

void timers_start_retransmit(struct stream *s);
void timers_start_persist(struct stream *s);
/* The peer lives, and its window is still closed. */
void timers_probe_answered(struct stream *s);
/* The retransmission timer has expired. */
void timers_retransmit(struct stream *s);
void timers_stop_retransmit(struct stream *s);
void timers_start_delayed_ack(struct stream *s);
/* What the state of s waits for from now on; called on every change of state. */
void timers_start_idle(struct stream *s);
void timers_stop_all(struct stream *s);
/* Sets the wheel timer by the deadlines. */
void timers_settle(struct stream *s);

/* The wheel's callback. */
void timers_fire(struct timer *t);

#endif
