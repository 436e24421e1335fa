/* cert.h - a self-signed certificate for mx.test with its P-256 key, as PEM files.  Test code. */
#ifndef TESTS_SIM_CERT_H
#define TESTS_SIM_CERT_H

void cert_write(const char *chain_file, const char *key_file);

#endif
