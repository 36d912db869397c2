/* SPDX-License-Identifier: Apache-2.0 */
/* The route table against a plain scan, and its cost as it grows.
 * The difficulty: longest match over two dimensions, host before path. */
#include "base/clock.h"
#include "base/err.h"
#include "base/limits.h"
#include "proxy/route.h"
#include <check.h>
#include <stdio.h>

#define NONE UINT32_MAX

static uint32_t find(const struct route_table *t, const char *host, const char *path, size_t *n)
{
    struct route_match m;
    if (!route_table_find(t, kg_str_of(host), kg_str_of(path), &m))
        return NONE;
    if (n)
        *n = m.prefix_n;
    return m.service;
}

static int add(struct route_table *t, const char *host, const char *prefix, uint32_t service)
{
    return route_table_add(t, kg_str_of(host), kg_str_of(prefix), service);
}

START_TEST(segments)
{
    struct route_table *t = route_table_new();
    size_t n;
    ck_assert_int_eq(add(t, "", "/a", 1), 0);
    ck_assert_uint_eq(find(t, "", "/a", &n), 1);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(find(t, "", "/a/", NULL), 1);
    ck_assert_uint_eq(find(t, "x.y", "/a/b", NULL), 1);
    ck_assert_uint_eq(find(t, "", "/a//b", NULL), 1);
    ck_assert_uint_eq(find(t, "", "/ab", NULL), NONE);
    ck_assert_uint_eq(find(t, "", "/A", NULL), NONE);
    ck_assert_uint_eq(find(t, "", "/%61", NULL), NONE);
    ck_assert_uint_eq(find(t, "", "/a%2Fb", NULL), NONE);
    ck_assert_uint_eq(find(t, "", "/a;x", NULL), NONE);
    ck_assert_uint_eq(find(t, "", "//a", NULL), NONE);
    ck_assert_uint_eq(find(t, "", "/", NULL), NONE);
    ck_assert_uint_eq(find(t, "", "*", NULL), NONE);
    ck_assert_int_eq(add(t, "", "/", 2), 0);
    ck_assert_int_eq(add(t, "", "/a/b/c", 3), 0);
    ck_assert_uint_eq(find(t, "", "*", &n), 2);
    ck_assert_uint_eq(n, 0);
    ck_assert_uint_eq(find(t, "", "/ab", NULL), 2);
    ck_assert_uint_eq(find(t, "", "/a/b", NULL), 1);
    ck_assert_uint_eq(find(t, "", "/a/b/c", &n), 3);
    ck_assert_uint_eq(n, 6);
    ck_assert_uint_eq(find(t, "", "/a/b/c/d/e", NULL), 3);
    ck_assert_uint_eq(find(t, "", "/a/b/cd", NULL), 1);
    ck_assert_uint_eq(route_table_count(t), 3);
    route_table_free(t);
}
END_TEST

START_TEST(hosts)
{
    struct route_table *t = route_table_new();
    ck_assert_int_eq(add(t, "", "/", 0), 0);
    ck_assert_int_eq(add(t, "*.b.c", "/", 1), 0);
    ck_assert_int_eq(add(t, "*.a.b.c", "/", 2), 0);
    ck_assert_int_eq(add(t, "X.a.b.c", "/p", 3), 0);
    ck_assert_int_eq(add(t, "*.b.c", "/p/q", 4), 0);
    ck_assert_int_eq(add(t, "", "/p/q/r", 5), 0);
    ck_assert_int_eq(add(t, "[::1]", "/", 6), 0);
    ck_assert_uint_eq(find(t, "", "/", NULL), 0);
    ck_assert_uint_eq(find(t, "b.c", "/", NULL), 0);
    ck_assert_uint_eq(find(t, "xb.c", "/", NULL), 0);
    ck_assert_uint_eq(find(t, "z.b.c", "/", NULL), 1);
    ck_assert_uint_eq(find(t, "y.z.b.c", "/", NULL), 1);
    ck_assert_uint_eq(find(t, "a.b.c", "/", NULL), 1);
    ck_assert_uint_eq(find(t, "q.a.b.c", "/", NULL), 2);
    ck_assert_uint_eq(find(t, "x.a.b.c", "/p/z", NULL), 3);
    /* No prefix of the exact host matches: the next closest host decides. */
    ck_assert_uint_eq(find(t, "x.a.b.c", "/", NULL), 2);
    /* The host comes first: its shorter prefix wins over a longer one of a farther host. */
    ck_assert_uint_eq(find(t, "x.a.b.c", "/p/q/r", NULL), 3);
    ck_assert_uint_eq(find(t, "z.b.c", "/p/q/r", NULL), 4);
    ck_assert_uint_eq(find(t, "c", "/p/q/r", NULL), 5);
    ck_assert_uint_eq(find(t, "[::1]", "/x", NULL), 6);
    ck_assert_uint_eq(find(t, "[::2]", "/x", NULL), 0);
    route_table_free(t);
}
END_TEST

START_TEST(refusals)
{
    struct route_table *t = route_table_new();
    static const struct {
        const char *host, *prefix;
        int code;
    } rows[] = {
        {"a.b", "/x", 0},
        {"A.B", "/x", KG_ECONFLICT},
        {"a.b.", "/x/", KG_ECONFLICT},
        {"*.a.b", "/x", 0},
        {"*.A.b", "/x/", KG_ECONFLICT},
        {"", "/", 0},
        {"", "/", KG_ECONFLICT},
        {"", "", KG_EINVAL},
        {"", "x", KG_EINVAL},
        {"", "*", KG_EINVAL},
        {"", "/a/../b", KG_EINVAL},
        {"", "/%2e%2e", KG_EINVAL},
        {"", "/a b", KG_EINVAL},
        {"", "/a?b", KG_EINVAL},
        {"", "/a#b", KG_EINVAL},
        {"a.b:80", "/", KG_EINVAL},
        {"[::1]:80", "/", KG_EINVAL},
        {"*.[::1]", "/", KG_EINVAL},
        {"*", "/", KG_EINVAL},
        {"*.", "/", KG_EINVAL},
        {"a.*", "/", KG_EINVAL},
        {"*.*.a", "/", KG_EINVAL},
        {"*a.b", "/", KG_EINVAL},
        {"a b", "/", KG_EINVAL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(add(t, rows[i].host, rows[i].prefix, 1) == rows[i].code, "%s %s",
                      rows[i].host, rows[i].prefix);
    ck_assert_uint_eq(route_table_count(t), 3);
    route_table_free(t);
    route_table_free(NULL);
}
END_TEST

START_TEST(limits)
{
    struct route_table *t = route_table_new();
    char prefix[KG_MAX_ROUTE_BYTES + 2];
    memset(prefix, 'a', sizeof prefix);
    prefix[0] = '/';
    for (size_t n = KG_MAX_ROUTE_BYTES - 1; n <= KG_MAX_ROUTE_BYTES + 1; n++)
        ck_assert_int_eq(route_table_add(t, KG_STR(""), (struct kg_str){prefix, n}, 1),
                         n > KG_MAX_ROUTE_BYTES ? KG_ELIMIT : 0);
    ck_assert_int_eq(
        route_table_add(t, KG_STR("h"), (struct kg_str){prefix, KG_MAX_ROUTE_BYTES}, 1), KG_ELIMIT);
    for (unsigned i = 2; i <= KG_MAX_ROUTES; i++) {
        int n = snprintf(prefix, sizeof prefix, "/%u", i);
        ck_assert_int_eq(route_table_add(t, KG_STR(""), (struct kg_str){prefix, (size_t)n}, i),
                         i == KG_MAX_ROUTES ? KG_ELIMIT : 0);
    }
    ck_assert_uint_eq(route_table_count(t), KG_MAX_ROUTES);
    ck_assert_uint_eq(find(t, "", "/777/x", NULL), 777);
    route_table_free(t);
}
END_TEST

/* --- against a scan -----------------------------------------------------------------------------
 */

static const char *const host_words[] = {"",    "a.b",     "x.a.b",   "*.b",      "*.a.b",
                                         "c.b", "*.x.a.b", "y.x.a.b", "*.y.x.a.b"};
static const char *const path_words[] = {"/a", "/b", "/ab", "/a%2Fb", "/c;d"};

struct plain {
    char host[16], prefix[64];
    uint32_t service;
};

/* How closely a route's host covers `host`: 0 not at all. */
static size_t host_rank(const char *route, const char *host)
{
    size_t n = strlen(host), suffix = strlen(route);
    if (*route == '\0')
        return 1;
    if (strcmp(route, host) == 0)
        return 1000;
    if (*route != '*' || n < suffix || strcmp(host + n - (suffix - 1), route + 1) != 0)
        return 0;
    return 1 + suffix;
}

static bool prefix_covers(const char *prefix, const char *path)
{
    size_t n = strlen(prefix);
    if (strcmp(prefix, "/") == 0)
        return true;
    return strncmp(prefix, path, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static uint32_t scan(const struct plain *routes, size_t count, const char *host, const char *path)
{
    size_t best_host = 0, best_prefix = 0;
    uint32_t service = NONE;
    for (size_t i = 0; i < count; i++) {
        size_t rank = host_rank(routes[i].host, host), n = strlen(routes[i].prefix);
        if (!rank || !prefix_covers(routes[i].prefix, path) || rank < best_host ||
            (rank == best_host && n < best_prefix))
            continue;
        best_host = rank;
        best_prefix = n;
        service = routes[i].service;
    }
    return service;
}

static unsigned draw(uint64_t *random, unsigned below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33) % below;
}

static void draw_path(uint64_t *random, char out[64])
{
    unsigned n = draw(random, 5);
    strcpy(out, n ? "" : "/");
    while (n--)
        strcat(out, path_words[draw(random, 5)]);
}

START_TEST(against_scan)
{
    uint64_t random = 99;
    for (int round = 0; round < 300; round++) {
        struct route_table *t = route_table_new();
        struct plain routes[40];
        size_t count = 0;
        for (unsigned i = 0; i < 40; i++) {
            struct plain *r = &routes[count];
            strcpy(r->host, host_words[draw(&random, 9)]);
            draw_path(&random, r->prefix);
            r->service = i;
            int rc = add(t, r->host, r->prefix, i);
            ck_assert(rc == 0 || rc == KG_ECONFLICT);
            count += rc == 0;
        }
        for (int i = 0; i < 200; i++) {
            static const char *const asked[] = {"",          "a.b", "x.a.b", "z.a.b",    "y.x.a.b",
                                                "z.y.x.a.b", "c.b", "b",     "q.y.x.a.b"};
            const char *host = asked[draw(&random, 9)];
            char path[64];
            draw_path(&random, path);
            ck_assert_msg(find(t, host, path, NULL) == scan(routes, count, host, path), "%s %s",
                          host, path);
        }
        route_table_free(t);
    }
}
END_TEST

/* Nanoseconds of one look-up among `count` routes. */
static double cost_ns(unsigned count)
{
    struct route_table *t = route_table_new();
    char host[64], prefix[64];
    const int rounds = 20000;
    double best = 1e9;
    for (unsigned i = 0; i < count; i++) {
        snprintf(host, sizeof host, "h%u.example.com", i % 100);
        snprintf(prefix, sizeof prefix, "/api/v%u/x", i);
        ck_assert_int_eq(add(t, host, prefix, i), 0);
    }
    for (int attempt = 0; attempt < 5; attempt++) {
        int64_t begin = kg_clock_mono_us();
        uint32_t found = 0;
        for (int i = 0; i < rounds; i++)
            found |= find(t, "h0.example.com", "/api/v0/x/y", NULL);
        ck_assert_uint_eq(found, 0);
        double ns = (double)(kg_clock_mono_us() - begin) * 1000 / rounds;
        best = ns < best ? ns : best;
    }
    route_table_free(t);
    return best;
}

START_TEST(flat_cost)
{
    double one = cost_ns(1), many = cost_ns(5000);
    ck_assert_msg(many < one * 4 + 200, "1 route %.0f ns, 5000 routes %.0f ns", one, many);
}
END_TEST

START_TEST(long_paths_are_cheap)
{
    struct route_table *t = route_table_new();
    static char path[KG_MAX_TARGET_BYTES];
    struct route_match m;
    memset(path, '/', sizeof path);
    ck_assert_int_eq(add(t, "", "/a", 1), 0);
    int64_t best_us = INT64_MAX;
    for (int attempt = 0; attempt < 3; attempt++) {
        int64_t begin = kg_clock_mono_us();
        bool found = false;
        for (int i = 0; i < 10000; i++)
            found |= route_table_find(t, KG_STR("a"), (struct kg_str){path, sizeof path}, &m);
        ck_assert(!found);
        best_us = kg_earliest(best_us, kg_clock_mono_us() - begin);
    }
    ck_assert_int_lt(best_us, 100000); /* 10 us each; a walk over all 8 KiB costs more */
    route_table_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("route");
    TCase *t = tcase_create("route");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, segments);
    tcase_add_test(t, hosts);
    tcase_add_test(t, refusals);
    tcase_add_test(t, limits);
    tcase_add_test(t, against_scan);
    tcase_add_test(t, flat_cost);
    tcase_add_test(t, long_paths_are_cheap);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
