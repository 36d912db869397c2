/* SPDX-License-Identifier: Apache-2.0 */
/* Parked network namespaces: sandboxes, kept ready off the request path, which new workers join
 * instead of opening a namespace of their own. The difficulty: whoever starts workers is to know
 * nothing of it, and no two workers may ever have shared one. */
#ifndef ORCHESTRATOR_PARKING_H
#define ORCHESTRATOR_PARKING_H

#include "orchestrator/engine.h"

struct parking_params {
    const struct engine_ops *engine; /* both outlive us, and answer nothing after we are freed */
    const struct engine_parking_ops *sandboxes;
    const char *owner;
    int64_t (*clock)(void); /* milliseconds; NULL: the monotonic clock */
    void *arg;
    /* A hint about a worker that the engine itself does not give. */
    void (*on_event)(void *arg, const struct engine_event *event);
    /* The list, less the sandboxes. False: there was no memory for all of it. */
    bool (*on_list)(void *arg, const struct engine_container *all, size_t count, int64_t began_ms);
};
struct parking;
struct parking *parking_new(const struct parking_params *params); /* NULL: no memory */
void parking_free(struct parking *p);
/* The verbs, as the engine's own: workers join sandboxes behind them. */
const struct engine_ops *parking_ops(struct parking *p);

/* Puts c's `sandboxes` and services in force; c is not kept. Services known before are not touched
 * after this. */
void parking_configure(struct parking *p, const struct config *c);
void parking_engine_state(struct parking *p, bool up);
/* Takes a hint of the engine's; true: it is about a sandbox, and for nobody else. */
bool parking_event(struct parking *p, const struct engine_event *event);
/* Takes the engine's list; on_list comes from within. False: another should be asked for soon. */
bool parking_list(struct parking *p, const struct engine_container *all, size_t count,
                  int64_t began_ms);
/* For good: nothing is parked any more, and what is parked goes. What workers use stays. */
void parking_stop(struct parking *p);
/* Stopped, and there are no workers: what was found of a last run is used by nobody and goes, too.
 */
void parking_clear(struct parking *p);
bool parking_quiet(const struct parking *p); /* nothing of ours is under way */
/* When parking_tick is due; KG_NEVER: not before another call of these. */
int64_t parking_due_ms(const struct parking *p);
void parking_tick(struct parking *p, int64_t now_ms);

struct parking_view {
    unsigned parked, making, taken, wanted;
    uint64_t joined, own;      /* workers' starts by now, that joined and that did not */
    int64_t joined_ms, own_ms; /* medians of recent starts, sandboxes' own included; -1 */
    bool off;                  /* it gains nothing, or the engine refuses it */
};
void parking_view(const struct parking *p, struct parking_view *v);

#endif
