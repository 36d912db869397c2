/* SPDX-License-Identifier: Apache-2.0 */
/* Images ahead of time, against an engine of this test. The difficulty: what is under way when the
 * configuration, the engine or everything goes. */
#include "base/clock.h"
#include "orchestrator/images.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define MAX_ASKED 64

/* --- an engine that answers when it is told to */

struct asked {
    uint64_t number;
    bool pull;
    char image[64], service[64];
    int64_t timeout_ms;
    engine_done *done;
    void *arg;
};
static struct asked asked[MAX_ASKED]; /* not answered yet, in order */
static size_t asked_count, asked_most, total_looks, total_pulls, cancelled;
static uint64_t numbers;
static bool no_memory;
static int64_t now_ms;
static struct images *images;
static struct config config;
static struct config_service services[8];
static struct config_service *pointers[8];
static char news[2000];

static uint64_t ask(const struct config_service *s, bool pull, engine_done *done, void *arg)
{
    struct asked *a = &asked[asked_count];

    if (no_memory)
        return 0;
    ck_assert_uint_lt(asked_count, MAX_ASKED);
    *a = (struct asked){++numbers, pull, "", "", s->pull_timeout_ms, done, arg};
    snprintf(a->image, sizeof a->image, "%s", s->image);
    snprintf(a->service, sizeof a->service, "%s", s->name);
    asked_count++;
    if (asked_count > asked_most)
        asked_most = asked_count;
    if (pull)
        total_pulls++;
    else
        total_looks++;
    return numbers;
}

static uint64_t ask_pull(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    (void)self;
    return ask(s, true, done, arg);
}

static uint64_t ask_image(void *self, const struct config_service *s, engine_done *done, void *arg)
{
    (void)self;
    return ask(s, false, done, arg);
}

static struct asked take(size_t at)
{
    struct asked a = asked[at];

    ck_assert_uint_lt(at, asked_count);
    memmove(&asked[at], &asked[at + 1], (--asked_count - at) * sizeof a);
    return a;
}

static void on_cancel(void *self, uint64_t number)
{
    size_t at = 0;

    (void)self;
    while (at < asked_count && asked[at].number != number)
        at++;
    take(at);
    cancelled++;
}

static const struct engine_ops ops = {.pull = ask_pull, .image = ask_image, .cancel = on_cancel};

static int64_t clock_now(void)
{
    return now_ms;
}

static void on_news(void *arg, const struct images_news *n)
{
    size_t at = strlen(news);

    (void)arg;
    snprintf(news + at, sizeof news - at, "%s %s %s %s %lld\n",
             n->step == IMAGES_PULLING  ? "pulling"
             : n->step == IMAGES_PULLED ? "pulled"
                                        : "failed",
             n->service, n->image, n->words, (long long)n->ms);
}

/* --- what tests say */

static void tick(void)
{
    if (images_due_ms(images) <= now_ms)
        images_tick(images, now_ms);
}

/* Answers the oldest question. */
static void answer(int code)
{
    struct engine_answer a = {.code = code};
    struct asked q = take(0);

    if (code != 0)
        snprintf(a.words, sizeof a.words, "words of %d", code);
    q.done(q.arg, &a);
    tick();
}

static void asks(size_t at, const char *what, const char *image)
{
    ck_assert_msg(at < asked_count, "nothing is asked about %s", image);
    ck_assert_str_eq(asked[at].pull ? "pull" : "look", what);
    ck_assert_str_eq(asked[at].image, image);
}

static void told(const char *words)
{
    ck_assert_str_eq(news, words);
    news[0] = '\0';
}

/* "image" or "image:always" or "image:never" each; services a, b, c. */
static void configure(const char *const *of)
{
    config.service_count = 0;
    for (; *of; of++) {
        size_t n = config.service_count;
        struct config_service *s = &services[n];
        const char *colon = strchr(*of, ':');
        free(s->image);
        *s = (struct config_service){.pull_timeout_ms = 1000 * (int64_t)(n + 1)};
        s->name[0] = (char)('a' + n);
        s->image = strndup(*of, strcspn(*of, ":"));
        s->pull = !colon                          ? CONFIG_PULL_MISSING
                  : strcmp(colon, ":always") == 0 ? CONFIG_PULL_ALWAYS
                                                  : CONFIG_PULL_NEVER;
        pointers[n] = s;
        config.service_count++;
    }
    config.services = pointers;
    images_configure(images, &config);
    tick();
}
#define CONFIGURE(...) configure((const char *const[]){__VA_ARGS__, NULL})

static void engine_is(bool up)
{
    images_engine_state(images, up);
    tick();
}

static void sleep_ms(int64_t ms)
{
    now_ms += ms;
    tick();
}

static void set_up(void)
{
    const struct images_params params = {
        .engine = &ops, .clock = clock_now, .on_news = on_news, .arg = NULL};

    asked_count = asked_most = total_looks = total_pulls = cancelled = 0;
    no_memory = false;
    now_ms = 1000000;
    news[0] = '\0';
    images = images_new(&params);
    ck_assert_ptr_nonnull(images);
}

static void tear_down(void)
{
    images_free(images);
    ck_assert_uint_eq(asked_count, 0); /* all was cancelled */
    for (size_t n = 0; n < 8; n++) {
        free(services[n].image);
        services[n].image = NULL;
    }
}

/* --- the plain way */

START_TEST(looked_for_when_the_engine_is_up_and_pulled_when_missing)
{
    CONFIGURE("x");
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_int_eq(images_due_ms(images), KG_NEVER);
    engine_is(true);
    asks(0, "look", "x");
    answer(KG_ENOTFOUND);
    asks(0, "pull", "x");
    told("pulling a x  0\n");
    now_ms += 700;
    answer(0);
    told("pulled a x  700\n");
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_int_eq(images_due_ms(images), KG_NEVER);
}
END_TEST

START_TEST(what_is_there_is_not_pulled)
{
    CONFIGURE("x");
    engine_is(true);
    answer(0);
    ck_assert_uint_eq(asked_count, 0);
    told("");
}
END_TEST

START_TEST(always_pulls_and_never_does_not)
{
    CONFIGURE("x:always", "y:never");
    engine_is(true);
    asks(0, "pull", "x");
    ck_assert_uint_eq(asked_count, 1);
    answer(0);
    engine_is(false);
    engine_is(true); /* the engine may be another, but what we pulled was the newest */
    asks(0, "look", "x");
    answer(0);
    images_renew(images);
    tick();
    asks(0, "pull", "x");
    ck_assert_uint_eq(asked_count, 1);
}
END_TEST

START_TEST(each_image_once_with_the_longest_patience)
{
    CONFIGURE("x", "x", "x:always", "x:never");
    engine_is(true);
    asks(0, "pull", "x");
    ck_assert_uint_eq(asked_count, 1);
    ck_assert_int_eq(asked[0].timeout_ms, 3000); /* of the third; the fourth has no part in it */
    ck_assert_str_eq(asked[0].service, "c");
}
END_TEST

START_TEST(two_at_a_time)
{
    CONFIGURE("1", "2", "3", "4", "5", "6");
    engine_is(true);
    for (size_t n = 0; n < 12; n++) { /* six questions and six pulls */
        ck_assert_uint_ge(asked_count, 1);
        answer(asked[0].pull ? 0 : KG_ENOTFOUND);
    }
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_uint_eq(asked_most, IMAGES_AT_ONCE);
    ck_assert_uint_eq(total_looks, 6);
    ck_assert_uint_eq(total_pulls, 6);
}
END_TEST

/* --- failures */

START_TEST(failures_are_tried_again_ever_later)
{
    static const int64_t pauses_s[] = {1, 2, 4, 8, 16, 32, 60, 60, 60};

    CONFIGURE("x");
    engine_is(true);
    for (size_t n = 0; n < sizeof pauses_s / sizeof *pauses_s; n++) {
        char words[80];
        asks(0, "look", "x");
        answer(KG_ENOTFOUND);
        news[0] = '\0';
        answer(KG_EIO);
        snprintf(words, sizeof words, "failed a x words of %d %lld\n", KG_EIO,
                 (long long)pauses_s[n] * 1000);
        told(words);
        ck_assert_int_eq(images_due_ms(images), now_ms + pauses_s[n] * 1000);
        sleep_ms(pauses_s[n] * 1000 - 1);
        ck_assert_uint_eq(asked_count, 0);
        sleep_ms(1);
    }
    answer(0); /* somebody else pulled it */
    ck_assert_int_eq(images_due_ms(images), KG_NEVER);
    images_renew(images);
    tick();
    answer(KG_EIO);
    ck_assert_int_eq(images_due_ms(images), now_ms + 1000); /* counted from the start again */
}
END_TEST

START_TEST(a_look_that_fails_says_nothing_of_the_image)
{
    CONFIGURE("x");
    engine_is(true);
    answer(KG_ETIMEOUT);
    ck_assert_uint_eq(total_pulls, 0);
    sleep_ms(1000);
    asks(0, "look", "x");
}
END_TEST

START_TEST(no_memory_is_a_failure)
{
    CONFIGURE("x", "y:always");
    no_memory = true;
    engine_is(true);
    ck_assert_uint_eq(asked_count, 0);
    no_memory = false;
    sleep_ms(1000);
    ck_assert_uint_eq(asked_count, 2);
    no_memory = true;
    if (!asked[0].pull)
        answer(KG_ENOTFOUND); /* and there is none for the pull */
    no_memory = false;
    sleep_ms(60000);
    ck_assert_uint_eq(asked_count, 2);
}
END_TEST

START_TEST(a_failure_does_not_hold_up_others)
{
    CONFIGURE("x", "y", "z");
    engine_is(true);
    answer(KG_EIO);
    answer(KG_EIO);
    ck_assert_uint_eq(asked_count, 1);
    ck_assert_uint_eq(total_looks, 3);
}
END_TEST

/* --- changes meanwhile */

START_TEST(the_engine_goes_and_comes_back)
{
    CONFIGURE("x", "y", "z");
    engine_is(true);
    answer(0);
    engine_is(false);
    answer(KG_ECLOSED);
    answer(KG_ECLOSED);
    sleep_ms(100000);
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_int_eq(images_due_ms(images), KG_NEVER);
    engine_is(true);
    ck_assert_uint_eq(asked_count, 2);
    answer(0);
    answer(0);
    answer(0);
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_uint_eq(total_looks, 6);
}
END_TEST

/* What is asked for while a question is under way is asked once more after it. */
START_TEST(renewed_while_under_way)
{
    CONFIGURE("x:always");
    engine_is(true);
    images_renew(images);
    tick();
    ck_assert_uint_eq(asked_count, 1);
    answer(0);
    asks(0, "pull", "x");
    answer(0);
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_uint_eq(total_pulls, 2);
}
END_TEST

START_TEST(a_new_configuration_adds_and_lets_go)
{
    CONFIGURE("x", "y");
    engine_is(true);
    answer(0);
    answer(KG_ENOTFOUND);
    ck_assert_uint_eq(total_pulls, 1);
    CONFIGURE("x", "z", "y");
    ck_assert_uint_eq(total_looks, 3); /* z alone: x is known, y is under way */
    ck_assert_uint_eq(cancelled, 0);
    CONFIGURE("x");
    ck_assert_uint_eq(cancelled, 2);
    ck_assert_uint_eq(asked_count, 0);
    CONFIGURE("x", "y"); /* as if it were new */
    asks(0, "look", "y");
    CONFIGURE("x", "y:never");
    ck_assert_uint_eq(asked_count, 0);
}
END_TEST

START_TEST(stopped_for_good)
{
    CONFIGURE("x", "y", "z");
    engine_is(true);
    images_stop(images);
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_uint_eq(cancelled, 2);
    engine_is(true);
    images_renew(images);
    CONFIGURE("w");
    sleep_ms(100000);
    ck_assert_uint_eq(asked_count, 0);
    ck_assert_int_eq(images_due_ms(images), KG_NEVER);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        looked_for_when_the_engine_is_up_and_pulled_when_missing,
        what_is_there_is_not_pulled,
        always_pulls_and_never_does_not,
        each_image_once_with_the_longest_patience,
        two_at_a_time,
        failures_are_tried_again_ever_later,
        a_look_that_fails_says_nothing_of_the_image,
        no_memory_is_a_failure,
        a_failure_does_not_hold_up_others,
        the_engine_goes_and_comes_back,
        renewed_while_under_way,
        a_new_configuration_adds_and_lets_go,
        stopped_for_good,
    };
    Suite *s = suite_create("images");
    TCase *t = tcase_create("images");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
