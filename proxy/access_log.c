/* SPDX-License-Identifier: Apache-2.0 */
/* The access log: one JSON line per exchange.
 * The difficulty: its reader may be slow, and the loop must not wait for it: a descriptor is
 * written only when it says it is ready, in pieces that are taken whole; lines beyond the buffer
 * are lost. Another front may take the last room of a pipe between the two: so it does not block.
 */
#include "base/clock.h"
#include "base/log.h"
#include "proxy/proxy_priv.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <unistd.h>

#define MAX_HELD_BYTES (256 * 1024)
#define AGAIN_MS 100
#define MAX_VALUE_BYTES 1024 /* of a target: escaped twice as long, a line stays below PIPE_BUF */

static bool ready(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

/* Whole lines, at most PIPE_BUF bytes of them: a pipe that is ready takes that many. */
static size_t piece(const struct kg_buf *lines)
{
    size_t n = lines->len < PIPE_BUF ? lines->len : PIPE_BUF;
    const char *end = memrchr(lines->data, '\n', n);

    return end ? (size_t)(end - lines->data) + 1 : n;
}

/* A disk that was full took the begin of a line. */
static bool end_torn_line(struct access_log *log)
{
    if (log->torn && write(log->fd, "\n", 1) == 1)
        log->torn = false;
    return !log->torn;
}

static void flush(struct access_log *log)
{
    struct kg_buf *lines = &log->lines;
    size_t done = 0;

    while (done < lines->len && ready(log->fd)) {
        struct kg_buf rest = {.data = lines->data + done, .len = lines->len - done};
        ssize_t n = end_torn_line(log) ? write(log->fd, rest.data, piece(&rest)) : -1;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) { /* nobody reads it any more, or there is no room for it */
            log->torn |= done > 0 && rest.data[-1] != '\n';
            done = lines->len;
            break;
        }
        done += (size_t)n;
    }
    kg_buf_drop_front(lines, done);
}

/* The loop turns, so that what is left is offered again: there may be no other reason for it. */
static void on_again(struct kg_timer *t)
{
    (void)t;
}

static void on_prepare(uv_prepare_t *h)
{
    struct proxy *p = h->data;

    if (p->log.lines.len > 0)
        flush(&p->log);
    if (p->log.lines.len > 0 && p->log.again.due_ms == KG_NEVER)
        kg_timer_arm(&p->wheel, &p->log.again, proxy_now(p) + AGAIN_MS);
}

void access_log_open(struct proxy *p, int fd)
{
    p->log.fd = fd;
    kg_timer_init(&p->log.again, on_again);
    kg_buf_init(&p->log.lines, MAX_HELD_BYTES);
    uv_prepare_init(p->loop, &p->log.flush);
    p->handles++;
    p->log.flush.data = p;
    if (fd >= 0)
        uv_prepare_start(&p->log.flush, on_prepare);
}

static void on_closed(uv_handle_t *h)
{
    proxy_handle_closed(h->data);
}

void access_log_close(struct proxy *p)
{
    if (p->log.fd >= 0) {
        if (p->log.lines.len > 0)
            flush(&p->log);
        close(p->log.fd);
    }
    p->log.fd = -1;
    kg_timer_disarm(&p->wheel, &p->log.again);
    kg_buf_fini(&p->log.lines);
    uv_close((uv_handle_t *)&p->log.flush, on_closed);
}

static void put_text(struct kg_buf *out, const char *key, struct kg_str value)
{
    if (value.n > MAX_VALUE_BYTES)
        value.n = MAX_VALUE_BYTES;
    kg_buf_printf(out, ",\"%s\":\"", key);
    kg_json_escape(out, value);
    kg_buf_puts(out, "\"");
}

static void put_number(struct kg_buf *out, const char *key, uint64_t value)
{
    kg_buf_printf(out, ",\"%s\":%llu", key, (unsigned long long)value);
}

void access_log_write(struct proxy *p, const struct access_line *line)
{
    static const char *const warmths[] = {"warm", "cold", "paused"};
    struct kg_buf *out = &p->log.lines;
    size_t before = out->len;
    char time[25];

    if (p->log.fd < 0)
        return;
    kg_clock_format(proxy_wall_ms(p), time);
    kg_buf_printf(out, "{\"time\":\"%s\"", time);
    put_text(out, "id", line->id);
    put_text(out, "client", line->client);
    put_text(out, "method", line->method);
    put_text(out, "target", line->target);
    put_text(out, "host", line->host);
    put_text(out, "service", line->service);
    put_number(out, "status", (uint64_t)line->status);
    put_text(out, "outcome", kg_str_of(line->outcome));
    put_number(out, "bytes_in", line->bytes_in);
    put_number(out, "bytes_out", line->bytes_out);
    put_number(out, "ms", (uint64_t)line->total_ms);
    put_number(out, "waited_ms", (uint64_t)line->waited_ms);
    put_text(out, "warmth", kg_str_of(warmths[line->warmth]));
    kg_buf_puts(out, "}\n");
    if (out->error) { /* full: this line is lost, those before it are not */
        out->error = 0;
        out->len = before;
    }
    if (out->len >= PIPE_BUF)
        flush(&p->log);
}
