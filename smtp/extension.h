/*
 * extension.h - the service extensions that an operator may switch off, one row each.
 *
 * The others (PIPELINING, SIZE, 8BITMIME, STARTTLS, AUTH, ENHANCEDSTATUSCODES) are always there.
 */
#ifndef SMTP_EXTENSION_H
#define SMTP_EXTENSION_H

#define SMTP_EXTENSIONS(X)                               \
	X(CHUNKING, "CHUNKING")           /* RFC 3030 */ \
	X(BINARYMIME, "BINARYMIME")       /* RFC 3030 */ \
	X(SMTPUTF8, "SMTPUTF8")           /* RFC 6531 */ \
	X(DSN, "DSN")                     /* RFC 3461 */ \
	X(FUTURERELEASE, "FUTURERELEASE") /* RFC 4865 */ \
	X(DELIVERBY, "DELIVERBY")         /* RFC 2852 */ \
	X(MT_PRIORITY, "MT-PRIORITY")     /* RFC 6710 */ \
	X(REQUIRETLS, "REQUIRETLS")       /* RFC 8689 */ \
	X(LIMITS, "LIMITS")               /* RFC 9422 */

#define SMTP_EXTENSION_ENUM(id, keyword) SMTP_EXT_##id,
enum smtp_extension { SMTP_EXTENSIONS(SMTP_EXTENSION_ENUM) SMTP_EXT_COUNT };

/* Sets of extensions. */
#define SMTP_EXT_BIT(id) (1u << SMTP_EXT_##id)
#define SMTP_EXT_ALL     ((1u << SMTP_EXT_COUNT) - 1)

#endif
