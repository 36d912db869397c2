/* SPDX-License-Identifier: Apache-2.0 */
/* One connection of a client: it cuts the stream into heads and bodies and has one exchange at a
 * time. The difficulty: what a client sends ahead must neither be lost nor be held without bound.
 */
#ifndef PROXY_CLIENT_PRIV_H
#define PROXY_CLIENT_PRIV_H

#include "proxy/downstream_priv.h"
#include <netinet/in.h>

#define CLIENT_AHEAD_BYTES (16 * 1024) /* of pipelined requests, kept behind the one under way */
#define CLIENT_KEY_BYTES 17            /* of an address in the per-client table */

enum client_state {
    CLIENT_IDLE,   /* no byte of a next request is here */
    CLIENT_HEAD,   /* some of its head is */
    CLIENT_BUSY,   /* an exchange or a local request is under way */
    CLIENT_DRAIN,  /* answered before the body was whole: the rest is read and dropped */
    CLIENT_HTTP2,  /* client_http2.c has it, to its end */
    CLIENT_LINGER, /* the last answer is given; reading on so that it is not lost to a reset */
    CLIENT_CLOSED
};

/* What the first bytes of a connection say. */
enum client_version { CLIENT_SPEAKS_LATER, CLIENT_SPEAKS_HTTP1, CLIENT_SPEAKS_HTTP2 };

/* What becomes of the connection after an exchange. */
enum client_next { CLIENT_KEEP, CLIENT_END, CLIENT_RESET };

struct client {
    struct wire wire;
    struct downstream down;
    struct kg_list link; /* proxy.clients */
    enum client_state state;
    bool local;
    bool taking, again; /* the taking loop runs; it has another round to go */
    bool body_timed;    /* its rate is watched; */
    bool body_grace;    /* not yet held against it */
    bool version_known; /* whether it is HTTP/1 or 2 */
    bool probed;        /* it was asked whether it is still there */
    uint8_t key_n;
    char key[CLIENT_KEY_BYTES];
    char address[INET6_ADDRSTRLEN]; /* down.address points here */
    size_t dropped;                 /* bytes read in DRAIN or LINGER */
    struct kg_buf in;               /* read but not yet taken */
    struct guard guard;             /* over the head at the front of `in` */
    struct local *local_request;
    struct client_http2 *http2; /* or NULL */

    /* of the exchange under way */
    uint8_t minor;
    bool keep_alive, te_trailers; /* as its head says */
    bool expect;                  /* it waits for a 100 before it sends its body */
    bool keep;                    /* the connection goes on behind its answer */
    enum http1_framing framing;   /* of its answer */
    struct kg_str head;           /* of its answer, not yet sent; in the exchange's arena */

    struct kg_timer deadline, watch;
    uint64_t rate_bytes; /* of the body since rate_at_ms */
    int64_t rate_at_ms, rate_paused_ms, paused_at_ms;
};

/* Takes fd over. `address` is the peer's; counted already under `key` if that is not empty. */
void client_new(struct listener *l, int fd, const struct sockaddr *address, struct kg_str key);
/* Something has changed: takes what is kept, and reads on if there is room. May close it. */
void client_resume(struct client *c);
/* downstream_kind.body_wanted */
void client_body_wanted(struct client *c);
/* Looks now and then whether a client that is not being read is still there. */
void client_watch(struct client *c);
/* A problem for a request that has not become an exchange; ends the connection. `h`: as far as it
 * was understood, or NULL. */
void client_refuse(struct client *c, struct guard_verdict verdict, const struct http1_head *h);
/* The same for a head that ends here; `bytes` is what c->guard has looked at. */
void client_refuse_head(struct client *c, const char *bytes, struct guard_verdict verdict);
/* The same when there is no memory for a better answer. */
void client_shed(struct client *c);
/* The exchange or local request is over (and its pointer NULL); all its bytes are sent or queued.
 */
void client_next(struct client *c, enum client_next next);
/* Whether the connection can go on after an answer that is given now, the body unread or not.
 * `expect`: the client waits for a 100 before it sends its body. */
bool client_can_keep(const struct client *c, bool head_keep_alive, bool expect);
void client_close(struct client *c); /* at once; whoever has its exchange has ended it */
/* Of a connection on which nothing is under way: what is queued goes out first, and by TLS the
 * client is told that this is the end. */
void client_part(struct client *c);
/* Breaks all clients and what they have under way, or, for a drain, closes the idle ones. */
void clients_close(struct proxy *p, bool idle_only);

/* --- between client.c, client_reply.c and client_time.c ------------------------------------ */
extern const struct downstream_kind client_downstream;
void client_timers_init(struct client *c);

/* --- client_http2.c ------------------------------------------------------------------------ */
enum client_version client_version(const struct client *c, struct kg_str in);
/* The connection speaks HTTP/2 from its first bytes on, which are `in`. 0 or KG_ENOMEM. */
int client_http2_begin(struct client *c, struct kg_str in);
/* Ends all its streams and forgets the session. No-op without one. */
void client_http2_drop(struct client *c, enum exchange_end how);
void client_http2_drain(struct client *c); /* takes no new streams */
void client_http2_deadline(struct client *c);
void client_http2_free_spares(void);

/* --- local.c ------------------------------------------------------------------------------- */
void local_begin(struct client *c, const struct http1_head *h);
void local_body(struct client *c, struct kg_str payload);
/* The client left, or is cut off: tells whoever still works on its request. */
void local_drop(struct client *c, bool tell);
/* The client ended its half. False: it is taken to be gone. */
bool local_half_closed(struct client *c);

#endif
