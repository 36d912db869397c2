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
#include "orchestrator/gate_client.h"
#include "orchestrator/instance.h"

#define SIM_SERVICES 4
#define SIM_FRONTS 3
#define SIM_MAX_CONTAINERS 512
#define SIM_ADDRESSES 32 /* most worlds have fewer, so that they are used again soon */
#define SIM_MAX_NUMBERED 64
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
    uint64_t number, other, random;
};

/* --- the fake engine --- */
enum boot { BOOT_LISTENS, BOOT_EXITS, BOOT_OOM, BOOT_NEVER, BOOT_BAD_COMMAND };
struct container {
    struct engine_container c;
    int service;                       /* -1: foreign */
    bool ours;                         /* made by our create */
    char made_name[ENGINE_NAME_BYTES]; /* the name it was made with */
    bool lived_before;                 /* found by a later run than that which made it */
    bool begun_before;                 /* started again, and then control died: of its former
                                          life there may be a clock, of this one none yet */
    bool ordered_down;                 /* a stop was asked for */
    bool by_hand;                      /* somebody paused, restarted or disconnected it */
    enum boot boot;
    int64_t listens_ms;           /* KG_NEVER: not (yet) */
    int address;                  /* -1: none */
    int forgotten;                /* looks in a row that did not tell it */
    int exchanges, old_exchanges; /* of fronts now; of fronts of a former run */
    int64_t used_ms;              /* last end of an exchange that counts */
    int64_t kept_ms;              /* the last time that a monitor or a crash may have kept it */
    int64_t ready_ms;             /* first probe that got through */
    int64_t ended_ms, told_ms;    /* it ended; the fleet was told (or asked) */
    int64_t frozen_ms;            /* since when it is frozen with exchanges on it; KG_NEVER: not */
    int64_t fault_ms;             /* a call of this run about it goes wrong until then */
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
    int64_t made_ms;
    enum verb verb;
    int service;
    bool has_service;
    char target[ENGINE_NAME_BYTES], spec[65];
    engine_done *done;
    void *arg;
    bool never; /* the engine went before it did it */
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
    int64_t away_ms;                     /* what its absence led to is over by then */
    uint64_t list, lists;                /* the list that is on its way; 0: none */
    bool list_again;                     /* and another was asked for meanwhile */
    int64_t list_began_ms, list_told_ms; /* of the last list that arrived */
    int64_t no_image_ms[SIM_SERVICES];   /* when the engine last said that an image is missing */
    unsigned made[SIM_SERVICES];
};

/* --- fronts and clients --- */
enum client_state { CLIENT_WAITS, CLIENT_SERVED };
struct client {
    struct proxy_waiter waiter;
    struct kg_list link; /* all of the front */
    struct sim_front *front;
    uint64_t number;
    int service;  /* SIM_SERVICES: one that nobody knows */
    bool counted; /* its instance's own container, honest front */
    bool old;     /* of a front that control does not know */
    enum client_state state;
    int64_t since_ms, hold_ms;
    struct container *container;
    struct proxy_worker *worker;
};
struct message {
    struct kg_list link;
    size_t n; /* 0: nothing comes any more */
    _Alignas(8) char bytes[];
};
struct channel {
    struct kg_list queue;
    int64_t last_ms; /* delivery of the newest: order is kept */
};
struct sim_front { /* a process */
    struct kg_list link;
    struct world *world;
    int index;
    uint64_t number;
    bool up;        /* it lives; else what it said last is still on its way */
    bool connected; /* as it sees it */
    bool heard;     /* a control reads what it says */
    bool away;      /* its control is, and it waits for another */
    bool configured, draining, hostile;
    uint64_t run, ready_run; /* of the channel */
    struct channel to_control, to_front;
    struct gate_client *gate;
    struct proxy_gate door;
    struct kg_list clients, workers;
    int ids[SIM_SERVICES], next_ids[SIM_SERVICES]; /* as it was told; -1: no such service */
    uint64_t set_up;
    const char *hearing; /* the container's name in the message that it hears */
    uint64_t hearing_of; /* and its instance */
    struct task *alone;
    int64_t late_until_ms; /* what it says or hears took longer than usual until then */
};

/* --- what the judge knows --- */
struct note {    /* of an instance, from the observer */
    int service; /* -1: not configured */
    char name[ENGINE_NAME_BYTES];
    bool current, ready;
    bool asked_for;   /* while the configuration is being changed its create is sent */
    int64_t state_ms; /* since when it is what it is */
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
    uint64_t conflicts, old_fronts, paused, stopped, resumed, most_at_once;
    uint64_t outlived, attached, sent_off, claims, renamed, refused_claims, distrusted, virtual_ms;
    uint64_t moves[INSTANCE_STATE_COUNT][INSTANCE_STATE_COUNT];
};
#define SIM_MAX_ACTS 8192
#define SIM_ACTS 8 /* kinds of them */
enum sim_words { SIM_SAYS_NOTHING, SIM_SAYS_ACTS, SIM_SAYS_ALL };
struct skips { /* acts that are left out */
    bool skip[SIM_MAX_ACTS];
};
enum trait {                          /* how often something happens: sim_mood.c */
             TRAIT_SLOW_ANSWER,       /* an answer comes long after what it tells of */
             TRAIT_SLOW_LIST,         /* and so does the list */
             TRAIT_SLOW_STOP,         /* a worker takes its time to end */
             TRAIT_NO_ADDRESS,        /* a look does not tell it */
             TRAIT_NAME_TAKEN,        /* by somebody else */
             TRAIT_MEDDLED_EARLY,     /* somebody starts or removes what was just made */
             TRAIT_EVENT_LOST,        /* an event is never told, */
             TRAIT_EVENT_LATE,        /* late, */
             TRAIT_EVENT_TWICE,       /* twice */
             TRAIT_SENT_OFF,          /* a front is not taken over by the next control */
             TRAIT_SLOW_CLAIMS,       /* or says what it holds after the list has come */
             TRAIT_FRONT_DIES_TOO,    /* with its control */
             TRAIT_CHANGED_MEANWHILE, /* the configuration, while there is no control */
             TRAIT_ENDS_MEANWHILE, /* a worker, while there is no control or a new one looks around
                                    */
             TRAIT_NEVER_SENT,     /* a call that control died upon */
             TRAIT_CRASH_AT_GRANT, /* control dies soon after */
             TRAIT_CHANGED_AT_START, /* its service's configuration, soon after a worker is started
                                      */
             TRAIT_PAUSES,           /* a service's idle instances are frozen first */
             TRAIT_LONG_EXCHANGE,
             TRAIT_RESETS,  /* a worker that lives breaks an exchange off */
             TRAIT_MONITOR, /* a client is one: it wakes nobody */
             TRAIT_LEAVES,  /* a client does not wait for its answer */
             TRAIT_COUNT,
};
struct replay {
    uint64_t seed;
    int64_t length_ms;
    struct skips skips;
};
struct world {
    uint64_t seed, random;
    int64_t now_ms, end_ms;
    bool crashy;  /* control dies again and again */
    bool hostile; /* there may be such a front */
    bool calm;    /* faults and clients have ended: everything must come to rest */
    enum sim_words words;
    bool only_crashes; /* nothing goes wrong but that control dies: then nobody may fail */
    int fault_percent, crash_permille, addresses;
    enum verb crash_verb; /* control dies upon such calls most often */
    bool moody;           /* some of the following are none, or much more than usual */
    int traits[TRAIT_COUNT];
    int weights[SIM_ACTS], weights_scale; /* of acts */
    bool peace;                           /* seldom something else happens than a client */
    struct kg_heap tasks;
    struct kg_list all_tasks;
    struct fleet *fleet;
    uint64_t fleet_generation;
    bool listed, holding, configuring;
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
    uint64_t looks;        /* of the judges */
    bool dirty;            /* clocks will be saved */
    int64_t kept_ms;       /* the last time that something else than use may have kept instances */
    int64_t front_died_ms; /* a front, last */
    int64_t died_ms;       /* control, last */
    int64_t listed_ms;     /* it learnt what there is */
    int64_t attached_ms;   /* the last time that fronts found their control */
    uint64_t set_up;       /* struct message_hello */
    struct fronts *talk;   /* control's end of the channels */
    uv_loop_t loop;
    struct fake_engine engine;
    struct sim_front *places[SIM_FRONTS]; /* NULL: none now */
    struct kg_list fronts;                /* all, also those that drain */
    uint64_t front_numbers, client_numbers, worker_numbers;
    struct numbered { /* services, as the state directory has them */
        uint32_t id;
        char name[KG_MAX_NAME_BYTES + 1];
    } numbers[SIM_MAX_NUMBERED];
    size_t numbered;
    struct kg_map notes;                    /* instance -> struct note */
    struct kg_map tickets_open[SIM_FRONTS]; /* ticket -> struct ticket */
    struct kg_list tickets_old;             /* the same, oldest first */
    struct saved *saved;                    /* clocks, as the state file would have them */
    size_t saved_count;
    size_t open[SIM_SERVICES];
    int64_t overdue_since_ms[SIM_SERVICES];
    int open_callers;
    struct counts *counts;
    const struct skips *skips; /* acts that are left out */
    uint64_t acts;
};

extern struct world *sim_playing;

/* Plays a world to its rest, or ends the process with what was wrong. Gives how many acts it had.
 */
struct replay;
uint64_t sim_play(const struct replay *r, enum sim_words words, struct counts *counts);
void sim_crash_soon(struct world *w, int64_t most_ms); /* control is killed within that time */

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

/* sim_mood.c */
void mood_begin(struct world *w);
int mood_lot(struct world *w, int usual, int strong); /* one of these, or 0 */
bool sim_often(struct world *w, enum trait trait);

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
void engine_drop_list(struct task *t); /* sim_list.c */

/* sim_hands.c */
void engine_meddle(struct world *w);
void engine_worker_ends(struct world *w);
void engine_meddle_early(struct world *w, const struct container *c);

/* sim_control.c */
void control_begins(struct world *w);
void control_dies(struct world *w);
void control_configure(struct world *w);
void control_save_clocks(struct world *w); /* later, as it is done */
void control_note_end(struct world *w, const char *name);
void control_by_hand(struct world *w);
void reconfigure(struct world *w);
void reconfigure_soon(struct world *w, int service);
void fill_service(struct world *w, int n, bool respec);

/* sim_time.c */
void sim_cancel(struct world *w, struct task *t);

/* sim_front.c */
struct sim_front *front_new(struct world *w, int index);
void front_free(struct world *w, struct sim_front *f);
void front_hears(struct world *w, struct sim_front *f, const void *bytes, size_t n);
void front_send(void *arg, const void *message);
void front_give_up(struct world *w, struct sim_front *f);
void front_breaks(struct world *w, struct sim_front *f); /* all its connections end */
void front_drains(struct world *w, struct sim_front *f);
void client_comes(struct world *w);
/* Where it holds that instance to be; NULL: it does not know of it. */
/* Of instances that serve, at fronts other than this one that answer at once. */
size_t fronts_idle_slots(const struct world *w, int service, const struct sim_front *but);
const struct sockaddr_storage *front_address(const struct sim_front *f, uint64_t instance);
void container_breaks(struct world *w, struct container *c); /* its exchanges end */

/* sim_fronts.c */
void fronts_begin(struct world *w);
void fronts_end(struct world *w);
void front_starts_later(struct world *w, int index, int64_t delay_ms);
void front_dies(struct world *w, struct sim_front *f);
void front_is_killed(struct world *w, int index); /* by control */
void fronts_lose_control(struct world *w);
void fronts_meet_control(struct world *w); /* a new one */
bool fronts_old_live(const struct world *w);
void push_to_front(struct world *w, struct sim_front *f, const void *bytes, size_t n);
void push_to_control(struct world *w, struct sim_front *f, const void *bytes, size_t n);

/* sim_lies.c */
void front_lies(struct world *w);
void front_returns_falsely(struct world *w, struct sim_front *f, const struct message_return *m);
void front_claims_falsely(struct world *w, struct sim_front *f);
void front_hears_falsely(struct world *w, struct sim_front *f, const struct message_head *head);

/* orchestrator/sim_talk.c: control's end of the channels */
void talk_begin(struct world *w);
struct fleet_fronts talk_door(struct world *w);
void talk_up(struct world *w, struct sim_front *f, bool attached);
bool talk_accepts(struct world *w, const struct sim_front *f, const struct message_hello *m);
void talk_down(struct world *w, int index);
bool talk_is_up(const struct world *w, int index);
void talk_hears(struct world *w, struct sim_front *f, const void *bytes, size_t n);
void talk_configure(struct world *w, const struct config *c);
void talk_end(struct world *w);

/* sim_judge.c */
void judge_begin(struct world *w);
struct fleet_observer judge_observer(struct world *w);
void judge_now(struct world *w);  /* after every event */
void judge_rest(struct world *w); /* at the end of the calm */
/* True: the exchange counts, for it is where its instance says: the container by that name. */
bool judge_exchange(struct world *w, struct container *c, const char *name, int service);
bool judge_knows(struct world *w, const struct container *c);                /* is it control's? */
void judge_client(struct world *w, const struct client *c, unsigned reason); /* 0: it broke */
void judge_stop(struct world *w, const struct container *c);
void judge_pause(struct world *w, const char *id);
void judge_create(struct world *w, int service, const char *spec);
void judge_create_asked(struct world *w, const char *name);
void judge_configured(struct world *w); /* a change is carried out */
void judge_asked(struct world *w, int front, uint64_t ticket, int service);
void judge_withdrawn(struct world *w, int front, uint64_t ticket);
void judge_answered(struct world *w, int front, uint64_t ticket);
void judge_granted(struct world *w, int service, uint64_t instance);
void judge_renamed(struct world *w, const struct sockaddr_storage *held, uint64_t instance);
bool judge_serves(const struct world *w, uint64_t instance, int service);
void judge_refused(struct world *w, int front, uint64_t ticket, unsigned reason, int64_t retry_ms);
void judge_no_rest(struct world *w); /* whatever failed may be tried again at once */
void judge_front_down(struct world *w, int front);
void judge_forget(struct world *w); /* control died: a new fleet knows nothing */
void judge_unknown(struct world *w);
void judge_crash(struct world *w); /* it dies now: whose idle clock may begin anew */
void judge_end(struct world *w);
struct container *engine_named(struct world *w, const char *name); /* also a removed one */
struct container *engine_find(struct world *w, const char *id);

#endif
