/* tickets.c - posternctl tickets: the fleet's ticket secret, made and advanced in place */
#include "control/cli/cli.h"
#include "control/config.h"
#include "tls/ticket_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

enum { EPOCHS_A_LIFETIME = 12, EPOCH_LEAST_S = 60 };

static bool settings(const struct cli *c, const char **file, uint64_t *lifetime_s,
		     struct config *config)
{
	if (!cli_config(c, config))
		return false;
	*file = config->tls.tickets.secret;
	*lifetime_s = config->tls.tickets.lifetime_us / 1000000;
	if (*file[0] != '\0')
		return true;
	fprintf(stderr, "posternctl: the configuration names no tls.tickets.secret\n");
	return false;
}

static int report(int code, const char *error, const char *done, const char *file)
{
	if (code != 0)
		fprintf(stderr, "posternctl: %s\n", error);
	else
		printf("%s: %s\n", file, done);
	return code == 0 ? CLI_DONE : CLI_FAILED;
}

/* Short epochs lose less with a stolen file, long ones make fewer keys. */
int cli_tickets_create(const struct cli *c)
{
	struct config config;
	const char *file;
	char error[512];
	uint64_t lifetime_s;

	if (!settings(c, &file, &lifetime_s, &config))
		return CLI_FAILED;
	uint64_t epoch_s = lifetime_s / EPOCHS_A_LIFETIME;
	if (epoch_s < EPOCH_LEAST_S)
		epoch_s = EPOCH_LEAST_S;
	int code = ticket_secret_create(file, epoch_s, (int64_t)time(NULL), error, sizeof(error));
	return report(code, error, "created; copy it to every gateway of the fleet", file);
}

int cli_tickets_advance(const struct cli *c)
{
	struct config config;
	const char *file;
	char error[512];
	uint64_t lifetime_s;

	if (!settings(c, &file, &lifetime_s, &config))
		return CLI_FAILED;
	int code =
		ticket_secret_advance(file, lifetime_s, (int64_t)time(NULL), error, sizeof(error));
	return report(code, error, "advanced; what is older than the lifetime is gone", file);
}
