/* test_spool_damage.c - files that came to harm, or were never ours: recovery goes on */
#include "base/crc32c.h"
#include "tests/unit/spool_rig.h"

enum { MESSAGES = 12, BODY_BYTES = 700 };

/* Twelve messages in one segment; ids[i] is message i + 1. */
static void fill(struct rig *g, spool_id_t *ids)
{
	for (unsigned i = 0; i < MESSAGES; i++)
		assert_int_equal(commit(g, i + 1, BODY_BYTES, &ids[i]), 0);
}

static struct disk_bytes segment_bytes(struct rig *g)
{
	struct disk_bytes b;

	assert_true(disk_bytes(g->disk, ".log", 0, &b));
	return b;
}

static void flip(struct disk_bytes *b, size_t at, uint8_t bits)
{
	b->now[at] ^= bits;
	b->safe[at] ^= bits;
}

/* Where message i's record begins: all have nearly the same length, so it is searched. */
static size_t record_at(struct rig *g, unsigned i)
{
	struct disk_bytes b = segment_bytes(g);
	uint64_t salt = g->sp->active->salt;
	size_t at = SEGMENT_DATA_AT;

	for (;; i--) {
		struct record_head h;

		assert_true(record_head_decode(b.now + at, salt, &h));
		if (i == 0)
			return at;
		at += record_bytes(h.payload_bytes);
	}
}

static void assert_found_are(struct rig *g, const spool_id_t *ids, unsigned missing_bits)
{
	for (unsigned i = 0; i < MESSAGES; i++) {
		bool expected = (missing_bits & 1u << i) == 0;

		assert_int_equal(was_found(g, ids[i]), expected);
		assert_int_equal(read_body(g, ids[i], i + 1, BODY_BYTES), expected ? 0 : -ENOENT);
	}
}

static void damaged_record_is_set_aside_and_the_others_survive(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];
	struct spool_status st;

	fill(g, ids);
	struct disk_bytes b = segment_bytes(g);
	flip(&b, record_at(g, 3) + 500, 0x10);
	flip(&b, record_at(g, 7) + 2, 0x01); /* the head this time */
	rig_restart(g, DISK_DROP_ALL);
	assert_found_are(g, ids, 1u << 3 | 1u << 7);
	spool_status(g->sp, &st);
	assert_int_equal(st.quarantined, 2);
	assert_int_equal(st.torn_bytes, 0);
	assert_int_equal(disk_count(g->disk, ".bad"), 2);
	/* Again: the same files, no new ones, nothing else lost. */
	rig_restart(g, DISK_DROP_ALL);
	assert_found_are(g, ids, 1u << 3 | 1u << 7);
	assert_int_equal(disk_count(g->disk, ".bad"), 2);
}

static void every_cut_of_the_last_record_is_a_torn_tail(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];

	fill(g, ids);
	size_t from = record_at(g, MESSAGES - 1), to = g->sp->active->end;
	struct disk_bytes b = segment_bytes(g);
	uint8_t *whole = malloc(b.bytes);
	memcpy(whole, b.now, b.bytes);
	for (size_t cut = from; cut < to - RECORD_ALIGN; cut += 1 + cut % 7) {
		struct disk_bytes now;
		struct spool_status st;
		char error[256];
		struct rig other = {.disk = disk_create(cut), .now_us = 1000000000};

		other.config = g->config;
		other.config.io = disk_io(other.disk);
		disk_plant(other.disk, "0000000000000001.log", whole, b.bytes);
		assert_true(disk_bytes(other.disk, ".log", 0, &now));
		memset(now.now + cut, 0, b.bytes - cut);
		assert_int_equal(try_open(&other, error, sizeof(error)), 0);
		spool_status(other.sp, &st);
		assert_int_equal(other.n_found, MESSAGES - 1);
		assert_int_equal(st.quarantined, 0);
		assert_true(st.torn_bytes <= to - from);
		assert_true(st.torn_bytes > 0 || cut == from); /* a magic's first byte is odd */
		spool_abandon(other.sp);
		forget_jobs(&other);
		disk_destroy(other.disk);
	}
	free(whole);
}

/* Every bit of a record's head, the length among them. */
static void flipped_bit_in_a_head_costs_one_message_and_reads_nowhere_else(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];

	fill(g, ids);
	size_t at = record_at(g, 5);
	struct disk_bytes b = segment_bytes(g);
	uint8_t *whole = malloc(b.bytes);
	memcpy(whole, b.now, b.bytes);
	for (unsigned bit = 0; bit < RECORD_HEAD_BYTES * 8; bit++) {
		struct rig other = {.disk = disk_create(bit), .now_us = 1000000000};
		char error[256];

		other.config = g->config;
		other.config.io = disk_io(other.disk);
		whole[at + bit / 8] ^= (uint8_t)(1u << bit % 8);
		disk_plant(other.disk, "0000000000000001.log", whole, b.bytes);
		whole[at + bit / 8] ^= (uint8_t)(1u << bit % 8);
		assert_int_equal(try_open(&other, error, sizeof(error)), 0);
		assert_int_equal(other.n_found, MESSAGES - 1);
		assert_false(was_found(&other, ids[5]));
		spool_abandon(other.sp);
		disk_destroy(other.disk);
	}
	free(whole);
}

static void random_damage_never_crashes_and_never_alters_a_message(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];
	struct kit_random rnd = {77};
	unsigned survivors = 0;

	fill(g, ids);
	struct disk_bytes b = segment_bytes(g);
	size_t used = g->sp->active->end;
	uint8_t *whole = malloc(b.bytes), *bad = malloc(b.bytes);
	memcpy(whole, b.now, b.bytes);
	for (unsigned round = 0; round < 600; round++) {
		struct rig other = {.disk = disk_create(round), .now_us = 1000000000};
		char error[256];

		other.config = g->config;
		other.config.io = disk_io(other.disk);
		memcpy(bad, whole, b.bytes);
		for (uint64_t i = 1 + kit_draw(&rnd, 6); i > 0; i--) {
			size_t at = kit_draw(&rnd, used), n = 1 + kit_draw(&rnd, 600);

			for (size_t k = at; k < at + n && k < used; k++)
				bad[k] = round % 2 ? 0 : (uint8_t)kit_draw(&rnd, 256);
		}
		disk_plant(other.disk, "0000000000000001.log", bad,
			   round % 5 == 0 ? kit_draw(&rnd, used) : b.bytes);
		if (try_open(&other, error, sizeof(error)) != 0)
			fail_msg("round %u: %s", round, error);
		for (unsigned i = 0; i < MESSAGES; i++) {
			if (!was_found(&other, ids[i]))
				continue;
			survivors++;
			assert_int_equal(read_body(&other, ids[i], i + 1, BODY_BYTES), 0);
		}
		assert_true(other.n_found <= MESSAGES);
		spool_abandon(other.sp);
		forget_jobs(&other);
		disk_destroy(other.disk);
	}
	assert_true(survivors > 600);
	free(whole);
	free(bad);
}

/* A payload of nonsense, of a message, or of a disposition with some fields changed. */
static uint32_t hostile_payload(struct kit_random *rnd, uint8_t *out, uint32_t *type)
{
	uint32_t bytes = (uint32_t)kit_draw(rnd, 200);

	for (uint32_t i = 0; i < 300; i++)
		out[i] = (uint8_t)kit_draw(rnd, 256);
	*type = (uint32_t)kit_draw(rnd, 4);
	if (*type == RECORD_MESSAGE && kit_draw(rnd, 4) > 0) {
		struct message_head m = {.large = kit_draw(rnd, 2) == 0, .body_bytes = 50};

		m.envelope_bytes =
			kit_envelope(out + MESSAGE_HEAD_BYTES, 200, 1, (uint32_t)kit_draw(rnd, 4));
		message_head_encode(out, &m);
		bytes = MESSAGE_HEAD_BYTES + m.envelope_bytes + (m.large ? 0 : 50);
	} else if (*type == RECORD_DISPOSITION && kit_draw(rnd, 4) > 0) {
		struct disposition_head d = {.message_segment = kit_draw(rnd, 3),
					     .attempts = 1,
					     .last = kit_draw(rnd, 4) == 0,
					     .recipients = (uint32_t)kit_draw(rnd, 4),
					     .held = kit_draw(rnd, 3) == 0,
					     .route = (uint32_t)kit_draw(rnd, 2)};

		disposition_head_encode(out, &d);
		bytes = DISPOSITION_HEAD_BYTES + bitmap_bytes(d.recipients) +
			mark_bytes(d.route, d.released_at_s);
	}
	if (kit_draw(rnd, 4) == 0)
		out[kit_draw(rnd, 60)] ^= (uint8_t)(1u << kit_draw(rnd, 8));
	return bytes;
}

static size_t hostile_segment(struct kit_random *rnd, uint8_t *file, size_t room)
{
	const struct segment_header h = {.number = 1, .salt = 42, .first_sequence = 1};
	size_t at = SEGMENT_DATA_AT;

	memset(file, 0, room);
	segment_header_encode(file, &h);
	for (uint64_t sequence = 1; sequence < 60; sequence += kit_draw(rnd, 3)) {
		uint8_t payload[300];
		struct record_head r = {.id = kit_draw(rnd, 8), .sequence = sequence};

		r.payload_bytes = hostile_payload(rnd, payload, &r.type);
		r.payload_crc = crc32c(record_crc_begin(h.salt), payload, r.payload_bytes);
		if (at + record_bytes(r.payload_bytes) > room)
			break;
		record_head_encode(file + at, h.salt, &r);
		memcpy(file + at + RECORD_HEAD_BYTES, payload, r.payload_bytes);
		at += record_bytes(r.payload_bytes);
	}
	return at;
}

/* Whoever wrote them knew the salt: recovery, compaction and reading hold all the same. */
static void hostile_records_with_good_checksums_never_crash(void **state)
{
	struct rig *g = *state;
	struct kit_random rnd = {99};
	uint8_t *file = malloc(65536);
	unsigned found = 0;

	for (unsigned round = 0; round < 1500; round++) {
		struct rig other = {.disk = disk_create(round), .now_us = 1000000000};
		char error[256];

		other.config = g->config;
		other.config.io = disk_io(other.disk);
		disk_plant(other.disk, "0000000000000001.log", file,
			   hostile_segment(&rnd, file, 65536));
		if (try_open(&other, error, sizeof(error)) != 0)
			fail_msg("round %u: %s", round, error);
		found += other.n_found;
		for (spool_id_t id = 0; id < 8; id++) {
			struct job *j = job(&other, SPOOL_READ, id);

			j->r.chunks = kit_chunk(CHUNK_BYTES);
			j->r.read_bytes = CHUNK_BYTES;
			run(&other, j);
			assert_int_not_equal(j->verdict, PENDING);
			if (id % 2 == 0)
				dispose_last(&other, id);
			other.now_us += 10000000;
		}
		for (int i = 0; i < 10; i++)
			step(&other);
		rig_restart(&other, DISK_DROP_ALL);
		spool_abandon(other.sp);
		forget_jobs(&other);
		disk_destroy(other.disk);
	}
	assert_true(found > 1500);
	free(file);
}

/* A client may send a copy of a segment; without that segment's salt it stays a body. */
static void record_inside_a_message_is_never_taken_for_a_record(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];

	fill(g, ids);
	struct disk_bytes b = segment_bytes(g);
	size_t used = g->sp->active->end;
	struct chunk *copy = kit_chunk((uint32_t)used);
	memcpy(copy->data, b.now, used);
	copy->end = (uint32_t)used;
	for (unsigned i = 0; i < MESSAGES; i++)
		assert_int_equal(dispose_last(g, ids[i]), 0);
	rig_restart(g, DISK_DROP_ALL); /* a new segment begins, with a new salt */
	struct job *j = commit_job(g, 1, 0);
	j->r.chunks = copy;
	j->r.body_bytes = used;
	assert_int_equal(run(g, j), 0);
	/* Harm the head around it, so that recovery must search inside. */
	assert_int_equal(disk_count(g->disk, ".log"), 1);
	b = segment_bytes(g);
	flip(&b, SEGMENT_DATA_AT + 9, 0xff);
	rig_restart(g, DISK_DROP_ALL);
	assert_int_equal(g->n_found, 0);
}

static void one_damaged_header_of_two_is_enough(void **state)
{
	static const size_t places[] = {20, SEGMENT_COPY_AT + 20};
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];

	fill(g, ids);
	for (unsigned i = 0; i < 2; i++) {
		struct disk_bytes b = segment_bytes(g);

		flip(&b, places[i], 0xff);
		rig_restart(g, DISK_DROP_ALL);
		assert_found_are(g, ids, 0);
		b = segment_bytes(g);
		flip(&b, places[i], 0xff);
	}
}

static void segment_without_any_header_is_set_aside_whole(void **state)
{
	struct rig *g = *state;
	struct spool_status st;
	uint8_t junk[5000];

	memset(junk, 0x41, sizeof(junk));
	disk_plant(g->disk, "0000000000000777.log", junk, sizeof(junk));
	rig_restart(g, DISK_DROP_ALL);
	assert_int_equal(disk_count(g->disk, "0000000000000777.log.bad"), 1);
	spool_status(g->sp, &st);
	assert_int_equal(st.quarantined, 1);
	assert_int_equal(commit(g, 1, 100, NULL), 0);
}

/* Its message may be what cannot be read: the body waits, start after start, for the operator. */
static void body_is_kept_while_a_segment_could_not_be_read(void **state)
{
	struct rig *g = *state;
	spool_id_t id = spool_new_id(g->sp);

	assert_int_equal(append(g, id, 1, 0, 3000), 0);
	assert_int_equal(commit_large(g, id, 1, 3000), 0);
	struct disk_bytes b = segment_bytes(g);
	flip(&b, 20, 0xff);
	flip(&b, SEGMENT_COPY_AT + 20, 0xff);
	for (unsigned start = 0; start < 2; start++) {
		rig_restart(g, DISK_DROP_ALL);
		assert_int_equal(g->n_found, 0);
		assert_int_equal(disk_count(g->disk, ".log.bad"), 1);
		assert_int_equal(disk_count(g->disk, ".body"), 1);
	}
}

static void segment_of_zeros_was_never_begun_and_is_removed(void **state)
{
	struct rig *g = *state;
	struct spool_status st;
	uint8_t zeros[4096] = {0};

	disk_plant(g->disk, "0000000000000777.log", zeros, sizeof(zeros));
	disk_plant(g->disk, "0000000000000778.log", zeros, 0);
	rig_restart(g, DISK_DROP_ALL);
	assert_int_equal(disk_count(g->disk, "0000000000000777.log"), 0);
	assert_int_equal(disk_count(g->disk, "0000000000000778.log"), 0);
	spool_status(g->sp, &st);
	assert_int_equal(st.quarantined, 0);
}

static void foreign_files_are_left_alone(void **state)
{
	static const char *const names[] = {
		"README",
		"core",
		"000000000000001.log",
		"000000000000000A.log",
		"0000000000000001.logx",
		"ffffffffffffffff.log",
		"0000000000000001.txt",
	};
	struct rig *g = *state;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		disk_plant(g->disk, names[i], "x", 1);
	rig_restart(g, DISK_DROP_ALL);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		assert_int_equal(disk_count(g->disk, names[i]), 1);
	assert_int_equal(commit(g, 1, 100, NULL), 0);
}

static void newer_format_is_refused_by_name(void **state)
{
	struct rig *g = *state;
	uint8_t block[SEGMENT_DATA_AT] = {0};
	char error[256];

	segment_header_encode(block, &(struct segment_header){.number = 0x777});
	block[8] = 2;
	block[60] = block[61] = block[62] = block[63] = 0;
	uint32_t crc = crc32c(0, block, 60);
	memcpy(block + 60, &crc, 4);
	disk_plant(g->disk, "0000000000000777.log", block, sizeof(block));
	spool_abandon(g->sp);
	disk_restart(g->disk, DISK_KEEP_ALL);
	assert_int_equal(try_open(g, error, sizeof(error)), -ENOTSUP);
	assert_non_null(strstr(error, "0000000000000777.log"));
	g->config.io->unlink(g->config.io->arg, 0, "0000000000000777.log");
	rig_open(g);
}

/* The clock may have gone back: headers remember how far the ids had come. */
static void ids_never_repeat_even_when_the_clock_goes_back(void **state)
{
	struct rig *g = *state;
	uint8_t block[SEGMENT_DATA_AT] = {0};
	const struct segment_header h = {.number = 0x777, .id_floor = (uint64_t)1 << 62};

	segment_header_encode(block, &h);
	disk_plant(g->disk, "0000000000000777.log", block, sizeof(block));
	rig_restart(g, DISK_DROP_ALL);
	assert_true(spool_new_id(g->sp) >= h.id_floor);
	rig_restart(g, DISK_DROP_ALL); /* the planted segment is gone, its successor knows */
	assert_int_equal(disk_count(g->disk, "0000000000000777.log"), 0);
	assert_true(spool_new_id(g->sp) >= h.id_floor);
}

static void message_damaged_after_recovery_is_eio_not_other_bytes(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];

	fill(g, ids);
	struct disk_bytes b = segment_bytes(g);
	flip(&b, record_at(g, 4) + 300, 0x04);
	assert_int_equal(read_body(g, ids[4], 5, BODY_BYTES), -EIO);
	assert_int_equal(counter(g, spool_read_damaged), 1);
	assert_int_equal(read_body(g, ids[5], 6, BODY_BYTES), 0);
}

static void message_whose_body_file_is_missing_or_short_is_reported_not_offered(void **state)
{
	struct rig *g = *state;
	struct spool_status st;
	spool_id_t gone = spool_new_id(g->sp), whole = spool_new_id(g->sp);
	char name[FILE_NAME_BYTES];

	assert_int_equal(append(g, gone, 1, 0, 3000), 0);
	assert_int_equal(commit_large(g, gone, 1, 3000), 0);
	assert_int_equal(append(g, whole, 2, 0, 3000), 0);
	assert_int_equal(commit_large(g, whole, 2, 3000), 0);
	g->config.io->unlink(g->config.io->arg, 0, file_name(name, gone, ".body"));
	rig_restart(g, DISK_KEEP_ALL);
	assert_int_equal(g->n_found, 1);
	assert_true(was_found(g, whole));
	spool_status(g->sp, &st);
	assert_int_equal(st.quarantined, 1);
	assert_int_equal(read_body(g, whole, 2, 3000), 0);
}

static void unreadable_segment_is_kept_and_the_rest_goes_on(void **state)
{
	struct rig *g = *state;
	spool_id_t ids[MESSAGES];
	char error[256];

	fill(g, ids);
	spool_abandon(g->sp);
	forget_jobs(g);
	disk_restart(g->disk, DISK_DROP_ALL);
	disk_faults(g->disk)->nth[DISK_READ] = 3; /* those before read the header */
	assert_int_equal(try_open(g, error, sizeof(error)), 0);
	assert_int_equal(g->n_found, 0);
	assert_int_equal(commit(g, 1, 100, NULL), 0);
	rig_restart(g, DISK_DROP_ALL); /* the disk has recovered: nothing was thrown away */
	assert_int_equal(g->n_found, MESSAGES + 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		T(damaged_record_is_set_aside_and_the_others_survive),
		T(every_cut_of_the_last_record_is_a_torn_tail),
		T(flipped_bit_in_a_head_costs_one_message_and_reads_nowhere_else),
		T(random_damage_never_crashes_and_never_alters_a_message),
		T(hostile_records_with_good_checksums_never_crash),
		T(record_inside_a_message_is_never_taken_for_a_record),
		T(one_damaged_header_of_two_is_enough),
		T(segment_without_any_header_is_set_aside_whole),
		T(body_is_kept_while_a_segment_could_not_be_read),
		T(segment_of_zeros_was_never_begun_and_is_removed),
		T(foreign_files_are_left_alone),
		T(newer_format_is_refused_by_name),
		T(ids_never_repeat_even_when_the_clock_goes_back),
		T(message_damaged_after_recovery_is_eio_not_other_bytes),
		T(message_whose_body_file_is_missing_or_short_is_reported_not_offered),
		T(unreadable_segment_is_kept_and_the_rest_goes_on),
	};

	log_set_level(-1); /* every one of these is worth a line, thousands of times */
	return cmocka_run_group_tests_name("spool damage", tests, NULL, NULL);
}
