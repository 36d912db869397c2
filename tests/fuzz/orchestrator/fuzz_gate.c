/* SPDX-License-Identifier: Apache-2.0 */
/* A front's side of the leases between the real proxy and a control that says anything in any order
 * that the protocol allows. The difficulty: messages cross; yet no slot may be given back that was
 * not given, none may be kept for ever, and each recall is answered once. */
#include "fuzz_world.h"
#include "orchestrator/gate_client.h"
#include "orchestrator/reasons.h"

#define OK2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define PLACES 4
#define MAX_TICKETS 256
#define LINGER_MS 100

static struct gate_client *client;
static bool client_closed, lost_control;
static struct {
    uint64_t instance;
    uint64_t slots;
    unsigned recalls;
    bool recalled; /* and nothing was granted since */
} places[PLACES];  /* one instance each at a time; its service is 1 + the place's last bit */
static uint64_t last_instance;
static uint64_t tickets[MAX_TICKETS];
static size_t ticket_count;
static struct peer *current;

static uint32_t service_of(unsigned place)
{
    return 1 + (place & 1);
}

/* --- what the front says ------------------------------------------------------------------- */

static void heard_return(const struct message_return *m)
{
    for (unsigned i = 0; i < PLACES; i++) {
        if (places[i].instance != m->instance)
            continue;
        KG_ASSERT(m->slots <= places[i].slots && m->used_ms >= 0);
        places[i].slots -= m->slots;
        KG_ASSERT(!m->recalled || places[i].recalls > 0);
        places[i].recalls -= m->recalled;
        return;
    }
    KG_ASSERT(!"a return of an instance that is gone");
}

static void on_send(void *arg, const void *message)
{
    const struct message_head *head = message;

    (void)arg;
    KG_ASSERT(message_check(message, head->size, false));
    if (head->type == MESSAGE_RETURN)
        heard_return(message);
    else if (head->type == MESSAGE_ACQUIRE && ticket_count < MAX_TICKETS)
        tickets[ticket_count++] = ((const struct message_acquire *)message)->ticket;
}

/* --- what control says --------------------------------------------------------------------- */

static void tell(const void *message)
{
    const struct message_head *head = message;

    KG_ASSERT(message_check(message, head->size, true));
    gate_client_message(client, head);
}

static void grant(uint8_t which, uint8_t how)
{
    unsigned place = how & (PLACES - 1);
    struct message_grant m;
    struct sockaddr_storage at = {0};

    MESSAGE_INIT(&m, GRANT);
    m.ticket = ticket_count && which < 0xf0 ? tickets[which % ticket_count] : service_of(place);
    while (service_of(place) != message_ticket_service(m.ticket))
        place = (place + 1) % PLACES;
    m.service = service_of(place);
    m.instance = places[place].instance;
    m.slots = 1 + (how >> 4 & 1);
    m.warmth = how >> 5 & 3;
    m.linger_ms = LINGER_MS;
    memcpy(&at, &world.worker_at, sizeof world.worker_at);
    KG_ASSERT(message_set_address(&m.where, &at, sizeof world.worker_at));
    places[place].slots += m.slots;
    places[place].recalled = false;
    tell(&m);
}

static void refuse(uint8_t which, uint8_t how)
{
    struct message_refuse m;

    MESSAGE_INIT(&m, REFUSE);
    m.ticket = ticket_count ? tickets[which % ticket_count] : which;
    m.reason = how;
    m.retry_after_ms = how * 100;
    memset(m.detail, 'd', how);
    tell(&m);
}

static void tell_instance(enum message_type type, unsigned place)
{
    struct message_instance m;

    message_init(&m, type, sizeof m);
    m.instance = places[place].instance;
    if (type == MESSAGE_GONE) {
        places[place].instance = ++last_instance;
        places[place].slots = places[place].recalls = 0;
        places[place].recalled = false;
    }
    tell(&m);
}

static void recall(unsigned place)
{
    if (places[place].slots == 0)
        return; /* control recalls what is lent */
    places[place].recalls++;
    places[place].recalled = true;
    tell_instance(MESSAGE_RECALL, place);
    KG_ASSERT(places[place].recalls == 0); /* answered at once */
}

static void probe(unsigned place, uint8_t how)
{
    struct message_probe m;
    struct sockaddr_storage at = {0};

    MESSAGE_INIT(&m, PROBE);
    m.instance = places[place].instance;
    m.service = service_of(place);
    m.health = (struct proxy_health){.status_min = 200, .status_max = 299};
    if (how & 1)
        kg_str_copy(m.health.path, sizeof m.health.path, KG_STR("/health"));
    memcpy(&at, &world.worker_at, sizeof world.worker_at);
    KG_ASSERT(message_set_address(&m.where, &at, sizeof world.worker_at));
    tell(&m);
}

static void say_control(uint8_t order, struct fuzz *f)
{
    uint8_t which = fuzz_byte(f);

    switch (order) {
    case 0:
        grant(which, fuzz_byte(f));
        break;
    case 1:
        refuse(which, fuzz_byte(f));
        break;
    case 2:
        recall(which % PLACES);
        break;
    case 3:
        probe(which % PLACES, which >> 2);
        break;
    case 4:
        tell_instance(MESSAGE_PROBE_STOP, which % PLACES);
        break;
    default:
        tell_instance(MESSAGE_GONE, which % PLACES);
    }
}

/* --- what else happens --------------------------------------------------------------------- */

static void ask(uint8_t how)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET /other HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /other/ping HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok"};
    const char *request = requests[how & 3];

    if (!current || current->fd < 0 || how & 4)
        current = dial(&world.client_at, world.client_at_n);
    if (current && send(current->fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        peer_close(current);
}

static void workers_do(uint8_t how)
{
    for (int i = 0; i < MAX_PEERS; i++) {
        struct peer *w = &world.workers[i];
        if (w->fd < 0 || !(how >> (i % 4) & 1))
            continue;
        if (how & 0x10)
            peer_close(w);
        else if (w->got.len > w->answered && send(w->fd, OK2, sizeof OK2 - 1, MSG_NOSIGNAL) > 0)
            w->answered = w->got.len;
    }
}

static void happen(uint8_t order, struct fuzz *f)
{
    static const int64_t times_ms[] = {1, 64, 120, 200, 1000, 3000, 10000, 61000};
    uint8_t how = fuzz_byte(f);

    if (order == 6) {
        lost_control = true;
        gate_client_control_lost(client);
    } else if (order == 7) {
        ask(how);
    } else if (order == 8 && current) {
        peer_close(current);
    } else if (order == 9) {
        workers_do(how);
    } else if (order == 10) {
        pass(times_ms[how % 8]);
    }
}

/* What was recalled does not linger: it is back when the exchanges on it have ended. */
static void check_recalled(void)
{
    for (unsigned i = 0; i < PLACES; i++)
        KG_ASSERT(!places[i].recalled || places[i].slots == 0 || world.stats.exchanges > 0);
}

/* --- one input ----------------------------------------------------------------------------- */

static void on_client_closed(void *arg)
{
    (void)arg;
    client_closed = true;
}

static void begin(void)
{
    client = gate_client_new(&world.loop, on_send, NULL);
    KG_ASSERT(client);
    lost_control = client_closed = false;
    ticket_count = 0;
    current = NULL;
    for (unsigned i = 0; i < PLACES; i++) {
        places[i].instance = ++last_instance;
        places[i].slots = places[i].recalls = 0;
        places[i].recalled = false;
    }
    world_open_with(gate_client_door(client));
    gate_client_set_proxy(client, world.proxy);
    turn();
}

/* Once no client is left every slot has come back. */
static void end(void)
{
    for (int i = 0; i < MAX_PEERS; i++)
        peer_close(&world.clients[i]);
    turn();
    for (int i = 0; i < 4; i++)
        pass(31000);
    for (unsigned i = 0; i < PLACES; i++)
        KG_ASSERT(places[i].slots == 0 && places[i].recalls == 0);
    KG_ASSERT(world.stats.exchanges == 0 && world.stats.connections == 0);
    world_close(false);
    gate_client_close(client, on_client_closed, NULL);
    for (int i = 0; i < 10 && !client_closed; i++)
        turn();
    KG_ASSERT(client_closed);
    peers_forget(world.clients);
    peers_forget(world.workers);
    while (take_workers())
        peers_forget(world.workers);
    KG_ASSERT(ftruncate(world.log_fd, 0) == 0 && lseek(world.log_fd, 0, SEEK_SET) == 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    world_init();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct fuzz f = {data, n};

    begin();
    for (int i = 0; f.n > 0 && i < 200; i++) {
        uint8_t order = fuzz_byte(&f) % 12;
        if (order < 6 && !lost_control)
            say_control(order, &f);
        else
            happen(order, &f);
        turn();
        check_recalled();
    }
    end();
    return 0;
}
