/* SPDX-License-Identifier: Apache-2.0 */
/* The heap of deadlines. The difficulty under test: after any run of sets and removals each node
 * still knows its place, which a naive model and a full walk check. */
#include "base/clock.h"
#include "base/err.h"
#include "base/heap.h"
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

#define NODES 64

static uint64_t seed;

static unsigned dice(unsigned below)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed % below);
}

static void check_shape(const struct kg_heap *h)
{
    for (size_t i = 1; i <= h->count; i++) {
        ck_assert_uint_eq(h->nodes[i - 1]->place, i);
        if (i > 1)
            ck_assert_int_le(h->nodes[i / 2 - 1]->due_ms, h->nodes[i - 1]->due_ms);
    }
}

START_TEST(empty_heap)
{
    struct kg_heap h;
    struct kg_heap_node n = {0};

    kg_heap_init(&h);
    ck_assert_ptr_null(kg_heap_first(&h));
    kg_heap_remove(&h, &n); /* in no heap: nothing happens */
    kg_heap_fini(&h);
    kg_heap_fini(&h);
}
END_TEST

START_TEST(comes_out_in_order)
{
    struct kg_heap h;
    struct kg_heap_node nodes[NODES] = {{0}};
    int64_t last = INT64_MIN;

    kg_heap_init(&h);
    for (size_t i = 0; i < NODES; i++)
        ck_assert_int_eq(kg_heap_set(&h, &nodes[i], (int64_t)(i * 37 % 64) - 32), 0);
    while (kg_heap_first(&h)) {
        struct kg_heap_node *n = kg_heap_first(&h);

        ck_assert_int_ge(n->due_ms, last);
        last = n->due_ms;
        kg_heap_remove(&h, n);
        ck_assert_uint_eq(n->place, 0);
        check_shape(&h);
    }
    kg_heap_fini(&h);
}
END_TEST

START_TEST(set_moves_both_ways)
{
    struct kg_heap h;
    struct kg_heap_node nodes[3] = {{0}};

    kg_heap_init(&h);
    for (size_t i = 0; i < 3; i++)
        kg_heap_set(&h, &nodes[i], (int64_t)i * 10);
    kg_heap_set(&h, &nodes[0], 15);
    ck_assert_ptr_eq(kg_heap_first(&h), &nodes[1]);
    kg_heap_set(&h, &nodes[2], INT64_MIN);
    ck_assert_ptr_eq(kg_heap_first(&h), &nodes[2]);
    kg_heap_set(&h, &nodes[2], KG_NEVER);
    ck_assert_ptr_eq(kg_heap_first(&h), &nodes[1]);
    ck_assert_uint_eq(h.count, 3);
    kg_heap_fini(&h);
}
END_TEST

START_TEST(reserved_room_is_enough)
{
    struct kg_heap h;
    struct kg_heap_node nodes[NODES] = {{0}};
    struct kg_heap_node **before;

    kg_heap_init(&h);
    ck_assert_int_eq(kg_heap_reserve(&h, NODES), 0);
    ck_assert_uint_ge(h.cap, NODES);
    before = h.nodes;
    for (size_t i = 0; i < NODES; i++)
        ck_assert_int_eq(kg_heap_set(&h, &nodes[i], 0), 0);
    ck_assert_ptr_eq(h.nodes, before); /* nothing was allocated */
    ck_assert_int_eq(kg_heap_reserve(&h, 1), 0);
    ck_assert_ptr_eq(h.nodes, before);
    ck_assert_int_eq(kg_heap_reserve(&h, SIZE_MAX), KG_ENOMEM);
    ck_assert_ptr_eq(h.nodes, before);
    kg_heap_fini(&h);
}
END_TEST

START_TEST(random_against_naive)
{
    struct kg_heap h;
    struct kg_heap_node nodes[NODES] = {{0}};
    bool in[NODES] = {false};

    seed = 20240229;
    kg_heap_init(&h);
    for (int step = 0; step < 20000; step++) {
        const unsigned i = dice(NODES);
        int64_t least = KG_NEVER;
        size_t count = 0;

        in[i] = dice(3) > 0;
        if (in[i])
            kg_heap_set(&h, &nodes[i], dice(50));
        else
            kg_heap_remove(&h, &nodes[i]);
        for (size_t k = 0; k < NODES; k++) {
            count += in[k];
            least = in[k] ? kg_earliest(least, nodes[k].due_ms) : least;
            ck_assert(in[k] == (nodes[k].place != 0));
        }
        ck_assert_uint_eq(h.count, count);
        ck_assert(count == 0 || kg_heap_first(&h)->due_ms == least);
        check_shape(&h);
    }
    kg_heap_fini(&h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("heap");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, empty_heap);
    tcase_add_test(t, comes_out_in_order);
    tcase_add_test(t, set_moves_both_ways);
    tcase_add_test(t, reserved_room_is_enough);
    tcase_add_test(t, random_against_naive);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
