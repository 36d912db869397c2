/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-1 (for the WebSocket handshake), SHA-256 (for bodies) and base64, so that the worker needs
 * nothing but libc. */
#ifndef ECHO_DIGEST_H
#define ECHO_DIGEST_H

#include <stddef.h>
#include <stdint.h>

struct digest {
    uint32_t state[8];
    uint64_t bytes;
    unsigned char block[64];
    void (*compress)(uint32_t *state, const unsigned char *block);
    size_t words; /* of the state that are the digest */
};

void digest_sha1(struct digest *d);
void digest_sha256(struct digest *d);
void digest_add(struct digest *d, const void *data, size_t n);
size_t digest_end(struct digest *d, unsigned char out[32]); /* its length */

void base64_encode(const unsigned char *data, size_t n, char *out); /* out: 4 * ((n + 2) / 3) + 1 */
/* Either alphabet, with or without padding; the number of bytes, or -1. out: 3 * n / 4 + 3. */
long base64_decode(const char *text, size_t n, unsigned char *out);

#endif
