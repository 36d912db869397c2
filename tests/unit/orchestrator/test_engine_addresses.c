/* SPDX-License-Identifier: Apache-2.0 */
/* Whose turn it is among a network's addresses. The difficulty: the turn begins anywhere, so what
 * is asserted must hold from any address on. */
#include "orchestrator/engine_priv.h"
#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static bool read_range(struct engine_range *r, const char *subnet, const char *gateway)
{
    struct json *n;
    char text[256];
    bool good;

    snprintf(text, sizeof text, "{\"IPAM\":{\"Config\":[{\"Subnet\":\"%s\",\"Gateway\":\"%s\"}]}}",
             subnet, gateway);
    n = engine_json(kg_str_of(text));
    good = engine_range_read(r, n);
    json_free(n);
    return good;
}

static uint32_t next_of(struct engine_range *r)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr at;

    ck_assert(engine_range_next(r, text));
    ck_assert_int_eq(inet_pton(AF_INET, text, &at), 1);
    return ntohl(at.s_addr);
}

START_TEST(test_each_rests_until_all_others_had_their_turn)
{
    struct engine_range r = {0};
    unsigned seen[16] = {0};

    ck_assert(read_range(&r, "10.1.2.16/28", "10.1.2.17"));
    for (int turn = 0; turn < 13 * 3; turn++) {
        uint32_t at = next_of(&r) - 0x0a010210;
        ck_assert_uint_ge(at, 2); /* neither the network's own nor the gateway's */
        ck_assert_uint_le(at, 14);
        ck_assert_uint_eq(seen[at], (unsigned)turn / 13);
        seen[at]++;
    }
}
END_TEST

START_TEST(test_the_gateway_may_be_anywhere)
{
    struct engine_range r = {0};

    ck_assert(read_range(&r, "10.1.2.0/30", "10.1.2.2"));
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(next_of(&r), 0x0a010201);
}
END_TEST

START_TEST(test_the_turn_goes_on_where_nothing_changed)
{
    struct engine_range r = {0};
    uint32_t at, last = 0x0a01fffe;

    ck_assert(read_range(&r, "10.1.0.0/16", "10.1.0.1"));
    at = next_of(&r);
    for (int i = 0; i < 5; i++) {
        uint32_t before = at;
        ck_assert(read_range(&r, "10.1.0.0/16", "10.1.0.1"));
        at = next_of(&r);
        ck_assert_uint_eq(at, before == last ? 0x0a010002 : before + 1);
    }
    ck_assert(read_range(&r, "10.2.0.0/16", "10.2.0.1"));
    ck_assert_uint_eq(next_of(&r) >> 16, 0x0a02);
}
END_TEST

static const char *const no_ranges[] = {
    "",
    "{}",
    "{\"IPAM\":{\"Config\":[]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0/16\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0\",\"Gateway\":\"10.1.0.1\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0/31\",\"Gateway\":\"10.1.0.1\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0/0\",\"Gateway\":\"10.1.0.1\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0/-8\",\"Gateway\":\"10.1.0.1\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0/x\",\"Gateway\":\"10.1.0.1\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"fd00::/64\",\"Gateway\":\"fd00::1\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0/16\",\"Gateway\":\"none\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"100000000000000000.1.0.0/"
    "16\",\"Gateway\":\"10.1.0.1\"}]}}",
    "{\"IPAM\":{\"Config\":[{\"Subnet\":\"10.1.0.0/16\",\"Gateway\":\"10.1.0.1\"},"
    "{\"Subnet\":\"10.2.0.0/16\",\"Gateway\":\"10.2.0.1\"}]}}",
};

START_TEST(test_the_engine_chooses_where_there_is_no_range)
{
    struct json *n = engine_json(kg_str_of(no_ranges[_i]));
    struct engine_range r = {0};
    char text[INET_ADDRSTRLEN];

    ck_assert(read_range(&r, "10.1.0.0/24", "10.1.0.1"));
    ck_assert(!engine_range_read(&r, n));
    ck_assert(!engine_range_next(&r, text));
    json_free(n);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine addresses");
    TCase *t = tcase_create("turns");
    SRunner *runner;
    int failed;

    tcase_add_test(t, test_each_rests_until_all_others_had_their_turn);
    tcase_add_test(t, test_the_gateway_may_be_anywhere);
    tcase_add_test(t, test_the_turn_goes_on_where_nothing_changed);
    tcase_add_loop_test(t, test_the_engine_chooses_where_there_is_no_range, 0,
                        sizeof no_ranges / sizeof *no_ranges);
    suite_add_tcase(s, t);
    runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
