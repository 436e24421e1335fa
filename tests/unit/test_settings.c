/* test_settings.c - what the layers are told of a configuration */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/settings.h"

#include <stdio.h>
#include <string.h>

static void tokens_are_not_offered_before_the_restart_that_brings_their_keys(void **state)
{
	static struct config running, fresh;
	static struct smtp_config smtp;
	const uint32_t plain = 1u << CONFIG_AUTH_PLAIN;
	const uint32_t tokens = 1u << CONFIG_AUTH_OAUTHBEARER | 1u << CONFIG_AUTH_XOAUTH2;

	running.auth.mechanisms = plain;
	fresh.auth.mechanisms = plain | tokens;
	snprintf(fresh.auth.oauth.jwks, sizeof(fresh.auth.oauth.jwks), "/etc/postern/keys");
	config_take(&running, &fresh);
	assert_int_equal(running.auth.mechanisms, plain | tokens);
	settings_smtp(&running, &smtp);
	assert_int_equal(smtp.mechanisms, plain);
	settings_smtp(&fresh, &smtp);
	assert_int_equal(smtp.mechanisms, plain | tokens);
}

static void back_ends_are_told_as_written_and_compare_octet_by_octet(void **state)
{
	static struct config c;
	static struct auth_config one, two;
	struct config_backend *b = c.auth.backend;

	c.auth.backend_count = 2;
	b[0].type = CONFIG_BACKEND_USERS;
	b[1].type = CONFIG_BACKEND_LDAP;
	b[1].timeout_us = 1500000;
	b[1].cache_us = 60000000;
	b[1].connections = 3;
	b[1].tls = CONFIG_BACKEND_TLS_REQUIRED;
	snprintf(b[1].url, sizeof(b[1].url), "ldap://a");
	memset(&one, 0x55, sizeof(one));
	settings_auth(&c, &one);
	settings_auth(&c, &two);
	assert_int_equal(one.n_backends, 2);
	assert_int_equal(one.backends[0].kind, AUTH_BACKEND_USERS);
	assert_int_equal(one.backends[1].timeout_ms, 1500);
	assert_int_equal(one.backends[1].cache_s, 60);
	assert_int_equal(one.backends[1].connections, 3);
	assert_true(one.backends[1].tls);
	assert_string_equal(one.backends[1].name, "ldap");
	assert_memory_equal(&one.backends, &two.backends, sizeof(one.backends[0]) * 2);
	/* it begins with TLS then: no StartTLS */
	snprintf(b[1].url, sizeof(b[1].url), "ldaps://a");
	settings_auth(&c, &one);
	assert_false(one.backends[1].tls);
}

static void a_listener_has_submissions_policy_where_it_says_nothing(void **state)
{
	static struct config c;
	struct smtp_policy p;

	c.submission.bare_newline = CONFIG_BARE_NEWLINE_NORMALIZE;
	c.submission.remove_bcc = c.submission.require_from = CONFIG_ON;
	c.submission.senders = CONFIG_SENDERS_OWN;
	c.listener[1].normalize = c.listener[1].require_from = CONFIG_LISTENER_NO;
	c.listener[1].remove_bcc = c.listener[1].senders = CONFIG_LISTENER_NO;
	c.listener[1].add_sender = c.listener[1].hide_client = CONFIG_LISTENER_YES;
	settings_policy(&c, 0, &p);
	assert_true(p.normalize && p.remove_bcc && p.from_required && p.own_senders);
	assert_false(p.add_sender || p.hide_client);
	settings_policy(&c, 1, &p);
	assert_false(p.normalize || p.remove_bcc || p.from_required || p.own_senders);
	assert_true(p.add_sender && p.hide_client);
}

static void a_hop_has_its_pins(void **state)
{
	static struct config c;
	static struct relay_config r;
	struct config_next_hop *h = &c.relay.pool[0].next_hop[0];

	c.relay.pool_count = c.relay.pool[0].next_hop_count = c.dataplane.worker_count = 1;
	h->tls = CONFIG_HOP_TLS_IMPLICIT;
	h->pin_count = 2;
	memset(h->pin[0], 1, sizeof(h->pin[0]));
	memset(h->pin[1], 2, sizeof(h->pin[1]));
	settings_relay(&c, NULL, &r);
	assert_int_equal(r.pools[0].hops[0].n_pins, 2);
	assert_memory_equal(r.pools[0].hops[0].pins, h->pin, sizeof(h->pin));
}

static void workers_share_the_memory_of_the_relay(void **state)
{
	static struct config c;
	static struct relay_config r;

	c.dataplane.worker_count = 3;
	c.relay.memory = 30 << 20;
	settings_relay(&c, NULL, &r);
	assert_int_equal(r.memory, 10 << 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(back_ends_are_told_as_written_and_compare_octet_by_octet),
		cmocka_unit_test(a_hop_has_its_pins),
		cmocka_unit_test(workers_share_the_memory_of_the_relay),
		cmocka_unit_test(a_listener_has_submissions_policy_where_it_says_nothing),
		cmocka_unit_test(tokens_are_not_offered_before_the_restart_that_brings_their_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
