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
#include "orchestrator/instance.h"

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
    int service;                       /* -1: foreign */
    bool ours;                         /* made by our create */
    char made_name[ENGINE_NAME_BYTES]; /* the name it was made with */
    bool by_hand;                      /* somebody paused, restarted or disconnected it */
    enum boot boot;
    int64_t listens_ms;           /* KG_NEVER: not (yet) */
    int address;                  /* -1: none */
    int exchanges, old_exchanges; /* of fronts now; of fronts of a former run */
    int64_t used_ms;              /* last end of an exchange that counts */
    int64_t ready_ms;             /* first probe that got through */
    int64_t ended_ms, told_ms;    /* it ended; the fleet was told (or asked) */
};
enum verb {
    VERB_PULL,
    VERB_CREATE,
    VERB_START,
    VERB_LOOK,
    VERB_STOP,
    VERB_REMOVE,
    VERB_PAUSE,
    VERB_UNPAUSE,
    VERB_WEIGH,
    VERB_COUNT
};
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
    struct kg_list open;             /* calls not answered */
    int address_user[SIM_ADDRESSES]; /* container index or -1 */
    bool image[SIM_SERVICES];
    bool mute;                           /* what happens now is not told */
    int64_t fault_ms;                    /* the last time anything went wrong */
    int64_t list_began_ms, list_told_ms; /* of the last list that arrived */
    int64_t no_image_ms[SIM_SERVICES];   /* when the engine last said that an image is missing */
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
    bool quiet, counted; /* counted: its instance's own container, honest front */
    enum client_state state;
    int64_t since_ms, hold_ms;
    struct container *container;
    uint64_t instance;
};
enum message_kind {
    SAY_ACQUIRE,
    SAY_WITHDRAW,
    SAY_RETURN,
    SAY_PROBED,
    SAY_SUSPECT,
    HEAR_GRANT,
    HEAR_REFUSE,
    HEAR_RECALL,
    HEAR_PROBE,
    HEAR_PROBE_STOP,
    HEAR_GONE
};
struct message {
    struct kg_list link;
    enum message_kind kind;
    uint64_t ticket, instance;
    uint32_t service;
    unsigned slots, reason;
    bool quiet, recalled;
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

/* --- what the judge knows --- */
struct note {    /* of an instance, from the observer */
    int service; /* -1: not configured */
    char name[ENGINE_NAME_BYTES];
    bool current, ready;
};
struct ticket {
    struct kg_list link;
    uint64_t number;
    int front;
    uint32_t service;
    int64_t since_ms;
};
struct saved {
    char name[ENGINE_NAME_BYTES];
    int64_t used_ms;
};

/* --- the whole --- */
struct counts {
    uint64_t events, clients, served, broken, left, refused[PROXY_REASON_MAX], granted;
    uint64_t creates, removes, restarts, engine_losses, front_deaths, reconfigured, adopted;
    uint64_t cold_ok, cold_failed, reaped, wakes, sleeps, faults[VERB_COUNT], events_lost;
    uint64_t conflicts, ghosts, old_fronts, paused, stopped, resumed, most_at_once;
};
struct world {
    uint64_t seed, random;
    int64_t now_ms, end_ms;
    bool calm; /* faults and clients have ended: everything must come to rest */
    bool verbose;
    int fault_percent;
    int64_t peace; /* how seldom something else happens than a client */
    struct kg_heap tasks;
    struct kg_list all_tasks;
    struct fleet *fleet;
    uint64_t fleet_generation;
    bool listed, holding;
    struct config *config; /* in force, with its services */
    struct config_service *copies;
    struct config_service services[SIM_SERVICES]; /* what the next one is made from */
    bool configured[SIM_SERVICES];
    int versions[SIM_SERVICES];
    int ids[SIM_SERVICES];  /* the fleet's numbers; -1: none yet */
    int bad[SIM_SERVICES];  /* percent of workers that fail to boot */
    int most[SIM_SERVICES]; /* concurrency that may still be in force */
    int most_instances[SIM_SERVICES];
    struct config_strings needs[SIM_SERVICES];
    char *need_names[SIM_SERVICES];
    size_t most_waiting[SIM_SERVICES];
    int64_t rest_until_ms[SIM_SERVICES]; /* as clients were told */
    int64_t disturbed_ms;                /* reconfigured, sent to sleep or restarted */
    int spins;
    uint64_t looks; /* of the judges */
    bool clocks_dirty;
    struct fake_engine engine;
    struct sim_front fronts[SIM_FRONTS];
    struct kg_list old_fronts; /* of the last run: exchanges that still go on */
    uint64_t tickets, clients;
    struct kg_map notes;                    /* instance -> struct note */
    struct kg_map tickets_open[SIM_FRONTS]; /* ticket -> struct ticket */
    struct kg_list tickets_old;             /* the same, oldest first */
    struct saved *saved;                    /* clocks, as the state file would have them */
    size_t saved_count;
    size_t open[SIM_SERVICES];
    int64_t overdue_since_ms[SIM_SERVICES];
    int open_callers;
    struct counts *counts;
    struct kg_map *transitions; /* "from>to: why" -> count */
};

_Noreturn void sim_fail(struct world *w, const char *what);
#define SIM_ASSERT(w, e) ((e) ? (void)0 : sim_fail((w), #e))
void sim_say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));

int sim_index(struct world *w, uint32_t id); /* of the service with this number; -1: none */
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
struct container *engine_container_new(struct world *w, const char *name, const char *owner,
                                       const char *service, const char *spec);
bool engine_give_address(struct world *w, struct container *c);
void engine_boot(struct world *w, struct container *c);
void engine_destroy(struct world *w, struct container *c);
void engine_tell(struct world *w, const struct container *c, enum engine_event_kind kind);
struct container *engine_at(struct world *w, const struct sockaddr_storage *address);
bool engine_listens(struct world *w, const struct container *c);
bool engine_accepts(struct world *w, const struct container *c); /* also while it is frozen */
void engine_worker_dies(struct world *w, struct container *c, int code, bool oom);

void engine_end(struct world *w);
void engine_drop_task(struct task *t);

/* sim_hands.c */
void engine_meddle(struct world *w);
void engine_meddle_early(struct world *w, const struct container *c);

/* sim_front.c */
void world_drop_fronts(struct world *w);
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
void judge_begin(struct world *w);
struct fleet_observer judge_observer(struct world *w);
void judge_now(struct world *w);  /* after every event */
void judge_rest(struct world *w); /* at the end of the calm */
/* True: the exchange counts, for it is where its instance says. */
bool judge_exchange(struct world *w, struct container *c, uint64_t instance, uint32_t service);
void judge_stop(struct world *w, const struct container *c);
void judge_pause(struct world *w, const char *id);
void judge_create(struct world *w, int service, const char *spec);
void judge_asked(struct world *w, int front, uint64_t ticket, uint32_t service);
void judge_withdrawn(struct world *w, int front, uint64_t ticket);
void judge_answered(struct world *w, int front, uint64_t ticket);
void judge_granted(struct world *w, uint32_t service, uint64_t instance);
void judge_refused(struct world *w, int front, uint64_t ticket, unsigned reason, int64_t retry_ms);
void judge_no_rest(struct world *w); /* whatever failed may be tried again at once */
void judge_front_down(struct world *w, int front);
void judge_forget(struct world *w); /* control died: a new fleet knows nothing */
void judge_end(struct world *w);
struct container *engine_named(struct world *w, const char *name); /* also a removed one */
struct container *engine_find(struct world *w, const char *id);

#endif
