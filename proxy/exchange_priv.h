/* SPDX-License-Identifier: Apache-2.0 */
/* One exchange: a request, the slot of a worker that it holds, and its response.
 * The difficulty: whatever the two peers do, the slot goes back once, and there is one way to end.
 */
#ifndef PROXY_EXCHANGE_PRIV_H
#define PROXY_EXCHANGE_PRIV_H

#include "proxy/downstream_priv.h"
#include "proxy/upstream_priv.h"

#define EXCHANGE_MAX_ACQUIRES 4 /* the first, and three after unreachable workers */

enum exchange_state {
    EXCHANGE_NEW,        /* being checked; nothing is held */
    EXCHANGE_WAITING,    /* the gate has the waiter */
    EXCHANGE_ANSWERED,   /* the gate has answered; the loop will go on with it */
    EXCHANGE_PAUSED,     /* no worker could be reached; asks the gate again in a moment */
    EXCHANGE_CONNECTING, /* holds a slot; no connection yet */
    EXCHANGE_ASKED,      /* the request is with the worker, or on its way; no response head yet */
    EXCHANGE_RESPONDING, /* the response head is passed on */
    EXCHANGE_FLUSHING,   /* the response is whole; the client has not taken all of it */
    EXCHANGE_TUNNEL
};

struct exchange {
    struct kg_arena arena; /* the exchange itself lies in it */
    struct downstream *down;
    struct generation *generation;
    const struct proxy_service *service; /* of generation; NULL: no route */
    enum exchange_state state;
    struct kg_list soon; /* proxy.soon */

    struct proxy_waiter waiter;
    struct proxy_worker *worker; /* not NULL: one slot of it is held */
    struct upstream *upstream;
    struct kg_timer timer; /* PAUSED: to ask again, or not armed where the loop is to go on with it;
                            * TUNNEL: half-open; else until the head */
    unsigned acquires;
    bool retried; /* sent a second time because a kept connection had ended */
    bool quiet;
    bool h2c;           /* what its worker speaks */
    size_t tunnel_left; /* TUNNEL: bytes on their way when the timer was armed */

    /* what is known of the request */
    struct kg_str id, method, target, host; /* the last three only for the access log */
    struct kg_str request_head;             /* for the worker; kept for a second try */
    bool request_head_sent, is_head, idempotent, websocket, expect;
    bool upload_over;     /* the worker takes no more of the body */
    struct kg_buf replay; /* payload that no worker has got, or that could be sent again */
    bool replay_whole;

    /* what is known of the response */
    bool head_held; /* RESPONDING: nothing of the head is sent yet */
    unsigned interim;
    int status; /* of the final answer; 0: none yet */

    /* the gate's refusal, until the loop goes on with it */
    const struct proxy_reason_row *refusal;
    bool asleep;
    int64_t retry_after_ms;
    const char *detail;

    enum proxy_warmth warmth;
    uint64_t wait_began_ns;
    int64_t began_ms, waited_us;
    uint64_t bytes_in, bytes_out;
};

/* --- exchange.c ---------------------------------------------------------------------------- */
/* A head is in and fine. Answers it, or begins to. KG_ENOMEM: it did not. */
int exchange_begin(struct downstream *d, const struct http1_head *h);
/* Asks the gate for a slot: goes on at once, or waits. */
void exchange_acquire(struct exchange *ex);
void exchange_slot_back(struct exchange *ex);
void exchange_drop_upstream(struct exchange *ex); /* closes its connection to the worker */
/* Its worker may be gone or stuck: whoever knows should look at it. */
void exchange_suspect(struct exchange *ex);
/* Asks the gate again in a moment. */
void exchange_pause(struct exchange *ex);
/* How much of the body it takes now, of bytes still to be read and of bytes that are here. */
size_t exchange_room(const struct exchange *ex);
size_t exchange_takes(const struct exchange *ex);
/* The next piece of the body. The exchange may be over after it. */
void exchange_body(struct exchange *ex, struct kg_str payload);
/* What came in one read is handed over: sends what is left to send of it. */
void exchange_flush(struct exchange *ex);
/* Whether the client owes it more of the body. Once the worker answers they may be talking with
 * each other, and whoever says nothing may be waiting for the other. */
bool exchange_awaits_body(const struct exchange *ex);
/* The client broke a rule or was too slow: refused if that is still possible, else broken off. */
void exchange_blame(struct exchange *ex, enum proxy_reason reason, const char *words);
/* The client has taken all that was queued for it. */
void exchange_client_drained(struct exchange *ex);
/* TUNNEL: the client has ended its half. */
void exchange_client_eof(struct exchange *ex);
/* The client ended its half some time ago: finds out whether it is still there, by a 102 that a
 * dead connection answers with a reset. False: it cannot be asked. */
bool exchange_ask_client(struct exchange *ex);
/* Ends it with a problem. `detail` may lie in the arena; NULL: the row's title. */
void exchange_refuse(struct exchange *ex, enum proxy_reason reason, const char *detail);
/* The same in words of ours about the worker: "service 'a': WORDS". */
void exchange_refuse_worker(struct exchange *ex, enum proxy_reason reason, const char *words);
/* The only way to end: gives back what it holds, counts, frees, and tells the client's connection.
 */
void exchange_end(struct exchange *ex, enum exchange_end how);
/* The loop's turn after an answer of the gate. */
void exchange_go_on(struct exchange *ex);

/* --- forward.c: the request's way to the worker -------------------------------------------- */
void forward_begin(struct exchange *ex); /* holds a slot: takes or makes a connection */
/* Sends the head if that is still to be done, and a piece of the body. */
void forward_piece(struct exchange *ex, struct kg_str payload);
/* The connection that was begun is there (status 0), or is not (below 0). */
void forward_connected(struct exchange *ex, int status);
/* The connection ended or broke before a byte of the response: tries again or refuses. */
void forward_lost(struct exchange *ex);

/* --- answer.c: the response's way to the client, as its upstream tells it ------------------- */
/* False from any of these: the exchange is over or has let go of its upstream; hands off. */
bool answer_interim(struct exchange *ex, const struct http1_head *h); /* below 200, but not 101 */
/* The final head, or that of a 101. `last`: there is no body. Sent with what follows at once. */
bool answer_head(struct exchange *ex, const struct http1_head *h, bool last);
bool answer_body(struct exchange *ex, struct kg_str payload, struct kg_str trailers, bool last);
bool answer_flush(struct exchange *ex); /* nothing more follows at once: the head goes out alone */
/* The worker broke a rule, in static words. The exchange is over. */
void answer_breach(struct exchange *ex, const char *words);
/* The same for want of our own memory. */
void answer_out_of_memory(struct exchange *ex);
/* It ended or broke off too early. `heard`: there was something of a response. */
void answer_lost(struct exchange *ex, bool heard);
size_t answer_room(const struct exchange *ex); /* bytes of a body that are wanted now */
void answer_drained(struct exchange *ex);      /* all that was queued for the worker has left */
void answer_unwritable(struct exchange *ex);   /* it takes no more, but may have answered */

/* --- tunnel.c ------------------------------------------------------------------------------ */
/* The 101 is to be sent. `early` are bytes of the worker behind it. */
void tunnel_begin(struct exchange *ex, struct kg_str early);
void tunnel_bytes(struct exchange *ex, struct kg_str bytes); /* of the client */
void tunnel_client_drained(struct exchange *ex);
void tunnel_client_eof(struct exchange *ex);
void tunnel_worker_bytes(struct exchange *ex, struct kg_str bytes);
void tunnel_worker_drained(struct exchange *ex);
void tunnel_worker_eof(struct exchange *ex);
void tunnel_timer(struct exchange *ex); /* nothing came for long */

#endif
