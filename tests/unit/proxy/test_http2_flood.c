/* SPDX-License-Identifier: Apache-2.0 */
/* Floods at their edges: one frame fewer is fine, the next is not.
 * The difficulty: heads of frames cut at every byte. */
#include "proxy/http2_flood.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define CALM 11
#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

enum { DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, UPDATE, CONTINUATION };

static struct http2_flood flood;
static int64_t now;

static void setup(void)
{
    now = 1000;
    http2_flood_init(&flood, false, now);
    ck_assert_uint_eq(http2_flood_scan(&flood, PREFACE, strlen(PREFACE), now), 0);
}

/* A frame with a payload of zeros, fed in pieces of `step` bytes. */
static uint32_t feed(int type, int flags, unsigned stream, size_t n, size_t step)
{
    char bytes[9 + 20000] = {
        (char)(n >> 16),     (char)(n >> 8), (char)n, (char)type, (char)flags, 0, 0,
        (char)(stream >> 8), (char)stream};
    uint32_t code = 0;

    for (size_t at = 0; at < 9 + n && code == 0; at += step)
        code = http2_flood_scan(&flood, bytes + at, 9 + n - at < step ? 9 + n - at : step, now);
    return code;
}

static uint32_t frame(int type, int flags, unsigned stream, size_t n)
{
    return feed(type, flags, stream, n, 9 + n);
}

static void fine(unsigned times, int type, int flags, size_t n)
{
    for (unsigned i = 0; i < times; i++)
        ck_assert_uint_eq(frame(type, flags, 1, n), 0);
}

static const struct {
    int type;
    size_t n;
} glitches[] = {{PING, 8}, {SETTINGS, 6}, {SETTINGS, 0}, {PRIORITY, 5}, {UPDATE, 4},
                {DATA, 0}, {DATA, 1},     {GOAWAY, 8},   {0x42, 0},     {0x42, 100}};

START_TEST(glitches_have_a_limit)
{
    fine(KG_MAX_GLITCHES, glitches[_i].type, 0, glitches[_i].n);
    now += KG_FLOOD_WINDOW_MS;
    fine(KG_MAX_GLITCHES, glitches[_i].type, 0, glitches[_i].n);
    ck_assert_uint_eq(frame(glitches[_i].type, 0, 1, glitches[_i].n), CALM);
}
END_TEST

START_TEST(what_moves_a_stream_is_none)
{
    fine(5000, DATA, 0, 2);
    fine(5000, DATA, 1, 0);
    fine(5000, SETTINGS, 1, 0);
    fine(5000, HEADERS, 5, 10);
    ck_assert_uint_eq(flood.glitches, 0);
}
END_TEST

START_TEST(what_answers_our_data_is_none)
{
    for (unsigned i = 0; i < 5000; i++) {
        http2_flood_sent(&flood);
        fine(3, UPDATE, 0, 4);
    }
    ck_assert_uint_eq(flood.glitches, 0);
    fine(KG_MAX_GLITCHES, UPDATE, 0, 4);
    ck_assert_uint_eq(frame(UPDATE, 0, 1, 4), CALM);
}
END_TEST

START_TEST(credit_does_not_grow_for_ever)
{
    for (unsigned i = 0; i < 100000; i++)
        http2_flood_sent(&flood);
    fine(1000 + KG_MAX_GLITCHES - 1, PING, 0, 8);
    fine(1, PING, 0, 8);
    ck_assert_uint_eq(frame(PING, 0, 0, 8), CALM);
}
END_TEST

START_TEST(priority_of_nothing)
{
    ck_assert_uint_eq(frame(PRIORITY, 0, 0, 5), 1);
}
END_TEST

START_TEST(resets)
{
    fine(KG_MAX_RESETS, RST, 0, 4);
    ck_assert(!http2_flood_resets(&flood));
    now += KG_FLOOD_WINDOW_MS;
    fine(KG_MAX_RESETS, RST, 0, 4);
    ck_assert_uint_eq(frame(RST, 0, 1, 4), CALM);
    ck_assert(http2_flood_resets(&flood));
    setup();
    fine(KG_MAX_RESETS - 1, RST, 0, 4);
    http2_flood_reset_by_us(&flood);
    ck_assert_uint_eq(frame(RST, 0, 1, 4), CALM);
}
END_TEST

START_TEST(resets_of_half_the_streams)
{
    fine(2 * KG_MIN_RESETS, HEADERS, 5, 10);
    for (unsigned i = 0; i < KG_MIN_RESETS; i++)
        http2_flood_reset_early(&flood);
    ck_assert(!http2_flood_resets(&flood)); /* just half */
    http2_flood_reset_early(&flood);
    ck_assert(http2_flood_resets(&flood));
    setup();
    fine(KG_MIN_RESETS - 1, HEADERS, 5, 10);
    for (unsigned i = 0; i < KG_MIN_RESETS - 1; i++)
        http2_flood_reset_early(&flood);
    ck_assert(!http2_flood_resets(&flood)); /* all, but too few to tell */
}
END_TEST

START_TEST(a_worker_may_reset)
{
    http2_flood_init(&flood, true, now);
    fine(1000, RST, 0, 4);
    ck_assert(!http2_flood_resets(&flood));
}
END_TEST

START_TEST(blocks)
{
    ck_assert_uint_eq(frame(HEADERS, 0, 1, 0), 0);
    fine(KG_MAX_BLOCK_FRAMES - 1, CONTINUATION, 0, 0);
    ck_assert_uint_eq(frame(CONTINUATION, 4, 1, 0), CALM);
    setup();
    ck_assert_uint_eq(frame(HEADERS, 0, 1, 16384), 0);
    fine(3, CONTINUATION, 0, 16384);
    ck_assert_uint_eq(frame(CONTINUATION, 4, 1, 1), CALM);
    setup();
    ck_assert_uint_eq(frame(HEADERS, 4, 1, 16384), 0);
    ck_assert_uint_eq(frame(HEADERS, 0, 3, 16384), 0); /* the next block begins anew */
    fine(3, CONTINUATION, 0, 16384);
}
END_TEST

START_TEST(cut_anywhere)
{
    for (size_t step = 1; step < 20; step++) {
        setup();
        for (unsigned i = 0; i < KG_MAX_GLITCHES; i++)
            ck_assert_uint_eq(feed(PING, 0, 0, 8, step), 0);
        ck_assert_uint_eq(feed(DATA, 0, 1, 1000, step), 0);
        ck_assert_uint_eq(feed(PING, 0, 0, 8, step), CALM);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http2 flood");
    TCase *t = tcase_create("http2 flood");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_loop_test(t, glitches_have_a_limit, 0, (int)(sizeof glitches / sizeof *glitches));
    tcase_add_test(t, what_moves_a_stream_is_none);
    tcase_add_test(t, what_answers_our_data_is_none);
    tcase_add_test(t, credit_does_not_grow_for_ever);
    tcase_add_test(t, priority_of_nothing);
    tcase_add_test(t, resets);
    tcase_add_test(t, resets_of_half_the_streams);
    tcase_add_test(t, a_worker_may_reset);
    tcase_add_test(t, blocks);
    tcase_add_test(t, cut_anywhere);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
