/* SPDX-License-Identifier: Apache-2.0 */
/* The echo worker's parts: connection and request (http.c), what it can be told to do (answers.c),
 * digests (digest.c). The difficulty: it must be able to misbehave in every way, on request only.
 */
#ifndef ECHO_H
#define ECHO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAD_BYTES (128 * 1024)
#define RECORD_BYTES (1024 * 1024)

struct conn {
    int fd;
    char in[64 * 1024]; /* bytes read ahead: at..have */
    size_t at, have;
    char *record; /* all bytes of the request as they came, up to RECORD_BYTES */
    size_t recorded;
};
struct request {
    struct conn *conn;
    char *head; /* the whole head, NUL-terminated */
    char method[32], target[96 * 1024], *path, *query;
    bool chunked, http10, keep_alive, expects;
    long long length; /* of the body; -1 unknown (chunked) */
    bool body_read;
};

/* http.c */
bool conn_write(struct conn *c, const void *bytes,
                size_t n); /* all of it; false: the peer is gone */
bool conn_printf(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
int conn_byte(struct conn *c);                            /* -1: end */
size_t conn_some(struct conn *c, char *out, size_t most); /* 0: end */
bool request_read(struct conn *c, struct request *r);     /* false: the connection is over */
/* Reads the body, calls `each` for its payload (may be NULL). False: it broke off. */
bool request_body(struct request *r, void (*each)(void *arg, const char *bytes, size_t n),
                  void *arg);
const char *request_field(const struct request *r, const char *name, char *out,
                          size_t cap); /* "" none */
long long query_number(const struct request *r, const char *key, long long otherwise);
bool query_text(const struct request *r, const char *key, char *out, size_t cap);
void sleep_ms(long long ms);

/* answers.c: false: close the connection */
bool answer(struct request *r);
void answers_init(void);
void answers_connection(void);

/* digest.c */
struct sha256 {
    uint32_t h[8];
    uint64_t n;
    unsigned char block[64];
};
void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *bytes, size_t n);
void sha256_hex(struct sha256 *s, char out[65]);
void sha1(const void *bytes, size_t n, unsigned char out[20]); /* n < 200 */
void base64(const unsigned char *bytes, size_t n, char *out);
size_t unbase64(const char *text, char *out); /* also the URL-safe alphabet, padding optional */

#endif
