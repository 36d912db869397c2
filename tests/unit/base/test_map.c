/* SPDX-License-Identifier: Apache-2.0 */
/* The hash table. The difficulty under test: tombstones under churn, and a hash that differs from
 * process to process (this program runs itself twice to see that). */
#include "base/map.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KEYS 512

static uint64_t seed;

static unsigned dice(unsigned below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % below);
}

START_TEST(empty_map)
{
    struct kg_map m;
    struct kg_str key;
    void *value;
    size_t at = 0;

    kg_map_init(&m);
    ck_assert_ptr_null(kg_map_get(&m, KG_STR("a")));
    ck_assert_ptr_null(kg_map_remove(&m, KG_STR("a")));
    ck_assert(!kg_map_next(&m, &at, &key, &value));
    kg_map_fini(&m);
    kg_map_fini(&m);
}
END_TEST

START_TEST(set_replace_remove)
{
    struct kg_map m;
    int a, b;

    kg_map_init(&m);
    ck_assert_int_eq(kg_map_set(&m, KG_STR("k"), &a), 0);
    ck_assert_ptr_eq(kg_map_get(&m, KG_STR("k")), &a);
    ck_assert_int_eq(kg_map_set(&m, KG_STR("k"), &b), 0);
    ck_assert_uint_eq(m.count, 1);
    ck_assert_ptr_eq(kg_map_remove(&m, KG_STR("k")), &b);
    ck_assert_ptr_null(kg_map_remove(&m, KG_STR("k")));
    ck_assert_uint_eq(m.count, 0);
    kg_map_fini(&m);
}
END_TEST

START_TEST(keys_are_bytes_and_copied)
{
    struct kg_map m;
    char key[] = "name";
    int a, b, c;

    kg_map_init(&m);
    kg_map_set(&m, kg_str_of(key), &a);
    key[0] = 'X';
    ck_assert_ptr_eq(kg_map_get(&m, KG_STR("name")), &a);
    kg_map_set(&m, KG_STR("name\0x"), &b);
    kg_map_set(&m, (struct kg_str){NULL, 0}, &c);
    ck_assert_ptr_eq(kg_map_get(&m, KG_STR("name")), &a);
    ck_assert_ptr_eq(kg_map_get(&m, KG_STR("name\0x")), &b);
    ck_assert_ptr_eq(kg_map_get(&m, KG_STR("")), &c);
    kg_map_fini(&m);
}
END_TEST

START_TEST(numbers_as_keys_and_growth)
{
    static char values[20000];
    struct kg_map m;

    kg_map_init(&m);
    for (uint64_t i = 0; i < sizeof values; i++)
        ck_assert_int_eq(kg_map_set(&m, KG_U64_KEY(i), &values[i]), 0);
    ck_assert_uint_eq(m.count, sizeof values);
    ck_assert_uint_le(m.used * 4, m.cap * 3);
    for (uint64_t i = 0; i < sizeof values; i++)
        ck_assert_ptr_eq(kg_map_get(&m, KG_U64_KEY(i)), &values[i]);
    kg_map_fini(&m);
}
END_TEST

START_TEST(walk_meets_each_once)
{
    static char values[100], met[100];
    struct kg_map m;
    struct kg_str key;
    void *value;
    size_t at = 0, n = 0;

    kg_map_init(&m);
    for (uint64_t i = 0; i < 100; i++)
        kg_map_set(&m, KG_U64_KEY(i), &values[i]);
    for (uint64_t i = 0; i < 100; i += 2)
        kg_map_remove(&m, KG_U64_KEY(i));
    while (kg_map_next(&m, &at, &key, &value)) {
        const size_t i = (size_t)((char *)value - values);

        ck_assert(i % 2 == 1 && !met[i]);
        met[i] = 1;
        ck_assert_uint_eq(key.n, 8);
        ck_assert_ptr_eq(kg_map_get(&m, key), value);
        n++;
    }
    ck_assert_uint_eq(n, 50);
    kg_map_fini(&m);
}
END_TEST

START_TEST(churn_does_not_grow)
{
    struct kg_map m;
    int a;

    kg_map_init(&m);
    for (uint64_t i = 0; i < 100000; i++) {
        ck_assert_int_eq(kg_map_set(&m, KG_U64_KEY(i), &a), 0);
        if (i >= 10) {
            const uint64_t old = i - 10;
            ck_assert_ptr_eq(kg_map_remove(&m, KG_U64_KEY(old)), &a);
        }
    }
    ck_assert_uint_eq(m.count, 10);
    ck_assert_uint_le(m.cap, 64);
    ck_assert_uint_le(m.used, m.cap); /* counted down when tombstones are cleared */
    kg_map_fini(&m);
}
END_TEST

START_TEST(random_against_naive)
{
    static char values[KEYS];
    void *model[KEYS] = {NULL};
    struct kg_map m;

    seed = 4711;
    kg_map_init(&m);
    for (int step = 0; step < 100000; step++) {
        const uint64_t k = dice(step / 20000 % 2 ? 16 : KEYS);

        if (dice(2)) {
            ck_assert_int_eq(kg_map_set(&m, KG_U64_KEY(k), &values[step % KEYS]), 0);
            model[k] = &values[step % KEYS];
        } else {
            ck_assert_ptr_eq(kg_map_remove(&m, KG_U64_KEY(k)), model[k]);
            model[k] = NULL;
        }
    }
    for (uint64_t k = 0; k < KEYS; k++)
        ck_assert_ptr_eq(kg_map_get(&m, KG_U64_KEY(k)), model[k]);
    kg_map_fini(&m);
}
END_TEST

/* What the child prints: 64 keys in the order of its table. */
static int print_order(void)
{
    struct kg_map m;
    struct kg_str key;
    void *value;
    size_t at = 0;

    kg_map_init(&m);
    for (uint64_t i = 0; i < 64; i++)
        kg_map_set(&m, KG_U64_KEY(i), &m);
    while (kg_map_next(&m, &at, &key, &value))
        printf("%d ", key.p[0]);
    kg_map_fini(&m);
    return 0;
}

START_TEST(hash_differs_between_processes)
{
    char orders[2][512], self[512], command[600];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    ck_assert_int_gt(n, 0);
    self[n] = '\0';
    snprintf(command, sizeof command, "'%s' --order", self);
    for (int i = 0; i < 2; i++) {
        FILE *child = popen(command, "r");

        ck_assert_ptr_nonnull(child);
        ck_assert_ptr_nonnull(fgets(orders[i], sizeof orders[i], child));
        ck_assert_int_eq(pclose(child), 0);
    }
    ck_assert_uint_eq(strlen(orders[0]), strlen(orders[1]));
    ck_assert_str_ne(orders[0], orders[1]);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *s;
    TCase *t;
    SRunner *r;
    int failed;

    if (argc > 1 && strcmp(argv[1], "--order") == 0)
        return print_order();
    s = suite_create("map");
    t = tcase_create("all");
    r = srunner_create(s);
    suite_add_tcase(s, t);
    tcase_add_test(t, empty_map);
    tcase_add_test(t, set_replace_remove);
    tcase_add_test(t, keys_are_bytes_and_copied);
    tcase_add_test(t, numbers_as_keys_and_growth);
    tcase_add_test(t, walk_meets_each_once);
    tcase_add_test(t, churn_does_not_grow);
    tcase_add_test(t, random_against_naive);
    tcase_add_test(t, hash_differs_between_processes);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
