/* counters.h - everything the spool counts; one row a counter */
#ifndef SMTP_SPOOL_COUNTERS_H
#define SMTP_SPOOL_COUNTERS_H

#include "base/counter.h"

#define SPOOL_COUNTERS(X)                                                                          \
	X(spool, commits, "messages", "messages made durable")                                     \
	X(spool, syncs, "calls", "fdatasync calls on the log")

COUNTER_ENUM(spool, SPOOL_COUNTERS)

#endif
