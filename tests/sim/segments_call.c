/* segments_call.c - the commands that are calls: sockets, time, figures */
#include "tests/sim/segments.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

struct field {
	const char *name;
	unsigned at, bytes;
};

#define CONFIG(n)                                                                         \
	{                                                                                 \
#n, offsetof(struct tcpe_config, n), sizeof(((struct tcpe_config *)0)->n) \
	}
#define INFO(n)                                                                       \
	{                                                                             \
#n, offsetof(struct tcpe_info, n), sizeof(((struct tcpe_info *)0)->n) \
	}

static const struct field settings[] = {CONFIG(mtu),
					CONFIG(mss),
					CONFIG(sack),
					CONFIG(dsack),
					CONFIG(timestamps),
					CONFIG(window_scaling),
					CONFIG(rcv_wscale),
					CONFIG(ecn),
					CONFIG(cc),
					CONFIG(hystart),
					CONFIG(rack),
					CONFIG(tlp),
					CONFIG(prr),
					CONFIG(frto),
					CONFIG(limited_transmit),
					CONFIG(dupthresh),
					CONFIG(slow_start_after_idle),
					CONFIG(random_iss),
					CONFIG(random_ts_offset),
					CONFIG(ts_tick_us),
					CONFIG(init_cwnd),
					CONFIG(sndbuf),
					CONFIG(rcvbuf),
					CONFIG(rcvbuf_max),
					CONFIG(init_rcv_wnd),
					CONFIG(rcvbuf_autotune),
					CONFIG(rto_init_us),
					CONFIG(rto_min_us),
					CONFIG(rto_max_us),
					CONFIG(delack_us),
					CONFIG(quickack_segs),
					CONFIG(syn_retries),
					CONFIG(synack_retries),
					CONFIG(data_retries),
					CONFIG(time_wait_us),
					CONFIG(fin_wait2_us),
					CONFIG(keep_idle_s),
					CONFIG(keep_intvl_s),
					CONFIG(keep_cnt),
					CONFIG(syn_cookies),
					CONFIG(drop_syn_fin),
					CONFIG(challenge_ack_per_s),
					CONFIG(opt_layout),
					CONFIG(max_socks),
					CONFIG(now_us)};

static const struct field figures[] = {
	INFO(ca_state),    INFO(opt_ts),        INFO(opt_sack),       INFO(opt_wscale),
	INFO(opt_ecn),     INFO(snd_wscale),    INFO(rcv_wscale),     INFO(retransmits),
	INFO(probes),      INFO(backoff),       INFO(snd_mss),        INFO(advmss),
	INFO(pmtu),        INFO(cwnd_bytes),    INFO(cwnd_segs),      INFO(ssthresh_segs),
	INFO(unacked),     INFO(sacked),        INFO(lost),           INFO(retrans),
	INFO(dsack_dups),  INFO(reord_seen),    INFO(rto_us),         INFO(srtt_us),
	INFO(rttvar_us),   INFO(min_rtt_us),    INFO(snd_wnd),        INFO(rcv_wnd),
	INFO(bytes_sent),  INFO(bytes_acked),   INFO(bytes_received), INFO(bytes_retrans),
	INFO(segs_out),    INFO(segs_in),       INFO(total_retrans),  INFO(total_rto),
	INFO(rcv_ooopack), INFO(notsent_bytes), INFO(delivered)};

static const struct field *find_field(const struct field *f, size_t n, const char *name,
				      size_t length)
{
	for (size_t i = 0; i < n; i++) {
		if (strlen(f[i].name) == length && strncmp(f[i].name, name, length) == 0)
			return &f[i];
	}
	return NULL;
}

static const struct {
	const char *name;
	int value;
} errors[] = {
	{"EAGAIN", EAGAIN},
	{"EPIPE", EPIPE},
	{"ECONNRESET", ECONNRESET},
	{"ECONNREFUSED", ECONNREFUSED},
	{"ETIMEDOUT", ETIMEDOUT},
	{"EINPROGRESS", EINPROGRESS},
	{"EISCONN", EISCONN},
	{"ENOTCONN", ENOTCONN},
	{"EALREADY", EALREADY},
	{"EINVAL", EINVAL},
	{"EHOSTUNREACH", EHOSTUNREACH},
	{"ENETUNREACH", ENETUNREACH},
	{"EADDRINUSE", EADDRINUSE},
	{"EADDRNOTAVAIL", EADDRNOTAVAIL},
};

static const char *const states[] = {"CLOSED",      "LISTEN",     "SYN_SENT",   "SYN_RCVD",
				     "ESTABLISHED", "FIN_WAIT_1", "FIN_WAIT_2", "CLOSE_WAIT",
				     "CLOSING",     "LAST_ACK",   "TIME_WAIT"};

static const char *const option_names[] = {
	"nodelay", "cork",         "quickack",  "linger",   "sndbuf",    "rcvbuf",
	"maxseg",  "user_timeout", "keepalive", "keepidle", "keepintvl", "keepcnt",
	"syncnt",  "congestion",   "tos",       "inq",      "outq",      "outq_nsd"};

/* A number, or the name of an error, which is negative. */
static int64_t result_named(struct run *r, const char *text)
{
	for (unsigned i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		if (strcmp(errors[i].name, text) == 0)
			return -errors[i].value;
	}
	return seg_value(r, text);
}

/* The word behind `=` is what the call has to return; without one it is otherwise. */
static void expect_result(struct run *r, int64_t got, int64_t otherwise)
{
	int64_t expected = otherwise;

	for (unsigned i = 1; i + 1 < r->words; i++) {
		if (strcmp(r->word[i], "=") == 0)
			expected = result_named(r, r->word[i + 1]);
	}
	if (got != expected)
		seg_fail(r, "%s: expected %lld, got %lld", r->word[0], (long long)expected,
			 (long long)got);
}

static struct tcpe_sock *sock(struct run *r)
{
	if (r->now->sock == NULL)
		seg_fail(r, "there is no socket");
	return r->now->sock;
}

static void config(struct run *r)
{
	if (r->st != NULL)
		seg_fail(r, "config comes first");
	for (unsigned i = 1; i < r->words && !r->failed; i++) {
		const char *is = strchr(r->word[i], '=');
		size_t n = is != NULL ? (size_t)(is - r->word[i]) : 0;
		const struct field *f =
			find_field(settings, sizeof(settings) / sizeof(settings[0]), r->word[i], n);
		if (f == NULL) {
			seg_fail(r, "no such setting: %s", r->word[i]);
			return;
		}
		int64_t v = seg_value(r, is + 1);
		memcpy((char *)&r->config + f->at, &v, f->bytes);
	}
}

static void ip6(struct run *r)
{
	r->family = 6;
}

static void isn(struct run *r)
{
	r->draw = (uint64_t)seg_value(r, r->words > 1 ? r->word[1] : NULL);
}

static void peer_isn(struct run *r)
{
	r->now->iss = (uint32_t)seg_value(r, r->words > 1 ? r->word[1] : NULL);
}

/* port N: another connection of the peer's, or back to one; port N stack=M: from the stack's M */
static void port(struct run *r)
{
	uint16_t n = (uint16_t)seg_value(r, r->words > 1 ? r->word[1] : NULL);
	unsigned i = 0;

	while (i < r->peers && r->peer[i].port != n)
		i++;
	if (i == SEG_PEERS) {
		seg_fail(r, "too many ports");
		return;
	}
	if (i == r->peers) {
		r->peers++;
		r->peer[i] = (struct peer){.port = n, .stack_port = SEG_PORT, .iss = 1000};
	}
	r->now = &r->peer[i];
	r->now->stack_port = (uint16_t)seg_option_value(r, "stack", r->now->stack_port);
}

/* again: the same port, a new connection */
static void again(struct run *r)
{
	r->now->theirs_known = false;
	r->now->sock = NULL;
	r->now->sent = r->now->received = 0;
}

static void window(struct run *r)
{
	r->window = (uint32_t)seg_value(r, r->words > 1 ? r->word[1] : NULL);
}

static void stamp(struct run *r)
{
	r->stamped = r->words > 1 && strcmp(r->word[1], "off") != 0;
	if (r->stamped)
		r->ts_value = (uint32_t)seg_value(r, r->word[1]);
}

static void wait_for(struct run *r)
{
	int64_t us = seg_value(r, r->words > 1 ? r->word[1] : NULL);

	if (!r->failed)
		tcpe_advance(seg_stack(r), tcpe_now(seg_stack(r)) + (uint64_t)us);
}

static void wait_until(struct run *r)
{
	int64_t us = seg_value(r, r->words > 1 ? r->word[1] : NULL);

	if (!r->failed)
		tcpe_advance(seg_stack(r), r->config.now_us + (uint64_t)us);
}

/* timer N: the next one; timer none */
static void timer(struct run *r)
{
	uint64_t next = tcpe_next_timer(seg_stack(r));
	bool none = r->words > 1 && strcmp(r->word[1], "none") == 0;
	uint64_t expected =
		none ? UINT64_MAX
		     : r->config.now_us + (uint64_t)seg_value(r, r->words > 1 ? r->word[1] : NULL);

	if (next != expected)
		seg_fail(r, "next timer: expected %lld, got %lld",
			 (long long)(expected - r->config.now_us),
			 (long long)(next - r->config.now_us));
}

static void listen_call(struct run *r)
{
	struct tcpe_addr a = seg_address(r, false);

	r->listener = tcpe_socket(seg_stack(r), r->family);
	r->now->sock = r->listener; /* options may be set before accept */
	int e = tcpe_bind(r->listener, &a);
	if (e == 0)
		e = tcpe_listen(r->listener, (int)seg_option_value(r, "backlog", 16));
	expect_result(r, e, 0);
}

static void accept_call(struct run *r)
{
	int err = 0;
	struct tcpe_sock *s = r->listener != NULL ? tcpe_accept(r->listener, &err) : NULL;

	if (s != NULL)
		r->now->sock = s;
	expect_result(r, err, 0);
}

static void socket_call(struct run *r)
{
	r->now->sock = tcpe_socket(seg_stack(r), r->family);
}

static void connect_call(struct run *r)
{
	struct tcpe_addr local = seg_address(r, false), peer = seg_address(r, true);

	if (r->now->sock == NULL || r->now->sock == r->listener)
		socket_call(r);
	tcpe_bind(r->now->sock, &local); /* refused where it is bound already */
	expect_result(r, tcpe_connect(r->now->sock, &peer), -EINPROGRESS);
}

static void send_call(struct run *r)
{
	int64_t n = seg_value(r, r->words > 1 ? r->word[1] : NULL);
	struct tcpe_sock *s = sock(r);

	if (r->failed || n < 0 || n > 1 << 24)
		return;
	uint8_t *data = malloc((size_t)n + 1);
	for (int64_t i = 0; i < n; i++)
		data[i] = seg_pattern(r->now->sent + 1 + (uint32_t)i);
	ssize_t done = tcpe_send(s, data, (size_t)n, seg_has(r, "more") ? TCPE_SEND_MORE : 0);
	if (done > 0)
		r->now->sent += (uint32_t)done;
	free(data);
	expect_result(r, done, n);
}

static void recv_call(struct run *r)
{
	int64_t n = seg_value(r, r->words > 1 ? r->word[1] : NULL);
	struct tcpe_sock *s = sock(r);

	if (r->failed || n < 0 || n > 1 << 24)
		return;
	uint8_t *data = malloc((size_t)n + 1);
	bool peek = seg_has(r, "peek");
	ssize_t done = tcpe_recv(s, data, (size_t)n, peek ? TCPE_RECV_PEEK : 0);
	for (ssize_t i = 0; i < done; i++) {
		if (data[i] != seg_pattern(r->now->received + 1 + (uint32_t)i)) {
			seg_fail(r, "byte %zd of what was received is wrong", i);
			break;
		}
	}
	if (done > 0 && !peek)
		r->now->received += (uint32_t)done;
	free(data);
	expect_result(r, done, n);
}

static void shutdown_call(struct run *r)
{
	static const char *const how[] = {"rd", "wr", "rdwr"};
	struct tcpe_sock *s = sock(r);

	for (int i = 0; i < 3 && s != NULL; i++) {
		if (r->words > 1 && strcmp(r->word[1], how[i]) == 0) {
			expect_result(r, tcpe_shutdown(s, i), 0);
			return;
		}
	}
	seg_fail(r, "shutdown rd, wr or rdwr");
}

static void close_call(struct run *r)
{
	struct tcpe_sock *s = sock(r);

	if (s == NULL)
		return;
	r->now->sock = NULL;
	expect_result(r, seg_has(r, "abort") ? tcpe_abort(s) : tcpe_close(s), 0);
}

static void unlisten_call(struct run *r)
{
	if (r->now->sock == r->listener)
		r->now->sock = NULL;
	if (r->listener != NULL)
		tcpe_close(r->listener);
	r->listener = NULL;
}

static void error_call(struct run *r)
{
	struct tcpe_sock *s = sock(r);

	if (s != NULL)
		expect_result(r, -tcpe_take_error(s), 0);
}

static int option_named(struct run *r)
{
	for (unsigned i = 0; i < sizeof(option_names) / sizeof(option_names[0]); i++) {
		if (r->words > 1 && strcmp(r->word[1], option_names[i]) == 0)
			return (int)i;
	}
	seg_fail(r, "no such option");
	return 0;
}

static void set_call(struct run *r)
{
	int o = option_named(r);
	int64_t v = seg_value(r, r->words > 2 ? r->word[2] : NULL);
	struct tcpe_sock *s = sock(r);

	if (!r->failed)
		expect_result(r, tcpe_setopt(s, (enum tcpe_opt)o, v), 0);
}

static void get_call(struct run *r)
{
	int o = option_named(r);
	struct tcpe_sock *s = sock(r);
	int64_t v = 0;

	if (r->failed)
		return;
	int e = tcpe_getopt(s, (enum tcpe_opt)o, &v);
	expect_result(r, e < 0 ? e : v, 0);
}

static void state(struct run *r)
{
	struct tcpe_addr local = seg_address(r, false), peer = seg_address(r, true);

	local.port = r->now->stack_port;
	enum tcpe_state s = tcpe_lookup_state(seg_stack(r), &local, &peer);
	if (r->words < 2 || strcmp(states[s], r->word[1]) != 0)
		seg_fail(r, "state: expected %s, got %s", r->words > 1 ? r->word[1] : "nothing",
			 states[s]);
}

static void ready(struct run *r)
{
	static const char *const bits[] = {"in", "out", "rdhup", "hup", "err", "connected"};
	struct tcpe_sock *s = sock(r);
	unsigned have = s != NULL ? tcpe_ready(s) : 0, want = 0;

	for (unsigned i = 0; i < 6; i++)
		want |= seg_has(r, bits[i]) ? 1u << i : 0;
	if (have != want)
		seg_fail(r, "ready: expected %02x, got %02x", want, have);
}

static bool compare(int64_t got, char how, int64_t expected)
{
	return how == '<' ? got < expected : how == '>' ? got > expected : got == expected;
}

/* info FIELD =|<|> N */
static void info(struct run *r)
{
	struct tcpe_sock *s = sock(r);
	const struct field *f = r->words == 4
					? find_field(figures, sizeof(figures) / sizeof(figures[0]),
						     r->word[1], strlen(r->word[1]))
					: NULL;
	struct tcpe_info i;
	int64_t v = 0;

	if (f == NULL) {
		seg_fail(r, "no such figure");
		return;
	}
	if (s == NULL)
		return;
	tcpe_info(s, &i);
	memcpy(&v, (char *)&i + f->at, f->bytes);
	if (!compare(v, r->word[2][0], seg_value(r, r->word[3])))
		seg_fail(r, "%s is %lld, not %s %s", f->name, (long long)v, r->word[2], r->word[3]);
}

static const struct seg_command calls[] = {
	{"config", config, false},
	{"ip6", ip6, false},
	{"isn", isn, false},
	{"peer-isn", peer_isn, false},
	{"port", port, false},
	{"again", again, false},
	{"window", window, false},
	{"stamp", stamp, false},
	{"wait", wait_for, false},
	{"until", wait_until, false},
	{"timer", timer, true},
	{"listen", listen_call, false},
	{"accept", accept_call, true},
	{"connect", connect_call, false},
	{"socket", socket_call, false},
	{"send", send_call, false},
	{"recv", recv_call, true},
	{"shutdown", shutdown_call, false},
	{"close", close_call, false},
	{"unlisten", unlisten_call, false},
	{"error", error_call, true},
	{"set", set_call, false},
	{"get", get_call, true},
	{"state", state, true},
	{"ready", ready, true},
	{"info", info, true},
};

const struct seg_command *seg_call(const char *name)
{
	for (unsigned i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (strcmp(calls[i].name, name) == 0)
			return &calls[i];
	}
	return NULL;
}
