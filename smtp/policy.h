/*
 * policy.h - the limits of a user, one object: how many sessions, messages, recipients and octets,
 * how large a message, which reply a limit gives and when to try again.
 *
 * A session belongs to the first class of the configuration that its user or tenant matches.
 * Each measure is limited for the listener, the tenant, the user and the address, in this order;
 * what one of them refuses is given back to the others.  The buckets are quota.h's: all workers
 * share them.
 *
 * Owner: struct smtp_class lies in struct smtp_config.
 * Runs on: the worker of the session; policy_report() on the control thread.
 */
#ifndef SMTP_POLICY_H
#define SMTP_POLICY_H

#include "smtp/quota.h"

enum { SMTP_CLASSES = 17, SMTP_CLASS_NAME = 64, SMTP_CLASS_LIST = 1024 };

enum smtp_subject { SMTP_LISTENER, SMTP_TENANT, SMTP_USER, SMTP_ADDRESS, SMTP_SUBJECTS };
/* Octets are counted in KiB, rounded up. */
enum smtp_measure { SMTP_MESSAGES, SMTP_RECIPIENTS, SMTP_OCTETS, SMTP_MEASURES };

struct smtp_class {
	char name[SMTP_CLASS_NAME];
	/* Names separated by commas; both empty: everybody. */
	char users[SMTP_CLASS_LIST], tenants[SMTP_CLASS_LIST];
	struct quota_rate rate[SMTP_SUBJECTS][SMTP_MEASURES];
	uint32_t sessions[SMTP_SUBJECTS]; /* at a time; 0: no limit; not for addresses */
	/* 0: as for everybody */
	uint64_t max_message_size;
	uint32_t max_recipients, max_messages;
	uint32_t weight;         /* of the tenant's share of the windows; 0: 1 */
	bool permanent;          /* a limit gives 550, not 450 */
	uint64_t retry_after_us; /* 0: when there is room again */
};

#endif
