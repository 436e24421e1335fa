/* utf8.h - is it well-formed UTF-8?  Pure function.  Source: RFC 3629 section 4. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Octets of the character at s, of which n > 0 are there; 0: malformed or cut off. */
static inline size_t utf8_sequence(const uint8_t *s, size_t n)
{
	static const struct {
		uint8_t mask, lead, bytes;
		uint32_t least; /* shorter forms of smaller characters are malformed */
	} forms[] = {{0x80, 0x00, 1, 0},
		     {0xe0, 0xc0, 2, 0x80},
		     {0xf0, 0xe0, 3, 0x800},
		     {0xf8, 0xf0, 4, 0x10000}};

	for (size_t f = 0; f < sizeof(forms) / sizeof(forms[0]); f++) {
		if ((s[0] & forms[f].mask) != forms[f].lead)
			continue;
		uint32_t point = s[0] & (uint8_t)~forms[f].mask;
		if (forms[f].bytes > n)
			return 0;
		for (size_t i = 1; i < forms[f].bytes; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return 0;
			point = point << 6 | (s[i] & 0x3f);
		}
		bool surrogate = point >= 0xd800 && point <= 0xdfff;
		return point < forms[f].least || point > 0x10ffff || surrogate ? 0 : forms[f].bytes;
	}
	return 0;
}

#endif
