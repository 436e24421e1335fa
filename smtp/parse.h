/*
 * parse.h - command lines, paths and names.  Pure functions on octets; nothing is copied,
 * nothing is terminated: a text is {pointer, length} into the line.
 *
 * Source: RFC 5321 sections 2.4, 4.1.1, 4.1.2, 4.5.3.1; RFC 6531 section 3.3.
 */
#ifndef SMTP_PARSE_H
#define SMTP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
	const char *at;
	size_t n;
};

/* Case-insensitive comparison with an ASCII literal. */
bool text_is(struct text t, const char *literal);
/* Cuts the first word (up to a space) off the front of *rest and skips the spaces after it. */
struct text text_word(struct text *rest);

enum path_fault {
	PATH_OK,
	PATH_SYNTAX,
	PATH_TOO_LONG,  /* local part over 64, domain over 255, path over 256 octets */
	PATH_NO_DOMAIN, /* not fully qualified, and not postmaster */
	PATH_NOT_UTF8,
};
const char *path_fault_text(enum path_fault f);

struct path {
	struct text mailbox; /* without <> and source route; empty: null reverse-path */
	struct text domain;  /* within mailbox; empty for <>, and with PATH_NO_DOMAIN */
	bool utf8;           /* holds other than ASCII, and needs SMTPUTF8 */
};

/* Parses "FROM:<...>" or "TO:<...>" at the front of *rest (a space after the colon is let
 * pass) and leaves the parameters in *rest. */
enum path_fault parse_path(struct text *rest, const char *keyword, bool null_allowed,
			   struct path *p);

/* A domain or an address literal, as EHLO takes it; deliberately lenient about what is inside,
 * strict about octets that could reach a header or a log. */
bool parse_ehlo_name(struct text t);

#endif
