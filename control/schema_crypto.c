/* schema_crypto.c - the keys of tls that say with what: suites, groups, whose private keys */
#include "control/schema_rows.h"

const struct schema_choice schema_suite_choices[] = {
	{"AES-256-GCM", CONFIG_SUITE_AES_256_GCM},
	{"AES-128-GCM", CONFIG_SUITE_AES_128_GCM},
	{"CHACHA20-POLY1305", CONFIG_SUITE_CHACHA20},
	{"AES-128-CBC", 0,
	 "is refused: suites without AEAD are not offered (RFC 9325 section 4.2)"},
	{},
};

const struct schema_choice schema_group_choices[] = {
	{"X25519", CONFIG_GROUP_X25519},
	{"P-256", CONFIG_GROUP_P256},
	{"P-384", CONFIG_GROUP_P384},
	{},
};

const struct schema_row schema_signer_rows[] = {
	{"socket", SCHEMA_PATH, FIELD(config_tls, signer.socket),
	 .help = "of postern-signer, which has the private keys: `key` files are not read here; "
		 "default: they are"},
	{},
};
