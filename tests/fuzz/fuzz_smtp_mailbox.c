/* fuzz_smtp_mailbox.c - a From field's value and a user's addresses: what is found lies in the
 * value, in order, and only what is listed is own */
#include "smtp/mailbox.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const uint8_t *cut = memchr(data, '\n', n);
	size_t value_n = cut != NULL ? (size_t)(cut - data) : n;
	struct text rest = {(const char *)data, value_n}, address;
	struct text list = {(const char *)data + value_n + (cut != NULL),
			    n - value_n - (cut != NULL)};
	const char *behind = rest.at;

	while (mailbox_next(&rest, &address) == MAILBOX_FOUND) {
		CLAIM(within(address.at, address.n, data, value_n));
		CLAIM(within(rest.at, rest.n, data, value_n));
		CLAIM(address.at >= behind && rest.at >= address.at + address.n);
		CLAIM(memchr(address.at, '@', address.n) != NULL);
		if (mailbox_in_list(address, list)) {
			const char *at = memrchr(address.at, '@', address.n);
			size_t domain = (size_t)(address.at + address.n - at);
			CLAIM(memmem(list.at, list.n, "@", 1) != NULL && list.n >= domain);
		}
		behind = rest.at;
	}
	return 0;
}
