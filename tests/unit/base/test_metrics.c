/* SPDX-License-Identifier: Apache-2.0 */
/* Histograms and their text. The difficulty under test: a value of just one bound belongs below it,
 * and the text adds up by itself. */
#include "base/metrics.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

static const int64_t bounds_us[] = {1000,    2500,    5000,     10000,    25000,
                                    50000,   100000,  250000,   500000,   1000000,
                                    2500000, 5000000, 10000000, 30000000, 60000000};

START_TEST(each_bound_at_n_and_around)
{
    ck_assert_uint_eq(sizeof bounds_us / sizeof *bounds_us, KG_HISTOGRAM_BUCKETS - 1);
    for (size_t i = 0; i < KG_HISTOGRAM_BUCKETS - 1; i++) {
        struct kg_histogram h = {.count = 0};

        ck_assert_double_eq_tol(kg_histogram_bounds_s[i] * 1e6, (double)bounds_us[i], 1e-6);
        kg_histogram_add_us(&h, bounds_us[i] - 1);
        ck_assert_uint_eq(h.buckets[i], 1);
        kg_histogram_add_us(&h, bounds_us[i]);
        ck_assert_uint_eq(h.buckets[i], 2);
        kg_histogram_add_us(&h, bounds_us[i] + 1);
        ck_assert_uint_eq(h.buckets[i], 2);
        ck_assert_uint_eq(h.buckets[i + 1], 1);
        ck_assert_uint_eq(h.count, 3);
        ck_assert_uint_eq(h.sum_us, (uint64_t)(3 * bounds_us[i]));
    }
    ck_assert(isinf(kg_histogram_bounds_s[KG_HISTOGRAM_BUCKETS - 1]));
}
END_TEST

START_TEST(extremes)
{
    struct kg_histogram h = {.count = 0};

    kg_histogram_add_us(
        &h, -5); /* a clock that went back is no reason to crash or to count backwards */
    kg_histogram_add_us(&h, 0);
    kg_histogram_add_us(&h, INT64_MAX);
    ck_assert_uint_eq(h.buckets[0], 2);
    ck_assert_uint_eq(h.buckets[KG_HISTOGRAM_BUCKETS - 1], 1);
    ck_assert_uint_eq(h.sum_us, INT64_MAX);
}
END_TEST

START_TEST(merge_adds)
{
    struct kg_histogram a = {.count = 0}, b = {.count = 0};

    kg_histogram_add_us(&a, 10);
    kg_histogram_add_us(&b, 20);
    kg_histogram_add_us(&b, 2000);
    kg_histogram_merge(&a, &b);
    ck_assert_uint_eq(a.buckets[0], 2);
    ck_assert_uint_eq(a.buckets[1], 1);
    ck_assert_uint_eq(a.count, 3);
    ck_assert_uint_eq(a.sum_us, 2030);
    ck_assert_uint_eq(b.count, 2);
}
END_TEST

START_TEST(text_of_plain_values)
{
    struct kg_buf out;

    kg_buf_init(&out, 1 << 16);
    kg_metrics_help(&out, "kg_x_total", "counter", "Things \\ of\ntwo lines");
    kg_metrics_u64(&out, "kg_x_total", "", 0);
    kg_metrics_u64(&out, "kg_x_total", "service=\"a\"", UINT64_MAX);
    ck_assert_str_eq(out.data, "# HELP kg_x_total Things \\\\ of\\ntwo lines\n"
                               "# TYPE kg_x_total counter\n"
                               "kg_x_total 0\n"
                               "kg_x_total{service=\"a\"} 18446744073709551615\n");
    kg_buf_fini(&out);
}
END_TEST

START_TEST(text_of_a_histogram)
{
    struct kg_histogram h = {.count = 0};
    struct kg_buf out;

    kg_buf_init(&out, 1 << 16);
    kg_histogram_add_us(&h, 2500);
    kg_histogram_add_us(&h, 700);
    kg_histogram_add_us(&h, 90000000);
    h.count = 17; /* a reader that came between two stores prints what its buckets say */
    kg_metrics_histogram(&out, "d", "s=\"a\"", &h);
    ck_assert_ptr_nonnull(strstr(out.data, "d_bucket{s=\"a\",le=\"0.001\"} 1\n"));
    ck_assert_ptr_nonnull(strstr(out.data, "d_bucket{s=\"a\",le=\"0.0025\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(out.data, "d_bucket{s=\"a\",le=\"60\"} 2\n"));
    ck_assert_ptr_nonnull(strstr(out.data, "d_bucket{s=\"a\",le=\"+Inf\"} 3\n"));
    ck_assert_ptr_nonnull(strstr(out.data, "d_sum{s=\"a\"} 90.003200\nd_count{s=\"a\"} 3\n"));
    kg_buf_clear(&out);
    kg_metrics_histogram(&out, "d", "", &h);
    ck_assert(kg_str_has_prefix(kg_buf_str(&out), KG_STR("d_bucket{le=\"0.001\"} 1\n")));
    ck_assert_ptr_nonnull(strstr(out.data, "\nd_sum 90.003200\nd_count 3\n"));
    kg_buf_fini(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, each_bound_at_n_and_around);
    tcase_add_test(t, extremes);
    tcase_add_test(t, merge_adds);
    tcase_add_test(t, text_of_plain_values);
    tcase_add_test(t, text_of_a_histogram);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
