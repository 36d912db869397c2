/* SPDX-License-Identifier: Apache-2.0 */
/* Digests by libcrypto. The difficulty: none may fail, so none may need memory. */
#include "orchestrator/digest.h"
#include "base/err.h"
#include "base/random.h"
#define OPENSSL_SUPPRESS_DEPRECATED /* the calls that replace these need memory, and may have none \
                                     */
#include <openssl/crypto.h>
#include <openssl/sha.h>

static const char hex_digits[] = "0123456789abcdef";

static void to_hex(const unsigned char sum[32], char out[65])
{
    for (unsigned i = 0; i < 32; i++) {
        out[2 * i] = hex_digits[sum[i] >> 4];
        out[2 * i + 1] = hex_digits[sum[i] & 15];
    }
    out[64] = '\0';
}

void digest_sha256_hex(struct kg_str bytes, char out[65])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    SHA256_CTX ctx;

    SHA256_Init(&ctx);
    SHA256_Update(&ctx, bytes.p, bytes.n);
    SHA256_Final(sum, &ctx);
    to_hex(sum, out);
}

/* RFC 2104, by hand: the library's own asks for memory. */
void digest_hmac_hex(struct kg_str key, struct kg_str bytes, char out[65])
{
    unsigned char pad[SHA256_CBLOCK] = {0}, sum[SHA256_DIGEST_LENGTH];
    SHA256_CTX ctx;

    KG_ASSERT(key.n <= sizeof pad);
    memcpy(pad, key.p, key.n);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, pad, sizeof pad);
    SHA256_Update(&ctx, bytes.p, bytes.n);
    SHA256_Final(sum, &ctx);
    for (size_t i = 0; i < sizeof pad; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    SHA256_Init(&ctx);
    SHA256_Update(&ctx, pad, sizeof pad);
    SHA256_Update(&ctx, sum, sizeof sum);
    SHA256_Final(sum, &ctx);
    OPENSSL_cleanse(pad, sizeof pad);
    to_hex(sum, out);
}

bool digest_equal(const char a[65], const char b[65])
{
    return CRYPTO_memcmp(a, b, 65) == 0;
}

void digest_random_hex(char *out, size_t digits)
{
    unsigned char byte;

    for (size_t i = 0; i < digits; i++) {
        kg_random(&byte, 1);
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
