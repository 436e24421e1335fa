/* fairq.c - one list a source, sources in a circle; there are never more sources than requests */
#include "smtp/auth/fairq.h"

#include "base/list.h"

#include <assert.h>
#include <stdlib.h>

struct source {
	struct list link; /* in waiting, or in idle */
	uint64_t tag;
	struct auth_request *first, *last;
};

struct fairq {
	struct list waiting, idle;
	struct source source[];
};

struct fairq *fairq_create(unsigned requests)
{
	struct fairq *q = calloc(1, sizeof(*q) + requests * sizeof(q->source[0]));

	if (q == NULL)
		return NULL;
	list_init(&q->waiting);
	list_init(&q->idle);
	for (unsigned i = 0; i < requests; i++)
		list_push_back(&q->idle, &q->source[i].link);
	return q;
}

void fairq_destroy(struct fairq *q)
{
	free(q);
}

static struct source *source_of(struct fairq *q, uint64_t tag)
{
	list_each (l, &q->waiting) {
		struct source *s = container_of(l, struct source, link);
		if (s->tag == tag)
			return s;
	}
	struct list *l = list_pop_front(&q->idle);
	assert(l != NULL);
	struct source *s = container_of(l, struct source, link);
	s->tag = tag;
	s->first = s->last = NULL;
	list_push_back(&q->waiting, l);
	return s;
}

void fairq_push(struct fairq *q, struct auth_request *r)
{
	struct source *s = source_of(q, r->source_tag);

	r->next = NULL;
	if (s->last != NULL)
		s->last->next = r;
	else
		s->first = r;
	s->last = r;
}

struct auth_request *fairq_pop(struct fairq *q)
{
	struct list *l = list_pop_front(&q->waiting);

	if (l == NULL)
		return NULL;
	struct source *s = container_of(l, struct source, link);
	struct auth_request *r = s->first;
	s->first = r->next;
	list_push_back(s->first != NULL ? &q->waiting : &q->idle, l);
	return r;
}
