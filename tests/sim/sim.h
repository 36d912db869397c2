/* SPDX-License-Identifier: Apache-2.0 */
/* The simulator's world: a virtual clock, a fake engine, fronts with clients, and judges of its own
 * that do not ask the fleet. The difficulty: one seed must replay any failure, so nothing here may
 * depend on an address, a hash or the real time. */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "base/clock.h"
#include "base/list.h"
#include "base/map.h"
#include "orchestrator/fleet.h"

#define SIM_SERVICES 4
#define SIM_FRONTS 3
#define SIM_MAX_CONTAINERS 512
#define SIM_ADDRESSES 12
#define SIM_OWNER "owner-of-the-simulator"

struct world;
struct sim_front;
struct client;

/* --- what happens later --- */
struct task;
typedef void task_run(struct world *w, struct task *t);
struct task {
    struct kg_heap_node node;
    struct kg_list link; /* all tasks, so that a world can end early */
    task_run *run;
    void *what;
    uint64_t number, other;
};

/* --- the fake engine --- */
enum boot { BOOT_LISTENS, BOOT_EXITS, BOOT_OOM, BOOT_NEVER, BOOT_BAD_COMMAND };
struct container {
    struct engine_container c;
    int service; /* -1: foreign */
    bool ours;   /* made by our create */
    bool by_hand; /* somebody paused, restarted or disconnected it */
    enum boot boot;
    int64_t listens_ms; /* KG_NEVER: not (yet) */
    int address;        /* -1: none */
    int exchanges;
    int64_t used_ms;    /* last end of an exchange that counts */
    int64_t ready_ms;   /* first probe that got through */
    int64_t ended_ms, told_ms; /* it ended; the fleet was told (or asked) */
    bool reap_told;
};
enum verb { VERB_PULL, VERB_CREATE, VERB_START, VERB_LOOK, VERB_STOP, VERB_REMOVE, VERB_COUNT };
struct call {
    struct kg_list link;
    uint64_t number;
    enum verb verb;
    int service;
    bool has_service;
    char target[ENGINE_NAME_BYTES], spec[65];
    engine_done *done;
    void *arg;
    bool done_effect, cancelled, answered, late;
    int references;
    int forced_code; /* what is answered whatever happened; 0: the truth */
    struct engine_answer answer;
};
struct fake_engine {
    bool up;
    struct container containers[SIM_MAX_CONTAINERS];
    size_t count; /* slots used so far; a removed one has state ENGINE_NONE */
    uint64_t calls, ids;
    struct kg_list open; /* calls not answered */
    int address_user[SIM_ADDRESSES]; /* container index or -1 */
    bool image[SIM_SERVICES];
    int64_t fault_ms; /* the last time anything went wrong */
    unsigned made[SIM_SERVICES];
};

/* --- fronts and clients --- */
struct lease {
    struct kg_list link;
    uint64_t instance;
    uint32_t service;
    unsigned slots, busy, owed;
    int64_t used_ms, linger_ms, linger_due_ms;
    struct sockaddr_storage address;
    bool probing;
};
enum client_state { CLIENT_WAITS, CLIENT_SERVED };
struct client {
    struct kg_list link; /* all of the front */
    struct kg_list waiting;
    struct sim_front *front;
    uint64_t number, ticket;
    uint32_t service;
    bool quiet, asked; /* asked: control was */
    enum client_state state;
    int64_t since_ms, hold_ms;
    struct container *container;
    uint64_t instance;
};
enum message_kind { SAY_ACQUIRE, SAY_WITHDRAW, SAY_RETURN, SAY_PROBED, SAY_SUSPECT,
                    HEAR_GRANT, HEAR_REFUSE, HEAR_RECALL, HEAR_PROBE, HEAR_PROBE_STOP, HEAR_GONE };
struct message {
    struct kg_list link;
    enum message_kind kind;
    uint64_t ticket, instance;
    uint32_t service;
    unsigned slots, reason;
    bool quiet;
    int64_t used_ms, linger_ms;
    struct sockaddr_storage address;
};
struct channel {
    struct kg_list queue;
    int64_t last_ms; /* delivery of the newest: order is kept */
};
struct sim_front {
    int index;
    bool up, attached; /* lives; control knows it */
    uint64_t generation;
    bool hostile;
    struct channel to_control, to_front;
    struct kg_list leases, clients, waiters[SIM_SERVICES + 1];
};

/* --- the whole --- */
struct counts {
    uint64_t events, clients, served, broken, left, refused[PROXY_REASON_MAX], granted;
    uint64_t creates, removes, restarts, engine_losses, front_deaths, reconfigured, adopted;
    uint64_t cold_ok, cold_failed, reaped, wakes, sleeps, faults[VERB_COUNT], events_lost;
    uint64_t conflicts, ghosts, old_fronts;
};
struct world {
    uint64_t seed, random;
    int64_t now_ms, end_ms;
    bool calm; /* faults and clients have ended: everything must come to rest */
    bool verbose;
    int fault_percent;
    struct kg_heap tasks;
    struct kg_list all_tasks;
    struct fleet *fleet;
    uint64_t fleet_generation;
    bool listed, holding;
    struct config config;
    struct config_service services[SIM_SERVICES];
    struct config_service *service_list[SIM_SERVICES];
    bool configured[SIM_SERVICES];
    int versions[SIM_SERVICES];
    int bad[SIM_SERVICES]; /* percent of workers that fail to boot */
    int most[SIM_SERVICES]; /* concurrency that may still be in force */
    int64_t disturbed_ms[SIM_SERVICES]; /* reconfigured, slept or restarted */
    struct fake_engine engine;
    struct sim_front fronts[SIM_FRONTS];
    struct kg_list old_fronts; /* of the last run: exchanges that still go on */
    uint64_t tickets, clients;
    struct kg_map states;  /* instance -> its state, as the observer was told */
    struct kg_map clocks;  /* name -> int64_t, as the state file would have it */
    int current[SIM_SERVICES];
    int open_callers;
    struct counts *counts;
    struct kg_map *transitions; /* "from>to: why" -> count */
};

_Noreturn void sim_fail(struct world *w, const char *what);
#define SIM_ASSERT(w, e) ((e) ? (void)0 : sim_fail((w), #e))
void sim_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint64_t sim_random(struct world *w);
int64_t sim_between(struct world *w, int64_t least, int64_t most); /* both included */
bool sim_chance(struct world *w, int percent);
bool sim_permille(struct world *w, int n);
struct task *sim_later(struct world *w, int64_t delay_ms, task_run *run, void *what,
                       uint64_t number);

/* sim_engine.c */
void engine_begin(struct world *w);
const struct engine_ops *engine_fake_ops(struct world *w);
void engine_forget_calls(struct world *w); /* control died: nobody hears the answers */
void engine_lose(struct world *w);
void engine_back(struct world *w);
void engine_attach(struct world *w); /* a new control hears of the engine */
void engine_list(struct world *w);
void engine_meddle(struct world *w); /* somebody else's hands */
struct container *engine_at(struct world *w, const struct sockaddr_storage *address);
bool engine_listens(struct world *w, const struct container *c);
void engine_worker_dies(struct world *w, struct container *c, int code, bool oom);

/* sim_front.c */
void fronts_begin(struct world *w);
struct fleet_fronts fronts_door_of(struct world *w);
void front_attach(struct world *w, struct sim_front *f);
void front_dies(struct world *w, struct sim_front *f);
void front_end(struct world *w, struct sim_front *f);
void fronts_outlive(struct world *w); /* control died: exchanges go on for a while */
void client_comes(struct world *w);
void front_lies(struct world *w);
void container_breaks(struct world *w, struct container *c); /* its exchanges end */

/* sim_judge.c */
struct fleet_observer judge_observer(struct world *w);
void judge_now(struct world *w);         /* after every event */
void judge_rest(struct world *w);        /* at the end of the calm */
void judge_exchange(struct world *w, struct container *c, uint64_t instance, uint32_t service);
void judge_stop(struct world *w, const struct container *c);
void judge_forget(struct world *w); /* a new fleet: nothing was told yet */

#endif
