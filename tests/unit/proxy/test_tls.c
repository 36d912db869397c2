/* SPDX-License-Identifier: Apache-2.0 */
/* TLS under a wire: bytes both ways, room, ends and handshakes. The difficulty: all that a wire
 * promises to those above it must hold, whatever pieces the records come in. */
#include "tls_world.h"

static char big[3 * MIB];

static void fill_big(void)
{
    unsigned seed = 7;

    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)rand_r(&seed);
}

static int send_text(struct end *e, const char *text)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t)text, (unsigned)strlen(text));

    return wire_send(&e->wire, &buf, 1);
}

static bool got_text(const struct kg_buf *got, const char *text)
{
    return kg_str_eq(kg_buf_str(got), kg_str_of(text));
}

/* --- bytes ------------------------------------------------------------------------------------ */

static void both_ways(int version)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    SSL_set_min_proto_version(p.ssl, version);
    SSL_set_max_proto_version(p.ssl, version);
    ck_assert(wire_is_secure(&e.wire));
    shake_hands(&e, &p);
    peer_say(&p, "hello", 5);
    UNTIL(&p, got_text(&e.got, "hello"));
    ck_assert_int_eq(send_text(&e, "you"), 0);
    UNTIL(&p, got_text(&p.got, "you"));
    ck_assert_int_eq(SSL_version(p.ssl), version);
    ck_assert_uint_eq(wire_pending(&e.wire), 0);
    part(&e, &p);
}

/* The client's part of it alone: the server's last turn is yet to come. */
static void end_its_handshake(struct peer *p)
{
    for (int turns = 0; !p->done && turns < TURNS; turns++) {
        peer_pump(p);
        p->done = SSL_do_handshake(p->ssl) == 1;
        if (!p->done)
            turn();
    }
    ck_assert(p->done);
}

START_TEST(bytes_both_ways)
{
    both_ways(TLS1_2_VERSION);
    both_ways(TLS1_3_VERSION);
    ck_assert_uint_eq(world.stats.tls_full, 2);
    ck_assert_uint_eq(world.stats.tls_failed, 0);
}
END_TEST

/* Each byte of the client's arrives alone, and its request behind its last word of the handshake.
 */
START_TEST(byte_by_byte)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    p.at_once = 1;
    UNTIL(&p, p.done);
    peer_say(&p, "first", 5);
    peer_say(&p, "second", 6);
    UNTIL(&p, got_text(&e.got, "firstsecond"));
    part(&e, &p);
}
END_TEST

START_TEST(a_request_with_the_end_of_the_handshake)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    for (int i = 0; i < TURNS && !p.done; i++) {
        peer_pump(&p);
        p.done = SSL_do_handshake(p.ssl) == 1;
        if (p.done)
            peer_say(&p, "at once", 7);
        peer_pump(&p);
        turn();
    }
    UNTIL(&p, got_text(&e.got, "at once"));
    part(&e, &p);
}
END_TEST

/* Nor is it lost where the client has ended its half before the handshake's turn came. */
START_TEST(a_last_request_with_the_end_of_the_handshake)
{
    for (int goodbye = 0; goodbye < 2; goodbye++) {
        struct tls_contexts *known = world.proxy->tls->contexts;
        struct peer p, other;
        struct end e, next;
        join(&e, &p, "a.test");
        end_its_handshake(&p);
        peer_say(&p, "at once", 7);
        if (goodbye)
            SSL_shutdown(p.ssl);
        world.proxy->tls->contexts = NULL; /* as if others had their turns first */
        peer_pump(&p);
        shutdown(p.fd, SHUT_WR);
        for (int i = 0; i < 10; i++)
            turn();
        world.proxy->tls->contexts = known;
        ck_assert_uint_eq(e.eofs, 0);
        join(&next, &other, "a.test"); /* turns go on */
        shake_hands(&next, &other);
        UNTIL(&other, e.eofs == 1);
        ck_assert(got_text(&e.got, "at once"));
        part(&next, &other);
        part(&e, &p);
    }
}
END_TEST

/* The same with a large body: more comes at once than waits for a handshake's turn. */
START_TEST(a_body_with_the_end_of_the_handshake)
{
    struct peer p;
    struct end e;

    fill_big();
    for (int late = 0; late < 2; late++) {
        join(&e, &p, "a.test");
        end_its_handshake(&p);
        peer_say(&p, big, 500 * 1024);
        peer_pump(&p);
        peer_pump(&p);
        e.room = late ? 1000 : SIZE_MAX;
        if (late) {
            UNTIL(&p, e.room == 0 && e.pauses == 1);
            e.room = SIZE_MAX;
            wire_read(&e.wire, true);
        }
        UNTIL(&p, e.got.len == 500 * 1024);
        ck_assert_mem_eq(e.got.data, big, 500 * 1024);
        part(&e, &p);
    }
}
END_TEST

START_TEST(bulk_in)
{
    struct peer p;
    struct end e;

    fill_big();
    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    peer_say(&p, big, sizeof big);
    UNTIL(&p, e.got.len == sizeof big);
    ck_assert_mem_eq(e.got.data, big, sizeof big);
    ck_assert_uint_le(e.most, KG_READ_BUFFER_BYTES);
    ck_assert_uint_gt(e.most, 32 * 1024); /* several records at once */
    part(&e, &p);
}
END_TEST

/* Pieces of all sizes, some by several buffers; the client takes nothing until much is queued. */
START_TEST(bulk_out)
{
    size_t sent = 0, n = 1;
    struct peer p;
    struct end e;

    fill_big();
    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    p.deaf = true;
    while (sent < sizeof big) {
        uv_buf_t bufs[3];
        for (size_t i = 0; i < 3; i++) {
            size_t left = sizeof big - sent, step = n < left ? n : left;
            bufs[i] = uv_buf_init(big + sent, (unsigned)step);
            sent += step;
            n = n * 5 % 70001;
        }
        ck_assert_int_eq(wire_send(&e.wire, bufs, 3), 0);
        if (wire_pending(&e.wire) > 300 * 1024)
            p.deaf = false;
        UNTIL(&p, p.deaf || wire_pending(&e.wire) == 0);
    }
    UNTIL(&p, p.got.len == sizeof big);
    ck_assert_mem_eq(p.got.data, big, sizeof big);
    ck_assert_uint_gt(e.drains, 0);
    part(&e, &p);
}
END_TEST

START_TEST(a_client_that_takes_nothing_fills_the_queue)
{
    struct peer p;
    struct end e;
    int rc = 0;

    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    p.deaf = true;
    for (int i = 0; i < 100 && rc == 0; i++) {
        uv_buf_t buf = uv_buf_init(big, 64 * 1024);
        rc = wire_send(&e.wire, &buf, 1);
    }
    ck_assert_int_eq(rc, KG_ELIMIT);
    ck_assert_uint_gt(wire_pending(&e.wire), QUEUE_BYTES / 2);
    ck_assert_int_eq(send_text(&e, "more"), KG_EIO);
    part(&e, &p);
}
END_TEST

/* --- room ------------------------------------------------------------------------------------- */

START_TEST(no_more_than_there_is_room_for)
{
    struct peer p;
    struct end e;

    fill_big();
    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    e.room = 10;
    peer_say(&p, big, 300 * 1024);
    for (size_t n = 10; n < 300 * 1024; n += 7001) {
        UNTIL(&p, e.room == 0 && !e.wire.reading);
        ck_assert_uint_eq(e.pauses, 1 + (n - 10) / 7001);
        ck_assert_uint_eq(e.got.len, n);
        ck_assert_uint_le(e.wire.tls->held.len, KG_READ_BUFFER_BYTES);
        for (int i = 0; i < 5; i++) {
            peer_step(&p);
            turn();
        }
        ck_assert_uint_eq(e.got.len, n); /* it waits */
        ck_assert(wire_readable(&e.wire));
        e.room = 7001;
        wire_read(&e.wire, true);
        ck_assert_uint_eq(e.got.len, n); /* nobody is called from in there */
    }
    e.room = SIZE_MAX;
    wire_read(&e.wire, true);
    UNTIL(&p, e.got.len == 300 * 1024);
    ck_assert_mem_eq(e.got.data, big, 300 * 1024);
    part(&e, &p);
}
END_TEST

START_TEST(reading_stops_when_told)
{
    struct peer p;
    struct end e;

    fill_big();
    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    e.stop_at_bytes = true;
    peer_say(&p, big, 200 * 1024);
    SSL_shutdown(p.ssl);
    while (e.got.len < 200 * 1024) {
        size_t before = e.got.len;
        UNTIL(&p, e.got.len > before);
        ck_assert(!e.wire.reading && e.eofs == 0);
        wire_read(&e.wire, true);
        wire_read(&e.wire, false);
        wire_read(&e.wire, true);
    }
    UNTIL(&p, e.eofs == 1);
    ck_assert_mem_eq(e.got.data, big, 200 * 1024);
    part(&e, &p);
}
END_TEST

START_TEST(closed_from_within)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    e.close_at_bytes = true;
    peer_say(&p, big, 100 * 1024);
    UNTIL(&p, e.closed);
    ck_assert_uint_gt(e.got.len, 0);
    ck_assert_uint_eq(e.eofs + e.brokens, 0);
    part(&e, &p);
}
END_TEST

/* --- ends ------------------------------------------------------------------------------------- */

/* The client says that it is done, and still gets all. */
START_TEST(half_closed_by_the_client)
{
    struct peer p;
    struct end e;

    fill_big();
    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    peer_say(&p, "last", 4);
    SSL_shutdown(p.ssl);
    UNTIL(&p, e.eofs == 1);
    ck_assert(got_text(&e.got, "last"));
    ck_assert(e.wire.eof && !e.wire.broken);
    ck_assert_int_eq(wire_send(&e.wire, &(uv_buf_t){.base = big, .len = 300 * 1024}, 1), 0);
    wire_fin(&e.wire);
    ck_assert_int_eq(send_text(&e, "more"), KG_EIO);
    UNTIL(&p, p.ended);
    ck_assert_uint_eq(p.got.len, 300 * 1024);
    ck_assert_int_eq(SSL_get_shutdown(p.ssl), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    part(&e, &p);
}
END_TEST

/* We are done, and still read. */
START_TEST(half_closed_by_us)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    wire_fin(&e.wire);
    UNTIL(&p, p.ended && SSL_get_shutdown(p.ssl) == SSL_RECEIVED_SHUTDOWN);
    peer_say(&p, "still", 5);
    UNTIL(&p, got_text(&e.got, "still"));
    part(&e, &p);
}
END_TEST

START_TEST(an_end_without_a_word)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    peer_say(&p, "cut", 3);
    peer_pump(&p);
    shutdown(p.fd, SHUT_WR);
    UNTIL(&p, e.eofs == 1);
    ck_assert(got_text(&e.got, "cut"));
    ck_assert_uint_eq(e.brokens, 0);
    part(&e, &p);
}
END_TEST

START_TEST(a_forged_record)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    shake_hands(&e, &p);
    peer_say(&p, "good", 4);
    UNTIL(&p, got_text(&e.got, "good"));
    ck_assert_int_eq(send(p.fd,
                          "\x17\x03\x03\x00\x20"
                          "abcdefghijklmnopqrstuvwxyz012345",
                          37, 0),
                     37);
    UNTIL(&p, e.brokens == 1);
    ck_assert(got_text(&e.got, "good"));
    part(&e, &p);
}
END_TEST

/* --- handshakes ------------------------------------------------------------------------------- */

START_TEST(garbage_is_no_handshake)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\x16\x03\x01\xff\xff",
                                        "\x80\x2e\x01\x03\x01", "\n\n\n\n\n\n\n\n\n"};
    struct peer p;
    struct end e;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        join(&e, &p, NULL);
        ck_assert_int_gt(send(p.fd, texts[i], strlen(texts[i]), 0), 0);
        for (int n = 0; n < 20; n++)
            turn();
        if (e.brokens == 0) { /* it waits for more of it */
            ck_assert_int_gt(send(p.fd, big, 20000, 0), 0);
            for (int n = 0; n < 20; n++)
                turn();
        }
        ck_assert_uint_eq(e.brokens, 1);
        ck_assert_uint_eq(e.got.len, 0);
        part(&e, &p);
    }
    ck_assert_uint_eq(world.stats.tls_failed, sizeof texts / sizeof *texts);
}
END_TEST

/* One byte of the client's is another on the way, and all comes in pieces of any size: what gets
 * through is the beginning of what was said, and the end is told once. */
START_TEST(spoilt_on_the_way)
{
    unsigned seed = 11;
    size_t short_ = 0;

    fill_big();
    for (int round = 0; round < 300; round++) {
        struct peer p;
        struct end e;
        bool said = false;

        join(&e, &p, "a.test");
        SSL_set_max_proto_version(p.ssl, round % 3 ? TLS1_3_VERSION : TLS1_2_VERSION);
        p.spoilt_at = 1 + (size_t)rand_r(&seed) % (round % 2 ? 700 : 30000);
        p.at_once = 1 + (size_t)rand_r(&seed) % 2000;
        for (int i = 0; i < 3000 && e.brokens + e.eofs == 0 && e.got.len < 30000; i++) {
            if (p.done && !said)
                peer_say(&p, big, 30000);
            said = p.done;
            peer_step(&p);
            turn();
        }
        short_ += e.got.len < 30000;
        ck_assert_uint_le(e.got.len, 30000);
        ck_assert(e.got.len == 0 || memcmp(e.got.data, big, e.got.len) == 0);
        ck_assert_uint_le(e.brokens + e.eofs, 1);
        part(&e, &p);
    }
    ck_assert_uint_gt(short_, 250);
    ck_assert_uint_eq(world.proxy->tls->under_way, 0);
}
END_TEST

/* A handshake that never ends has a most that it may say. */
START_TEST(a_handshake_without_end)
{
    static const char record[] = "\x16\x03\x01\x40\x00";
    struct peer p;
    struct end e;

    join(&e, &p, NULL);
    memset(big, 0, 0x4000);
    memcpy(big, "\x01\xff\xff\xff", 4);
    for (int i = 0; i < 200 && e.brokens == 0; i++) {
        send(p.fd, record, 5, MSG_DONTWAIT | MSG_NOSIGNAL);
        send(p.fd, big, 0x4000, MSG_DONTWAIT | MSG_NOSIGNAL);
        turn();
    }
    ck_assert_uint_eq(e.brokens, 1);
    part(&e, &p);
}
END_TEST

START_TEST(nothing_is_sent_before_the_handshake)
{
    struct peer p;
    struct end e;

    join(&e, &p, NULL);
    ck_assert_int_eq(send_text(&e, "words"), KG_EIO);
    wire_fin(&e.wire);
    UNTIL(&p, p.ended);
    part(&e, &p);
}
END_TEST

/* Many begin at once: one is worked on in a turn, and what is ready comes in between. */
START_TEST(handshakes_wait_for_their_turn)
{
    enum { MANY = 8 };
    struct peer p[MANY], ready;
    struct end e[MANY], warm;
    uint64_t answered, before;

    join(&warm, &ready, "a.test");
    shake_hands(&warm, &ready);
    for (int i = 0; i < MANY; i++) {
        join(&e[i], &p[i], "a.test");
        peer_step(&p[i]);
    }
    for (int i = 0; i < MANY + 1; i++) {
        size_t got = warm.got.len;
        peer_say(&ready, "x", 1);
        peer_pump(&ready);
        before = world.proxy->tls->under_way;
        turn();
        answered = world.proxy->tls->under_way;
        ck_assert_uint_le(answered - before, 1);
        ck_assert_uint_eq(warm.got.len, got + 1);
    }
    ck_assert_uint_eq(world.proxy->tls->under_way, MANY);
    for (int i = 0; i < MANY; i++)
        shake_hands(&e[i], &p[i]);
    ck_assert_uint_eq(world.proxy->tls->under_way, 0);
    ck_assert_uint_eq(world.stats.tls_full, MANY + 1);
    for (int i = 0; i < MANY; i++)
        part(&e[i], &p[i]);
    part(&warm, &ready);
}
END_TEST

START_TEST(handshakes_have_a_cap)
{
    struct peer p, q;
    struct end e, f;

    world.proxy->tls->under_way = KG_MAX_HANDSHAKES - 1;
    join(&e, &p, "a.test");
    UNTIL(&p, e.wire.tls->ssl != NULL);
    join(&f, &q, "a.test");
    UNTIL(&q, f.brokens == 1);
    ck_assert_uint_eq(e.brokens, 0);
    shake_hands(&e, &p);
    ck_assert_uint_eq(world.proxy->tls->under_way, KG_MAX_HANDSHAKES - 1);
    world.proxy->tls->under_way = 0;
    part(&e, &p);
    part(&f, &q);
}
END_TEST

/* A client that leaves in the middle leaves nothing behind. */
START_TEST(left_in_the_middle)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    UNTIL(&p, e.wire.tls->ssl != NULL);
    ck_assert_uint_eq(world.proxy->tls->under_way, 1);
    part(&e, &p);
    ck_assert_uint_eq(world.proxy->tls->under_way, 0);
    ck_assert_uint_eq(world.stats.tls_failed, 1);
    join(&e, &p, "a.test");
    peer_step(&p);
    turn(); /* it is in the queue */
    part(&e, &p);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {bytes_both_ways,
                                  byte_by_byte,
                                  a_request_with_the_end_of_the_handshake,
                                  a_last_request_with_the_end_of_the_handshake,
                                  a_body_with_the_end_of_the_handshake,
                                  bulk_in,
                                  bulk_out,
                                  a_client_that_takes_nothing_fills_the_queue,
                                  no_more_than_there_is_room_for,
                                  reading_stops_when_told,
                                  closed_from_within,
                                  half_closed_by_the_client,
                                  half_closed_by_us,
                                  an_end_without_a_word,
                                  a_forged_record,
                                  garbage_is_no_handshake,
                                  spoilt_on_the_way,
                                  a_handshake_without_end,
                                  nothing_is_sent_before_the_handshake,
                                  handshakes_wait_for_their_turn,
                                  handshakes_have_a_cap,
                                  left_in_the_middle};

    return tls_world_run("tls", tests, sizeof tests / sizeof *tests);
}
