/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies of creates: what people write reaches the engine whole, however they spell it; and what of
 * a container is listed. */
#include "orchestrator/engine_priv.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define LONG_NAME 300

static struct json *body_of(const struct config_service *s)
{
    const struct engine_ground g = {
        .owner = "o", .key = "k", .network = "net", .socket_dir = "/state/sockets/1"};
    struct engine_body b;
    struct kg_err err = {0};
    struct kg_buf text;
    struct json *n;

    ck_assert_int_eq(engine_body_begin(&b, s, &g, &err), 0);
    kg_buf_init(&text, 1 << 20);
    ck_assert_int_eq(engine_body_finish(&b, "kipgate-a-1", 0, &g, &text), 0);
    n = engine_json(kg_buf_str(&text));
    ck_assert_ptr_nonnull(n);
    kg_buf_fini(&text);
    return n;
}

static struct config_service service(void)
{
    static char image[] = "img";

    return (struct config_service){.name = "a",
                                   .image = image,
                                   .profile = CONFIG_PROFILE_STRICT,
                                   .read_only = CONFIG_UNSET,
                                   .init = CONFIG_UNSET};
}

/* A long name, a mark and a value. */
static char *long_item(char first, char mark, const char *value)
{
    char *text = malloc(LONG_NAME + strlen(value) + 2);

    ck_assert_ptr_nonnull(text);
    memset(text, 'n', LONG_NAME);
    text[0] = first;
    text[LONG_NAME] = mark;
    memcpy(text + LONG_NAME + 1, value, strlen(value) + 1);
    return text;
}

START_TEST(names_may_be_long)
{
    char *label = long_item('l', '=', "a=b"), *tmpfs = long_item('/', ':', "size=1m");
    struct config_service s = service();
    struct json *n;

    s.labels = (struct config_strings){&label, 1};
    s.tmpfs = (struct config_strings){&tmpfs, 1};
    n = body_of(&s);
    label[LONG_NAME] = tmpfs[LONG_NAME] = '\0';
    ck_assert_str_eq(json_string(json_get(json_get(n, "Labels"), label), ""), "a=b");
    ck_assert_str_eq(json_string(json_get(json_path(n, "HostConfig.Tmpfs"), tmpfs), ""), "size=1m");
    json_free(n);
    free(label);
    free(tmpfs);
}
END_TEST

static char data[] = "/data:/tmp", data_slash[] = "/data:/tmp/:ro", beside[] = "/data:/tmpfs",
            below[] = "cache:/tmp/cache/", disk[] = "/tmp", disk_slash[] = "//tmp/:size=1m",
            at_tmp[] = "/tmp/x.sock", at_tmp_too[] = "/tmp//x.sock", below_tmp[] = "/tmp/a/x.sock";

static const struct {
    char *volume, *tmpfs, *socket;
    bool taken;
} places[] = {
    {data, NULL, NULL, true},       {data_slash, NULL, NULL, true}, {NULL, disk, NULL, true},
    {NULL, disk_slash, NULL, true}, {NULL, NULL, at_tmp, true},     {NULL, NULL, at_tmp_too, true},
    {beside, NULL, NULL, false},    {below, NULL, NULL, false},     {NULL, NULL, below_tmp, false},
};

/* The engine takes no two mounts on one path, and "/tmp/" is "/tmp" to it. */
START_TEST(the_profiles_tmp_gives_way_to_the_users)
{
    char *volume = places[_i].volume, *tmpfs = places[_i].tmpfs;
    struct config_service s = service();
    const char *found;
    struct json *n;

    s.volumes = (struct config_strings){&volume, volume != NULL};
    s.tmpfs = (struct config_strings){&tmpfs, tmpfs != NULL};
    s.socket = places[_i].socket;
    n = body_of(&s);
    found = json_string(json_get(json_path(n, "HostConfig.Tmpfs"), "/tmp"), "");
    ck_assert_int_eq(strstr(found, "size=64m") == NULL, places[_i].taken);
    json_free(n);
}
END_TEST

static const struct {
    enum config_profile profile;
    const char *add, *drops;
} given[] = {
    {CONFIG_PROFILE_DEFAULT, "CHOWN", "[\"NET_RAW\",\"MKNOD\",\"AUDIT_WRITE\",\"SETFCAP\"]"},
    {CONFIG_PROFILE_DEFAULT, "MKNOD", "[\"NET_RAW\",\"AUDIT_WRITE\",\"SETFCAP\"]"},
    {CONFIG_PROFILE_DEFAULT, "ALL", "[]"},
    {CONFIG_PROFILE_DEFAULT, "CAP_ALL", "[]"},
    {CONFIG_PROFILE_STRICT, "ALL", "[\"ALL\"]"}, /* the engine lets what is added win */
};

START_TEST(what_is_added_is_not_dropped)
{
    char *add = strdup(given[_i].add);
    struct config_service s = service();
    struct kg_buf text;
    struct json *n;

    s.profile = given[_i].profile;
    s.cap_add = (struct config_strings){&add, 1};
    n = body_of(&s);
    kg_buf_init(&text, 1024);
    ck_assert_int_eq(json_print(json_path(n, "HostConfig.CapDrop"), false, &text), 0);
    ck_assert_str_eq(text.data, given[_i].drops);
    kg_buf_fini(&text);
    json_free(n);
    free(add);
}
END_TEST

/* --- what is listed --- */

static const char *const names[][2] = {
    {"[\"/kipgate-a-1\"]", "kipgate-a-1"},
    {"[\"/another/alias\",\"/kipgate-a-1\"]", "kipgate-a-1"},
    {"[\"/kipgate-a-1\",\"/another/alias\"]", "kipgate-a-1"},
    {"[\"kipgate-a-1\"]", "kipgate-a-1"},
    {"[]", ""},
    {"[7,\"\"]", ""},
};

/* Others may link to it: then it has a name below theirs, too. */
START_TEST(its_name_is_its_own)
{
    struct engine_container c;
    char text[200];
    struct json *n;

    snprintf(text, sizeof text, "{\"Id\":\"1\",\"Names\":%s}", names[_i][0]);
    n = engine_json(kg_str_of(text));
    engine_parse_listed(n, &c);
    ck_assert_str_eq(c.name, names[_i][1]);
    json_free(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_create");
    TCase *t = tcase_create("engine_create");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, names_may_be_long);
    tcase_add_loop_test(t, the_profiles_tmp_gives_way_to_the_users, 0,
                        sizeof places / sizeof *places);
    tcase_add_loop_test(t, what_is_added_is_not_dropped, 0, sizeof given / sizeof *given);
    tcase_add_loop_test(t, its_name_is_its_own, 0, sizeof names / sizeof *names);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
