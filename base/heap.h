/* SPDX-License-Identifier: Apache-2.0 */
/* An intrusive binary heap of deadlines: the root is the earliest. Nothing is allocated per entry.
 * The difficulty: a node knows its place, so that it can be moved or removed in log n. */
#ifndef KG_BASE_HEAP_H
#define KG_BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct kg_heap_node {
    int64_t due_ms;
    size_t place; /* 1-based; 0 = in no heap */
};
struct kg_heap {
    struct kg_heap_node **nodes;
    size_t count, cap;
};

void kg_heap_init(struct kg_heap *h);
void kg_heap_fini(struct kg_heap *h);
/* Room for n nodes in all: up to that count kg_heap_set cannot fail. 0 or KG_ENOMEM. */
int kg_heap_reserve(struct kg_heap *h, size_t n);
/* Puts the node in, or moves it, so that it is due at due_ms. 0 or KG_ENOMEM. */
int kg_heap_set(struct kg_heap *h, struct kg_heap_node *n, int64_t due_ms);
void kg_heap_remove(struct kg_heap *h, struct kg_heap_node *n); /* no-op when it is in no heap */
struct kg_heap_node *kg_heap_first(const struct kg_heap *h);    /* NULL when empty */

#define KG_CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#endif
