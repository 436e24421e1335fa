/*
 * tls_pipe.h - streams without a network: what the TLS layer writes lies in a buffer, what it shall
 * read is put there.  Takes the place of the TCP stack.
 *
 * Owner: the caller embeds or allocates struct stream.  Runs on: one thread.
 */
#ifndef PERF_TLS_PIPE_H
#define PERF_TLS_PIPE_H

#include "dataplane/tcp/stream.h"

enum { PIPE_BYTES = 32768 };

struct pipe_buffer {
	uint8_t *data; /* PIPE_BYTES, allocated when first written to */
	size_t start, end;
};

struct stream {
	struct pipe_buffer in, out; /* towards TLS, from TLS */
	void *user;
	bool over;
};

void pipe_put(struct pipe_buffer *b, const void *data, size_t n);
void pipe_free(struct stream *s);

#endif
