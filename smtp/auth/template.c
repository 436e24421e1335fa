/* template.c - the user's name inside an LDAP filter or distinguished name */
#include "smtp/auth/template.h"

#include <string.h>

struct writing {
	char *out;
	size_t n, room;
	bool full;
};

static void put(struct writing *w, char c)
{
	if (w->n + 1 < w->room)
		w->out[w->n++] = c;
	else
		w->full = true;
}

static void put_hex(struct writing *w, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";

	put(w, '\\');
	put(w, digits[c >> 4]);
	put(w, digits[c & 15]);
}

/* RFC 4515: any octet may be written in hexadecimal, these must. */
static void put_filter(struct writing *w, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c < ' ' || c >= 0x7f || strchr("*()\\", c) != NULL)
			put_hex(w, c);
		else
			put(w, text[i]);
	}
}

/* RFC 4514: the special ones, and space and # where they stand at the ends. */
static void put_dn(struct writing *w, const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		bool edge = i == 0 || i == n - 1;
		if (c < ' ' || c >= 0x7f || (edge && c == ' ') || (i == 0 && c == '#') ||
		    strchr("\"+,;<>\\=", c) != NULL)
			put_hex(w, c);
		else
			put(w, text[i]);
	}
}

static bool expand(const char *template, const char *user,
		   void (*escape)(struct writing *, const char *, size_t), char *out, size_t room)
{
	struct writing w = {.out = out, .room = room};
	const char *at = strrchr(user, '@');
	size_t local = at != NULL ? (size_t)(at - user) : strlen(user);

	for (const char *t = template; *t != '\0'; t++) {
		if (*t != '%') {
			put(&w, *t);
			continue;
		}
		t++;
		if (*t == 'u')
			escape(&w, user, strlen(user));
		else if (*t == 'n')
			escape(&w, user, local);
		else if (*t == 'd' && at != NULL)
			escape(&w, at + 1, strlen(at + 1));
		else if (*t == '%')
			put(&w, '%');
		else if (*t == '\0')
			break;
	}
	out[w.n] = '\0';
	return !w.full;
}

bool template_filter(const char *template, const char *user, char *out, size_t room)
{
	return expand(template, user, put_filter, out, room);
}

bool template_dn(const char *template, const char *user, char *out, size_t room)
{
	return expand(template, user, put_dn, out, room);
}

bool template_names_user(const char *template)
{
	bool named = false;

	for (const char *t = template; *t != '\0'; t++) {
		if (*t != '%')
			continue;
		t++;
		if (*t == '\0' || strchr("und%", *t) == NULL)
			return false;
		named |= *t == 'u' || *t == 'n';
	}
	return named;
}
