/* SPDX-License-Identifier: Apache-2.0 */
/* Heads of both directions: guard, parser, rewriting. The difficulty: what is passed on must be a
 * head by the same rules, and say nothing about framing that the first did not. */
#include "fuzz_grammar.h"
#include "proxy/rewrite.h"

struct asked {
    bool response, switched;
    uint8_t minor;
    struct http1_asked of;
};

static enum guard_result scan(struct guard *g, bool response, struct kg_str in, uint32_t seed)
{
    enum guard_result r = GUARD_MORE;
    size_t n = 0;

    guard_init(g, response ? GUARD_RESPONSE : GUARD_REQUEST);
    while (r == GUARD_MORE && n < in.n) {
        n += fuzz_piece(&seed, in.n - n);
        char *copy = fuzz_copy(in.p, n); /* the buffer moves as it grows */
        r = guard_scan(g, copy, n);
        free(copy);
    }
    return r;
}

static void check_slices(const struct http1_head *h, const char *bytes, const struct guard *g)
{
    const char *at = bytes + g->start;

    KG_ASSERT(h->field_count == g->fields && h->field_count <= KG_MAX_FIELDS);
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct http1_field *f = &h->fields[i];
        KG_ASSERT(f->name.p > at && f->name.n > 0 && guard_is_token(f->name));
        if (f->value.n == 0)
            continue;
        KG_ASSERT(f->value.p > f->name.p && f->value.p + f->value.n <= bytes + g->end - 4);
        for (size_t k = 0; k < f->value.n; k++)
            KG_ASSERT(f->value.p[k] != '\r' && f->value.p[k] != '\n' && f->value.p[k] != '\0');
        at = f->value.p + f->value.n;
    }
}

static struct guard_verdict parse(const struct asked *asked, const struct guard *g,
                                  const char *bytes, struct http1_head *h)
{
    return asked->response ? http1_parse_response(g, bytes, &asked->of, h)
                           : http1_parse_request(g, bytes, h);
}

/* A head that we wrote: whole, one by our own rules, with the same end of its message. */
static void check_written(const struct asked *asked, struct kg_str out,
                          const struct http1_head *was, enum http1_framing framing)
{
    struct http1_head h;
    struct guard g;
    char *copy = fuzz_copy(out.p, out.n);
    struct guard_verdict v;

    KG_ASSERT(scan(&g, asked->response, out, 0) == GUARD_DONE && g.end == out.n && g.start == 0);
    v = parse(asked, &g, copy, &h);
    KG_ASSERT(v.reason == PROXY_NONE);
    KG_ASSERT(h.count[FIELD_CONTENT_LENGTH] + h.count[FIELD_TRANSFER_ENCODING] <= 1);
    KG_ASSERT(h.framing == framing);
    if (h.framing == HTTP1_LENGTH)
        KG_ASSERT(h.content_length == was->content_length);
    KG_ASSERT(h.count[FIELD_SPOOF] == 0 && h.count[FIELD_TE] <= 1);
    if (!asked->response)
        KG_ASSERT(h.count[FIELD_HOST] == 1 && h.minor == 1 && kg_str_eq(h.method, was->method));
    else
        KG_ASSERT(h.status == was->status);
    free(copy);
}

static void write_on(const struct asked *asked, const struct http1_head *h)
{
    struct rewrite_to_worker to_worker = {.peer = KG_STR("192.0.2.1"), .pass_expect = true};
    struct rewrite_to_client to_client = {.id = KG_STR("id"),
                                          .wall_ms = 1700000000000,
                                          .client_minor = asked->minor,
                                          .keep_alive = asked->minor > 0};
    char id[REWRITE_ID_MAX + 1];
    struct kg_arena_pool pool;
    struct kg_arena arena;
    struct kg_str out;

    kg_arena_pool_init(&pool, 16384, 1);
    kg_arena_init(&arena, &pool, 1024 * 1024);
    if (!asked->response) {
        to_worker.id = rewrite_request_id(h, id);
        out = rewrite_request(&arena, h, &to_worker);
        if (h->bytes + 1024 < KG_MAX_HEAD_BYTES && h->field_count + 12 < KG_MAX_FIELDS)
            check_written(asked, out, h, h->framing);
    } else {
        enum http1_framing framing = rewrite_response_framing(h, asked->minor);
        to_client.keep_alive &= framing != HTTP1_UNTIL_CLOSE;
        out = rewrite_response(&arena, h, &to_client);
        if (h->bytes + 1024 < KG_MAX_HEAD_BYTES && h->field_count + 12 < KG_MAX_FIELDS)
            check_written(asked, out, h, framing);
    }
    kg_arena_fini(&arena);
    kg_arena_pool_fini(&pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    uint32_t seed = fuzz_byte(&f);
    struct asked asked = {.response = flags & 1,
                          .minor = !(flags & 8),
                          .of = {.head = flags & 2, .websocket = flags & 4}};
    struct kg_str in = fuzz_rest(&f);
    struct guard whole, split;
    struct http1_head h;
    enum guard_result r = scan(&whole, asked.response, in, 0);

    KG_ASSERT(scan(&split, asked.response, in, seed) == r);
    KG_ASSERT(split.end == whole.end && split.start == whole.start);
    KG_ASSERT(split.verdict.reason == whole.verdict.reason);
    if (r == GUARD_DONE) {
        KG_ASSERT(g_head((struct kg_str){in.p, whole.end}, asked.response));
        char *copy = fuzz_copy(in.p, whole.end);
        if (parse(&asked, &whole, copy, &h).reason == PROXY_NONE) {
            check_slices(&h, copy, &whole);
            write_on(&asked, &h);
        }
        free(copy);
    }
    return 0;
}
