/* SPDX-License-Identifier: Apache-2.0 */
/* The message channel on a real loop, one end bare. The difficulty under test: order and bounds
 * under a peer that does not read, and that a loss is told once, by the loop, never from inside
 * send. */
#include "base/channel.h"
#include "base/err.h"
#include "base/limits.h"
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the owner of the channel saw. */
static struct {
    struct kg_channel *channel;
    int messages, lost, closed;
    bool in_send; /* a callback now would come out of kg_channel_send */
    int close_at; /* close in the callback of this message; 0: never */
    bool close_on_lost;
    bool answer_twice; /* send two from inside the message callback */
    bool numbered;     /* messages carry their number */
    size_t last_n;
    char last[KG_MAX_MESSAGE_BYTES];
} seen;

static uv_loop_t loop;
static int peer;  /* the bare end; -1 once closed */
static int inner; /* the channel's descriptor, which the channel owns */

static void on_closed(void *arg)
{
    ck_assert_ptr_eq(arg, &seen);
    seen.closed++;
    seen.channel = NULL;
}

static void on_message(void *arg, const void *bytes, size_t n)
{
    ck_assert_ptr_eq(arg, &seen);
    ck_assert(!seen.in_send && seen.closed == 0 && seen.lost == 0);
    ck_assert_uint_eq((uintptr_t)bytes % 16, 0); /* fit for any struct */
    if (seen.numbered) {
        int number;

        memcpy(&number, bytes, sizeof number);
        ck_assert_int_eq(number, seen.messages);
    }
    seen.messages++;
    seen.last_n = n;
    memcpy(seen.last, bytes, n);
    if (seen.answer_twice)
        for (int i = 0; i < 2; i++)
            kg_channel_send(seen.channel, "ab", 2);
    if (seen.messages == seen.close_at)
        kg_channel_close(seen.channel, on_closed);
}

static void on_lost(void *arg)
{
    ck_assert_ptr_eq(arg, &seen);
    ck_assert(!seen.in_send && seen.closed == 0);
    seen.lost++;
    ck_assert_int_eq(kg_channel_send(seen.channel, "x", 1), KG_ECLOSED);
    if (seen.close_on_lost)
        kg_channel_close(seen.channel, on_closed);
}

static int send_checked(const void *bytes, size_t n)
{
    int code;

    seen.in_send = true;
    code = kg_channel_send(seen.channel, bytes, n);
    seen.in_send = false;
    return code;
}

static void setup(void)
{
    int fds[2];

    memset(&seen, 0, sizeof seen);
    ck_assert_int_eq(uv_loop_init(&loop), 0);
    ck_assert_int_eq(kg_channel_pair(fds), 0);
    seen.channel = kg_channel_open(&loop, fds[0], on_message, on_lost, &seen);
    ck_assert_ptr_nonnull(seen.channel);
    peer = fds[1];
    inner = fds[0];
}

static void close_peer(void)
{
    if (peer >= 0)
        close(peer);
    peer = -1;
}

static void teardown(void)
{
    if (seen.channel)
        kg_channel_close(seen.channel, seen.close_at ? NULL : on_closed);
    uv_run(&loop, UV_RUN_DEFAULT);
    ck_assert_int_eq(seen.closed, 1);
    ck_assert_int_eq(uv_loop_close(&loop), 0); /* no handle is left */
    close_peer();
}

/* Turns the loop until nothing happens any more for a moment. */
static void turn(void)
{
    for (int quiet = 0; quiet < 20;) {
        const int before = seen.messages + seen.lost + seen.closed;

        uv_run(&loop, UV_RUN_NOWAIT);
        quiet = before == seen.messages + seen.lost + seen.closed ? quiet + 1 : 0;
    }
}

START_TEST(pair_is_nonblocking_and_cloexec)
{
    int fds[2];

    ck_assert_int_eq(kg_channel_pair(fds), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
        ck_assert(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
        close(fds[i]);
    }
}
END_TEST

START_TEST(messages_stay_whole_and_ordered)
{
    char bytes[KG_MAX_MESSAGE_BYTES];

    memset(bytes, 'a', sizeof bytes);
    ck_assert_int_eq(send(peer, "one", 3, 0), 3);
    ck_assert_int_eq(send(peer, bytes, 1, 0), 1);
    turn();
    ck_assert_int_eq(seen.messages, 2);
    ck_assert_uint_eq(seen.last_n, 1);
    ck_assert_int_eq(send_checked("hello", 5), 0);
    ck_assert_int_eq(send_checked("you", 3), 0);
    ck_assert_int_eq(recv(peer, bytes, sizeof bytes, 0), 5);
    ck_assert_int_eq(recv(peer, bytes, sizeof bytes, 0), 3);
    ck_assert_mem_eq(bytes, "you", 3);
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 0);
}
END_TEST

START_TEST(more_than_a_batch_arrives)
{
    seen.numbered = true;
    for (int i = 0; i < 150; i++) /* the loop's turn takes 64 */
        ck_assert_int_eq(send(peer, &i, sizeof i, 0), sizeof i);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_le(seen.messages, 64);
    turn();
    ck_assert_int_eq(seen.messages, 150);
}
END_TEST

START_TEST(size_limit_when_receiving)
{
    char bytes[KG_MAX_MESSAGE_BYTES + 1];

    memset(bytes, 'z', sizeof bytes);
    for (size_t n = KG_MAX_MESSAGE_BYTES - 1; n <= KG_MAX_MESSAGE_BYTES; n++) {
        ck_assert_int_eq(send(peer, bytes, n, 0), (ssize_t)n);
        turn();
        ck_assert_uint_eq(seen.last_n, n);
    }
    ck_assert_int_eq(send(peer, bytes, sizeof bytes, 0), (ssize_t)sizeof bytes);
    turn();
    ck_assert_int_eq(seen.messages, 2); /* a cut message is nobody's message */
    ck_assert_int_eq(seen.lost, 1);
}
END_TEST

START_TEST(size_limit_when_sending)
{
    char bytes[KG_MAX_MESSAGE_BYTES + 1];

    memset(bytes, 'z', sizeof bytes);
    for (size_t n = KG_MAX_MESSAGE_BYTES - 1; n <= KG_MAX_MESSAGE_BYTES; n++) {
        ck_assert_int_eq(send_checked(bytes, n), 0);
        ck_assert_int_eq(recv(peer, bytes, sizeof bytes, 0), (ssize_t)n);
    }
    ck_assert_int_eq(send_checked(bytes, sizeof bytes), KG_ELIMIT);
    ck_assert_int_eq(seen.lost, 0);
    turn();
    ck_assert_int_eq(seen.lost, 1);
    ck_assert_int_lt(recv(peer, bytes, sizeof bytes, MSG_DONTWAIT), 0);
}
END_TEST

START_TEST(lost_when_the_peer_closes)
{
    ck_assert_int_eq(send(peer, "last words", 10, 0), 10);
    close_peer();
    turn();
    ck_assert_int_eq(seen.messages, 1);
    ck_assert_int_eq(seen.lost, 1);
    ck_assert_int_eq(send_checked("x", 1), KG_ECLOSED);
    turn();
    ck_assert_int_eq(seen.lost, 1); /* once */
}
END_TEST

START_TEST(last_words_survive_a_failed_send)
{
    seen.numbered = true;
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(send(peer, &i, sizeof i, 0), sizeof i);
    close_peer();
    ck_assert_int_eq(send_checked("x", 1), KG_ECLOSED);
    ck_assert_int_eq(send_checked("x", 1), KG_ECLOSED);
    ck_assert_int_eq(seen.lost, 0);
    turn();
    ck_assert_int_eq(seen.messages, 100);
    ck_assert_int_eq(seen.lost, 1);
}
END_TEST

START_TEST(last_words_survive_a_reset)
{
    /* The peer dies with messages unread: Linux turns that into a reset on our side. */
    ck_assert_int_eq(send_checked("unread", 6), 0);
    ck_assert_int_eq(send(peer, "last", 4, 0), 4);
    close_peer();
    turn();
    ck_assert_int_eq(seen.messages, 1);
    ck_assert_int_eq(seen.lost, 1);
}
END_TEST

START_TEST(lost_when_the_peer_only_stops_reading)
{
    ck_assert_int_eq(shutdown(peer, SHUT_RD), 0);
    ck_assert_int_eq(send_checked("x", 1), KG_ECLOSED);
    turn();
    ck_assert_int_eq(seen.lost, 1);
}
END_TEST

START_TEST(an_empty_message_is_the_end)
{
    ck_assert_int_eq(send(peer, "", 0, 0), 0);
    turn();
    ck_assert_int_eq(seen.messages, 0);
    ck_assert_int_eq(seen.lost, 1);
}
END_TEST

START_TEST(lost_is_followed_by_close)
{
    seen.close_on_lost = true;
    close_peer();
    turn();
    ck_assert_int_eq(seen.lost, 1);
    ck_assert_int_eq(seen.closed, 1);
}
END_TEST

/* Sends numbered messages until n of them wait in the queue; the count of all. */
static int send_until_queued(size_t n)
{
    char bytes[512] = "";
    int sent = 0;

    while (kg_channel_queued(seen.channel) < n) {
        memcpy(bytes, &sent, sizeof sent);
        ck_assert_int_eq(send_checked(bytes, sizeof bytes), 0);
        sent++;
    }
    return sent;
}

static void expect_number(int number)
{
    char bytes[KG_MAX_MESSAGE_BYTES];
    int got = -1;

    for (int tries = 0; tries < 1000; tries++) {
        const ssize_t n = recv(peer, bytes, sizeof bytes, MSG_DONTWAIT);

        if (n > 0) {
            memcpy(&got, bytes, sizeof got);
            break;
        }
        ck_assert_int_eq(errno, EAGAIN);
        uv_run(&loop, UV_RUN_NOWAIT); /* the channel's turn to send from its queue */
    }
    ck_assert_int_eq(got, number);
}

START_TEST(queue_keeps_order_under_a_slow_peer)
{
    const int sent = send_until_queued(1000);

    turn();
    ck_assert_uint_ge(kg_channel_queued(seen.channel), 1000 - 64); /* the kernel took no more */
    for (int i = 0; i < sent; i++)
        expect_number(i);
    turn();
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 0);
    ck_assert_int_eq(send_checked("x", 1), 0);
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 0); /* at once again, past no queue */
    ck_assert_int_eq(seen.lost, 0);
}
END_TEST

START_TEST(nothing_overtakes_the_queue)
{
    int sent = send_until_queued(10);

    for (int i = 0; i < 5; i++)
        expect_number(i); /* room in the kernel again, and the loop does not know yet */
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 10);
    ck_assert_int_eq(send_checked(&sent, sizeof sent), 0);
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 11);
    for (int i = 5; i <= sent; i++)
        expect_number(i);
}
END_TEST

START_TEST(queue_over_a_tiny_send_buffer)
{
    const int bytes = 4096;
    int sent;

    ck_assert_int_eq(setsockopt(inner, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes), 0);
    sent = send_until_queued(200); /* the kernel takes a few at a time, less than a batch */
    for (int i = 0; i < sent; i++)
        expect_number(i);
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 0);
}
END_TEST

START_TEST(queue_is_bounded)
{
    send_until_queued(KG_MAX_CHANNEL_QUEUE - 1);
    ck_assert_int_eq(send_checked("n", 1), 0);
    ck_assert_uint_eq(kg_channel_queued(seen.channel), KG_MAX_CHANNEL_QUEUE);
    ck_assert_int_eq(send_checked("n+1", 3), KG_ELIMIT);
    ck_assert_int_eq(send_checked("more", 4), KG_ECLOSED);
    ck_assert_int_eq(seen.lost, 0);
    turn();
    ck_assert_int_eq(seen.lost, 1);
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 0);
}
END_TEST

START_TEST(close_with_a_full_queue_leaks_nothing)
{
    send_until_queued(500);
    kg_channel_close(seen.channel, on_closed);
    turn();
    ck_assert_int_eq(seen.closed, 1);
}
END_TEST

START_TEST(peer_dies_under_a_full_queue)
{
    send_until_queued(500);
    close_peer();
    turn();
    ck_assert_int_eq(seen.lost, 1);
    ck_assert_uint_eq(kg_channel_queued(seen.channel), 0);
}
END_TEST

START_TEST(closing_inside_a_message)
{
    seen.close_at = 3;
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(send(peer, "m", 1, 0), 1);
    turn();
    ck_assert_int_eq(seen.messages, 3); /* nothing after the close */
    ck_assert_int_eq(seen.closed, 1);
    ck_assert_int_eq(seen.lost, 0);
}
END_TEST

START_TEST(sending_inside_a_message)
{
    char bytes[8];

    seen.answer_twice = true;
    ck_assert_int_eq(send(peer, "m", 1, 0), 1);
    turn();
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(recv(peer, bytes, sizeof bytes, 0), 2);
    /* A peer that asks and dies before the answers: they fail inside the callback. */
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(send(peer, "m", 1, 0), 1);
    close_peer();
    turn();
    ck_assert_int_eq(seen.messages, 4);
    ck_assert_int_eq(seen.lost, 1);
}
END_TEST

START_TEST(the_peer_sees_a_close_at_once)
{
    char byte;

    kg_channel_close(seen.channel, NULL);
    ck_assert_int_eq(recv(peer, &byte, 1, MSG_DONTWAIT), 0);
    ck_assert_int_eq(kg_channel_send(seen.channel, "x", 1), KG_ECLOSED);
    seen.channel = NULL;
    seen.closed = 1; /* nobody is told, as asked */
}
END_TEST

START_TEST(not_pollable_is_refused_and_closed)
{
    char path[] = "/tmp/kipgate-channel-XXXXXX";
    const int fd = mkstemp(path);

    ck_assert_int_ge(fd, 0);
    unlink(path);
    ck_assert_ptr_null(kg_channel_open(&loop, fd, on_message, on_lost, &seen));
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
    ck_assert_int_eq(errno, EBADF);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("channel");
    TCase *t = tcase_create("all");
    SRunner *r = srunner_create(s);
    int failed;

    suite_add_tcase(s, t);
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, pair_is_nonblocking_and_cloexec);
    tcase_add_test(t, messages_stay_whole_and_ordered);
    tcase_add_test(t, more_than_a_batch_arrives);
    tcase_add_test(t, size_limit_when_receiving);
    tcase_add_test(t, size_limit_when_sending);
    tcase_add_test(t, lost_when_the_peer_closes);
    tcase_add_test(t, last_words_survive_a_failed_send);
    tcase_add_test(t, last_words_survive_a_reset);
    tcase_add_test(t, lost_when_the_peer_only_stops_reading);
    tcase_add_test(t, an_empty_message_is_the_end);
    tcase_add_test(t, lost_is_followed_by_close);
    tcase_add_test(t, queue_keeps_order_under_a_slow_peer);
    tcase_add_test(t, nothing_overtakes_the_queue);
    tcase_add_test(t, queue_over_a_tiny_send_buffer);
    tcase_add_test(t, queue_is_bounded);
    tcase_add_test(t, close_with_a_full_queue_leaks_nothing);
    tcase_add_test(t, peer_dies_under_a_full_queue);
    tcase_add_test(t, closing_inside_a_message);
    tcase_add_test(t, sending_inside_a_message);
    tcase_add_test(t, the_peer_sees_a_close_at_once);
    tcase_add_test(t, not_pollable_is_refused_and_closed);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
