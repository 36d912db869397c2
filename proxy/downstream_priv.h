/* SPDX-License-Identifier: Apache-2.0 */
/* Whoever asked, as an exchange sees it: a client's HTTP/1 connection or a stream of HTTP/2.
 * The difficulty: an exchange says what is to be answered, never how a version of HTTP writes it.
 */
#ifndef PROXY_DOWNSTREAM_PRIV_H
#define PROXY_DOWNSTREAM_PRIV_H

#include "proxy/body_priv.h"
#include "proxy/problem.h"
#include "proxy/proxy_priv.h"
#include "proxy/rewrite.h"

struct downstream;

/* How an exchange ended. */
enum exchange_end {
    EXCHANGE_DONE,        /* the response is with the client's kernel, whole */
    EXCHANGE_REFUSED,     /* we answered with a problem */
    EXCHANGE_BROKEN,      /* the worker broke off, so we do */
    EXCHANGE_CLIENT_GONE, /* the client hung up, or took or sent nothing for too long */
    EXCHANGE_CLOSED       /* the proxy closes */
};

/* A piece of a response's body; each part may be empty. */
struct downstream_piece {
    struct kg_str payload;
    struct kg_str trailers; /* checked lines, with `last` only */
    bool last;
};

/* None of these calls the exchange back before it returns. Codes of 0 mean that the bytes are with
 * the kernel or queued; KG_EIO that the client takes no more; KG_ENOMEM, KG_ELIMIT that they cannot
 * be held. After a failure nothing more can be sent. */
struct downstream_kind {
    /* An upgrade is asked for by CONNECT: any 2xx would say that there is a tunnel. */
    bool connects;
    /* An interim response: the worker's head, or (NULL) 100 or 102 of ours. A client that does not
     * know them is spared. */
    int (*interim)(struct downstream *d, int status, const struct http1_head *h);
    /* The final head, or that of a 101. It goes out with the first piece of the body. `with` lacks
     * what only the version knows (client_minor, keep_alive). 0 or KG_ENOMEM. */
    int (*head)(struct downstream *d, const struct http1_head *h, struct rewrite_to_client *with);
    int (*send)(struct downstream *d, const struct downstream_piece *piece);
    /* A whole answer of ours, instead of all the above; `p` lacks what only the version knows. */
    int (*problem)(struct downstream *d, struct problem *p);
    size_t (*pending)(const struct downstream *d); /* bytes that the client has not taken yet */
    /* The 101 is sent: from here on bytes both ways. Makes d->body one of framing TUNNEL that is
     * done when the client has ended its half. */
    void (*tunnel)(struct downstream *d);
    void (*fin)(struct downstream *d); /* TUNNEL: the worker has ended its half */
    /* The exchange may have room for more of the body, or is over: reads on. */
    void (*resume)(struct downstream *d);
    /* From here on the body is asked to come at a certain rate. */
    void (*body_wanted)(struct downstream *d);
    /* The exchange is over and freed; d lives at least until the caller's turn of the loop ends. */
    void (*over)(struct downstream *d, enum exchange_end how);
};

struct downstream {
    const struct downstream_kind *kind;
    struct proxy *proxy;
    struct exchange *exchange; /* at most one at a time */
    struct body body;          /* of the request under way */
    struct kg_str address;     /* of the client as text, without a port; empty on a Unix socket */
    const struct wire *wire;   /* of its connection */
    bool http2;                /* a stream: its body has an end of its own, whatever the framing */
};

/* What is refused before there is an exchange: counts and logs it, and fills *out for
 * kind->problem. `h`: as far as it was understood, or NULL. */
void downstream_refused(struct downstream *d, struct guard_verdict verdict,
                        const struct http1_head *h, char id[REWRITE_ID_MAX + 1],
                        struct problem *out);

#endif
