/* table.c - JSON for human eyes */
#include "control/cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS_MAX = 32, CELL_BYTES = 200, KEY_BYTES = 128 };

void cli_clean(char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
}

static const char *cell_text(const json_t *v, char *text)
{
	if (v == NULL || json_is_null(v)) {
		snprintf(text, CELL_BYTES, "-");
	} else if (json_is_string(v)) {
		snprintf(text, CELL_BYTES, "%s", json_string_value(v));
	} else {
		char *dump = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
		snprintf(text, CELL_BYTES, "%s", dump != NULL ? dump : "?");
		free(dump);
	}
	cli_clean(text);
	return text;
}

static void pad(const char *text, int width, bool right, bool last)
{
	if (right)
		printf("%*s", width, text);
	else if (last)
		printf("%s", text);
	else
		printf("%-*s", width, text);
	printf(last ? "\n" : "  ");
}

static void print_columns(const json_t *rows)
{
	const char *name[COLUMNS_MAX], *key;
	int width[COLUMNS_MAX];
	bool number[COLUMNS_MAX];
	char text[CELL_BYTES];
	unsigned columns = 0;
	json_t *row, *v;
	size_t i;

	json_object_foreach(json_array_get(rows, 0), key, v)
	{
		if (columns == COLUMNS_MAX)
			break;
		name[columns] = key;
		number[columns] = json_is_number(v);
		width[columns++] = (int)strlen(key);
	}
	json_array_foreach(rows, i, row)
	{
		for (unsigned k = 0; k < columns; k++) {
			int n = (int)strlen(cell_text(json_object_get(row, name[k]), text));
			width[k] = n > width[k] ? n : width[k];
		}
	}
	for (unsigned k = 0; k < columns; k++)
		pad(name[k], width[k], number[k], k + 1 == columns);
	json_array_foreach(rows, i, row)
	{
		for (unsigned k = 0; k < columns; k++)
			pad(cell_text(json_object_get(row, name[k]), text), width[k], number[k],
			    k + 1 == columns);
	}
}

static void print_rows(const json_t *object, const char *parent)
{
	char path[KEY_BYTES], text[CELL_BYTES];
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)object, key, v)
	{
		snprintf(path, sizeof(path), "%.60s%s%.60s", parent, parent[0] != '\0' ? "." : "",
			 key);
		if (json_is_object(v))
			print_rows(v, path);
		else if (json_is_array(v) && json_is_object(json_array_get(v, 0))) {
			printf("%s:\n", path);
			print_columns(v);
		} else
			printf("%-28s %s\n", path, cell_text(v, text));
	}
}

void cli_print_table(const json_t *j)
{
	char text[CELL_BYTES];
	json_t *v;
	size_t i;

	if (json_is_object(j)) {
		print_rows(j, "");
		return;
	}
	if (json_is_array(j) && json_array_size(j) == 0) {
		printf("none\n");
		return;
	}
	if (json_is_array(j) && json_is_object(json_array_get(j, 0))) {
		print_columns(j);
		return;
	}
	if (!json_is_array(j)) {
		printf("%s\n", cell_text(j, text));
		return;
	}
	json_array_foreach(j, i, v) printf("%s\n", cell_text(v, text));
}
