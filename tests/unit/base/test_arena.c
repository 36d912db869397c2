/* SPDX-License-Identifier: Apache-2.0 */
/* The arena. The difficulty under test: caps, big allocations and the pool must behave the same in
 * the twin that sanitizers see through (there the pool keeps nothing). */
#include "base/arena.h"
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef KG_SANITIZE
#define KEPT(n) ((size_t)0)
#else
#define KEPT(n) ((size_t)(n))
#endif

START_TEST(allocations_are_aligned_and_apart)
{
    struct kg_arena_pool pool;
    struct kg_arena a;
    unsigned char *all[200];

    kg_arena_pool_init(&pool, 1024, 4);
    kg_arena_init(&a, &pool, 1 << 20);
    for (size_t i = 0; i < 200; i++) {
        all[i] = kg_arena_alloc(&a, i);
        ck_assert_ptr_nonnull(all[i]);
        ck_assert_uint_eq((uintptr_t)all[i] % 16, 0);
        memset(all[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t k = 0; k < i; k++)
            ck_assert_uint_eq(all[i][k], i);
    ck_assert_ptr_ne(all[0], all[1]); /* also nothing has an address of its own */
    kg_arena_fini(&a);
    kg_arena_pool_fini(&pool);
}
END_TEST

START_TEST(cap_is_exact)
{
    static const size_t caps[] = {0, 1, 16, 100, 1000, 1024, 5000};
    struct kg_arena_pool pool;

    kg_arena_pool_init(&pool, 1024, 4);
    for (size_t i = 0; i < sizeof caps / sizeof *caps; i++) {
        for (size_t n = caps[i] ? caps[i] - 1 : 0; n <= caps[i] + 1; n++) {
            struct kg_arena a;

            kg_arena_init(&a, &pool, caps[i]);
            ck_assert((kg_arena_alloc(&a, n) != NULL) == (n <= caps[i]));
            kg_arena_fini(&a);
        }
    }
    kg_arena_pool_fini(&pool);
}
END_TEST

START_TEST(cap_holds_for_the_sum)
{
    struct kg_arena_pool pool;
    struct kg_arena a;

    kg_arena_pool_init(&pool, 256, 4);
    kg_arena_init(&a, &pool, 1024);
    for (int i = 0; i < 64; i++)
        ck_assert_ptr_nonnull(kg_arena_alloc(&a, 16));
    ck_assert_ptr_null(kg_arena_alloc(&a, 1));
    ck_assert_ptr_null(kg_arena_alloc(&a, SIZE_MAX));
    ck_assert_ptr_null(kg_arena_alloc(&a, SIZE_MAX - 20));
    ck_assert_ptr_null(kg_arena_copy(&a, "", SIZE_MAX));
    ck_assert_uint_eq(a.used_bytes, 1024);
    kg_arena_fini(&a);
    ck_assert_ptr_nonnull(kg_arena_alloc(&a, 1024)); /* may be used again */
    kg_arena_fini(&a);
    kg_arena_fini(&a);
    kg_arena_pool_fini(&pool);
}
END_TEST

START_TEST(copies_end_with_nul)
{
    struct kg_arena_pool pool;
    struct kg_arena a;

    kg_arena_pool_init(&pool, 64, 1);
    kg_arena_init(&a, &pool, 4096);
    ck_assert_str_eq(kg_arena_copy(&a, "hello, world", 5), "hello");
    ck_assert_str_eq(kg_arena_copy(&a, NULL, 0), "");
    ck_assert_mem_eq(kg_arena_copy(&a, "a\0b", 3), "a\0b", 4);
    for (size_t n = 14; n <= 18; n++) { /* the NUL at a border of 16 */
        char *copy = kg_arena_copy(&a, "abcdefghijklmnopqrstuvwxyz", n);

        ck_assert_uint_eq(strlen(copy), n);
    }
    kg_arena_fini(&a);
    kg_arena_pool_fini(&pool);
}
END_TEST

START_TEST(pool_keeps_so_many_blocks)
{
    struct kg_arena_pool pool;
    struct kg_arena a;

    kg_arena_pool_init(&pool, 128, 3);
    kg_arena_init(&a, &pool, 1 << 20);
    for (size_t blocks = 2; blocks <= 4; blocks++) {
        for (size_t i = 0; i < blocks; i++)
            ck_assert_ptr_nonnull(kg_arena_alloc(&a, 128));
        kg_arena_fini(&a);
        ck_assert_uint_eq(pool.free_count, KEPT(blocks < 3 ? blocks : 3));
    }
    ck_assert_ptr_nonnull(kg_arena_alloc(&a, 1));
    ck_assert_uint_eq(pool.free_count, KEPT(2)); /* taken from there, not from malloc */
    kg_arena_fini(&a);
    kg_arena_pool_fini(&pool);
    ck_assert_uint_eq(pool.free_count, 0);
}
END_TEST

START_TEST(big_allocations_stand_alone)
{
    struct kg_arena_pool pool;
    struct kg_arena a;
    char *small, *big, *next;

    kg_arena_pool_init(&pool, 128, 8);
    kg_arena_init(&a, &pool, 1 << 20);
    ck_assert_ptr_nonnull(kg_arena_alloc(&a, 5000)); /* first of all */
    small = kg_arena_alloc(&a, 16);
    big = kg_arena_alloc(&a, 129);
    next = kg_arena_alloc(&a, 16);
    memset(big, 'x', 129);
    ck_assert(KEPT(1) == 0 || next == small + 16); /* the begun block stays in use */
    kg_arena_fini(&a);
    ck_assert_uint_eq(pool.free_count, KEPT(1)); /* big ones are not kept */
    kg_arena_pool_fini(&pool);
}
END_TEST

START_TEST(warm_use_calls_no_malloc)
{
    struct kg_arena_pool pool;
    struct kg_arena a;
    struct kg_arena_block *kept;

    kg_arena_pool_init(&pool, 4096, 8);
    kg_arena_init(&a, &pool, 1 << 20);
    kg_arena_alloc(&a, 100);
    kg_arena_fini(&a);
    kept = pool.free_blocks;
    for (int i = 0; i < 100; i++) {
        kg_arena_alloc(&a, 100);
        ck_assert(KEPT(1) == 0 || a.blocks == kept);
        kg_arena_fini(&a);
    }
    kg_arena_pool_fini(&pool);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("arena");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, allocations_are_aligned_and_apart);
    tcase_add_test(t, cap_is_exact);
    tcase_add_test(t, cap_holds_for_the_sum);
    tcase_add_test(t, copies_end_with_nul);
    tcase_add_test(t, pool_keeps_so_many_blocks);
    tcase_add_test(t, big_allocations_stand_alone);
    tcase_add_test(t, warm_use_calls_no_malloc);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
