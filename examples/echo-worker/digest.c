/* SPDX-License-Identifier: Apache-2.0 */
/* FIPS 180-4 and RFC 4648, plainly. The difficulty: none but the constants. */
#include "digest.h"
#include <string.h>

static uint32_t left(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

static uint32_t right(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

static uint32_t big_endian(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void sha1_compress(uint32_t *state, const unsigned char *block)
{
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

    for (int i = 0; i < 80; i++) {
        uint32_t f, k, next;

        w[i] = i < 16 ? big_endian(block + 4 * i)
                      : left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        if (i < 20) {
            f = (b & c) | (~b & d);
            k = 0x5a827999;
        } else if (i < 40 || i >= 60) {
            f = b ^ c ^ d;
            k = i < 40 ? 0x6ed9eba1 : 0xca62c1d6;
        } else {
            f = (b & c) | (b & d) | (c & d);
            k = 0x8f1bbcdc;
        }
        next = left(a, 5) + f + e + k + w[i];
        e = d;
        d = c;
        c = left(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

static const uint32_t sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static void sha256_compress(uint32_t *state, const unsigned char *block)
{
    uint32_t w[64], v[8];

    memcpy(v, state, sizeof v);
    for (int i = 0; i < 64; i++) {
        uint32_t t1, t2;

        if (i < 16) {
            w[i] = big_endian(block + 4 * i);
        } else {
            uint32_t s0 = right(w[i - 15], 7) ^ right(w[i - 15], 18) ^ w[i - 15] >> 3;
            uint32_t s1 = right(w[i - 2], 17) ^ right(w[i - 2], 19) ^ w[i - 2] >> 10;

            w[i] = w[i - 16] + s0 + w[i - 7] + s1;
        }
        t1 = v[7] + (right(v[4], 6) ^ right(v[4], 11) ^ right(v[4], 25)) +
             ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha256_constants[i] + w[i];
        t2 = (right(v[0], 2) ^ right(v[0], 13) ^ right(v[0], 22)) +
             ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

void digest_sha1(struct digest *d)
{
    static const uint32_t begin[8] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};

    memcpy(d->state, begin, sizeof begin);
    d->bytes = 0;
    d->compress = sha1_compress;
    d->words = 5;
}

void digest_sha256(struct digest *d)
{
    static const uint32_t begin[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

    memcpy(d->state, begin, sizeof begin);
    d->bytes = 0;
    d->compress = sha256_compress;
    d->words = 8;
}

void digest_add(struct digest *d, const void *data, size_t n)
{
    const unsigned char *p = data;

    while (n > 0) {
        size_t at = d->bytes % 64, take = 64 - at < n ? 64 - at : n;

        memcpy(d->block + at, p, take);
        d->bytes += take;
        p += take;
        n -= take;
        if (d->bytes % 64 == 0)
            d->compress(d->state, d->block);
    }
}

size_t digest_end(struct digest *d, unsigned char out[32])
{
    static const unsigned char padding[64] = {0x80};
    unsigned char length[8];

    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(d->bytes * 8 >> (56 - 8 * i));
    digest_add(d, padding, 1 + (119 - d->bytes % 64) % 64);
    digest_add(d, length, sizeof length);
    for (size_t i = 0; i < 4 * d->words; i++)
        out[i] = (unsigned char)(d->state[i / 4] >> (24 - 8 * (i % 4)));
    return 4 * d->words;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const unsigned char *data, size_t n, char *out)
{
    for (size_t i = 0; i < n; i += 3) {
        uint32_t group = (uint32_t)data[i] << 16;

        if (i + 1 < n)
            group |= (uint32_t)data[i + 1] << 8;
        if (i + 2 < n)
            group |= data[i + 2];
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = i + 1 < n ? alphabet[group >> 6 & 63] : '=';
        *out++ = i + 2 < n ? alphabet[group & 63] : '=';
    }
    *out = '\0';
}

long base64_decode(const char *text, size_t n, unsigned char *out)
{
    unsigned char *begin = out;
    uint32_t group = 0;
    int bits = 0;

    for (size_t i = 0; i < n && text[i] != '='; i++) {
        char c = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
        const char *found = c ? strchr(alphabet, c) : NULL;

        if (!found)
            return -1;
        group = group << 6 | (uint32_t)(found - alphabet);
        bits += 6;
        if (bits >= 8) {
            bits -= 8;
            *out++ = (unsigned char)(group >> bits);
        }
    }
    return out - begin;
}
