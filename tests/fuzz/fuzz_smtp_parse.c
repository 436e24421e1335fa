/* fuzz_smtp_parse.c - command lines: what is found lies in the line, and a good path keeps the
 * limits of RFC 5321 section 4.5.3.1 */
#include "smtp/parse.h"
#include "tests/fuzz/fuzz.h"

static void check_path(struct text line, const char *keyword, bool null_allowed)
{
	struct text rest = line;
	struct path p;
	enum path_fault f = parse_path(&rest, keyword, null_allowed, &p);
	struct mail_parameters m;

	CLAIM(path_fault_text(f) != NULL);
	if (f != PATH_OK)
		return;
	CLAIM(within(rest.at, rest.n, line.at, line.n));
	CLAIM(p.mailbox.n == 0 || within(p.mailbox.at, p.mailbox.n, line.at, line.n));
	CLAIM(p.domain.n == 0 || within(p.domain.at, p.domain.n, p.mailbox.at, p.mailbox.n));
	CLAIM(p.mailbox.n > 0 || null_allowed);
	CLAIM(p.mailbox.n <= 256 && p.domain.n <= 255);
	for (size_t i = 0; i < p.mailbox.n; i++)
		CLAIM(p.mailbox.at[i] != '\0' && p.mailbox.at[i] != '\r' &&
		      p.mailbox.at[i] != '\n');
	parse_mail_parameters(rest, &m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct text line = {(const char *)data, n}, rest = line;
	struct mail_parameters m;

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
	parse_mail_parameters(line, &m);
	parse_ehlo_name(line);
	return 0;
}
