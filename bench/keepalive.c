/* SPDX-License-Identifier: Apache-2.0 */
/* How often a request finds nothing ready, and how much memory waits in vain, by policy: a trace of
 * real arrivals, the real reaper and habits, a virtual clock. See bench/README.md. The difficulty:
 * to be comparable with what others published, hence two readings of a minute's count. */
#include "bench/keepalive.h"
#include "base/str.h"
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define HOUR_MS (60 * KEEPALIVE_MINUTE_MS)
#define SEEDS_MAX 100

enum column { COLD, WASTE, FROZEN, MEMORY, MEDIAN, Q3, AHEAD, LATENCY, COLUMNS };
static const char *const headings[COLUMNS] = {"cold",     "waste %", "frozen %", "MB waste %",
                                              "median %", "q3 %",    "ahead",    "latency s"};
static const int digits[COLUMNS] = {0, 1, 1, 1, 2, 2, 0, 0};

/* The first one is what waste is measured by. */
static const struct policy policies[] = {
    {"fixed-10", 10 * KEEPALIVE_MINUTE_MS, 0, false},
    {"fixed-5", 5 * KEEPALIVE_MINUTE_MS, 0, false},
    {"fixed-20", 20 * KEEPALIVE_MINUTE_MS, 0, false},
    {"auto 0", 0, 0, false},
    {"auto 0.25", 0, 0.25, false},
    {"auto 0.4", 0, 0.4, false},
    {"auto 0.5", 0, 0.5, false},
    {"auto 0.55", 0, 0.55, false},
    {"auto 0.6", 0, 0.6, false},
    {"auto 0.75", 0, 0.75, false},
    {"auto 1", 0, 1, false},
    {"auto+pause 0.25", 0, 0.25, true},
    {"auto+pause 0.5", 0, 0.5, true},
    {"auto+pause 0.75", 0, 0.75, true},
};
#define POLICIES COUNT_OF(policies)

/* What others reached on this one trace, read as a grid of minutes. */
static const struct plot_point known[] = {
    {"hybrid histogram", "", 87, 793},
    {"chance by the minute", "", 64, 1092},
    {"stretch", "", 90, 680},
};

struct options {
    const char *dir, *plot;
    int64_t seeds;
    struct costs costs;
};
/* One figure over the seeds. */
struct figure {
    double sum, square;
    int count;
};
struct table {
    struct figure cells[POLICIES][COLUMNS];
};

static void add(struct figure *f, double value)
{
    f->sum += value;
    f->square += value * value;
    f->count++;
}

static double mean(const struct figure *f)
{
    return f->count > 0 ? f->sum / f->count : 0;
}

static double deviation(const struct figure *f)
{
    if (f->count < 2)
        return 0;
    return sqrt(fmax(0, (f->square - f->sum * f->sum / f->count) / (f->count - 1)));
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void add_outcome(struct figure cells[COLUMNS], const struct outcome *o,
                        const struct outcome *base)
{
    add(&cells[COLD], (double)o->cold);
    add(&cells[WASTE], percent(o->idle_ms, base->idle_ms));
    add(&cells[FROZEN], percent(o->frozen_ms, base->idle_ms));
    add(&cells[MEMORY], percent(o->idle_mb_ms, base->idle_mb_ms));
    add(&cells[MEDIAN], o->cold_median);
    add(&cells[Q3], o->cold_q3);
    add(&cells[AHEAD], (double)o->woken);
    add(&cells[LATENCY], o->latency_s);
}

static void print_table(const struct table *t)
{
    printf("%-16s", "policy");
    for (int c = 0; c < COLUMNS; c++)
        printf(" %17s", headings[c]);
    printf("\n");
    for (size_t p = 0; p < POLICIES; p++) {
        printf("%-16s", policies[p].name);
        for (int c = 0; c < COLUMNS; c++) {
            const struct figure *f = &t->cells[p][c];
            char text[64];

            snprintf(text, sizeof text, "%.*f", digits[c], mean(f));
            if (f->count > 1)
                snprintf(text + strlen(text), sizeof text - strlen(text), " +-%.*f", digits[c],
                         deviation(f));
            printf(" %17s", text);
        }
        printf("\n");
    }
    printf("\n");
}

/* --- runs --- */

/* All policies over one reading of the trace. */
static int run_all(const struct trace *t, const struct costs *costs, uint64_t seed,
                   struct table *table)
{
    struct uses *uses = calloc(t->app_count, sizeof *uses);
    struct outcome base = {0};
    int rc = uses ? 0 : KG_ENOMEM;

    for (size_t i = 0; i < t->app_count && rc == 0; i++)
        rc = trace_uses(t, i, seed, &uses[i]);
    for (size_t p = 0; p < POLICIES && rc == 0; p++) {
        struct outcome o;

        rc = keepalive_run(t, uses, &policies[p], costs, &o);
        if (p == 0)
            base = o;
        if (rc == 0)
            add_outcome(table->cells[p], &o, &base);
    }
    for (size_t i = 0; uses && i < t->app_count; i++)
        free(uses[i].items);
    free(uses);
    return rc;
}

static bool is_known(const struct trace *t)
{
    return t->app_count == 476 && t->minutes == 480 && t->invocations == 3037902;
}

/* Waste of our curve at so many cold starts, along straight lines between goals; NAN: not reached.
 */
static double waste_at(const struct table *t, double cold)
{
    for (size_t p = 0; p + 1 < POLICIES; p++) {
        const struct figure *a = t->cells[p], *b = t->cells[p + 1];
        const double from = mean(&a[COLD]), to = mean(&b[COLD]);

        if (policies[p].fixed_ms > 0 || policies[p + 1].pause || from < cold || to > cold)
            continue;
        return from == to ? mean(&a[WASTE])
                          : mean(&a[WASTE]) +
                                (from - cold) / (from - to) * (mean(&b[WASTE]) - mean(&a[WASTE]));
    }
    return NAN;
}

static void print_known(const struct table *bounded, const struct table *free_bounds)
{
    printf("as many cold starts as the known points of this trace\n");
    printf("%-24s %6s %9s %14s %26s\n", "point", "cold", "waste %", "auto: waste %",
           "auto in 0 to 4h: waste %");
    for (size_t i = 0; i < COUNT_OF(known); i++)
        printf("%-24s %6.0f %9.0f %14.1f %26.1f\n", known[i].name, known[i].cold,
               known[i].waste_percent, waste_at(bounded, known[i].cold),
               waste_at(free_bounds, known[i].cold));
    printf("\n");
}

static int plot(const char *path, const struct table *t, const struct table *free_bounds,
                bool with_known, struct kg_err *err)
{
    struct plot_point points[2 * POLICIES + COUNT_OF(known)];
    size_t count = 0;

    for (size_t p = 0; p < 2 * POLICIES; p++) {
        const struct policy *policy = &policies[p % POLICIES];
        const struct figure *f = p < POLICIES ? t->cells[p] : free_bounds->cells[p - POLICIES];

        if (p >= POLICIES && (policy->fixed_ms > 0 || policy->pause))
            continue;
        points[count++] = (struct plot_point){
            .name = policy->name,
            .series = policy->fixed_ms > 0 ? "fixed"
                      : policy->pause      ? "auto with pausing"
                      : p < POLICIES       ? "auto"
                                           : "auto, idle_min 0, idle_max 4h",
            .waste_percent = mean(&f[WASTE]),
            .cold = mean(&f[COLD]),
        };
    }
    for (size_t i = 0; i < COUNT_OF(known) && with_known; i++) {
        points[count] = known[i];
        points[count++].series = "known points";
    }
    return keepalive_plot(path, points, count, err);
}

static int bench(const struct options *o, const struct trace *t, struct kg_err *err)
{
    static struct table grid, free_bounds, spread;
    struct costs wide = o->costs;
    char least[24], most[24];
    int rc;

    wide.idle_min_ms = 0;
    wide.idle_max_ms = 4 * HOUR_MS;
    kg_duration_format(o->costs.idle_min_ms, least);
    kg_duration_format(o->costs.idle_max_ms, most);
    printf(
        "%zu applications, %d minutes, %lld invocations; a start takes %lld ms, a resume %lld\n\n",
        t->app_count, t->minutes, (long long)t->invocations, (long long)o->costs.start_ms,
        (long long)o->costs.resume_ms);
    rc = run_all(t, &o->costs, 0, &grid);
    if (rc == 0)
        rc = run_all(t, &wide, 0, &free_bounds);
    if (rc != 0)
        return kg_fail(err, rc, "no memory");
    printf("minute grid, idle_min %s, idle_max %s\n", least, most);
    print_table(&grid);
    printf("minute grid, idle_min 0, idle_max 4h\n");
    print_table(&free_bounds);
    if (is_known(t))
        print_known(&grid, &free_bounds);
    for (int64_t seed = 1; seed <= o->seeds && rc == 0; seed++)
        rc = run_all(t, &o->costs, (uint64_t)seed, &spread);
    if (rc != 0)
        return kg_fail(err, rc, "no memory");
    if (o->seeds > 0) {
        printf(
            "spread within the minute, with durations, idle_min %s, idle_max %s: mean and standard "
            "deviation of %lld seeds\n",
            least, most, (long long)o->seeds);
        print_table(&spread);
    }
    return o->plot ? plot(o->plot, &grid, &free_bounds, is_known(t), err) : 0;
}

/* --- options --- */

static _Noreturn void usage(FILE *to)
{
    fputs(
        "usage: keepalive TRACE_DIR [--seeds 5] [--out FILE.svg] [--start-ms 270] [--resume-ms 9]\n"
        "                 [--idle-min 1m] [--idle-max 1h]\n"
        "TRACE_DIR holds invocations.csv, durations.csv and memory.csv: see bench/README.md.\n",
        to);
    exit(to == stdout ? 0 : 2);
}

static _Noreturn void die(const char *words)
{
    fprintf(stderr, "keepalive: %s\n", words);
    exit(1);
}

static int64_t number(const char *text, int64_t most)
{
    int64_t value;

    if (!kg_str_to_i64(kg_str_of(text), &value) || value > most)
        usage(stderr);
    return value;
}

static int64_t duration(const char *text)
{
    int64_t ms;

    if (kg_duration_parse(kg_str_of(text), &ms) != 0)
        usage(stderr);
    return ms;
}

static void parse(int argc, char **argv, struct options *o)
{
    static const struct option names[] = {
        {"seeds", required_argument, NULL, 's'},    {"out", required_argument, NULL, 'o'},
        {"start-ms", required_argument, NULL, 'c'}, {"resume-ms", required_argument, NULL, 'r'},
        {"idle-min", required_argument, NULL, 'm'}, {"idle-max", required_argument, NULL, 'M'},
        {"help", no_argument, NULL, 'h'},           {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        if (c == 's')
            o->seeds = number(optarg, SEEDS_MAX);
        else if (c == 'o')
            o->plot = optarg;
        else if (c == 'c')
            o->costs.start_ms = number(optarg, HOUR_MS);
        else if (c == 'r')
            o->costs.resume_ms = number(optarg, HOUR_MS);
        else if (c == 'm')
            o->costs.idle_min_ms = duration(optarg);
        else if (c == 'M')
            o->costs.idle_max_ms = duration(optarg);
        else
            usage(c == 'h' ? stdout : stderr);
    }
    if (argc - optind != 1 || o->costs.idle_min_ms > o->costs.idle_max_ms)
        usage(stderr);
    o->dir = argv[optind];
}

int main(int argc, char **argv)
{
    struct options o = {.seeds = 5,
                        .costs = {.start_ms = 270,
                                  .resume_ms = 9,
                                  .idle_min_ms = KEEPALIVE_MINUTE_MS,
                                  .idle_max_ms = HOUR_MS}};
    struct kg_err err = {0};
    struct trace trace;
    int rc;

    parse(argc, argv, &o);
    rc = trace_read(&trace, o.dir, &err);
    if (rc == 0)
        rc = bench(&o, &trace, &err);
    trace_free(&trace);
    if (rc != 0)
        die(err.words);
    return 0;
}
