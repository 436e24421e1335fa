/* compare.c - two configurations, key by key, as the schema table knows them */
#include "control/schema.h"

#include <string.h>

enum { KEY_BYTES = 256 };

struct walk {
	void (*differs)(void *arg, const char *path, bool reloadable);
	void *arg;
	bool take; /* copies from b into a what may be changed */
};

static void walk_rows(const struct walk *w, const struct schema_row *rows, char *a, const char *b,
		      const char *path, bool reloadable);

static bool is_text(enum schema_type type)
{
	return type == SCHEMA_TEXT || type == SCHEMA_HOSTNAME || type == SCHEMA_PATH;
}

static bool same_value(const struct schema_row *row, const char *a, const char *b)
{
	/* behind its end a text has what a longer default left there */
	return is_text(row->type) ? strcmp(a, b) == 0 : memcmp(a, b, row->bytes) == 0;
}

static void walk_list(const struct walk *w, const struct schema_row *row, char *a, const char *b,
		      const char *path, bool reloadable)
{
	unsigned na, nb;
	char item[KEY_BYTES];

	memcpy(&na, a + row->count_offset, sizeof(na));
	memcpy(&nb, b + row->count_offset, sizeof(nb));
	if (na != nb)
		w->differs(w->arg, path, reloadable);
	for (unsigned i = 0; na == nb && i < na; i++) {
		char *ai = a + row->offset + i * row->bytes;
		const char *bi = b + row->offset + i * row->bytes;
		snprintf(item, sizeof(item), "%.230s[%u]", path, i);
		if (row->type == SCHEMA_MAP)
			walk_rows(w, row->rows, ai, bi, item, reloadable);
		else if (!same_value(row, ai, bi))
			w->differs(w->arg, item, reloadable);
	}
	if (w->take && reloadable) {
		memcpy(a + row->offset, b + row->offset, row->max_items * row->bytes);
		memcpy(a + row->count_offset, &nb, sizeof(nb));
	}
}

/* ADDRESS:PORT are two fields. */
static void walk_http(const struct walk *w, const struct schema_row *row, const char *a,
		      const char *b, const char *path, bool reloadable)
{
	if (memcmp(a + row->offset, b + row->offset, sizeof(struct ip_addr)) != 0 ||
	    memcmp(a + row->count_offset, b + row->count_offset, sizeof(uint16_t)) != 0)
		w->differs(w->arg, path, reloadable);
}

static void walk_row(const struct walk *w, const struct schema_row *row, char *a, const char *b,
		     const char *path, bool reloadable)
{
	if (row->type == SCHEMA_HTTP) {
		walk_http(w, row, a, b, path, reloadable);
	} else if (row->max_items > 0 && row->type != SCHEMA_CHOICES) {
		walk_list(w, row, a, b, path, reloadable);
	} else if (row->type == SCHEMA_MAP) {
		walk_rows(w, row->rows, a + row->offset, b + row->offset, path, reloadable);
	} else {
		if (!same_value(row, a + row->offset, b + row->offset))
			w->differs(w->arg, path, reloadable);
		if (w->take && reloadable)
			memcpy(a + row->offset, b + row->offset, row->bytes);
	}
}

static void walk_rows(const struct walk *w, const struct schema_row *rows, char *a, const char *b,
		      const char *path, bool reloadable)
{
	char key[KEY_BYTES];

	for (const struct schema_row *row = rows; row->key != NULL; row++) {
		if (row->not_yet != NULL)
			continue;
		snprintf(key, sizeof(key), "%.160s%s%.80s", path, path[0] != '\0' ? "." : "",
			 row->key);
		walk_row(w, row, a, b, key, reloadable || row->reloadable);
	}
}

void config_compare(const struct config *a, const struct config *b,
		    void (*differs)(void *arg, const char *path, bool reloadable), void *arg)
{
	struct walk w = {.differs = differs, .arg = arg};

	walk_rows(&w, schema_root(), (char *)(uintptr_t)a, (const char *)b, "", false);
}

static void ignore(void *arg, const char *path, bool reloadable)
{
}

void config_take(struct config *into, const struct config *from)
{
	struct walk w = {.differs = ignore, .take = true};

	walk_rows(&w, schema_root(), (char *)into, (const char *)from, "", false);
}
