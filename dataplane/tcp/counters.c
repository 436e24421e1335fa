/* counters.c - names and help texts of the TCP counters */
#include "dataplane/tcp/counters.h"

COUNTER_TABLE(tcp, TCP_COUNTERS)
