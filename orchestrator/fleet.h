/* SPDX-License-Identifier: Apache-2.0 */
/* What should exist, what exists, who may use it: services, instances, leases and those who wait.
 * Pure of I/O and clocks: it is told what happened and when, and speaks through two doors, the
 * engine's verbs and the fronts'. The difficulty: everything may happen at any moment. */
#ifndef ORCHESTRATOR_FLEET_H
#define ORCHESTRATOR_FLEET_H

#include "orchestrator/engine.h"
#include "orchestrator/instance.h"
#include "orchestrator/reasons.h"
#include "reaper/habit.h"
#include "reaper/reaper.h"

#define FLEET_DETAIL_BYTES 256

struct fleet;
struct fleet_instance; /* private */

/* What the fleet says to fronts. None of these may call back into the fleet. Fronts are small
 * numbers < KG_MAX_FRONTS; instances are numbers that are never used again. */
struct fleet_fronts {
    void *self;
    /* One more slot of the lease (front, instance); answers `ticket`. First slot of a lease for
     * that front: where the instance listens is told along. `thawed`: it was frozen since that
     * front last had slots of it. */
    void (*grant)(void *self, int front, uint64_t ticket, uint32_t service, uint64_t instance,
                  unsigned slots, enum proxy_warmth warmth, bool thawed,
                  const struct engine_container *where, int64_t linger_ms);
    void (*refuse)(void *self, int front, uint64_t ticket, unsigned reason, int64_t retry_after_ms,
                   const char *detail);
    /* Give slots of this lease back as soon as their exchanges end; begin no new ones. */
    void (*recall)(void *self, int front, uint64_t instance);
    void (*probe)(void *self, int front, uint64_t instance, const struct config_service *s,
                  const struct engine_container *where);
    void (*probe_stop)(void *self, int front, uint64_t instance);
    /* The instance is gone (to all fronts that were told of it): close its idle connections. */
    void (*gone)(void *self, int front, uint64_t instance);
    /* What the front claimed is lent to it by us, under our number. */
    void (*renamed)(void *self, int front, uint64_t known_as, uint64_t instance, int64_t linger_ms);
};

/* What others (log, events, metrics, state file) want to know. */
struct fleet_change {
    const char *service;
    uint64_t instance;
    const char *name; /* the container's */
    const char *from, *to, *why;
    int64_t ms; /* spent in `from` */
};
enum fleet_phase { FLEET_PULL, FLEET_CREATE, FLEET_START, FLEET_READY, FLEET_TOTAL, FLEET_PHASES };
struct fleet_observer {
    void *self;
    void (*changed)(void *self, const struct fleet_change *change);
    void (*cold_start)(void *self, uint32_t service, bool success, const char *result,
                       const int64_t phase_ms[FLEET_PHASES]);         /* -1: did not happen */
    void (*reaped)(void *self, uint32_t service, const char *action); /* remove, stop, pause */
    void (*resumed)(void *self, uint32_t service);
    /* The idle clock or existence of an instance changed: worth saving. */
    void (*clock_changed)(void *self);
    /* Fronts and the engine are about to be told that this one is to end. Once this has returned, a
     * next run must know, whatever becomes of us: it would send requests there. */
    void (*ending)(void *self, const char *name);
};

struct fleet_params {
    const struct engine_ops *engine;
    struct fleet_fronts fronts;
    struct fleet_observer observer;
    const char *owner;
    int max_starts;
    uint64_t seed;    /* of name suffixes; from the system's randomness in production */
    uint64_t numbers; /* instances have greater ones: no former control's, as fronts know them */
    /* What time it is when the engine answers a call; NULL: kg_clock_mono_ms. */
    int64_t (*now_ms)(void *arg);
    int64_t (*wall_ms)(void *arg); /* since 1970; NULL: kg_clock_wall_ms */
    void *now_arg;
};
struct fleet *fleet_new(const struct fleet_params *params, int64_t now_ms);
/* Says nothing to anybody, also not to the engine: that is closed before. */
void fleet_free(struct fleet *f);

/* --- configuration: services keep their id (and instances, and clocks) by name ------------- */
/* The fleet keeps references into `c`, which must live until the next fleet_configure returned AND
 * no operation of the engine uses it (engine copies what it needs in the call). A service that is
 * gone or whose spec changed has its instances drained. */
int fleet_configure(struct fleet *f, const struct config *c, int64_t now_ms);
int fleet_service_id(const struct fleet *f, const char *name); /* -1: none */
/* Before the first configure: services keep the numbers that fronts of the last run know them by.
 * 0, KG_EINVAL (`id` is taken or too large) or KG_ENOMEM. */
int fleet_reserve_service(struct fleet *f, const char *name, uint32_t id);
/* Also those that are gone: a front may hold leases of them yet. */
void fleet_each_service(const struct fleet *f,
                        void (*each)(void *arg, const char *name, uint32_t id), void *arg);
const struct config_service *fleet_service(const struct fleet *f,
                                           uint32_t id); /* NULL: none (any more) */

/* --- from fronts --------------------------------------------------------------------------------
 */
void fleet_front_up(struct fleet *f, int front, int64_t now_ms);
void fleet_front_down(struct fleet *f, int front,
                      int64_t now_ms); /* its leases and tickets are void */
/* A front that outlived its control holds `slots` of a container's instance, which it knows as
 * `known_as`: answered by one renamed or gone, the former when the container is found and fit. */
void fleet_claim(struct fleet *f, int front, uint64_t known_as, const char *name, unsigned slots,
                 int64_t used_ms, int64_t now_ms);
/* After its front_up: until the second call (or a second, at most) claims of that front may come,
 * and no container is judged before they have. */
void fleet_claims_begin(struct fleet *f, int front, int64_t now_ms);
void fleet_claims_end(struct fleet *f, int front, int64_t now_ms);
/* Answered by exactly one grant or refuse unless withdrawn. */
void fleet_acquire(struct fleet *f, int front, uint64_t ticket, uint32_t service, bool quiet,
                   int64_t now_ms);
void fleet_withdraw(struct fleet *f, int front, uint64_t ticket, int64_t now_ms);
/* `slots` of the lease come back; used_ms: when the last exchange on them ended (monotonic). More
 * than are out is a lie and is cut. `recalled`: this is the answer to a recall, which may be 0. */
void fleet_return(struct fleet *f, int front, uint64_t instance, unsigned slots, int64_t used_ms,
                  bool recalled, int64_t now_ms);
void fleet_probed(struct fleet *f, int front, uint64_t instance, int64_t now_ms);
void fleet_suspect(struct fleet *f, int front, uint64_t instance, int64_t now_ms);

/* --- from the engine ----------------------------------------------------------------------------
 */
void fleet_engine_state(struct fleet *f, bool up, const char *why, int64_t now_ms);
void fleet_engine_event(struct fleet *f, const struct engine_event *event, int64_t now_ms);
/* False: there was no memory for all of it; another one should be asked for soon. */
bool fleet_engine_list(struct fleet *f, const struct engine_container *all, size_t count,
                       int64_t began_ms, int64_t now_ms);

/* --- restart ------------------------------------------------------------------------------------
 */
/* Before the first list: what the last run saved of an instance, by container name. */
int fleet_remember(struct fleet *f, const char *name, int64_t used_ms);
/* While fronts of a former run still live, adopted instances are held; false lifts it. */
void fleet_hold_adopted(struct fleet *f, bool hold, int64_t now_ms);
/* Calls back for each instance worth saving: name, last use, in use now. */
void fleet_each_clock(const struct fleet *f,
                      void (*each)(void *arg, const char *name, int64_t used_ms, bool in_use),
                      void *arg);

/* What was learnt of services whose idle timeout is "auto", for the state file: `service` "" is
 * what is common to all. idle_ms: since the end of the last use. Recalled after the first
 * configure: 0, KG_ENOTFOUND (no such service) or KG_EINVAL (not understood; nothing is changed).
 */
void fleet_each_habit(const struct fleet *f, int64_t now_ms,
                      void (*each)(void *arg, const char *service, int64_t idle_ms,
                                   struct kg_str habit),
                      void *arg);
bool fleet_habits_changed(struct fleet *f); /* since this was asked last */
int fleet_recall_habit(struct fleet *f, const char *service, int64_t idle_ms, struct kg_str habit);

/* --- by hand ------------------------------------------------------------------------------------
 */
/* reason 0: done. retry_after_ms: 0 where nothing is known of when it may go better. */
typedef void fleet_done(void *arg, unsigned reason, int64_t retry_after_ms, const char *detail);
/* `done` is only ever called from fleet_tick, which is due at once then. */
void fleet_wake(struct fleet *f, uint32_t service, fleet_done *done, void *arg, int64_t now_ms);
void fleet_sleep(struct fleet *f, uint32_t service, fleet_done *done, void *arg, int64_t now_ms);
void fleet_forget_caller(struct fleet *f, void *arg); /* done is not called for that arg any more */
bool fleet_empty(const struct fleet *f);              /* there is no instance, in whatever state */
/* Going down: no new provisioning; with remove, drain and remove all instances. */
void fleet_stop(struct fleet *f, bool remove, int64_t now_ms);
bool fleet_quiet(
    const struct fleet *f); /* no engine operation in flight and, if removing, none left */

/* --- time ---------------------------------------------------------------------------------------
 */
int64_t fleet_due_ms(const struct fleet *f);
void fleet_tick(struct fleet *f, int64_t now_ms);

/* --- views --------------------------------------------------------------------------------------
 */
struct fleet_view {
    uint64_t instance;
    const char *name, *container_id, *state;
    char address[sizeof "unix:" + KG_MAX_SOCKET_PATH_BYTES];
    unsigned slots_out; /* held by fronts; exchanges are fewer or as many */
    bool drains;        /* slots that are not in use were asked back */
    int64_t idle_ms;    /* 0 while in use, or needed */
    int64_t reap_in_ms; /* until it is paused, stopped or removed; -1: not due, or kept */
    bool current_spec;
};
/* Fills up to `cap` views of the service's instances, returns how many there are. */
size_t fleet_view(const struct fleet *f, uint32_t service, struct fleet_view *views, size_t cap,
                  int64_t now_ms);
/* How many instances of the service are in each state. */
void fleet_count_states(const struct fleet *f, uint32_t service,
                        size_t counts[INSTANCE_STATE_COUNT]);
struct fleet_habit_view {
    unsigned known;            /* idle times seen */
    int64_t keep_ms, pause_ms; /* of idleness; KG_NEVER: does not come */
    int64_t wake_in_ms;        /* -1: no wake is foreseen */
    const char *why;           /* until the fleet is called again */
};
/* False: its idle timeout is not "auto". */
bool fleet_habit_view(const struct fleet *f, uint32_t service, int64_t now_ms,
                      struct fleet_habit_view *v);
size_t fleet_waiting(const struct fleet *f, uint32_t service);
/* Asserts I1-I8 over everything; cheap enough for the simulator to call after every event. */
void fleet_check(const struct fleet *f);
/* The instance table as Markdown (ARCHITECTURE.md is checked against it). */
void instance_table_print(struct kg_buf *out);

#endif
