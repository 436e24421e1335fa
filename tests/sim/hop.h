/*
 * hop.h - a scripted next hop on host 0: takes mail as a server should, but for its rules.
 *
 * Owner: the test; hop_free() before mail_destroy().
 */
#ifndef TESTS_SIM_HOP_H
#define TESTS_SIM_HOP_H

#include "tests/sim/peer.h"

enum hop_stage {
	HOP_GREETING,
	HOP_EHLO,
	HOP_HELO,
	HOP_STARTTLS,
	HOP_MAIL,
	HOP_RCPT,
	HOP_DATA,
	HOP_FINAL, /* the reply to the end of data */
	HOP_RSET,
	HOP_QUIT,
	HOP_OTHER,
};

enum hop_after { HOP_GO_ON, HOP_FIN, HOP_RESET };

/* The first rule that fits is taken. */
struct hop_rule {
	enum hop_stage stage;
	const char *match;    /* in the command line; NULL: any */
	const char *reply;    /* whole lines with CR LF; "": silence; NULL: what is usual */
	unsigned times;       /* 0: for ever */
	enum hop_after after; /* then the connection ends */
	unsigned used;
};

struct hop_mail {
	/* from: with its parameters; to: recipients, each with a newline behind */
	struct bytes from, to, content;
	bool chunked; /* came by BDAT */
};

enum { HOP_RULES = 16, HOP_MAILS = 64 };

struct next_hop {
	struct mail *m;
	uint16_t port;
	bool pipelining, eightbit, starttls;
	bool implicit;  /* TLS from the first octet on */
	bool chunking;  /* BDAT is understood and offered */
	bool forgetful; /* content is only counted, in taken */
	uint64_t taken;
	const char *offers;     /* more lines of EHLO, each "250-WORD\r\n"; NULL: none */
	const char *offers_tls; /* the same, only under TLS */
	const char *size;       /* "SIZE 1000", or NULL */
	struct hop_rule rules[HOP_RULES];
	unsigned n_rules;
	struct hop_mail mails[HOP_MAILS]; /* answered 2xx */
	unsigned n_mails;
	unsigned connections, secured;
	struct bytes log; /* every command line, newline behind */
	/* once: the connection ends after so many octets of the gateway's; 0: never */
	size_t cut_after;
	enum hop_after cut_how;
};

/* Listens on port; PIPELINING, 8BITMIME and SIZE are offered. */
struct next_hop *hop_create(struct mail *m, uint16_t port);
void hop_free(struct next_hop *h);
void hop_rule(struct next_hop *h, struct hop_rule rule);
void hop_rules_clear(struct next_hop *h);
/* The mails taken so far. */
void hop_forget(struct next_hop *h);
/* Mails taken whose content holds the text. */
unsigned hop_count(const struct next_hop *h, const char *text);
/* Times that a recipient has been given a mail. */
unsigned hop_recipient(const struct next_hop *h, const char *to);

#endif
