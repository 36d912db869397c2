/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl's home: HTTP calls to the engine (asynchronous, on the loop) and to the admin API
 * (blocking, for the command line). The difficulty: one multi handle for the process's life, its
 * timers and sockets on libuv without a lost millisecond. */
#ifndef ORCHESTRATOR_TRANSPORT_H
#define ORCHESTRATOR_TRANSPORT_H

#include "base/buf.h"
#include "base/err.h"
#include <uv.h>

struct transport;
struct transport_target {
    const char *url;       /* "http://engine", or "http(s)://host:port" */
    const char *unix_path; /* NULL: TCP */
    const char *cert_dir;  /* ca.pem cert.pem key.pem, or NULL */
    bool verify;
};
struct transport_answer {
    /* 0: an HTTP answer came; else KG_ECLOSED, KG_ETIMEOUT, KG_ELIMIT, KG_ENOMEM, KG_EPROTO */
    int code;
    int status;
    struct kg_str body;      /* valid during the call */
    const char *words;       /* libcurl's, when code is not 0 */
    const char *api_version; /* the header Api-Version; "" when there was none */
    bool refused;            /* the connection could not be made at all: nothing was asked */
};
typedef void transport_done(void *arg, const struct transport_answer *answer);
/* Of a stream. Like on_done, these may start and cancel calls, and close the transport. */
typedef void transport_begun(void *arg, int status); /* the head is complete */
typedef void transport_data(void *arg, struct kg_str bytes);

struct transport_call {
    const char *method;  /* "GET" ... */
    const char *path;    /* with query, already percent-encoded */
    const char *body;    /* NUL-terminated JSON, copied; NULL: none */
    struct kg_str tar;   /* or an archive, copied; n 0: none */
    const char *header;  /* one more header line, or NULL */
    int64_t timeout_ms;  /* from now, a wait for a free connection included; 0: none (streams) */
    size_t max_bytes;    /* of a body that is gathered */
    bool own_connection; /* a stream: not counted in the pool */
    bool slow; /* by its nature: it waits for none but its like, and none of the others for it */
    transport_begun *on_begun; /* NULL: not told */
    transport_data *on_data;   /* NULL: the body is gathered for on_done */
    transport_done *on_done;
    void *arg;
};
/* max_connections: for calls; beside them up to TRANSPORT_SLOW times as many for slow ones. */
#define TRANSPORT_SLOW 2
struct transport *transport_open(uv_loop_t *loop, const struct transport_target *target,
                                 size_t max_connections, struct kg_err *err);
/* A number > 0, answered once from the loop unless cancelled; 0: no memory. */
uint64_t transport_start(struct transport *t, const struct transport_call *call);
void transport_cancel(struct transport *t, uint64_t call);
/* No callback of a call comes after this. Asynchronous: on_closed when all is freed. */
void transport_close(struct transport *t, void (*on_closed)(void *arg), void *arg);

/* Blocking: for the command line only. on_data NULL: the body is appended to `out`. */
int transport_call_once(const struct transport_target *target, const struct transport_call *call,
                        struct kg_buf *out, int *status, struct kg_err *err);

/* Percent-encodes one path segment or query value onto out. */
void transport_escape(struct kg_buf *out, const char *text);

#endif
