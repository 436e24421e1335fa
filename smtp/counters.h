/* counters.h - everything the SMTP sessions count; one row a counter */
#ifndef SMTP_COUNTERS_H
#define SMTP_COUNTERS_H

#include "base/counter.h"

#define SMTP_COUNTERS(X)                                                                          \
	X(smtp, sessions_opened, "sessions", "sessions accepted")                                 \
	X(smtp, sessions_now, "sessions", "sessions open")                                        \
	X(smtp, sessions_refused, "sessions", "sessions refused: limits.sessions reached")        \
	X(smtp, sessions_refused_address, "sessions",                                             \
	  "sessions refused: limits.sessions_per_address reached")                                \
	X(smtp, sessions_refused_memory, "sessions",                                              \
	  "sessions refused: memory over its watermark")                                          \
	X(smtp, sessions_reset, "sessions", "sessions that ended without QUIT")                   \
	X(smtp, commands, "commands", "command lines read")                                       \
	X(smtp, errors_syntax, "commands", "commands refused for syntax (500, 501, 555)")         \
	X(smtp, errors_sequence, "commands", "commands refused for their order (503)")            \
	X(smtp, error_budget, "sessions", "sessions closed after too many errors")                \
	X(smtp, line_too_long, "commands", "command lines over the limit")                        \
	X(smtp, line_bare_newline, "commands", "command lines with a lone CR or LF")              \
	X(smtp, starttls_injection, "sessions",                                                   \
	  "sessions dropped: plaintext followed STARTTLS (CVE-2011-0411)")                        \
	X(smtp, foreign_protocol, "sessions", "sessions dropped: the first line is HTTP")         \
	X(smtp, unauthenticated_mail, "commands", "MAIL before AUTH (530)")                       \
	X(smtp, auth_ok, "logins", "successful logins")                                           \
	X(smtp, auth_failed, "logins", "refused logins")                                          \
	X(smtp, auth_overloaded, "logins", "logins put off (454 4.7.0)")                          \
	X(smtp, auth_too_many, "sessions", "sessions closed after too many refused logins")       \
	X(smtp, limited_listener, "refusals", "what a limit of the listener refused")             \
	X(smtp, limited_tenant, "refusals", "what a limit of the tenant refused")                 \
	X(smtp, limited_user, "refusals", "what a limit of the user refused")                     \
	X(smtp, limited_address, "refusals", "what a limit of the address refused")               \
	X(smtp, duplicates, "messages", "that had been accepted before, answered as then")        \
	X(smtp, limits_no_cell, "times", "a limit not applied: its table was full")               \
	X(smtp, messages, "messages", "messages answered 250")                                    \
	X(smtp, message_bytes, "bytes", "octets of these messages, as stored")                    \
	X(smtp, recipients, "recipients", "recipients of these messages")                         \
	X(smtp, message_too_big, "messages", "messages refused for their size (552)")             \
	X(smtp, message_bare_newline, "messages", "messages refused for a lone CR, LF or NUL")    \
	X(smtp, doubtful_end, "sessions", "sessions closed: CR CR LF before the end of data")     \
	X(smtp, data_as_commands, "sessions",                                                     \
	  "sessions closed: message text sent after DATA was refused")                            \
	X(smtp, message_long_line, "messages", "messages refused: a line over 998 octets")        \
	X(smtp, message_header_utf8, "messages",                                                  \
	  "messages refused: non-ASCII header without SMTPUTF8, or no UTF-8")                     \
	X(smtp, message_header_size, "messages", "messages refused: header over its limit")       \
	X(smtp, message_header_fields, "messages",                                                \
	  "messages refused: a header field twice or missing")                                    \
	X(smtp, message_signed, "messages",                                                       \
	  "messages refused: signed, and what was asked for would change them")                   \
	X(smtp, message_not_own, "messages", "messages refused: From is not the user's")          \
	X(smtp, sender_not_own, "commands", "MAIL refused: sender is not the user's")             \
	X(smtp, message_normalized, "messages", "messages taken with lone LF made CR LF")         \
	X(smtp, message_bcc_removed, "messages", "messages taken without their Bcc field")        \
	X(smtp, message_loop, "messages", "messages refused: too many Received fields")           \
	X(smtp, message_no_space, "messages", "messages put off: no space (452)")                 \
	X(smtp, message_failed, "messages", "messages put off: the spool failed (451)")           \
	X(smtp, message_aborted, "messages", "messages cut off by the end of their session")      \
	X(smtp, chunks, "commands", "BDAT commands taken")                                        \
	X(smtp, chunks_discarded, "commands", "BDAT commands refused, their chunk thrown away")   \
	X(smtp, session_messages, "sessions", "sessions closed: submission.max_messages reached") \
	X(smtp, priority_clamped, "commands", "MT-PRIORITY above what users may ask for")         \
	X(smtp, throttled, "times", "reading paused: no chunk for a body")                        \
	X(smtp, timeouts, "sessions", "sessions closed: a command's deadline passed")

COUNTER_ENUM(smtp, SMTP_COUNTERS)

#endif
