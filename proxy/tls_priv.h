/* SPDX-License-Identifier: Apache-2.0 */
/* TLS between the files of this room: wire.c asks tls.c, which asks tls_context.c and tls_check.c.
 * The difficulty: OpenSSL's types stay out of here, for its headers are at home in these three. */
#ifndef PROXY_TLS_PRIV_H
#define PROXY_TLS_PRIV_H

#include "base/buf.h"
#include "base/list.h"
#include "proxy/tls.h"
#include <uv.h>

struct evp_pkey_st;
struct ssl_ctx_st;
struct ssl_st;
struct stack_st_X509;
struct wire;
struct x509_st;

/* A record is no more than this part longer than the full one's bytes inside. */
#define TLS_OVERHEAD_SHARE 64

/* --- tls.c: one connection ------------------------------------------------------------------- */

struct tls {
    struct wire *wire;
    struct tls_server *server;
    struct ssl_st *ssl;  /* NULL until the client's first byte */
    struct kg_list turn; /* in the server's handshakes or ready */
    struct kg_buf held;  /* came, and was not worked on yet */
    const char *in;      /* what OpenSSL may read in this call */
    size_t in_n;
    size_t shaken;      /* bytes that the handshake took so far */
    char *name;         /* that the client asked for, lower case; NULL: none */
    bool done;          /* the handshake is */
    bool last;          /* nothing more comes behind what is held */
    bool ended, broken; /* found behind bytes that are not taken yet */
    int send_code;      /* of what went to the kernel in this call */
};

struct tls *tls_new(struct wire *w); /* NULL: no memory */
void tls_close(struct tls *t);       /* its wire closes: nothing more is done for it */
void tls_free(struct tls *t);
size_t tls_room(const struct tls *t); /* as a kind's room, in bytes that come */
void tls_bytes(struct tls *t, const char *bytes, size_t n); /* came */
/* Nothing more comes. False: nor is anything held that has to be worked on before. */
bool tls_end(struct tls *t);
/* Reading goes on: true when that begins with what is here already, from the loop. */
bool tls_go_on(struct tls *t);
bool tls_has_bytes(const struct tls *t);
int tls_send(struct tls *t, const uv_buf_t *bufs, unsigned count); /* as wire_send */
void tls_fin(struct tls *t); /* says that we send nothing more */
struct kg_str tls_protocol(const struct tls *t);
bool tls_host_agrees(const struct tls *t, struct kg_str host);

/* --- all connections of a front -------------------------------------------------------------- */

struct tls_server {
    struct proxy *proxy;
    struct tls_contexts *contexts; /* NULL until certificates are here */
    struct tls_ticket_key keys[TLS_TICKET_KEYS];
    unsigned key_count;
    struct kg_list handshakes; /* with bytes to work on: one a turn of the loop */
    struct kg_list ready;      /* read on, with bytes that are here: all of them each turn */
    size_t under_way;          /* handshakes begun and not done */
    uv_idle_t turn;
};
/* NULL: no memory. Counts among the proxy's handles until it is closed. */
struct tls_server *tls_server_open(struct proxy *p);
void tls_server_close(struct tls_server *s);
void tls_server_free(struct tls_server *s); /* after its handle is closed; NULL is fine */

/* --- tls_context.c: certificates as handshakes use them -------------------------------------- */

struct tls_contexts *tls_contexts_new(struct tls_server *s, const struct tls_material *m,
                                      struct kg_err *err);
void tls_contexts_free(struct tls_contexts *c); /* NULL is fine; sessions keep what they use */
/* A server's session that has `t` as its own. NULL: no memory. */
struct ssl_st *tls_contexts_session(const struct tls_contexts *c, struct tls *t);
struct tls *tls_of_session(const struct ssl_st *ssl);

/* --- tls_check.c: files' bytes into OpenSSL's objects ---------------------------------------- */

struct tls_identity {
    struct x509_st *leaf;
    struct stack_st_X509 *chain;
    struct evp_pkey_st *key;
    struct kg_buf names; /* that it is for, lower case, each with a NUL behind */
    struct kg_buf ocsp;
    int64_t ocsp_until_s; /* INT64_MAX: it does not say */
};
int tls_identity_parse(struct tls_identity *out, const struct tls_certificate *c,
                       enum tls_part *part, struct kg_err *err); /* on failure nothing to free */
void tls_identity_free(struct tls_identity *i);
/* All certificates of a PEM text; NULL when there is none or one is broken. */
struct stack_st_X509 *tls_parse_certificates(struct kg_str pem, struct kg_err *err);
/* How often OpenSSL was refused memory so far. */
size_t tls_memory_refused(void);
/* An empty context with all our rules of protocol and ciphers. NULL: no memory. */
struct ssl_ctx_st *tls_context_plain(void);
int tls_context_use(struct ssl_ctx_st *ctx, const struct tls_identity *i, struct kg_err *err);

#endif
