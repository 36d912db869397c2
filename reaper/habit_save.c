/* SPDX-License-Identifier: Apache-2.0 */
/* Records as lines of text: the bytes in hexadecimal, runs of zeros counted, and a sum over them.
 * The difficulty: a line may be anything; what is taken from it must be a record that habit.c could
 * have made, as far as its code relies on it. */
#include "base/err.h"
#include "reaper/habit.h"
#include <math.h>

#define SHORTEST_RUN 3 /* of zero bytes, to be written as "z" and its length in two digits */
#define LONGEST_RUN 255
#define HEAD_BYTES 18 /* the sum, with a space before and after */

_Static_assert(sizeof(struct habits) * 2 + 32 < 64 * 1024, "its line at the longest");

static void save(const char *name, const void *record, size_t size, struct kg_buf *out)
{
    const unsigned char *bytes = record;
    size_t run;

    kg_buf_printf(out, "%s %016llx ", name, (unsigned long long)kg_hash(record, size));
    for (size_t i = 0; i < size; i += run) {
        for (run = 0; i + run < size && run < LONGEST_RUN && bytes[i + run] == 0; run++)
            ;
        if (run >= SHORTEST_RUN) {
            kg_buf_printf(out, "z%02zx", run);
        } else {
            run = 1;
            kg_buf_printf(out, "%02x", bytes[i]);
        }
    }
}

/* Two digits at *s, which it steps over; -1: there are none. */
static int take_byte(struct kg_str *s)
{
    int value = 0;

    if (s->n < 2)
        return -1;
    for (int i = 0; i < 2; i++, s->p++, s->n--) {
        static const char digits[] = "0123456789abcdef";
        const char *digit = *s->p ? strchr(digits, *s->p) : NULL;
        if (!digit)
            return -1;
        value = value * 16 + (int)(digit - digits);
    }
    return value;
}

/* The record, if the line is just what would be written of it; its name and sum are compared so,
 * too. */
static bool load(const char *name, struct kg_str text, void *record, size_t size)
{
    struct kg_str rest = {text.p, text.n};
    unsigned char *bytes = record;
    const size_t head = strlen(name) + HEAD_BYTES;
    struct kg_buf again;
    bool same;

    if (rest.n < head)
        return false;
    rest = (struct kg_str){text.p + head, text.n - head};
    memset(record, 0, size);
    for (size_t at = 0; at < size;) {
        const bool zeros = rest.n > 0 && *rest.p == 'z';
        int value;

        rest = (struct kg_str){rest.p + zeros, rest.n - zeros};
        value = take_byte(&rest);
        if (value < 0)
            return false;
        if (!zeros)
            bytes[at] = (unsigned char)value;
        at += zeros ? (size_t)value : 1;
    }
    kg_buf_init(&again, text.n);
    save(name, record, size, &again);
    same = !again.error && kg_str_eq(kg_buf_str(&again), text);
    kg_buf_fini(&again);
    return same;
}

void habit_save(const struct habit *h, struct kg_buf *out)
{
    save("habit1", h, sizeof *h, out);
}

void habits_save(const struct habits *all, struct kg_buf *out)
{
    save("habits1", all, sizeof *all, out);
}

int habit_load(struct habit *h, struct kg_str text)
{
    struct habit loaded;

    if (!load("habit1", text, &loaded, sizeof loaded) || loaded.form != HABIT_FORM)
        return KG_EINVAL;
    if (loaded.first < 0 || loaded.next < loaded.first || loaded.next > HABIT_LAST_MINUTE)
        return KG_EINVAL;
    *h = loaded;
    return 0;
}

/* Not a number is in no interval. */
static bool is_sane(const struct habits *all)
{
    for (int set = 0; set < HABIT_SETS; set++)
        for (int i = 0; i <= HABIT_CLUES; i++)
            if (!(fabsf(all->weight[set][i]) <= HABIT_MOST_WEIGHT))
                return false;
    for (int clue = 0; clue < HABIT_CLUES; clue++)
        for (int i = 0; i < HABIT_CELLS; i++) {
            const struct habit_cell *c = &all->cell[clue][i];
            if (!(c->chance >= 0 && c->chance <= 1 && c->seen >= 0 && c->seen <= HABIT_MOST_SEEN))
                return false;
        }
    return true;
}

int habits_load(struct habits *all, struct kg_str text)
{
    struct habits loaded;

    if (!load("habits1", text, &loaded, sizeof loaded) || loaded.form != HABIT_FORM_ALL ||
        !is_sane(&loaded))
        return KG_EINVAL;
    *all = loaded;
    return 0;
}
