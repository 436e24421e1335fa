/* addr.h - an Internet address of either family and its text form.  Pure functions. */
#ifndef BASE_ADDR_H
#define BASE_ADDR_H

#include <arpa/inet.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct ip_addr {
	uint8_t family;   /* 4 or 6; 0: unset */
	uint8_t byte[16]; /* network order; the first 4 for IPv4, the rest zero */
};

enum { ADDR_TEXT_BYTES = 46 };

static inline bool addr_equal(const struct ip_addr *a, const struct ip_addr *b)
{
	return a->family == b->family && memcmp(a->byte, b->byte, 16) == 0;
}

/* Whether both are of one family and share their first bits. */
static inline bool addr_same_network(const struct ip_addr *a, const struct ip_addr *b,
				     unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	if (a->family != b->family || memcmp(a->byte, b->byte, whole) != 0)
		return false;
	return rest == 0 || (a->byte[whole] ^ b->byte[whole]) >> (8 - rest) == 0;
}

static inline struct ip_addr addr_ip4(const void *four_bytes)
{
	struct ip_addr a = {.family = 4};

	memcpy(a.byte, four_bytes, 4);
	return a;
}

/* text must hold ADDR_TEXT_BYTES; returns it. */
static inline const char *addr_text(const struct ip_addr *a, char *text)
{
	if (inet_ntop(a->family == 6 ? AF_INET6 : AF_INET, a->byte, text, ADDR_TEXT_BYTES) == NULL)
		text[0] = '\0';
	return text;
}

static inline bool addr_parse(const char *text, struct ip_addr *a)
{
	memset(a, 0, sizeof(*a));
	a->family = strchr(text, ':') != NULL ? 6 : 4;
	return inet_pton(a->family == 6 ? AF_INET6 : AF_INET, text, a->byte) == 1;
}

#endif
