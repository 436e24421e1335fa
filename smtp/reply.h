/*
 * reply.h - every reply the server gives, in one table.
 *
 * Source: RFC 5321 section 4.2 (codes), RFC 2034 and RFC 3463 (enhanced codes, registry of
 * RFC 5248).  A text may hold one %s.
 */
#ifndef SMTP_REPLY_H
#define SMTP_REPLY_H

#define SMTP_REPLIES(X)                                                                        \
	X(GREETING, 220, "", "%s ESMTP postern ready")                                         \
	X(STARTTLS_GO, 220, "2.0.0", "ready to start TLS")                                     \
	X(BYE, 221, "2.0.0", "%s closing connection")                                          \
	X(AUTH_OK, 235, "2.7.0", "authentication succeeded")                                   \
	X(HELO, 250, "", "%s")                                                                 \
	X(OK, 250, "2.0.0", "ok")                                                              \
	X(SENDER_OK, 250, "2.1.0", "sender ok")                                                \
	X(SENDER_PRIORITY, 250, "2.3.6", "sender ok, priority is %s")                          \
	X(CHUNK_OK, 250, "2.0.0", "%s octets received")                                        \
	X(RECIPIENT_OK, 250, "2.1.5", "recipient ok")                                          \
	X(QUEUED, 250, "2.0.0", "queued as %s")                                                \
	X(VRFY, 252, "2.5.0", "will not verify; send some mail and see")                       \
	X(AUTH_CONTINUE, 334, "", "%s")                                                        \
	X(DATA_GO, 354, "", "end data with <CR><LF>.<CR><LF>")                                 \
	X(SHUTDOWN, 421, "4.3.2", "%s going down, try again later")                            \
	X(TOO_MANY_SESSIONS, 421, "4.3.2", "%s too many sessions, try again later")            \
	X(TIMEOUT, 421, "4.4.2", "%s timed out waiting for you")                               \
	X(TOO_MANY_ERRORS, 421, "4.7.0", "%s too many errors")                                 \
	X(UNEXPECTED, 421, "4.7.0", "%s unexpected data, closing connection")                  \
	X(TOO_MANY_HANDSHAKES, 421, "4.7.0", "%s too many TLS handshakes from your network")   \
	X(TOO_MANY_LOGINS, 421, "4.7.0", "%s too many refused logins")                         \
	X(TOO_MANY_MESSAGES, 421, "4.7.0", "%s too many messages in this session")             \
	X(LIMIT_SESSIONS, 421, "4.7.0", "%s")                                                  \
	X(LIMIT, 450, "4.7.1", "limit of %s")                                                  \
	X(SPOOL_FAILED, 451, "4.3.0", "message could not be stored, try again later")          \
	X(NO_SPACE, 452, "4.3.1", "no space for this message, try again later")                \
	X(LIMIT_RECIPIENTS, 452, "4.5.3", "limit of %s")                                       \
	X(TOO_MANY_RECIPIENTS, 452, "4.5.3", "too many recipients")                            \
	X(STARTTLS_LATER, 454, "4.7.0", "TLS not available now")                               \
	X(AUTH_LATER, 454, "4.7.0", "cannot check the password now, try again later")          \
	X(UNKNOWN, 500, "5.5.1", "command not recognized")                                     \
	X(LINE_TOO_LONG, 500, "5.5.2", "line too long")                                        \
	X(LINE_ENDS, 500, "5.5.2", "lone CR or LF in command; lines end with CR LF")           \
	X(AUTH_TOO_LONG, 500, "5.5.6", "authentication exchange line too long")                \
	X(BAD_ARGUMENTS, 501, "5.5.4", "syntax: %s")                                           \
	X(BAD_SENDER, 501, "5.1.7", "bad sender address: %s")                                  \
	X(BAD_RECIPIENT, 501, "5.1.3", "bad recipient address: %s")                            \
	X(AUTH_NOT_BASE64, 501, "5.5.2", "cannot decode the response")                         \
	X(AUTH_CANCELLED, 501, "5.7.0", "authentication cancelled")                            \
	X(NOT_IMPLEMENTED, 502, "5.5.1", "command not implemented")                            \
	X(SEQUENCE, 503, "5.5.1", "%s")                                                        \
	X(AUTH_UNKNOWN, 504, "5.5.4", "mechanism not available")                               \
	X(AUTH_REQUIRED, 530, "5.7.0", "authentication required")                              \
	X(TLS_REQUIRED, 530, "5.7.0", "issue a STARTTLS command first")                        \
	X(AUTH_FAILED, 535, "5.7.8", "authentication credentials invalid")                     \
	X(AUTH_NEEDS_TLS, 538, "5.7.11", "encryption required for authentication")             \
	X(NOT_OWN, 550, "5.7.1", "%s is not an address of yours")                              \
	X(CONTENT_LINE_ENDS, 550, "5.6.0", "message holds a lone CR, lone LF or NUL: refused") \
	X(LIMIT_PERMANENT, 550, "5.7.1", "limit of %s")                                        \
	X(TOO_BIG, 552, "5.3.4", "message exceeds the limit of %s octets")                     \
	X(NEEDS_UTF8, 553, "5.6.7", "non-ASCII address without the SMTPUTF8 parameter")        \
	X(HEADER_TOO_BIG, 552, "5.3.4", "header exceeds the limit of %s octets")               \
	X(LONG_LINE, 554, "5.6.0", "a line is longer than 998 octets")                         \
	X(HEADER_UTF8, 554, "5.6.7", "non-ASCII header without the SMTPUTF8 parameter")        \
	X(HEADER_NOT_UTF8, 554, "5.6.0", "the header is not UTF-8")                            \
	X(HEADER_TWICE, 554, "5.6.0", "header field %s is there more than once")               \
	X(HEADER_NO_FROM, 554, "5.6.0", "the header has no From field")                        \
	X(SIGNED, 554, "5.6.0", "the message is signed: %s would break the signature")         \
	X(NO_RECIPIENTS, 554, "5.5.1", "no valid recipients")                                  \
	X(LOOP, 554, "5.4.6", "too many Received fields: mail loop")                           \
	X(PARAMETER, 555, "5.5.4", "parameter not recognized or not offered")

#define SMTP_REPLY_ENUM(id, code, enhanced, text) REPLY_##id,
enum smtp_reply { SMTP_REPLIES(SMTP_REPLY_ENUM) SMTP_REPLY_COUNT };

struct smtp_reply_row {
	short code;
	const char *enhanced; /* empty: none (RFC 2034 section 4 exempts greeting, HELO, 3xx) */
	const char *text;
};
extern const struct smtp_reply_row smtp_reply_table[SMTP_REPLY_COUNT];

#endif
