/* SPDX-License-Identifier: Apache-2.0 */
/* sim: plays the control plane and the lease protocol against worlds in which everything that can
 * go wrong does; see --help. The difficulty: many seeds at once, and of one that fails the least
 * that still does. */
#include "sim.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define LENGTH_MS 60000
#define MOST_JOBS 64
#define MOST_ATTEMPTS 3000

static struct replay playing; /* for the line that a failed assertion ends with */
static struct ended {         /* shared with whoever waits for us */
    uint64_t acts;
    char words[160];
} * ended;

/* --- what failed --- */

static void print_skips(FILE *out, const struct skips *s)
{
    const char *comma = "";

    for (int n = 0; n < SIM_MAX_ACTS; n++) {
        int first = n;
        if (!s->skip[n])
            continue;
        while (n + 1 < SIM_MAX_ACTS && s->skip[n + 1])
            n++;
        fprintf(out, first == n ? "%s%d" : "%s%d-%d", comma, first, n);
        comma = ",";
    }
    if (!comma[0])
        fprintf(out, "-");
}

static void tell_seed(const char *words)
{
    if (!sim_playing)
        return;
    ended->acts = sim_playing->acts;
    snprintf(ended->words, sizeof ended->words, "%s", words);
    fprintf(stderr, "sim: FAILED at %lld ms; replay: sim --seeds %llu 1 --ms %lld --skip ",
            (long long)sim_playing->now_ms, (unsigned long long)playing.seed,
            (long long)playing.length_ms);
    print_skips(stderr, &playing.skips);
    fprintf(stderr, " --verbose; the least that fails: sim --shrink %llu\n",
            (unsigned long long)playing.seed);
    fflush(NULL);
}

_Noreturn void sim_fail(struct world *w, const char *what)
{
    (void)w;
    fprintf(stderr, "sim: %s\n", what);
    tell_seed(what);
    _exit(1);
}

static void on_abort(int number)
{
    (void)number;
    tell_seed("an assertion"); /* the process is about to end anyway */
    _exit(1);
}

/* --- what was reached --- */

static void tell_reasons(const struct counts *c)
{
    printf("refused:");
    for (unsigned n = 1; n < (unsigned)ORCH_REASON_END; n++)
        if (c->refused[n])
            printf(" %s %llu", orch_reason_row(n)->name, (unsigned long long)c->refused[n]);
    printf(
        "\ncalls gone wrong: pull %llu create %llu start %llu inspect %llu stop %llu remove %llu\n",
        (unsigned long long)c->faults[VERB_PULL], (unsigned long long)c->faults[VERB_CREATE],
        (unsigned long long)c->faults[VERB_START], (unsigned long long)c->faults[VERB_LOOK],
        (unsigned long long)c->faults[VERB_STOP], (unsigned long long)c->faults[VERB_REMOVE]);
}

static void tell_counts(const struct counts *c)
{
#define TELL(name) printf(#name " %llu  ", (unsigned long long)c->name)
    TELL(events), TELL(clients), TELL(served), TELL(broken), TELL(left), TELL(granted);
    putchar('\n');
    TELL(creates), TELL(removes), TELL(cold_ok), TELL(cold_failed), TELL(reaped), TELL(adopted);
    putchar('\n');
    TELL(restarts), TELL(attached), TELL(sent_off), TELL(claims), TELL(renamed), TELL(old_fronts);
    TELL(distrusted);
    putchar('\n');
    TELL(engine_losses), TELL(front_deaths), TELL(reconfigured), TELL(wakes);
    TELL(sleeps), TELL(events_lost), TELL(conflicts);
    putchar('\n');
    TELL(paused), TELL(resumed), TELL(stopped), TELL(most_at_once);
    putchar('\n');
#undef TELL
    tell_reasons(c);
}

static bool may_go(int state, int next)
{
    for (int event = 0; event < INSTANCE_EVENT_COUNT; event++) {
        const struct instance_cell *cell =
            instance_cell((enum instance_state)state, (enum instance_event)event);
        if (cell->kind == INSTANCE_GOES && (int)cell->next == next)
            return true;
    }
    return false;
}

/* Was every transition of the table seen? Over a long run all must be. */
static size_t tell_transitions(const struct counts *c)
{
    size_t missing = 0, total = 0;

    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        for (int next = 0; next < INSTANCE_STATE_COUNT; next++) {
            if (!may_go(state, next))
                continue;
            total++;
            if (c->moves[state][next] > 0)
                continue;
            missing++;
            printf("never seen: %s>%s\n", instance_state_name((enum instance_state)state),
                   instance_state_name((enum instance_state)next));
        }
    printf("transitions: %zu of %zu seen\n", total - missing, total);
    return missing;
}

static int judge_coverage(const struct counts *c, uint64_t seeds)
{
    size_t missing = tell_transitions(c);
    int rc = 0;

    if (seeds < 5000)
        return 0; /* too short a run to ask for everything */
    for (unsigned n = PROXY_REASON_COUNT; n < (unsigned)ORCH_REASON_END; n++)
        if (c->refused[n] == 0) {
            fprintf(stderr, "sim: no request was ever refused as %s\n", orch_reason_row(n)->name);
            rc = 1;
        }
    if (!c->reaped || !c->adopted || !c->conflicts || !c->renamed || !c->sent_off) {
        fprintf(stderr, "sim: something never happened that should have\n");
        rc = 1;
    }
    return missing > 0 ? 1 : rc;
}

/* --- many --- */

static void add_counts(struct counts *to, const struct counts *from)
{
    uint64_t most = to->most_at_once > from->most_at_once ? to->most_at_once : from->most_at_once;
    uint64_t *a = (uint64_t *)(void *)to;
    const uint64_t *b = (const uint64_t *)(const void *)from;

    _Static_assert(sizeof(struct counts) % sizeof(uint64_t) == 0, "all of them are numbers");
    for (size_t n = 0; n < sizeof *to / sizeof *a; n++)
        a[n] += b[n];
    to->most_at_once = most;
}

static void play_share(uint64_t first, uint64_t count, uint64_t job, uint64_t jobs,
                       struct counts *counts)
{
    for (uint64_t n = job; n < count; n += jobs) {
        playing.seed = first + n;
        sim_play(&playing, SIM_SAYS_NOTHING, counts);
    }
}

/* 0, or 1 when one of them failed. */
static int play_many(uint64_t first, uint64_t count, int jobs, struct counts *total)
{
    size_t bytes = (size_t)jobs * sizeof(struct counts);
    struct counts *shared =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int rc = 0, status;

    KG_ASSERT(shared != MAP_FAILED && jobs <= MOST_JOBS);
    if (jobs == 1) /* here, for what counts lines and looks for leaks */
        play_share(first, count, 0, 1, &shared[0]);
    fflush(NULL);
    for (int job = 0; jobs > 1 && job < jobs; job++) {
        pid_t pid = fork();
        KG_ASSERT(pid >= 0);
        if (pid > 0)
            continue;
        play_share(first, count, (uint64_t)job, (uint64_t)jobs, &shared[job]);
        fflush(NULL);
        _exit(0);
    }
    while (wait(&status) > 0)
        rc |= status != 0;
    for (int job = 0; job < jobs; job++)
        add_counts(total, &shared[job]);
    munmap(shared, bytes);
    return rc;
}

static double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_many(uint64_t first, uint64_t count, int jobs)
{
    struct counts counts = {0};
    double began = seconds_now(), took;
    int rc = play_many(first, count, jobs, &counts);

    if (rc != 0)
        return rc;
    took = seconds_now() - began;
    printf("%llu seeds in %.1f s, %.0f times as fast as real\n", (unsigned long long)count, took,
           (double)counts.virtual_ms / 1000 / took);
    tell_counts(&counts);
    return judge_coverage(&counts, count);
}

/* --- the least that fails --- */

/* In a process of its own; how it ended is in `ended`. */
static bool fails(const struct replay *r, enum sim_words words)
{
    struct counts counts = {0};
    int status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    KG_ASSERT(pid >= 0);
    if (pid == 0) {
        if (words == SIM_SAYS_NOTHING && !freopen("/dev/null", "w", stderr))
            _exit(2);
        playing = *r;
        ended->acts = sim_play(r, words, &counts);
        fflush(NULL);
        _exit(0);
    }
    KG_ASSERT(waitpid(pid, &status, 0) == pid);
    return status != 0;
}

static bool leave_out(struct replay *r, uint64_t from, uint64_t to, const char *words)
{
    struct replay less = *r;
    bool any = false;

    for (uint64_t n = from; n < to && n < SIM_MAX_ACTS; n++) {
        any |= !less.skips.skip[n];
        less.skips.skip[n] = true;
    }
    if (!any || !fails(&less, SIM_SAYS_NOTHING) || strcmp(ended->words, words) != 0)
        return false;
    *r = less;
    return true;
}

static int shrink(struct replay *r)
{
    char words[sizeof ended->words];
    uint64_t all, left = 0;
    int attempts = 0;

    if (!fails(r, SIM_SAYS_NOTHING)) {
        printf("sim: seed %llu does not fail\n", (unsigned long long)r->seed);
        return 0;
    }
    memcpy(words, ended->words, sizeof words);
    all = ended->acts < SIM_MAX_ACTS ? ended->acts : SIM_MAX_ACTS;
    for (uint64_t n = all; n < SIM_MAX_ACTS; n++)
        r->skips.skip[n] = true; /* it had failed before them */
    for (uint64_t size = all; size > 0; size /= 2)
        for (uint64_t at = 0; at < all && attempts < MOST_ATTEMPTS; at += size, attempts++)
            leave_out(r, at, at + size < all ? at + size : all, words);
    for (uint64_t n = 0; n < all; n++)
        left += !r->skips.skip[n];
    printf("sim: of %llu acts %llu are left after %d attempts:\n", (unsigned long long)all,
           (unsigned long long)left, attempts);
    fails(r, SIM_SAYS_ACTS);
    printf("kept: %llu %lld ", (unsigned long long)r->seed, (long long)r->length_ms);
    print_skips(stdout, &r->skips);
    putchar('\n');
    return 1;
}

/* --- seeds that failed once --- */

static bool parse_skips(const char *text, struct skips *s)
{
    while (*text && *text != '-') {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (end == text || last >= SIM_MAX_ACTS || first > last)
            return false;
        for (; first <= last; first++)
            s->skip[first] = true;
        text = *end == ',' ? end + 1 : end;
        if (*end && *end != ',')
            return false;
    }
    return true;
}

/* Lines of a seed, a length and acts to leave out; what follows is words. */
static int play_kept(const char *path)
{
    struct counts counts = {0};
    char line[4096], skips[4096];
    unsigned long long seed;
    long long length_ms;
    int played = 0;
    FILE *file = fopen(path, "re");

    if (!file) {
        perror(path);
        return 2;
    }
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#' || line[0] == '\n')
            continue;
        playing = (struct replay){0};
        if (sscanf(line, "%llu %lld %4095s", &seed, &length_ms, skips) != 3 ||
            !parse_skips(skips, &playing.skips)) {
            fprintf(stderr, "sim: %s: what is this? %s", path, line);
            fclose(file);
            return 2;
        }
        playing.seed = seed;
        playing.length_ms = length_ms;
        sim_play(&playing, SIM_SAYS_NOTHING, &counts);
        played++;
    }
    fclose(file);
    printf("%d kept seeds\n", played);
    return 0;
}

/* --- what is asked for --- */

static const char usage[] =
    "usage: sim [--kept FILE] [--seeds FIRST COUNT] [--jobs N]   plays these, one after the other\n"
    "       sim --seeds SEED 1 [--ms LENGTH] [--skip ACTS] --verbose   tells all that happens\n"
    "       sim --shrink SEED [--ms LENGTH]   the fewest acts with which it still fails\n";

struct wishes {
    uint64_t first, count;
    int jobs;
    bool verbose, shrinks;
    const char *kept;
};

/* How many words it took; 0: not understood. */
static int take_wish(struct wishes *x, char **argv, int left)
{
    const char *name = argv[0];

    if (strcmp(name, "--verbose") == 0)
        return x->verbose = true;
    if (left < 2)
        return 0;
    if (strcmp(name, "--kept") == 0)
        x->kept = argv[1];
    else if (strcmp(name, "--jobs") == 0)
        x->jobs = atoi(argv[1]);
    else if (strcmp(name, "--ms") == 0)
        playing.length_ms = strtoll(argv[1], NULL, 10);
    else if (strcmp(name, "--skip") == 0)
        return parse_skips(argv[1], &playing.skips) ? 2 : 0;
    else if (strcmp(name, "--shrink") == 0)
        x->first = strtoull(argv[1], NULL, 10), x->shrinks = true;
    else if (strcmp(name, "--seeds") == 0 && left > 2)
        return x->first = strtoull(argv[1], NULL, 10), x->count = strtoull(argv[2], NULL, 10), 3;
    else
        return 0;
    return 2;
}

static int do_wishes(const struct wishes *x)
{
    struct counts counts = {0};
    int rc = x->kept ? play_kept(x->kept) : 0;

    if (rc != 0)
        return rc;
    if (x->kept)
        playing = (struct replay){.length_ms = LENGTH_MS};
    playing.seed = x->first;
    if (x->shrinks)
        return shrink(&playing);
    if (!x->verbose)
        return x->count > 0 ? run_many(x->first, x->count, x->jobs) : 0;
    sim_play(&playing, SIM_SAYS_ALL, &counts);
    tell_counts(&counts);
    return 0;
}

int main(int argc, char **argv)
{
    struct wishes x = {.first = 1, .jobs = 1};

    playing.length_ms = LENGTH_MS;
    for (int n = 1, took; n < argc; n += took) {
        took = take_wish(&x, argv + n, argc - n);
        if (took == 0) {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (x.jobs < 1 || x.jobs > MOST_JOBS)
        x.jobs = 1;
    ended = mmap(NULL, sizeof *ended, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KG_ASSERT(ended != MAP_FAILED);
    signal(SIGABRT, on_abort);
#ifndef KG_SANITIZE
    signal(SIGSEGV, on_abort);
#endif
    kg_log_setup(KG_LOG_ERROR, KG_LOG_TEXT, "sim");
    return do_wishes(&x);
}
