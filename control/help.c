/* help.c - the schema as text for operators */
#include "control/schema.h"

#include <string.h>

static void print_row(const struct schema_row *row, const char *path, FILE *out)
{
	char about[200] = "", range[80];

	if (row->not_yet != NULL) {
		fprintf(out, "%s\n    %s\n", path, row->not_yet);
		return;
	}
	if (row->choices != NULL)
		schema_choice_names(row, about, sizeof(about));
	else
		schema_range(row, about, sizeof(about));
	snprintf(range, sizeof(range), "%s%.76s", about[0] != '\0' ? ", " : "", about);
	const char *type = row->type == SCHEMA_MAP ? "map" : schema_scalar(row->type)->name;
	fprintf(out, "%s    (%s%s%s%s%s%s%s)\n    %s\n", path, row->max_items > 0 ? "list of " : "",
		type, range, row->required ? ", required" : "",
		row->preset != NULL ? ", default " : "", row->preset != NULL ? row->preset : "",
		row->reloadable ? ", reloadable" : "", row->help);
}

static void print_rows(const struct schema_row *rows, const char *parent, FILE *out)
{
	char path[200];

	for (const struct schema_row *row = rows; row->key != NULL; row++) {
		snprintf(path, sizeof(path), "%.100s%s%.60s%s", parent,
			 parent[0] != '\0' ? "." : "", row->key,
			 row->max_items > 0 && row->type == SCHEMA_MAP ? "[]" : "");
		print_row(row, path, out);
		if (row->rows != NULL)
			print_rows(row->rows, path, out);
	}
}

void config_help(FILE *out)
{
	fprintf(out, "Configuration keys. Sizes take K, M or G; times take ms, s, m, h or d; "
		     "rates are COUNT/s, /m, /h or /d.\n\n");
	print_rows(schema_root(), "", out);
}
