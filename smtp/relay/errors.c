/*
 * errors.c - why messages wait: hops say the same to many of them, so each text is kept once.
 */
#include "base/crc32c.h"
#include "smtp/relay/internal.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096, NUMBERS = UINT16_MAX /* beyond: said no more */ };

struct error {
	struct error *next;
	uint32_t uses, hash;
	uint16_t number;
	char text[];
};

struct errors {
	struct error *bucket[BUCKETS];
	struct error **at; /* by number */
	uint16_t *unused;  /* numbers given back */
	unsigned n_unused;
	unsigned used, room; /* of at; number 0 is nobody's */
};

struct errors *errors_create(void)
{
	struct errors *e = calloc(1, sizeof(*e));

	if (e != NULL)
		e->used = 1;
	return e;
}

void errors_destroy(struct errors *e)
{
	if (e == NULL)
		return;
	for (unsigned i = 0; i < BUCKETS; i++) {
		for (struct error *x = e->bucket[i], *next; x != NULL; x = next) {
			next = x->next;
			free(x);
		}
	}
	free(e->at);
	free(e->unused);
	free(e);
}

/* Room for one number more. */
static bool grow(struct errors *e)
{
	unsigned room = e->room > 0 ? e->room * 2 : 64;

	if (e->n_unused > 0 || e->used < e->room)
		return true;
	if (e->used >= NUMBERS)
		return false;
	struct error **at = reallocarray(e->at, room, sizeof(*at));
	if (at == NULL)
		return false;
	e->at = at;
	uint16_t *unused = reallocarray(e->unused, room, sizeof(*unused));
	if (unused == NULL)
		return false;
	e->unused = unused;
	e->room = room;
	return true;
}

uint16_t error_take(struct errors *e, const char *text)
{
	size_t n = text != NULL ? strlen(text) : 0;
	uint32_t hash = text != NULL ? crc32c(0, text, n) : 0;
	struct error *x = text != NULL ? e->bucket[hash % BUCKETS] : NULL;

	if (text == NULL)
		return 0;
	while (x != NULL && (x->hash != hash || strcmp(x->text, text) != 0))
		x = x->next;
	if (x != NULL)
		return error_share(e, x->number);
	if (!grow(e) || (x = malloc(sizeof(*x) + n + 1)) == NULL)
		return 0;
	x->number = e->n_unused > 0 ? e->unused[--e->n_unused] : (uint16_t)e->used++;
	x->uses = 1;
	x->hash = hash;
	memcpy(x->text, text, n + 1);
	x->next = e->bucket[hash % BUCKETS];
	e->bucket[hash % BUCKETS] = x;
	e->at[x->number] = x;
	return x->number;
}

uint16_t error_share(struct errors *e, uint16_t number)
{
	if (number != 0)
		e->at[number]->uses++;
	return number;
}

void error_drop(struct errors *e, uint16_t number)
{
	struct error *x = number != 0 ? e->at[number] : NULL;

	if (x == NULL || --x->uses > 0)
		return;
	struct error **at = &e->bucket[x->hash % BUCKETS];
	while (*at != x)
		at = &(*at)->next;
	*at = x->next;
	e->unused[e->n_unused++] = number;
	free(x);
}

const char *error_text(const struct errors *e, uint16_t number)
{
	return number != 0 ? e->at[number]->text : NULL;
}
