/* SPDX-License-Identifier: Apache-2.0 */
/* Clients of the TLS bench: handshakes full or resumed, or one large body down or up. The
 * difficulty: clients cost as much as what is measured, so they do nothing else, and say how much
 * they did. */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIECE_BYTES = 256 * 1024, MAX_THREADS = 256 };

static struct {
    struct sockaddr_in to;
    double seconds;
    int resume;
    SSL_CTX *ctx;
} load;
static struct {
    long done, failed;
} counts[MAX_THREADS];

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    SSL_SESSION **newest = SSL_get_app_data(ssl);

    if (!newest)
        return 0;
    SSL_SESSION_free(*newest);
    *newest = session;
    return 1;
}

/* A connection after its handshake; NULL: it failed. */
static SSL *join(SSL_SESSION *with, SSL_SESSION **newest)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    SSL *ssl = SSL_new(load.ctx);

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL_set_fd(ssl, fd);
    SSL_set_app_data(ssl, newest);
    SSL_set_tlsext_host_name(ssl, "bench.test");
    if (with) {
        SSL_SESSION *copy = SSL_SESSION_dup(with); /* OpenSSL uses one only once */
        SSL_set_session(ssl, copy);
        SSL_SESSION_free(copy);
    }
    if (connect(fd, (const struct sockaddr *)&load.to, sizeof load.to) == 0 &&
        SSL_connect(ssl) == 1)
        return ssl;
    SSL_free(ssl);
    close(fd);
    return NULL;
}

static void part(SSL *ssl)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    int fd = SSL_get_fd(ssl);

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once); /* no ports in TIME_WAIT */
    SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
    close(fd);
}

/* A session to resume: it comes with the first answer. */
static SSL_SESSION *first_session(void)
{
    static const char get[] = "GET /1 HTTP/1.1\r\nHost: bench.test\r\n\r\n";
    SSL_SESSION *session = NULL;
    SSL *ssl = join(NULL, &session);
    char answer[4096];

    if (!ssl || SSL_write(ssl, get, sizeof get - 1) <= 0 ||
        SSL_read(ssl, answer, sizeof answer) <= 0)
        return NULL;
    SSL_set_app_data(ssl, NULL);
    part(ssl);
    return session;
}

static void *shake_hands(void *arg)
{
    size_t me = (size_t)(uintptr_t)arg;
    SSL_SESSION *session = load.resume ? first_session() : NULL;
    double until = now() + load.seconds;

    while (now() < until) {
        SSL *ssl = load.resume && !session ? NULL : join(session, NULL);
        if (ssl && SSL_session_reused(ssl) == load.resume)
            counts[me].done++;
        else
            counts[me].failed++;
        if (ssl)
            part(ssl);
        else
            usleep(1000);
    }
    return NULL;
}

static void handshakes(size_t threads)
{
    pthread_t all[MAX_THREADS];
    long done = 0, failed = 0;
    double began = now();

    for (size_t i = 0; i < threads; i++)
        pthread_create(&all[i], NULL, shake_hands, (void *)(uintptr_t)i);
    for (size_t i = 0; i < threads; i++) {
        pthread_join(all[i], NULL);
        done += counts[i].done;
        failed += counts[i].failed;
    }
    printf("%ld %ld %.6f\n", done, failed, now() - began);
}

/* --- bulk ------------------------------------------------------------------------------------- */

static long long read_head(SSL *ssl, long long *length)
{
    static char head[8192];
    size_t n = 0, got;
    char *end = NULL, *field;

    while (!end && n < sizeof head - 1 && SSL_read_ex(ssl, head + n, sizeof head - 1 - n, &got)) {
        n += got;
        head[n] = '\0';
        end = strstr(head, "\r\n\r\n");
    }
    field = end ? strcasestr(head, "\r\nContent-Length:") : NULL;
    *length = field ? atoll(field + 17) : -1;
    return end ? (long long)n - (end + 4 - head) : -1;
}

static void bulk(long long bytes, int up)
{
    static char piece[PIECE_BYTES];
    long long length, left = bytes;
    double began, until = now() + load.seconds;
    SSL *ssl = join(NULL, NULL);
    long done = 0;
    size_t n;

    began = now();
    for (; ssl && (done == 0 || now() < until); done++, left = bytes) {
        int head = snprintf(piece, sizeof piece,
                            up ? "POST / HTTP/1.1\r\nHost: bench.test\r\n"
                                 "Content-Length: %lld\r\n\r\n"
                               : "GET /%lld HTTP/1.1\r\nHost: bench.test\r\n\r\n",
                            bytes);
        if (SSL_write(ssl, piece, head) <= 0)
            break;
        for (; up && left > 0; left -= (long long)n)
            if (!SSL_write_ex(ssl, piece, left < PIECE_BYTES ? (size_t)left : PIECE_BYTES, &n))
                break;
        left = -read_head(ssl, &length);
        for (left += length; left > 0; left -= (long long)n)
            if (!SSL_read_ex(ssl, piece, PIECE_BYTES, &n))
                break;
        if (left != 0 || length < 0 || (!up && length != bytes))
            break;
    }
    printf("%ld %d %.6f\n", done, ssl == NULL || left != bytes, now() - began);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "tls_load PORT 1.2|1.3 SECONDS full|resumed|down|up THREADS|BYTES\n");
        return 2;
    }
    load.to = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)atoi(argv[1])),
                                   .sin_addr = {htonl(INADDR_LOOPBACK)}};
    load.seconds = atof(argv[3]);
    load.resume = strcmp(argv[4], "resumed") == 0;
    load.ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(load.ctx,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(load.ctx, on_session);
    SSL_CTX_set_max_proto_version(load.ctx,
                                  strcmp(argv[2], "1.2") == 0 ? TLS1_2_VERSION : TLS1_3_VERSION);
    if (strcmp(argv[4], "down") == 0 || strcmp(argv[4], "up") == 0)
        bulk(atoll(argv[5]), argv[4][0] == 'u');
    else
        handshakes((size_t)atoi(argv[5]) < MAX_THREADS ? (size_t)atoi(argv[5]) : MAX_THREADS);
    return 0;
}
