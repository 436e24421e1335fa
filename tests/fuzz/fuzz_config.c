/* fuzz_config.c - an operator's file: taken, or refused with a reason */
#include "control/config.h"
#include "tests/fuzz/fuzz.h"

const char *__lsan_default_suppressions(void);

/* The YAML library loses memory of its own on some syntax errors; the process ends then anyway. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libfyaml\n";
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct config *c = malloc(sizeof(*c));
	struct config_errors *e = malloc(sizeof(*e));

	CLAIM(c != NULL && e != NULL);
	if (config_parse(c, (const char *)data, n, "f.yaml", CONFIG_FILE_ONLY, e) == 0) {
		CLAIM(e->count == 0);
		CLAIM(memchr(c->hostname, '\0', sizeof(c->hostname)) != NULL);
	} else {
		CLAIM(e->count > 0 && e->count <= CONFIG_ERRORS);
		for (unsigned i = 0; i < (unsigned)e->count; i++)
			CLAIM(strncmp(e->item[i].text, "f.yaml", 6) == 0);
	}
	free(c);
	free(e);
	return 0;
}
