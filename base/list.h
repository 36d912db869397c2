/* SPDX-License-Identifier: Apache-2.0 */
/* An intrusive doubly linked list; a node that is in no list points at itself. */
#ifndef KG_BASE_LIST_H
#define KG_BASE_LIST_H

#include "base/heap.h"
#include <stdbool.h>

struct kg_list {
    struct kg_list *next, *prev;
};

static inline void kg_list_init(struct kg_list *l)
{
    l->next = l->prev = l;
}
static inline bool kg_list_empty(const struct kg_list *l)
{
    return l->next == l;
}
static inline void kg_list_insert_after(struct kg_list *at, struct kg_list *n)
{
    n->prev = at;
    n->next = at->next;
    at->next->prev = n;
    at->next = n;
}
static inline void kg_list_push_back(struct kg_list *l, struct kg_list *n)
{
    kg_list_insert_after(l->prev, n);
}
static inline void kg_list_push_front(struct kg_list *l, struct kg_list *n)
{
    kg_list_insert_after(l, n);
}
static inline void kg_list_remove(struct kg_list *n)
{
    n->prev->next = n->next;
    n->next->prev = n->prev;
    kg_list_init(n);
}
static inline struct kg_list *kg_list_first(struct kg_list *l)
{
    return kg_list_empty(l) ? NULL : l->next;
}
#define KG_LIST_ENTRY(ptr, type, member) KG_CONTAINER_OF(ptr, type, member)
#define KG_LIST_EACH(it, list) for (struct kg_list *it = (list)->next; it != (list); it = it->next)
/* The body may remove `it`. */
#define KG_LIST_EACH_SAFE(it, list)                                                                \
    for (struct kg_list *it = (list)->next, *it##_next = it->next; it != (list);                   \
         it = it##_next, it##_next = it->next)

#endif
