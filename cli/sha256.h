/*
 * sha256.h - computes SHA-256, as FIPS 180-4 defines it
 */
#ifndef QZ_CLI_SHA256_H
#define QZ_CLI_SHA256_H

#include "cli.h"

typedef struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
} sha256;

enum { SHA256_TEXT = 65 };

void sha256_begin(sha256 *h);
void sha256_add(sha256 *h, const void *data, size_t length);
/* The sum as 64 hexadecimal digits. */
void sha256_end(sha256 *h, char out[SHA256_TEXT]);

#endif
