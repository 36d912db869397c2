/* SPDX-License-Identifier: Apache-2.0 */
/* The data plane as its process sees it: open it on a loop, tell it services, routes and workers,
 * close it. The difficulty: services change while exchanges that began under the old ones go on. */
#ifndef PROXY_PROXY_H
#define PROXY_PROXY_H

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"
#include "proxy/gate.h"
#include "proxy/stats.h"
#include <uv.h>

struct proxy;

/* Of struct proxy_params.protocols. */
enum proxy_protocol {
    PROXY_H2 = 1,     /* chosen by ALPN */
    PROXY_HTTP11 = 2, /* alike, and on all other connections */
    PROXY_H2C = 4,    /* by prior knowledge, where there is no TLS */
};

struct proxy_listener {
    int fd;           /* a listening socket, taken over */
    bool local;       /* requests go to `local_request`, never to a worker: the admin listener */
    bool unix_socket; /* the peer has no address */
    bool secure;      /* clients speak TLS; they wait until proxy_tls_set */
};

/* A request on a local listener, whole. Answered by proxy_local_reply with the same id. */
struct proxy_local_request {
    uint64_t id;
    struct kg_str method, path, query, body; /* valid during the call; raw bytes */
};

struct proxy_params {
    uv_loop_t *loop;
    struct proxy_gate gate;
    const struct proxy_listener *listeners;
    size_t listener_count;
    unsigned protocols;                /* enum proxy_protocol: what clients may speak */
    size_t max_connections;            /* clients; the caller kept the reserve of descriptors */
    size_t max_connections_per_client; /* per address; 0 = no cap */
    int access_log_fd;                 /* -1: off. JSON lines. Taken over */
    struct proxy_stats *stats;         /* the shared page this front writes */
    void *local_arg;
    void (*local_request)(void *arg, const struct proxy_local_request *r);
    void (*local_gone)(void *arg, uint64_t id); /* its client hung up before the last reply */
};

/* Starts listening. NULL with *err filled. */
struct proxy *proxy_open(const struct proxy_params *params, struct kg_err *err);
/* Stops accepting, answers new requests on kept connections with `Connection: close`, closes idle
 * ones; on_drained (once) when no exchange is left. Waiting requests are still served. */
void proxy_drain(struct proxy *p, void (*on_drained)(void *arg), void *arg);
/* Also the local listeners: whoever answered there is gone. */
void proxy_stop_local(struct proxy *p);
/* Whoever answered there is gone, and another one comes: breaks what it had begun to answer; of
 * what it had not `unanswered` is told, which may reply. */
void proxy_drop_local(struct proxy *p, void (*unanswered)(void *arg, uint64_t id), void *arg);
/* Breaks what is left, closes all handles, then calls on_closed. Asynchronous. */
void proxy_close(struct proxy *p, void (*on_closed)(void *arg), void *arg);

/* --- services and routes: a generation at a time --- */
struct proxy_quiet { /* empty pattern: any */
    char path[KG_MAX_PATTERN_BYTES + 1], method[16], user_agent[KG_MAX_PATTERN_BYTES + 1];
};
struct proxy_service {
    uint32_t id; /* stays the same over generations; < KG_MAX_SERVICES */
    char name[KG_MAX_NAME_BYTES + 1];
    bool strip_prefix;
    bool h2c;                   /* the worker speaks HTTP/2 by prior knowledge */
    int64_t request_timeout_ms; /* 0: none */
    int64_t max_body_bytes;     /* -1: none */
    int quiet_status;
    unsigned quiet_count;
    struct proxy_quiet quiet[KG_MAX_QUIET];
};
/* begin, then services and routes, then commit: from then on new requests see only the new ones.
 * `host` may be "" (any), "a.b" or "*.b"; `prefix` begins with '/'. 0, KG_ENOMEM, KG_ELIMIT,
 * KG_ECONFLICT (two equal routes). Exchanges under way keep what they began with. */
int proxy_config_begin(struct proxy *p);
int proxy_config_service(struct proxy *p, const struct proxy_service *s);
int proxy_config_route(struct proxy *p, struct kg_str host, struct kg_str prefix, uint32_t service);
int proxy_config_commit(struct proxy *p);
const char *proxy_service_name(const struct proxy *p, uint32_t service); /* "?" when unknown */

/* --- workers: told by whoever implements the gate --- */
struct proxy_health { /* path "" = a TCP connect is enough */
    char path[KG_MAX_HEALTH_PATH_BYTES + 1];
    uint16_t status_min, status_max;
    uint32_t settle_ms; /* stays open so long: a forwarder may accept for the worker */
};
/* `address` is TCP or Unix. NULL: no memory. */
struct proxy_worker *proxy_worker_add(struct proxy *p, uint32_t service,
                                      const struct sockaddr *address, socklen_t length);
/* Tries until it gets through (at once, then 0.5, 1, 2, 4, 5 ms ... widening to 50 ms after 1 s);
 * then gate.probed. Ends with proxy_worker_remove or _probe_stop. 0 or KG_ENOMEM. */
int proxy_worker_probe(struct proxy_worker *w, const struct proxy_health *health);
void proxy_worker_probe_stop(struct proxy_worker *w);
/* The worker is gone: its idle connections are closed, exchanges open on it end as their
 * connections break. The pointer is dead for the caller after this; slots still out are not
 * released through the gate again. */
void proxy_worker_remove(struct proxy_worker *w);
/* It was frozen, and may find when it runs again that it kept its idle connections long enough.
 * What cannot be repeated is sent on none of these. */
void proxy_worker_was_frozen(struct proxy_worker *w);
void proxy_worker_set_user(struct proxy_worker *w, void *user); /* the gate's own pointer */
void *proxy_worker_user(const struct proxy_worker *w);

/* --- local replies --- */
/* One piece of an answer: the first one is its head, too. The body is copied. */
struct proxy_local_answer {
    int status;             /* 0: 200 */
    const char *type;       /* of the body; NULL or "": none */
    const char *allow;      /* the methods that there are, with a 405; NULL or "": not said */
    int64_t retry_after_ms; /* with a 429 or 503 */
    struct kg_str body;
    bool last; /* else more comes, as chunks */
};
/* 0; KG_ENOTFOUND: that client is gone; KG_ELIMIT: it does not read, and was cut off. */
int proxy_local_reply(struct proxy *p, uint64_t id, const struct proxy_local_answer *a);

size_t proxy_connections(const struct proxy *p);

#endif
