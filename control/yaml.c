/* yaml.c - libfyaml's events made into a tree with places */
#include "control/yaml.h"

#include "base/utf8.h"

#include <libfyaml.h>
#include <stdlib.h>
#include <string.h>

struct builder {
	struct yaml_doc *doc;
	struct yaml_node *at; /* the open map or list */
	unsigned depth;
	char *key; /* read, its value not yet */
	unsigned key_line, key_column;
	unsigned documents;
	bool failed;
	yaml_fail *fail;
	void *arg;
};

static void refuse(struct builder *b, const struct fy_mark *m, const char *what)
{
	b->failed = true;
	b->fail(b->arg, m != NULL ? (unsigned)m->line + 1 : 1,
		m != NULL ? (unsigned)m->column + 1 : 1, what);
}

static struct yaml_node *add_node(struct builder *b, enum yaml_kind kind, const struct fy_mark *m)
{
	if (b->doc->nodes++ >= YAML_NODES) {
		refuse(b, m, "the file has too many values");
		return NULL;
	}
	struct yaml_node *n = calloc(1, sizeof(*n));
	if (n == NULL) {
		refuse(b, m, "out of memory");
		return NULL;
	}
	n->kind = kind;
	n->line = m != NULL ? (unsigned)m->line + 1 : 1;
	n->column = m != NULL ? (unsigned)m->column + 1 : 1;
	n->parent = b->at;
	n->all = b->doc->all;
	b->doc->all = n;
	n->key = b->key;
	n->key_line = b->key_line;
	n->key_column = b->key_column;
	b->key = NULL;
	if (b->at == NULL) {
		b->doc->root = n;
	} else {
		if (b->at->last != NULL)
			b->at->last->next = n;
		else
			b->at->first = n;
		b->at->last = n;
	}
	return n;
}

static bool wants_key(const struct builder *b)
{
	return b->at != NULL && b->at->kind == YAML_MAP && b->key == NULL;
}

static void on_scalar(struct builder *b, struct fy_event *e, const struct fy_mark *m)
{
	size_t n = 0;
	const char *t = e->scalar.value != NULL ? fy_token_get_text(e->scalar.value, &n) : "";

	if (t == NULL || memchr(t, '\0', n) != NULL) {
		refuse(b, m, "a NUL character is not allowed");
		return;
	}
	char *copy = strndup(t, n);
	if (copy == NULL) {
		refuse(b, m, "out of memory");
		return;
	}
	if (wants_key(b)) {
		b->key = copy;
		b->key_line = m != NULL ? (unsigned)m->line + 1 : 1;
		b->key_column = m != NULL ? (unsigned)m->column + 1 : 1;
		return;
	}
	struct yaml_node *node = add_node(b, YAML_SCALAR, m);
	if (node == NULL) {
		free(copy);
		return;
	}
	node->text = copy;
	node->plain =
		e->scalar.value == NULL || fy_token_scalar_style(e->scalar.value) == FYSS_PLAIN;
}

static void on_open(struct builder *b, enum yaml_kind kind, const struct fy_mark *m)
{
	if (wants_key(b)) {
		refuse(b, m, "a key must be a plain word");
		return;
	}
	if (++b->depth > YAML_DEPTH) {
		refuse(b, m, "nested too deeply");
		return;
	}
	struct yaml_node *n = add_node(b, kind, m);
	if (n != NULL)
		b->at = n;
}

static void on_close(struct builder *b)
{
	b->at = b->at->parent;
	b->depth--;
}

static void on_document(struct builder *b, const struct fy_mark *m)
{
	if (++b->documents > 1)
		refuse(b, m, "a second document (---) is not allowed");
}

static bool has_extras(const struct fy_event *e)
{
	switch (e->type) {
	case FYET_SCALAR:
		return e->scalar.anchor != NULL || e->scalar.tag != NULL;
	case FYET_SEQUENCE_START:
		return e->sequence_start.anchor != NULL || e->sequence_start.tag != NULL;
	case FYET_MAPPING_START:
		return e->mapping_start.anchor != NULL || e->mapping_start.tag != NULL;
	default:
		return e->type == FYET_ALIAS;
	}
}

static void on_event(struct builder *b, struct fy_event *e)
{
	const struct fy_mark *m = fy_event_start_mark(e);

	if (has_extras(e)) {
		refuse(b, m,
		       "anchors (&), aliases (*) and tags (!) are not allowed; quote the text");
		return;
	}
	switch (e->type) {
	case FYET_DOCUMENT_START:
		on_document(b, m);
		return;
	case FYET_SCALAR:
		on_scalar(b, e, m);
		return;
	case FYET_MAPPING_START:
		on_open(b, YAML_MAP, m);
		return;
	case FYET_SEQUENCE_START:
		on_open(b, YAML_LIST, m);
		return;
	case FYET_MAPPING_END:
	case FYET_SEQUENCE_END:
		on_close(b);
		return;
	default:
		return;
	}
}

static void report_syntax(struct builder *b, struct fy_diag *diag)
{
	struct fy_diag_error *err;
	void *it = NULL;

	if (b->failed)
		return;
	while ((err = fy_diag_errors_iterate(diag, &it)) != NULL) {
		b->failed = true;
		b->fail(b->arg, err->line > 0 ? (unsigned)err->line : 1,
			err->column > 0 ? (unsigned)err->column : 1, err->msg);
	}
	if (!b->failed)
		refuse(b, NULL, "not a YAML file");
}

static void pump(struct builder *b, struct fy_parser *p, struct fy_diag *diag)
{
	bool ended = false;

	while (!b->failed && !ended) {
		struct fy_event *e = fy_parser_parse(p);
		if (e == NULL)
			break;
		ended = e->type == FYET_STREAM_END;
		on_event(b, e);
		fy_parser_event_free(p, e);
	}
	if (!ended || fy_parser_get_stream_error(p))
		report_syntax(b, diag);
}

/* libfyaml 0.7.12 loops for ever over some malformed input in directives.  None is of use here,
 * so they are refused before, and octets that are not UTF-8 with them. */
static bool acceptable(struct builder *b, const char *text, size_t bytes)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + bytes;
	struct fy_mark m = {};

	while (s < end) {
		size_t step = utf8_sequence(s, (size_t)(end - s));
		bool control = *s < ' ' && *s != '\t' && *s != '\n' && *s != '\r';
		if (step == 0 || control || *s == 0x7f) {
			refuse(b, &m, step == 0 ? "not valid UTF-8" : "a control character");
			return false;
		}
		if (m.column == 0 && *s == '%') {
			refuse(b, &m, "directives (a line that begins with %) are not allowed");
			return false;
		}
		bool line_end = *s == '\n' || *s == '\r';
		m.line += *s == '\n';
		m.column = line_end ? 0 : m.column + 1;
		s += step;
	}
	return true;
}

static struct fy_diag *quiet_diag(void)
{
	struct fy_diag_cfg cfg;

	fy_diag_cfg_default(&cfg);
	cfg.fp = NULL;
	cfg.colorize = false;
	struct fy_diag *d = fy_diag_create(&cfg);
	if (d != NULL)
		fy_diag_set_collect_errors(d, true);
	return d;
}

struct yaml_doc *yaml_parse(const char *text, size_t bytes, yaml_fail *fail, void *arg)
{
	struct builder b = {.fail = fail, .arg = arg};

	if (bytes > YAML_BYTES) {
		fail(arg, 1, 1, "the file is larger than 1 MiB");
		return NULL;
	}
	b.doc = calloc(1, sizeof(*b.doc));
	struct fy_diag *diag = quiet_diag();
	struct fy_parse_cfg cfg = {.flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG, .diag = diag};
	struct fy_parser *p = diag != NULL ? fy_parser_create(&cfg) : NULL;
	if (b.doc == NULL || p == NULL || fy_parser_set_string(p, text, bytes) != 0)
		refuse(&b, NULL, "out of memory");
	else if (acceptable(&b, text, bytes))
		pump(&b, p, diag);
	if (p != NULL)
		fy_parser_destroy(p);
	if (diag != NULL)
		fy_diag_destroy(diag);
	free(b.key);
	if (b.failed) {
		yaml_free(b.doc);
		return NULL;
	}
	return b.doc;
}

void yaml_free(struct yaml_doc *d)
{
	if (d == NULL)
		return;
	for (struct yaml_node *n = d->all; n != NULL;) {
		struct yaml_node *next = n->all;
		free(n->text);
		free(n->key);
		free(n);
		n = next;
	}
	free(d);
}

const struct yaml_node *yaml_member(const struct yaml_node *map, const char *key)
{
	if (map == NULL || map->kind != YAML_MAP)
		return NULL;
	for (const struct yaml_node *n = map->first; n != NULL; n = n->next)
		if (strcmp(n->key, key) == 0)
			return n;
	return NULL;
}

static const struct yaml_node *step(const struct yaml_node *at, const char *name)
{
	if (at->kind == YAML_MAP)
		return yaml_member(at, name);
	const struct yaml_node *n = at->first;
	for (unsigned long i = strtoul(name, NULL, 10); n != NULL && i > 0; i--)
		n = n->next;
	return n;
}

const struct yaml_node *yaml_deepest(const struct yaml_node *root, const char *path)
{
	char name[64];

	while (root != NULL && *path != '\0') {
		size_t n = strcspn(path, ".");
		if (n >= sizeof(name))
			break;
		memcpy(name, path, n);
		name[n] = '\0';
		const struct yaml_node *next = step(root, name);
		if (next == NULL)
			break;
		root = next;
		path += n + (path[n] == '.');
	}
	return root;
}
