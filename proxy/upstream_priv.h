/* SPDX-License-Identifier: Apache-2.0 */
/* A worker with its connections. The difficulty: a worker may be gone for the gate while exchanges
 * and connections still hold on to it. */
#ifndef PROXY_UPSTREAM_PRIV_H
#define PROXY_UPSTREAM_PRIV_H

#include "proxy/body_priv.h"
#include "proxy/proxy_priv.h"

#define UPSTREAM_CONNECT_MS 3000
#define UPSTREAM_QUEUE_BYTES (512 * 1024) /* one read's worth of body, its head, trailers */

struct probe;

struct proxy_worker {
    struct proxy *proxy;
    struct kg_list link; /* proxy.workers */
    uint64_t id;
    uint32_t service;
    bool removed; /* the gate knows it no more */
    size_t refs;  /* the gate's, each slot's, each connection's */
    void *user;
    struct kg_list connections; /* all */
    struct kg_list idle;        /* of them; the last used first */
    size_t idle_count;
    struct probe *probe;
    struct sockaddr_storage address;
};

void worker_ref(struct proxy_worker *w);
void worker_unref(struct proxy_worker *w);
void workers_close(struct proxy *p);

/* One connection to a worker. Its wire's kind says who uses it. */
struct upstream {
    struct wire wire;
    struct kg_list link; /* worker.connections */
    struct kg_list idle; /* worker.idle */
    struct proxy_worker *worker;
    uv_connect_t connect;
    struct kg_timer deadline; /* of the connect; afterwards the user's */
    void (*on_connected)(struct upstream *u, int status);
    void *user; /* the exchange or the probe */
    bool connecting;
    bool reused;      /* it has carried an exchange before */
    bool keep_alive;  /* the worker's last head allows another one */
    struct kg_buf in; /* of a head that came in pieces */
    struct guard guard;
    struct body body; /* of the response */
};

/* Begins to connect; on_connected is called once, later, unless upstream_close comes first. A
 * status below 0 means that it failed; it must then be closed. NULL: no memory or no descriptor. */
struct upstream *upstream_connect(struct proxy_worker *w, int64_t timeout_ms, void *user,
                                  void (*on_connected)(struct upstream *u, int status));
/* An idle connection, the last used one, or NULL. */
struct upstream *upstream_take(struct proxy_worker *w);
/* Back to the pool, or closed if it cannot be used again. Its user forgets it. */
void upstream_give(struct upstream *u);
void upstream_close(struct upstream *u);

#endif
