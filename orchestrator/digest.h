/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL's home for now: a digest and random bytes, and nothing that knows what they are for.
 * The difficulty: a failing random source must never be papered over. */
#ifndef ORCHESTRATOR_DIGEST_H
#define ORCHESTRATOR_DIGEST_H

#include "base/buf.h"

void digest_sha256_hex(struct kg_str bytes, char out[65]);
void digest_random_hex(char *out,
                       size_t digits); /* digits + NUL; aborts when there is no randomness */
void digest_base64url(struct kg_str bytes, struct kg_buf *out); /* for X-Registry-Auth */

#endif
