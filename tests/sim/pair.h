/*
 * pair.h - two TCP stacks joined by a link in virtual time: the bench on which the layers above
 * TCP are tested.
 *
 *	struct pair *p = pair_create(NULL);                    // a perfect link of 100 us
 *	tcp_listen(pair_tcp(p, 1), &(struct tcp_listen){.port = 25, .events = &server, .user = x});
 *	struct stream *s = pair_connect(p, 0, 25, &client, y); // from host 0 to host 1
 *	pair_run(p, 1000000);                                  // one virtual second
 *	pair_destroy(p);
 *
 * Events of both ends come from inside pair_run().  For faults fill in struct net_options
 * (net.h): seed, conditions, configurations.
 *
 * Owner: the test.  Units: virtual microseconds.
 */
#ifndef TESTS_SIM_PAIR_H
#define TESTS_SIM_PAIR_H

#include "tests/sim/net.h"

struct pair;

/* options NULL: net_options_default() */
struct pair *pair_create(const struct net_options *options);
void pair_destroy(struct pair *p);

struct tcp_stack *pair_tcp(struct pair *p, unsigned side);
struct shard *pair_shard(struct pair *p, unsigned side);
struct net *pair_net(struct pair *p);

/* Lets time pass: packets, timers of both shards (those of other layers too), events. */
void pair_run(struct pair *p, uint64_t us);
/* Until done(arg) is true, or us have passed; what done() said last. */
bool pair_run_until(struct pair *p, bool (*done)(void *arg), void *arg, uint64_t us);
/* step is called after each event: poll rings here, wait for a helper thread if you must. */
void pair_on_step(struct pair *p, void (*step)(void *arg), void *arg);

/* From side to the other side's port; NULL only when its stack is full. */
struct stream *pair_connect(struct pair *p, unsigned side, uint16_t port,
			    const struct stream_events *events, void *user);

#endif
