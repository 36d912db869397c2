/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers of services, and containers whose service comes later than they. The difficulty: fronts
 * may still ask by a number whose service is gone, so one is given again only in need. */
#include "fleet_rig.h"
#include <sys/un.h>

static int numbers_used;

static void count_name(void *arg, const char *name, uint32_t id)
{
    (void)arg;
    (void)name;
    ck_assert_uint_lt(id, KG_MAX_SERVICES);
    numbers_used++;
}

START_TEST(numbers_are_given_again_when_none_is_left)
{
    struct rig *r = rig_new(1);
    int gone;

    r->config.service_count = 2;
    configure(r);
    gone = fleet_service_id(r->f, "b");
    r->config.service_count = 1;
    configure(r);
    ck_assert_int_eq(fleet_service_id(r->f, "b"), -1);
    ck_assert_int_eq(fleet_reserve_service(r->f, "last", KG_MAX_SERVICES - 1), 0);
    ck_assert_int_eq(fleet_reserve_service(r->f, "beyond", KG_MAX_SERVICES), KG_EINVAL);
    r->services[1] = &r->third;
    r->config.service_count = 2;
    configure(r);
    ck_assert_int_eq(fleet_service_id(r->f, "a"), 0); /* it is in use */
    ck_assert_int_eq(fleet_service_id(r->f, "c"), gone);
    fleet_each_service(r->f, count_name, NULL);
    ck_assert_int_eq(numbers_used, 3); /* a, c, last */
    rig_free(r);
}
END_TEST

static void note_service(void *arg, const char *name, uint32_t id)
{
    ck_assert_str_eq(name, "a");
    *(uint32_t *)arg = id;
}

START_TEST(services_keep_the_numbers_that_fronts_know)
{
    struct rig *r = rig_closed(1);
    struct fleet_params params = {
        .engine = &(const struct engine_ops){.self = NULL}, .owner = OWNER, .max_starts = 1};
    struct fleet *f = fleet_new(&params, 0);
    uint32_t id = 0;

    ck_assert_int_eq(fleet_reserve_service(f, "a", 5), 0);
    ck_assert_int_eq(fleet_reserve_service(f, "b", 5), KG_EINVAL);
    ck_assert_int_eq(fleet_reserve_service(f, "a", 6), KG_EINVAL);
    ck_assert_int_eq(fleet_reserve_service(f, "b", KG_MAX_SERVICES), KG_EINVAL);
    ck_assert_int_eq(fleet_service_id(f, "a"), -1);
    ck_assert_int_eq(fleet_configure(f, &r->config, 0), 0);
    ck_assert_int_eq(fleet_service_id(f, "a"), 5);
    fleet_each_service(f, note_service, &id);
    ck_assert_uint_eq(id, 5);
    id = 0;
    r->config.service_count = 0; /* fronts may hold leases of it yet */
    ck_assert_int_eq(fleet_configure(f, &r->config, 0), 0);
    fleet_each_service(f, note_service, &id);
    ck_assert_uint_eq(id, 5);
    fleet_check(f);
    fleet_free(f);
    rig_free(r);
}
END_TEST

/* The number to be given again is that of a service which the same change brings back. */
START_TEST(a_number_is_not_taken_from_who_comes_back)
{
    struct rig *r = rig_new(1);
    int back;

    r->config.service_count = 2;
    configure(r);
    back = fleet_service_id(r->f, "b");
    r->config.service_count = 1;
    configure(r);
    ck_assert_int_eq(fleet_reserve_service(r->f, "last", KG_MAX_SERVICES - 1), 0);
    r->config.service_count = 3;
    configure(r);
    ck_assert_int_eq(fleet_service_id(r->f, "b"), back);
    ck_assert_int_gt(fleet_service_id(r->f, "c"), back);
    rig_free(r);
}
END_TEST

START_TEST(containers_found_before_their_service_is_known)
{
    struct rig *r = rig_closed(1);
    struct engine_container found = box(r, 1, "kipgate-b-0123456789", ENGINE_RUNNING);

    snprintf(found.service, sizeof found.service, "b");
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    fleet_check(r->f);
    r->config.service_count = 2;
    configure(r);
    ck_assert_int_eq(fleet_service_id(r->f, "b"), 1);
    ask_of(r, 1, 0);
    ck_assert_uint_eq(count_calls(r, CREATE), 0); /* it is the service's: it goes first */
    answer(expect(r, LOOK), &(const struct engine_answer){.container = found});
    answer(expect(r, STOP), &(const struct engine_answer){0});
    fleet_check(r->f);
    answer(expect(r, REMOVE), &(const struct engine_answer){0});
    fleet_check(r->f);
    ck_assert_uint_eq(count_calls(r, CREATE), 1);
    rig_free(r);
}
END_TEST

/* A front holds a slot of it from before: it counts where the service is. */
START_TEST(what_is_held_when_its_service_comes_back)
{
    struct rig *r = rig_closed(1);
    struct engine_container found = box(r, 1, "kipgate-b-0123456789", ENGINE_RUNNING);
    uint64_t instance;

    snprintf(found.service, sizeof found.service, "b");
    fleet_claim(r->f, 0, 77, found.name, 1, 0, r->now_ms);
    fleet_engine_state(r->f, true, "up", r->now_ms);
    fleet_engine_list(r->f, &found, 1, r->now_ms, r->now_ms);
    answer(expect(r, LOOK), &(const struct engine_answer){.container = found});
    instance = hear(r, RENAMED)->instance;
    r->config.service_count = 2;
    configure(r);
    ck_assert_str_eq(state_in(r, 1, 0), "draining");
    answer_recall(r, 0, instance, 1);
    ck_assert_uint_eq(count_calls(r, STOP), 1);
    rig_free(r);
}
END_TEST

/* An address of either family is shown as one that can be asked. */
START_TEST(an_address_of_ipv6_is_shown_in_brackets)
{
    struct rig *r = rig_new(1);
    struct engine_answer a = {0};
    struct sockaddr_in6 *v6 = (void *)&a.container.address;
    struct fleet_view v;

    ask(r, 0);
    answer_created(r);
    answer_code(r, START, 0);
    a.container = box(r, r->boxes, r->name, ENGINE_RUNNING);
    a.container.address = (struct sockaddr_storage){0};
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(8080);
    v6->sin6_addr.s6_addr[15] = 1;
    a.container.address_length = sizeof *v6;
    answer(expect(r, LOOK), &a);
    fleet_check(r->f);
    ck_assert_uint_eq(fleet_view(r->f, 0, &v, 1, r->now_ms), 1);
    ck_assert_str_eq(v.address, "[::1]:8080");
    rig_free(r);
}
END_TEST

START_TEST(a_path_is_shown_whole)
{
    struct rig *r = rig_new(1);
    struct engine_answer a = {0};
    struct sockaddr_un *at = (void *)&a.container.address;
    struct fleet_view v;

    ask(r, 0);
    answer_created(r);
    answer_code(r, START, 0);
    a.container = box(r, r->boxes, r->name, ENGINE_RUNNING);
    a.container.address = (struct sockaddr_storage){.ss_family = AF_UNIX};
    memset(at->sun_path, 'x', KG_MAX_SOCKET_PATH_BYTES);
    a.container.address_length = sizeof *at;
    answer(expect(r, LOOK), &a);
    ck_assert_uint_eq(fleet_view(r->f, 0, &v, 1, r->now_ms), 1);
    ck_assert_uint_eq(strlen(v.address), strlen("unix:") + KG_MAX_SOCKET_PATH_BYTES);
    rig_free(r);
}
END_TEST

/* The one that starts holds what the one before it waits for; both are too many now. */
START_TEST(what_a_change_ends_is_not_made_in_its_course)
{
    struct rig *r = rig_new(1);
    const struct engine_answer done = {0};
    struct engine_answer created = {0};

    r->service.max_instances = 3;
    r->service.pull = CONFIG_PULL_ALWAYS;
    configure(r);
    for (int n = 0; n < 3; n++)
        ask(r, 0);
    ck_assert_uint_eq(count_calls(r, PULL), 3);
    answer(&r->calls[0], &done);
    answer(&r->calls[2], &done);
    answer(&r->calls[1], &done);
    fleet_check(r->f);
    ck_assert_uint_eq(count_calls(r, CREATE), 2); /* as many as may start at once */
    created.container = box(r, 1, r->name, ENGINE_CREATED);
    answer(&r->calls[4], &created);
    answer_code(r, START, 0);
    ck_assert_str_eq(state_of(r, 2), "starting");
    r->service.max_instances = 1;
    configure(r);
    ck_assert_uint_eq(count_calls(r, CREATE), 2);
    ck_assert_str_eq(state_of(r, 0), "creating");
    ck_assert_str_eq(state_of(r, 1), "removing");
    ck_assert_uint_eq(count_in(r, 0), 2);
    rig_free(r);
}
END_TEST

/* The window of scale-in is as long as the idle timeout is now. */
START_TEST(a_shorter_idle_timeout_holds_for_scale_in)
{
    struct rig *r = rig_new(1);
    uint64_t first, second;

    r->service.idle_timeout_ms = 3600000;
    r->service.max_instances = r->service.concurrency = 2;
    configure(r);
    for (int n = 0; n < 3; n++)
        ask(r, 0);
    first = until_ready(r);
    hear(r, GRANT), hear(r, GRANT);
    second = until_ready(r);
    hear(r, GRANT);
    give_back(r, 0, first, 1); /* both are in use, and one would do */
    pass(r, 1000);
    r->service.idle_timeout_ms = 300000;
    configure(r);
    pass(r, 74999);
    hear_nothing(r);
    pass(r, 1);
    for (int n = 0; n < 2; n++)
        answer_recall(r, 0, hear(r, RECALL)->instance, 0);
    pass(r, 224999);
    ck_assert_str_eq(state_of(r, 1), "ready");
    pass(r, 1);
    ck_assert_str_eq(state_of(r, 1), "draining");
    give_back(r, 0, second, 1);
    rig_free(r);
}
END_TEST

/* Taken out and put in again it is another service, of which nobody has said that it may sleep. */
START_TEST(what_was_sent_to_sleep_does_not_come_back_asleep)
{
    struct rig *r = rig_new(1);

    r->service.min_instances = 1;
    configure(r);
    until_ready(r);
    fleet_sleep(r->f, 0, on_done, r, r->now_ms);
    hear(r, GONE);
    answer_code(r, STOP, 0);
    answer_code(r, REMOVE, 0);
    ck_assert_uint_eq(count_in(r, 0), 0);
    r->config.service_count = 0;
    configure(r);
    r->config.service_count = 1;
    configure(r);
    ck_assert_str_eq(state_of(r, 0), "creating");
    rig_free(r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fleet config");
    TCase *t = tcase_create("config");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_test(t, numbers_are_given_again_when_none_is_left);
    tcase_add_test(t, services_keep_the_numbers_that_fronts_know);
    tcase_add_test(t, a_number_is_not_taken_from_who_comes_back);
    tcase_add_test(t, containers_found_before_their_service_is_known);
    tcase_add_test(t, what_is_held_when_its_service_comes_back);
    tcase_add_test(t, an_address_of_ipv6_is_shown_in_brackets);
    tcase_add_test(t, a_path_is_shown_whole);
    tcase_add_test(t, what_a_change_ends_is_not_made_in_its_course);
    tcase_add_test(t, a_shorter_idle_timeout_holds_for_scale_in);
    tcase_add_test(t, what_was_sent_to_sleep_does_not_come_back_asleep);
    suite_add_tcase(s, t);
    kg_log_setup(KG_LOG_ERROR + 1, KG_LOG_TEXT, "test");
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
