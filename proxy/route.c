/* SPDX-License-Identifier: Apache-2.0 */
/* Two hash tables: hosts to a host id, and (host id, prefix) to a service.
 * The difficulty: a look-up asks once per label of the host and once per segment of the path, with
 * hashes carried along, so that neither the number of routes nor a long path costs anything. */
#include "proxy/route.h"
#include "base/err.h"
#include "base/limits.h"
#include "proxy/target.h"
#include <stdlib.h>

#define FNV_START 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u
#define MAX_LABELS 128 /* of a host of TARGET_MAX_HOST_BYTES, plus "any" */
#define FIRST_SLOTS 64

struct host {
    char *name; /* "" any, "a.b" exact, ".b" a wildcard's suffix */
    size_t n;
    uint64_t hash;
    size_t longest; /* bytes of its longest prefix */
};
struct route {
    char *prefix; /* "" for "/"; the slash at its end is cut off */
    size_t n;
    uint64_t hash;
    uint32_t host, service;
};
/* Slots hold 1 + an index; 0 is free. Their number is a power of two, at least twice the entries.
 */
struct index {
    uint32_t *slot;
    size_t size;
};
struct route_table {
    struct host *hosts;
    struct route *routes;
    size_t host_count, route_count, host_cap, route_cap;
    struct index by_host, by_prefix;
};

/* Hosts are hashed from their end, so that one pass gives the hashes of all suffixes. */
static uint64_t hash_byte(uint64_t h, char c)
{
    return (h ^ (unsigned char)c) * FNV_PRIME;
}

static uint64_t hash_host(struct kg_str s)
{
    uint64_t h = FNV_START;
    for (size_t i = s.n; i > 0; i--)
        h = hash_byte(h, s.p[i - 1]);
    return h;
}

static uint64_t start_prefix(uint32_t host)
{
    return (FNV_START ^ host) * FNV_PRIME;
}

static uint64_t hash_prefix(uint32_t host, struct kg_str s)
{
    uint64_t h = start_prefix(host);
    for (size_t i = 0; i < s.n; i++)
        h = hash_byte(h, s.p[i]);
    return h;
}

/* FNV's low bits are its weak ones. */
static size_t place(const struct index *x, uint64_t hash)
{
    return (size_t)(hash ^ (hash >> 29)) & (x->size - 1);
}

static void index_put(struct index *x, uint64_t hash, size_t entry)
{
    size_t at = place(x, hash);
    while (x->slot[at])
        at = (at + 1) & (x->size - 1);
    x->slot[at] = (uint32_t)(entry + 1);
}

static const struct host *find_host(const struct route_table *t, uint64_t hash, struct kg_str name)
{
    const struct index *x = &t->by_host;
    for (size_t at = place(x, hash); x->slot[at]; at = (at + 1) & (x->size - 1)) {
        const struct host *h = &t->hosts[x->slot[at] - 1];
        if (h->hash == hash && kg_str_eq((struct kg_str){h->name, h->n}, name))
            return h;
    }
    return NULL;
}

static const struct route *find_prefix(const struct route_table *t, uint32_t host, uint64_t hash,
                                       struct kg_str prefix)
{
    const struct index *x = &t->by_prefix;
    for (size_t at = place(x, hash); x->slot[at]; at = (at + 1) & (x->size - 1)) {
        const struct route *r = &t->routes[x->slot[at] - 1];
        if (r->hash == hash && r->host == host &&
            kg_str_eq((struct kg_str){r->prefix, r->n}, prefix))
            return r;
    }
    return NULL;
}

/* --- building -----------------------------------------------------------------------------------
 */

struct route_table *route_table_new(void)
{
    struct route_table *t = calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->by_host.size = t->by_prefix.size = FIRST_SLOTS;
    t->by_host.slot = calloc(FIRST_SLOTS, sizeof *t->by_host.slot);
    t->by_prefix.slot = calloc(FIRST_SLOTS, sizeof *t->by_prefix.slot);
    if (!t->by_host.slot || !t->by_prefix.slot) {
        route_table_free(t);
        return NULL;
    }
    return t;
}

void route_table_free(struct route_table *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->host_count; i++)
        free(t->hosts[i].name);
    for (size_t i = 0; i < t->route_count; i++)
        free(t->routes[i].prefix);
    free(t->hosts);
    free(t->routes);
    free(t->by_host.slot);
    free(t->by_prefix.slot);
    free(t);
}

size_t route_table_count(const struct route_table *t)
{
    return t->route_count;
}

/* Room for one more entry in an array of `width`-byte entries. */
static int grow_array(void **array, size_t *cap, size_t count, size_t width)
{
    if (count < *cap)
        return 0;
    size_t more = *cap ? *cap * 2 : FIRST_SLOTS / 2;
    void *p = realloc(*array, more * width);
    if (!p)
        return KG_ENOMEM;
    *array = p;
    *cap = more;
    return 0;
}

/* An index twice as large, empty; the caller puts its entries in again. 1: grown, 0: no need. */
static int grow_index(struct index *x, size_t count)
{
    if ((count + 1) * 2 <= x->size)
        return 0;
    uint32_t *slot = calloc(x->size * 2, sizeof *slot);
    if (!slot)
        return KG_ENOMEM;
    free(x->slot);
    *x = (struct index){slot, x->size * 2};
    return 1;
}

static int reserve_host(struct route_table *t)
{
    int rc = grow_array((void **)&t->hosts, &t->host_cap, t->host_count, sizeof *t->hosts);
    if (!rc)
        rc = grow_index(&t->by_host, t->host_count);
    for (size_t i = 0; rc > 0 && i < t->host_count; i++)
        index_put(&t->by_host, t->hosts[i].hash, i);
    return rc < 0 ? rc : 0;
}

static int reserve_route(struct route_table *t)
{
    int rc = grow_array((void **)&t->routes, &t->route_cap, t->route_count, sizeof *t->routes);
    if (!rc)
        rc = grow_index(&t->by_prefix, t->route_count);
    for (size_t i = 0; rc > 0 && i < t->route_count; i++)
        index_put(&t->by_prefix, t->routes[i].hash, i);
    return rc < 0 ? rc : 0;
}

/* Checks the host of a route; gives its name as the table keeps it. */
static int host_key(struct kg_str host, struct target *scratch, struct kg_str *key)
{
    bool wild = host.n > 2 && host.p[0] == '*' && host.p[1] == '.';
    *key = KG_STR("");
    if (host.n == 0)
        return 0;
    if (wild)
        host = (struct kg_str){host.p + 2, host.n - 2};
    if (target_check_host(host, scratch))
        return KG_EINVAL;
    if (host.p[0] == '[' ? wild || host.p[host.n - 1] != ']' : memchr(host.p, ':', host.n) != NULL)
        return KG_EINVAL; /* a port cannot be matched */
    if (wild) {
        if (scratch->host_n + 1 >= sizeof scratch->host)
            return KG_EINVAL;
        memmove(scratch->host + 1, scratch->host, scratch->host_n + 1);
        scratch->host[0] = '.';
        scratch->host_n++;
    }
    *key = target_host(scratch);
    return 0;
}

static int host_index(struct route_table *t, struct kg_str key, uint32_t *index)
{
    uint64_t hash = hash_host(key);
    const struct host *known = find_host(t, hash, key);
    if (known) {
        *index = (uint32_t)(known - t->hosts);
        return 0;
    }
    int rc = reserve_host(t);
    char *name = rc ? NULL : strndup(key.p, key.n);
    if (!name)
        return KG_ENOMEM;
    *index = (uint32_t)t->host_count;
    t->hosts[t->host_count] = (struct host){name, key.n, hash, 0};
    index_put(&t->by_host, hash, t->host_count++);
    return 0;
}

int route_table_add(struct route_table *t, struct kg_str host, struct kg_str prefix,
                    uint32_t service)
{
    struct target scratch;
    struct kg_str key;
    uint32_t h;

    if (host_key(host, &scratch, &key) || target_check_path(prefix) ||
        memchr(prefix.p, '?', prefix.n))
        return KG_EINVAL;
    if (t->route_count == KG_MAX_ROUTES || host.n + prefix.n > KG_MAX_ROUTE_BYTES)
        return KG_ELIMIT;
    if (prefix.p[prefix.n - 1] == '/')
        prefix.n--;
    int rc = host_index(t, key, &h);
    if (rc)
        return rc;
    uint64_t hash = hash_prefix(h, prefix);
    if (find_prefix(t, h, hash, prefix))
        return KG_ECONFLICT;
    rc = reserve_route(t);
    char *copy = rc ? NULL : strndup(prefix.n ? prefix.p : "", prefix.n);
    if (!copy)
        return KG_ENOMEM;
    t->routes[t->route_count] = (struct route){copy, prefix.n, hash, h, service};
    index_put(&t->by_prefix, hash, t->route_count++);
    if (t->hosts[h].longest < prefix.n)
        t->hosts[h].longest = prefix.n;
    return 0;
}

/* --- looking up ---------------------------------------------------------------------------------
 */

/* The host's longest prefix that ends where a segment of the path ends. */
static const struct route *longest_prefix(const struct route_table *t, const struct host *host,
                                          struct kg_str path)
{
    uint32_t id = (uint32_t)(host - t->hosts);
    uint64_t hash = start_prefix(id);
    const struct route *best = NULL;
    for (size_t i = 0; i <= path.n && i <= host->longest; i++) {
        if (i == path.n || path.p[i] == '/') {
            const struct route *r = find_prefix(t, id, hash, (struct kg_str){path.p, i});
            best = r ? r : best;
        }
        if (i < path.n)
            hash = hash_byte(hash, path.p[i]);
    }
    return best;
}

/* The hosts of the table that cover `name`, the farthest first: any, wildcards, exact. */
static size_t covering_hosts(const struct route_table *t, struct kg_str name,
                             const struct host *found[MAX_LABELS + 2])
{
    size_t count = 0;
    uint64_t hash = FNV_START;
    const struct host *h = find_host(t, hash, KG_STR(""));
    if (h)
        found[count++] = h;
    if (count == t->host_count)
        return count; /* no route names a host */
    for (size_t i = name.n; i > 0; i--) {
        hash = hash_byte(hash, name.p[i - 1]);
        if (i > 1 && name.p[i - 1] != '.')
            continue;
        h = find_host(t, hash, (struct kg_str){name.p + i - 1, name.n - i + 1});
        if (h && count < MAX_LABELS + 2)
            found[count++] = h;
    }
    return count;
}

bool route_table_find(const struct route_table *t, struct kg_str host, struct kg_str path,
                      struct route_match *out)
{
    const struct host *found[MAX_LABELS + 2];
    size_t count = covering_hosts(t, host, found);
    if (path.n == 0 || path.p[0] != '/')
        path = KG_STR("/"); /* "*" */
    while (count > 0) {
        const struct route *r = longest_prefix(t, found[--count], path);
        if (r) {
            *out = (struct route_match){r->service, r->n};
            return true;
        }
    }
    return false;
}
