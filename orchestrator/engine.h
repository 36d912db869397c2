/* SPDX-License-Identifier: Apache-2.0 */
/* The engine as the fleet needs it: asynchronous verbs, each answered exactly once, and a stream of
 * hints. Implemented by the real client and by the simulator's. The difficulty: an answer that did
 * not come (KG_ETIMEOUT, KG_ECLOSED) says nothing of what happened; ask by name. */
#ifndef ORCHESTRATOR_ENGINE_H
#define ORCHESTRATOR_ENGINE_H

#include "base/err.h"
#include "orchestrator/config.h"
#include <netinet/in.h>
#include <sys/un.h>

/* Of a container. */
enum engine_state {
    ENGINE_CREATED,
    ENGINE_RUNNING,
    ENGINE_PAUSED,
    ENGINE_RESTARTING,
    ENGINE_REMOVING,
    ENGINE_EXITED,
    ENGINE_DEAD,
    ENGINE_NONE, /* there is no such container */
};

#define ENGINE_ID_BYTES 65
#define ENGINE_NAME_BYTES 128

struct engine_container {
    char id[ENGINE_ID_BYTES];
    char name[ENGINE_NAME_BYTES];                             /* without the leading slash */
    char owner[65], service[KG_MAX_NAME_BYTES + 1], spec[65]; /* our labels; "" when absent */
    char made_of[65], seal[65]; /* likewise; how a container proves that we made it */
    bool sealed; /* its seal is of our key, for this very name; inspected: and what it is made of */
    enum engine_state state;
    int exit_code;
    bool oom_killed;
    char error[200];                 /* State.Error, or the last log lines where asked */
    struct sockaddr_storage address; /* where the worker listens; ss_family 0: unknown */
    socklen_t address_length;
    char sandbox[ENGINE_ID_BYTES]; /* the container whose network it has joined; "": none */
    int port;        /* of an inspected one that has: where it listens there; 0: not known */
    bool is_sandbox; /* its label says that it is there to be joined */
};

struct engine_answer {
    /* 0; KG_ENOTFOUND (404), KG_ECONFLICT (409), KG_EINVAL (400: permanent), KG_EIO (403, 5xx),
     * KG_EAGAIN (start: it cannot have the address it was made for; another one can), KG_ETIMEOUT
     * and KG_ECLOSED (outcome unknown), KG_ELIMIT, KG_EPROTO */
    int code;
    int status;      /* HTTP status; 0: none came */
    bool already;    /* it was so already (304, or gone when it was to go): success (code 0) */
    char words[256]; /* the engine's message, cut; "" when fine */
    struct engine_container container; /* for inspect and create (id) */
    int64_t memory_bytes;              /* for weigh: in use now; -1: not known */
};
typedef void engine_done(void *arg, const struct engine_answer *answer);

/* Hints; all carry a container id. */
enum engine_event_kind {
    ENGINE_EVENT_CREATE,
    ENGINE_EVENT_START,
    ENGINE_EVENT_DIE, /* exit_code */
    ENGINE_EVENT_OOM,
    ENGINE_EVENT_PAUSE,
    ENGINE_EVENT_UNPAUSE,
    ENGINE_EVENT_RENAME,
    ENGINE_EVENT_DISCONNECT, /* from its network */
    ENGINE_EVENT_DESTROY,
};
struct engine_event {
    enum engine_event_kind kind;
    struct engine_container container; /* id, name, labels and exit_code, as the event has them */
};

/* The verbs. Every call returns an operation number > 0 and answers exactly once, later, from the
 * loop; or 0 and never answers (no memory). A deadline is on each. */
struct engine_ops {
    void *self;
    uint64_t (*pull)(void *self, const struct config_service *s, engine_done *done, void *arg);
    /* Is the image there? 0 or KG_ENOTFOUND. */
    uint64_t (*image)(void *self, const struct config_service *s, engine_done *done, void *arg);
    uint64_t (*create)(void *self, const struct config_service *s, const char *name,
                       engine_done *done, void *arg);
    uint64_t (*start)(void *self, const char *id, engine_done *done, void *arg);
    /* By id or name; answers with state and, when running, the worker's address. code 0 with state
     * ENGINE_NONE when there is none. */
    uint64_t (*inspect)(void *self, const struct config_service *s, const char *id_or_name,
                        engine_done *done, void *arg);
    /* TERM, then KILL after the grace (the engine's own stop). 404 and "not running" are success.
     */
    uint64_t (*stop)(void *self, const char *id, int64_t grace_ms, engine_done *done, void *arg);
    uint64_t (*remove)(void *self, const char *id, engine_done *done, void *arg); /* force */
    /* Already so: success, with `already`. KG_ECONFLICT where it does not run. */
    uint64_t (*pause)(void *self, const char *id, engine_done *done, void *arg);
    uint64_t (*unpause)(void *self, const char *id, engine_done *done, void *arg);
    uint64_t (*weigh)(void *self, const char *id, engine_done *done, void *arg);
    /* done is not called after this; what the call did is unknown. */
    void (*cancel)(void *self, uint64_t operation);
};

/* What parked network namespaces need beyond that; the same rules hold. */
struct engine_parking_ops {
    void *self;
    /* Could a worker be reached in another's network? Known only while the engine is up. */
    bool (*usable)(void *self);
    /* Creates a sandbox of that name; its image is made from our own program where it is missing.
     */
    uint64_t (*make)(void *self, const char *name, engine_done *done, void *arg);
    /* Inspects a sandbox; answers with its address and port 0 when it runs. */
    uint64_t (*ask)(void *self, const char *id_or_name, engine_done *done, void *arg);
    /* engine_ops.create, of a worker that joins the sandbox's network. */
    uint64_t (*join)(void *self, const struct config_service *s, const char *name,
                     const char *sandbox_id, engine_done *done, void *arg);
};

/* --- the real client ---------------------------------------------------------------------- */
struct engine;
struct engine_callbacks {
    void *arg;
    /* Up: pinged, version agreed, events subscribed: a list must follow. Down: why. */
    void (*on_state)(void *arg, bool up, const char *why);
    void (*on_event)(void *arg, const struct engine_event *event);
    /* All containers with our owner label, after each (re)connect and every KG_ENGINE_RECONCILE_MS.
     * began_ms: when the question was asked: what changed later is not in it. */
    void (*on_list)(void *arg, const struct engine_container *all, size_t count, int64_t began_ms);
    void (*on_pull_progress)(void *arg, const char *service, const char *words);
};
/* `key`: what containers are sealed with; kept for the engine's life. */
struct engine *engine_open(uv_loop_t *loop, const struct config *c, const char *owner,
                           const char *key, const struct engine_callbacks *callbacks,
                           struct kg_err *err);
void engine_close(struct engine *e, void (*on_closed)(void *arg), void *arg);
const struct engine_ops *engine_ops(struct engine *e);
const struct engine_parking_ops *engine_parking_ops(struct engine *e);
/* Which groups there are: before the first and at each change. Keeps nothing of it. */
void engine_configure(struct engine *e, const struct config *c);
void engine_list_now(struct engine *e);
void engine_list_soon(struct engine *e); /* in a second: the last one could not be taken in */
bool engine_is_up(const struct engine *e);
const char *engine_down_why(const struct engine *e);
const char *engine_reach_name(const struct engine *e); /* "address", "network", "published" */
uint32_t engine_settle_ms(const struct engine *e);     /* for proxy_health: > 0 when published */
/* Per verb, for metrics: histogram of call times. Fills *name; NULL past the end. */
const struct kg_histogram *engine_call_times(const struct engine *e, size_t index, const char **op);

#endif
