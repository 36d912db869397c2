/* SPDX-License-Identifier: Apache-2.0 */
/* How a worker is found ready that answers in pieces, wrongly, or breaks off. What is usual of
 * probes is in test_proxy_edges.c. The difficulty is in world.h. */
#include "world.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct proxy_health asks = {.path = "/health", .status_min = 200, .status_max = 299};

static struct peer asked(void)
{
    struct peer w = worker();

    hear(&w, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    return w;
}

static void say_in_pieces(struct peer *w, const char *const *pieces, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(gate.probed, 0);
        say(w, pieces[i]);
        turn();
        turn();
    }
}

/* The connection on which it answered carries the first request. */
START_TEST(an_answer_in_pieces)
{
    static const char *const answers[][6] = {
        {"HTTP/1.1 102 Wait\r\n\r\n", "HTTP/1.1 20", "0 OK\r\nContent-Length: 4\r\n\r\n", "go",
         "od"},
        {"HTTP/1.1 103 Hints\r\n\r\nHTTP", "/1.1 200 OK\r\n", "Content-Length: 2\r\n\r\no", "k"},
        {"H", "TTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nok\r\n", "0\r\n\r\n"},
    };

    for (size_t i = 0; i < COUNT(answers); i++) {
        size_t n = 0;
        struct peer c, w;
        gate.probed = 0;
        proxy_worker_probe(world.worker, &asks);
        w = asked();
        while (n < COUNT(answers[i]) && answers[i][n])
            n++;
        say_in_pieces(&w, answers[i], n);
        until(gate.probed == 1);
        c = client();
        again(&c, &w);
        ck_assert_uint_eq(world.stats.upstream_connects, i + 1);
        bye(&c);
        bye(&w);
        proxy_worker_remove(world.worker);
        add_worker();
    }
}
END_TEST

/* Whatever is no answer of HTTP/1 is asked again, on a new connection. */
START_TEST(what_is_no_answer)
{
    static const char *const nonsense[] = {
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/1.1 102 Wait\r\n\r\nHTTP/2 200\r\n\r\n",
        "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
    };
    struct peer w;

    proxy_worker_probe(world.worker, &asks);
    for (size_t i = 0; i < COUNT(nonsense); i++) {
        w = asked();
        say(&w, nonsense[i]);
        hear_end(&w);
        ck_assert_uint_eq(gate.probed, 0);
        bye(&w);
    }
    w = asked(); /* half a head, and the end */
    say(&w, "HTTP/1.1 200 OK\r\n");
    bye(&w);
    w = asked();
    say(&w, OK2);
    until(gate.probed == 1);
    bye(&w);
}
END_TEST

/* Its head has said enough; what cannot be read to its end is not kept. */
START_TEST(ready_but_not_kept)
{
    static const char *const ends[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall",
    };

    for (size_t i = 0; i < COUNT(ends); i++) {
        struct peer c, w;
        gate.probed = 0;
        proxy_worker_probe(world.worker, &asks);
        w = asked();
        say(&w, ends[i]);
        bye(&w);
        until(gate.probed == 1);
        w = begin(&c); /* on another connection */
        bye(&c);
        bye(&w);
        proxy_worker_remove(world.worker);
        add_worker();
    }
}
END_TEST

/* An answer that goes on and on, as that of an event stream. */
START_TEST(a_body_without_an_end)
{
    struct peer w;

    proxy_worker_probe(world.worker, &asks);
    w = asked();
    say(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
    hear_end(&w);
    until(gate.probed == 1);
    bye(&w);
}
END_TEST

START_TEST(a_body_that_is_too_long_or_wrong)
{
    static char body[KG_READ_BUFFER_BYTES * 2];
    struct peer w;

    memset(body, 'x', sizeof body);
    proxy_worker_probe(world.worker, &asks);
    w = asked();
    say(&w, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
    while (gate.probed == 0) {
        ssize_t n = send(w.fd, body, sizeof body, MSG_DONTWAIT | MSG_NOSIGNAL);
        ck_assert(n > 0 || errno == EAGAIN);
        turn();
    }
    hear_end(&w);
    bye(&w);
    proxy_worker_probe(world.worker, &asks);
    w = asked();
    say(&w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n");
    until(gate.probed == 2);
    hear_end(&w);
    bye(&w);
}
END_TEST

/* Who speaks first does not speak HTTP. */
START_TEST(a_worker_that_speaks_first)
{
    static const struct proxy_health settles = {.settle_ms = 150};
    struct peer w;

    proxy_worker_probe(world.worker, &settles);
    w = worker();
    say(&w, "220 mail.test ESMTP\r\n");
    hear_end(&w);
    ck_assert_uint_eq(gate.probed, 0);
    bye(&w);
    w = worker();
    until(gate.probed == 1);
    bye(&w);
}
END_TEST

/* One that is asked again while it is being asked goes on, with what is asked now. */
START_TEST(asked_anew_with_another_answer_in_mind)
{
    struct proxy_health other = asks;
    struct peer w;

    proxy_worker_probe(world.worker, &asks);
    w = asked();
    other.status_min = other.status_max = 404;
    ck_assert_int_eq(proxy_worker_probe(world.worker, &other), 0);
    say(&w, "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n");
    until(gate.probed == 1);
    ck_assert(!w.eof);
    bye(&w);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {an_answer_in_pieces,
                                  what_is_no_answer,
                                  ready_but_not_kept,
                                  a_body_without_an_end,
                                  a_body_that_is_too_long_or_wrong,
                                  a_worker_that_speaks_first,
                                  asked_anew_with_another_answer_in_mind};

    return world_run("probe", tests, COUNT(tests));
}
