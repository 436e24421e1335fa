/* manage_kit.h - what tests of an operator's orders share: looking at the queue, giving an order */
#ifndef TESTS_UNIT_MANAGE_KIT_H
#define TESTS_UNIT_MANAGE_KIT_H

#include "tests/unit/relay_kit.h"

static const struct relay_filter all;

/* Everything that passes, up to a page. */
static inline struct relay_page *look(struct bench *b, struct relay_filter f)
{
	static struct relay_page p;

	for (unsigned i = 0; i < p.n; i++)
		free(p.rows[i].done);
	p = (struct relay_page){.filter = f, .most = RELAY_ROWS};
	relay_page(b->m->relay, &p);
	return &p;
}

static inline unsigned found(struct bench *b, struct relay_filter f)
{
	unsigned n = look(b, f)->n;

	look(b, (struct relay_filter){.id = 1}); /* frees what was copied */
	return n;
}

static inline unsigned with_status(struct bench *b, enum relay_status s)
{
	return found(b, (struct relay_filter){.statuses = 1u << s});
}

static inline bool carried_out(void *arg)
{
	return atomic_load(&((struct relay_order *)arg)->pending) == 0;
}

static inline struct relay_order *give(struct bench *b, enum relay_verb verb, struct relay_filter f,
				       const char *pool)
{
	struct relay_order *o = calloc(1, sizeof(*o));
	struct relay_page *p = look(b, f);

	o->verb = verb;
	o->uid = 7;
	snprintf(o->reason, sizeof(o->reason), "because");
	snprintf(o->pool, sizeof(o->pool), "%s", pool != NULL ? pool : "");
	for (unsigned i = 0; i < p->n; i++) {
		o->targets[o->n].message = p->rows[i].message;
		o->targets[o->n++].id = p->rows[i].id;
	}
	atomic_store(&o->pending, o->n);
	look(b, (struct relay_filter){.id = 1});
	relay_order(b->m->relay, o);
	return o;
}

static inline unsigned results(const struct relay_order *o, enum relay_result r)
{
	unsigned n = 0;

	for (unsigned i = 0; i < o->n; i++)
		n += o->targets[i].result == r;
	return n;
}

/* Orders it of all that passes; how many of them came to r. */
static inline unsigned order(struct bench *b, enum relay_verb verb, struct relay_filter f,
			     const char *pool, enum relay_result r)
{
	struct relay_order *o = give(b, verb, f, pool);

	assert_true(mail_run_until(b->m, carried_out, o, MINUTE));
	unsigned n = results(o, r);
	free(o);
	return n;
}

#endif
