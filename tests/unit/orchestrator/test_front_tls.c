/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates in pieces, as a front puts them together. The difficulty: a piece that is missing
 * must not turn into less than what control wanted; above all not into clients that nobody asks. */
#include "base/log.h"
#include "orchestrator/front_tls.h"
#include "tls_case.h"
#include <arpa/inet.h>
#include <check.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <unistd.h>

static uv_loop_t loop;
static struct proxy *proxy;
static struct proxy_stats stats;
static struct front_tls *tls;
static struct tls_made made, ca;
static struct sockaddr_in address;
static bool closed;

static void on_closed(void *arg)
{
    (void)arg;
    closed = true;
}

static void setup(void)
{
    struct proxy_listener listener = {.fd = socket(AF_INET, SOCK_STREAM, 0), .secure = true};
    struct proxy_params params = {.loop = &loop,
                                  .listeners = &listener,
                                  .listener_count = 1,
                                  .protocols = PROXY_HTTP11,
                                  .max_connections = 10,
                                  .access_log_fd = -1,
                                  .stats = &stats};
    socklen_t n = sizeof address;
    struct kg_err err = {0};

    address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    ck_assert_int_eq(bind(listener.fd, (const void *)&address, sizeof address), 0);
    getsockname(listener.fd, (void *)&address, &n);
    uv_loop_init(&loop);
    proxy = proxy_open(&params, &err);
    ck_assert_ptr_nonnull(proxy);
    tls = front_tls_new();
    tls_case_make(&made, &(struct tls_case){.names = "DNS:a.test"});
    tls_case_make(&ca, &(struct tls_case){.is_ca = true});
}

static void teardown(void)
{
    closed = false;
    proxy_close(proxy, on_closed, NULL);
    while (!closed)
        uv_run(&loop, UV_RUN_ONCE);
    uv_run(&loop, UV_RUN_NOWAIT);
    ck_assert_int_eq(uv_loop_close(&loop), 0);
    front_tls_free(tls);
    tls_case_free(&made);
    tls_case_free(&ca);
}

static void tell_piece(enum tls_part part, const char *text, size_t at, size_t n, size_t total)
{
    _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES];
    struct message_tls_piece *m = (void *)bytes;

    message_init(m, MESSAGE_TLS_PIECE, sizeof *m + n);
    m->part = (uint8_t)part;
    m->total = (uint32_t)total;
    m->at = (uint32_t)at;
    m->n = (uint32_t)n;
    memcpy(m->bytes, text + at, n);
    ck_assert_ptr_nonnull(message_check(m, sizeof *m + n, true));
    front_tls_message(tls, proxy, &m->head);
    for (size_t i = 0; i < sizeof *m + n; i++)
        ck_assert_int_eq(bytes[i], 0); /* nothing of it stays */
}

static void tell(enum tls_part part, const char *text)
{
    size_t n = strlen(text), half = n / 2;

    tell_piece(part, text, 0, half, n);
    tell_piece(part, text, half, n - half, n);
}

static void commit(void)
{
    struct message_tls_commit m;

    MESSAGE_INIT(&m, TLS_COMMIT);
    m.certificates = 1;
    front_tls_message(tls, proxy, &m.head);
}

/* 1: a client without a certificate gets through; -1: it is refused; 0: it waits. */
static int get_through(void)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl = SSL_new(ctx);
    int fd = socket(AF_INET, SOCK_STREAM, 0), rc = 0, error = 0;

    ck_assert_int_eq(connect(fd, (const void *)&address, sizeof address), 0);
    SSL_set_fd(ssl, fd);
    SSL_set_max_proto_version(ssl, TLS1_2_VERSION); /* whose end tells what the server thinks */
    BIO_socket_nbio(fd, 1);
    for (int i = 0; i < 300 && rc != 1 && (error == 0 || error == SSL_ERROR_WANT_READ); i++) {
        rc = SSL_connect(ssl);
        error = rc == 1 ? 0 : SSL_get_error(ssl, rc);
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(1000);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    return rc == 1 ? 1 : error == SSL_ERROR_WANT_READ ? 0 : -1;
}

START_TEST(pieces_become_certificates)
{
    ck_assert_int_eq(get_through(), 0);
    tell(TLS_CHAIN, made.chain);
    tell(TLS_KEY, made.key);
    ck_assert_int_eq(get_through(), 0);
    commit();
    ck_assert_int_eq(get_through(), 1);
    tell(TLS_CHAIN, made.chain);
    tell(TLS_KEY, made.key);
    tell(TLS_CLIENT_CA, ca.chain);
    commit();
    ck_assert_int_eq(get_through(), -1);
}
END_TEST

/* What is not whole is not taken: what was in force stays. */
START_TEST(a_missing_piece_changes_nothing)
{
    tell(TLS_CHAIN, made.chain);
    tell(TLS_KEY, made.key);
    tell_piece(TLS_CLIENT_CA, ca.chain, 0, 10, strlen(ca.chain));
    commit();
    ck_assert_int_eq(get_through(), 0);
    tell(TLS_CHAIN, made.chain);
    tell(TLS_KEY, made.key);
    tell(TLS_CLIENT_CA, ca.chain);
    commit();
    ck_assert_int_eq(get_through(), -1);
    tell(TLS_CHAIN, made.chain);
    tell_piece(TLS_KEY, made.key, 0, 20, strlen(made.key));
    tell_piece(TLS_KEY, made.key, 30, 20, strlen(made.key)); /* ten are missing */
    commit();
    ck_assert_int_eq(get_through(), -1);
    commit(); /* nothing was told at all */
    ck_assert_int_eq(get_through(), -1);
}
END_TEST

/* It was killed before it came to the end; the next one has another configuration. */
START_TEST(what_a_control_left_half_told)
{
    tell(TLS_CLIENT_CA, ca.chain);
    front_tls_forget(tls);
    tell(TLS_CHAIN, made.chain);
    tell(TLS_KEY, made.key);
    commit();
    ck_assert_int_eq(get_through(), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("front_tls");
    TCase *t = tcase_create("pieces");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, pieces_become_certificates);
    tcase_add_test(t, a_missing_piece_changes_nothing);
    tcase_add_test(t, what_a_control_left_half_told);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
