/*
 * settings.h - what each layer is told, made of the configuration: at start and at each reload.
 *
 * Owner: the caller; text is borrowed from the configuration.
 * Runs on: the control thread.
 */
#ifndef CONTROL_SETTINGS_H
#define CONTROL_SETTINGS_H

#include "control/config.h"
#include "control/resolver.h"
#include "smtp/auth/auth.h"
#include "smtp/relay/relay.h"
#include "smtp/smtp.h"
#include "tls/tls.h"

struct tls_settings {
	struct tls_config c; /* points into the rest: not to be copied */
	struct tls_certificate certificate[CONFIG_CERTIFICATES];
	const char *name[CONFIG_CERTIFICATES][CONFIG_CERTIFICATE_NAMES];
};

void settings_tls(const struct config *c, struct tls_settings *out);
void settings_smtp(const struct config *c, struct smtp_config *out);
void settings_policy(const struct config *c, unsigned listener, struct smtp_policy *out);
/* Hops by host name get the addresses that the resolver knows at this moment; NULL: none. */
void settings_relay(const struct config *c, struct resolver *r, struct relay_config *out);
/* The names that the resolver must know; how many. */
unsigned settings_hop_names(const struct config *c, char names[RESOLVER_NAMES][RESOLVER_NAME]);
/* Connections to next hops at a time that a worker may have. */
uint64_t settings_hop_connections(const struct config *c);
/* The same with what a reload may add: what a worker's tables are made for at the start. */
uint64_t settings_hop_room(const struct config *c);
void settings_auth(const struct config *c, struct auth_config *out);

#endif
