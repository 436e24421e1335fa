/* test_settings.c - what the layers are told of a configuration */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "control/settings.h"

#include <stdio.h>

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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_are_not_offered_before_the_restart_that_brings_their_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
