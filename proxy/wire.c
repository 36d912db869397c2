/* SPDX-License-Identifier: Apache-2.0 */
/* A socket with a send queue, on a uv stream.
 * The difficulty: the common case must be one write call and nothing else; queue, timer and libuv's
 * own queue come in only when the kernel is full. */
#include "base/err.h"
#include "base/limits.h"
#include "proxy/proxy_priv.h"
#include "proxy/tls_priv.h"
#include "proxy/wire_priv.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#define GATHER_BYTES 4096
_Static_assert(sizeof(uv_buf_t) == sizeof(struct iovec), "a list of buffers is the kernel's own");

/* Where every read of this process lands. What must live longer than the callback is copied. */
char wire_read_buffer[KG_READ_BUFFER_BYTES];

/* --- life ---------------------------------------------------------------------------------- */

static void on_stall(struct kg_timer *t);

int wire_init(struct wire *w, struct proxy *p, bool unix_socket, size_t max_queue_bytes,
              const struct wire_kind *kind, void (*on_closed)(struct wire *w))
{
    int rc = unix_socket ? uv_pipe_init(p->loop, &w->uv.pipe, 0) : uv_tcp_init(p->loop, &w->uv.tcp);

    if (rc != 0)
        return KG_EIO;
    w->uv.handle.data = w;
    w->proxy = p;
    w->unix_socket = unix_socket;
    w->kind = kind;
    w->on_closed = on_closed;
    kg_buf_init(&w->going, max_queue_bytes);
    kg_buf_init(&w->queued, max_queue_bytes);
    kg_timer_init(&w->stall, on_stall);
    p->handles++;
    return 0;
}

int wire_open(struct wire *w, int fd)
{
    int rc = w->unix_socket ? uv_pipe_open(&w->uv.pipe, fd) : uv_tcp_open(&w->uv.tcp, fd);

    if (rc == 0)
        return 0;
    close(fd);
    return KG_EIO;
}

static void on_handle_closed(uv_handle_t *h)
{
    struct wire *w = h->data;
    struct proxy *p = w->proxy;

    kg_buf_fini(&w->going);
    kg_buf_fini(&w->queued);
    if (w->tls)
        tls_free(w->tls);
    w->tls = NULL;
    w->on_closed(w);
    proxy_handle_closed(p);
}

void wire_close(struct wire *w)
{
    if (w->closing)
        return;
    w->closing = true;
    w->reading = false;
    if (w->tls)
        tls_close(w->tls);
    kg_timer_disarm(&w->proxy->wheel, &w->stall);
    uv_close(&w->uv.handle, on_handle_closed);
}

void wire_ends_by_reset(struct wire *w, bool on)
{
    struct linger at_once = {.l_onoff = on, .l_linger = 0};

    if (!w->closing && !w->unix_socket && wire_fd(w) >= 0)
        setsockopt(wire_fd(w), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void wire_reset(struct wire *w)
{
    wire_ends_by_reset(w, true);
    wire_close(w);
}

int wire_fd(const struct wire *w)
{
    uv_os_fd_t fd;

    return uv_fileno(&w->uv.handle, &fd) == 0 ? fd : -1;
}

/* --- reading ------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
    struct wire *w = h->data;
    size_t room = w->tls ? tls_room(w->tls) : w->kind->room(w);

    (void)suggested;
    *buf = uv_buf_init(wire_read_buffer,
                       room < KG_READ_BUFFER_BYTES ? (unsigned)room : KG_READ_BUFFER_BYTES);
}

void wire_paused(struct wire *w)
{
    wire_read(w, false);
    if (w->kind->on_paused)
        w->kind->on_paused(w);
}

void wire_ended(struct wire *w)
{
    w->eof = true;
    w->reading = false;
    w->kind->on_eof(w);
}

void wire_broke(struct wire *w)
{
    w->broken = true;
    w->reading = false;
    uv_read_stop(&w->uv.stream);
    w->kind->on_broken(w);
}

/* libuv takes a hang-up behind the last bytes for an end without reading again, so it may be that
 * of a reset: the kernel tells the difference, and by EPIPE that an end came before the reset. */
static bool was_reset(const struct wire *w)
{
    int error = 0;
    socklen_t n = sizeof error;

    return getsockopt(wire_fd(w), SOL_SOCKET, SO_ERROR, &error, &n) != 0 ||
           (error != 0 && error != EPIPE);
}

static void came_to_end(struct wire *w)
{
    if (was_reset(w))
        wire_broke(w);
    else if (!w->tls || !tls_end(w->tls))
        wire_ended(w);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct wire *w = s->data;

    if (n > 0 && w->tls)
        tls_bytes(w->tls, buf->base, (size_t)n);
    else if (n > 0)
        w->kind->on_bytes(w, buf->base, (size_t)n);
    else if (n == UV_ENOBUFS)
        wire_paused(w);
    else if (n == UV_EOF)
        came_to_end(w);
    else if (n < 0)
        wire_broke(w);
}

int wire_listen_on(struct wire *w)
{
    int rc = uv_read_start(&w->uv.stream, on_alloc, on_read);

    return rc == 0 || rc == UV_EALREADY ? 0 : KG_EIO;
}

void wire_read(struct wire *w, bool on)
{
    if (on == w->reading || w->eof || w->broken || w->closing)
        return;
    w->reading = on;
    if (!on)
        uv_read_stop(&w->uv.stream);
    else if (w->tls && tls_go_on(w->tls))
        return; /* what is here already comes first */
    else if (wire_listen_on(w) != 0)
        w->reading = false;
}

short wire_poll(const struct wire *w)
{
    struct pollfd fd = {.fd = wire_fd(w), .events = POLLRDHUP};

    return poll(&fd, 1, 0) == 1 ? fd.revents : 0;
}

bool wire_readable(const struct wire *w)
{
    char byte;
    ssize_t n;

    if (w->tls && tls_has_bytes(w->tls))
        return true;
    n = recv(wire_fd(w), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
}

void wire_probe_peer(int fd)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, 60},
        {IPPROTO_TCP, TCP_KEEPINTVL, 10},
        {IPPROTO_TCP, TCP_KEEPCNT, 6},
    };

    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        (void)setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int));
}

/* --- writing ------------------------------------------------------------------------------- */

static void drained(struct wire *w)
{
    w->writing = false;
    kg_timer_disarm(&w->proxy->wheel, &w->stall);
    if (w->fin_wanted)
        shutdown(wire_fd(w), SHUT_WR);
    w->kind->on_drained(w);
}

static int write_queued(struct wire *w);

static void unwritable(struct wire *w)
{
    w->unwritable = true;
    w->writing = false;
    kg_timer_disarm(&w->proxy->wheel, &w->stall);
    if (w->kind->on_unwritable)
        w->kind->on_unwritable(w);
    else
        w->kind->on_broken(w);
}

static void on_written(uv_write_t *req, int status)
{
    struct wire *w = req->handle->data;

    if (w->closing)
        return;
    w->taken_bytes += w->going.len;
    kg_buf_clear(&w->going);
    if (status == 0 && w->queued.len > 0 && write_queued(w) == 0)
        return;
    if (status == 0 && w->queued.len == 0) {
        drained(w);
        return;
    }
    unwritable(w);
}

static void arm_stall(struct wire *w)
{
    w->stall_left = uv_stream_get_write_queue_size(&w->uv.stream);
    kg_timer_arm(&w->proxy->wheel, &w->stall, proxy_now(w->proxy) + KG_WRITE_STALL_MS);
}

/* A peer that took something meanwhile gets as long again. */
static void on_stall(struct kg_timer *t)
{
    struct wire *w = KG_CONTAINER_OF(t, struct wire, stall);

    if (uv_stream_get_write_queue_size(&w->uv.stream) < w->stall_left) {
        arm_stall(w);
        return;
    }
    w->broken = true;
    w->kind->on_broken(w);
}

/* Hands what is queued to libuv, which waits for the kernel. */
static int write_queued(struct wire *w)
{
    struct kg_buf empty = w->going;
    uv_buf_t buf;

    w->going = w->queued;
    w->queued = empty;
    buf = uv_buf_init(w->going.data, (unsigned)w->going.len);
    if (uv_write(&w->write, &w->uv.stream, &buf, 1, on_written) != 0) {
        w->unwritable = true;
        return KG_EIO;
    }
    w->writing = true;
    arm_stall(w);
    return 0;
}

/* Copies what is behind the first `skip` bytes. */
static int queue_rest(struct wire *w, const uv_buf_t *bufs, unsigned count, size_t skip)
{
    for (unsigned i = 0; i < count; i++) {
        size_t over = skip < bufs[i].len ? skip : bufs[i].len;
        kg_buf_append(&w->queued, bufs[i].base + over, bufs[i].len - over);
        skip -= over;
    }
    return w->queued.error;
}

/* What the kernel takes at once, or less than 0. Small pieces go as one: a copy of a few hundred
 * bytes costs less than a list of them. send(2) is shorter in the kernel than writing to a file. */
static ssize_t try_send(const struct wire *w, const uv_buf_t *bufs, unsigned count, size_t total)
{
    static char gathered[GATHER_BYTES];
    struct msghdr m = {.msg_iov = (struct iovec *)bufs, .msg_iovlen = count};
    const char *bytes = bufs[0].base;
    ssize_t n;

    if (count > 1 && total <= sizeof gathered) {
        for (unsigned i = 0, at = 0; i < count; at += bufs[i++].len)
            memcpy(gathered + at, bufs[i].base, bufs[i].len);
        bytes = gathered;
    }
    do {
        n = count == 1 || bytes == gathered
                ? send(wire_fd(w), bytes, total, MSG_DONTWAIT | MSG_NOSIGNAL)
                : sendmsg(wire_fd(w), &m, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS) ? 0 : n;
}

int wire_send_raw(struct wire *w, const uv_buf_t *bufs, unsigned count)
{
    size_t total = 0, taken = 0;
    ssize_t n;
    int rc;

    for (unsigned i = 0; i < count; i++)
        total += bufs[i].len;
    if (total == 0)
        return 0;
    if (!w->writing) {
        n = try_send(w, bufs, count, total);
        if (n < 0) {
            w->unwritable = true;
            return KG_EIO;
        }
        taken = (size_t)n;
        w->taken_bytes += taken;
        if (taken == total)
            return 0;
    }
    rc = queue_rest(w, bufs, count, taken);
    if (rc != 0)
        w->unwritable = true; /* a gap in the stream: nothing more may follow */
    return rc != 0 || w->writing ? rc : write_queued(w);
}

int wire_send(struct wire *w, const uv_buf_t *bufs, unsigned count)
{
    if (w->broken || w->unwritable || w->closing || w->fin_wanted)
        return KG_EIO;
    return w->tls ? tls_send(w->tls, bufs, count) : wire_send_raw(w, bufs, count);
}

size_t wire_pending(const struct wire *w)
{
    return w->writing ? uv_stream_get_write_queue_size(&w->uv.stream) + w->queued.len : 0;
}

uint64_t wire_taken(const struct wire *w)
{
    size_t left = uv_stream_get_write_queue_size(&w->uv.stream);

    return w->taken_bytes + (w->going.len > left ? w->going.len - left : 0);
}

void wire_fin(struct wire *w)
{
    if (w->fin_wanted || w->closing)
        return;
    if (w->tls && !w->broken && !w->unwritable)
        tls_fin(w->tls);
    w->fin_wanted = true;
    if (!w->writing && wire_fd(w) >= 0)
        shutdown(wire_fd(w), SHUT_WR);
}

void wire_trim(struct wire *w)
{
    KG_ASSERT(!w->writing);
    kg_buf_fini(&w->going);
    kg_buf_fini(&w->queued);
}

/* --- TLS ----------------------------------------------------------------------------------- */

int wire_secure(struct wire *w)
{
    w->tls = tls_new(w);
    if (!w->tls)
        return KG_ENOMEM;
    w->going.max += w->going.max / TLS_OVERHEAD_SHARE; /* records are longer than what is in them */
    w->queued.max = w->going.max;
    return 0;
}

bool wire_is_secure(const struct wire *w)
{
    return w->tls != NULL;
}

struct kg_str wire_protocol(const struct wire *w)
{
    return w->tls ? tls_protocol(w->tls) : (struct kg_str){"", 0};
}

bool wire_host_agrees(const struct wire *w, struct kg_str host)
{
    return !w->tls || tls_host_agrees(w->tls, host);
}
