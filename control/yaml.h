/*
 * yaml.h - a YAML file as a small tree that knows the place of everything in it.
 *
 * libfyaml scans and parses; this keeps only what a configuration needs: maps, lists, scalars
 * and their positions.  Anchors, aliases, tags and several documents are refused, depth and
 * number of nodes are bounded, so hostile input costs no more than its length.
 *
 * Owner: yaml_parse() allocates the document, yaml_free() frees all of it.
 * Runs on: the control thread.
 * Units: lines and columns count from 1.
 * Errors: each fault is reported through fail(); the result is then NULL.
 * Source: YAML 1.2.2.
 */
#ifndef CONTROL_YAML_H
#define CONTROL_YAML_H

#include <stdbool.h>
#include <stddef.h>

enum { YAML_DEPTH = 16, YAML_NODES = 20000, YAML_BYTES = 1 << 20 };

enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP };

struct yaml_node {
	enum yaml_kind kind;
	unsigned line, column;
	char *text; /* scalar: NUL-terminated */
	bool plain; /* scalar: not quoted */
	char *key;  /* when the parent is a map */
	unsigned key_line, key_column;
	struct yaml_node *first, *last, *next; /* children; next sibling */
	struct yaml_node *parent;
	struct yaml_node *all; /* the document's chain, for freeing */
};

struct yaml_doc {
	struct yaml_node *root; /* NULL: empty document */
	struct yaml_node *all;
	unsigned nodes;
};

typedef void yaml_fail(void *arg, unsigned line, unsigned column, const char *what);

struct yaml_doc *yaml_parse(const char *text, size_t bytes, yaml_fail *fail, void *arg);
void yaml_free(struct yaml_doc *d);

/* The member of a map, or NULL. */
const struct yaml_node *yaml_member(const struct yaml_node *map, const char *key);
/* Follows "a.b.0.c" as far as the tree goes: the deepest node on the way, never NULL unless
 * root is. */
const struct yaml_node *yaml_deepest(const struct yaml_node *root, const char *path);

#endif
