/* SPDX-License-Identifier: Apache-2.0 */
/* One client's bytes, cut anywhere, through the real connections: the worker must see exactly the
 * requests that the head parser and the chunk decoder find in them one behind the other, with just
 * the same bodies. The difficulty: an answer that comes before its request is whole ends all. */
#include "body_end.h"
#include "fuzz_books.h"

static struct {
    size_t count; /* requests that the worker saw whole */
    uint64_t sum; /* of their methods and bodies */
} seen;

static uint64_t add_up(uint64_t sum, struct kg_str method, struct kg_str body)
{
    sum = sum * 31 + kg_hash(method.p, method.n);
    return sum * 31 + kg_hash(body.p, body.n);
}

/* Answers the requests that are whole, in turn; gives whether there was one. */
static bool answer_whole(struct peer *w)
{
    struct kg_str all = kg_buf_str(&w->got), in = {all.p + w->answered, all.n - w->answered};
    struct kg_str method;
    struct kg_buf body;
    struct seen s = {0};
    bool whole;

    kg_buf_init(&body, SIZE_MAX);
    whole = seen_request(&in, &s, &method, &body);
    if (whole) {
        w->answered = all.n - in.n;
        seen.count++;
        seen.sum = add_up(seen.sum, method, kg_buf_str(&body));
        say_piece(w, OK2, kg_str_eq(method, KG_STR("HEAD")) ? sizeof OK2 - 3 : sizeof OK2 - 1);
    }
    kg_buf_fini(&body);
    return whole;
}

static void answer_all(void)
{
    for (bool any = true; any;) {
        any = false;
        for (int i = 0; i < MAX_PEERS; i++)
            any |= world.workers[i].fd >= 0 && answer_whole(&world.workers[i]);
        turn();
    }
}

/* What should have come of it. *surely: none of it may be missing. */
static size_t expected(struct kg_str in, uint64_t *sum, bool *surely)
{
    const struct end_asked asked = {.response = false};
    struct kg_buf payload;
    struct end e = {.payload = &payload};
    size_t count = 0;

    kg_buf_init(&payload, SIZE_MAX);
    *sum = 0;
    *surely = true;
    while (end_find(&asked, in, &e) && e.whole > 0) {
        struct kg_str body = kg_buf_str(&payload);
        if (e.framing == HTTP1_LENGTH)
            body = (struct kg_str){in.p + e.head, e.whole - e.head};
        if (count++ < seen.count)
            *sum = add_up(*sum, e.fields.method, body);
        *surely &= !e.fields.expect_continue; /* who does not wait for it may be cut off */
        if (!e.fields.keep_alive)
            break;
        in = (struct kg_str){in.p + e.whole, in.n - e.whole};
        kg_buf_clear(&payload);
    }
    kg_buf_fini(&payload);
    return count;
}

static void check(struct kg_str in)
{
    uint64_t sum;
    bool surely;
    size_t count = expected(in, &sum, &surely);

    KG_ASSERT(count >= seen.count && sum == seen.sum);
    if (surely)
        KG_ASSERT(count == seen.count);
}

static void configure_any(void)
{
    static const struct proxy_service any = {.id = 1, .name = "any", .max_body_bytes = -1};
    struct proxy *p = world.proxy;

    KG_ASSERT(proxy_config_begin(p) == 0 && proxy_config_service(p, &any) == 0 &&
              proxy_config_route(p, KG_STR(""), KG_STR("/"), 1) == 0 &&
              proxy_config_commit(p) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    struct kg_str in = fuzz_rest(&f), left = in;

    memset(&seen, 0, sizeof seen);
    script_begin(flags & 0x3f, false);
    configure_any();
    while (left.n > 0) {
        size_t piece =
            script.cut_bytes < MAX_CUT_BYTES ? fuzz_piece(&script.split, left.n) : left.n;
        script.cut_bytes += piece;
        say_piece(script.client, left.p, piece);
        left = (struct kg_str){left.p + piece, left.n - piece};
        answer_all();
    }
    check(in);
    script_end(flags & 0x80);
    check_log();
    return 0;
}
