/* relay_kit.h - what tests of the relay with parameters share: a hop, a message, what was said and
 * what has arrived */
#ifndef TESTS_UNIT_RELAY_KIT_H
#define TESTS_UNIT_RELAY_KIT_H

#include "smtp/relay/internal.h"
#include "tests/unit/mail_kit.h"
#include "tests/unit/relay_bench.h"

#define TEXT "Subject: x\r\n\r\n.hello\r\n"
/* mail: behind "MAIL FROM:"; to: behind "RCPT TO:", separated by newlines */
static inline void submit(struct bench *b, const char *mail, const char *to, const char *content)
{
	struct peer *p = peer_login(b->m);
	char line[900], list[900], *save = NULL;

	expect_cmd(p, "EHLO client.test", "250");
	snprintf(line, sizeof(line), "MAIL FROM:%s", mail);
	expect_cmd(p, line, "250");
	snprintf(list, sizeof(list), "%s", to);
	for (char *t = strtok_r(list, "\n", &save); t != NULL; t = strtok_r(NULL, "\n", &save)) {
		snprintf(line, sizeof(line), "RCPT TO:%s", t);
		expect_cmd(p, line, "250");
	}
	bdat(p, content, strlen(content), true, "250 2.0.0 queued");
	peer_free(p);
}

static inline bool logged(const struct bench *b, const char *line)
{
	return strstr((const char *)b->h->log.at, line) != NULL;
}

static inline void expect_logged(const struct bench *b, const char *line)
{
	if (!logged(b, line))
		fail_msg("not said: %s; all that was: %s", line, (const char *)b->h->log.at);
}

/* The last mail that the hop has taken. */
static const char *arrived(const struct bench *b)
{
	assert_true(b->h->n_mails > 0);
	return (const char *)b->h->mails[b->h->n_mails - 1].content.at;
}

static inline void expect_arrived(const struct bench *b, const char *text)
{
	if (strstr(arrived(b), text) == NULL)
		fail_msg("not there: %s; in: %s", text, arrived(b));
}

static inline void expect_not_arrived(const struct bench *b, const char *text)
{
	if (strstr(arrived(b), text) != NULL)
		fail_msg("is there: %s; in: %s", text, arrived(b));
}

#endif
