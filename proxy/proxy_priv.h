/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy's own state, shared by the files of this room.
 * The difficulty: it may only be freed when the last of its handles is closed. */
#ifndef PROXY_PROXY_PRIV_H
#define PROXY_PROXY_PRIV_H

#include "base/arena.h"
#include "base/map.h"
#include "base/wheel.h"
#include "proxy/proxy.h"

struct client;
struct exchange;
struct generation;
struct http1_head;
struct route_match;
struct tls_server;

struct listener {
    uv_poll_t poll;
    struct proxy *proxy;
    int fd;
    bool local, unix_socket, secure, open;
};

struct access_log {
    int fd; /* -1: off */
    uv_prepare_t flush;
    struct kg_timer again; /* runs while there are lines that were not taken */
    struct kg_buf lines;
    bool torn; /* what was written last is the begin of a line that is lost */
};

struct http2_assembly;
struct http2_turns {
    uv_prepare_t prepare; /* runs while `dirty` is not empty */
    struct kg_list dirty; /* sessions with something to send or to tell */
    struct http2_assembly *spare;
};

struct proxy {
    uv_loop_t *loop;
    struct proxy_params params; /* `listeners` in it is not kept */
    struct proxy_gate gate;
    struct proxy_stats *stats;

    struct generation *current, *next; /* services and routes */
    struct listener listeners[KG_MAX_LISTEN + 1];
    size_t listener_count;
    uv_timer_t accept_again; /* after descriptors ran out */
    struct tls_server *tls;  /* NULL: no listener speaks TLS */

    struct kg_wheel wheel;
    struct kg_arena_pool arenas;
    uv_timer_t soon_timer;
    struct kg_list soon; /* exchanges that were answered by the gate */
    struct access_log log;
    struct http2_turns http2;

    struct kg_list clients, workers, locals;
    struct kg_list idle_upstreams; /* of all workers; the longest at rest first */
    size_t upstreams;              /* connections to workers, whatever they are for */
    struct kg_map per_client;      /* address -> count, as a pointer's value; empty without a cap */
    size_t connections, local_connections;
    size_t exchanges, waiting;
    uint64_t last_local_id;

    int64_t wall_ms, wall_at_ms; /* the wall clock, and uv_now when it was read */
    bool draining, closing;
    size_t handles; /* open or closing */
    void (*on_drained)(void *arg);
    void *drained_arg;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

static inline int64_t proxy_now(const struct proxy *p)
{
    return (int64_t)uv_now(p->loop);
}
int64_t proxy_wall_ms(struct proxy *p); /* read from the system twice a second at most */
/* Has what the gate answered, and a drain that may be complete, looked at from the loop. */
void proxy_soon(struct proxy *p);
void proxy_handle_closed(struct proxy *p); /* one of `handles` is gone */

/* --- accept.c ------------------------------------------------------------------------------ */
int listener_open(struct listener *l, struct proxy *p, const struct proxy_listener *what,
                  struct kg_err *err);
void listener_close(struct listener *l);          /* no-op when closed */
void listeners_resume(uv_timer_t *t);             /* the accept_again timer */
struct kg_str accept_overloaded(struct proxy *p); /* a whole 503, counted; good until the next */
/* A client of that address is gone. */
void accept_forget(struct proxy *p, struct kg_str address_key);

/* --- generation.c -------------------------------------------------------------------------- */
struct generation *generation_ref(struct generation *c);
void generation_unref(struct generation *c); /* frees the last; NULL is fine */
/* The service a request is for, or NULL. The row lives as long as a reference to c. */
const struct proxy_service *generation_find(const struct generation *c, const struct http1_head *h,
                                            struct route_match *match);
/* NULL: there is none with this id. */
const struct proxy_service *generation_service(const struct generation *c, uint32_t service);
bool generation_is_quiet(const struct proxy_service *s, const struct http1_head *h);

/* --- access_log.c -------------------------------------------------------------------------- */
struct access_line {
    struct kg_str id, client, method, target, host, service;
    const char *outcome; /* a fixed word */
    int status;
    uint64_t bytes_in, bytes_out; /* of bodies */
    int64_t total_ms, waited_ms;
    enum proxy_warmth warmth;
};
void access_log_open(struct proxy *p, int fd); /* takes fd over; -1: off */
void access_log_close(struct proxy *p);
void access_log_write(struct proxy *p, const struct access_line *line);

#endif
