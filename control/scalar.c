/* scalar.c - the single values of the configuration file, from text to number */
#include "control/schema.h"

#include "base/base64.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{"K", 1ull << 10},
	{"M", 1ull << 20},
	{"G", 1ull << 30},
	{},
};

static const struct unit time_units[] = {
	{"ms", 1000},
	{"s", 1000000},
	{"m", 60ull * 1000000},
	{"h", 3600ull * 1000000},
	{"d", 86400ull * 1000000},
	{},
};

static bool parse_digits(const char *text, size_t n, uint64_t *v)
{
	uint64_t sum = 0;

	if (n == 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		if (__builtin_mul_overflow(sum, 10ull, &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)(text[i] - '0'), &sum))
			return false;
	}
	*v = sum;
	return true;
}

static const char *with_unit(uint64_t v, const struct unit *units, char *text, size_t bytes)
{
	const struct unit *best = NULL;

	for (const struct unit *u = units; u->name != NULL; u++)
		if (v != 0 && v % u->factor == 0)
			best = u;
	snprintf(text, bytes, "%" PRIu64 "%s", best != NULL ? v / best->factor : v,
		 best != NULL ? best->name : "");
	return text;
}

static const struct unit *units_of(const struct schema_row *row)
{
	static const struct unit none[] = {{}};

	if (row->type == SCHEMA_SIZE || row->type == SCHEMA_VOLUME)
		return size_units;
	return row->type == SCHEMA_TIME ? time_units : none;
}

const char *schema_range(const struct schema_row *row, char *text, size_t bytes)
{
	char lo[32], hi[32];
	const struct unit *u = units_of(row);

	text[0] = '\0';
	if (row->max != 0)
		snprintf(text, bytes, "%s to %s", with_unit(row->min, u, lo, sizeof(lo)),
			 with_unit(row->max, u, hi, sizeof(hi)));
	return text;
}

static bool in_range(const struct schema_row *row, const char *text, uint64_t v, char *why,
		     size_t why_bytes)
{
	char range[80];

	if (v >= row->min && v <= row->max)
		return true;
	snprintf(why, why_bytes, "%s is out of range; allowed is %s", text,
		 schema_range(row, range, sizeof(range)));
	return false;
}

static bool parse_united(const struct schema_row *row, const char *text, uint64_t *out, char *why,
			 size_t why_bytes)
{
	const char *allowed = schema_scalar(row->type)->allowed;
	size_t digits = strspn(text, "0123456789");
	uint64_t v;

	if (!parse_digits(text, digits, &v)) {
		snprintf(why, why_bytes, "\"%s\" is not %s", text, allowed);
		return false;
	}
	if (text[digits] == '\0' && v != 0) {
		snprintf(why, why_bytes, "%s has no unit; write %s", text, allowed);
		return false;
	}
	uint64_t factor = v == 0 && text[digits] == '\0' ? 1 : 0;
	for (const struct unit *u = units_of(row); u->name != NULL; u++)
		if (strcmp(text + digits, u->name) == 0)
			factor = u->factor;
	if (factor == 0) {
		snprintf(why, why_bytes, "%s has the unknown unit \"%s\"; write %s", text,
			 text + digits, allowed);
		return false;
	}
	if (__builtin_mul_overflow(v, factor, &v))
		v = UINT64_MAX;
	if (!in_range(row, text, v, why, why_bytes))
		return false;
	*out = v;
	return true;
}

static bool parse_united_field(const struct schema_row *row, const char *text, void *field,
			       char *why, size_t why_bytes)
{
	uint64_t v;

	if (!parse_united(row, text, &v, why, why_bytes))
		return false;
	memcpy(field, &v, sizeof(v));
	return true;
}

static bool parse_number(const struct schema_row *row, const char *text, void *field, char *why,
			 size_t why_bytes)
{
	uint64_t v;

	if (!parse_digits(text, strlen(text), &v)) {
		char range[80];
		snprintf(why, why_bytes, "\"%s\" is not a whole number from %s", text,
			 schema_range(row, range, sizeof(range)));
		return false;
	}
	if (!in_range(row, text, v, why, why_bytes))
		return false;
	memcpy(field, &v, sizeof(v));
	return true;
}

/* The unit behind the digits of a volume; octets of it are 1 where there is none. */
static size_t volume_unit(const struct schema_row *row, const char *text, uint64_t *factor)
{
	*factor = 1;
	for (const struct unit *u = size_units; row->type == SCHEMA_VOLUME && u->name != NULL;
	     u++) {
		size_t n = strlen(u->name);
		if (n > 0 && strncmp(text, u->name, n) == 0 && text[n] == '/') {
			*factor = u->factor;
			return n;
		}
	}
	return 0;
}

static bool parse_rate(const struct schema_row *row, const char *text, void *field, char *why,
		       size_t why_bytes)
{
	struct config_rate *rate = field;
	size_t digits = strspn(text, "0123456789");
	uint64_t factor;

	if (strcmp(text, "off") == 0) {
		*rate = (struct config_rate){};
		return true;
	}
	size_t slash = digits + volume_unit(row, text + digits, &factor);
	if (text[slash] != '/' || !parse_digits(text, digits, &rate->count) ||
	    __builtin_mul_overflow(rate->count, factor, &rate->count)) {
		snprintf(why, why_bytes, "\"%s\" is not %s", text,
			 schema_scalar(row->type)->allowed);
		return false;
	}
	rate->per_us = 0;
	for (const struct unit *u = time_units + 1; u->name != NULL; u++)
		if (strcmp(text + slash + 1, u->name) == 0)
			rate->per_us = u->factor;
	if (rate->per_us == 0) {
		snprintf(why, why_bytes, "%s counts per \"%s\"; write %s", text, text + slash + 1,
			 schema_scalar(row->type)->allowed);
		return false;
	}
	return in_range(row, text, rate->count, why, why_bytes);
}

static bool parse_text(const struct schema_row *row, const char *text, void *field, char *why,
		       size_t why_bytes)
{
	size_t n = strlen(text);

	if (n == 0 || n >= row->bytes) {
		snprintf(why, why_bytes, "the text is %s; allowed are 1 to %zu octets",
			 n == 0 ? "empty" : "too long", row->bytes - 1);
		return false;
	}
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 0x7f) {
			snprintf(why, why_bytes, "control characters are not allowed");
			return false;
		}
	}
	memcpy(field, text, n + 1);
	return true;
}

static bool parse_path(const struct schema_row *row, const char *text, void *field, char *why,
		       size_t why_bytes)
{
	if (text[0] != '/') {
		snprintf(why, why_bytes, "\"%s\" is not an absolute path; it must begin with /",
			 text);
		return false;
	}
	return parse_text(row, text, field, why, why_bytes);
}

/* RFC 1123 section 2.1, RFC 1035 section 2.3.4 */
static bool parse_hostname(const struct schema_row *row, const char *text, void *field, char *why,
			   size_t why_bytes)
{
	size_t label = 0, n = strlen(text);
	bool good = n > 0 && n <= 253;

	for (size_t i = 0; good && i <= n; i++) {
		unsigned char ch = (unsigned char)text[i];
		if (ch == '.' || ch == '\0') {
			good = label > 0 && text[i - 1] != '-';
			label = 0;
			continue;
		}
		bool alnum = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
			     (ch >= '0' && ch <= '9');
		good = (alnum || (ch == '-' && label > 0)) && ++label <= 63;
	}
	if (!good) {
		snprintf(why, why_bytes,
			 "\"%s\" is not a host name; allowed are letters, digits, - and .", text);
		return false;
	}
	return parse_text(row, text, field, why, why_bytes);
}

const char *schema_choice_names(const struct schema_row *row, char *text, size_t bytes)
{
	size_t n = 0;
	const struct schema_choice *last = NULL;

	for (const struct schema_choice *c = row->choices; c->name != NULL; c++)
		if (c->not_yet == NULL)
			last = c;
	text[0] = '\0';
	for (const struct schema_choice *c = row->choices; c->name != NULL && n < bytes; c++) {
		if (c->not_yet != NULL)
			continue;
		const char *glue = n == 0 ? "" : c == last ? " or " : ", ";
		int w = snprintf(text + n, bytes - n, "%s%s", glue, c->name);
		n += w > 0 ? (size_t)w : 0;
	}
	return text;
}

static bool parse_choice(const struct schema_row *row, const char *text, void *field, char *why,
			 size_t why_bytes)
{
	char names[160];

	for (const struct schema_choice *c = row->choices; c->name != NULL; c++) {
		if (strcmp(c->name, text) != 0)
			continue;
		if (c->not_yet != NULL) {
			snprintf(why, why_bytes, "%s %s", text, c->not_yet);
			return false;
		}
		uint32_t v = row->type == SCHEMA_CHOICES ? 1u << c->value : c->value;
		uint32_t old = 0;
		if (row->type == SCHEMA_CHOICES)
			memcpy(&old, field, sizeof(old));
		v |= old;
		memcpy(field, &v, sizeof(v));
		return true;
	}
	snprintf(why, why_bytes, "\"%s\" is unknown; allowed is %s", text,
		 schema_choice_names(row, names, sizeof(names)));
	return false;
}

static bool parse_ip(const struct schema_row *row, const char *text, struct ip_addr *a, char *why,
		     size_t why_bytes)
{
	if (addr_parse(text, a))
		return true;
	snprintf(why, why_bytes, "\"%s\" is not %s", text, schema_scalar(row->type)->allowed);
	return false;
}

static bool parse_address(const struct schema_row *row, const char *text, void *field, char *why,
			  size_t why_bytes)
{
	return parse_ip(row, text, field, why, why_bytes);
}

static bool has_host_bits(const struct config_prefix *p)
{
	for (unsigned bit = p->bits; bit < (p->addr.family == 6 ? 128u : 32u); bit++) {
		if ((p->addr.byte[bit / 8] & 0x80u >> bit % 8) != 0)
			return true;
	}
	return false;
}

static bool parse_prefix(const struct schema_row *row, const char *text, void *field, char *why,
			 size_t why_bytes)
{
	struct config_prefix *p = field;
	const char *slash = strchr(text, '/');
	char address[ADDR_TEXT_BYTES];
	uint64_t bits;

	if (slash == NULL || (size_t)(slash - text) >= sizeof(address)) {
		snprintf(why, why_bytes, "\"%s\" is not %s", text,
			 schema_scalar(row->type)->allowed);
		return false;
	}
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	if (!parse_ip(row, address, &p->addr, why, why_bytes))
		return false;
	unsigned most = p->addr.family == 6 ? 128 : 32;
	if (!parse_digits(slash + 1, strlen(slash + 1), &bits) || bits > most) {
		snprintf(why, why_bytes, "%s: the prefix length must be a number up to %u", text,
			 most);
		return false;
	}
	p->bits = (uint8_t)bits;
	if (row->type == SCHEMA_NETWORK && has_host_bits(p)) {
		snprintf(why, why_bytes, "%s has bits set beyond its prefix length", text);
		return false;
	}
	return true;
}

static bool parse_http(const struct schema_row *row, const char *text, void *field, char *why,
		       size_t why_bytes)
{
	struct ip_addr *a = field;
	const char *colon = strrchr(text, ':');
	char address[ADDR_TEXT_BYTES];
	uint64_t port;

	memset(a, 0, sizeof(*a));
	if (strcmp(text, "off") == 0)
		return true;
	if (colon == NULL || (size_t)(colon - text) >= sizeof(address) ||
	    !parse_digits(colon + 1, strlen(colon + 1), &port) || port == 0 || port > 65535) {
		snprintf(why, why_bytes, "\"%s\" is not %s", text,
			 schema_scalar(row->type)->allowed);
		return false;
	}
	memcpy(address, text, (size_t)(colon - text));
	address[colon - text] = '\0';
	if (!parse_ip(row, address, a, why, why_bytes))
		return false;
	if (a->family != 4) {
		snprintf(why, why_bytes, "\"%s\" is not %s", text,
			 schema_scalar(row->type)->allowed);
		return false;
	}
	uint16_t p = (uint16_t)port;
	memcpy((char *)field - row->offset + row->count_offset, &p, sizeof(p));
	return true;
}

static bool parse_pin(const struct schema_row *row, const char *text, void *field, char *why,
		      size_t why_bytes)
{
	if (base64_decode(text, strlen(text), field, row->bytes) == (int)row->bytes)
		return true;
	snprintf(why, why_bytes, "\"%.80s\" is not %s", text, schema_scalar(row->type)->allowed);
	return false;
}

static const struct schema_scalar_type scalar_types[SCHEMA_TYPES] = {
	[SCHEMA_TEXT] = {"text", "a text", parse_text},
	[SCHEMA_HOSTNAME] = {"host name", "a host name", parse_hostname},
	[SCHEMA_PATH] = {"path", "an absolute path", parse_path},
	[SCHEMA_NUMBER] = {"number", "a whole number", parse_number},
	[SCHEMA_SIZE] = {"size", "a size such as 64K, 128M or 20G", parse_united_field},
	[SCHEMA_TIME] = {"time", "a time such as 2ms, 30s, 5m, 12h or 5d", parse_united_field},
	[SCHEMA_RATE] = {"rate", "a rate such as 10/m or 500/h (per s, m, h or d), or off",
			 parse_rate},
	[SCHEMA_VOLUME] = {"volume", "a volume such as 500M/h or 10G/d (per s, m, h or d), or off",
			   parse_rate},
	[SCHEMA_CHOICE] = {"choice", "one of the choices", parse_choice},
	[SCHEMA_CHOICES] = {"choices", "one of the choices", parse_choice},
	[SCHEMA_ADDRESS] = {"address", "an IP address such as 192.0.2.1 or 2001:db8::1",
			    parse_address},
	[SCHEMA_PREFIX] = {"prefix", "an IP address with its prefix length such as 192.0.2.10/24",
			   parse_prefix},
	[SCHEMA_NETWORK] = {"network", "a network such as 10.0.0.0/8 or 2001:db8::/32",
			    parse_prefix},
	[SCHEMA_PIN] = {"pin", "32 octets of base64, a SHA-256", parse_pin},
	[SCHEMA_HTTP] = {"endpoint", "an IPv4 address and port such as 127.0.0.1:9587, or off",
			 parse_http},
};

const struct schema_scalar_type *schema_scalar(enum schema_type type)
{
	return &scalar_types[type];
}
