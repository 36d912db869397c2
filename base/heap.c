/* SPDX-License-Identifier: Apache-2.0 */
/* A binary heap of deadlines. The difficulty: every move of a node must be written into the node.
 */
#include "base/heap.h"
#include "base/err.h"
#include <stdlib.h>

void kg_heap_init(struct kg_heap *h)
{
    *h = (struct kg_heap){0};
}

void kg_heap_fini(struct kg_heap *h)
{
    free(h->nodes);
    *h = (struct kg_heap){0};
}

int kg_heap_reserve(struct kg_heap *h, size_t n)
{
    struct kg_heap_node **nodes;
    size_t cap = h->cap ? h->cap : 16;

    if (n <= h->cap)
        return 0;
    if (n > SIZE_MAX / 2 / sizeof *nodes)
        return KG_ENOMEM;
    while (cap < n)
        cap *= 2;
    nodes = realloc(h->nodes, cap * sizeof *nodes);
    if (!nodes)
        return KG_ENOMEM;
    h->nodes = nodes;
    h->cap = cap;
    return 0;
}

static void put(struct kg_heap *h, size_t place, struct kg_heap_node *n)
{
    h->nodes[place - 1] = n;
    n->place = place;
}

static void sift_up(struct kg_heap *h, struct kg_heap_node *n)
{
    size_t at = n->place;

    while (at > 1 && h->nodes[at / 2 - 1]->due_ms > n->due_ms) {
        put(h, at, h->nodes[at / 2 - 1]);
        at /= 2;
    }
    put(h, at, n);
}

static void sift_down(struct kg_heap *h, struct kg_heap_node *n)
{
    size_t at = n->place, child;

    while ((child = at * 2) <= h->count) {
        if (child < h->count && h->nodes[child]->due_ms < h->nodes[child - 1]->due_ms)
            child++;
        if (h->nodes[child - 1]->due_ms >= n->due_ms)
            break;
        put(h, at, h->nodes[child - 1]);
        at = child;
    }
    put(h, at, n);
}

int kg_heap_set(struct kg_heap *h, struct kg_heap_node *n, int64_t due_ms)
{
    if (n->place == 0) {
        int rc = kg_heap_reserve(h, h->count + 1);
        if (rc != 0)
            return rc;
        put(h, ++h->count, n);
    }
    KG_ASSERT(n->place <= h->count && h->nodes[n->place - 1] == n);
    n->due_ms = due_ms;
    sift_up(h, n);
    sift_down(h, n);
    return 0;
}

void kg_heap_remove(struct kg_heap *h, struct kg_heap_node *n)
{
    struct kg_heap_node *last;

    if (n->place == 0)
        return;
    KG_ASSERT(n->place <= h->count && h->nodes[n->place - 1] == n);
    last = h->nodes[h->count-- - 1];
    if (last != n) {
        put(h, n->place, last);
        sift_up(h, last);
        sift_down(h, last);
    }
    n->place = 0;
}

struct kg_heap_node *kg_heap_first(const struct kg_heap *h)
{
    return h->count ? h->nodes[0] : NULL;
}
