/* SPDX-License-Identifier: Apache-2.0 */
/* The chunked decoder against every malformed spelling, cut at every byte.
 * The difficulty: the exact end of the message, with the next one right behind it. */
#include "base/err.h"
#include "proxy/chunk.h"
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define B(literal) (literal), sizeof(literal) - 1

static const struct row {
    const char *name, *bytes;
    size_t n;
    enum proxy_reason reason; /* NONE: a whole message */
    const char *payload, *trailers;
} rows[] = {
    {"one", B("5\r\nhello\r\n0\r\n\r\n"), PROXY_NONE, "hello", ""},
    {"empty", B("0\r\n\r\n"), PROXY_NONE, "", ""},
    {"two", B("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), PROXY_NONE, "hello world", ""},
    {"upper and lower hex", B("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), PROXY_NONE,
     "01234567890123456789", ""},
    {"leading zeros", B("0000000000000005\r\nhello\r\n0000\r\n\r\n"), PROXY_NONE, "hello", ""},
    {"payload like framing", B("8\r\n\r\n0\r\n\r\n\n\r\n0\r\n\r\n"), PROXY_NONE, "\r\n0\r\n\r\n\n",
     ""},
    {"extension", B("5;a\r\nhello\r\n0;b\r\n\r\n"), PROXY_NONE, "hello", ""},
    {"extension with value", B("5;a=b;c=d\r\nhello\r\n0\r\n\r\n"), PROXY_NONE, "hello", ""},
    {"extension quoted", B("5;a=\"b;c\\\"\\\\ \t\xc3\xa4=\"\r\nhello\r\n0\r\n\r\n"), PROXY_NONE,
     "hello", ""},
    {"extension with space inside", B("5; a \t= b ;c = \"d\" ; e\r\nhello\r\n0\r\n\r\n"),
     PROXY_NONE, "hello", ""},
    {"trailer", B("0\r\nA: b\r\n\r\n"), PROXY_NONE, "", "A: b\r\n"},
    {"trailers", B("1\r\nx\r\n0\r\ngrpc-status: 0\r\nGrpc-Message:\r\n\r\n"), PROXY_NONE, "x",
     "grpc-status: 0\r\nGrpc-Message:\r\n"},

    {"size empty", B("\r\nhello\r\n0\r\n\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size only extension", B(";a\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size +", B("+5\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size -", B("-5\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size _", B("1_0\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size 0x", B("0x5\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size leading space", B(" 5\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size trailing space", B("5 \r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size trailing tab", B("5\t\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size space extension", B("5 ;a\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size g", B("g\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size NUL", B("5\0\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size 17 digits", B("00000000000000005\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size 2^63", B("8000000000000000\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"size 2^64-1", B("ffffffffffffffff\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"LF behind size", B("5\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"CR behind size", B("5\rhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"CR CR LF behind size", B("5\r\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"LF behind payload", B("5\r\nhello\n0\r\n\r\n"), PROXY_BAD_REQUEST, "hello", ""},
    {"CR behind payload", B("5\r\nhello\r0\r\n\r\n"), PROXY_BAD_REQUEST, "hello", ""},
    {"payload too long", B("5\r\nhello!\r\n0\r\n\r\n"), PROXY_BAD_REQUEST, "hello", ""},
    {"payload too short", B("5\r\nhell\r\n0\r\n\r\n"), PROXY_BAD_REQUEST, "hell\r", ""},
    {"two bytes behind payload", B("5\r\nhelloXX0\r\n\r\n"), PROXY_BAD_REQUEST, "hello", ""},
    {"extension empty", B("5;\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension without name", B("5;=b\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension without value", B("5;a=\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension LF", B("5;a\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension LF in value", B("5;a=b\nX\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension CR in quotes", B("5;a=\"\r\n\"\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension LF in quotes", B("5;a=\"\n\"\r\nhello\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension LF as quoted pair", B("5;a=\"\\\n\"\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension NUL in quotes", B("5;a=\"\0\"\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension DEL", B("5;a=\"\x7f\"\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension token behind quotes", B("5;a=\"b\"c\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension trailing space", B("5;a \r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension trailing space of value", B("5;a=b \r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension two words", B("5;a b\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"extension obs-text outside quotes", B("5;\xc3\xa4\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"end CR X", B("0\r\n\rX"), PROXY_BAD_REQUEST, "", ""},
    {"end LF", B("0\r\n\n"), PROXY_BAD_REQUEST, "", ""},
    {"trailer folded", B("0\r\nA: b\r\n c\r\n\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"trailer without colon", B("0\r\nGET / HTTP/1.1\r\n\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"trailer space before colon", B("0\r\nA : b\r\n\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"trailer LF", B("0\r\nA: b\n\r\n"), PROXY_BAD_REQUEST, "", ""},
    {"trailer control", B("0\r\nA: \x01\r\n\r\n"), PROXY_BAD_REQUEST, "", ""},
#define TRAILER(name)                                                                              \
    {                                                                                              \
        "trailer " name, B("0\r\nA: b\r\n" name ": x\r\n\r\n"), PROXY_BAD_REQUEST, "", ""          \
    }
    TRAILER("Content-Length"),
    TRAILER("transfer-encoding"),
    TRAILER("Host"),
    TRAILER("Authorization"),
    TRAILER("Proxy-Authorization"),
    TRAILER("Cookie"),
    TRAILER("Set-Cookie"),
    TRAILER("Connection"),
    TRAILER("Keep-Alive"),
    TRAILER("Upgrade"),
    TRAILER("Trailer"),
    TRAILER("TE"),
    TRAILER("Expect"),
    TRAILER("Content-Encoding"),
    TRAILER("Content-Type"),
    TRAILER("Content-Range"),
    TRAILER("Cache-Control"),
    TRAILER("Location"),
    TRAILER("WWW-Authenticate"),
    TRAILER("X-Forwarded-For"),
    TRAILER("X-Forwarded-Whatever"),
    TRAILER("Forwarded"),
    TRAILER("X-Real-IP"),
    TRAILER("X-Request-Id"),
    TRAILER("Content_Length"),
    TRAILER("Transfer_Encoding"),
};

/* What came of a message. */
struct outcome {
    enum chunk_result result;
    struct guard_verdict verdict;
    size_t consumed, payload_n;
    char payload[256], trailers[256];
};

/* Feeds the message in pieces of at most `piece` bytes, the first of them `first` bytes. Each piece
 * lies in memory of its exact size. */
static struct outcome feed(const char *bytes, size_t n, size_t first, size_t piece,
                           bool from_worker)
{
    struct outcome o = {.result = CHUNK_MORE};
    bool sound = true;
    struct kg_buf trailers;
    struct chunk c;
    kg_buf_init(&trailers, KG_MAX_HEAD_BYTES);
    chunk_init(&c, &trailers, from_worker, 100, 5);
    while (o.consumed < n && (o.result == CHUNK_MORE || o.result == CHUNK_DATA)) {
        size_t part = o.consumed == 0 && first ? first : piece, used;
        part = part < n - o.consumed ? part : n - o.consumed;
        char *copy = malloc(part);
        memcpy(copy, bytes + o.consumed, part);
        struct kg_str in = {copy, part}, data;
        do {
            o.result = chunk_feed(&c, in, &used, &data);
            sound &= used <= in.n && (o.result != CHUNK_MORE || used == in.n);
            if (o.result == CHUNK_DATA) {
                sound &= data.n > 0 && data.p >= in.p && data.p + data.n == in.p + used &&
                         o.payload_n + data.n < sizeof o.payload;
                memcpy(o.payload + o.payload_n, data.p, sound ? data.n : 0);
                o.payload_n += data.n;
            }
            o.consumed += used;
            in = (struct kg_str){in.p + used, in.n - used};
        } while (o.result == CHUNK_DATA);
        free(copy);
    }
    ck_assert(sound);
    o.verdict = c.verdict;
    ck_assert(kg_str_copy(o.trailers, sizeof o.trailers, kg_buf_str(&trailers)));
    kg_buf_fini(&trailers);
    return o;
}

static void check_row(const struct row *r, const struct outcome *o, size_t cut)
{
    ck_assert_msg(o->result == (r->reason ? CHUNK_REFUSED : CHUNK_END), "%s at %zu: result %d",
                  r->name, cut, (int)o->result);
    ck_assert_msg(o->payload_n == strlen(r->payload) &&
                      memcmp(o->payload, r->payload, o->payload_n) == 0,
                  "%s at %zu: payload", r->name, cut);
    if (r->reason) {
        ck_assert_msg(o->verdict.reason == r->reason && *o->verdict.words, "%s at %zu: reason %d",
                      r->name, cut, (int)o->verdict.reason);
        return;
    }
    ck_assert_msg(o->consumed == r->n, "%s at %zu: consumed", r->name, cut);
    ck_assert_str_eq(o->trailers, r->trailers);
}

START_TEST(cut_anywhere)
{
    const struct row *r = &rows[_i];
    for (size_t cut = 0; cut < r->n; cut++) {
        struct outcome o = feed(r->bytes, r->n, cut, r->n, false);
        check_row(r, &o, cut);
    }
    for (size_t piece = 1; piece <= 3; piece++) {
        struct outcome o = feed(r->bytes, r->n, 0, piece, false);
        check_row(r, &o, piece);
    }
}
END_TEST

START_TEST(from_worker)
{
    const struct row *r = &rows[_i];
    struct outcome o = feed(r->bytes, r->n, 0, r->n, true);
    ck_assert_int_eq(o.verdict.reason, r->reason ? PROXY_UPSTREAM_FAILED : PROXY_NONE);
}
END_TEST

/* The next message's bytes stay untouched, wherever the input was cut. */
START_TEST(pipelined)
{
    const struct row *r = &rows[_i];
    static const char next[] = "GET /next HTTP/1.1\r\n\r\n";
    char bytes[512];
    if (r->reason)
        return;
    memcpy(bytes, r->bytes, r->n);
    memcpy(bytes + r->n, next, sizeof next);
    for (size_t cut = 0; cut < r->n; cut++) {
        struct outcome o = feed(bytes, r->n + sizeof next, cut, r->n + sizeof next, false);
        check_row(r, &o, cut);
    }
}
END_TEST

static void over_and_over(struct chunk *c, struct kg_buf *trailers, size_t bytes, size_t fields)
{
    kg_buf_init(trailers, 2 * KG_MAX_HEAD_BYTES);
    chunk_init(c, trailers, false, bytes, fields);
}

/* All input at once, payload thrown away. */
static enum chunk_result drain(struct chunk *c, const char *bytes, size_t n)
{
    size_t used;
    struct kg_str in = {bytes, n}, data;
    enum chunk_result r;
    do {
        r = chunk_feed(c, in, &used, &data);
        in = (struct kg_str){in.p + used, in.n - used};
    } while (r == CHUNK_DATA);
    return r;
}

START_TEST(extension_limit)
{
    static char bytes[2 * KG_MAX_CHUNK_EXT_BYTES];
    struct kg_buf trailers;
    struct chunk c;
    /* In one chunk, and spread over two: ";" and its name count, CRLF does not. */
    for (size_t n = KG_MAX_CHUNK_EXT_BYTES - 1; n <= KG_MAX_CHUNK_EXT_BYTES + 1; n++) {
        bool over = n > KG_MAX_CHUNK_EXT_BYTES;
        memset(bytes, 'a', sizeof bytes);
        memcpy(bytes, "0;", 2);
        memcpy(bytes + 1 + n, "\r\n\r\n", 4);
        over_and_over(&c, &trailers, 0, 0);
        ck_assert_int_eq(drain(&c, bytes, 1 + n + 4), over ? CHUNK_REFUSED : CHUNK_END);
        ck_assert_int_eq(c.verdict.reason, over ? PROXY_BAD_REQUEST : PROXY_NONE);
        kg_buf_fini(&trailers);

        over_and_over(&c, &trailers, 0, 0);
        ck_assert_int_eq(drain(&c, B("1;bcdefghij\r\nx\r\n")), CHUNK_MORE);
        memcpy(bytes + 1 + n - 10, "\r\n\r\n", 4);
        ck_assert_int_eq(drain(&c, bytes, 1 + n - 10 + 4), over ? CHUNK_REFUSED : CHUNK_END);
        kg_buf_fini(&trailers);
    }
}
END_TEST

START_TEST(size_limit)
{
    struct kg_buf trailers;
    struct chunk c;
    over_and_over(&c, &trailers, 0, 0);
    ck_assert_int_eq(drain(&c, B("7fffffffffffffff\r\nx")), CHUNK_MORE);
    ck_assert_uint_eq(c.left, (uint64_t)INT64_MAX - 1);
    kg_buf_fini(&trailers);
}
END_TEST

START_TEST(trailer_limits)
{
    static char bytes[KG_MAX_HEAD_BYTES + 64];
    struct kg_buf trailers;
    struct chunk c;
    /* Fields: the head had all but three. */
    for (unsigned n = 2; n <= 4; n++) {
        size_t at = (size_t)sprintf(bytes, "0\r\n");
        for (unsigned i = 0; i < n; i++)
            at += (size_t)sprintf(bytes + at, "F%u: x\r\n", i);
        at += (size_t)sprintf(bytes + at, "\r\n");
        over_and_over(&c, &trailers, 100, KG_MAX_FIELDS - 3);
        ck_assert_int_eq(drain(&c, bytes, at), n > 3 ? CHUNK_REFUSED : CHUNK_END);
        ck_assert_int_eq(c.verdict.reason, n > 3 ? PROXY_HEAD_TOO_LARGE : PROXY_NONE);
        kg_buf_fini(&trailers);
    }
    /* Bytes: the section with its blank line, beside a head of 1000. */
    for (size_t n = KG_MAX_HEAD_BYTES - 1001; n <= KG_MAX_HEAD_BYTES - 999; n++) {
        bool over = n > KG_MAX_HEAD_BYTES - 1000;
        memset(bytes, 'v', sizeof bytes);
        memcpy(bytes, "0\r\nA: ", 6);
        memcpy(bytes + 3 + n - 4, "\r\n\r\n", 4);
        over_and_over(&c, &trailers, 1000, 1);
        ck_assert_int_eq(drain(&c, bytes, 3 + n), over ? CHUNK_REFUSED : CHUNK_END);
        ck_assert_int_eq(c.verdict.reason, over ? PROXY_HEAD_TOO_LARGE : PROXY_NONE);
        kg_buf_fini(&trailers);
    }
    /* A head that used all up leaves room for no trailer, but still for the end. */
    over_and_over(&c, &trailers, KG_MAX_HEAD_BYTES, KG_MAX_FIELDS);
    ck_assert_int_eq(drain(&c, B("0\r\n\r\n")), CHUNK_END);
    ck_assert_ptr_null(trailers.data);
    over_and_over(&c, &trailers, KG_MAX_HEAD_BYTES, KG_MAX_FIELDS);
    ck_assert_int_eq(drain(&c, B("0\r\nA: b\r\n\r\n")), CHUNK_REFUSED);
    kg_buf_fini(&trailers);
}
END_TEST

/* Which ones a Connection names is known by hashes; of too many names any may be meant. */
START_TEST(named_trailers_go_no_further)
{
    static const char text[] = "0\r\nX-One: 1\r\nX-Kept: 2\r\nx-oNE: 3\r\nX-Two:\r\n\r\n";
    static const char *const names[] = {"x-one", "X-TWO", "x-3", "x-4", "x-5"};
    static const struct {
        size_t names;
        const char *left;
    } cases[] = {
        {0, "X-One: 1\r\nX-Kept: 2\r\nx-oNE: 3\r\nX-Two:\r\n"},
        {1, "X-Kept: 2\r\nX-Two:\r\n"},
        {2, "X-Kept: 2\r\n"},
        {FIELD_NAMES_KNOWN, "X-Kept: 2\r\n"},
        {FIELD_NAMES_KNOWN + 1, ""},
    };
    struct kg_buf trailers;
    struct kg_str payload;
    struct chunk c;
    size_t used;

    kg_buf_init(&trailers, KG_MAX_HEAD_BYTES);
    chunk_init(&c, &trailers, false, 0, 0);
    for (size_t i = 0; i < cases[_i].names; i++)
        field_names_add(&c.dropped, kg_str_of(names[i]));
    ck_assert_int_eq(chunk_feed(&c, (struct kg_str){text, sizeof text - 1}, &used, &payload),
                     CHUNK_END);
    ck_assert_str_eq(trailers.data, cases[_i].left);
    ck_assert_uint_eq(trailers.len, strlen(cases[_i].left));
    kg_buf_fini(&trailers);
}
END_TEST

START_TEST(stays_where_it_ended)
{
    struct kg_buf trailers;
    struct chunk c;
    size_t used;
    struct kg_str data;
    over_and_over(&c, &trailers, 0, 0);
    ck_assert_int_eq(chunk_feed(&c, KG_STR(""), &used, &data), CHUNK_MORE);
    ck_assert_int_eq(drain(&c, B("0\r\n\r\n")), CHUNK_END);
    ck_assert_int_eq(chunk_feed(&c, KG_STR("5\r\n"), &used, &data), CHUNK_END);
    ck_assert_uint_eq(used, 0);
    over_and_over(&c, &trailers, 0, 0);
    ck_assert_int_eq(drain(&c, B("x")), CHUNK_REFUSED);
    ck_assert_int_eq(chunk_feed(&c, KG_STR("5\r\n"), &used, &data), CHUNK_REFUSED);
}
END_TEST

START_TEST(writer)
{
    static const struct {
        uint64_t n;
        const char *head;
    } heads[] = {{1, "1\r\n"},
                 {9, "9\r\n"},
                 {15, "f\r\n"},
                 {16, "10\r\n"},
                 {500, "1f4\r\n"},
                 {65536, "10000\r\n"},
                 {UINT64_MAX, "ffffffffffffffff\r\n"}};
    char out[CHUNK_HEAD_BYTES];
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        size_t n = chunk_write_head(out, heads[i].n);
        ck_assert(kg_str_eq((struct kg_str){out, n}, kg_str_of(heads[i].head)));
    }
    struct kg_buf end;
    kg_buf_init(&end, 1024);
    ck_assert_int_eq(chunk_write_end(&end, KG_STR("A: b\r\n")), 0);
    ck_assert_str_eq(end.data, "0\r\nA: b\r\n\r\n");
    kg_buf_clear(&end);
    ck_assert_int_eq(chunk_write_end(&end, KG_STR("")), 0);
    ck_assert_str_eq(end.data, CHUNK_LAST);
    kg_buf_fini(&end);
    kg_buf_init(&end, 8);
    ck_assert_int_eq(chunk_write_end(&end, KG_STR("A: b\r\n")), KG_ELIMIT);
    kg_buf_fini(&end);
}
END_TEST

/* --- fuzz ----------------------------------------------------------------------------------------
 */

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Writes a random message and its payload; gives its length. */
static size_t make(uint64_t *random, char *out, char *payload, size_t *payload_n)
{
    static const char *const ext[] = {"", "", ";a", ";a=b", ";a=\"\\\"\\\\\"; c"};
    size_t n = 0;
    *payload_n = 0;
    for (unsigned chunks = random_next(random) % 5; chunks > 0; chunks--) {
        size_t size = 1 + random_next(random) % 40;
        n += (size_t)sprintf(out + n, "%zx%s\r\n", size, ext[random_next(random) % 5]);
        for (size_t i = 0; i < size; i++)
            out[n++] = payload[(*payload_n)++] = (char)random_next(random);
        out[n++] = '\r';
        out[n++] = '\n';
    }
    return n +
           (size_t)sprintf(out + n, random_next(random) % 2 ? "0\r\n\r\n" : "0;x\r\nA: b\r\n\r\n");
}

START_TEST(fuzz_good)
{
    uint64_t random = 1;
    for (int round = 0; round < 2000; round++) {
        char bytes[1024], payload[256];
        size_t payload_n, n = make(&random, bytes, payload, &payload_n);
        struct outcome o =
            feed(bytes, n, random_next(&random) % 20, 1 + random_next(&random) % 30, false);
        ck_assert_int_eq(o.result, CHUNK_END);
        ck_assert_uint_eq(o.consumed, n);
        ck_assert_uint_eq(o.payload_n, payload_n);
        ck_assert(payload_n == 0 || memcmp(o.payload, payload, payload_n) == 0);
    }
}
END_TEST

/* Damaged messages: the same verdict, payload and end however they are cut. */
START_TEST(fuzz_bad)
{
    static const char spice[] = "\r\n0;\"\\= \t5aF\0\xff:";
    uint64_t random = 2;
    unsigned refused = 0;
    for (int round = 0; round < 4000; round++) {
        char bytes[1024], payload[256];
        size_t payload_n, n = make(&random, bytes, payload, &payload_n);
        for (unsigned i = 1 + random_next(&random) % 2; i > 0; i--)
            bytes[random_next(&random) % n] = spice[random_next(&random) % (sizeof spice - 1)];
        struct outcome a = feed(bytes, n, 0, n, false);
        struct outcome b = feed(bytes, n, 0, 1 + random_next(&random) % 7, false);
        ck_assert_int_eq(a.result, b.result);
        ck_assert_uint_eq(a.payload_n, b.payload_n);
        ck_assert(memcmp(a.payload, b.payload, a.payload_n) == 0);
        ck_assert_ptr_eq(a.verdict.words, b.verdict.words);
        if (a.result == CHUNK_END)
            ck_assert_uint_eq(a.consumed, b.consumed);
        refused += a.result == CHUNK_REFUSED;
    }
    ck_assert_uint_gt(refused, 1000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("chunk");
    TCase *t = tcase_create("chunk");
    int count = sizeof rows / sizeof *rows;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, cut_anywhere, 0, count);
    tcase_add_loop_test(t, from_worker, 0, count);
    tcase_add_loop_test(t, pipelined, 0, count);
    tcase_add_test(t, extension_limit);
    tcase_add_test(t, size_limit);
    tcase_add_test(t, trailer_limits);
    tcase_add_loop_test(t, named_trailers_go_no_further, 0, 5);
    tcase_add_test(t, stays_where_it_ended);
    tcase_add_test(t, writer);
    tcase_add_test(t, fuzz_good);
    tcase_add_test(t, fuzz_bad);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
