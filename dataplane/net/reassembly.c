/* reassembly.c - one fixed table, one bit for every eight octets */
#include "dataplane/net/reassembly.h"

static bool same(const struct reassembly_entry *e, const struct ip_view *v)
{
	return e->began_us != 0 && e->id == v->fragment_id && e->addr_bytes == v->addr_bytes &&
	       (v->addr_bytes == 16 || e->protocol == v->protocol) &&
	       memcmp(e->source, v->source, v->addr_bytes) == 0 &&
	       memcmp(e->destination, v->destination, v->addr_bytes) == 0;
}

static struct reassembly_entry *entry_of(struct reassembly *r, const struct ip_view *v,
					 uint64_t now_us)
{
	struct reassembly_entry *oldest = &r->entries[0];

	for (unsigned i = 0; i < REASSEMBLY_ENTRIES; i++) {
		struct reassembly_entry *e = &r->entries[i];
		if (e->began_us != 0 && now_us - e->began_us > REASSEMBLY_US) {
			r->expired += !e->dead;
			e->began_us = 0;
		}
		if (same(e, v))
			return e;
		if (e->began_us < oldest->began_us)
			oldest = e;
	}
	r->evicted += oldest->began_us != 0;
	memset(oldest, 0, offsetof(struct reassembly_entry, data));
	memcpy(oldest->source, v->source, v->addr_bytes);
	memcpy(oldest->destination, v->destination, v->addr_bytes);
	oldest->id = v->fragment_id;
	oldest->protocol = v->protocol;
	oldest->tos = v->tos;
	oldest->addr_bytes = (uint8_t)v->addr_bytes;
	oldest->began_us = now_us > 0 ? now_us : 1;
	return oldest;
}

static bool bad(const struct ip_view *v)
{
	return v->payload_bytes == 0 || v->fragment_offset + v->payload_bytes > REASSEMBLY_BYTES ||
	       (v->fragment_more && v->payload_bytes % 8 != 0);
}

/* Whether the fragment contradicts what is known of the end. */
static bool beyond_end(const struct reassembly_entry *e, const struct ip_view *v)
{
	uint32_t end = v->fragment_offset + v->payload_bytes;

	if (e->total != 0)
		return end > e->total || (!v->fragment_more && end != e->total);
	if (v->fragment_more)
		return false;
	/* the last fragment: nothing received may lie behind it */
	for (uint32_t u = (end + 7) / 8; u < REASSEMBLY_BYTES / 8; u++) {
		if ((e->units[u / 64] & 1ULL << u % 64) != 0)
			return true;
	}
	return false;
}

static bool take_units(struct reassembly_entry *e, const struct ip_view *v)
{
	uint32_t from = v->fragment_offset / 8,
		 to = (v->fragment_offset + v->payload_bytes + 7) / 8;

	for (uint32_t u = from; u < to; u++) {
		if ((e->units[u / 64] & 1ULL << u % 64) != 0)
			return false;
		e->units[u / 64] |= 1ULL << u % 64;
	}
	return true;
}

enum reassembly_verdict reassembly_add(struct reassembly *r, struct ip_view *v, uint64_t now_us)
{
	if (bad(v))
		return REASSEMBLY_BAD;
	struct reassembly_entry *e = entry_of(r, v, now_us);
	if (e->dead || beyond_end(e, v) || !take_units(e, v)) {
		e->dead = true;
		return REASSEMBLY_OVERLAP;
	}
	memcpy(e->data + v->fragment_offset, v->payload, v->payload_bytes);
	e->have = (uint16_t)(e->have + v->payload_bytes);
	if (!v->fragment_more)
		e->total = (uint16_t)(v->fragment_offset + v->payload_bytes);
	if (v->fragment_offset == 0) {
		/* IPv6: the first fragment says what follows the header (RFC 8200 section 4.5) */
		e->protocol = v->protocol;
		e->tos = v->tos;
	}
	if (e->total == 0 || e->have < e->total)
		return REASSEMBLY_WAITS;
	v->source = e->source;
	v->destination = e->destination;
	v->payload = e->data;
	v->payload_bytes = e->total;
	v->protocol = e->protocol;
	v->tos = e->tos;
	v->fragment_offset = 0;
	v->fragment_more = false;
	e->began_us = 0;
	return REASSEMBLY_WHOLE;
}
