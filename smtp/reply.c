/* reply.c - the table of reply.h */
#include "smtp/reply.h"

#define ROW(id, code, enhanced, text) [REPLY_##id] = {code, enhanced, text},
const struct smtp_reply_row smtp_reply_table[SMTP_REPLY_COUNT] = {SMTP_REPLIES(ROW)};
