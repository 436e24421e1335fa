/* counters.c - names and help texts of the password check counters */
#include "smtp/auth/counters.h"

COUNTER_TABLE(auth, AUTH_COUNTERS)
