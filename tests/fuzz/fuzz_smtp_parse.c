/* fuzz_smtp_parse.c - command lines: what is found lies in the line, and a good path keeps the
 * limits of RFC 5321 section 4.5.3.1; parameters hold to the table, whatever is offered */
#include "base/utf8.h"
#include "smtp/parameters.h"
#include "tests/fuzz/fuzz.h"

static bool printable(struct text t)
{
	for (size_t i = 0; i < t.n; i++) {
		if ((unsigned char)t.at[i] <= ' ' || t.at[i] == 0x7f)
			return false;
	}
	return true;
}

static void check_parameters(struct text rest, struct text line)
{
	struct parameter_rules rules = {
		.offered = SMTP_EXT_ALL, .now_s = 1000000, .max_hold_s = 1000};
	struct mail_parameters m;
	struct rcpt_parameters r;
	const char *keyword;

	if (line.n > 0)
		rules.offered &= ~(uint32_t)(unsigned char)line.at[0];
	enum parameter_fault f = parse_mail_parameters(rest, &rules, &m, &keyword);
	CLAIM(parameter_fault_text(f) != NULL && keyword != NULL);
	if (f == PARAMETER_OK) {
		CLAIM(m.envid.n == 0 || (within(m.envid.at, m.envid.n, line.at, line.n) &&
					 m.envid.n <= 100 && printable(m.envid)));
		CLAIM(m.priority >= -9 && m.priority <= 9);
		CLAIM(m.hold_until_s == 0 || m.hold_until_s <= rules.now_s + 1000);
		CLAIM(m.by != ENVELOPE_BY_RETURN || m.by_at_s > rules.now_s);
		CLAIM(!m.smtputf8 || (rules.offered & SMTP_EXT_BIT(SMTPUTF8)) != 0);
	}
	for (unsigned utf8 = 0; utf8 < 2; utf8++) {
		f = parse_rcpt_parameters(rest, &rules, utf8, &r, &keyword);
		CLAIM(parameter_fault_text(f) != NULL && keyword != NULL);
		if (f != PARAMETER_OK)
			continue;
		CLAIM((r.notify & ENVELOPE_NEVER) == 0 || r.notify == ENVELOPE_NEVER);
		CLAIM(r.orcpt.n == 0 || (within(r.orcpt.at, r.orcpt.n, line.at, line.n) &&
					 r.orcpt.n <= 500 && printable(r.orcpt)));
	}
}

static void check_path(struct text line, const char *keyword, bool null_allowed)
{
	struct text rest = line;
	struct path p;
	enum path_fault f = parse_path(&rest, keyword, null_allowed, &p);

	CLAIM(path_fault_text(f) != NULL);
	if (f != PATH_OK)
		return;
	CLAIM(within(rest.at, rest.n, line.at, line.n));
	CLAIM(p.mailbox.n == 0 || within(p.mailbox.at, p.mailbox.n, line.at, line.n));
	CLAIM(p.domain.n == 0 || within(p.domain.at, p.domain.n, p.mailbox.at, p.mailbox.n));
	CLAIM(p.mailbox.n > 0 || null_allowed);
	for (size_t i = 0; i < p.mailbox.n;) {
		size_t c = utf8_sequence((const uint8_t *)p.mailbox.at + i, p.mailbox.n - i);
		CLAIM(c == 1 || (c > 1 && p.utf8));
		i += c;
	}
	CLAIM(p.mailbox.n <= 256 && p.domain.n <= 255);
	for (size_t i = 0; i < p.mailbox.n; i++)
		CLAIM(p.mailbox.at[i] != '\0' && p.mailbox.at[i] != '\r' &&
		      p.mailbox.at[i] != '\n');
	check_parameters(rest, line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct text line = {(const char *)data, n}, rest = line;

	while (rest.n > 0) {
		size_t before = rest.n;
		struct text word = text_word(&rest);
		CLAIM(within(word.at, word.n, line.at, line.n));
		CLAIM(rest.n < before);
		CLAIM(memchr(word.at, ' ', word.n) == NULL || word.n == 0);
		text_is(word, "AUTH");
	}
	check_path(line, "FROM", true);
	check_path(line, "TO", false);
	check_parameters(line, line);
	parse_ehlo_name(line);
	return 0;
}
