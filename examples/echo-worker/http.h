/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 as far as a test's worker needs it: heads kept as received, bodies in pieces, answers
 * whole or in pieces. It believes its client; it guards nothing. */
#ifndef ECHO_HTTP_H
#define ECHO_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes { /* grows, up to a limit: what is beyond it is dropped */
    char *data;
    size_t n, cap, limit;
};
void bytes_add(struct bytes *b, const void *data, size_t n);
void bytes_free(struct bytes *b);

struct conn {
    int fd;
    char *in; /* received and not yet taken: in[at..end) */
    size_t at, end, cap;
    bool over; /* no further request is read */
    enum { CLOSE_GENTLY, CLOSE_AT_ONCE, CLOSE_BY_RESET } ending;
    bool close_later; /* closed, unread, when the next request comes */
};
/* All writes wait until the kernel took the bytes; false: the peer is gone. */
bool conn_write(struct conn *c, const void *data, size_t n);
/* The next bytes, at least one and at most `most`; 0 at the end. They stay valid until the next
 * call. */
size_t conn_take(struct conn *c, size_t most, const char **data);

enum framing { BODY_NONE, BODY_LENGTH, BODY_CHUNKED };
struct request {
    struct conn *conn;
    char *head; /* as received, with the blank line */
    size_t head_bytes;
    char *method, *target; /* NUL-terminated copies */
    const char *name;      /* last segment of the path */
    const char *query;     /* "" when there is none */
    bool is_head, is_1_0, expects;
    enum framing framing;
    uint64_t left;      /* of the body, or of its chunk */
    bool chunk_end_due; /* the line end behind a chunk's data was not taken yet */
    bool body_over, broken;
    struct bytes raw;      /* the body as received, when raw.limit > 0 */
    struct bytes trailers; /* their lines, as received */
    bool chunked_answer;
};
/* The next request of a connection, waiting up to ms for its first byte (ms < 0: for ever). */
bool request_read(struct conn *c, struct request *r, int64_t ms);
void request_end(struct request *r); /* discards what is left of the body, frees */
/* The body's next bytes without its framing; 0: there are no more (r->broken: it is not whole). */
size_t request_body(struct request *r, const char **data);
const char *request_field(const struct request *r, const char *name, size_t *n); /* NULL: absent */
/* A number, or text, of the query; `otherwise` and NULL when absent. */
int64_t request_number(const struct request *r, const char *name, int64_t otherwise);
const char *request_text(const struct request *r, const char *name, size_t *n);

/* What every answer's head has, beside its framing: set once. */
void answer_common(const char *lines);
/* length < 0: chunked (or until the close, for HTTP/1.0). */
bool answer_begin(struct request *r, int status, const char *type, int64_t length);
bool answer_piece(struct request *r, const void *data, size_t n);
bool answer_end(struct request *r, const struct bytes *trailers);
bool answer_whole(struct request *r, int status, const char *type, const void *data, size_t n);
__attribute__((format(printf, 3, 4))) bool answer_text(struct request *r, int status,
                                                       const char *format, ...);

#endif
