/* SPDX-License-Identifier: Apache-2.0 */
/* Wires that speak TLS, each with a client by OpenSSL at the other end of a socket pair, all on one
 * loop. The difficulty: both ends take turns in one thread, so nothing may block, and each test
 * says how much room its wire has and how much the client takes. */
#ifndef TESTS_UNIT_PROXY_TLS_WORLD_H
#define TESTS_UNIT_PROXY_TLS_WORLD_H

#include "proxy/proxy_priv.h"
#include "proxy/tls_priv.h"
#include "proxy/wire_priv.h"
#include "tls_case.h"
#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

#define TURNS 20000
#define QUEUE_BYTES (512 * 1024)
#define MIB (1024 * 1024)

static struct {
    uv_loop_t loop;
    uv_timer_t tick;
    struct proxy *proxy;
    struct proxy_stats stats;
    bool closed;
} world;

/* --- our end --------------------------------------------------------------------------------- */

struct end {
    struct wire wire;
    struct kg_buf got;
    size_t room, most; /* that it takes now; that came at once */
    unsigned eofs, brokens, drains, pauses;
    bool close_at_bytes, stop_at_bytes, closed;
};

static inline struct end *end_of(struct wire *w)
{
    return KG_CONTAINER_OF(w, struct end, wire);
}

static inline size_t end_room(struct wire *w)
{
    return end_of(w)->room;
}

static inline void end_bytes(struct wire *w, char *bytes, size_t n)
{
    struct end *e = end_of(w);

    KG_ASSERT(n > 0 && n <= e->room); /* check's own would ask for memory, which may be refused */
    e->most = n > e->most ? n : e->most;
    if (e->room != SIZE_MAX)
        e->room -= n;
    kg_buf_append(&e->got, bytes, n);
    if (e->stop_at_bytes)
        wire_read(w, false);
    if (e->close_at_bytes)
        wire_close(w);
}

static inline void end_eof(struct wire *w)
{
    end_of(w)->eofs++;
}

static inline void end_drained(struct wire *w)
{
    end_of(w)->drains++;
}

static inline void end_broken(struct wire *w)
{
    end_of(w)->brokens++;
    wire_close(w);
}

static inline void end_paused(struct wire *w)
{
    end_of(w)->pauses++;
}

static inline void end_closed(struct wire *w)
{
    end_of(w)->closed = true;
}

static const struct wire_kind end_kind = {.room = end_room,
                                          .on_bytes = end_bytes,
                                          .on_eof = end_eof,
                                          .on_drained = end_drained,
                                          .on_broken = end_broken,
                                          .on_paused = end_paused};

/* --- the client's end ------------------------------------------------------------------------ */

struct peer {
    int fd;
    SSL_CTX *ctx;
    SSL *ssl;
    SSL_SESSION *session; /* the newest */
    struct kg_buf got;
    bool done, ended, failed, deaf; /* deaf: takes no byte */
    unsigned long why;              /* it failed, to OpenSSL */
    size_t at_once;                 /* most that it writes to the socket in a turn; 0: all */
    size_t sent, spoilt_at;         /* so far; the byte that is another on the way (0: none) */
    struct kg_buf out;
};

static inline int peer_session(SSL *ssl, SSL_SESSION *session)
{
    struct peer *p = SSL_get_app_data(ssl);

    SSL_SESSION_free(p->session);
    p->session = session;
    return 1;
}

/* From the socket to OpenSSL, and back. */
static inline void peer_pump(struct peer *p)
{
    char bytes[65536];
    BIO *in = SSL_get_rbio(p->ssl), *out = SSL_get_wbio(p->ssl);
    ssize_t n;
    int m;

    while ((m = BIO_read(out, bytes, sizeof bytes)) > 0)
        kg_buf_append(&p->out, bytes, (size_t)m);
    if (p->out.len > 0) {
        size_t most = p->at_once && p->at_once < p->out.len ? p->at_once : p->out.len;
        if (p->spoilt_at >= p->sent && p->spoilt_at < p->sent + most && p->spoilt_at > 0) {
            p->out.data[p->spoilt_at - p->sent] ^= 0x41;
            p->spoilt_at = 0;
        }
        n = send(p->fd, p->out.data, most, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
            kg_buf_drop_front(&p->out, (size_t)n);
            p->sent += (size_t)n;
        }
    }
    while (!p->deaf && (n = recv(p->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
        BIO_write(in, bytes, (int)n);
    if (!p->deaf && n == 0)
        p->ended = true;
}

static inline void peer_step(struct peer *p)
{
    char bytes[65536];
    int rc;

    peer_pump(p);
    ERR_clear_error();
    if (!p->done && !p->failed) {
        rc = SSL_do_handshake(p->ssl);
        p->done = rc == 1;
        p->failed = rc != 1 && SSL_get_error(p->ssl, rc) != SSL_ERROR_WANT_READ;
        p->why = ERR_peek_last_error();
    }
    while (p->done && !p->failed && (rc = SSL_read(p->ssl, bytes, sizeof bytes)) > 0)
        kg_buf_append(&p->got, bytes, (size_t)rc);
    if (p->done && !p->failed && SSL_get_error(p->ssl, rc) == SSL_ERROR_SSL)
        p->failed = true;
    peer_pump(p);
}

static inline void peer_say(struct peer *p, const void *bytes, size_t n)
{
    ck_assert_int_eq(SSL_write(p->ssl, bytes, (int)n), (int)n);
}

static inline void turn(void)
{
    uv_run(&world.loop, UV_RUN_NOWAIT);
}

/* Turns until the condition holds. */
#define UNTIL(p, condition)                                                                        \
    do {                                                                                           \
        for (int turns = 0; !(condition) && turns < TURNS; turns++) {                              \
            peer_step(p);                                                                          \
            turn();                                                                                \
        }                                                                                          \
        ck_assert_msg((condition), "did not come: %s", #condition);                                \
    } while (0)

/* Both ends, connected; no byte was said yet. */
static inline void join(struct end *e, struct peer *p, const char *name)
{
    int fds[2];

    *e = (struct end){.room = SIZE_MAX};
    *p = (struct peer){.fd = -1};
    kg_buf_init(&e->got, 64 * MIB);
    kg_buf_init(&p->got, 64 * MIB);
    kg_buf_init(&p->out, 64 * MIB);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    p->fd = fds[1];
    p->ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(p->ctx,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(p->ctx, peer_session);
    p->ssl = SSL_new(p->ctx);
    SSL_set_app_data(p->ssl, p);
    SSL_set_bio(p->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_connect_state(p->ssl);
    if (name)
        SSL_set_tlsext_host_name(p->ssl, name);
    ck_assert_int_eq(wire_init(&e->wire, world.proxy, true, QUEUE_BYTES, &end_kind, end_closed), 0);
    ck_assert_int_eq(wire_open(&e->wire, fds[0]), 0);
    ck_assert_int_eq(wire_secure(&e->wire), 0);
    wire_read(&e->wire, true);
}

static inline void shake_hands(struct end *e, struct peer *p)
{
    UNTIL(p, p->done || p->failed);
    ck_assert_msg(p->done, "the handshake failed: %s", ERR_error_string(p->why, NULL));
    UNTIL(p, e->wire.tls->done);
}

static inline void part(struct end *e, struct peer *p)
{
    wire_close(&e->wire);
    for (int i = 0; i < TURNS && !e->closed; i++)
        turn();
    ck_assert(e->closed);
    SSL_SESSION_free(p->session);
    SSL_set_shutdown(p->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* a good end */
    SSL_free(p->ssl);
    SSL_CTX_free(p->ctx);
    close(p->fd);
    kg_buf_fini(&e->got);
    kg_buf_fini(&p->got);
    kg_buf_fini(&p->out);
}

/* --- certificates ---------------------------------------------------------------------------- */

static inline int set_certificates(const struct tls_made *const *made, size_t count,
                                   const char *client_ca)
{
    struct tls_certificate list[8];
    struct tls_material m = {list, count, kg_str_of(client_ca ? client_ca : "")};
    struct kg_err err = {0};

    for (size_t i = 0; i < count; i++)
        list[i] = (struct tls_certificate){
            kg_str_of(made[i]->chain), kg_str_of(made[i]->key), {made[i]->ocsp, made[i]->ocsp_n}};
    return proxy_tls_set(world.proxy, &m, &err);
}

static inline void set_one(const struct tls_case *c)
{
    const struct tls_made *one;
    struct tls_made made;

    tls_case_make(&made, c);
    one = &made;
    ck_assert_int_eq(set_certificates(&one, 1, NULL), 0);
    tls_case_free(&made);
}

static inline void set_tickets(unsigned count)
{
    static struct tls_ticket_key keys[TLS_TICKET_KEYS];

    memmove(&keys[1], &keys[0], (TLS_TICKET_KEYS - 1) * sizeof keys[0]);
    tls_ticket_key_make(&keys[0]);
    proxy_tls_tickets(world.proxy, keys, count);
}

/* --- the whole ------------------------------------------------------------------------------- */

static inline void on_world_closed(void *arg)
{
    (void)arg;
    world.closed = true;
}

static inline void setup(void)
{
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct proxy_listener listener = {.fd = socket(AF_INET, SOCK_STREAM, 0), .secure = true};
    struct proxy_params params = {.loop = &world.loop,
                                  .listeners = &listener,
                                  .listener_count = 1,
                                  .protocols = PROXY_HTTP11 | PROXY_H2,
                                  .max_connections = 10,
                                  .access_log_fd = -1,
                                  .stats = &world.stats};
    struct kg_err err = {0};

    memset(&world, 0, sizeof world);
    ck_assert_int_eq(bind(listener.fd, (const void *)&any, sizeof any), 0);
    uv_loop_init(&world.loop);
    world.proxy = proxy_open(&params, &err);
    ck_assert_ptr_nonnull(world.proxy);
    set_one(&(struct tls_case){.names = "DNS:a.test"});
    set_tickets(1);
}

static inline void teardown(void)
{
    proxy_close(world.proxy, on_world_closed, NULL);
    while (!world.closed)
        uv_run(&world.loop, UV_RUN_ONCE);
    ck_assert_int_eq(uv_run(&world.loop, UV_RUN_NOWAIT), 0);
    ck_assert_int_eq(uv_loop_close(&world.loop), 0);
}

static inline int tls_world_run(const char *name, const TTest *const *tests, size_t count)
{
    Suite *s = suite_create(name);
    TCase *t = tcase_create(name);
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}

#endif
