/* SPDX-License-Identifier: Apache-2.0 */
/* Files that change in all the ways that files are changed, and the first key of tickets. The
 * difficulty: the kernel tells in pieces, so each case waits for a word, and none for silence. */
#include "orchestrator/config_priv.h"
#include "orchestrator/tls_keeper.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_NS (5 * 1000000000ull)

static char dir[] = "/tmp/kipgate-keeper-XXXXXX";
static uv_loop_t loop;
static struct tls_keeper *keeper;
static struct config config;
static unsigned files, tickets, count;
static struct tls_ticket_key newest;

static void on_files(void *arg)
{
    (void)arg;
    files++;
}

static void on_tickets(void *arg, const struct tls_ticket_key *keys, unsigned n)
{
    (void)arg;
    newest = keys[0];
    count = n;
    tickets++;
}

static const char *in(const char *name)
{
    static char paths[4][300];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, 300, "%s/%s", dir, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *f = fopen(in(name), "w");

    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs(text, f), 0);
    fclose(f);
}

/* The word must come, and once only for what happened together. */
static void expect_word(void)
{
    uint64_t until = uv_hrtime() + WAIT_NS;

    while (files == 0 && uv_hrtime() < until) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    ck_assert_uint_eq(files, 1);
    files = 0;
}

static void watch(const char *certificate, const char *key)
{
    config_certificates_free(&config.certificates);
    ck_assert(config_certificates_add(&config.certificates, in(certificate), in(key), NULL));
    tls_keeper_watch(keeper, &config);
}

static void setup(void)
{
    const struct tls_keeper_params params = {&loop, NULL, on_files, on_tickets};

    files = tickets = 0;
    uv_loop_init(&loop);
    keeper = tls_keeper_open(&params);
    ck_assert_ptr_nonnull(keeper);
}

static void teardown(void)
{
    config_certificates_free(&config.certificates);
    tls_keeper_close(keeper);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

START_TEST(files_are_written_and_renamed)
{
    put("a.pem", "1");
    put("a.key", "1");
    watch("a.pem", "a.key");
    put("a.pem", "2");
    put("a.key", "2");
    expect_word();
    put("b.pem", "3");
    ck_assert_int_eq(rename(in("b.pem"), in("a.pem")), 0);
    expect_word();
    ck_assert_int_eq(unlink(in("a.key")), 0);
    expect_word();
}
END_TEST

/* live/a.pem -> data/a.pem, and live/data -> v1, then v2; and live itself for another. */
START_TEST(links_are_swapped)
{
    mkdir(in("v1"), 0755);
    mkdir(in("v2"), 0755);
    mkdir(in("live"), 0755);
    put("v1/a.pem", "1");
    put("v2/a.pem", "2");
    ck_assert_int_eq(symlink("../v1", in("live/data")), 0);
    ck_assert_int_eq(symlink("data/a.pem", in("live/a.pem")), 0);
    watch("live/a.pem", "live/a.pem");
    ck_assert_int_eq(symlink("../v2", in("live/next")), 0);
    ck_assert_int_eq(rename(in("live/next"), in("live/data")), 0);
    expect_word();
    watch("live/a.pem", "live/a.pem");
    put("v2/a.pem", "3"); /* where it really is */
    expect_word();
    ck_assert_int_eq(rename(in("live"), in("dead")), 0);
    expect_word();
}
END_TEST

/* releases/1 for releases/2, by the link `current` that is two above the file; a link to a link to
 * the file; and the directory that the links are in for another. */
START_TEST(links_far_from_the_file)
{
    mkdir(in("r1"), 0755);
    mkdir(in("r2"), 0755);
    mkdir(in("r1/tls"), 0755);
    mkdir(in("r2/tls"), 0755);
    mkdir(in("links"), 0755);
    put("r1/tls/a.pem", "1");
    put("r2/tls/a.pem", "2");
    ck_assert_int_eq(symlink("r1", in("current")), 0);
    watch("current/tls/a.pem", "current/tls/a.pem");
    ck_assert_int_eq(symlink("r2", in("next")), 0);
    ck_assert_int_eq(rename(in("next"), in("current")), 0);
    expect_word();

    ck_assert_int_eq(symlink("../current/tls/a.pem", in("links/a.pem")), 0);
    watch("links/a.pem", "links/a.pem");
    put("r2/tls/a.pem", "3");
    expect_word();
    ck_assert_int_eq(symlink("r1", in("next")), 0);
    ck_assert_int_eq(rename(in("next"), in("current")), 0);
    expect_word();
    watch("r1/tls/a.pem", "r1/tls/a.pem");
    ck_assert_int_eq(rename(in("r1"), in("gone")), 0);
    expect_word();
}
END_TEST

/* A link that leads to itself leads nowhere. */
START_TEST(links_without_end)
{
    ck_assert_int_eq(symlink("loop", in("loop")), 0);
    watch("loop", "loop/a.pem");
    unlink(in("loop"));
    put("loop", "1");
    expect_word();
    unlink(in("loop"));
}
END_TEST

/* Others' files in the same directory, written all the time, do not put off what is told of ours.
 */
START_TEST(others_files_are_none_of_ours)
{
    uint64_t began;

    put("a.pem", "1");
    put("b.pem", "1");
    watch("a.pem", "a.pem");
    put("a.pem", "2");
    began = uv_hrtime();
    while (files == 0 && uv_hrtime() - began < WAIT_NS) {
        put("b.pem", "2");
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(20000);
    }
    ck_assert_uint_eq(files, 1);
    ck_assert_uint_lt(uv_hrtime() - began, 1000000000ull);
    unlink(in("b.pem"));
}
END_TEST

/* What goes on and on is told in between. */
START_TEST(a_change_without_end)
{
    uint64_t began = uv_hrtime();

    put("a.pem", "1");
    watch("a.pem", "a.pem");
    while (files == 0 && uv_hrtime() - began < WAIT_NS) {
        put("a.pem", "2");
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(20000);
    }
    ck_assert_uint_eq(files, 1);
    ck_assert_uint_gt(uv_hrtime() - began, 1000000000ull);
}
END_TEST

/* A directory that is not there is no fault of ours. */
START_TEST(nothing_there)
{
    watch("no/such/a.pem", "no/such/a.key");
    watch("no/such/a.pem", "no/such/a.key");
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_uint_eq(files, 0);
}
END_TEST

START_TEST(the_first_key)
{
    struct tls_ticket_key first;

    tls_keeper_watch(keeper, &config);
    ck_assert_uint_eq(tickets, 0); /* no certificates, no tickets */
    watch("a.pem", "a.key");
    ck_assert_uint_eq(tickets, 1);
    ck_assert_uint_eq(count, 1);
    first = newest;
    watch("a.pem", "a.key");
    ck_assert_uint_eq(tickets, 1);
    ck_assert_mem_eq(&first, &newest, sizeof first);
    ck_assert_mem_ne(first.aes, first.hmac, sizeof first.aes);
}
END_TEST

static void find_rotation(uv_handle_t *h, void *arg)
{
    uv_timer_t **found = arg;

    if (h->type == UV_TIMER && uv_timer_get_due_in((uv_timer_t *)h) > 3500 * 1000)
        *found = (uv_timer_t *)h;
}

START_TEST(another_key_each_hour)
{
    struct tls_ticket_key before;
    uv_timer_t *rotation = NULL;

    watch("a.pem", "a.key");
    uv_walk(&loop, find_rotation, &rotation);
    ck_assert_ptr_nonnull(rotation);
    ck_assert_uint_le(uv_timer_get_due_in(rotation), 3600 * 1000);
    ck_assert_uint_eq(uv_timer_get_repeat(rotation), 3600 * 1000);
    for (unsigned n = 2; n < 6; n++) {
        before = newest;
        uv_timer_start(rotation, rotation->timer_cb, 0, 3600 * 1000); /* it is time */
        uv_run(&loop, UV_RUN_NOWAIT);
        ck_assert_uint_eq(tickets, n);
        ck_assert_uint_eq(count, n < TLS_TICKET_KEYS ? n : TLS_TICKET_KEYS);
        ck_assert_mem_ne(&before, &newest, sizeof before);
    }
}
END_TEST

int main(void)
{
    static const char *const names[] = {
        "a.pem",      "a.key",     "v1/a.pem",       "v2/a.pem",    "v1",    "v2",
        "dead/a.pem", "dead/data", "dead",           "links/a.pem", "links", "r2/tls/a.pem",
        "r2/tls",     "r2",        "gone/tls/a.pem", "gone/tls",    "gone",  "current"};
    Suite *s = suite_create("tls_keeper");
    TCase *t = tcase_create("tls_keeper");
    SRunner *r = srunner_create(s);
    int failed;

    if (!mkdtemp(dir))
        return 1;
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, files_are_written_and_renamed);
    tcase_add_test(t, links_are_swapped);
    tcase_add_test(t, links_far_from_the_file);
    tcase_add_test(t, links_without_end);
    tcase_add_test(t, others_files_are_none_of_ours);
    tcase_add_test(t, a_change_without_end);
    tcase_add_test(t, nothing_there);
    tcase_add_test(t, the_first_key);
    tcase_add_test(t, another_key_each_hour);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove(in(names[i]));
    rmdir(dir);
    return failed != 0;
}
