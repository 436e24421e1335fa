/* fuzz_spool_record.c - recovery over a hostile segment: it ends, and a second start finds what
 * the first one found */
#include "base/crc32c.h"
#include "base/log.h"
#include "smtp/spool/envelope.h"
#include "smtp/spool/inspect.h"
#include "smtp/spool/internal.h"
#include "smtp/spool/record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/sim/disk.h"

enum { SEGMENT = 65536, SALT = 0x1234 };

/* A segment as the spool would have written it, except for what the input says. */
struct image {
	uint8_t bytes[SEGMENT];
	size_t end;
	uint64_t sequence;
};

static void begin(struct image *m, uint8_t how)
{
	struct segment_header h = {
		.number = 1, .salt = SALT, .id_floor = how & 7u, .first_sequence = 1};

	segment_header_encode(m->bytes, &h);
	segment_header_encode(m->bytes + SEGMENT_COPY_AT, &h);
	if ((how & 8) != 0)
		m->bytes[20] ^= 1; /* one header damaged */
	m->end = SEGMENT_DATA_AT;
	m->sequence = 1;
}

/* A message as the spool writes them: envelope, prefix and body add up. */
static size_t honest_message(struct input *in, uint8_t *to, size_t room)
{
	struct envelope e = {.user = {"u", 1}, .client = {4, {192, 0, 2, 9}}};
	uint8_t recipients = take8(in) % 4 + 1;
	uint8_t *at = to + MESSAGE_HEAD_BYTES;
	ptrdiff_t begun = envelope_begin(at, room - MESSAGE_HEAD_BYTES, &e);

	CLAIM(begun > 0);
	size_t bytes = (size_t)begun;
	struct envelope_recipient r = {.path = {"a@b.example", 11}};
	for (uint8_t i = 0; i < recipients; i++)
		CLAIM(envelope_add_recipient(at, room - MESSAGE_HEAD_BYTES, &bytes, &r) == 0);
	struct message_head h = {.envelope_bytes = (uint32_t)bytes, .body_bytes = take8(in)};
	message_head_encode(to, &h);
	memset(at + bytes, 'x', h.body_bytes);
	return MESSAGE_HEAD_BYTES + bytes + h.body_bytes;
}

/* A message's or disposition's fixed part, then the input's own bytes. */
static size_t payload(struct input *in, uint8_t how, uint8_t *to, size_t room)
{
	size_t n, fixed = 0;
	const uint8_t *p;

	if ((how & 0x8b) == 0x88)
		return honest_message(in, to, room);
	n = take8(in);
	if ((how & 3) == 0) {
		struct message_head h = {.envelope_bytes = take8(in),
					 .prefix_bytes = take8(in),
					 .body_bytes = take8(in),
					 .large = (how & 4) != 0};
		fixed = MESSAGE_HEAD_BYTES;
		message_head_encode(to, &h);
	} else if ((how & 3) == 1) {
		struct disposition_head h = {.message_segment = take8(in) & 3u,
					     .retry_at_s = take8(in),
					     .attempts = take8(in),
					     .last = (how & 4) != 0,
					     .recipients = take8(in),
					     .held = (how & 8) != 0,
					     .route = (how & 16) != 0};
		disposition_head_encode(to, &h);
		/* the bits and the mark are the input's own */
		fixed = DISPOSITION_HEAD_BYTES;
	}
	p = take(in, &n);
	if (fixed + n > room)
		n = room - fixed;
	memcpy(to + fixed, p, n);
	return fixed + n;
}

static void add_record(struct image *m, struct input *in)
{
	uint8_t how = take8(in), body[1024];
	size_t n = payload(in, how, body, sizeof(body));
	struct record_head h = {.type = how & 0x10 ? take8(in) : (how & 3u) + 1,
				.payload_bytes = (uint32_t)n,
				.id = take8(in),
				.sequence = m->sequence};

	if (m->end + record_bytes(h.payload_bytes) > SEGMENT)
		return;
	m->sequence += how & 0x20 ? take8(in) : 1;
	h.payload_crc = crc32c(record_crc_begin(SALT), body, n);
	record_head_encode(m->bytes + m->end, SALT, &h);
	memcpy(m->bytes + m->end + RECORD_HEAD_BYTES, body, n);
	if ((how & 0x40) != 0)
		m->bytes[m->end + take8(in)] ^= 0x40;
	m->end += record_bytes(h.payload_bytes);
}

static void count_found(void *arg, const struct spool_found *f)
{
	++*(unsigned *)arg;
}

/* Messages found, -1 when the spool will not start. */
static int recover(struct disk *d)
{
	struct spool_config c = {
		.directory = "simulated", .segment_size = SEGMENT, .readers = 1, .io = disk_io(d)};
	struct spool *sp = NULL;
	struct spool_status st;
	char error[256];
	unsigned found = 0;

	if (spool_open(&sp, &c, error, sizeof(error)) != 0)
		return -1;
	spool_each_found(sp, count_found, &found);
	spool_status(sp, &st);
	CLAIM(st.recovered == found);
	spool_abandon(sp);
	return (int)found;
}

/* The same messages as a start would find, if it can start. */
static void inspect(struct disk *d, int found)
{
	struct inspect_view v = {0};
	struct inspect_sums s;
	char error[256];

	CLAIM(inspect_spool("simulated", disk_io(d), &v, &s, error, sizeof(error)) == 0);
	CLAIM(found < 0 || s.live - s.bodies_missing == (uint64_t)found);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct input in = {data, n};
	struct image *m = calloc(1, sizeof(*m));
	struct disk *d = disk_create(1);
	uint8_t how = take8(&in);

	CLAIM(m != NULL);
	log_set_level((enum log_level) - 1); /* every one is worth lines */
	if ((how & 0x80) != 0) {             /* nothing but the input */
		m->end = in.left < SEGMENT ? in.left : SEGMENT;
		memcpy(m->bytes, in.at, m->end);
	} else {
		begin(m, how);
		while (in.left > 0)
			add_record(m, &in);
	}
	disk_plant(d, "0000000000000001.log", m->bytes, (how & 0x40) != 0 ? m->end : SEGMENT);
	int first = recover(d);
	disk_restart(d, DISK_KEEP_ALL);
	CLAIM(recover(d) == first);
	disk_restart(d, DISK_KEEP_ALL);
	inspect(d, first);
	disk_destroy(d);
	free(m);
	return 0;
}
