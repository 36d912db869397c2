/* SPDX-License-Identifier: Apache-2.0 */
/* An HTTP/1 connection as an exchange's client: heads, bodies and problems as it writes them.
 * The difficulty: whether the connection can go on is decided with the head and must hold to the
 * end of the body. */
#include "base/err.h"
#include "proxy/client_priv.h"
#include "proxy/exchange_priv.h"

static struct client *client_of(const struct downstream *d)
{
    return KG_CONTAINER_OF(d, struct client, down);
}

static int send_text(struct client *c, struct kg_str text)
{
    return wire_send(&c->wire, &(uv_buf_t){.base = (char *)text.p, .len = text.n}, 1);
}

static int interim(struct downstream *d, int status, const struct http1_head *h)
{
    static const char processing[] = "HTTP/1.1 102 Processing\r\n\r\n";
    struct client *c = client_of(d);
    struct rewrite_to_client with = {.client_minor = c->minor, .keep_alive = true};
    struct kg_arena arena;
    struct kg_str text;
    int rc;

    if (c->minor == 0)
        return 0;
    if (status == 100)
        c->expect = false;
    if (!h)
        return send_text(c, status == 100 ? KG_STR(REWRITE_CONTINUE) : KG_STR(processing));
    kg_arena_init(&arena, &d->proxy->arenas, 2 * KG_MAX_HEAD_BYTES);
    text = rewrite_response(&arena, h, &with);
    rc = text.p ? send_text(c, text) : KG_ENOMEM;
    kg_arena_fini(&arena);
    return rc;
}

static int head(struct downstream *d, const struct http1_head *h, struct rewrite_to_client *with)
{
    struct client *c = client_of(d);

    c->framing = rewrite_response_framing(h, c->minor);
    c->keep =
        c->framing != HTTP1_UNTIL_CLOSE && d->body.done && client_can_keep(c, c->keep_alive, false);
    if (c->framing == HTTP1_UNTIL_CLOSE) /* a front that is killed must not seem to have ended it */
        wire_ends_by_reset(&c->wire, true);
    with->client_minor = c->minor;
    with->keep_alive = c->keep;
    c->head = rewrite_response(&d->exchange->arena, h, with);
    return c->head.p ? 0 : KG_ENOMEM;
}

static int send_piece(struct downstream *d, const struct downstream_piece *what)
{
    struct client *c = client_of(d);
    struct body_piece piece = {.head = c->head,
                               .payload = what->payload,
                               .chunked = c->framing == HTTP1_CHUNKED,
                               .last = what->last};

    if (c->te_trailers)
        piece.trailers = what->trailers;
    c->head.n = 0;
    return body_send(&c->wire, &piece);
}

/* Where nothing or half of it went out, the connection just ends. */
static int problem(struct downstream *d, struct problem *p)
{
    struct client *c = client_of(d);
    struct kg_buf out;
    int rc;

    c->head.n = 0; /* one that was not sent yet is forgotten */
    kg_buf_init(&out, KG_READ_BUFFER_BYTES);
    p->client_minor = c->minor;
    p->keep_alive = client_can_keep(c, c->keep_alive, c->expect);
    rc = problem_write(&out, p, &c->keep);
    if (rc == 0)
        rc = send_text(c, kg_buf_str(&out));
    kg_buf_fini(&out);
    if (rc != 0)
        c->keep = false;
    return rc;
}

static size_t pending(const struct downstream *d)
{
    return wire_pending(&client_of(d)->wire);
}

static void tunnel(struct downstream *d)
{
    d->body.framing = HTTP1_TUNNEL;
    d->body.done = false; /* also when its half has ended: kept bytes come first */
}

static void fin(struct downstream *d)
{
    wire_fin(&client_of(d)->wire);
}

static void resume(struct downstream *d)
{
    client_resume(client_of(d));
}

static void body_wanted(struct downstream *d)
{
    client_body_wanted(client_of(d));
}

static void over(struct downstream *d, enum exchange_end how)
{
    struct client *c = client_of(d);
    enum client_next next = c->keep ? CLIENT_KEEP : CLIENT_END;

    if (how == EXCHANGE_CLIENT_GONE || how == EXCHANGE_CLOSED)
        next = CLIENT_RESET;
    else if (how == EXCHANGE_BROKEN) /* where a missing end would not be seen, a reset says it */
        next =
            c->framing == HTTP1_LENGTH || c->framing == HTTP1_CHUNKED ? CLIENT_END : CLIENT_RESET;
    if (c->framing == HTTP1_UNTIL_CLOSE && next != CLIENT_RESET)
        wire_ends_by_reset(&c->wire, false);
    client_next(c, next);
}

const struct downstream_kind client_downstream = {.interim = interim,
                                                  .head = head,
                                                  .send = send_piece,
                                                  .problem = problem,
                                                  .pending = pending,
                                                  .tunnel = tunnel,
                                                  .fin = fin,
                                                  .resume = resume,
                                                  .body_wanted = body_wanted,
                                                  .over = over};
