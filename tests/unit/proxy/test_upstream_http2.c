/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that speak HTTP/2: messages both ways, sessions, their streams and windows.
 * The difficulty is in http2_worker.h. */
#include "http2_worker.h"

/* --- messages ------------------------------------------------------------------------------ */

START_TEST(request_and_response_as_fields)
{
    const nghttp2_nv ok[] = {NV(":status", "200"), NV("content-length", "5"), NV("x-mine", "yes")};
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, "GET /deep?q=1 HTTP/1.1\r\nHost: a\r\nX-Odd: v\r\nConnection: x-odd2\r\n"
            "X-Odd2: gone\r\nUser-Agent: me\r\n\r\n");
    w = http2_worker();
    s = request(w, 0);
    ck_assert(s->ended);
    ck_assert(said(&s->head, ":method: GET\n"));
    ck_assert(said(&s->head, ":scheme: http\n"));
    ck_assert(said(&s->head, ":path: /deep?q=1\n"));
    ck_assert(said(&s->head, ":authority: a\n"));
    ck_assert(said(&s->head, "x-odd: v\n"));
    ck_assert(said(&s->head, "x-forwarded-for: 127.0.0.1\n"));
    ck_assert(!said(&s->head, "gone"));
    ck_assert(!said(&s->head, "\nhost: "));
    ck_assert(!said(&s->head, "\nconnection: "));
    s->left = 5;
    s->last = true;
    answer(w, s, ok, COUNT(ok), false);
    serve_client(w, &c, "\r\n\r\nwwwww");
    ck_assert(has(&c, "HTTP/1.1 200 OK\r\n"));
    ck_assert(has(&c, "Content-Length: 5\r\n"));
    ck_assert(has(&c, "x-mine: yes\r\n"));
    serve_until(w, w->seen[0].closed);
    forget(&c);
    say(&c, GET "\r\n");
    s = request(w, 1);
    answer_ok(w, s, 0);
    serve_client(w, &c, "Content-Length: 0\r\n");
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    ck_assert_uint_eq(world.stats.upstream_reuses, 1);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(request_bodies)
{
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, POST);
    w = http2_worker();
    s = request(w, 0);
    serve_until(w, s->ended);
    ck_assert(said(&s->head, "content-length: 3\n"));
    ck_assert(said(&s->body, "abc"));
    answer_ok(w, s, 2);
    serve_client(w, &c, "2\r\nww\r\n0\r\n\r\n");
    forget(&c);
    say(&c, CHUNKED "3\r\nabc\r\n");
    s = request(w, 1);
    ck_assert(!said(&s->head, "transfer-encoding"));
    ck_assert(said(&s->head, "te: trailers\n"));
    serve_until(w, said(&s->body, "abc"));
    ck_assert(!s->ended);
    say(&c, "3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n");
    serve_until(w, s->ended);
    ck_assert(said(&s->body, "abcdef"));
    ck_assert(said(&s->trailers, "x-sum: 1\n"));
    answer_ok(w, s, 0);
    serve_client(w, &c, "\r\n\r\n");
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(response_trailers)
{
    const nghttp2_nv ok[] = {NV(":status", "200"), NV("trailer", "grpc-status")};
    const nghttp2_nv status = NV("grpc-status", "0");
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, CHUNKED "0\r\n\r\n");
    w = http2_worker();
    s = request(w, 0);
    s->left = 2;
    s->last = true;
    s->trailer = &status;
    answer(w, s, ok, COUNT(ok), false);
    serve_client(w, &c, "2\r\nww\r\n0\r\ngrpc-status: 0\r\n\r\n");
    forget(&c);
    say(&c, GET "\r\n"); /* who does not take them is spared */
    s = request(w, 1);
    s->left = 2;
    s->last = true;
    s->trailer = &status;
    answer(w, s, ok, COUNT(ok), false);
    serve_client(w, &c, "2\r\nww\r\n0\r\n\r\n");
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(trailers_alone)
{
    const nghttp2_nv only[] = {NV(":status", "200"), NV("content-type", "application/grpc"),
                               NV("grpc-status", "12")};
    struct peer c = client();
    struct http2_worker *w;

    speak_h2c();
    say(&c, CHUNKED "0\r\n\r\n");
    w = http2_worker();
    answer(w, request(w, 0), only, COUNT(only), true);
    serve_client(w, &c, "\r\n\r\n");
    ck_assert(has(&c, "grpc-status: 12\r\n"));
    ck_assert(has(&c, "Content-Length: 0\r\n"));
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(responses_without_a_body)
{
    static const char *const statuses[] = {"204", "304", "200"};
    struct peer c = client();
    struct http2_worker *w = NULL;

    speak_h2c();
    for (unsigned i = 0; i < COUNT(statuses); i++) {
        const nghttp2_nv head[] = {NV(":status", statuses[i]), NV("content-length", "9")};
        struct seen *s;
        say(&c, i < 2 ? GET "\r\n" : "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        w = w ? w : http2_worker();
        s = request(w, i);
        s->last = true;
        answer(w, s, head, i == 0 ? 1 : 2, i == 1); /* the end may also come by itself */
        serve_client(w, &c, "\r\n\r\n");
        ck_assert(has(&c, statuses[i]));
        ck_assert_int_eq(has(&c, "Content-Length: 9\r\n"), i > 0);
        serve_until(w, w->seen[i].closed);
        forget(&c);
    }
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(interim_responses)
{
    const nghttp2_nv hints[] = {NV(":status", "103"), NV("link", "</a>")};
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    s = request(w, 0);
    nghttp2_submit_headers(w->session, NGHTTP2_FLAG_NONE, s->id, NULL, hints, 2, NULL);
    serve_client(w, &c, "HTTP/1.1 103 \r\nlink: </a>\r\n\r\n");
    answer_ok(w, s, 0);
    serve_client(w, &c, "HTTP/1.1 200 ");
    forget(&c);
    say(&c, GET "\r\n");
    s = request(w, 1);
    for (int i = 0; i < 9; i++)
        nghttp2_submit_headers(w->session, NGHTTP2_FLAG_NONE, s->id, NULL, hints, 2, NULL);
    serve_client(w, &c, "HTTP/1.1 502 ");
    serve_until(w, s->reset == NGHTTP2_CANCEL);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(both_ways_at_once)
{
    const nghttp2_nv ok[] = {NV(":status", "200")};
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, CHUNKED "3\r\nabc\r\n");
    w = http2_worker();
    s = request(w, 0);
    answer(w, s, ok, 1, false);
    serve_client(w, &c, "HTTP/1.1 200 ");
    for (int i = 0; i < 5; i++) {
        forget(&c);
        pour(w, s, 3, false);
        serve_client(w, &c, "3\r\nwww\r\n");
        say(&c, "3\r\ndef\r\n");
        serve_until(w, s->body_bytes == 6 + 3 * (size_t)i);
    }
    forget(&c);
    say(&c, "0\r\n\r\n");
    serve_until(w, s->ended);
    pour(w, s, 0, true);
    serve_client(w, &c, "0\r\n\r\n");
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(early_answer_ends_the_upload)
{
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, CHUNKED "3\r\nabc\r\n");
    w = http2_worker();
    s = request(w, 0);
    answer_ok(w, s, 2);
    serve_client(w, &c, "0\r\n\r\n");
    ck_assert(has(&c, "Connection: close\r\n"));
    serve_until(w, s->reset == NGHTTP2_CANCEL);
    ck_assert(!w->p.eof);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(upgrades_are_not_passed_on)
{
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, GET "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
    w = http2_worker();
    s = request(w, 0);
    ck_assert(!said(&s->head, "\nupgrade: "));
    answer_ok(w, s, 2);
    serve_client(w, &c, "HTTP/1.1 200 ");
    bye(&c);
    worker_over(w);
}
END_TEST

/* --- sessions ------------------------------------------------------------------------------ */

START_TEST(streams_share_a_session)
{
    struct peer c[5];
    struct http2_worker *w;

    speak_h2c();
    for (int i = 0; i < 5; i++) {
        c[i] = client();
        say(&c[i], GET "\r\n");
    }
    w = http2_worker();
    serve_until(w, w->count == 5);
    for (unsigned i = 0; i < 5; i++)
        answer_ok(w, request(w, i), i);
    for (int i = 0; i < 5; i++) {
        serve_client(w, &c[i], i == 0 ? "\r\n\r\n" : "\r\n0\r\n\r\n");
        bye(&c[i]);
    }
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    worker_over(w);
}
END_TEST

START_TEST(those_who_waited_share_a_connect)
{
    struct peer c[4];
    struct http2_worker *w;

    speak_h2c();
    gate.mode = HOLD;
    for (int i = 0; i < 4; i++) {
        c[i] = client();
        say(&c[i], POST);
    }
    until(gate.waiting == 4);
    for (int i = 0; i < 4; i++)
        gate_grant();
    bye(&c[3]); /* perhaps before the connection is there */
    w = http2_worker();
    for (unsigned i = 0; i < 3; i++)
        answer_ok(w, request(w, i), 2);
    for (int i = 0; i < 3; i++) {
        serve_client(w, &c[i], "\r\nww\r\n");
        bye(&c[i]);
    }
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    worker_over(w);
}
END_TEST

START_TEST(worker_gone_while_connecting)
{
    struct peer c = client(), first;
    struct http2_worker *w;

    speak_h2c();
    say(&c, POST);
    until(gate.acquired == 1);
    proxy_worker_remove(world.worker);
    gate.released++; /* the slot of a worker that is gone is not given back */
    add_worker();
    first = worker();
    hear_end(&first);
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    bye(&first);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(worker_that_cannot_be_reached)
{
    struct peer c = client();

    speak_h2c();
    shutdown(world.worker_fd, SHUT_RD); /* it listens no more */
    say(&c, POST);
    hear(&c, "the worker cannot be reached");
    ck_assert_uint_eq(gate.acquired, 4);
    bye(&c);
}
END_TEST

START_TEST(as_many_streams_as_the_worker_takes)
{
    const nghttp2_settings_entry one[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1}};
    static struct http2_worker first, second;
    struct peer a = client(), b = client();

    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    speak_h2c();
    say(&a, GET "\r\n");
    worker_with(&first, one, 1);
    request(&first, 0);
    serve_until(&first, first.settings_acks == 1);
    say(&b, GET "\r\n");
    worker_with(&second, one, 1);
    request(&second, 0);
    answer_ok(&first, &first.seen[0], 2);
    serve_client(&first, &a, "\r\nww\r\n");
    answer_ok(&second, &second.seen[0], 2);
    serve_client(&second, &b, "\r\nww\r\n");
    serve_until(&first, first.seen[0].closed);
    forget(&a);
    say(&a, GET "\r\n");
    for (int i = 0; i < 200 && first.count + second.count < 3; i++) {
        serve(&first);
        serve(&second);
        turn();
    }
    ck_assert_uint_eq(first.count + second.count, 3);
    ck_assert_uint_eq(world.stats.upstream_connects, 2);
    bye(&a);
    bye(&b);
    worker_over(&first);
    worker_over(&second);
}
END_TEST

/* Before the worker's SETTINGS are there nobody knows. */
START_TEST(more_streams_than_the_worker_takes)
{
    const nghttp2_settings_entry one[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1}};
    static struct http2_worker w[4];
    struct peer c[4];
    unsigned answered = 0;

    memset(w, 0, sizeof w);
    speak_h2c();
    gate.mode = HOLD;
    for (int i = 0; i < 4; i++) {
        c[i] = client();
        say(&c[i], POST);
    }
    until(gate.waiting == 4);
    gate.mode = GRANT;
    for (int i = 0; i < 4; i++)
        gate_grant();
    for (int i = 0; i < 4; i++) {
        worker_with(&w[i], one, 1);
        request(&w[i], 0);
        serve_until(&w[i], w[i].settings_acks == 1);
    }
    for (int i = 0; i < 4; i++)
        answer_ok(&w[i], &w[i].seen[0], 2);
    for (int i = 0; i < 4; i++) {
        serve_client(&w[i], &c[i], "\r\nww\r\n");
        answered += has(&c[i], "HTTP/1.1 200 ");
        bye(&c[i]);
    }
    ck_assert_uint_eq(answered, 4);
    for (int i = 0; i < 4; i++)
        worker_over(&w[i]);
}
END_TEST

START_TEST(goaway_drains_a_session)
{
    struct peer a = client(), b = client();
    struct http2_worker *w, *v;
    struct seen *s;

    speak_h2c();
    say(&a, GET "\r\n");
    w = http2_worker();
    s = request(w, 0);
    nghttp2_submit_goaway(w->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR, NULL, 0);
    serve_a_while(w);
    say(&b, POST);
    v = http2_worker();
    answer_ok(v, request(v, 0), 2);
    serve_client(v, &b, "\r\nww\r\n");
    answer_ok(w, s, 2);
    serve_client(w, &a, "\r\nww\r\n");
    hear_end(&w->p); /* with its last stream it is of no use any more */
    bye(&a);
    bye(&b);
    worker_over(w);
    worker_over(v);
}
END_TEST

START_TEST(what_a_goaway_leaves_out_is_sent_again)
{
    struct peer c = client();
    struct http2_worker *w, *v;

    speak_h2c();
    say(&c, POST);
    w = http2_worker();
    request(w, 0);
    nghttp2_submit_goaway(w->session, NGHTTP2_FLAG_NONE, 0, NGHTTP2_NO_ERROR, NULL, 0);
    serve(w);
    v = http2_worker();
    request(v, 0);
    serve_until(v, v->seen[0].ended);
    ck_assert(said(&v->seen[0].body, "abc"));
    answer_ok(v, &v->seen[0], 2);
    serve_client(v, &c, "\r\nww\r\n");
    bye(&c);
    worker_over(w);
    worker_over(v);
}
END_TEST

START_TEST(refused_stream_is_sent_again)
{
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, POST);
    w = http2_worker();
    reset(w, request(w, 0), NGHTTP2_REFUSED_STREAM);
    s = request(w, 1);
    serve_until(w, s->ended);
    ck_assert(said(&s->body, "abc"));
    answer_ok(w, s, 2);
    serve_client(w, &c, "\r\nww\r\n");
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(largest_body_that_is_kept)
{
    static char body[KG_REPLAY_BODY_BYTES + 1];
    char head[120];

    speak_h2c();
    memset(body, 'x', sizeof body);
    for (size_t n = KG_REPLAY_BODY_BYTES - 1; n <= KG_REPLAY_BODY_BYTES + 1; n++) {
        bool again = n <= KG_REPLAY_BODY_BYTES;
        struct peer c = client();
        struct http2_worker *w;
        snprintf(head, sizeof head, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", n);
        say(&c, head);
        say_bytes(&c, body, n / 2);
        w = http2_worker();
        serve_until(w, w->count == 1 && w->seen[0].body_bytes == n / 2);
        say_bytes(&c, body, n - n / 2);
        serve_until(w, w->seen[0].ended);
        reset(w, request(w, 0), NGHTTP2_REFUSED_STREAM);
        if (again)
            answer_ok(w, request(w, 1), 2);
        serve_client(w, &c, again ? "\r\nww\r\n" : "urn:kipgate:upstream-failed");
        bye(&c);
        worker_over(w);
    }
}
END_TEST

START_TEST(large_body_of_a_refused_stream_is_not)
{
    static char body[64 * 1024];
    struct peer c = client();
    struct http2_worker *w;

    speak_h2c();
    memset(body, 'x', sizeof body);
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
    say_bytes(&c, body, sizeof body);
    w = http2_worker();
    serve_until(w, w->count == 1 && w->seen[0].body_bytes > 32 * 1024);
    reset(w, request(w, 0), NGHTTP2_REFUSED_STREAM);
    serve_client(w, &c, "urn:kipgate:upstream-failed");
    ck_assert_uint_eq(w->count, 1);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(other_resets_are_not_repeated)
{
    struct peer c = client();
    struct http2_worker *w;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    forget(&c);
    say(&c, GET "\r\n"); /* it could be repeated, but the worker has seen it */
    reset(w, request(w, 1), NGHTTP2_INTERNAL_ERROR);
    serve_client(w, &c, "urn:kipgate:upstream-failed");
    ck_assert_uint_eq(w->count, 2);
    ck_assert_uint_eq(world.stats.upstream_retries, 0);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(kept_session_that_ends_under_a_request)
{
    struct peer c = client();
    struct http2_worker *w, *v;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    forget(&c);
    say(&c, GET "\r\n");
    request(w, 1);
    worker_over(w);
    v = http2_worker();
    answer_ok(v, request(v, 0), 2);
    serve_client(v, &c, "\r\nww\r\n");
    ck_assert_uint_eq(world.stats.upstream_retries, 1);
    forget(&c);
    say(&c, POST); /* this one may have done something */
    request(v, 1);
    worker_over(v);
    hear(&c, "urn:kipgate:upstream-failed");
    ck_assert_uint_eq(world.stats.upstream_retries, 1);
    bye(&c);
}
END_TEST

START_TEST(kept_session_that_ended_unseen)
{
    struct peer c = client();
    struct http2_worker *w, *v;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    serve_until(w, w->seen[0].closed);
    forget(&c);
    send(c.fd, POST, sizeof POST - 1, 0); /* both are there when the loop turns next */
    worker_over(w);
    v = http2_worker();
    answer_ok(v, request(v, 0), 2);
    serve_client(v, &c, "\r\nww\r\n");
    bye(&c);
    worker_over(v);
}
END_TEST

START_TEST(idle_sessions_end_with_their_worker)
{
    struct peer c = client();
    struct http2_worker *w;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    answer_ok(w, request(w, 0), 2);
    serve_client(w, &c, "\r\nww\r\n");
    serve_until(w, w->seen[0].closed);
    proxy_worker_remove(world.worker);
    add_worker();
    hear_end(&w->p);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(open_streams_outlive_their_worker)
{
    struct peer c = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    s = request(w, 0);
    proxy_worker_remove(world.worker);
    gate.released++; /* the slot of a worker that is gone is not given back */
    add_worker();
    serve_a_while(w);
    answer_ok(w, s, 2);
    serve_client(w, &c, "\r\nww\r\n");
    hear_end(&w->p);
    bye(&c);
    worker_over(w);
}
END_TEST

START_TEST(proxy_closes_with_open_streams)
{
    struct peer c = client(), d = client();
    struct http2_worker *w;

    speak_h2c();
    say(&c, GET "\r\n");
    say(&d, CHUNKED "3\r\nabc\r\n");
    w = http2_worker();
    request(w, 1);
    worker_over(w);
    bye(&c);
    bye(&d);
}
END_TEST

/* --- clients that go, and windows ---------------------------------------------------------- */

START_TEST(client_gone_is_a_reset)
{
    struct peer c = client(), d = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, CHUNKED "3\r\nabc\r\n");
    w = http2_worker();
    s = request(w, 0);
    hang_up(&c);
    serve_until(w, s->reset == NGHTTP2_CANCEL);
    say(&d, GET "\r\n");
    answer_ok(w, request(w, 1), 2);
    serve_client(w, &d, "\r\nww\r\n");
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    bye(&d);
    worker_over(w);
}
END_TEST

START_TEST(slow_client_holds_the_worker)
{
    const nghttp2_nv ok[] = {NV(":status", "200"), NV("content-length", "33554432")};
    struct peer c = client(), d = client();
    struct http2_worker *w;
    struct seen *s;

    speak_h2c();
    say(&c, GET "\r\n");
    w = http2_worker();
    s = request(w, 0);
    s->left = 32 * MIB;
    s->last = true;
    answer(w, s, ok, COUNT(ok), false);
    serve_a_while(w);
    ck_assert_uint_lt(s->sent, 16 * MIB); /* what the kernels hold, and one window */
    say(&d, GET "\r\n");                  /* others on the session go on */
    answer_ok(w, request(w, 1), 2);
    serve_client(w, &d, "\r\nww\r\n");
    while (c.got.len < 32 * MIB && !c.eof) {
        serve(w);
        turn();
        look(&c);
    }
    serve_until(w, s->closed);
    ck_assert_uint_eq(s->sent, 32 * MIB);
    bye(&c);
    bye(&d);
    worker_over(w);
}
END_TEST

START_TEST(slow_worker_holds_the_client)
{
    static char body[MIB];
    static struct http2_worker w;
    struct peer c = client();
    struct seen *s;
    size_t sent = 0;
    ssize_t n;

    memset(&w, 0, sizeof w);
    memset(body, 'x', sizeof body);
    w.manual_window = true;
    speak_h2c();
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n");
    worker_with(&w, NULL, 0);
    s = request(&w, 0);
    s->forgets_body = true;
    for (int i = 0; i < 300; i++) {
        n = send(c.fd, body, sizeof body, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        serve(&w);
        turn();
    }
    ck_assert_uint_eq(s->body_bytes, 65535);
    ck_assert_uint_lt(sent, 24 * MIB);
    while (!s->ended) {
        n = send(c.fd, body, sizeof body < 32 * MIB - sent ? sizeof body : 32 * MIB - sent,
                 MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
        nghttp2_session_consume(
            w.session, s->id,
            (size_t)nghttp2_session_get_stream_effective_recv_data_length(w.session, s->id));
        serve(&w);
        turn();
    }
    ck_assert_uint_eq(s->body_bytes, 32 * MIB);
    answer_ok(&w, s, 2);
    serve_client(&w, &c, "\r\nww\r\n");
    bye(&c);
    worker_over(&w);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {request_and_response_as_fields,
                                  request_bodies,
                                  response_trailers,
                                  trailers_alone,
                                  responses_without_a_body,
                                  interim_responses,
                                  both_ways_at_once,
                                  early_answer_ends_the_upload,
                                  upgrades_are_not_passed_on,
                                  streams_share_a_session,
                                  those_who_waited_share_a_connect,
                                  worker_gone_while_connecting,
                                  worker_that_cannot_be_reached,
                                  as_many_streams_as_the_worker_takes,
                                  more_streams_than_the_worker_takes,
                                  goaway_drains_a_session,
                                  what_a_goaway_leaves_out_is_sent_again,
                                  refused_stream_is_sent_again,
                                  largest_body_that_is_kept,
                                  large_body_of_a_refused_stream_is_not,
                                  other_resets_are_not_repeated,
                                  kept_session_that_ends_under_a_request,
                                  kept_session_that_ended_unseen,
                                  idle_sessions_end_with_their_worker,
                                  open_streams_outlive_their_worker,
                                  proxy_closes_with_open_streams,
                                  client_gone_is_a_reset,
                                  slow_client_holds_the_worker,
                                  slow_worker_holds_the_client};

    return world_run("upstream http2", tests, COUNT(tests));
}
