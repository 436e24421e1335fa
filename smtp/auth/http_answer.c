/* http_answer.c - the JSON of an accepted login */
#include "smtp/auth/http_answer.h"

#include <jansson.h>

/* A string, or null, or not there. */
static bool text_of(const json_t *answer, const char *name, struct identity_draft *d,
		    bool (*set)(struct identity_draft *d, const char *text, size_t n))
{
	const json_t *v = json_object_get(answer, name);

	return v == NULL || json_is_null(v) ||
	       (json_is_string(v) && set(d, json_string_value(v), json_string_length(v)));
}

static bool addresses_of(const json_t *answer, struct identity_draft *d)
{
	const json_t *list = json_object_get(answer, "addresses"), *one;
	size_t i;

	if (list == NULL || json_is_null(list))
		return true;
	if (!json_is_array(list))
		return false;
	json_array_foreach(list, i, one)
	{
		if (!json_is_string(one) ||
		    !identity_add_addresses(d, json_string_value(one), json_string_length(one)))
			return false;
	}
	return true;
}

bool http_answer_read(const char *text, size_t n, struct identity_draft *d)
{
	json_t *answer =
		n <= HTTP_ANSWER_MOST
			? json_loadb(text, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL)
			: NULL;
	bool good = json_is_object(answer) && text_of(answer, "user", d, identity_set_user) &&
		    text_of(answer, "tenant", d, identity_set_tenant) && addresses_of(answer, d);

	json_decref(answer);
	return good;
}
