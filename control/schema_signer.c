/* schema_signer.c - the keys of tls.signer */
#include "control/schema_rows.h"

const struct schema_row schema_signer_rows[] = {
	{"socket", SCHEMA_PATH, FIELD(config_tls, signer.socket),
	 .help = "of postern-signer, which has the private keys: `key` files are not read here; "
		 "default: they are"},
	{},
};
