/* SPDX-License-Identifier: Apache-2.0 */
/* Workers of HTTP/2 that break rules, how one is found ready, and sessions that give way.
 * The difficulty is in http2_worker.h. */
#include "http2_worker.h"
#include "proxy/proxy_priv.h"

/* --- workers that do wrong ----------------------------------------------------------------- */

START_TEST(cut_off_bodies_are_seen)
{
    const nghttp2_nv ok[] = {NV(":status", "200")};

    for (int how = 0; how < 2; how++) {
        struct peer c = client();
        struct http2_worker *w;
        struct seen *s;
        speak_h2c();
        say(&c, GET "\r\n");
        w = http2_worker();
        s = request(w, 0);
        answer(w, s, ok, 1, false);
        pour(w, s, 3, false);
        serve_client(w, &c, "3\r\nwww\r\n");
        if (how == 0)
            reset(w, s, NGHTTP2_INTERNAL_ERROR);
        else
            hang_up(&w->p);
        hear_end(&c);
        ck_assert(!has(&c, "0\r\n\r\n"));
        bye(&c);
        worker_over(w);
    }
}
END_TEST

/* The head, which a client that is gone does not take, ends the last exchange on a session that is
 * to end with it. */
START_TEST(goes_away_as_the_client_does)
{
    static const char bytes[] = "\0\0\1\1\4\0\0\0\1\x88"               /* :status: 200 */
                                "\0\0\10\7\0\0\0\0\0\0\0\0\1\0\0\0\0"; /* GOAWAY */
    struct peer c = client();
    struct http2_worker *w;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    request(w, 0);
    serve_until(w, w->settings_acks == 1);
    ck_assert_int_eq(send(w->p.fd, bytes, sizeof bytes - 1, 0), sizeof bytes - 1);
    hang_up(&c); /* both are there when the loop turns, the worker's first */
    until(gate.released == 1);
    worker_over(w);
}
END_TEST

START_TEST(malformed_responses)
{
    const nghttp2_nv heads[][2] = {
        {NV(":status", "101"), NV("x", "y")},
        {NV(":status", "2"), NV("x", "y")},
        {NV("x", "y"), NV("x", "y")},
        {NV(":status", "200"), NV("connection", "close")},
        {NV(":status", "200"), NV("transfer-encoding", "chunked")},
        {NV(":status", "200"), NV("a b", "y")},
        {NV(":status", "200"), NV("x", "a\r\nb: c")},
        {NV(":status", "200"), NV("content-length", "1")},
        {NV(":status", "200"), NV("content-length", "x")},
        {NV(":status", "200"), NV(":status", "200")},
        {NV(":status", "200"), NV(":path", "/")},
    };

    speak_h2c();
    for (unsigned i = 0; i < COUNT(heads); i++) {
        struct peer c = client();
        struct http2_worker *w;
        struct seen *s;
        say(&c, POST);
        w = http2_worker();
        s = request(w, 0);
        answer(w, s, heads[i], 2, true);
        serve_client(w, &c, "\r\n\r\n");
        ck_assert_msg(has(&c, "HTTP/1.1 502 "), "head %u: %.*s", i, (int)c.got.len, c.got.data);
        bye(&c);
        worker_over(w);
        proxy_worker_remove(world.worker);
        add_worker();
    }
}
END_TEST

START_TEST(malformed_trailers)
{
    const nghttp2_nv bad[] = {NV("content-length", "1"), NV(":status", "200"),
                              NV("transfer-encoding", "chunked")};
    const nghttp2_nv ok[] = {NV(":status", "200")};

    speak_h2c();
    for (unsigned i = 0; i < COUNT(bad); i++) {
        struct peer c = client();
        struct http2_worker *w;
        struct seen *s;
        say(&c, CHUNKED "0\r\n\r\n");
        w = http2_worker();
        s = request(w, 0);
        s->left = 3;
        s->last = true;
        s->trailer = &bad[i];
        answer(w, s, ok, 1, false);
        serve_until(w, s->closed || w->p.eof);
        hear_end(&c);
        ck_assert_msg(!has(&c, "0\r\n\r\n"), "trailers %u", i);
        bye(&c);
        worker_over(w);
        proxy_worker_remove(world.worker);
        add_worker();
    }
}
END_TEST

/* A reload: another worker that speaks otherwise, and who waited since before it. */
START_TEST(a_worker_that_speaks_otherwise_serves_who_waited)
{
    struct peer c = client(), w1;
    struct http2_worker *w;

    gate.mode = HOLD;
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    speak_h2c();
    gate_grant();
    w = http2_worker();
    answer_ok(w, request(w, 0), 3);
    serve_client(w, &c, "3\r\nwww\r\n0\r\n\r\n");
    worker_over(w);
    forget(&c);
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    configure();
    gate_grant();
    w1 = worker();
    hear(&w1, "GET / HTTP/1.1\r\n");
    say(&w1, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w1);
}
END_TEST

/* A reload takes the worker away, but the last slot of it was given a moment before. */
START_TEST(a_slot_from_before_a_reload_is_of_a_worker_from_before_it)
{
    struct peer c = client(), w;

    gate.mode = HOLD;
    configure();
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    gate_grant();
    speak_h2c();
    w = worker();
    hear(&w, "GET / HTTP/1.1\r\n");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(worker_of_http1)
{
    struct peer c = client(), w;

    speak_h2c();
    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "PRI * HTTP/2.0");
    say(&w, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
    hear(&c, "it does not speak HTTP/2");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(floods_end_the_session)
{
    static const char ping[17] = {0, 0, 8, 6};
    struct peer c = client();
    struct http2_worker *w;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    request(w, 0);
    for (int i = 0; i < 20000 && !has(&c, "502"); i++) {
        if (send(w->p.fd, ping, sizeof ping, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN)
            break;
        turn();
        look(&c);
    }
    hear(&c, "urn:kipgate:upstream-failed");
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(no_head_in_time)
{
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, "GET /other HTTP/1.1\r\nHost: a\r\n\r\n");
    w = http2_worker();
    s = request(w, 0);
    serve_client(w, &c, "urn:kipgate:upstream-timeout");
    serve_until(w, s->reset == NGHTTP2_CANCEL);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(unasked_frames_at_rest)
{
    static const char data[] = {0, 0, 1, 0, 0, 0, 0, 0, 1, 'x'};
    struct peer c = client();
    struct http2_worker *w;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    serve_until(w, w->seen[0].closed);
    blurt(w, data, sizeof data); /* for a stream that is over */
    forget(&c);
    serve_a_while(w);
    say(&c, GET "\r\n");
    if (w->p.eof) {
        worker_over(w);
        w = http2_worker();
    }
    answer_ok(w, request(w, w->count ? 1 : 0), 3);
    serve_client(w, &c, "\r\nwww\r\n");
    ck_assert(!has(&c, "x\r\n"));
    bye(&c);
    worker_over(w);
}
END_TEST

/* --- probes -------------------------------------------------------------------------------- */

START_TEST(probe_by_connecting)
{
    static const struct proxy_health health = {.status_min = 200, .status_max = 299};
    struct peer c;
    struct http2_worker *w;

    speak_h2c();
    proxy_worker_probe(world.worker, &health);
    w = http2_worker();
    serve_until(w, gate.probed == 1);
    c = client();
    say(&c, GET "\r\n");
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(probe_by_settings)
{
    static const struct proxy_health health = {
        .status_min = 200, .status_max = 299, .settle_ms = 20};
    struct http2_worker *w;
    struct peer silent;

    speak_h2c();
    proxy_worker_probe(world.worker, &health);
    silent = worker(); /* as of a forwarder without a worker behind it */
    hear(&silent, "PRI * HTTP/2.0");
    bye(&silent);
    w = http2_worker();
    serve_until(w, gate.probed == 1);
    ck_assert(!w->p.eof);
    worker_over(w);
}
END_TEST

START_TEST(probe_by_asking)
{
    static const struct proxy_health health = {
        .path = "/ready", .status_min = 200, .status_max = 299};
    const nghttp2_nv bad[] = {NV(":status", "503")};
    struct http2_worker *w;
    struct seen *s;
    struct peer c;

    speak_h2c();
    proxy_worker_probe(world.worker, &health);
    w = http2_worker();
    s = request(w, 0);
    ck_assert(said(&s->head, ":path: /ready\n"));
    answer(w, s, bad, 1, true);
    hear_end(&w->p);
    worker_over(w);
    ck_assert_uint_eq(gate.probed, 0);
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_until(w, gate.probed == 1);
    c = client();
    say(&c, GET "\r\n");
    answer_ok(w, request(w, 1), 2);
    serve_client(w, &c, "\r\nww\r\n");
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(probe_given_up)
{
    static const struct proxy_health health = {
        .path = "/ready", .status_min = 200, .status_max = 299};
    struct http2_worker *w;

    speak_h2c();
    proxy_worker_probe(world.worker, &health);
    w = http2_worker();
    request(w, 0);
    proxy_worker_probe_stop(world.worker);
    hear_end(&w->p);
    ck_assert_uint_eq(gate.probed, 0);
    worker_over(w);
}
END_TEST

/* --- room for others ------------------------------------------------------------------------ */

/* The next request of the same client wants its place while its last frame is still read. */
START_TEST(idle_sessions_give_way)
{
    struct peer c = client();
    struct http2_worker *w, *v;

    speak_h2c();
    world.proxy->params.max_connections = 1;
    say(&c, GET "\r\n" GET "\r\n");
    w = http2_worker();
    request(w, 0);
    add_worker();
    answer_ok(w, &w->seen[0], 2);
    hear_end(&w->p);
    v = http2_worker();
    answer_ok(v, request(v, 0), 3);
    serve_client(v, &c, "\r\nwww\r\n");
    serve_until(v, v->seen[0].closed);
    add_worker();
    forget(&c);
    say(&c, GET "\r\n"); /* it is at rest now */
    hear_end(&v->p);
    worker_over(w);
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    bye(&c);
    worker_over(w);
    worker_over(v);
}
END_TEST

/* One that was frozen may end its session as soon as it runs: what cannot be repeated waits for no
 * such end, and nothing is kept of it. */
START_TEST(a_session_from_before_the_freeze_takes_no_post)
{
    struct peer c = client();
    struct http2_worker *w, *v;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    forget(&c);
    proxy_worker_was_frozen(world.worker);
    say(&c, POST);
    v = http2_worker();
    answer_ok(v, request(v, 0), 2);
    serve_client(v, &c, "\r\nww\r\n");
    ck_assert_uint_eq(w->count, 1);
    hear_end(&w->p);
    bye(&c);
    worker_over(w);
    worker_over(v);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {cut_off_bodies_are_seen,
                                  goes_away_as_the_client_does,
                                  malformed_responses,
                                  malformed_trailers,
                                  a_worker_that_speaks_otherwise_serves_who_waited,
                                  a_slot_from_before_a_reload_is_of_a_worker_from_before_it,
                                  worker_of_http1,
                                  floods_end_the_session,
                                  no_head_in_time,
                                  unasked_frames_at_rest,
                                  probe_by_connecting,
                                  probe_by_settings,
                                  probe_by_asking,
                                  probe_given_up,
                                  idle_sessions_give_way,
                                  a_session_from_before_the_freeze_takes_no_post};

    return world_run("upstream http2 wrong", tests, COUNT(tests));
}
