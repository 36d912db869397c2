/* SPDX-License-Identifier: Apache-2.0 */
/* One answer of a worker, cut anywhere, that ends with its connection: what the head parser and the
 * chunk decoder find in it is what the client must get, byte for byte and with its end. The
 * difficulty: an answer that breaks off may never look whole. */
#include "body_end.h"
#include "fuzz_books.h"

#define GET "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"
#define HEAD_ "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
#define OLD "GET / HTTP/1.0\r\nHost: a\r\n\r\n"

struct answer {
    bool any;   /* a head is whole, and fine */
    bool whole; /* to its end */
    bool until_close;
    int status;
    struct kg_buf body;
};

/* What the worker said: the first final answer. */
static void said_by_worker(struct kg_str in, bool head, struct answer *a)
{
    const struct end_asked asked = {.response = true, .of = {.head = head}};
    struct end e = {.payload = &a->body};
    int interim = 0;

    for (;;) {
        bool fine = end_find(&asked, in, &e);
        if (!fine && e.head == 0)
            return;
        if (!http1_is_interim(&e.fields)) {
            a->any = true;
            a->status = e.fields.status;
            a->whole = fine && e.whole > 0;
            break;
        }
        if (++interim > KG_MAX_INTERIM_RESPONSES)
            return;
        in = (struct kg_str){in.p + e.whole, in.n - e.whole};
    }
    if (e.framing == HTTP1_UNTIL_CLOSE)
        a->whole = true;
    if (e.framing == HTTP1_UNTIL_CLOSE || (e.framing == HTTP1_LENGTH && !a->whole))
        kg_buf_append(&a->body, in.p + e.head, in.n - e.head);
    else if (e.framing == HTTP1_LENGTH)
        kg_buf_append(&a->body, in.p + e.head, e.whole - e.head);
}

/* What the client got. */
static void got_by_client(const struct peer *client, bool head, struct answer *a)
{
    struct kg_str in = kg_buf_str(&client->got);
    struct seen s;

    do {
        if (in.n == 0 || !answer_head(&in, &s, &a->status))
            return;
    } while (a->status < 200);
    a->any = true;
    if (head || a->status == 204 || a->status == 304) {
        a->whole = true;
    } else if (s.chunked) {
        a->whole = seen_chunks_into(&in, &a->body);
    } else {
        a->until_close = !s.has_length;
        a->whole = s.has_length ? s.length <= in.n : client->eof;
        kg_buf_append(&a->body, in.p, s.has_length && a->whole ? (size_t)s.length : in.n);
        in.n -= s.has_length && a->whole ? (size_t)s.length : in.n;
    }
    if (a->whole)
        KG_ASSERT(in.n == 0); /* not a byte behind it */
}

static void check(const struct answer *said, const struct answer *got)
{
    KG_ASSERT(got->any);
    if (!said->any) {
        KG_ASSERT(got->status == 502 && got->whole);
    } else if (said->whole) {
        KG_ASSERT(got->whole && got->status == said->status);
        KG_ASSERT(kg_str_eq(kg_buf_str(&got->body), kg_buf_str(&said->body)));
    } else if (got->status != said->status || said->status == 502) {
        KG_ASSERT(got->status == 502); /* nothing of it was passed on */
    } else {
        KG_ASSERT(!got->whole || got->until_close);
        KG_ASSERT(kg_str_has_prefix(kg_buf_str(&said->body), kg_buf_str(&got->body)));
    }
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
    static const char *const asked[] = {GET, HEAD_, OLD, GET};
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    const char *ask = asked[flags >> 6];
    struct kg_str in = fuzz_rest(&f);
    struct answer said = {.any = false}, got = {.any = false};

    kg_buf_init(&said.body, SIZE_MAX);
    kg_buf_init(&got.body, SIZE_MAX);
    script_begin(flags & 0x3f, false);
    say_piece(script.client, ask, strlen(ask));
    kg_buf_append(&script.said, in.p, in.n);
    script.to_worker = true;
    say_said();
    if (script.worker)
        peer_close(script.worker);
    turn();
    said_by_worker(in, ask == asked[1], &said);
    got_by_client(script.client, ask == asked[1], &got);
    check(&said, &got);
    kg_buf_fini(&said.body);
    kg_buf_fini(&got.body);
    script_end(flags & 1);
    check_log();
    return 0;
}
