/* crc32c.h - CRC-32C (Castagnoli, RFC 3720 appendix B.4): the spool's record checksum.
 * crc32c(0, ...) starts; feed the result back in to continue.  Pure function. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t n);

#endif
