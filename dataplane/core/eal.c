/* eal.c - builds the EAL command line and explains its failures */
#include "dataplane/core/eal.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_ARGS = 32, ARG_BYTES = 512, HUGEPAGE_BYTES = 2 << 20 };

struct args {
	char *v[MAX_ARGS];
	int n;
};

__attribute__((format(printf, 2, 3))) static void add(struct args *a, const char *fmt, ...)
{
	char text[ARG_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (a->n < MAX_ARGS - 1)
		a->v[a->n++] = strdup(text);
}

bool eal_device_is_pci(const char *device)
{
	unsigned a, b, c, d;
	char end;

	return sscanf(device, "%x:%x:%x.%x%c", &a, &b, &c, &d, &end) == 4 ||
	       sscanf(device, "%x:%x.%x%c", &a, &b, &c, &end) == 3;
}

void eal_device_args(const char *device, unsigned n_queues, char *out, size_t out_bytes)
{
	if (strncmp(device, "net_af_packet", 13) == 0 && strstr(device, "qpairs=") == NULL)
		snprintf(out, out_bytes, "%s,qpairs=%u", device, n_queues);
	else if (strncmp(device, "net_af_xdp", 10) == 0 && strstr(device, "queue_count=") == NULL)
		snprintf(out, out_bytes, "%s,queue_count=%u", device, n_queues);
	else
		snprintf(out, out_bytes, "%s", device);
}

static uint64_t free_hugepage_bytes(void)
{
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
	unsigned long long n = 0;

	if (f == NULL)
		return 0;
	if (fscanf(f, "%llu", &n) != 1)
		n = 0;
	fclose(f);
	return n * HUGEPAGE_BYTES;
}

/* The control thread keeps off the workers' cores where the machine has others. */
static void add_lcores(struct args *a, const struct eal_config *c)
{
	char list[ARG_BYTES];
	cpu_set_t free_cpus;
	size_t n = 0;

	sched_getaffinity(0, sizeof(free_cpus), &free_cpus);
	cpu_set_t all = free_cpus;
	for (unsigned i = 0; i < c->n_workers; i++)
		CPU_CLR(c->cores[i], &free_cpus);
	if (CPU_COUNT(&free_cpus) == 0)
		free_cpus = all;
	n += (size_t)snprintf(list, sizeof(list), "0@(");
	const char *comma = "";
	for (int cpu = 0; cpu < CPU_SETSIZE && n < sizeof(list) - 16; cpu++) {
		if (CPU_ISSET(cpu, &free_cpus)) {
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%d", comma, cpu);
			comma = ",";
		}
	}
	n += (size_t)snprintf(list + n, sizeof(list) - n, ")");
	for (unsigned i = 0; i < c->n_workers && n < sizeof(list) - 16; i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, ",%u@%u", i + 1, c->cores[i]);
	add(a, "--lcores=%s", list);
	add(a, "--main-lcore=0");
}

/* 0 or -ENOMEM: decides between hugepages and ordinary pages. */
static int add_memory(struct args *a, const struct eal_config *c, char *error, size_t error_bytes)
{
	uint64_t have = free_hugepage_bytes();
	uint64_t need = (c->bytes + HUGEPAGE_BYTES - 1) / HUGEPAGE_BYTES * HUGEPAGE_BYTES;

	add(a, "-m");
	add(a, "%llu", (unsigned long long)(need >> 20));
	if (c->hugepages == EAL_HUGE_OFF || (c->hugepages == EAL_HUGE_AUTO && have < need)) {
		add(a, "--no-huge");
		add(a, "--no-shconf");
		return 0;
	}
	if (have < need) {
		snprintf(error, error_bytes,
			 "dataplane.hugepages: required, but only %llu MiB of free 2 MiB hugepages "
			 "for %llu MiB; reserve them: sysctl vm.nr_hugepages=%llu",
			 (unsigned long long)(have >> 20), (unsigned long long)(need >> 20),
			 (unsigned long long)(need / HUGEPAGE_BYTES));
		return -ENOMEM;
	}
	add(a, "--in-memory");
	return 0;
}

static void add_devices(struct args *a, const struct eal_config *c)
{
	bool pci = false;
	char text[ARG_BYTES];

	for (unsigned i = 0; i < c->n_devices; i++) {
		if (eal_device_is_pci(c->devices[i])) {
			pci = true;
			add(a, "--allow=%s", c->devices[i]);
		} else {
			eal_device_args(c->devices[i], c->n_workers, text, sizeof(text));
			add(a, "--vdev=%s", text);
		}
	}
	if (pci)
		return;
	add(a, "--no-pci");
	/* physical addresses would keep an mbuf from crossing a 4 KiB page: half of it wasted */
	add(a, "--iova-mode=va");
}

int eal_start(const struct eal_config *c, char *error, size_t error_bytes)
{
	struct args a = {.n = 0};
	char *argv[MAX_ARGS];

	add(&a, "postern");
	add(&a, "--no-telemetry");
	add(&a, "--log-level=lib.eal:error");
	add(&a, "--log-level=*:error");
	add_lcores(&a, c);
	int rc = add_memory(&a, c, error, error_bytes);
	if (rc < 0)
		return rc;
	add_devices(&a, c);
	/* rte_eal_init() permutes its array; ours stays for freeing */
	memcpy(argv, a.v, sizeof(argv));
	int used = rte_eal_init(a.n, argv);
	for (int i = 0; i < a.n; i++)
		free(a.v[i]);
	if (used >= 0)
		return 0;
	snprintf(
		error, error_bytes,
		"dataplane: DPDK did not start (%s); check that each port's device exists and that "
		"this process may open raw sockets (root or CAP_NET_RAW)",
		rte_strerror(rte_errno));
	return rte_errno > 0 ? -rte_errno : -EIO;
}

void eal_stop(void)
{
	rte_eal_cleanup();
}
