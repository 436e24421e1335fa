/* header.c - field names, the few values that matter, and UTF-8, octet by octet */
#include "smtp/header.h"

#include <string.h>
#include <strings.h>

#define NAME(id, name) [HEADER_##id] = name,
static const char *const names[HEADER_KNOWN] = {HEADER_FIELDS(NAME)};

const char *header_name(enum header_field f)
{
	return names[f];
}

enum header_field header_doubled(const struct header *h)
{
	for (unsigned i = 0; i < HEADER_SINGLETONS; i++) {
		if (h->count[i] > 1)
			return (enum header_field)i;
	}
	return HEADER_KNOWN;
}

void header_begin(struct header *h, bool remove_bcc)
{
	*h = (struct header){.open = true, .remove_bcc = remove_bcc, .field = HEADER_KNOWN};
}

/* The value begins with the word, which ends there. */
static bool value_is(const struct header *h, const char *word)
{
	size_t n = strlen(word), at = 0;

	while (at < h->value_bytes && (h->value[at] == ' ' || h->value[at] == '\t'))
		at++;
	return h->value_bytes - at >= n && strncasecmp(h->value + at, word, n) == 0 &&
	       (h->value_bytes - at == n || strchr("; \t(", h->value[at + n]) != NULL);
}

/* A field has come to its end, folded lines and all. */
static void field_end(struct header *h)
{
	static const char *const signing[] = {"multipart/signed", "multipart/encrypted",
					      "application/pkcs7-mime", "application/x-pkcs7-mime"};

	if (h->field == HEADER_CONTENT_TYPE) {
		for (size_t i = 0; i < sizeof(signing) / sizeof(signing[0]); i++)
			h->signed_mime |= value_is(h, signing[i]);
	} else if (h->field == HEADER_TLS_REQUIRED) {
		h->tls_optional |= value_is(h, "No");
	}
	h->field = HEADER_KNOWN;
	h->value_bytes = 0;
}

static void field_named(struct header *h)
{
	h->line_is_field = h->name_bytes > 0;
	h->name_done = true;
	if (h->name_bytes >= sizeof(h->name))
		return;
	h->name[h->name_bytes] = '\0';
	for (unsigned i = 0; i < HEADER_KNOWN; i++) {
		if (strcasecmp(h->name, names[i]) != 0)
			continue;
		h->field = (uint8_t)i;
		h->count[i]++;
	}
}

static void value_octet(struct header *h, uint8_t o)
{
	if (h->field == HEADER_FROM && h->count[HEADER_FROM] == 1) {
		if (h->from_bytes < sizeof(h->from))
			h->from[h->from_bytes++] = (char)o;
		else
			h->from_too_long = true;
	} else if (h->field != HEADER_KNOWN && h->value_bytes < sizeof(h->value)) {
		h->value[h->value_bytes++] = (char)o;
	}
}

/* RFC 3629 section 4, an octet at a time. */
static void utf8_octet(struct header *h, uint8_t o)
{
	if (h->utf8_left > 0) {
		h->bad_utf8 |= o < h->utf8_low || o > h->utf8_high;
		h->utf8_left = h->bad_utf8 ? 0 : (uint8_t)(h->utf8_left - 1);
		h->utf8_low = 0x80;
		h->utf8_high = 0xbf;
		return;
	}
	if (o < 0x80)
		return;
	h->bad_utf8 |= o < 0xc2 || o > 0xf4;
	h->utf8_left = o >= 0xf0 ? 3 : o >= 0xe0 ? 2 : 1;
	h->utf8_low = o == 0xe0 ? 0xa0 : o == 0xf0 ? 0x90 : 0x80;
	h->utf8_high = o == 0xed ? 0x9f : o == 0xf4 ? 0x8f : 0xbf;
}

/* First octet of a line: a folded one continues the field above it. */
static bool begins_folded(struct header *h, uint8_t o)
{
	h->name_bytes = 0;
	h->line_is_field = h->name_spaced = false;
	h->name_done = o == ' ' || o == '\t';
	if (h->name_done) {
		/* as the very first line it would continue a field of ours: it is no field */
		h->line_is_field = h->lines > 0;
		return true;
	}
	field_end(h);
	h->dropping = false;
	return false;
}

static void name_octet(struct header *h, uint8_t o)
{
	if (o == ':') {
		field_named(h);
	} else if (o <= ' ' || o >= 0x7f) {
		/* white space before the colon is obsolete syntax (RFC 5322 section 4.5); anything
		 * else is no field */
		h->name_spaced = true;
		if (o != ' ' && o != '\t')
			h->name_done = true;
	} else if (h->name_spaced) {
		/* words of text, a colon somewhere behind them or not */
		h->name_done = true;
	} else {
		if (h->name_bytes < sizeof(h->name))
			h->name[h->name_bytes] = (char)(o >= 'A' && o <= 'Z' ? o | 0x20 : o);
		if (h->name_bytes < UINT8_MAX)
			h->name_bytes++;
	}
}

static size_t release(struct header *h, uint8_t *out)
{
	size_t n = h->held_bytes;

	memcpy(out, h->held, n);
	h->held_bytes = 0;
	return n;
}

/* Whether the line may still turn out to be a Bcc field. */
static bool may_be_bcc(const struct header *h)
{
	return !h->name_done && h->name_bytes <= 3 && h->held_bytes < HEADER_HELD &&
	       memcmp(h->name, "bcc", h->name_bytes) == 0 &&
	       (!h->name_spaced || h->name_bytes == 3);
}

/* Where the octet goes: out, held back, or nowhere. */
static size_t pass(struct header *h, uint8_t o, bool was_naming, uint8_t *out)
{
	if (h->remove_bcc && was_naming) {
		if (may_be_bcc(h)) {
			h->held[h->held_bytes++] = o;
			return 0;
		}
		if (h->name_done && h->field == HEADER_BCC) {
			h->held_bytes = 0;
			h->dropping = h->bcc_removed = true;
			return 0;
		}
	}
	size_t n = release(h, out);
	if (h->dropping)
		return n;
	out[n] = o;
	return n + 1;
}

size_t header_octet(struct header *h, uint8_t o, bool first, uint8_t *out)
{
	bool folded = first && begins_folded(h, o);
	bool naming = !h->name_done;

	h->bytes++;
	h->any = true;
	h->non_ascii |= o >= 0x80;
	utf8_octet(h, o);
	if (naming)
		name_octet(h, o);
	else if (!folded || h->line_is_field)
		value_octet(h, o);
	return pass(h, o, naming, out);
}

size_t header_before_end(struct header *h, uint8_t *out)
{
	h->bad_utf8 |= h->utf8_left > 0;
	h->utf8_left = 0;
	if (!h->any) /* an empty line belongs to no field */
		h->dropping = false;
	return release(h, out);
}

void header_line_end(struct header *h)
{
	if (!h->any) {
		header_finish(h);
		h->open = false;
	} else if (!h->line_is_field) {
		h->open = false;
		h->absent = h->lines == 0;
	}
	h->bytes += 2;
	h->lines++;
	h->any = h->line_is_field = false;
}

void header_finish(struct header *h)
{
	if (h->open)
		field_end(h);
}
