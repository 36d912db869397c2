/* SPDX-License-Identifier: Apache-2.0 */
/* Open addressing with tombstones. The difficulty: keys may be chosen by a peer, so the hash begins
 * from a random value of this process: which keys collide cannot be known from outside. */
#include "base/map.h"
#include "base/err.h"
#include <stdlib.h>
#include <sys/random.h>

static char tombstone; /* its address marks a slot that was used */

static uint64_t hash_key(struct kg_str key)
{
    static uint64_t secret;
    uint64_t h;

    if (secret == 0 && getrandom(&secret, sizeof secret, 0) != sizeof secret)
        secret = (uint64_t)(uintptr_t)&secret;
    h = kg_hash(key.p, key.n) ^ secret;
    h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93u;
    h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93u;
    return h ^ (h >> 32) ^ secret;
}

void kg_map_init(struct kg_map *m)
{
    *m = (struct kg_map){0};
}

static bool is_live(const struct kg_map_slot *s)
{
    return s->key && s->key != &tombstone;
}

void kg_map_fini(struct kg_map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->slots[i]))
            free(m->slots[i].key);
    free(m->slots);
    *m = (struct kg_map){0};
}

static struct kg_map_slot *find(const struct kg_map *m, struct kg_str key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct kg_map_slot *s = &m->slots[i];
        if (!s->key)
            return NULL;
        if (s->key != &tombstone && s->hash == hash && s->key_n == key.n &&
            memcmp(s->key, key.p, key.n) == 0)
            return s;
    }
}

static struct kg_map_slot *free_slot(struct kg_map_slot *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);

    while (slots[i].key && slots[i].key != &tombstone)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

/* Keeps at least a quarter of the slots never used, so that every search ends soon. */
static int make_room(struct kg_map *m)
{
    struct kg_map_slot *slots;
    size_t cap = 16;

    if ((m->used + 1) * 4 <= m->cap * 3)
        return 0;
    while ((m->count + 1) * 2 > cap)
        cap *= 2;
    slots = calloc(cap, sizeof *slots);
    if (!slots)
        return KG_ENOMEM;
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->slots[i]))
            *free_slot(slots, cap, m->slots[i].hash) = m->slots[i];
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->used = m->count;
    return 0;
}

int kg_map_set(struct kg_map *m, struct kg_str key, void *value)
{
    uint64_t hash = hash_key(key);
    struct kg_map_slot *s = find(m, key, hash);
    char *copy;

    KG_ASSERT(value);
    if (s) {
        s->value = value;
        return 0;
    }
    copy = malloc(key.n + 1);
    if (!copy || make_room(m) != 0) {
        free(copy);
        return KG_ENOMEM;
    }
    memcpy(copy, key.p, key.n);
    copy[key.n] = '\0';
    s = free_slot(m->slots, m->cap, hash);
    m->used += s->key == NULL;
    m->count++;
    *s = (struct kg_map_slot){copy, key.n, hash, value};
    return 0;
}

void *kg_map_get(const struct kg_map *m, struct kg_str key)
{
    struct kg_map_slot *s = m->cap ? find(m, key, hash_key(key)) : NULL;

    return s ? s->value : NULL;
}

void *kg_map_remove(struct kg_map *m, struct kg_str key)
{
    struct kg_map_slot *s = m->cap ? find(m, key, hash_key(key)) : NULL;
    void *value;

    if (!s)
        return NULL;
    value = s->value;
    free(s->key);
    *s = (struct kg_map_slot){.key = &tombstone};
    m->count--;
    return value;
}

bool kg_map_next(const struct kg_map *m, size_t *at, struct kg_str *key, void **value)
{
    while (*at < m->cap) {
        const struct kg_map_slot *s = &m->slots[(*at)++];
        if (!is_live(s))
            continue;
        *key = (struct kg_str){s->key, s->key_n};
        *value = s->value;
        return true;
    }
    return false;
}
