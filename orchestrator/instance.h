/* SPDX-License-Identifier: Apache-2.0 */
/* The life of one container as a table: state x event -> next state and effects. Pure: no I/O, no
 * clock, no memory. The difficulty: everything may happen at any moment, so every cell is written
 * down: a transition, "stays", or "never" (then the fleet's translation of events forbids it). */
#ifndef ORCHESTRATOR_INSTANCE_H
#define ORCHESTRATOR_INSTANCE_H

#include "base/buf.h"

/* constant, name in logs, views and metrics */
#define INSTANCE_STATES(X)                                                                         \
    X(ABSENT, "absent")                                                                            \
    X(PULLING, "pulling")                                                                          \
    X(CREATING, "creating")                                                                        \
    X(STARTING, "starting")                                                                        \
    X(PROBING, "probing")                                                                          \
    X(READY, "ready")                                                                              \
    X(RESUMING, "resuming")                                                                        \
    X(PAUSED, "paused")                                                                            \
    X(STOPPED, "stopped")                                                                          \
    X(DRAINING, "draining")                                                                        \
    X(STOPPING, "stopping")                                                                        \
    X(REMOVING, "removing")                                                                        \
    X(BACKOFF, "backoff")

enum instance_state {
#define INSTANCE_STATE_CONSTANT(constant, name) INSTANCE_##constant,
    INSTANCE_STATES(INSTANCE_STATE_CONSTANT)
#undef INSTANCE_STATE_CONSTANT
        INSTANCE_STATE_COUNT
};

/* constant, what it means */
#define INSTANCE_EVENTS(X)                                                                         \
    X(DEMAND, "somebody needs an instance of the service")                                         \
    X(DEMAND_PULL, "the same, and its image is to be pulled first")                                \
    X(PULLED, "the image is there")                                                                \
    X(CREATED, "the engine made the container")                                                    \
    X(NO_IMAGE, "create: there is no such image, and it may be pulled")                            \
    X(NAME_TAKEN, "create: a container has this name already")                                     \
    X(STARTED, "the engine started the container")                                                 \
    X(STOPPED, "stop is over, done or not")                                                        \
    X(UNKNOWN, "what became of the call is not known")                                             \
    X(NONE, "there is no such container (any more)")                                               \
    X(NONE_BLAMED, "the same, and the service is to rest")                                         \
    X(MADE, "looked: created, never started")                                                      \
    X(RUNNING, "looked: it runs")                                                                  \
    X(ENDED, "looked: it ran and ended")                                                           \
    X(UNUSABLE, "it runs, but cannot be used: paused, moved, disconnected")                        \
    X(FOREIGN, "looked: a container of that name, not ours")                                       \
    X(PROBED, "a front got through to the worker")                                                 \
    X(DOUBT, "a hint that something is wrong with it")                                             \
    X(DIED, "the engine says that it died")                                                        \
    X(FAILED, "the provisioning failed; something may be left")                                    \
    X(FAILED_EMPTY, "the provisioning failed; nothing is left")                                    \
    X(GIVEN_UP, "nothing was made in time, and the service is not to blame")                       \
    X(UNWANTED, "it is wanted no more; something may be left")                                     \
    X(UNWANTED_EMPTY, "it is wanted no more; nothing was made")                                    \
    X(FROZEN, "the engine froze it, by our order")                                                 \
    X(NOT_FROZEN, "pause: the engine would not")                                                   \
    X(THAWED, "unpause: the engine let it run again")                                              \
    X(KEPT, "stopped, and its container is to be kept")                                            \
    X(IDLE_PAUSE, "nobody used it for so long that it is frozen")                                  \
    X(IDLE_STOP, "nobody used it for the idle timeout: stopped, and kept")                         \
    X(IDLE, "nobody used it for the idle timeout: removed")                                        \
    X(EMPTIED, "no slot of it is out any more")                                                    \
    X(RESTED, "the pause after a failure is over")                                                 \
    X(ADOPTED, "found running: ours, wanted, and there is room")                                   \
    X(ADOPTED_PAUSED, "found paused: ours, wanted, and there is room")                             \
    X(ADOPTED_STOPPED, "found stopped: ours, wanted, and there is room")                           \
    X(SURPLUS, "found running or held: ours, and not wanted")                                      \
    X(LEFTOVER, "found, not running: ours")

enum instance_event {
#define INSTANCE_EVENT_CONSTANT(constant, meaning) INSTANCE_ON_##constant,
    INSTANCE_EVENTS(INSTANCE_EVENT_CONSTANT)
#undef INSTANCE_EVENT_CONSTANT
        INSTANCE_EVENT_COUNT
};

/* What a step asks of the fleet, done in this order. constant, name */
#define INSTANCE_EFFECTS(X)                                                                        \
    X(CANCEL, "cancel") /* the call in flight; only ever a pull */                                 \
    X(VOID, "void")     /* no front may use it: leases are void, probes end */                     \
    X(RECALL, "recall") /* fronts give their slots back as exchanges end */                        \
    X(RENAME, "rename") /* choose another name */                                                  \
    X(PULL, "pull")     /* the engine calls: the last one asked for is made next */                \
    X(CREATE, "create")                                                                            \
    X(START, "start")                                                                              \
    X(LOOK, "look")                                                                                \
    X(STOP, "stop")                                                                                \
    X(PAUSE, "pause")                                                                              \
    X(UNPAUSE, "unpause")                                                                          \
    X(REMOVE, "remove")                                                                            \
    X(PROBE, "probe")     /* a front tries the worker's address */                                 \
    X(SERVE, "serve")     /* ready: those who wait are granted, the idle clock begins */           \
    X(REFUSE, "refuse")   /* those who wait are told why it failed */                              \
    X(REST, "rest")       /* RESTED follows when the service's pause is over */                    \
    X(SUCCEED, "succeed") /* another instance is made in its place */                              \
    X(FREE, "free")       /* forgotten */

enum instance_effect_bit {
#define INSTANCE_EFFECT_BIT(constant, name) INSTANCE_BIT_##constant,
    INSTANCE_EFFECTS(INSTANCE_EFFECT_BIT)
#undef INSTANCE_EFFECT_BIT
        INSTANCE_EFFECT_COUNT
};
enum instance_effect {
    INSTANCE_DOES_NOTHING = 0,
#define INSTANCE_EFFECT_CONSTANT(constant, name)                                                   \
    INSTANCE_DOES_##constant = 1 << INSTANCE_BIT_##constant,
    INSTANCE_EFFECTS(INSTANCE_EFFECT_CONSTANT)
#undef INSTANCE_EFFECT_CONSTANT
};

enum instance_cell_kind { INSTANCE_CELL_UNSET, INSTANCE_GOES, INSTANCE_STAYS, INSTANCE_NEVER };
struct instance_cell {
    enum instance_cell_kind kind;
    enum instance_state next; /* of GOES */
    unsigned effects;         /* enum instance_effect, of GOES and STAYS */
    const char *why;          /* the label; NULL for NEVER */
};

/* Never NULL; both in range. */
const struct instance_cell *instance_cell(enum instance_state state, enum instance_event event);
const char *instance_state_name(enum instance_state state);
const char *instance_event_name(enum instance_event event); /* its constant */
/* A provisioning under way: ends in READY or with a reason. */
bool instance_is_provisioning(enum instance_state state);
/* Ready, or so nearly that requests are on their way to it. */
bool instance_serves(enum instance_state state);
/* Provisioning or serving. */
bool instance_is_current(enum instance_state state);
/* Idle with its container kept: the next demand wakes it. */
bool instance_is_asleep(enum instance_state state);
/* The whole table as Markdown. */
void instance_table_print(struct kg_buf *out);

#endif
