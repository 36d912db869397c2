/* SPDX-License-Identifier: Apache-2.0 */
/* TLS without memory: a handshake, full or resumed, ends well or visibly, the next one succeeds,
 * and certificates are in force with all their names or not at all. The difficulty: what OpenSSL
 * makes once in a process must be there before anything fails, or each walk would find another
 * path. */
#include "exhaust.h"
#include "proxy/tls_world.h"

#define STEP 11               /* a handshake asks some hundred times, */
#define FIRST 24              /* of which the first are ours, */
#define CERTIFICATES_STEP 101 /* a load of certificates twelve thousand, */
#define JUDGEMENT_STEP 41     /* their judgement some thousand */

static const struct handshake {
    const char *name;
    int version;
    bool resumed;
} handshakes[] = {
    {"TLS 1.3", TLS1_3_VERSION, false},
    {"TLS 1.3, resumed", TLS1_3_VERSION, true},
    {"TLS 1.2", TLS1_2_VERSION, false},
    {"TLS 1.2, resumed", TLS1_2_VERSION, true},
};
static const struct handshake *now;

static bool has(const struct kg_buf *got, const char *text)
{
    return kg_str_eq(kg_buf_str(got), kg_str_of(text));
}

/* What came is the beginning of that. */
static bool is_part(const struct kg_buf *got, const char *text)
{
    return kg_str_has_prefix(kg_str_of(text), kg_buf_str(got));
}

static bool is_over(const struct end *e, const struct peer *p)
{
    return p->failed || p->ended || (has(&e->got, "hello") && has(&p->got, "you"));
}

static void reply(struct end *e)
{
    uv_buf_t buf = uv_buf_init((char *)(uintptr_t) "you", 3);
    int rc;

    EXHAUST(rc = wire_send(&e->wire, &buf, 1));
    if (rc != 0)
        wire_close(&e->wire);
}

/* A word each way, or an end that both see. */
static void converse(struct end *e, struct peer *p)
{
    bool said = false, replied = false;

    for (int turns = 0; !is_over(e, p) && turns < TURNS; turns++) {
        peer_step(p);
        turn();
        if (p->done && !p->failed && !said) {
            said = true;
            peer_say(p, "hello", 5);
        }
        if (has(&e->got, "hello") && !replied && e->brokens == 0) {
            replied = true;
            reply(e);
        }
    }
    ck_assert_msg(is_over(e, p), "neither words nor an end");
}

static void begin(struct end *e, struct peer *p, SSL_SESSION *session)
{
    join(e, p, "a.test");
    kg_buf_append(&e->got, "hello", 5); /* the test's own memory does not fail */
    kg_buf_clear(&e->got);
    SSL_set_min_proto_version(p->ssl, now->version);
    SSL_set_max_proto_version(p->ssl, now->version);
    if (session)
        SSL_set_session(p->ssl, session);
}

/* The session of one that goes well; the caller frees it. */
static SSL_SESSION *one_goes_well(SSL_SESSION *session)
{
    SSL_SESSION *next;
    struct peer p;
    struct end e;

    begin(&e, &p, session);
    converse(&e, &p);
    ck_assert(has(&e.got, "hello") && has(&p.got, "you"));
    ck_assert_int_eq(SSL_session_reused(p.ssl), session != NULL);
    next = p.session;
    p.session = NULL;
    part(&e, &p);
    return next;
}

static int64_t walk(int64_t at, bool sticky)
{
    SSL_SESSION *session;
    struct peer p;
    struct end e;
    int64_t failed;

    setup();
    session = one_goes_well(NULL);
    ck_assert_ptr_nonnull(session);
    begin(&e, &p, now->resumed ? session : NULL);
    exhaust_arm(at, sticky);
    converse(&e, &p);
    failed = exhaust_disarm();
    ck_assert(is_part(&e.got, "hello") && is_part(&p.got, "you"));
    ck_assert(failed > 0 || (has(&p.got, "you") && SSL_session_reused(p.ssl) == now->resumed));
    part(&e, &p);
    SSL_SESSION_free(one_goes_well(NULL));
    SSL_SESSION_free(session);
    teardown();
    return failed;
}

START_TEST(a_handshake)
{
    now = &handshakes[_i];
    exhaust_step = STEP;
    exhaust_first = FIRST;
    setup(); /* what is made once in a process */
    SSL_SESSION_free(one_goes_well(NULL));
    teardown();
    exhaust(now->name, walk);
}
END_TEST

/* --- certificates --------------------------------------------------------------------------- */

/* The common name of what a client is shown that asks for that one. */
static void check_shown(const char *asked, const char *common)
{
    char found[64] = "";
    struct peer p;
    struct end e;
    X509 *x;

    join(&e, &p, asked);
    shake_hands(&e, &p);
    x = SSL_get1_peer_certificate(p.ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, found, sizeof found);
    ck_assert_str_eq(found, common);
    X509_free(x);
    part(&e, &p);
}

static struct tls_made made[2];

/* All names are in force, or the certificate of before is; and then the next load succeeds. */
static int64_t walk_certificates(int64_t at, bool sticky)
{
    const struct tls_made *both[] = {&made[0], &made[1]};
    int64_t failed;
    int rc;

    setup();
    exhaust_arm(at, sticky);
    EXHAUST(rc = set_certificates(both, 2, NULL));
    failed = exhaust_disarm();
    ck_assert(rc == 0 || failed > 0);
    check_shown("x.test", rc == 0 ? "first" : "test");
    check_shown("one.test", rc == 0 ? "second" : "test");
    check_shown("a.two.test", rc == 0 ? "second" : "test");
    ck_assert_int_eq(set_certificates(both, 2, NULL), 0);
    check_shown("a.two.test", "second");
    teardown();
    return failed;
}

START_TEST(certificates)
{
    exhaust_step = CERTIFICATES_STEP;
    tls_case_make(&made[0], &(struct tls_case){.names = "DNS:first.test", .common = "first"});
    tls_case_make(&made[1],
                  &(struct tls_case){.names = "DNS:one.test,DNS:*.two.test", .common = "second"});
    exhaust("certificates", walk_certificates);
    tls_case_free(&made[0]);
    tls_case_free(&made[1]);
}
END_TEST

/* --- judgement ------------------------------------------------------------------------------ */

/* What is good is never called wrong, whatever it could not be told for. */
static int64_t walk_judgement(int64_t at, bool sticky)
{
    struct tls_certificate c = {
        kg_str_of(made[1].chain), kg_str_of(made[1].key), {made[1].ocsp, made[1].ocsp_n}};
    struct kg_err err = {0};
    struct tls_facts facts;
    enum tls_part part;
    int64_t failed;
    int rc;

    exhaust_arm(at, sticky);
    EXHAUST(rc = tls_check_certificate(&c, time(NULL), &facts, &part, &err));
    if (rc == 0)
        EXHAUST(rc = tls_check_client_ca(c.chain, time(NULL), &err));
    failed = exhaust_disarm();
    ck_assert_msg(rc == 0 || (rc == KG_ENOMEM && failed > 0), "%d: %s", rc, err.words);
    ck_assert_str_eq(err.words, rc == 0 ? "" : "out of memory");
    return failed;
}

START_TEST(judgement)
{
    exhaust_step = JUDGEMENT_STEP;
    tls_case_make(&made[0], &(struct tls_case){.names = "DNS:ca.test", .is_ca = true});
    tls_case_make(&made[1], &(struct tls_case){.names = "DNS:one.test", .issuer = &made[0]});
    tls_case_ocsp(&made[1], &made[0], V_OCSP_CERTSTATUS_GOOD, 24);
    ck_assert_int_eq(walk_judgement(0, false), 0); /* what is made once in a process */
    exhaust("judgement", walk_judgement);
    tls_case_free(&made[0]);
    tls_case_free(&made[1]);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("exhaustion of TLS");
    Suite *s = suite_create("exhaustion of TLS");
    SRunner *r = srunner_create(s);
    int failed;

    tls_watch_memory();
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, a_handshake, 0, sizeof handshakes / sizeof *handshakes);
    tcase_add_test(t, certificates);
    tcase_add_test(t, judgement);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
