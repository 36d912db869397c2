/* SPDX-License-Identifier: Apache-2.0 */
/* Arena of blocks from a pool. The difficulty: under sanitizers it must hide nothing, so there each
 * allocation becomes a block of its own. */
#include "base/arena.h"
#include "base/err.h"
#include <stdlib.h>
#include <string.h>

#define ALIGN 16

struct kg_arena_block {
    struct kg_arena_block *next;
    size_t cap, used; /* of the bytes behind this head */
    _Alignas(ALIGN) char bytes[];
};

void kg_arena_pool_init(struct kg_arena_pool *p, size_t block_bytes, size_t keep_count)
{
    *p = (struct kg_arena_pool){.block_bytes = block_bytes, .keep_count = keep_count};
}

void kg_arena_pool_fini(struct kg_arena_pool *p)
{
    while (p->free_blocks) {
        struct kg_arena_block *b = p->free_blocks;
        p->free_blocks = b->next;
        free(b);
    }
    p->free_count = 0;
}

void kg_arena_init(struct kg_arena *a, struct kg_arena_pool *pool, size_t max_bytes)
{
    *a = (struct kg_arena){.pool = pool, .max_bytes = max_bytes};
}

static struct kg_arena_block *block_new(struct kg_arena *a, size_t n)
{
    struct kg_arena_pool *p = a->pool;
    struct kg_arena_block *b;
    size_t cap = n > p->block_bytes ? n : p->block_bytes;

#ifdef KG_SANITIZE
    cap = n;
#else
    if (n <= p->block_bytes && p->free_blocks) {
        b = p->free_blocks;
        p->free_blocks = b->next;
        p->free_count--;
        b->used = 0;
        return b;
    }
#endif
    b = malloc(sizeof *b + cap);
    if (b)
        *b = (struct kg_arena_block){.cap = cap};
    return b;
}

void *kg_arena_alloc(struct kg_arena *a, size_t n)
{
    struct kg_arena_block *b = a->blocks;
    void *out;

    if (n > a->max_bytes)
        return NULL;
#ifndef KG_SANITIZE /* exact sizes there, so that one byte too far is seen */
    n = (n + ALIGN - 1) / ALIGN * ALIGN;
#endif
    if (n > a->max_bytes - a->used_bytes)
        return NULL;
    if (!b || b->cap - b->used < n) {
        b = block_new(a, n);
        if (!b)
            return NULL;
        b->next = a->blocks;
        a->blocks = b;
    }
    out = b->bytes + b->used;
    b->used += n;
    a->used_bytes += n;
    return out;
}

char *kg_arena_copy(struct kg_arena *a, const void *bytes, size_t n)
{
    char *out = kg_arena_alloc(a, n + 1);

    if (!out)
        return NULL;
    if (n > 0)
        memcpy(out, bytes, n);
    out[n] = '\0';
    return out;
}

void kg_arena_fini(struct kg_arena *a)
{
    struct kg_arena_pool *p = a->pool;

    while (a->blocks) {
        struct kg_arena_block *b = a->blocks;
        a->blocks = b->next;
        if (b->cap == p->block_bytes && p->free_count < p->keep_count) {
            b->next = p->free_blocks;
            p->free_blocks = b;
            p->free_count++;
        } else {
            free(b);
        }
    }
    a->used_bytes = 0;
}
