/* SPDX-License-Identifier: Apache-2.0 */
/* Requests that lose their worker, or their way to it, just as they are sent.
 * The difficulty is in world.h; what is to be seen in one turn of the loop is sent without turning
 * it in between, in the order in which it is to be seen. */
#include "world.h"
#include <netinet/tcp.h>

#define PUT "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

/* Not one turn of the loop passes. */
static void send_now(const struct peer *p, const char *text)
{
    ck_assert_int_eq(send(p->fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* A kept connection refuses the second piece of a body: the rest goes to the next one. */
START_TEST(a_body_goes_on_where_it_is_sent_again)
{
    struct peer c, w = begin(&c), fresh;
    int on = 1;

    setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    forget(&c);
    forget(&w);
    say(&c, PUT "3\r\nabc\r\n");
    hear(&w, "3\r\nabc\r\n");
    send_now(&c, "1\r\nd\r\n");
    hang_up(&w);
    fresh = worker();
    hear(&fresh, "4\r\nabcd\r\n");
    say(&c, "1\r\ne\r\n0\r\n\r\n");
    hear(&fresh, "1\r\ne\r\n0\r\n\r\n");
    say(&fresh, OK2);
    hear(&c, "\r\n\r\nok");
    again(&c, &fresh); /* which can be kept */
    bye(&c);
    bye(&fresh);
}
END_TEST

/* A worker that was frozen may find, once it runs, that it kept a connection long enough. */
START_TEST(a_worker_that_was_paused_gets_a_post_on_a_connection_of_its_own)
{
    struct peer c, kept = begin(&c), w;

    forget(&c);
    gate.mode = HOLD;
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    until(gate.waiting == 1);
    proxy_worker_was_frozen(world.worker);
    gate_answer(&(struct proxy_answer){.worker = world.worker, .warmth = PROXY_PAUSED});
    w = worker();
    bye(&kept);
    hear(&w, "\r\n\r\nabc");
    say(&w, OK2);
    hear(&c, "Server-Timing: kipgate;desc=\"paused\";dur=");
    hear(&c, "\r\n\r\nok");
    forget(&c);
    forget(&w);
    gate.mode = GRANT;
    say(&c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"); /* it runs now */
    hear(&w, "\r\n\r\nabc");
    say(&w, OK2);
    hear(&c, "\r\n\r\nok");
    bye(&c);
    bye(&w);
}
END_TEST

/* It is granted and removed at once: nothing is sent to where it was. */
START_TEST(a_worker_that_goes_as_it_is_granted)
{
    struct peer c = client(), w;

    gate.mode = HOLD;
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    gate_grant();
    proxy_worker_remove(world.worker);
    gate.released++; /* the slot of a worker that is gone is not given back */
    add_worker();
    until(gate.waiting == 1);
    ck_assert_uint_eq(world.stats.upstream_connects, 0);
    gate_grant();
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "Server-Timing: kipgate;desc=\"cold\";dur=");
    bye(&c);
    bye(&w);
}
END_TEST

/* The first was gone before it could be reached: what it cost to wait for is told all the same. */
START_TEST(who_waited_for_one_that_was_gone_again_is_told_so)
{
    struct peer c = client(), w;

    gate.mode = HOLD;
    close(world.worker_fd);
    say(&c, GET "\r\n");
    until(gate.waiting == 1);
    gate_grant();
    until(gate.waiting == 1);
    proxy_worker_remove(world.worker);
    world.worker_fd = listening(&world.worker_port);
    fcntl(world.worker_fd, F_SETFL, O_NONBLOCK);
    add_worker();
    gate_answer(&(struct proxy_answer){.worker = world.worker, .warmth = PROXY_WARM});
    w = worker();
    hear(&w, "\r\n\r\n");
    say(&w, OK2);
    hear(&c, "Server-Timing: kipgate;desc=\"cold\";dur=");
    bye(&c);
    bye(&w);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {a_body_goes_on_where_it_is_sent_again,
                                  a_worker_that_was_paused_gets_a_post_on_a_connection_of_its_own,
                                  a_worker_that_goes_as_it_is_granted,
                                  who_waited_for_one_that_was_gone_again_is_told_so};

    return world_run("proxy again", tests, sizeof tests / sizeof *tests);
}
