/* SPDX-License-Identifier: Apache-2.0 */
/* The limits. The difficulty under test: some of them only make sense together, or beside a limit
 * of the system; each by itself is tested where it is enforced. */
#include "base/limits.h"
#include <check.h>
#include <stdlib.h>
#include <sys/un.h>

START_TEST(paths_fit_the_system)
{
    ck_assert_uint_eq(KG_MAX_SOCKET_PATH_BYTES, sizeof((struct sockaddr_un *)0)->sun_path - 1);
}
END_TEST

START_TEST(parts_fit_into_their_wholes)
{
    ck_assert_int_lt(KG_MAX_TARGET_BYTES, KG_MAX_HEAD_BYTES);
    ck_assert_int_le(KG_MAX_HEAD_BYTES, KG_READ_BUFFER_BYTES);
    ck_assert_int_le(KG_REPLAY_BODY_BYTES, KG_READ_BUFFER_BYTES);
    /* What control tells a front about a route or a pattern is one message. */
    ck_assert_int_lt(KG_MAX_ROUTE_BYTES + KG_MAX_NAME_BYTES, KG_MAX_MESSAGE_BYTES);
    ck_assert_int_lt(KG_MAX_QUIET * (KG_MAX_PATTERN_BYTES + 1), KG_MAX_MESSAGE_BYTES);
    ck_assert_int_lt(KG_MAX_HEALTH_PATH_BYTES, KG_MAX_MESSAGE_BYTES);
    /* The largest configuration waits whole for a front that does not read, behind a quarter. */
    ck_assert_int_lt(KG_MAX_SERVICES * (1 + KG_MAX_QUIET) + KG_MAX_ROUTES,
                     KG_MAX_CHANNEL_QUEUE / 4 * 3);
}
END_TEST

START_TEST(times_are_ordered)
{
    ck_assert_int_le(KG_ENGINE_CALL_TIMEOUT_MS, KG_ENGINE_START_TIMEOUT_MS);
    ck_assert_int_lt(KG_BACKOFF_FIRST_MS, KG_BACKOFF_LAST_MS);
    ck_assert_int_lt(KG_ENGINE_API_MIN, KG_ENGINE_API_MAX);
    ck_assert_int_lt(KG_STOP_GRACE_MS, KG_ENGINE_CALL_TIMEOUT_MS);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("limits");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, paths_fit_the_system);
    tcase_add_test(t, parts_fit_into_their_wholes);
    tcase_add_test(t, times_are_ordered);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
