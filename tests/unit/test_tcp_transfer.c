/* test_tcp_transfer.c - windows, loss recovery and the stream calls, segment by segment */
#include "dataplane/tcp/options.h"
#include "dataplane/tcp/stack.h"
#include "tests/sim/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MS = 1000, SECOND = 1000000, MSS = SCRIPT_MSS };

static void plain(struct tcp_config *c)
{
	c->send_limit = 200000;
}

static void with_scaling(struct tcp_config *c)
{
	c->window_scaling = true;
}

static void window_of_the_peer_is_never_exceeded(void **state)
{
	struct script *x = script_established(plain);

	x->window = 4000;
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 20000);
	script_expect(x, S_ACK, 1, 1, MSS);
	script_expect(x, S_ACK, 1 + MSS, 1, MSS);
	script_expect_nothing(
		x); /* 1080 left: less than a segment, less than half of the largest */
	x->window = 4000 - 2 * MSS;
	script_in(x, S_ACK, 1, 1 + 2 * MSS, 0);
	script_expect_nothing(x);
	script_destroy(x);
}

static void stale_window_of_a_late_ack_is_not_believed(void **state)
{
	struct script *x = script_established(plain);

	x->window = 8000;
	script_in(x, S_ACK, 11, 1, 0); /* the newer one came first */
	x->window = 20;
	script_in(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_tcb(x)->snd_wnd, 8000);
	script_destroy(x);
}

static void advertised_edge_stays_while_data_is_unread_and_moves_when_it_is_read(void **state)
{
	struct script *x = script_established(plain);

	x->keep_unread = true;
	script_in(x, S_ACK, 1, 1, MSS);
	script_in(x, S_ACK, 1 + MSS, 1, MSS);
	assert_int_equal(script_take(x)->window, 16384 - 2 * MSS);
	stream_consume(x->stream, 100);
	script_flush(x);
	script_expect_nothing(x); /* not worth a segment */
	stream_consume(x->stream, 2 * MSS - 100);
	script_flush(x);
	assert_int_equal(script_take(x)->window, 16384);
	script_destroy(x);
}

static void window_that_was_closed_is_announced_when_it_opens(void **state)
{
	struct script *x = script_established(plain);
	uint32_t seq = 1;

	x->keep_unread = true;
	while (seq < 16385) {
		uint32_t n = 16385 - seq < MSS ? 16385 - seq : MSS;
		script_in(x, S_ACK, seq, 1, n);
		seq += n;
	}
	script_advance(x, 40 * MS);
	assert_int_equal(x->out[x->n_out - 1].window, 0);
	script_take_all(x);
	script_in(x, S_ACK, seq, 1, 1); /* a probe with one byte: answered, not taken */
	script_expect(x, S_ACK, 1, seq, 0);
	stream_consume(x->stream, MSS - 1);
	script_flush(x);
	script_expect_nothing(x);
	stream_consume(x->stream, 1);
	script_flush(x);
	assert_int_equal(script_take(x)->window, MSS);
	script_destroy(x);
}

static void lower_limit_takes_back_nothing_already_offered(void **state)
{
	struct script *x = script_established(plain);

	stream_set_receive_limit(x->stream, 1000);
	script_in(x, S_ACK, 1, 1, MSS);
	script_in(x, S_ACK, 1 + MSS, 1, MSS);
	assert_int_equal(script_take(x)->window, 16384 - 2 * MSS);
	script_destroy(x);
}

static void rounding_by_the_scale_takes_back_no_byte_that_was_offered(void **state)
{
	static const uint8_t options[8] = {2, 4, MSS >> 8, MSS & 255, 1, 3, 3, 5};
	struct script *x = script_create(with_scaling);
	uint32_t edge = 0;

	script_listen(x);
	script_raw(x, S_SYN, 0, 0, options, 8, 0);
	script_flush(x);
	script_take_all(x);
	script_in(x, S_ACK, 1, 1, 0);
	x->keep_unread = true;
	unsigned scale = rcv_scale(script_tcb(x));
	assert_int_equal(scale, 4);
	/* The wire counts 16 octets: an edge that does not move cannot be shown exactly. */
	uint32_t seq = 1;
	for (; seq < 9000; seq += 3 + seq % 7) {
		script_in(x, S_ACK, seq, 1, 3 + seq % 7);
		const struct script_segment *o = script_take(x);
		if (o == NULL)
			continue;
		uint32_t right = o->ack + ((uint32_t)o->window << scale);
		assert_true(right + 16 > edge);
		assert_true(right <= 1 + 16384 + 16);
		edge = right > edge ? right : edge;
	}
	while (seq < edge) {
		uint32_t n = edge - seq < 1000 ? edge - seq : 1000;
		script_in(x, S_ACK, seq, 1, n);
		seq += n;
	}
	assert_int_equal(stream_readable(x->stream), edge - 1);
	script_destroy(x);
}

static void segment_ahead_of_a_hole_draws_one_duplicate_ack_each(void **state)
{
	struct script *x = script_established(plain);

	for (uint32_t i = 1; i <= 3; i++) {
		script_raw(x, S_ACK, 1 + i * 100, 1, NULL, 0, 100);
		script_expect(x, S_ACK, 1, 1, 0); /* before the flush even */
	}
	script_flush(x);
	script_expect_nothing(x);
	script_in(x, S_ACK, 1, 1, 100);
	script_expect(x, S_ACK, 1, 401, 0); /* the hole is filled: at once */
	assert_int_equal(x->received, 400);
	script_destroy(x);
}

static void fin_ahead_of_a_hole_counts_when_the_hole_is_filled(void **state)
{
	struct script *x = script_established(plain);

	script_in(x, S_FIN | S_ACK, 101, 1, 50);
	script_expect(x, S_ACK, 1, 1, 0);
	assert_int_equal(script_state(x), TCP_ESTABLISHED);
	script_in(x, S_ACK, 1, 1, 100);
	script_expect(x, S_ACK, 1, 152, 0);
	assert_string_equal(x->log, "eof");
	assert_int_equal(script_state(x), TCP_CLOSE_WAIT);
	script_destroy(x);
}

static void overlapping_segments_deliver_each_byte_once(void **state)
{
	struct script *x = script_established(plain);
	uint8_t bytes[400];

	x->keep_unread = true;
	script_in(x, S_ACK, 101, 1, 100);
	script_in(x, S_ACK, 151, 1, 150);
	script_in(x, S_ACK, 51, 1, 100);
	script_in(x, S_ACK, 1, 1, 60);
	assert_int_equal(stream_read(x->stream, bytes, sizeof(bytes)), 300);
	for (uint32_t i = 0; i < 300; i++)
		assert_int_equal(bytes[i], (uint8_t)(1 + i));
	script_destroy(x);
}

static void both_sequence_spaces_wrap_at_2_to_the_32(void **state)
{
	static const uint8_t mss[4] = {2, 4, MSS >> 8, MSS & 255};
	struct script *x = script_create(plain);

	x->peer_iss = 0xffffff00;
	script_set_isn(x, 0xffffffff - 5000);
	script_listen(x);
	script_raw(x, S_SYN, 0, 0, mss, 4, 0);
	script_flush(x);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	assert_int_equal(x->iss, 0xffffffff - 5000);
	script_in(x, S_ACK, 1, 1, 0);
	script_write(x, 10 * MSS);
	assert_int_equal(script_take_all(x), 10);
	script_in(x, S_ACK, 1, 1 + 10 * MSS, 1000);
	script_in(x, S_ACK, 1001, 1 + 10 * MSS, 1000);
	script_expect(x, S_ACK, 1 + 10 * MSS, 2001, 0);
	assert_int_equal(x->received, 2000);
	assert_int_equal(stream_unacked(x->stream), 0);
	script_destroy(x);
}

static void close_sends_what_was_written_and_then_fin(void **state)
{
	struct script *x = script_established(plain);

	assert_int_equal(stream_write(x->stream, "221 bye", 7, 0), 7);
	stream_close(x->stream);
	script_flush(x);
	script_expect(x, S_FIN | S_ACK, 1, 1, 7);
	script_destroy(x);
}

static void data_after_close_is_acknowledged_and_discarded(void **state)
{
	struct script *x = script_established(plain);

	x->keep_unread = true;
	script_in(x, S_ACK, 1, 1, 5000);
	stream_close(x->stream);
	script_flush(x);
	assert_int_equal(chunk_pool_used(x->shard.chunks), 0);
	script_take_all(x);
	for (uint32_t i = 0; i < 20; i++)
		script_in(x, S_ACK, 5001 + i * MSS, 2, MSS);
	assert_int_equal(script_count(x, tcp_discarded_bytes), 20 * MSS);
	assert_int_equal(x->out[x->n_out - 1].ack, 5001 + 20 * MSS);
	assert_int_equal(script_count(x, tcp_rst_out), 0);
	script_destroy(x);
}

static void last_bytes_can_be_read_after_both_ends_have_finished(void **state)
{
	struct script *x = script_established(plain);

	x->keep_unread = true;
	stream_shutdown(x->stream);
	script_flush(x);
	script_in(x, S_FIN | S_ACK, 1, 2, 100);
	assert_int_equal(script_state(x), TCP_TIME_WAIT);
	script_advance(x, 70 * SECOND);
	assert_int_equal(stream_readable(x->stream), 100);
	stream_consume(x->stream, 100);
	assert_true(stream_eof(x->stream));
	stream_close(x->stream);
	script_flush(x);
	assert_int_equal(tcp_stream_count(x->tcp), 0);
	script_destroy(x);
}

static void abort_in_handler(struct script *x, const char *event, struct stream *s)
{
	stream_abort(s);
}

static void close_in_handler(struct script *x, const char *event, struct stream *s)
{
	stream_write(s, "x", 1, 0);
	stream_close(s);
}

static void handler_may_abort_its_stream_in_any_event(void **state)
{
	for (unsigned event = 0; event < 2; event++) {
		struct script *x = script_create(NULL);

		script_listen(x);
		script_in(x, S_SYN, 0, 0, 0);
		if (event == 0)
			x->on_event = abort_in_handler;
		script_raw(x, S_ACK, 1, 1, NULL, 0, 10);
		script_raw(x, S_FIN | S_ACK, 11, 1, NULL, 0, 10);
		x->on_event = abort_in_handler;
		script_flush(x);
		assert_string_equal(x->log, "opened"); /* nothing is said after the abort */
		assert_int_equal(tcp_stream_count(x->tcp), 0);
		assert_int_equal(x->out[x->n_out - 1].flags, S_RST | S_ACK);
		script_destroy(x);
	}
}

static void abort_sends_rst_while_the_peer_may_think_us_alive(void **state)
{
	static const bool rst[TCP_STATES] = {
		[TCP_ESTABLISHED] = true, [TCP_CLOSE_WAIT] = true, [TCP_FIN_WAIT_1] = true};

	for (enum tcp_state st = TCP_SYN_SENT; st < TCP_STATES; st++) {
		struct script *x = script_create(NULL);

		if (st == TCP_SYN_SENT || rst[st] || st == TCP_LAST_ACK) {
			/* states that the upper layer can be in without having closed */
			script_reach(x, st == TCP_FIN_WAIT_1 ? TCP_ESTABLISHED
					: st == TCP_LAST_ACK ? TCP_CLOSE_WAIT
							     : st);
			if (st == TCP_FIN_WAIT_1 || st == TCP_LAST_ACK)
				stream_shutdown(x->stream);
			if (st == TCP_FIN_WAIT_1)
				script_flush(x);
			x->taken = x->n_out;
			stream_abort(x->stream);
			assert_int_equal(script_pending(x), st != TCP_SYN_SENT);
			script_flush(x);
			assert_int_equal(script_state(x), TCP_CLOSED);
		}
		script_destroy(x);
	}
}

static void handler_may_close_its_stream_in_any_event(void **state)
{
	struct script *x = script_create(NULL);

	x->on_event = close_in_handler;
	script_listen(x);
	script_in(x, S_SYN, 0, 0, 0);
	script_take_all(x);
	script_in(x, S_ACK, 1, 1, 10);
	script_expect(x, S_FIN | S_ACK, 1, 11, 1);
	assert_string_equal(x->log, "opened");
	script_destroy(x);
}

static void handle_of_a_stream_that_has_gone_finds_nothing(void **state)
{
	struct script *x = script_established(plain);
	handle_t h = stream_handle(x->stream);

	assert_ptr_equal(stream_by_handle(x->tcp, h), x->stream);
	stream_abort(x->stream);
	assert_null(stream_by_handle(x->tcp, h));
	script_flush(x);
	assert_null(stream_by_handle(x->tcp, h));
	script_destroy(x);
}

static void writable_comes_when_a_third_of_the_limit_is_free(void **state)
{
	struct script *x = script_established(NULL);
	static const uint8_t data[70000];

	stream_set_send_limit(x->stream, 30000);
	assert_int_equal(stream_write(x->stream, data, sizeof(data), 0), 30000);
	assert_int_equal(stream_room(x->stream), 0);
	script_flush(x);
	script_in(x, S_ACK, 1, 1 + 6 * MSS, 0);
	assert_string_equal(x->log, "");
	script_in(x, S_ACK, 1, 1 + 8 * MSS, 0);
	assert_string_equal(x->log, "writable");
	script_destroy(x);
}

static void writable_comes_when_chunks_are_back(void **state)
{
	struct script *x = script_established(plain);
	static const uint8_t data[1000];
	struct chunk *hoard = NULL;

	for (struct chunk *c; (c = chunk_alloc(x->shard.chunks, CHUNK_4K, false)) != NULL;) {
		c->next = hoard;
		hoard = c;
	}
	assert_int_equal(stream_write(x->stream, data, sizeof(data), 0), 0);
	script_flush(x);
	chunk_free_list(x->shard.chunks, hoard);
	script_advance(x, 10 * MS);
	assert_string_equal(x->log, "writable");
	assert_int_equal(stream_write(x->stream, data, sizeof(data), 0), sizeof(data));
	script_destroy(x);
}

static void without_packet_buffers_everything_waits_and_nothing_is_lost(void **state)
{
	struct script *x = script_create(NULL);

	script_listen(x);
	x->no_buffers = true;
	script_in(x, S_SYN, 0, 0, 0);
	script_expect_nothing(x);
	x->no_buffers = false;
	script_advance(x, 10 * MS);
	script_expect(x, S_SYN | S_ACK, 0, 1, 0);
	script_in(x, S_ACK, 1, 1, 0);
	x->no_buffers = true;
	script_in(x, S_FIN | S_ACK, 1, 1, 10);
	script_write(x, 20);
	stream_close(x->stream);
	script_flush(x);
	script_expect_nothing(x);
	x->no_buffers = false;
	script_advance(x, 10 * MS);
	script_expect(x, S_FIN | S_ACK, 1, 12, 20);
	script_destroy(x);
}

static void short_of_chunks_new_data_is_not_acknowledged(void **state)
{
	struct script *x = script_established(plain);
	struct chunk *hoard = NULL;

	for (struct chunk *c; (c = chunk_alloc(x->shard.chunks, CHUNK_4K, true)) != NULL;) {
		c->next = hoard;
		hoard = c;
	}
	script_in(x, S_ACK, 1, 1, 100);
	assert_int_equal(script_tcb(x)->rcv_nxt - x->peer_iss, 1);
	assert_int_equal(script_count(x, tcp_receive_no_memory), 1);
	chunk_free_list(x->shard.chunks, hoard);
	script_in(x, S_ACK, 1, 1, 100);
	assert_int_equal(x->received, 100);
	script_destroy(x);
}

static void idle_stream_holds_no_chunk_and_no_active_block(void **state)
{
	struct script *x = script_established(plain);

	script_in(x, S_ACK, 1, 1, 5000);
	script_write(x, 5000);
	script_in(x, S_ACK, 5001, 5001, 0);
	script_advance(x, SECOND);
	assert_null(script_tcb(x)->active);
	assert_int_equal(slab_used(x->tcp->actives), 0);
	assert_int_equal(chunk_pool_used(x->shard.chunks), 0);
	script_destroy(x);
}

static void a_port_completes_what_the_stack_leaves_of_the_checksum(void **state)
{
	struct script *x = script_established(NULL);

	x->offload = x->tcp->env.tx_checksum_offload = true;
	for (uint32_t n = 1; n < 100; n++)
		script_write(x, n); /* every packet is verified as it leaves */
	assert_int_equal(script_take_all(x), 99);
	script_destroy(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_port_completes_what_the_stack_leaves_of_the_checksum),
		cmocka_unit_test(window_of_the_peer_is_never_exceeded),
		cmocka_unit_test(stale_window_of_a_late_ack_is_not_believed),
		cmocka_unit_test(
			advertised_edge_stays_while_data_is_unread_and_moves_when_it_is_read),
		cmocka_unit_test(window_that_was_closed_is_announced_when_it_opens),
		cmocka_unit_test(lower_limit_takes_back_nothing_already_offered),
		cmocka_unit_test(rounding_by_the_scale_takes_back_no_byte_that_was_offered),
		cmocka_unit_test(segment_ahead_of_a_hole_draws_one_duplicate_ack_each),
		cmocka_unit_test(fin_ahead_of_a_hole_counts_when_the_hole_is_filled),
		cmocka_unit_test(overlapping_segments_deliver_each_byte_once),
		cmocka_unit_test(both_sequence_spaces_wrap_at_2_to_the_32),
		cmocka_unit_test(close_sends_what_was_written_and_then_fin),
		cmocka_unit_test(data_after_close_is_acknowledged_and_discarded),
		cmocka_unit_test(last_bytes_can_be_read_after_both_ends_have_finished),
		cmocka_unit_test(handler_may_abort_its_stream_in_any_event),
		cmocka_unit_test(abort_sends_rst_while_the_peer_may_think_us_alive),
		cmocka_unit_test(handler_may_close_its_stream_in_any_event),
		cmocka_unit_test(handle_of_a_stream_that_has_gone_finds_nothing),
		cmocka_unit_test(writable_comes_when_a_third_of_the_limit_is_free),
		cmocka_unit_test(writable_comes_when_chunks_are_back),
		cmocka_unit_test(without_packet_buffers_everything_waits_and_nothing_is_lost),
		cmocka_unit_test(short_of_chunks_new_data_is_not_acknowledged),
		cmocka_unit_test(idle_stream_holds_no_chunk_and_no_active_block),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
