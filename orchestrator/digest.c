/* SPDX-License-Identifier: Apache-2.0 */
/* Digests and randomness by libcrypto. The difficulty: none may fail quietly. */
#include "orchestrator/digest.h"
#include "base/err.h"
#include <openssl/evp.h>
#include <openssl/rand.h>

static const char hex_digits[] = "0123456789abcdef";

void digest_sha256_hex(struct kg_str bytes, char out[65])
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    KG_ASSERT(EVP_Digest(bytes.p, bytes.n, sum, &n, EVP_sha256(), NULL) == 1 && n == 32);
    for (unsigned i = 0; i < n; i++) {
        out[2 * i] = hex_digits[sum[i] >> 4];
        out[2 * i + 1] = hex_digits[sum[i] & 15];
    }
    out[64] = '\0';
}

void digest_random_hex(char *out, size_t digits)
{
    unsigned char byte;

    for (size_t i = 0; i < digits; i++) {
        KG_ASSERT(RAND_bytes(&byte, 1) == 1);
        out[i] = hex_digits[byte & 15];
    }
    out[digits] = '\0';
}

void digest_base64url(struct kg_str bytes, struct kg_buf *out)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    for (size_t i = 0; i < bytes.n; i += 3) {
        const unsigned char *p = (const unsigned char *)bytes.p + i;
        size_t left = bytes.n - i;
        unsigned v = (unsigned)p[0] << 16 | (left > 1 ? (unsigned)p[1] << 8 : 0) |
                     (left > 2 ? (unsigned)p[2] : 0);
        char four[4] = {alphabet[v >> 18], alphabet[v >> 12 & 63],
                        left > 1 ? alphabet[v >> 6 & 63] : '=', left > 2 ? alphabet[v & 63] : '='};
        kg_buf_append(out, four, 4);
    }
}
