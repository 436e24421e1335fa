/* counters.c - names and help texts of the spool's counters */
#include "smtp/spool/counters.h"

COUNTER_TABLE(spool, SPOOL_COUNTERS)
