/* SPDX-License-Identifier: Apache-2.0 */
/* The hash table, open addressing with linear probing. The difficulty: names in it may be chosen by
 * strangers, so the hash is SipHash with a key of this process: without it collisions can be aimed.
 */
#include "base/map.h"
#include "base/err.h"
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/random.h>

#define FIRST_CAP 16

static uint64_t hash_key[2];
static bool hash_keyed;

/* A keyed FNV would not do: its state can be steered without knowing the key. */
static void draw_hash_key(void)
{
    const void *kernels = (const void *)getauxval(AT_RANDOM);

    if (hash_keyed)
        return;
    hash_keyed = true;
    if (getrandom(hash_key, sizeof hash_key, 0) == (ssize_t)sizeof hash_key)
        return;
    /* An old kernel or a strict filter: 16 random bytes came with our own exec. */
    KG_ASSERT(kernels != NULL);
    memcpy(hash_key, kernels, sizeof hash_key);
}

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32) + v[3];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

/* SipHash-1-3: one round a word and three at the end, the usual choice for tables. */
static uint64_t hash_of(struct kg_str s)
{
    uint64_t v[4] = {
        hash_key[0] ^ UINT64_C(0x736f6d6570736575), hash_key[1] ^ UINT64_C(0x646f72616e646f6d),
        hash_key[0] ^ UINT64_C(0x6c7967656e657261), hash_key[1] ^ UINT64_C(0x7465646279746573)};
    uint64_t word, last = (uint64_t)s.n << 56;
    size_t at = 0;

    for (; s.n - at >= 8; at += 8) {
        memcpy(&word, s.p + at, 8);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    for (size_t i = at; i < s.n; i++)
        last |= (uint64_t)(unsigned char)s.p[i] << 8 * (i - at);
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* A slot is empty (no key), live (a value), or a tombstone: a key that is only this mark. */
static char tombstone[1];

static bool is_live(const struct kg_map_slot *s)
{
    return s->key != NULL && s->key != tombstone;
}

void kg_map_init(struct kg_map *m)
{
    draw_hash_key();
    *m = (struct kg_map){0};
}

void kg_map_fini(struct kg_map *m)
{
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->slots[i]))
            free(m->slots[i].key);
    free(m->slots);
    kg_map_init(m);
}

static struct kg_map_slot *find(const struct kg_map *m, struct kg_str key, uint64_t hash)
{
    if (m->cap == 0)
        return NULL;
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct kg_map_slot *s = &m->slots[i];

        if (!s->key)
            return NULL; /* always reached: a quarter of the slots is empty */
        if (is_live(s) && s->hash == hash && kg_str_eq((struct kg_str){s->key, s->key_n}, key))
            return s;
    }
}

static struct kg_map_slot *find_empty(struct kg_map_slot *slots, size_t cap, uint64_t hash)
{
    size_t i = hash & (cap - 1);

    while (slots[i].key)
        i = (i + 1) & (cap - 1);
    return &slots[i];
}

/* Makes sure that one more slot may be used. A new table is at most half full and has no
 * tombstones, so that sets and removes in turn do not rehash again and again. */
static int make_room(struct kg_map *m)
{
    struct kg_map_slot *slots;
    size_t cap = FIRST_CAP;

    if (m->cap > 0 && m->used + 1 <= m->cap / 4 * 3)
        return 0;
    while (cap < (m->count + 1) * 2)
        cap *= 2;
    slots = calloc(cap, sizeof *slots);
    if (!slots)
        return KG_ENOMEM;
    for (size_t i = 0; i < m->cap; i++)
        if (is_live(&m->slots[i]))
            *find_empty(slots, cap, m->slots[i].hash) = m->slots[i];
    free(m->slots);
    m->slots = slots;
    m->cap = cap;
    m->used = m->count;
    return 0;
}

int kg_map_set(struct kg_map *m, struct kg_str key, void *value)
{
    const uint64_t hash = hash_of(key);
    struct kg_map_slot *s = find(m, key, hash);
    char *copy;

    KG_ASSERT(value != NULL);
    if (s) {
        s->value = value;
        return 0;
    }
    if (make_room(m) != 0)
        return KG_ENOMEM;
    copy = malloc(key.n + 1);
    if (!copy)
        return KG_ENOMEM;
    if (key.n > 0)
        memcpy(copy, key.p, key.n);
    copy[key.n] = '\0';
    *find_empty(m->slots, m->cap, hash) = (struct kg_map_slot){copy, key.n, hash, value};
    m->count++;
    m->used++;
    return 0;
}

void *kg_map_get(const struct kg_map *m, struct kg_str key)
{
    const struct kg_map_slot *s = find(m, key, hash_of(key));

    return s ? s->value : NULL;
}

void *kg_map_remove(struct kg_map *m, struct kg_str key)
{
    struct kg_map_slot *s = find(m, key, hash_of(key)), *next;
    void *value;

    if (!s)
        return NULL;
    value = s->value;
    free(s->key);
    next = &m->slots[((size_t)(s - m->slots) + 1) & (m->cap - 1)];
    *s = (struct kg_map_slot){0};
    if (next->key) /* a probe may have to go on past this slot */
        s->key = tombstone;
    else
        m->used--;
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
