/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of how many instances there are, how they sleep, and what they need: what contradicts what.
 * The difficulty: each of them is right alone; the fault is told where somebody can mend it. */
#include "config_case.h"

/* The members of service a in the second line of a file. */
static const char *service(const char *members)
{
    static char text[600];

    snprintf(text, sizeof text, "{\"services\": {\"a\": {\"image\": \"x\",\n%s}}}", members);
    return text;
}

static void wrong_at(const char *members, size_t column, const char *words)
{
    bad_at(service(members), 2, column, words);
    ck_assert_msg(errors.count == 1, "%s", told());
}

static void right(const char *members)
{
    config_free(good(service(members), NULL));
}

/* --- sleeping ------------------------------------------------------------------------------ */

START_TEST(test_pause_comes_before_idle_timeout)
{
    static const char *const on_idle[] = {"remove", "stop", "pause"};
    char text[200];

    for (size_t i = 0; i < 3; i++) {
        snprintf(text, sizeof text,
                 "\"pause_after\": \"999ms\", \"idle_timeout\": \"1s\", \"on_idle\": \"%s\"",
                 on_idle[i]);
        right(text);
        for (int ms = 1000; ms <= 1001; ms++) {
            snprintf(text, sizeof text,
                     "\"on_idle\": \"%s\", \"idle_timeout\": \"1s\", \"pause_after\": \"%dms\"",
                     on_idle[i], ms);
            wrong_at(text, (size_t)(strstr(text, "\"pause_after\"") - text) + 1,
                     "services.a.pause_after: never comes: idle_timeout, which is 1s, is not "
                     "longer");
        }
    }
    wrong_at("\"pause_after\": \"5m\"", 1,
             "services.a.pause_after: never comes: idle_timeout, which is 5m, is not longer");
    right("\"pause_after\": \"off\", \"idle_timeout\": \"10ms\"");
}
END_TEST

START_TEST(test_pause_comes_before_the_longest_of_auto)
{
    right("\"idle_timeout\": \"auto\", \"idle_max\": \"10m\", \"pause_after\": \"599999ms\"");
    wrong_at("\"idle_timeout\": \"auto\", \"idle_max\": \"10m\", \"pause_after\": \"10m\"", 44,
             "services.a.pause_after: never comes: idle_max, which is 10m, is not longer");
}
END_TEST

START_TEST(test_auto_has_bounds_and_a_fallback)
{
    static const struct {
        const char *members;
        int64_t timeout_s, min_s, max_s;
    } cases[] = {
        {"", 300, 60, 3600},
        {", \"idle_min\": \"2m\"", 300, 120, 3600},
        {", \"idle_min\": \"2h\"", 7200, 7200, 7200},
        {", \"idle_max\": \"2m\"", 120, 60, 120},
        {", \"idle_max\": \"30s\"", 30, 30, 30},
        {", \"idle_min\": \"6m\", \"idle_max\": \"6m\"", 360, 360, 360},
    };
    char text[200];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct config *c;
        const struct config_service *s;
        snprintf(text, sizeof text, "\"idle_timeout\": \"auto\"%s", cases[i].members);
        c = good(service(text), NULL);
        s = c->services[0];
        ck_assert(s->idle_auto);
        ck_assert_int_eq(s->idle_timeout_ms, cases[i].timeout_s * 1000);
        ck_assert_int_eq(s->idle_min_ms, cases[i].min_s * 1000);
        ck_assert_int_eq(s->idle_max_ms, cases[i].max_s * 1000);
        ck_assert_double_eq(s->idle_goal, 0.5);
        config_free(c);
    }
    wrong_at("\"idle_timeout\": \"auto\", \"idle_max\": \"60s\", \"idle_min\": \"60001ms\"", 44,
             "services.a.idle_min: is above idle_max, which is 1m");
}
END_TEST

START_TEST(test_what_auto_is_told_needs_auto)
{
    struct config *c = good(service("\"idle_timeout\": \"1s\""), NULL);

    ck_assert(!c->services[0]->idle_auto);
    ck_assert_int_eq(c->services[0]->idle_min_ms, 0);
    ck_assert_int_eq(c->services[0]->idle_max_ms, 0);
    ck_assert(c->services[0]->idle_goal < 0);
    config_free(c);
    wrong_at("\"idle_min\": \"1m\"", 1, "services.a.idle_min: needs an idle_timeout of \"auto\"");
    wrong_at("\"idle_max\": \"1m\", \"idle_timeout\": \"1m\"", 1,
             "services.a.idle_max: needs an idle_timeout of \"auto\"");
    wrong_at("\"idle_goal\": 0", 1, "services.a.idle_goal: needs an idle_timeout of \"auto\"");
    bad(NULL, FLAGS("--image", "x", "--idle-goal", "1"), "--idle-goal: needs an idle_timeout");
    c = good(NULL, FLAGS("--image", "x", "--idle-goal", "1", "--idle-timeout", "auto"));
    ck_assert_double_eq(c->services[0]->idle_goal, 1);
    config_free(c);
}
END_TEST

/* A higher layer takes the word away as it takes a number away. */
START_TEST(test_auto_in_layers)
{
    struct config *c;

    c = good(service("\"idle_timeout\": \"auto\""), FLAGS("--name", "a", "--idle-timeout", "5m"));
    ck_assert(!c->services[0]->idle_auto);
    config_free(c);
    setenv("KIPGATE_IDLE_TIMEOUT", "auto", 1);
    c = good(service("\"idle_timeout\": \"7m\""), FLAGS("--name", "a"));
    ck_assert(c->services[0]->idle_auto);
    ck_assert_int_eq(c->services[0]->idle_timeout_ms, 300000);
    config_free(c);
}
END_TEST

START_TEST(test_sandboxes_and_paused_memory)
{
    static const struct {
        const char *json;
        int sandboxes;
        int64_t bytes;
    } cases[] = {
        {"{}", -1, -1},
        {"{\"sandboxes\": \"auto\", \"paused_memory\": \"none\"}", -1, -1},
        {"{\"sandboxes\": \"off\", \"paused_memory\": \"0\"}", 0, 0},
        {"{\"sandboxes\": 1, \"paused_memory\": \"1MiB\"}", 1, 1 << 20},
    };
    struct config *first = good("{}", NULL), *c;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        c = good(cases[i].json, NULL);
        ck_assert_int_eq(c->sandboxes, cases[i].sandboxes);
        ck_assert_int_eq(c->paused_memory_bytes, cases[i].bytes);
        ck_assert_msg(config_may_replace(first, c, &errors), "%s", told());
        config_free(c);
    }
    config_free(first);
    bad("{\"sandboxes\": 0}", NULL,
        "sandboxes: must be a whole number from 1 to 64, or \"auto\", or \"off\", not 0");
    c = good("{}", FLAGS("--sandboxes", "off"));
    ck_assert_int_eq(c->sandboxes, 0);
    config_free(c);
}
END_TEST

/* --- how many ------------------------------------------------------------------------------ */

START_TEST(test_scale)
{
    right("\"min_instances\": 3, \"max_instances\": 4");
    right("\"min_instances\": 4, \"max_instances\": 4");
    wrong_at("\"min_instances\": 5, \"max_instances\": 4", 1,
             "services.a.min_instances: is above max_instances, which is 4");
    right("\"min_instances\": 1");
    wrong_at("\"min_instances\": 2", 1,
             "services.a.min_instances: is above max_instances, which is 1");
}
END_TEST

START_TEST(test_spares_have_room)
{
    right("\"spares\": 1");
    wrong_at("\"spares\": 2", 1,
             "services.a.spares: have no room: min_instances 0 + spares 2 > max_instances 1");
    right("\"min_instances\": 2, \"spares\": 1, \"max_instances\": 4");
    right("\"min_instances\": 2, \"spares\": 2, \"max_instances\": 4");
    wrong_at("\"min_instances\": 2, \"spares\": 3, \"max_instances\": 4", 21,
             "services.a.spares: have no room: min_instances 2 + spares 3 > max_instances 4");
}
END_TEST

/* --- needs --------------------------------------------------------------------------------- */

/* Three services; each text is the members of its "needs". */
static const char *needs(const char *a, const char *b, const char *c)
{
    static char text[600];

    snprintf(text, sizeof text,
             "{\"services\": {\n"
             "\"a\": {\"image\": \"x\", \"routes\": [\"/a\"], \"needs\": [%s]},\n"
             "\"b\": {\"image\": \"x\", \"routes\": [\"/b\"], \"needs\": [%s]},\n"
             "\"c\": {\"image\": \"x\", \"routes\": [\"/c\"], \"needs\": [%s]}}}",
             a, b, c);
    return text;
}
#define A "\"a\""
#define B "\"b\""
#define C "\"c\""

START_TEST(test_needs)
{
    struct config *c = good(needs(B ", " C, C, ""), NULL);

    ck_assert_uint_eq(c->services[0]->needs.count, 2);
    ck_assert_str_eq(c->services[0]->needs.items[1], "c");
    config_free(c);
    bad_at(needs(B ", \"x\"", "", ""), 2, 54, "services.a.needs[1]: there is no service \"x\"");
    ck_assert_uint_eq(errors.count, 1);
    bad_at(needs("", C ", " B, ""), 3, 54, "services.b.needs[1]: \"b\" is the service itself");
    ck_assert_uint_eq(errors.count, 1);
    bad_at(needs(B ", " B, "", ""), 2, 54, "services.a.needs[1]: \"b\" comes twice");
    bad(NULL, FLAGS("--image", "x", "--needs", "db"), "--needs: there is no service \"db\"");
}
END_TEST

static const char *group_of(const struct config *c, const char *name)
{
    return config_find(c, name)->group;
}

static void check_groups(const char *text, const char *a, const char *b, const char *d)
{
    struct config *c = good(text, NULL);

    ck_assert_str_eq(group_of(c, "a"), a);
    ck_assert_str_eq(group_of(c, "b"), b);
    ck_assert_str_eq(group_of(c, "c"), d);
    config_free(c);
}

/* Those tied together, over however many, are a group; its name is that of the first that needs
 * nobody. */
START_TEST(test_groups_of_needs)
{
    check_groups(needs("", "", ""), "", "", "");
    check_groups(needs(B, "", ""), "b", "b", "");
    check_groups(needs("", "", B), "", "b", "b");
    check_groups(needs(C, C, ""), "c", "c", "c");
    check_groups(needs(B ", " C, "", ""), "b", "b", "b");
    check_groups(needs("", A, A), "a", "a", "a");
    check_groups(needs(C, A, ""), "c", "c", "c");
    check_groups(needs(B, C, ""), "c", "c", "c");
}
END_TEST

/* A container is on its group's network for life, so a service of another group, or of none, makes
 * other ones; who else is in the group makes no difference. */
START_TEST(test_groups_are_part_of_what_is_made)
{
    struct config *none = good(needs("", "", ""), NULL), *two = good(needs("", C, ""), NULL);
    struct config *three = good(needs(C, C, ""), NULL),
                  *first = good(needs("", A ", " C, ""), NULL);

    ck_assert_str_ne(none->services[2]->spec, two->services[2]->spec);
    ck_assert_str_ne(none->services[1]->spec, two->services[1]->spec);
    ck_assert_str_eq(none->services[0]->spec, two->services[0]->spec);
    ck_assert_str_eq(two->services[1]->spec, three->services[1]->spec);
    ck_assert_str_eq(two->services[2]->spec, three->services[2]->spec);
    ck_assert_str_ne(two->services[0]->spec, three->services[0]->spec);
    ck_assert_str_ne(two->services[2]->spec, first->services[2]->spec); /* "c" became "a" */
    config_free(none);
    config_free(two);
    config_free(three);
    config_free(first);
}
END_TEST

START_TEST(test_circles_of_needs)
{
    bad_at(needs(B, A, ""), 2, 49, "services.a.needs[0]: is a circle: a needs b needs a\n");
    ck_assert_uint_eq(errors.count, 1);
    bad(needs(B, C, A), NULL, "services.a.needs[0]: is a circle: a needs b needs c needs a\n");
    ck_assert_uint_eq(errors.count, 1);
    bad_at(needs(B, C, B), 3, 49, "services.b.needs[0]: is a circle: b needs c needs b\n");
    ck_assert_uint_eq(errors.count, 1);
}
END_TEST

/* s0 needs s1 needs s2 and so on; the last needs what is given. */
static char *chain(size_t n, const char *last)
{
    struct kg_buf b;

    kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
    kg_buf_puts(&b, "{\"services\": {");
    for (size_t i = 0; i + 1 < n; i++)
        kg_buf_printf(&b,
                      "\"s%zu\": {\"image\": \"x\", \"routes\": [\"/%zu\"], "
                      "\"needs\": [\"s%zu\"]},\n",
                      i, i, i + 1);
    kg_buf_printf(&b, "\"s%zu\": {\"image\": \"x\", \"needs\": [%s]}}}", n - 1, last);
    return kg_buf_take(&b);
}

START_TEST(test_chains_of_needs)
{
    char *text = chain(KG_MAX_SERVICES, "");

    config_free(good(text, NULL));
    free(text);
    text = chain(KG_MAX_SERVICES, "\"s0\"");
    bad(text, NULL, "services.s0.needs[0]: is a long circle");
    ck_assert_uint_eq(errors.count, 1);
    free(text);
}
END_TEST

START_TEST(test_limit_of_needs)
{
    struct kg_buf b;

    for (size_t n = 63; n <= 65; n++) {
        kg_buf_init(&b, KG_MAX_CONFIG_BYTES);
        kg_buf_puts(&b, "{\"services\": {");
        for (size_t i = 0; i < n; i++)
            kg_buf_printf(&b, "\"s%zu\": {\"image\": \"x\", \"routes\": [\"/%zu\"]},", i, i);
        kg_buf_puts(&b, "\n\"a\": {\"image\": \"x\", \"routes\": [\"/\"], \"needs\": [");
        for (size_t i = 0; i < n; i++)
            kg_buf_printf(&b, "%s\"s%zu\"", i ? "," : "", i);
        kg_buf_puts(&b, "]}}}");
        if (n <= 64)
            config_free(good(b.data, NULL));
        else
            bad_at(b.data, 2, 47, "services.a.needs: must be a list of strings, at most 64, not");
        kg_buf_fini(&b);
    }
}
END_TEST

/* What others need is not asked for by paths of its own. */
START_TEST(test_what_is_needed_needs_no_routes)
{
    struct config *c = good("{\"services\": {\"a\": {\"image\": \"x\", \"routes\": [\"/\"], "
                            "\"needs\": [\"db\"]}, \"db\": {\"image\": \"x\"}}}",
                            NULL);
    struct kg_buf out;

    ck_assert_uint_eq(config_find(c, "db")->route_count, 0);
    kg_buf_init(&out, KG_MAX_CONFIG_BYTES);
    config_print_service(config_find(c, "db"), &out);
    ck_assert_ptr_null(strstr(out.data, "routes"));
    kg_buf_fini(&out);
    config_free(c);
    bad("{\"services\": {\"a\": {\"image\": \"x\", \"needs\": [\"db\"]}, \"db\": {\"image\": "
        "\"x\"}}}",
        NULL,
        "services.a.routes: are required of a service that is neither the only one nor "
        "needed by another");
    ck_assert_uint_eq(errors.count, 1);
}
END_TEST

/* --- while running ------------------------------------------------------------------------- */

static struct config *put(const struct config *base, const char *name, const char *json)
{
    config_errors_fini(&errors);
    return config_with_service(base, name, kg_str_of(json), "PUT", &errors);
}

START_TEST(test_put_with_needs)
{
    struct config *base = good(needs(B, C, ""), NULL), *next;

    next = put(base, "d", "{\"image\": \"x\", \"routes\": [\"/d\"], \"needs\": [\"a\"]}");
    ck_assert_msg(next != NULL, "%s", told());
    ck_assert_str_eq(group_of(next, "d"), "c");
    ck_assert_str_eq(config_find(base, "a")->spec, config_find(next, "a")->spec);
    config_free(next);
    ck_assert_ptr_null(put(base, "d",
                           "{\"image\": \"x\", \"routes\": [\"/d\"],\n"
                           "\"needs\": [\"nix\"]}"));
    ck_assert_str_eq(told(), "PUT:2:11: needs[0]: there is no service \"nix\"\n");
    ck_assert_ptr_null(put(base, "c",
                           "{\"image\": \"x\", \"routes\": [\"/c\"],\n"
                           "\"needs\": [\"a\"]}"));
    ck_assert_str_eq(told(), "PUT:2:11: needs[0]: is a circle: c needs a needs b needs c\n");
    next = put(base, "c", "{\"image\": \"x\"}"); /* b needs it */
    ck_assert_msg(next != NULL, "%s", told());
    ck_assert_uint_eq(config_find(next, "c")->route_count, 0);
    config_free(next);
    config_free(base);
}
END_TEST

START_TEST(test_what_is_needed_is_not_taken_away)
{
    struct config *base = good(needs(C, C, ""), NULL), *next;

    ck_assert_ptr_null(config_without_service(base, "c", &errors));
    ck_assert_str_eq(told(), "c: is needed by a, b\n");
    config_errors_fini(&errors);
    next = config_without_service(base, "a", &errors);
    ck_assert_ptr_nonnull(next);
    config_free(base);
    base = config_without_service(next, "b", &errors);
    config_free(next);
    next = config_without_service(base, "c", &errors);
    ck_assert_ptr_nonnull(next);
    config_free(next);
    config_free(base);
}
END_TEST

/* Its users may go; it is not served at / of a sudden because it is the only one then. */
START_TEST(test_what_was_needed_stays_without_routes)
{
    struct config *base = good("{\"services\": {\"a\": {\"image\": \"x\", \"routes\": [\"/\"], "
                               "\"needs\": [\"db\"]}, \"db\": {\"image\": \"x\"}}}",
                               NULL);
    struct config *next = config_without_service(base, "a", &errors);

    ck_assert_msg(next != NULL, "%s", told());
    ck_assert_uint_eq(config_find(next, "db")->route_count, 0);
    config_free(next);
    config_free(base);
}
END_TEST

/* What is not part of the spec is applied to instances as they are. */
START_TEST(test_changes_apply_without_new_instances)
{
    struct config *now = good(service("\"queue\": 1"), NULL);
    struct config *next = good(service("\"idle_timeout\": \"auto\", \"on_idle\": \"pause\", "
                                       "\"pause_after\": \"1m\", \"min_instances\": 1, "
                                       "\"max_instances\": 5, \"spares\": 2"),
                               FLAGS("--sandboxes", "3", "--paused-memory", "1GiB"));

    ck_assert_str_eq(now->services[0]->spec, next->services[0]->spec);
    ck_assert_msg(config_may_replace(now, next, &errors), "%s", told());
    config_free(now);
    config_free(next);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        test_pause_comes_before_idle_timeout,
        test_pause_comes_before_the_longest_of_auto,
        test_auto_has_bounds_and_a_fallback,
        test_what_auto_is_told_needs_auto,
        test_auto_in_layers,
        test_sandboxes_and_paused_memory,
        test_scale,
        test_spares_have_room,
        test_needs,
        test_groups_of_needs,
        test_groups_are_part_of_what_is_made,
        test_circles_of_needs,
        test_chains_of_needs,
        test_limit_of_needs,
        test_what_is_needed_needs_no_routes,
        test_put_with_needs,
        test_what_is_needed_is_not_taken_away,
        test_what_was_needed_stays_without_routes,
        test_changes_apply_without_new_instances,
    };

    return run_cases("config_sleep", tests, sizeof tests / sizeof *tests);
}
