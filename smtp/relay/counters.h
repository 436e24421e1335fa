/* counters.h - everything the relay counts; one row a counter */
#ifndef SMTP_RELAY_COUNTERS_H
#define SMTP_RELAY_COUNTERS_H

#include "base/counter.h"

#define RELAY_COUNTERS(X)                                                                          \
	X(relay, queue_entries, "messages", "messages in the queue of this worker")                \
	X(relay, queue_full, "messages", "messages left to the next start: no queue entry")        \
	X(relay, ordered, "messages", "messages that an operator's order was about")               \
	X(relay, deleted, "recipients", "recipients of messages that an operator deleted")         \
	X(relay, split, "messages", "messages whose recipients go to several pools")               \
	X(relay, attempts, "attempts", "delivery attempts begun")                                  \
	X(relay, delivered, "recipients", "recipients taken by a next hop")                        \
	X(relay, deferred, "recipients", "recipients put off by a next hop")                       \
	X(relay, bounced, "recipients", "recipients refused for good, or expired")                 \
	X(relay, expired, "messages", "messages given up: retry.give_up passed")                   \
	X(relay, reports, "messages", "delivery status notifications sent")                        \
	X(relay, reports_suppressed, "messages", "failures without a report: null reverse-path")   \
	X(relay, reports_unwanted, "messages", "reports not sent: NOTIFY did not ask for them")    \
	X(relay, notices, "messages", "notices of a delay or a passed deadline looked into")       \
	X(relay, deadline_passed, "messages", "messages given up: BY with mode R passed")          \
	X(relay, hop_lacks, "attempts", "attempts failed: the hop lacks what the message needs")   \
	X(relay, connections, "connections", "connections to next hops made")                      \
	X(relay, connect_failed, "connections", "connections to next hops that failed")            \
	X(relay, circuits_opened, "times",                                                         \
	  "hops left alone: they broke off message after message")                                 \
	X(relay, tls_failed, "connections", "TLS with a next hop failed")                          \
	X(relay, tls_missing, "connections", "STARTTLS required but not offered")                  \
	X(relay, auth_failed, "connections", "next hops that do not take our login")               \
	X(relay, interrupted, "attempts", "attempts cut off by the end of their connection")       \
	X(relay, ambiguous, "attempts", "of these, after the end of data: may be delivered twice") \
	X(relay, timeouts, "connections", "next hops that did not answer in time")                 \
	X(relay, bad_replies, "connections", "connections dropped: malformed or endless reply")    \
	X(relay, injected, "connections", "connections dropped: octets behind a STARTTLS reply")   \
	X(relay, memory_hits, "attempts", "attempts whose message was still in memory")            \
	X(relay, memory_misses, "attempts", "attempts whose message was read from the spool")      \
	X(relay, memory_evictions, "messages",                                                     \
	  "messages that lost their place in memory before an attempt: budget, or chunks short")   \
	X(relay, memory_bytes, "bytes", "chunks that hold messages for their first attempt")       \
	X(relay, spool_errors, "requests", "spool requests of the relay that failed")              \
	X(relay, stuck, "messages", "messages found waiting for nothing, or for the spool too long")

COUNTER_ENUM(relay, RELAY_COUNTERS)

#endif
