/*
 * undo.h - reductions of the window that turn out to have been needless, and are taken back.
 *
 * After a fast retransmit or a timeout three things can show that nothing had been lost:
 * - every byte sent again is reported as having come twice (D-SACK, RFC 3708);
 * - the hole is filled by a segment older than the first retransmission, by its timestamp (Eifel,
 *   RFC 3522), or before there was one;
 * - after a timeout, the next two ACKs tell of segments that were not sent again (F-RTO, RFC 5682
 *   section 3.1).
 *
 * Owner: struct undo is part of struct flight: only streams with SACK have it.
 * Runs on: the worker.
 */
#ifndef DATAPLANE_TCP_UNDO_H
#define DATAPLANE_TCP_UNDO_H

#include "dataplane/tcp/congestion.h"

#include <stdbool.h>
#include <stdint.h>

struct stream;
struct segment;

/* Where F-RTO stands: its step 2 waits for the first ACK that advances, step 3 for the next. */
enum undo_frto { FRTO_OFF, FRTO_STEP_2, FRTO_STEP_3 };

/* What the last reduction took, until it turns out to have been right. */
struct undo {
	struct cubic cubic;
	uint32_t cwnd, ssthresh;
	uint32_t from;    /* SND.UNA at the reduction */
	uint32_t again;   /* bytes sent again since, and not told of as duplicates */
	uint32_t stamp;   /* timestamp of the first of them; with sent */
	bool armed, sent; /* sent: something was sent again */
	bool timeout;     /* the timer said so, not the peer */
	bool original;    /* the ACK being processed tells of what was not sent again */
	uint8_t frto;     /* enum undo_frto */
};

/* Before a reduction; timeout: the timer says so. */
void undo_remember(struct stream *s, bool timeout);
/* The reduction was right, or is overtaken by the next. */
void undo_forget(struct stream *s);
/* So many bytes went out again. */
void undo_sent_again(struct stream *s, uint32_t n);
/* The peer has told of from..to as having come twice. */
void undo_duplicate_told(struct stream *s, uint32_t from, uint32_t to);
/* It has told of numbers before `to` for the first time, and they were sent once. */
void undo_original_told(struct stream *s, uint32_t to);
/* SND.UNA has moved by g. */
void undo_advanced(struct stream *s, const struct segment *g);
/* An ACK has been processed; advanced: SND.UNA has moved. */
void undo_acked(struct stream *s, bool advanced);

#endif
