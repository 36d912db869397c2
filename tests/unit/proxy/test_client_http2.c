/* SPDX-License-Identifier: Apache-2.0 */
/* A client's HTTP/2 connection against a scripted gate and worker; after each test the books must
 * balance. The difficulty: the frames are written by hand, so that they can come in any pieces and
 * stop anywhere; what comes back is only looked at for the bytes that matter. */
#include "world.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
#define ASK                                                                                        \
    "\x82\x86\x84\x41\x01"                                                                         \
    "a" /* GET http / with authority a */
#define POST                                                                                       \
    "\x83\x86\x84\x41\x01"                                                                         \
    "a"

enum { DATA, HEADERS, RST = 3, SETTINGS, PING = 6, GOAWAY = 7 };
enum { ACK = 1, END_STREAM = 1, END_HEADERS = 4 };

static void say_frame(struct peer *p, int type, int flags, int stream, const char *payload,
                      size_t n)
{
    char head[9] = {0, (char)(n >> 8), (char)n, (char)type, (char)flags, 0, 0, 0, (char)stream};

    say_bytes(p, head, sizeof head);
    say_bytes(p, payload, n);
}

static void ask(struct peer *p, int stream)
{
    say_frame(p, HEADERS, END_STREAM | END_HEADERS, stream, ASK, sizeof ASK - 1);
}

static struct peer speak(void)
{
    struct peer p = client();

    say_bytes(&p, PREFACE, sizeof PREFACE - 1);
    return p;
}

/* The head of a frame with no payload, or with one of four bytes that are given. */
static void hear_frame(struct peer *p, int type, int flags, int stream, size_t n)
{
    char head[9] = {0, 0, (char)n, (char)type, (char)flags, 0, 0, 0, (char)stream};
    uint64_t until = uv_hrtime() + WAIT_NS;

    while (!(p->got.len > 0 && memmem(p->got.data, p->got.len, head, 9)) && uv_hrtime() < until) {
        turn();
        look(p);
    }
    ck_assert_msg(memmem(p->got.data, p->got.len, head, 9) != NULL, "frame %d did not come", type);
}

START_TEST(one_request)
{
    struct peer c = speak(), w;

    ask(&c, 1);
    w = worker();
    hear(&w, "GET / HTTP/1.1\r\nHost: a\r\n");
    hear(&w, "Via: 2 kipgate\r\n");
    say(&w, OK2);
    hear(&c, "ok");
    ask(&c, 3); /* on the connection that was kept */
    forget(&w);
    hear(&w, "\r\n\r\n");
    forget(&c);
    say(&w, OK2);
    hear(&c, "ok");
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    ck_assert_uint_eq(world.stats.services[1].broken, 0);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(in_single_bytes)
{
    static const char bytes[] = PREFACE "\0\0\6\1\5\0\0\0\1" ASK;
    struct peer c = client(), w;

    for (size_t i = 0; i < sizeof bytes - 1; i++)
        say_bytes(&c, bytes + i, 1);
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "ok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(http1_beside_it)
{
    struct peer c, w = begin(&c);

    say(&c, "PRI * HTTP/2.0\r\n\r\n"); /* too late */
    hear(&c, "HTTP/1.1 505 ");
    hear_end(&c);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(nearly_a_preface)
{
    struct peer c = client();

    say(&c, "PRI * HTTP/2.0\r\n\r\nSN");
    hear(&c, "HTTP/1.1 505 ");
    bye(&c);
}
END_TEST

START_TEST(a_body_in_pieces)
{
    struct peer c = speak(), w;

    say_frame(&c, HEADERS, END_HEADERS, 1, POST, sizeof POST - 1);
    say_frame(&c, DATA, 0, 1, "one", 3);
    w = worker();
    hear(&w, "\r\n\r\n3\r\none\r\n");
    say_frame(&c, DATA, 0, 1, "two", 3);
    hear(&w, "3\r\ntwo\r\n");
    say_frame(&c, DATA, END_STREAM, 1, "", 0);
    hear(&w, "0\r\n\r\n");
    say(&w, OK2);
    hear(&c, "ok");
    bye(&c);
    bye(&w);
}
END_TEST

/* Trailers are held to the rules of a chunked body's; its worker is not told that it was whole. */
START_TEST(trailers_that_must_not_be)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"\x0f\x0d\x01"
         "1",
         4}, /* content-length: 1 */
        {"\x0f\x17\x01"
         "a",
         4}, /* host: a, by its name in the table: host */
        {"\x00\x07"
         "trailer"
         "\x01"
         "x",
         11},
        {"\x00\x03"
         "a b"
         "\x01"
         "x",
         7},
        {"\x84", 1}, /* :path: / */
    };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct peer c = speak(), w;
        unsigned released = gate.released;
        say_frame(&c, HEADERS, END_HEADERS, 1, POST, sizeof POST - 1);
        say_frame(&c, DATA, 0, 1, "abc", 3);
        w = worker();
        hear(&w, "3\r\nabc\r\n");
        say_frame(&c, HEADERS, END_STREAM | END_HEADERS, 1, bad[i].bytes, bad[i].n);
        hear_end(&w);
        ck_assert_msg(!has(&w, "0\r\n\r\n"), "%zu", i);
        until(gate.released == released + 1);
        bye(&c);
        bye(&w);
    }
}
END_TEST

START_TEST(an_early_answer_ends_the_upload)
{
    struct peer c = speak(), w;

    say_frame(&c, HEADERS, END_HEADERS, 1, POST, sizeof POST - 1);
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "ok");
    hear_frame(&c, RST, 0, 1, 4);
    hear_end(&w); /* the connection cannot be used again */
    bye(&c);
    bye(&w);
}
END_TEST

/* What is held is handed over in one piece, and the exchange may end by it. */
START_TEST(a_held_body_beyond_the_limit)
{
    static const char some[16000];
    const struct proxy_service limited = {.id = 1, .name = "limited", .max_body_bytes = 20000};
    struct peer c, w;

    ck_assert_int_eq(proxy_config_begin(world.proxy), 0);
    ck_assert_int_eq(proxy_config_service(world.proxy, &limited), 0);
    ck_assert_int_eq(proxy_config_route(world.proxy, KG_STR("a"), KG_STR("/"), 1), 0);
    ck_assert_int_eq(proxy_config_commit(world.proxy), 0);
    gate.mode = HOLD;
    c = speak();
    say_frame(&c, HEADERS, END_HEADERS, 1, POST, sizeof POST - 1);
    for (int i = 0; i < 3; i++)
        say_frame(&c, DATA, 0, 1, some, sizeof some);
    until(gate.waiting == 1);
    gate_grant();
    w = worker();
    hear(&c, "body-too-large");
    until(gate.released == 1);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(reset_while_it_waits)
{
    struct peer c;

    gate.mode = HOLD;
    c = speak();
    for (int stream = 1; stream < 16; stream += 2)
        ask(&c, stream);
    until(gate.waiting == 8);
    for (int stream = 1; stream < 16; stream += 2)
        say_frame(&c, RST, 0, stream, "\0\0\0\10", 4);
    until(gate.cancelled == 8);
    ck_assert_uint_eq(world.stats.exchanges, 0);
    bye(&c);
}
END_TEST

/* As many as connections could be, for each may need one to the worker. */
START_TEST(too_many_exchanges)
{
    struct peer c;

    gate.mode = HOLD;
    c = speak();
    for (int stream = 1; stream < 18; stream += 2)
        ask(&c, stream);
    hear_frame(&c, RST, 0, 17, 4);
    ck_assert_uint_eq(gate.waiting, 8);
    bye(&c);
}
END_TEST

START_TEST(gone_while_it_waits)
{
    struct peer c;

    gate.mode = HOLD;
    c = speak();
    ask(&c, 1);
    ask(&c, 3);
    until(gate.waiting == 2);
    hang_up(&c);
    until(gate.cancelled == 2);
}
END_TEST

START_TEST(granted_late)
{
    struct peer c, w;

    gate.mode = HOLD;
    c = speak();
    ask(&c, 1);
    until(gate.waiting == 1);
    gate_grant();
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "ok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(a_worker_that_breaks_off)
{
    struct peer c = speak(), w;

    ask(&c, 1);
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    hear(&c, "half");
    bye(&w);
    hear_frame(&c, RST, 0, 1, 4);
    bye(&c);
}
END_TEST

/* That it will be drained, and the question whether it knows; then, as it does, the end. */
static void hear_goaways(struct peer *c)
{
    static const char goaway[] = {0, 0, 8, GOAWAY}, ping[] = {0, 0, 8, PING};

    hear_frame(c, GOAWAY, 0, 0, 8);
    hear_frame(c, PING, 0, 0, 8);
    ck_assert((char *)memmem(c->got.data, c->got.len, goaway, sizeof goaway) <
              (char *)memmem(c->got.data, c->got.len, ping, sizeof ping));
    forget(c);
    say_frame(c, PING, ACK, 0, "\0\0\0\0\0\0\0", 8);
    hear_frame(c, GOAWAY, 0, 0, 8);
}

START_TEST(drained_when_its_streams_have_ended)
{
    struct peer c = speak(), w;

    ask(&c, 1);
    w = worker();
    hear(&w, "\r\n\r\n");
    proxy_drain(world.proxy, on_closed, &world.drained);
    hear_goaways(&c);
    ck_assert(!world.drained);
    say(&w, OK2);
    hear(&c, "ok");
    hear_end(&c);
    bye(&c);
    until(world.drained);
    bye(&w);
}
END_TEST

START_TEST(what_crosses_a_drain_is_served)
{
    struct peer c = speak(), w;

    hear_frame(&c, SETTINGS, ACK, 0, 0);
    proxy_drain(world.proxy, on_closed, &world.drained);
    hear_frame(&c, GOAWAY, 0, 0, 8);
    ask(&c, 1); /* sent before that had come */
    w = worker();
    hear(&w, "\r\n\r\n");
    hear_goaways(&c);
    ask(&c, 3); /* it ought to know */
    say(&w, OK2);
    hear(&c, "ok");
    hear_end(&c);
    ck_assert_uint_eq(gate.granted, 1);
    bye(&c);
    until(world.drained);
    bye(&w);
}
END_TEST

/* What comes together with the word that the drain was heard of is behind the last stream that we
 * name, so its client may send it again: it must not have gone to a worker. */
START_TEST(what_comes_behind_the_word_is_refused)
{
    static const char both[] = "\0\0\x08\6\1\0\0\0\0\0\0\0\0\0\0\0\0"
                               "\0\0\6\1\5\0\0\0\1" POST;
    struct peer c = speak();

    hear_frame(&c, SETTINGS, ACK, 0, 0);
    proxy_drain(world.proxy, on_closed, &world.drained);
    hear_frame(&c, PING, 0, 0, 8);
    say_bytes(&c, both, sizeof both - 1);
    hear_end(&c);
    ck_assert_uint_eq(gate.acquired, 0);
    bye(&c);
    until(world.drained);
}
END_TEST

START_TEST(a_drain_does_not_wait_for_long)
{
    struct peer c = speak();
    uint64_t began_ms = uv_now(&world.loop);

    hear_frame(&c, SETTINGS, ACK, 0, 0);
    proxy_drain(world.proxy, on_closed, &world.drained);
    hear_end(&c); /* which has not said that it heard of it */
    bye(&c);
    until(world.drained);
    ck_assert_uint_ge(uv_now(&world.loop) - began_ms, KG_DRAIN_FIRST_BYTE_MS / 2);
}
END_TEST

START_TEST(closed_with_streams_in_every_state)
{
    struct peer c = speak(), held, w;

    ask(&c, 1);
    w = worker();
    hear(&w, "\r\n\r\n");
    ask(&c, 3); /* connects while the first is asked */
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    hear(&c, "half");
    gate.mode = HOLD;
    held = speak();
    ask(&held, 1);
    say_frame(&held, HEADERS, END_HEADERS, 3, POST, sizeof POST - 1);
    say_frame(&held, HEADERS, 0, 5, ASK, 2); /* a head without an end */
    until(gate.waiting == 2);
    bye(&c); /* the loop does not turn any more before the proxy is closed */
    bye(&held);
    bye(&w);
}
END_TEST

START_TEST(garbage)
{
    for (int seed = 0; seed < 64; seed++) {
        struct peer c = speak();
        char noise[512];
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (char)((seed * 131 + (int)i * (seed | 1) * 37) >> (seed % 5));
        ask(&c, 1);
        say_bytes(&c, noise, sizeof noise);
        bye(&c);
        until(world.stats.connections == 0);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {one_request,
                                  in_single_bytes,
                                  http1_beside_it,
                                  nearly_a_preface,
                                  a_body_in_pieces,
                                  an_early_answer_ends_the_upload,
                                  trailers_that_must_not_be,
                                  a_held_body_beyond_the_limit,
                                  reset_while_it_waits,
                                  too_many_exchanges,
                                  gone_while_it_waits,
                                  granted_late,
                                  a_worker_that_breaks_off,
                                  drained_when_its_streams_have_ended,
                                  what_crosses_a_drain_is_served,
                                  what_comes_behind_the_word_is_refused,
                                  a_drain_does_not_wait_for_long,
                                  closed_with_streams_in_every_state,
                                  garbage};

    return world_run("client http2", tests, sizeof tests / sizeof *tests);
}
