/* SPDX-License-Identifier: Apache-2.0 */
/* JSON in and out: what RFC 8259 allows, and nothing else; limits at n-1, n, n+1. */
#include "orchestrator/json.h"
#include <check.h>
#include <math.h>
#include <stdlib.h>

#define ROOMY 1000000

static struct json *parse(const char *text)
{
    return json_parse(kg_str_of(text), ROOMY, 64, NULL, NULL);
}

/* The text as it is printed after it was parsed; "-" when it is refused. */
static const char *round_trip(struct kg_str text)
{
    static char out[4096];
    struct kg_buf b;
    struct json *n = json_parse(text, ROOMY, 64, NULL, NULL);

    kg_buf_init(&b, ROOMY);
    if (!n || json_print(n, false, &b) != 0)
        kg_buf_puts(&b, "-");
    ck_assert(kg_str_copy(out, sizeof out, kg_buf_str(&b)));
    kg_buf_fini(&b);
    json_free(n);
    return out;
}

static const char *const good[][2] = {
    {"{}", "{}"},
    {" [ ] ", "[]"},
    {"null", "null"},
    {"true", "true"},
    {" \t\r\n-0 ", "0"},
    {"1.5e3", "1500"},
    {"0.1", "0.1"},
    {"-12", "-12"},
    {"1e15", "1000000000000000"},
    {"1125899906842624", "1125899906842624"},
    {"\"\\u00e9\\n\\/\"", "\"\xc3\xa9\\n/\""},
    {"\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\""},
    {"{\"a\":[1,{\"b\":null}],\"c\":\"d\"}", "{\"a\":[1,{\"b\":null}],\"c\":\"d\"}"},
    {"{\"a\":1,\"A\":2}", "{\"a\":1,\"A\":2}"},
};

START_TEST(what_is_json_is_read)
{
    ck_assert_str_eq(round_trip(kg_str_of(good[_i][0])), good[_i][1]);
}
END_TEST

static const char *const bad[] = {
    "",
    " ",
    "{",
    "[1,]",
    "{\"a\":1,}",
    "{a:1}",
    "{\"a\" 1}",
    "[1 2]",
    "nul",
    "truex",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "1e+",
    "0x10",
    "NaN",
    "Infinity",
    "1e999",
    "\"a",
    "\"\\x\"",
    "\"\\u12\"",
    "\"\\u12g4\"",
    "\"\\ud800\\udcg0\"",
    "\"\t\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\"",
    "\"\\ud800\\u0041\"",
    "\"\xff\"",
    "\"\xc0\x80\"",
    "\"\xed\xa0\x80\"",
    "\"\xf4\x90\x80\x80\"",
    "\"\xe2\x82\"",
    "{} {}",
    "[]x",
    "}",
    "[}",
    "{\"a\":}",
    "[,1]",
    "'a'",
    "\v1",
    "//c\n1",
    "1111111111111111111111111111111111111111111111111111111111111111", /* 64 digits */
};

START_TEST(what_is_not_json_is_refused)
{
    ck_assert_str_eq(round_trip(kg_str_of(bad[_i])), "-");
}
END_TEST

START_TEST(a_document_cut_anywhere_is_refused)
{
    const char *text = "{\"a\":[true,-1.5e2,\"x\\u00e9\xc3\xa9\"],\"b\":{\"c\":null}}";

    for (size_t n = 0; n < strlen(text); n++)
        ck_assert_str_eq(round_trip((struct kg_str){text, n}), "-");
}
END_TEST

START_TEST(a_nul_byte_is_no_end)
{
    ck_assert_str_eq(round_trip((struct kg_str){"1\0002", 3}), "-");
    ck_assert_str_eq(round_trip((struct kg_str){"\"a\0b\"", 5}), "-");
}
END_TEST

static int code_at_depth(unsigned depth, unsigned max_depth)
{
    struct kg_buf b;
    struct kg_err err = {0};

    kg_buf_init(&b, ROOMY);
    for (unsigned i = 0; i < depth; i++)
        kg_buf_puts(&b, i % 2 ? "{\"a\":" : "[");
    kg_buf_puts(&b, "1");
    for (unsigned i = depth; i-- > 0;)
        kg_buf_puts(&b, i % 2 ? "}" : "]");
    json_free(json_parse(kg_buf_str(&b), ROOMY, max_depth, NULL, &err));
    kg_buf_fini(&b);
    return err.code;
}

START_TEST(depth_is_capped)
{
    ck_assert_int_eq(code_at_depth(63, 64), 0);
    ck_assert_int_eq(code_at_depth(64, 64), 0);
    ck_assert_int_eq(code_at_depth(65, 64), KG_ELIMIT);
    ck_assert_int_eq(code_at_depth(100000, 64), KG_ELIMIT);
    ck_assert_int_eq(code_at_depth(512, 100000), 0);
    ck_assert_int_eq(code_at_depth(513, 100000), KG_ELIMIT); /* our own cap */
}
END_TEST

START_TEST(size_is_capped)
{
    for (size_t max = 3; max <= 5; max++) {
        struct kg_err err = {0};
        json_free(json_parse(KG_STR("1234"), max, 64, NULL, &err));
        ck_assert_int_eq(err.code, max < 4 ? KG_ELIMIT : 0);
    }
}
END_TEST

START_TEST(an_error_has_a_place_and_words)
{
    struct kg_err err = {0};
    size_t at = 0;

    ck_assert_ptr_null(json_parse(KG_STR("{\"a\": tru}"), ROOMY, 64, &at, &err));
    ck_assert_int_eq(err.code, KG_EINVAL);
    ck_assert_uint_eq(at, 6);
    ck_assert(err.words[0]);
}
END_TEST

START_TEST(reading_asks_no_questions)
{
    struct json *n =
        parse("{\"s\":\"x\",\"n\":1.5,\"b\":true,\"a\":[1,2],\"o\":{\"p\":{\"q\":7}}}");

    ck_assert_str_eq(json_string(json_get(n, "s"), "-"), "x");
    ck_assert_str_eq(json_string(json_get(n, "S"), "-"), "-");
    ck_assert_str_eq(json_string(json_get(n, "n"), "-"), "-");
    ck_assert(json_number(json_get(n, "n"), 0) == 1.5);
    ck_assert(json_number(json_get(n, "s"), 9) == 9);
    ck_assert(json_bool(json_get(n, "b"), false));
    ck_assert(!json_bool(json_get(n, "none"), false));
    ck_assert_uint_eq(json_count(json_get(n, "a")), 2);
    ck_assert(json_number(json_path(n, "o.p.q"), 0) == 7);
    ck_assert_ptr_null(json_path(n, "o.x.q"));
    ck_assert_ptr_null(json_path(n, "s.x"));
    ck_assert_ptr_null(json_get(json_get(n, "a"), "s"));
    ck_assert_ptr_null(json_get(NULL, "a"));
    ck_assert_ptr_null(json_first(NULL));
    ck_assert_ptr_null(json_next(NULL));
    ck_assert_str_eq(json_key(json_next(json_first(n))), "n");
    ck_assert_int_eq(json_type(json_get(n, "o")), JSON_OBJECT);
    ck_assert_int_eq(json_type(NULL), JSON_NULL);
    json_free(n);
}
END_TEST

START_TEST(building_and_printing)
{
    struct json *n = json_new_object(), *a = json_new_array();
    struct kg_buf b;

    json_push_string(a, "x\"\\\n\x01");
    json_push_string(a, "\xff"); /* not UTF-8: still JSON when it is printed */
    json_set(n, "a", a);
    json_set_number(n, "n", 137438953472.0);
    json_set_bool(n, "b", false);
    json_set_number(n, "i", INFINITY);
    kg_buf_init(&b, ROOMY);
    ck_assert_int_eq(json_print(n, false, &b), 0);
    ck_assert_str_eq(b.data, "{\"a\":[\"x\\\"\\\\\\n\\u0001\",\"\\u00ff\"],\"n\":137438953472,"
                             "\"b\":false,\"i\":null}");
    kg_buf_clear(&b);
    ck_assert_int_eq(json_print(json_get(n, "a"), true, &b), 0);
    ck_assert_ptr_nonnull(strstr(b.data, "[\n  \"x"));
    json_free(n);
    kg_buf_fini(&b);
}
END_TEST

START_TEST(a_part_that_is_missing_spoils_the_whole)
{
    struct json *n = json_new_object();
    struct kg_buf b;

    json_set(n, "a", NULL);
    json_set_string(NULL, "b", "c");
    json_push(NULL, json_new_array()); /* freed */
    kg_buf_init(&b, ROOMY);
    ck_assert_int_eq(json_print(n, false, &b), KG_ENOMEM);
    kg_buf_clear(&b);
    ck_assert_int_eq(json_print(NULL, false, &b), KG_ENOMEM);
    json_free(n);
    kg_buf_fini(&b);
}
END_TEST

START_TEST(printing_keeps_to_the_buffers_cap)
{
    struct json *n = parse("[1,2]"); /* five bytes */
    struct kg_buf b;

    for (size_t max = 4; max <= 6; max++) {
        kg_buf_init(&b, max);
        ck_assert_int_eq(json_print(n, false, &b), max < 5 ? KG_ELIMIT : 0);
        kg_buf_fini(&b);
    }
    json_free(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("json");
    TCase *t = tcase_create("json");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_loop_test(t, what_is_json_is_read, 0, sizeof good / sizeof *good);
    tcase_add_loop_test(t, what_is_not_json_is_refused, 0, sizeof bad / sizeof *bad);
    tcase_add_test(t, a_document_cut_anywhere_is_refused);
    tcase_add_test(t, a_nul_byte_is_no_end);
    tcase_add_test(t, depth_is_capped);
    tcase_add_test(t, size_is_capped);
    tcase_add_test(t, an_error_has_a_place_and_words);
    tcase_add_test(t, reading_asks_no_questions);
    tcase_add_test(t, building_and_printing);
    tcase_add_test(t, a_part_that_is_missing_spoils_the_whole);
    tcase_add_test(t, printing_keeps_to_the_buffers_cap);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
