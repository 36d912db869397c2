/* SPDX-License-Identifier: Apache-2.0 */
/* Learns how long a thing stays unused, and says how long to keep it, when to freeze it, and when
 * to have it again shortly before its next use. No clock, no I/O: times come in, a plan goes out.
 * The difficulty: to know little and still decide well. What all have in common is learnt together,
 * and a thing's own record counts by how much it has seen. */
#ifndef HABIT_H
#define HABIT_H

#include "base/buf.h"
#include "base/str.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    HABIT_WEEK = 7 * 24 * 60, /* minutes */
    HABIT_GAPS = 64,
    HABIT_BINS = 128,
    HABIT_CLUES = 5,
    HABIT_SETS = 8,
    HABIT_FORM = 0x6b680001, /* of a record: its version, and the order of its bytes */
    HABIT_FORM_ALL = 0x6b680101,
    HABIT_MOST_SEEN = 250,
    HABIT_MOST_WEIGHT = 8,
    HABIT_LAST_MINUTE = INT32_MAX, /* some 4,000 years away: what is later is taken for it */
    HABIT_CELLS = 12 * 6 * 8, /* by a clue's share of hits, its tries, and the idle time so far */
};

/* One thing's record, embedded by the caller: plain memory without pointers, nothing to free. All
 * but `known` is habit.c's own. Minutes are of the wall clock, since 1970. */
struct habit {
    uint32_t form;  /* of which version of habit.c it is */
    uint32_t known; /* idle times told of */
    int64_t first;  /* the first minute that the record knows of; 0: none yet */
    int64_t next;   /* the minutes before this one are in the record */
    uint32_t gaps;  /* idle times that went over a minute's end; shorter ones teach nothing */
    uint16_t gap[HABIT_GAPS];     /* the last of them, in minutes: a ring */
    uint16_t bin[HABIT_BINS];     /* how many there were of each length, recent ones weigh more */
    uint8_t used[HABIT_WEEK / 8]; /* a bit for each minute of the last week: a ring */
};

/* What is learnt from all of them together; plain memory as well, of some 23 KiB. */
struct habits {
    uint32_t form;
    uint32_t gaps; /* idle times learnt from */
    float weight[HABIT_SETS][HABIT_CLUES + 1];
    struct habit_cell {
        float chance; /* of a use in the next minute */
        float seen;
    } cell[HABIT_CLUES][HABIT_CELLS];
};

/* What is wanted: the same for all decisions about one thing, but it may change between them. */
struct habit_goal {
    int64_t idle_min_ms, idle_max_ms; /* bounds of every keep: 0 <= min <= max */
    int64_t start_ms; /* what a start takes; a wake is so much earlier. 0: not known */
    double goal;      /* 0: less memory, to 1: fewer cold starts */
    bool pause;       /* freezing is possible, and a frozen one costs less than one that runs */
};

/* Times are ages: milliseconds since the end of the last use. The stages in their order: it runs
 * until pause_ms, is frozen until keep_ms, is gone until wake_after_ms, runs for wake_keep_ms. */
struct habit_plan {
    int64_t keep_ms;       /* remove it at this age; at or below the age asked about: at once */
    int64_t pause_ms;      /* freeze it at this age, less than keep_ms; KG_NEVER: do not */
    int64_t wake_after_ms; /* start it again at this age, above the one asked about; KG_NEVER: do
                            * not, or keep_ms is yet to come: ask again then */
    int64_t wake_keep_ms;  /* for so long after that start it is kept, then ask again; else 0 */
    char why[96];          /* the reason in words, never empty */
};

void habits_init(struct habits *all);
void habit_init(struct habit *h);

/* A use began at wall_ms (since 1970, UTC) after idle_ms of idleness, counted from the end of the
 * use before. Not to be told of a first use. Negative and absurd times are taken for the nearest
 * sane one. */
void habit_arrival(struct habits *all, struct habit *h, int64_t wall_ms, int64_t idle_ms);

/* It is wall_ms and nobody has used it for idle_ms: no use is knowledge too. To be told whenever
 * convenient (at removal, before a plan is asked again, every few minutes while it is gone); not
 * telling makes what is hardly ever used look as if it were used more. */
void habit_idle(struct habits *all, struct habit *h, int64_t wall_ms, int64_t idle_ms);

/* The chance (0 to 1) of a use in that minute (since 1970), with none since the minute `last`. */
float habit_chance(const struct habits *all, const struct habit *h, int64_t last, int64_t minute);

/* The wall time at which the last use ended; both made sane. */
int64_t habit_end_of_use(int64_t wall_ms, int64_t idle_ms);

/* What to do with it, which nobody has used for idle_ms, at wall_ms. To be asked at the end of each
 * use (0), and again with the age so far when keep_ms has come: others may have taught something
 * since, and only then it is looked for a wake (some milliseconds of computing). When a wake's keep
 * is over without a use, the same. Keeps are within the goal's bounds; five minutes while too
 * little is known. */
void habit_plan(const struct habits *all, const struct habit *h, const struct habit_goal *goal,
                int64_t wall_ms, int64_t idle_ms, struct habit_plan *plan);

/* One line of printable ASCII without its end, appended; the buffer keeps the error, if any. */
void habit_save(const struct habit *h, struct kg_buf *out);
void habits_save(const struct habits *all, struct kg_buf *out);
/* 0, or KG_EINVAL for what this version did not write: then nothing is changed. */
int habit_load(struct habit *h, struct kg_str text);
int habits_load(struct habits *all, struct kg_str text);

#endif
