/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks. The difficulty under test: the stamp keeps its form for every wall clock, also for those
 * before 1970 and beyond four-digit years. */
#include "base/clock.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

START_TEST(format_of_known_times)
{
    static const struct {
        int64_t ms;
        const char *stamp;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1, "1970-01-01T00:00:00.001Z"},
        {999, "1970-01-01T00:00:00.999Z"},
        {1000, "1970-01-01T00:00:01.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {-1000, "1969-12-31T23:59:59.000Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {1769903999123, "2026-01-31T23:59:59.123Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
        {253402300800000, "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {-62167219200000, "0000-01-01T00:00:00.000Z"},
        {-62167219200001, "0000-01-01T00:00:00.000Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000Z"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[25];

        memset(out, 'x', sizeof out);
        kg_clock_format(cases[i].ms, out);
        ck_assert_str_eq(out, cases[i].stamp);
    }
}
END_TEST

START_TEST(monotonic_never_falls)
{
    int64_t before = kg_clock_mono_us();

    for (int i = 0; i < 10000; i++) {
        const int64_t now = kg_clock_mono_us();

        ck_assert_int_ge(now, before);
        before = now;
    }
    ck_assert_int_ge(kg_clock_mono_ms(), before / 1000);
    ck_assert_int_le(kg_clock_mono_ms(), kg_clock_mono_us() / 1000);
}
END_TEST

START_TEST(wall_is_the_systems)
{
    const int64_t before = (int64_t)time(NULL);
    const int64_t ms = kg_clock_wall_ms();

    /* time() may be a tick behind the precise clock, never ahead of it. */
    ck_assert_int_ge(ms, before * 1000);
    ck_assert_int_le(ms, before * 1000 + 60000);
}
END_TEST

START_TEST(earliest_and_never)
{
    ck_assert_int_eq(kg_earliest(1, 2), 1);
    ck_assert_int_eq(kg_earliest(2, 1), 1);
    ck_assert_int_eq(kg_earliest(KG_NEVER, 5), 5);
    ck_assert(kg_earliest(KG_NEVER, KG_NEVER) == KG_NEVER);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("clock");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, format_of_known_times);
    tcase_add_test(t, monotonic_never_falls);
    tcase_add_test(t, wall_is_the_systems);
    tcase_add_test(t, earliest_and_never);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
