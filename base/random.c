/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes. The difficulty: a signal may cut a call short, and nothing else may. */
#include "base/random.h"
#include "base/err.h"
#include <errno.h>
#include <sys/random.h>

#define TRIES 1000

void kg_random(void *out, size_t n)
{
    unsigned char *at = out;

    for (int i = 0; n > 0 && i < TRIES; i++) {
        ssize_t got = getrandom(at, n, 0);
        KG_ASSERT(got >= 0 || errno == EINTR || errno == EAGAIN);
        at += got > 0 ? got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
    KG_ASSERT(n == 0);
}
