/*
 * template.h - the user's name inside an LDAP filter or distinguished name, escaped.
 *
 * %u is the name, %n what stands before its last @, %d what stands behind it, %% a percent sign.
 *
 * Runs on: any thread; pure functions.
 * Source: RFC 4515 section 3 (filters), RFC 4514 section 2.4 (names).
 */
#ifndef SMTP_AUTH_TEMPLATE_H
#define SMTP_AUTH_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

/* NUL-terminated; false: it does not fit. */
bool template_filter(const char *template, const char *user, char *out, size_t room);
bool template_dn(const char *template, const char *user, char *out, size_t room);
/* Whether it holds %u or %n, and no % that means nothing. */
bool template_names_user(const char *template);

#endif
