/* SPDX-License-Identifier: Apache-2.0 */
/* The engine client against a fake engine: opened, listened to, closed.
 * The difficulty: each test closes it somewhere else, and once only. */
#ifndef TESTS_UNIT_ORCHESTRATOR_ENGINE_CASE_H
#define TESTS_UNIT_ORCHESTRATOR_ENGINE_CASE_H

#include "base/clock.h"
#include "fake_peer.h"
#include "orchestrator/engine_priv.h"
#include <signal.h>

static uv_loop_t loop;
static struct fake_peer peer;
static struct engine *engine; /* NULL: closed */
static const struct engine_ops *ops;
static struct config config;
static int lists, closed;

static void on_closed(void *arg)
{
    (void)arg;
    closed++;
}

static inline void close_engine(void)
{
    engine_close(engine, on_closed, NULL);
    engine = NULL;
}

/* What a test has no interest in. */
static inline void ignore_state(void *arg, bool up, const char *why)
{
    (void)arg;
    (void)up;
    (void)why;
}

static inline void ignore_event(void *arg, const struct engine_event *event)
{
    (void)arg;
    (void)event;
}

static inline void ignore_progress(void *arg, const char *service, const char *words)
{
    (void)arg;
    (void)service;
    (void)words;
}

static inline void count_list(void *arg, const struct engine_container *all, size_t count,
                              int64_t began_ms)
{
    (void)arg;
    (void)all;
    (void)count;
    (void)began_ms;
    lists++;
}

/* Until *what reaches `wanted`. */
static inline void until(const int *what, int wanted)
{
    int64_t end = kg_clock_mono_ms() + 10000;

    while (*what < wanted && kg_clock_mono_ms() < end)
        uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_ge(*what, wanted);
}

static inline void turn(int ms)
{
    int64_t end = kg_clock_mono_ms() + ms;

    while (kg_clock_mono_ms() < end)
        uv_run(&loop, UV_RUN_NOWAIT);
}

/* `reach`: how workers are reached, so that it is not found out. */
static inline void open_peer(fake_request *on_request, const char *reach)
{
    uv_loop_init(&loop);
    fake_peer_open(&peer, &loop, on_request, NULL);
    setenv("KIPGATE_REACH", reach, 1);
    kg_log_setup(KG_LOG_ERROR, KG_LOG_TEXT, "test");
    lists = closed = 0;
}

/* `callbacks` are kept. */
static inline void open_engine(const struct engine_callbacks *callbacks)
{
    static char address[128], state_dir[] = "/nonexistent";
    struct kg_err err = {0};

    snprintf(address, sizeof address, "unix://%s", peer.path);
    config = (struct config){.engine = address, .state_dir = state_dir};
    engine = engine_open(&loop, &config, "me", "key", callbacks, &err);
    ck_assert_ptr_nonnull(engine);
    ops = engine_ops(engine);
}

static inline void tear_down(void)
{
    if (engine)
        close_engine();
    until(&closed, 1);
    fake_peer_close(&peer);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(closed, 1);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
}

#endif
