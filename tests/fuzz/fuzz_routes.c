/* SPDX-License-Identifier: Apache-2.0 */
/* The route table against one that looks at every route. Lines: "+HOST PREFIX" adds a route, all
 * others are "HOST PATH" to be found. The difficulty: which of two that match is the closer one. */
#include "fuzz.h"
#include "proxy/route.h"
#include "proxy/target.h"

#define MAX_NAIVE 64

struct naive {
    char host[300];
    struct kg_str prefix; /* of the input, without a slash at its end */
};
static struct naive routes[MAX_NAIVE];
static uint32_t count;

static void lower(char *out, size_t cap, struct kg_str s)
{
    KG_ASSERT(kg_str_copy(out, cap, s));
    for (; *out; out++)
        if (*out >= 'A' && *out <= 'Z')
            *out |= 0x20;
}

/* How close a route's host is to one asked for; -1: another one. */
static int closeness(const char *route, struct kg_str host)
{
    size_t n = strlen(route);

    if (n == 0)
        return 0;
    if (route[0] != '*')
        return kg_str_eq(kg_str_of(route), host) ? 1000 : -1;
    n -= 1; /* ".b" */
    return host.n > n && memcmp(host.p + host.n - n, route + 1, n) == 0 ? (int)n : -1;
}

static bool covers(struct kg_str prefix, struct kg_str path)
{
    return prefix.n == 0 ||
           (kg_str_has_prefix(path, prefix) && (path.n == prefix.n || path.p[prefix.n] == '/'));
}

static const struct naive *naive_find(struct kg_str host, struct kg_str path)
{
    const struct naive *best = NULL;
    int best_host = -1;

    for (uint32_t i = 0; i < count; i++) {
        int close = closeness(routes[i].host, host);
        if (close < 0 || !covers(routes[i].prefix, path))
            continue;
        if (!best || close > best_host ||
            (close == best_host && routes[i].prefix.n > best->prefix.n)) {
            best = &routes[i];
            best_host = close;
        }
    }
    return best;
}

static bool split(struct kg_str line, struct kg_str *host, struct kg_str *path)
{
    const char *space = line.n ? memchr(line.p, ' ', line.n) : NULL;

    if (!space)
        return false;
    *host = (struct kg_str){line.p, (size_t)(space - line.p)};
    *path = (struct kg_str){space + 1, line.n - host->n - 1};
    return true;
}

static bool is_known(const char *host, struct kg_str prefix)
{
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(routes[i].host, host) == 0 && kg_str_eq(routes[i].prefix, prefix))
            return true;
    return false;
}

static void add(struct route_table *t, struct kg_str host, struct kg_str prefix)
{
    int rc = count < MAX_NAIVE ? route_table_add(t, host, prefix, count) : KG_EINVAL;
    struct naive *r = &routes[count];

    if (rc != 0 && rc != KG_ECONFLICT)
        return;
    KG_ASSERT(prefix.n > 0 && prefix.p[0] == '/' && !target_check_path(prefix));
    if (prefix.p[prefix.n - 1] == '/')
        prefix.n--;
    lower(r->host, sizeof r->host, host);
    if (strlen(r->host) > 0 && r->host[strlen(r->host) - 1] == '.')
        r->host[strlen(r->host) - 1] = '\0';
    KG_ASSERT(is_known(r->host, prefix) == (rc == KG_ECONFLICT));
    r->prefix = prefix;
    count += rc == 0;
    KG_ASSERT(route_table_count(t) == count);
}

static void find(const struct route_table *t, struct kg_str host, struct kg_str path)
{
    struct route_match match;
    struct target asked = {.host_n = 0};
    const struct naive *wanted;
    bool found;

    if (target_check_path(path) || (host.n > 0 && target_check_host(host, &asked)))
        return;
    wanted = naive_find(target_host(&asked), path);
    found = route_table_find(t, target_host(&asked), path, &match);
    KG_ASSERT(found == (wanted != NULL));
    if (found) {
        KG_ASSERT(match.service == (uint32_t)(wanted - routes));
        KG_ASSERT(match.prefix_n == wanted->prefix.n);
        KG_ASSERT(match.prefix_n >= path.n || path.p[match.prefix_n] == '/');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    struct route_table *t = route_table_new();
    struct kg_str line, host, path;

    KG_ASSERT(t);
    count = 0;
    while (fuzz_line(&f, &line)) {
        bool adds = line.n > 0 && line.p[0] == '+';
        line = (struct kg_str){line.p + adds, line.n - adds};
        if (!split(line, &host, &path))
            continue;
        if (adds)
            add(t, host, path);
        else
            find(t, host, path);
    }
    route_table_free(t);
    return 0;
}
