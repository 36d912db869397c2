/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of what makes a container ours. The difficulty: the seal must hold for whatever words an
 * engine has for what we made, and break for the least thing that we did not. */
#include "memory.h"
#include "orchestrator/engine_priv.h"
#include <check.h>
#include <stdio.h>

#define KEY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
/* Made by another program: containers of an older run must be known by a newer one. */
#define MADE_OF "9a268a9e8b9406736daece2f139b54ca51759853772cb7ed77ca31496d0b2500"
#define SEAL "8cbb8f67fc5e08eea516e7f653bb1732a5a1c03f7aeb8281c90e1398c8768c9c"
#define NAME "kipgate-a-0123456789"

static struct json *parse(const char *text)
{
    struct json *n = json_parse(kg_str_of(text), 1 << 20, 64, NULL, NULL);

    ck_assert_msg(n != NULL, "%s", text);
    return n;
}

/* What the engine says of the container that has these. */
static struct json *inspection(const char *name, const struct json *labels, const char *image,
                               const char *host)
{
    struct json *root = json_new_object(), *config = json_new_object();
    struct kg_buf text;

    kg_buf_init(&text, 1 << 20);
    ck_assert_int_eq(json_print(labels, false, &text), 0);
    json_set_string(root, "Id", "1");
    json_set_string(root, "Name", name);
    json_set_string(config, "Image", image);
    json_set(config, "Labels", parse(text.data));
    json_set(root, "Config", config);
    json_set(root, "HostConfig", parse(host));
    kg_buf_fini(&text);
    return root;
}

static struct engine_container inspected(const char *name, const struct json *labels,
                                         const char *image, const char *host)
{
    struct json *root = inspection(name, labels, image, host);
    struct engine_container c;

    engine_parse_inspect(root, &c);
    engine_seal_check(KEY, &c);
    ck_assert_int_eq(engine_seal_compare(KEY, root, &c), 0);
    json_free(root);
    return c;
}

static struct json *labels_made(const char *key, const char *image, const char *host)
{
    const struct engine_ground g = {.owner = "me", .key = key};
    struct json *labels =
        parse("{\"x\":\"y\",\"io.kipgate.owner\":\"me\",\"io.kipgate.service\":\"a\","
              "\"io.kipgate.spec\":\"s\"}");
    struct json *made = parse(host);

    ck_assert_int_eq(engine_seal_labels(labels, NAME, image, made, &g), 0);
    json_free(made);
    return labels;
}

#define HOST                                                                                       \
    "{\"Privileged\":false,\"NetworkMode\":\"kipgate-1\",\"Binds\":[\"/b:/y:ro\",\"/a:/x\"],"      \
    "\"CapAdd\":[\"NET_RAW\",\"chown\"],\"CapDrop\":[\"MKNOD\"],"                                  \
    "\"SecurityOpt\":[\"no-new-privileges\"],\"Devices\":[{\"PathOnHost\":\"/dev/null\","          \
    "\"PathInContainer\":\"/dev/null\",\"CgroupPermissions\":\"rwm\"}]}"

static bool holds(const char *name, const char *image, const char *host)
{
    struct json *labels = labels_made(KEY, "nginx", HOST);
    bool sealed = inspected(name, labels, image, host).sealed;

    json_free(labels);
    return sealed;
}

START_TEST(what_we_made_is_ours_in_the_words_of_any_engine)
{
    ck_assert(holds("/" NAME, "nginx", HOST));
    ck_assert(holds(NAME, "docker.io/library/nginx:latest",
                    "{\"NetworkMode\":\"bridge\",\"PidMode\":\"private\",\"Mounts\":null,"
                    "\"Binds\":[\"/a:/x:rw,rprivate,rbind\",\"/b:/y:rprivate,ro\"],"
                    "\"CapAdd\":[\"CAP_CHOWN\",\"CAP_NET_RAW\"],\"Memory\":7,"
                    "\"SecurityOpt\":[\"no-new-privileges\",\"label=x\"],\"VolumesFrom\":[],"
                    "\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/null\","
                    "\"CgroupPermissions\":\"rwm\"}]}"));
}
END_TEST

#define DEVICE                                                                                     \
    "\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/null\","                \
    "\"CgroupPermissions\":\"rwm\"}]"
#define BINDS "\"Binds\":[\"/a:/x\",\"/b:/y:ro\"]"
#define CAPS "\"CapAdd\":[\"NET_RAW\",\"CHOWN\"]"

START_TEST(what_is_made_of_something_else_is_not)
{
    static const char *const hosts[] = {
        "{" BINDS "," CAPS "," DEVICE ",\"Privileged\":true}",
        "{" BINDS "," CAPS "," DEVICE ",\"NetworkMode\":\"host\"}",
        "{" BINDS "," CAPS "," DEVICE ",\"NetworkMode\":\"container:1\"}",
        "{" BINDS "," CAPS "," DEVICE ",\"PidMode\":\"host\"}",
        "{" BINDS "," CAPS "," DEVICE ",\"IpcMode\":\"host\"}",
        "{" BINDS "," CAPS "," DEVICE ",\"UTSMode\":\"host\"}",
        "{" BINDS "," CAPS "," DEVICE ",\"UsernsMode\":\"host\"}",
        "{" BINDS "," CAPS "," DEVICE ",\"SecurityOpt\":[\"seccomp=unconfined\"]}",
        "{" BINDS "," CAPS "," DEVICE ",\"Mounts\":[{\"Source\":\"/\"}]}",
        "{" BINDS "," CAPS "," DEVICE ",\"VolumesFrom\":[\"x\"]}",
        "{" BINDS "," DEVICE ",\"CapAdd\":[\"NET_RAW\",\"CHOWN\",\"SYS_ADMIN\"]}",
        "{" BINDS "," DEVICE "}",
        "{" BINDS "," CAPS "}",
        "{" BINDS "," CAPS ",\"Devices\":[{\"PathOnHost\":\"/dev/null\","
        "\"PathInContainer\":\"/dev/null\",\"CgroupPermissions\":\"r\"}]}",
        "{" CAPS "," DEVICE "}",
        "{" CAPS "," DEVICE ",\"Binds\":[\"/a:/x\",\"/b:/y\"]}",
        "{" CAPS "," DEVICE ",\"Binds\":[\"/a:/x\",\"/b:/y:ro\",\"/:/z\"]}",
        "{" CAPS "," DEVICE ",\"Binds\":[\"/a:/x /b:/y:ro\"]}",
        "null",
    };

    ck_assert(holds(NAME, "nginx", "{" BINDS "," CAPS "," DEVICE "}"));
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        ck_assert_msg(!holds(NAME, "nginx", hosts[i]), "%s", hosts[i]);
    ck_assert(!holds(NAME, "evil", HOST));
    ck_assert(!holds(NAME, "nginx:1", HOST));
    ck_assert(!holds(NAME, "", HOST));
}
END_TEST

/* The same labels, with one byte of one of them changed: of its value, or of its name. */
static struct json *changed(const struct json *labels, const char *name, bool value)
{
    struct json *other;
    struct kg_buf text;
    char *at;

    kg_buf_init(&text, 1 << 20);
    ck_assert_int_eq(json_print(labels, false, &text), 0);
    at = strstr(text.data, name);
    ck_assert_ptr_nonnull(at);
    if (value)
        at += strlen(name) + strlen("\":\"");
    *at = *at == 'x' ? 'y' : 'x';
    other = parse(text.data);
    kg_buf_fini(&text);
    return other;
}

/* --- Podman, in the words of 4.3.1 -------------------------------------------------------- */

#define RANDOM "22f705ce75845ee0d0c5b0da428d25bfcbcfe8de95c5949537096fa31222ea62"
#define P_WORDS                                                                                    \
    "\"Privileged\":false,\"NetworkMode\":\"bridge\",\"IpcMode\":\"shareable\","                   \
    "\"UsernsMode\":\"\",\"CapDrop\":[\"AUDIT_WRITE\",\"MKNOD\"],"                                 \
    "\"SecurityOpt\":[\"no-new-privileges\"],\"VolumesFrom\":null,"
#define P_MODES "\"PidMode\":\"private\",\"UTSMode\":\"private\","
#define P_BINDS                                                                                    \
    "\"Binds\":[\"/a:/x:rw,rprivate,rbind\",\"/b:/y:ro,rprivate,rbind\","                          \
    "\"" RANDOM ":/v:rprivate,rw,nodev,exec,nosuid,rbind\"],"
#define P_CAPS "\"CapAdd\":[\"NET_ADMIN\"],"
#define P_DEVICE                                                                                   \
    "\"Devices\":[{\"PathOnHost\":\"/dev/null\",\"PathInContainer\":\"/dev/null\","                \
    "\"CgroupPermissions\":\"\"}]"
#define P_ALL "{" P_WORDS P_MODES P_BINDS P_CAPS P_DEVICE "}"

#define P_MADE                                                                                     \
    "{\"NetworkMode\":\"kipgate-1\",\"Binds\":[\"/b:/y:ro\",\"/a:/x\"],"                           \
    "\"CapAdd\":[\"NET_BIND_SERVICE\",\"cap_net_admin\"],\"CapDrop\":[\"ALL\"],"                   \
    "\"SecurityOpt\":[\"no-new-privileges\"],\"Devices\":[{\"PathOnHost\":\"/dev/null\","          \
    "\"PathInContainer\":\"/dev/null\",\"CgroupPermissions\":\"r\"}]}"

/* Made of that image and P_MADE, and inspected as the second one and that HostConfig. */
static bool podman_holds(const char *image, const char *told_image, const char *told)
{
    struct json *labels = labels_made(KEY, image, P_MADE);
    bool sealed = inspected(NAME, labels, told_image, told).sealed;

    json_free(labels);
    return sealed;
}

#define PODMANS_NAME "docker.io/library/nginx:latest"
#define DIGEST "66533f84b191c8e96658c9d241fd6605b8ac3ff0345735fd3a5cdb8d691beafb"

START_TEST(what_we_made_is_ours_in_the_words_of_podman)
{
    ck_assert(podman_holds("nginx", PODMANS_NAME, P_ALL));
    ck_assert(podman_holds("nginx@sha256:" DIGEST, PODMANS_NAME, P_ALL));
    ck_assert(podman_holds("sha256:" DIGEST, PODMANS_NAME, P_ALL));
    ck_assert(podman_holds("66533f84b191", PODMANS_NAME, P_ALL));
    ck_assert(podman_holds("localhost/a:1", "localhost/a:1", P_ALL));
}
END_TEST

/* An image whose volume has no name, and nothing else: there the whole form is the terse one. */
START_TEST(podmans_volumes_without_a_name_are_nobodys)
{
    struct json *labels = labels_made(KEY, "nginx", "{}");

    ck_assert_ptr_null(json_get(labels, LABEL_TERSE_SEAL));
    ck_assert(inspected(NAME, labels, PODMANS_NAME,
                        "{" P_WORDS P_MODES "\"Binds\":[\"" RANDOM ":/v:rw,rbind\"]}")
                  .sealed);
    json_free(labels);
}
END_TEST

START_TEST(podman_must_tell_what_takes_a_wall_away)
{
    static const char *const hosts[] = {
        "{\"Privileged\":true," P_MODES P_BINDS P_CAPS P_DEVICE "}",
        "{\"NetworkMode\":\"host\"," P_MODES P_BINDS P_CAPS P_DEVICE "}",
        "{" P_WORDS "\"PidMode\":\"host\",\"UTSMode\":\"private\"," P_BINDS P_CAPS P_DEVICE "}",
        "{" P_WORDS "\"PidMode\":\"private\",\"UTSMode\":\"host\"," P_BINDS P_CAPS P_DEVICE "}",
        "{" P_WORDS P_MODES P_BINDS "\"CapAdd\":[\"NET_ADMIN\",\"SYS_ADMIN\"]," P_DEVICE "}",
        "{" P_WORDS P_MODES P_BINDS P_CAPS "\"Devices\":[]}",
        "{" P_WORDS P_MODES P_BINDS P_CAPS "\"Devices\":[{\"PathOnHost\":\"/dev/sda\","
        "\"PathInContainer\":\"/dev/null\",\"CgroupPermissions\":\"\"}]}",
        "{" P_WORDS P_MODES P_CAPS P_DEVICE "}",
        "{" P_WORDS P_MODES P_CAPS P_DEVICE ",\"Binds\":[\"/a:/x:rw\",\"/b:/y:rw\"]}",
        "{" P_WORDS P_MODES P_CAPS P_DEVICE ",\"Binds\":[\"/a:/x:rw\",\"/b:/y:ro\",\"" RANDOM
        "0:/z:rw\"]}",
        "{" P_WORDS P_MODES P_CAPS P_DEVICE ",\"Binds\":[\"/a:/x:rw\",\"/b:/y:ro\",\"/" RANDOM
        ":/z:rw\"]}",
        "{" P_MODES P_BINDS P_CAPS P_DEVICE ",\"SecurityOpt\":[\"seccomp=unconfined\"]}",
    };

    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
        ck_assert_msg(!podman_holds("nginx", PODMANS_NAME, hosts[i]), "%s", hosts[i]);
    ck_assert(!podman_holds("nginx", "docker.io/library/evil:latest", P_ALL));
    ck_assert(!podman_holds("nginx:1", PODMANS_NAME, P_ALL));
    ck_assert(!podman_holds("deadbeef", PODMANS_NAME, P_ALL)); /* too short for an id */
}
END_TEST

START_TEST(another_engine_must_tell_all)
{
    ck_assert(!podman_holds("nginx", PODMANS_NAME, "{" P_BINDS P_CAPS P_DEVICE "}"));
    ck_assert(!podman_holds("nginx", PODMANS_NAME,
                            "{\"PidMode\":\"private\"," P_BINDS P_CAPS P_DEVICE "}"));
    ck_assert(!podman_holds("nginx", PODMANS_NAME,
                            "{\"UTSMode\":\"private\"," P_BINDS P_CAPS P_DEVICE "}"));
}
END_TEST

START_TEST(the_terse_seal_is_sealed)
{
    struct json *labels = labels_made(KEY, "nginx", P_MADE), *other;

    other = changed(labels, LABEL_TERSE_SEAL, true);
    ck_assert(!inspected(NAME, other, PODMANS_NAME, P_ALL).sealed);
    ck_assert(inspected(NAME, other, "nginx", P_MADE).sealed); /* nobody needs it there */
    json_free(other);
    other = changed(labels, LABEL_TERSE_SEAL, false);
    ck_assert(!inspected(NAME, other, PODMANS_NAME, P_ALL).sealed);
    json_free(other);
    json_free(labels);
}
END_TEST

/* --- labels ------------------------------------------------------------------------------- */

START_TEST(a_copy_of_the_labels_is_not_ours)
{
    ck_assert(!holds("kipgate-a-0123456780", "nginx", HOST));
    ck_assert(!holds("", "nginx", HOST));
}
END_TEST

START_TEST(every_label_is_sealed)
{
    static const char *const names[] = {LABEL_OWNER, LABEL_SERVICE, LABEL_SPEC, LABEL_MADE_OF,
                                        LABEL_SEAL};

    for (size_t i = 0; i < 2 * sizeof names / sizeof *names; i++) {
        struct json *labels = labels_made(KEY, "nginx", HOST);
        struct json *other = changed(labels, names[i / 2], i % 2 == 0);
        ck_assert_msg(!inspected(NAME, other, "nginx", HOST).sealed, "%s", names[i / 2]);
        json_free(other);
        other = changed(labels, "x", i % 2 == 0); /* the user's own */
        ck_assert(inspected(NAME, other, "nginx", HOST).sealed);
        json_free(other);
        json_free(labels);
    }
}
END_TEST

START_TEST(a_worker_is_no_sandbox)
{
    struct json *labels = labels_made(KEY, "nginx", HOST);

    json_set_string(labels, LABEL_SANDBOX, "1");
    ck_assert(!inspected(NAME, labels, "nginx", HOST).sealed);
    json_free(labels);
}
END_TEST

START_TEST(another_key_seals_nothing_of_ours)
{
    struct json *labels = labels_made("another", "nginx", HOST);

    ck_assert(!inspected(NAME, labels, "nginx", HOST).sealed);
    json_free(labels);
}
END_TEST

START_TEST(the_seal_is_what_it_was)
{
    struct json *labels = labels_made(KEY, "nginx", "{}");

    ck_assert_str_eq(json_string(json_get(labels, LABEL_MADE_OF), ""), MADE_OF);
    ck_assert_str_eq(json_string(json_get(labels, LABEL_SEAL), ""), SEAL);
    json_free(labels);
}
END_TEST

/* Else it would be taken for somebody else's, and made a second time. */
START_TEST(without_memory_what_is_ours_is_not_called_foreign)
{
    struct json *labels = labels_made(KEY, "nginx", HOST);
    struct json *root = inspection(NAME, labels, "docker.io/library/nginx:latest", HOST);
    int rc = KG_ENOMEM, refusals = 0;

    while (rc != 0) {
        struct engine_container c;
        engine_parse_inspect(root, &c);
        allocations_left = refusals++;
        engine_seal_check(KEY, &c);
        ck_assert(c.sealed);
        rc = engine_seal_compare(KEY, root, &c);
        ck_assert_int_eq(rc, memory_was_enough() ? 0 : KG_ENOMEM);
        ck_assert(c.sealed == (rc == 0));
        ck_assert_int_lt(refusals, 1000);
    }
    ck_assert_int_gt(refusals, 2);
    json_free(root);
    json_free(labels);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine_seal");
    TCase *t = tcase_create("seal");
    SRunner *runner;
    int failed;

    tcase_add_test(t, what_we_made_is_ours_in_the_words_of_any_engine);
    tcase_add_test(t, what_is_made_of_something_else_is_not);
    tcase_add_test(t, what_we_made_is_ours_in_the_words_of_podman);
    tcase_add_test(t, podmans_volumes_without_a_name_are_nobodys);
    tcase_add_test(t, podman_must_tell_what_takes_a_wall_away);
    tcase_add_test(t, another_engine_must_tell_all);
    tcase_add_test(t, the_terse_seal_is_sealed);
    tcase_add_test(t, a_copy_of_the_labels_is_not_ours);
    tcase_add_test(t, every_label_is_sealed);
    tcase_add_test(t, a_worker_is_no_sandbox);
    tcase_add_test(t, another_key_seals_nothing_of_ours);
    tcase_add_test(t, the_seal_is_what_it_was);
    tcase_add_test(t, without_memory_what_is_ours_is_not_called_foreign);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
