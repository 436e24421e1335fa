/*
 * confine.h - what postern-signer gives up before it reads a key: root, core dumps, being traced,
 * new sockets, other programs.
 *
 * Runs on: the main thread, before there is another.  Errors: -errno.
 */
#ifndef TLS_SIGNER_CONFINE_H
#define TLS_SIGNER_CONFINE_H

#include <sys/types.h>

/* Memory is never dumped, and never swapped: 1; without the right to lock it, only the former: 0.
 */
int confine_memory(void);
/* Becomes the user, for good. */
int confine_user(uid_t user, gid_t group);
/* No socket, program, process or trace from here on; connections of the sockets there are go on. */
int confine_calls(void);

#endif
