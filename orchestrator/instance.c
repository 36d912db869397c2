/* SPDX-License-Identifier: Apache-2.0 */
/* The instance table. The difficulty is that it is complete: the cell of each state and event is
 * written down. Answers of calls that were in flight when the state changed are ordinary cells. */
#include "orchestrator/instance.h"
#include "base/err.h"

#define DO(effect) INSTANCE_DOES_##effect
#define GOES(event, state, effects, why)                                                           \
    [INSTANCE_ON_##event] = {INSTANCE_GOES, INSTANCE_##state, effects, why}
#define STAYS(event, effects, why) [INSTANCE_ON_##event] = {INSTANCE_STAYS, 0, effects, why}
#define NEVER(event) [INSTANCE_ON_##event] = {INSTANCE_NEVER, 0, 0, NULL}

/* clang-format off */
static const struct instance_cell cells[INSTANCE_STATE_COUNT][INSTANCE_EVENT_COUNT] = {
[INSTANCE_ABSENT] = {
    GOES(DEMAND,         CREATING, DO(CREATE),               "demand"),
    GOES(DEMAND_PULL,    PULLING,  DO(PULL),                 "demand; the image is pulled first"),
    GOES(ADOPTED_PAUSED, PAUSED,   DO(NOTHING),              "found paused"),
    GOES(ADOPTED_STOPPED, STOPPED, DO(NOTHING),              "found stopped"),
    GOES(ADOPTED,        PROBING,  DO(PROBE),                "found running: adopted"),
    GOES(SURPLUS,        DRAINING, DO(RECALL),               "found running: not wanted"),
    GOES(LEFTOVER,       REMOVING, DO(REMOVE),               "found not running: left over"),
    STAYS(DOUBT,         DO(LOOK),                           "a container we do not know"),
    STAYS(UNKNOWN,       DO(LOOK),                           "looked for again"),
    STAYS(NONE,          DO(FREE),                           "is gone already"),
    STAYS(FOREIGN,       DO(FREE),                           "not ours after all"),
    STAYS(DIED,          DO(NOTHING),                        "the look will tell"),
    STAYS(UNWANTED,      DO(NOTHING),                        "the look will tell"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(RUNNING), NEVER(ENDED), NEVER(UNUSABLE),
    NEVER(PROBED), NEVER(FAILED), NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY),
    NEVER(FROZEN), NEVER(NOT_FROZEN), NEVER(THAWED), NEVER(KEPT), NEVER(IDLE_PAUSE),
    NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED), NEVER(RESTED),
},
[INSTANCE_PULLING] = {
    STAYS(DEMAND,        DO(NOTHING),                        "is on its way"),
    STAYS(DEMAND_PULL,   DO(NOTHING),                        "is on its way"),
    GOES(PULLED,         CREATING, DO(CREATE),               "the image was pulled"),
    STAYS(UNKNOWN,       DO(PULL),                           "the pull broke off: again"),
    STAYS(DOUBT,         DO(NOTHING),                        "there is no container yet"),
    STAYS(DIED,          DO(NOTHING),                        "there is no container yet"),
    GOES(FAILED_EMPTY,   BACKOFF,  DO(CANCEL) | DO(REFUSE) | DO(REST), "the pull failed"),
    GOES(GIVEN_UP,       ABSENT,   DO(CANCEL) | DO(REFUSE) | DO(FREE), "not pulled in time"),
    GOES(UNWANTED_EMPTY, ABSENT,   DO(CANCEL) | DO(FREE),    "wanted no more"),
    NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED), NEVER(STOPPED),
    NEVER(NONE), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(RUNNING), NEVER(ENDED), NEVER(UNUSABLE),
    NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED), NEVER(UNWANTED), NEVER(FROZEN),
    NEVER(NOT_FROZEN), NEVER(THAWED), NEVER(KEPT), NEVER(IDLE_PAUSE), NEVER(IDLE_STOP),
    NEVER(IDLE), NEVER(EMPTIED), NEVER(RESTED), NEVER(ADOPTED), NEVER(ADOPTED_PAUSED),
    NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_CREATING] = {
    STAYS(DEMAND,        DO(NOTHING),                        "is on its way"),
    STAYS(DEMAND_PULL,   DO(NOTHING),                        "is on its way"),
    GOES(CREATED,        STARTING, DO(START),                "created"),
    GOES(NO_IMAGE,       PULLING,  DO(PULL),                 "the image is missing"),
    STAYS(NAME_TAKEN,    DO(LOOK),                           "the name is taken: by whom?"),
    STAYS(UNKNOWN,       DO(LOOK),                           "was it created?"),
    STAYS(NONE,          DO(CREATE),                         "it was not created: again"),
    GOES(MADE,           STARTING, DO(START),                "it was created"),
    GOES(RUNNING,        PROBING,  DO(PROBE),                "it was created and runs"),
    STAYS(FOREIGN,       DO(RENAME) | DO(CREATE),            "somebody else's name: another one"),
    STAYS(DOUBT,         DO(NOTHING),                        "the call's answer will tell"),
    STAYS(DIED,          DO(NOTHING),                        "the call's answer will tell"),
    GOES(FAILED,         REMOVING, DO(REFUSE) | DO(LOOK),    "not created"),
    GOES(FAILED_EMPTY,   BACKOFF,  DO(REFUSE) | DO(REST),    "not created"),
    GOES(GIVEN_UP,       ABSENT,   DO(REFUSE) | DO(FREE),    "not created in time"),
    GOES(UNWANTED,       REMOVING, DO(LOOK),                 "wanted no more"),
    GOES(UNWANTED_EMPTY, ABSENT,   DO(FREE),                 "wanted no more"),
    NEVER(PULLED), NEVER(STARTED), NEVER(STOPPED), NEVER(NONE_BLAMED), NEVER(ENDED),
    NEVER(UNUSABLE), NEVER(PROBED), NEVER(FROZEN), NEVER(NOT_FROZEN), NEVER(THAWED), NEVER(KEPT),
    NEVER(IDLE_PAUSE), NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED), NEVER(RESTED),
    NEVER(ADOPTED), NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_STARTING] = {
    STAYS(DEMAND,        DO(NOTHING),                        "is on its way"),
    STAYS(DEMAND_PULL,   DO(NOTHING),                        "is on its way"),
    STAYS(STARTED,       DO(LOOK),                           "started: where does it listen?"),
    STAYS(UNKNOWN,       DO(LOOK),                           "was it started?"),
    GOES(NONE,           CREATING, DO(CREATE),               "it vanished: made again"),
    STAYS(MADE,          DO(START),                          "it was not started: again"),
    GOES(RUNNING,        PROBING,  DO(PROBE),                "runs"),
    STAYS(DOUBT,         DO(LOOK),                           "doubted"),
    STAYS(DIED,          DO(LOOK),                           "died: how?"),
    GOES(FAILED,         REMOVING, DO(REFUSE) | DO(REMOVE),  "not started"),
    GOES(FAILED_EMPTY,   BACKOFF,  DO(REFUSE) | DO(REST),    "vanished"),
    GOES(UNWANTED,       REMOVING, DO(REMOVE),               "wanted no more"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STOPPED),
    NEVER(NONE_BLAMED), NEVER(ENDED), NEVER(UNUSABLE), NEVER(FOREIGN), NEVER(PROBED),
    NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(FROZEN), NEVER(NOT_FROZEN), NEVER(THAWED),
    NEVER(KEPT), NEVER(IDLE_PAUSE), NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED), NEVER(RESTED),
    NEVER(ADOPTED), NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_PROBING] = {
    STAYS(DEMAND,        DO(NOTHING),                        "is on its way"),
    STAYS(DEMAND_PULL,   DO(NOTHING),                        "is on its way"),
    GOES(PROBED,         READY,    DO(SERVE),                "answers"),
    STAYS(UNKNOWN,       DO(LOOK),                           "looked at again"),
    STAYS(RUNNING,       DO(NOTHING),                        "runs still"),
    STAYS(DOUBT,         DO(LOOK),                           "doubted"),
    STAYS(DIED,          DO(LOOK),                           "died: how?"),
    GOES(FAILED,         REMOVING, DO(VOID) | DO(REFUSE) | DO(REMOVE), "never answered"),
    GOES(FAILED_EMPTY,   BACKOFF,  DO(VOID) | DO(REFUSE) | DO(REST),   "vanished"),
    GOES(UNWANTED,       REMOVING, DO(VOID) | DO(REMOVE),    "wanted no more"),
    GOES(SURPLUS,        DRAINING, DO(RECALL),               "wanted no more, but held"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(NONE), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(ENDED), NEVER(UNUSABLE),
    NEVER(FOREIGN), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(FROZEN), NEVER(NOT_FROZEN),
    NEVER(THAWED), NEVER(KEPT), NEVER(IDLE_PAUSE), NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED),
    NEVER(RESTED), NEVER(ADOPTED), NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(LEFTOVER),
},
[INSTANCE_READY] = {
    STAYS(DEMAND,        DO(NOTHING),                        "is there"),
    STAYS(DEMAND_PULL,   DO(NOTHING),                        "is there"),
    STAYS(UNKNOWN,       DO(LOOK),                           "looked at again"),
    STAYS(RUNNING,       DO(NOTHING),                        "runs still"),
    STAYS(DOUBT,         DO(LOOK),                           "doubted"),
    GOES(DIED,           REMOVING, DO(VOID) | DO(REMOVE),    "died"),
    GOES(ENDED,          REMOVING, DO(VOID) | DO(REMOVE),    "found ended"),
    GOES(NONE,           ABSENT,   DO(VOID) | DO(FREE),      "vanished"),
    GOES(UNUSABLE,       STOPPING, DO(VOID) | DO(STOP),      "paused, moved or disconnected"),
    GOES(UNWANTED,       DRAINING, DO(RECALL),               "wanted no more"),
    GOES(FROZEN,         RESUMING, DO(UNPAUSE),              "found frozen, as it was told before"),
    GOES(IDLE_PAUSE,     PAUSED,   DO(PAUSE),                "idle"),
    GOES(IDLE_STOP,      STOPPING, DO(VOID) | DO(STOP),      "idle"),
    GOES(IDLE,           STOPPING, DO(VOID) | DO(STOP),      "idle"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED),
    NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(NOT_FROZEN),
    NEVER(THAWED), NEVER(KEPT), NEVER(EMPTIED), NEVER(RESTED), NEVER(ADOPTED),
    NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_RESUMING] = {
    STAYS(DEMAND,        DO(NOTHING),                        "is on its way"),
    STAYS(DEMAND_PULL,   DO(NOTHING),                        "is on its way"),
    GOES(THAWED,         READY,    DO(NOTHING),              "resumed"),
    STAYS(FROZEN,        DO(NOTHING),                        "frozen, and now resumed"),
    STAYS(NOT_FROZEN,    DO(NOTHING),                        "not frozen, and resumed anyway"),
    STAYS(UNKNOWN,       DO(LOOK),                           "was it resumed?"),
    GOES(RUNNING,        READY,    DO(NOTHING),              "runs"),
    STAYS(UNUSABLE,      DO(UNPAUSE),                        "it was not resumed: again"),
    STAYS(DOUBT,         DO(LOOK),                           "doubted"),
    GOES(DIED,           REMOVING, DO(VOID) | DO(REMOVE),    "died"),
    GOES(ENDED,          REMOVING, DO(VOID) | DO(REMOVE),    "found ended"),
    GOES(NONE,           ABSENT,   DO(VOID) | DO(FREE),      "vanished"),
    GOES(UNWANTED,       DRAINING, DO(RECALL),               "wanted no more"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED),
    NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(KEPT), NEVER(IDLE_PAUSE),
    NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED), NEVER(RESTED), NEVER(ADOPTED),
    NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_PAUSED] = {
    GOES(DEMAND,         RESUMING, DO(UNPAUSE) | DO(SERVE),  "demand"),
    GOES(DEMAND_PULL,    RESUMING, DO(UNPAUSE) | DO(SERVE),  "demand"),
    STAYS(FROZEN,        DO(NOTHING),                        "frozen"),
    GOES(NOT_FROZEN,     READY,    DO(SERVE),                "cannot be frozen"),
    STAYS(UNKNOWN,       DO(LOOK),                           "was it frozen?"),
    GOES(RUNNING,        READY,    DO(SERVE),                "runs: not frozen, or thawed"),
    STAYS(UNUSABLE,      DO(NOTHING),                        "is frozen"),
    STAYS(DOUBT,         DO(LOOK),                           "doubted"),
    GOES(DIED,           REMOVING, DO(VOID) | DO(REMOVE),    "died"),
    GOES(ENDED,          REMOVING, DO(VOID) | DO(REMOVE),    "found ended"),
    GOES(NONE,           ABSENT,   DO(VOID) | DO(FREE),      "vanished"),
    GOES(UNWANTED,       STOPPING, DO(VOID) | DO(STOP),      "wanted no more"),
    GOES(IDLE_STOP,      STOPPING, DO(VOID) | DO(STOP),      "idle"),
    GOES(IDLE,           STOPPING, DO(VOID) | DO(STOP),      "idle"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED),
    NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(THAWED), NEVER(KEPT),
    NEVER(IDLE_PAUSE), NEVER(EMPTIED), NEVER(RESTED), NEVER(ADOPTED), NEVER(ADOPTED_PAUSED),
    NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_STOPPED] = {
    GOES(DEMAND,         STARTING, DO(START),                "demand"),
    GOES(DEMAND_PULL,    STARTING, DO(START),                "demand"),
    STAYS(UNKNOWN,       DO(LOOK),                           "looked at again"),
    STAYS(DOUBT,         DO(LOOK),                           "doubted"),
    STAYS(DIED,          DO(NOTHING),                        "it was stopped"),
    STAYS(ENDED,         DO(NOTHING),                        "is stopped"),
    STAYS(MADE,          DO(NOTHING),                        "is stopped"),
    GOES(RUNNING,        STOPPING, DO(STOP),                 "somebody started it"),
    GOES(UNUSABLE,       STOPPING, DO(STOP),                 "somebody started it"),
    GOES(NONE,           ABSENT,   DO(FREE),                 "vanished"),
    GOES(UNWANTED,       REMOVING, DO(REMOVE),               "wanted no more"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(NONE_BLAMED), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED),
    NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(FROZEN), NEVER(NOT_FROZEN),
    NEVER(THAWED), NEVER(KEPT), NEVER(IDLE_PAUSE), NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED),
    NEVER(RESTED), NEVER(ADOPTED), NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(SURPLUS),
    NEVER(LEFTOVER),
},
[INSTANCE_DRAINING] = {
    STAYS(DEMAND,        DO(SUCCEED),                        "another one is made beside it"),
    STAYS(DEMAND_PULL,   DO(SUCCEED),                        "another one is made beside it"),
    STAYS(UNKNOWN,       DO(LOOK),                           "looked at again"),
    STAYS(RUNNING,       DO(NOTHING),                        "runs still"),
    STAYS(DOUBT,         DO(LOOK),                           "doubted"),
    GOES(DIED,           REMOVING, DO(VOID) | DO(REMOVE),    "died"),
    GOES(ENDED,          REMOVING, DO(VOID) | DO(REMOVE),    "found ended"),
    GOES(NONE,           ABSENT,   DO(VOID) | DO(FREE),      "vanished"),
    GOES(UNUSABLE,       STOPPING, DO(VOID) | DO(STOP),      "paused, moved or disconnected"),
    STAYS(FROZEN,        DO(UNPAUSE),                        "is resumed next"),
    STAYS(NOT_FROZEN,    DO(NOTHING),                        "runs still"),
    STAYS(THAWED,        DO(NOTHING),                        "runs again"),
    STAYS(UNWANTED,      DO(NOTHING),                        "is drained already"),
    GOES(EMPTIED,        STOPPING, DO(VOID) | DO(STOP),      "drained"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED),
    NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(KEPT), NEVER(IDLE_PAUSE),
    NEVER(IDLE_STOP), NEVER(IDLE), NEVER(RESTED), NEVER(ADOPTED), NEVER(ADOPTED_PAUSED),
    NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_STOPPING] = {
    STAYS(DEMAND,        DO(SUCCEED),                        "another one is made beside it"),
    STAYS(DEMAND_PULL,   DO(SUCCEED),                        "another one is made beside it"),
    GOES(STOPPED,        REMOVING, DO(REMOVE),               "stopped"),
    GOES(KEPT,           STOPPED,  DO(NOTHING),              "stopped"),
    STAYS(FROZEN,        DO(NOTHING),                        "is going anyway"),
    STAYS(NOT_FROZEN,    DO(NOTHING),                        "is going anyway"),
    STAYS(THAWED,        DO(NOTHING),                        "is going anyway"),
    STAYS(UNKNOWN,       DO(LOOK),                           "was it stopped?"),
    STAYS(RUNNING,       DO(STOP),                           "it was not stopped: again"),
    STAYS(UNUSABLE,      DO(STOP),                           "it was not stopped: again"),
    GOES(ENDED,          REMOVING, DO(REMOVE),               "it was stopped"),
    GOES(MADE,           REMOVING, DO(REMOVE),               "it does not run"),
    GOES(NONE,           ABSENT,   DO(FREE),                 "removed by somebody else"),
    STAYS(DOUBT,         DO(NOTHING),                        "is going anyway"),
    STAYS(DIED,          DO(NOTHING),                        "as it was told"),
    STAYS(UNWANTED,      DO(NOTHING),                        "is going anyway"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(NONE_BLAMED), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED), NEVER(FAILED_EMPTY),
    NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(IDLE_PAUSE), NEVER(IDLE_STOP), NEVER(IDLE),
    NEVER(EMPTIED), NEVER(RESTED), NEVER(ADOPTED), NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED),
    NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_REMOVING] = {
    STAYS(DEMAND,        DO(SUCCEED),                        "another one is made beside it"),
    STAYS(DEMAND_PULL,   DO(SUCCEED),                        "another one is made beside it"),
    STAYS(CREATED,       DO(REMOVE),                         "created too late"),
    STAYS(NAME_TAKEN,    DO(LOOK),                           "the name is taken: by us?"),
    STAYS(STARTED,       DO(REMOVE),                         "started too late"),
    STAYS(UNKNOWN,       DO(LOOK),                           "is it still there?"),
    STAYS(FROZEN,        DO(NOTHING),                        "is going anyway"),
    STAYS(NOT_FROZEN,    DO(NOTHING),                        "is going anyway"),
    STAYS(THAWED,        DO(NOTHING),                        "is going anyway"),
    STAYS(MADE,          DO(REMOVE),                         "is there"),
    STAYS(RUNNING,       DO(REMOVE),                         "is there"),
    STAYS(ENDED,         DO(REMOVE),                         "is there"),
    STAYS(UNUSABLE,      DO(REMOVE),                         "is there"),
    GOES(NONE,           ABSENT,   DO(FREE),                 "removed"),
    GOES(NONE_BLAMED,    BACKOFF,  DO(REST),                 "removed after a failure"),
    STAYS(DOUBT,         DO(NOTHING),                        "is going anyway"),
    STAYS(DIED,          DO(NOTHING),                        "is going anyway"),
    STAYS(UNWANTED,      DO(NOTHING),                        "is going anyway"),
    NEVER(PULLED), NEVER(NO_IMAGE), NEVER(STOPPED), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED),
    NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(KEPT), NEVER(IDLE_PAUSE),
    NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED), NEVER(RESTED), NEVER(ADOPTED),
    NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
[INSTANCE_BACKOFF] = {
    GOES(DEMAND,         ABSENT,   DO(SUCCEED) | DO(FREE),   "demand"),
    GOES(DEMAND_PULL,    ABSENT,   DO(SUCCEED) | DO(FREE),   "demand"),
    GOES(RESTED,         ABSENT,   DO(FREE),                 "rested"),
    GOES(UNWANTED,       ABSENT,   DO(FREE),                 "wanted no more"),
    STAYS(DOUBT,         DO(NOTHING),                        "there is no container"),
    STAYS(DIED,          DO(NOTHING),                        "there is no container"),
    NEVER(PULLED), NEVER(CREATED), NEVER(NO_IMAGE), NEVER(NAME_TAKEN), NEVER(STARTED),
    NEVER(STOPPED), NEVER(UNKNOWN), NEVER(NONE), NEVER(NONE_BLAMED), NEVER(MADE), NEVER(RUNNING),
    NEVER(ENDED), NEVER(UNUSABLE), NEVER(FOREIGN), NEVER(PROBED), NEVER(FAILED),
    NEVER(FAILED_EMPTY), NEVER(GIVEN_UP), NEVER(UNWANTED_EMPTY), NEVER(FROZEN), NEVER(NOT_FROZEN),
    NEVER(THAWED), NEVER(KEPT), NEVER(IDLE_PAUSE), NEVER(IDLE_STOP), NEVER(IDLE), NEVER(EMPTIED),
    NEVER(ADOPTED), NEVER(ADOPTED_PAUSED), NEVER(ADOPTED_STOPPED), NEVER(SURPLUS), NEVER(LEFTOVER),
},
};
/* clang-format on */

const struct instance_cell *instance_cell(enum instance_state state, enum instance_event event)
{
    KG_ASSERT((unsigned)state < INSTANCE_STATE_COUNT && (unsigned)event < INSTANCE_EVENT_COUNT);
    return &cells[state][event];
}

const char *instance_state_name(enum instance_state state)
{
    static const char *const names[] = {
#define NAME(constant, name) name,
        INSTANCE_STATES(NAME)
#undef NAME
    };
    KG_ASSERT((unsigned)state < INSTANCE_STATE_COUNT);
    return names[state];
}

static const char *const event_names[] = {
#define NAME(constant, meaning) #constant,
    INSTANCE_EVENTS(NAME)
#undef NAME
};
static const char *const event_meanings[] = {
#define MEANING(constant, meaning) meaning,
    INSTANCE_EVENTS(MEANING)
#undef MEANING
};
static const char *const effect_names[] = {
#define NAME(constant, name) name,
    INSTANCE_EFFECTS(NAME)
#undef NAME
};

const char *instance_event_name(enum instance_event event)
{
    KG_ASSERT((unsigned)event < INSTANCE_EVENT_COUNT);
    return event_names[event];
}

bool instance_is_provisioning(enum instance_state state)
{
    return state >= INSTANCE_PULLING && state <= INSTANCE_PROBING;
}

bool instance_serves(enum instance_state state)
{
    return state == INSTANCE_READY || state == INSTANCE_RESUMING;
}

bool instance_is_current(enum instance_state state)
{
    return instance_is_provisioning(state) || instance_serves(state);
}

bool instance_is_asleep(enum instance_state state)
{
    return state == INSTANCE_PAUSED || state == INSTANCE_STOPPED;
}

/* --- the table as Markdown --- */

static void print_head(struct kg_buf *out)
{
    kg_buf_puts(out, "| event |");
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        kg_buf_printf(out, " %s |", instance_state_name((enum instance_state)state));
    kg_buf_puts(out, "\n|---|");
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        kg_buf_puts(out, "---|");
    kg_buf_puts(out, "\n");
}

static void print_grid_row(struct kg_buf *out, enum instance_event event)
{
    kg_buf_printf(out, "| %s |", event_names[event]);
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++) {
        const struct instance_cell *c = &cells[state][event];
        kg_buf_printf(out, " %s |",
                      c->kind == INSTANCE_GOES    ? instance_state_name(c->next)
                      : c->kind == INSTANCE_STAYS ? "stays"
                                                  : "-");
    }
    kg_buf_puts(out, "\n");
}

static void print_cell(struct kg_buf *out, enum instance_state state, enum instance_event event)
{
    const struct instance_cell *c = &cells[state][event];
    const char *between = " ";

    if (c->kind == INSTANCE_NEVER)
        return;
    kg_buf_printf(out, "| %s | %s | %s |", instance_state_name(state), event_names[event],
                  c->kind == INSTANCE_GOES ? instance_state_name(c->next) : "stays");
    for (int bit = 0; bit < INSTANCE_EFFECT_COUNT; bit++) {
        if (!(c->effects & 1u << bit))
            continue;
        kg_buf_printf(out, "%s%s", between, effect_names[bit]);
        between = ", ";
    }
    kg_buf_printf(out, " | %s |\n", c->why);
}

void instance_table_print(struct kg_buf *out)
{
    kg_buf_puts(out, "| event | means |\n|---|---|\n");
    for (int event = 0; event < INSTANCE_EVENT_COUNT; event++)
        kg_buf_printf(out, "| %s | %s |\n", event_names[event], event_meanings[event]);
    kg_buf_puts(out, "\n");
    print_head(out);
    for (int event = 0; event < INSTANCE_EVENT_COUNT; event++)
        print_grid_row(out, (enum instance_event)event);
    kg_buf_puts(out, "\n| state | event | next | effects | why |\n|---|---|---|---|---|\n");
    for (int state = 0; state < INSTANCE_STATE_COUNT; state++)
        for (int event = 0; event < INSTANCE_EVENT_COUNT; event++)
            print_cell(out, (enum instance_state)state, (enum instance_event)event);
}
