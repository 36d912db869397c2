/* SPDX-License-Identifier: Apache-2.0 */
/* The arena and the pool behind it. The difficulty: a bump allocator hides overruns from
 * sanitizers, so under KG_SANITIZE each allocation is a block of its own, of exactly its size. */
#include "base/arena.h"
#include "base/err.h"
#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef KG_SANITIZE
#define TWIN true
#else
#define TWIN false
#endif

struct kg_arena_block {
    alignas(16) struct kg_arena_block *next;
    size_t size_bytes, used_bytes; /* of what lies behind this head */
};

void kg_arena_pool_init(struct kg_arena_pool *p, size_t block_bytes, size_t keep_count)
{
    KG_ASSERT(block_bytes > 0);
    *p = (struct kg_arena_pool){NULL, (block_bytes + 15) & ~(size_t)15, 0, keep_count};
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

static struct kg_arena_block *block_new(size_t size_bytes)
{
    struct kg_arena_block *b = malloc(sizeof *b + size_bytes);

    if (b)
        *b = (struct kg_arena_block){NULL, size_bytes, 0};
    return b;
}

static struct kg_arena_block *pool_take(struct kg_arena_pool *p)
{
    struct kg_arena_block *b = p->free_blocks;

    if (!b)
        return block_new(p->block_bytes);
    p->free_blocks = b->next;
    p->free_count--;
    b->used_bytes = 0;
    return b;
}

static void pool_give(struct kg_arena_pool *p, struct kg_arena_block *b)
{
    if (TWIN || b->size_bytes != p->block_bytes || p->free_count >= p->keep_count) {
        free(b);
        return;
    }
    b->next = p->free_blocks;
    p->free_blocks = b;
    p->free_count++;
}

void kg_arena_init(struct kg_arena *a, struct kg_arena_pool *pool, size_t max_bytes)
{
    *a = (struct kg_arena){NULL, pool, 0, max_bytes};
}

/* A block of its own goes behind the newest one, whose free rest stays in use. */
static void *alloc_own(struct kg_arena *a, size_t n)
{
    struct kg_arena_block *b = block_new(n), **at = a->blocks ? &a->blocks->next : &a->blocks;

    if (!b)
        return NULL;
    b->used_bytes = n;
    b->next = *at;
    *at = b;
    return b + 1;
}

static void *alloc_shared(struct kg_arena *a, size_t size)
{
    struct kg_arena_block *b = a->blocks;
    void *result;

    if (!b || size > b->size_bytes - b->used_bytes) {
        b = pool_take(a->pool);
        if (!b)
            return NULL;
        b->next = a->blocks;
        a->blocks = b;
    }
    result = (char *)(b + 1) + b->used_bytes;
    b->used_bytes += size;
    return result;
}

void *kg_arena_alloc(struct kg_arena *a, size_t n)
{
    size_t size;
    void *result;

    if (a->used_bytes > a->max_bytes || n > a->max_bytes - a->used_bytes || n > SIZE_MAX / 2)
        return NULL;
    size = n ? (n + 15) & ~(size_t)15 : 16;
    if (TWIN || size > a->pool->block_bytes)
        result = alloc_own(a, n);
    else
        result = alloc_shared(a, size);
    if (result)
        a->used_bytes += size;
    return result;
}

char *kg_arena_copy(struct kg_arena *a, const void *bytes, size_t n)
{
    char *copy = n < SIZE_MAX ? kg_arena_alloc(a, n + 1) : NULL;

    if (!copy)
        return NULL;
    if (n > 0)
        memcpy(copy, bytes, n);
    copy[n] = '\0';
    return copy;
}

void kg_arena_fini(struct kg_arena *a)
{
    while (a->blocks) {
        struct kg_arena_block *b = a->blocks;
        a->blocks = b->next;
        pool_give(a->pool, b);
    }
    a->used_bytes = 0;
}
