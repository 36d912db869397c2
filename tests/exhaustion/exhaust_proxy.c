/* SPDX-License-Identifier: Apache-2.0 */
/* The proxy without memory, on each of its paths: a request is answered right, refused or visibly
 * broken off, the next one is served, the books balance. The difficulty: what the proxy does next
 * depends on what failed, so its peers react to what they hear; none of them follows a script. */
#include "base/loop.h"
#include "exhaust.h"
#include "proxy/http2_worker.h"

#define MAX_WORKERS 8
#define BIG (300 * 1024)
#define LOCAL "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
#define PREFACE                                                                                    \
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"                                                             \
    "\0\0\6\4\0\0\0\0\0\0\4\0\x10\0\0" /* SETTINGS: windows of 1 MiB, and the session's */         \
    "\0\0\4\x8\0\0\0\0\0\0\x10\0\0"
#define ASK(length, type_flags, stream, block) "\0\0" length type_flags "\0\0\0" stream block
#define GET2(stream) ASK("\6", "\1\5", stream, "\x82\x86\x84\x41\1a")
#define POST2(stream)                                                                              \
    ASK("\6", "\1\4", stream, "\x83\x86\x84\x41\1a") ASK("\3", "\0\1", stream, "abc")

#define TRAILING                                                                                   \
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-B\r\n\r\n2\r\nok\r\n0\r\n"        \
    "X-B: c\r\n\r\n"

struct path {
    const char *name, *say;
    size_t say_n;
    const char *whole;  /* ends the request as a worker sees it */
    const char *answer; /* of the worker; a body of BIG bytes follows if `big` */
    const char *right;  /* is in what the client hears when all is well */
    bool http2, h2c, cold, warm, big, local;
    bool trailers; /* behind the bodies; none may end as a whole without them */
};

#define SAY(text) .say = text, .say_n = sizeof(text) - 1

static const struct path paths[] = {
    {"a first request", SAY(GET "\r\n"), "\r\n\r\n", OK2, "\r\n\r\nok"},
    {"a warm request", SAY(GET "\r\n"), "\r\n\r\n", OK2, "\r\n\r\nok", .warm = true},
    {"a cold request", SAY(GET "\r\n"), "\r\n\r\n", OK2, "\r\n\r\nok", .cold = true},
    {"chunks and trailers", SAY(CHUNKED "3\r\nabc\r\n0\r\nX-A: b\r\n\r\n"), "X-A: b\r\n\r\n",
     TRAILING, "2\r\nok\r\n0\r\nX-B: c\r\n\r\n"},
    {"a repeatable body", SAY("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
     "\r\n\r\nabc", OK2, "\r\n\r\nok", .warm = true},
    {"a tunnel",
     SAY(GET "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"),
     "\r\n\r\n",
     "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi",
     "\r\n\r\nhi"},
    {"a large answer to a slow reader", SAY(GET "\r\n"), "\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 307203\r\n\r\n", "the", .big = true},
    {"an answer of ours", SAY("GET / HTTP/1.1\r\nHost: none\r\n\r\n"), "-", "-", " 404 "},
    {"an admin request", SAY(LOCAL), "-", "-", "\r\n\r\nfine", .local = true},
    {"HTTP/2", SAY(PREFACE GET2("\1")), "\r\n\r\n", OK2, "ok", .http2 = true},
    {"HTTP/2, a second stream", SAY(GET2("\3")), "\r\n\r\n", OK2, "ok", .http2 = true,
     .warm = true},
    {"HTTP/2, cold, two streams", SAY(PREFACE GET2("\1") POST2("\3")), "\r\n\r\n", OK2, "ok",
     .http2 = true, .cold = true},
    {"HTTP/2, a large answer", SAY(PREFACE GET2("\1")), "\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 307203\r\n\r\n", "the", .http2 = true, .big = true},
    {"a worker of HTTP/2", SAY(POST), "-", "-", "ww", .h2c = true},
    {"a worker of HTTP/2, warm", SAY(POST), "-", "-", "ww", .h2c = true, .warm = true},
    {"HTTP/2, an answer with trailers", SAY(PREFACE GET2("\1")), "\r\n\r\n", TRAILING, "ok",
     .http2 = true, .trailers = true},
    {"a worker of HTTP/2, a request with trailers", SAY(CHUNKED "3\r\nabc\r\n0\r\nX-A: b\r\n\r\n"),
     "-", "-", "ww", .h2c = true, .trailers = true},
    {"HTTP/2 on both sides", SAY(PREFACE POST2("\1")), "-", "-", "ww", .http2 = true, .h2c = true},
};

static const struct path *path;
static struct peer one_by_one[MAX_WORKERS];
static struct http2_worker sessions[MAX_WORKERS];
static unsigned workers;

/* --- peers that react ----------------------------------------------------------------------- */

static void answer_plainly(struct peer *p)
{
    static char big[BIG];

    look(p);
    if (p->got.len == 0 || !has(p, path->whole))
        return;
    forget(p);
    send(p->fd, path->answer, strlen(path->answer), MSG_NOSIGNAL);
    if (!path->big)
        return;
    memset(big, 'w', sizeof big);
    for (size_t at = 0; at < sizeof big && !p->eof;) {
        ssize_t n = send(p->fd, big + at, sizeof big - at, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN)
            return;
        at += n > 0 ? (size_t)n : 0;
        turn();
        look(p);
    }
    send(p->fd, "the", 3, MSG_NOSIGNAL);
}

static void answer_in_frames(struct http2_worker *w)
{
    serve(w);
    for (unsigned i = 0; i < w->count; i++)
        ck_assert(!path->trailers || !w->seen[i].ended || w->seen[i].trailers.len > 0);
    for (unsigned i = 0; i < w->count; i++)
        if (w->seen[i].ended && !w->seen[i].left && !w->seen[i].sent && !w->seen[i].closed)
            answer_ok(w, &w->seen[i], 2);
}

static void let_workers_work(void)
{
    int fd = workers < MAX_WORKERS ? accept4(world.worker_fd, NULL, NULL, SOCK_CLOEXEC) : -1;

    if (fd >= 0 && path->h2c) {
        memset(&sessions[workers], 0, sizeof sessions[0]);
        peer_init(&sessions[workers].p, fd);
        worker_session(&sessions[workers++], NULL, 0);
    } else if (fd >= 0) {
        peer_init(&one_by_one[workers++], fd);
    }
    for (unsigned i = 0; i < workers; i++)
        if (path->h2c)
            answer_in_frames(&sessions[i]);
        else
            answer_plainly(&one_by_one[i]);
}

static void dismiss_workers(void)
{
    for (unsigned i = 0; i < workers; i++)
        if (path->h2c)
            worker_over(&sessions[i]);
        else
            bye(&one_by_one[i]);
    workers = 0;
}

/* The last word about each stream of what came so far: its end, a reset, the connection's end. */
static bool streams_ended(const struct peer *p)
{
    const unsigned char *at = (const unsigned char *)p->got.data;
    size_t left = p->got.len, wanted = path->cold ? 2 : 1;

    while (left >= 9) {
        size_t n = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if (left < 9 + n)
            return false;
        if (at[3] == NGHTTP2_GOAWAY)
            return true;
        if (at[3] == NGHTTP2_RST_STREAM || (at[3] <= NGHTTP2_HEADERS && at[4] & 1))
            wanted--;
        if (wanted == 0)
            return true;
        at += 9 + n;
        left -= 9 + n;
    }
    return false;
}

static bool answered(const struct peer *p)
{
    if (p->eof || (!path->http2 && has(p, path->right)))
        return true;
    return path->http2 ? streams_ended(p) : has(p, "urn:kipgate:");
}

static void grant_all(void)
{
    while (!kg_list_empty(&gate.waiters))
        EXHAUST(gate_grant());
}

static void reply_to_admin(void)
{
    if (local.requests > 0 && local.gone == 0)
        EXHAUST(local_answer(local.id, 200, "text/plain", "fine", 4, true));
    local.requests = 0;
}

/* Until the client has its answer, or what stands for it. */
static void converse(struct peer *c)
{
    uint64_t until = uv_hrtime() + WAIT_NS;

    for (unsigned turns = 0; !answered(c) && uv_hrtime() < until; turns++) {
        turn();
        let_workers_work();
        grant_all();
        reply_to_admin();
        if (!path->big || turns > 30)
            look(c);
    }
    ck_assert_msg(answered(c), "no answer, but: %.*s", (int)c->got.len,
                  c->got.len > 0 ? c->got.data : "");
}

/* --- the walk ------------------------------------------------------------------------------- */

static void ask_and_hear(struct peer *c, const char *text, size_t n)
{
    if (send(c->fd, text, n, MSG_NOSIGNAL) == (ssize_t)n)
        converse(c);
}

static struct peer dial_in(void)
{
    return dial(path->local ? world.local_port : world.port);
}

static bool right(const struct peer *c)
{
    return has(c, path->right);
}

/* The answer's body ends its stream. */
static bool ends_by_data(const struct peer *c)
{
    const unsigned char *at = (const unsigned char *)c->got.data;
    size_t left = c->got.len;

    while (left >= 9) {
        size_t n = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        if (at[3] == NGHTTP2_DATA && at[4] & NGHTTP2_FLAG_END_STREAM)
            return true;
        if (left < 9 + n)
            return false;
        at += 9 + n;
        left -= 9 + n;
    }
    return false;
}

/* What came, if it was not that, is a refusal with words or no whole answer. */
static void judge(const struct peer *c)
{
    if (path->http2 && path->trailers)
        ck_assert(!ends_by_data(c) || has(c, "urn:kipgate:"));
    if (right(c) || c->got.len == 0 || path->http2)
        return;
    ck_assert_msg(has(c, " 503 ") || (path->h2c && has(c, " 502 ")) || (c->eof && !has(c, " 4")),
                  "%.*s", (int)c->got.len, c->got.data);
}

static void begin_warm(struct peer *c)
{
    static const char first2[] = PREFACE GET2("\1");

    *c = dial_in();
    if (!path->warm)
        return;
    if (path->http2)
        ask_and_hear(c, first2, sizeof first2 - 1);
    else
        ask_and_hear(c, path->say, path->say_n);
    ck_assert(right(c));
    forget(c);
}

static void next_one_is_served(void)
{
    struct peer c = dial_in();
    struct path usual = *path;
    const char *preface = path->http2 && path->warm ? PREFACE : "";

    usual.warm = false;
    path = &usual;
    if (preface[0])
        say_bytes(&c, preface, sizeof PREFACE - 1);
    ask_and_hear(&c, path->say, path->say_n);
    ck_assert_msg(right(&c), "the next one: %.*s", (int)c.got.len, c.got.data);
    bye(&c);
    dismiss_workers();
}

static int64_t walk(int64_t at, bool sticky)
{
    const struct path *now = path;
    struct peer c;
    int64_t failed;

    workers = 0; /* also of a walk that failed */
    set_up();
    ck_assert_int_eq(kg_loop_reserve(&world.loop, 1024), 0);
    if (path->h2c)
        speak_h2c();
    begin_warm(&c);
    gate.mode = path->cold ? HOLD : GRANT;
    exhaust_arm(at, sticky);
    ask_and_hear(&c, path->say, path->say_n);
    failed = exhaust_disarm();
    judge(&c);
    if (failed == 0)
        ck_assert_msg(right(&c), "%.*s", (int)c.got.len, c.got.data);
    bye(&c);
    gate.mode = GRANT;
    next_one_is_served();
    path = now;
    tear_down();
    return failed;
}

START_TEST(each_path)
{
    path = &paths[_i];
    exhaust(path->name, walk);
}
END_TEST

/* --- opening and configuring ---------------------------------------------------------------- */

static int64_t walk_configure(int64_t at, bool sticky)
{
    static const struct proxy_service plain = {.id = 1, .name = "plain", .max_body_bytes = -1};
    struct proxy *p;
    int64_t failed;
    int rc;

    set_up();
    p = world.proxy;
    exhaust_arm(at, sticky);
    EXHAUST(rc = proxy_config_begin(p));
    EXHAUST(rc |= proxy_config_service(p, &plain));
    for (char prefix[] = "/a"; prefix[1] <= 'z'; prefix[1]++)
        EXHAUST(rc |= proxy_config_route(p, KG_STR("a"), kg_str_of(prefix), 1));
    EXHAUST(rc |= proxy_config_route(p, KG_STR("a"), KG_STR("/"), 1));
    EXHAUST(rc |= proxy_config_commit(p));
    failed = exhaust_disarm();
    ck_assert_int_eq(rc != 0, failed > 0);
    path = &paths[0];
    next_one_is_served(); /* by the new routes or by those before */
    tear_down();
    return failed;
}

START_TEST(a_configuration)
{
    exhaust("a configuration", walk_configure);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("exhaustion of the proxy");
    Suite *s = suite_create("exhaustion of the proxy");
    SRunner *r = srunner_create(s);
    int failed;

    signal(SIGPIPE, SIG_IGN);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, each_path, 0, sizeof paths / sizeof *paths);
    tcase_add_test(t, a_configuration);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
