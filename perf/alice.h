/* alice.h - logins of one user, alice with the password secret, for measurements of sessions */
#ifndef PERF_ALICE_H
#define PERF_ALICE_H

#include "smtp/auth/auth.h"

/* Ends the process where it fails. */
struct auth *alice_open(void);

#endif
