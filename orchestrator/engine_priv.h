/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine client's files share. The difficulty: a verb's caller may go before its answer.
 */
#ifndef ORCHESTRATOR_ENGINE_PRIV_H
#define ORCHESTRATOR_ENGINE_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "orchestrator/engine.h"
#include "orchestrator/json.h"
#include "orchestrator/transport.h"

enum engine_verb {
    ENGINE_PING,
    ENGINE_LIST,
    ENGINE_IMAGE,
    ENGINE_PULL,
    ENGINE_CREATE,
    ENGINE_START,
    ENGINE_INSPECT,
    ENGINE_STOP,
    ENGINE_KILL,
    ENGINE_REMOVE,
    ENGINE_VERBS,
};

enum engine_reach {
    ENGINE_REACH_UNKNOWN,
    ENGINE_REACH_ADDRESS,
    ENGINE_REACH_NETWORK,
    ENGINE_REACH_PUBLISHED
};

/* What is needed of a service after the call returned. */
struct engine_about {
    char service[KG_MAX_NAME_BYTES + 1];
    char name[ENGINE_NAME_BYTES]; /* the container's, or the id asked for */
    char socket_file[96];         /* last component of `socket`; "" = a TCP worker */
    int port;                     /* 0: the single exposed one */
};

struct engine_op {
    struct kg_list link;
    struct engine *engine;
    enum engine_verb verb;
    uint64_t number, call; /* ours, the transport's (0: answered from the loop's next turn) */
    int64_t began_us;
    engine_done *done;
    void *arg;
    struct engine_about about;
    char *body;          /* of a create that waits for the image's port */
    struct json *create; /* likewise */
    struct kg_buf line;  /* of a pull's progress */
    char error[256];     /* told within a pull's stream */
    int64_t told_ms;     /* last progress */
};

enum engine_stage {
    ENGINE_PINGING,
    ENGINE_REACHING,
    ENGINE_SUBSCRIBING,
    ENGINE_UP,
    ENGINE_WAITING
};

struct engine {
    uv_loop_t *loop;
    struct transport *transport;
    struct engine_ops ops;
    struct engine_callbacks callbacks;
    char owner[65];
    char sockets_dir[288];
    char
        host[256]; /* of a tcp:// engine: where published ports are reached; "" for a Unix socket */
    char *docker_config; /* path of config.json, or NULL */
    enum engine_stage stage;
    bool told_up, closing;
    char why[256];
    int api_minor;
    bool init_works;
    uv_timer_t retry, reconcile, ping, late;
    int64_t retry_ms;
    uint64_t events_call, stage_call, list_call;
    int64_t list_began_ms;
    struct kg_buf event_line;
    bool event_skipping; /* the rest of a line that is too long */
    enum engine_reach reach;
    char network[128];                 /* that workers join */
    struct kg_list ops_open, ops_late; /* late: fail without a call */
    uint64_t numbers;
    struct kg_histogram times[ENGINE_VERBS];
    int open_handles;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

/* engine.c */
/* GET/POST/... with "/v1.NN" before the path; 0: no memory. */
uint64_t engine_call(struct engine *e, const char *method, const char *path, const char *body,
                     int64_t timeout_ms, transport_done *done, void *arg);
void engine_lost(struct engine *e, const char *why); /* down: tell, and try again */
/* Fills code, status and words of an engine's answer (container untouched). */
void engine_judge(const struct transport_answer *from, struct engine_answer *to);
void engine_op_answer(struct engine_op *op, struct engine_answer *answer); /* tells and frees */
void engine_reached(struct engine *e); /* the reach is known: go on to subscribe */

/* engine_create.c */
struct json *engine_create_body(const struct engine *e, const struct config_service *s,
                                const char *name);
void engine_create_set_port(const struct engine *e, struct json *body, int port);
/* From GET /containers/ID/json. False: not what it should be. */
bool engine_parse_inspect(const struct engine *e, const struct json *n,
                          const struct engine_about *about, struct engine_container *out);
/* From one member of GET /containers/json. */
bool engine_parse_listed(const struct json *n, struct engine_container *out);
int engine_single_port(const struct json *exposed, size_t *count); /* of Config.ExposedPorts */
/* The directory on the host that holds a `socket` worker's socket; made when `make`. */
bool engine_socket_dir(const struct engine *e, const char *name, bool make, char *out, size_t cap);
void engine_sweep_sockets(const struct engine *e, const struct engine_container *all, size_t n);

/* engine_stream.c */
bool engine_subscribe(struct engine *e);
bool engine_pull_start(struct engine_op *op, const struct config_service *s);

/* engine_reach.c: finds how workers are reached, then engine_reached or engine_lost. */
void engine_reach_begin(struct engine *e);

#endif
