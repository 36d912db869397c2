/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked coding. The difficulty: what comes out may not depend on how the bytes came in. */
#include "fuzz_grammar.h"
#include "proxy/chunk.h"

struct decoded {
    enum chunk_result result;
    struct guard_verdict verdict;
    size_t consumed;
    struct kg_buf payload, trailers;
};

static void decode(struct kg_str in, uint32_t seed, bool from_worker, size_t head_bytes,
                   size_t head_fields, struct decoded *d)
{
    struct kg_str payload;
    struct chunk c;
    size_t used;

    *d = (struct decoded){.result = CHUNK_MORE};
    kg_buf_init(&d->payload, SIZE_MAX);
    kg_buf_init(&d->trailers, KG_MAX_HEAD_BYTES);
    chunk_init(&c, &d->trailers, from_worker, head_bytes, head_fields);
    while (d->consumed < in.n && d->result <= CHUNK_DATA) {
        size_t at = 0, n = fuzz_piece(&seed, in.n - d->consumed);
        char *copy = fuzz_copy(in.p + d->consumed, n);
        do {
            d->result = chunk_feed(&c, (struct kg_str){copy + at, n - at}, &used, &payload);
            KG_ASSERT(used <= n - at);
            KG_ASSERT(d->result != CHUNK_DATA || payload.n > 0);
            KG_ASSERT(payload.n == 0 ||
                      (payload.p >= copy + at && payload.p + payload.n <= copy + at + used));
            kg_buf_append(&d->payload, payload.p, payload.n);
            at += used;
        } while (d->result == CHUNK_DATA && at < n);
        KG_ASSERT(d->result != CHUNK_MORE || at == n);
        d->consumed += at;
        free(copy);
    }
    d->verdict = c.verdict;
    if (d->result == CHUNK_DATA)
        d->result = CHUNK_MORE;
    if (d->result != CHUNK_END)
        kg_buf_clear(&d->trailers);
}

static void forget(struct decoded *d)
{
    kg_buf_fini(&d->payload);
    kg_buf_fini(&d->trailers);
}

static void check_same(const struct decoded *a, const struct decoded *b)
{
    KG_ASSERT(a->result == b->result && a->verdict.reason == b->verdict.reason);
    KG_ASSERT(kg_str_eq(kg_buf_str(&a->payload), kg_buf_str(&b->payload)));
    KG_ASSERT(kg_str_eq(kg_buf_str(&a->trailers), kg_buf_str(&b->trailers)));
}

/* What we write of it is read as the same. */
static void check_again(const struct decoded *a, bool from_worker)
{
    char head[CHUNK_HEAD_BYTES];
    struct kg_buf out;
    struct decoded b;

    kg_buf_init(&out, SIZE_MAX);
    if (a->payload.len > 0) {
        kg_buf_append(&out, head, chunk_write_head(head, a->payload.len));
        kg_buf_append(&out, a->payload.data, a->payload.len);
        kg_buf_puts(&out, CHUNK_TAIL);
    }
    KG_ASSERT(chunk_write_end(&out, kg_buf_str(&a->trailers)) == 0);
    decode(kg_buf_str(&out), 0, from_worker, 0, 0, &b);
    KG_ASSERT(b.consumed == out.len);
    check_same(a, &b);
    forget(&b);
    kg_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};
    uint8_t flags = fuzz_byte(&f);
    uint32_t seed = fuzz_byte(&f);
    bool from_worker = flags & 1;
    size_t head_bytes = flags & 2 ? KG_MAX_HEAD_BYTES - 40 : 100;
    size_t head_fields = flags & 4 ? KG_MAX_FIELDS - 2 : 3;
    struct decoded whole, split, bytes;

    decode(fuzz_rest(&f), 0, from_worker, head_bytes, head_fields, &whole);
    decode(fuzz_rest(&f), seed, from_worker, head_bytes, head_fields, &split);
    decode(fuzz_rest(&f), 1, from_worker, head_bytes, head_fields, &bytes);
    check_same(&whole, &split);
    check_same(&whole, &bytes);
    if (whole.result == CHUNK_END)
        KG_ASSERT(whole.consumed == split.consumed && whole.consumed == bytes.consumed);
    if (whole.result == CHUNK_END) {
        KG_ASSERT(g_chunks((struct kg_str){(const char *)f.p, whole.consumed}));
        check_again(&whole, from_worker);
    }
    forget(&whole);
    forget(&split);
    forget(&bytes);
    return 0;
}
