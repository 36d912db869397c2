/* SPDX-License-Identifier: Apache-2.0 */
/* The growing buffer. The difficulty under test: the cap is exact, failure sticks, and what was
 * there before a failed append is still there. */
#include "base/buf.h"
#include "base/err.h"
#include <check.h>
#include <stdlib.h>

START_TEST(empty_buffer)
{
    struct kg_buf b;

    kg_buf_init(&b, 10);
    ck_assert_ptr_null(b.data);
    ck_assert_str_eq(kg_buf_str(&b).p, "");
    ck_assert_uint_eq(kg_buf_str(&b).n, 0);
    kg_buf_clear(&b);
    kg_buf_drop_front(&b, 0);
    kg_buf_fini(&b);
    kg_buf_fini(&b);
}
END_TEST

START_TEST(cap_is_exact)
{
    for (size_t max = 0; max < 600; max += 37) {
        for (size_t n = max ? max - 1 : 0; n <= max + 1; n++) {
            struct kg_buf b;
            char *bytes = malloc(n + 1);

            memset(bytes, 'x', n + 1);
            kg_buf_init(&b, max);
            ck_assert_int_eq(kg_buf_append(&b, bytes, n), n <= max ? 0 : KG_ELIMIT);
            ck_assert_uint_eq(b.len, n <= max ? n : 0);
            ck_assert_uint_le(b.cap, max + 1);
            kg_buf_fini(&b);
            free(bytes);
        }
    }
}
END_TEST

START_TEST(cap_holds_byte_by_byte)
{
    struct kg_buf b;

    kg_buf_init(&b, 1000);
    for (size_t i = 0; i < 1000; i++) {
        ck_assert_int_eq(kg_buf_append(&b, "x", 1), 0);
        ck_assert_uint_eq(strlen(b.data), i + 1);
    }
    ck_assert_int_eq(kg_buf_append(&b, "x", 1), KG_ELIMIT);
    ck_assert_uint_eq(strlen(b.data), 1000);
    kg_buf_fini(&b);
}
END_TEST

START_TEST(failure_sticks_until_clear)
{
    struct kg_buf b;

    kg_buf_init(&b, 4);
    ck_assert_int_eq(kg_buf_puts(&b, "ab"), 0);
    ck_assert_int_eq(kg_buf_puts(&b, "cde"), KG_ELIMIT);
    ck_assert_int_eq(kg_buf_puts(&b, "c"), KG_ELIMIT); /* would fit: sticky */
    ck_assert_int_eq(kg_buf_append(&b, NULL, 0), KG_ELIMIT);
    ck_assert_int_eq(b.error, KG_ELIMIT);
    ck_assert_str_eq(b.data, "ab");
    kg_buf_clear(&b);
    ck_assert_int_eq(b.error, 0);
    ck_assert_str_eq(b.data, "");
    ck_assert_int_eq(kg_buf_puts(&b, "cdef"), 0);
    ck_assert_str_eq(b.data, "cdef");
    kg_buf_fini(&b);
}
END_TEST

START_TEST(printf_grows_and_stops)
{
    struct kg_buf b;

    kg_buf_init(&b, 600);
    ck_assert_int_eq(kg_buf_printf(&b, "%s=%d;", "n", 5), 0);
    ck_assert_int_eq(kg_buf_printf(&b, "%0500d", 1), 0);
    ck_assert_uint_eq(b.len, 504);
    ck_assert_int_eq(kg_buf_printf(&b, "%096d", 1), 0); /* to the very end */
    ck_assert_int_eq(kg_buf_printf(&b, "%s", ""), 0);
    ck_assert_int_eq(kg_buf_printf(&b, "%d", 1), KG_ELIMIT);
    ck_assert_uint_eq(strlen(b.data), 600);
    kg_buf_fini(&b);
}
END_TEST

START_TEST(front_is_dropped)
{
    struct kg_buf b;

    kg_buf_init(&b, 100);
    kg_buf_puts(&b, "hello world");
    kg_buf_drop_front(&b, 0);
    kg_buf_drop_front(&b, 6);
    ck_assert_str_eq(b.data, "world");
    kg_buf_puts(&b, "!");
    ck_assert(kg_str_eq(kg_buf_str(&b), KG_STR("world!")));
    kg_buf_drop_front(&b, 6);
    ck_assert_str_eq(b.data, "");
    kg_buf_fini(&b);
}
END_TEST

START_TEST(take_moves_ownership)
{
    struct kg_buf b;
    char *taken;

    kg_buf_init(&b, 10);
    kg_buf_append(&b, "a\0b", 3);
    taken = kg_buf_take(&b);
    ck_assert_mem_eq(taken, "a\0b", 4);
    free(taken);
    ck_assert_uint_eq(b.len, 0);
    taken = kg_buf_take(&b); /* never written to: an empty string, not NULL */
    ck_assert_str_eq(taken, "");
    free(taken);
    ck_assert_int_eq(kg_buf_puts(&b, "0123456789"), 0); /* the cap came through */
    ck_assert_int_eq(kg_buf_puts(&b, "0"), KG_ELIMIT);
    ck_assert_ptr_null(kg_buf_take(&b));
    ck_assert_uint_eq(b.len, 0);
    ck_assert_ptr_null(b.data);
    kg_buf_fini(&b);
}
END_TEST

START_TEST(unlimited_is_allowed)
{
    struct kg_buf b;

    kg_buf_init(&b, SIZE_MAX);
    ck_assert_int_eq(kg_buf_puts(&b, "x"), 0);
    ck_assert_int_eq(kg_buf_append(&b, "y", SIZE_MAX - 1), KG_ELIMIT);
    kg_buf_fini(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("buf");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, empty_buffer);
    tcase_add_test(t, cap_is_exact);
    tcase_add_test(t, cap_holds_byte_by_byte);
    tcase_add_test(t, failure_sticks_until_clear);
    tcase_add_test(t, printf_grows_and_stops);
    tcase_add_test(t, front_is_dropped);
    tcase_add_test(t, take_moves_ownership);
    tcase_add_test(t, unlimited_is_allowed);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
