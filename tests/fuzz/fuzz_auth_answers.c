/* fuzz_auth_answers.c - what authentication back ends answer, and names in what they are asked:
 * texts keep their bounds and kinds, an expanded name cannot end the place where it stands */
#include "smtp/auth/dovecot.h"
#include "smtp/auth/http_answer.h"
#include "smtp/auth/template.h"
#include "tests/fuzz/fuzz.h"

static void claim_draft(const struct identity_draft *d)
{
	CLAIM(d->user[0] == '\0' || user_name_fault(d->user) == NULL);
	CLAIM(d->tenant[0] == '\0' || user_tenant_fault(d->tenant) == NULL);
	CLAIM(d->addresses[0] == '\0' || user_addresses_fault(d->addresses) == NULL);
}

static void dovecot(struct input *in)
{
	static const struct auth_backend b = {.tenant_field = "t", .addresses_field = "a"};
	struct dovecot_hello hello = {};
	struct identity_draft d = {};
	enum backend_answer answer = BACKEND_MALFORMED;

	while (in->left > 0) {
		const uint8_t *end = memchr(in->at, '\n', in->left);
		size_t n = end != NULL ? (size_t)(end - in->at) : in->left, all = n + (end != NULL);
		char *line = malloc(n + 1); /* of its own size, for the sanitizer */
		struct dovecot_line l;
		CLAIM(line != NULL);
		memcpy(line, take(in, &all), n);
		if (dovecot_split(line, n, &l)) {
			CLAIM(l.n >= 1 && l.n <= DOVECOT_FIELDS);
			for (unsigned i = 0; i < l.n; i++)
				CLAIM(within(l.field[i].text, l.field[i].bytes + 1, line, n + 1) &&
				      l.field[i].text[l.field[i].bytes] == '\0');
			dovecot_greet(&hello, &l);
			if (dovecot_answer(&l, "1", &b, &d, &answer))
				claim_draft(&d);
		}
		free(line);
	}
}

static void http(struct input *in)
{
	struct identity_draft d = {};
	size_t n = in->left;
	const uint8_t *p = take(in, &n);
	char *text = malloc(n + 1);

	CLAIM(text != NULL);
	memcpy(text, p, n);
	http_answer_read(text, n, &d);
	claim_draft(&d);
	free(text);
}

static void expansion(struct input *in)
{
	char user[256] = {0}, out[1024];
	size_t n = in->left < sizeof(user) - 1 ? in->left : sizeof(user) - 1;

	memcpy(user, take(in, &n), n);
	CLAIM(template_filter("(uid=%u)", user, out, sizeof(out)));
	/* only our own brackets, and no star */
	CLAIM(strchr(out + 1, '(') == NULL && strchr(out, ')') == out + strlen(out) - 1 &&
	      strchr(out, '*') == NULL);
	CLAIM(template_dn("uid=%u,o=x", user, out, sizeof(out)));
	CLAIM(strchr(out, ',') == out + strlen(out) - 4 && strchr(out, '+') == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static void (*const of[])(struct input * in) = {dovecot, http, expansion};
	struct input in = {data, n};

	of[take8(&in) % 3](&in);
	return 0;
}
