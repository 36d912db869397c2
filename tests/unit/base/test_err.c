/* SPDX-License-Identifier: Apache-2.0 */
/* Errors with words. The difficulty under test: the first cause survives, and words are cut rather
 * than lost; a failed assertion ends the process and says where. */
#include "base/err.h"
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(fills_and_returns)
{
    struct kg_err err = {0};

    ck_assert_int_eq(kg_fail(&err, KG_EIO, "engine \"%s\": %d", "local", 7), KG_EIO);
    ck_assert_int_eq(err.code, KG_EIO);
    ck_assert_str_eq(err.words, "engine \"local\": 7");
}
END_TEST

START_TEST(first_error_stays)
{
    struct kg_err err = {0};

    kg_fail(&err, KG_EINVAL, "first");
    ck_assert_int_eq(kg_fail(&err, KG_ENOMEM, "second"), KG_ENOMEM);
    ck_assert_int_eq(err.code, KG_EINVAL);
    ck_assert_str_eq(err.words, "first");
}
END_TEST

START_TEST(words_are_optional)
{
    ck_assert_int_eq(kg_fail(NULL, KG_ELIMIT, "nobody reads %d", 1), KG_ELIMIT);
}
END_TEST

START_TEST(words_are_cut_at_the_limit)
{
    const size_t room = sizeof((struct kg_err *)0)->words;
    char text[1024];

    for (size_t n = room - 2; n <= room; n++) {
        struct kg_err err = {0};

        memset(text, 'x', n);
        text[n] = '\0';
        kg_fail(&err, KG_EIO, "%s", text);
        ck_assert_uint_eq(strlen(err.words), n < room ? n : room - 1);
    }
}
END_TEST

START_TEST(every_code_has_its_name)
{
    for (int a = KG_EPROTO; a <= KG_OK; a++) {
        ck_assert_str_ne(kg_code_name(a), "unknown");
        for (int b = KG_EPROTO; b < a; b++)
            ck_assert_str_ne(kg_code_name(a), kg_code_name(b));
    }
    ck_assert_str_eq(kg_code_name(KG_EPROTO - 1), "unknown");
    ck_assert_str_eq(kg_code_name(1), "unknown");
}
END_TEST

START_TEST(assertion_aborts_and_tells_where)
{
    int fds[2], status;
    char words[256] = "";
    pid_t child;

    ck_assert_int_eq(pipe(fds), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        signal(SIGABRT, SIG_DFL);
        dup2(fds[1], STDERR_FILENO);
        KG_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    close(fds[1]);
    ck_assert_int_gt(read(fds[0], words, sizeof words - 1), 0);
    close(fds[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_ptr_nonnull(strstr(words, "1 + 1 == 3"));
    ck_assert_ptr_nonnull(strstr(words, "test_err.c:"));
}
END_TEST

START_TEST(assertion_that_holds_evaluates_once)
{
    int evaluated = 0;

    KG_ASSERT(++evaluated == 1);
    ck_assert_int_eq(evaluated, 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("err");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_add_test(t, fills_and_returns);
    tcase_add_test(t, first_error_stays);
    tcase_add_test(t, words_are_optional);
    tcase_add_test(t, words_are_cut_at_the_limit);
    tcase_add_test(t, every_code_has_its_name);
    tcase_add_test(t, assertion_aborts_and_tells_where);
    tcase_add_test(t, assertion_that_holds_evaluates_once);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
