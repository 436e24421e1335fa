/* test_tls_memory.c - OpenSSL's allocations fail one after the other: no crash, no leak, and the
 * client is told or cut off */
#include "tests/unit/tls_rig.h"

#include <openssl/err.h>

static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* The thread's next step with the nth allocation failing; whether there was an nth. */
static bool failing_step(struct mail *m, uint64_t nth)
{
	struct tls_thread *t = &m->tls->threads[0];
	struct tls_session *s = ring_pop(t->queue);

	assert_non_null(s);
	t->state = state_adopt(m->tls, &t->seen);
	tls_memory_fail(nth);
	session_step(t, s);
	bool failed = tls_memory_failed();
	ring_push(s->worker->back, s);
	return failed;
}

static bool over(void *arg)
{
	const struct peer *p = arg;

	return p->over || p->eof || p->tls_failed || p->got.n > 0;
}

/* A handshake in whose step (0, 1) the nth allocation fails. */
static bool failing_handshake(struct mail *m, int version, unsigned step, uint64_t nth)
{
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);

	m->hold_tls = true;
	peer_begin_tls(p, version, NULL);
	mail_run(m, 10000);
	if (step == 1) {
		failing_step(m, 0);
		tls_poll(m->tls_worker);
		mail_run(m, 10000);
	}
	bool failed = failing_step(m, nth);
	tls_poll(m->tls_worker);
	m->hold_tls = false;
	/* well, or an alert, or a FIN: nobody waits for ever */
	if (!mail_run_until(m, over, p, 100 * (uint64_t)MAIL_SECOND))
		fail_msg("version %x step %u allocation %llu: silence", version, step,
			 (unsigned long long)nth);
	peer_free(p);
	mail_run(m, MAIL_SECOND);
	assert_int_equal(slab_used(m->tls_worker->sessions), 0);
	return failed;
}

static void each_step_of_a_handshake(bool rsa)
{
	for (unsigned v = 0; v < 2; v++) {
		struct rig r;
		rig_init(&r);
		rig_add(&r, &(struct cert_spec){.common_name = "mx.test", .rsa = rsa});
		r.options.tls_threads = 1;
		rig_start(&r);
		r.m->tick_us = MAIL_SECOND;
		for (unsigned step = 0; step < 2; step++) {
			uint64_t nth = 1;
			/* what is made once is there */
			failing_handshake(r.m, versions[v], step, 0);
			failing_handshake(r.m, versions[v], step, 0);
			uint64_t before = tls_memory_used();
			while (failing_handshake(r.m, versions[v], step, nth))
				nth++;
			assert_true(nth > (step == 0 ? 100 : 20));
			/* what was made once may be made anew: no more than that */
			assert_in_range(tls_memory_used(), before - 1024, before + 1024);
		}
		rig_end(&r);
	}
}

static void a_failed_allocation_in_a_handshake_ends_it_cleanly(void **state)
{
	each_step_of_a_handshake(false);
}

static void a_failed_allocation_in_a_handshake_with_rsa_ends_it_cleanly(void **state)
{
	each_step_of_a_handshake(true);
}

/* A protocol's write, with the nth allocation failing. */
static void a_failed_allocation_in_a_write_takes_nothing_or_all(void **state)
{
	for (unsigned v = 0; v < 2; v++) {
		struct mail *m = mail_create(NULL);
		bool failed = true;
		m->tick_us = MAIL_SECOND;
		for (uint64_t nth = 1; failed; nth++) {
			struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);
			assert_true(peer_tls(p, versions[v]));
			peer_expect(p, "220");
			struct tls_session *s = slab_at(m->tls_worker->sessions, 0, NULL);
			tls_memory_fail(nth);
			size_t took = conn_write(s->conn, "250 words\r\n", 11, false);
			failed = tls_memory_failed();
			assert_true(took == 0 || took == 11);
			if (took == 11)
				peer_expect(p, "250 words");
			peer_free(p);
			mail_run(m, MAIL_SECOND);
			assert_int_equal(slab_used(m->tls_worker->sessions), 0);
		}
		mail_destroy(m);
	}
}

static void a_failed_allocation_in_a_read_is_an_end(void **state)
{
	for (unsigned v = 0; v < 2; v++) {
		struct mail *m = mail_create(NULL);
		bool failed = true;
		m->tick_us = MAIL_SECOND;
		for (uint64_t nth = 1; failed; nth++) {
			struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);
			assert_true(peer_tls(p, versions[v]));
			peer_expect(p, "220");
			struct tls_session *s = slab_at(m->tls_worker->sessions, 0, NULL);
			struct conn *c = s->conn;
			char buf[64];
			/* the record waits in the chunk that belongs to the handshake */
			p->held = true;
			peer_say(p, "NOOP\r\n");
			s->in = chunk_alloc(m->shard->chunks, CHUNK_4K, true);
			memcpy(s->in->data, p->raw.at, p->raw.n);
			s->in->start = 0;
			s->in->end = (uint32_t)p->raw.n;
			p->raw.n = 0;
			p->held = false;
			tls_memory_fail(nth);
			size_t n = conn_read(c, buf, sizeof(buf));
			failed = tls_memory_failed();
			assert_true(n == 6 || (n == 0 && failed && conn_eof(c)));
			peer_free(p);
			mail_run(m, MAIL_SECOND);
			assert_int_equal(slab_used(m->tls_worker->sessions), 0);
		}
		mail_destroy(m);
	}
}

static void a_reload_without_memory_changes_nothing(void **state)
{
	struct mail *m = mail_create(NULL);
	struct tls_certificate own = {.chain = m->chain, .key = m->key};
	struct tls_config c = {.certificates = &own, .n_certificates = 1, .threads = 2};
	struct tls_state *before = atomic_load(&m->tls->current);
	char error[512];
	unsigned refused = 0;

	for (uint64_t nth = 1; nth < 400; nth++) {
		tls_memory_fail(nth);
		int rc = tls_reload(m->tls, &c, error, sizeof(error));
		bool failed = tls_memory_failed();
		if (rc < 0) {
			assert_true(failed);
			assert_ptr_equal(atomic_load(&m->tls->current), before);
			refused++;
		}
		before = atomic_load(&m->tls->current);
	}
	assert_true(refused > 20);
	struct peer *p = peer_connect(m, MAIL_SUBMISSIONS);
	assert_true(peer_tls(p, 0));
	mail_destroy(m);
}

/* The sanitizers bring an allocator of their own. */
#ifndef __SANITIZE_ADDRESS__

/* Whether the mapping that holds p has a flag of smaps(5). */
static bool mapping_has(const void *p, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	unsigned long begin, end;
	char line[400];
	bool inside = false, found = false;

	while (fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, "%lx-%lx ", &begin, &end) == 2)
			inside = (unsigned long)p >= begin && (unsigned long)p < end;
		else if (inside && strncmp(line, "VmFlags:", 8) == 0)
			found = strstr(line, flag) != NULL;
	}
	fclose(f);
	return found;
}

static void keys_are_left_out_of_core_dumps(void **state)
{
	static const size_t sizes[] = {16, 1000, 20000, 5 << 20};

	assert_true(tls_memory_is_private());
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		void *secret = OPENSSL_malloc(sizes[i]), *other = malloc(sizes[i]);
		assert_true(mapping_has(secret, " dd"));
		assert_false(mapping_has(other, " dd"));
		OPENSSL_free(secret);
		free(other);
	}
}

#endif

static int count_memory(void **state)
{
	return tls_memory_init() ? 0 : -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_failed_allocation_in_a_handshake_ends_it_cleanly),
		cmocka_unit_test(a_failed_allocation_in_a_handshake_with_rsa_ends_it_cleanly),
		cmocka_unit_test(a_failed_allocation_in_a_write_takes_nothing_or_all),
		cmocka_unit_test(a_failed_allocation_in_a_read_is_an_end),
		cmocka_unit_test(a_reload_without_memory_changes_nothing),
#ifndef __SANITIZE_ADDRESS__
		cmocka_unit_test(keys_are_left_out_of_core_dumps),
#endif
	};

	return cmocka_run_group_tests(tests, count_memory, NULL);
}
