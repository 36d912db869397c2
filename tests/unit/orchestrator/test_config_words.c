/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of values that are nearly right, wherever they stand. The difficulty: a value that
 * is refused must still be shown, and what is shown must be text. */
#include "config_case.h"

static void bad_json(const char *text, size_t line, size_t column, const char *words)
{
    char place[60];

    snprintf(place, sizeof place, "%s:%zu:%zu: ", file, line, column);
    bad(text, NULL, words);
    ck_assert_msg(strstr(told(), place) != NULL, "\"%s\" not in: %s", place, told());
}

START_TEST(texts_that_are_no_json)
{
    bad_json("// services\n{}", 1, 1, "JSON has no comments");
    bad_json("{\n\"owner\": # me\n}", 2, 10, "JSON has no comments");
    bad_json("{\"sandboxes\": -}", 1, 16, "a number without digits");
    bad_json("{\"owner\": \"\\u12g4\"}", 1, 12, "a \\u escape that is no character");
    bad_json("{\"owner\": \"\\ud83d\\u0041\"}", 1, 12, "a \\u escape that is no character");
    bad_json("{\"owner\": \"\xc3(\"}", 1, 12, "a byte that is not UTF-8");
}
END_TEST

START_TEST(values_in_a_file)
{
    static const char *const cases[][2] = {
        {"\"image\": \"\"", "image"},
        {"\"image\": \"x\", \"devices\": [\"null\"]", "is not /dev/x, /dev/x:/dev/y"},
        {"\"image\": \"x\", \"health\": {\"path\": \"/h\", \"status\": \"200-x\"}", "status"},
        {"\"image\": \"x\", \"health\": {\"path\": \"/h\", \"status\": \"300-200\"}", "status"},
        {"\"image\": \"x\", \"a_key_that_is_longer_than_any_that_there_is_by_far\": 1",
         "unknown key"},
    };
    char text[400];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(text, sizeof text, "{\"services\": {\"a\": {%s}}}", cases[i][0]);
        bad(text, NULL, cases[i][1]);
    }
}
END_TEST

/* Cut, but not through a character. */
START_TEST(a_long_value_is_shown_cut)
{
    char text[600] = "{\"sandboxes\": \"";

    for (int pad = 0; pad < 2; pad++) {
        text[15] = '\0';
        if (pad)
            strcat(text, "x");
        for (int i = 0; i < 200; i++)
            strcat(text, "\xc3\xa9");
        strcat(text, "\"}");
        bad(text, NULL, "...");
        ck_assert(config_is_utf8(kg_str_of(told())));
    }
}
END_TEST

START_TEST(values_behind_flags)
{
    static char long_part[5000];

    memset(long_part, 'x', sizeof long_part - 2);
    long_part[sizeof long_part - 2] = ':';
    bad(NULL, FLAGS("--owner", "\xff"), "the value is not UTF-8");
    bad(NULL, FLAGS("--sandboxes", "1.2.3"), "--sandboxes: ");
    bad(NULL, FLAGS("--image", "x", "--read-only=maybe"), "--read-only: ");
    bad(NULL, FLAGS("--image", "x", "--health", "ready"), "--health: ");
    bad(NULL, FLAGS("--image", "x", "--env", "nothing"), "is not NAME=value");
    bad(NULL, FLAGS("--image", "x", "--quiet", "{\"path\": \"/p\""), "--quiet: ");
    bad(NULL, FLAGS("--certificates", long_part), "--certificates: ");
}
END_TEST

START_TEST(a_name_from_an_image_of_signs)
{
    struct config *c = good(NULL, FLAGS("--image", "registry.test/a/___:1"));

    ck_assert_str_eq(c->services[0]->name, "service");
    config_free(c);
}
END_TEST

START_TEST(what_is_quiet_is_printed)
{
    struct config *c = good("{\"services\": {\"a\": {\"image\": \"x\", \"routes\": [\"/\"],"
                            "\"quiet\": [{\"method\": \"HEAD\", \"user_agent\": \"Up*\"}]}}}",
                            NULL);
    struct kg_buf out;

    kg_buf_init(&out, KG_MAX_CONFIG_BYTES);
    config_print(c, &out);
    ck_assert_ptr_nonnull(strstr(out.data, "\"method\": \"HEAD\""));
    ck_assert_ptr_nonnull(strstr(out.data, "\"user_agent\": \"Up*\""));
    kg_buf_fini(&out);
    config_free(c);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {texts_that_are_no_json,        values_in_a_file,
                                  a_long_value_is_shown_cut,     values_behind_flags,
                                  a_name_from_an_image_of_signs, what_is_quiet_is_printed};

    return run_cases("config words", tests, sizeof tests / sizeof *tests);
}
