/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as a file: every key at its bounds, every error with its place.
 * The difficulty: a key that is added must be tested without anybody remembering, so the cases are
 * made from the records. */
#include "config_case.h"
#include <inttypes.h>
#include <time.h>

/* --- every key ----------------------------------------------------------------------------- */

/* What the key needs beside it, to be tried alone. */
static const char *company(const char *key)
{
    static const char *const pairs[][2] = {
        {"idle_min", "\"idle_timeout\": \"auto\", "},
        {"idle_max", "\"idle_timeout\": \"auto\", "},
        {"idle_goal", "\"idle_timeout\": \"auto\", "},
        {"pause_after", "\"idle_timeout\": \"8760h\", "},
        {"min_instances", "\"max_instances\": 1024, "},
        {"spares", "\"max_instances\": 1024, "},
    };

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (strcmp(pairs[i][0], key) == 0)
            return pairs[i][1];
    return "";
}

static char *with_value(const struct config_key *keys, const char *key, const char *json)
{
    struct kg_buf b;

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    if (keys == config_top_keys)
        kg_buf_printf(&b, "{\"%s\": %s, \"services\": {\"a\": {\"image\": \"x\"}}}", key, json);
    else if (strcmp(key, "image") == 0)
        kg_buf_printf(&b, "{\"services\": {\"a\": {\"image\": %s}}}", json);
    else
        kg_buf_printf(&b, "{\"services\": {\"a\": {\"image\": \"x\", %s\"%s\": %s}}}", company(key),
                      key, json);
    return kg_buf_take(&b);
}

static void takes(const struct config_key *keys, const char *key, const char *json)
{
    char *text = with_value(keys, key, json);

    config_free(good(text, NULL));
    free(text);
}

/* Refused, with the key's path and exactly one error. */
static void refuses(const struct config_key *keys, const char *key, const char *json)
{
    char *text = with_value(keys, key, json), where[128];

    snprintf(where, sizeof where, ": %s%s", keys == config_top_keys ? "" : "services.a.", key);
    bad(text, NULL, where);
    ck_assert_msg(errors.count == 1, "%s: %s", json, told());
    free(text);
}

static void bounds_of_int(const struct config_key *keys, const struct config_key *k)
{
    char text[32];

    snprintf(text, sizeof text, "%" PRId64, k->min);
    takes(keys, k->name, text);
    snprintf(text, sizeof text, "%" PRId64, k->max);
    takes(keys, k->name, text);
    snprintf(text, sizeof text, "%" PRId64, k->min - 1);
    refuses(keys, k->name, text);
    snprintf(text, sizeof text, "%" PRId64, k->max + 1);
    refuses(keys, k->name, text);
    snprintf(text, sizeof text, "%" PRId64 ".5", k->min);
    refuses(keys, k->name, text);
    refuses(keys, k->name, "1e300");
    refuses(keys, k->name, "\"1\"");
}

static void bounds_of_quantity(const struct config_key *keys, const struct config_key *k)
{
    const char *unit = k->type == CONFIG_DURATION ? "ms" : "B";
    char text[40];

    snprintf(text, sizeof text, "\"%" PRId64 "%s\"", k->min, unit);
    takes(keys, k->name, text);
    snprintf(text, sizeof text, "\"%" PRId64 "%s\"", k->max, unit);
    takes(keys, k->name, text);
    snprintf(text, sizeof text, "\"%" PRId64 "%s\"", k->min - 1, unit);
    refuses(keys, k->name, text);
    snprintf(text, sizeof text, "\"%" PRId64 "%s\"", k->max + 1, unit);
    refuses(keys, k->name, text);
    refuses(keys, k->name, "5");
    refuses(keys, k->name, "\"5 minutes\"");
    refuses(keys, k->name, "\"\"");
    if (k->type == CONFIG_DURATION)
        refuses(keys, k->name, "\"5\"");
}

static void bounds_of_list(const struct config_key *keys, const struct config_key *k)
{
    refuses(keys, k->name, "\"/x\"");
    refuses(keys, k->name, "[1]");
    if (k->type == CONFIG_PAIRS)
        refuses(keys, k->name, "{\"A\": 1}");
    else
        refuses(keys, k->name, "{}");
    if (k->min > 0)
        refuses(keys, k->name, "[]");
    else
        takes(keys, k->name, "[]");
}

/* The words beside the range are taken; two of them together, or one cut short, are not. */
static void words_of(const struct config_key *keys, const struct config_key *k)
{
    const char *word;
    char text[64];
    size_t n;

    for (int i = 0; (word = config_none(k, i, &n)); i++) {
        snprintf(text, sizeof text, "\"%.*s\"", (int)n, word);
        takes(keys, k->name, text);
        snprintf(text, sizeof text, "\"%.*s\"", (int)n - 1, word);
        refuses(keys, k->name, text);
        snprintf(text, sizeof text, "\"%.*s|\"", (int)n, word);
        refuses(keys, k->name, text);
    }
}

static void bounds_of(const struct config_key *keys, const struct config_key *k)
{
    if (k->type == CONFIG_INT || k->type == CONFIG_INT64)
        bounds_of_int(keys, k);
    else if (k->type == CONFIG_DURATION || k->type == CONFIG_SIZE)
        bounds_of_quantity(keys, k);
    else if (config_key_is_list(k))
        bounds_of_list(keys, k);
    else
        refuses(keys, k->name, "1e300");
    refuses(keys, k->name, "null");
    refuses(keys, k->name, "[[]]");
    if (k->type == CONFIG_BOOL || k->type == CONFIG_TRISTATE) {
        takes(keys, k->name, "true");
        takes(keys, k->name, "false");
        refuses(keys, k->name, "\"true\"");
    } else {
        refuses(keys, k->name, "true");
    }
    words_of(keys, k);
    if (k->type == CONFIG_WORD || k->type == CONFIG_STRING)
        refuses(keys, k->name, "\"\"");
}

START_TEST(test_every_key_at_its_bounds)
{
    CONFIG_EACH_KEY(k, config_top_keys)
    bounds_of(config_top_keys, k);
    CONFIG_EACH_KEY(k, config_service_keys)
    bounds_of(config_service_keys, k);
}
END_TEST

/* Each choice of each word is taken; a word that only begins like one is not. */
START_TEST(test_every_choice)
{
    const struct config_key *const tables[] = {config_top_keys, config_service_keys};
    const char *word;
    char text[64];
    size_t n;

    for (size_t t = 0; t < 2; t++)
        CONFIG_EACH_KEY(k, tables[t])
    for (int i = 0; (word = config_choice(k, i, &n)); i++) {
        snprintf(text, sizeof text, "\"%.*s\"", (int)n, word);
        takes(tables[t], k->name, text);
        snprintf(text, sizeof text, "\"%.*s\"", (int)n - 1, word);
        refuses(tables[t], k->name, text);
        snprintf(text, sizeof text, "\"%.*s|\"", (int)n, word);
        refuses(tables[t], k->name, text);
    }
}
END_TEST

static const struct {
    const char *key, *json;
    bool taken;
} strings[] = {
    {"listen", "[\"127.0.0.1:80\", \"[::1]:80\", \"unix:/run/x.sock\", \"localhost:0\"]", true},
    {"listen", "[\"127.0.0.1\"]", false},
    {"listen", "[\":80\"]", false},
    {"listen", "[\"a:65536\"]", false},
    {"listen", "[\"a:-1\"]", false},
    {"listen", "[\"a:80x\"]", false},
    {"listen", "[\"unix:x\"]", false},
    {"listen", "[\"a b:80\"]", false},
    {"admin", "\"off\"", true},
    {"admin", "\"unix:/run/kipgate/admin.sock\"", true},
    {"admin", "\"on\"", false},
    {"engine", "\"unix:///run/docker.sock\"", true},
    {"engine", "\"tcp://10.0.0.1:2376\"", true},
    {"engine", "\"http://10.0.0.1:2376\"", false},
    {"engine", "\"unix://relative\"", false},
    {"owner", "\"my.owner-1\"", true},
    {"owner", "\"-x\"", false},
    {"owner", "\"a b\"", false},
    {"state_dir", "\"/var/lib/kg\"", true},
    {"state_dir", "\"var\"", false},
    {"state_dir", "\"/a/../b\"", false},
    {"access_log", "\"-\"", true},
    {"access_log", "\"a\\nb\"", false},
    {"image", "\"localhost:5000/a/b:1@sha256:00\"", true},
    {"image", "\"../etc\"", false},
    {"image", "\"a b\"", false},
    {"image", "\"Reg.test:5000/a_b/c.d-e:V1.0_x-1\"", true},
    {"image", "\"sha256:0123456789abcdef\"", true},
    {"image", "\"nginx:\"", false},
    {"image", "\"nginx:.1\"", false},
    {"image", "\"reg.test/Group/app:1\"", false},
    {"image", "\"Nginx\"", false},
    {"image", "\"a/\"", false},
    {"image", "\"a//b\"", false},
    {"image", "\"a/../b\"", false},
    {"image", "\"a/b:1/c\"", false},
    {"image", "\"a@\"", false},
    {"image", "\"a@sha256\"", false},
    {"image", "\"a@sha256:\"", false},
    {"image", "\"a@sha256:0x\"", false},
    {"image", "\"a@sha256:00@sha256:00\"", false},
    {"image", "\"a?x=1\"", false},
    {"env", "[\"A=\", \"B=c=d\"]", true},
    {"env", "{\"A\": \"\", \"B\": \"c=d\"}", true},
    {"env", "[\"A\"]", false},
    {"env", "[\"=a\"]", false},
    {"env", "{\"\": \"a\"}", false},
    {"env", "{\"A=B\": \"a\"}", false},
    {"labels", "{\"com.example/x\": \"y\"}", true},
    {"labels", "{\"io.kipgate.owner\": \"y\"}", false},
    {"labels", "[\"a=1\", \"a=2\"]", false},
    {"volumes", "[\"/srv/a:/a:ro\", \"data:/data\"]", true},
    {"volumes", "[\"/srv/a\"]", false},
    {"volumes", "[\"../a:/a\"]", false},
    {"volumes", "[\"/a:b\"]", false},
    {"user", "\"65534:65534\"", true},
    {"user", "\"a b\"", false},
    {"socket", "\"/run/app/x.sock\"", true},
    {"socket", "\"/x.sock\"", false},
    {"socket", "\"x\"", false},
    {"socket", "\"/run/app/\"", false},
    {"routes", "[\"/\", \"/a/\", \"a.b\", \"*.a.b/c\", \"A.B/c\"]", true},
    {"routes", "[\"a.b:80\"]", false},
    {"routes", "[\"/a/../b\"]", false},
    {"routes", "[\"\"]", false},
    {"routes", "[\"/a?b\"]", false},
    {"routes", "[\"a.*.b\"]", false},
    {"health", "{\"path\": \"/h?x=1\"}", true},
    {"health", "{\"path\": \"/h\", \"status\": \"204\"}", true},
    {"health", "{\"path\": \"/h\", \"status\": \"200-599\"}", true},
    {"health", "{\"path\": \"/h\", \"status\": \"399-200\"}", false},
    {"health", "{\"path\": \"/h\", \"status\": \"99\"}", false},
    {"health", "{\"path\": \"/h\", \"status\": \"600\"}", false},
    {"health", "{\"path\": \"/h\", \"status\": 200}", false},
    {"health", "{\"path\": \"/h\", \"port\": \"1\"}", false},
    {"health", "{\"path\": \"/h\", \"path\": \"/i\"}", false},
    {"health", "{\"path\": \"/h HTTP/1.1\\r\\nX: y\"}", false},
    {"health", "{\"status\": \"200\"}", false},
    {"cpus", "0.5", true},
    {"cpus", "0.001", false},
    {"cap_add", "[\"CAP_NET_ADMIN\", \"sys_time\"]", true},
    {"cap_add", "[\"NET ADMIN\"]", false},
    {"cap_add", "[\"cap_\"]", false},
    {"cap_add", "[\"CAP_CAP_KILL\"]", false},
    {"tmpfs", "[\"/run\", \"/tmp:size=64m,noexec\"]", true},
    {"tmpfs", "[\"run\"]", false},
    {"devices", "[\"/dev/fuse\", \"/dev/a:/dev/b:rw\"]", true},
    {"devices", "[\"/dev/a:/dev/b:x\"]", false},
    {"quiet", "[{\"path\": \"/ping\"}, {\"method\": \"HEAD\", \"user_agent\": \"Up*\"}]", true},
    {"quiet", "[{}]", false},
    {"quiet", "[{\"agent\": \"x\"}]", false},
    {"quiet", "[{\"method\": \"A-METHOD-THAT-IS-LONG\"}]", false},
    {"request_timeout", "0", true},
    {"idle_timeout", "\"1.5s\"", true},
    {"idle_goal", "0", true},
    {"idle_goal", "0.25", true},
    {"idle_goal", "1", true},
    {"idle_goal", "-0.01", false},
    {"idle_goal", "1.01", false},
    {"idle_goal", "\"0.5\"", false},
    {"sandboxes", "0", false},
    {"sandboxes", "64", true},
    {"sandboxes", "65", false},
    {"needs", "[\"A b\"]", false},
};

START_TEST(test_strings)
{
    for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
        const struct config_key *keys = config_key_find(config_top_keys, strings[i].key)
                                            ? config_top_keys
                                            : config_service_keys;
        (strings[i].taken ? takes : refuses)(keys, strings[i].key, strings[i].json);
    }
}
END_TEST

/* --- limits: at n-1 (where that differs), n and n+1 ---------------------------------------- */

/* A JSON string of n bytes that begins so; freed by the caller. */
static char *long_string(const char *before, const char *begin, size_t n, const char *after)
{
    struct kg_buf b;

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    kg_buf_printf(&b, "%s\"%s", before, begin);
    for (size_t i = strlen(begin); i < n; i++)
        kg_buf_puts(&b, "a");
    kg_buf_printf(&b, "\"%s", after);
    return kg_buf_take(&b);
}

START_TEST(test_limits_of_strings)
{
    static const struct {
        const char *key, *before, *begin, *after;
        size_t max;
    } cases[] = {
        {"owner", "", "a", "", 64},
        {"state_dir", "", "/", "", 200},
        {"admin", "", "unix:/", "", 5 + KG_MAX_SOCKET_PATH_BYTES},
        {"engine", "", "unix:///", "", 7 + KG_MAX_SOCKET_PATH_BYTES},
        {"routes", "[", "/", "]", KG_MAX_ROUTE_BYTES},
        {"health", "{\"path\": ", "/", "}", KG_MAX_HEALTH_PATH_BYTES},
        {"quiet", "[{\"path\": ", "/", "}]", KG_MAX_PATTERN_BYTES},
        {"socket", "", "/run/0123456789/", "", KG_MAX_SOCKET_PATH_BYTES},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct config_key *keys =
            config_key_find(config_top_keys, cases[i].key) ? config_top_keys : config_service_keys;
        for (int d = -1; d <= 1; d++) {
            char *json = long_string(cases[i].before, cases[i].begin,
                                     cases[i].max + (size_t)(d + 1) - 1, cases[i].after);
            (d <= 0 ? takes : refuses)(keys, cases[i].key, json);
            free(json);
        }
    }
}
END_TEST

/* [item, item, ...]; %zu in the item is its number. */
static char *long_list(const char *begin, const char *end, size_t n)
{
    struct kg_buf b;

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    for (size_t i = 0; i < n; i++)
        kg_buf_printf(&b, "%s%s%zu%s", i ? ", " : "[", begin, i, end);
    kg_buf_puts(&b, "]");
    return kg_buf_take(&b);
}

START_TEST(test_limits_of_lists)
{
    static const struct {
        const char *key, *begin, *end;
        size_t max;
    } cases[] = {{"listen", "\"localhost:", "\"", KG_MAX_LISTEN},
                 {"quiet", "{\"path\": \"/", "\"}", KG_MAX_QUIET},
                 {"routes", "\"/", "\"", KG_MAX_ROUTES}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct config_key *keys = i == 0 ? config_top_keys : config_service_keys;
        char *most = long_list(cases[i].begin, cases[i].end, cases[i].max);
        char *more = long_list(cases[i].begin, cases[i].end, cases[i].max + 1);
        takes(keys, cases[i].key, most);
        refuses(keys, cases[i].key, more);
        free(most);
        free(more);
    }
}
END_TEST

START_TEST(test_limit_of_names)
{
    char text[256], name[80];

    for (size_t n = KG_MAX_NAME_BYTES - 1; n <= KG_MAX_NAME_BYTES + 1; n++) {
        memset(name, 'a', n);
        name[n] = '\0';
        snprintf(text, sizeof text, "{\"services\": {\"%s\": {\"image\": \"x\"}}}", name);
        if (n <= KG_MAX_NAME_BYTES)
            config_free(good(text, NULL));
        else
            bad_at(text, 1, 15, "services.aaaa");
    }
    bad("{\"services\": {\"\": {\"image\": \"x\"}}}", NULL, "the name must be");
    bad("{\"services\": {\"-a\": {\"image\": \"x\"}}}", NULL, "the name must be");
    bad("{\"services\": {\"A\": {\"image\": \"x\"}}}", NULL, "the name must be");
}
END_TEST

static char *many_services(size_t n)
{
    struct kg_buf b;

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    kg_buf_puts(&b, "{\"services\": {");
    for (size_t i = 0; i < n; i++)
        kg_buf_printf(&b, "%s\"s%zu\": {\"image\": \"x\", \"routes\": [\"/%zu\"]}", i ? ",\n" : "",
                      i, i);
    kg_buf_puts(&b, "}}");
    return kg_buf_take(&b);
}

START_TEST(test_limit_of_services)
{
    char *most = many_services(KG_MAX_SERVICES), *more = many_services(KG_MAX_SERVICES + 1);
    struct config *c = good(most, NULL);

    ck_assert_uint_eq(c->service_count, KG_MAX_SERVICES);
    ck_assert_str_eq(config_find(c, "s77")->name, "s77");
    ck_assert_ptr_null(config_find(c, "s8192"));
    config_free(c);
    bad(more, NULL, "more than 8192 services");
    ck_assert_uint_eq(errors.count, 1);
    free(most);
    free(more);
}
END_TEST

START_TEST(test_limit_of_a_file)
{
    char *text = malloc(KG_MAX_CONFIG_BYTES + 1);

    ck_assert_ptr_nonnull(text);
    memset(text, ' ', KG_MAX_CONFIG_BYTES + 1);
    memcpy(text, "{}", 2);
    write_file(text, KG_MAX_CONFIG_BYTES);
    config_free(good(NULL, FLAGS("--config", file)));
    write_file(text, KG_MAX_CONFIG_BYTES + 1);
    bad(NULL, FLAGS("--config", file), "larger than");
    free(text);
}
END_TEST

/* --- places -------------------------------------------------------------------------------- */

START_TEST(test_all_errors_are_told_with_their_places)
{
    static const char text[] = "{\n"
                               "  \"listne\": [\"127.0.0.1:1\"],\n"
                               "  \"fronts\":\n"
                               "    \"two\",\n"
                               "  \"services\": {\n"
                               "    \"Bad\": {\"image\": \"a\", \"routes\": [\"/b\"]},\n"
                               "    \"\u00e4\": 1,\n"
                               "    \"a\": {\"image\": \"\u00e4\u20ac\", \"queue\": -1,\n"
                               "          \"env\": [\"A=b\", \"C\"], \"routes\": [\"/x\"]},\n"
                               "    \"b\": {\"routes\": [\"/y\", \"/x\"], \"port\": 70000}\n"
                               "  }\n"
                               "}";
    static const struct {
        size_t line, column;
        const char *words;
    } wanted[] = {
        {2, 3, "listne: unknown key; did you mean \"listen\"?"},
        {4, 5, "fronts: must be a whole number from 1 to 64, not \"two\""},
        {6, 5, "services.Bad: the name must be"},
        {7, 5, "services.\u00e4: the name must be"},
        {7, 10, "services.\u00e4: must be an object"},
        {8, 20, "services.a.image: \"\u00e4\u20ac\" is not an image reference"},
        {8, 35, "services.a.queue: must be a whole number from 0 to 1000000, not -1"},
        {9, 26, "services.a.env[1]: \"C\" is not NAME=value"},
        {10, 43, "services.b.port: must be a whole number from 1 to 65535, not 70000"},
        {10, 5, "services.b.image: is required"},
        {10, 28, "services.b.routes[1]: the route /x is a route of service a too"},
    };

    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        bad_at(text, wanted[i].line, wanted[i].column, wanted[i].words);
    ck_assert_msg(errors.count == sizeof wanted / sizeof *wanted, "%s", told());
}
END_TEST

/* Each of n services has two faults, one of which is found only when all are read. The CPU time. */
static double time_of_faults(size_t n)
{
    struct kg_buf text;
    clock_t began;
    double took;

    kg_buf_init(&text, KG_MAX_CONFIG_BYTES);
    kg_buf_puts(&text, "{\"services\": {\n");
    for (size_t i = 0; i < n; i++)
        kg_buf_printf(&text, "\"s%zu\": {\"port\": 0, \"routes\": [\"/%zu\"]}%s\n", i, i,
                      i + 1 < n ? "," : "}}");
    began = clock();
    ck_assert_ptr_null(load(text.data, NULL));
    took = (double)(clock() - began) / CLOCKS_PER_SEC;
    ck_assert_uint_eq(errors.count, 2 * n);
    kg_buf_clear(&text);
    kg_buf_printf(&text, "%s:%zu:%d: services.s%zu.port: ", file, n + 1, n > 1000 ? 19 : 18, n - 1);
    ck_assert_ptr_nonnull(strstr(told(), text.data));
    kg_buf_clear(&text);
    kg_buf_printf(&text, "%s:%zu:1: services.s%zu.image: is required", file, n / 2 + 2, n / 2);
    ck_assert_ptr_nonnull(strstr(told(), text.data));
    kg_buf_fini(&text);
    return took;
}

/* A reload that is refused must not hold up those who wait. Eight times as many faults take about
 * eight times as long; looked for from the beginning, each, they took 64 times as long. */
START_TEST(test_thousands_of_errors_cost_little_each)
{
    double few = time_of_faults(500), many = time_of_faults(4000);

    ck_assert_msg(many < 24 * few + 0.05, "500 took %g s, 4000 took %g s", few, many);
}
END_TEST

START_TEST(test_what_is_not_json)
{
    static const struct {
        const char *text;
        size_t line, column;
    } cases[] = {
        {"", 1, 1},
        {" \n ", 2, 2},
        {"{", 1, 2},
        {"{\"a\"", 1, 5},
        {"{\"a\":}", 1, 6},
        {"{\"fronts\": 1,}", 1, 14},
        {"{\"fronts\": 1 \"x\": 2}", 1, 14},
        {"{} x", 1, 4},
        {"{\n// no\n}", 2, 1},
        {"{'a': 1}", 1, 2},
        {"{\"a\": 01}", 1, 8},
        {"{\"a\": .5}", 1, 7},
        {"{\"a\": 1.}", 1, 9},
        {"{\"a\": +1}", 1, 7},
        {"{\"a\": NaN}", 1, 7},
        {"{\"a\\ud800\": 1}", 1, 4},
        {"{\"a\": \"\\u0000\"}", 1, 8},
        {"{\"a\": \"\\x\"}", 1, 9},
        {"{\"a\": \"\t\"}", 1, 8},
        {"{\"a\": \"\xff\"}", 1, 8},
        {"{\"a\": \"\xed\xa0\x80\"}", 1, 8},
        {"{\"a\": \"\xc0\xaf\"}", 1, 8},
        {"{\"a\": \"b", 1, 9},
        {"{\"a\": [1, 2}", 1, 12},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bad_at(cases[i].text, cases[i].line, cases[i].column, "(document): not valid JSON: ");
        ck_assert_uint_eq(errors.count, 1);
    }
}
END_TEST

/* Some editors begin a file with a mark that nobody sees. */
START_TEST(test_a_mark_in_front_is_named)
{
    bad_at("\xef\xbb\xbf{}", 1, 1, "(document): not valid JSON: a byte order mark");
}
END_TEST

START_TEST(test_depth_is_capped)
{
    struct kg_buf b;

    for (int depth = CONFIG_MAX_JSON_DEPTH - 1; depth <= CONFIG_MAX_JSON_DEPTH + 1; depth++) {
        kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
        for (int i = 0; i < depth; i++)
            kg_buf_puts(&b, "[");
        for (int i = 0; i < depth; i++)
            kg_buf_puts(&b, "]");
        bad(b.data, NULL,
            depth > CONFIG_MAX_JSON_DEPTH ? "nested too deeply" : "must be an object");
        kg_buf_fini(&b);
    }
}
END_TEST

START_TEST(test_what_is_no_object)
{
    bad_at("[]", 1, 1, "(document): must be an object");
    bad_at("null", 1, 1, "(document): must be an object");
    bad_at("{\"services\": []}", 1, 14, "services: must be an object");
    bad_at("{\"services\": {\"a\": []}}", 1, 20, "services.a: must be an object");
    bad(NULL, FLAGS("--config", "/nonexistent/x.json"), "/nonexistent/x.json: cannot be read");
    bad(NULL, FLAGS("--config", "/"), "/: cannot be read");
}
END_TEST

START_TEST(test_what_comes_twice)
{
    bad_at("{\"fronts\": 1, \"fronts\": 2, \"services\": {}}", 1, 15, "fronts: comes twice");
    bad_at("{\"services\": {}, \"services\": {}}", 1, 18, "services: comes twice");
    bad_at("{\"services\": {\"a\": {\"image\": \"x\"}, \"a\": {\"image\": \"y\"}}}", 1, 36,
           "services.a: comes twice");
    bad_at("{\"services\": {\"a\": {\"image\": \"x\", \"image\": \"y\"}}}", 1, 35,
           "services.a.image: comes twice");
    bad_at("{\"services\": {\"a\": {\"image\": \"x\", \"env\": {\"A\": \"1\", \"A\": \"2\"}}}}", 1,
           53, "services.a.env.A: comes twice");
}
END_TEST

/* Keys of later versions are no keys: nobody may believe that they work. */
START_TEST(test_keys_of_later_versions_are_unknown)
{
    static const char *const keys[] = {"page_after"};
    char *text;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        text = with_value(config_service_keys, keys[i], "1");
        bad(text, NULL, "unknown key");
        ck_assert_uint_eq(errors.count, 1);
        free(text);
    }
}
END_TEST

/* --- what stands against what -------------------------------------------------------------- */

START_TEST(test_contradictions)
{
    bad_at("{\"services\": {\"a\": {\"image\": \"x\",\n\"port\": 1, \"socket\": \"/a/b\"}}}", 2, 12,
           "services.a.socket: cannot be used together with port");
    bad_at("{\"services\": {\"a\": {\"image\": \"x\",\n\"cap_add\": [\"KILL\"], \"cap_drop\": "
           "[\"cap_kill\"]}}}",
           2, 1, "services.a.cap_add: KILL is in cap_drop too");
    bad_at("{\"listen\": [\"a:1\",\n\"https://a:1\"]}", 2, 1, "listen[1]: a:1 comes twice");
    bad_at("{\"listen\": [\"a:1\"],\n\"admin\": \"a:1\"}", 2, 10,
           "admin: a:1 is an address of listen too");
    bad_at("{\"listen\": [\"a:1\",\n\"127.0.0.1:9090\"]}", 2, 1,
           "listen[1]: 127.0.0.1:9090 is the address of admin too");
    bad(NULL, FLAGS("--image", "x", "--listen", "a:1", "--listen", "a:1"),
        "--listen: a:1 comes twice");
    config_free(good("{\"listen\": [\"a:0\", \"a:0\"]}", NULL));
}
END_TEST

START_TEST(test_no_services)
{
    config_free(good("{}", NULL));
    config_free(good("{\"services\": {}}", NULL));
    bad_at("{\"admin\": \"off\"}", 1, 11, "admin: is off, and there are no services");
    if (access(CONFIG_DEFAULT_FILE, F_OK) != 0)
        bad(NULL, FLAGS("--fronts", "1"), "services: none: name an image");
}
END_TEST

START_TEST(test_routes)
{
    struct config *c = good("{\"services\": {\"a\": {\"image\": \"x\"}}}", NULL);

    ck_assert_uint_eq(c->services[0]->route_count, 1);
    ck_assert_str_eq(c->services[0]->routes[0].host, "");
    ck_assert_str_eq(c->services[0]->routes[0].prefix, "/");
    config_free(c);
    c = good("{\"services\": {\"a\": {\"image\": \"x\", \"routes\": [\"*.Ex.Org/A/\"]}}}", NULL);
    ck_assert_str_eq(c->services[0]->routes[0].host, "*.ex.org");
    ck_assert_str_eq(c->services[0]->routes[0].prefix, "/A");
    config_free(c);
    bad("{\"services\": {\"a\": {\"image\": \"x\"}, \"b\": {\"image\": \"x\"}}}", NULL,
        "services.b.routes: are required");
    ck_assert_uint_eq(errors.count, 2);
    bad_at("{\"services\": {\"a\": {\"image\": \"x\", \"routes\": [\"A.test/p\"]},\n"
           "\"b\": {\"image\": \"x\", \"routes\": [\"a.test/p/\"]}}}",
           2, 32, "services.b.routes[0]: the route a.test/p is a route of service a too");
    bad("{\"services\": {\"a\": {\"image\": \"x\", \"routes\": [\"/a\", \"/a/\"]}}}", NULL,
        "services.a.routes[1]: the route /a is a route of service a too");
    bad("{\"services\": {\"a\": {\"image\": \"x\", \"routes\": [\"*.b.test.\", \"*.b.test\"]}}}",
        NULL, "services.a.routes[1]: the route *.b.test/ is a route of service a too");
}
END_TEST

/* What is quoted can neither end its line nor speak to a terminal. */
START_TEST(test_an_error_is_one_line)
{
    size_t lines = 0;

    bad(NULL, FLAGS("--i\nmage\x7f"), "--i?mage?: unknown option");
    for (const char *p = told(); *p; p++)
        lines += *p == '\n';
    ck_assert_uint_eq(lines, errors.count);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_every_key_at_its_bounds,
        test_every_choice,
        test_strings,
        test_limits_of_strings,
        test_limits_of_lists,
        test_limit_of_names,
        test_limit_of_services,
        test_limit_of_a_file,
        test_all_errors_are_told_with_their_places,
        test_thousands_of_errors_cost_little_each,
        test_what_is_not_json,
        test_a_mark_in_front_is_named,
        test_depth_is_capped,
        test_what_is_no_object,
        test_what_comes_twice,
        test_keys_of_later_versions_are_unknown,
        test_contradictions,
        test_no_services,
        test_routes,
        test_an_error_is_one_line,
    };

    return run_cases("config", tests, sizeof tests / sizeof *tests);
}
