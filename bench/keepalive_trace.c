/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a trace of invocations and spreads them in time.
 * The difficulty: files by hand of others; what is wrong with one is told with its line. */
#include "bench/keepalive.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 2048
#define INVOCATION_COLUMNS 4 /* before the minutes */
#define DURATION_COLUMNS 14
#define MEMORY_COLUMNS 13
#define MOST 1e7       /* of anything: invocations in a minute, milliseconds, megabytes */
#define LINGER_MS 1000 /* idle times below this are none: slots linger in the proxy for so long */

/* One file, line by line. */
struct csv {
    FILE *file;
    char path[4096];
    int line;
    char *text; /* cut into the columns */
    size_t cap;
    char *columns[COLUMNS_MAX];
    int count;
};

static int csv_fail(const struct csv *c, struct kg_err *err, const char *words)
{
    return kg_fail(err, KG_EINVAL, "%s:%d: %s", c->path, c->line, words);
}

/* 1: a line; 0: the end; else an error. */
static int csv_next(struct csv *c, struct kg_err *err)
{
    ssize_t n = getline(&c->text, &c->cap, c->file);

    if (n < 0)
        return ferror(c->file) ? csv_fail(c, err, "cannot be read") : 0;
    c->line++;
    c->count = 0;
    if (strlen(c->text) != (size_t)n)
        return csv_fail(c, err, "is not text");
    c->text[strcspn(c->text, "\r\n")] = '\0';
    for (char *rest = c->text, *column; (column = strsep(&rest, ",")) != NULL;) {
        if (c->count == COLUMNS_MAX)
            return csv_fail(c, err, "too many columns");
        c->columns[c->count++] = column;
    }
    return 1;
}

/* Opens it and takes the first line, of at least so many columns, the first of that name. */
static int csv_open(struct csv *c, const char *dir, const char *name, const char *first,
                    int columns, struct kg_err *err)
{
    int rc;

    *c = (struct csv){0};
    snprintf(c->path, sizeof c->path, "%s/%s", dir, name);
    c->file = fopen(c->path, "re");
    if (!c->file)
        return kg_fail(err, KG_EIO, "%s: %m", c->path);
    rc = csv_next(c, err);
    if (rc < 0)
        return rc;
    if (rc == 0 || strcmp(c->columns[0], first) != 0 || c->count < columns)
        return kg_fail(err, KG_EINVAL, "%s:1: not the expected heading", c->path);
    return 0;
}

static void csv_close(struct csv *c)
{
    if (c->file)
        fclose(c->file);
    free(c->text);
}

static int csv_number(const struct csv *c, int column, double *value, struct kg_err *err)
{
    char *end;

    *value = strtod(c->columns[column], &end);
    if (end == c->columns[column] || *end != '\0' || !isfinite(*value) || *value < 0 ||
        *value > MOST)
        return kg_fail(err, KG_EINVAL, "%s:%d: column %d: \"%.40s\" is no count or size", c->path,
                       c->line, column + 1, c->columns[column]);
    return 0;
}

/* The one of that owner and name, made if it is new and `make`; NULL: there is none, or no memory.
 */
static struct trace_app *find_app(struct trace *t, const char *owner, const char *app, bool make)
{
    char name[256];
    struct trace_app *apps;

    snprintf(name, sizeof name, "%s %s", owner, app);
    for (size_t i = 0; i < t->app_count; i++)
        if (strcmp(t->apps[i].name, name) == 0)
            return &t->apps[i];
    if (!make || !(apps = realloc(t->apps, (t->app_count + 1) * sizeof *apps)))
        return NULL;
    t->apps = apps;
    apps[t->app_count] = (struct trace_app){.name = strdup(name)};
    return apps[t->app_count].name ? &apps[t->app_count++] : NULL;
}

static struct trace_function *find_function(const struct trace_app *a, const char *name)
{
    for (size_t i = 0; a && i < a->function_count; i++)
        if (strcmp(a->functions[i].name, name) == 0)
            return &a->functions[i];
    return NULL;
}

static struct trace_function *add_function(struct trace_app *a, const char *name, int minutes)
{
    struct trace_function *f =
        realloc(a->functions, (a->function_count + 1) * sizeof *a->functions);

    if (!f)
        return NULL;
    a->functions = f;
    f += a->function_count++;
    *f = (struct trace_function){.name = strdup(name),
                                 .percentile_ms[6] = -1,
                                 .counts = calloc((size_t)minutes, sizeof *f->counts)};
    return f->name && f->counts ? f : NULL;
}

static int add_invocations(struct trace *t, const struct csv *c, struct kg_err *err)
{
    struct trace_app *a;
    struct trace_function *f;
    double value;
    int rc;

    if (c->count != t->minutes + INVOCATION_COLUMNS)
        return kg_fail(err, KG_EINVAL, "%s:%d: %d columns where the heading has %d", c->path,
                       c->line, c->count, t->minutes + INVOCATION_COLUMNS);
    if (find_function(find_app(t, c->columns[0], c->columns[1], false), c->columns[2]))
        return csv_fail(c, err, "the function is there already");
    a = find_app(t, c->columns[0], c->columns[1], true);
    f = a ? add_function(a, c->columns[2], t->minutes) : NULL;
    if (!f)
        return kg_fail(err, KG_ENOMEM, "no memory");
    for (int i = 0; i < t->minutes; i++) {
        rc = csv_number(c, INVOCATION_COLUMNS + i, &value, err);
        if (rc != 0)
            return rc;
        f->counts[i] = (uint32_t)value;
        a->invocations += (uint32_t)value;
        t->invocations += (uint32_t)value;
    }
    return 0;
}

static int add_durations(struct trace *t, const struct csv *c, struct kg_err *err)
{
    struct trace_function *f =
        find_function(find_app(t, c->columns[0], c->columns[1], false), c->columns[2]);
    int rc = 0;

    for (int i = 0; i < 7 && f && rc == 0; i++)
        rc = csv_number(c, DURATION_COLUMNS - 7 + i, &f->percentile_ms[i], err);
    return rc;
}

static int add_memory(struct trace *t, const struct csv *c, struct kg_err *err)
{
    struct trace_app *a = find_app(t, c->columns[1], c->columns[2], false);

    return a ? csv_number(c, 4, &a->megabytes, err) : 0;
}

/* One file of them; functions or applications that only the other files know are passed over. */
static int read_file(struct trace *t, const char *dir, const char *name, const char *first,
                     int columns, int (*add)(struct trace *, const struct csv *, struct kg_err *),
                     struct kg_err *err)
{
    struct csv c;
    int rc = csv_open(&c, dir, name, first, columns, err);

    if (rc == 0 && add == add_invocations) {
        t->minutes = c.count - INVOCATION_COLUMNS;
        t->first_minute = atoi(c.columns[INVOCATION_COLUMNS]);
    }
    while (rc == 0 && (rc = csv_next(&c, err)) == 1) {
        if (c.count < columns)
            rc = csv_fail(&c, err, "too few columns");
        else
            rc = add(t, &c, err);
        if (rc == 0)
            continue;
        break;
    }
    csv_close(&c);
    return rc;
}

/* What a file had nothing on would be taken for free. */
static int check_complete(const struct trace *t, const char *dir, struct kg_err *err)
{
    if (t->app_count == 0)
        return kg_fail(err, KG_EINVAL, "%s/invocations.csv:2: no invocations", dir);
    for (const struct trace_app *a = t->apps; a < t->apps + t->app_count; a++) {
        if (a->megabytes <= 0)
            return kg_fail(err, KG_EINVAL, "%s/memory.csv: nothing of application %s", dir,
                           a->name);
        for (size_t i = 0; i < a->function_count; i++)
            if (a->functions[i].percentile_ms[6] < 0)
                return kg_fail(err, KG_EINVAL, "%s/durations.csv: nothing of function %s", dir,
                               a->functions[i].name);
    }
    return 0;
}

int trace_read(struct trace *t, const char *dir, struct kg_err *err)
{
    int rc;

    *t = (struct trace){0};
    rc = read_file(t, dir, "invocations.csv", "HashOwner", INVOCATION_COLUMNS + 1, add_invocations,
                   err);
    if (rc == 0)
        rc = read_file(t, dir, "durations.csv", "HashOwner", DURATION_COLUMNS, add_durations, err);
    if (rc == 0)
        rc = read_file(t, dir, "memory.csv", "HashFunction", MEMORY_COLUMNS, add_memory, err);
    return rc == 0 ? check_complete(t, dir, err) : rc;
}

void trace_free(struct trace *t)
{
    for (size_t i = 0; i < t->app_count; i++) {
        struct trace_app *a = &t->apps[i];
        for (size_t k = 0; k < a->function_count; k++) {
            free(a->functions[k].name);
            free(a->functions[k].counts);
        }
        free(a->functions);
        free(a->name);
    }
    free(t->apps);
    *t = (struct trace){0};
}

/* --- uses --- */

static int add_use(struct uses *u, int64_t start_ms, int64_t end_ms)
{
    if (u->count == u->cap) {
        const size_t cap = u->cap ? u->cap * 2 : 64;
        struct use *items = realloc(u->items, cap * sizeof *items);

        if (!items)
            return KG_ENOMEM;
        u->items = items;
        u->cap = cap;
    }
    u->items[u->count++] = (struct use){start_ms, end_ms};
    return 0;
}

static double draw(uint64_t *state) /* 0 to below 1: splitmix64 */
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

/* Straight lines between the known percentiles. */
static double draw_duration(const struct trace_function *f, uint64_t *state)
{
    static const double share[] = {0, 0.01, 0.25, 0.5, 0.75, 0.99, 1};
    const double at = draw(state);
    int i = 0;

    while (at > share[i + 1])
        i++;
    return f->percentile_ms[i] + (at - share[i]) / (share[i + 1] - share[i]) *
                                     (f->percentile_ms[i + 1] - f->percentile_ms[i]);
}

static int spread(const struct trace_function *f, int minute, uint64_t *state, struct uses *u)
{
    const double first_ms = (double)minute * KEEPALIVE_MINUTE_MS;
    int rc = 0;

    for (uint32_t i = 0; i < f->counts[minute] && rc == 0; i++) {
        const double start_ms = first_ms + draw(state) * KEEPALIVE_MINUTE_MS;
        rc = add_use(u, (int64_t)start_ms, (int64_t)(start_ms + draw_duration(f, state)));
    }
    return rc;
}

static int compare_uses(const void *a, const void *b)
{
    const int64_t x = ((const struct use *)a)->start_ms, y = ((const struct use *)b)->start_ms;

    return (x > y) - (x < y);
}

static void merge(struct uses *u)
{
    size_t kept = 0;

    if (u->count > 0)
        qsort(u->items, u->count, sizeof *u->items, compare_uses);
    for (size_t i = 0; i < u->count; i++) {
        struct use *last = kept > 0 ? &u->items[kept - 1] : NULL;

        if (!last || u->items[i].start_ms - last->end_ms >= LINGER_MS)
            u->items[kept++] = u->items[i];
        else if (u->items[i].end_ms > last->end_ms)
            last->end_ms = u->items[i].end_ms;
    }
    u->count = kept;
}

int trace_uses(const struct trace *t, size_t app, uint64_t seed, struct uses *u)
{
    const struct trace_app *a = &t->apps[app];
    uint64_t state = seed << 32 ^ app;
    int rc = 0;

    u->count = 0;
    for (int minute = 0; minute < t->minutes; minute++)
        for (size_t i = 0; i < a->function_count && rc == 0; i++) {
            const int64_t start_ms = (int64_t)minute * KEEPALIVE_MINUTE_MS;

            if (seed != 0)
                rc = spread(&a->functions[i], minute, &state, u);
            else if (a->functions[i].counts[minute] > 0)
                rc = add_use(u, start_ms, start_ms + KEEPALIVE_MINUTE_MS - 1);
        }
    merge(u);
    return rc;
}
