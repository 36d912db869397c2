/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on a local listener: read whole, handed over as values, answered in one piece or in
 * many. The difficulty: the answers come at any later time, for clients that may be gone by then.
 */
#include "base/err.h"
#include "proxy/client_priv.h"
#include "proxy/exchange_priv.h"
#include "proxy/problem.h"
#include <stdlib.h>

#define FOLLOWER_BYTES (1024 * 1024)    /* a follower that leaves more unread is cut off */
#define UNREAD_BYTES (64 * 1024 * 1024) /* so is any, once all together leave more */
#define OK_STATUS 200

struct local {
    struct kg_list link; /* proxy.locals */
    struct client *client;
    uint64_t id;
    struct kg_str method, path, query; /* in `text` */
    struct kg_buf text, body;
    bool handed, replied; /* to whoever answers; the head of the answer is sent */
    bool is_head, keep_alive, chunked, follows;
    uint8_t minor;
};

/* --- who may ask --------------------------------------------------------------------------- */

/* A web page can make a browser ask any address under a name of the page's own (DNS rebinding); it
 * cannot make it ask under "localhost", an address, or a name without a dot. */
static bool is_local_host(struct kg_str host)
{
    bool digits_and_dots = true;

    if (kg_str_eq(host, KG_STR("localhost")) || (host.n > 0 && host.p[0] == '['))
        return true;
    for (size_t i = 0; i < host.n; i++)
        digits_and_dots &= (host.p[i] >= '0' && host.p[i] <= '9') || host.p[i] == '.';
    return digits_and_dots || !memchr(host.p, '.', host.n);
}

static bool is_local_origin(struct kg_str origin)
{
    static const char *const schemes[] = {"http://", "https://"};
    struct target target;

    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        struct kg_str scheme = kg_str_of(schemes[i]);
        if (!kg_str_has_prefix(origin, scheme))
            continue;
        origin.p += scheme.n;
        origin.n -= scheme.n;
        return origin.n > 0 && target_check_host(origin, &target) == NULL &&
               is_local_host(target_host(&target));
    }
    return false;
}

static bool may_ask(const struct client *c, const struct http1_head *h)
{
    if (c->wire.unix_socket)
        return true; /* no browser gets there */
    for (uint32_t i = 0; i < h->field_count; i++)
        if (kg_str_eq_nocase(h->fields[i].name, KG_STR("origin")) &&
            !is_local_origin(h->fields[i].value))
            return false;
    return is_local_host(target_host(&h->target));
}

/* --- the request --------------------------------------------------------------------------- */

static void local_free(struct local *l)
{
    l->client->local_request = NULL;
    kg_list_remove(&l->link);
    kg_buf_fini(&l->text);
    kg_buf_fini(&l->body);
    free(l);
}

static struct local *local_new(struct client *c, const struct http1_head *h)
{
    struct proxy *p = c->wire.proxy;
    const struct target *t = &h->target;
    struct local *l = calloc(1, sizeof *l);
    size_t question_mark = t->query.n > 0;

    if (!l)
        return NULL;
    kg_buf_init(&l->text, KG_MAX_HEAD_BYTES);
    kg_buf_init(&l->body, KG_LOCAL_BODY_BYTES);
    kg_buf_append(&l->text, h->method.p, h->method.n);
    kg_buf_append(&l->text, t->path.p, t->path.n);
    if (kg_buf_append(&l->text, t->query.p + question_mark, t->query.n - question_mark) != 0) {
        kg_buf_fini(&l->text);
        free(l);
        return NULL;
    }
    l->method = (struct kg_str){l->text.data, h->method.n};
    l->path = (struct kg_str){l->method.p + l->method.n, t->path.n};
    l->query = (struct kg_str){l->path.p + l->path.n, t->query.n - question_mark};
    l->is_head = h->method_id == HTTP1_HEAD;
    l->keep_alive = h->keep_alive;
    l->minor = h->minor;
    l->id = ++p->last_local_id;
    l->client = c;
    c->local_request = l;
    kg_list_push_back(&p->locals, &l->link);
    return l;
}

/* May be answered, and so be gone, before this returns. */
static void hand_over(struct local *l)
{
    struct proxy *p = l->client->wire.proxy;
    struct proxy_local_request r = {.id = l->id,
                                    .method = l->method,
                                    .path = l->path,
                                    .query = l->query,
                                    .body = kg_buf_str(&l->body)};

    l->handed = true;
    p->params.local_request(p->params.local_arg, &r);
}

static void refuse(struct client *c, enum proxy_reason reason, const char *words,
                   const struct http1_head *h)
{
    if (c->local_request)
        local_drop(c, false);
    client_refuse(c, (struct guard_verdict){reason, words}, h);
}

void local_begin(struct client *c, const struct http1_head *h)
{
    struct local *l;

    if (!may_ask(c, h)) {
        refuse(c, PROXY_BAD_REQUEST, "the Host or Origin is not a local one", h);
        return;
    }
    if (h->framing == HTTP1_LENGTH && h->content_length > KG_LOCAL_BODY_BYTES) {
        refuse(c, PROXY_BODY_TOO_LARGE, "the body is larger than 256 KiB", h);
        return;
    }
    l = local_new(c, h);
    if (!l) {
        client_shed(c);
        return;
    }
    if (h->expect_continue)
        wire_send(&c->wire,
                  &(uv_buf_t){.base = (char *)REWRITE_CONTINUE, .len = sizeof REWRITE_CONTINUE - 1},
                  1);
    client_body_wanted(c);
    if (c->down.body.done)
        hand_over(l);
}

void local_body(struct client *c, struct kg_str payload)
{
    struct local *l = c->local_request;
    int rc = kg_buf_append(&l->body, payload.p, payload.n);

    if (rc == KG_ELIMIT)
        refuse(c, PROXY_BODY_TOO_LARGE, "the body is larger than 256 KiB", NULL);
    else if (rc != 0)
        refuse(c, PROXY_OVERLOADED, "out of memory", NULL);
    else if (c->down.body.done)
        hand_over(l);
}

/* --- its end ------------------------------------------------------------------------------- */

void local_drop(struct client *c, bool tell)
{
    struct local *l = c->local_request;
    struct proxy *p = c->wire.proxy;
    uint64_t id = l->id;
    bool handed = l->handed;

    local_free(l);
    if (tell && handed && p->params.local_gone)
        p->params.local_gone(p->params.local_arg, id);
}

/* Who waits for one answer may have ended its half; who follows a stream and does so has left. */
bool local_half_closed(struct client *c)
{
    return c->local_request && !(c->local_request->replied && c->local_request->follows);
}

void proxy_drop_local(struct proxy *p, void (*unanswered)(void *arg, uint64_t id), void *arg)
{
    KG_LIST_EACH_SAFE(it, &p->locals)
    {
        const struct local *l = KG_LIST_ENTRY(it, struct local, link);
        struct client *c = l->client;
        if (!l->handed)
            continue; /* its body is still coming */
        if (!l->replied) {
            unanswered(arg, l->id);
            continue;
        }
        local_drop(c, false);
        client_next(c, CLIENT_RESET);
    }
}

/* --- replies ------------------------------------------------------------------------------- */

static struct local *local_find(struct proxy *p, uint64_t id)
{
    KG_LIST_EACH(it, &p->locals)
    {
        struct local *l = KG_LIST_ENTRY(it, struct local, link);
        if (l->id == id && l->handed)
            return l;
    }
    return NULL;
}

/* One piece: Content-Length. More to come: chunks, or for HTTP/1.0 until the close. */
static void write_framing(struct local *l, struct kg_buf *out, int status,
                          const struct proxy_local_answer *a)
{
    bool keep = client_can_keep(l->client, l->keep_alive, false);

    l->chunked = !a->last && l->minor > 0;
    l->keep_alive = keep && (a->last || l->chunked);
    if (l->chunked)
        kg_buf_puts(out, "Transfer-Encoding: chunked\r\n");
    else if (a->last && status != 204)
        kg_buf_printf(out, "Content-Length: %zu\r\n", a->body.n);
    if (!l->keep_alive)
        kg_buf_puts(out, "Connection: close\r\n");
    else if (l->minor == 0)
        kg_buf_puts(out, "Connection: keep-alive\r\n");
}

static void write_head(struct local *l, struct kg_buf *out, const struct proxy_local_answer *a)
{
    struct kg_str date = rewrite_date(proxy_wall_ms(l->client->wire.proxy));
    int status = a->status ? a->status : OK_STATUS;

    kg_buf_printf(out, "HTTP/1.1 %d %s\r\nDate: ", status, problem_phrase(status));
    kg_buf_append(out, date.p, date.n);
    kg_buf_puts(out, "\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if (a->type && *a->type)
        kg_buf_printf(out, "Content-Type: %s\r\n", a->type);
    if (a->allow && *a->allow)
        kg_buf_printf(out, "Allow: %s\r\n", a->allow);
    if (status == 429 || status == 503)
        kg_buf_printf(out, "Retry-After: %lld\r\n", problem_retry_after_s(a->retry_after_ms));
    write_framing(l, out, status, a);
    kg_buf_puts(out, "\r\n");
}

static int send_reply(struct local *l, const struct proxy_local_answer *a)
{
    struct body_piece piece = {.payload = a->body, .last = a->last};
    struct kg_buf head;
    int rc;

    kg_buf_init(&head, KG_MAX_HEAD_BYTES);
    if (!l->replied)
        write_head(l, &head, a);
    l->replied = true;
    piece.head = kg_buf_str(&head);
    piece.chunked = l->chunked && !l->is_head;
    if (l->is_head)
        piece.payload.n = 0;
    rc = head.error ? head.error : body_send(&l->client->wire, &piece);
    kg_buf_fini(&head);
    return rc;
}

static size_t unread_by_all(const struct proxy *p)
{
    size_t n = 0;

    KG_LIST_EACH(it, &p->clients)
    {
        const struct client *c = KG_LIST_ENTRY(it, struct client, link);
        n += c->local ? wire_pending(&c->wire) : 0;
    }
    return n;
}

/* Whether the client can take n bytes more of an answer. A whole answer comes faster than a client
 * reads: it is what can be said of thousands of services. */
static int may_reply(const struct local *l, size_t n)
{
    const struct wire *w = &l->client->wire;
    size_t pending = wire_pending(w);

    if (pending > 0 && pending + n > FOLLOWER_BYTES &&
        (l->follows || unread_by_all(w->proxy) + n > UNREAD_BYTES))
        return KG_ELIMIT;
    return w->eof && l->follows && !l->replied ? KG_EIO : 0; /* who has ended its half has left */
}

int proxy_local_reply(struct proxy *p, uint64_t id, const struct proxy_local_answer *a)
{
    struct local *l = local_find(p, id);
    struct client *c;
    enum client_next next;
    int rc;

    if (!l)
        return KG_ENOTFOUND;
    c = l->client;
    if (!l->replied)
        l->follows = a->type && strcmp(a->type, "text/event-stream") == 0;
    rc = may_reply(l, a->body.n);
    if (rc == 0)
        rc = send_reply(l, a);
    if (rc == 0 && !a->last)
        return 0;
    next = rc != 0 ? CLIENT_RESET : l->keep_alive ? CLIENT_KEEP : CLIENT_END;
    local_free(l);
    client_next(c, next);
    return rc == KG_ELIMIT ? KG_ELIMIT : rc != 0 ? KG_ENOTFOUND : 0;
}
