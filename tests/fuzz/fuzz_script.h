/* SPDX-License-Identifier: Apache-2.0 */
/* Inputs as scripts: bytes are said to a client's connection or to the worker's, and 0xff begins an
 * order (a second byte), so that text stays text. The difficulty: any bytes must be a script. */
#ifndef TESTS_FUZZ_SCRIPT_H
#define TESTS_FUZZ_SCRIPT_H

#include "fuzz_world.h"

#define ESCAPE 0xff
#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define MAX_ORDERS 400
#define MAX_CUT_BYTES 2048 /* behind these, what is said is said as a whole */

enum order {
    SAY_SAID, /* what was collected goes out now, instead of with the next order */
    TO_WORKER,
    TO_CLIENT,
    PASS_TIME, /* one more byte: which */
    CLIENT_FIN,
    CLIENT_CLOSE,
    WORKER_FIN,
    WORKER_CLOSE,
    GATE_MODE, /* one more byte */
    GATE_GRANT,
    GATE_REFUSE,
    NEW_WORKER, /* one more byte: whether it can be reached */
    NEW_CLIENT,
    NEXT_CLIENT,
    NEXT_WORKER,
    CLIENT_DEAF, /* and not, in turns */
    WORKER_DEAF,
    DRAIN,
    NEW_LOCAL,
    LOCAL_REPLY, /* one more byte: bit 0 last, the others how much */
    CONFIGURE,
    FILLER, /* one more byte: so many KiB of it */
    PROBE,
    AUTO,    /* one more byte: whether the worker answers by itself */
    AT_ONCE, /* what the next two orders do is there before the loop turns */
    ORDERS,
    FRAMES = 0x40, /* of HTTP/2, where the script has them: see fuzz_frames.h */
    FRAMES_END = 0x4f
};

static struct {
    struct fuzz f;
    struct kg_buf said;
    struct peer *client, *worker;
    bool to_worker, automatic;
    unsigned still; /* so many orders until the loop turns */
    uint32_t split; /* seed: how what is said is cut */
    size_t cut_bytes;
    unsigned probes;
    void (*frame)(uint8_t order); /* appends to what is said; NULL: there are none */
} script;

static inline void settle(void)
{
    if (script.still == 0)
        turn();
}

static inline void say_piece(struct peer *p, const char *bytes, size_t n)
{
    for (int tries = 0; n > 0 && tries < 3 && p->fd >= 0;) {
        ssize_t sent = send(p->fd, bytes, n, MSG_NOSIGNAL);
        if (sent > 0) {
            bytes += sent;
            n -= (size_t)sent;
            tries = 0;
        } else if (errno != EAGAIN) {
            return;
        }
        tries += n > 0;
        settle();
    }
}

static inline struct peer *newest(struct peer *among)
{
    for (int i = MAX_PEERS - 1; i >= 0; i--)
        if (among[i].fd >= 0)
            return &among[i];
    return NULL;
}

/* The worker's connection that is spoken to: the chosen one while it is there. */
static inline struct peer *worker_now(void)
{
    if (!script.worker || script.worker->fd < 0)
        script.worker = newest(world.workers);
    return script.worker;
}

static inline void say_said(void)
{
    struct peer *p = script.to_worker ? worker_now() : script.client;
    struct kg_str left = kg_buf_str(&script.said);

    while (p && left.n > 0) {
        size_t n = script.cut_bytes < MAX_CUT_BYTES ? fuzz_piece(&script.split, left.n) : left.n;
        script.cut_bytes += n;
        say_piece(p, left.p, n);
        left = (struct kg_str){left.p + n, left.n - n};
    }
    kg_buf_clear(&script.said);
    settle();
}

/* Each head that came and was not answered is. */
static inline void answer_heads(void)
{
    for (int i = 0; i < MAX_PEERS; i++) {
        struct peer *p = &world.workers[i];
        for (const char *end; p->fd >= 0 && p->got.len > p->answered;) {
            end = memmem(p->got.data + p->answered, p->got.len - p->answered, "\r\n\r\n", 4);
            if (!end)
                break;
            p->answered = (size_t)(end + 4 - p->got.data);
            say_piece(p, OK2, sizeof OK2 - 1);
        }
    }
}

static inline void next_of(struct peer **which, struct peer *among)
{
    int at = *which ? (int)(*which - among) : 0;

    for (int i = 1; i <= MAX_PEERS; i++)
        if (among[(at + i) % MAX_PEERS].fd >= 0) {
            *which = &among[(at + i) % MAX_PEERS];
            return;
        }
}

static inline void fill(size_t n)
{
    for (size_t i = 0; i < n; i++)
        kg_buf_append(&script.said, "0123456789abcde\n", 16);
}

static inline void local_reply(uint8_t how)
{
    static const char body[4096] = "body";

    const struct proxy_local_answer answer = {.status = 200,
                                              .type = "text/plain",
                                              .body = {body, (size_t)(how >> 1) * 32},
                                              .last = how & 1};

    if (local.open && proxy_local_reply(world.proxy, local.id, &answer) != 0)
        local.open = false;
    local.open &= !(how & 1);
}

static inline void probe(void)
{
    static const struct proxy_health healths[] = {
        {.path = ""}, {.path = "/health", .status_min = 200, .status_max = 299}};

    if (world.worker)
        proxy_worker_probe(world.worker, &healths[script.probes++ % 2]);
}

static inline void obey_proxy(enum order order)
{
    if (order == DRAIN)
        proxy_drain(world.proxy, NULL, NULL);
    else if (order == NEW_LOCAL)
        script.client = dial(&world.local_at, world.local_at_n);
    else if (order == LOCAL_REPLY)
        local_reply(fuzz_byte(&script.f));
    else if (order == CONFIGURE)
        configure();
    else if (order == PROBE)
        probe();
}

static inline void obey_peer(enum order order)
{
    struct peer *c = script.client, *w = worker_now();

    if (order == CLIENT_FIN && c && c->fd >= 0)
        shutdown(c->fd, SHUT_WR);
    else if (order == CLIENT_CLOSE && c)
        peer_close(c);
    else if (order == WORKER_FIN && w)
        shutdown(w->fd, SHUT_WR);
    else if (order == WORKER_CLOSE && w)
        peer_close(w);
    else if (order == NEW_CLIENT)
        script.client = dial(&world.client_at, world.client_at_n);
    else if (order == NEXT_CLIENT)
        next_of(&script.client, world.clients);
    else if (order == NEXT_WORKER)
        next_of(&script.worker, world.workers);
    else if (order == CLIENT_DEAF && c)
        c->deaf = !c->deaf;
    else if (order == WORKER_DEAF && w)
        w->deaf = !w->deaf;
}

static inline void obey_gate(enum order order)
{
    if (order == GATE_MODE)
        gate.mode = (enum gate_mode)(fuzz_byte(&script.f) % 2);
    else if (order == GATE_GRANT || order == GATE_REFUSE)
        gate_answer(order == GATE_GRANT);
    else if (order == NEW_WORKER) {
        remove_worker();
        add_worker(fuzz_byte(&script.f) & 1);
    }
}

static inline void obey(enum order order)
{
    static const int64_t times_ms[] = {1, 64, 150, 1000, 3000, 10000, 30000, 60000};

    if (order == FILLER) {
        fill((size_t)fuzz_byte(&script.f) % 128 * 64);
        return;
    }
    say_said();
    if (order == AT_ONCE) {
        script.still = 2;
        return;
    }
    if (order == TO_WORKER || order == TO_CLIENT)
        script.to_worker = order == TO_WORKER;
    else if (order == PASS_TIME)
        fuzz_now_ms += times_ms[fuzz_byte(&script.f) % 8];
    else if (order == AUTO)
        script.automatic = fuzz_byte(&script.f) & 1;
    else if (order >= GATE_MODE && order <= NEW_WORKER)
        obey_gate(order);
    else if (order == PROBE || (order >= DRAIN && order <= CONFIGURE))
        obey_proxy(order);
    else
        obey_peer(order);
    script.still -= script.still > 0;
    settle();
    if (script.automatic)
        answer_heads();
}

/* Plays it to its end; the peers are still there after it. */
static inline void play(struct fuzz f)
{
    unsigned orders = 0;

    script.f = f;
    while (script.f.n > 0 && orders < MAX_ORDERS) {
        uint8_t b = fuzz_byte(&script.f);
        if (b != ESCAPE) {
            kg_buf_append(&script.said, &b, 1);
            continue;
        }
        orders++;
        b = fuzz_byte(&script.f);
        if (b < ORDERS)
            obey((enum order)b);
        else if (b >= FRAMES && b <= FRAMES_END && script.frame)
            script.frame(b);
        else
            kg_buf_append(&script.said, &b, 1);
    }
    script.still = 0;
    say_said();
    for (int i = 0; script.automatic && i < MAX_PEERS; i++)
        answer_heads();
}

/* Flags: bits 0-5 how what is said is cut, bit 6 the gate holds at first. */
static inline void script_begin(uint8_t flags, bool automatic)
{
    script.split = flags & 0x3f;
    script.cut_bytes = 0;
    script.to_worker = false;
    script.still = 0;
    script.automatic = automatic;
    script.worker = NULL;
    kg_buf_init(&script.said, 4 * 1024 * 1024);
    world_open();
    gate.mode = flags & 0x40 ? HOLD : GRANT;
    script.client = dial(&world.client_at, world.client_at_n);
    turn();
}

static inline void script_end(bool peers_first)
{
    world_close(peers_first);
    peers_forget(world.clients);
    peers_forget(world.workers);
    while (take_workers()) /* of connects that nobody took */
        peers_forget(world.workers);
    kg_buf_fini(&script.said);
}

#endif
