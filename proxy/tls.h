/* SPDX-License-Identifier: Apache-2.0 */
/* TLS on the front's listeners as other rooms see it: certificates and keys as bytes.
 * The difficulty: who reads the files is not who uses what is in them, and whoever uses it can read
 * no file; so bytes are judged here, wherever they are, in one way. */
#ifndef PROXY_TLS_H
#define PROXY_TLS_H

#include "base/err.h"
#include "base/limits.h"
#include "base/str.h"

struct proxy;

struct tls_certificate {
    struct kg_str chain; /* PEM: the certificate, then those that it was signed by */
    struct kg_str key;   /* PEM */
    struct kg_str ocsp;  /* DER: a response to staple; may be empty */
};
/* All that listeners need. The first certificate is for clients that ask for no name we have. */
struct tls_material {
    const struct tls_certificate *certificates;
    size_t count;            /* 1 to KG_MAX_CERTIFICATES */
    struct kg_str client_ca; /* PEM; empty: clients are not asked who they are */
};

/* What a fault is about. */
enum tls_part { TLS_CHAIN, TLS_KEY, TLS_OCSP, TLS_CLIENT_CA };
struct tls_facts {
    char name[256]; /* the first that the certificate is for */
    int64_t not_after_s;
};
/* Judges one certificate with its key and response at that wall time. 0, or KG_EINVAL or KG_ENOMEM
 * with *err and *part filled: words to follow the name of that part's file. */
int tls_check_certificate(const struct tls_certificate *c, int64_t now_s, struct tls_facts *facts,
                          enum tls_part *part, struct kg_err *err);
int tls_check_client_ca(struct kg_str pem, int64_t now_s, struct kg_err *err);
/* Watches what OpenSSL allocates, from before its first allocation in this process, for it does not
 * tell all that it went without: a context then lacks an algorithm, and looks whole. Called later
 * it watches nothing. */
void tls_watch_memory(void);
/* Overwrites a secret that is done with. */
void tls_wipe(void *secret, size_t n);

/* Puts certificates in force for handshakes that begin from now on; the bytes are copied. Until the
 * first time, handshakes wait. On failure *err says why and all is as before. */
int proxy_tls_set(struct proxy *p, const struct tls_material *m, struct kg_err *err);

/* Keys of session tickets: the first encrypts, all decrypt, and so do as many of those before as
 * there is place for. All fronts have the same. */
#define TLS_TICKET_KEYS 3
struct tls_ticket_key {
    unsigned char name[16], aes[32], hmac[32];
};
void tls_ticket_key_make(struct tls_ticket_key *out); /* aborts when there is no randomness */
void proxy_tls_tickets(struct proxy *p, const struct tls_ticket_key *keys, unsigned count);

#endif
