/* SPDX-License-Identifier: Apache-2.0 */
/* The intrusive list. The difficulty under test: a node may leave while somebody walks. */
#include "base/list.h"
#include <check.h>
#include <stdlib.h>

struct item {
    int number;
    struct kg_list link;
};

static int number_of(struct kg_list *l)
{
    return KG_LIST_ENTRY(l, struct item, link)->number;
}

static void fill(struct kg_list *l, struct item items[4])
{
    kg_list_init(l);
    for (int i = 0; i < 4; i++) {
        items[i].number = i;
        kg_list_push_back(l, &items[i].link);
    }
}

START_TEST(order_of_pushes)
{
    struct kg_list l;
    struct item items[4], front = {.number = -1}, middle = {.number = 100};
    static const int expected[] = {-1, 0, 100, 1, 2, 3};
    size_t n = 0;

    fill(&l, items);
    kg_list_push_front(&l, &front.link);
    kg_list_insert_after(&items[0].link, &middle.link);
    KG_LIST_EACH(it, &l)
    {
        ck_assert_int_eq(number_of(it), expected[n++]);
    }
    ck_assert_uint_eq(n, 6);
    ck_assert_int_eq(number_of(kg_list_first(&l)), -1);
}
END_TEST

START_TEST(empty_list_has_no_first)
{
    struct kg_list l;

    kg_list_init(&l);
    ck_assert(kg_list_empty(&l));
    ck_assert_ptr_null(kg_list_first(&l));
    kg_list_remove(&l); /* a node that is in no list may be removed */
    ck_assert(kg_list_empty(&l));
}
END_TEST

START_TEST(removed_node_points_at_itself)
{
    struct kg_list l;
    struct item items[4];

    fill(&l, items);
    kg_list_remove(&items[2].link);
    ck_assert(kg_list_empty(&items[2].link));
    kg_list_remove(&items[2].link);
    kg_list_push_front(&l, &items[2].link);
    ck_assert_int_eq(number_of(kg_list_first(&l)), 2);
}
END_TEST

START_TEST(walk_that_removes)
{
    struct kg_list l;
    struct item items[4];
    int sum = 0;

    fill(&l, items);
    KG_LIST_EACH_SAFE(it, &l)
    {
        sum += number_of(it);
        kg_list_remove(it);
    }
    ck_assert_int_eq(sum, 6);
    ck_assert(kg_list_empty(&l));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("list");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, order_of_pushes);
    tcase_add_test(t, empty_list_has_no_first);
    tcase_add_test(t, removed_node_points_at_itself);
    tcase_add_test(t, walk_that_removes);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
