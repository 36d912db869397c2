/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl on libuv. The difficulty: libcurl asks for timers and sockets from within its own calls
 * and must not be re-entered from its callbacks, so what a stream brings is kept until libcurl has
 * returned: our callers are only ever called from the loop's top. */
#include "orchestrator/transport.h"
#include "base/list.h"
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define CONNECT_TIMEOUT_MS 5000
#define MAX_HEADER_BYTES (256 * 1024)  /* all header lines of one answer */
#define MAX_STREAM_BYTES (1024 * 1024) /* read in one go; libcurl itself stops far earlier */
#define KEEPALIVE_S 15
#define NAME_KEPT_S 60L /* what the engine's name means, unless nobody was found there */

struct lane { /* a multi handle with its timer */
    struct transport *transport;
    CURLM *multi;
    uv_timer_t timer;
    size_t running, most; /* calls; most 0: any number */
    bool moved;           /* perhaps: nobody was found where the engine's name led to */
};

struct watched { /* a socket of libcurl's */
    uv_poll_t poll;
    struct lane *lane;
    curl_socket_t fd;
};

enum call_stage {
    CALL_WAITING, /* for a free connection */
    CALL_RUNNING, /* its handle is in the multi */
    CALL_REFUSED, /* by libcurl, before anything of it was sent; to be told from the loop */
    CALL_LOST,    /* while it ran; the same */
};

struct call {
    struct kg_list link;
    struct lane *lane;
    enum call_stage stage;
    uint64_t number, due_ms; /* due_ms 0: no deadline */
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    struct kg_buf answer; /* of a stream: what its caller has not been given yet */
    struct transport_call asked;
    size_t header_bytes;
    bool news;        /* of a stream: begun_status or bytes to tell */
    int begun_status; /* 0: told, or not there yet */
    bool head_ended;
    char api_version[16];
    char error[CURL_ERROR_SIZE];
};

struct transport {
    uv_loop_t *loop;
    struct lane calls, slow, streams;
    uv_timer_t deadline; /* of calls that wait: libcurl does not know them yet */
    struct kg_list all;  /* calls, oldest first */
    struct transport_target target;
    char *url, *unix_path, *cert_dir;
    uint64_t numbers;
    unsigned inside; /* levels of perform(): a close waits until they are left */
    bool news;       /* some stream has some */
    bool closing;
    int open_handles;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

/* --- one easy handle ---------------------------------------------------------------------- */

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
    struct call *c = arg;

    if (!c->lane && c->asked.on_data) { /* of transport_call_once */
        c->asked.on_data(c->asked.arg, (struct kg_str){bytes, size * n});
        return n;
    }
    if (c->asked.on_data)
        c->news = c->lane->transport->news = true;
    return kg_buf_append(&c->answer, bytes, size * n) == 0 ? n : 0;
}

static void on_head_end(struct call *c)
{
    long status = 0;

    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    if (c->head_ended || status < 200) /* trailers end likewise, and 1xx heads */
        return;
    c->head_ended = true;
    if (!c->asked.on_begun || !c->lane)
        return;
    c->begun_status = (int)status;
    c->news = c->lane->transport->news = true;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    struct call *c = arg;
    struct kg_str line = {bytes, size * n}, name = KG_STR("api-version:");

    c->header_bytes += line.n;
    if (c->header_bytes > MAX_HEADER_BYTES)
        return 0;
    while (line.n > 0 && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == '\n'))
        line.n--;
    if (line.n > name.n && kg_str_eq_nocase((struct kg_str){line.p, name.n}, name)) {
        struct kg_str value = {line.p + name.n, line.n - name.n};
        kg_str_copy(c->api_version, sizeof c->api_version, kg_str_trim(value));
    }
    if (line.n == 0)
        on_head_end(c);
    return n;
}

/* Close-on-exec: a front that inherited a connection to the engine would own the machine. */
static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)arg;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* With files of its own the engine's authority is theirs alone, not also those that the machine
 * believes; what libcurl read of them before is not what they say now; and there is nobody to ask
 * for a key's password: it would wait for one at the terminal, if there is one. */
static void set_tls(CURL *easy, const struct transport_target *t)
{
    char path[512];

    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, (long)t->verify);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, t->verify ? 2L : 0L);
    if (!t->cert_dir)
        return;
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
    curl_easy_setopt(easy, CURLOPT_KEYPASSWD, "");
    snprintf(path, sizeof path, "%s/ca.pem", t->cert_dir);
    curl_easy_setopt(easy, CURLOPT_CAINFO, path);
    snprintf(path, sizeof path, "%s/cert.pem", t->cert_dir);
    curl_easy_setopt(easy, CURLOPT_SSLCERT, path);
    snprintf(path, sizeof path, "%s/key.pem", t->cert_dir);
    curl_easy_setopt(easy, CURLOPT_SSLKEY, path);
}

/* False: no memory. */
static bool set_target(CURL *easy, const struct transport_target *t, const char *path)
{
    size_t n = strlen(t->url) + strlen(path) + 1;
    char *url = malloc(n);
    CURLcode rc;

    if (!url)
        return false;
    snprintf(url, n, "%s%s", t->url, path);
    rc = curl_easy_setopt(easy, CURLOPT_URL, url);
    free(url);
    if (rc == CURLE_OK && t->unix_path)
        rc = curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, t->unix_path);
    if (rc != CURLE_OK)
        return false;
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, (long)KEEPALIVE_S);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    set_tls(easy, t);
    return true;
}

static bool add_header(struct call *c, const char *line)
{
    struct curl_slist *more = curl_slist_append(c->headers, line);

    if (more)
        c->headers = more;
    return more != NULL;
}

static bool set_request(struct call *c)
{
    const struct transport_call *a = &c->asked;

    const char *type = a->tar.n > 0 ? "Content-Type: application/x-tar"
                       : a->body    ? "Content-Type: application/json"
                                    : "Content-Type:";

    if (!add_header(c, type) || !add_header(c, "Expect:") ||
        (a->header && !add_header(c, a->header)))
        return false;
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
    if (strcmp(a->method, "GET") != 0) /* a POST without a body says Content-Length: 0 */
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, c->body ? c->body : "");
    if (a->tar.n > 0)
        curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE, (long)a->tar.n);
    curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, a->method);
    curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)a->timeout_ms);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
    return true;
}

static void call_free(struct call *c)
{
    kg_list_remove(&c->link);
    if (c->easy)
        curl_easy_cleanup(c->easy);
    curl_slist_free_all(c->headers);
    kg_buf_fini(&c->answer);
    free(c->body);
    free(c);
}

static struct call *call_new(const struct transport_target *target,
                             const struct transport_call *asked)
{
    struct call *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    kg_list_init(&c->link);
    c->asked = *asked;
    c->easy = curl_easy_init();
    if (asked->tar.n > 0 && (c->body = malloc(asked->tar.n)) != NULL)
        memcpy(c->body, asked->tar.p, asked->tar.n);
    else if (asked->body)
        c->body = strdup(asked->body);
    kg_buf_init(&c->answer, asked->on_data ? MAX_STREAM_BYTES : asked->max_bytes);
    if (c->easy && !((asked->body || asked->tar.n > 0) && !c->body) &&
        set_target(c->easy, target, asked->path) && set_request(c))
        return c;
    call_free(c);
    return NULL;
}

/* libcurl takes a head that breaks off for a short one. */
static int code_of(CURLcode rc, const struct call *c)
{
    switch (rc) {
    case CURLE_OK:
        return c->head_ended ? 0 : KG_ECLOSED;
    case CURLE_OPERATION_TIMEDOUT:
        return KG_ETIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        return KG_ENOMEM;
    case CURLE_WRITE_ERROR:
        if (c->header_bytes > MAX_HEADER_BYTES)
            return KG_ELIMIT;
        return c->answer.error ? c->answer.error : KG_ECLOSED;
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9: no head at all */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return KG_EPROTO;
    default:
        return KG_ECLOSED;
    }
}

/* Of a connection that was not made the kernel's word is the cause: libcurl would name a port 80 of
 * a Unix socket, and no missing right. */
static const char *words_of(const struct call *c, CURLcode rc)
{
    long cause = 0;

    if (rc == CURLE_COULDNT_CONNECT &&
        curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &cause) == CURLE_OK && cause > 0)
        return strerror((int)cause);
    return c->error[0]      ? c->error
           : rc == CURLE_OK ? "the answer broke off"
                            : curl_easy_strerror(rc);
}

static void fill_answer(struct call *c, CURLcode rc, struct transport_answer *a)
{
    long status = 0, asked_bytes = 0;

    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(c->easy, CURLINFO_REQUEST_SIZE, &asked_bytes);
    *a = (struct transport_answer){.code = code_of(rc, c),
                                   .status = (int)status,
                                   .body = kg_buf_str(&c->answer),
                                   .words = words_of(c, rc),
                                   .api_version = c->api_version,
                                   .refused = rc != CURLE_OK && asked_bytes == 0};
}

/* --- calls wait, run, end ----------------------------------------------------------------- */

static void arm_deadline(struct transport *t);

/* When it ends if libcurl does nothing; 0: never. */
static uint64_t due_ms(const struct call *c)
{
    return c->stage == CALL_RUNNING ? 0 : c->stage == CALL_WAITING ? c->due_ms : 1;
}

/* Gives the call to libcurl; it then runs from the loop. */
static void run(struct call *c)
{
    uint64_t now = uv_now(c->lane->transport->loop);

    if (c->due_ms > 0)
        curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS,
                         (long)(c->due_ms > now ? c->due_ms - now : 1));
    curl_easy_setopt(c->easy, CURLOPT_DNS_CACHE_TIMEOUT, c->lane->moved ? 0L : NAME_KEPT_S);
    if (curl_multi_add_handle(c->lane->multi, c->easy) != CURLM_OK) {
        c->stage = CALL_REFUSED;
        return;
    }
    c->stage = CALL_RUNNING;
    c->lane->running++;
}

/* Starts what may start, in order. */
static void run_waiting(struct transport *t)
{
    KG_LIST_EACH(it, &t->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        if (c->stage == CALL_WAITING && (c->lane->most == 0 || c->lane->running < c->lane->most))
            run(c);
    }
    arm_deadline(t);
}

/* Takes the call out of libcurl's hands. */
static void stop_running(struct call *c)
{
    if (c->stage != CALL_RUNNING)
        return;
    curl_multi_remove_handle(c->lane->multi, c->easy);
    c->lane->running--;
    c->stage = CALL_WAITING;
}

/* Tells the caller and frees the call. It is in no list any more, so that a cancel from within
 * on_done finds nothing. */
static void finish(struct call *c, const struct transport_answer *a)
{
    kg_list_remove(&c->link);
    c->asked.on_done(c->asked.arg, a);
    call_free(c);
}

/* Each lane has names of its own. */
static void note_place(struct lane *lane, const struct transport_answer *a)
{
    struct transport *t = lane->transport;

    if (a->refused)
        t->calls.moved = t->slow.moved = t->streams.moved = true;
    else
        lane->moved = false;
}

static void take_finished(struct lane *lane)
{
    CURLMsg *message;
    int left;

    while (!lane->transport->closing && (message = curl_multi_info_read(lane->multi, &left))) {
        CURLcode rc = message->data.result;
        struct call *c = NULL;
        struct transport_answer answer;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        fill_answer(c, rc, &answer);
        note_place(lane, &answer);
        stop_running(c);
        finish(c, &answer);
    }
}

static struct call *with_news(struct transport *t)
{
    KG_LIST_EACH(it, &t->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        if (c->news)
            return c;
    }
    t->news = false;
    return NULL;
}

/* Tells streams' callers what came; any call may be gone after each callback. */
static void tell_news(struct transport *t)
{
    struct call *c;

    while (t->news && !t->closing && (c = with_news(t)) != NULL) {
        struct kg_buf bytes = c->answer;
        int status = c->begun_status;
        c->begun_status = 0;
        if (status != 0) {
            c->news = bytes.len > 0;
            c->asked.on_begun(c->asked.arg, status);
            continue;
        }
        c->news = false;
        kg_buf_init(&c->answer, bytes.max);
        c->asked.on_data(c->asked.arg, kg_buf_str(&bytes));
        kg_buf_fini(&bytes);
    }
}

static void close_now(struct transport *t);

/* libcurl had no memory to watch a socket, and does not say of which call. */
static void lose_all(struct lane *lane)
{
    KG_LIST_EACH(it, &lane->transport->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        if (c->lane != lane || c->stage != CALL_RUNNING)
            continue;
        stop_running(c);
        c->stage = CALL_LOST;
    }
}

/* Every way into libcurl that may call us back. */
static void perform(struct lane *lane, curl_socket_t fd, int flags)
{
    struct transport *t = lane->transport;
    CURLMcode rc;
    int running;

    t->inside++;
    rc = curl_multi_socket_action(lane->multi, fd, flags, &running);
    tell_news(t);
    take_finished(lane);
    if (rc != CURLM_OK && rc != CURLM_BAD_SOCKET && !t->closing)
        lose_all(lane);
    t->inside--;
    if (t->closing) {
        close_now(t);
        return;
    }
    run_waiting(t);
}

/* Why a call ends that libcurl does not know. */
static const struct transport_answer *without_answer(const struct call *c)
{
    static const struct transport_answer late = {.code = KG_ETIMEOUT,
                                                 .words = "no free connection in time",
                                                 .api_version = "",
                                                 .body = {"", 0},
                                                 .refused = true},
                                         refused = {.code = KG_ENOMEM,
                                                    .words = "out of memory",
                                                    .api_version = "",
                                                    .body = {"", 0},
                                                    .refused = true},
                                         lost = {.code = KG_ENOMEM,
                                                 .words = "out of memory",
                                                 .api_version = "",
                                                 .body = {"", 0}};

    return c->stage == CALL_WAITING ? &late : c->stage == CALL_REFUSED ? &refused : &lost;
}

/* A call that waited for a free connection until its deadline, or found no memory. */
static void on_deadline(uv_timer_t *timer)
{
    struct transport *t = timer->data;
    struct kg_list *it = t->all.next;

    t->inside++;
    while (!t->closing && it != &t->all) {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        it = it->next;
        if (due_ms(c) == 0 || due_ms(c) > uv_now(t->loop))
            continue;
        finish(c, without_answer(c));
        it = t->all.next; /* on_done may have changed the list */
    }
    t->inside--;
    if (t->closing)
        close_now(t);
    else
        run_waiting(t);
}

static void arm_deadline(struct transport *t)
{
    uint64_t first = UINT64_MAX, now = uv_now(t->loop);

    KG_LIST_EACH(it, &t->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        if (due_ms(c) > 0 && due_ms(c) < first)
            first = due_ms(c);
    }
    if (first == UINT64_MAX)
        uv_timer_stop(&t->deadline);
    else
        uv_timer_start(&t->deadline, on_deadline, first > now ? first - now : 0, 0);
}

/* --- libcurl's sockets and timers on the loop --------------------------------------------- */

static void on_timer(uv_timer_t *t)
{
    perform(t->data, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct lane *lane = arg;

    (void)multi;
    if (lane->transport->closing)
        return 0;
    if (timeout_ms < 0)
        uv_timer_stop(&lane->timer);
    else /* 0 stays 0: the loop's next turn, not a millisecond later */
        uv_timer_start(&lane->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct watched *w = poll->data;
    int flags = 0;

    if (status < 0)
        flags = CURL_CSELECT_ERR;
    if (events & UV_READABLE)
        flags |= CURL_CSELECT_IN;
    if (events & UV_WRITABLE)
        flags |= CURL_CSELECT_OUT;
    perform(w->lane, w->fd, flags);
}

static void on_watched_closed(uv_handle_t *h)
{
    free(h->data);
}

static struct watched *watch(struct lane *lane, curl_socket_t fd)
{
    struct watched *w = calloc(1, sizeof *w);

    if (!w)
        return NULL;
    w->lane = lane;
    w->fd = fd;
    if (uv_poll_init_socket(lane->transport->loop, &w->poll, fd) != 0) {
        free(w);
        return NULL;
    }
    w->poll.data = w;
    curl_multi_assign(lane->multi, fd, w);
    return w;
}

static int set_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
    struct lane *lane = arg;
    struct watched *w = known;
    int events = 0;

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        curl_multi_assign(lane->multi, fd, NULL);
        if (w)
            uv_close((uv_handle_t *)&w->poll, on_watched_closed);
        return 0;
    }
    if (!w && !(w = watch(lane, fd)))
        return -1;
    events |= what & CURL_POLL_IN ? UV_READABLE : 0;
    events |= what & CURL_POLL_OUT ? UV_WRITABLE : 0;
    return uv_poll_start(&w->poll, events, on_poll) == 0 ? 0 : -1;
}

/* --- doors -------------------------------------------------------------------------------- */

static void lane_open(struct lane *lane, struct transport *t, size_t most)
{
    lane->transport = t;
    lane->most = most;
    uv_timer_init(t->loop, &lane->timer);
    lane->timer.data = lane;
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(lane->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)most);
    curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, most ? (long)most : 1L);
}

static void lane_fini(struct lane *lane)
{
    if (lane->multi)
        curl_multi_cleanup(lane->multi);
    lane->multi = NULL;
}

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

static void transport_free(struct transport *t)
{
    lane_fini(&t->calls);
    lane_fini(&t->slow);
    lane_fini(&t->streams);
    free(t->url);
    free(t->unix_path);
    free(t->cert_dir);
    free(t);
    curl_global_cleanup();
}

struct transport *transport_open(uv_loop_t *loop, const struct transport_target *target,
                                 size_t max_connections, struct kg_err *err)
{
    struct transport *t = calloc(1, sizeof *t);

    if (!t || curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK) {
        kg_fail(err, KG_ENOMEM, "out of memory");
        free(t);
        return NULL;
    }
    t->loop = loop;
    kg_list_init(&t->all);
    t->url = copy(target->url);
    t->unix_path = copy(target->unix_path);
    t->cert_dir = copy(target->cert_dir);
    t->target = (struct transport_target){t->url, t->unix_path, t->cert_dir, target->verify};
    t->calls.multi = curl_multi_init();
    t->slow.multi = t->calls.multi ? curl_multi_init() : NULL;
    t->streams.multi = t->slow.multi ? curl_multi_init() : NULL;
    if (!t->url || !t->unix_path != !target->unix_path || !t->cert_dir != !target->cert_dir ||
        !t->streams.multi) {
        kg_fail(err, KG_ENOMEM, "out of memory");
        transport_free(t);
        return NULL;
    }
    lane_open(&t->calls, t, max_connections);
    lane_open(&t->slow, t, TRANSPORT_SLOW * max_connections);
    lane_open(&t->streams, t, 0);
    uv_timer_init(loop, &t->deadline);
    t->deadline.data = t;
    return t;
}

uint64_t transport_start(struct transport *t, const struct transport_call *asked)
{
    struct call *c = t->closing ? NULL : call_new(&t->target, asked);

    if (!c)
        return 0;
    c->lane = asked->own_connection ? &t->streams : asked->slow ? &t->slow : &t->calls;
    if (c->lane != &t->calls) {
        curl_easy_setopt(c->easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(c->easy, CURLOPT_FORBID_REUSE, 1L);
    }
    c->due_ms = asked->timeout_ms > 0 ? uv_now(t->loop) + (uint64_t)asked->timeout_ms : 0;
    kg_list_push_back(&t->all, &c->link);
    c->number = ++t->numbers;
    run_waiting(t);
    return c->number;
}

void transport_cancel(struct transport *t, uint64_t number)
{
    KG_LIST_EACH(it, &t->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        if (c->number != number)
            continue;
        stop_running(c);
        call_free(c);
        run_waiting(t);
        return;
    }
}

static void on_handle_closed(uv_handle_t *h)
{
    struct transport *t = h->data;

    if (--t->open_handles > 0)
        return;
    if (t->on_closed)
        t->on_closed(t->closed_arg);
    transport_free(t);
}

static void close_handle(struct transport *t, uv_timer_t *timer)
{
    t->open_handles++;
    timer->data = t;
    uv_close((uv_handle_t *)timer, on_handle_closed);
}

/* libcurl lets go of its sockets here, so the loop closes their watchers before our timers. */
static void close_now(struct transport *t)
{
    if (t->open_handles > 0)
        return;
    KG_LIST_EACH_SAFE(it, &t->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        stop_running(c);
        call_free(c);
    }
    lane_fini(&t->calls);
    lane_fini(&t->slow);
    lane_fini(&t->streams);
    close_handle(t, &t->calls.timer);
    close_handle(t, &t->slow.timer);
    close_handle(t, &t->streams.timer);
    close_handle(t, &t->deadline);
}

void transport_close(struct transport *t, void (*on_closed)(void *arg), void *arg)
{
    KG_ASSERT(!t->closing);
    t->closing = true;
    t->on_closed = on_closed;
    t->closed_arg = arg;
    if (t->inside == 0)
        close_now(t);
}

int transport_call_once(const struct transport_target *target, const struct transport_call *asked,
                        struct kg_buf *out, int *status, struct kg_err *err)
{
    struct call *c;
    struct transport_answer answer;

    *status = 0;
    if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK)
        return kg_fail(err, KG_ENOMEM, "out of memory");
    c = call_new(target, asked);
    if (!c) {
        curl_global_cleanup();
        return kg_fail(err, KG_ENOMEM, "out of memory");
    }
    fill_answer(c, curl_easy_perform(c->easy), &answer);
    *status = answer.status;
    if (out && kg_buf_append(out, answer.body.p, answer.body.n) != 0 && answer.code == 0)
        answer.code = out->error;
    if (answer.code != 0)
        kg_fail(err, answer.code, "%s: %s", target->unix_path ? target->unix_path : target->url,
                answer.words);
    call_free(c);
    curl_global_cleanup();
    return answer.code;
}

void transport_escape(struct kg_buf *out, const char *text)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";

    for (; *text; text++) {
        if (strchr(plain, *text))
            kg_buf_append(out, text, 1);
        else
            kg_buf_printf(out, "%%%02X", (unsigned char)*text);
    }
}
