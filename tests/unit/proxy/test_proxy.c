/* SPDX-License-Identifier: Apache-2.0 */
/* Exchanges as peers see them: connections, bodies, and workers that fail.
 * The difficulty is in world.h. */
#include "proxy/upstream_priv.h"
#include "world.h"

/* --- connections and order ----------------------------------------------------------------- */

START_TEST(kept_connections_on_both_sides)
{
    struct peer c, w = begin(&c);

    ck_assert(has(&w, "GET / HTTP/1.1\r\nHost: a\r\n") && has(&w, "Via: 1.1 kipgate\r\n"));
    for (int i = 0; i < 20; i++)
        again(&c, &w);
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    ck_assert_uint_eq(world.stats.services[1].requests[200 - PROXY_STATUS_MIN], 21);
    bye(&c);
    bye(&w);
}
END_TEST

/* What goes back looks like a new start to who sums it up, and all of it like new requests. */
START_TEST(counters_of_answers_do_not_start_anew)
{
    struct peer c, w;
    uint64_t counted;

    world.stats.services[1].requests[200 - PROXY_STATUS_MIN] = UINT32_MAX;
    w = begin(&c);
    again(&c, &w);
    counted = world.stats.services[1].requests[200 - PROXY_STATUS_MIN];
    ck_assert_uint_gt(counted, UINT32_MAX);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(pipelined_requests_are_answered_in_order)
{
    struct peer c = client(), w;
    char text[64];

    say(&c, "POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /1 HTTP/1.1\r\nHost: "
            "a\r\n\r\n"
            "GET /nowhere HTTP/1.1\r\nHost: b\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: "
            "close\r\n\r\n");
    w = worker();
    for (int i = 0; i < 3; i++) {
        snprintf(text, sizeof text, " /%d HTTP/1.1\r\n", i);
        hear(&w, text);
        hear(&w, i == 0 ? "\r\n\r\nabc" : "\r\n\r\n");
        ck_assert(!has(&w, "/nowhere"));
        forget(&w);
        snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nr%d", i);
        say(&w, text);
    }
    hear_end(&c);
    ck_assert(strstr(c.got.data, "\r\n\r\nr1") < strstr(c.got.data, "urn:kipgate:no-route"));
    ck_assert(strstr(c.got.data, "urn:kipgate:no-route") < strstr(c.got.data, "\r\n\r\nr2"));
    ck_assert(has(&c, "Connection: close\r\n"));
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(http_1_0_ends_with_the_connection)
{
    struct peer c = client(), w;

    say(&c, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    hear_end(&c);
    ck_assert(has(&c, "\r\n\r\nabc") && !has(&c, "chunked") && !c.reset);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(half_closed_client_gets_its_answer)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n" GET "\r\n");
    shutdown(c.fd, SHUT_WR);
    w = worker();
    for (int i = 0; i < 2; i++) {
        hear(&w, "\r\n\r\n");
        forget(&w);
        say(&w, OK2);
    }
    hear_end(&c);
    ck_assert_ptr_nonnull(strstr(strstr(c.got.data, "\r\n\r\nok") + 4, "\r\n\r\nok"));
    bye(&c);
    bye(&w);
}
END_TEST

/* --- bodies -------------------------------------------------------------------------------- */

START_TEST(chunks_and_trailers_both_ways)
{
    struct peer c = client(), w;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
            "2;x=y\r\nab\r\n3\r\ncde\r\n");
    w = worker();
    hear(&w, "\r\n\r\n5\r\nabcde\r\n");
    say(&c, "0\r\nX-Sum: 1\r\n\r\n");
    hear(&w, "0\r\nX-Sum: 1\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nA\r\n1\r\nB\r\n");
    hear(&c, "2\r\nAB\r\n");
    say(&w, "0\r\nX-End: 2\r\n\r\n");
    hear(&c, "0\r\nX-End: 2\r\n\r\n");
    again(&c, &w);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(answers_without_a_body)
{
    struct peer c, w = begin(&c);

    say(&c, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    hear(&w, "HEAD / ");
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    hear(&c, "Content-Length: 5\r\n");
    again(&c, &w);
    say(&c, GET "\r\n");
    say(&w, "HTTP/1.1 204 No Content\r\n\r\n");
    hear(&c, " 204 ");
    again(&c, &w);
    say(&c, GET "\r\n");
    say(&w, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n");
    hear(&c, " 304 ");
    again(&c, &w);
    ck_assert_uint_eq(world.stats.upstream_connects, 1);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(expect_is_answered_once)
{
    struct peer c = client(), w;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    hear(&c, "HTTP/1.1 100 Continue\r\n\r\n");
    forget(&c);
    w = worker();
    hear(&w, "\r\n\r\n");
    ck_assert(!has(&w, "Expect"));
    say(&c, "abc");
    hear(&w, "abc");
    say(&w, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" OK2);
    hear(&c, "\r\n\r\nok");
    ck_assert(!has(&c, " 100 ") && has(&c, "HTTP/1.1 103 ") && has(&c, "Link: </a>\r\n"));
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(early_answer_ends_the_connection)
{
    struct peer c = client(), w;

    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc");
    w = worker();
    hear(&w, "abc");
    say(&w, OK2);
    hear_end(&c);
    ck_assert(has(&c, "Connection: close\r\n") && has(&c, "\r\n\r\nok") && !c.reset);
    hear_end(&w);
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(server_sent_events_arrive_one_by_one)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
    hear(&c, "text/event-stream");
    for (int i = 0; i < 3; i++) {
        forget(&c);
        say(&w, "data: 1\n\n");
        hear(&c, "9\r\ndata: 1\n\n\r\n");
    }
    bye(&w);
    hear(&c, "0\r\n\r\n");
    bye(&c);
}
END_TEST

START_TEST(websocket_is_a_tunnel_with_two_halves)
{
    struct peer c = client(), w;

    say(&c, GET "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly");
    w = worker();
    hear(&w, "\r\n\r\n");
    ck_assert(!has(&w, "early"));
    say(&w,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi");
    hear(&c, "\r\n\r\nhi");
    hear(&w, "early");
    say(&c, "GET /x HTTP/1.1\r\n\r\n");
    hear(&w, "GET /x HTTP/1.1\r\n\r\n");
    shutdown(c.fd, SHUT_WR);
    hear_end(&w);
    say(&w, "last words");
    hear(&c, "last words");
    ck_assert_uint_eq(gate.released, 0);
    bye(&w);
    hear_end(&c);
    until(gate.released == 1);
    bye(&c);
}
END_TEST

START_TEST(unasked_101_is_a_breach)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w,
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    hear(&c, "urn:kipgate:upstream-failed");
    hear_end(&w);
    bye(&c);
    bye(&w);
}
END_TEST

/* --- workers that fail --------------------------------------------------------------------- */

START_TEST(worker_that_ends_before_its_head)
{
    struct peer c = client(), w;

    for (int i = 0; i < 2; i++) {
        forget(&c);
        say(&c, GET "\r\n");
        w = worker();
        hear(&w, "\r\n\r\n");
        if (i == 1)
            say(&w, "HTTP/1.1 200 OK\r\nX-A");
        bye(&w);
        hear(&c, "HTTP/1.1 502 ");
        hear(&c, "service 'plain'");
        hear(&c, "}\n");
        ck_assert_uint_eq(gate.suspected, (unsigned)i + 1);
    }
    bye(&c);
}
END_TEST

START_TEST(worker_that_breaks_off_within_a_body)
{
    static const char *const answers[] = {"Content-Length: 10\r\n\r\nhello",
                                          "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"};

    for (size_t i = 0; i < 2; i++) {
        struct peer c = client(), w;
        say(&c, GET "\r\n");
        w = worker();
        hear(&w, "\r\n\r\n");
        say(&w, "HTTP/1.1 200 OK\r\n");
        say(&w, answers[i]);
        hear(&c, "hello");
        bye(&w);
        hear_end(&c);
        ck_assert_str_eq(strstr(c.got.data, "hello") + 5, i == 0 ? "" : "\r\n");
        bye(&c);
    }
    ck_assert_uint_eq(world.stats.services[1].broken, 2);
}
END_TEST

/* Bytes and reset are found by one look at the socket: the reset must not pass for an end, unless
 * one came before it. */
START_TEST(reset_is_no_end_of_a_body)
{
    const char *all = "HTTP/1.1 200 OK\r\n\r\nabc";

    for (int ended = 0; ended < 2; ended++) {
        struct peer c, w = begin(&c);
        say(&c, GET "\r\n");
        forget(&w);
        hear(&w, "\r\n\r\n");
        ck_assert_int_eq(send(w.fd, all, strlen(all), 0), (ssize_t)strlen(all));
        if (ended)
            shutdown(w.fd, SHUT_WR);
        hang_up(&w);
        if (ended)
            hear(&c, "\r\n0\r\n");
        else
            hear_end(&c);
        ck_assert_int_eq(has(&c, "\r\n0\r\n"), ended);
        bye(&c);
    }
    ck_assert_uint_eq(world.stats.services[1].broken, 1);
}
END_TEST

START_TEST(bytes_behind_an_answer_poison_the_connection)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2 OK2);
    hear(&c, "\r\n\r\nok");
    hear_end(&w);
    bye(&w);
    forget(&c);
    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(idle_connections_have_a_cap)
{
    struct peer c, w = begin(&c);
    uint64_t began_ms;

    until(world.worker->idle_count == 1);
    world.worker->idle_count = KG_MAX_UPSTREAM_SURPLUS; /* it is the last that there may be */
    again(&c, &w);
    until(world.worker->idle_count == KG_MAX_UPSTREAM_SURPLUS);
    world.worker->idle_count++;
    began_ms = uv_now(&world.loop);
    again(&c, &w);
    hear_end(&w);
    ck_assert_uint_lt(uv_now(&world.loop) - began_ms, KG_UPSTREAM_SURPLUS_MS); /* it was not kept */
    world.worker->idle_count = 0;
    bye(&c);
    bye(&w);
}
END_TEST

/* Workers have as many descriptors as clients: what rests makes room for what is wanted. */
START_TEST(idle_connections_give_way)
{
    struct peer c, a = begin(&c), b;

    world.proxy->params.max_connections = 1;
    add_worker();
    forget(&c);
    say(&c, GET "\r\n");
    b = worker();
    hear_end(&a);
    hear(&b, "\r\n\r\n");
    say(&b, OK2);
    hear(&c, "\r\n\r\nok");
    again(&c, &b); /* which is kept, for it is the only one */
    bye(&c);
    bye(&a);
    bye(&b);
}
END_TEST

/* The connection is kept, takes the request, and ends: as when a worker's idle time is up. */
START_TEST(stale_connection_is_tried_again_once)
{
    struct peer c, w = begin(&c), fresh;

    forget(&c);
    forget(&w);
    say(&c, GET "\r\n");
    hear(&w, "\r\n\r\n");
    bye(&w);
    fresh = worker();
    hear(&fresh, "\r\n\r\n");
    say(&fresh, OK2);
    hear(&c, "\r\n\r\nok");
    ck_assert_uint_eq(world.stats.upstream_retries, 1);
    ck_assert_uint_eq(gate.suspected, 0);
    bye(&c);
    bye(&fresh);
}
END_TEST

START_TEST(post_is_not_sent_twice)
{
    struct peer c, w = begin(&c);

    forget(&c);
    forget(&w);
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    hear(&w, "abc");
    bye(&w);
    hear(&c, "HTTP/1.1 502 ");
    ck_assert_uint_eq(world.stats.upstream_retries, 0);
    bye(&c);
}
END_TEST

START_TEST(put_is_repeated_with_its_body)
{
    struct peer c, w = begin(&c), fresh;

    forget(&c);
    forget(&w);
    say(&c, "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    hear(&w, "3\r\nabc\r\n");
    bye(&w);
    fresh = worker();
    hear(&fresh, "3\r\nabc\r\n");
    say(&c, "1\r\nd\r\n0\r\n\r\n");
    hear(&fresh, "1\r\nd\r\n0\r\n\r\n");
    say(&fresh, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&fresh);
}
END_TEST

START_TEST(unreachable_worker_is_asked_for_again)
{
    struct peer c = client(), w;

    close(world.worker_fd);
    say(&c, GET "\r\n");
    until(gate.suspected == 1);
    ck_assert_uint_eq(gate.released, 1);
    gate.mode = HOLD;
    until(gate.waiting == 1);
    proxy_worker_remove(world.worker);
    world.worker_fd = listening(&world.worker_port);
    fcntl(world.worker_fd, F_SETFL, O_NONBLOCK);
    add_worker();
    gate_grant();
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(worker_that_stays_unreachable)
{
    struct peer c = client();

    close(world.worker_fd);
    say(&c, GET "\r\n");
    hear(&c, "urn:kipgate:upstream-failed");
    ck_assert_uint_eq(gate.acquired, 4);
    bye(&c);
    world.worker_fd = listening(&world.worker_port);
}
END_TEST

START_TEST(removed_worker_finishes_what_it_has)
{
    struct peer c = client(), w;

    say(&c, GET "\r\n");
    w = worker();
    hear(&w, "\r\n\r\n");
    proxy_worker_remove(world.worker);
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    hear_end(&w);
    ck_assert_uint_eq(gate.released, 0);
    gate.released++; /* by contract: the gate keeps no book of a worker that it removed */
    add_worker();
    bye(&c);
    bye(&w);
}
END_TEST

START_TEST(response_head_has_a_deadline)
{
    struct peer c = client(), w;

    say(&c, "GET /other/x HTTP/1.1\r\nHost: a\r\n\r\n");
    w = worker();
    hear(&w, "GET /x HTTP/1.1\r\n");
    hear(&c, "urn:kipgate:upstream-timeout");
    hear(&c, "service 'other'");
    hear_end(&w);
    bye(&c);
    bye(&w);
}
END_TEST

static void wait_ms(int64_t ms)
{
    int64_t end_ms = (int64_t)uv_now(&world.loop) + ms;

    until((int64_t)uv_now(&world.loop) >= end_ms);
}

/* What is still being asked cannot be answered yet. */
START_TEST(an_upload_may_take_longer_than_its_answer)
{
    const struct proxy_service timed = {
        .id = 1, .name = "timed", .max_body_bytes = -1, .request_timeout_ms = 400};
    struct peer c = client(), w;
    int64_t ended_ms = 0;

    ck_assert_int_eq(proxy_config_begin(world.proxy), 0);
    ck_assert_int_eq(proxy_config_service(world.proxy, &timed), 0);
    ck_assert_int_eq(proxy_config_route(world.proxy, KG_STR("a"), KG_STR("/"), 1), 0);
    ck_assert_int_eq(proxy_config_commit(world.proxy), 0);
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n1");
    w = worker();
    hear(&w, "\r\n\r\n1");
    for (char piece[] = "2"; piece[0] <= '5'; piece[0]++) {
        forget(&w);
        wait_ms(150);
        ended_ms = (int64_t)uv_now(&world.loop);
        say(&c, piece);
        hear(&w, piece);
    }
    hear(&c, "urn:kipgate:upstream-timeout");
    ck_assert_int_ge((int64_t)uv_now(&world.loop) - ended_ms, 350);
    bye(&c);
    bye(&w);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {kept_connections_on_both_sides,
                                  counters_of_answers_do_not_start_anew,
                                  pipelined_requests_are_answered_in_order,
                                  http_1_0_ends_with_the_connection,
                                  half_closed_client_gets_its_answer,
                                  chunks_and_trailers_both_ways,
                                  answers_without_a_body,
                                  expect_is_answered_once,
                                  early_answer_ends_the_connection,
                                  server_sent_events_arrive_one_by_one,
                                  websocket_is_a_tunnel_with_two_halves,
                                  unasked_101_is_a_breach,
                                  worker_that_ends_before_its_head,
                                  worker_that_breaks_off_within_a_body,
                                  reset_is_no_end_of_a_body,
                                  bytes_behind_an_answer_poison_the_connection,
                                  idle_connections_have_a_cap,
                                  idle_connections_give_way,
                                  stale_connection_is_tried_again_once,
                                  post_is_not_sent_twice,
                                  put_is_repeated_with_its_body,
                                  unreachable_worker_is_asked_for_again,
                                  worker_that_stays_unreachable,
                                  removed_worker_finishes_what_it_has,
                                  response_head_has_a_deadline,
                                  an_upload_may_take_longer_than_its_answer};

    return world_run("proxy", tests, sizeof tests / sizeof *tests);
}
