/* config.c - the tree of a configuration file laid over the schema */
#include "control/config.h"

#include "control/schema.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_BYTES = 256, WHY_BYTES = 400 };

void config_fail(const struct config_sink *s, unsigned line, unsigned column, const char *key,
		 const char *fmt, ...)
{
	struct config_errors *e = s->errors;
	char what[CONFIG_ERROR_BYTES / 2 + 64];
	va_list args;

	if (e->count == CONFIG_ERRORS) {
		e->dropped++;
		return;
	}
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);

	/* kept in the order of the file */
	unsigned at = e->count++;
	while (at > 0 && (e->item[at - 1].line > line ||
			  (e->item[at - 1].line == line && e->item[at - 1].column > column))) {
		e->item[at] = e->item[at - 1];
		at--;
	}
	struct config_error *item = &e->item[at];
	item->line = line;
	item->column = column;
	snprintf(item->text, sizeof(item->text), "%.200s:%u:%u: %s%s%s", s->file, line, column, key,
		 key[0] != '\0' ? ": " : "", what);
}

void config_errors_print(const struct config_errors *errors, FILE *out)
{
	for (unsigned i = 0; i < errors->count; i++)
		fprintf(out, "%s\n", errors->item[i].text);
	if (errors->dropped > 0)
		fprintf(out, "... and %u more\n", errors->dropped);
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;

	return m < c ? m : c;
}

/* Levenshtein; keys are short, anything longer than 63 is as far as can be. */
static unsigned key_distance(const char *a, const char *b)
{
	unsigned row[64];
	size_t na = strlen(a), nb = strlen(b);

	if (na > 63 || nb > 63)
		return 64;
	for (unsigned j = 0; j <= nb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= na; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= nb; j++) {
			unsigned above = row[j];
			row[j] =
				min3(row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[nb];
}

static const struct schema_row *find_row(const struct schema_row *rows, const char *key)
{
	for (; rows->key != NULL; rows++)
		if (strcmp(rows->key, key) == 0)
			return rows;
	return NULL;
}

static const char *nearest_key(const struct schema_row *rows, const char *key)
{
	const char *best = NULL;
	unsigned best_distance = 0;

	for (; rows->key != NULL; rows++) {
		unsigned d = key_distance(rows->key, key);
		if (rows->not_yet == NULL && (best == NULL || d < best_distance)) {
			best = rows->key;
			best_distance = d;
		}
	}
	return best;
}

static void join(char *path, const char *parent, const char *key)
{
	snprintf(path, KEY_BYTES, "%.160s%s%.80s", parent, parent[0] != '\0' ? "." : "", key);
}

static void read_map(const struct config_sink *s, const struct schema_row *rows,
		     const struct yaml_node *map, void *base, const char *path);
static void set_defaults(const struct schema_row *rows, void *base);

static const char *kind_name(const struct yaml_node *n)
{
	static const char *const names[] = {
		[YAML_SCALAR] = "a single value", [YAML_LIST] = "a list", [YAML_MAP] = "a map"};

	return n->kind == YAML_SCALAR && n->text[0] == '\0' && n->plain ? "nothing"
									: names[n->kind];
}

static bool is_kind(const struct config_sink *s, const struct yaml_node *n, enum yaml_kind kind,
		    const char *path, const char *wanted)
{
	if (n->kind == kind && !(kind == YAML_SCALAR && n->plain && n->text[0] == '\0'))
		return true;
	config_fail(s, n->line, n->column, path, "expected %s, found %s", wanted, kind_name(n));
	return false;
}

static void read_value(const struct config_sink *s, const struct schema_row *row,
		       const struct yaml_node *n, void *field, const char *path)
{
	char why[WHY_BYTES];

	if (row->type == SCHEMA_MAP) {
		if (!is_kind(s, n, YAML_MAP, path, "a map"))
			return;
		read_map(s, row->rows, n, field, path);
		return;
	}
	const struct schema_scalar_type *type = schema_scalar(row->type);
	if (!is_kind(s, n, YAML_SCALAR, path, type->allowed))
		return;
	if (!type->parse(row, n->text, field, why, sizeof(why)))
		config_fail(s, n->line, n->column, path, "%s", why);
}

static void read_items(const struct config_sink *s, const struct schema_row *row,
		       const struct yaml_node *list, void *base, const char *path)
{
	char item[KEY_BYTES];
	unsigned i = 0;

	for (const struct yaml_node *n = list->first; n != NULL; n = n->next, i++) {
		snprintf(item, sizeof(item), "%.230s[%u]", path, i);
		if (i >= row->max_items) {
			config_fail(s, n->line, n->column, item, "this version takes %s%u",
				    row->max_items == 1 ? "only " : "at most ", row->max_items);
			break;
		}
		char *field = (char *)base + row->offset;
		if (row->type != SCHEMA_CHOICES)
			field += i * row->bytes;
		if (row->type == SCHEMA_MAP)
			set_defaults(row->rows, field);
		read_value(s, row, n, field, item);
	}
	if (i < row->min_items)
		config_fail(s, list->line, list->column, path, "needs at least %u entry",
			    row->min_items);
	if (row->type != SCHEMA_CHOICES)
		memcpy((char *)base + row->count_offset, &i, sizeof(i));
}

static void read_key(const struct config_sink *s, const struct schema_row *row,
		     const struct yaml_node *n, void *base, const char *path)
{
	if (row->not_yet != NULL) {
		config_fail(s, n->key_line, n->key_column, path, "%s", row->not_yet);
		return;
	}
	if (row->max_items == 0) {
		read_value(s, row, n, (char *)base + row->offset, path);
		return;
	}
	char wanted[WHY_BYTES];
	snprintf(wanted, sizeof(wanted), "a list [...] of entries, each %s",
		 row->type == SCHEMA_MAP ? "a map" : schema_scalar(row->type)->allowed);
	if (!is_kind(s, n, YAML_LIST, path, wanted))
		return;
	/* what is written replaces the default */
	if (row->type == SCHEMA_CHOICES)
		memset((char *)base + row->offset, 0, row->bytes);
	read_items(s, row, n, base, path);
}

static bool duplicate(const struct config_sink *s, const struct yaml_node *map,
		      const struct yaml_node *n, const char *path)
{
	const struct yaml_node *before = yaml_member(map, n->key);

	if (before == n)
		return false;
	config_fail(s, n->key_line, n->key_column, path, "written twice; the first is on line %u",
		    before->key_line);
	return true;
}

static void read_map(const struct config_sink *s, const struct schema_row *rows,
		     const struct yaml_node *map, void *base, const char *path)
{
	char key[KEY_BYTES];

	for (const struct yaml_node *n = map->first; n != NULL; n = n->next) {
		const struct schema_row *row = find_row(rows, n->key);
		join(key, path, n->key);
		if (row == NULL)
			config_fail(s, n->key_line, n->key_column, key,
				    "unknown key; the nearest one here is \"%s\"",
				    nearest_key(rows, n->key));
		else if (!duplicate(s, map, n, key))
			read_key(s, row, n, base, key);
	}
	for (const struct schema_row *row = rows; row->key != NULL; row++) {
		if (!row->required || yaml_member(map, row->key) != NULL)
			continue;
		join(key, path, row->key);
		config_fail(s, map->line, map->column, key, "missing; it is required: %s",
			    row->help);
	}
}

static void set_default(const struct schema_row *row, void *base)
{
	char text[CONFIG_PATH_BYTES], why[WHY_BYTES], *rest = NULL;
	unsigned count = 0;

	snprintf(text, sizeof(text), "%s", row->preset);
	for (char *t = strtok_r(text, ",", &rest); t != NULL; t = strtok_r(NULL, ",", &rest)) {
		t += strspn(t, " ");
		char *field = (char *)base + row->offset;
		if (row->type != SCHEMA_CHOICES)
			field += count * row->bytes;
		if (!schema_scalar(row->type)->parse(row, t, field, why, sizeof(why)))
			abort(); /* the schema contradicts itself */
		count++;
	}
	if (row->max_items > 0 && row->type != SCHEMA_CHOICES)
		memcpy((char *)base + row->count_offset, &count, sizeof(count));
}

static void set_defaults(const struct schema_row *rows, void *base)
{
	for (const struct schema_row *row = rows; row->key != NULL; row++) {
		if (row->preset != NULL)
			set_default(row, base);
		else if (row->type == SCHEMA_MAP && row->not_yet == NULL && row->max_items == 0)
			set_defaults(row->rows, (char *)base + row->offset);
	}
}

static void on_yaml_fault(void *arg, unsigned line, unsigned column, const char *what)
{
	config_fail(arg, line, column, "", "%s", what);
}

/* What an absent key takes from another one. */
static void complete(struct config *c)
{
	if (c->relay.memory == CONFIG_MEMORY_SHARE)
		c->relay.memory = c->dataplane.memory / 4;
	for (unsigned i = 0; i < c->relay.pool_count; i++) {
		for (unsigned j = 0; j < c->relay.pool[i].next_hop_count; j++) {
			struct config_next_hop *h = &c->relay.pool[i].next_hop[j];
			if (h->name[0] == '\0' && h->host[0] != '\0')
				memcpy(h->name, h->host, sizeof(h->name));
			else if (h->name[0] == '\0')
				addr_text(&h->address, h->name);
		}
	}
}

int config_parse(struct config *c, const char *text, size_t bytes, const char *file,
		 enum config_checks checks, struct config_errors *errors)
{
	struct config_sink sink = {.file = file, .errors = errors};

	memset(c, 0, sizeof(*c));
	memset(errors, 0, sizeof(*errors));
	set_defaults(schema_root(), c);
	c->relay.memory = CONFIG_MEMORY_SHARE;
	struct yaml_doc *doc = yaml_parse(text, bytes, on_yaml_fault, &sink);
	if (doc == NULL)
		return -EINVAL;
	if (doc->root == NULL)
		config_fail(&sink, 1, 1, "", "the file is empty");
	else if (is_kind(&sink, doc->root, YAML_MAP, "", "keys at the top level"))
		read_map(&sink, schema_root(), doc->root, c, "");
	if (errors->count == 0)
		config_check(c, doc->root, &sink, checks);
	yaml_free(doc);
	complete(c);
	return errors->count > 0 ? -EINVAL : 0;
}

int config_read(struct config *c, const char *file, enum config_checks checks,
		struct config_errors *errors)
{
	struct config_sink sink = {.file = file, .errors = errors};
	FILE *f = fopen(file, "re");
	char *text = malloc(YAML_BYTES + 1);
	size_t n = 0;
	int error = errno;

	memset(errors, 0, sizeof(*errors));
	if (f != NULL && text != NULL) {
		n = fread(text, 1, YAML_BYTES + 1, f);
		error = errno;
	}
	if (f == NULL || text == NULL || ferror(f))
		config_fail(&sink, 1, 1, "", "cannot be read: %s", strerror(error));
	else
		config_parse(c, text, n, file, checks, errors);
	if (f != NULL)
		fclose(f);
	free(text);
	return errors->count > 0 ? -EINVAL : 0;
}
