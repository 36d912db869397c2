/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of parking among themselves: policy (pure), sandboxes, errands (verbs of several
 * calls). The difficulty: an answer's receiver may come back in before it returns. */
#ifndef ORCHESTRATOR_PARKING_PRIV_H
#define ORCHESTRATOR_PARKING_PRIV_H

#include "base/clock.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "orchestrator/parking.h"

#define SANDBOX_PREFIX "kipgate-sandbox-"
#define SANDBOX_SUFFIX_DIGITS 12
#define SANDBOXES_AT_ONCE 2    /* made or removed at a time: requests' calls go before */
#define SANDBOX_REST_MS 50     /* after a worker's start, before one is made: it boots */
#define SANDBOX_DOUBT_MS 10000 /* found, it may yet be joined by what a last run asked for */
#define SANDBOX_RETRY_FIRST_MS 100
#define SANDBOX_TRIES 6 /* to find its address, or to start it */
#define PARKING_REFUSALS 3

/* --- policy (parking_policy.c): pure ------------------------------------------------------ */

#define DEMAND_MINUTES 10
#define DEMAND_BURST_MS 2000 /* starts so near to each other are one burst */
struct parking_demand {      /* how many starts came at once, of late */
    int64_t burst_ms, last_ms;
    unsigned burst;
    bool any;
    struct {
        int64_t minute;
        unsigned most;
    } peaks[DEMAND_MINUTES];
};
void parking_demand_seed(struct parking_demand *d, int64_t now_ms); /* as if one came before now */
void parking_demand_note(struct parking_demand *d, int64_t now_ms);
unsigned parking_demand_want(const struct parking_demand *d, int64_t now_ms);
int64_t parking_demand_due_ms(const struct parking_demand *d, int64_t now_ms); /* it may sink */

#define GAIN_SAMPLES 15
#define GAIN_ENOUGH 5
#define GAIN_WORST 0.8 /* of the median of starts with a namespace of their own */
struct parking_gain {
    struct parking_gain_ring {
        int64_t ms[GAIN_SAMPLES];
        size_t count;
    } joined, own;
};
void parking_gain_note(struct parking_gain_ring *r, int64_t ms);
int64_t parking_gain_median(const struct parking_gain_ring *r); /* -1: none yet */
bool parking_gain_is_poor(const struct parking_gain *g);

/* --- sandboxes (parking_sandbox.c) -------------------------------------------------------- */

enum sandbox_stage {
    SANDBOX_MAKING,   /* the create is under way */
    SANDBOX_STARTING, /* the start is */
    SANDBOX_ASKING,   /* what is it, and where? */
    SANDBOX_FOUND,    /* of a last run; who uses it shows soon */
    SANDBOX_PARKED,
    SANDBOX_TAKEN,   /* a worker's, for good */
    SANDBOX_LEAVING, /* to be removed in its turn */
    SANDBOX_ENDING,  /* being removed, or not removed yet: again later */
    SANDBOX_STAGES
};
struct sandbox {
    struct parking *parking;
    struct kg_list link; /* in the list of its stage */
    struct kg_heap_node timer;
    enum sandbox_stage stage;
    int64_t stage_ms; /* since when */
    char id[ENGINE_ID_BYTES], name[ENGINE_NAME_BYTES];
    char worker[ENGINE_NAME_BYTES], worker_id[ENGINE_ID_BYTES]; /* taken: whose; id "": not known */
    struct sockaddr_storage address;                            /* with port 0 */
    socklen_t address_length;
    uint64_t operation; /* 0: none under way */
    unsigned tries;
    bool doomed;         /* wanted no more, but something is under way */
    bool of_this_run;    /* asked for by us; with an id: that the engine gave it then */
    bool joins;          /* its worker is told to start, and not said yet to be at its address */
    bool lost;           /* taken, and its worker is to be told that it is no more */
    uint64_t seen, used; /* numbers of the last lists that had it, and that had its worker */
    uint64_t start;      /* of its start: see parking_start_began */
    int64_t began_ms;
};

struct parking {
    struct parking_params params;
    struct engine_ops ops;
    struct kg_list stages[SANDBOX_STAGES];
    unsigned counts[SANDBOX_STAGES];
    struct kg_heap timers;
    struct kg_map sandboxes; /* by id and by name */
    struct kg_map workers;   /* those sandboxes that are taken, by their workers' names and ids */
    struct kg_list errands;
    uint64_t numbers, lists;
    struct parking_demand demand;
    struct parking_gain gain;
    unsigned cap;
    bool up, listed, stopped, off;
    unsigned removing;       /* sandboxes: calls under way */
    unsigned starting;       /* creates and starts of workers under way */
    uint64_t starts, alone;  /* starts begun; the one that has been alone since it began, or 0 */
    unsigned starts_running; /* sandboxes' and workers' */
    unsigned refusals, failures, different; /* each in a row; different: see found_different */
    int64_t refill_ms;                      /* not before */
    uint64_t joined, own;
};

int64_t parking_now(const struct parking *p);
/* A sandbox for that worker, taken; NULL: none is parked. */
struct sandbox *parking_take(struct parking *p, const char *worker);
void parking_give_back(struct sandbox *sb); /* nobody has joined it */
struct sandbox *parking_find(const struct parking *p, const char *id);
/* The sandbox is that worker's: what the engine says goes before what we thought. */
void parking_assign(struct sandbox *sb, const char *worker, const char *worker_id);
/* The worker is no more, by name or id: its sandbox goes. */
void parking_worker_gone(struct parking *p, const char *name_or_id);
/* A running one of ours, whatever we knew of it. NULL: no memory. */
struct sandbox *parking_know(struct parking *p, const struct engine_container *c);
void parking_end(struct sandbox *sb);  /* it is removed, however long that takes */
void parking_drop(struct sandbox *sb); /* there is no such container: frees it */
/* An errand removes it; where that does not come to its end, we do. */
void parking_leave_to_errand(struct sandbox *sb);
/* It died or went; a worker that has it is told of. */
void parking_lost(struct sandbox *sb);
void parking_make(struct parking *p);
void parking_on_time(struct sandbox *sb);
void parking_remove(struct sandbox *sb); /* it is its turn */
void parking_look(struct sandbox *sb);   /* what is it, and where? */
void parking_sandbox_free(struct sandbox *sb);
void parking_disconnected(struct parking *p, const struct engine_container *worker);

/* Durations count only of starts that had the engine for themselves. */
uint64_t parking_start_began(struct parking *p);
void parking_start_ended(struct parking *p, uint64_t number, int64_t began_ms, bool good,
                         struct parking_gain_ring *ring);
void parking_switch_off(struct parking *p, const char *why);
bool parking_is_on(const struct parking *p);
/* Could a worker of that service join a sandbox, if there is one? */
bool parking_may_serve(const struct config_service *s);

/* --- errands (parking_errand.c) ----------------------------------------------------------- */

void parking_errands_init(struct parking *p);
void parking_errands_free(struct parking *p);
/* Services that they were given may be gone: what was to be done with one is not done. */
void parking_errands_forget_services(struct parking *p);
bool parking_errand_creates(const struct parking *p, const char *worker);

#endif
