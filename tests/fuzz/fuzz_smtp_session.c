/* fuzz_smtp_session.c - what a logged-in client may send: cut into pieces it gives the same replies
 * and stores the same, every message is one, and nothing is left over */
#include "tests/fuzz/fuzz.h"
#include "tests/sim/transcript.h"

#include <ctype.h>

enum { PIECES = 64, INPUTS_A_MAIL = 100 };

static size_t fixed_piece(void *arg, size_t left)
{
	return *(size_t *)arg;
}

/* What goes with STARTTLS in one segment is a matter of time by its nature. */
static bool about_time(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i + 8 <= n; i++) {
		if (strncasecmp((const char *)p + i, "STARTTLS", 8) == 0)
			return true;
	}
	return false;
}

static struct mail *fresh(unsigned flags)
{
	struct mail_options o;

	mail_options_default(&o);
	o.smtp.max_messages = 16;
	o.policy.normalize = (flags & 1) != 0;
	o.policy.remove_bcc = (flags & 2) != 0;
	struct mail *m = mail_create(&o);
	m->hold_relay = true;
	m->tick_us = MAIL_SECOND / 4; /* nothing here waits for time */
	return m;
}

/* Every line of a reply: three digits, then what RFC 5321 section 4.2 allows. */
static void check_replies(const struct bytes *t)
{
	const char *at = (const char *)t->at;

	while (at[0] != '(') {
		const char *end = strchr(at, '\n');
		CLAIM(end != NULL && end - at >= 3);
		CLAIM(at[0] >= '2' && at[0] <= '5' && isdigit((unsigned char)at[1]) &&
		      isdigit((unsigned char)at[2]));
		CLAIM(end - at == 3 || at[3] == ' ' || at[3] == '-');
		at = end + 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct mail *mails[4]; /* one a set of flags */
	static unsigned inputs[4];

	if (n < 2)
		return 0;
	unsigned flags = data[0] & 3;
	size_t step = 1 + (size_t)(data[0] >> 2);
	step = step < n / PIECES ? n / PIECES : step;
	if (mails[flags] != NULL && ++inputs[flags] % INPUTS_A_MAIL == 0) {
		mail_destroy(mails[flags]);
		mails[flags] = NULL;
	}
	if (mails[flags] == NULL)
		mails[flags] = fresh(flags);
	struct bytes whole = transcript_run(mails[flags], data + 1, n - 1, NULL, NULL);
	struct bytes cut = transcript_run(mails[flags], data + 1, n - 1, fixed_piece, &step);
	check_replies(&whole);
	if (!about_time(data + 1, n - 1))
		CLAIM(whole.n == cut.n && memcmp(whole.at, cut.at, whole.n) == 0);
	free(whole.at);
	free(cut.at);
	return 0;
}
