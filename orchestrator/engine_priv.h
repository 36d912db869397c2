/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the engine client among themselves: link (engine.c), verbs, reach, pulls, events,
 * and what is pure: bodies and parsing. The difficulty: any of them may find the engine gone. */
#ifndef ORCHESTRATOR_ENGINE_PRIV_H
#define ORCHESTRATOR_ENGINE_PRIV_H

#include "base/list.h"
#include "base/map.h"
#include "base/metrics.h"
#include "orchestrator/engine.h"
#include "orchestrator/json.h"
#include "orchestrator/transport.h"
#include <limits.h>

#define LABEL_OWNER "io.kipgate.owner"
#define LABEL_SERVICE "io.kipgate.service"
#define LABEL_SPEC "io.kipgate.spec"
#define LABEL_SANDBOX "io.kipgate.sandbox"
#define LABEL_MADE_OF "io.kipgate.made-of"
#define LABEL_SEAL "io.kipgate.seal"
#define LABEL_TERSE_SEAL "io.kipgate.terse-seal"
#define LABEL_ADDRESSES "io.kipgate.addresses" /* of a network: who chooses those on it */
#define ADDRESSES_OURS "chosen"
#define LABEL_PREFIX "io.kipgate."

#define ENGINE_PING_EVERY_MS 2000
#define ENGINE_PING_TIMEOUT_MS 3000 /* at first: a hanging engine is seen after at most both */
#define ENGINE_MOST_ODD 5           /* answers that say nothing: asked for again */
#define ENGINE_RETRY_FIRST_MS 50    /* between pings while it is down: doubled, up to */
#define ENGINE_RETRY_LAST_MS 500
#define ENGINE_SETTLE_MS 50 /* published: the engine's proxy accepts before the worker does */
#define ENGINE_MAX_LINE_BYTES (64 * 1024) /* of a stream */
#define ENGINE_MAX_REFERENCE_BYTES 512    /* of an image */
#define ENGINE_PROGRESS_EVERY_MS 500

/* --- parsing (engine_parse.c): pure, and fed by strangers --------------------------------- */

enum engine_reach { REACH_UNKNOWN, REACH_ADDRESS, REACH_NETWORK, REACH_PUBLISHED };

/* Of a call: for its metric and for what its status means. */
enum engine_kind {
    KIND_PING,
    KIND_LIST,
    KIND_CREATE,
    KIND_START,
    KIND_INSPECT,
    KIND_STOP,
    KIND_REMOVE,
    KIND_PULL,
    KIND_IMAGE,
    KIND_PAUSE,
    KIND_UNPAUSE,
    KIND_WEIGH,
    KIND_PARK, /* create of a sandbox */
    KINDS
};

/* How an instance's address is read from an inspect. */
struct engine_where {
    enum engine_reach reach;
    const char *network;      /* preferred among those it is on */
    const char *published_ip; /* where published ports answer */
    int port;                 /* 0: the container's single exposed one */
    const char *socket_path;  /* NULL: a port */
};

enum engine_state engine_parse_state(const char *status);
void engine_parse_inspect(const struct json *n, struct engine_container *c);
void engine_parse_listed(const struct json *n, struct engine_container *c);
/* Leaves the address unknown when the answer has none. */
void engine_parse_address(const struct json *inspect, const struct engine_where *where,
                          struct engine_container *c);
/* False: not one of ours or of no interest. *time_ns: when, by the engine's clock; 0 unknown. */
bool engine_parse_event(const struct json *n, const char *owner, struct engine_event *event,
                        int64_t *time_ns);
/* The one TCP port of an ExposedPorts object; 0 and *count (of TCP ports) when it is not one. */
int engine_parse_port(const struct json *exposed, size_t *count);
/* Memory in use of a container's statistics, less what is only cache; -1: they do not say. */
int64_t engine_parse_memory(const struct json *stats);
/* A message for people, from a peer: cut, on one line, no controls. */
void engine_clean_words(char *out, size_t cap, struct kg_str text);
/* The engine's {"message"}, or what came instead. */
void engine_parse_message(struct kg_str body, char *out, size_t cap);
/* What an answer means for that kind of call: code, status, already, words. */
void engine_judge(enum engine_kind kind, const struct transport_answer *from,
                  struct engine_answer *to);
bool engine_network_is_missing(const struct engine_answer *a);
bool engine_valid_id(const char *id_or_name);

/* Of a sandbox that runs: its address, with port 0. */
void engine_parse_ip(const struct json *inspect, const char *network, struct engine_container *c);

/* Lines out of bytes that come split anywhere; a line that is too long is passed over. */
struct engine_lines {
    struct kg_buf line;
    bool skipping;
};
typedef void engine_line(void *arg, struct kg_str line);
void engine_lines_feed(struct engine_lines *l, struct kg_str bytes, engine_line *each, void *arg);

/* An image reference, taken apart as the reference grammar has it. */
struct engine_reference {
    char host[256]; /* of the registry; "docker.io" when not named */
    char repository[ENGINE_MAX_REFERENCE_BYTES + 1]; /* with its host, as written */
    char tag[256];                                   /* or "sha256:..."; "latest" when not named */
};
int engine_parse_reference(const char *image, struct engine_reference *r);

/* --- a container's body (engine_create.c): pure ------------------------------------------- */

/* --- addresses (engine_addresses.c): pure ------------------------------------------------- */

struct engine_range {
    char subnet[INET_ADDRSTRLEN + 3], gateway[INET_ADDRSTRLEN]; /* as the engine writes them */
    uint32_t first, count; /* host order; count 0: the engine chooses */
    uint32_t taken;        /* the gateway's */
    uint32_t next;         /* whose turn it is */
};
/* Reads the range of an inspected network; one that is as before goes on where it was. False: the
 * engine says none that addresses could be chosen from. */
bool engine_range_read(struct engine_range *r, const struct json *network);
/* The next address's text; false: the engine chooses. */
bool engine_range_next(struct engine_range *r, char out[INET_ADDRSTRLEN]);

struct engine_ground { /* what the engine and the way to it make of a container */
    const char *owner, *key;
    enum engine_reach reach;
    const char *network;      /* "": the engine's default */
    const char *address;      /* that it is given there; "": the engine chooses */
    const char *published_ip; /* where a published port is bound */
    bool init;                /* the engine has an init to put before the worker */
    bool json_file;           /* its log driver takes size caps */
    const char *socket_dir;   /* directory on the engine's host that holds the worker's socket */
    const char *sandbox;      /* id of the container whose network it joins; NULL: its own */
};
struct engine_body { /* half built: the port may have to be asked for first */
    struct json *root, *host, *env, *labels;
    bool has_port; /* the user's env sets PORT */
};
int engine_body_begin(struct engine_body *b, const struct config_service *s,
                      const struct engine_ground *g, struct kg_err *err);
/* Seals it as `name`. port 0: none (a socket). Appends the JSON to out, frees what b holds. 0 or
 * KG_ENOMEM. */
int engine_body_finish(struct engine_body *b, const char *name, int port,
                       const struct engine_ground *g, struct kg_buf *out);
void engine_body_fini(struct engine_body *b);
/* A sandbox's whole body, appended to out. 0 or KG_ENOMEM. */
int engine_body_sandbox(const char *name, const char *image, const char *hostname,
                        const struct engine_ground *g, struct kg_buf *out);

/* --- what makes it ours (engine_seal.c): pure --------------------------------------------- */

/* Adds what proves later that a container of these labels, name, image and HostConfig is ours. 0
 * or KG_ENOMEM. */
int engine_seal_labels(struct json *labels, const char *name, const char *image,
                       const struct json *host, const struct engine_ground *g);
/* Sets c->sealed by its name and labels alone... */
void engine_seal_check(const char *key, struct engine_container *c);
/* ... and takes it back where what was inspected is made of something else. 0, or KG_ENOMEM: that
 * is not known. */
int engine_seal_compare(const char *key, const struct json *inspect, struct engine_container *c);

/* --- the client --------------------------------------------------------------------------- */

enum engine_link { LINK_PING, LINK_INFO, LINK_REACH, LINK_SUBSCRIBE, LINK_UP };

struct engine_network; /* one that we make */
/* `found`: as it was inspected; NULL: `failure` says why nothing is known, or (NULL too) it is to
 * be done without. */
typedef void engine_network_end(struct engine_network *net, const struct json *found,
                                const struct engine_answer *failure);
struct engine_network {
    struct engine *engine;
    char name[ENGINE_NAME_BYTES];
    bool walled, running;
    bool ours;     /* of a group: it was seen to be */
    unsigned made; /* how often we tried to make it in this search */
    unsigned odd;  /* answers that said nothing, since it was found */
    uint64_t call;
    uint64_t round;            /* of a group: how many searches there were */
    struct engine_range range; /* where we choose addresses */
    engine_network_end *on_end;
};

struct reach {
    enum engine_reach kind;
    bool running;
    uint64_t call;
    char own_id[ENGINE_ID_BYTES]; /* of the container we run in, as we believe; "" none */
    char network[ENGINE_NAME_BYTES];
    char published_ip[64]; /* address of the engine's host as workers are reached there */
    char sockets[256];     /* our directory of sockets as the engine's host names it; "" none */
    char sockets_real[PATH_MAX];
    uv_getaddrinfo_t resolve;
    bool resolving; /* uv has `resolve`: a close waits for it */
};

struct op { /* one verb under way: one call, or a few in a row */
    struct kg_list link;
    struct engine *engine;
    enum engine_kind kind;
    uint64_t number, call; /* call 0: none under way */
    int64_t began_us, due_ms;
    engine_done *done;
    void *arg;
    struct engine_answer answer;
    char name[ENGINE_NAME_BYTES]; /* id or name of the container */
    char service[KG_MAX_NAME_BYTES + 1];
    char *image, *text, *socket; /* text: the body of a create */
    struct engine_body body;
    int port;
    char sandbox[ENGINE_ID_BYTES]; /* create: whose network is joined; "": a network of its own */
    bool known;                    /* inspect: the service is, so an address is wanted */
    bool asks_sandbox, imported;
    bool repaired, waits_for_network, asks_port;
    char network[ENGINE_NAME_BYTES];  /* its group's; "": that of all */
    struct engine_network *waits_for; /* that one's search, of that round */
    uint64_t round;
    void (*on_network)(struct op *op); /* goes on then */
    struct pull *pull;
};

struct engine {
    uv_loop_t *loop;
    struct transport *transport;
    struct engine_callbacks callbacks;
    struct engine_ops ops;
    struct engine_parking_ops parking;
    char owner[65], key[65];
    char host[256]; /* of a tcp:// engine; "" for a Unix socket */
    char sockets[256];
    struct reach reach;
    struct engine_network common; /* of all, where that is our own */

    enum engine_link link;
    bool opened, closing; /* opened: facts about the engine are known since a first connection */
    bool has_init, json_file;
    unsigned api_minor;
    unsigned odd;  /* see engine_is_odd */
    char why[256]; /* it is down */
    int64_t retry_ms, ping_timeout_ms;
    uint64_t ping, info, stream, list;
    int64_t ping_began_us, list_began_ms, list_began_us, since_ns;
    bool list_again;
    struct engine_lines events;
    uv_timer_t beat, relist, soon;
    int open_handles;

    uint64_t numbers;
    struct kg_list running, finished; /* ops */
    struct kg_list pulls, watches;
    struct kg_map groups;       /* groups' networks that are known, by name */
    struct kg_map wanted, used; /* names of such: configured; in the last list */
    uint64_t removal;           /* of one of them: its call */
    char removing[ENGINE_NAME_BYTES];
    bool blind; /* the list of what is used is not whole */
    unsigned leaving;
    void (*on_networks_left)(struct engine *e);
    struct kg_histogram times[KINDS];
    void (*on_closed)(void *arg);
    void *closed_arg;
};

struct engine_request {
    const char *method;
    const char *path; /* without the version */
    const char *body, *header;
    struct kg_str tar; /* instead of a body */
    int64_t timeout_ms;
    bool own_connection, slow;
    transport_begun *on_begun;
    transport_data *on_data;
    transport_done *on_done;
    void *arg;
};
uint64_t engine_send(struct engine *e, const struct engine_request *r);
/* The usual one: gathered, within the usual time. */
uint64_t engine_ask(struct engine *e, const char *method, const char *path, const char *body,
                    transport_done *on_done, void *arg);
/* The connection is gone or was never there: down, told at once, tried again. */
void engine_lost(struct engine *e, const char *why);
/* An answer (read as n; NULL: it could not be) that says nothing of what is then taken to hold for
 * the whole run: to be asked for again, but so often only. */
bool engine_is_odd(struct engine *e, const struct transport_answer *a, const struct json *n);
struct json *engine_json(struct kg_str body); /* NULL: not JSON, too large or too deep */
void engine_ground(const struct engine *e, struct engine_ground *g);
/* The same for one with a network of its own; `address` holds what is chosen for it. */
void engine_ground_alone(struct engine *e, struct engine_ground *g, char address[INET_ADDRSTRLEN]);
void engine_took(struct engine *e, enum engine_kind kind, int64_t began_us);
/* Adds our owner label to `filter` (freed) and appends it, encoded, to a path. */
void engine_put_owner_filter(const struct engine *e, struct json *filter, struct kg_buf *path);
void engine_put_list_path(const struct engine *e, struct kg_buf *path); /* of all that is ours */
void engine_let_go(struct engine *e); /* one of what a close waits for has ended */

/* verbs (engine_verbs.c) */
void engine_verbs_init(struct engine *e);
void engine_verbs_close(struct engine *e);
struct op *engine_op_new(struct engine *e, enum engine_kind kind, engine_done *done, void *arg,
                         int64_t timeout_ms);
uint64_t engine_op_fail(struct op *op, int code, const char *words); /* answers later; its number */
void engine_op_end(struct op *op);                                   /* answers now and frees */
void engine_op_free(struct op *op);
void engine_network_settled(struct engine *e, bool found);
void engine_on_soon(uv_timer_t *timer);

/* Ends it, later, where it cannot even be tried: its number; 0: it can be. */
uint64_t engine_op_refuse(struct op *op, const char *id);
/* The next call of it, within what is left of its time. Fills r's timeout and arg. */
void engine_op_send(struct op *op, struct engine_request *r);
void engine_op_create(struct op *op);  /* creates op->text as op->name */
void engine_op_inspect(struct op *op); /* inspects op->name */
/* A create that joins `sandbox` ("": a network of its own). */
uint64_t engine_create(struct engine *e, const struct config_service *s, const char *name,
                       const char *sandbox, engine_done *done, void *arg);
/* The sandboxes' image is to be made first; then the create is repeated. */
bool engine_import(struct op *op);

/* sandboxes (engine_parking.c) */
void engine_parking_init(struct engine *e);
void engine_parking_archive(struct kg_buf *out); /* the image, as the engine imports it */

/* networks (engine_networks.c) */
/* What an owner's network is called; group "": the one of all, where nobody reaches another. */
void engine_network_name(const char *owner, const char *group, char *out, size_t cap);
/* The group's network that is named within these words. False: none of that owner's. */
bool engine_network_in(const char *owner, const char *words, char *out, size_t cap);
bool engine_network_is_ours(const char *owner, const struct json *inspected);
/* walled: made without traffic between its containers. */
void engine_network_init(struct engine_network *net, struct engine *e, const char *name,
                         bool walled, engine_network_end *on_end);
/* Finds or makes it, and calls on_end, once however often it is asked meanwhile. */
void engine_network_find(struct engine_network *net);
void engine_network_stop(struct engine_network *net); /* on_end is not called */

/* networks of groups (engine_groups.c) */
/* Finds or makes op->network, then calls on_network, with an empty op->network where it cannot be;
 * or fails the operation. */
void engine_group_settle(struct op *op, void (*on_network)(struct op *op));
/* The ground of a worker on op->network; `address` holds what is chosen for it. */
void engine_group_ground(const struct op *op, struct engine_ground *g,
                         char address[INET_ADDRSTRLEN]);
/* Around each list of all containers: those networks that no service wants any more and nothing is
 * on are removed after it. */
void engine_groups_list_begin(struct engine *e);
void engine_groups_list_add(struct engine *e, const struct json *listed);
void engine_groups_list_end(struct engine *e);
void engine_groups_review(struct engine *e); /* one may be free now: lists soon, if so */
void engine_groups_init(struct engine *e);
void engine_groups_lost(struct engine *e, const char *why); /* ends what is under way */
/* All networks of ours go with us, but for those that a container of ours is on, running or not.
 * False: there is nothing to wait for. */
bool engine_networks_leave(struct engine *e, void (*on_networks_left)(struct engine *e));
void engine_groups_fini(struct engine *e);

/* events (engine_events.c) */
void engine_subscribe(struct engine *e);
void engine_subscribed(struct engine *e, int status);

/* pulls (engine_pull.c) */
uint64_t engine_pull(void *self, const struct config_service *s, engine_done *done, void *arg);
void engine_pull_leave(struct op *op);

/* reach (engine_reach.c) */
void engine_reach_init(struct engine *e);
/* Finds out how workers are reached; makes our network where one is needed. Ends in engine_reached.
 */
void engine_reach_start(struct engine *e);
void engine_reach_stop(struct engine *e);
/* To be found out again when the engine comes back. */
bool engine_reach_may_move(const struct engine *e);
bool engine_network_is_own(const struct engine *e); /* made by us, for our workers */
void engine_reached(struct engine *e, bool found, const char *why);
/* Where a worker's socket appears for us, below state_dir/sockets. False: no room in an address. */
bool engine_socket_path(const struct engine *e, const char *container, const char *socket,
                        char *out, size_t cap);
/* The same of a container that may have another name by now. */
bool engine_socket_place(const struct engine *e, const struct engine_container *c,
                         const char *socket, char *out, size_t cap);
/* Makes the directory for it; `there`: its name on the engine's host, to be bound into the worker.
 */
int engine_socket_make(struct engine *e, const char *container, const char *socket, char *there,
                       size_t cap, struct kg_err *err);
/* Lets the front use the worker's socket, now and whenever it is made (again). */
void engine_socket_watch(struct engine *e, const char *container, const char *id,
                         const char *socket);
/* Before the container is started, perhaps again: takes away the socket that a former life of it
 * left, for many servers cannot listen where one is. One that somebody listens on stays. */
void engine_socket_clear(const struct engine *e, const char *id);
void engine_sockets_close(struct engine *e);
/* Removes directories of containers that are no more. */
void engine_sockets_sweep(struct engine *e, const struct engine_container *all, size_t count);

/* sockets of workers (engine_sockets.c): those above; registry credentials (engine_auth.c): */
/* Appends the header line for `host` from DOCKER_CONFIG, or nothing. */
void engine_auth_header(const char *host, struct kg_buf *out);
/* The pure part: the header's value from a config.json. False: it has none for that host. */
bool engine_auth_find(const struct json *config, const char *host, struct kg_buf *out);

#endif
