/* SPDX-License-Identifier: Apache-2.0 */
/* Requests on a local listener: gathered whole, answered by whoever opened the proxy, at once or in
 * pieces. The difficulty: the answer comes when it comes, and its asker may be gone by then. */
#include "base/err.h"
#include "proxy/client_priv.h"
#include "proxy/problem.h"
#include "proxy/rewrite.h"
#include <stdio.h>
#include <stdlib.h>

#define UNREAD_MAX_BYTES (1024 * 1024) /* of an answer in pieces that its asker does not read */

struct local {
    struct kg_list link; /* proxy.locals */
    struct client *client;
    uint64_t id;
    char *method, *path, *query;
    struct kg_buf body;
    uint8_t minor;
    bool is_head, keep_alive, expect, told, begun, chunked;
};

static void local_free(struct local *l)
{
    l->client->local_request = NULL;
    kg_list_remove(&l->link);
    kg_buf_fini(&l->body);
    free(l->method);
    free(l->path);
    free(l->query);
    free(l);
}

static void refuse(struct client *c, enum proxy_reason reason, const char *words)
{
    if (c->local_request)
        local_free(c->local_request);
    client_refuse(c, (struct guard_verdict){reason, words}, NULL);
}

/* --- the request
 * ------------------------------------------------------------------------------------ */

/* A page of somebody else's, shown by a browser on this machine, must not reach us by a name that
 * it made to point here: only names and numbers of this machine are answered. */
static bool host_is_ours(struct kg_str host)
{
    char text[256];
    struct sockaddr_in6 any;

    if (host.n == 0 || kg_str_eq_nocase(host, KG_STR("localhost")))
        return true;
    if (host.p[0] == '[')
        return true;
    return kg_str_copy(text, sizeof text, host) &&
           uv_ip4_addr(text, 1, (struct sockaddr_in *)(void *)&any) == 0;
}

static char *copy(struct kg_str s)
{
    return strndup(s.p ? s.p : "", s.n);
}

static struct local *local_new(struct client *c, const struct http1_head *h)
{
    struct proxy *p = c->wire.proxy;
    struct local *l = calloc(1, sizeof *l);
    struct kg_str query = h->target.query;

    if (!l)
        return NULL;
    l->client = c;
    l->id = ++p->last_local_id;
    l->method = copy(h->method);
    l->path = copy(h->target.path);
    l->query =
        copy(query.n > 0 && query.p[0] == '?' ? (struct kg_str){query.p + 1, query.n - 1} : query);
    l->minor = h->minor;
    l->is_head = h->method_id == HTTP1_HEAD;
    l->keep_alive = h->keep_alive;
    l->expect = h->expect_continue;
    kg_buf_init(&l->body, KG_LOCAL_BODY_BYTES);
    kg_list_push_back(&p->locals, &l->link);
    c->local_request = l;
    if (l->method && l->path && l->query)
        return l;
    local_free(l);
    return NULL;
}

static void hand_over(struct local *l)
{
    const struct proxy *p = l->client->wire.proxy;
    struct proxy_local_request r = {.id = l->id,
                                    .method = kg_str_of(l->method),
                                    .path = kg_str_of(l->path),
                                    .query = kg_str_of(l->query),
                                    .body = kg_buf_str(&l->body)};

    l->told = true;
    p->params.local_request(p->params.local_arg, &r);
}

void local_begin(struct client *c, const struct http1_head *h)
{
    struct local *l;

    if (!c->wire.unix_socket && !host_is_ours(kg_str_of(h->target.host))) {
        refuse(c, PROXY_BAD_REQUEST, "this host name is not one of the admin API's");
        return;
    }
    if (h->framing == HTTP1_LENGTH && h->content_length > KG_LOCAL_BODY_BYTES) {
        refuse(c, PROXY_BODY_TOO_LARGE, NULL);
        return;
    }
    l = local_new(c, h);
    if (!l) {
        client_shed(c);
        return;
    }
    if (l->expect && !c->body.done)
        wire_send(&c->wire,
                  &(uv_buf_t){.base = (char *)REWRITE_CONTINUE, .len = strlen(REWRITE_CONTINUE)},
                  1);
    l->expect = false;
    if (c->body.done)
        hand_over(l);
    else
        client_body_wanted(c);
}

void local_body(struct client *c, struct kg_str payload)
{
    struct local *l = c->local_request;

    if (kg_buf_append(&l->body, payload.p, payload.n) != 0)
        refuse(c, PROXY_BODY_TOO_LARGE, NULL);
    else if (c->body.done)
        hand_over(l);
}

void local_drop(struct client *c, bool tell)
{
    const struct proxy *p = c->wire.proxy;
    struct local *l = c->local_request;
    uint64_t id = l->id;

    tell = tell && l->told;
    local_free(l);
    if (tell)
        p->params.local_gone(p->params.local_arg, id);
}

bool local_half_closed(struct client *c)
{
    return c->local_request && !c->local_request->begun;
}

/* --- the answer
 * ------------------------------------------------------------------------------------- */

static struct local *find(struct proxy *p, uint64_t id)
{
    KG_LIST_EACH(it, &p->locals)
    {
        struct local *l = KG_LIST_ENTRY(it, struct local, link);
        if (l->id == id && l->told)
            return l;
    }
    return NULL;
}

static void put_head(struct local *l, struct kg_buf *out, int status, const char *type, size_t n,
                     bool last)
{
    struct kg_str date = rewrite_date(proxy_wall_ms(l->client->wire.proxy));

    l->begun = true;
    l->chunked = !last && l->minor > 0;
    l->keep_alive = client_can_keep(l->client, l->keep_alive, false) && (last || l->chunked);
    kg_buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %.*s\r\nContent-Type: %s\r\n", status,
                  problem_phrase(status), (int)date.n, date.p, type);
    kg_buf_puts(out, "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
    if (last)
        kg_buf_printf(out, "Content-Length: %zu\r\n", n);
    else if (l->chunked)
        kg_buf_puts(out, "Transfer-Encoding: chunked\r\n");
    kg_buf_puts(out, l->keep_alive ? "\r\n" : "Connection: close\r\n\r\n");
}

static void put_piece(const struct local *l, struct kg_buf *out, const void *body, size_t n,
                      bool last)
{
    if (l->is_head)
        return;
    if (l->chunked && n > 0)
        kg_buf_printf(out, "%zx\r\n", n);
    kg_buf_append(out, body, n);
    if (l->chunked && n > 0)
        kg_buf_puts(out, "\r\n");
    if (l->chunked && last)
        kg_buf_puts(out, "0\r\n\r\n");
}

static void cut_off(struct local *l)
{
    struct client *c = l->client;

    local_free(l);
    client_next(c, CLIENT_RESET);
}

int proxy_local_reply(struct proxy *p, uint64_t id, int status, const char *content_type,
                      const void *body, size_t n, bool last)
{
    struct local *l = find(p, id);
    struct client *c;
    struct kg_buf out;
    bool keep, failed;

    if (!l)
        return KG_ENOTFOUND;
    c = l->client;
    kg_buf_init(&out, n + 4096);
    if (!l->begun)
        put_head(l, &out, status, content_type, n, last);
    put_piece(l, &out, body, n, last);
    failed =
        out.error || wire_send(&c->wire, &(uv_buf_t){.base = out.data, .len = out.len}, 1) != 0;
    kg_buf_fini(&out);
    if (failed || (!last && wire_pending(&c->wire) > UNREAD_MAX_BYTES)) {
        cut_off(l);
        return KG_ELIMIT;
    }
    if (!last)
        return 0;
    keep = l->keep_alive;
    local_free(l);
    client_next(c, keep ? CLIENT_KEEP : CLIENT_END);
    return 0;
}
