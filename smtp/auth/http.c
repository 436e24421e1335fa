/* http.c - passwords judged by an HTTP service: one POST a login, over a connection that is kept */
#include "smtp/auth/auth.h"
#include "smtp/auth/backend.h"
#include "smtp/auth/http_answer.h"

#include "base/utf8.h"

#include <curl/curl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* a password of control characters is six octets each in JSON */
enum { BODY_BYTES = 8 * (AUTH_USER_BYTES + AUTH_PASSWORD_BYTES) };

struct link {
	const struct auth_backend *b;
	CURL *curl;
	struct curl_slist *headers;
	const struct backend_question *q; /* under way */
	size_t bytes;
	char body[BODY_BYTES], answer[HTTP_ANSWER_MOST], error[CURL_ERROR_SIZE];
};

static void setup(void)
{
	curl_global_init(CURL_GLOBAL_DEFAULT);
}

static size_t take_answer(char *data, size_t one, size_t n, void *link)
{
	struct link *l = link;

	if (n > sizeof(l->answer) - l->bytes)
		return CURL_WRITEFUNC_ERROR;
	memcpy(l->answer + l->bytes, data, n);
	l->bytes += n;
	return n;
}

/* Called at least about once a second, and whenever something moves. */
static int progress(void *link, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	const struct link *l = link;

	return backend_left_ms(l->q) == 0;
}

static bool add_header(struct link *l, const char *text)
{
	struct curl_slist *more = curl_slist_append(l->headers, text);

	if (more != NULL)
		l->headers = more;
	return more != NULL;
}

static bool prepare(struct link *l)
{
	const struct auth_backend *b = l->b;
	char bearer[BACKEND_SECRET_BYTES + 32];
	CURL *c = l->curl;

	snprintf(bearer, sizeof(bearer), "Authorization: Bearer %s", b->secret);
	bool good = add_header(l, b->form ? "Content-Type: application/x-www-form-urlencoded"
					  : "Content-Type: application/json") &&
		    add_header(l, "Accept: application/json") && add_header(l, "Expect:") &&
		    (b->secret[0] == '\0' || add_header(l, bearer)) &&
		    curl_easy_setopt(c, CURLOPT_URL, b->url) == CURLE_OK &&
		    curl_easy_setopt(c, CURLOPT_HTTPHEADER, l->headers) == CURLE_OK &&
		    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK;
	OPENSSL_cleanse(bearer, sizeof(bearer));
	if (b->ca[0] != '\0')
		good = good && curl_easy_setopt(c, CURLOPT_CAINFO, b->ca) == CURLE_OK;
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(c, CURLOPT_PROXY, "");
	curl_easy_setopt(c, CURLOPT_MAXCONNECTS, 1L);
	curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_answer);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, l);
	curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, progress);
	curl_easy_setopt(c, CURLOPT_XFERINFODATA, l);
	curl_easy_setopt(c, CURLOPT_ERRORBUFFER, l->error);
	return good;
}

static void close_link(void *link)
{
	struct link *l = link;

	curl_easy_cleanup(l->curl);
	for (struct curl_slist *h = l->headers; h != NULL; h = h->next)
		OPENSSL_cleanse(h->data, strlen(h->data));
	curl_slist_free_all(l->headers);
	OPENSSL_cleanse(l, sizeof(*l));
	free(l);
}

static void *open_link(const struct auth_backend *b)
{
	struct link *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return NULL;
	l->b = b;
	l->curl = curl_easy_init();
	if (l->curl != NULL && prepare(l))
		return l;
	close_link(l);
	return NULL;
}

static bool put(struct link *l, const char *text, size_t n)
{
	if (n >= sizeof(l->body) - l->bytes)
		return false;
	memcpy(l->body + l->bytes, text, n);
	l->bytes += n;
	l->body[l->bytes] = '\0';
	return true;
}

/* application/x-www-form-urlencoded: all but the unreserved in hexadecimal */
static bool put_field(struct link *l, const char *name, const char *value)
{
	bool good =
		(l->bytes == 0 || put(l, "&", 1)) && put(l, name, strlen(name)) && put(l, "=", 1);

	for (; good && *value != '\0'; value++) {
		static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					    "0123456789-._~";
		char hex[4];
		bool as_is = strchr(plain, *value) != NULL;
		if (!as_is)
			snprintf(hex, sizeof(hex), "%%%02X", (unsigned char)*value);
		good = as_is ? put(l, value, 1) : put(l, hex, 3);
	}
	return good;
}

/* A JSON string's inside is wiped before it is freed: jansson keeps a copy. */
static void wipe(json_t *question)
{
	const json_t *v = json_object_get(question, "password");

	if (v != NULL)
		OPENSSL_cleanse((char *)(uintptr_t)json_string_value(v), json_string_length(v));
	json_decref(question);
}

static bool put_json(struct link *l, const struct backend_question *q, const char *source)
{
	json_t *question = json_pack("{s:s, s:s, s:s, s:s}", "user", q->user, "password",
				     q->password, "source", source, "listener", q->listener);
	size_t n = question != NULL ? json_dumpb(question, l->body, sizeof(l->body),
						 JSON_COMPACT | JSON_ENSURE_ASCII)
				    : 0;

	if (question != NULL)
		wipe(question);
	l->bytes = n;
	return n > 0 && n <= sizeof(l->body);
}

static bool is_utf8(const char *text)
{
	const uint8_t *s = (const uint8_t *)text, *end = s + strlen(text);

	while (s < end) {
		size_t step = utf8_sequence(s, (size_t)(end - s));
		if (step == 0)
			return false;
		s += step;
	}
	return true;
}

static bool write_question(struct link *l, const struct backend_question *q)
{
	char source[ADDR_TEXT_BYTES];

	l->bytes = 0;
	addr_text(&q->source, source);
	if (!l->b->form)
		return put_json(l, q, source);
	return put_field(l, "user", q->user) && put_field(l, "password", q->password) &&
	       put_field(l, "source", source) && put_field(l, "listener", q->listener);
}

/* 200 with the object accepts; 401: not one of its users or a wrong password; 403: no, whoever
 * else knows him. */
static enum backend_answer judge(struct link *l, struct backend_question *q,
				 struct identity_draft *d)
{
	long status = 0;

	curl_easy_getinfo(l->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status == 401 || status == 403)
		return status == 401 ? BACKEND_UNKNOWN : BACKEND_WRONG;
	snprintf(q->why, sizeof(q->why), "%.100s: it answers %ld", l->b->url, status);
	if (status != 200)
		return BACKEND_OUTAGE;
	if (http_answer_read(l->answer, l->bytes, d))
		return BACKEND_RIGHT;
	snprintf(q->why, sizeof(q->why), "%.100s: 200 without a usable JSON object", l->b->url);
	return BACKEND_MALFORMED;
}

static enum backend_answer ask(void *link, struct backend_question *q, struct identity_draft *d)
{
	struct link *l = link;

	if (!is_utf8(q->user) || !is_utf8(q->password))
		return BACKEND_UNKNOWN; /* JSON cannot say it */
	if (!write_question(l, q)) {
		OPENSSL_cleanse(l->body, sizeof(l->body));
		snprintf(q->why, sizeof(q->why), "the question cannot be written");
		return BACKEND_OUTAGE;
	}
	curl_easy_setopt(l->curl, CURLOPT_POSTFIELDSIZE, (long)l->bytes);
	curl_easy_setopt(l->curl, CURLOPT_POSTFIELDS, l->body);
	curl_easy_setopt(l->curl, CURLOPT_TIMEOUT_MS, (long)backend_left_ms(q) + 1);
	l->q = q;
	l->bytes = 0;
	l->error[0] = '\0';
	CURLcode code = curl_easy_perform(l->curl);
	OPENSSL_cleanse(l->body, sizeof(l->body));
	if (code == CURLE_OK)
		return judge(l, q, d);
	snprintf(q->why, sizeof(q->why), "%.70s: %.80s", l->b->url,
		 l->error[0] != '\0' ? l->error : curl_easy_strerror(code));
	if (code == CURLE_WRITE_ERROR)
		return BACKEND_MALFORMED;
	return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST
		       ? BACKEND_UNREACHABLE
		       : BACKEND_OUTAGE;
}

const struct auth_ops http_ops = {
	.by_source = true,
	.setup = setup,
	.open = open_link,
	.ask = ask,
	.close = close_link,
};
