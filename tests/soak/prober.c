/* SPDX-License-Identifier: Apache-2.0 */
/* A client that asks several services as fast as they answer and believes nothing: each answer must
 * be of this very request, of its service, whole, and byte for byte what was asked for.
 * The difficulty: each request ends in exactly one class, also one that breaks off half-way; what
 * is not right is told with its times, so that others can say whether it had to be. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000ll
#define NS_PER_S 1000000000ll
#define REPORT_NS NS_PER_S
#define DEADLINE_NS (90 * NS_PER_S) /* of one request: beyond any of the configuration's */
enum {
    MAX_SERVICES = 32,
    MAX_CONNECTIONS = 1024,
    HEAD_BYTES = 16384,
    BODY_BYTES = 300000, /* of the large ones */
    KEPT_BYTES = 4096,   /* of a body that is looked at as a whole */
    POOL_BYTES = 1 << 16,
    ONE_IN_NEW = 200 /* requests, after which a connection is closed and another one made */
};

enum kind { DUMP, BODY, CHUNKED, DRIP, LARGE, SLOW };
enum class { RIGHT, FAILED, CUT, DROPPED, REFUSED, WRONG, CLASSES };
static const char *const class_names[CLASSES] = {"right",   "failed",  "cut",
                                                 "dropped", "refused", "wrong"};

struct service {
    char name[64];
    unsigned connections, burst, pause_lo_ms, pause_hi_ms, think_ms;
    unsigned left, in_flight; /* of this burst */
    int64_t resume_ns;        /* the next one */
    uint64_t sent, classes[CLASSES], codes[600];
};

struct answer {
    int status;
    bool chunked, closes, nonce_right, service_right, problem, head_over;
    char host[80];
    uint64_t length, got; /* of its body; UINT64_MAX: not told */
    enum { SIZE, DATA, DATA_END, TRAILERS } at;
    uint64_t chunk_left;
    char line[1024]; /* of a chunk's size or a trailer */
    size_t line_bytes;
    char kept[KEPT_BYTES];
    const char *fault; /* the first that was seen */
};

struct connection {
    int fd; /* -1: none */
    struct service *service;
    bool connecting, asking, writable_wanted;
    uint64_t nonce;
    enum kind kind;
    uint64_t body_bytes; /* that the answer must have */
    int64_t start_ns, next_ns;
    char *out;
    size_t out_bytes, out_at;
    char head[HEAD_BYTES];
    size_t head_bytes;
    struct answer answer;
};

static struct service services[MAX_SERVICES];
static struct connection connections[MAX_CONNECTIONS];
static unsigned service_count, connection_count;
static char pool[POOL_BYTES + BODY_BYTES]; /* what bodies are cut from */
static uint64_t wanted, sent, nonces, random_state, reconnects;
static uint16_t port;
static int64_t end_ns;
static int epoll;
static volatile sig_atomic_t stopped;

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static uint64_t random_next(void) /* splitmix64 */
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static unsigned below(unsigned n)
{
    return n ? (unsigned)(random_next() % n) : 0;
}

static bool is_over(int64_t now)
{
    return stopped || sent >= wanted || now >= end_ns;
}

/* --- what is asked ---------------------------------------------------------------------------- */

static const char *body_of(uint64_t nonce)
{
    return pool + nonce % POOL_BYTES;
}

static enum kind choose_kind(void)
{
    unsigned n = below(1000);

    return n < 450   ? DUMP
           : n < 700 ? BODY
           : n < 800 ? CHUNKED
           : n < 980 ? DRIP
           : n < 985 ? LARGE
                     : SLOW;
}

static size_t put_head(struct connection *c, const char *method, const char *target,
                       const char *framing)
{
    return (size_t)sprintf(c->out,
                           "%s /%s/%s HTTP/1.1\r\nHost: kipgate.test\r\nX-Nonce: %llu\r\n%s\r\n",
                           method, c->service->name, target, (unsigned long long)c->nonce, framing);
}

static void put_chunked(struct connection *c, const char *body)
{
    uint64_t at = 0;

    c->out_bytes = put_head(c, "POST", "body", "Transfer-Encoding: chunked\r\n");
    while (at < c->body_bytes) {
        uint64_t n = 1 + below(1500);

        if (n > c->body_bytes - at)
            n = c->body_bytes - at;
        c->out_bytes += (size_t)sprintf(c->out + c->out_bytes, "%llx\r\n", (unsigned long long)n);
        memcpy(c->out + c->out_bytes, body + at, n);
        memcpy(c->out + c->out_bytes + n, "\r\n", 2);
        c->out_bytes += n + 2;
        at += n;
    }
    memcpy(c->out + c->out_bytes, "0\r\n\r\n", 5);
    c->out_bytes += 5;
}

static void put_request(struct connection *c)
{
    const char *body = body_of(c->nonce);
    char text[128];

    c->body_bytes = below(50) == 0 ? BODY_BYTES : below(3000);
    if (c->kind == LARGE)
        c->body_bytes = BODY_BYTES;
    if (c->kind == BODY) {
        sprintf(text, "Content-Length: %llu\r\n", (unsigned long long)c->body_bytes);
        c->out_bytes = put_head(c, "POST", "body", text);
        memcpy(c->out + c->out_bytes, body, c->body_bytes);
        c->out_bytes += c->body_bytes;
    } else if (c->kind == CHUNKED) {
        put_chunked(c, body);
    } else if (c->kind == DRIP || c->kind == LARGE) {
        sprintf(text, "drip?bytes=%llu&ms=0&chunk=30000%s", (unsigned long long)c->body_bytes,
                c->kind == LARGE ? "&chunked=1" : "");
        c->out_bytes = put_head(c, "GET", text, "");
    } else {
        sprintf(text, c->kind == SLOW ? "slow?ms=%u" : "n?%u", below(60));
        c->out_bytes = put_head(c, "GET", text, "");
    }
}

/* --- how it ended ----------------------------------------------------------------------------- */

static void hang_up(struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    c->connecting = c->writable_wanted = false;
}

/* What was not right is a line: class, service, nonce, begin and end in us, method, worker, why. */
static void end_request(struct connection *c, enum class class, const char *why)
{
    struct service *s = c->service;
    int64_t now = now_ns();

    s->classes[class]++;
    s->in_flight--;
    c->asking = false;
    c->next_ns = now + s->think_ms * NS_PER_MS;
    if (class != RIGHT)
        printf("%s %s %llu %lld %lld %s %s %d %s\n", class_names[class], s->name,
               (unsigned long long)c->nonce, (long long)c->start_ns / 1000, (long long)now / 1000,
               c->kind == BODY || c->kind == CHUNKED ? "POST" : "GET",
               c->answer.host[0] ? c->answer.host : "-", c->answer.status, why);
    if (class != RIGHT || c->answer.closes || c->out_at < c->out_bytes || below(ONE_IN_NEW) == 0)
        hang_up(c);
}

static bool dump_is_right(const struct connection *c)
{
    char mark[64];
    size_t n = (size_t)sprintf(mark, "\r\nX-Nonce: %llu\r\n", (unsigned long long)c->nonce);

    return memmem(c->answer.kept, c->answer.got, mark, n) != NULL;
}

static const char *fault_of(const struct connection *c)
{
    const struct answer *a = &c->answer;

    if (a->status != 200)
        return "its status";
    if (!a->service_right)
        return "not of this service";
    if (!a->nonce_right)
        return "not of this request";
    if (a->fault)
        return a->fault;
    if (c->kind == DUMP || c->kind == SLOW)
        return a->got < KEPT_BYTES && dump_is_right(c) ? NULL : "not an echo of this request";
    return a->got == c->body_bytes ? NULL : "its length";
}

static void end_with_problem(struct connection *c)
{
    struct answer *a = &c->answer;
    char *name = a->got < KEPT_BYTES ? strstr(a->kept, "\"urn:kipgate:") : NULL;
    char *end = name ? strchr(name + 1, '"') : NULL;

    if (!end) {
        end_request(c, WRONG, "a problem without a reason");
        return;
    }
    *end = '\0';
    name += strlen("\"urn:kipgate:");
    end_request(c, strcmp(name, "upstream-failed") == 0 ? FAILED : REFUSED, name);
}

static void end_answer(struct connection *c)
{
    const char *fault;

    if (c->answer.problem) {
        end_with_problem(c);
        return;
    }
    fault = fault_of(c);
    end_request(c, fault ? WRONG : RIGHT, fault);
}

static void end_by_hang_up(struct connection *c, const char *why)
{
    if (c->head_bytes == 0)
        end_request(c, DROPPED, why);
    else
        end_request(c, CUT, c->answer.head_over ? "within the body" : "within the head");
}

/* --- an answer's bytes ------------------------------------------------------------------------ */

static void take_field(struct connection *c, const char *name, const char *value)
{
    struct answer *a = &c->answer;

    if (strcasecmp(name, "Content-Length") == 0)
        a->length = strtoull(value, NULL, 10);
    else if (strcasecmp(name, "Transfer-Encoding") == 0)
        a->chunked = strcasecmp(value, "chunked") == 0;
    else if (strcasecmp(name, "Connection") == 0)
        a->closes = strcasecmp(value, "close") == 0;
    else if (strcasecmp(name, "X-Echo-Nonce") == 0)
        a->nonce_right = strtoull(value, NULL, 10) == c->nonce;
    else if (strcasecmp(name, "X-Echo-Service") == 0)
        a->service_right = strcmp(value, c->service->name) == 0;
    else if (strcasecmp(name, "X-Echo-Host") == 0)
        snprintf(a->host, sizeof a->host, "%s", value);
    else if (strcasecmp(name, "Content-Type") == 0)
        a->problem = strcasecmp(value, "application/problem+json") == 0;
}

static void read_head(struct connection *c)
{
    struct answer *a = &c->answer;
    char *save, *line = strtok_r(c->head, "\r\n", &save);

    a->length = UINT64_MAX;
    if (sscanf(line, "HTTP/1.1 %3d", &a->status) != 1 || a->status < 200 || a->status > 599)
        a->fault = "its status line";
    else
        c->service->codes[a->status]++;
    while ((line = strtok_r(NULL, "\r\n", &save)) != NULL) {
        char *value = strstr(line, ": ");

        if (!value)
            continue;
        *value = '\0';
        take_field(c, line, value + 2);
    }
    if (!a->chunked && a->length == UINT64_MAX)
        a->fault = "neither chunked nor with a length";
    a->head_over = true;
}

/* Lines of digits, as the worker's /drip makes them. */
static bool drip_is_right(uint64_t at, const char *data, size_t n)
{
    for (size_t i = 0; i < n; i++, at++)
        if (data[i] != (at % 10 == 9 ? '\n' : (char)('0' + at / 10 % 10)))
            return false;
    return true;
}

static void take_body(struct connection *c, const char *data, size_t n)
{
    struct answer *a = &c->answer;
    bool right = true;

    if (a->problem || a->status != 200 || c->kind == DUMP || c->kind == SLOW) {
        if (a->got + n < KEPT_BYTES)
            memcpy(a->kept + a->got, data, n);
    } else if (a->got + n > c->body_bytes) {
        right = false;
    } else if (c->kind == DRIP || c->kind == LARGE) {
        right = drip_is_right(a->got, data, n);
    } else {
        right = memcmp(body_of(c->nonce) + a->got, data, n) == 0;
    }
    if (!right && !a->fault)
        a->fault = "its content";
    a->got += n;
}

/* A line of the chunked coding is whole. True: the answer is over. */
static bool take_line(struct answer *a)
{
    bool empty = a->line_bytes == 1 && a->line[0] == '\r';

    a->line[a->line_bytes < sizeof a->line ? a->line_bytes : sizeof a->line - 1] = '\0';
    a->line_bytes = 0;
    if (a->at == TRAILERS)
        return empty;
    if (a->at == DATA_END) {
        a->at = SIZE;
        if (!empty)
            a->fault = "a chunk's end";
        return false;
    }
    a->chunk_left = strtoull(a->line, NULL, 16);
    a->at = a->chunk_left ? DATA : TRAILERS;
    return false;
}

/* How many bytes were taken; *over: the last of the body was among them. */
static size_t take_chunked(struct connection *c, const char *data, size_t n, bool *over)
{
    struct answer *a = &c->answer;
    size_t at = 0;

    while (at < n && !*over) {
        if (a->at == DATA) {
            size_t part = n - at < a->chunk_left ? n - at : (size_t)a->chunk_left;

            take_body(c, data + at, part);
            at += part;
            a->chunk_left -= part;
            if (a->chunk_left == 0)
                a->at = DATA_END;
        } else if (data[at++] == '\n') {
            *over = take_line(a);
        } else if (a->line_bytes < sizeof a->line - 1) {
            a->line[a->line_bytes++] = data[at - 1];
        }
    }
    return at;
}

static size_t take_plain(struct connection *c, const char *data, size_t n, bool *over)
{
    struct answer *a = &c->answer;
    size_t part = n < a->length - a->got ? n : (size_t)(a->length - a->got);

    take_body(c, data, part);
    *over = a->got == a->length;
    return part;
}

/* Bytes up to the head's end; *used: how many. False: it is not whole yet. */
static bool take_head(struct connection *c, const char *data, size_t n, size_t *used)
{
    size_t room = HEAD_BYTES - 1 - c->head_bytes, part = n < room ? n : room;
    size_t from = c->head_bytes > 3 ? c->head_bytes - 3 : 0;
    char *end;

    memcpy(c->head + c->head_bytes, data, part);
    end = memmem(c->head + from, c->head_bytes + part - from, "\r\n\r\n", 4);
    if (!end) {
        c->head_bytes += part;
        *used = part;
        return false;
    }
    *used = (size_t)(end + 4 - c->head) - c->head_bytes;
    c->head_bytes += *used;
    c->head[c->head_bytes] = '\0';
    read_head(c);
    return true;
}

static void take(struct connection *c, const char *data, size_t n)
{
    size_t used = 0;
    bool over = false;

    if (!c->asking) {
        c->service->classes[WRONG]++;
        printf("wrong %s 0 0 0 - - 0 bytes that nobody asked for\n", c->service->name);
        hang_up(c);
        return;
    }
    if (!c->answer.head_over && !take_head(c, data, n, &used)) {
        if (c->head_bytes == HEAD_BYTES - 1)
            end_request(c, WRONG, "a head without end");
        return;
    }
    if (c->answer.fault && c->answer.length == UINT64_MAX && !c->answer.chunked) {
        end_request(c, WRONG, c->answer.fault);
        return;
    }
    used += c->answer.chunked ? take_chunked(c, data + used, n - used, &over)
                              : take_plain(c, data + used, n - used, &over);
    if (over && used < n)
        c->answer.fault = "bytes behind its end";
    if (over)
        end_answer(c);
}

/* --- connections ------------------------------------------------------------------------------ */

static void want_writable(struct connection *c, bool on)
{
    struct epoll_event e = {.events = on ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};

    if (c->writable_wanted != on && epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e) != 0)
        fail("epoll_ctl");
    c->writable_wanted = on;
}

static void send_more(struct connection *c)
{
    while (c->out_at < c->out_bytes) {
        ssize_t n = send(c->fd, c->out + c->out_at, c->out_bytes - c->out_at, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0) /* what it has still to say is read first */
            c->out_at = c->out_bytes;
        else
            c->out_at += (size_t)n;
    }
    want_writable(c, c->out_at < c->out_bytes);
}

static void dial(struct connection *c)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    int on = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0)
        fail("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) != 0 && errno != EINPROGRESS)
        fail("connect");
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) != 0)
        fail("epoll_ctl");
    c->writable_wanted = c->connecting = true;
    reconnects++;
}

static void ask(struct connection *c, int64_t now)
{
    c->nonce = ++nonces;
    c->kind = choose_kind();
    put_request(c);
    memset(&c->answer, 0, sizeof c->answer);
    c->out_at = c->head_bytes = 0;
    c->start_ns = now;
    c->asking = true;
    c->service->left--;
    c->service->in_flight++;
    c->service->sent++;
    sent++;
    if (c->fd < 0)
        dial(c);
    else
        send_more(c);
}

static void receive(struct connection *c)
{
    static char data[1 << 17];

    for (int turns = 0; turns < 4 && c->fd >= 0; turns++) {
        ssize_t n = recv(c->fd, data, sizeof data, 0);

        if (n < 0 && errno == EAGAIN)
            return;
        if (n > 0) {
            take(c, data, (size_t)n);
            continue;
        }
        if (c->asking)
            end_by_hang_up(c, n == 0 ? "closed" : strerror(errno));
        hang_up(c); /* between two requests it may */
    }
}

static void on_event(struct connection *c, uint32_t what)
{
    if (c->fd < 0)
        return;
    if (what & EPOLLOUT && c->connecting) {
        int error = 0;
        socklen_t n = sizeof error;

        getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
        c->connecting = false;
        if (error) {
            end_request(c, DROPPED, strerror(error));
            return;
        }
    }
    if (what & EPOLLOUT)
        send_more(c);
    if (what & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(c);
}

/* --- the load --------------------------------------------------------------------------------- */

/* A burst that is over is followed by a pause, so that the service falls asleep, or almost. */
static void pace(struct service *s, int64_t now)
{
    if (s->left > 0 || s->in_flight > 0)
        return;
    if (s->resume_ns == 0) {
        s->resume_ns =
            now + (s->pause_lo_ms + below(s->pause_hi_ms - s->pause_lo_ms + 1)) * NS_PER_MS;
    } else if (now >= s->resume_ns) {
        s->left = 1 + below(2 * s->burst);
        s->resume_ns = 0;
    }
}

/* Who is due asks. How long until another one is, in ms. */
static int turn(int64_t now)
{
    bool soon = false;

    for (unsigned i = 0; i < service_count; i++) {
        pace(&services[i], now);
        soon |= services[i].resume_ns != 0;
    }
    for (unsigned i = 0; i < connection_count; i++) {
        struct connection *c = &connections[i];

        if (c->asking && now - c->start_ns > DEADLINE_NS)
            end_request(c, WRONG, "no end in sight");
        if (c->asking || c->service->left == 0 || is_over(now))
            continue;
        if (now >= c->next_ns)
            ask(c, now);
        soon |= !c->asking;
    }
    return soon ? 1 : 100;
}

static unsigned in_flight(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < service_count; i++)
        n += services[i].in_flight;
    return n;
}

static void report(const char *word)
{
    uint64_t sums[CLASSES] = {0};

    printf("%s sent=%llu", word, (unsigned long long)sent);
    for (unsigned i = 0; i < service_count; i++)
        for (int k = 0; k < CLASSES; k++)
            sums[k] += services[i].classes[k];
    for (int k = 0; k < CLASSES; k++)
        printf(" %s=%llu", class_names[k], (unsigned long long)sums[k]);
    printf(" connections=%llu\n", (unsigned long long)reconnects);
    fflush(stdout);
}

static void report_service(const struct service *s)
{
    printf("service %s sent=%llu", s->name, (unsigned long long)s->sent);
    for (int k = 0; k < CLASSES; k++)
        printf(" %s=%llu", class_names[k], (unsigned long long)s->classes[k]);
    for (int code = 200; code < 600; code++)
        if (s->codes[code])
            printf(" %d=%llu", code, (unsigned long long)s->codes[code]);
    printf("\n");
}

static void run(void)
{
    struct epoll_event events[256];
    int64_t now = now_ns(), told = now, over_ns = 0;

    while (!is_over(now) || in_flight() > 0) {
        int n = epoll_wait(epoll, events, 256, turn(now));

        for (int i = 0; i < n; i++)
            on_event(events[i].data.ptr, events[i].events);
        now = now_ns();
        if (now - told >= REPORT_NS) {
            told = now;
            report("progress");
        }
        if (is_over(now) && over_ns == 0)
            over_ns = now;
        if (over_ns && now - over_ns > 2 * DEADLINE_NS)
            fail("requests without an end");
    }
    for (unsigned i = 0; i < connection_count; i++)
        hang_up(&connections[i]);
    for (unsigned i = 0; i < service_count; i++)
        report_service(&services[i]);
    report("done");
}

static void on_term(int number)
{
    (void)number;
    stopped = 1;
}

/* name:connections:burst:pause_lo_ms:pause_hi_ms:think_ms */
static void add_service(const char *text)
{
    struct service *s = &services[service_count++];

    if (service_count == MAX_SERVICES ||
        sscanf(text, "%63[^:]:%u:%u:%u:%u:%u", s->name, &s->connections, &s->burst, &s->pause_lo_ms,
               &s->pause_hi_ms, &s->think_ms) != 6 ||
        s->burst == 0 || s->pause_hi_ms < s->pause_lo_ms ||
        connection_count + s->connections > MAX_CONNECTIONS) {
        fprintf(stderr, "prober: a service is not %s\n", text);
        exit(2);
    }
    for (unsigned i = 0; i < s->connections; i++) {
        struct connection *c = &connections[connection_count++];

        c->fd = -1;
        c->service = s;
        c->out = malloc(2 * BODY_BYTES);
        if (!c->out)
            fail("malloc");
    }
}

int main(int argc, char **argv)
{
    if (argc < 6) {
        fprintf(stderr, "prober PORT SEED REQUESTS SECONDS SERVICE...\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGTERM, on_term);
    port = (uint16_t)atoi(argv[1]);
    random_state = strtoull(argv[2], NULL, 10);
    wanted = strtoull(argv[3], NULL, 10);
    end_ns = now_ns() + (int64_t)(atof(argv[4]) * (double)NS_PER_S);
    for (size_t i = 0; i < sizeof pool; i++)
        pool[i] = (char)random_next();
    for (int i = 5; i < argc; i++)
        add_service(argv[i]);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0)
        fail("epoll_create1");
    run();
    return 0;
}
