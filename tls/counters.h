/* counters.h - everything the TLS layer counts; one row a counter */
#ifndef TLS_COUNTERS_H
#define TLS_COUNTERS_H

#include "base/counter.h"

#define TLS_COUNTERS(X)                                                                          \
	X(tls, handshakes, "handshakes", "server handshakes completed")                          \
	X(tls, handshakes_resumed, "handshakes", "of these, resumed by ticket")                  \
	X(tls, handshakes_1_2, "handshakes", "of these, TLS 1.2")                                \
	X(tls, handshakes_failed, "handshakes", "server handshakes that failed")                 \
	X(tls, client_handshakes, "handshakes", "handshakes with next hops completed")           \
	X(tls, client_failed, "handshakes", "handshakes with next hops that failed")             \
	X(tls, client_unpinned, "handshakes", "of these, a certificate whose key is not pinned") \
	X(tls, jobs, "jobs", "handshake steps sent to a handshake thread")                       \
	X(tls, queue_full, "sessions", "sessions dropped: the handshake queue was full")         \
	X(tls, no_memory, "sessions", "sessions dropped: no chunk or no TLS object")             \
	X(tls, oversized_record, "sessions",                                                     \
	  "sessions dropped: a handshake record over the limit")                                 \
	X(tls, not_tls, "sessions", "sessions dropped: the first octets are not a TLS record")   \
	X(tls, record_errors, "sessions", "sessions dropped: bad record after the handshake")    \
	X(tls, truncated, "sessions", "sessions ended by the peer without close_notify")         \
	X(tls, tickets_foreign, "tickets", "tickets whose key is not ours or too old")           \
	X(tls, tickets_old, "tickets", "tickets of an earlier epoch resumed and renewed")        \
	X(tls, tickets_certificate, "tickets",                                                   \
	  "tickets refused: the client certificate inside is not good any more")                 \
	X(tls, names_unknown, "handshakes", "SNI without a certificate: the default was shown")  \
	X(tls, names_read, "handshakes", "SNI whose certificate was read from the directory")    \
	X(tls, names_malformed, "handshakes", "SNI that is no host name: the default was shown") \
	X(tls, ocsp_expired, "handshakes", "OCSP responses not stapled: expired")                \
	X(tls, client_certificates_bad, "handshakes", "client certificates that do not verify")  \
	X(tls, waiting, "handshakes", "handshakes that wait to begin")                           \
	X(tls, shed_overflow, "sessions",                                                        \
	  "sessions dropped: they waited longest when too many waited for a handshake")          \
	X(tls, shed_late, "sessions", "sessions dropped: their handshake did not begin in time") \
	X(tls, budget_network, "sessions", "sessions refused: too many handshakes of a network") \
	X(tls, budget_name, "sessions", "sessions refused: too many handshakes for a name")      \
	X(tls, signatures, "signatures", "signatures made by postern-signer")                    \
	X(tls, signer_failed, "handshakes",                                                      \
	  "handshakes that failed: postern-signer was away, too slow, or refused")               \
	X(tls, hellos_malformed, "handshakes", "ClientHellos that are not well formed")          \
	X(tls, key_update_floods, "sessions",                                                    \
	  "sessions dropped: more than 32 key updates, or two within a second")                  \
	X(tls, renegotiation_floods, "sessions", "sessions dropped: renegotiation tried again")  \
	X(tls, alert_floods, "sessions", "sessions dropped: a row of warning alerts")            \
	X(tls, empty_record_floods, "sessions", "sessions dropped: a row of empty records")      \
	X(tls, records_native, "sessions", "handshakes after which the records became ours")     \
	X(tls, records_kept, "sessions",                                                         \
	  "of those that should (tls.records: native), the ones that stayed with OpenSSL")       \
	X(tls, key_updates_sent, "updates", "keys of ours changed because their time had come")  \
	X(tls, keys_worn, "sessions", "sessions ended: their keys had served for too much")      \
	X(tls, sessions, "sessions", "TLS objects in existence")

COUNTER_ENUM(tls, TLS_COUNTERS)

#endif
