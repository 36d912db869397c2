/* SPDX-License-Identifier: Apache-2.0 */
/* A worker with its connections. The difficulty: a worker may be gone for the gate while exchanges
 * and connections still hold on to it. */
#ifndef PROXY_UPSTREAM_PRIV_H
#define PROXY_UPSTREAM_PRIV_H

#include "proxy/body_priv.h"
#include "proxy/proxy_priv.h"

#define UPSTREAM_CONNECT_MS 3000
#define UPSTREAM_QUEUE_BYTES (512 * 1024) /* one read's worth of body, its head, trailers */

#define UPSTREAM_STREAMS 100 /* on one session, until its worker has said how many */

struct probe;
struct upstream_session;

struct proxy_worker {
    struct proxy *proxy;
    struct kg_list link; /* proxy.workers */
    uint32_t service;
    bool removed; /* the gate knows it no more */
    size_t refs;  /* the gate's, each slot's, each connection's */
    void *user;
    struct kg_list connections;   /* all */
    struct kg_list idle;          /* of HTTP/1, at rest; the last used first */
    struct kg_list sessions;      /* of HTTP/2; those that take streams, now or once connected */
    struct kg_list idle_sessions; /* the connections of those at rest; the last used first */
    uint32_t most_streams;        /* at once on one session, as the worker last said */
    size_t idle_count;            /* of both */
    uint32_t freezes;             /* how often it was frozen */
    struct probe *probe;
    struct sockaddr_storage address;
};

void worker_ref(struct proxy_worker *w);
void worker_unref(struct proxy_worker *w);
void workers_close(struct proxy *p);

/* --- an exchange's way to its worker ------------------------------------------------------- */

struct upstream;

/* None of these calls the exchange back before it returns. */
struct upstream_kind {
    /* It may say, whatever it was sent, that it did nothing of a request. */
    bool can_refuse;
    /* A piece of the request, the first one with the head, which must not be sent twice. 0; KG_EIO:
     * the worker takes no more, though its answer may still come; KG_ENOMEM, KG_ELIMIT: it cannot
     * be held. After a failure nothing more can be sent. */
    int (*send)(struct upstream *u, const struct body_piece *piece);
    size_t (*pending)(const struct upstream *u); /* bytes that have not left us yet */
    /* The worker has surely done nothing of the request: no byte of it has left us, or it says so.
     */
    bool (*unsent)(const struct upstream *u);
    void (*resume)(struct upstream *u); /* the exchange may have room for more of the answer */
    /* After a 101: what comes is told to tunnel.c from here on. */
    void (*tunnel)(struct upstream *u);
    void (*fin)(struct upstream *u); /* TUNNEL: the client has ended its half */
    /* The response is whole; `whole`: the request has gone out to its end, too. Whoever says so
     * forgets u, and so does after `close`. */
    void (*done)(struct upstream *u, bool whole);
    void (*close)(struct upstream *u);
};

/* What comes back is told by calls of answer.c and tunnel.c. */
struct upstream {
    const struct upstream_kind *kind;
    struct exchange *exchange;
    bool reused; /* its connection has carried an exchange before */
    bool eof;    /* TUNNEL: the worker has ended its half */
};

/* --- connections --------------------------------------------------------------------------- */

/* One connection to a worker. Its wire's kind says who uses it. */
struct upstream_conn {
    struct wire wire;
    struct kg_list link; /* worker.connections */
    struct kg_list idle; /* worker.idle, or worker.idle_sessions */
    struct kg_list rest; /* proxy.idle_upstreams, at the same time */
    uint32_t freezes;    /* of the worker, when it came to rest */
    struct proxy_worker *worker;
    uv_connect_t connect;
    struct kg_timer deadline; /* of the connect; then of being one idle connection too many */
    void (*on_connected)(struct upstream_conn *c, int status);
    void *user;                       /* whoever connects, or the probe */
    struct upstream_session *session; /* of HTTP/2; freed with it */
    bool connecting;
    bool keep_alive; /* the worker's last head allows another exchange */
    /* of HTTP/1 */
    struct upstream up;
    bool head_done;   /* what comes is body */
    bool stray;       /* bytes came behind the response */
    struct kg_buf in; /* of a head that came in pieces */
    struct guard guard;
    struct body body; /* of the response */
};

/* Begins to connect; on_connected is called once, later, unless upstream_conn_close comes first. A
 * status below 0 means that it failed; it must then be closed. NULL: no memory or no descriptor. */
struct upstream_conn *upstream_conn_open(struct proxy_worker *w, int64_t timeout_ms, void *user,
                                         void (*on_connected)(struct upstream_conn *c, int status));
/* An idle connection, the last used one, or NULL. */
struct upstream_conn *upstream_conn_take(struct proxy_worker *w);
/* Back to the pool, or closed if it cannot be used again. Its user forgets it. */
void upstream_conn_give(struct upstream_conn *c);
void upstream_conn_close(struct upstream_conn *c);
/* It is at rest, in its worker's `list`, or no longer (no-op when it was not). */
void upstream_conn_rest(struct upstream_conn *c, struct kg_list *list);
void upstream_conn_wake(struct upstream_conn *c);
/* Whether another one at rest is allowed: `most` of this worker. */
bool upstream_may_rest(const struct proxy_worker *w, size_t most);

/* --- upstream_http1.c ---------------------------------------------------------------------- */
/* A kept connection for ex, or NULL. Unless `repeatable`, one that ended unseen is found out. */
struct upstream *upstream_http1_take(struct proxy_worker *w, struct exchange *ex, bool repeatable);
/* A new one; forward_connected follows, later. NULL: no memory or no descriptor. */
struct upstream *upstream_http1_open(struct proxy_worker *w, struct exchange *ex);

/* --- upstream_http2.c ---------------------------------------------------------------------- */
/* The same with a stream: of a session that has room, or of one that is on its way. */
struct upstream *upstream_http2_take(struct proxy_worker *w, struct exchange *ex, bool repeatable);
struct upstream *upstream_http2_open(struct proxy_worker *w, struct exchange *ex);
/* These two take a connection over that has carried nothing yet. */
void upstream_http2_adopt(struct upstream_conn *c);
/* For a probe: GETs `path`, or ("") waits for the worker's SETTINGS. `told` is called once, later,
 * with the final status (0 for SETTINGS) or -1, and says whether the session is of use. False: it
 * is not, and `told` will not be called. */
bool upstream_http2_ask(struct upstream_conn *c, const char *path,
                        bool (*told)(void *arg, int status), void *arg);
void upstream_http2_unask(struct upstream_conn *c);      /* instead of `told`; of no use */
void upstream_http2_worker_gone(struct proxy_worker *w); /* closes what is at rest */
void upstream_http2_give_up(struct upstream_conn *c);    /* closes one that is */

#endif
