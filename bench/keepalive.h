/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the keep-alive bench share: a trace, the uses made of it, a policy, and what it
 * came to. The difficulty is in the parts. */
#ifndef KEEPALIVE_H
#define KEEPALIVE_H

#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define KEEPALIVE_MINUTE_MS 60000

/* --- keepalive_trace.c --- */

struct trace_function {
    char *name;
    uint32_t *counts;        /* invocations, minute by minute */
    double percentile_ms[7]; /* of durations: 0, 1, 25, 50, 75, 99, 100 */
};
struct trace_app { /* what one instance serves: an application */
    char *name;    /* owner and application */
    struct trace_function *functions;
    size_t function_count;
    double megabytes;
    int64_t invocations;
};
struct trace {
    struct trace_app *apps;
    size_t app_count;
    int first_minute, minutes; /* of the day; how many */
    int64_t invocations;
};
/* Reads invocations.csv, durations.csv and memory.csv of that directory. 0, or an error whose words
 * name file and line; to be freed in both cases. */
int trace_read(struct trace *t, const char *dir, struct kg_err *err);
void trace_free(struct trace *t);

/* A time in use, from the trace's beginning on; idle times lie between. Invocations at once are one
 * use. */
struct use {
    int64_t start_ms, end_ms;
};
struct uses {
    struct use *items;
    size_t count, cap;
};
/* The grid (seed 0): a minute with invocations is in use, wholly. Else invocations are spread
 * within their minute and last as long as the percentiles say, by the seed. 0 or KG_ENOMEM. */
int trace_uses(const struct trace *t, size_t app, uint64_t seed, struct uses *u);

/* --- keepalive_run.c --- */

struct policy {
    char name[40];
    int64_t fixed_ms; /* 0: habit decides */
    double goal;
    bool pause;
};
struct costs {
    int64_t start_ms, resume_ms, idle_min_ms, idle_max_ms;
};
struct outcome {
    int64_t cold, woken, resumed; /* starts on demand, starts ahead, frozen ones that were needed */
    double idle_ms, frozen_ms;    /* loaded and not in use: running, frozen */
    double idle_mb_ms;            /* the former with each application's memory */
    double cold_median, cold_q3;  /* per cent of invocations, over applications */
    double latency_s;             /* added to requests in all */
};
/* Runs one policy over all applications at once. 0 or KG_ENOMEM. */
int keepalive_run(const struct trace *t, const struct uses *uses, const struct policy *p,
                  const struct costs *costs, struct outcome *out);

/* --- keepalive_plot.c --- */

struct plot_point {
    const char *name; /* its words; points of the same series are joined by a line */
    const char *series;
    double waste_percent, cold;
};
/* Writes an SVG. 0 or KG_EIO. */
int keepalive_plot(const char *path, const struct plot_point *points, size_t count,
                   struct kg_err *err);

#endif
