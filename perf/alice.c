/* alice.c - a file of users that is gone when its reader has read it */
#include "perf/alice.h"

#include "smtp/auth/users.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct auth *alice_open(void)
{
	char directory[] = "/tmp/perf_users.XXXXXX", users[64], error[256];
	struct auth *auth;

	if (mkdtemp(directory) == NULL)
		abort();
	snprintf(users, sizeof(users), "%s/users", directory);
	struct users_edit e = {.file = users,
			       .change = USERS_ADD,
			       .name = "alice",
			       .password = "secret",
			       .cost = {.memory_kib = 8, .passes = 1, .lanes = 1}};
	struct auth_config ac = {.users_file = users};
	if (users_edit(&e, error, sizeof(error)) != 0 ||
	    auth_open(&auth, &ac, error, sizeof(error)) != 0) {
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
	unlink(users);
	snprintf(users, sizeof(users), "%s/users.lock", directory);
	unlink(users);
	rmdir(directory);
	return auth;
}
