/* xtext.h - xtext, the quoting of DSN and AUTH parameters.  Pure functions.  Source: RFC 3461
 * section 4. */
#ifndef BASE_XTEXT_H
#define BASE_XTEXT_H

#include <stdbool.h>
#include <stddef.h>

/* The octet of an upper-case hexadecimal pair, or -1: the grammar knows no lower case. */
static inline int xtext_pair(char high, char low)
{
	int value = 0;
	char digit[2] = {high, low};

	for (int i = 0; i < 2; i++) {
		if (digit[i] >= '0' && digit[i] <= '9')
			value = value * 16 + digit[i] - '0';
		else if (digit[i] >= 'A' && digit[i] <= 'F')
			value = value * 16 + digit[i] - 'A' + 10;
		else
			return -1;
	}
	return value;
}

/* Decodes into out (n octets of room, or NULL: only a check); the octets, or -1: no xtext. */
static inline ptrdiff_t xtext_decode(const char *at, size_t n, char *out)
{
	ptrdiff_t made = 0;

	for (size_t i = 0; i < n; i++) {
		int octet = (unsigned char)at[i];
		if (octet < '!' || octet > '~' || octet == '=')
			return -1;
		if (octet == '+') {
			octet = n - i > 2 ? xtext_pair(at[i + 1], at[i + 2]) : -1;
			if (octet < 0)
				return -1;
			i += 2;
		}
		if (out != NULL)
			out[made] = (char)octet;
		made++;
	}
	return made;
}

/* Encodes into out (3 * n octets of room); the octets. */
static inline size_t xtext_encode(const char *at, size_t n, char *out)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t made = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned char o = (unsigned char)at[i];
		if (o >= '!' && o <= '~' && o != '+' && o != '=') {
			out[made++] = (char)o;
			continue;
		}
		out[made++] = '+';
		out[made++] = hex[o >> 4];
		out[made++] = hex[o & 15];
	}
	return made;
}

/* It is xtext, and what it stands for is printable ASCII: nothing that breaks a line. */
static inline bool xtext_is_printable(const char *at, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (at[i] != '+')
			continue;
		int octet = n - i > 2 ? xtext_pair(at[i + 1], at[i + 2]) : -1;
		if (octet < ' ' || octet > '~')
			return false;
		i += 2;
	}
	return xtext_decode(at, n, NULL) >= 0;
}

#endif
