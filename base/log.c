/* log.c - lines travel to the control thread through two rings: free slots out, full ones back */
#include "base/log.h"

#include "base/ring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_BYTES = 512, SLOTS = 1024 };

struct line {
	char text[LINE_BYTES];
};

/* The logger is the process's, like stderr itself: the one module with state of its own. */
static struct {
	_Atomic int level;
	_Atomic(struct ring *) full;
	struct ring *free;
	struct line *slots;
	_Atomic uint64_t dropped;
} logger = {.level = LOG_INFO};

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_set_level(enum log_level level)
{
	atomic_store(&logger.level, level);
}

bool log_level_parse(const char *name, enum log_level *level)
{
	for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
		if (strcmp(name, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

/* Hostile bytes in a log line must not start a new line or move a terminal's cursor. */
static void make_printable(char *s)
{
	for (; *s != '\0'; s++) {
		if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			*s = '?';
	}
}

static void format_line(struct line *l, enum log_level level, const char *layer, const char *fmt,
			va_list ap)
{
	struct timespec ts;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	size_t n = strftime(l->text, sizeof(l->text), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(l->text + n, sizeof(l->text) - n,
			      ".%03ldZ %s %s: ", ts.tv_nsec / 1000000, level_names[level], layer);
	vsnprintf(l->text + n, sizeof(l->text) - n, fmt, ap);
	make_printable(l->text);
}

void log_write(enum log_level level, const char *layer, const char *fmt, ...)
{
	struct line here, *l = &here;
	va_list ap;

	if ((int)level > atomic_load_explicit(&logger.level, memory_order_relaxed))
		return;
	struct ring *full = atomic_load(&logger.full);
	if (full != NULL) {
		l = ring_pop(logger.free);
		if (l == NULL) {
			atomic_fetch_add(&logger.dropped, 1);
			return;
		}
	}
	va_start(ap, fmt);
	format_line(l, level, layer, fmt, ap);
	va_end(ap);
	if (full != NULL)
		ring_push(full, l);
	else
		fprintf(stderr, "%s\n", l->text);
}

int log_start(void)
{
	struct ring *full = ring_create(SLOTS);
	logger.free = ring_create(SLOTS);
	logger.slots = calloc(SLOTS, sizeof(*logger.slots));
	if (full == NULL || logger.free == NULL || logger.slots == NULL) {
		ring_destroy(full);
		ring_destroy(logger.free);
		free(logger.slots);
		return -ENOMEM;
	}
	for (unsigned i = 0; i < SLOTS; i++)
		ring_push(logger.free, &logger.slots[i]);
	atomic_store(&logger.full, full);
	return 0;
}

unsigned log_drain(void)
{
	struct ring *full = atomic_load(&logger.full);
	struct line *l;
	unsigned n = 0;

	while (full != NULL && (l = ring_pop(full)) != NULL) {
		fprintf(stderr, "%s\n", l->text);
		ring_push(logger.free, l);
		n++;
	}
	uint64_t dropped = atomic_exchange(&logger.dropped, 0);
	if (dropped > 0)
		fprintf(stderr, "warning log: %llu lines dropped, the ring was full\n",
			(unsigned long long)dropped);
	return n;
}

void log_stop(void)
{
	struct ring *full = atomic_load(&logger.full);

	log_drain();
	if (full == NULL)
		return;
	atomic_store(&logger.full, NULL);
	ring_destroy(full);
	ring_destroy(logger.free);
	free(logger.slots);
	logger.free = NULL;
	logger.slots = NULL;
}
