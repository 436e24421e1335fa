/* check.c - what a schema cannot say: values against each other and against the machine */
#include "control/check.h"
#include "smtp/extension.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* "ports.0.mtu" is how the tree is walked, "ports[0].mtu" how it is shown. */
static void shown_path(const char *path, char *shown, size_t bytes)
{
	size_t n = 0;

	while (*path != '\0' && n + 3 < bytes) {
		if (path[0] == '.' && path[1] >= '0' && path[1] <= '9') {
			shown[n++] = '[';
			for (path++; *path >= '0' && *path <= '9' && n + 3 < bytes; path++)
				shown[n++] = *path;
			shown[n++] = ']';
			continue;
		}
		shown[n++] = *path++;
	}
	shown[n] = '\0';
}

void check_fault(const struct check *k, const char *path, const char *fmt, ...)
{
	char what[CONFIG_ERROR_BYTES / 2], shown[CHECK_PATH_BYTES];
	const struct yaml_node *n = yaml_deepest(k->root, path);
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	shown_path(path, shown, sizeof(shown));
	config_fail(k->sink, n->line, n->column, shown, "%s", what);
}

static void check_listeners(const struct check *k)
{
	const struct config *c = k->c;

	for (unsigned i = 0; i < c->listener_count; i++) {
		for (unsigned j = 0; j < i; j++) {
			if (c->listener[i].port == c->listener[j].port)
				check_fault_at(k, "listeners.%u.port", i,
					       "port %" PRIu64
					       " is already taken by listener \"%.100s\"",
					       c->listener[i].port, c->listener[j].name);
			if (strcmp(c->listener[i].name, c->listener[j].name) == 0)
				check_fault_at(k, "listeners.%u.name", i,
					       "\"%.100s\" is already the name of another listener",
					       c->listener[i].name);
		}
	}
}

/* Whether all host bits are 0 (set false) or 1 (set true). */
static bool host_bits_are(const struct config_prefix *p, bool set)
{
	for (unsigned bit = p->bits; bit < 32; bit++) {
		if (((p->addr.byte[bit / 8] & 0x80u >> bit % 8) != 0) != set)
			return false;
	}
	return true;
}

/* Why the prefix cannot be the address of an interface; NULL: it can (RFC 1122 section 3.2.1.3,
 * RFC 3021 for /31). */
static const char *interface_fault4(const struct config_prefix *p)
{
	uint8_t first = p->addr.byte[0];

	if (first == 0 || first == 127 || first >> 4 >= 0xe)
		return "is not a unicast address";
	if (p->bits < 8)
		return "has a prefix length below 8; allowed is /8 to /32";
	if (p->bits < 31 && host_bits_are(p, false))
		return "is the address of the network itself";
	if (p->bits < 31 && host_bits_are(p, true))
		return "is the broadcast address of its network";
	return NULL;
}

static bool link_local(const struct ip_addr *a)
{
	return a->family == 6 && a->byte[0] == 0xfe && (a->byte[1] & 0xc0) == 0x80;
}

/* RFC 4291 sections 2.4 and 2.5 */
static const char *interface_fault6(const struct config_prefix *p)
{
	static const uint8_t nothing[15], mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (p->addr.byte[0] == 0xff || memcmp(p->addr.byte, nothing, 15) == 0 ||
	    memcmp(p->addr.byte, mapped, 12) == 0)
		return "is not a unicast address";
	if (link_local(&p->addr))
		return "is link-local; that address is made of the MAC by itself";
	if (p->bits < 16)
		return "has a prefix length below 16; allowed is /16 to /128";
	return NULL;
}

static const char *interface_fault(const struct config_prefix *p)
{
	return p->addr.family == 6 ? interface_fault6(p) : interface_fault4(p);
}

static bool address_taken(const struct check *k, unsigned port, unsigned index)
{
	const struct config_dataplane *d = &k->c->dataplane;
	const struct ip_addr *a = &d->port[port].address[index].addr;

	for (unsigned p = 0; p <= port; p++)
		for (unsigned i = 0; i < (p == port ? index : d->port[p].address_count); i++)
			if (addr_equal(&d->port[p].address[i].addr, a))
				return true;
	return false;
}

/* path names the key of the router. */
static void check_router(const struct check *k, const struct config_port *p,
			 const struct ip_addr *router, const char *path)
{
	char text[ADDR_TEXT_BYTES];
	bool inside = link_local(router), own = false;

	for (unsigned i = 0; i < p->address_count; i++) {
		inside |= addr_same_network(&p->address[i].addr, router, p->address[i].bits);
		own |= addr_equal(&p->address[i].addr, router);
	}
	addr_text(router, text);
	if (own)
		check_fault(k, path, "%s is an address of this port itself", text);
	else if (!inside)
		check_fault(k, path, "%s is inside none of this port's prefixes", text);
}

static void check_routers(const struct check *k, unsigned port)
{
	const struct config_port *p = &k->c->dataplane.port[port];
	char path[CHECK_PATH_BYTES], text[ADDR_TEXT_BYTES];

	for (unsigned i = 0; i < p->gateway_count; i++) {
		snprintf(path, sizeof(path), "dataplane.ports.%u.gateways.%u", port, i);
		check_router(k, p, &p->gateway[i], path);
	}
	for (unsigned i = 0; i < p->static_route_count; i++) {
		const struct config_static_route *r = &p->static_route[i];
		snprintf(path, sizeof(path), "dataplane.ports.%u.routes.%u.via", port, i);
		if (r->via.family != r->to.addr.family)
			check_fault(k, path, "%s is not of the family of its destinations",
				    addr_text(&r->via, text));
		else
			check_router(k, p, &r->via, path);
	}
}

static void check_ports(const struct check *k)
{
	const struct config_dataplane *d = &k->c->dataplane;
	char path[CHECK_PATH_BYTES], text[ADDR_TEXT_BYTES];

	for (unsigned i = 0; i < d->port_count; i++) {
		const struct config_port *p = &d->port[i];
		for (unsigned j = 0; j < i; j++)
			if (strcmp(p->device, d->port[j].device) == 0)
				check_fault_at(k, "dataplane.ports.%u.device", i,
					       "the device is already used by ports[%u]", j);
		for (unsigned j = 0; j < p->address_count; j++) {
			const char *why = interface_fault(&p->address[j]);
			if (why == NULL && address_taken(k, i, j))
				why = "is written twice";
			if (why == NULL)
				continue;
			snprintf(path, sizeof(path), "dataplane.ports.%u.addresses.%u", i, j);
			check_fault(k, path, "%s/%u %s", addr_text(&p->address[j].addr, text),
				    p->address[j].bits, why);
		}
		check_routers(k, i);
	}
}

static void check_relay_memory(const struct check *k)
{
	uint64_t n = k->c->relay.memory;

	if (n != CONFIG_MEMORY_SHARE && n > k->c->dataplane.memory)
		check_fault(k, "relay.memory",
			    "is more than dataplane.memory, of which it is a part: %" PRIu64 "M",
			    k->c->dataplane.memory >> 20);
}

static void check_memory(const struct check *k)
{
	const struct config_dataplane *d = &k->c->dataplane;
	uint64_t need = d->limits.sessions * CONFIG_SESSION_MIN_BYTES +
			d->worker_count * (uint64_t)CONFIG_WORKER_MIN_BYTES;

	if (need <= d->memory)
		return;
	uint64_t room = d->worker_count * (uint64_t)CONFIG_WORKER_MIN_BYTES;
	uint64_t fit = d->memory > room ? (d->memory - room) / CONFIG_SESSION_MIN_BYTES : 0;
	check_fault(k, "dataplane.memory",
		    "%" PRIu64 "M is too small: %" PRIu64
		    " sessions and %u workers need at least %" PRIu64
		    "M; with this memory limits.sessions may be %" PRIu64,
		    d->memory >> 20, d->limits.sessions, d->worker_count,
		    (need + (1 << 20) - 1) >> 20, fit);
}

static void check_tcp(const struct check *k)
{
	const struct config_tcp *t = &k->c->dataplane.tcp;

	if ((t->trace_events & (t->trace_events - 1)) != 0)
		check_fault(k, "dataplane.tcp.trace_events", "%" PRIu64 " is not a power of two",
			    t->trace_events);
	if (t->keepalive_us != 0 && t->keepalive_us < 1000000)
		check_fault(k, "dataplane.tcp.keepalive",
			    "a pause of at least 1s is needed, or 0s");
}

static void check_workers(const struct check *k)
{
	const struct config_dataplane *d = &k->c->dataplane;

	for (unsigned i = 0; i < d->worker_count; i++)
		for (unsigned j = 0; j < i; j++)
			if (d->worker[i] == d->worker[j])
				check_fault_at(k, "dataplane.workers.%u", i,
					       "core %" PRIu64 " is written twice", d->worker[i]);
}

static void check_cores(const struct check *k)
{
	const struct config_dataplane *d = &k->c->dataplane;
	cpu_set_t cores;

	if (sched_getaffinity(0, sizeof(cores), &cores) != 0)
		return;
	unsigned have = (unsigned)CPU_COUNT(&cores);
	if (d->worker_count > have)
		check_fault(k, "dataplane.workers",
			    "%u workers, but this process may use only %u cores", d->worker_count,
			    have);
	for (unsigned i = 0; i < d->worker_count; i++) {
		if (d->worker[i] < CPU_SETSIZE && CPU_ISSET(d->worker[i], &cores))
			continue;
		char list[80];
		size_t n = 0;
		for (unsigned core = 0; core < CPU_SETSIZE && n + 8 < sizeof(list); core++)
			if (CPU_ISSET(core, &cores))
				n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%u",
						      n > 0 ? ", " : "", core);
		check_fault_at(k, "dataplane.workers.%u", i,
			       "core %" PRIu64 " does not exist or may not be used; there are: %s",
			       d->worker[i], list);
	}
}

static void check_hop_address(const struct check *k, const char *path, const struct config_pool *p,
			      unsigned i)
{
	const struct config_next_hop *h = &p->next_hop[i];
	const struct config_prefix alone = {.addr = h->address,
					    .bits = h->address.family == 6 ? 128 : 32};
	char text[ADDR_TEXT_BYTES];

	addr_text(&h->address, text);
	if (!link_local(&h->address) && interface_fault(&alone) != NULL)
		check_fault(k, path, "%s %s", text, interface_fault(&alone));
	for (unsigned j = 0; j < i; j++)
		if (addr_equal(&h->address, &p->next_hop[j].address) &&
		    h->port == p->next_hop[j].port)
			check_fault(k, path, "%s port %" PRIu64 " is written twice", text, h->port);
}

/* The fault stands at the key that causes it. */
__attribute__((format(printf, 5, 6))) static void
hop_fault(const struct check *k, unsigned pool, unsigned hop, const char *key, const char *fmt, ...)
{
	char path[CHECK_PATH_BYTES], what[CONFIG_ERROR_BYTES / 2];
	va_list args;

	snprintf(path, sizeof(path), "relay.pools.%u.next_hops.%u.%s", pool, hop, key);
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	check_fault(k, path, "%s", what);
}

static void check_hop_host(const struct check *k, unsigned pool, unsigned i)
{
	const struct config_pool *p = &k->c->relay.pool[pool];
	const struct config_next_hop *h = &p->next_hop[i];

	for (unsigned j = 0; j < i; j++)
		if (strcasecmp(h->host, p->next_hop[j].host) == 0 && h->port == p->next_hop[j].port)
			hop_fault(k, pool, i, "host", "%.100s port %" PRIu64 " is written twice",
				  h->host, h->port);
}

static void check_hop_auth(const struct check *k, unsigned pool, unsigned hop, bool verified)
{
	const struct config_next_hop *h = &k->c->relay.pool[pool].next_hop[hop];
	bool user = h->auth.user[0] != '\0', file = h->auth.password_file[0] != '\0';

	if (user != file)
		hop_fault(k, pool, hop, user ? "auth.user" : "auth.password_file",
			  "auth needs user and password_file");
	else if (user && !verified)
		hop_fault(k, pool, hop, "auth", "auth needs tls: required or tls: implicit");
}

static void check_hops(const struct check *k, unsigned pool)
{
	const struct config_pool *p = &k->c->relay.pool[pool];
	char path[CHECK_PATH_BYTES];

	for (unsigned i = 0; i < p->next_hop_count; i++) {
		const struct config_next_hop *h = &p->next_hop[i];
		bool by_host = h->host[0] != '\0';
		snprintf(path, sizeof(path), "relay.pools.%u.next_hops.%u.address", pool, i);
		if ((h->address.family == 0) != by_host)
			hop_fault(k, pool, i, by_host ? "host" : "address",
				  "a next hop has either address or host");
		else if (!by_host)
			check_hop_address(k, path, p, i);
		else
			check_hop_host(k, pool, i);
		bool verified =
			h->tls == CONFIG_HOP_TLS_REQUIRED || h->tls == CONFIG_HOP_TLS_IMPLICIT;
		if (h->pin_count > 0 && !verified)
			hop_fault(k, pool, i, "pins", "pins need tls: required or tls: implicit");
		if (verified && h->name[0] == '\0' && !by_host && h->pin_count == 0)
			hop_fault(k, pool, i, "tls",
				  "tls: %s needs the name that its certificate shows, or pins",
				  h->tls == CONFIG_HOP_TLS_REQUIRED ? "required" : "implicit");
		check_hop_auth(k, pool, i, verified);
	}
}

/* A host name, or one with "*." in place of its first label. */
static bool certificate_name(const char *s)
{
	size_t label = 0, n = strlen(s);

	if (strncmp(s, "*.", 2) == 0)
		s += 2;
	for (; *s != '\0'; s++) {
		bool alnum = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
			     (*s >= '0' && *s <= '9');
		if (*s == '.' ? label == 0 : !alnum && (*s != '-' || label == 0))
			return false;
		label = *s == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return label > 0 && n <= 253;
}

static void check_certificates(const struct check *k)
{
	char path[CHECK_PATH_BYTES];

	for (unsigned i = 0; i < k->c->tls.certificate_count; i++) {
		const struct config_certificate *c = &k->c->tls.certificate[i];
		for (unsigned j = 0; j < c->name_count; j++) {
			snprintf(path, sizeof(path), "tls.certificates.%u.names.%u", i, j);
			if (!certificate_name(c->name[j]))
				check_fault(k, path,
					    "\"%.100s\" is not a host name; \"*.\" may be in front",
					    c->name[j]);
		}
	}
}

static bool route_match(const char *s)
{
	return strcmp(s, "*") == 0 || certificate_name(s);
}

static void check_routes(const struct check *k)
{
	const struct config_relay *r = &k->c->relay;

	for (unsigned i = 0; i < r->route_count; i++) {
		const struct config_route *route = &r->route[i];
		bool known = false, last = i + 1 == r->route_count;
		for (unsigned j = 0; j < r->pool_count; j++)
			known |= strcmp(route->pool, r->pool[j].name) == 0;
		if (!known)
			check_fault_at(k, "relay.routes.%u.pool", i, "there is no pool \"%.100s\"",
				       route->pool);
		if (!route_match(route->match))
			check_fault_at(
				k, "relay.routes.%u.match", i,
				"\"%.100s\" is no domain; \"*.\" may be in front, and \"*\" is "
				"every domain",
				route->match);
		else if ((strcmp(route->match, "*") == 0) != last)
			check_fault_at(k, "relay.routes.%u.match", i, "%s",
				       last ? "the last route must match \"*\""
					    : "what follows \"*\" is never reached");
	}
}

static void check_relay(const struct check *k)
{
	const struct config_relay *r = &k->c->relay;

	for (unsigned i = 0; i < r->pool_count; i++) {
		check_hops(k, i);
		if (r->pool[i].retry.first_us > r->pool[i].retry.max_us)
			check_fault_at(k, "relay.pools.%u.retry.first", i,
				       "is longer than retry.max");
		for (unsigned j = 0; j < i; j++) {
			if (strcmp(r->pool[i].name, r->pool[j].name) == 0)
				check_fault_at(k, "relay.pools.%u.name", i,
					       "there is a pool \"%.100s\" already",
					       r->pool[i].name);
		}
	}
	if (r->pool_count > 1 && r->route_count == 0)
		check_fault(k, "relay.pools", "several pools need routes");
	check_routes(k);
}

void check_readable(const struct check *k, const char *path, const char *file, const char *remedy)
{
	if (faccessat(AT_FDCWD, file, R_OK, AT_EACCESS) != 0)
		check_fault(k, path, "%.250s cannot be read: %s%s", file, strerror(errno), remedy);
}

static void check_passwords(const struct check *k, unsigned pool)
{
	const struct config_pool *p = &k->c->relay.pool[pool];
	char path[CHECK_PATH_BYTES];

	for (unsigned i = 0; i < p->next_hop_count; i++) {
		snprintf(path, sizeof(path), "relay.pools.%u.next_hops.%u.auth.password_file", pool,
			 i);
		if (p->next_hop[i].auth.password_file[0] != '\0')
			check_readable(k, path, p->next_hop[i].auth.password_file, "");
	}
}

static void check_directory(const struct check *k, const char *path, const char *directory)
{
	if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) != 0)
		check_fault(k, path, "directory %.250s is not writable: %s", directory,
			    strerror(errno));
}

/* Lists of names are kept with commas between them. */
static void check_class_names(const struct check *k, unsigned class, const char *key,
			      const char (*names)[CONFIG_CLASS_BYTES], unsigned n)
{
	char path[CHECK_PATH_BYTES];

	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "limits.%u.%s.%u", class, key, i);
		if (strpbrk(names[i], ", ") != NULL)
			check_fault(k, path, "\"%.60s\" is not a name: it holds a comma or a space",
				    names[i]);
	}
}

static void check_classes(const struct check *k)
{
	for (unsigned i = 0; i < k->c->class_count; i++) {
		const struct config_class *c = &k->c->class[i];
		check_class_names(k, i, "users", c->user, c->user_count);
		check_class_names(k, i, "tenants", c->tenant, c->tenant_count);
	}
}

static void check_tls_files(const struct check *k)
{
	const struct config_tls *t = &k->c->tls;
	char path[CHECK_PATH_BYTES];

	for (unsigned i = 0; i < t->certificate_count; i++) {
		const struct config_certificate *c = &t->certificate[i];
		snprintf(path, sizeof(path), "tls.certificates.%u.chain", i);
		check_readable(k, path, c->chain, "");
		snprintf(path, sizeof(path), "tls.certificates.%u.key", i);
		if (t->signer.socket[0] == '\0')
			check_readable(k, path, c->key, "");
		snprintf(path, sizeof(path), "tls.certificates.%u.ocsp", i);
		if (c->ocsp[0] != '\0')
			check_readable(k, path, c->ocsp, "");
	}
	if (t->certificate_directory[0] != '\0')
		check_readable(k, "tls.certificate_directory", t->certificate_directory, "");
	if (t->tickets.secret[0] != '\0')
		check_readable(k, "tls.tickets.secret", t->tickets.secret,
			       "; posternctl tickets create makes it");
	if (t->client_ca[0] != '\0')
		check_readable(k, "tls.client_ca", t->client_ca, "");
}

static void check_files(const struct check *k)
{
	const struct config *c = k->c;
	char directory[CONFIG_SOCKET_BYTES];

	check_tls_files(k);
	for (unsigned i = 0; i < c->relay.pool_count; i++)
		check_passwords(k, i);
	check_auth_files(k);
	check_directory(k, "spool.directory", c->spool.directory);
	memcpy(directory, c->control.socket, sizeof(directory));
	char *slash = strrchr(directory, '/');
	slash[slash == directory] = '\0';
	check_directory(k, "control.socket", directory);
}

void config_check(const struct config *c, const struct yaml_node *root,
		  const struct config_sink *sink, enum config_checks checks)
{
	struct check k = {.c = c, .root = root, .sink = sink};

	check_listeners(&k);
	check_tcp(&k);
	check_workers(&k);
	check_ports(&k);
	check_memory(&k);
	check_relay_memory(&k);
	check_certificates(&k);
	check_relay(&k);
	check_auth(&k);
	check_classes(&k);
	if ((c->submission.extensions & SMTP_EXT_BIT(BINARYMIME)) != 0 &&
	    (c->submission.extensions & SMTP_EXT_BIT(CHUNKING)) == 0)
		check_fault(&k, "submission.extensions", "BINARYMIME needs CHUNKING (RFC 3030)");
	if (c->submission.max_message_size > c->spool.max_size)
		check_fault(&k, "submission.max_message_size", "is larger than spool.max_size");
	if (checks == CONFIG_THIS_MACHINE)
		check_cores(&k);
	if (checks != CONFIG_FILE_ONLY)
		check_files(&k);
}
