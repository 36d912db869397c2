/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration in layers, as it takes effect, and as it changes while running. The difficulty:
 * what is shown, what is copied and what is in force must be one and the same. */
#include "config_case.h"
#include "tls_case.h"

/* --- layers -------------------------------------------------------------------------------- */

static const char one[] = "{\"drain_timeout\": \"1s\", \"listen\": [\"a:1\", \"a:2\"],"
                          " \"services\": {\"a\": {\"image\": \"x\", \"queue\": 1}}}";

START_TEST(test_file_then_environment_then_flag)
{
    struct config *c = good(one, NULL);

    ck_assert_int_eq(c->drain_timeout_ms, 1000);
    config_free(c);
    setenv("KIPGATE_DRAIN_TIMEOUT", "2s", 1);
    setenv("KIPGATE_LISTEN", "[\"a:3\", \"a:4\", \"a:5\"]", 1);
    c = good(one, NULL);
    ck_assert_int_eq(c->drain_timeout_ms, 2000);
    ck_assert_uint_eq(c->listen.count, 3);
    config_free(c);
    c = good(one, FLAGS("--drain-timeout", "3s", "--listen=[::1]:6", "--listen", "a:7"));
    ck_assert_int_eq(c->drain_timeout_ms, 3000);
    ck_assert_uint_eq(c->listen.count, 2);
    ck_assert_str_eq(c->listen.items[0], "[::1]:6");
    config_free(c);
    setenv("KIPGATE_CONFIG", "/nonexistent", 1);
    config_free(good(one, NULL));
    bad(NULL, FLAGS("--fronts", "1"), "/nonexistent: cannot be read");
}
END_TEST

START_TEST(test_layers_change_a_service_of_the_file)
{
    struct config *c;

    setenv("KIPGATE_QUEUE", "2", 1);
    c = good(one, FLAGS("--name", "a", "--idle-timeout=7s", "--strip-prefix"));
    ck_assert_uint_eq(c->service_count, 1);
    ck_assert_str_eq(c->services[0]->image, "x");
    ck_assert_int_eq(c->services[0]->queue, 2);
    ck_assert_int_eq(c->services[0]->idle_timeout_ms, 7000);
    ck_assert(c->services[0]->strip_prefix);
    config_free(c);
    c = good(one, FLAGS("--name", "a", "--queue", "3", "--strip-prefix=false"));
    ck_assert_int_eq(c->services[0]->queue, 3);
    ck_assert(!c->services[0]->strip_prefix);
    config_free(c);
    bad(one, FLAGS("--queue", "3"), "--queue: needs an image, or the --name");
    ck_assert_ptr_nonnull(strstr(told(), "environment:KIPGATE_QUEUE: needs an image"));
    bad(one, FLAGS("--name", "b", "--queue", "3"), "--image: is required");
    bad(one, FLAGS("--name", "B", "--queue", "3"), "--name: \"B\" must be");
}
END_TEST

/* Where the value was said that does not fit, whichever layer the service comes from. */
START_TEST(test_contradictions_between_layers)
{
    bad(one, FLAGS("--name", "a", "--min-instances", "3"),
        "--min-instances: is above max_instances, which is 1");
    setenv("KIPGATE_PAUSE_AFTER", "10m", 1);
    bad(one, FLAGS("--name", "a"), "environment:KIPGATE_PAUSE_AFTER: never comes");
    bad(NULL, FLAGS("--image", "x"), "environment:KIPGATE_PAUSE_AFTER: never comes");
    bad(one, FLAGS("--name", "a", "--pause-after", "6m"), "--pause-after: never comes");
    ck_assert_uint_eq(errors.count, 1);
    setenv("KIPGATE_PAUSE_AFTER", "", 1);
    bad(one, FLAGS("--name", "a", "--needs", "b"), "--needs: there is no service \"b\"");
    setenv("KIPGATE_IMAGE", "a b", 1);
    bad(NULL, FLAGS("--name", "a", "--queue", "3"), "environment:KIPGATE_IMAGE: \"a b\" is not");
    ck_assert_msg(errors.count == 1, "%s", told());
    setenv("KIPGATE_IMAGE", "x", 1);
    setenv("KIPGATE_NAME", "A", 1);
    bad(NULL, NULL, "environment:KIPGATE_NAME: \"A\" must be");
}
END_TEST

START_TEST(test_errors_of_variables_and_flags)
{
    setenv("KIPGATE_FRONTS", "77", 1);
    setenv("KIPGATE_OWNER", "\xff", 1);
    bad(one, FLAGS("--drain-timeout", "5", "--imgae", "x", "word", "--admin"),
        "environment:KIPGATE_FRONTS: must be a whole number from 1 to 64, not 77");
    ck_assert_ptr_nonnull(strstr(told(), "environment:KIPGATE_OWNER: the value is not UTF-8"));
    ck_assert_ptr_nonnull(strstr(told(), "--drain-timeout: must be a duration"));
    ck_assert_ptr_nonnull(strstr(told(), "--imgae: unknown option; did you mean --image?"));
    ck_assert_ptr_nonnull(strstr(told(), "word: unexpected argument"));
    ck_assert_ptr_nonnull(strstr(told(), "--admin: needs a value"));
    ck_assert_msg(errors.count == 6, "%s", told());
    setenv("KIPGATE_FRONTS", "", 1); /* empty is unset */
    setenv("KIPGATE_OWNER", "", 1);
    config_free(good(one, NULL));
}
END_TEST

START_TEST(test_one_service_needs_no_file)
{
    struct config *c =
        good(NULL, FLAGS("--image", "h2non/imaginary:1", "--port", "9000", "--idle-timeout", "3s",
                         "--env", "A=1", "--env", "B=2", "--routes", "/x", "--routes", "h/y",
                         "--command", "serve", "--command", "--fast", "--health", "/ready",
                         "--cpus", "0.5", "--quiet", "{\"path\": \"/p\"}", "--read-only"));
    const struct config_service *s = c->services[0];

    ck_assert_uint_eq(c->service_count, 1);
    ck_assert_str_eq(s->name, "imaginary");
    ck_assert_int_eq(s->port, 9000);
    ck_assert_int_eq(s->idle_timeout_ms, 3000);
    ck_assert_uint_eq(s->env.count, 2);
    ck_assert_uint_eq(s->route_count, 2);
    ck_assert_str_eq(s->command.items[1], "--fast");
    ck_assert_str_eq(s->health.path, "/ready");
    ck_assert_int_eq(s->nano_cpus, 500000000);
    ck_assert_str_eq(s->quiet[0].path, "/p");
    ck_assert_int_eq(s->read_only, CONFIG_TRUE);
    config_free(c);
}
END_TEST

/* D11: the original sample knew one image. */
START_TEST(test_d11_any_image_gives_its_service_a_name)
{
    static const char *const cases[][2] = {{"nginx", "nginx"},
                                           {"ghcr.io/org/my_app:1.2", NULL},
                                           {"a/b/c.d:1", "c-d"},
                                           {"localhost:5000/x@sha256:00", "x"},
                                           {"registry:5000/1.0", "1-0"}};
    struct config *c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        c = good(NULL, FLAGS("--image", cases[i][0]));
        ck_assert_str_eq(c->services[0]->name, cases[i][1] ? cases[i][1] : "my-app");
        ck_assert_str_eq(c->services[0]->image, cases[i][0]);
        config_free(c);
    }
    setenv("KIPGATE_IMAGE", "from/environment", 1);
    c = good(NULL, FLAGS("--name", "mine"));
    ck_assert_str_eq(c->services[0]->name, "mine");
    ck_assert_str_eq(c->services[0]->image, "from/environment");
    config_free(c);
}
END_TEST

START_TEST(test_engine_of_the_environment)
{
    struct config *c = good("{}", NULL);

    ck_assert_str_eq(c->engine, "unix:///var/run/docker.sock");
    ck_assert(!c->engine_tls);
    ck_assert_ptr_null(c->engine_cert_path);
    config_free(c);
    setenv("DOCKER_HOST", "tcp://e:2376", 1);
    setenv("DOCKER_TLS_VERIFY", "1", 1);
    setenv("DOCKER_CERT_PATH", "/certs", 1);
    c = good("{}", NULL);
    ck_assert_str_eq(c->engine, "tcp://e:2376");
    ck_assert(c->engine_tls);
    ck_assert_str_eq(c->engine_cert_path, "/certs");
    config_free(c);
    c = good("{\"engine\": \"unix:///f.sock\"}", NULL);
    ck_assert_str_eq(c->engine, "unix:///f.sock");
    config_free(c);
    setenv("DOCKER_HOST", "ssh://e", 1);
    bad("{}", NULL, "environment:DOCKER_HOST: \"ssh://e\" is not unix:///path or tcp://host:port");
}
END_TEST

/* NULL: none. */
static void certificates_are_in(const char *dir)
{
    struct config *c = good("{}", NULL);

    ck_assert_str_eq(c->engine_cert_path ? c->engine_cert_path : "", dir ? dir : "");
    config_free(c);
}

/* As docker's own client finds them, and as its manual has them made. */
START_TEST(test_certificates_for_the_engine_in_their_usual_place)
{
    static const char *const names[] = {"ca.pem", "cert.pem", "key.pem"};
    char home[] = "/tmp/kgcertsXXXXXX", dir[64], path[3][80];
    char *before = strdup(getenv("HOME") ? getenv("HOME") : "");

    ck_assert_ptr_nonnull(mkdtemp(home));
    snprintf(dir, sizeof dir, "%s/.docker", home);
    ck_assert_int_eq(mkdir(dir, 0700), 0);
    setenv("HOME", home, 1);
    setenv("DOCKER_HOST", "tcp://e:2376", 1);
    setenv("DOCKER_TLS_VERIFY", "1", 1);
    for (int i = 0; i < 3; i++) {
        certificates_are_in(NULL); /* not all of them are there */
        snprintf(path[i], sizeof path[i], "%s/%s", dir, names[i]);
        fclose(fopen(path[i], "w"));
    }
    certificates_are_in(dir);
    setenv("HOME", before, 1);
    setenv("DOCKER_CONFIG", dir, 1);
    certificates_are_in(dir);
    unsetenv("DOCKER_TLS_VERIFY");
    certificates_are_in(NULL); /* TLS was not asked for */
    for (int i = 0; i < 3; i++)
        unlink(path[i]);
    rmdir(dir);
    rmdir(home);
    free(before);
}
END_TEST

START_TEST(test_state_dir_of_the_environment)
{
    struct config *c;

    setenv("STATE_DIRECTORY", "/run/one:/run/two", 1);
    c = good("{}", NULL);
    ck_assert_str_eq(c->state_dir, "/run/one");
    config_free(c);
    c = good("{\"state_dir\": \"/file\"}", NULL);
    ck_assert_str_eq(c->state_dir, "/file");
    config_free(c);
    unsetenv("STATE_DIRECTORY");
    if (geteuid() != 0)
        return;
    c = good("{}", NULL);
    ck_assert_str_eq(c->state_dir, "/var/lib/kipgate");
    config_free(c);
}
END_TEST

START_TEST(test_admin_address_alone)
{
    static const char broken[] = "{\"admin\": \"a:1\", \"fronts\": \"two\"}";
    char *argv[] = {(char *)(uintptr_t) "--config", file, (char *)(uintptr_t) "--admin=b:2"};
    char *admin;

    write_file(broken, strlen(broken));
    admin = config_load_admin(2, argv, &errors); /* what else is wrong does not matter */
    ck_assert_str_eq(admin, "a:1");
    free(admin);
    admin = config_load_admin(3, argv, &errors);
    ck_assert_str_eq(admin, "b:2");
    free(admin);
    admin = config_load_admin(0, NULL, &errors);
    ck_assert_str_eq(admin, "127.0.0.1:9090");
    free(admin);
    write_file("{", 1);
    ck_assert_ptr_null(config_load_admin(2, argv, &errors));
    ck_assert_uint_eq(errors.count, 1);
}
END_TEST

/* --- effective values ---------------------------------------------------------------------- */

/* D4: documented 5 minutes, coded 20. What holds is what is documented, and it is shown. */
START_TEST(test_d4_defaults_are_the_documented_ones_and_shown)
{
    static const char *const wanted[] = {"\"idle_timeout\": \"5m\"",
                                         "\"concurrency\": 100",
                                         "\"queue\": 100",
                                         "\"start_timeout\": \"30s\"",
                                         "\"request_timeout\": \"5m\"",
                                         "\"max_body\": \"none\"",
                                         "\"pull\": \"missing\"",
                                         "\"pull_timeout\": \"10m\"",
                                         "\"memory\": \"none\"",
                                         "\"cpus\": \"none\"",
                                         "\"pids\": 512",
                                         "\"profile\": \"default\"",
                                         "\"quiet_status\": 503",
                                         "\"strip_prefix\": false",
                                         "\"drain_timeout\": \"30s\"",
                                         "\"log_level\": \"info\"",
                                         "\"access_log\": \"off\"",
                                         "\"admin\": \"127.0.0.1:9090\"",
                                         "\"remove_on_exit\": false",
                                         "\"sandboxes\": \"auto\"",
                                         "\"paused_memory\": \"none\"",
                                         "\"on_idle\": \"remove\"",
                                         "\"pause_after\": \"off\"",
                                         "\"min_instances\": 0",
                                         "\"max_instances\": 1",
                                         "\"spares\": 0",
                                         "\"0.0.0.0:8080\"",
                                         "\"routes\": ["};
    struct config *c = good("{\"services\": {\"a\": {\"image\": \"x\"}}}", NULL);
    struct kg_buf out;

    ck_assert_int_eq(c->services[0]->idle_timeout_ms, 5 * 60 * 1000);
    kg_buf_init(&out, KG_MAX_CONFIG_BYTES);
    config_print(c, &out);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        ck_assert_msg(strstr(out.data, wanted[i]) != NULL, "%s not in %s", wanted[i], out.data);
    kg_buf_fini(&out);
    config_free(c);
}
END_TEST

/* One file for all that TLS needs; its name is put into the text at the start. */
#define PEM "/tmp/kipgate-layers-XXXXXX"
static char pem[] = PEM;

static char full[] =
    "{\"listen\": [\"https://a:1\", \"unix:/s\"], \"client_ca\": \"" PEM "\","
    " \"certificates\": [{\"certificate\": \"" PEM "\", \"key\": \"" PEM "\"}],"
    " \"protocols\": [\"http/1.1\"], \"admin\": \"unix:/a\", \"engine\": \"tcp://e:1\","
    " \"owner\": \"me\", \"state_dir\": \"/st\", \"fronts\": 3, \"max_starts\": 5,"
    " \"max_connections_per_client\": 7, \"drain_timeout\": \"1500ms\", \"log_level\": \"debug\","
    " \"log_format\": \"text\", \"access_log\": \"-\", \"remove_on_exit\": true,"
    " \"sandboxes\": \"off\", \"paused_memory\": \"1GiB\", \"services\": {"
    "\"b\": {\"image\": \"y\", \"socket\": \"/run/b/s\", \"routes\": [\"*.h/\", \"/b\"]},"
    "\"a\": {\"image\": \"x:1\", \"command\": [\"c\", \"\", \"\\\"\"], \"entrypoint\": [\"e\"],"
    " \"env\": {\"A\": \"1\", \"B\": \"\\n\\u00e4\"}, \"labels\": [\"l=1\", \"k=\"],"
    " \"volumes\": [\"v:/v:ro\"], \"user\": \"1:1\", \"port\": 80, \"routes\": [\"h/p\"],"
    " \"strip_prefix\": true, \"protocol\": \"h2c\", \"needs\": [\"b\"], \"idle_timeout\": "
    "\"auto\","
    " \"idle_min\": \"30s\", \"idle_max\": \"2m\", \"idle_goal\": 0.7, \"on_idle\": \"stop\","
    " \"pause_after\": \"40s\", \"min_instances\": 1, \"max_instances\": 3, \"spares\": 2,"
    " \"concurrency\": 2, \"queue\": 0,"
    " \"start_timeout\": \"1h\", \"request_timeout\": \"0\", \"max_body\": \"1536KiB\","
    " \"health\": {\"path\": \"/h\", \"status\": \"204\"}, \"pull\": \"never\","
    " \"pull_timeout\": \"61s\", \"memory\": \"64MiB\", \"cpus\": 1.5, \"pids\": 9,"
    " \"profile\": \"strict\", \"cap_add\": [\"cap_chown\"], \"cap_drop\": [\"KILL\"],"
    " \"read_only\": false, \"tmpfs\": [\"/t\"], \"init\": false, \"runtime\": \"runc\","
    " \"devices\": [\"/dev/null\"], \"quiet\": [{\"path\": \"/q\"}, {\"user_agent\": \"U\"}],"
    " \"quiet_status\": 200}}}";

/* Printed, parsed, printed: the same text, and every key is in it. */
START_TEST(test_what_is_printed_is_taken_back)
{
    struct config *c = good(full, NULL), *again;
    struct kg_buf first, second;
    char quoted[64];

    kg_buf_init(&first, KG_MAX_CONFIG_BYTES);
    kg_buf_init(&second, KG_MAX_CONFIG_BYTES);
    config_print(c, &first);
    again = good(first.data, NULL);
    config_print(again, &second);
    ck_assert_str_eq(first.data, second.data);
    ck_assert_str_eq(c->services[0]->spec, again->services[0]->spec);
    ck_assert_str_eq(c->services[0]->env.items[1], "B=\n\u00e4");
    ck_assert_int_eq(again->services[0]->nano_cpus, 1500000000);
    CONFIG_EACH_KEY(k, config_top_keys)
    ck_assert_ptr_nonnull(strstr(first.data, k->name));
    CONFIG_EACH_KEY(k, config_service_keys)
    {
        snprintf(quoted, sizeof quoted, "\"%s\":", k->name);
        ck_assert_msg(strstr(first.data, quoted) != NULL, "%s is not printed", k->name);
    }
    kg_buf_fini(&first);
    kg_buf_fini(&second);
    config_free(c);
    config_free(again);
}
END_TEST

START_TEST(test_a_copy_is_the_same_and_its_own)
{
    struct config *c = good(full, NULL), *copy = config_copy(c);
    struct kg_buf first, second;

    kg_buf_init(&first, KG_MAX_CONFIG_BYTES);
    kg_buf_init(&second, KG_MAX_CONFIG_BYTES);
    config_print(c, &first);
    config_free(c);
    config_print(copy, &second);
    ck_assert_str_eq(first.data, second.data);
    kg_buf_fini(&first);
    kg_buf_fini(&second);
    config_free(copy);
}
END_TEST

START_TEST(test_what_is_looser_than_the_profile)
{
    struct config *c = good(full, NULL);
    struct kg_buf out;

    kg_buf_init(&out, KG_MAX_CONFIG_BYTES);
    config_print_loosened(c, &out);
    ck_assert_str_eq(out.data, "service a: cap_add CHOWN\n"
                               "service a: devices /dev/null\n"
                               "service a: volumes v:/v:ro\n"
                               "service a: init false\n"
                               "service a: read_only false\n");
    config_free(c);
    kg_buf_clear(&out);
    c = good("{\"services\": {\"a\": {\"image\": \"x\", \"cap_add\": [\"CHOWN\", \"NET_ADMIN\"]}}}",
             NULL);
    config_print_loosened(c, &out);
    ck_assert_str_eq(out.data, "service a: cap_add NET_ADMIN\n");
    config_free(c);
    kg_buf_fini(&out);
}
END_TEST

START_TEST(test_an_admin_api_that_workers_may_reach_is_told)
{
    static const struct {
        const char *admin;
        bool exposed;
    } rows[] = {{"off", false},           {"unix:/run/a.sock", false}, {"127.0.0.1:9090", false},
                {"127.9.9.9:1", false},   {"[::1]:9090", false},       {"localhost:9090", false},
                {"0.0.0.0:9090", true},   {"[::]:9090", true},         {"10.0.0.1:9090", true},
                {"172.17.0.1:9090", true}};

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[160];
        struct kg_buf out;
        struct config *c;
        snprintf(text, sizeof text,
                 "{\"admin\": \"%s\", \"services\": {\"a\": {\"image\": \"x\"}}}", rows[i].admin);
        c = good(text, NULL);
        kg_buf_init(&out, KG_MAX_CONFIG_BYTES);
        config_print_loosened(c, &out);
        ck_assert_msg((out.len > 0) == rows[i].exposed, "%s", rows[i].admin);
        ck_assert(!rows[i].exposed || strstr(out.data, rows[i].admin));
        kg_buf_fini(&out);
        config_free(c);
    }
}
END_TEST

/* --- spec ---------------------------------------------------------------------------------- */

static void spec_of(const char *members, char out[65])
{
    char text[512];
    struct config *c;

    snprintf(text, sizeof text, "{\"services\": {\"a\": {\"image\": \"x\"%s}}}", members);
    c = good(text, NULL);
    memcpy(out, c->services[0]->spec, 65);
    ck_assert_uint_eq(strlen(out), 64);
    config_free(c);
}

START_TEST(test_the_spec_is_what_a_container_is_created_with)
{
    static const char *const same[] = {", \"idle_timeout\": \"1s\"",
                                       ", \"idle_timeout\": \"auto\", \"idle_goal\": 1",
                                       ", \"on_idle\": \"pause\"",
                                       ", \"pause_after\": \"1s\"",
                                       ", \"min_instances\": 1",
                                       ", \"max_instances\": 2, \"spares\": 1",
                                       ", \"needs\": []",
                                       ", \"queue\": 1",
                                       ", \"routes\": [\"/x\"]",
                                       ", \"health\": {\"path\": \"/\"}",
                                       ", \"pull\": \"never\"",
                                       ", \"env\": []",
                                       ", \"pids\": 512",
                                       ", \"max_body\": \"1MiB\""};
    static const char *const other[] = {
        ", \"env\": [\"A=1\"]", ", \"command\": [\"c\"]",  ", \"entrypoint\": [\"c\"]",
        ", \"port\": 1",        ", \"memory\": \"1GiB\"",  ", \"read_only\": true",
        ", \"init\": true",     ", \"labels\": [\"a=1\"]", ", \"profile\": \"strict\"",
        ", \"user\": \"1\"",    ", \"tmpfs\": [\"/t\"]",   ", \"socket\": \"/a/b\""};
    char plain[65], spec[65], seen[16][65];

    spec_of("", plain);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        spec_of(same[i], spec);
        ck_assert_msg(strcmp(spec, plain) == 0, "%s", same[i]);
    }
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        spec_of(other[i], seen[i]);
        ck_assert_msg(strcmp(seen[i], plain) != 0, "%s", other[i]);
        for (size_t k = 0; k < i; k++)
            ck_assert_str_ne(seen[i], seen[k]);
    }
    spec_of(", \"labels\": {\"a\": \"1\", \"b\": \"2\"}", plain);
    spec_of(", \"labels\": [\"b=2\", \"a=1\"]", spec);
    ck_assert_str_eq(plain, spec);
}
END_TEST

/* --- changes while running ----------------------------------------------------------------- */

static struct config *put(const struct config *base, const char *name, const char *json)
{
    config_errors_fini(&errors);
    return config_with_service(base, name, kg_str_of(json), "PUT /v1/services/x", &errors);
}

START_TEST(test_a_service_is_added_and_replaced)
{
    struct config *base = good(full, NULL), *next;

    next = put(base, "aa", "{\"image\": \"z\", \"routes\": [\"/z\"], \"idle_timeout\": \"7s\"}");
    ck_assert_msg(next != NULL, "%s", told());
    ck_assert_uint_eq(next->service_count, 3);
    ck_assert_str_eq(next->services[1]->name, "aa");
    ck_assert_int_eq(next->services[1]->idle_timeout_ms, 7000);
    ck_assert_str_eq(next->services[0]->spec, base->services[0]->spec);
    ck_assert(config_may_replace(base, next, &errors));
    config_free(next);
    next = put(base, "a", "{\"image\": \"z\", \"routes\": [\"h/p\"]}");
    ck_assert_uint_eq(next->service_count, 2);
    ck_assert_str_eq(next->services[0]->image, "z");
    ck_assert_uint_eq(next->services[0]->env.count, 0); /* replaced, not changed */
    config_free(next);
    config_free(base);
}
END_TEST

START_TEST(test_a_bad_put_tells_all_and_where)
{
    struct config *base = good(full, NULL);

    ck_assert_ptr_null(put(base, "c", "{\"nonsense\": 1,\n \"queue\": -1, \"routes\": [\"/b\"]}"));
    ck_assert_ptr_nonnull(strstr(told(), "PUT /v1/services/x:1:2: nonsense: unknown key"));
    ck_assert_ptr_nonnull(strstr(told(), "PUT /v1/services/x:2:11: queue: must be"));
    ck_assert_ptr_nonnull(strstr(told(), "PUT /v1/services/x:1:1: image: is required"));
    ck_assert_ptr_nonnull(strstr(told(), "routes[0]: the route /b is a route of service b too"));
    ck_assert_uint_eq(errors.count, 4);
    ck_assert_ptr_null(put(base, "c", "{\"image\": \"x\"}"));
    ck_assert_ptr_nonnull(strstr(told(), "routes: are required"));
    ck_assert_ptr_null(put(base, "C", "{\"image\": \"x\", \"routes\": [\"/c\"]}"));
    ck_assert_ptr_null(put(base, "c", "["));
    ck_assert_ptr_null(put(base, "c", "[]"));
    ck_assert_ptr_null(put(base, "c", ""));
    config_free(base);
}
END_TEST

START_TEST(test_a_service_is_taken_away)
{
    struct config *base = good(full, NULL), *next;

    next = config_without_service(base, "a", &errors);
    ck_assert_ptr_nonnull(next);
    ck_assert_uint_eq(next->service_count, 1);
    ck_assert_ptr_null(config_without_service(next, "a", &errors));
    ck_assert_ptr_nonnull(strstr(told(), "a: there is no such service"));
    config_free(base);
    config_errors_fini(&errors);
    base = config_without_service(next, "b", &errors);
    ck_assert_ptr_nonnull(base);
    ck_assert_uint_eq(base->service_count, 0);
    config_free(next);
    config_free(base);
}
END_TEST

START_TEST(test_what_may_not_change_while_running)
{
    struct config *now = good(full, NULL), *next;

    next = good(full, FLAGS("--drain-timeout", "9s", "--remove-on-exit=false", "--name", "a",
                            "--queue", "9"));
    ck_assert(config_may_replace(now, next, &errors));
    config_free(next);
    next = good(full, FLAGS("--fronts", "9", "--listen", "q:1", "--owner", "you"));
    ck_assert(!config_may_replace(now, next, &errors));
    ck_assert_uint_eq(errors.count, 3);
    ck_assert_ptr_nonnull(strstr(told(), "fronts: cannot change while Kipgate runs (from 3 to 9)"));
    config_free(next);
    config_free(now);
}
END_TEST

/* One file for a certificate, its key and the clients' authority. */
static void write_pem(void)
{
    struct tls_made made;
    int fd = mkstemp(pem);

    tls_case_make(&made, &(struct tls_case){.is_ca = true});
    KG_ASSERT(write(fd, made.chain, strlen(made.chain)) > 0);
    KG_ASSERT(write(fd, made.key, strlen(made.key)) > 0);
    close(fd);
    tls_case_free(&made);
    for (char *at = full; (at = strstr(at, PEM)) != NULL;)
        memcpy(at, pem, strlen(pem));
}

int main(void)
{
    const TTest *const tests[] = {
        test_file_then_environment_then_flag,
        test_layers_change_a_service_of_the_file,
        test_contradictions_between_layers,
        test_errors_of_variables_and_flags,
        test_one_service_needs_no_file,
        test_d11_any_image_gives_its_service_a_name,
        test_engine_of_the_environment,
        test_certificates_for_the_engine_in_their_usual_place,
        test_state_dir_of_the_environment,
        test_admin_address_alone,
        test_d4_defaults_are_the_documented_ones_and_shown,
        test_what_is_printed_is_taken_back,
        test_a_copy_is_the_same_and_its_own,
        test_what_is_looser_than_the_profile,
        test_an_admin_api_that_workers_may_reach_is_told,
        test_the_spec_is_what_a_container_is_created_with,
        test_a_service_is_added_and_replaced,
        test_a_bad_put_tells_all_and_where,
        test_a_service_is_taken_away,
        test_what_may_not_change_while_running,
    };
    int failed;

    write_pem();
    failed = run_cases("config_layers", tests, sizeof tests / sizeof *tests);
    unlink(pem);
    return failed;
}
