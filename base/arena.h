/* SPDX-License-Identifier: Apache-2.0 */
/* One arena per exchange: many small allocations, one release. Under sanitizers each allocation is
 * one of its own, so that they see through it. */
#ifndef KG_BASE_ARENA_H
#define KG_BASE_ARENA_H

#include <stddef.h>

struct kg_arena_block;
struct kg_arena {
    struct kg_arena_block *blocks; /* newest first */
    struct kg_arena_pool *pool;    /* where blocks come from and return to */
    size_t used_bytes, max_bytes;
};

/* Keeps freed blocks of one size for the next exchange, so that a warm request calls no malloc. */
struct kg_arena_pool {
    struct kg_arena_block *free_blocks;
    size_t block_bytes, free_count, keep_count;
};

void kg_arena_pool_init(struct kg_arena_pool *p, size_t block_bytes, size_t keep_count);
void kg_arena_pool_fini(struct kg_arena_pool *p);

void kg_arena_init(struct kg_arena *a, struct kg_arena_pool *pool, size_t max_bytes);
void *kg_arena_alloc(struct kg_arena *a,
                     size_t n); /* aligned to 16; NULL: no memory or over the cap */
char *kg_arena_copy(struct kg_arena *a, const void *bytes, size_t n); /* with a NUL behind it */
void kg_arena_fini(
    struct kg_arena *a); /* gives all back to the pool; the arena may be used again */

#endif
