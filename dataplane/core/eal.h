/*
 * eal.h - DPDK's environment, started from the operator's configuration: no EAL flags to know.
 *
 * lcore 0 is the control thread (floating over the cores no worker uses, or over all), lcore
 * i + 1 is worker i, pinned to its core.
 *
 * Runs on: the main thread, once.
 * Errors: eal_start() is 0 or -errno with one line that names the place and the remedy.
 */
#ifndef DATAPLANE_CORE_EAL_H
#define DATAPLANE_CORE_EAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EAL_MAX_WORKERS = 64, EAL_MAX_PORTS = 8 };

enum eal_hugepages { EAL_HUGE_AUTO, EAL_HUGE_REQUIRED, EAL_HUGE_OFF };

struct eal_config {
	const unsigned *cores; /* CPU number of each worker */
	unsigned n_workers;
	const char *const *devices; /* PCI address or vdev string */
	unsigned n_devices;
	uint64_t bytes; /* DPDK's memory: packet buffers and chunks */
	enum eal_hugepages hugepages;
};

int eal_start(const struct eal_config *c, char *error, size_t error_bytes);
void eal_stop(void);

/* The vdev arguments that the driver needs for n_queues queues, the operator's own kept. */
void eal_device_args(const char *device, unsigned n_queues, char *out, size_t out_bytes);
/* PCI address such as 0000:03:00.0 or 03:00.0 */
bool eal_device_is_pci(const char *device);

#endif
