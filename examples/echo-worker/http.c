/* SPDX-License-Identifier: Apache-2.0 */
/* The difficulty: tests ask what came over the wire, byte for byte, so parsing must not lose the
 * bytes it understands. */
#include "http.h"
#include "task.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_BYTES = 4096, BODY_BYTES = 128 * 1024, HEAD_BYTES = 512 * 1024 };

static const char *common_lines = "";

/* --- bytes --- */

void bytes_add(struct bytes *b, const void *data, size_t n)
{
    if (n > b->limit - b->n)
        n = b->limit - b->n;
    if (b->n + n > b->cap) {
        size_t cap = (b->n + n) * 2;
        char *grown = realloc(b->data, cap);

        if (!grown)
            return;
        b->data = grown;
        b->cap = cap;
    }
    if (n)
        memcpy(b->data + b->n, data, n);
    b->n += n;
}

void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

/* --- connections --- */

static bool send_all(struct conn *c, const void *data, size_t n, int flags)
{
    const char *p = data;

    while (n > 0) {
        ssize_t done = send(c->fd, p, n, MSG_NOSIGNAL | flags);

        if (done < 0 && errno == EAGAIN) {
            task_wait(-1);
            continue;
        }
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            c->over = true;
            return false;
        }
        p += done;
        n -= (size_t)done;
    }
    task_breathe();
    return true;
}

bool conn_write(struct conn *c, const void *data, size_t n)
{
    return send_all(c, data, n, 0);
}

/* Room for more behind what is there. */
static bool make_room(struct conn *c, size_t cap)
{
    if (c->at == c->end)
        c->at = c->end = 0;
    if (c->at > 0 && c->end == c->cap) {
        memmove(c->in, c->in + c->at, c->end - c->at);
        c->end -= c->at;
        c->at = 0;
    }
    if (c->cap < cap) {
        char *grown = realloc(c->in, cap);

        if (!grown)
            return false;
        c->in = grown;
        c->cap = cap;
    }
    return c->end < c->cap;
}

/* More bytes; false at the end, or when none came in time. */
static bool fill(struct conn *c, size_t cap, int64_t ms)
{
    if (!make_room(c, cap))
        return false;
    for (;;) {
        ssize_t n = recv(c->fd, c->in + c->end, c->cap - c->end, 0);

        if (n > 0) {
            c->end += (size_t)n;
            task_breathe();
            return true;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || errno != EAGAIN || !task_wait(ms))
            return false;
    }
}

size_t conn_take(struct conn *c, size_t most, const char **data)
{
    size_t n;

    if (c->at == c->end && !fill(c, BODY_BYTES, -1))
        return 0;
    n = c->end - c->at < most ? c->end - c->at : most;
    *data = c->in + c->at;
    c->at += n;
    return n;
}

/* --- heads --- */

const char *request_field(const struct request *r, const char *name, size_t *n)
{
    const char *line = memchr(r->head, '\n', r->head_bytes), *end = r->head + r->head_bytes;
    size_t name_bytes = strlen(name);

    while (line && ++line < end) {
        const char *next = memchr(line, '\n', (size_t)(end - line));

        if (next && (size_t)(next - line) > name_bytes && line[name_bytes] == ':' &&
            strncasecmp(line, name, name_bytes) == 0) {
            const char *value = line + name_bytes + 1, *last = next;

            while (value < last && strchr(" \t", *value))
                value++;
            while (last > value && strchr(" \t\r", last[-1]))
                last--;
            *n = (size_t)(last - value);
            return value;
        }
        line = next;
    }
    return NULL;
}

/* Whether a field's value has this word in it. */
static bool says(const struct request *r, const char *name, const char *word)
{
    size_t n, word_bytes = strlen(word);
    const char *value = request_field(r, name, &n);

    for (; value && n >= word_bytes; value++, n--)
        if (strncasecmp(value, word, word_bytes) == 0)
            return true;
    return false;
}

static bool split_first_line(struct request *r)
{
    const char *end = memchr(r->head, '\r', r->head_bytes);
    const char *space = end ? memchr(r->head, ' ', (size_t)(end - r->head)) : NULL;
    const char *space2 = space ? memchr(space + 1, ' ', (size_t)(end - space - 1)) : NULL;
    char *p;

    if (!space2)
        return false;
    r->method = strndup(r->head, (size_t)(space - r->head));
    r->target = strndup(space + 1, (size_t)(space2 - space - 1));
    if (!r->method || !r->target)
        return false;
    r->is_head = strcmp(r->method, "HEAD") == 0;
    r->is_1_0 = end - space2 == 9 && memcmp(space2 + 1, "HTTP/1.0", 8) == 0;
    p = strchr(r->target, '?');
    r->query = p ? p + 1 : "";
    r->name = r->target;
    for (const char *q = r->target; *q && q != p; q++)
        if (*q == '/')
            r->name = q + 1;
    return true;
}

static void find_framing(struct request *r)
{
    size_t n;
    const char *length = request_field(r, "Content-Length", &n);

    if (says(r, "Transfer-Encoding", "chunked")) {
        r->framing = BODY_CHUNKED;
    } else if (length) {
        r->left = strtoull(length, NULL, 10);
        r->framing = r->left ? BODY_LENGTH : BODY_NONE;
    }
    r->body_over = r->framing == BODY_NONE;
    r->expects = says(r, "Expect", "100-continue");
    if (says(r, "Connection", "close") || (r->is_1_0 && !says(r, "Connection", "keep-alive")))
        r->conn->over = true;
}

bool request_read(struct conn *c, struct request *r, int64_t ms)
{
    size_t searched = 0;
    char *found;

    *r = (struct request){.conn = c, .trailers.limit = HEAD_BYTES};
    for (;;) {
        size_t there = c->end - c->at;

        found = there > searched ? memmem(c->in + c->at, there, "\r\n\r\n", 4) : NULL;
        if (found)
            break;
        searched = there;
        if (!fill(c, there < FIRST_BYTES / 2 ? FIRST_BYTES : 2 * there, there ? -1 : ms) ||
            c->end - c->at > HEAD_BYTES)
            return false;
    }
    r->head_bytes = (size_t)(found - c->in) - c->at + 4;
    r->head = malloc(r->head_bytes);
    if (r->head)
        memcpy(r->head, c->in + c->at, r->head_bytes);
    c->at += r->head_bytes;
    if (!r->head || !split_first_line(r)) {
        request_end(r);
        return false;
    }
    find_framing(r);
    return true;
}

void request_end(struct request *r)
{
    const char *data;

    if (r->head && r->method && r->target)
        while (!r->body_over && !r->conn->over && request_body(r, &data) > 0)
            ;
    free(r->head);
    free(r->method);
    free(r->target);
    bytes_free(&r->raw);
    bytes_free(&r->trailers);
}

/* --- bodies --- */

static size_t take_raw(struct request *r, size_t most, const char **data)
{
    size_t n = conn_take(r->conn, most, data);

    if (n == 0) {
        r->broken = r->body_over = r->conn->over = true;
        return 0;
    }
    if (r->raw.limit)
        bytes_add(&r->raw, *data, n);
    return n;
}

/* A line up to its LF, cut to the buffer; its length, 0 at the end. */
static size_t take_line(struct request *r, char *line, size_t cap)
{
    size_t n = 0;
    const char *p;

    do {
        if (take_raw(r, 1, &p) == 0)
            return 0;
        if (n < cap - 1)
            line[n++] = *p;
    } while (*p != '\n');
    line[n] = '\0';
    return n;
}

/* The last chunk is behind us: the trailers, to the blank line. */
static void take_trailers(struct request *r)
{
    char line[8192];
    size_t n;

    while ((n = take_line(r, line, sizeof line)) > 2)
        bytes_add(&r->trailers, line, n);
    r->body_over = true;
}

/* Up to the data of the next chunk; false: there is none. */
static bool next_chunk(struct request *r)
{
    char line[8192];

    if (r->chunk_end_due && take_line(r, line, sizeof line) == 0)
        return false;
    r->chunk_end_due = false;
    if (take_line(r, line, sizeof line) == 0)
        return false;
    r->left = strtoull(line, NULL, 16);
    if (r->left == 0)
        take_trailers(r);
    return r->left > 0;
}

size_t request_body(struct request *r, const char **data)
{
    size_t n;

    if (r->expects && !r->body_over && r->conn->at == r->conn->end)
        conn_write(r->conn, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    r->expects = false;
    if (r->body_over || (r->framing == BODY_CHUNKED && r->left == 0 && !next_chunk(r)))
        return 0;
    n = take_raw(r, r->left < BODY_BYTES ? (size_t)r->left : BODY_BYTES, data);
    r->left -= n;
    if (r->left == 0 && r->framing == BODY_LENGTH)
        r->body_over = true;
    r->chunk_end_due = r->left == 0 && r->framing == BODY_CHUNKED;
    return n;
}

/* --- queries --- */

const char *request_text(const struct request *r, const char *name, size_t *n)
{
    size_t name_bytes = strlen(name);

    for (const char *p = r->query; *p; p += strcspn(p, "&"), p += *p == '&') {
        if (strncmp(p, name, name_bytes) != 0 || !strchr("=&", p[name_bytes]))
            continue;
        p += name_bytes;
        p += *p == '=';
        *n = strcspn(p, "&");
        return p;
    }
    return NULL;
}

int64_t request_number(const struct request *r, const char *name, int64_t otherwise)
{
    size_t n;
    const char *text = request_text(r, name, &n);

    return text && n ? strtoll(text, NULL, 10) : otherwise;
}

/* --- answers --- */

static const char *status_words(int status)
{
    static const struct {
        int status;
        const char *words;
    } table[] = {{200, "OK"},
                 {204, "No Content"},
                 {304, "Not Modified"},
                 {400, "Bad Request"},
                 {404, "Not Found"},
                 {418, "I'm a teapot"},
                 {426, "Upgrade Required"},
                 {500, "Internal Server Error"},
                 {503, "Service Unavailable"}};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].status == status)
            return table[i].words;
    return "Status";
}

void answer_common(const char *lines)
{
    common_lines = lines;
}

/* The request's own mark comes back, so that its client knows whose answer this is. */
static void nonce_line(const struct request *r, char *line, size_t cap)
{
    size_t n = 0;
    const char *nonce = request_field(r, "X-Nonce", &n);

    if (nonce)
        snprintf(line, cap, "X-Echo-Nonce: %.*s\r\n", n < 64 ? (int)n : 64, nonce);
}

/* flags: MSG_MORE when the body follows at once. */
static bool begin(struct request *r, int status, const char *type, int64_t length, int flags)
{
    char head[1024], framing[64] = "", nonce[96] = "";
    const char *kept = r->is_1_0 ? "Connection: keep-alive\r\n" : "";
    int n;

    nonce_line(r, nonce, sizeof nonce);

    r->chunked_answer = length < 0 && !r->is_1_0;
    if (r->chunked_answer)
        snprintf(framing, sizeof framing, "Transfer-Encoding: chunked\r\n");
    else if (length < 0)
        r->conn->over = true;
    else if (status != 204 && status != 304)
        snprintf(framing, sizeof framing, "Content-Length: %lld\r\n", (long long)length);
    n = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n%s%s%s%s\r\n", status,
                 status_words(status), type, framing, common_lines, nonce,
                 r->conn->over ? "Connection: close\r\n" : kept);
    return send_all(r->conn, head, (size_t)n, flags);
}

bool answer_begin(struct request *r, int status, const char *type, int64_t length)
{
    return begin(r, status, type, length, 0);
}

bool answer_piece(struct request *r, const void *data, size_t n)
{
    char line[24];
    int line_bytes;

    if (r->is_head || n == 0)
        return true;
    if (!r->chunked_answer)
        return conn_write(r->conn, data, n);
    line_bytes = snprintf(line, sizeof line, "%zx\r\n", n);
    return send_all(r->conn, line, (size_t)line_bytes, MSG_MORE) &&
           send_all(r->conn, data, n, MSG_MORE) && conn_write(r->conn, "\r\n", 2);
}

bool answer_end(struct request *r, const struct bytes *trailers)
{
    if (!r->chunked_answer || r->is_head)
        return true;
    return send_all(r->conn, "0\r\n", 3, MSG_MORE) &&
           (!trailers || send_all(r->conn, trailers->data, trailers->n, MSG_MORE)) &&
           conn_write(r->conn, "\r\n", 2);
}

bool answer_whole(struct request *r, int status, const char *type, const void *data, size_t n)
{
    int more = n > 0 && !r->is_head ? MSG_MORE : 0;

    return begin(r, status, type, (int64_t)n, more) && answer_piece(r, data, n);
}

bool answer_text(struct request *r, int status, const char *format, ...)
{
    char text[2048];
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0)
        return false;
    if ((size_t)n >= sizeof text)
        n = sizeof text - 1;
    return answer_whole(r, status, text[0] == '{' ? "application/json" : "text/plain", text,
                        (size_t)n);
}
