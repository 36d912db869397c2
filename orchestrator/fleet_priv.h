/* SPDX-License-Identifier: Apache-2.0 */
/* What the fleet's files share. The difficulty: effects of one step may lead to others, so a freed
 * instance stays readable, and work on a service is put off, until the public call returns. */
#ifndef ORCHESTRATOR_FLEET_PRIV_H
#define ORCHESTRATOR_FLEET_PRIV_H

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "orchestrator/fleet.h"
#include "orchestrator/instance.h"

#define FLEET_NAME_PREFIX "kipgate-"
#define FLEET_SUFFIX_DIGITS 10
#define FLEET_CALL_SLACK_MS 5000 /* beyond the engine client's own deadline */
#define FLEET_RETRY_LAST_MS 2000 /* between two questions the engine does not answer */
#define FLEET_NO_MEMORY_MS 100   /* before a call that could not be made is tried again */
#define FLEET_LOOK_GAP_MS 100    /* between two looks at what is ready: hints are cheap to send */
#define FLEET_ENGINE_GRACE_MS 10000 /* an engine away for longer is not waited for */
#define FLEET_ENGINE_RETRY_MS 2000  /* Retry-After while it is away */
#define FLEET_ENGINE_GOING_MS                                                                      \
    15000                      /* an exit this soon before it went is not the worker's fault       \
                                */
#define FLEET_CRASH_MS 10000   /* an end this soon after READY counts as a crash */
#define FLEET_CRASHES 3        /* so many in a row make the service rest */
#define FLEET_ADDRESS_TRIES 8  /* questions for the address of a container found running */
#define FLEET_ADDRESSES 64     /* tried at once where others have them; then one after each rest */
#define FLEET_MAX_FOREIGN 1024 /* containers remembered as told of */
#define FLEET_RECALL_MS 50     /* a front that has not answered a recall by then has nothing free */
#define FLEET_WHY_MS 30        /* after which an engine knows why a worker was killed; */
#define FLEET_WHY_TRIES 4      /* it is asked so often, after twice the time each */
#define FLEET_FREEZER_MS 2000  /* after a resume an engine may still say or do the pause before */
#define FLEET_CLAIMS_MS 1000   /* a front that says what it holds has said it by then */
#define FLEET_CLAIMS_LOOK_MS 50
#define FLEET_PEAKS 4 /* parts of the idle timeout over which the most in use is kept */
#define FLEET_PEAK_LEAST_MS 250

enum fleet_call {
    FLEET_CALL_NONE,
    FLEET_CALL_PULL,
    FLEET_CALL_CREATE,
    FLEET_CALL_START,
    FLEET_CALL_LOOK,
    FLEET_CALL_STOP,
    FLEET_CALL_REMOVE,
    FLEET_CALL_PAUSE,
    FLEET_CALL_UNPAUSE,
    FLEET_CALL_WEIGH, /* a question only: given up for any other call */
};

struct fleet_waiter {
    struct fleet *fleet;
    struct kg_list in_service, in_front;
    struct fleet_service *service;
    uint64_t ticket;
    int front;
    bool quiet;
    int64_t since_ms;
};

enum fleet_caller_kind { FLEET_WAKES, FLEET_SLEEPS };
struct fleet_caller {    /* of wake or sleep */
    struct kg_list link; /* in its service; then among the finished */
    enum fleet_caller_kind kind;
    uint64_t last; /* sleep: instances up to this one must be gone */
    fleet_done *done;
    void *arg;
    unsigned reason;
    int64_t retry_after_ms;
    char detail[FLEET_DETAIL_BYTES];
};

struct fleet_service {
    uint32_t id;
    char name[KG_MAX_NAME_BYTES + 1];
    const struct config_service *config; /* NULL: no longer configured */
    bool named;                          /* by the configuration being put in force */
    int64_t gone_ms;
    struct kg_list instances; /* all, oldest first */
    unsigned out;             /* slots of all of them held by fronts */
    unsigned strays; /* containers looked at that may turn out to be what a create would make */
    struct kg_list waiters;      /* FIFO over all fronts */
    size_t waiting, waiting_cap; /* the cap: of those who waited as it was lowered; 0: none */
    size_t waiting_quietly;      /* monitors, of those who wait: nothing is made for them */
    unsigned waiting_from[KG_MAX_FRONTS];
    struct kg_list callers;
    struct kg_list attention; /* in the fleet's list while it is to be settled */
    unsigned failures;        /* provisionings in a row */
    unsigned crashes;         /* soon after READY, in a row */
    unsigned taken;           /* addresses that others had, in a row */
    int64_t backoff_until_ms;
    int64_t exit_ms;                /* when a worker's exit last counted against the service */
    char cause[FLEET_DETAIL_BYTES]; /* of the last failure */
    int64_t inherited_deadline_ms;  /* for the next instance; KG_NEVER: it gets its own */
    int64_t unserved_ms;            /* since when some wait and none serves; KG_NEVER: not so */
    int64_t start_ms;               /* what the last start took; 0: not known */
    bool asleep;                    /* sent to sleep by hand: nothing is kept ready until demand */
    bool renews;                    /* it was in use as it changed: another one is to be there */
    bool kept;                      /* an instance is due, and stays because it is needed */
    struct kg_heap_node timer;
    int64_t retry_ms; /* without memory before then; 0: none */
    /* Most slots out in each part of the window; UINT_MAX: not known yet. */
    unsigned peaks[FLEET_PEAKS];
    int64_t peak_until_ms; /* of the part that is counted now; KG_NEVER: not counted */
    /* `needs`, both ways; NULL where there are none. */
    struct fleet_service **needs, **needed_by;
    size_t need_count, needed_by_count;
    /* idle_timeout "auto" */
    struct habit habit;
    struct habit_plan plan;
    struct habit_goal goal; /* that it was made for */
    bool in_use;            /* slots of it are out, and not for monitors alone */
    bool planned, foreseen; /* foreseen: woken, or kept, for a use that is expected */
    int64_t used_ms;        /* end of the last use of any instance; KG_NEVER: not used */
    int64_t wake_ms, wake_until_ms;
    unsigned needed; /* services in use that need this one */
    bool active;     /* counted in what it needs */
    uint64_t walk;   /* the last one, up to those that need it, that came by */
};

struct fleet_lease {
    unsigned slots;   /* out to this front */
    unsigned owed;    /* of them recalled */
    bool told;        /* the front knows of the instance */
    bool thawed;      /* but not yet that it was frozen since: it may have old connections */
    unsigned asked;   /* recalls that are not answered yet */
    int64_t asked_ms; /* the last of them; 0: none */
};

struct fleet_instance {
    struct fleet *fleet;
    struct fleet_service *service; /* the fleet's orphans for a service that is not known */
    struct kg_list in_service, in_fleet, in_queue;
    uint64_t id;
    char name[ENGINE_NAME_BYTES]; /* chosen before the create, known to nobody else */
    char label[KG_MAX_NAME_BYTES + 1], spec[65];
    /* What should be, what is, whether it can be used: each with the time it became so. */
    bool wanted;
    enum engine_state is; /* as the engine said last */
    bool ready;
    int64_t wanted_ms, is_ms, ready_ms;
    enum instance_state state; /* written by fleet_set_state only */
    int64_t state_ms;
    struct engine_container container; /* id "" until known to be ours; the address */
    bool made;                         /* something may exist under our name */
    bool stray;                        /* not settled yet */
    bool provisioned;                  /* by this run, not adopted */
    bool held;                         /* adopted while fronts of a former run live */
    bool pulled, recreated, blamed, reaped, oom, unanswered, start_slot;
    unsigned asked_why; /* it was killed, and the engine was asked again so often */
    bool spare;         /* made to be kept: frozen once it is ready and nobody needs it */
    bool keep;          /* its container is kept when it has stopped */
    bool start_cut;     /* whether a start of it was carried out is not known */
    bool restarted;     /* it had stopped before: found ended, it may not have been started yet */
    bool woken;         /* the same, for good: news of a death may be of that former life */
    bool rested;        /* paused by us before: news of a pause may be of that one */
    bool frozen;        /* by us, and not known to run since */
    bool unpausable;    /* the engine would not freeze it */
    enum proxy_warmth warmth; /* what those waited for whom it served first */
    int64_t memory_bytes;     /* held while paused; 0: not known */
    /* The one call in flight, and the one that is made next. */
    enum fleet_call call, todo;
    uint64_t operation;
    int64_t call_due_ms, todo_ms, look_after_ms;
    unsigned tries;   /* in a row without an answer */
    unsigned nowhere; /* answers in a row that it is in use and has no address */
    struct kg_heap_node timer;
    int64_t deadline_ms; /* of the provisioning */
    int64_t pull_until_ms, born_ms, phase_ms[FLEET_PHASES];
    uint64_t epoch; /* the engine's, when this was started or found */
    struct reaper_entry idle;
    int64_t clock_ms;      /* adopted: last use, from the last run; KG_NEVER: none */
    unsigned out, allowed; /* slots held by fronts; as many as were ever right to be */
    struct fleet_lease leases[KG_MAX_FRONTS];
    int probe_front; /* -1: none */
    bool reprobed;   /* the front may begin anew after it has answered */
    bool died;       /* said to have died while it was probed: a look must tell first */
    bool answered;   /* meanwhile a probe got through */
    unsigned fail_reason;
    char detail[FLEET_DETAIL_BYTES];
};

struct fleet_front {
    bool up;
    int64_t claims_until_ms; /* more claims may come before then; 0: it has said all */
    struct kg_map tickets;
    struct kg_list waiters;
    size_t waiting;
};

struct fleet {
    struct engine_ops engine;
    struct fleet_fronts door;
    struct fleet_observer observer;
    int64_t (*clock)(void *arg);
    int64_t (*wall)(void *arg);
    void *clock_arg;
    char owner[65];
    uint64_t random;
    int64_t now_ms;
    struct fleet_service *services[KG_MAX_SERVICES];
    uint32_t service_count; /* ids ever given */
    struct kg_map service_names;
    struct fleet_service orphans;
    struct kg_list instances, graves, attention, finished, start_queue, claims;
    size_t instance_count, calls;
    uint64_t last_instance;
    struct kg_map by_id, by_name, by_container;
    struct kg_heap timers, service_timers;
    struct reaper reaper;
    struct fleet_front fronts[KG_MAX_FRONTS];
    int front_limit, fronts_up;
    int max_starts, starts;
    int64_t paused_memory_bytes; /* -1: no cap */
    bool engine_up, listed, hold, stopping, removing;
    int64_t engine_down_ms;
    uint64_t epoch; /* of the engine: one more each time it is lost */
    uint64_t walks; /* up the needs: there may be far more ways than services */
    struct kg_map remembered, foreign;
    struct habits habits;
    bool habits_changed;
};

/* --- fleet.c: every public call that may change something begins and ends with these --- */
void fleet_enter(struct fleet *f, int64_t now_ms);
void fleet_leave(struct fleet *f);
void fleet_service_init(struct fleet_service *s);
void fleet_attend(struct fleet *f, struct fleet_service *s); /* settled before the call ends */

/* --- fleet_step.c: the table's transitions and effects --- */
/* `why` NULL: the cell's label. The instance may be freed after (readable until the call ends). */
void fleet_step(struct fleet_instance *i, enum instance_event event, const char *why);
/* Fails a provisioning: `words` are for clients, `why` for the log (NULL: the words). */
void fleet_fail(struct fleet_instance *i, unsigned reason, bool blame, const char *words,
                const char *why);
/* The service's n-th failure in a row: it pauses, and longer each time. */
void fleet_rest(struct fleet_instance *i, unsigned times, const char *words);
void fleet_unwanted(struct fleet_instance *i, const char *why);
void fleet_not_kept(struct fleet_instance *i); /* removed when it has stopped */
void fleet_check_emptied(struct fleet_instance *i);
void fleet_arm(struct fleet_instance *i);
void fleet_on_time(struct fleet_instance *i);

/* --- fleet_instance.c: records --- */
/* NULL: no memory, or too many. `name` NULL: one is made. */
struct fleet_instance *fleet_instance_new(struct fleet *f, struct fleet_service *s,
                                          const char *label, const char *name);
int fleet_instance_rename(struct fleet_instance *i);
/* The container is this one and ours: indexed by its id from now on. */
void fleet_instance_is(struct fleet_instance *i, const struct engine_container *c);
void fleet_instance_forget_container(struct fleet_instance *i);
void fleet_instance_unname(struct fleet_instance *i); /* no container has its name any more */
void fleet_no_stray(struct fleet_instance *i);        /* it is settled what it is */
void fleet_instance_bury(struct fleet_instance *i);
void fleet_instance_reborn(struct fleet_instance *i); /* STOPPED, and to be started again */
struct fleet_instance *fleet_instance_find(const struct fleet *f, uint64_t id);

/* --- fleet_call.c: the engine's verbs, one in flight per instance --- */
void fleet_pump(struct fleet_instance *i);
void fleet_pump_all(struct fleet *f);
void fleet_call_cancel(struct fleet_instance *i);
void fleet_call_late(struct fleet_instance *i);
bool fleet_call_blocked(const struct fleet_instance *i); /* what comes next waits for something */
int64_t fleet_call_not_before(const struct fleet_instance *i);
void fleet_start_release(struct fleet_instance *i);
void fleet_start_next(struct fleet *f); /* those who wait for what was released */
/* Nothing came back from a question: UNKNOWN, after a while that grows. */
void fleet_ask_again(struct fleet_instance *i);

/* --- fleet_found.c: what a look or a list says --- */
void fleet_found(struct fleet_instance *i, const struct engine_container *c);
void fleet_found_nothing(struct fleet_instance *i);
/* READY or DRAINING, and not by our order. `event`: DIED or ENDED. */
void fleet_ended(struct fleet_instance *i, enum instance_event event, const char *why);
/* It was made in vain, by no fault of the service: those who wait go on waiting, for another
 * instance and no longer than before. */
void fleet_lost(struct fleet_instance *i, const char *why);

/* --- fleet_reconcile.c --- */
/* Unknown, and said to be ours. False: no memory to know it; the next list may find it. */
bool fleet_stray(struct fleet *f, const struct engine_container *c);
void fleet_forget_remembered(struct fleet *f);
void fleet_stray_found(struct fleet_instance *i, const struct engine_container *c);

/* --- fleet_demand.c: who waits --- */
/* Those who waited beyond the queue for slots from elsewhere, which had none free, and monitors
 * of what serves no more. */
void fleet_refuse_surplus(const struct fleet *f, struct fleet_service *s);
/* None is known to serve, but what there is of a former run is not known yet, or not to answer. */
bool fleet_may_be_awake(const struct fleet *f, const struct fleet_service *s);
void fleet_refuse_waiting(struct fleet_service *s, unsigned reason, int64_t retry_after_ms,
                          const char *detail);
/* Only those who have waited since then or longer. */
void fleet_refuse_since(struct fleet_service *s, int64_t since_ms, unsigned reason,
                        int64_t retry_after_ms, const char *detail);
void fleet_waiter_end(struct fleet_waiter *w);       /* unlinks and frees */
int64_t fleet_engine_away_ms(const struct fleet *f); /* from then on it is not waited for */
int64_t fleet_backoff_left(const struct fleet *f, const struct fleet_service *s);

/* --- fleet_scale.c: how many there should be --- */
struct fleet_census { /* of the instances of one service */
    unsigned starting, serving, paused, stopped, draining;
};
struct fleet_census fleet_count(const struct fleet_service *s);
/* After anything changed: serves, wakes, makes and retires, refuses who cannot be served. */
void fleet_settle(struct fleet *f, struct fleet_service *s);
/* Another instance is made; NULL without memory for it (then nobody waits for it any more). */
struct fleet_instance *fleet_succeed(struct fleet *f, struct fleet_service *s);
bool fleet_one_is_going(const struct fleet_service *s); /* draining, stopping or being removed */
/* Serving at all times: what is configured, what other services need, what is foreseen. */
unsigned fleet_least(const struct fleet_service *s);
/* Needed by others, until this moment: its idle clock begins. */
void fleet_needed_until_now(struct fleet *f, struct fleet_service *need);
/* What may be in use and need it is not known yet. */
bool fleet_may_be_needed(const struct fleet_service *s);
/* Slots went out or were counted anew. */
void fleet_peak_note(const struct fleet *f, struct fleet_service *s);
/* A provisioning failed: who waits for nothing else is refused, here and where it is needed. */
void fleet_refuse_hopeless(struct fleet *f, struct fleet_service *s, unsigned reason,
                           int64_t retry_after_ms, const char *detail);

/* --- fleet_idle.c: what idleness leads to --- */
bool fleet_expire(void *arg, struct reaper_entry *entry); /* the reaper's verb */
void fleet_retime(struct fleet_instance *i);              /* due when its next stage is */
void fleet_retime_kept(struct fleet_service *s);
/* As ready as a spare: frozen, or idle and not to be frozen by this engine. */
unsigned fleet_spares_there(const struct fleet_service *s);
bool fleet_is_warm_spare(const struct fleet_instance *i); /* the latter, and wanted as such */
/* Whether it is kept by now, however idle. */
bool fleet_must_stay(const struct fleet_instance *i);
int64_t fleet_linger_ms(const struct fleet_service *s);
/* It is idle and one too many: frozen or stopped, where that is what becomes of it, and kept.
 * False: it is not to be kept. */
bool fleet_keep_idle(struct fleet_instance *i, const char *why);
void fleet_cap_changed(struct fleet *f); /* of the memory of the paused; or what it spares */
void fleet_weighed(struct fleet_instance *i, int64_t memory_bytes);

/* --- fleet_habit.c: idle_timeout "auto" --- */
/* Of the service as a whole, by others than monitors; nothing changes while it is in use. */
void fleet_use_begins(struct fleet *f, struct fleet_service *s);
void fleet_use_ended(struct fleet *f, struct fleet_service *s, int64_t used_ms);
void fleet_replan(struct fleet *f, struct fleet_service *s); /* other bounds, perhaps */
void fleet_use_missed(struct fleet *f, struct fleet_service *s);
void fleet_foresee(struct fleet *f, struct fleet_service *s);
int64_t fleet_foresee_due_ms(const struct fleet_service *s); /* KG_NEVER: nothing is foreseen */

/* --- fleet_claim.c: what fronts hold of a former control --- */
bool fleet_is_claimed(const struct fleet *f, const char *name);
/* When it was used last: as saved, or later, as fronts say that hold it. */
int64_t fleet_claims_clock(const struct fleet *f, const char *name, int64_t saved_ms);
void fleet_claims_bind(struct fleet_instance *i);
/* Of a container by that name; NULL: of all that are not known at all. */
void fleet_claims_refuse(struct fleet *f, const char *name);
bool fleet_claims_pending(const struct fleet *f); /* some front has not said all that it holds */
void fleet_claims_forget(struct fleet *f, int front); /* the front is gone; -1: all */

/* --- fleet_lease.c --- */
void fleet_tell_clock(const struct fleet *f); /* the observer, if it asks: clocks are to be saved */
void fleet_used_by_hand(struct fleet_instance *i); /* woken: a use without a slot */
void fleet_lend(struct fleet_instance *i, int front, unsigned slots); /* counted as out */
void fleet_serve(struct fleet_service *s); /* grants while there is who waits and what is free */
/* The instance of the service with the fewest slots out that has a free one, or NULL. */
struct fleet_instance *fleet_free_slot(const struct fleet_service *s);
/* The time until which some front is still to tell what of its slots is free; 0: none. */
int64_t fleet_recall_pending(const struct fleet_service *s);
/* Slots that fronts other than this one hold and may have free: not known before they answered. */
size_t fleet_slots_elsewhere(const struct fleet_service *s, int front);
void fleet_grant(struct fleet_instance *i, int front, uint64_t ticket, enum proxy_warmth warmth,
                 bool others_wait);
void fleet_thaw(struct fleet_instance *i); /* it was frozen: fronts are told as they get slots */
void fleet_recall_all(struct fleet_instance *i);
void fleet_void(struct fleet_instance *i);
void fleet_probe(struct fleet_instance *i);
void fleet_lease_void(struct fleet_instance *i, int front);

/* --- fleet_hand.c --- */
bool fleet_has_waker(const struct fleet_service *s);
void fleet_wakers_done(struct fleet *f, struct fleet_service *s, unsigned reason,
                       int64_t retry_after_ms, const char *detail);
void fleet_sleepers_look(struct fleet *f, struct fleet_service *s);
/* Found while somebody waits for the service to be asleep? Then its end is waited for as well. */
bool fleet_sleepers_claim(struct fleet_service *s, uint64_t found);
void fleet_tell_finished(struct fleet *f);
void fleet_callers_free(struct kg_list *callers);

#endif
