/* SPDX-License-Identifier: Apache-2.0 */
/* Enough HTTP/1 to read a request and keep its exact bytes. The difficulty: it stands behind a
 * proxy whose strictness is being tested, so it takes what comes and reports it. */
#include "echo.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void sleep_ms(long long ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};

    while (ms > 0 && nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

bool conn_write(struct conn *c, const void *bytes, size_t n)
{
    const char *p = bytes;

    while (n > 0) {
        ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return false;
        p += sent;
        n -= (size_t)sent;
    }
    return true;
}

bool conn_printf(struct conn *c, const char *format, ...)
{
    char text[4096];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return conn_write(c, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static bool fill(struct conn *c)
{
    ssize_t n;

    do
        n = recv(c->fd, c->in, sizeof c->in, 0);
    while (n < 0 && errno == EINTR);
    c->at = 0;
    c->have = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static void keep(struct conn *c, const char *bytes, size_t n)
{
    if (c->recorded + n > RECORD_BYTES)
        n = RECORD_BYTES - c->recorded;
    memcpy(c->record + c->recorded, bytes, n);
    c->recorded += n;
}

int conn_byte(struct conn *c)
{
    if (c->at == c->have && !fill(c))
        return -1;
    keep(c, c->in + c->at, 1);
    return (unsigned char)c->in[c->at++];
}

size_t conn_some(struct conn *c, char *out, size_t most)
{
    size_t n;

    if (c->at == c->have && !fill(c))
        return 0;
    n = c->have - c->at < most ? c->have - c->at : most;
    if (out)
        memcpy(out, c->in + c->at, n);
    keep(c, c->in + c->at, n);
    c->at += n;
    return n;
}

static char *head_line(const struct request *r, const char *name)
{
    size_t n = strlen(name);

    for (char *line = strstr(r->head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':')
            return line + 3 + n;
    return NULL;
}

const char *request_field(const struct request *r, const char *name, char *out, size_t cap)
{
    const char *value = head_line(r, name);
    size_t n;

    out[0] = '\0';
    if (!value)
        return out;
    value += strspn(value, " \t");
    n = strcspn(value, "\r");
    n = n < cap - 1 ? n : cap - 1;
    memcpy(out, value, n);
    out[n] = '\0';
    return out;
}

static void parse(struct request *r)
{
    char version[16] = "", value[256];

    sscanf(r->head, "%31s %98303s %15s", r->method, r->target, version);
    r->http10 = strcmp(version, "HTTP/1.0") == 0;
    r->query = strchr(r->target, '?');
    if (r->query)
        r->query++;
    r->path = r->target;
    r->chunked =
        strcasecmp(request_field(r, "transfer-encoding", value, sizeof value), "chunked") == 0;
    r->length = r->chunked ? -1 : atoll(request_field(r, "content-length", value, sizeof value));
    request_field(r, "connection", value, sizeof value);
    r->keep_alive =
        r->http10 ? strcasecmp(value, "keep-alive") == 0 : strcasecmp(value, "close") != 0;
    r->expects = request_field(r, "expect", value, sizeof value)[0] != '\0';
    r->body_read = r->length == 0;
}

bool request_read(struct conn *c, struct request *r)
{
    size_t n = 0;
    int byte;

    c->recorded = 0;
    r->conn = c;
    while (n < HEAD_BYTES - 1 && (byte = conn_byte(c)) >= 0) {
        r->head[n++] = (char)byte;
        if (n >= 4 && memcmp(r->head + n - 4, "\r\n\r\n", 4) == 0) {
            r->head[n] = '\0';
            parse(r);
            return true;
        }
    }
    return false;
}

static bool read_exactly(struct request *r, long long n,
                         void (*each)(void *arg, const char *bytes, size_t n), void *arg)
{
    char piece[64 * 1024];

    while (n > 0) {
        size_t got =
            conn_some(r->conn, piece, n < (long long)sizeof piece ? (size_t)n : sizeof piece);
        if (got == 0)
            return false;
        if (each)
            each(arg, piece, got);
        n -= (long long)got;
    }
    return true;
}

static bool read_line(struct conn *c, char *out, size_t cap)
{
    size_t n = 0;
    int byte;

    while ((byte = conn_byte(c)) >= 0 && byte != '\n')
        if (n < cap - 1 && byte != '\r')
            out[n++] = (char)byte;
    out[n] = '\0';
    return byte >= 0;
}

static bool read_chunks(struct request *r, void (*each)(void *arg, const char *bytes, size_t n),
                        void *arg)
{
    char line[8192];

    for (;;) {
        long long size;
        if (!read_line(r->conn, line, sizeof line))
            return false;
        size = strtoll(line, NULL, 16);
        if (size == 0)
            break;
        if (!read_exactly(r, size, each, arg) || !read_line(r->conn, line, sizeof line))
            return false;
    }
    do
        if (!read_line(r->conn, line, sizeof line))
            return false;
    while (line[0]);
    return true;
}

bool request_body(struct request *r, void (*each)(void *arg, const char *bytes, size_t n),
                  void *arg)
{
    if (r->body_read)
        return true;
    if (r->expects && !conn_printf(r->conn, "HTTP/1.1 100 Continue\r\n\r\n"))
        return false;
    r->body_read = true;
    return r->chunked ? read_chunks(r, each, arg) : read_exactly(r, r->length, each, arg);
}

bool query_text(const struct request *r, const char *key, char *out, size_t cap)
{
    size_t n = strlen(key), k = 0;

    out[0] = '\0';
    for (const char *p = r->query; p && *p; p = strchr(p, '&') ? strchr(p, '&') + 1 : NULL) {
        if (strncmp(p, key, n) != 0 || p[n] != '=')
            continue;
        for (p += n + 1; *p && *p != '&' && k < cap - 1; p++) {
            unsigned hex;
            if (*p == '%' && sscanf(p + 1, "%2x", &hex) == 1) {
                out[k++] = (char)hex;
                p += 2;
            } else {
                out[k++] = *p;
            }
        }
        out[k] = '\0';
        return true;
    }
    return false;
}

long long query_number(const struct request *r, const char *key, long long otherwise)
{
    char text[32];

    return query_text(r, key, text, sizeof text) && isdigit((unsigned char)text[0]) ? atoll(text)
                                                                                    : otherwise;
}
