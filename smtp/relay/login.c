/* login.c - AUTH PLAIN towards a hop (RFC 4954, 4616) */
#include "base/base64.h"
#include "smtp/relay/internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

bool login_offered(const char *mechanisms)
{
	for (const char *p = mechanisms; *p != '\0'; p += strcspn(p, " ")) {
		p += strspn(p, " ");
		if (strcspn(p, " ") == 5 && strncasecmp(p, "PLAIN", 5) == 0)
			return true;
	}
	return false;
}

/* RFC 4616: authorization identity, NUL, user, NUL, password. */
void login_send(struct client *c)
{
	const struct relay_hop *h = &c->hop->config;
	uint8_t plain[RELAY_NAME + RELAY_PASSWORD + 2];
	char line[sizeof(plain) / 3 * 4 + 32];
	size_t user = strlen(h->user), password = strlen(h->password);

	plain[0] = plain[user + 1] = '\0';
	memcpy(plain + 1, h->user, user);
	memcpy(plain + user + 2, h->password, password);
	strcpy(line, "AUTH PLAIN ");
	base64_encode(plain, user + password + 2, line + strlen(line));
	strcat(line, "\r\n");
	c->state = CLIENT_AUTH;
	client_command(c, line, strlen(line));
	client_arm(c, COMMAND_US);
	client_flush(c);
	explicit_bzero(plain, sizeof(plain));
	explicit_bzero(line, sizeof(line));
}
