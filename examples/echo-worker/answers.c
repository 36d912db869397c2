/* SPDX-License-Identifier: Apache-2.0 */
/* What the worker can be told to do, by path. The difficulty: most of these are wrong on purpose,
 * and the few that are right must be exactly right. */
#include "echo.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HASHED_BYTES (256ll * 1024 * 1024)

static struct {
    pthread_mutex_t lock;
    char id[33], host[65];
    struct timespec began;
    long long connections, requests, now, peak;
} world = {.lock = PTHREAD_MUTEX_INITIALIZER};

void answers_init(void)
{
    unsigned char random[16];

    if (getrandom(random, sizeof random, 0) != sizeof random)
        abort();
    for (int i = 0; i < 16; i++)
        snprintf(world.id + 2 * i, 3, "%02x", random[i]);
    gethostname(world.host, sizeof world.host - 1);
    clock_gettime(CLOCK_MONOTONIC, &world.began);
}

void answers_connection(void)
{
    pthread_mutex_lock(&world.lock);
    world.connections++;
    pthread_mutex_unlock(&world.lock);
}

static void count(int more)
{
    pthread_mutex_lock(&world.lock);
    world.requests += more > 0;
    world.now += more;
    if (world.now > world.peak)
        world.peak = world.now;
    pthread_mutex_unlock(&world.lock);
}

static long long age_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - world.began.tv_sec) * 1000 + (now.tv_nsec - world.began.tv_nsec) / 1000000;
}

/* --- right answers -------------------------------------------------------------------------------
 */

static bool head(struct request *r, int status, const char *type, long long length)
{
    char framing[64] = "Transfer-Encoding: chunked\r\n";

    if (length >= 0)
        snprintf(framing, sizeof framing, "Content-Length: %lld\r\n", length);
    return conn_printf(
        r->conn, "HTTP/1.1 %d Told\r\nContent-Type: %s\r\n%sX-Echo-Host: %s\r\n%s\r\n", status,
        type, framing, world.host, r->keep_alive ? "" : "Connection: close\r\n");
}

static bool whole(struct request *r, int status, const char *type, const void *body, size_t n)
{
    if (!request_body(r, NULL, NULL) || !head(r, status, type, (long long)n))
        return false;
    if (strcmp(r->method, "HEAD") == 0)
        return true;
    return conn_write(r->conn, body, n);
}

static bool text(struct request *r, int status, const char *body)
{
    return whole(r, status, "text/plain", body, strlen(body));
}

/* The request as it came: line, fields, framing and all. */
static bool dump(struct request *r)
{
    if (!request_body(r, NULL, NULL))
        return false;
    return whole(r, 200, "application/octet-stream", r->conn->record, r->conn->recorded);
}

static bool small(struct request *r)
{
    return text(r, 200, "Hello, world\n");
}

static bool slow(struct request *r)
{
    if (!request_body(r, NULL, NULL))
        return false;
    sleep_ms(query_number(r, "ms", 1000));
    return text(r, (int)query_number(r, "status", 200), "slow\n");
}

static bool hang(struct request *r)
{
    while (r) /* for ever */
        pause();
    return false;
}

/* `count` bytes, `size` of them every `ms`; a pattern by position, so that a loss is seen. */
static bool pour(struct request *r, long long size, long long ms, bool zeros)
{
    static char pattern[64 * 1024 + 251];
    long long left = query_number(r, "bytes", 0), at = 0;
    bool chunked = query_number(r, "chunked", 0) != 0;

    if (!request_body(r, NULL, NULL) ||
        !head(r, 200, "application/octet-stream", chunked ? -1 : left))
        return false;
    for (size_t i = 0; !zeros && !pattern[1] && i < sizeof pattern; i++)
        pattern[i] = (char)(i % 251);
    while (left > 0) {
        static const char nothing[64 * 1024];
        long long n = left < size ? left : size;
        if (chunked && !conn_printf(r->conn, "%llx\r\n", n))
            return false;
        if (!conn_write(r->conn, zeros ? nothing : pattern + at % 251, (size_t)n) ||
            (chunked && !conn_printf(r->conn, "\r\n")))
            return false;
        at += n;
        left -= n;
        if (left > 0)
            sleep_ms(ms);
    }
    return !chunked || conn_printf(r->conn, "0\r\n\r\n");
}

static bool zeros(struct request *r)
{
    return pour(r, 64 * 1024, 0, true);
}

static bool drip(struct request *r)
{
    long long size = query_number(r, "chunk", 1024);

    return pour(r,
                size > 64 * 1024 ? 64 * 1024
                : size < 1       ? 1
                                 : size,
                query_number(r, "ms", 0), false);
}

struct sunk {
    struct sha256 sha;
    long long bytes;
    bool hash;
};

static void sink_piece(void *arg, const char *bytes, size_t n)
{
    struct sunk *s = arg;

    s->bytes += (long long)n;
    if (s->hash && s->bytes <= HASHED_BYTES)
        sha256_add(&s->sha, bytes, n);
}

static bool sink(struct request *r)
{
    struct sunk s = {.hash = query_number(r, "sha256", 1) != 0};
    char hex[65] = "", body[160];

    sha256_init(&s.sha);
    if (!request_body(r, sink_piece, &s))
        return false;
    if (s.hash && s.bytes <= HASHED_BYTES)
        sha256_hex(&s.sha, hex);
    snprintf(body, sizeof body, "{\"bytes\":%lld,\"sha256\":\"%s\"}\n", s.bytes, hex);
    return whole(r, 200, "application/json", body, strlen(body));
}

static bool sse(struct request *r)
{
    long long n = query_number(r, "n", 3), ms = query_number(r, "ms", 100);
    char event[64];

    if (!request_body(r, NULL, NULL) || !head(r, 200, "text/event-stream", -1))
        return false;
    for (long long i = 0; i < n; i++) {
        int size = snprintf(event, sizeof event, "id: %lld\ndata: event %lld\n\n", i, i);
        if (!conn_printf(r->conn, "%x\r\n%s\r\n", size, event))
            return false;
        if (i + 1 < n)
            sleep_ms(ms);
    }
    return conn_printf(r->conn, "0\r\n\r\n");
}

static bool whoami(struct request *r)
{
    char body[512];

    if (!request_body(r, NULL, NULL))
        return false;
    pthread_mutex_lock(&world.lock);
    snprintf(body, sizeof body,
             "{\"hostname\":\"%s\",\"id\":\"%s\",\"pid\":%d,\"connections\":%lld,\"requests\":%lld,"
             "\"peak\":%lld,\"uid\":%d}\n",
             world.host, world.id, getpid(), world.connections, world.requests, world.peak,
             (int)getuid());
    pthread_mutex_unlock(&world.lock);
    return whole(r, 200, "application/json", body, strlen(body));
}

static bool health(struct request *r)
{
    const char *after = getenv("HEALTH_AFTER_MS");

    return after && age_ms() < atoll(after) ? text(r, 503, "not yet\n") : text(r, 200, "healthy\n");
}

static bool env(struct request *r)
{
    extern char **environ;
    char body[4096];
    size_t n = 0;

    for (char **e = environ; *e && n < sizeof body - 300; e++)
        n += (size_t)snprintf(body + n, 300, "%.250s\n", *e);
    return whole(r, 200, "text/plain", body, n);
}

static bool interim(struct request *r)
{
    long long n = query_number(r, "n", 1);

    for (long long i = 0; i < n; i++)
        if (!conn_printf(r->conn, "HTTP/1.1 %lld Interim\r\nX-Interim: %lld\r\n\r\n",
                         query_number(r, "code", 103), i))
            return false;
    return text(r, 200, "final\n");
}

static bool early(struct request *r)
{
    head(r, (int)query_number(r, "status", 200), "text/plain", 6);
    conn_write(r->conn, "early\n", 6);
    request_body(r, NULL, NULL); /* so that the answer is not lost to a reset */
    return false;
}

/* --- wrong on purpose
 * ------------------------------------------------------------------------------ */

struct raw {
    char *bytes;
    size_t n;
};

static void raw_piece(void *arg, const char *bytes, size_t n)
{
    struct raw *raw = arg;

    if (raw->n + n <= RECORD_BYTES) {
        memcpy(raw->bytes + raw->n, bytes, n);
        raw->n += n;
    }
}

static bool send_split(struct request *r, const struct raw *raw, size_t split)
{
    for (size_t at = 0; at < raw->n; at += split) {
        size_t n = raw->n - at < split ? raw->n - at : split;
        if (!conn_write(r->conn, raw->bytes + at, n))
            return false;
        if (split < raw->n)
            sleep_ms(2);
    }
    return true;
}

static bool send_raw(struct request *r, const struct raw *raw)
{
    long long split = query_number(r, "split", 0);
    struct linger at_once = {1, 0};

    sleep_ms(query_number(r, "delay_ms", 0));
    if (!send_split(r, raw, split > 0 ? (size_t)split : raw->n + 1))
        return false;
    if (query_number(r, "hold", 0))
        return hang(r);
    if (query_number(r, "reset", 0)) {
        sleep_ms(20); /* what was sent should arrive before the reset */
        setsockopt(r->conn->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        return false;
    }
    return !query_number(r, "close", 0);
}

/* The exact bytes of ?b64=, or of the request's body, as the response. */
static bool raw(struct request *r)
{
    struct raw raw = {.bytes = malloc(RECORD_BYTES)};
    char *coded = malloc(sizeof r->target);
    bool go_on = false;

    if (raw.bytes && coded) {
        if (query_text(r, "b64", coded, sizeof r->target))
            raw.n = unbase64(coded, raw.bytes);
        if (query_number(r, "unread", 0) ||
            request_body(r, strcmp(r->method, "POST") == 0 ? raw_piece : NULL, &raw))
            go_on = send_raw(r, &raw);
    }
    free(raw.bytes);
    free(coded);
    return go_on && r->keep_alive;
}

static bool break_off(struct request *r)
{
    long long length = query_number(r, "cl", -1), n = query_number(r, "bytes", 0);

    if (length < 0)
        return false;
    request_body(r, NULL, NULL);
    head(r, 200, "application/octet-stream", length);
    for (; n > 0; n--)
        conn_write(r->conn, "x", 1);
    return false;
}

static bool exit_now(struct request *r)
{
    _exit((int)query_number(r, "code", 0));
}

void *volatile eaten; /* so that the compiler cannot see that nobody reads it */

static bool eat(struct request *r)
{
    long long mb = query_number(r, "mb", 1 << 20);

    for (; mb > 0; mb--) {
        eaten = malloc(1 << 20);
        if (eaten)
            memset(eaten, 1, 1 << 20);
    }
    return text(r, 200, "eaten\n");
}

/* --- WebSocket
 * ----------------------------------------------------------------------------------------- */

static bool read_all(struct conn *c, unsigned char *out, size_t n)
{
    size_t got;

    for (; n > 0; n -= got, out += got)
        if ((got = conn_some(c, (char *)out, n)) == 0)
            return false;
    return true;
}

/* Reads a frame and sends it back unmasked; false after a close or an error. */
static bool echo_frame(struct conn *c, unsigned char *payload)
{
    unsigned char h[14], mask[4];
    size_t n, header = 2;

    c->recorded = 0;
    if (!read_all(c, h, 2))
        return false;
    n = h[1] & 127;
    if (n == 126 && read_all(c, h + 2, 2))
        n = (size_t)h[2] << 8 | h[3], header = 4;
    else if (n >= 126) /* longer ones are not for an echo */
        return false;
    if (!(h[1] & 128) || !read_all(c, mask, 4) || !read_all(c, payload, n))
        return false;
    for (size_t i = 0; i < n; i++)
        payload[i] ^= mask[i % 4];
    if ((h[0] & 15) == 9)
        h[0] = 0x80 | 10; /* a ping's answer is a pong */
    h[1] &= 127;
    return conn_write(c, h, header) && conn_write(c, payload, n) && (h[0] & 15) != 8;
}

static bool ws(struct request *r)
{
    char key[128], joined[256], accept[64];
    unsigned char sum[20], *payload;

    request_field(r, "sec-websocket-key", key, sizeof key);
    if (!key[0])
        return text(r, 426, "a WebSocket lives here\n");
    snprintf(joined, sizeof joined, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(joined, strlen(joined), sum);
    base64(sum, sizeof sum, accept);
    payload = malloc(65536);
    if (payload && conn_printf(r->conn,
                               "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                               "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                               accept))
        while (echo_frame(r->conn, payload)) {
        }
    free(payload);
    return false;
}

/* --- by path
 * --------------------------------------------------------------------------------------------- */

static const struct {
    const char *path;
    bool (*act)(struct request *r);
} acts[] = {
    {"/small", small},   {"/slow", slow},       {"/hang", hang},     {"/zeros", zeros},
    {"/drip", drip},     {"/sink", sink},       {"/sse", sse},       {"/ws", ws},
    {"/whoami", whoami}, {"/health", health},   {"/raw", raw},       {"/abort", break_off},
    {"/early", early},   {"/interim", interim}, {"/exit", exit_now}, {"/oom", eat},
    {"/eat", eat},       {"/env", env},
};

bool answer(struct request *r)
{
    bool (*act)(struct request *) = dump;
    size_t n = strcspn(r->path, "?");
    bool go_on;

    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        if (strlen(acts[i].path) == n && memcmp(acts[i].path, r->path, n) == 0)
            act = acts[i].act;
    count(1);
    go_on = act(r);
    count(-1);
    return go_on && r->keep_alive;
}
