/* SPDX-License-Identifier: Apache-2.0 */
/* What kind of world it is: how often each thing happens in it. The difficulty: what is seldom
 * together with something else that is seldom is never, so worlds have none or much of some. */
#include "sim.h"

static const struct {
    int usual, strong; /* percent */
} traits[TRAIT_COUNT] = {
    [TRAIT_SLOW_ANSWER] = {3, 40},        [TRAIT_SLOW_LIST] = {15, 80},
    [TRAIT_SLOW_STOP] = {10, 60},         [TRAIT_NO_ADDRESS] = {5, 40},
    [TRAIT_NAME_TAKEN] = {2, 20},         [TRAIT_MEDDLED_EARLY] = {3, 30},
    [TRAIT_EVENT_LOST] = {3, 40},         [TRAIT_EVENT_LATE] = {3, 40},
    [TRAIT_EVENT_TWICE] = {3, 40},        [TRAIT_SENT_OFF] = {4, 50},
    [TRAIT_SLOW_CLAIMS] = {10, 60},       [TRAIT_FRONT_DIES_TOO] = {8, 40},
    [TRAIT_CHANGED_MEANWHILE] = {30, 90}, [TRAIT_ENDS_MEANWHILE] = {5, 60},
    [TRAIT_NEVER_SENT] = {10, 60},        [TRAIT_CRASH_AT_GRANT] = {0, 3},
    [TRAIT_CHANGED_AT_START] = {0, 10},   [TRAIT_PAUSES] = {30, 90},
    [TRAIT_LONG_EXCHANGE] = {20, 60},     [TRAIT_RESETS] = {1, 30},
    [TRAIT_MONITOR] = {10, 40},           [TRAIT_LEAVES] = {10, 40},
};

bool sim_often(struct world *w, enum trait trait)
{
    return sim_chance(w, w->traits[trait]);
}

int mood_lot(struct world *w, int usual, int strong)
{
    int64_t lot = w->moody ? sim_between(w, 0, 9) : 9;

    return lot < 2 ? 0 : lot < 4 ? strong : usual;
}

void mood_begin(struct world *w)
{
    w->moody = sim_chance(w, 60);
    for (int n = 0; n < TRAIT_COUNT; n++)
        w->traits[n] = mood_lot(w, traits[n].usual, traits[n].strong);
}
