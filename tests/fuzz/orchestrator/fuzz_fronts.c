/* SPDX-License-Identifier: Apache-2.0 */
/* Two hostile fronts: whatever they say, control keeps its invariants, answers no ticket twice and
 * says only what is a message. The difficulty: half of an input must be messages that are nearly
 * right, or nothing gets behind the first check. */
#include "fleet_case.h"
#include "orchestrator/fronts_priv.h"
#include "orchestrator/listeners.h"
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRONTS 2
#define MAX_TICKETS 256

static uv_loop_t loop;
static struct fronts *fronts;
static struct fleet *fleet;
static struct config config;
static struct config_service services[2], *service_list[2];
static int ends[FRONTS]; /* the fronts' own ends of their channels */
static struct {
    uint64_t ticket[MAX_TICKETS];
    size_t count;
} asked[FRONTS];
static uint64_t admin_last;

static void on_admin_request(void *arg, const struct admin_request *r)
{
    (void)arg;
    KG_ASSERT(r->body.n <= KG_LOCAL_BODY_BYTES);
    KG_ASSERT(r->method.n < 16 && r->path.n < 256 && r->query.n < 512);
    admin_last = r->id;
}

static void on_admin_gone(void *arg, uint64_t request)
{
    (void)arg;
    (void)request;
}

static void on_lost(void *arg)
{
    KG_ASSERT(arg == NULL); /* nobody reads so slowly here */
}

/* `attached`: it has outlived an earlier control. */
static void front_up(int i, bool attached)
{
    struct front_session *s = &fronts->sessions[i];
    int pair[2];

    if (s->channel)
        return;
    s->attached = s->alive = attached;
    s->pid = INT_MAX; /* nobody's */
    if (ends[i] > 0)
        close(ends[i]);
    KG_ASSERT(kg_channel_pair(pair) == 0);
    ends[i] = pair[1];
    asked[i].count = 0;
    s->run++;
    s->channel = kg_channel_open(&loop, pair[0], fronts_on_message, on_lost, s);
    KG_ASSERT(s->channel);
    fleet_front_up(fleet, i, fuzz_now_ms);
}

/* Each answer is to a ticket that this front asked with, and the only one to it. */
static void take_answer(int front, uint64_t ticket)
{
    for (size_t i = 0; i < asked[front].count; i++)
        if (asked[front].ticket[i] == ticket) {
            asked[front].ticket[i] = 0;
            return;
        }
    KG_ASSERT(asked[front].count == MAX_TICKETS || ticket == 0);
}

static void hear(int front)
{
    _Alignas(8) char bytes[KG_MAX_MESSAGE_BYTES];
    ssize_t n;

    while (ends[front] > 0 && (n = recv(ends[front], bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        const struct message_head *head = message_check(bytes, (size_t)n, true);
        const void *m = head;
        KG_ASSERT(head);
        if (head->type == MESSAGE_GRANT)
            take_answer(front, ((const struct message_grant *)m)->ticket);
        else if (head->type == MESSAGE_REFUSE)
            take_answer(front, ((const struct message_refuse *)m)->ticket);
    }
}

/* --- what a front says --------------------------------------------------------------------- */

/* However the bytes came about. */
static void note_asked(int front, const struct message_head *head)
{
    const struct message_acquire *m = (const void *)head;

    if (head && head->type == MESSAGE_ACQUIRE && m->ticket > fronts->sessions[front].last_ticket &&
        asked[front].count < MAX_TICKETS)
        asked[front].ticket[asked[front].count++] = m->ticket;
}

static void say(int front, const void *bytes, size_t n)
{
    struct front_session *s = &fronts->sessions[front];
    char *copy = fuzz_copy(bytes, n);

    note_asked(front, message_check(bytes, n, false));
    if (s->channel)
        fronts_on_message(s, copy, n);
    uv_timer_stop(&s->timer); /* nothing is started here */
    free(copy);
}

static void say_acquire(int front, struct fuzz *f)
{
    struct message_acquire m;
    uint8_t how = fuzz_byte(f);
    uint64_t number = fronts->sessions[front].last_ticket >> MESSAGE_SERVICE_BITS;

    MESSAGE_INIT(&m, ACQUIRE);
    m.ticket = (number + (how & 7)) << MESSAGE_SERVICE_BITS | (how >> 3 & 3);
    m.quiet = how >> 5 & 1;
    say(front, &m, sizeof m);
}

static void say_return(int front, struct fuzz *f)
{
    static const uint32_t slots[] = {0, 1, 2, 3, 100, UINT32_MAX, 0x80000000, 1};
    static const int64_t times[] = {0, -1, INT64_MAX, INT64_MIN};
    struct message_return m;
    uint8_t how = fuzz_byte(f);

    MESSAGE_INIT(&m, RETURN);
    m.instance = fuzz_byte(f) % 16;
    m.slots = slots[how & 7];
    m.recalled = how >> 3 & 1;
    m.used_ms = how & 0x10 ? fuzz_now_ms : times[how >> 5 & 3];
    say(front, &m, sizeof m);
}

static void say_number(int front, struct fuzz *f, enum message_type type)
{
    struct message_ticket m;
    uint8_t which = fuzz_byte(f);

    message_init(&m, type, sizeof m);
    m.ticket = which % 16;
    if (type == MESSAGE_WITHDRAW && asked[front].count > 0)
        m.ticket = asked[front].ticket[which % asked[front].count];
    say(front, &m, sizeof m);
}

static void say_claim(int front, struct fuzz *f)
{
    static const uint32_t slots[] = {1, 2, 3, 0, UINT32_MAX, 0x80000000, 100, 1};
    static const char *const names[] = {"kipgate-a-0000000001", "kipgate-b-0000000001",
                                        "kipgate-b-0000000002", "other"};
    static const int64_t times[] = {0, -1, INT64_MAX, INT64_MIN};
    struct message_claim m;
    uint8_t how = fuzz_byte(f), which = fuzz_byte(f);

    MESSAGE_INIT(&m, CLAIM);
    m.instance = which >> 2 & 7;
    m.slots = slots[how & 7];
    m.used_ms = how & 0x10 ? fuzz_now_ms - how : times[how >> 5 & 3];
    kg_str_copy(m.name, sizeof m.name, kg_str_of(names[which & 3]));
    say(front, &m, sizeof m);
}

static void say_admin(int front, struct fuzz *f)
{
    union {
        struct message_admin_request request;
        struct message_admin_body body;
        char bytes[sizeof(struct message_admin_body) + 256];
    } m;
    uint8_t how = fuzz_byte(f), n = fuzz_byte(f);

    if (how & 1) {
        MESSAGE_INIT(&m.request, ADMIN_REQUEST);
        m.request.request = how >> 1 & 3;
        m.request.body_bytes = how & 0x10 ? n : how & 0x20 ? KG_LOCAL_BODY_BYTES + n : 0;
        memset(m.request.method, 'A', how & 0x40 ? 16 : 3);
        memset(m.request.path, 'p', n == 250 ? 256 : 3);
        memset(m.request.query, 'q', how & 0x80 ? 512 : 3);
        say(front, &m, sizeof m.request);
    } else {
        message_init(&m, MESSAGE_ADMIN_BODY, sizeof m.body + n);
        memset(m.body.bytes, 'b', n);
        m.body.request = how >> 1 & 3;
        m.body.n = how & 0x40 ? n + 1u : n;
        say(front, &m, sizeof m.body + n);
    }
}

/* As it comes, but for a head that is nearly right. */
static void say_raw(int front, struct fuzz *f)
{
    _Alignas(8) char bytes[256] = {0};
    struct message_head *head = (void *)bytes;
    uint8_t how = fuzz_byte(f);
    size_t n = fuzz_byte(f);

    for (size_t i = sizeof *head; i < n; i++)
        bytes[i] = (char)fuzz_byte(f);
    *head = (struct message_head){MESSAGE_VERSION, how & 0x1f, (uint32_t)n};
    if (how & 0x20)
        head->version++;
    if (how & 0x40)
        head->size++;
    say(front, bytes, n);
}

static void message(struct fuzz *f, uint8_t order)
{
    int front = order >> 7;

    switch (order & 7) {
    case 0:
        say_acquire(front, f);
        break;
    case 1:
        say_return(front, f);
        break;
    case 2:
        say_number(front, f, MESSAGE_WITHDRAW);
        break;
    case 3:
        say_number(front, f, MESSAGE_PROBED);
        break;
    case 4:
        say_number(front, f, MESSAGE_SUSPECT);
        break;
    case 5:
        say_admin(front, f);
        break;
    case 6:
        say_raw(front, f);
        break;
    default:
        if (order & 0x10)
            say_claim(front, f);
        else
            say_number(front, f, MESSAGE_ADMIN_GONE);
    }
}

/* --- all else that happens ----------------------------------------------------------------- */

static void pass(int64_t ms)
{
    fuzz_now_ms += ms;
    for (int i = 0; i < 100 && fleet_due_ms(fleet) <= fuzz_now_ms; i++)
        fleet_tick(fleet, fuzz_now_ms);
}

static void event(struct fuzz *f)
{
    struct engine_event e = {
        .kind = (enum engine_event_kind)(fuzz_byte(f) % (ENGINE_EVENT_DESTROY + 1))};
    struct fleet_view views[4];
    size_t n = fleet_view(fleet, 0, views, 4, fuzz_now_ms);

    fill_container(&e.container, n > 0 ? views[0].name : "x", ENGINE_RUNNING);
    if (n > 0)
        kg_str_copy(e.container.id, sizeof e.container.id, kg_str_of(views[0].container_id));
    fleet_engine_event(fleet, &e, fuzz_now_ms);
}

/* Two of ours, one of a, one of b. */
static void list(uint8_t how)
{
    struct engine_container all[2];

    fill_container(&all[0], "kipgate-a-0000000001", how & 0xc ? ENGINE_RUNNING : ENGINE_EXITED);
    fill_container(&all[1], "kipgate-b-0000000001", how & 0x30 ? ENGINE_RUNNING : ENGINE_PAUSED);
    fleet_engine_list(fleet, all, 2, fuzz_now_ms, fuzz_now_ms);
}

static void happen(struct fuzz *f, uint8_t order)
{
    static const int64_t times_ms[] = {1, 50, 500, 1000, 2000, 5000, 10000, 70000};
    uint8_t how;

    switch (order >> 4 & 7) {
    case 0:
        how = fuzz_byte(f);
        engine_answers(how, fuzz_byte(f));
        break;
    case 1:
        engine_answers(0, ENGINE_RUNNING);
        break;
    case 2:
        pass(times_ms[fuzz_byte(f) % 8]);
        break;
    case 3:
        event(f);
        break;
    case 4:
        front_up(order >> 7, order & 4);
        break;
    case 5:
        how = fuzz_byte(f);
        if (how & 2)
            list(how);
        else
            fleet_engine_state(fleet, how & 1, "it", fuzz_now_ms);
        break;
    case 6:
        fronts_admin_reply(fronts, admin_last,
                           &(struct proxy_local_answer){.status = 200,
                                                        .type = "text/plain",
                                                        .body = KG_STR("xyz"),
                                                        .last = fuzz_byte(f) & 1});
        break;
    default:
        config.service_count = 1 + (fuzz_byte(f) & 1);
        KG_ASSERT(fleet_configure(fleet, &config, fuzz_now_ms) == 0);
    }
}

/* --- one input ----------------------------------------------------------------------------- */

static void no_change(void *self, const struct fleet_change *c)
{
    (void)self;
    (void)c;
}
static void no_cold_start(void *self, uint32_t service, bool success, const char *result,
                          const int64_t phase_ms[FLEET_PHASES])
{
    (void)self, (void)service, (void)success, (void)result, (void)phase_ms;
}
static void no_reaped(void *self, uint32_t service, const char *action)
{
    (void)self, (void)service, (void)action;
}
static void no_resumed(void *self, uint32_t service)
{
    (void)self, (void)service;
}
static void no_clock(void *self)
{
    (void)self;
}

/* `late`: this control has just begun; fronts of the one before come, the engine does not yet. */
static void begin(bool late)
{
    const struct engine_ops ops = fake_engine();
    const struct fleet_params params = {
        .engine = &ops,
        .fronts = fronts_door(fronts),
        .observer = {NULL, no_change, no_cold_start, no_reaped, no_resumed, no_clock, NULL},
        .owner = OWNER,
        .max_starts = 2,
        .seed = 42,
        .wall_ms = clock_of_case};

    config.service_count = 2;
    fleet = fleet_new(&params, fuzz_now_ms);
    KG_ASSERT(fleet && fleet_configure(fleet, &config, fuzz_now_ms) == 0);
    fronts_set_fleet(fronts, fleet);
    fleet_engine_state(fleet, true, "up", fuzz_now_ms);
    if (!late)
        fleet_engine_list(fleet, NULL, 0, fuzz_now_ms, fuzz_now_ms);
    for (int i = 0; i < FRONTS; i++)
        front_up(i, late);
}

static void end(void)
{
    for (int i = 0; i < FRONTS; i++) {
        struct front_session *s = &fronts->sessions[i];
        if (s->channel)
            fronts_distrust(s, "the end");
        uv_timer_stop(&s->timer);
        s->run = 0;
        close(ends[i]);
        ends[i] = 0;
    }
    fleet_check(fleet);
    uv_run(&loop, UV_RUN_NOWAIT);
    fleet_free(fleet);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static struct listeners listeners;
    static struct state state = {.dir = "/nonexistent", .lock_fd = -1};
    static struct fronts_params params = {.loop = &loop,
                                          .state = &state,
                                          .listeners = &listeners,
                                          .config = &config,
                                          .access_log_fd = -1,
                                          .stderr_fd = -1,
                                          .admin_request = on_admin_request,
                                          .admin_gone = on_admin_gone};
    struct kg_err err = {0};

    (void)argc;
    (void)argv;
    kg_log_setup((enum kg_log_level)(KG_LOG_ERROR + 1), KG_LOG_TEXT, "fuzz");
    uv_loop_init(&loop);
    for (int i = 0; i < KG_MAX_FRONTS; i++)
        listeners.attached[i].channel = -1;
    fill_service(&services[0], "a");
    fill_service(&services[1], "b");
    service_list[0] = &services[0];
    service_list[1] = &services[1];
    config = (struct config){
        .services = service_list, .service_count = 2, .paused_memory_bytes = -1, .fronts = FRONTS};
    fronts = fronts_new(&params, &err);
    KG_ASSERT(fronts && err.code == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};

    begin(fuzz_byte(&f) & 1);
    for (int i = 0; f.n > 0 && i < 500; i++) {
        uint8_t order = fuzz_byte(&f);
        if (order & 8)
            happen(&f, order);
        else
            message(&f, order);
        fleet_check(fleet);
        hear(0);
        hear(1);
    }
    end();
    return 0;
}
