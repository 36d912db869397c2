/* SPDX-License-Identifier: Apache-2.0 */
/* One path again and again: its first allocation fails, its second, ... until it ends with none
 * failed; each once, and each with all that follow. The difficulty: peers of the path live in the
 * same process, so allocations fail only while the loop turns or a call of ours is made. */
#ifndef TESTS_EXHAUSTION_EXHAUST_H
#define TESTS_EXHAUSTION_EXHAUST_H

#include "tests/exhaustion/failing.h"
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>
#ifdef KG_SANITIZE
#include <sanitizer/lsan_interface.h>
#endif

#define EXHAUST_MOST 20000 /* a path that asks more often does not end */

static bool exhaust_armed;

/* What is done here may fail. */
#define EXHAUST(call)                                                                              \
    do {                                                                                           \
        if (exhaust_armed)                                                                         \
            failing_resume();                                                                      \
        call;                                                                                      \
        failing_pause();                                                                           \
    } while (0)

static inline int exhaust_run(uv_loop_t *loop, uv_run_mode mode)
{
    int rc;

    EXHAUST(rc = uv_run(loop, mode));
    return rc;
}
#define uv_run(loop, mode) exhaust_run(loop, mode)

static inline void exhaust_arm(int64_t at, bool sticky)
{
    failing_start(at, sticky);
    exhaust_armed = true;
}

static inline int64_t exhaust_disarm(void)
{
    exhaust_armed = false;
    return failing_stop();
}

static inline bool exhaust_leaks(void)
{
#ifdef KG_SANITIZE
    return __lsan_do_recoverable_leak_check() != 0;
#else
    return false;
#endif
}

/* Without KIPGATE_LONG: of a path that asks very often, only every so many-th is failed, and each
 * of the first. */
static int exhaust_step = 1, exhaust_first = 0;

/* One again: EXHAUST="NAME/7" or "NAME/7+" (from then on) walks this n alone. Without
 * KIPGATE_LONG, "from then on" is walked for every fifth n. */
static inline bool exhaust_skips(const char *name, int64_t n, int sticky)
{
    const char *asked = getenv("EXHAUST");
    char this[128];

    snprintf(this, sizeof this, "%s/%lld%s", name, (long long)n, sticky ? "+" : "");
    if (asked)
        return strcmp(asked, this) != 0 && n < 1000;
    return n > exhaust_first && (n - 1) % (exhaust_step * (sticky ? 5 : 1)) != 0 &&
           !getenv("KIPGATE_LONG");
}

/* Walks the path for every n; walk(n, sticky) gives how many allocations failed. Words of where it
 * is go to standard error, so that a crash tells them. */
static inline void exhaust(const char *name, int64_t (*walk)(int64_t at, bool sticky))
{
    static const char *const manners[] = {"once", "from then on"};

    for (int sticky = 0; sticky < 2; sticky++) {
        int64_t n = 0, walked = 0, failed = 1;
        while (failed > 0) {
            ck_assert_int_lt(++n, EXHAUST_MOST);
            if (exhaust_skips(name, n, sticky))
                continue;
            fprintf(stderr, "\r%s: %lld %s ", name, (long long)n, manners[sticky]);
            failed = walk(n, sticky);
            walked++;
            ck_assert_msg(walked % 16 != 0 || !exhaust_leaks(), "a leak at one of the last 16");
        }
        ck_assert_msg(!exhaust_leaks(), "a leak at one of the last 16");
        fprintf(stderr, "\r%s: failed %s at %lld of %lld allocations\n", name, manners[sticky],
                (long long)walked - 1, (long long)n - 1);
    }
}

#endif
