/* embed_options.c - one row an option: what values it takes, how it is set and read */
#include "tests/sim/embed.h"

#include "dataplane/tcp/seq.h"

#include <errno.h>

enum { MSS_LEAST = 64, MSS_DEFAULT = 536 };

static void set_nodelay(struct tcpe_sock *s, int64_t v)
{
	s->tuning.nagle = v == 0;
}

static int64_t get_nodelay(const struct tcpe_sock *s)
{
	return !s->tuning.nagle;
}

static void set_cork(struct tcpe_sock *s, int64_t v)
{
	s->tuning.cork = v != 0;
	s->tuning.more &= v != 0; /* uncorking lets everything go */
}

static int64_t get_cork(const struct tcpe_sock *s)
{
	return s->tuning.cork;
}

static void set_quickack(struct tcpe_sock *s, int64_t v)
{
	s->tuning.quick_ack = v != 0;
}

static int64_t get_quickack(const struct tcpe_sock *s)
{
	return s->tuning.quick_ack;
}

static void set_linger(struct tcpe_sock *s, int64_t v)
{
	s->linger_s = (int32_t)v;
}

static int64_t get_linger(const struct tcpe_sock *s)
{
	return s->linger_s;
}

static void set_sndbuf(struct tcpe_sock *s, int64_t v)
{
	s->tuning.send_limit = (uint32_t)v;
	if (s->stream != NULL)
		stream_set_send_limit(s->stream, (uint32_t)v);
}

static int64_t get_sndbuf(const struct tcpe_sock *s)
{
	return s->tuning.send_limit;
}

static void set_rcvbuf(struct tcpe_sock *s, int64_t v)
{
	uint32_t first = s->st->config.init_rcv_wnd;
	uint32_t most = u32_min((uint32_t)v, 65535);

	s->autotune = false;
	s->receive_limit = s->tuning.receive_limit = (uint32_t)v;
	s->tuning.init_window = first != 0 && first < most ? first : most;
	if (s->stream != NULL)
		stream_set_receive_limit(s->stream, (uint32_t)v);
}

static int64_t get_rcvbuf(const struct tcpe_sock *s)
{
	return s->receive_limit;
}

static void set_maxseg(struct tcpe_sock *s, int64_t v)
{
	s->tuning.mss = (uint16_t)v;
}

static int64_t get_maxseg(const struct tcpe_sock *s)
{
	if (s->stream != NULL && s->stream->mss != 0)
		return s->stream->mss;
	return s->tuning.mss != 0 ? s->tuning.mss : MSS_DEFAULT;
}

static void set_user_timeout(struct tcpe_sock *s, int64_t v)
{
	s->tuning.user_timeout_ms = (uint32_t)v;
}

static int64_t get_user_timeout(const struct tcpe_sock *s)
{
	return s->tuning.user_timeout_ms;
}

static void set_keepalive(struct tcpe_sock *s, int64_t v)
{
	s->tuning.keepalive = v != 0;
}

static int64_t get_keepalive(const struct tcpe_sock *s)
{
	return s->tuning.keepalive;
}

static void set_keep_idle(struct tcpe_sock *s, int64_t v)
{
	s->tuning.keep_idle_s = (uint32_t)v;
}

static int64_t get_keep_idle(const struct tcpe_sock *s)
{
	return s->tuning.keep_idle_s;
}

static void set_keep_interval(struct tcpe_sock *s, int64_t v)
{
	s->tuning.keep_interval_s = (uint32_t)v;
}

static int64_t get_keep_interval(const struct tcpe_sock *s)
{
	return s->tuning.keep_interval_s;
}

static void set_keep_count(struct tcpe_sock *s, int64_t v)
{
	s->tuning.keep_count = (uint32_t)v;
}

static int64_t get_keep_count(const struct tcpe_sock *s)
{
	return s->tuning.keep_count;
}

static void set_syn_count(struct tcpe_sock *s, int64_t v)
{
	s->tuning.syn_retries = (uint32_t)v;
}

static int64_t get_syn_count(const struct tcpe_sock *s)
{
	return s->tuning.syn_retries;
}

static void set_congestion(struct tcpe_sock *s, int64_t v)
{
	s->tuning.congestion = (uint8_t)v;
}

static int64_t get_congestion(const struct tcpe_sock *s)
{
	return s->tuning.congestion;
}

static void set_tos(struct tcpe_sock *s, int64_t v)
{
	s->tuning.tos = (uint8_t)(v & 0xfc);
}

static int64_t get_tos(const struct tcpe_sock *s)
{
	return s->tuning.tos;
}

static int64_t get_inq(const struct tcpe_sock *s)
{
	return (int64_t)embed_unread(s);
}

static int64_t get_outq(const struct tcpe_sock *s)
{
	return s->stream != NULL ? (int64_t)stream_unacked(s->stream) : 0;
}

static int64_t get_unsent(const struct tcpe_sock *s)
{
	const struct stream *x = s->stream;

	return x != NULL && seq_gt(x->snd_end, x->snd_max) ? x->snd_end - x->snd_max : 0;
}

static const struct {
	int64_t least, most;
	void (*set)(struct tcpe_sock *s, int64_t v); /* NULL: read only */
	int64_t (*get)(const struct tcpe_sock *s);
} options[] = {
	[TCPE_NODELAY] = {0, 1, set_nodelay, get_nodelay},
	[TCPE_CORK] = {0, 1, set_cork, get_cork},
	[TCPE_QUICKACK] = {0, 1, set_quickack, get_quickack},
	[TCPE_LINGER] = {-1, INT32_MAX, set_linger, get_linger},
	[TCPE_SNDBUF] = {1, 1 << 30, set_sndbuf, get_sndbuf},
	[TCPE_RCVBUF] = {1, 1 << 30, set_rcvbuf, get_rcvbuf},
	[TCPE_MAXSEG] = {MSS_LEAST, 65495, set_maxseg, get_maxseg},
	[TCPE_USER_TIMEOUT_MS] = {0, UINT32_MAX, set_user_timeout, get_user_timeout},
	[TCPE_KEEPALIVE] = {0, 1, set_keepalive, get_keepalive},
	[TCPE_KEEPIDLE_S] = {1, 32767, set_keep_idle, get_keep_idle},
	[TCPE_KEEPINTVL_S] = {1, 32767, set_keep_interval, get_keep_interval},
	[TCPE_KEEPCNT] = {1, 127, set_keep_count, get_keep_count},
	[TCPE_SYNCNT] = {0, 127, set_syn_count, get_syn_count},
	[TCPE_CONGESTION] = {TCPE_CC_RENO, TCPE_CC_CUBIC, set_congestion, get_congestion},
	[TCPE_TOS] = {0, 255, set_tos, get_tos},
	[TCPE_INQ] = {0, 0, NULL, get_inq},
	[TCPE_OUTQ] = {0, 0, NULL, get_outq},
	[TCPE_OUTQ_NSD] = {0, 0, NULL, get_unsent},
};

enum { OPTIONS = sizeof(options) / sizeof(options[0]) };

int tcpe_setopt(struct tcpe_sock *s, enum tcpe_opt o, int64_t v)
{
	if ((unsigned)o >= OPTIONS || options[o].set == NULL)
		return -ENOPROTOOPT;
	if (v < options[o].least || v > options[o].most)
		return -EINVAL;
	options[o].set(s, v);
	if (s->stream != NULL)
		stream_tune(s->stream, &s->tuning);
	embed_flush(s->st);
	return 0;
}

int tcpe_getopt(struct tcpe_sock *s, enum tcpe_opt o, int64_t *v)
{
	if ((unsigned)o >= OPTIONS)
		return -ENOPROTOOPT;
	*v = options[o].get(s);
	return 0;
}
