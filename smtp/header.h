/*
 * header.h - what the header section of a message says, found while its octets pass by.
 *
 * Fed with every octet of header lines but CR and LF, and told of their ends; the same header
 * fed in any pieces gives the same findings.  It may hold back the few octets of a name that
 * could be Bcc, and lets a Bcc field vanish when told so.
 *
 * Owner: embedded in struct content.  Runs on: any thread; pure.
 * Source: RFC 5322 sections 2.2, 3.6, 4.5; RFC 6532; RFC 8689.
 */
#ifndef SMTP_HEADER_H
#define SMTP_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEADER_FIELDS(X)                               \
	/* at most once each (RFC 5322 section 3.6) */ \
	X(DATE, "Date")                                \
	X(FROM, "From")                                \
	X(SENDER, "Sender")                            \
	X(REPLY_TO, "Reply-To")                        \
	X(TO, "To")                                    \
	X(CC, "Cc")                                    \
	X(BCC, "Bcc")                                  \
	X(MESSAGE_ID, "Message-ID")                    \
	X(IN_REPLY_TO, "In-Reply-To")                  \
	X(REFERENCES, "References")                    \
	X(SUBJECT, "Subject")                          \
	/* others that something depends on */         \
	X(RECEIVED, "Received")                        \
	X(CONTENT_TYPE, "Content-Type")                \
	X(DKIM_SIGNATURE, "DKIM-Signature")            \
	X(MT_PRIORITY, "MT-Priority")                  \
	X(TLS_REQUIRED, "TLS-Required")

#define HEADER_ENUM(id, name) HEADER_##id,
enum header_field { HEADER_FIELDS(HEADER_ENUM) HEADER_KNOWN };
enum { HEADER_SINGLETONS = HEADER_RECEIVED };

enum { HEADER_NAME = 20, HEADER_VALUE = 64, HEADER_FROM_VALUE = 512, HEADER_HELD = 12 };

struct header {
	bool open;   /* until the empty line, or a line that is no field */
	bool absent; /* the first line is no field: the message is all body */
	bool remove_bcc, bcc_removed;
	bool non_ascii, bad_utf8;
	bool signed_mime; /* S/MIME or OpenPGP by its Content-Type */
	bool tls_optional;
	bool from_too_long; /* for from[] */
	uint32_t count[HEADER_KNOWN];
	uint64_t lines, bytes;
	char from[HEADER_FROM_VALUE]; /* value of the first From field, unfolded */
	uint16_t from_bytes;
	/* the line under way */
	bool line_is_field, name_done, name_spaced, any, dropping;
	uint8_t name_bytes; /* octets before the colon, capped */
	uint8_t held_bytes;
	uint8_t field;               /* enum header_field, or HEADER_KNOWN: another one */
	uint8_t utf8_left;           /* octets that the character still needs */
	uint8_t utf8_low, utf8_high; /* what the next of them may be */
	uint8_t value_bytes;
	char name[HEADER_NAME]; /* lower-case start of the current field name */
	uint8_t held[HEADER_HELD];
	char value[HEADER_VALUE]; /* start of a value that something depends on */
};

void header_begin(struct header *h, bool remove_bcc);
/* An octet of a line, first of it or not.  Writes up to HEADER_HELD + 1 octets; how many. */
size_t header_octet(struct header *h, uint8_t o, bool first, uint8_t *out);
/* The line is about to end; writes what was held back of it (up to HEADER_HELD); how many. */
size_t header_before_end(struct header *h, uint8_t *out);
/* The line end has come. */
void header_line_end(struct header *h);
/* The message has ended, inside its header or not. */
void header_finish(struct header *h);

const char *header_name(enum header_field f);
/* The first field that is there more than once although it must not be; HEADER_KNOWN: none. */
enum header_field header_doubled(const struct header *h);
/* Changing what follows would make a signature of the sender's fail. */
static inline bool header_is_signed(const struct header *h)
{
	return h->signed_mime || h->count[HEADER_DKIM_SIGNATURE] > 0;
}

#endif
