/* SPDX-License-Identifier: Apache-2.0 */
/* Slices, patterns, durations, sizes. The difficulty under test: what is not exact is refused, and
 * no byte beyond the slice is looked at (the inputs lie on the heap, without a NUL, for ASan). */
#include "base/err.h"
#include "base/str.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* A copy that ends where the slice ends. */
static struct kg_str exact(const char *z)
{
    const size_t n = strlen(z);
    char *p = malloc(n ? n : 1);

    ck_assert_ptr_nonnull(p);
    memcpy(p, z, n);
    return (struct kg_str){p, n};
}

static void drop(struct kg_str s)
{
    free((void *)(uintptr_t)s.p);
}

START_TEST(equality)
{
    ck_assert(kg_str_eq(KG_STR("abc"), kg_str_of("abc")));
    ck_assert(!kg_str_eq(KG_STR("abc"), KG_STR("ab")));
    ck_assert(!kg_str_eq(KG_STR("abc"), KG_STR("abC")));
    ck_assert(kg_str_eq((struct kg_str){NULL, 0}, KG_STR("")));
    ck_assert(kg_str_eq_nocase(KG_STR("Content-LENGTH"), KG_STR("content-length")));
    ck_assert(!kg_str_eq_nocase(KG_STR("a"), KG_STR("ab")));
    ck_assert(!kg_str_eq_nocase(KG_STR("@"), KG_STR("`"))); /* differ in the case bit only */
    ck_assert(!kg_str_eq_nocase(KG_STR("["), KG_STR("{")));
    ck_assert(!kg_str_eq_nocase(KG_STR("\xc4"), KG_STR("\xe4")));
}
END_TEST

START_TEST(prefixes)
{
    ck_assert(kg_str_has_prefix(KG_STR("/api/x"), KG_STR("/api")));
    ck_assert(kg_str_has_prefix(KG_STR("/api"), KG_STR("/api")));
    ck_assert(!kg_str_has_prefix(KG_STR("/ap"), KG_STR("/api")));
    ck_assert(kg_str_has_prefix(KG_STR(""), KG_STR("")));
    ck_assert(kg_str_has_prefix((struct kg_str){NULL, 0}, (struct kg_str){NULL, 0}));
}
END_TEST

START_TEST(trimming)
{
    static const char *const cases[][2] = {
        {"", ""},     {" ", ""},          {" \t ", ""},   {" a", "a"},
        {"a\t", "a"}, {"\t a b ", "a b"}, {"\na", "\na"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kg_str s = exact(cases[i][0]);

        ck_assert(kg_str_eq(kg_str_trim(s), kg_str_of(cases[i][1])));
        drop(s);
    }
}
END_TEST

START_TEST(copy_at_its_limit)
{
    char out[4];

    ck_assert(kg_str_copy(out, sizeof out, KG_STR("ab")));
    ck_assert_str_eq(out, "ab");
    ck_assert(kg_str_copy(out, sizeof out, KG_STR("abc")));
    ck_assert_str_eq(out, "abc");
    ck_assert(!kg_str_copy(out, sizeof out, KG_STR("abcd")));
    ck_assert_str_eq(out, "");
    ck_assert(kg_str_copy(out, 1, (struct kg_str){NULL, 0}));
    ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(numbers)
{
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x1",
                                      "1.0",
                                      "1a",
                                      "9223372036854775808",
                                      "99999999999999999999"};
    int64_t v = 7;

    ck_assert(kg_str_to_i64(KG_STR("0"), &v) && v == 0);
    ck_assert(kg_str_to_i64(KG_STR("007"), &v) && v == 7);
    ck_assert(kg_str_to_i64(KG_STR("9223372036854775806"), &v) && v == INT64_MAX - 1);
    ck_assert(kg_str_to_i64(KG_STR("9223372036854775807"), &v) && v == INT64_MAX);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kg_str s = exact(bad[i]);

        ck_assert_msg(!kg_str_to_i64(s, &v), "%s", bad[i]);
        drop(s);
    }
}
END_TEST

START_TEST(hash_is_fnv1a)
{
    ck_assert(kg_hash("", 0) == UINT64_C(0xcbf29ce484222325));
    ck_assert(kg_hash("a", 1) == UINT64_C(0xaf63dc4c8601ec8c));
    ck_assert(kg_hash("foobar", 6) == UINT64_C(0x85944171f73967e8));
}
END_TEST

START_TEST(globs)
{
    static const struct {
        const char *pattern, *text;
        bool match;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"*", "", true},
        {"*", "a/b", true},
        {"?", "", false},
        {"?", "a", true},
        {"?", "ab", false},
        {"a*", "a", true},
        {"a*", "ba", false},
        {"*a", "bba", true},
        {"*a", "ab", false},
        {"a*b*c", "a--b--c", true},
        {"a*b*c", "a--c--b", false},
        {"*/healthz", "/x/healthz", true},
        {"**", "abc", true},
        {"a?c", "abc", true},
        {"a?c", "ac", false},
        {"*ab", "aab", true},
        {"*.host", "a.b.host", true},
        {"A", "a", false},
        {"[a]", "a", false},
        {"[a]", "[a]", true},
        {"a*", "a\n", true},
        {"ab", "a", false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kg_str p = exact(cases[i].pattern), t = exact(cases[i].text);

        ck_assert_msg(kg_glob(p, t) == cases[i].match, "%s on %s", cases[i].pattern, cases[i].text);
        drop(p);
        drop(t);
    }
}
END_TEST

START_TEST(glob_is_never_exponential)
{
    char pattern[127], text[8192];

    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    pattern[sizeof pattern - 1] = 'b';
    memset(text, 'a', sizeof text);
    for (int i = 0; i < 20; i++) /* a backtracking matcher would not return in this life */
        ck_assert(
            !kg_glob((struct kg_str){pattern, sizeof pattern}, (struct kg_str){text, sizeof text}));
}
END_TEST

START_TEST(durations_taken)
{
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"0", 0},         {"0s", 0},       {"0.0h", 0},
        {"250ms", 250},   {"30s", 30000},  {"5m", 300000},
        {"1h", 3600000},  {"1.5s", 1500},  {"0.001s", 1},
        {"1.500s", 1500}, {"2.0ms", 2},    {"0.25h", 900000},
        {"0.0005m", 30},  {"010s", 10000}, {"87600h", 315360000000},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kg_str s = exact(cases[i].text);
        int64_t ms = -1;

        ck_assert_msg(kg_duration_parse(s, &ms) == 0, "%s", cases[i].text);
        ck_assert_int_eq(ms, cases[i].ms);
        drop(s);
    }
}
END_TEST

START_TEST(durations_refused)
{
    static const char *const bad[] = {
        "",
        "1",
        "300",
        "00",
        "-5s",
        "+5s",
        " 5s",
        "5s ",
        "5 s",
        "5S",
        "5d",
        "5min",
        "s",
        ".5s",
        "5.s",
        "1.5ms",
        "0.0001s",
        "1.5.5s",
        "1e3s",
        "0x5s",
        "1,5s",
        "5m30s",
        "99999999h",
        "9223372036854775807ms",
        "9223372036854775808ms",
        "99999999999999999999h",
        "1.99999999999999999999s",
        "0.",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kg_str s = exact(bad[i]);
        int64_t ms;

        ck_assert_msg(kg_duration_parse(s, &ms) == KG_EINVAL, "%s", bad[i]);
        drop(s);
    }
}
END_TEST

START_TEST(durations_end_at_ten_years)
{
    const int64_t limit = INT64_C(3653) * 86400000; /* with the leap days that ten years can have */
    char text[32];
    int64_t ms;

    for (int64_t n = limit - 1; n <= limit + 1; n++) {
        snprintf(text, sizeof text, "%lldms", (long long)n);
        ck_assert_int_eq(kg_duration_parse(kg_str_of(text), &ms), n <= limit ? 0 : KG_EINVAL);
    }
}
END_TEST

START_TEST(durations_printed)
{
    static const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "0"},
        {1, "1ms"},
        {999, "999ms"},
        {1000, "1s"},
        {1500, "1500ms"},
        {60000, "1m"},
        {90000, "90s"},
        {300000, "5m"},
        {3600000, "1h"},
        {5400000, "90m"},
        {86400000, "24h"},
        {-1, "-1ms"},
        {INT64_MAX, "9223372036854775807ms"},
    };
    char out[24];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kg_duration_format(cases[i].ms, out);
        ck_assert_str_eq(out, cases[i].text);
    }
}
END_TEST

START_TEST(printed_durations_and_sizes_read_back)
{
    uint64_t x = 88172645463325252u;

    for (int i = 0; i < 20000; i++) {
        char out[24];
        int64_t back;

        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const int64_t v = (int64_t)(x % 3600000) << (x >> 60);
        kg_duration_format(v, out);
        ck_assert_int_eq(kg_duration_parse(kg_str_of(out), &back), 0);
        ck_assert_int_eq(back, v);
        kg_size_format(v, out);
        ck_assert_int_eq(kg_size_parse(kg_str_of(out), &back), 0);
        ck_assert_int_eq(back, v);
    }
}
END_TEST

START_TEST(sizes_taken)
{
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {
        {"0", 0},
        {"100", 100},
        {"1B", 1},
        {"1KB", 1000},
        {"64KiB", 65536},
        {"512MiB", 536870912},
        {"2GiB", INT64_C(2147483648)},
        {"1.5KiB", 1536},
        {"1MB", 1000000},
        {"1GB", 1000000000},
        {"9223372036854775807", INT64_MAX},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kg_str s = exact(cases[i].text);
        int64_t bytes = -1;

        ck_assert_msg(kg_size_parse(s, &bytes) == 0, "%s", cases[i].text);
        ck_assert_int_eq(bytes, cases[i].bytes);
        drop(s);
    }
}
END_TEST

START_TEST(sizes_refused)
{
    static const char *const bad[] = {
        "",
        "-1",
        "KiB",
        "1 KiB",
        "1kib",
        "1K",
        "512m",
        "1.5",
        "0.0001KiB",
        "9223372036854775808",
        "9223372036854775807KiB",
        "8589934592GiB",
        "1KiBs",
        "1..5KiB",
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kg_str s = exact(bad[i]);
        int64_t bytes;

        ck_assert_msg(kg_size_parse(s, &bytes) == KG_EINVAL, "%s", bad[i]);
        drop(s);
    }
}
END_TEST

START_TEST(sizes_printed)
{
    static const struct {
        int64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0"},       {1, "1"},         {1023, "1023"},        {1024, "1KiB"},
        {1025, "1025"}, {65536, "64KiB"}, {536870912, "512MiB"}, {INT64_C(3) << 30, "3GiB"},
        {1000, "1000"},
    };
    char out[24];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        kg_size_format(cases[i].bytes, out);
        ck_assert_str_eq(out, cases[i].text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("str");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, equality);
    tcase_add_test(t, prefixes);
    tcase_add_test(t, trimming);
    tcase_add_test(t, copy_at_its_limit);
    tcase_add_test(t, numbers);
    tcase_add_test(t, hash_is_fnv1a);
    tcase_add_test(t, globs);
    tcase_add_test(t, glob_is_never_exponential);
    tcase_add_test(t, durations_taken);
    tcase_add_test(t, durations_refused);
    tcase_add_test(t, durations_end_at_ten_years);
    tcase_add_test(t, durations_printed);
    tcase_add_test(t, printed_durations_and_sizes_read_back);
    tcase_add_test(t, sizes_taken);
    tcase_add_test(t, sizes_refused);
    tcase_add_test(t, sizes_printed);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
