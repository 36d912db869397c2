/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl on libuv. The difficulty: libcurl asks for timers and sockets from within its own calls,
 * and a callback of ours may start or cancel calls, so finished calls are told from the loop's top
 * only. */
#include "orchestrator/transport.h"
#include "base/list.h"
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#define CONNECT_TIMEOUT_MS 5000

struct lane { /* a multi handle with its timer: one for calls, one for streams */
    struct transport *transport;
    CURLM *multi;
    uv_timer_t timer;
};

struct watched { /* a socket of libcurl's */
    uv_poll_t poll;
    struct lane *lane;
    curl_socket_t fd;
};

struct call {
    struct kg_list link;
    struct lane *lane;
    uint64_t number;
    CURL *easy;
    struct curl_slist *headers;
    char *body;
    struct kg_buf answer;
    struct transport_call asked;
    char api_version[16];
    char error[CURL_ERROR_SIZE];
    bool cancelled;
};

struct transport {
    uv_loop_t *loop;
    struct lane calls, streams;
    struct kg_list all; /* calls */
    struct transport_target target;
    char *url, *unix_path, *cert_dir;
    uint64_t numbers;
    int open_handles;
    bool closing;
    void (*on_closed)(void *arg);
    void *closed_arg;
};

/* --- one easy handle
 * ------------------------------------------------------------------------------- */

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
    struct call *c = arg;

    if (c->cancelled)
        return 0;
    if (!c->asked.on_data)
        return kg_buf_append(&c->answer, bytes, size * n) == 0 ? n : 0;
    c->asked.on_data(c->asked.arg, (struct kg_str){bytes, size * n});
    return c->cancelled ? 0 : n;
}

static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    struct call *c = arg;
    struct kg_str line = {bytes, size * n}, name = KG_STR("api-version:");

    if (line.n > name.n && kg_str_eq_nocase((struct kg_str){line.p, name.n}, name)) {
        struct kg_str value = {line.p + name.n, line.n - name.n};
        while (value.n > 0 && (value.p[value.n - 1] == '\r' || value.p[value.n - 1] == '\n'))
            value.n--;
        kg_str_copy(c->api_version, sizeof c->api_version, kg_str_trim(value));
    }
    return n;
}

static void set_tls(CURL *easy, const struct transport_target *t)
{
    char path[512];

    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, (long)t->verify);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, t->verify ? 2L : 0L);
    if (!t->cert_dir)
        return;
    snprintf(path, sizeof path, "%s/ca.pem", t->cert_dir);
    curl_easy_setopt(easy, CURLOPT_CAINFO, path);
    snprintf(path, sizeof path, "%s/cert.pem", t->cert_dir);
    curl_easy_setopt(easy, CURLOPT_SSLCERT, path);
    snprintf(path, sizeof path, "%s/key.pem", t->cert_dir);
    curl_easy_setopt(easy, CURLOPT_SSLKEY, path);
}

static void set_target(CURL *easy, const struct transport_target *t, const char *path)
{
    size_t n = strlen(t->url) + strlen(path) + 1;
    char *url = malloc(n);

    if (!url)
        return; /* without a URL the call fails, which is told */
    snprintf(url, n, "%s%s", t->url, path);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    free(url);
    if (t->unix_path)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, t->unix_path);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    set_tls(easy, t);
}

static void set_request(struct call *c)
{
    const struct transport_call *a = &c->asked;

    c->headers = curl_slist_append(c->headers, "Content-Type: application/json");
    c->headers = curl_slist_append(c->headers, "Expect:");
    if (a->header)
        c->headers = curl_slist_append(c->headers, a->header);
    curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, c->headers);
    curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, a->method);
    if (strcmp(a->method, "GET") != 0) /* a POST without a body says Content-Length: 0 */
        curl_easy_setopt(c->easy, CURLOPT_COPYPOSTFIELDS, c->body ? c->body : "");
    curl_easy_setopt(c->easy, CURLOPT_TIMEOUT_MS, (long)a->timeout_ms);
    curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error);
    curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
    curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
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
    c->body = asked->body ? strdup(asked->body) : NULL;
    kg_buf_init(&c->answer, asked->max_bytes ? asked->max_bytes : 1024 * 1024);
    if (!c->easy || (asked->body && !c->body)) {
        call_free(c);
        return NULL;
    }
    set_target(c->easy, target, asked->path);
    set_request(c);
    return c;
}

static int code_of(CURLcode rc, const struct call *c)
{
    switch (rc) {
    case CURLE_OK:
        return 0;
    case CURLE_OPERATION_TIMEDOUT:
        return KG_ETIMEOUT;
    case CURLE_OUT_OF_MEMORY:
        return KG_ENOMEM;
    case CURLE_WRITE_ERROR:
        return c->answer.error ? c->answer.error : KG_ECLOSED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return KG_EPROTO;
    default:
        return KG_ECLOSED;
    }
}

static void fill_answer(struct call *c, CURLcode rc, struct transport_answer *a)
{
    long status = 0;

    curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
    *a = (struct transport_answer){.code = code_of(rc, c),
                                   .status = (int)status,
                                   .body = kg_buf_str(&c->answer),
                                   .words = c->error[0] ? c->error : curl_easy_strerror(rc),
                                   .api_version = c->api_version,
                                   .refused = rc == CURLE_COULDNT_CONNECT};
}

/* --- libcurl's sockets and timers on the loop
 * --------------------------------------------------------- */

static void take_finished(struct lane *lane)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(lane->multi, &left)) != NULL) {
        CURLcode rc = message->data.result;
        struct call *c = NULL;
        struct transport_answer answer;
        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&c);
        curl_multi_remove_handle(lane->multi, c->easy);
        fill_answer(c, rc, &answer);
        kg_list_remove(&c->link); /* a cancel from within on_done finds it no more */
        if (!c->cancelled)
            c->asked.on_done(c->asked.arg, &answer);
        call_free(c);
    }
}

static void perform(struct lane *lane, curl_socket_t fd, int flags)
{
    int running;

    curl_multi_socket_action(lane->multi, fd, flags, &running);
    take_finished(lane);
}

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

/* --- doors
 * ------------------------------------------------------------------------------------------- */

static bool lane_open(struct lane *lane, struct transport *t, long max_connections)
{
    lane->transport = t;
    lane->multi = curl_multi_init();
    if (!lane->multi)
        return false;
    uv_timer_init(t->loop, &lane->timer);
    lane->timer.data = lane;
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETFUNCTION, set_socket);
    curl_multi_setopt(lane->multi, CURLMOPT_SOCKETDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(lane->multi, CURLMOPT_TIMERDATA, lane);
    curl_multi_setopt(lane->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, max_connections);
    curl_multi_setopt(lane->multi, CURLMOPT_MAXCONNECTS, max_connections ? max_connections : 1L);
    return true;
}

static char *copy(const char *text)
{
    return text ? strdup(text) : NULL;
}

struct transport *transport_open(uv_loop_t *loop, const struct transport_target *target,
                                 size_t max_connections, struct kg_err *err)
{
    struct transport *t = calloc(1, sizeof *t);

    curl_global_init(CURL_GLOBAL_ALL);
    if (t) {
        t->loop = loop;
        kg_list_init(&t->all);
        t->url = copy(target->url);
        t->unix_path = copy(target->unix_path);
        t->cert_dir = copy(target->cert_dir);
        t->target = (struct transport_target){t->url, t->unix_path, t->cert_dir, target->verify};
        if (t->url && lane_open(&t->calls, t, (long)max_connections) &&
            lane_open(&t->streams, t, 0))
            return t;
    }
    kg_fail(err, KG_ENOMEM, "out of memory");
    return NULL; /* at start-up: the process ends */
}

uint64_t transport_start(struct transport *t, const struct transport_call *asked)
{
    struct call *c = call_new(&t->target, asked);

    if (!c)
        return 0;
    c->lane = asked->own_connection ? &t->streams : &t->calls;
    if (asked->own_connection) {
        curl_easy_setopt(c->easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(c->easy, CURLOPT_FORBID_REUSE, 1L);
    }
    kg_list_push_back(&t->all, &c->link);
    c->number = ++t->numbers;
    if (curl_multi_add_handle(c->lane->multi, c->easy) != CURLM_OK) {
        call_free(c);
        return 0;
    }
    return c->number;
}

/* From within one of the call's own callbacks the handle cannot go yet: it is marked, libcurl ends
 * it with a write error, and it is freed untold. */
void transport_cancel(struct transport *t, uint64_t number)
{
    KG_LIST_EACH(it, &t->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        if (c->number != number)
            continue;
        c->cancelled = true;
        if (curl_multi_remove_handle(c->lane->multi, c->easy) == CURLM_OK)
            call_free(c);
        return;
    }
}

static void on_handle_closed(uv_handle_t *h)
{
    struct lane *lane = h->data;
    struct transport *t = lane->transport;

    if (--t->open_handles > 0)
        return;
    free(t->url);
    free(t->unix_path);
    free(t->cert_dir);
    if (t->on_closed)
        t->on_closed(t->closed_arg);
    free(t);
}

static void lane_close(struct lane *lane)
{
    lane->transport->open_handles++;
    curl_multi_cleanup(lane->multi);
    uv_close((uv_handle_t *)&lane->timer, on_handle_closed);
}

void transport_close(struct transport *t, void (*on_closed)(void *arg), void *arg)
{
    KG_ASSERT(!t->closing);
    KG_LIST_EACH_SAFE(it, &t->all)
    {
        struct call *c = KG_LIST_ENTRY(it, struct call, link);
        curl_multi_remove_handle(c->lane->multi, c->easy);
        call_free(c);
    }
    t->closing = true;
    t->on_closed = on_closed;
    t->closed_arg = arg;
    lane_close(&t->calls);
    lane_close(&t->streams);
}

int transport_call_once(const struct transport_target *target, const struct transport_call *asked,
                        struct kg_buf *out, int *status, struct kg_err *err)
{
    struct call *c;
    struct transport_answer answer;

    curl_global_init(CURL_GLOBAL_ALL);
    c = call_new(target, asked);
    if (!c)
        return kg_fail(err, KG_ENOMEM, "out of memory");
    fill_answer(c, curl_easy_perform(c->easy), &answer);
    *status = answer.status;
    if (out)
        kg_buf_append(out, answer.body.p, answer.body.n);
    if (answer.code != 0)
        kg_fail(err, answer.code, "%s: %s", target->unix_path ? target->unix_path : target->url,
                answer.words);
    call_free(c);
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
