/* SPDX-License-Identifier: Apache-2.0 */
/* What the fuzzers share: small values taken from the front of an input, and bytes in memory of
 * exactly their size. The difficulty: a change of one byte should change one thing. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include "base/buf.h"
#include "base/err.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv);

struct fuzz {
    const uint8_t *p;
    size_t n;
};

/* The next byte; 0 at the end. */
static inline uint8_t fuzz_byte(struct fuzz *f)
{
    uint8_t b = f->n > 0 ? *f->p : 0;

    if (f->n > 0) {
        f->p++;
        f->n--;
    }
    return b;
}

static inline uint64_t fuzz_number(struct fuzz *f, unsigned bytes)
{
    uint64_t v = 0;

    while (bytes-- > 0)
        v = v << 8 | fuzz_byte(f);
    return v;
}

/* A copy of exactly that size, so that a read behind its end is seen; freed by the caller. */
static inline char *fuzz_copy(const void *p, size_t n)
{
    char *copy = malloc(n > 0 ? n : 1);

    KG_ASSERT(copy);
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

static inline struct kg_str fuzz_rest(const struct fuzz *f)
{
    return (struct kg_str){(const char *)f->p, f->n};
}

/* Up to the next line feed, which is left out, or the end. False: nothing is left. */
static inline bool fuzz_line(struct fuzz *f, struct kg_str *line)
{
    const uint8_t *lf = f->n > 0 ? memchr(f->p, '\n', f->n) : NULL;
    size_t n = lf ? (size_t)(lf - f->p) : f->n;

    *line = (struct kg_str){(const char *)f->p, n};
    if (f->n == 0)
        return false;
    f->p += n + (lf != NULL);
    f->n -= n + (lf != NULL);
    return true;
}

/* Pieces of a text that comes split anywhere: by the seed; 0: as a whole; 1: byte by byte. */
static inline size_t fuzz_piece(uint32_t *seed, size_t left)
{
    size_t n;

    if (*seed == 0 || left == 0)
        return left;
    if (*seed == 1)
        return 1;
    *seed = *seed * 1664525u + 1013904223u;
    n = 1 + (*seed >> 16) % ((*seed >> 8) % 3 == 0 ? 64 : 7);
    if (*seed <= 1)
        *seed = 2;
    return n < left ? n : left;
}

#endif
