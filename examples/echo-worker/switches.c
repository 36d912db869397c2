/* SPDX-License-Identifier: Apache-2.0 */
/* The difficulty: some of these break the protocol on purpose, and must do so exactly as asked. */
#include "switches.h"
#include "digest.h"
#include "task.h"
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    DUMP_BYTES = 1 << 20,
    RAW_BYTES = 16 << 20,
    DIGEST_BYTES = 256 << 20,
    SPLIT_PAUSE_MS = 2,
    BLOCK_BYTES = 256 * 1024
};

extern char **environ;
static const char zeros[BLOCK_BYTES];

/* --- what came --- */

static void answer_dump(struct request *r)
{
    const char *data;

    r->raw.limit = DUMP_BYTES;
    while (request_body(r, &data) > 0)
        ;
    if (r->broken)
        return;
    answer_begin(r, 200, "application/octet-stream", (int64_t)(r->head_bytes + r->raw.n));
    answer_piece(r, r->head, r->head_bytes);
    answer_piece(r, r->raw.data, r->raw.n);
    r->conn->close_later = request_number(r, "close_later", 0) == 1;
}

static void answer_sink(struct request *r)
{
    struct digest d;
    unsigned char sum[32];
    char hex[65] = "";
    uint64_t bytes = 0;
    const char *data;
    size_t n;
    uint64_t most = request_number(r, "sha256", 1) ? DIGEST_BYTES : 0;

    digest_sha256(&d);
    while ((n = request_body(r, &data)) > 0) {
        bytes += n;
        if (bytes <= most)
            digest_add(&d, data, n);
    }
    if (r->broken)
        return;
    if (bytes <= most)
        for (size_t i = 0, all = digest_end(&d, sum); i < all; i++)
            snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    answer_text(r, 200, "{\"bytes\":%llu,\"sha256\":\"%s\"}\n", (unsigned long long)bytes, hex);
}

/* The body comes back as it comes in, framed as it came, with its trailers. */
static void answer_body(struct request *r)
{
    size_t n, type_bytes = 0;
    const char *data, *type = request_field(r, "Content-Type", &type_bytes);
    char type_text[200] = "application/octet-stream";

    if (type)
        snprintf(type_text, sizeof type_text, "%.*s", (int)type_bytes, type);
    answer_begin(r, 200, type_text, r->framing == BODY_CHUNKED ? -1 : (int64_t)r->left);
    while ((n = request_body(r, &data)) > 0 && answer_piece(r, data, n))
        ;
    if (!r->broken)
        answer_end(r, &r->trailers);
}

/* --- answers of a given shape --- */

static void answer_small(struct request *r)
{
    answer_whole(r, 200, "text/plain", "hello world\n", 12);
}

static void answer_status(struct request *r)
{
    int code = (int)request_number(r, "code", 200);

    if (code == 204 || code == 304)
        answer_begin(r, code, "text/plain", 0);
    else
        answer_text(r, code, "status %d\n", code);
}

static void answer_slow(struct request *r)
{
    int status = (int)request_number(r, "status", 200);

    task_sleep_ms(request_number(r, "ms", 1000));
    if (status == 200)
        answer_dump(r);
    else
        answer_text(r, status, "slow\n");
}

static void answer_zeros(struct request *r)
{
    int64_t left = request_number(r, "bytes", 0);

    answer_begin(r, 200, "application/octet-stream", request_number(r, "chunked", 0) ? -1 : left);
    while (left > 0 && !r->is_head) {
        size_t n = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;

        if (!answer_piece(r, zeros, n))
            return;
        left -= (int64_t)n;
    }
    answer_end(r, NULL);
}

/* Lines of digits: where a piece is missing or twice, it shows. */
static void answer_drip(struct request *r)
{
    int64_t bytes = request_number(r, "bytes", 1000), at = 0;
    int64_t chunk = request_number(r, "chunk", 100), ms = request_number(r, "ms", 100);
    char piece[BLOCK_BYTES / 8];

    if (chunk < 1 || chunk > (int64_t)sizeof piece)
        chunk = sizeof piece;
    answer_begin(r, 200, "text/plain", request_number(r, "chunked", 0) ? -1 : bytes);
    while (at < bytes && !r->is_head) {
        int64_t n = bytes - at < chunk ? bytes - at : chunk;

        for (int64_t i = 0; i < n; i++)
            piece[i] = (at + i) % 10 == 9 ? '\n' : (char)('0' + (at + i) / 10 % 10);
        if (!answer_piece(r, piece, (size_t)n))
            return;
        at += n;
        if (at < bytes && ms > 0)
            task_sleep_ms(ms);
    }
    answer_end(r, NULL);
}

static void answer_events(struct request *r)
{
    int64_t count = request_number(r, "n", 10), ms = request_number(r, "ms", 100);
    char event[64];

    answer_begin(r, 200, "text/event-stream", -1);
    for (int64_t i = 0; i < count; i++) {
        int n = snprintf(event, sizeof event, "id: %lld\ndata: event %lld\n\n", (long long)i,
                         (long long)i);

        if (i > 0)
            task_sleep_ms(ms);
        if (!answer_piece(r, event, (size_t)n))
            return;
    }
    answer_end(r, NULL);
}

static void answer_interim(struct request *r)
{
    int64_t count = request_number(r, "n", 1);
    int code = (int)request_number(r, "code", 103);
    char head[100];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d Interim\r\nLink: </a.css>; rel=preload\r\n\r\n", code);

    while (count-- > 0 && conn_write(r->conn, head, (size_t)n))
        ;
    answer_text(r, 200, "done\n");
}

/* Without a look at the body; what comes of it is read afterwards and thrown away. */
static void answer_early(struct request *r)
{
    int status = (int)request_number(r, "status", 200);

    r->expects = false;
    if (request_number(r, "close", 0))
        r->conn->over = true;
    answer_text(r, status, "early\n");
}

/* --- answers that are scripted --- */

/* Nothing more is written or read; until the peer goes. */
static void hold(struct request *r)
{
    while (!task_hung_up())
        task_wait(-1);
    r->conn->over = true;
    r->conn->ending = CLOSE_AT_ONCE;
}

/* What was written must have arrived: a reset would throw it away. */
static void reset(struct request *r)
{
    int unsent = 1;

    for (int i = 0; i < 500 && unsent > 0; i++) {
        if (ioctl(r->conn->fd, SIOCOUTQ, &unsent) < 0)
            break;
        if (unsent > 0)
            task_sleep_ms(1);
    }
    r->conn->over = true;
    r->conn->ending = CLOSE_BY_RESET;
}

static void script_read(struct request *r, struct bytes *script)
{
    const char *data;
    size_t n;
    const char *text = request_text(r, "b64", &n);

    script->limit = RAW_BYTES;
    if (text) {
        unsigned char *decoded = malloc(3 * n / 4 + 3);
        long bytes = decoded ? base64_decode(text, n, decoded) : -1;

        if (bytes > 0)
            bytes_add(script, decoded, (size_t)bytes);
        free(decoded);
    }
    if (!text || !request_number(r, "unread", 0))
        while ((n = request_body(r, &data)) > 0)
            if (!text)
                bytes_add(script, data, n);
}

static void answer_raw(struct request *r)
{
    struct bytes script = {0};
    int64_t split = request_number(r, "split", 0);

    script_read(r, &script);
    task_sleep_ms(request_number(r, "delay_ms", 0));
    if (split < 1 || split > (int64_t)script.n)
        split = (int64_t)script.n;
    for (size_t at = 0, n; at < script.n; at += n) {
        n = script.n - at < (size_t)split ? script.n - at : (size_t)split;
        if (!conn_write(r->conn, script.data + at, n))
            break;
        if (at + n < script.n)
            task_sleep_ms(SPLIT_PAUSE_MS);
    }
    bytes_free(&script);
    if (request_number(r, "hold", 0))
        hold(r);
    else if (request_number(r, "reset", 0))
        reset(r);
    else if (request_number(r, "close", 0))
        r->conn->over = true;
}

/* Without `cl`: not a byte. Else a head that promises cl bytes, and some of them. */
static void answer_abort(struct request *r)
{
    int64_t length = request_number(r, "cl", -1), bytes = request_number(r, "bytes", 0);

    r->conn->over = true;
    if (length < 0)
        return;
    answer_begin(r, 200, "application/octet-stream", length);
    if (bytes > 0)
        answer_piece(r, zeros, bytes < BLOCK_BYTES ? (size_t)bytes : BLOCK_BYTES);
}

static void answer_hang(struct request *r)
{
    hold(r);
}

static void answer_exit(struct request *r)
{
    _exit((int)request_number(r, "code", 0));
}

void eat_memory(int64_t mib)
{
    for (; mib > 0; mib--) {
        volatile char *eaten = malloc(1 << 20);

        for (size_t i = 0; eaten && i < 1 << 20; i += 4096)
            eaten[i] = 1;
    }
}

static void answer_oom(struct request *r)
{
    eat_memory(request_number(r, "mb", 4096));
    answer_text(r, 200, "still here\n");
}

/* --- about the worker --- */

static void answer_whoami(struct request *r)
{
    answer_text(r, 200,
                "{\"hostname\":\"%s\",\"id\":\"%s\",\"pid\":%d,\"connections\":%llu,"
                "\"requests\":%llu,\"peak\":%u}\n",
                worker.hostname, worker.id, (int)getpid(), (unsigned long long)worker.connections,
                (unsigned long long)worker.requests, worker.peak);
}

static void answer_health(struct request *r)
{
    if (task_now_ms() < worker.healthy_ms)
        answer_text(r, 503, "not yet\n");
    else
        answer_text(r, 200, "ok\n");
}

static void answer_env(struct request *r)
{
    struct bytes text = {.limit = DUMP_BYTES};

    for (char **p = environ; *p; p++) {
        bytes_add(&text, *p, strlen(*p));
        bytes_add(&text, "\n", 1);
    }
    answer_whole(r, 200, "text/plain", text.data, text.n);
    bytes_free(&text);
}

/* --- WebSocket --- */

static bool take_exactly(struct conn *c, unsigned char *out, size_t n)
{
    const char *data;

    for (size_t got; n > 0; out += got, n -= got) {
        got = conn_take(c, n, &data);
        if (got == 0)
            return false;
        memcpy(out, data, got);
    }
    return true;
}

struct frame {
    unsigned char first; /* FIN and opcode */
    unsigned char mask[4];
    uint64_t bytes;
};

static bool take_frame(struct conn *c, struct frame *f)
{
    unsigned char head[2], length[8];
    size_t more;

    if (!take_exactly(c, head, 2))
        return false;
    f->first = head[0];
    f->bytes = head[1] & 127;
    more = f->bytes == 126 ? 2 : f->bytes == 127 ? 8 : 0;
    if (more) {
        if (!take_exactly(c, length, more))
            return false;
        f->bytes = 0;
        for (size_t i = 0; i < more; i++)
            f->bytes = f->bytes << 8 | length[i];
    }
    memset(f->mask, 0, sizeof f->mask);
    return !(head[1] & 128) || take_exactly(c, f->mask, sizeof f->mask);
}

static bool write_frame_head(struct conn *c, unsigned char first, uint64_t bytes)
{
    unsigned char head[10] = {first};
    size_t n = 2;

    if (bytes < 126) {
        head[1] = (unsigned char)bytes;
    } else {
        head[1] = bytes < 65536 ? 126 : 127;
        for (int shift = bytes < 65536 ? 8 : 56; shift >= 0; shift -= 8)
            head[n++] = (unsigned char)(bytes >> shift);
    }
    return conn_write(c, head, n);
}

static bool echo_frame(struct conn *c, const struct frame *f)
{
    unsigned char first =
        (f->first & 15) == 9 ? (unsigned char)(f->first + 1) : f->first; /* pong */
    unsigned char piece[4096];
    uint64_t at = 0;
    const char *data;

    if (!write_frame_head(c, first, f->bytes))
        return false;
    while (at < f->bytes) {
        uint64_t left = f->bytes - at;
        size_t n = conn_take(c, left < sizeof piece ? (size_t)left : sizeof piece, &data);

        for (size_t i = 0; i < n; i++)
            piece[i] = (unsigned char)data[i] ^ f->mask[(at + i) % 4];
        if (n == 0 || !conn_write(c, piece, n))
            return false;
        at += n;
    }
    return true;
}

static void accept_key(const char *key, size_t n, char out[29])
{
    struct digest d;
    unsigned char sum[32];

    digest_sha1(&d);
    digest_add(&d, key, n);
    digest_add(&d, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    base64_encode(sum, digest_end(&d, sum), out);
}

static void answer_websocket(struct request *r)
{
    size_t n;
    const char *key = request_field(r, "Sec-WebSocket-Key", &n);
    char accepted[29], head[256];
    struct frame f;
    int bytes;

    if (!key) {
        answer_text(r, 426, "a WebSocket handshake is needed\n");
        return;
    }
    accept_key(key, n, accepted);
    bytes = snprintf(head, sizeof head,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                     accepted);
    r->conn->over = true;
    if (!conn_write(r->conn, head, (size_t)bytes))
        return;
    while (take_frame(r->conn, &f) && echo_frame(r->conn, &f))
        if ((f.first & 15) == 8) /* close, answered */
            return;
}

/* --- the table --- */

static const struct {
    const char *name;
    void (*answer)(struct request *r);
} table[] = {
    {"abort", answer_abort},   {"body", answer_body},     {"drip", answer_drip},
    {"early", answer_early},   {"env", answer_env},       {"exit", answer_exit},
    {"hang", answer_hang},     {"health", answer_health}, {"interim", answer_interim},
    {"oom", answer_oom},       {"raw", answer_raw},       {"sink", answer_sink},
    {"slow", answer_slow},     {"small", answer_small},   {"sse", answer_events},
    {"status", answer_status}, {"whoami", answer_whoami}, {"ws", answer_websocket},
    {"zeros", answer_zeros},
};

void switches_answer(struct request *r)
{
    int64_t delay_ms = request_number(r, "delay", 0);
    size_t n = strcspn(r->name, "?");

    if (delay_ms > 0)
        task_sleep_ms(delay_ms);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strlen(table[i].name) == n && memcmp(table[i].name, r->name, n) == 0) {
            table[i].answer(r);
            return;
        }
    answer_dump(r);
}
