/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's home for now: a digest and random bytes, and nothing that knows what they are for.
 * The difficulty: a failing random source must never be papered over. */
#ifndef ORCHESTRATOR_DIGEST_H
#define ORCHESTRATOR_DIGEST_H

#include "base/buf.h"

void digest_sha256_hex(struct kg_str bytes, char out[65]);
/* HMAC-SHA256 of `bytes`; the key has at most 64 of them. */
void digest_hmac_hex(struct kg_str key, struct kg_str bytes, char out[65]);
/* Two digests' texts, in a time that does not tell where they differ. */
bool digest_equal(const char a[65], const char b[65]);
void digest_random_hex(char *out,
                       size_t digits); /* digits + NUL; aborts when there is no randomness */
void digest_base64url(struct kg_str bytes, struct kg_buf *out); /* for X-Registry-Auth */

#endif
