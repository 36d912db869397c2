/* SPDX-License-Identifier: Apache-2.0 */
/* What to expect of a thing's next minute, from what it did before. Several clues are looked at,
 * each so many hits in so many tries; how much such a clue has been worth, over all things, is
 * learnt in a table of its own, and their answers are weighed together by weights that are learnt
 * as well. The difficulty: only what is past may be looked at, and no use is as much evidence as a
 * use. */
#include "reaper/habit.h"
#include <math.h>

#define MINUTE_MS 60000
#define DAY 1440
#define SLOW 4.0f     /* so many tries weigh as much as what a clue said at first */
#define LEARN 0.0015f /* how fast weights move */
#define HIT 2000      /* one idle time in a bin; a bin loses 1/32 a time and so holds */
#define FADE 32       /* 64,000 at most */
#define SHORT_BINS 64 /* of one minute each; above them eight to each doubling */

_Static_assert(sizeof(struct habit) <= 8192, "part of every service");

/* The minute that is asked about; the last one with a use in it; the first one known of. */
struct moment {
    const struct habit *h;
    int64_t minute, last, first;
};
struct clue {
    float hits, tries;
};

/* --- a thing's record --- */

static int bin_of(int64_t minutes)
{
    double bin;

    if (minutes < SHORT_BINS)
        return (int)minutes;
    bin = SHORT_BINS + 8 * log2((double)minutes / SHORT_BINS);
    return bin < HABIT_BINS ? (int)bin : HABIT_BINS - 1;
}

static float bin_minutes(int bin)
{
    if (bin < SHORT_BINS)
        return 1;
    return SHORT_BINS *
           (exp2f((float)(bin + 1 - SHORT_BINS) / 8) - exp2f((float)(bin - SHORT_BINS) / 8));
}

/* The latest is 1 back; the caller knows that there are so many. */
static int64_t gap_back(const struct habit *h, unsigned back)
{
    return h->gap[(h->gaps - back) % HABIT_GAPS];
}

static void record_minute(struct habit *h, int64_t minute, bool used)
{
    int64_t bit = minute % HABIT_WEEK;

    h->used[bit / 8] &= (uint8_t) ~(1u << bit % 8);
    h->used[bit / 8] |= (uint8_t)((unsigned)used << bit % 8);
    h->next = minute + 1;
}

static void record_gap(struct habit *h, int64_t minutes)
{
    int bin = bin_of(minutes);

    for (int i = 0; i < HABIT_BINS; i++)
        h->bin[i] = (uint16_t)(h->bin[i] - h->bin[i] / FADE);
    h->bin[bin] = (uint16_t)(h->bin[bin] + HIT);
    h->gap[h->gaps % HABIT_GAPS] = (uint16_t)(minutes < UINT16_MAX ? minutes : UINT16_MAX);
    h->gaps++;
}

/* --- clues --- */

static int64_t age_of(const struct moment *m)
{
    return m->minute - m->last;
}

/* What lies before the minute asked about and is not in the record yet was the last use's, or idle.
 */
static bool was_used(const struct moment *m, int64_t minute)
{
    const int64_t bit = minute % HABIT_WEEK;

    if (minute >= m->h->next)
        return minute <= m->last;
    if (minute < m->first || minute < m->h->next - HABIT_WEEK)
        return false;
    return m->h->used[bit / 8] >> (bit % 8) & 1;
}

/* Of the idle times that were so long, how many ended about now? */
static struct clue clue_length(const struct moment *m)
{
    const int bin = bin_of(age_of(m));
    struct clue c = {0, 0};
    unsigned longer = 0;

    for (int i = bin + 2; i < HABIT_BINS; i++)
        longer += m->h->bin[i];
    for (int i = bin + 1; i >= bin - 1; i--) {
        if (i < 0 || i >= HABIT_BINS)
            continue;
        longer += m->h->bin[i];
        c.hits += (float)m->h->bin[i] / HIT;
        c.tries += (float)longer * bin_minutes(i) / HIT;
    }
    return c;
}

/* The same of those only that came after one like the latest: uses in pairs, rounds, shifts. */
static struct clue clue_sequel(const struct moment *m)
{
    const unsigned kept = m->h->gaps < HABIT_GAPS ? m->h->gaps : HABIT_GAPS;
    struct clue c = {0, 0};

    for (unsigned i = 1; i < kept; i++) {
        const int64_t latest = gap_back(m->h, 1), like = gap_back(m->h, i + 1);
        if (like - latest > latest / 16 || latest - like > latest / 16)
            continue;
        c.hits += gap_back(m->h, i) == age_of(m);
        c.tries += gap_back(m->h, i) >= age_of(m);
    }
    return c;
}

/* Was it used one period ago, and two, and so on? */
static struct clue clue_rhythm(const struct moment *m, int64_t period, int times)
{
    struct clue c = {0, 0};

    for (int i = 1; i <= times && m->minute - i * period >= m->first; i++) {
        c.hits += was_used(m, m->minute - i * period);
        c.tries++;
    }
    return c;
}

/* The rhythm that fits best. */
static struct clue clue_period(const struct moment *m)
{
    static const int periods[] = {5, 10, 15, 20, 30, 60, 120, DAY};
    struct clue best = {0, 0};

    for (size_t i = 0; i < sizeof periods / sizeof *periods; i++) {
        struct clue c = clue_rhythm(m, periods[i], 6);
        if (c.tries >= 2 && (c.hits + 0.2f) * (best.tries + 1) > (best.hits + 0.2f) * (c.tries + 1))
            best = c;
    }
    return best;
}

static bool is_weekend(int64_t minute)
{
    return (minute / DAY + 3) % 7 >= 5; /* 1970 began on a Thursday */
}

/* About this time of the day, on days of this kind. */
static struct clue clue_day(const struct moment *m)
{
    struct clue c = {0, 0};

    for (int day = 1; day <= 7; day++) {
        const int64_t then = m->minute - day * DAY;
        if (then + 5 < m->first || is_weekend(then) != is_weekend(m->minute))
            continue;
        for (int64_t i = then - 5; i <= then + 5; i++) {
            c.hits += was_used(m, i);
            c.tries += i >= m->first;
        }
    }
    return c;
}

/* --- what they are worth --- */

/* What the clues said, kept so that it can be compared with what came. */
struct view {
    struct habit_cell cell[HABIT_CLUES];
    int at[HABIT_CLUES];       /* the cell's place */
    float answer[HABIT_CLUES]; /* logarithm of the odds */
    int set;                   /* of weights: what is known little of trusts other clues */
    float chance;              /* of a use in that minute */
};

static float log_odds(float chance)
{
    return logf(chance / (1 - chance));
}

static float between(float low, float value, float high)
{
    return fminf(fmaxf(value, low), high);
}

/* 0 below 1, then one step for each power of `base`, below `steps`. */
static int step_of(float value, float base, int steps)
{
    return value < 1 ? 0 : (int)between(1, 1 + logf(value) / logf(base), (float)(steps - 1));
}

static int cell_of(float rate, float tries, float age)
{
    int row = (int)between(0, log_odds(between(0.0001f, rate, 0.99f)) + 9, 11);

    return (row * 6 + step_of(tries, 2, 6)) * 8 + step_of(age, 1.8f, 8);
}

static void look(const struct habits *all, const struct moment *m, struct view *v)
{
    const struct clue clues[HABIT_CLUES] = {clue_length(m), clue_sequel(m), clue_period(m),
                                            clue_rhythm(m, 60, 8), clue_day(m)};
    const float age = (float)age_of(m);
    float sum;

    v->set = step_of((float)m->h->gaps, 2, HABIT_SETS);
    sum = all->weight[v->set][HABIT_CLUES];
    for (int i = 0; i < HABIT_CLUES; i++) {
        /* Without a try: what one expects of something that was idle for so long. */
        const float rate = (clues[i].hits + 0.5f / (age + 1)) / (clues[i].tries + 1);

        v->at[i] = cell_of(rate, clues[i].tries, age);
        v->cell[i] = all->cell[i][v->at[i]];
        if (v->cell[i].seen == 0)
            v->cell[i].chance = rate; /* taken at its word */
        v->answer[i] = log_odds(between(0.0005f, v->cell[i].chance, 0.9995f));
        sum += all->weight[v->set][i] * v->answer[i];
    }
    v->chance = between(0.00001f, 1 / (1 + expf(-sum)), 0.99999f);
}

static void learn(struct habits *all, struct view *v, bool used)
{
    const float error = (float)used - v->chance;
    float *weight = all->weight[v->set];

    for (int i = 0; i < HABIT_CLUES; i++) {
        struct habit_cell *c = &v->cell[i];
        weight[i] = between(-HABIT_MOST_WEIGHT, weight[i] + LEARN * error * v->answer[i],
                            HABIT_MOST_WEIGHT);
        c->chance += ((float)used - c->chance) / (c->seen + SLOW);
        c->seen = fminf(c->seen + 1, HABIT_MOST_SEEN);
        all->cell[i][v->at[i]] = *c;
    }
    weight[HABIT_CLUES] =
        between(-HABIT_MOST_WEIGHT, weight[HABIT_CLUES] + LEARN / 3 * error, HABIT_MOST_WEIGHT);
}

/* --- what is told --- */

void habits_init(struct habits *all)
{
    *all = (struct habits){.form = HABIT_FORM_ALL};
    for (int set = 0; set < HABIT_SETS; set++)
        for (int i = 0; i < HABIT_CLUES; i++)
            all->weight[set][i] = 1.2f / HABIT_CLUES;
}

void habit_init(struct habit *h)
{
    *h = (struct habit){.form = HABIT_FORM};
}

static int64_t sane_wall(int64_t wall_ms)
{
    const int64_t most_ms = (HABIT_LAST_MINUTE - (int64_t)1) * MINUTE_MS;

    return wall_ms < MINUTE_MS ? MINUTE_MS : wall_ms < most_ms ? wall_ms : most_ms;
}

int64_t habit_end_of_use(int64_t wall_ms, int64_t idle_ms)
{
    wall_ms = sane_wall(wall_ms);
    if (idle_ms < 0)
        return wall_ms;
    return idle_ms < wall_ms - MINUTE_MS ? wall_ms - idle_ms : MINUTE_MS;
}

static int64_t last_minute(int64_t wall_ms, int64_t idle_ms)
{
    return habit_end_of_use(wall_ms, idle_ms) / MINUTE_MS;
}

/* Brings the record up to this minute, in which and before which, since the last use, there was
 * none. */
static void catch_up(struct habits *all, struct habit *h, int64_t last, int64_t minute)
{
    /* A clock that was set, or a silence beyond what is remembered: the minutes are void. */
    if (h->first == 0 || h->next > minute + 60 || last - h->next > DAY ||
        minute - h->next > HABIT_WEEK) {
        memset(h->used, 0, sizeof h->used);
        h->first = h->next = last > minute - HABIT_WEEK ? last : minute - HABIT_WEEK;
    }
    while (h->next <= last)
        record_minute(h, h->next, true);
    while (h->next < minute) {
        const struct moment m = {h, h->next, last, h->first};
        struct view v;

        look(all, &m, &v);
        learn(all, &v, false);
        record_minute(h, h->next, false);
    }
}

void habit_idle(struct habits *all, struct habit *h, int64_t wall_ms, int64_t idle_ms)
{
    catch_up(all, h, last_minute(wall_ms, idle_ms), last_minute(wall_ms, 0));
}

void habit_arrival(struct habits *all, struct habit *h, int64_t wall_ms, int64_t idle_ms)
{
    const int64_t last = last_minute(wall_ms, idle_ms), minute = last_minute(wall_ms, 0);
    struct view v;

    h->known++;
    catch_up(all, h, last, minute);
    if (h->next != minute)
        return; /* within the minute of the last use, or the clock was set back */
    look(all, &(struct moment){h, minute, last, h->first}, &v);
    learn(all, &v, true);
    record_minute(h, minute, true);
    record_gap(h, minute - last);
    all->gaps++;
}

float habit_chance(const struct habits *all, const struct habit *h, int64_t last, int64_t minute)
{
    struct view v;

    look(all, &(struct moment){h, minute, last, h->first ? h->first : last}, &v);
    return v.chance;
}
