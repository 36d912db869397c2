/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificate, protocol and ticket a client gets. The difficulty: what is in force may change
 * while handshakes and sessions of before go on. */
#include "tls_world.h"

/* The common name of the certificate that a client gets when it asks for `name`. */
static const char *served_for(const char *name, const char *algorithms)
{
    static char common[64];
    struct peer p;
    struct end e;
    X509 *x;

    join(&e, &p, name);
    if (algorithms)
        ck_assert_int_eq(SSL_set1_sigalgs_list(p.ssl, algorithms), 1);
    shake_hands(&e, &p);
    x = SSL_get1_peer_certificate(p.ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, common, sizeof common);
    X509_free(x);
    part(&e, &p);
    return common;
}

static void make_and_set(const struct tls_case *cases, size_t count)
{
    static struct tls_made made[8];
    const struct tls_made *list[8];

    for (size_t i = 0; i < count; i++) {
        tls_case_make(&made[i], &cases[i]);
        list[i] = &made[i];
    }
    ck_assert_int_eq(set_certificates(list, count, NULL), 0);
    for (size_t i = 0; i < count; i++)
        tls_case_free(&made[i]);
}

START_TEST(the_name_chooses)
{
    static const struct tls_case cases[] = {
        {.names = "DNS:first.test", .common = "first"},
        {.names = "DNS:*.wild.test,DNS:UPPER.test", .common = "wild"},
        {.names = "DNS:exact.wild.test", .common = "exact"},
        {.common = "only-common.test"},
        {.names = "DNS:first.test", .common = "late"},
    };

    make_and_set(cases, sizeof cases / sizeof *cases);
    ck_assert_str_eq(served_for("first.test", NULL), "first");
    ck_assert_str_eq(served_for("FIRST.test", NULL), "first");
    ck_assert_str_eq(served_for("a.wild.test", NULL), "wild");
    ck_assert_str_eq(served_for("upper.test", NULL), "wild");
    ck_assert_str_eq(served_for("exact.wild.test", NULL), "exact");
    ck_assert_str_eq(served_for("only-common.test", NULL), "only-common.test");
    ck_assert_str_eq(served_for("a.b.wild.test", NULL), "first");
    ck_assert_str_eq(served_for("wild.test", NULL), "first");
    ck_assert_str_eq(served_for("unknown.test", NULL), "first");
    ck_assert_str_eq(served_for(NULL, NULL), "first");
}
END_TEST

START_TEST(the_client_chooses_the_kind_of_key)
{
    static const struct tls_case cases[] = {
        {.names = "DNS:other.test", .common = "other"},
        {.names = "DNS:a.test", .common = "ec"},
        {.names = "DNS:a.test", .common = "rsa", .rsa_bits = 2048},
    };

    make_and_set(cases, sizeof cases / sizeof *cases);
    ck_assert_str_eq(served_for("a.test", "ECDSA+SHA256"), "ec");
    ck_assert_str_eq(served_for("a.test", "RSA-PSS+SHA256"), "rsa");
    ck_assert_str_eq(served_for("a.test", NULL), "ec");
}
END_TEST

/* In whatever order a certificate has its names. */
START_TEST(the_same_names_in_another_order)
{
    static const struct tls_case cases[] = {
        {.names = "DNS:other.test", .common = "other"},
        {.names = "DNS:a.test,DNS:B.test,DNS:a.test", .common = "ec"},
        {.names = "DNS:b.test,DNS:a.test", .common = "rsa", .rsa_bits = 2048},
    };

    make_and_set(cases, sizeof cases / sizeof *cases);
    ck_assert_str_eq(served_for("a.test", "ECDSA+SHA256"), "ec");
    ck_assert_str_eq(served_for("a.test", "RSA-PSS+SHA256"), "rsa");
    ck_assert_str_eq(served_for("b.test", "RSA-PSS+SHA256"), "rsa");
}
END_TEST

/* Two that have no name, but an address each, are not for the same: nobody asks for an address, so
 * the first of the list it is. */
START_TEST(addresses_are_not_the_same_names)
{
    static const struct tls_case cases[] = {
        {.names = "IP:10.0.0.1", .common = "one", .rsa_bits = 2048},
        {.names = "IP:10.0.0.2", .common = "two"},
        {.names = "IP:10.0.0.1", .common = "one-ec"},
    };

    make_and_set(cases, 2);
    ck_assert_str_eq(served_for(NULL, "ECDSA+SHA256:RSA-PSS+SHA256"), "one");
    make_and_set(cases, 3);
    ck_assert_str_eq(served_for(NULL, "ECDSA+SHA256:RSA-PSS+SHA256"), "one-ec");
    ck_assert_str_eq(served_for(NULL, "RSA-PSS+SHA256"), "one");
}
END_TEST

START_TEST(the_host_agrees_with_the_name)
{
    struct peer p;
    struct end e;

    join(&e, &p, "A.test");
    shake_hands(&e, &p);
    ck_assert(wire_host_agrees(&e.wire, KG_STR("a.test")));
    ck_assert(wire_host_agrees(&e.wire, KG_STR("A.TEST.")));
    ck_assert(!wire_host_agrees(&e.wire, KG_STR("b.test")));
    ck_assert(!wire_host_agrees(&e.wire, KG_STR("a.test.b")));
    ck_assert(wire_host_agrees(&e.wire, KG_STR(""))); /* HTTP/1.0 names none */
    part(&e, &p);
    join(&e, &p, NULL);
    shake_hands(&e, &p);
    ck_assert(wire_host_agrees(&e.wire, KG_STR("anything")));
    part(&e, &p);
}
END_TEST

static void with_alpn(const char *list, size_t n, const char *wanted)
{
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    SSL_set_alpn_protos(p.ssl, (const unsigned char *)list, (unsigned)n);
    UNTIL(&p, p.done || p.failed);
    ck_assert_int_eq(p.done, wanted != NULL);
    if (wanted)
        ck_assert(kg_str_eq(wire_protocol(&e.wire), kg_str_of(wanted)));
    else
        UNTIL(&p, e.brokens == 1);
    part(&e, &p);
}

START_TEST(protocols_by_alpn)
{
    with_alpn("\x08http/1.1\x02h2", 12, "h2");
    with_alpn("\x08http/1.1", 9, "http/1.1");
    with_alpn("\x02h3\x08http/1.1", 12, "http/1.1");
    with_alpn("\x02h3", 3, NULL);
    with_alpn("", 0, "");
    world.proxy->params.protocols = PROXY_HTTP11;
    with_alpn("\x08http/1.1\x02h2", 12, "http/1.1");
    with_alpn("\x02h2", 3, NULL);
    world.proxy->params.protocols = PROXY_H2;
    with_alpn("\x08http/1.1", 9, NULL);
    with_alpn("", 0, NULL); /* it would speak HTTP/1.1 */
    with_alpn("\x08http/1.1\x02h2", 12, "h2");
}
END_TEST

/* --- who the client is ----------------------------------------------------------------------- */

static bool let_in(const struct tls_made *as)
{
    struct peer p;
    struct end e;
    bool in;

    join(&e, &p, "a.test");
    if (as)
        ck_assert_int_eq(SSL_use_cert_and_key(p.ssl, as->x, as->pkey, NULL, 1), 1);
    UNTIL(&p, e.brokens > 0 || e.wire.tls->done);
    in = e.brokens == 0;
    part(&e, &p);
    return in;
}

START_TEST(clients_by_their_certificate)
{
    struct tls_made server, ca, friend_, stranger, late;
    const struct tls_made *one = &server;

    tls_case_make(&server, &(struct tls_case){.names = "DNS:a.test"});
    tls_case_make(&ca, &(struct tls_case){.is_ca = true, .common = "clients"});
    tls_case_make(&friend_, &(struct tls_case){.issuer = &ca, .common = "friend"});
    tls_case_make(&stranger, &(struct tls_case){.common = "stranger"});
    tls_case_make(&late, &(struct tls_case){.issuer = &ca, .from_days = -9, .to_days = -2});
    ck_assert_int_eq(set_certificates(&one, 1, ca.chain), 0);
    ck_assert(let_in(&friend_));
    ck_assert(!let_in(NULL));
    ck_assert(!let_in(&stranger));
    ck_assert(!let_in(&late));
    ck_assert_int_eq(set_certificates(&one, 1, NULL), 0);
    ck_assert(let_in(NULL));
    tls_case_free(&server);
    tls_case_free(&ca);
    tls_case_free(&friend_);
    tls_case_free(&stranger);
    tls_case_free(&late);
}
END_TEST

/* --- tickets --------------------------------------------------------------------------------- */

static SSL_SESSION *resume(SSL_SESSION *with, int version, bool *resumed)
{
    char byte[] = "x";
    SSL_SESSION *session;
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    SSL_set_max_proto_version(p.ssl, version);
    if (with) {
        with = SSL_SESSION_dup(with); /* OpenSSL uses one only once */
        SSL_set_session(p.ssl, with);
        SSL_SESSION_free(with);
    }
    shake_hands(&e, &p);
    ck_assert_int_eq(wire_send(&e.wire, &(uv_buf_t){.base = byte, .len = 1}, 1), 0);
    UNTIL(&p, p.got.len == 1 && (p.session || with));
    *resumed = SSL_session_reused(p.ssl) == 1;
    session = p.session ? SSL_SESSION_dup(p.session) : SSL_get1_session(p.ssl);
    part(&e, &p);
    return session;
}

static void tickets(int version)
{
    SSL_SESSION *session, *next, *last;
    bool resumed;

    set_tickets(1);
    session = resume(NULL, version, &resumed);
    ck_assert(!resumed && session);
    SSL_SESSION_free(resume(session, version, &resumed));
    ck_assert(resumed);
    set_tickets(1); /* told of a new key only: the old one still decrypts */
    next = resume(session, version, &resumed);
    ck_assert(resumed && next);
    set_tickets(TLS_TICKET_KEYS);
    SSL_SESSION_free(resume(session, version, &resumed));
    ck_assert(resumed);
    set_tickets(TLS_TICKET_KEYS); /* now it is gone, but the ticket given later goes on */
    SSL_SESSION_free(resume(session, version, &resumed));
    ck_assert(!resumed);
    last = resume(next, version, &resumed);
    ck_assert(resumed);
    set_one(&(struct tls_case){.names = "DNS:a.test"}); /* certificates anew: sessions go on */
    SSL_SESSION_free(resume(last, version, &resumed));
    ck_assert(resumed);
    SSL_SESSION_free(session);
    SSL_SESSION_free(next);
    SSL_SESSION_free(last);
}

START_TEST(tickets_and_their_keys)
{
    tickets(TLS1_2_VERSION);
    tickets(TLS1_3_VERSION);
    ck_assert_uint_eq(world.stats.tls_full, 4);
    ck_assert_uint_eq(world.stats.tls_resumed, 10);
}
END_TEST

/* A session of when nobody was asked who they are is no way past the question. */
START_TEST(no_session_outlives_the_authority)
{
    struct tls_made server, ca;
    const struct tls_made *one = &server;
    SSL_SESSION *session;
    struct peer p;
    struct end e;
    bool resumed;

    session = resume(NULL, TLS1_3_VERSION, &resumed);
    tls_case_make(&server, &(struct tls_case){.names = "DNS:a.test"});
    tls_case_make(&ca, &(struct tls_case){.is_ca = true, .common = "clients"});
    ck_assert_int_eq(set_certificates(&one, 1, ca.chain), 0);
    join(&e, &p, "a.test");
    SSL_set_session(p.ssl, session);
    UNTIL(&p, e.brokens == 1);
    part(&e, &p);
    SSL_SESSION_free(session);
    tls_case_free(&server);
    tls_case_free(&ca);
}
END_TEST

/* As it came, with its certificate, on a session of before. */
static bool resumes_as(const struct tls_made *as, SSL_SESSION *session, bool *resumed)
{
    struct peer p;
    struct end e;
    bool in;

    join(&e, &p, "a.test");
    ck_assert_int_eq(SSL_use_cert_and_key(p.ssl, as->x, as->pkey, NULL, 1), 1);
    SSL_set_max_proto_version(p.ssl, SSL_SESSION_get_protocol_version(session));
    session = SSL_SESSION_dup(session);
    SSL_set_session(p.ssl, session);
    SSL_SESSION_free(session);
    UNTIL(&p, e.brokens > 0 || e.wire.tls->done);
    in = e.brokens == 0;
    *resumed = in && SSL_session_reused(p.ssl) == 1;
    part(&e, &p);
    return in;
}

/* The session of a client with a certificate. */
static SSL_SESSION *session_as(const struct tls_made *as, int version)
{
    char byte[] = "x";
    SSL_SESSION *session;
    struct peer p;
    struct end e;

    join(&e, &p, "a.test");
    SSL_set_max_proto_version(p.ssl, version);
    ck_assert_int_eq(SSL_use_cert_and_key(p.ssl, as->x, as->pkey, NULL, 1), 1);
    shake_hands(&e, &p);
    ck_assert_int_eq(wire_send(&e.wire, &(uv_buf_t){.base = byte, .len = 1}, 1), 0);
    UNTIL(&p, p.got.len == 1 && p.session);
    session = SSL_SESSION_dup(p.session);
    part(&e, &p);
    return session;
}

/* Who is let in no more is not let in by a session either; all others go on. */
START_TEST(no_session_outlives_the_clients_certificate)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct tls_made server, ca, lasting, short_;
    const struct tls_made *one = &server;
    SSL_SESSION *sessions[2], *last[2];
    bool resumed;

    tls_case_make(&server, &(struct tls_case){.names = "DNS:a.test"});
    tls_case_make(&ca, &(struct tls_case){.is_ca = true, .common = "clients"});
    tls_case_make(&lasting, &(struct tls_case){.issuer = &ca, .common = "lasting"});
    tls_case_make(&short_, &(struct tls_case){.issuer = &ca, .common = "short", .to_s = 3});
    ck_assert_int_eq(set_certificates(&one, 1, ca.chain), 0);
    for (size_t i = 0; i < 2; i++) {
        sessions[i] = session_as(&short_, versions[i]);
        last[i] = session_as(&lasting, versions[i]);
        ck_assert(resumes_as(&short_, sessions[i], &resumed) && resumed);
    }
    while (let_in(&short_)) /* until it has expired */
        usleep(50000);
    for (size_t i = 0; i < 2; i++) {
        ck_assert(!resumes_as(&short_, sessions[i], &resumed));
        ck_assert(resumes_as(&lasting, last[i], &resumed) && resumed);
        SSL_SESSION_free(sessions[i]);
        SSL_SESSION_free(last[i]);
    }
    tls_case_free(&server);
    tls_case_free(&ca);
    tls_case_free(&lasting);
    tls_case_free(&short_);
}
END_TEST

/* --- stapled responses ----------------------------------------------------------------------- */

static long stapled(void)
{
    const unsigned char *response = NULL;
    struct peer p;
    struct end e;
    long n;

    join(&e, &p, "a.test");
    SSL_set_tlsext_status_type(p.ssl, TLSEXT_STATUSTYPE_ocsp);
    shake_hands(&e, &p);
    n = SSL_get_tlsext_status_ocsp_resp(p.ssl, &response);
    part(&e, &p);
    return n;
}

static int judged(const struct tls_made *m, char words[512])
{
    struct tls_certificate c = {kg_str_of(m->chain), kg_str_of(m->key), {m->ocsp, m->ocsp_n}};
    struct tls_facts facts;
    struct kg_err err = {0};
    enum tls_part part;
    int rc = tls_check_certificate(&c, (int64_t)time(NULL), &facts, &part, &err);

    ck_assert(rc == 0 || part == TLS_OCSP);
    memcpy(words, err.words, 512);
    return rc;
}

START_TEST(responses_are_stapled)
{
    struct tls_made ca, server, other;
    const struct tls_made *one = &server;
    char words[512];

    tls_case_make(&ca, &(struct tls_case){.is_ca = true, .common = "ca"});
    tls_case_make(&server, &(struct tls_case){.names = "DNS:a.test", .issuer = &ca});
    tls_case_make(&other, &(struct tls_case){.names = "DNS:b.test", .issuer = &ca});
    tls_case_ocsp(&server, &ca, V_OCSP_CERTSTATUS_GOOD, 24);
    ck_assert_int_eq(judged(&server, words), 0);
    ck_assert_int_eq(set_certificates(&one, 1, NULL), 0);
    ck_assert_int_eq(stapled(), (long)server.ocsp_n);
    tls_case_ocsp(&server, &ca, V_OCSP_CERTSTATUS_GOOD, -1);
    ck_assert_int_ne(judged(&server, words), 0);
    ck_assert_ptr_nonnull(strstr(words, "expired on"));
    ck_assert_int_eq(set_certificates(&one, 1, NULL), 0); /* it became old here */
    ck_assert_int_eq(stapled(), -1);
    tls_case_ocsp(&server, &ca, V_OCSP_CERTSTATUS_REVOKED, 24);
    ck_assert_int_ne(judged(&server, words), 0);
    ck_assert_ptr_nonnull(strstr(words, "says that the certificate is revoked"));
    tls_case_ocsp(&other, &ca, V_OCSP_CERTSTATUS_GOOD, 24);
    memcpy(server.ocsp, other.ocsp, other.ocsp_n);
    server.ocsp_n = other.ocsp_n;
    ck_assert_int_ne(judged(&server, words), 0);
    ck_assert_ptr_nonnull(strstr(words, "is about another certificate"));
    tls_case_free(&ca);
    tls_case_free(&server);
    tls_case_free(&other);
}
END_TEST

/* --- replacement ----------------------------------------------------------------------------- */

/* Sessions of before go on, a handshake under way ends well, and new ones get the new. */
START_TEST(replaced_under_way)
{
    struct peer old, middle;
    struct end e, f;

    join(&e, &old, "a.test");
    shake_hands(&e, &old);
    join(&f, &middle, "a.test");
    UNTIL(&middle, f.wire.tls->ssl != NULL);
    set_one(&(struct tls_case){.names = "DNS:a.test", .common = "new"});
    shake_hands(&f, &middle);
    peer_say(&old, "on", 2);
    UNTIL(&old, e.got.len == 2);
    ck_assert_str_eq(served_for("a.test", NULL), "new");
    part(&e, &old);
    part(&f, &middle);
}
END_TEST

/* A handshake that had begun when clients were not asked yet who they are gets the new certificate
 * with all that goes with it. */
START_TEST(an_authority_under_way)
{
    struct tls_made server, ca;
    const struct tls_made *one = &server;
    struct peer p;
    struct end e;

    tls_case_make(&server, &(struct tls_case){.names = "DNS:a.test"});
    tls_case_make(&ca, &(struct tls_case){.is_ca = true, .common = "clients"});
    join(&e, &p, "a.test");
    p.at_once = 1;
    UNTIL(&p, e.wire.tls->ssl != NULL);
    p.at_once = 0;
    ck_assert_int_eq(set_certificates(&one, 1, ca.chain), 0);
    UNTIL(&p, e.brokens > 0 || e.wire.tls->done);
    ck_assert_uint_eq(e.brokens, 1);
    part(&e, &p);
    tls_case_free(&server);
    tls_case_free(&ca);
}
END_TEST

START_TEST(bad_ones_replace_nothing)
{
    struct tls_made good, bad;
    const struct tls_made *both[] = {&good, &bad};

    set_one(&(struct tls_case){.names = "DNS:a.test", .common = "before"});
    tls_case_make(&good, &(struct tls_case){.names = "DNS:a.test"});
    tls_case_make(&bad, &(struct tls_case){.names = "DNS:b.test"});
    memcpy(bad.key, good.key, sizeof bad.key);
    ck_assert_int_eq(set_certificates(both, 2, NULL), KG_EINVAL);
    ck_assert_str_eq(served_for("a.test", NULL), "before");
    ck_assert_int_eq(set_certificates(both, 1, "no authority"), KG_EINVAL);
    ck_assert_str_eq(served_for("a.test", NULL), "before");
    tls_case_free(&good);
    tls_case_free(&bad);
}
END_TEST

START_TEST(clients_wait_for_certificates)
{
    struct tls_contexts *contexts = world.proxy->tls->contexts;
    struct peer p, gone;
    struct end e, f;

    world.proxy->tls->contexts = NULL; /* as at the start */
    join(&e, &p, "a.test");
    join(&f, &gone, "a.test");
    for (int i = 0; i < 20; i++) {
        peer_step(&p);
        peer_step(&gone);
        turn();
    }
    ck_assert(!p.done && e.brokens == 0);
    part(&f, &gone);
    set_one(&(struct tls_case){.names = "DNS:a.test"});
    shake_hands(&e, &p);
    part(&e, &p);
    tls_contexts_free(contexts);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {the_name_chooses,
                                  the_client_chooses_the_kind_of_key,
                                  the_same_names_in_another_order,
                                  addresses_are_not_the_same_names,
                                  the_host_agrees_with_the_name,
                                  protocols_by_alpn,
                                  clients_by_their_certificate,
                                  tickets_and_their_keys,
                                  no_session_outlives_the_authority,
                                  no_session_outlives_the_clients_certificate,
                                  responses_are_stapled,
                                  replaced_under_way,
                                  an_authority_under_way,
                                  bad_ones_replace_nothing,
                                  clients_wait_for_certificates};

    return tls_world_run("tls_names", tests, sizeof tests / sizeof *tests);
}
