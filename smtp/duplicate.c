/* duplicate.c - a table of names with a try-lock a place */
#include "smtp/duplicate.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { PROBES = 8 };

struct place {
	atomic_flag busy;
	uint8_t name[DIGEST_BYTES];
	spool_id_t id;
	uint64_t until_us; /* 0: free */
};

struct duplicates {
	uint64_t mask;
	struct place place[];
};

struct duplicates *duplicates_create(unsigned places)
{
	struct duplicates *d = calloc(1, sizeof(*d) + places * sizeof(d->place[0]));

	if (d == NULL)
		return NULL;
	d->mask = places - 1;
	for (unsigned i = 0; i < places; i++)
		atomic_flag_clear(&d->place[i].busy);
	return d;
}

void duplicates_destroy(struct duplicates *d)
{
	free(d);
}

static bool enter(struct place *p)
{
	return !atomic_flag_test_and_set_explicit(&p->busy, memory_order_acquire);
}

static void leave(struct place *p)
{
	atomic_flag_clear_explicit(&p->busy, memory_order_release);
}

static struct place *place_of(struct duplicates *d, const uint8_t *name, unsigned i)
{
	uint64_t first;

	memcpy(&first, name, sizeof(first));
	return &d->place[(first + i) & d->mask];
}

bool duplicates_find(struct duplicates *d, const uint8_t name[DIGEST_BYTES], uint64_t now_us,
		     spool_id_t *id)
{
	bool found = false;

	for (unsigned i = 0; i < PROBES && !found; i++) {
		struct place *p = place_of(d, name, i);
		if (!enter(p))
			continue;
		found = p->until_us > now_us && memcmp(p->name, name, DIGEST_BYTES) == 0;
		if (found)
			*id = p->id;
		leave(p);
	}
	return found;
}

void duplicates_note(struct duplicates *d, const uint8_t name[DIGEST_BYTES], spool_id_t id,
		     uint64_t now_us, uint64_t until_us)
{
	struct place *oldest = NULL;
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < PROBES; i++) {
		struct place *p = place_of(d, name, i);
		if (!enter(p))
			continue;
		uint64_t until = p->until_us > now_us ? p->until_us : 0;
		leave(p);
		if (until < least) {
			least = until;
			oldest = p;
		}
	}
	if (oldest == NULL || !enter(oldest))
		return;
	memcpy(oldest->name, name, DIGEST_BYTES);
	oldest->id = id;
	oldest->until_us = until_us;
	leave(oldest);
}
