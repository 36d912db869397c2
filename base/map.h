/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table from bytes to a pointer: open addressing, keys copied in.
 * The difficulty: keys may come from peers' data, so the hash is keyed per process. */
#ifndef KG_BASE_MAP_H
#define KG_BASE_MAP_H

#include "base/str.h"

struct kg_map_slot {
    char *key;
    size_t key_n;
    uint64_t hash;
    void *value;
};
struct kg_map {
    struct kg_map_slot *slots;
    size_t count, used, cap; /* used counts tombstones too */
};

void kg_map_init(struct kg_map *m);
void kg_map_fini(struct kg_map *m); /* the values stay the caller's */
int kg_map_set(struct kg_map *m, struct kg_str key,
               void *value); /* 0 or KG_ENOMEM; replaces; value not NULL */
void *kg_map_get(const struct kg_map *m, struct kg_str key); /* NULL: none */
void *kg_map_remove(struct kg_map *m, struct kg_str key);    /* the value, or NULL */
/* Walks: *at starts at 0; false at the end. The map must not change meanwhile. */
bool kg_map_next(const struct kg_map *m, size_t *at, struct kg_str *key, void **value);

/* A 64-bit number as a key. */
#define KG_U64_KEY(number) ((struct kg_str){(const char *)&(number), sizeof(uint64_t)})

#endif
