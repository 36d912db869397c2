/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for tests, made on the spot: so none is ever out of date, and no key is kept.
 * The difficulty: each test wants one thing wrong with them, and all else right. */
#ifndef TESTS_TLS_CASE_H
#define TESTS_TLS_CASE_H

#include "base/err.h"
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

struct tls_case {
    const char *names;             /* "DNS:a.test,DNS:*.b.test"; NULL: none */
    const char *common;            /* NULL: "test" */
    int rsa_bits;                  /* 0: an elliptic curve's key */
    int from_days, to_days;        /* from now; both 0: yesterday to next month */
    int to_s;                      /* from now, instead of to_days, unless 0 */
    const struct tls_made *issuer; /* NULL: itself */
    bool is_ca;
    const char *raw_names; /* as the extension has them, beside `names` */
};
struct tls_made {
    X509 *x;
    EVP_PKEY *pkey;
    char chain[8192], key[4096]; /* PEM; the issuer is not in the chain */
    char ocsp[4096];             /* DER, by tls_case_ocsp */
    size_t ocsp_n;
};

static inline void tls_case_text(BIO *bio, char *out, size_t cap)
{
    int n = BIO_read(bio, out, (int)cap - 1);

    KG_ASSERT(n > 0);
    out[n] = '\0';
    BIO_free(bio);
}

static inline void tls_case_extend(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;

    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    KG_ASSERT(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
}

static inline void tls_case_extend_raw(X509 *x, int nid, const char *bytes)
{
    ASN1_OCTET_STRING *text = ASN1_OCTET_STRING_new();
    X509_EXTENSION *e;

    ASN1_OCTET_STRING_set(text, (const unsigned char *)bytes, (int)strlen(bytes));
    e = X509_EXTENSION_create_by_NID(NULL, nid, 0, text);
    KG_ASSERT(e);
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    ASN1_OCTET_STRING_free(text);
}

static inline void tls_case_write(struct tls_made *m)
{
    BIO *bio = BIO_new(BIO_s_mem());

    PEM_write_bio_X509(bio, m->x);
    tls_case_text(bio, m->chain, sizeof m->chain);
    bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(bio, m->pkey, NULL, NULL, 0, NULL, NULL);
    tls_case_text(bio, m->key, sizeof m->key);
}

static inline void tls_case_make(struct tls_made *m, const struct tls_case *c)
{
    static long serial;
    bool dated = c->from_days != 0 || c->to_days != 0;
    X509_NAME *subject;

    m->ocsp_n = 0;
    m->pkey = c->rsa_bits ? EVP_RSA_gen((unsigned)c->rsa_bits) : EVP_EC_gen("P-256");
    m->x = X509_new();
    X509_set_version(m->x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(m->x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(m->x), 86400l * (dated ? c->from_days : -1));
    X509_gmtime_adj(X509_getm_notAfter(m->x),
                    c->to_s ? c->to_s : 86400l * (dated ? c->to_days : 30));
    subject = X509_get_subject_name(m->x);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                               (const unsigned char *)(c->common ? c->common : "test"), -1, -1, 0);
    X509_set_issuer_name(m->x, c->issuer ? X509_get_subject_name(c->issuer->x) : subject);
    X509_set_pubkey(m->x, m->pkey);
    if (c->names)
        tls_case_extend(m->x, m->x, NID_subject_alt_name, c->names);
    if (c->raw_names)
        tls_case_extend_raw(m->x, NID_subject_alt_name, c->raw_names);
    if (c->is_ca)
        tls_case_extend(m->x, m->x, NID_basic_constraints, "critical,CA:TRUE");
    KG_ASSERT(X509_sign(m->x, c->issuer ? c->issuer->pkey : m->pkey, EVP_sha256()) > 0);
    tls_case_write(m);
}

/* What the issuer says about it, good until so many hours from now (may be past). */
static inline void tls_case_ocsp(struct tls_made *m, const struct tls_made *issuer, int status,
                                 int hours)
{
    ASN1_TIME *from = X509_gmtime_adj(NULL, -864000), *until = X509_gmtime_adj(NULL, 3600l * hours);
    OCSP_BASICRESP *basic = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(NULL, m->x, issuer->x);
    unsigned char *out = (unsigned char *)m->ocsp;
    OCSP_RESPONSE *response;

    OCSP_basic_add1_status(basic, id, status, 0, from, from, until);
    KG_ASSERT(OCSP_basic_sign(basic, issuer->x, issuer->pkey, EVP_sha256(), NULL, 0) == 1);
    response = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, basic);
    m->ocsp_n = (size_t)i2d_OCSP_RESPONSE(response, &out);
    KG_ASSERT(m->ocsp_n < sizeof m->ocsp);
    OCSP_RESPONSE_free(response);
    OCSP_BASICRESP_free(basic);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
}

static inline void tls_case_free(struct tls_made *m)
{
    X509_free(m->x);
    EVP_PKEY_free(m->pkey);
}

/* Writes a file; gives its path in `out`. */
static inline const char *tls_case_file(char out[256], const char *directory, const char *name,
                                        const void *bytes, size_t n)
{
    FILE *f;

    snprintf(out, 256, "%s/%s", directory, name);
    f = fopen(out, "w");
    KG_ASSERT(f);
    KG_ASSERT(fwrite(bytes, 1, n, f) == n);
    fclose(f);
    return out;
}

#endif
